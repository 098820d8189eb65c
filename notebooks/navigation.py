"""Links from lesson to lesson, to the map, and to the other language: the first and the last cell of every notebook."""

from __future__ import annotations

import os
import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode

WORDS = {
    "en": ("map (lesson 00, section 7)", "日本語", "README.md"),
    "ja": ("教材の地図（レッスン00の7節）", "English", "README_ja.md"),
}
OTHER = {"en": "ja", "ja": "en"}
# Where the repository lives, such as "https://github.com/NAME/titans-step-by-step". While it is empty, nothing is
# written that would lead there: no badge, no link from single files.
REPOSITORY = ""


def address(link: str, language: str) -> str:
    """Where a relative link of a lesson leads on the web; empty while the repository has no address."""
    if not REPOSITORY:
        return ""
    path = os.path.normpath(f"notebooks/{language}/{link}").replace(os.sep, "/")
    return f"{REPOSITORY}/blob/main/{path}"


def release(version: str) -> str:
    """Where a release's wheel lies; empty while the repository has no address."""
    wheel = f"titans_step_by_step-{version}-py3-none-any.whl"
    return f"{REPOSITORY}/releases/download/v{version}/{wheel}" if REPOSITORY else ""


def badge(source: Path, language: str) -> str:
    """A link that opens a lesson in Colab; empty while the repository has no address, or is not on GitHub."""
    place = REPOSITORY.removeprefix("https://github.com/")
    if place == REPOSITORY:
        return ""
    lesson = f"https://colab.research.google.com/github/{place}/blob/main/notebooks/{language}/{source.stem}.ipynb"
    return f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({lesson})"


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
    parts.append(badge(source, language))
    return " | ".join(filter(None, parts))


def link(source: Path, language: str) -> str:
    """A lesson's title, which leads to it."""
    cell = re.search(
        rf'^# %% \[markdown\] lang="{language}".*\n# # (.*)$', source.read_text(encoding="utf-8"), re.MULTILINE
    )
    return f"[{cell[1] if cell else source.stem}]({source.stem}.ipynb)"
