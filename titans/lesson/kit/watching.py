"""Asking a model what it knows, and copies of it with a part switched off; `titans.observe` looks
inside."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from titans.blocks import MemoryAsContext
from titans.model import ModelState, TitansLM
from titans.neural_memory import NeuralMemory
from titans.observe import memories


def memory_of(model: TitansLM) -> NeuralMemory:
    """The memory layer of a model that has one."""
    (memory,) = memories(model)
    return memory


def each_pair(state: ModelState, pairs: int) -> ModelState:
    """A state for every pair of a row: each can be asked for by itself."""
    return state.select(torch.arange(state.batch).repeat_interleave(pairs))


@torch.no_grad()
def share_known(model: TitansLM, state: ModelState, keys: Tensor, values: Tensor) -> list[float]:
    """The share of rows that answer right, for each pair; keys and values [rows, pairs]. Asking
    changes no state."""
    said = model(keys.reshape(-1, 1), each_pair(state, keys.shape[1])).logits[:, 0].argmax(-1).view_as(keys)
    return (said == values).double().mean(0).tolist()


def without_h(model: TitansLM) -> TitansLM:
    """A copy of a MAC in which the retrieved tokens are zero vectors."""
    model = deepcopy(model)
    for module in model.modules():
        if isinstance(module, MemoryAsContext):
            nn.init.zeros_(module.norm.weight)
    return model
