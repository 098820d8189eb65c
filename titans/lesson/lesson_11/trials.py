"""What lesson 11 measures of the choices: how wrong each is at the end of each stream, with the best gates for it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from itertools import product
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from titans.lesson.lesson_11.rules import (
    Adam,
    AnotherLoss,
    FeatureMemory,
    Muon,
    StaleWindow,
    TowardsStart,
    Window,
    absolute,
    huber,
    mixtures,
    normalised,
)
from titans.lesson.lesson_11.streams import DIM, STREAMS, Stream, draw
from titans.memory import DeepMemory, Memory
from titans.recurrence import Momentum, recurrent_scan
from titans.scan import Gates, Rule
from titans.state import MemoryState

THETAS = (0.003, 0.01, 0.03, 0.1, 0.3, 0.5, 1.0)
ETAS = (0.0, 0.5, 0.9)
ALPHAS = (0.0, 0.02, 0.1)
GRID = tuple(product(THETAS, ETAS, ALPHAS))  # the same for every choice
TUNED, MEASURED = range(4), range(100, 107)  # seeds


class Choice(NamedTuple):
    """A memory and the rule by which it is written."""

    rule: Rule
    memory: Callable[[], Memory]

    def start(self, weights: Tensor) -> tuple[Memory, MemoryState]:
        """The memory and its state before the first token, a row for each of `weights` [rows, 1, DIM, DIM]: a matrix
        memory starts from these."""
        memory = self.memory()
        state = memory.initial_state(len(weights))
        return memory, replace(state, weights=(weights,), chunk_weights=(weights,)) if self.memory is matrix else state


def matrix() -> Memory:
    """M(k) = M k."""
    return DeepMemory(DIM, depth=1).double()


def deep() -> Memory:
    """Two layers, the first one at random."""
    torch.manual_seed(0)
    return DeepMemory(DIM, depth=2, expansion=4).double()


CHOICES = {
    "default": Choice(Momentum(), matrix),
    "|e|": Choice(AnotherLoss(absolute), matrix),
    "Huber": Choice(AnotherLoss(huber), matrix),
    "to M_0": Choice(TowardsStart(), matrix),
    "Adam": Choice(Adam(), matrix),
    "Muon": Choice(Muon(), matrix),
    "window": Choice(Window(), matrix),
    "Muon+window": Choice(Muon(8), matrix),
    "deep": Choice(Momentum(), deep),
    "polynomial": Choice(Momentum(), lambda: FeatureMemory(DIM)),
}
CONTROLS = {
    "normalised": Choice(Muon(1, normalised), matrix),
    "normalised+window": Choice(Muon(8, normalised), matrix),
    "stale window": Choice(StaleWindow(), matrix),
    "mixtures": Choice(Momentum(), lambda: FeatureMemory(DIM, mixtures)),
}


@torch.no_grad()
def errors(
    choice: Choice, streams: Stream, grid: Sequence[tuple[float, float, float]], falling: bool = False
) -> Tensor:
    """|M(q) - wanted| / |wanted| at the end, on average over the questions: [grid, seeds]. What diverges is infinite.

    falling: theta falls to zero along the stream instead of staying.
    """
    seeds, tokens, _ = streams.k.shape
    rows = Stream(*(part.repeat(len(grid), *[1] * (part.ndim - 1))[:, None] for part in streams))
    memory, state = choice.start(rows.start)
    gates = torch.tensor(grid, dtype=torch.float64).repeat_interleave(seeds, 0)
    theta, eta, alpha = (gate[:, None, None].expand(-1, 1, tokens) for gate in gates.unbind(1))
    theta = theta * torch.linspace(1, 0 if falling else 1, tokens, dtype=torch.float64)
    _, state = recurrent_scan(memory, state, rows.k, rows.k, rows.v, Gates(theta, eta, alpha), rule=choice.rule)
    wrong = (memory.read(state.weights, rows.q) - rows.wanted).norm(dim=-1) / rows.wanted.norm(dim=-1)
    return wrong.mean((1, 2)).nan_to_num(nan=torch.inf).view(len(grid), seeds)


class Result(NamedTuple):
    """The error in each stream measured [seeds], and the gates (theta, eta, alpha) that were best in the others."""

    errors: Tensor
    gates: tuple[float, float, float]

    @property
    def median(self) -> float:
        """Of the seeds."""
        return float(self.errors.median())

    @property
    def worst(self) -> float:
        """Of the seeds."""
        return float(self.errors.max())

    def wins(self, other: "Result") -> int:
        """In how many of the streams the error is smaller than another's."""
        return int((self.errors < other.errors).sum())

    def __str__(self) -> str:
        """Median, worst, and the gates, as lessons print them."""
        theta, eta, alpha = self.gates
        return f"{self.median:.2f}, worst {self.worst:.2f} (θ = {theta}, η = {eta}, α = {alpha})"


@cache
def measured(name: str, make: Callable[[Generator], Stream], falling: bool = False) -> Result:
    """A choice or control on streams, with the gates of GRID that have the smallest mean error on other seeds."""
    choice = {**CHOICES, **CONTROLS}[name]
    tuned = errors(choice, draw(make, TUNED), GRID, falling).mean(1)
    gates = GRID[int(tuned.argmin())]
    return Result(errors(choice, draw(make, MEASURED), [gates], falling)[0], gates)


def cell(name: str, stream: str) -> str:
    """The median error; with a star where it is smaller than the default rule's by a tenth or more in every stream
    measured, and with a minus sign where the default's is smaller than this one's by as much in every one."""
    result, default = (measured(one, STREAMS[stream]).errors for one in (name, "default"))
    better, worse = (result < 0.9 * default).all(), (default < 0.9 * result).all()
    return f"{result.median():.2f}{'*' if better else '-' if worse else ' '}"


def table(names: Sequence[str] = tuple(CHOICES), streams: Sequence[str] = tuple(STREAMS)) -> str:
    """Choices below one another, streams beside one another, each `cell` of them."""
    rows = [[name, *(cell(name, stream) for stream in streams)] for name in names]
    return "\n".join(f"{name:<11}" + "".join(f"{entry:>8}" for entry in row) for name, *row in [["", *streams], *rows])


def compare(make: Callable[[Generator], Stream], *names: str, falling: bool = False) -> str:
    """Choices and controls on streams of one kind, a line each: median, worst, gates."""
    return "\n".join(f"{name:<18}{measured(name, make, falling)}" for name in names)


@torch.no_grad()
def same(mine: Rule | Memory, name: str) -> bool:
    """Whether a rule or a memory of the reader's answers as a choice does, to 1e-10, on random pairs, from
    a random M_0 and with gates between 0 and 1."""
    choice, generator = CHOICES[name], torch.Generator().manual_seed(0)
    tokens = draw(STREAMS["plain"], range(3))
    k, v = tokens.k[:, None], tokens.v[:, None]
    first = torch.randn(3, 1, DIM, DIM, generator=generator, dtype=torch.float64)
    shares = torch.rand(3, *k.shape[:3], generator=generator, dtype=torch.float64)
    gates, answers = Gates(0.2 * shares[0], shares[1], 0.1 * shares[2]), []
    for one in (choice, Choice(mine, choice.memory) if isinstance(mine, Rule) else Choice(choice.rule, lambda: mine)):
        memory, state = one.start(first)
        answers.append(recurrent_scan(memory, state, k, k, v, gates, rule=one.rule)[0])
    return bool((answers[0] - answers[1]).abs().max() < 1e-10)
