"""A class's notebooks in one table: every exercise checked again, and a picture of which mistakes were made.

    python -m titans.lesson.collect FOLDER... [--out class.csv] [--seconds 20] [--gigabytes 2] [--language ja]

reads every notebook of a lesson in the folders, runs each exercise's function, with what it needs of the cells above,
in a process of its own, with a limit of time and, where the system has one, of memory, and writes a row for each
exercise: file, lesson, exercise, outcome ("passed", "todo", a mistake's name, "error", "too long", "missing") and what
the check says. The process has all rights of whoever runs it: run only what you would run by hand.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import csv
import io
import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from titans.lesson.kit.host import say, speak
from titans.lesson.kit.progress import CHECK, checks

LESSON = re.compile(r"titans\.lesson\.lesson_(\d\d)\b")
TOO_LONG = 124  # what the process ends with then
IN_LINE = re.compile(r"^\s*[%!].*$", re.MULTILINE)  # IPython's own commands


class Row(NamedTuple):
    """One exercise of one notebook."""

    file: str
    lesson: str
    exercise: str
    outcome: str
    says: str


# ---- Reading a notebook ------------------------------------------------------------------------------


def notebooks(places: Sequence[Path]) -> list[Path]:
    """Every notebook at these places, without copies that Jupyter keeps."""
    found = [path for place in places for path in ([place] if place.is_file() else sorted(place.rglob("*.ipynb")))]
    return [path for path in found if ".ipynb_checkpoints" not in path.parts]


def code_of(path: Path) -> list[str]:
    """The code cells of a notebook. Raises ValueError where the file is none."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        codes = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no notebook: {error!r}") from error
    return [IN_LINE.sub("", code) for code in codes]


def lesson_of(codes: Sequence[str]) -> str | None:
    """The number of the lesson that a notebook is."""
    found = LESSON.search("\n".join(codes))
    return found[1] if found else None


def program(codes: Sequence[str], name: str) -> ast.Module | None:
    """The last cell that calls this check, after what it needs of the cells above it: imports, functions, classes and
    values that it names, directly or through one another. Nothing else of the notebook is run."""
    place = next((n for n in reversed(range(len(codes))) if any(f[1] == name for f in CHECK.finditer(codes[n]))), None)
    if place is None:
        return None
    own = ast.parse(codes[place]).body
    needed, before = set[str](), list[ast.stmt]()
    for statement in own:
        needed |= names_read(statement)
    needed.discard("exercises")  # the lesson's own, whatever a notebook may call so
    for statement in reversed([one for code in codes[:place] for one in statements(code)]):
        made = names_made(statement)
        if made & needed:
            needed |= names_read(statement) - {"exercises"}
            before.insert(0, statement)
    return ast.Module([*before, *own], [])


def statements(code: str) -> list[ast.stmt]:
    try:
        return ast.parse(code).body
    except SyntaxError:
        return []


def names_read(tree: ast.AST) -> set[str]:
    """All names in a piece of code."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def names_made(statement: ast.stmt) -> set[str]:
    """What an import, a definition or an assignment gives a name."""
    if isinstance(statement, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name.partition(".")[0] for alias in statement.names}
    if isinstance(statement, ast.FunctionDef | ast.ClassDef):
        return {statement.name}
    if isinstance(statement, ast.Assign):
        return set().union(*map(names_read, statement.targets))
    return names_read(statement.target) if isinstance(statement, ast.AnnAssign) else set()


# ---- Checking, in a process of its own --------------------------------------------------------------


def check(path: Path, seconds: float, bytes_: int, skip: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """Exercise, outcome and what is said, for each exercise of a notebook's lesson that is not to be skipped.

    An exercise that runs too long ends the process, after its name was printed.
    """
    codes = code_of(path)
    exercises = import_module(f"titans.lesson.lesson_{lesson_of(codes)}.exercises")
    for name in checks(exercises):
        if name not in skip:
            print(json.dumps([name]), flush=True)
            limit = threading.Timer(seconds, os._exit, (TOO_LONG,))
            limit.start()
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                outcome, says = judged(codes, name, exercises, bytes_)
            limit.cancel()
            yield name, outcome, says


def judged(codes: Sequence[str], name: str, exercises: Any, bytes_: int) -> tuple[str, str]:
    """What the lesson's check says of a notebook's function."""
    names: dict[str, object] = {"__name__": "__main__", "exercises": exercises}
    try:
        tree = program(codes, name)
        if tree is None:
            return "missing", say("the check is not called", "チェックが呼ばれていません")
        call = tree.body.pop()
        if not isinstance(call, ast.Expr):
            return "missing", say("the cell does not end with the check", "セルがチェックの呼び出しで終わっていません")
        limit_memory(bytes_)
        exec(compile(tree, "<notebook>", "exec"), names)
        names["exercises"] = exercises
        verdict = eval(compile(ast.Expression(call.value), "<notebook>", "eval"), names)
        return verdict.outcome, say(verdict.english, verdict.japanese)
    except (Exception, SystemExit) as error:
        return "error", f"{type(error).__name__}: {error}"


def limit_memory(bytes_: int) -> None:
    """Let this process have so much more than now, where the system knows such a limit."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        now = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + bytes_, -1))


# ---- A class ---------------------------------------------------------------------------------------------


def rows_of(path: Path, seconds: float, gigabytes: float, language: str) -> list[Row]:
    """All exercises of a notebook, checked in as many processes as it takes."""
    codes = code_of(path)
    lesson = lesson_of(codes)
    if lesson is None:
        return []
    rows: list[Row] = []
    command = [sys.executable, "-m", "titans.lesson.collect", str(path), "--worker"]
    options = ["--seconds", str(seconds), "--gigabytes", str(gigabytes), "--language", language]
    while True:
        skip = [word for row in rows for word in ("--skip", row.exercise)]
        done = subprocess.run(
            [*command, *options, *skip], stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8"
        )
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
        rows += [Row(str(path), lesson, *line) for line in lines if len(line) == 3]
        unfinished = lines[-1][0] if lines and len(lines[-1]) == 1 else None
        if unfinished is None:
            return rows
        late = done.returncode == TOO_LONG
        end = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        rows.append(Row(str(path), lesson, unfinished, "too long" if late else "error", "" if late else end[0]))


def picture(rows: Sequence[Row], path: Path) -> None:
    """A bar for each exercise: how many passed, made which mistake, did not try."""
    from titans.lesson.kit.figures import CYCLE, GREY, legend_outside, new_figure, tidy

    exercises = sorted({(row.lesson, row.exercise) for row in rows})
    outcomes = [outcome for outcome, _ in Counter(row.outcome for row in rows).most_common()]
    outcomes.sort(key=lambda outcome: {"passed": -1, "todo": 1, "missing": 2}.get(outcome, 0))
    figure = new_figure(1 + 0.35 * len(exercises))
    axes = tidy(figure.add_subplot(), x=say("notebooks", "ノートブックの数"))
    left = [0] * len(exercises)
    hatches = ("", "//", "xx", "..", "\\\\", "++")
    for number, outcome in enumerate(outcomes):
        counts = [sum((row.lesson, row.exercise, row.outcome) == (*one, outcome) for row in rows) for one in exercises]
        colour = GREY if outcome in ("todo", "missing") else CYCLE[number % len(CYCLE)][0]
        axes.barh(
            range(len(exercises)), counts, left=left, label=outcome, color=colour, edgecolor="white",
            hatch=hatches[number // len(CYCLE) % len(hatches)],
        )  # fmt: skip
        left = [one + more for one, more in zip(left, counts, strict=True)]
    axes.set_yticks(range(len(exercises)), [f"{lesson} {name}" for lesson, name in exercises])
    axes.invert_yaxis()
    legend_outside(axes, 8)
    figure.subplots_adjust(left=0.24, right=0.72, bottom=0.6 / figure.get_figheight(), top=0.97)
    figure.savefig(path)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m titans.lesson.collect", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("places", nargs="+", type=Path, metavar="FOLDER", help="folders of notebooks, or notebooks")
    parser.add_argument("--out", type=Path, default=Path("class.csv"), help="the table; a picture is put beside it")
    parser.add_argument("--seconds", type=float, default=20, help="for one exercise, at most")
    parser.add_argument("--gigabytes", type=float, default=2, help="of memory for one exercise, at most")
    parser.add_argument("--language", choices=("en", "ja"), default="en", help="of what checks say")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--skip", action="append", default=[], help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    speak(options.language)
    if options.worker:
        for row in check(options.places[0], options.seconds, int(options.gigabytes * 1e9), options.skip):
            print(json.dumps(row), flush=True)
        os._exit(0)  # whatever an exercise has started
    found = notebooks([place for place in options.places if place.exists()])
    if gone := [str(place) for place in options.places if not place.exists()]:
        parser.error(f"no such folder or file: {', '.join(gone)}")
    rows, refused = list[Row](), list[str]()
    for path in tqdm(found, unit="notebook"):
        try:
            rows += rows_of(path, options.seconds, options.gigabytes, options.language)
        except ValueError as error:
            refused.append(str(error))
    for line in refused:
        print(line, file=sys.stderr)
    if not rows:
        parser.error(f"no notebook of a lesson in {', '.join(map(str, options.places))}")
    with options.out.open("w", encoding="utf-8-sig", newline="") as file:  # a table program knows it by its mark
        table = csv.writer(file)
        table.writerow(Row._fields)
        table.writerows(rows)
    picture(rows, options.out.with_suffix(".png"))
    passed = sum(row.outcome == "passed" for row in rows)
    print(f"{len(found)} notebooks, {len(rows)} exercises, {passed} passed")
    print(f"{options.out}, {options.out.with_suffix('.png')}")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
