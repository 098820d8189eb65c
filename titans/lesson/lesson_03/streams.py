"""The streams of key-value pairs of lesson 03: a rule to learn and what may happen to it; keys that
are much alike; topics that replace one another."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from titans.lesson.kit.draws import random_draw


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


class Streams(NamedTuple):
    """Several streams of pairs side by side, one for each seed, and what is asked about them."""

    k: Tensor  # [seeds, tokens, dim], unit keys
    v: Tensor  # [seeds, tokens, dim], unit values
    asked_after: list[int]  # the tokens after which questions come
    q: Tensor  # [seeds, times, questions, dim], the keys that are asked
    wanted: Tensor  # [seeds, times, questions, dim], the values that they should be answered with


SEEDS = 20  # streams in each trial


def keys_alike(
    cosine: float,
    pairs: int = 4,
    tellings: int = 10,
    noise: float = 0.0,
    dim: int = 8,
    seed: int = 3,
    pair_by_pair: bool = False,
) -> Streams:
    """Pairs told in turn, `tellings` rounds, each in another order; asked at the end, by their keys.

    pair_by_pair: whether each pair is instead told all its times before the next.

    Any two keys have the same cosine: each is a direction that all share plus one of its own. `noise` is the
    length of what is added to each telling of a value, on average.
    """
    draw = random_draw(seed)
    basis, _ = torch.linalg.qr(draw(SEEDS, dim, dim))
    keys = math.sqrt(cosine) * basis[:, :1] + math.sqrt(1 - cosine) * basis[:, 1 : pairs + 1]
    values = F.normalize(draw(SEEDS, pairs, dim), dim=-1)
    order = draw(SEEDS, tellings, pairs).argsort(-1).flatten(1)
    order = order.sort(1).values if pair_by_pair else order
    seeds = torch.arange(SEEDS)[:, None]
    k, v = keys[seeds, order], values[seeds, order]
    v = v + noise / math.sqrt(dim) * draw(*v.shape)
    return Streams(k, v, [pairs * tellings - 1], keys[:, None], values[:, None])


def topics(near: float, count: int = 12, pairs: int = 4, dim: int = 16, seed: int = 4) -> Streams:
    """Topic after topic, each with pairs of its own that are told once; after each, its pairs are asked.

    The keys of all topics are random directions, many more than `dim`. A question is a key whose cosine with
    the one that was told is `near`.
    """
    draw = random_draw(seed)
    k, v, other = F.normalize(draw(3, SEEDS, count, pairs, dim), dim=-1)
    across = F.normalize(other - (other * k).sum(-1, keepdim=True) * k, dim=-1)
    q = near * k + math.sqrt(1 - near**2) * across
    ends = list(range(pairs - 1, count * pairs, pairs))
    return Streams(k.flatten(1, 2), v.flatten(1, 2), ends, q, v)


def along_and_across(topics: Streams) -> tuple[Streams, Streams]:
    """The same topics, asked for the two parts of each question: along the key that was told, which should bring the
    value, and across it, which should bring nothing. A linear memory's answer is the sum of the two."""
    k = topics.k.unflatten(1, topics.q.shape[1:3])
    along = (k * topics.q).sum(-1, keepdim=True) * k
    return topics._replace(q=along), topics._replace(q=topics.q - along, wanted=torch.zeros_like(topics.wanted))


def apart(streams: Streams) -> tuple[Streams, Streams]:
    """The same streams, asked for what their pairs share (the mean key), and for what each has of its own.

    A linear memory's squared error over the pairs is the sum of the two.
    """
    q, wanted = streams.q, streams.wanted
    shared_q, shared = q.mean(2, keepdim=True), wanted.mean(2, keepdim=True)
    return streams._replace(q=shared_q, wanted=shared), streams._replace(q=q - shared_q, wanted=wanted - shared)
