"""Modules of the library with a fault in them: one place of the source changed, and run under another name."""

from __future__ import annotations

import importlib
import inspect
import sys
from importlib.machinery import SourceFileLoader
from types import ModuleType
from unittest.mock import patch

import titans.unchanged
from titans.state import State


def faulty(module: ModuleType, old: str, new: str) -> str:
    """The module's source with `old`, which stands in it once, replaced by `new`."""
    source = inspect.getsource(module)
    assert source.count(old) == 1, f"{old!r} no longer stands in {module.__name__} once: adapt this fault"
    return source.replace(old, new)


def library(module: ModuleType, old: str, new: str) -> ModuleType:
    """The package titans imported once more, with a fault in this module, which all others import from."""
    source, plain = faulty(module, old, new), SourceFileLoader.get_code

    def get_code(loader: SourceFileLoader, name: str):
        return compile(source, name, "exec") if name == module.__name__ else plain(loader, name)

    with patch.dict(sys.modules), patch.object(SourceFileLoader, "get_code", get_code):
        for name in [name for name in sys.modules if name.split(".")[0] == "titans"]:
            del sys.modules[name]
        broken = importlib.import_module("titans")
    broken.unchanged._UNCHANGED = titans.unchanged._UNCHANGED  # a block is one for both
    return broken


def mutant(module: ModuleType, old: str, new: str) -> ModuleType:
    """The module with `old`, which stands in its source once, replaced by `new`."""
    source = faulty(module, old, new)
    broken = ModuleType(f"{module.__name__}_broken")
    sys.modules[broken.__name__] = broken  # dataclasses and the proofs look modules up by name
    with patch.dict(State.kinds, clear=True):  # its states take no other state's name when files are read
        exec(compile(source, broken.__name__, "exec"), broken.__dict__)
    return broken
