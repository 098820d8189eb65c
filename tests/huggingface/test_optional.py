"""Without transformers all of `titans` works but two names, and those say what is missing. And the example."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import titans
from tests.paths import ROOT

NAMES = ("TitansMACConfig", "TitansMACForCausalLM")
INTERFACE = "titans/huggingface"


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-W", "error", *arguments], cwd=ROOT, capture_output=True, encoding="utf-8")


def runs(program: str) -> None:
    done = run("-c", program)
    assert done.returncode == 0, done.stderr


ABSENT = """
import sys
sys.modules["transformers"] = None  # as if it were not installed
import titans
"""


def test_without_transformers_titans_works():
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in sorted((ROOT / "titans").rglob("*.py"))
        if path.relative_to(ROOT).parent.as_posix() != INTERFACE and path.name not in ("__init__.py", "__main__.py")
    ]
    assert "titans.rows" in modules
    runs(
        f"""{ABSENT}
import importlib
for name in {modules}:
    importlib.import_module(name)
from titans import *
import torch
model = TitansLM(TitansConfig(vocab_size=9, dim=8))
tokens = torch.arange(9)[None]
model(tokens, labels=tokens).loss.backward()
assert model.generate(tokens, 3)[0].shape == (1, 12)
"""
    )


def test_without_transformers_the_names_say_what_they_need_and_are_not_listed():
    """What cannot be had is not in dir(), so that tools which look at all that is listed find no error."""
    runs(
        f"""{ABSENT}
import inspect

def told(call, name):
    try:
        call()
    except ImportError as error:
        return name in str(error) and "transformers" in str(error) and '".[hf]"' in str(error)

for name in {NAMES}:
    assert told(lambda: getattr(titans, name), name)
    assert told(lambda: getattr(titans, name, None), name)
    assert told(lambda: exec("from titans import " + name), name)
    assert name not in dir(titans)
assert "TitansLM" in dir(titans)
assert not hasattr(titans, "unheard")
assert dict(inspect.getmembers(titans))["TitansLM"] is titans.TitansLM
"""
    )


def test_with_transformers_the_names_are_listed_and_nothing_is_imported_before_they_are_used():
    runs(f"import sys, titans; assert {set(NAMES)} <= set(dir(titans)); assert 'transformers' not in sys.modules")
    from titans import TitansMACConfig, TitansMACForCausalLM, huggingface

    assert TitansMACConfig is huggingface.TitansMACConfig
    assert TitansMACForCausalLM is huggingface.TitansMACForCausalLM
    assert all(hasattr(titans, name) for name in NAMES)
    assert not hasattr(titans, "unheard")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'titans' has no attribute 'unheard'"):
        titans.unheard  # noqa: B018


def test_only_the_interface_imports_transformers():
    importing = set()
    for path in (ROOT / "titans").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if any(name.split(".")[0] == "transformers" for name in names):
                importing.add(path.relative_to(ROOT))
    assert importing
    assert {path.parent for path in importing} == {Path(INTERFACE)}


def test_the_example_runs_without_a_warning():
    done = run("-m", "titans.huggingface")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    first, after, *_, last = done.stdout.splitlines()
    assert first.startswith("logits [1, 24, 100], loss ")
    assert float(after.split()[-1]) < float(first.split()[-1])
    assert last == "the same as in one call: True"
