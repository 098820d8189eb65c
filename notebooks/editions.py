"""Editions of the lessons for a class, from the same source: a pupil's, a teacher's, and slides.

student   no outputs, no solutions, no answers; hints stay
teacher   solutions in the open, under each exercise what goes wrong there (the slips that its check knows by name), and
          what classroom.toml adds: what to ask, minutes, how to shorten
slides    one idea a slide (View > Slideshow in classic Notebook with RISE, or the HTML file beside it); solutions and
          links are left out, pictures that move are there as their stored states
"""

from __future__ import annotations

import html
import importlib
import re
import tomllib
from pathlib import Path
from typing import Any

import nbformat
import single
from nbformat import NotebookNode

EDITIONS = ("student", "teacher", "slides")
CLASSROOM = "classroom.toml"  # beside the sources' folder: what a teacher is told
SOLVED = "Solution · 解答|Answers|答え|What you should have seen|調べた結果"
SOLUTION = re.compile(rf"<details><summary>({SOLVED})</summary>(.*?)</details>\s*", re.DOTALL)
# For the last row: letters of a size, and colours of code that stand out from grey.
STYLE = """
.reveal .jp-RenderedHTMLCommon { font-size: 26px } .reveal pre { font-size: 18px }
.reveal a { text-decoration: underline !important }
body { --jp-mirror-editor-keyword-color: #060; --jp-mirror-editor-number-color: #060;
--jp-mirror-editor-builtin-color: #060; --jp-mirror-editor-comment-color: #355;
--jp-mirror-editor-operator-color: #708; --jp-mirror-editor-string-color: #911 }"""
DETAILS = re.compile(r"<details><summary>.*?</details>\s*", re.DOTALL)
LETTERS = {"en": 700, "ja": 330}  # of prose on a slide
WORDS = {
    "en": {
        "solution": "Solution", "slips": "What goes wrong here", "teacher": "For the teacher",
        "before": "Ask before the lesson", "minutes": " min. ", "short45": "In 45 minutes", "short90": "In 90 minutes",
        "sections": "sections {}", "exercises": "exercises {}", "and": ", ", "end": ". ",
    },
    "ja": {
        "solution": "解答", "slips": "ここで起こりうる間違い", "teacher": "教える人へ",
        "before": "授業の前にたずねること", "minutes": "分。", "short45": "45分で行うなら", "short90": "90分で行うなら",
        "sections": "{}節", "exercises": "演習{}", "and": "、", "end": "。",
    },
}  # fmt: skip


def edition(name: str, source: Path, language: str, built: NotebookNode) -> NotebookNode:
    """One edition of a built lesson."""
    notebook = nbformat.from_dict(built)
    make = {"student": student, "teacher": teacher, "slides": slides}[name]
    notebook.cells = list(make(notebook.cells, source, language))
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{cell.id[:40]}-{number}"  # a part of a cell is a cell of its own
    return notebook


# --- For pupils -------------------------------------------------------------------------------------------------------


def student(cells: list[NotebookNode], source: Path, language: str):
    """No outputs, no solutions."""
    for cell in cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            cell.metadata.pop("jupyter", None)  # nothing is folded where there is nothing
        else:
            cell.source = SOLUTION.sub("", cell.source).strip()
        if cell.source:
            yield cell


# --- For teachers -----------------------------------------------------------------------------------------------------


def teacher(cells: list[NotebookNode], source: Path, language: str):
    """Solutions in the open, what goes wrong, and what classroom.toml says."""
    words, notes = WORDS[language], classroom(source, language)
    sections = {section["number"]: section for section in notes.get("section", [])}
    names = [name for cell in cells if cell.cell_type == "code" and (name := check_in(cell.source))]
    yield cells[0]
    yield prose(overview(notes, names, words), cells[0])
    for cell in cells[1:]:
        if cell.cell_type == "markdown":
            cell.source = SOLUTION.sub(lambda found: f"**{words['solution']}**\n{found[2]}", cell.source)
            cell.source = re.sub(
                r"^## (\d+)\..*$", lambda found: found[0] + timed(sections.get(int(found[1])), words), cell.source,
                flags=re.MULTILINE,
            )  # fmt: skip
        yield cell
        name = check_in(cell.source) if cell.cell_type == "code" else None
        if name and (text := slips(name, source, language, notes.get("exercise", {}).get(name, {}), words)):
            yield prose(text, cell)


def classroom(source: Path, language: str) -> dict[str, Any]:
    """What classroom.toml has on a lesson."""
    path = source.parent.parent / CLASSROOM
    lessons = tomllib.loads(path.read_text(encoding="utf-8"))["lesson"] if path.is_file() else {}
    return lessons.get(source.name[:2], {}).get(language, {})


def overview(notes: dict[str, Any], names: list[str], words: dict[str, str]) -> str:
    """What a teacher reads before the lesson."""
    parts = [f"> ### {words['teacher']}", f"> **{words['before']}**"]
    parts += [f"> - {question}" for question in notes.get("before", [])]
    for name in ("short45", "short90"):
        if short := notes.get(name):
            chosen = {"sections": short["sections"], "exercises": [names.index(one) + 1 for one in short["exercises"]]}
            listed = [words[kind].format(words["and"].join(map(str, them))) for kind, them in chosen.items() if them]
            parts += [">", f"> **{words[name]}**: {words['and'].join(listed)}{words['end']}{short['note']}"]
    return "\n".join(parts)


def timed(section: dict[str, Any] | None, words: dict[str, str]) -> str:
    """Under a section's heading: its minutes, and what to ask."""
    if section is None:
        return ""
    return f"\n\n> {section['minutes']}{words['minutes']}{section.get('note', '')}"


def check_in(code: str) -> str | None:
    """The name of the check that an exercise's cell calls."""
    from titans.lesson.kit.progress import CHECK  # which brings PyTorch: for this edition alone

    found = CHECK.search(code)
    return found[1] if found else None


def slips(name: str, source: Path, language: str, notes: dict[str, Any], words: dict[str, str]) -> str:
    """Under an exercise: how long it takes, what the teacher should know, and the slips that its check knows."""
    head = f"> {notes['minutes']}{words['minutes']}{notes.get('note', '')}" if notes else ""
    texts = mistakes(name, source, language)
    listed = "\n".join([f"> **{words['slips']}**", ">", *(f"> - {text}" for text in texts)]) if texts else ""
    return "\n>\n".join(filter(None, (head, listed)))


def mistakes(name: str, source: Path, language: str) -> list[str]:
    """What an exercise's check says of each slip that it knows by name."""
    exercises = importlib.import_module(f"titans.lesson.lesson_{source.name[:2]}.exercises")
    known = getattr(getattr(exercises, name), "mistakes", {})
    return [mistake.japanese if language == "ja" else mistake.english for mistake in known.values()]


def prose(text: str, near: NotebookNode) -> NotebookNode:
    return nbformat.v4.new_markdown_cell(text, id=near.id)


# --- For the screen in front ------------------------------------------------------------------------------------------


def slides(cells: list[NotebookNode], source: Path, language: str):
    """A slide for each section and each idea in it; a picture stands alone, and so does code under much prose."""
    letters, before = LETTERS[language], 0
    for cell in cells[1:-1]:
        if cell.cell_type == "markdown":
            for text in ideas(DETAILS.sub("", single.FAILS.sub("", cell.source)).strip(), letters):
                yield slide(prose(text, cell), "slide" if text.startswith("#") else "subslide")
                before = len(text)
        else:
            cell.outputs = [output for output in cell.outputs if output.get("data") != {}]  # what folds a prediction
            alone = before > letters / 2 or len(cell.source.splitlines()) > 6 or pictures(cell)
            yield slide(cell, "subslide" if alone else "-")
            before = letters


def pictures(cell: NotebookNode) -> int:
    """How many pictures a code cell shows."""
    return sum("image/png" in output.get("data", {}) for output in cell.outputs)


def parted(paragraph: str, letters: int) -> list[str]:
    """A table that is too long for a slide as several, each with its head; any other paragraph as it is."""
    head, rows = paragraph.split("\n")[:2], paragraph.split("\n")[2:]
    tables: list[list[str]] = [[]]
    if not paragraph.startswith("|") or len(paragraph) <= letters:
        return [paragraph]
    for row in rows:
        if tables[-1] and sum(map(len, [*head, *tables[-1], row])) > letters:
            tables.append([])
        tables[-1].append(row)
    return ["\n".join([*head, *table]) for table in tables]


def ideas(text: str, letters: int) -> list[str]:
    """Prose in parts of a slide's length: whole paragraphs, a heading, or a line in bold, with what follows it."""
    parts: list[str] = []
    paragraphs = filter(None, re.split(r"\n\s*\n", text))
    for paragraph in (part for whole in paragraphs for part in parted(whole, letters)):
        heading = re.match(r"#|\*\*[^*]*\*\*$", paragraph)
        alone = parts and re.fullmatch(r"#+ .*|\*\*[^*]*\*\*", parts[-1])
        if parts and not heading and (alone or len(parts[-1]) + len(paragraph) <= letters):
            parts[-1] += f"\n\n{paragraph}"
        else:
            parts.append(paragraph)
    return parts


def slide(cell: NotebookNode, kind: str) -> NotebookNode:
    cell.metadata["slideshow"] = {"slide_type": kind}
    cell.metadata.pop("jupyter", None)
    return cell


def as_html(notebook: NotebookNode, title: str, language: str) -> str:
    """Slides as a page for a browser. Pictures keep their alt text, which nbconvert would leave out."""
    from nbconvert import SlidesExporter

    shown = nbformat.from_dict(notebook)
    for output in (output for cell in shown.cells if cell.cell_type == "code" for output in cell.outputs):
        with_alt(output)
    exporter = SlidesExporter(reveal_scroll=True, exclude_input_prompt=True, exclude_output_prompt=True)
    page, _ = exporter.from_notebook_node(shown, {"metadata": {"name": title}})
    page = page.replace("</head>", f"<style>{STYLE}</style></head>", 1)
    return page.replace('<html lang="en">', f'<html lang="{language}">', 1)


def with_alt(output: NotebookNode) -> None:
    """A picture as an element that says what it shows."""
    data = output.get("data", {})
    if "image/png" in data:
        alt = html.escape(output.metadata.get("image/png", {}).get("alt", ""))
        png = "".join(data.pop("image/png").split())
        data["text/html"] = f'<img alt="{alt}" src="data:image/png;base64,{png}">'
