"""Texts for lesson 10's lab: each with the stretches of it that are to be compared."""

import sysconfig
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

LONGEST = 1000  # bytes of a text of one's own
FILE, BEGINS, SHOWN = "xml/sax/saxutils.py", "class XMLGenerator", 600  # of a file that is held out

# Beginning, passage (and the other one) and what lies between are 64, 128 and 192 bytes long: so the second reading has
# the same places in the segments of attention as the first, and attention sees the same bytes at both.
BEGINNING = '''"""Crates of fruit, as they come in."""

from math import ceil

'''
PASSAGE = """def sort_crates(crates, most):
    for crate in sorted(crates, key=size):
        if crate.ripe > most:
            yield crate
"""
OTHER = """def open_gate(tide, boats=None):
    while tide.level < 1.5:
        tide.wait()
    return [boat.name for boat in boats or ()]
"""
BETWEEN = '''
class Boats:
    """Ships and their tide."""

    def __init__(self, depth=0):
        self.depth = depth
        self.boats = []

    def leave(self, boat):
        self.boats.remove(boat)

'''
AFTER = """
def empty(boats):
    return not boats.boats and boats.depth < 1
"""
NAME = "quilted_ferns"
NAMED = f'''def {NAME}(garden, season="spring"):
    """The ferns of a garden that were covered."""
    return [fern for fern in garden if fern.season == season]


def read_lines(path, encoding="utf-8"):
    """All lines of a file, without their ends."""
    with open(path, encoding=encoding) as file:
        return [line.rstrip() for line in file]


def main(argv=None):
    parser = argparse.ArgumentParser(description="Count things.")
    parser.add_argument("path", help="the file that is to be read")
    args = parser.parse_args(argv)
    lines = read_lines(args.path)
    found = {NAME}(lines)
    print(len(found), {NAME}(lines, "autumn"))
'''

TEXTS = {
    "repeated": ("a passage twice", "2回現れる一節"),
    "other": ("another first", "別の一節の後"),
    "name": ("a name again", "再び現れる名前"),
    "file": ("a file", "ファイル"),
    "own": ("your text", "自分のテキスト"),
}  # what can be read, in both languages
SPANS = {
    "first": ("1st reading", "1回目"),
    "between": ("in between", "間の部分"),
    "second": ("2nd reading", "2回目"),
    "another": ("another one", "別の一節"),
    "passage": ("the passage", "元の一節"),
    "name 1": ("1st time", "名前1回目"),
    "name 2": ("2nd time", "名前2回目"),
    "name 3": ("3rd time", "名前3回目"),
}


class Passage(NamedTuple):
    """A text, and its marked stretches by their name in `SPANS`: first byte, and the one after the last."""

    text: str
    spans: Mapping[str, tuple[int, int]]


def passage(kind: str, own: str = "") -> Passage:
    """A text of `TEXTS`; own: the reader's, cut behind `LONGEST` bytes, between two characters."""
    if kind == "own":
        return Passage(cut(own), {})
    made: dict[str, Callable[[], Passage]] = {
        "repeated": repeated,
        "other": other_first,
        "name": name_again,
        "file": of_a_file,
    }
    return made[kind]()


def cut(text: str) -> str:
    """As many characters of a text as `LONGEST` bytes of UTF-8 hold; what UTF-8 cannot say is a question mark."""
    return text.encode(errors="replace")[:LONGEST].decode(errors="ignore")


def repeated() -> Passage:
    """A passage read twice, the same places of the segments apart."""
    first, between, second, end = (
        len(BEGINNING + part) for part in ("", PASSAGE, PASSAGE + BETWEEN, PASSAGE * 2 + BETWEEN)
    )
    spans = {"first": (first, between), "between": (between, second), "second": (second, end)}
    return Passage(BEGINNING + PASSAGE + BETWEEN + PASSAGE + AFTER, spans)


def other_first() -> Passage:
    """The same with another passage in place of the first reading: what the second owes to having read anything."""
    text, spans = repeated()
    (first, between), second = spans["first"], spans["second"]
    return Passage(text[:first] + OTHER + text[between:], {"another": (first, between), "passage": second})


def name_again() -> Passage:
    """An unusual name that is defined, and used long after."""
    spans, end = {}, 0
    for time in (1, 2, 3):
        start = NAMED.index(NAME, end)
        end = start + len(NAME)
        spans[f"name {time}"] = (start, end)
    return Passage(NAMED, spans)


@cache
def of_a_file() -> Passage:
    """A class of the standard library that no model here was trained on, its names used again and again."""
    data = (Path(sysconfig.get_path("stdlib")) / FILE).read_bytes()
    return Passage(data[data.index(BEGINS.encode()) :][:SHOWN].decode(), {})
