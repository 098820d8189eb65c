"""The front page and the pages behind it: their code runs, their commands are there, both languages say the same."""

from __future__ import annotations

import re

import pytest

from tests.lessons.builder import build
from tests.paths import NOTEBOOKS, PAGES, ROOT, japanese

TEXTS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for page in PAGES
    for path in (page, japanese(page))
}
PAIRS = [
    tuple(path.relative_to(ROOT).as_posix() for path in (page, japanese(page)))
    for page in PAGES
    if page.name != "GUIDE.md"  # whose tables are compared with the lessons
]
READMES = ("README.md", "README_ja.md")
INSTALL = ("notebooks/INSTALL.md", "notebooks/INSTALL_ja.md")


def code_blocks(name, language):
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXTS[name], flags=re.DOTALL | re.MULTILINE)


def command(which, name):
    return re.search(rf"<!-- command: {which} -->\n```sh\n(.+)\n```", TEXTS[name])[1]


@pytest.mark.parametrize("block", [block for english, _ in PAIRS for block in code_blocks(english, "python")])
def test_code_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(block, {})


@pytest.mark.parametrize(("english", "other"), PAIRS)
def test_both_languages_have_the_same_code(english, other):
    assert code_blocks(english, "python") == code_blocks(other, "python")


@pytest.mark.parametrize(("english", "other"), PAIRS)
def test_both_languages_have_the_same_equations_links_and_headings(english, other):
    texts = (re.sub(r"\bja/", "en/", TEXTS[name].replace("_ja.", ".")) for name in (english, other))
    assert len({repr(build.structure(re.sub(r"\]\(([^)#]*)#[^)]*\)", r"](\1)", text))) for text in texts}) == 1


def test_the_library_begins_with_the_example_of_the_front_page():
    assert code_blocks("README.md", "python") == code_blocks("notebooks/LIBRARY.md", "python")[:1]


@pytest.mark.parametrize("which", ["lesson", "tests"])
@pytest.mark.parametrize("place", range(2), ids=READMES)
def test_the_page_of_installing_has_the_commands_of_the_front_page(which, place):
    assert command(which, READMES[place]) == command(which, INSTALL[place])


def test_both_languages_have_the_same_commands_but_for_the_lesson_that_they_open():
    english, other = READMES
    assert command("tests", english) == command("tests", other)
    assert command("lesson", english).replace("notebooks/en/", "notebooks/ja/") == command("lesson", other)


@pytest.mark.parametrize("name", READMES)
def test_the_first_lesson_that_the_command_opens_is_there(name):
    assert (ROOT / command("lesson", name).split()[-1]).is_file()


@pytest.mark.parametrize("name", READMES)
def test_every_lesson_is_listed(name):
    lessons = [f"notebooks/{path.parent.name}/{path.name}" for path in NOTEBOOKS.glob("??/*.ipynb")]
    assert [lesson for lesson in lessons if f"]({lesson})" not in TEXTS[name]] == []


@pytest.mark.parametrize("name", READMES)
def test_a_newcomer_reads_the_front_page_in_minutes(name):
    """Words of English, or signs of Japanese, without code, results, what pictures show, and where links lead."""
    left_out = r"```.*?```|!\[[^]]*\]|<!-- (?:recipe|benchmark)\b.*?<!-- /\w+ -->|\]\([^)]*\)|\|"
    text = re.sub(left_out, " ", TEXTS[name], flags=re.DOTALL)
    assert len(text.split()) <= 800 if name == "README.md" else len("".join(text.split())) <= 3000
