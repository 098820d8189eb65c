"""Links from lesson to lesson, to the map, and to the other language: the first and the last cell of every notebook."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

WORDS = {
    "en": ("map (lesson 00, section 7)", "日本語", "README.md"),
    "ja": ("教材の地図（レッスン00の7節）", "English", "README_ja.md"),
}
OTHER = {"en": "ja", "ja": "en"}


def cells(source: Path, language: str) -> tuple[NotebookNode, NotebookNode]:
    """The first and the last cell of a lesson in one language."""
    line = links(source, language)
    first, last = (nbformat.v4.new_markdown_cell(line, id=f"navigation-{place}") for place in ("top", "end"))
    return first, last


def links(source: Path, language: str) -> str:
    """The lesson before, the map, the other language, the lesson after; only what is there."""
    lessons = sorted(source.parent.glob("[0-9][0-9]_*.py"))
    place = lessons.index(source)
    map_, other, readme = WORDS[language]
    start = f"[{map_}]({lessons[0].stem}.ipynb)" if place else f"[README](../../{readme})"
    parts = [start, f"[{other}](../{OTHER[language]}/{source.stem}.ipynb)"]
    if place:
        parts.insert(0, "← " + link(lessons[place - 1], language))
    if place + 1 < len(lessons):
        parts.append(link(lessons[place + 1], language) + " →")
    return " | ".join(parts)


def link(source: Path, language: str) -> str:
    """A lesson's title, which leads to it."""
    cell = re.search(
        rf'^# %% \[markdown\] lang="{language}".*\n# # (.*)$', source.read_text(encoding="utf-8"), re.MULTILINE
    )
    return f"[{cell[1] if cell else source.stem}]({source.stem}.ipynb)"
