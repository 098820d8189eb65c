"""The registry of equations names only what exists, and each of its lessons speaks of its equation."""

import importlib
import re

import pytest

from tests.paths import ROOT, SOURCES
from titans.equations import EQUATIONS


def numbers(key):
    first, _, last = key.partition("-")
    return range(int(first), int(last or first) + 1)


def resolve(name):
    """The object of a dotted name: a module, then attributes."""
    parts = name.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        for part in parts[cut:]:
            found = getattr(found, part)
        return found
    raise LookupError(name)


def test_every_equation_from_8_to_31_is_registered_once():
    assert sorted(number for key in EQUATIONS for number in numbers(key)) == list(range(8, 32))


@pytest.mark.parametrize("key", EQUATIONS)
def test_an_equation_has_its_function_and_its_proof(key):
    equation = EQUATIONS[key]
    assert callable(resolve(equation.code))
    path, name = equation.test.split("::")
    assert re.search(rf"^def {name}\(", (ROOT / path).read_text(encoding="utf-8"), flags=re.MULTILINE)


@pytest.mark.parametrize("key", EQUATIONS)
def test_an_equation_is_explained_where_the_registry_says(key):
    text = (SOURCES / f"{EQUATIONS[key].lesson}.py").read_text(encoding="utf-8")
    for number in key.split("-"):
        assert re.search(rf"[Ee]quations? [\d, toand]*\b{number}\b", text.replace("\n# ", " ")), number
