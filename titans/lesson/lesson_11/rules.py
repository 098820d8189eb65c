"""The inner rule with one choice swapped: another loss, another retention, another optimiser, a window of tokens; and a
memory of polynomial keys. Beside some stands the control that tells the reason for what it does from another.

Each rule goes into `recurrent_scan(..., rule=rule)`, works on any memory, and is the paper's `Momentum` but for the one
choice in its name. What a rule carries starts at zero.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.func import grad

from titans.memory import Memory
from titans.recurrence import surprise
from titans.scan import Gates, Tokens
from titans.state import MemoryState, Weights

Carried = tuple[Tensor, ...]
QUINTIC = (3.4445, -4.7750, 2.0315)  # of a step of Muon's iteration, which takes singular values near 1


def descend(weights: Weights, momentum: Weights, gradients: Weights, gates: Gates) -> tuple[Weights, Weights]:
    """M_t and S_t of equations 13 and 14, from any gradients."""
    theta, eta, alpha = gates.by_layer()
    momentum = tuple(e * s - th * u for e, s, th, u in zip(eta, momentum, theta, gradients, strict=True))
    return tuple((1 - a) * w + s for a, w, s in zip(alpha, weights, momentum, strict=True)), momentum


# ---- Another loss ----------------------------------------------------------------------------------------------------


def absolute(error: Tensor) -> Tensor:
    """The sum of |e_i|: however wrong a feature is, its gradient is 1."""
    return error.abs().sum()


def huber(error: Tensor, delta: float = 0.5) -> Tensor:
    """|e|^2 up to |e| = delta, and its tangent beyond it, 2 delta |e| - delta^2: the gradient is never longer than
    2 delta. error: [..., dim]."""
    square = error.square().sum(-1)
    beyond = square > delta**2
    length = torch.where(beyond, square, 1.0).sqrt()  # no root of 0, whose slope is infinite
    return torch.where(beyond, 2 * delta * length - delta**2, square).sum()


@dataclass(frozen=True)
class AnotherLoss:
    """The surprise is the gradient of `loss(M(k_t) - v_t)` instead of the square's."""

    loss: Callable[[Tensor], Tensor]

    @property
    def signature(self) -> str:
        return f"loss {self.loss.__name__}"

    def shapes(self, memory: Memory) -> Sequence[Sequence[int]]:
        """S_t is of the shapes of M_t."""
        return list(memory.shapes)

    def step(
        self, memory: Memory, weights: Weights, carried: Carried, at: Weights, token: Tokens
    ) -> tuple[Weights, Carried]:
        """M_t and S_t."""
        gradients = grad(lambda at: self.loss(memory.read(at, token.k) - token.v))(tuple(at))
        return descend(weights, carried, gradients, token.gates)


# ---- Another retention -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TowardsStart:
    """Forgetting leads to M_0 instead of to zero: M_t = (1 - alpha_t) M_{t-1} + alpha_t M_0 + S_t.

    It carries S_t and M_t - M_0, which both start at zero.
    """

    signature: ClassVar[str] = "towards M_0"

    def shapes(self, memory: Memory) -> Sequence[Sequence[int]]:
        """S_t and M_t - M_0 are of the shapes of M_t."""
        return [*memory.shapes, *memory.shapes]

    def step(
        self, memory: Memory, weights: Weights, carried: Carried, at: Weights, token: Tokens
    ) -> tuple[Weights, Carried]:
        """M_t; S_t and M_t - M_0."""
        momentum, moved = carried[: len(weights)], carried[len(weights) :]
        start = [w - m for w, m in zip(weights, moved, strict=True)]
        gradients = surprise(memory, at, token.k, token.v)
        moved, momentum = descend(moved, momentum, gradients, token.gates)
        return tuple(w + m for w, m in zip(start, moved, strict=True)), (*momentum, *moved)


# ---- Another optimiser -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Adam:
    """Each weight's step is divided by the size that its gradients usually have:

        m_t = eta_t m_{t-1} + (1 - eta_t) u_t,   s_t = beta s_{t-1} + (1 - beta) u_t^2,
        M_t = (1 - alpha_t) M_{t-1} - theta_t (m_t / m'_t) / sqrt(s_t / s'_t)

    where m' and s' are what the same averages make of ones: they undo the start at zero.
    """

    beta: float = 0.99
    tiny: float = 1e-8

    @property
    def signature(self) -> str:
        return f"Adam {self.beta} {self.tiny}"

    def shapes(self, memory: Memory) -> Sequence[Sequence[int]]:
        """m, s, m' and s', a layer each: one number for m' and s'."""
        ones = [(shape[0], 1, 1) for shape in memory.shapes]
        return [*memory.shapes, *memory.shapes, *ones, *ones]

    def step(
        self, memory: Memory, weights: Weights, carried: Carried, at: Weights, token: Tokens
    ) -> tuple[Weights, Carried]:
        """M_t; m, s, m' and s'."""
        new = []
        gradients, gates = surprise(memory, at, token.k, token.v), zip(*token.gates.by_layer(), strict=True)
        parts = (carried[part :: len(weights)] for part in range(len(weights)))
        for w, (m, s, m1, s1), u, (theta, eta, alpha) in zip(weights, parts, gradients, gates, strict=True):
            m, m1 = eta * m + (1 - eta) * u, eta * m1 + (1 - eta)
            s, s1 = self.beta * s + (1 - self.beta) * u.square(), self.beta * s1 + (1 - self.beta)
            step = m / (m1 + self.tiny) / ((s / s1).sqrt() + self.tiny)
            new.append(((1 - alpha) * w - theta * step, m, s, m1, s1))
        weights, *averages = zip(*new, strict=True)
        return weights, tuple(tensor for average in averages for tensor in average)


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """Newton and Schulz's iteration: the same singular vectors, and singular values near 1 (0.7 to 1.2 unless they were
    below about a hundredth of the largest). matrix: [..., out, in]."""
    a, b, c = QUINTIC
    x = normalised(matrix)
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return x


def normalised(matrix: Tensor) -> Tensor:
    """The matrix with norm 1: what `orthogonal` is without being orthogonal."""
    return matrix / (torch.linalg.matrix_norm(matrix)[..., None, None] + 1e-12)


@dataclass(frozen=True)
class Muon:
    """Momentum is made orthogonal before it is added: S_t = eta_t S_{t-1} + u_t and
    M_t = (1 - alpha_t) M_{t-1} - theta_t NS(S_t).

    tokens: how many losses are summed in u_t (see `Window`); with more than one this is ATLAS' rule.
    direction: what stands for NS.
    """

    tokens: int = 1
    direction: Callable[[Tensor], Tensor] = orthogonal

    @property
    def signature(self) -> str:
        return f"Muon over {self.tokens}, {self.direction.__name__}"

    def shapes(self, memory: Memory) -> Sequence[Sequence[int]]:
        """S_t, and the keys and values of the tokens before."""
        return [*memory.shapes, *past_pairs(memory, self.tokens)]

    def step(
        self, memory: Memory, weights: Weights, carried: Carried, at: Weights, token: Tokens
    ) -> tuple[Weights, Carried]:
        """M_t; S_t and the window."""
        momentum, (k, v) = carried[: len(weights)], with_past(carried[len(weights) :], token)
        theta, eta, alpha = token.gates.by_layer()
        gradients = surprise(memory, at, k, v)
        momentum = tuple(e * s + u for e, s, u in zip(eta, momentum, gradients, strict=True))
        steps = zip(alpha, weights, theta, map(self.direction, momentum), strict=True)
        return tuple((1 - a) * w - th * step for a, w, th, step in steps), (*momentum, k[:, :, 1:], v[:, :, 1:])


# ---- A window of tokens ----------------------------------------------------------------------------------------------


def past_pairs(memory: Memory, tokens: int) -> list[tuple[int, int, int]]:
    """The shapes of the keys and values before this token in a window of so many."""
    return [(memory.heads, tokens - 1, memory.dim)] * 2


def with_past(past: Carried, token: Tokens) -> tuple[Tensor, Tensor]:
    """The keys and values of the window, oldest first: [batch, heads, tokens, dim] each."""
    k, v = (torch.cat(both, dim=2) for both in zip(past, (token.k, token.v), strict=True))
    return k, v


@dataclass(frozen=True)
class Window:
    """ATLAS' Omega rule: the surprise is the gradient of the losses of the last `tokens` pairs, summed, all at M now.

    It carries S_t and the keys and values of the tokens before. Before there are any these are zeros, which have no
    gradient in a memory that answers zero with zero.
    """

    tokens: int = 8

    @property
    def signature(self) -> str:
        return f"window of {self.tokens}"

    def shapes(self, memory: Memory) -> Sequence[Sequence[int]]:
        """S_t, and the keys and values of the tokens before."""
        return [*memory.shapes, *past_pairs(memory, self.tokens)]

    def step(
        self, memory: Memory, weights: Weights, carried: Carried, at: Weights, token: Tokens
    ) -> tuple[Weights, Carried]:
        """M_t; S_t and the window."""
        momentum, (k, v) = carried[: len(weights)], with_past(carried[len(weights) :], token)
        new, momentum = descend(weights, momentum, surprise(memory, at, k, v), token.gates)
        return new, (*momentum, k[:, :, 1:], v[:, :, 1:])


@dataclass(frozen=True)
class StaleWindow:
    """The control of `Window`: the same sum over the last `tokens` pairs, but of the gradients as they were when each
    pair was told. It carries S_t and these gradients, [heads, tokens - 1, out * in] a layer."""

    tokens: int = 8

    @property
    def signature(self) -> str:
        return f"stale window of {self.tokens}"

    def shapes(self, memory: Memory) -> Sequence[Sequence[int]]:
        """S_t, and the gradients of the tokens before."""
        return [*memory.shapes, *[(heads, self.tokens - 1, out * into) for heads, out, into in memory.shapes]]

    def step(
        self, memory: Memory, weights: Weights, carried: Carried, at: Weights, token: Tokens
    ) -> tuple[Weights, Carried]:
        """M_t; S_t and the gradients."""
        momentum, past = carried[: len(weights)], carried[len(weights) :]
        now = [gradient.flatten(2)[:, :, None] for gradient in surprise(memory, at, token.k, token.v)]
        told = [torch.cat(both, dim=2) for both in zip(past, now, strict=True)]
        gradients = tuple(u.sum(2).view_as(w) for u, w in zip(told, weights, strict=True))
        new, momentum = descend(weights, momentum, gradients, token.gates)
        return new, (*momentum, *[u[:, :, 1:] for u in told])


# ---- Another memory --------------------------------------------------------------------------------------------------


def products(x: Tensor) -> Tensor:
    """[x, x x^T] / sqrt(2), each product of two features once: as long as x where that has length 1.
    [..., dim] -> [..., dim + dim (dim + 1) / 2]."""
    one, other = torch.triu_indices(x.shape[-1], x.shape[-1])
    twice = torch.where(one == other, 1.0, 2**0.5).to(x)  # x_i x_j stands for x_j x_i too
    return torch.cat((x, twice * x[..., one] * x[..., other]), dim=-1) / 2**0.5


def mixtures(x: Tensor) -> Tensor:
    """The control of `products`: as many features, but each a fixed random sum of x's."""
    dim, count = x.shape[-1], x.shape[-1] * (x.shape[-1] + 1) // 2
    mix = torch.randn(dim, count, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * count**-0.5
    return torch.cat((x, x @ mix.to(x)), dim=-1) / 2**0.5


class FeatureMemory:
    """A matrix on features of the key: M(x) = W phi(x). It starts at zero.

    phi: [..., dim] -> [..., features], as `products` (ATLAS' polynomial keys).
    """

    def __init__(self, dim: int, phi: Callable[[Tensor], Tensor] = products) -> None:
        self.dim, self.heads, self.phi, self.signature = dim, 1, phi, f"{phi.__name__} {dim=}"
        self.shapes = [torch.Size((1, dim, phi(torch.zeros(dim)).numel()))]

    def initial_state(self, batch: int) -> MemoryState:
        """Zeros, in float64."""
        weights = (torch.zeros(batch, *self.shapes[0], dtype=torch.float64),)
        return MemoryState(weights, weights, signature=self.signature)

    def read(self, weights: Sequence[Tensor], x: Tensor) -> Tensor:
        """W phi(x): [batch, 1, tokens, dim]."""
        return self.phi(x) @ weights[0].mT
