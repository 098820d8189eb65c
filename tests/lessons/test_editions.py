"""Editions for a class: what each leaves out, and what it adds."""

from __future__ import annotations

import re

import nbformat
import pytest

from tests.lessons.builder import build
from tests.paths import NOTEBOOKS, SOURCES

editions = build.editions
LESSONS = [
    pytest.param(source, language, id=f"{language}-{source.stem[:2]}")
    for source in sorted(SOURCES.glob("*.py"))
    for language in build.LANGUAGES
]


def made(name, source, language):
    built = nbformat.read(NOTEBOOKS / language / f"{source.stem}.ipynb", as_version=4)
    notebook = editions.edition(name, source, language, built)
    nbformat.validate(notebook)
    return built.cells, notebook.cells


def prose(cells):
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


@pytest.mark.parametrize(("source", "language"), LESSONS)
def test_pupils_get_neither_outputs_nor_solutions_and_hints_stay(source, language):
    before, cells = made("student", source, language)
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert [cell.source for cell in code] == [cell.source for cell in before if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None and "jupyter" not in cell.metadata for cell in code)
    assert set(re.findall(r"<summary>(.*?)</summary>", prose(cells))) <= {
        *("Hint", "Hint 1", "Hint 2", "Hint 3", "ヒント", "ヒント1", "ヒント2", "ヒント3")
    }
    assert prose(cells).count("<summary>") == len(re.findall(r"<summary>(?:Hint|ヒント)", prose(before))) > 0


@pytest.mark.parametrize(("source", "language"), LESSONS)
def test_teachers_get_solutions_in_the_open_slips_minutes_and_what_to_ask(source, language):
    before, cells = made("teacher", source, language)
    text, words = prose(cells), editions.WORDS[language]
    notes = editions.classroom(source, language)
    assert not editions.SOLUTION.search(text)
    assert text.count(f"**{words['solution']}**") == len(editions.SOLUTION.findall(prose(before))) > 0
    for section in notes["section"]:
        assert f"{section['minutes']}{words['minutes']}{section.get('note', '')}".strip() in text
    for question in notes["before"]:
        assert question in text
    with_slips = [name for name in notes["exercise"] if editions.mistakes(name, source, language)]
    assert text.count(f"**{words['slips']}**") == len(with_slips) >= 1
    for name in notes["exercise"]:
        for slip in editions.mistakes(name, source, language):
            assert slip in text
    assert sum(bool(cell.get("outputs")) for cell in cells) == sum(bool(cell.get("outputs")) for cell in before)


@pytest.mark.parametrize(("source", "language"), LESSONS)
def test_slides_hold_one_idea_each_and_every_picture(source, language):
    before, cells = made("slides", source, language)
    assert not re.search("<details>|<summary>", prose(cells))
    kinds = [cell.metadata.slideshow.slide_type for cell in cells]
    assert kinds[0] == "slide"
    assert set(kinds) <= {"slide", "subslide", "-"}
    longest = max(len(cell.source) for cell in cells if cell.cell_type == "markdown")
    assert longest <= 3 * editions.LETTERS[language]  # a paragraph, table or list that cannot be parted
    shown = [sum(editions.pictures(cell) for cell in them if cell.cell_type == "code") for them in (cells, before)]
    assert shown[0] == shown[1] > 0


def test_a_page_of_slides_says_what_its_pictures_show():
    source = next(SOURCES.glob("03_*.py"))
    _, cells = made("slides", source, "ja")
    notebook = nbformat.v4.new_notebook(cells=cells, metadata=build.METADATA)
    page = editions.as_html(notebook, source.stem, "ja")
    assert '<html lang="ja">' in page
    images = re.findall(r"<img[^>]*>", page)
    assert len(images) > 5
    assert all(re.search(r'alt="[^"]*[ぁ-ん]', image) for image in images)


TEXT = "# Title\n\nFirst.\n\n## Head\n\n" + "word " * 60 + "\n\nAnother.\n\n" + "end " * 100 + "."


def test_ideas_are_whole_paragraphs_and_a_heading_is_never_alone():
    parts = editions.ideas(TEXT, 320)
    assert "\n\n".join(parts) == TEXT.strip()
    assert [part.split()[0] for part in parts] == ["#", "##", "end"]
    assert parts[1].endswith("Another.")


@pytest.mark.parametrize("name", editions.EDITIONS)
def test_the_builder_writes_editions_beside_the_lessons(tmp_path, name, capsys):
    folder = tmp_path / "notebooks"
    (folder / "src").mkdir(parents=True)
    source = next(SOURCES.glob("03_*.py"))
    (folder / "src" / source.name).write_bytes(source.read_bytes())
    assert build.main(["--edition", name], folder) == 1
    assert f"en/{source.stem}.ipynb is missing: build it first" in capsys.readouterr().err
    for language in build.LANGUAGES:
        (folder / language).mkdir()
        (folder / language / f"{source.stem}.ipynb").write_bytes(
            (NOTEBOOKS / language / f"{source.stem}.ipynb").read_bytes()
        )
    assert build.main(["--edition", name], folder) == 0
    written = sorted(path.relative_to(folder / "editions" / name).as_posix() for path in folder.glob("editions/*/*/*"))
    endings = ("html", "ipynb") if name == "slides" else ("ipynb",)
    assert written == [f"{language}/{source.stem}.{ending}" for language in build.LANGUAGES for ending in endings]
