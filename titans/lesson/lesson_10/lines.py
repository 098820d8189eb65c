"""Text as coloured letters in wrapped lines: a cell for every byte, and what is marked in them."""

from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path as Folder
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import Colormap, LinearSegmentedColormap
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.patches import PathPatch, Rectangle
from matplotlib.path import Path
from matplotlib.textpath import TextPath

from titans.lesson.kit.figures import BLACK, BLUE, GREY, RED
from titans.lesson.kit.host import JAPANESE

ROWS, COLUMNS = 30, 80
SIZE, WIDE, HIGH = 8, 4.816, 10.3  # of a letter and its cell, in points
SIGNS = {"\n": "↵", "\t": "→", "\r": "←", " ": "␣"}
UNKNOWN = "0.85"  # the colour of a byte of which nothing is measured
PAID = LinearSegmentedColormap.from_list("paid", ["#FFFFFF", "#FFE08A", "#F08A24"])
SAVED = LinearSegmentedColormap.from_list("saved", ["#5AAAE6", "#FFFFFF", "#F08A24"])
MONOSPACE, SANS = "DejaVu Sans Mono", "DejaVu Sans"  # they come with matplotlib


class Cells(NamedTuple):
    """Where every byte of a text lies, and what is written there."""

    rows: np.ndarray  # [bytes]
    columns: np.ndarray  # [bytes]
    signs: list[str]  # what a byte's character is shown as, once for each of its bytes
    nth: list[tuple[int, int]]  # which byte of its character, from 1, and of how many


def sign(character: str) -> str:
    """A character as it is shown: white space has a sign, and a box stands for what no font has."""
    return SIGNS.get(character, character if in_a_font(character) else "□")


def byte_sign(byte: int) -> str:
    """A byte as it is shown by itself: of ASCII its character, else two hexadecimal digits."""
    return sign(chr(byte)) if byte < 128 and (chr(byte).isprintable() or chr(byte) in SIGNS) else f"{byte:02X}"


def in_a_font(character: str) -> bool:
    """Whether a character can be drawn."""
    return character.isprintable() and any(ord(character) in letters(family) for family in families())


@cache
def families() -> tuple[str, ...]:
    """The fonts of a text, whatever the notebook's language: one of fixed width, and where it lacks a letter two
    others, that for Japanese if it is installed."""
    package = find_spec("matplotlib_fontja")
    if package is None or package.origin is None:
        return MONOSPACE, SANS
    for file in Folder(package.origin).parent.rglob("*.ttf"):
        fontManager.addfont(file)
    return MONOSPACE, SANS, JAPANESE


@cache
def letters(family: str) -> frozenset[int]:
    """The code points that a font has."""
    return frozenset(get_font(findfont(FontProperties(family=family))).get_charmap())


@lru_cache(maxsize=64)
def cells(text: str) -> Cells:
    """Every line of a text on a line of its own; if these are more than `ROWS`, one line after the other."""
    found = _wrapped(text, True)
    return found if not text or found.rows[-1] < ROWS else _wrapped(text, False)


def _wrapped(text: str, breaks: bool) -> Cells:
    """Cells from left to right; a character's bytes are not parted."""
    rows: list[int] = []
    columns: list[int] = []
    signs: list[str] = []
    nth: list[tuple[int, int]] = []
    row = column = 0
    for character in text:
        size = len(character.encode())
        if column + size > COLUMNS:
            row, column = row + 1, 0
        rows += [row] * size
        columns += range(column, column + size)
        signs += [sign(character)] * size
        nth += [(n + 1, size) for n in range(size)]
        row, column = (row + 1, 0) if breaks and character == "\n" else (row, column + size)
    return Cells(np.array(rows, dtype=int), np.array(columns, dtype=int), signs, nth)


@cache
def _outline(character: str) -> tuple[Path, float]:
    """A character's outline and how wide it is, in points."""
    path = TextPath((0, 0), character, prop=FontProperties(family=list(families()), size=SIZE))
    return path, path.get_extents().x1 if len(path.vertices) else 0.0


@lru_cache(maxsize=16)
def outlines(text: str) -> Path:
    """All of a text's letters in their cells, those of several bytes in the middle of theirs; spaces are left white."""
    found = cells(text)
    vertices: list[Any] = [np.empty((0, 2))]
    codes: list[Any] = [np.empty(0, dtype=np.uint8)]
    for row, column, shown, (n, size) in zip(found.rows, found.columns, found.signs, found.nth, strict=True):
        if n == 1 and shown != SIGNS[" "]:
            path, width = _outline(shown)
            x = column * WIDE + max(0.0, (size * WIDE - width) / 2 if size > 1 else 0.0)
            vertices.append(path.vertices + np.array((x, (ROWS - row) * HIGH - 7.2)))
            codes.append(path.codes)
    return Path(np.concatenate(vertices), np.concatenate(codes))


def borders(places: Iterable[int], found: Cells, down: float = 0.0) -> list[list[tuple[float, float]]]:
    """A stroke at the left edge of each of some cells; down: how far it goes beyond them, in points."""
    return [
        [
            (found.columns[n] * WIDE, (ROWS - found.rows[n]) * HIGH + down),
            (found.columns[n] * WIDE, (ROWS - found.rows[n] - 1) * HIGH - down),
        ]
        for n in places
        if n < len(found.rows)
    ]


def underlined(start: int, end: int, found: Cells) -> Iterator[list[tuple[float, float]]]:
    """Strokes under the cells from one byte up to another, one a row."""
    edges = [start, *(n for n in range(start + 1, end) if found.rows[n] != found.rows[n - 1]), end]
    for first, last in pairwise(edges):
        y = (ROWS - found.rows[first] - 1) * HIGH + 0.4
        yield [(found.columns[first] * WIDE, y), ((found.columns[last - 1] + 1) * WIDE, y)]


class Lines:
    """Axes with a text in coloured cells; `moving` are the artists that change."""

    def __init__(self, axes: Axes) -> None:
        axes.axis("off")
        right, top = COLUMNS * WIDE, ROWS * HIGH
        edges = np.linspace(0, right, COLUMNS + 1), np.linspace(top, 0, ROWS + 1)
        self.picture = axes.pcolormesh(*edges, np.ones((ROWS, COLUMNS, 3)), antialiased=False)
        axes.set(xlim=(-1, right + 1), ylim=(-1, top + 1))
        self.segments, self.spans, self.frozen = (
            LineCollection([], colors=colour, linewidths=width)
            for colour, width in ((GREY, 0.8), (BLUE, 1), (RED, 2.6))
        )
        self.letters = PathPatch(Path(np.empty((0, 2))), facecolor=BLACK, linewidth=0)
        self.cursor = Rectangle((0, 0), WIDE, HIGH, fill=False, edgecolor=BLACK, linewidth=1.6)
        for strokes in (self.segments, self.spans, self.frozen):
            axes.add_collection(strokes, autolim=False)
        for patch in (self.letters, self.cursor):
            axes.add_patch(patch)
        self.moving = [self.picture, self.segments, self.spans, self.letters, self.frozen, self.cursor]

    def draw(
        self,
        text: str,
        values: np.ndarray,
        colours: Colormap,
        limits: tuple[float, float],
        spans: Iterable[tuple[int, int]],
        segment: int,
        frozen: int | None,
        place: int,
    ) -> None:
        """A text with a value for each byte, not a number where there is none."""
        found = cells(text)
        picture = np.ones((ROWS, COLUMNS, 3))
        picture[found.rows, found.columns] = coloured(values, colours, limits)
        self.picture.set_array(picture)
        self.letters.set_path(outlines(text))
        self.segments.set_segments(borders(range(segment, len(values), segment), found))
        self.spans.set_segments([stroke for span in spans for stroke in underlined(*span, found)])
        self.frozen.set_segments([] if frozen is None else borders([frozen], found, 1.5))
        self.cursor.set_visible(len(values) > 0)
        if len(values):
            self.cursor.set_xy((found.columns[place] * WIDE, (ROWS - found.rows[place] - 1) * HIGH))


def coloured(values: np.ndarray, colours: Colormap, limits: tuple[float, float]) -> np.ndarray:
    """The colour of each value, [values, 3]; beyond the limits that of the limit."""
    low, high = limits
    shares = np.clip((np.nan_to_num(values) - low) / (high - low), 0, 1)
    return np.where(np.isnan(values)[:, None], float(UNKNOWN), colours(shares)[:, :3])
