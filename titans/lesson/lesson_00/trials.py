"""What lesson 00 measures: models that were told facts, kept waiting and asked."""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from titans.blocks import ContextState
from titans.checkpoints import load_checkpoint
from titans.lesson.kit.watching import share_known
from titans.lesson.lesson_00.words import NAMES, PLACES, TASK, ids
from titans.model import ModelState, TitansLM
from titans.observe import closed


@cache
def models() -> dict[str, TitansLM]:
    """The three models that the lesson compares, without gradients; nobody may change them."""
    mac, attention = (load_checkpoint(f"recall-live/{name}")[0].requires_grad_(False) for name in ("mac", "attention"))
    return {"memory on": mac, "memory never written": closed(mac), "trained without memory": attention}


def chances(model: TitansLM, state: ModelState, names: Sequence[str]) -> Tensor:
    """The probability of every place as the answer to each name, asked alone from the same state:
    [names, 32]."""
    first = len(NAMES)
    asked = [model(ids([name]), state).logits[0, -1].softmax(-1) for name in names]
    return torch.stack(asked)[:, first : first + len(PLACES)]


class SharesByDistance(NamedTuple):
    """The share of right answers for each pair in the order of telling, at several distances:
    [distances, pairs]."""

    distances: tuple[int, ...]
    right: Tensor


DISTANCES = (0, 1, 2, 4, 8, 16, 64, 256, 1024, 2048)


@cache
def share_by_distance(name: str, rows: int = 32, distances: tuple[int, ...] = DISTANCES) -> SharesByDistance:
    """One of `models()`: told, kept waiting, and asked for each pair alone, at growing distances of
    one stream."""
    model, random = models()[name], torch.Generator().manual_seed(7)
    told = TASK.tell(rows, random).tokens
    keys, values = told[:, ::2], told[:, 1::2]
    passed = TASK.pass_time(rows, max(distances), random)
    state, done, right = model(told).state, 0, []
    for distance in distances:
        if distance > done:
            state, done = model(passed[:, done:distance], state).state, distance
        right.append(share_known(model, state, keys, values))
    return SharesByDistance(distances, torch.tensor(right))


class Afterthought(NamedTuple):
    """The share of rows that answer the last pair: at once, after a few tokens, and after a few
    without writing."""

    at_once: float
    after: float
    after_without_writing: float


def last_fact(tokens: int = 4, rows: int = 64) -> Afterthought:
    """Ask for the last pair at once, after some tokens of filler, and after the same ones read
    without writing."""
    on, off = models()["memory on"], models()["memory never written"]
    random = torch.Generator().manual_seed(3)
    told = TASK.tell(rows, random).tokens
    keys, values = told[:, ::2], told[:, 1::2]
    few = TASK.pass_time(rows, tokens, random)
    state = on(told).state
    states = state, on(few, state).state, off(few, state).state
    return Afterthought(*(share_known(on, state, keys, values)[-1] for state in states))


class Told(NamedTuple):
    """Shares of rows: the old place answered, the new one; for a name never told, a place that
    somebody else has."""

    old: float
    new: float
    invented: float


def told_again(distance: int = 100, rows: int = 64) -> Told:
    """The first name gets a second place in the end; and a name is asked for that was never told."""
    model, random = models()["memory on"], torch.Generator().manual_seed(4)
    told = TASK.tell(rows, random).tokens
    keys, values = told[:, 0::2], told[:, 1::2]
    moved = (values[:, :1] - TASK.keys + 1) % TASK.values + TASK.keys
    passed = TASK.pass_time(rows, distance, random)
    state = model(passed, model(torch.cat((told, keys[:, :1], moved), dim=1)).state).state
    answer = model(keys[:, :1], state).logits[:, -1].argmax(-1)
    stranger = torch.tensor([[next(k for k in range(TASK.keys) if k not in row)] for row in keys.tolist()])
    state = model(passed, model(told).state).state
    invented = model(stranger, state).logits[:, -1].argmax(-1)
    shares = (answer == values[:, 0], answer == moved[:, 0], (invented[:, None] == values).any(1))
    return Told(*(float(share.float().mean()) for share in shares))


def writes(model: TitansLM, tokens: Tensor) -> list[float]:
    """The size of the change of the first layer's memory at each token of one row: |M_t - M_{t-1}|."""
    state, sizes = model.initial_state(1), []
    for token in tokens.T:
        before, state = state, model(token[None], state).state
        sizes.append(float((_memory(state) - _memory(before)).norm()))
    return sizes


def _memory(state: ModelState) -> Tensor:
    (layer,) = state.layers
    assert isinstance(layer, ContextState)
    return layer.memory.weights[0]
