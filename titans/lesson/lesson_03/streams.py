"""The stream of key-value pairs of lesson 03: a rule to learn, and what may happen to it."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class EventfulStream(NamedTuple):
    """Pairs in order, and the places where something happens."""

    k: Tensor  # [tokens, dim], unit keys
    v: Tensor  # [tokens, dim]
    early: Tensor  # number of the key that only the first tokens tell
    events: dict[str, tuple[int, int]]  # name -> first token and the one after the last


EARLY, BURST, SHIFT, LIE = (0, 3), (16, 20), (32, 48), (54, 55)


def eventful_stream(tokens: int = 64, dim: int = 8, seed: int = 0) -> EventfulStream:
    """An early pair told three times; a rule on five keys; a burst of loud tokens; the rule shifts;
    one lie.

    Keys are orthonormal, so that what happens to one is not mixed with what happens to another.
    """
    generator = torch.Generator().manual_seed(seed)
    keys, _ = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))
    old, new = (F.normalize(torch.randn(dim, dim, generator=generator, dtype=torch.float64), dim=1) for _ in range(2))
    order = torch.cat([torch.randperm(5, generator=generator) + 1 for _ in range(tokens // 5 + 1)])[:tokens]
    order[slice(*EARLY)] = 0
    order[slice(*BURST)] = 6
    values = torch.where(torch.arange(tokens)[:, None] < SHIFT[0], old[order], new[order])
    values[slice(*BURST)] = 2 * old[6]
    values[slice(*LIE)] = -values[slice(*LIE)]
    events = {"early pair": EARLY, "burst": BURST, "shift": SHIFT, "lie": LIE}
    return EventfulStream(keys[order], values, torch.tensor(0), events)


def early_answer(stream: EventfulStream, memories: Tensor) -> Tensor:
    """How much of the early pair's value the memory answers to its key: 1 is all of it, 0 nothing.
    [tokens]"""
    k, v = stream.k[stream.early], stream.v[stream.early]
    return (memories @ k) @ v / v.square().sum()
