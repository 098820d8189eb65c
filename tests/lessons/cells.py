"""The exercises as they stand in the lessons' sources: stubs and solutions, and how to run them."""

from __future__ import annotations

import re

import pytest
import torch
import torch.nn.functional as F

from tests.paths import SOURCES
from titans.lesson.kit.progress import CHECK


def exercise_cells(*lessons):
    """(exercise, the stub's code, the solution's code) for every exercise in the sources of these lessons."""
    for path in sorted(path for lesson in lessons for path in SOURCES.glob(f"{lesson}_*.py")):
        cells = re.split(r"^# %%", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        stubs = [cell for cell in cells if CHECK.search(cell)]
        solutions = re.findall(
            r"# ```python\n(.*?)# ```", "".join(c for c in cells if "解答</summary>" in c), flags=re.DOTALL
        )
        for stub, solution in zip(stubs, solutions, strict=True):
            name = CHECK.search(stub)[1]
            yield pytest.param(
                name,
                stub.split("\n", 1)[1],
                re.sub("^# ?", "", solution, flags=re.MULTILINE),
                id=f"{path.stem[:2]}-{name}",
            )


def run(code, exercises):
    """The function that the code defines last, and what the code's names are."""
    names = {"torch": torch, "F": F, "exercises": exercises}
    exec(code, names)
    return [value for value in names.values() if callable(value) and hasattr(value, "__code__")][-1]
