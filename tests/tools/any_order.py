"""Lessons run as no one should: every cell twice, from the last cell to the first, and each cell alone.

    python -m tests.tools.any_order [NN ...] [--quick]

A cell that is run again must not fail, whatever was run since. A cell that is run before those that it needs may only
fail with a NameError, to which the lesson adds what to run first. --quick does not repeat cells that take long: they
are run once. Exits with 1 where a lesson breaks.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NamedTuple

import jupytext

from tests.paths import SOURCES

LONG = 1.5  # seconds


class Cell(NamedTuple):
    number: int
    code: str
    meant_to_fail: bool

    def __str__(self) -> str:
        return f"cell {self.number} ({self.code.splitlines()[0][:50]})"


def code_cells(source: Path) -> list[Cell]:
    cells = [cell for cell in jupytext.read(source, fmt="py:percent").cells if cell.cell_type == "code"]
    return [
        Cell(number, cell.source, "raises-exception" in cell.metadata.get("tags", []))
        for number, cell in enumerate(cells, start=1)
    ]


def failure(cell: Cell, names: dict[str, Any]) -> Exception | None:
    """What a cell fails with that it is not meant to fail with, its output thrown away."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            exec(compile(cell.code, str(cell), "exec"), names)
        except Exception as error:
            return None if cell.meant_to_fail and not isinstance(error, NameError) else error
    return None


def problems(cells: list[Cell], longest: float = float("inf")) -> list[str]:
    """Everything that goes wrong; cells that take more than `longest` seconds are not repeated."""
    found: list[str] = []

    def run(cell: Cell, when: str, names: dict[str, Any], allowed: type[Exception] | tuple = ()) -> None:
        error = failure(cell, names)
        if error is not None and not isinstance(error, allowed):
            line = traceback.extract_tb(error.__traceback__)[-1]
            found.append(f"{cell}, {when}: {type(error).__name__}: {str(error)[:200]} ({line.name}, {line.lineno})")

    names: dict[str, Any] = {}
    quick = []
    for cell in cells:
        start = time.perf_counter()
        run(cell, "in order", names)
        if time.perf_counter() - start <= longest:
            quick.append(cell)
            run(cell, "a second time", names)
    for cell in reversed(quick):
        run(cell, "after all later ones", names)
    for cell in cells[1:]:
        alone: dict[str, Any] = {}
        run(cells[0], "alone", alone)
        if cell in quick:
            run(cell, "alone", alone, allowed=NameError)
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m tests.tools.any_order", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lessons", nargs="*", metavar="NN", help="beginnings of names; default: every lesson")
    parser.add_argument("--quick", action="store_true", help="run cells that take long once")
    options = parser.parse_args(arguments)
    total = 0
    for source in sorted(SOURCES.glob("[0-9][0-9]_*.py")):
        if options.lessons and not source.name.startswith(tuple(options.lessons)):
            continue
        start = time.perf_counter()
        cells = code_cells(source)
        found = problems(cells, LONG if options.quick else float("inf"))
        total += len(found)
        for problem in found:
            print(f"{source.stem}, {problem}")
        print(
            f"{source.stem}: {len(cells)} cells, {len(found)} problems, {time.perf_counter() - start:.0f} s", flush=True
        )
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
