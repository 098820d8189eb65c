"""What lesson 01 measures and predicts: three memories that are told random pairs and asked for each.

Keys and values have length 1 and random directions. The error of an answer is |answer - v|^2: 0 for a
perfect memory, 1 for one that answers nothing.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

BETA = 8.0  # how sharply attention looks


def draw_pairs(pairs: int, dim: int, rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Keys and values [rows, pairs, dim], float64."""
    random = torch.Generator().manual_seed(seed)
    k, v = F.normalize(torch.randn(2, rows, pairs, dim, generator=random, dtype=torch.float64), dim=-1)
    return k, v


def look_up(k: Tensor, v: Tensor, beta: float = BETA) -> Tensor:
    """What attention over all pairs answers to every key: [rows, pairs, dim]."""
    return torch.softmax(beta * (k @ k.mT), dim=-1) @ v


def add_up(k: Tensor, v: Tensor) -> Tensor:
    """What the matrix sum of v k^T answers to every key."""
    return (k @ k.mT) @ v


def correct(k: Tensor, v: Tensor) -> Tensor:
    """What a matrix answers to every key after the delta rule has read all pairs once, one after another."""
    M = torch.zeros(len(k), k.shape[2], k.shape[2], dtype=k.dtype)
    for t in range(k.shape[1]):
        key, value = k[:, t, :, None], v[:, t, :, None]
        M = M + (value - M @ key) @ key.mT
    return k @ M.mT


MEMORIES = {"look-up": look_up, "adding": add_up, "delta rule": correct}


class Errors(NamedTuple):
    """Mean |answer - v|^2 for one number of pairs, over all of them and for the first that was told."""

    mean: float
    first: float
    kept: float  # how much of the first value its answer still has: answer . v


@lru_cache(maxsize=512)
def measured(memory: str, pairs: int, dim: int, rows: int = 40) -> Errors:
    """One of MEMORIES on random pairs, the mean over `rows` draws."""
    k, v = draw_pairs(pairs, dim, rows, seed=pairs)
    answers = MEMORIES[memory](k, v)
    errors = (answers - v).square().sum(-1)
    return Errors(float(errors.mean()), float(errors[:, 0].mean()), float((answers[:, 0] * v[:, 0]).sum(-1).mean()))


@lru_cache(maxsize=4096)
def predicted(memory: str, pairs: int, dim: int) -> float:
    """What the lesson predicts for the mean error; no random numbers in it."""
    if memory == "adding":
        return (pairs - 1) / dim
    if memory == "look-up":
        return predicted_look_up(pairs, dim, BETA)
    return sum(predicted_delta(pairs, dim)) / pairs


def predicted_look_up(pairs: int, dim: int, beta: float) -> float:
    """The other pairs draw a share of the attention, and their values are what is wrong in the answer."""
    own, others, squares = math.exp(beta), (pairs - 1) * _mean_exp(beta, dim), (pairs - 1) * _mean_exp(2 * beta, dim)
    return (others**2 + squares) / (own + others) ** 2


@lru_cache(maxsize=64)
def _mean_exp(beta: float, dim: int) -> float:
    """The mean of exp(beta x), x being the product of two random directions: its density is
    (1 - x^2)^((dim - 3) / 2)."""
    x = torch.linspace(-1, 1, 4001, dtype=torch.float64)[1:-1]
    density = (1 - x.square()) ** ((dim - 3) / 2)
    return float((density * torch.exp(beta * x)).sum() / density.sum())


@lru_cache(maxsize=512)
def predicted_delta(pairs: int, dim: int) -> tuple[float, ...]:
    """The mean error of each pair, the first told first. Just after its own write it is 0; every later write with a
    random key moves the answer to it, and `kept`, what the answer still has of the value, falls by a share 1 / dim."""
    size = [dim * (1 - (1 - 1 / dim) ** t) for t in range(pairs)]  # the mean of |M|^2 after t writes
    errors = []
    for told in range(pairs):
        error, kept = 0.0, 1.0
        for later in range(told + 1, pairs):
            answer = error + 2 * kept - 1  # the mean of |M k|^2
            error += 1 / dim + (size[later] + 2 * answer) / (dim * (dim + 2)) - 2 * (error + kept - 1) / dim
            kept -= kept / dim
        errors.append(error)
    return tuple(errors)
