"""What a reader has done: verdicts and predictions, in a small file beside the notebook."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from IPython.core.getipython import get_ipython

import titans.lesson
from titans.lesson.kit.exercise import Verdict
from titans.lesson.kit.host import say

FILE = "titans_progress.json"
CHECK = re.compile(r"^exercises\.(\w+?)(?:\.check)?\(", re.MULTILINE)  # what an exercise's cell calls
UNTOUCHED = "..."


def begin() -> None:
    """Keep the verdict of every check that a cell ends with, from here on."""
    if (shell := get_ipython()) is not None:
        with suppress(ValueError):
            shell.events.unregister("post_run_cell", keep_verdict)
        shell.events.register("post_run_cell", keep_verdict)


def keep_verdict(result: Any) -> None:
    """After a cell: if it showed a verdict, keep it."""
    found = CHECK.search(result.info.raw_cell or "") if result.info else None
    lesson = lesson_here()
    if isinstance(result.result, Verdict) and found and lesson and result.result.outcome != "todo":
        kept = read()
        before = kept["exercises"].setdefault(lesson, {}).get(found[1], {"tries": 0, "outcome": ""})
        outcome = "passed" if before["outcome"] == "passed" else result.result.outcome  # what was right once is done
        kept["exercises"][lesson][found[1]] = {"tries": before["tries"] + 1, "outcome": outcome}
        write(kept)


def lesson_here() -> str | None:
    """The number of the lesson that runs: that of its exercises."""
    shell = get_ipython()
    module = getattr(shell.user_ns.get("exercises"), "__name__", "") if shell is not None else ""
    found = re.search(r"lesson_(\d\d)\.exercises$", module)
    return found[1] if found else None


def read(folder: Path | None = None) -> dict[str, Any]:
    """What the file of a folder says; what is no such file is put aside."""
    path = (folder or Path()) / FILE
    empty: dict[str, Any] = {"exercises": {}, "predictions": {}}
    if not path.is_file():
        return empty
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        return {name: dict(kept[name]) for name in empty}
    except (ValueError, KeyError, TypeError):
        with suppress(OSError):
            path.replace(path.with_suffix(".broken.json"))
        return empty


def write(kept: dict[str, Any]) -> None:
    """Whole or not at all; a folder in which nothing may be written keeps nothing."""
    unfinished = Path(f"{FILE}.{os.getpid()}")
    with suppress(OSError):
        unfinished.write_text(json.dumps(kept, ensure_ascii=False, indent=1), encoding="utf-8")
        unfinished.replace(FILE)


def predict(text: str = UNTOUCHED) -> None:
    """Write a prediction down: it is kept, and shown again under what the next cell shows."""
    shell, text = get_ipython(), str(text).strip()
    if shell is None or text in ("", UNTOUCHED):
        return
    kept = read()
    kept["predictions"].setdefault(lesson_here() or "", []).append(text)
    write(kept)

    def remind(result: Any) -> None:
        if "predict(" not in (result.info.raw_cell or ""):
            shell.events.unregister("post_run_cell", remind)
            print(f"✎ {say('You predicted', 'あなたの予想')}: {text}")

    shell.events.register("post_run_cell", remind)
    print(f"✎ {say('Noted. Now run the next cell.', '書き留めました。次のセルを実行してください。')}")


class Progress:
    """What is done of all exercises whose lessons are here."""

    def __init__(self) -> None:
        self.kept = read()["exercises"]

    def __repr__(self) -> str:
        lines, following = [], ""
        for lesson, names in sorted(exercises().items()):
            outcomes = [self.kept.get(lesson, {}).get(name, {}).get("outcome", "") for name in names]
            marks = "  ".join(f"{number} {mark(outcome)}" for number, outcome in enumerate(outcomes, start=1))
            lines.append(f"{say('lesson', 'レッスン')} {lesson}:  {marks}")
            if not following and set(outcomes) != {"passed"}:
                number = next(n for n, outcome in enumerate(outcomes, start=1) if outcome != "passed")
                following = say(
                    f"Go on with exercise {number} of lesson {lesson}.",
                    f"続きは、レッスン{lesson}の演習{number}です。",
                )
        return "\n".join([*lines, following or say("All done.", "すべて終わりました。")])


def mark(outcome: str) -> str:
    return {"passed": "✓", "": "…"}.get(outcome, "✗")


def progress() -> Progress:
    """Which exercises are done (✓), tried (✗) and still to do (…), and where to go on."""
    return Progress()


def exercises() -> dict[str, list[str]]:
    """The checks of every lesson that is here, in their order."""
    rooms = (folder for path in titans.lesson.__path__ for folder in Path(path).glob("lesson_[0-9][0-9]"))
    return {room.name[-2:]: list(checks(import_module(f"titans.lesson.{room.name}.exercises"))) for room in rooms}


def checks(module: Any) -> Iterator[str]:
    """The names of a module's checks."""
    for name, value in vars(module).items():
        own = getattr(value, "__module__", "") == module.__name__ and name.startswith("check_")
        if own or (name.isupper() and hasattr(value, "check")):
            yield name
