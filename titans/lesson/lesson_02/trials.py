"""What lesson 02 measures: writes of one pair after another, and all pairs written again and again."""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from titans.lesson.kit.draws import random_pairs
from titans.memory import DeepMemory

DIM, WRITES, MOMENTUM = 8, 200, 0.9


def exact_step(inputs: list[Tensor]) -> float:
    """The theta that would store the pair in one write, if the last layer alone were written: 1 /
    (2 |a_L|^2)."""
    return 1 / (2 * float(inputs[-1].square().sum()))


@torch.no_grad()
def write(
    memory: DeepMemory, weights: list[Tensor], k: Tensor, v: Tensor, share: float = 1.0
) -> tuple[list[Tensor], list[Tensor]]:
    """One gradient step on one pair, [dim] each, a share of the exact one; also the gradients that
    it took."""
    inputs, errors = memory.errors(weights, k[None, None], v[None, None])
    gradients = [e.mT @ a for a, e in zip(inputs, errors, strict=True)]
    theta = share * exact_step(inputs)
    return [weight - theta * gradient for weight, gradient in zip(weights, gradients, strict=True)], gradients


def forgetting_of_first_pair(depth: int, others: int = 30, dim: int = DIM, seeds: int = 20) -> Tensor:
    """|M(k_A) - v_A|^2 after A was written once and then each of `others` pairs once: [others + 1],
    mean over seeds."""
    curves = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        memory = DeepMemory(dim, depth=depth)
        weights = [weight.detach() for weight in memory.weights]
        k, v = random_pairs(others + 1, dim, seed)
        errors = []
        for one_k, one_v in zip(k, v, strict=True):
            weights, _ = write(memory, weights, one_k, one_v)
            _, outputs = memory.layers(weights, k[:1, None])
            errors.append((outputs[-1].flatten() - v[0]).square().sum())
        curves.append(torch.stack(errors))
    return torch.stack(curves).mean(0)


class WriteHistory(NamedTuple):
    """What became of a memory while it wrote the same pairs again and again."""

    weights: list[list[Tensor]]  # before each write and after the last, a matrix a layer
    errors: Tensor  # |M(k) - v|^2 of every pair: [writes + 1, pairs]


@lru_cache(maxsize=8)
@torch.no_grad()
def write_repeatedly(depth: int, expansion: int, pairs: int, writes: int = WRITES, seed: int = 0) -> WriteHistory:
    """Write all pairs at once, `writes` times, with momentum 0.9; the step fits the largest
    direction of the inputs.

    The step is theta = (1 - 0.9) / (2 lambda), where lambda is the largest eigenvalue of A^T A for
    the inputs A of the last layer: carried on by the momentum, half of the largest stable step of
    plain gradient descent on that layer.
    """
    torch.manual_seed(seed)
    memory = DeepMemory(DIM, depth=depth, expansion=expansion)
    k, v = random_pairs(pairs, DIM, seed)
    weights = [weight.detach().clone() for weight in memory.weights]
    momentum = [torch.zeros_like(weight) for weight in weights]
    theta, history = None, []
    for _ in range(writes + 1):
        inputs, errors = memory.errors(weights, k[None], v[None])
        history.append(([weight[0].clone() for weight in weights], errors[-1][0].square().sum(-1) / 4))
        theta = theta or (1 - MOMENTUM) / (2 * float(torch.linalg.matrix_norm(inputs[-1][0], 2)) ** 2)
        for layer, (a, e) in enumerate(zip(inputs, errors, strict=True)):
            momentum[layer] = MOMENTUM * momentum[layer] - theta * e.mT @ a
            weights[layer] = weights[layer] + momentum[layer]
    return WriteHistory([weights for weights, _ in history], torch.stack([error for _, error in history]))
