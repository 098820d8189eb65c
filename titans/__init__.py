"""Titans (arXiv 2501.00663): a memory that is a small network and learns while it reads."""

from titans.chunked import chunked_scan
from titans.config import TitansConfig
from titans.memory import DeepMemory, Gates
from titans.model import ModelState, TitansLM
from titans.neural_memory import NeuralMemory
from titans.recurrence import recurrent_scan
from titans.state import MemoryState

__all__ = [
    "DeepMemory",
    "Gates",
    "MemoryState",
    "ModelState",
    "NeuralMemory",
    "TitansConfig",
    "TitansLM",
    "chunked_scan",
    "recurrent_scan",
]
