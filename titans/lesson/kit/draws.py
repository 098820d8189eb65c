"""What is drawn at random, the same for the same seed: numbers, pairs of keys and values, a layer's
weights."""

from collections.abc import Callable
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def random_draw(seed: int) -> Callable[..., Tensor]:
    """A function that draws tensors of any shape, in float64."""
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(shape, generator=generator, dtype=torch.float64)


def random_pairs(pairs: int, dim: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Keys and values of length 1 in random directions: [pairs, dim] each."""
    draw = torch.randn(2, pairs, dim, generator=torch.Generator().manual_seed(seed))
    k, v = F.normalize(draw, dim=-1)
    return k, v


def keys_of_all_lengths(seed: int) -> list[tuple[Tensor]]:
    """Keys of several sizes and lengths, none of length 1, each the one argument of an exercise's case."""
    draw, pick = random_draw(seed), Random(seed)
    directions = [draw(d) for d in pick.sample(range(2, 6), 3)]
    return [
        (k / k.norm() * length * pick.uniform(1, 1.2),) for k, length in zip(directions, (0.4, 1.5, 3.0), strict=True)
    ]


@torch.no_grad()
def randomise(layer: nn.Module, seed: int) -> None:
    """Draw every weight anew: what is causal has to be so for any of them, and M_0 must not be zero."""
    draw = random_draw(seed)
    for weight in layer.parameters():
        weight.copy_(draw(*weight.shape) * 0.5)
