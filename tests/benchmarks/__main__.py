"""Measure, print row by row, and write results.json: `python -m tests.benchmarks --help`."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import sys
from pathlib import Path
from typing import Any

from tests.paths import ROOT

from . import machine, table
from .rows import ROWS, Row, run
from .timing import OUT_OF_MEMORY

RESULTS = Path(__file__).with_name("results.json")
WIDTHS = (66, 34, 13, 10, 10, 7, 7, 3)


def main() -> None:
    options = _options()
    if options.readme:
        write_pages(json.loads(RESULTS.read_text(encoding="utf-8")))
        return
    version = _their_version()
    rows = [row for row in ROWS if _wanted(row, options)]
    if version is None:
        print("titans-pytorch is not installed (pip install -e '.[benchmark]'): its rows are left out", file=sys.stderr)
        rows = [row for row in rows if not row.theirs]
    facts: dict[str, Any] = machine.facts(options.device) | {"gflops": round(machine.multiply_speed())}
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    _print_cells(table.HEADS["en"])
    records = []
    for row in rows:
        records.append(measure(row, options.repeats, options.device))
        _print_cells(table.line(records[-1]))
    results = {
        "machine": facts,
        "titans_pytorch": version,
        "repeats": options.repeats,
        "rows": records,
    }
    if options.update:
        results = merged(json.loads(RESULTS.read_text(encoding="utf-8")), results)
    ours = options.device == "cpu" and (options.update or not (options.rows or options.quick))
    path = options.json or (RESULTS if ours else None)
    if path is not None:
        path.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def measure(row: Row, repeats: int, device: str = "cpu") -> table.Record:
    """One row as results.json has it. Says loudly, and records, that the machine was busy."""
    results = []
    both = row.theirs and device == "cpu"  # a GPU's memory stays with torch anyway
    for keep_freed in (False, True) if both else (False,):
        waited = machine.wait_until_quiet(patience=60)
        result = run(row, repeats, keep_freed, device)
        if result == OUT_OF_MEMORY:
            result = {"ours": None, "other": None, "ratio": None, "busy": False}
        assert isinstance(result, dict)
        results.append(result | {"busy": result["busy"] or not waited})
    busy = any(result["busy"] for result in results)
    if busy:
        print("BUSY MACHINE: other programs disturbed the next row; do not trust it", file=sys.stderr)
    result, ratio = results[0], results[0]["ratio"]
    result |= {"busy": busy, "ratio_freed_memory_kept": results[1]["ratio"] if both else None}
    return {
        "name": row.name,
        "sizes": row.sizes,
        **{key: float(f"{value:.4g}") if isinstance(value, float) else value for key, value in result.items()},
        "target": row.target,
        "at_least": row.at_least,
        "met": None if ratio is None else row.met(ratio),
    }


def merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The old results with the new ones in their place, in the order of ROWS. Only for one and the same machine."""
    same = ("cpu", "cores", "memory_gb", "os", "python", "torch", "threads")
    if any(old["machine"][fact] != new["machine"][fact] for fact in same):
        raise ValueError("results.json was measured on another machine: measure all rows, without --update")
    rows = {_key(record): record for record in (*old["rows"], *new["rows"])}
    order = (_key({"name": row.name, "sizes": row.sizes}) for row in ROWS)
    return new | {"rows": [rows[key] for key in order if key in rows]}


def _key(record: dict[str, Any]) -> str:
    return f"{record['name']} {record['sizes']}"


def write_pages(results: dict[str, Any]) -> None:
    for name, (start, language) in table.PAGES.items():
        path, section = ROOT / name, table.section(results, start, language)
        path.write_text(table.replace_section(path.read_text(encoding="utf-8"), start, section), encoding="utf-8")


def _wanted(row: Row, options: argparse.Namespace) -> bool:
    if options.rows:
        return any(row.name.startswith(name) for name in options.rows)
    return row.quick or not options.quick


def _their_version() -> str | None:
    try:
        return importlib.metadata.version("titans-pytorch")
    except importlib.metadata.PackageNotFoundError:
        return None


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    names = ", ".join(dict.fromkeys(row.name for row in ROWS))
    parser.add_argument("--rows", nargs="+", metavar="NAME", help=f"only rows whose name begins so: {names}")
    parser.add_argument("--quick", action="store_true", help="only the rows that take seconds")
    parser.add_argument("--update", action="store_true", help="put the rows that were measured into results.json")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each side (default: 5)")
    parser.add_argument(
        "--device", default="cpu", help="cpu (default), or cuda: printed, and written with --json alone"
    )
    parser.add_argument("--json", type=Path, help="where to write the results (default: results.json, if all rows run)")
    parser.add_argument(
        "--readme", action="store_true", help="measure nothing, put results.json into README.md and SPEED.md"
    )
    return parser.parse_args()


def _print_cells(cells: list[str]) -> None:
    print(" ".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True)), flush=True)


if __name__ == "__main__":
    main()
