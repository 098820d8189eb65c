"""Experiments on a trained model, a few lines each: gates held at a number, a part switched off, a
state edited.

Whoever says "because" switches that part off, and looks. A copy is changed, never the model; and
what is held with `held` is held while the block runs.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn

from titans.attention import Attention
from titans.blocks import AloneState, ContextState, WindowState
from titans.lesson.kit.watching import memory_of
from titans.model import ModelState, TitansLM
from titans.neural_memory import LayerState
from titans.observe import edited_gates
from titans.scan import Gates


@contextmanager
def held(model: nn.Module, **numbers: float) -> Iterator[None]:
    """Gates of all memories at fixed numbers while the block runs, the others as they are: held(model, eta=0.0)."""

    def edit(gates: Gates) -> Gates:
        fixed = {name: torch.full_like(getattr(gates, name), number) for name, number in numbers.items()}
        return gates._replace(**fixed)

    with edited_gates(model, edit):
        yield


def without_attention(model: TitansLM) -> TitansLM:
    """A copy in which attention adds nothing to what a block goes on with; h has then no way in either."""
    model = deepcopy(model)
    for module in model.modules():
        if isinstance(module, Attention):
            nn.init.zeros_(module.W_O.weight)
    return model


QUERY, KEY, VALUE = range(3)  # where the channels of each lie in a memory's convolution


@torch.no_grad()
def without_taps(model: TitansLM, part: int, *back: int) -> TitansLM:
    """A copy of a model of one block whose memory convolves its queries, keys or values without the taps that look
    `back` so many tokens; 0 is the token itself."""
    model = deepcopy(model)
    memory = memory_of(model)
    taps = memory.conv.weight[part * memory.dim : (part + 1) * memory.dim, 0]
    for tokens in back:
        taps[:, taps.shape[1] - 1 - tokens] = 0
    return model


def edited_memory(state: ModelState, edit: Callable[[LayerState], LayerState]) -> ModelState:
    """The state of a model of one block with another memory. The weights from which MAC reads h stay as they are."""
    (layer,) = state.layers
    assert isinstance(layer, AloneState | ContextState | WindowState)
    return replace(state, layers=(replace(layer, memory=edit(layer.memory)),))


def without_momentum(state: ModelState) -> ModelState:
    """The same state with S erased: what was surprising writes no more."""
    return edited_memory(state, lambda memory: replace(memory, rule_state=_zeros(memory.rule_state)))


def without_recent_tokens(state: ModelState) -> ModelState:
    """The same state in which the memory's convolutions have forgotten the tokens before."""
    return edited_memory(state, lambda memory: replace(memory, recent=torch.zeros_like(memory.recent)))


def _zeros(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.zeros_like(tensor) for tensor in tensors)
