"""What README promises: its code runs, its commands are there, and both languages say the same."""

from __future__ import annotations

import re

import pytest

from tests.lessons.builder import build
from tests.paths import ROOT

TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README_ja.md")}


def code_blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def command(name, text):
    return re.search(rf"<!-- command: {name} -->\n```sh\n(.+)\n```", text)[1]


@pytest.mark.parametrize("block", code_blocks(TEXTS["README.md"], "python"))
def test_code_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(block, {})


def test_both_languages_have_the_same_code():
    assert code_blocks(TEXTS["README.md"], "python") == code_blocks(TEXTS["README_ja.md"], "python")


def test_both_languages_have_the_same_equations_links_and_headings():
    english, japanese = (
        build.structure(re.sub(r"\]\(#[^)]*\)", "](#section)", text.replace("_ja.", "."))) for text in TEXTS.values()
    )
    assert english == japanese


def test_both_languages_have_the_same_commands_but_for_the_lesson_that_they_open():
    english, japanese = TEXTS.values()
    assert command("tests", english) == command("tests", japanese)
    assert command("lesson", english).replace("notebooks/en/", "notebooks/ja/") == command("lesson", japanese)


@pytest.mark.parametrize("name", TEXTS)
def test_the_first_lesson_that_the_command_opens_is_there(name):
    assert (ROOT / command("lesson", TEXTS[name]).split()[-1]).is_file()


@pytest.mark.parametrize("name", TEXTS)
def test_every_lesson_is_listed(name):
    lessons = [f"notebooks/{path.parent.name}/{path.name}" for path in (ROOT / "notebooks").glob("??/*.ipynb")]
    assert [lesson for lesson in lessons if f"]({lesson})" not in TEXTS[name]] == []
