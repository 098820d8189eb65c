"""What the memory of a model of text is worth: how far back it reaches, and what becomes of it over a long file. For
the recipe's card and for lesson 10; of MAC models."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from titans.blocks import ContextState
from titans.corpus import bits
from titans.model import ModelState, TitansLM
from titans.neural_memory import LayerState
from titans.observe import memories, observed

PIECE = 512  # bytes that are read at once
LENGTHS = (0, 64, 128, 256, 512)  # bytes that a memory has read before a border


def read(model: TitansLM, tokens: Tensor, state: ModelState | None = None) -> ModelState:
    """The state after tokens [rows, bytes]."""
    with torch.no_grad():
        for part in tokens.long().split(PIECE, dim=1):
            state = model(part, state).state
    assert state is not None
    return state


def borders(files: Tensor, before: int, after: int) -> tuple[Tensor, Tensor]:
    """What stands before and behind several places of each file, borders of segments: [rows, before] and
    [rows, after]; all files at the first place, then all at the second."""
    places = range(2048, files.shape[1] - after + 1, 2048)
    rows = [(files[:, place - before : place], files[:, place : place + after]) for place in places]
    first, second = (torch.cat(parts) for parts in zip(*rows, strict=True))
    return first, second


def with_memories(state: ModelState, change: Callable[[LayerState, int], LayerState]) -> ModelState:
    """A state of MAC at the start of a segment with other memories: change(memory, layer). Convolutions and attention
    stay as they are."""
    layers = []
    for number, layer in enumerate(state.layers):
        if isinstance(layer, ContextState):
            memory = change(layer.memory, number)
            layer = replace(layer, memory=memory, segment_weights=memory.weights)
        layers.append(layer)
    return replace(state, layers=tuple(layers))


def forgotten(model: TitansLM, state: ModelState, kept: float = 0.0) -> ModelState:
    """A state in which of what the memories have written since M_0 only this share is left; at the start of a segment
    and a chunk. With 0 they have read nothing, and carry no momentum."""
    initial = model.initial_state(state.batch)

    def change(memory: LayerState, number: int) -> LayerState:
        first = initial.layers[number]
        assert isinstance(first, ContextState)
        pairs = zip(memory.weights, first.memory.weights, strict=True)
        weights = tuple((then + kept * (now - then)).detach() for now, then in pairs)
        carried = memory.rule_state if kept else tuple(map(torch.zeros_like, memory.rule_state))
        return replace(memory, weights=weights, chunk_weights=weights, rule_state=carried)

    return with_memories(state, change)


def reach(model: TitansLM, files: Tensor, lengths: tuple[int, ...] = LENGTHS, after: int = 64) -> dict[str, float]:
    """Bits a byte in the first segment behind a border, by how many bytes the memory has read before it. Whatever it
    has read, the convolutions have seen what stands before the border."""
    found = {}
    for length in lengths:
        context, rest = borders(files, length + 64, after)
        state = forgotten(model, read(model, context[:, :64]))
        state = read(model, context[:, 64:], state) if length else state
        found[str(length)] = float(bits(model, rest, state).mean())
    return found


def fading(model: TitansLM, files: Tensor, every: int, kept: float) -> Tensor:
    """Bits of files [files, bytes], where every so many bytes only a share is left of what has been written since M_0:
    [files, bytes - 1]."""
    return bits(model, files, piece=every, edit=lambda state: forgotten(model, state, kept))


@torch.no_grad()
def inside(model: TitansLM, files: Tensor, every: int) -> dict[str, float]:
    """The half-life of what is written, in bytes, by the mean of alpha; and the size of M_t after `every` bytes and at
    the end of the files."""
    (memory,) = memories(model)
    state, alphas, sizes = None, [], []
    with observed(memory) as calls:
        for piece in files.long().split(every, dim=1):
            state = model(piece, state).state
            alphas += [float(call.tokens.gates.alpha.mean()) for call in calls]
            sizes.append(float(torch.cat([w.flatten(1) for w in calls[-1].after.weights], dim=1).norm(dim=1).mean()))
            calls.clear()
    return {"half-life": math.log(2) / statistics.mean(alphas), "first size": sizes[0], "last size": sizes[-1]}
