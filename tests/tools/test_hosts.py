"""What is installed where a lesson is to run, and that the tool which runs one there sees what goes wrong."""

from __future__ import annotations

import sys
import tomllib

import nbformat
import pytest
from packaging.requirements import Requirement

from tests.paths import ROOT
from tests.tools.hosts import simulate


def pinned(name):
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return {found.name: found for found in map(Requirement, (line for line in lines if line[0].isalpha()))}


def version(requirement):
    (clause,) = requirement.specifier
    assert clause.operator == "=="
    return clause.version


@pytest.mark.parametrize(("platform", "wanted"), [("linux", True), ("darwin", False), ("win32", False)])
def test_torch_without_cuda_is_the_pinned_one_and_for_linux_alone(platform, wanted):
    (torch,) = pinned("torch-cpu.txt").values()
    assert version(torch) == version(pinned("requirements.txt")["torch"])
    assert torch.marker.evaluate({"sys_platform": platform}) == wanted


def test_what_is_pinned_is_what_the_package_allows():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = [project["dependencies"], *(project["optional-dependencies"][name] for name in ("hf", "lessons", "test"))]
    pins = pinned("requirements.txt")
    for allowed in (Requirement(text) for one in lists for text in one):
        assert allowed.specifier.contains(version(pins[allowed.name])), allowed


PICTURE = """
from titans.lesson.lesson_03.lab import gates_lab
lab = gates_lab()
lab
"""


@pytest.mark.parametrize(
    ("cell", "fault"),
    [
        (PICTURE, []),
        (PICTURE + "lab._show = lambda: None", ["a picture that does not follow"]),
        (PICTURE + "import warnings; warnings.warn('old')", ["a warning in a cell"]),
        (PICTURE + "None.x", ["an error in a cell"]),
        ("", ["a picture that does not follow, or none"]),
    ],
)
def test_what_goes_wrong_in_a_host_is_seen(tmp_path, monkeypatch, cell, fault):
    for name in ("JUPYTER_DATA_DIR", "IPYTHONDIR", "PYTHONPATH"):
        monkeypatch.setenv(name, "")  # which are put back afterwards
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    path = tmp_path / "en" / "00.ipynb"
    path.parent.mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell)]), path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    faults = simulate(sys.executable, path)
    assert len(faults) == len(fault)
    assert all(text.startswith(fault[0]) for text in faults)
