"""The rooms of the tests: nothing is imported from a test file, and every room is one that CONTRIBUTING lists."""

from __future__ import annotations

import ast
import re

import pytest

from tests.paths import ROOT

TESTS = ROOT / "tests"
SOURCES = sorted(path for folder in ("titans", "notebooks", "tests") for path in (ROOT / folder).rglob("*.py"))


def imported_test_files(source: str) -> list[str]:
    """What a source imports from a test file, or the test file itself."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module or ''}.{alias.name}" for alias in node.names]
    return [name for name in names if any(part.startswith("test_") for part in name.split("."))]


def test_nothing_is_imported_from_a_test_file():
    found = {path: imported_test_files(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert TESTS / "paths.py" in found
    assert {path: names for path, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "violation",
    [
        "from tests.proofs.test_chunked import each_scan",
        "from tests.proofs import proofs, test_chunked",
        "import torch, tests.proofs.test_chunked as chunked",
        "from .test_chunked import each_scan",
        "from . import test_chunked",
        "def late():\n    from tests.proofs.test_chunked import each_scan",
    ],
)
def test_an_import_from_a_test_file_is_found(violation):
    assert len(imported_test_files(f"from tests.proofs.scans import each_scan\n{violation}")) == 1


def test_every_room_is_a_package_that_contributing_lists_with_its_command():
    rooms = {path.parent.relative_to(ROOT).as_posix() for path in TESTS.rglob("test_*.py")}
    assert rooms == {path.parent.relative_to(ROOT).as_posix() for path in TESTS.glob("*/__init__.py")}
    guide = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert sorted(re.findall(r"^\| `pytest (tests/\w+)` \|", guide, flags=re.MULTILINE)) == sorted(rooms)
