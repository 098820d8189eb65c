"""A memory of one matrix, its update written out (equations 13 and 14): small enough to follow
every number of it."""

from typing import NamedTuple

import torch
from torch import Tensor


def surprise(M: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """u_t, the gradient of |M k - v|^2 with respect to M."""
    return torch.outer(2 * (M @ k - v), k)


def surprise_by_autograd(M: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The same from autograd, an independent truth for checks."""
    M = M.clone().requires_grad_()
    return torch.autograd.grad((M @ k - v).square().sum(), M)[0]


def update(M: Tensor, S: Tensor, k: Tensor, v: Tensor, theta: float, eta: float, alpha: float) -> tuple[Tensor, Tensor]:
    """Equations 13 and 14 for one token; what an exercise of lesson 03 asks for."""
    S = eta * S - theta * surprise(M, k, v)
    return (1 - alpha) * M + S, S


class Trace(NamedTuple):
    """Everything that happened while a matrix memory read a stream, token by token."""

    memory: Tensor  # M_t after each token: [tokens, out, in]
    momentum: Tensor  # S_t: [tokens, out, in]
    write: Tensor  # -theta_t u_t, the token's own share of S_t: [tokens, out, in]
    surprise: Tensor  # |u_t|, the norm of the gradient: [tokens]


Gate = Tensor | float  # one for each token, [tokens], or one number for all


def trace(k: Tensor, v: Tensor, theta: Gate, eta: Gate, alpha: Gate) -> Trace:
    """A memory that starts at zero reads keys and values [tokens, dim], every state kept."""
    M = S = torch.zeros(v.shape[1], k.shape[1], dtype=torch.float64)
    gates = [torch.as_tensor(gate, dtype=torch.float64).expand(len(k)).tolist() for gate in (theta, eta, alpha)]
    steps = []
    for one_k, one_v, *gate in zip(k, v, *gates, strict=True):
        u = surprise(M, one_k, one_v)
        M, S = update(M, S, one_k, one_v, *gate)
        steps.append((M, S, -gate[0] * u, u.norm()))
    return Trace(*(torch.stack(column) for column in zip(*steps, strict=True)))
