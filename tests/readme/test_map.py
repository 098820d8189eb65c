"""The map of the code: it names what is there, and nothing imports against its order."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.paths import NOTEBOOKS, ROOT

PAGES = ("LIBRARY.md", "LIBRARY_ja.md")
ROW = re.compile(r"^\| `(titans/[\w/]+(?:\.py)?)`", flags=re.MULTILINE)


def order(page: str) -> list[str]:
    """The rows of the map, top to bottom."""
    return ROW.findall((NOTEBOOKS / page).read_text(encoding="utf-8"))


def row_of(module: str) -> str:
    """The row that a module of titans stands in: its file's, or its folder's."""
    _, name, *_ = module.split(".")
    return f"titans/{name}/" if (ROOT / "titans" / name).is_dir() else f"titans/{name}.py"


def imported(source: str) -> Iterator[str]:
    """The modules of titans that a source imports at its top; what is imported in a function is for later."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("titans."))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("titans."):
            yield node.module
        elif isinstance(node, ast.ImportFrom) and node.module == "titans":
            yield from (f"titans.{alias.name}" for alias in node.names)


def wrong_ways(row: str, source: str, rows: list[str]) -> list[str]:
    """What a source of this row imports from rows that stand below it."""
    return [module for module in imported(source) if rows.index(row_of(module)) > rows.index(row)]


def sources() -> Iterator[tuple[str, Path]]:
    """Every file of the library with its row; `__init__` names what users import, so it stands above no order."""
    for path in sorted((ROOT / "titans").rglob("*.py")):
        if path != ROOT / "titans" / "__init__.py":
            yield row_of(".".join(path.relative_to(ROOT).with_suffix("").parts)), path


@pytest.mark.parametrize("page", PAGES)
def test_the_map_names_what_is_there_and_nothing_else(page):
    there = {row for row, _ in sources()}
    assert len(order(page)) == len(there)
    assert set(order(page)) == there
    assert order(page) == order(PAGES[0])


def test_imports_point_one_way():
    rows = order(PAGES[0])
    found = {path: wrong_ways(row, path.read_text(encoding="utf-8"), rows) for row, path in sources()}
    assert {path: modules for path, modules in found.items() if modules} == {}


@pytest.mark.parametrize(
    "violation",
    [
        "from titans.model import TitansLM",
        "import titans.blocks",
        "from titans import recipes",
        "import titans.lesson.kit",
    ],
)
def test_an_import_against_the_order_is_found(violation):
    source = f"from titans.memory import DeepMemory\n{violation}"
    assert len(wrong_ways("titans/chunked.py", source, order(PAGES[0]))) == 1
