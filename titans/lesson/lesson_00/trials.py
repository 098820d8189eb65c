"""What lesson 00 measures: models that were told facts, kept waiting and asked.

All of it is about six facts that are told in one stretch, from the first token on.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn

from titans.blocks import ContextState
from titans.checkpoints import load_checkpoint
from titans.lesson.kit.interventions import edited_memory, held
from titans.lesson.kit.watching import memory_of, share_known
from titans.lesson.lesson_00.words import NAMES, PLACES, TASK, ids
from titans.model import IGNORED_LABEL, ModelState, TitansLM
from titans.neural_memory import LayerState
from titans.observe import closed, edited_gates, observed
from titans.recipes import LIVE
from titans.tasks import Batch, Recall, Telling
from titans.training import parameter_groups


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


# Section 4: how far is far, and what happens right after the last fact.


class SharesByDistance(NamedTuple):
    """The share of right answers for each pair in the order of telling, at several distances:
    [distances, pairs]."""

    distances: tuple[int, ...]
    right: Tensor


DISTANCES = (0, 1, 2, 4, 8, 16, 64, 256, 1024, 2048)


@cache
def share_by_distance(name: str, rows: int = 32, distances: tuple[int, ...] = DISTANCES) -> SharesByDistance:
    """One of `models()`: told, kept waiting, and asked for each pair alone, at growing distances of
    one stream. A copy is asked that does not write."""
    model, random = models()[name], torch.Generator().manual_seed(7)
    told, reader = TASK.tell(rows, random).tokens, closed(model)
    keys, values = told[:, ::2], told[:, 1::2]
    passed = TASK.pass_time(rows, max(distances), random)
    state, done, right = model(told).state, 0, []
    for distance in distances:
        if distance > done:
            state, done = model(passed[:, done:distance], state).state, distance
        right.append(share_known(reader, state, keys, values))
    return SharesByDistance(distances, torch.tensor(right))


@dataclass(frozen=True)
class Told:
    """Rows that are told six facts each: told [rows, 12], and filler to follow [rows, tokens]."""

    told: Tensor
    filler: Tensor

    @property
    def keys(self) -> Tensor:
        return self.told[:, ::2]

    @property
    def values(self) -> Tensor:
        return self.told[:, 1::2]

    def known(self, state: ModelState) -> list[float]:
        """The share of rows that know each fact, asked by a copy of the model that reads and does not write."""
        return share_known(models()["memory never written"], state, self.keys, self.values)

    def last(self, state: ModelState) -> float:
        """The share of rows that know the last fact."""
        return self.known(state)[-1]

    def last_after(self, model: TitansLM, state: ModelState) -> float:
        """The share of rows that know the last fact after `model` has read the filler from a state."""
        return self.last(model(self.filler, state).state)


def rows_told(filler: int = 4, rows: int = 64, seed: int = 3) -> Told:
    """Facts and filler at random."""
    random = torch.Generator().manual_seed(seed)
    return Told(TASK.tell(rows, random).tokens, TASK.pass_time(rows, filler, random))


def history_cleared(state: ModelState, part: str, token: int) -> ModelState:
    """The state after 12 tokens, in which the memory's convolution has forgotten the key or the value (`part`) of
    one of the tokens 9, 10, 11 that it still needs."""
    model = models()["memory on"]
    dim, number = model.config.dim, ("query", "key", "value").index(part)

    def clear(memory: LayerState) -> LayerState:
        recent = memory.recent.clone()
        recent[:, token - 9, number * dim : (number + 1) * dim] = 0
        return replace(memory, recent=recent)

    return edited_memory(state, clear)


@cache
def silent_token(tokens: int = 16) -> Tensor:
    """The share of rows that know each fact after 16 tokens, when one of these tokens takes a step of 0: [tokens,
    pairs]."""
    model, rows = models()["memory on"], rows_told(tokens - 12)
    stream = torch.cat((rows.told, rows.filler), dim=1)
    return torch.tensor([rows.known(_read(model, stream, {token: {"theta": 0.0}})) for token in range(tokens)])


def _read(model: TitansLM, tokens: Tensor, gates: dict[int, dict[str, float]]) -> ModelState:
    """The state after tokens [rows, tokens], the gates of some of them held at numbers."""
    state = model.initial_state(len(tokens))
    for number, token in enumerate(tokens.T):
        with held(model, **gates.get(number, {})):
            state = model(token[:, None], state).state
    return state


# Section 5: what moves the memory.


def writes(model: TitansLM, tokens: Tensor, gates: dict[int, dict[str, float]] | None = None) -> list[float]:
    """The size of the change of the first layer's memory at each token of one row, |M_t - M_{t-1}|; the gates of some
    tokens held at numbers."""
    state, sizes = model.initial_state(1), []
    for number, token in enumerate(tokens.T):
        with held(model, **(gates or {}).get(number, {})):
            before, state = state, model(token[None], state).state
        sizes.append(float((_memory(state) - _memory(before)).norm()))
    return sizes


def _memory(state: ModelState) -> Tensor:
    (layer,) = state.layers
    assert isinstance(layer, ContextState)
    return layer.memory.weights[0]


def surprise_by_chunk(model: TitansLM, tokens: Tensor, silent: int | None = None) -> list[float]:
    """The mean surprise of each chunk of tokens [rows, tokens]; nothing is written in chunk number `silent`."""
    state, found, size = model.initial_state(len(tokens)), [], memory_of(model).chunk_size
    for number, chunk in enumerate(tokens.split(size, dim=1)):
        with observed(memory_of(model)) as calls, ExitStack() as stack:
            if number == silent:
                stack.enter_context(held(model, theta=0.0, eta=0.0, alpha=0.0))
            state = model(chunk, state).state
        found.append(float(torch.cat([call.surprise() for call in calls], dim=2).mean()))
    return found


class FixedStep(NamedTuple):
    """Shares of right answers, theta held at one number: for all tokens, for the facts only, for the filler only."""

    everywhere: float
    facts_only: float
    filler_only: float


def fixed_step(theta: float, between: int = 250, rows: int = 32) -> FixedStep:
    """Tell and wait with theta held, and ask all six facts."""
    model, one = models()["memory on"], rows_told(between, rows)
    as_trained = model(one.told).state
    with held(model, theta=theta):
        fixed = model(one.told).state
        states = [model(one.filler, state).state for state in (fixed, as_trained)]
    states.insert(1, model(one.filler, fixed).state)
    return FixedStep(*(sum(known) / len(known) for known in map(one.known, states)))


# Section 6: what it cannot do.


class Again(NamedTuple):
    """Of rows that were told a second place for their first name: the share that answers the old one, the new one,
    and the share of the other five facts that are known."""

    old: float
    new: float
    others: float


def told_again(
    model: TitansLM | None = None,
    emptied: bool = False,
    wait: int = 0,
    rows: int = 64,
    gates_of: TitansLM | None = None,
    **gates: float,
) -> Again:
    """Six facts, `wait` tokens of filler, a second place for the first name, and 100 tokens later the question.

    emptied: whether the memory is as at the start when it reads the second telling. gates: held at these numbers for
    the second telling and the four tokens behind it. gates_of: a model whose gates the memory gets there instead.
    """
    model = models()["memory on"] if model is None else model
    one = rows_told(100 + wait, rows, seed=4)
    first, new = one.keys[:, :1], (one.values[:, :1] - TASK.keys + 1) % TASK.values + TASK.keys
    before, few, after = one.filler.split((wait, 4, 96), dim=1)
    state = model(torch.cat((one.told, before), dim=1)).state
    if emptied:
        empty = memory_of(model).initial_state(rows)
        state = edited_memory(state, lambda memory: replace(
            empty, recent=memory.recent, place_in_chunk=memory.place_in_chunk
        ))  # fmt: skip
    again = torch.cat((first, new, few), dim=1)
    with ExitStack() as stack:
        stack.enter_context(held(model, **gates))
        if gates_of is not None:
            told = gates_of(torch.cat((one.told, before), dim=1)).state
            stack.enter_context(_gates_as_in(gates_of, again, told, model))
        state = model(again, state).state
    state, reader = model(after, state).state, closed(model)
    said = reader(first, state).logits[:, -1:].argmax(-1)
    others = share_known(reader, state, one.keys[:, 1:], one.values[:, 1:])
    shares = [float((said == place).float().mean()) for place in (one.values[:, :1], new)]
    return Again(shares[0], shares[1], sum(others) / len(others))


@contextmanager
def _gates_as_in(source: TitansLM, tokens: Tensor, state: ModelState, model: TitansLM) -> Iterator[None]:
    """The model's gates are those that another model has where it reads these tokens, call by call."""
    with observed(memory_of(source)) as calls:
        source(tokens, state)
    given = iter([call.tokens.gates for call in calls])
    with edited_gates(model, lambda _: next(given)):
        yield


class Strangers(NamedTuple):
    """Shares of rows: a name that was never told is given a place that somebody else has; and one that is told 20
    tokens after the others is known."""

    invented: float
    told_late: float


def strangers(rows: int = 64) -> Strangers:
    """A seventh name: asked for although it was never told, and told in the midst of the filler."""
    model, one = models()["memory on"], rows_told(120, rows, seed=4)
    reader, (before, after) = models()["memory never written"], one.filler.split((20, 100), dim=1)
    name = torch.tensor([[next(key for key in range(TASK.keys) if key not in row)] for row in one.keys.tolist()])
    place = TASK.keys + torch.randint(TASK.values, (rows, 1), generator=torch.Generator().manual_seed(5))
    state = model(torch.cat((one.told, before), dim=1)).state
    never = reader(name, model(after, state).state).logits[:, -1:].argmax(-1)
    late = model(torch.cat((name, place, after), dim=1), state).state
    invented = (never == one.values).any(1).float().mean()
    return Strangers(float(invented), share_known(reader, late, name, place)[0])


class ToldTwice(Recall):
    """Recall in which the last pair tells an earlier key again, with another value; the newest is asked for."""

    def tell(self, rows: int, random: torch.Generator) -> Telling:
        told = super().tell(rows, random).tokens
        keys, values = told[:, ::2].clone(), told[:, 1::2]
        which = torch.randint(self.pairs - 1, (rows, 1), generator=random)
        keys[:, -1:] = keys.gather(1, which)
        newest = values[:, :-1].scatter(1, which, values[:, -1:])
        order = torch.rand(rows, self.pairs - 1, generator=random).argsort(dim=1)
        asked = torch.stack((keys.gather(1, order), newest.gather(1, order)), dim=2).flatten(1)
        labels = asked.clone()
        labels[:, ::2] = IGNORED_LABEL
        return Telling(torch.stack((keys, values), dim=2).flatten(1), Batch(asked, labels))


def practised(task: Recall, steps: int = 20) -> TitansLM:
    """A copy of the lesson's model after a few more steps of training."""
    model, run = deepcopy(models()["memory on"]).requires_grad_(True), replace(LIVE, task=task)
    optimizer = torch.optim.AdamW(parameter_groups(model), lr=1e-3)
    for batch in (run.batch(seed=1, step=step) for step in range(steps)):
        optimizer.zero_grad()
        model(batch.tokens, labels=batch.labels).loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), run.clip)
        optimizer.step()
    return model.requires_grad_(False)
