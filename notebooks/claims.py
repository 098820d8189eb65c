"""What lessons claim, and what decides it: claims.tsv, checked by build.py --check.

Every sentence of a lesson that says why something happens has a row: the lesson, a phrase of the sentence, and the cell
or test that would have come out otherwise if it were wrong.

    lesson  claim                     decided by
    03      the keys are orthonormal  cell: keys, _ = torch.linalg.qr(
    03      only the sum counts       tests/lessons/test_lesson_03.py::test_only_the_sum_counts
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nbformat import NotebookNode

FILE = "claims.tsv"
# What says why. "so" alone also says how much, and "since" also when: those are left to whoever reads.
WHY = re.compile(
    r"\b(because|that is why|this is why|which is why|the reason|the cause|is caused by|therefore|consequently|hence|"
    r"due to|owing to|thanks to|as a result)\b",
    re.IGNORECASE,
)
# Where a sentence claims nothing: hints, solutions, links to literature.
ELSEWHERE = re.compile(r"<details><summary>(Hint|Solution).*?</details>|^## References$.*", re.DOTALL | re.MULTILINE)


class Claim(NamedTuple):
    """A row of claims.tsv."""

    lesson: str
    claim: str
    decided_by: str


def read(folder: Path) -> list[Claim]:
    """All rows."""
    path = folder / FILE
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [Claim(*[*row, "", ""][:3]) for row in list(rows)[1:] if row]


def problems(lesson: str, cells: list[NotebookNode], rows: list[Claim], root: Path) -> Iterator[str]:
    """What is wrong with a lesson's rows, and the sentences that say why and have none."""
    prose = flat(" ".join(cell.source for cell in cells if cell.metadata.get("lang") == "en"))
    code = [cell.source for cell in cells if cell.cell_type == "code"]
    mine = [row for row in rows if row.lesson == lesson]
    for row in mine:
        if not row.claim or flat(row.claim) not in prose:
            yield f"{FILE}: lesson {lesson} does not say {row.claim!r}"
        if problem := undecided(row.decided_by, code, root):
            yield f"{FILE}: {row.claim!r} is {problem}"
    for sentence in sentences(cells):
        if WHY.search(sentence) and not any(flat(row.claim) in sentence for row in mine):
            yield f"{FILE} has no row for {sentence!r}"


def undecided(decided_by: str, code: list[str], root: Path) -> str | None:
    """What is wrong with the place that a row names."""
    if decided_by.startswith("cell: "):
        piece = decided_by.removeprefix("cell: ")
        found = sum(piece in source for source in code)
        return None if found == 1 else f"decided by a cell with {piece!r}, of which there are {found}"
    path, _, name = decided_by.partition("::")
    file = root / path
    if not path.startswith("tests/") or not file.is_file():
        return f"decided by {decided_by!r}, which is neither 'cell: ...' nor a test's file"
    if not re.search(rf"^ *def {re.escape(name)}\(", file.read_text(encoding="utf-8"), re.MULTILINE):
        return f"decided by {name!r}, which {path} does not have"
    return None


def sentences(cells: list[NotebookNode]) -> Iterator[str]:
    """The English sentences of a lesson that may claim something, each on one line."""
    for cell in cells:
        if cell.metadata.get("lang") != "en":
            continue
        text = re.sub(r"^#.*$", "\n", ELSEWHERE.sub("", cell.source), flags=re.MULTILINE)  # without headings
        for block in re.split(r"\n\s*\n|\n(?=#|[-|] |\d+\. )", text):
            for sentence in re.split(r"(?<=[.!?:;])\s+(?=[\"“(*]*[A-Z0-9])", flat(block)):
                if not sentence.endswith("?"):
                    yield sentence


def flat(text: str) -> str:
    return " ".join(text.split())
