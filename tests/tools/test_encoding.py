"""Whatever reads or writes text says that it is UTF-8: elsewhere a machine's own encoding is taken, often another."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.paths import ROOT

SOURCES = [path for room in ("titans", "notebooks", "tests") for path in (ROOT / room).rglob("*.py")]
TEXT, MAYBE_TEXT, PROCESSES = ("read_text", "write_text"), ("open", "fdopen"), ("run", "Popen", "check_output")


def silent(source: str) -> Iterator[str]:
    """The calls that read or write text and do not say in which encoding."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        given = {keyword.arg for keyword in node.keywords}
        mode = [word for word in ast.walk(node) if isinstance(word, ast.Constant) and word.value in ("rb", "wb", "ab")]
        opens_text = name in MAYBE_TEXT and not mode and "fileobj" not in given
        text = name in TEXT or opens_text or (name in PROCESSES and given & {"text"})
        if text and "encoding" not in given:
            yield f"line {node.lineno}: {name}"


def test_whatever_reads_or_writes_text_names_its_encoding():
    found = {path: list(silent(path.read_text(encoding="utf-8"))) for path in SOURCES}
    assert ROOT / "tests" / "paths.py" in found
    assert {path: calls for path, calls in found.items() if calls} == {}


@pytest.mark.parametrize(
    "call",
    ["path.read_text()", "path.write_text('x')", "open('x')", "path.open('w')", "subprocess.run('x', text=True)"],
)
def test_a_call_without_one_is_found(call):
    assert len(list(silent(f"{call}\nopen('x', 'rb')\nopen('x', encoding='utf-8')\nsubprocess.run('x')"))) == 1


PROGRAM = """
import sys
from pathlib import Path
import torch
from titans import MemoryState, NeuralMemory, TitansConfig, TitansLM, recipes
from titans.checkpoints import load_checkpoint, save_checkpoint
from titans.tasks import Recall, alphabet
from titans.training import Run, train

folder = Path(sys.argv.pop())
NeuralMemory(8)(torch.randn(1, 3, 8))[1].save(folder / "state")
MemoryState.load(folder / "state")
save_checkpoint(folder / "model", TitansLM(TitansConfig(dim=8)), {})
load_checkpoint(folder / "model")
load_checkpoint("recall-live/mac")
assert alphabet()
config = TitansConfig(vocab_size=12, dim=8, layers=1, heads=1)
run = Run(config, Recall(2, 4, 4, 4), (1, 2), steps=2, rows=2)
recipes.carry_out("x", recipes.Recipe("x", {"one": run}, (2,), rows=2), (0,), ["one"], folder / "x")
from titans.lesson.kit import exercise
from titans.lesson import start
start()
sys.argv.append("--help")
recipes.main()
"""


def test_nothing_warns_of_an_encoding_where_python_looks_for_it(tmp_path):
    """Saved, loaded, trained, told of: all in a process that ends where one is not named."""
    done = subprocess.run(
        [sys.executable, "-X", "warn_default_encoding", "-W", "error::EncodingWarning", "-c", PROGRAM, str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert "usage: python -m titans.recipes" in done.stdout
