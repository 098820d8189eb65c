"""Modules of the library with a fault in them: one place of the source changed, and run under another name."""

from __future__ import annotations

import inspect
import sys
from types import ModuleType
from unittest.mock import patch

from titans.state import State


def mutant(module: ModuleType, old: str, new: str) -> ModuleType:
    """The module with `old`, which stands in its source once, replaced by `new`."""
    source = inspect.getsource(module)
    assert source.count(old) == 1, f"{old!r} no longer stands in {module.__name__} once: adapt this fault"
    broken = ModuleType(f"{module.__name__}_broken")
    sys.modules[broken.__name__] = broken  # dataclasses and the proofs look modules up by name
    with patch.dict(State.kinds, clear=True):  # its states take no other state's name when files are read
        exec(compile(source.replace(old, new), broken.__name__, "exec"), broken.__dict__)
    return broken
