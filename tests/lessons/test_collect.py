"""A class's notebooks in one table, and what a reader's own file of progress keeps."""

from __future__ import annotations

import csv
import json
import re
from importlib import import_module

import nbformat
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from tests.paths import SOURCES
from titans.lesson import collect
from titans.lesson.kit import progress
from titans.lesson.kit.host import speak

TOP = "import torch\nfrom titans.lesson.lesson_03 import exercises\n%matplotlib inline\ntorch.zeros(nowhere)"
HELP = "def half():\n    return 0.5\nraise RuntimeError('not run')"
CHECK = "\nexercises.HALF_LIFE.check(alpha)"
PUPILS = {  # the cell of exercise 1, and what becomes of it
    "right": ("def alpha(n):\n    return 1 - half() ** (1 / n)" + CHECK, "passed"),
    "slip": ("def alpha(n):\n    return 0.5 / n" + CHECK, "linear"),
    "stub": ("def alpha(n):\n    return ..." + CHECK, "todo"),
    "endless": ("def alpha(n):\n    while True: pass" + CHECK, "too long"),
    "hungry": ("def alpha(n):\n    return torch.zeros(10**8, 8)[0, 0] + half()" + CHECK, "error"),
    "quits": ("import os\ndef alpha(n):\n    os._exit(3)" + CHECK, "error"),
    "asks": ("def alpha(n):\n    return float(input())" + CHECK, "error"),
    "prints": ("def alpha(n):\n    print('[1, 2, 3]', n)\n    return 1 - half() ** (1 / n)" + CHECK, "passed"),
    "cheats": (
        "class exercises:\n    class HALF_LIFE:\n        check = print\ndef alpha(n):\n    return n" + CHECK,
        "different",
    ),
    "broken": ("def alpha(n) return" + CHECK, "error"),
    "gone": ("x = 1", "missing"),
    "unfinished": ("def alpha(n):\n    return n" + CHECK + "\nx = 1", "missing"),
}


def notebook(path, *codes):
    cells = [nbformat.v4.new_code_cell(code) for code in codes]
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# 03"), *cells]), path)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class")
    for name, (code, _) in PUPILS.items():
        (folder / name).mkdir()
        notebook(folder / name / "03.ipynb", TOP, HELP, code)
    (folder / "right" / ".ipynb_checkpoints").mkdir()
    notebook(folder / "right" / ".ipynb_checkpoints" / "03-checkpoint.ipynb", TOP)
    notebook(folder / "other.ipynb", "print(1)")
    (folder / "torn.ipynb").write_text("{", encoding="utf-8")
    out = folder / "out.csv"
    assert collect.main([str(folder), "--out", str(out), "--seconds", "4", "--language", "ja"]) == 1  # one is torn
    with out.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    speak("en")
    return {row["file"].split("/")[-2]: row for row in rows if row["exercise"] == "HALF_LIFE"}, rows, folder


@pytest.mark.parametrize("name", PUPILS)
def test_each_exercise_is_checked_again_in_a_process_of_its_own(table, name):
    found, _, _ = table
    assert found[name]["outcome"] == PUPILS[name][1]


def test_the_table_has_every_exercise_and_says_in_the_language_asked_for(table):
    found, rows, folder = table
    assert len(rows) == len(PUPILS) * 3
    assert re.search("[ぁ-ん]", found["slip"]["says"])
    assert {row["outcome"] for row in rows if row["exercise"] == "UPDATE"} == {"missing"}
    assert (folder / "out.png").read_bytes().startswith(b"\x89PNG")


def test_a_folder_that_is_not_there_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit):
        collect.main([str(tmp_path / "nowhere")])
    assert "no such folder or file" in capsys.readouterr().err


# ---- One reader's progress ----------------------------------------------------------------------------


@pytest.fixture
def shell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    monkeypatch.setattr(progress, "get_ipython", lambda: shell)
    progress.begin()
    shell.run_cell("from titans.lesson.lesson_03 import exercises\nfrom titans.lesson import predict, progress")
    yield shell
    InteractiveShell.clear_instance()


def run(shell, code):
    with capture_output() as shown:
        shell.run_cell(code)
    return shown.stdout


def test_verdicts_are_kept_beside_the_notebook_and_what_was_right_once_stays_done(shell, tmp_path):
    for code, _ in (PUPILS["stub"], PUPILS["slip"]):
        run(shell, code)
    kept = json.loads((tmp_path / progress.FILE).read_text(encoding="utf-8"))
    assert kept["exercises"] == {"03": {"HALF_LIFE": {"tries": 1, "outcome": "linear"}}}
    assert "1 ✗  2 …  3 …" in repr(progress.progress())
    run(shell, HELP)
    for name in ("right", "slip"):
        run(shell, PUPILS[name][0])
    assert progress.read()["exercises"]["03"]["HALF_LIFE"] == {"tries": 3, "outcome": "passed"}
    assert "lesson 03:  1 ✓  2 …  3 …" in repr(progress.progress())
    assert "Go on with exercise 1 of lesson 00." in repr(progress.progress())
    speak("ja")
    assert "続きは、レッスン00の演習1です。" in repr(progress.progress())


def test_a_prediction_is_kept_and_shown_again_under_the_next_result(shell):
    assert run(shell, 'predict("...")') == ""
    assert run(shell, "1 + 1") == "Out[1]: 2\n" or "predicted" not in run(shell, "1 + 1")
    assert "Noted" in run(shell, 'predict("0.5 is fastest")')
    assert run(shell, "print(2)") == "2\n✎ You predicted: 0.5 is fastest\n"
    assert run(shell, "print(3)") == "3\n"
    assert progress.read()["predictions"] == {"03": ["0.5 is fastest"]}


@pytest.mark.parametrize("text", ["", "[]", '{"exercises": 3}'])
def test_a_file_that_is_none_is_put_aside_and_nothing_is_lost(tmp_path, text):
    (tmp_path / progress.FILE).write_text(text, encoding="utf-8")
    assert progress.read(tmp_path) == {"exercises": {}, "predictions": {}}
    assert (tmp_path / "titans_progress.broken.json").read_text(encoding="utf-8") == text


def test_where_nothing_can_be_written_a_lesson_goes_on(tmp_path, monkeypatch, shell):
    monkeypatch.setattr(progress, "FILE", "no/such/folder.json")
    run(shell, PUPILS["slip"][0])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("source", sorted(SOURCES.glob("*.py")), ids=lambda path: path.stem[:2])
def test_exercises_are_counted_in_the_order_of_their_lesson(source):
    called = re.findall(progress.CHECK, source.read_text(encoding="utf-8"))
    module = import_module(f"titans.lesson.lesson_{source.stem[:2]}.exercises")
    assert list(progress.checks(module)) == list(dict.fromkeys(called))
