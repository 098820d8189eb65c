"""What a reader does to a lesson: everything run twice, a training interrupted."""

from __future__ import annotations

import copy

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient

from tests.lessons.builder import build
from tests.paths import NOTEBOOKS, SOURCES

OPTIONS = {"timeout": 2 * build.CELL_SECONDS, "extra_arguments": ["--log-level=ERROR"]}


@pytest.mark.parametrize("lesson", ["04", "07"])  # which train; cells of all are run twice in test_any_order.py
def test_a_lesson_that_is_run_twice_runs_twice(lesson, tmp_path):
    source = next(SOURCES.glob(f"{lesson}_*.py"))
    notebook = build.unexecuted(source, build.read_source(source), "ja")
    again = copy.deepcopy(notebook.cells)
    for cell in again:
        cell.id += "-again"
    notebook.cells += again
    NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}, **OPTIONS).execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    assert list(tmp_path.iterdir()) == []  # stubs leave nothing behind


def test_an_interrupted_training_leaves_a_lesson_that_goes_on(tmp_path):
    code = [cell.source for cell in build.read_source(next(SOURCES.glob("04_*.py"))) if cell.cell_type == "code"]
    place = next(number for number, source in enumerate(code) if "train(RUN)" in source)
    manager, client = start_new_kernel(cwd=str(tmp_path))
    try:
        for source in code[:place]:
            assert run(client, source)["status"] == "ok"
        asked = client.execute(code[place])
        while (told := client.get_iopub_msg(timeout=60))["msg_type"] not in ("stream", "display_data"):
            pass  # until its bar shows that it trains
        assert told["parent_header"]["msg_id"] == asked
        manager.interrupt_kernel()
        while (reply := client.get_shell_msg(timeout=60))["parent_header"]["msg_id"] != asked:
            pass
        assert reply["content"]["ename"] == "KeyboardInterrupt"
        assert run(client, code[place])["status"] == "ok"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def run(client, code):
    return client.execute_interactive(code, timeout=60, output_hook=lambda message: None)["content"]


def test_stored_outputs_are_those_of_one_run():
    for path in NOTEBOOKS.glob("??/*.ipynb"):
        cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
        assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
