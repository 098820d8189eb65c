"""Another package that is called titans too, installed beside this one, over it or under it: it is noticed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

OTHERS = ("titans", "titans-unofficial", "titans-memory")


def install(site: Path, name: str, *files: str) -> None:
    """The traces that pip leaves of a package, without its files."""
    folder = site / f"{name.replace('-', '_')}-1.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (folder / "RECORD").write_text("".join(f"{file},sha256=x,1\n" for file in files), encoding="utf-8")


def copy_library(site: Path) -> Path:
    """This library as if pip had put it there."""
    ignored = shutil.ignore_patterns("shipped", "__pycache__")
    return Path(shutil.copytree(ROOT / "titans", site / "titans", ignore=ignored))


# An editable installation would lend its modules to a library that lacks some.
ALONE = "import sys; sys.meta_path[:] = [one for one in sys.meta_path if 'editable' not in str(one)]\n"


def run(program: str, *path: Path) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", ALONE + program],
        cwd=path[-1],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))},
        capture_output=True,
        encoding="utf-8",
    )


@pytest.mark.parametrize("name", OTHERS)
def test_another_package_beside_this_one_is_told_with_what_to_do(tmp_path, name):
    install(tmp_path, name, "titans/__init__.py", "titans/memory.py")
    done = run("from titans.lesson import start; start()", ROOT, tmp_path)
    assert done.returncode == 0
    for told in (done.stderr, done.stdout):  # `import titans` warns, and a lesson tells
        for part in (f"({name})", f"`pip uninstall {name}`", "`pip install --force-reinstall --no-deps -e .`"):
            assert part in told
    assert "titans is ready" in done.stdout


def test_packages_of_other_names_and_this_one_itself_are_no_matter(tmp_path):
    install(tmp_path, "titans-pytorch", "titans_pytorch/__init__.py")
    install(tmp_path, "titans-step-by-step", "titans/__init__.py")
    install(tmp_path, "clash", "titans_of_mine/titans/__init__.py")
    done = run("import titans; from titans.lesson import start; start()", ROOT, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "✗" not in done.stdout


@pytest.mark.parametrize("lost", [True, False], ids=["a module is gone", "a module is another's"])
def test_a_library_that_is_not_whole_says_so(tmp_path, lost):
    folder = copy_library(tmp_path)
    if lost:
        (folder / "memory.py").unlink()
    else:
        (folder / "memory.py").write_text("class Memory: ...\n", encoding="utf-8")
    install(tmp_path, "titans-memory", "titans/__init__.py", "titans/memory.py")
    done = run("import titans", tmp_path)
    assert done.returncode == 1
    error = done.stderr.splitlines()[-1]
    assert error.startswith("ImportError: titans is not whole (")
    assert "titans.memory" in error
    assert "`pip uninstall titans-memory`" in error


@pytest.mark.parametrize("installed", [True, False], ids=["it is there", "it was removed"])
@pytest.mark.parametrize("ours", ["overwritten", "taken along"])
def test_a_lesson_notices_that_titans_is_another_package(tmp_path, ours, installed):
    """`import titans` cannot: what it runs is not this library's."""
    first = copy_library(tmp_path) / "__init__.py"
    first.write_text("class TitansLM: ...\n", encoding="utf-8")
    if ours == "taken along":
        first.unlink()
    if installed:
        install(tmp_path, "titans", "titans/__init__.py")
    done = run("from titans.lesson import start; start('ja')", tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "ImportError: titans is another package here, or none: see above"
    assert "`pip uninstall titans`" in done.stdout
    assert "カーネルを再起動してください" in done.stdout


def test_a_package_that_is_missing_is_named_as_ever(tmp_path):
    """That is not for another titans to answer for."""
    copy_library(tmp_path)
    done = run("import sys; sys.modules['einops'] = None\nimport titans", tmp_path)
    assert done.stderr.splitlines()[-1].startswith("ModuleNotFoundError: import of einops halted")
