"""A lesson as one file: alone in an empty folder, where other packages are, and no library."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient

from tests.lessons.builder import build
from tests.paths import NOTEBOOKS, ROOT, SOURCES

FILES = [
    pytest.param(language, path.stem, id=f"{language}-{path.stem[:2]}")
    for path in sorted(SOURCES.glob("*.py"))
    for language in ("ja", "en")
    if language == "ja" or path.stem.startswith(("00", "09"))  # Japanese needs all that English does, and a font
]
# What a host such as Colab has, in other versions than this course's; and what of them was there before.
HOST = ("ipykernel", "ipywidgets==7.7.1", "matplotlib==3.9.4")
THERE = ("torch", "torchgen", "functorch", "numpy", "sympy", "mpmath", "networkx", "jinja2", "filelock", "fsspec")
THERE += ("markupsafe", "typing_extensions", "numpy.libs", "nvidia", "triton")


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    """A new environment with PyTorch and old widgets, as a kernel: no einops, no titans, no font with Japanese."""
    folder = tmp_path_factory.mktemp("host")
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    python = next(path for path in folder.glob("env/*/python*") if path.stem == "python")
    torch = find_spec("torch")
    assert torch is not None
    site, lent = Path(str(torch.origin)).parents[1], folder / "lent"
    lent.mkdir()
    for path in site.iterdir():
        if path.name.split(".py")[0] in THERE or re.match(r"(torch|numpy)-.*[.]dist-info", path.name):
            (lent / path.name).symlink_to(path, target_is_directory=path.is_dir())
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    inside = subprocess.run([python, "-c", code], check=True, capture_output=True, encoding="utf-8").stdout.strip()
    (Path(inside) / "lent.pth").write_text(f"{lent}\n", encoding="utf-8")
    subprocess.run([python, "-m", "pip", "install", "-q", *HOST], check=True, capture_output=True)
    another_titans(Path(inside))
    spec = {"argv": [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"], "language": "python"}
    kernel = folder / "jupyter" / "kernels" / "host"
    kernel.mkdir(parents=True)
    (kernel / "kernel.json").write_text(json.dumps(spec | {"display_name": "host"}), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(folder / "jupyter"))
        patch.delenv("PYTHONPATH", raising=False)
        yield python, Path(inside)


def another_titans(site):
    """A package of PyPI that is called so too, where a lesson must not meet it."""
    (site / "titans").mkdir()
    (site / "titans" / "__init__.py").write_text("raise ImportError('the other titans')\n", encoding="utf-8")
    (site / "titans-0.0.7.dist-info").mkdir()
    (site / "titans-0.0.7.dist-info" / "METADATA").write_text("Name: titans\nVersion: 0.0.7\n", encoding="utf-8")
    (site / "titans-0.0.7.dist-info" / "RECORD").write_text("titans/__init__.py,,\n", encoding="utf-8")


@pytest.mark.parametrize(("language", "lesson"), FILES)
def test_a_single_file_runs_alone(host, tmp_path, language, lesson):
    notebook = single(language, lesson)
    assert len(nbformat.writes(notebook)) < build.MAX_BYTES
    outputs = outputs_of(notebook, tmp_path)
    expected = sum("raises-exception" in cell.metadata.get("tags", []) for cell in notebook.cells)
    assert sum(output.output_type == "error" for output in outputs) == expected
    assert [output.text for output in outputs if output.get("name") == "stderr"] == []
    ready = {"en": "titans is ready", "ja": "titans の準備ができました"}
    assert any(ready[language] in output.get("text", "") for output in outputs)


def single(language, lesson):
    built = nbformat.read(NOTEBOOKS / language / f"{lesson}.ipynb", as_version=4)
    return build.single.single(SOURCES / f"{lesson}.py", language, built)


def outputs_of(notebook, folder):
    """Run a notebook in the other environment, alone in a folder."""
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    NotebookClient(
        notebook,
        timeout=2 * build.CELL_SECONDS,
        kernel_name="host",
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--log-level=ERROR"],
    ).execute(env=environment)
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


def test_where_the_library_is_installed_from_its_wheel_that_is_what_runs(host, tmp_path):
    python, site = host
    for path in site.glob("titans*"):
        shutil.rmtree(path)
    source = shutil.copytree(
        ROOT, tmp_path / "source", ignore=shutil.ignore_patterns(".*", "notebooks", "build", "tests")
    )
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", source], check=True, capture_output=True)
    lesson = next(SOURCES.glob("03_*.py")).stem
    notebook = single("ja", lesson)
    notebook.cells.append(nbformat.v4.new_code_cell("import titans; print(titans.__file__)"))
    outputs = outputs_of(notebook, tmp_path)
    assert [output for output in outputs if output.get("name") == "stderr" or output.output_type == "error"] == []
    assert Path(outputs[-1].text.strip()).is_relative_to(site)


def test_a_single_file_has_no_link_that_leads_nowhere():
    for language in build.LANGUAGES:
        for source in SOURCES.glob("*.py"):
            built = nbformat.read(NOTEBOOKS / language / f"{source.stem}.ipynb", as_version=4)
            prose = [c.source for c in build.single.single(source, language, built).cells if c.cell_type == "markdown"]
            assert re.findall(r"\]\((?!https?:|#)[^)]*\)", " ".join(prose)) == []
            assert "pip install -e" not in " ".join(prose)  # which is for a clone


def test_with_an_address_badges_and_links_lead_there(monkeypatch):
    assert build.navigation.badge(SOURCES / "00_start_here.py", "en") == ""
    monkeypatch.setattr(build.navigation, "REPOSITORY", "https://github.com/someone/titans-step-by-step")
    source = next(SOURCES.glob("03_*.py"))
    built = nbformat.read(NOTEBOOKS / "ja" / f"{source.stem}.ipynb", as_version=4)
    notebook = build.single.single(source, "ja", built)
    prose = " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    assert "https://github.com/someone/titans-step-by-step/blob/main/notebooks/ja/05_" in prose
    version = build.single.version(ROOT)
    assert f"releases/download/v{version}/titans_step_by_step-{version}-py3-none-any.whl" in notebook.cells[1].source
    assert 'CARRIED = """\n"""' in notebook.cells[1].source
    first, _ = build.navigation.cells(source, "ja")
    assert "colab.research.google.com/github/someone/titans-step-by-step/blob/main/notebooks/ja/03_" in first.source


@pytest.mark.parametrize("source", sorted(SOURCES.glob("*.py")), ids=lambda path: path.stem[:2])
def test_the_shell_leaves_what_a_file_carries_as_it_is(source):
    """It would take a ">>>" away where a line begins so, were there one: base 85 has them."""
    code = build.single.bootstrap(source, "ja")
    assert TransformerManager().transform_cell(code).rstrip() == code


def test_what_a_file_carries_is_the_same_each_time():
    source = next(SOURCES.glob("03_*.py"))
    assert build.single.archive(ROOT, source) == build.single.archive(ROOT, source)
