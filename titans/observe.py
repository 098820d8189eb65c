"""Looking inside a memory while it reads, and interfering with it: for lessons, tests and whoever
asks why.

with observed(layer) as calls:           # what every call read and wrote
    layer(x)
calls[0].surprise()

with edited_gates(model, lambda gates: gates._replace(eta=0 * gates.eta)):
    model(tokens)                        # the same model without momentum

closed(model)(tokens)                    # a copy that reads its memories and never writes them
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from titans.memory import LayeredMemory
from titans.neural_memory import LayerState, NeuralMemory
from titans.scan import Gates, Tokens
from titans.state import one_place

Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True)
class Call:
    """One call of a memory layer: what was read and written, and the states before and after."""

    layer: NeuralMemory
    tokens: Tokens  # q, k, v and gates, as the memory has them
    before: LayerState
    after: LayerState

    @torch.no_grad()
    def surprise(self) -> Tensor:
        """|u_t|, the norm of the gradient of every token, over all layers of a `LayeredMemory`:
        [batch, heads, tokens].

        Gradients are taken at the weights of each chunk's start (D1), before `max_surprise` bounds
        them.
        """
        memory, state, done = self.layer.memory, self.before, 0
        if not isinstance(memory, LayeredMemory):
            raise TypeError(f"surprise needs a LayeredMemory, whose errors it takes, got {type(memory).__name__}")
        found: list[Tensor] = []
        while done < self.tokens.k.shape[2]:
            place = one_place("state.place_in_chunk", state.place_in_chunk)
            part = self.tokens.part(slice(done, done + self.layer.chunk_size - place))
            inputs, errors = memory.errors(state.chunk_weights, part.k, part.v)
            layers = zip(inputs, errors, strict=True)
            found.append(torch.stack([a.square().sum(-1) * e.square().sum(-1) for a, e in layers]).sum(0).sqrt())
            done += part.k.shape[2]
            state = LayerState.of(self.layer.scan(part, state)[1], state.recent)
        return torch.cat(found, dim=2)


def memories(module: nn.Module) -> list[NeuralMemory]:
    """All memory layers in a module, first to last."""
    return [part for part in module.modules() if isinstance(part, NeuralMemory)]


@contextmanager
def observed(layer: NeuralMemory) -> Iterator[list[Call]]:
    """Every call of a memory layer, in order, while the block runs: also those that gradient checkpointing makes
    again in a backward pass, and those of a copy that is made in the block."""
    calls: list[Call] = []

    def note(tokens: Tokens, before: LayerState, after: LayerState) -> None:
        calls.append(Call(layer, tokens, before, after))

    layer.observers.append(note)
    try:
        yield calls
    finally:
        layer.observers.remove(note)


@contextmanager
def edited_gates(module: nn.Module, edit: Callable[[Gates], Gates]) -> Iterator[None]:
    """The gates of all memories in a module as `edit` changes them, while the block runs.

    edit: from gates [batch, heads, tokens, depth] to gates of the same shapes.
    Under gradient checkpointing call backward in the block too: it computes the gates again. A copy that is made in the
    block keeps the edit.
    """
    layers = memories(module)
    for layer in layers:
        layer.gate_edits.append(edit)
    try:
        yield
    finally:
        for layer in layers:
            layer.gate_edits.remove(edit)


def closed(module: Module) -> Module:
    """A copy whose memories are read and never written: all gates are 0. (An inner rule of your own that does not ask
    the gates writes all the same.)"""
    module = copy.deepcopy(module)
    for layer in memories(module):
        layer.observers.clear()
        layer.gate_edits.append(no_gates)
    return module


def no_gates(gates: Gates) -> Gates:
    """Step, momentum and forgetting of exactly 0."""
    return Gates(*(torch.zeros_like(gate) for gate in gates))
