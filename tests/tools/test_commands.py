"""Every command and file of the tests that is written down is there, and the commands say how they are used."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.paths import ROOT

PLACES = ("*.md", ".github/**/*.md", ".github/**/*.yml", ".ci/run", "pyproject.toml", "titans/**/*.py", "tests/**/*.py")
PLACES += ("notebooks/*.md", "notebooks/*.py", "notebooks/src/*.py", "notebooks/src/*.toml")
TEXTS = {path: path.read_text(encoding="utf-8") for place in PLACES for path in ROOT.glob(place)}
COMMANDS = {name for text in TEXTS.values() for name in re.findall(r"python -m (tests(?:\.\w+)+)", text)}


def test_commands_are_written_down():
    assert {"tests.benchmarks", "tests.tools.any_order", "tests.tools.screenshots"} <= COMMANDS


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_a_command_says_how_it_is_used(name):
    done = subprocess.run([sys.executable, "-m", name, "--help"], cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: python -m {name} [-h]")


def missing(text: str) -> list[str]:
    """Files and folders of the tests that a text names and that are not there."""
    return [path for path in re.findall(r"\btests/\w[\w/]*(?:\.py)?", text) if not (ROOT / path).exists()]


def test_what_is_named_of_the_tests_is_there():
    assert {path: names for path, text in TEXTS.items() if (names := missing(text))} == {}


def test_what_is_not_there_is_found():
    nowhere = "tests" + "/nowhere.py"
    assert missing(f"`{nowhere}`, tests/tools and tests/paths.py") == [nowhere]
