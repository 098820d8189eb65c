"""A cell that is run twice or out of order breaks nothing, or says what to run first."""

from __future__ import annotations

import os

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from tests.paths import SOURCES
from tests.tools.any_order import Cell, code_cells, problems
from titans import lesson

LESSONS = sorted(SOURCES.glob("[0-9][0-9]_*.py"))


@pytest.mark.skipif(os.environ.get("CI") != "true", reason="a minute, in CI; or tests.tools.any_order --quick")
@pytest.mark.parametrize("source", LESSONS, ids=lambda path: path.stem)
def test_cells_run_twice_and_in_any_order(source, monkeypatch):
    torch = lesson.torch
    gradients, threads, random = torch.is_grad_enabled(), torch.get_num_threads(), torch.get_rng_state()
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)
    try:
        assert problems(code_cells(source), longest=1.5) == []
    finally:
        torch.set_grad_enabled(gradients)
        torch.set_num_threads(threads)
        torch.set_rng_state(random)
        torch.set_printoptions(profile="default")


def cells(*codes):
    return [Cell(number, code, meant_to_fail=False) for number, code in enumerate(codes, start=1)]


@pytest.mark.parametrize(
    ("codes", "found"),
    [
        (("a = 1", "b = a + 1", "print(b)"), []),
        (("a = [1]", "a.pop()"), ["cell 2 (a.pop()), a second time", "cell 2 (a.pop()), after all later ones"]),
        (("a = 1", "b = a + 1", "a = 'text'"), ["cell 2 (b = a + 1), after all later ones"]),
        (("a = None", "a = 1", "b = a + 1"), ["cell 3 (b = a + 1), alone"]),
        (("a = 1", "b", "b = a"), ["cell 2 (b), in order", "cell 2 (b), a second time"]),
    ],
)
def test_what_breaks_is_found(codes, found):
    complaints = problems(cells(*codes))
    assert len(complaints) == len(found), complaints
    assert all(complaint.startswith(start) for complaint, start in zip(complaints, found, strict=True))


def test_a_cell_that_takes_long_is_run_once():
    assert problems(cells("a = [1]", "import time; a.pop(); time.sleep(0.02)"), longest=0.01) == []


def test_a_cell_that_is_meant_to_fail_may():
    assert problems([*cells("a = 1"), Cell(2, "1 / 0", meant_to_fail=True)]) == []


@pytest.mark.parametrize(("language", "words"), [("en", "`state`, run that first"), ("ja", "先に、上のセルを")])
def test_a_name_that_is_missing_is_explained_where_cells_run(monkeypatch, language, words):
    shell = InteractiveShell()
    monkeypatch.setattr(lesson, "get_ipython", lambda: shell)
    with capture_output() as output:
        lesson.start(language)
        result = shell.run_cell("1 + state")
    assert isinstance(result.error_in_exec, NameError)
    assert "NameError" in output.stdout + output.stderr
    assert words in output.stdout
    with capture_output() as output:
        shell.run_cell("1 / 0")
    assert words not in output.stdout
