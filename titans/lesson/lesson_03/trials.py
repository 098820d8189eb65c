"""What lesson 03 measures: one number that is written again and again; the best gates for a stream,
each part of them held in turn; the surprise of a repeated passage."""

from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import torch
from torch import Tensor

from titans.chunked import chunked_scan
from titans.lesson.kit.draws import random_pairs
from titans.lesson.kit.matrix_memory import Gate, surprise, update
from titans.lesson.lesson_03.streams import Streams, along_and_across
from titans.memory import DeepMemory
from titans.scan import Gates


def number_memory(values: list[float], theta: float, eta: float = 0.0, alpha: float = 0.0) -> list[float]:
    """A memory of one number that reads `values`, its key always 1: the number after each token."""
    one, M, S = torch.ones(1), torch.zeros(1, 1), torch.zeros(1, 1)
    numbers = []
    for value in values:
        M, S = update(M, S, one, torch.tensor([value]), theta, eta, alpha)
        numbers.append(M.item())
    return numbers


THETAS = (0.02, 0.035, 0.05, 0.075, *(n / 20 for n in range(2, 19)))  # step sizes that are tried
ETAS = (0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 0.9)
ALPHAS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3)


def passage(length: int = 32, dim: int = 32) -> tuple[Tensor, Tensor]:
    """The passage that is read again and again: keys and values [length, dim], float64."""
    k, v = random_pairs(length, dim)
    return k.double(), v.double()


def passage_surprise(chunk_size: int, repeats: int = 4, length: int = 32, dim: int = 32) -> Tensor:
    """|u_t| of every token while a matrix memory reads the passage `repeats` times: [repeats * length]."""
    memory = DeepMemory(dim, depth=1).double()
    k, v = (x.repeat(repeats, 1)[None, None] for x in passage(length, dim))
    tokens = repeats * length
    gates = Gates(*(torch.full((1, 1, tokens), gate, dtype=torch.float64) for gate in (0.25, 0.0, 0.0)))
    state, norms = memory.initial_state(1).detach(), []
    for start in range(0, tokens, chunk_size):
        part = slice(start, start + chunk_size)
        (a,), (e,) = memory.errors(state.weights, k[:, :, part], v[:, :, part])
        norms.append((e.norm(dim=-1) * a.norm(dim=-1)).flatten())
        part_gates = Gates(*(gate[:, :, part] for gate in gates))
        _, state = chunked_scan(memory, state, k[:, :, part], k[:, :, part], v[:, :, part], part_gates, chunk_size)
    return torch.cat(norms).detach()


def errors(streams: Streams, thetas: Sequence[float], eta: float = 0.0, alpha: Gate = 0.0) -> Tensor:
    """|M q - wanted|^2 of a matrix memory at each question, for each step size: [thetas, seeds, times, questions].

    `alpha` is one number, or one for each token. A memory that diverges has errors that are very large or infinite.
    """
    seeds, tokens, dim = streams.k.shape
    theta = torch.tensor(thetas, dtype=torch.float64)[:, None, None, None]
    alphas = torch.as_tensor(alpha, dtype=torch.float64).expand(tokens)
    M = S = torch.zeros(len(thetas), seeds, dim, dim, dtype=torch.float64)
    asked = []
    for token, (k, v) in enumerate(zip(streams.k.unbind(1), streams.v.unbind(1), strict=True)):
        u = 2 * torch.einsum("tsi,sj->tsij", torch.einsum("tsij,sj->tsi", M, k) - v, k)
        S = eta * S - theta * u
        M = (1 - alphas[token]) * M + S
        if token in streams.asked_after:
            time = streams.asked_after.index(token)
            answers = torch.einsum("tsij,sqj->tsqi", M, streams.q[:, time])
            asked.append((answers - streams.wanted[:, time]).square().sum(-1))
    return torch.stack(asked, dim=2).nan_to_num(nan=torch.inf)


class Best(NamedTuple):
    """The gates with the smallest error, on average over all streams."""

    error: float
    theta: float
    eta: float
    alpha: Gate
    streams: Tensor  # [seeds], the error in each stream

    def __str__(self) -> str:
        """The error and the gates that are not 0, as lessons print them."""
        gates = {"θ": self.theta, "η": self.eta, "α": self.alpha}
        named = ", ".join(f"{name} = {gate}" for name, gate in gates.items() if not isinstance(gate, Tensor) and gate)
        return f"{self.error:.3g} ({named})"

    def wins(self, other: "Best") -> int:
        """In how many of the streams the error is smaller than that of other gates."""
        return int((self.streams < other.streams).sum())


def best(streams: Streams, etas: Sequence[float] = (0.0,), alphas: Sequence[Gate] = (0.0,)) -> Best:
    """The best gates among all of THETAS, `etas` and `alphas`.

    Questions after the first topic of several do not count: there is nothing old in the memory yet.
    """
    found = []
    for eta, alpha in product(etas, alphas):
        asked = errors(streams, THETAS, eta, alpha)
        each = asked[:, :, min(1, asked.shape[2] - 1) :].mean((2, 3))
        row = int(each.mean(1).argmin())
        found.append(Best(float(each[row].mean()), THETAS[row], eta, alpha, each[row]))
    return min(found, key=lambda gates: gates.error)


def errors_along_and_across(topics: Streams, *settings: Best) -> list[list[float]]:
    """For each setting of the gates, the mean error of the part of the questions along the key that was told, and of
    the part across it; the first topic does not count."""
    parts = along_and_across(topics)
    return [
        [float(errors(part, [gates.theta], gates.eta, gates.alpha)[:, :, 1:].mean()) for part in parts]
        for gates in settings
    ]


def surprise_measured(k: Tensor, v: Tensor, write: int, measure: int, theta: float = 0.25, repeats: int = 4) -> float:
    """The average surprise in the last of `repeats` readings of the pairs [tokens, dim].

    Gradients that are written are taken at weights that are renewed every `write` tokens; the surprise is
    measured at weights that are renewed every `measure` tokens.
    """
    M = written_at = measured_at = torch.zeros(v.shape[1], k.shape[1], dtype=torch.float64)
    norms, pairs = [], list(zip(k, v, strict=True)) * repeats
    for token, (one_k, one_v) in enumerate(pairs):
        written_at = M if token % write == 0 else written_at
        measured_at = M if token % measure == 0 else measured_at
        norms.append(surprise(measured_at, one_k, one_v).norm())
        M = M - theta * surprise(written_at, one_k, one_v)
    return float(torch.stack(norms[-len(k) :]).mean())
