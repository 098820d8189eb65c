"""Titans (arXiv 2501.00663): a memory that is a small network and learns while it reads."""

from importlib.util import find_spec
from typing import Any

from titans.installed import whole

with whole():
    from titans.chunked import chunked_scan
    from titans.config import TitansConfig
    from titans.costs import Cost, cost, transformer_cost
    from titans.memory import DeepMemory
    from titans.model import ModelState, TitansLM
    from titans.neural_memory import NeuralMemory
    from titans.recurrence import recurrent_scan
    from titans.scan import Gates
    from titans.state import MemoryState
    from titans.unchanged import unchanged_parameters

__all__ = [
    "Cost",
    "DeepMemory",
    "Gates",
    "MemoryState",
    "ModelState",
    "NeuralMemory",
    "TitansConfig",
    "TitansLM",
    "chunked_scan",
    "cost",
    "recurrent_scan",
    "transformer_cost",
    "unchanged_parameters",
]

OF_TRANSFORMERS = ("TitansMACConfig", "TitansMACForCausalLM")  # imported when they are named: the extra `hf`


def __getattr__(name: str) -> Any:
    if name not in OF_TRANSFORMERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from titans import huggingface
    except ImportError as error:
        needed = 'a current release of transformers, the extra "hf": pip install -e ".[hf]"'
        raise ImportError(f"titans.{name} needs {needed} ({error})", name=error.name) from error
    return getattr(huggingface, name)


def __dir__() -> list[str]:
    return [*globals(), *(OF_TRANSFORMERS if find_spec("transformers") else ())]
