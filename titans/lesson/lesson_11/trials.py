"""What lesson 11 measures of the choices: how wrong each is at the end of each stream, with gates of its own."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from titans.lesson.lesson_11.rules import Adam, AnotherLoss, Muon, PolynomialMemory, TowardsStart, Window, absolute, huber
from titans.lesson.lesson_11.streams import DIM, STREAMS, Stream, draw
from titans.memory import DeepMemory, Memory
from titans.recurrence import Momentum, recurrent_scan
from titans.scan import Gates, Rule

THETAS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
ETAS = (0.0, 0.5, 0.9)
ALPHAS = (0.0, 0.01, 0.05)
GRID = tuple(product(THETAS, ETAS, ALPHAS))  # the same for every choice
TUNED, MEASURED = range(4), range(100, 107)  # seeds


class Choice(NamedTuple):
    """A memory and the rule by which it is written."""

    rule: Rule
    memory: Callable[[], Memory]

    @property
    def starts_anywhere(self) -> bool:
        """Whether it is a matrix memory, whose M_0 a stream can give."""
        return self.memory is matrix


def matrix() -> Memory:
    """M(k) = M k."""
    return DeepMemory(DIM, depth=1).double()


def deep() -> Memory:
    """Two layers, the first one at random."""
    torch.manual_seed(0)
    return DeepMemory(DIM, depth=2, expansion=4).double()


CHOICES = {
    "default": Choice(Momentum(), matrix),
    "loss |e|": Choice(AnotherLoss(absolute), matrix),
    "loss Huber": Choice(AnotherLoss(huber), matrix),
    "towards M_0": Choice(TowardsStart(), matrix),
    "Adam": Choice(Adam(), matrix),
    "Muon": Choice(Muon(), matrix),
    "window": Choice(Window(), matrix),
    "Muon + window": Choice(Muon(8), matrix),
    "deep": Choice(Momentum(), deep),
    "polynomial": Choice(Momentum(), lambda: PolynomialMemory(DIM)),
}


@torch.no_grad()
def errors(choice: Choice, streams: Stream, grid: Sequence[tuple[float, float, float]]) -> Tensor:
    """|M(q) - wanted| / |wanted| at the end, on average over the questions: [grid, seeds]. What diverges is infinite."""
    memory, (seeds, tokens, _) = choice.memory(), streams.k.shape
    rows = Stream(*(part.repeat(len(grid), *[1] * (part.ndim - 1))[:, None] for part in streams))
    gates = torch.tensor(grid, dtype=torch.float64).repeat_interleave(seeds, 0)
    theta, eta, alpha = (gate[:, None, None].expand(-1, 1, tokens) for gate in gates.unbind(1))
    state = memory.initial_state(len(gates))
    if choice.starts_anywhere:
        state = replace(state, weights=(rows.start,), chunk_weights=(rows.start,))
    _, state = recurrent_scan(memory, state, rows.k, rows.k, rows.v, Gates(theta, eta, alpha), rule=choice.rule)
    wrong = (memory.read(state.weights, rows.q) - rows.wanted).norm(dim=-1) / rows.wanted.norm(dim=-1)
    return wrong.mean((1, 2)).nan_to_num(nan=torch.inf).view(len(grid), seeds)
