"""Streams of pairs on which one choice or another should win, each beside the intervention that should take its
advantage away."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

DIM = 16


class Stream(NamedTuple):
    """Pairs that are told, and questions after them, float64; a row for each seed once they are stacked."""

    k: Tensor  # [tokens, DIM]
    v: Tensor  # [tokens, DIM]
    q: Tensor  # [questions, DIM], asked at the end
    wanted: Tensor  # [questions, DIM]
    start: Tensor  # [DIM, DIM], M_0 of a matrix memory


def units(generator: Generator, count: int) -> Tensor:
    """Random vectors of length 1: [count, DIM]."""
    return F.normalize(torch.randn(count, DIM, generator=generator, dtype=torch.float64), dim=-1)


def told(keys: Tensor, values: Tensor, times: int, generator: Generator) -> Stream:
    """Each pair `times` times, in a new order each time; asked for at the end. M_0 is zero."""
    order = torch.cat([torch.randperm(len(keys), generator=generator) for _ in range(times)])
    return Stream(keys[order], values[order], keys, values, keys.new_zeros(DIM, DIM))


def plain(generator: Generator, pairs: int = 8, times: int = 8) -> Stream:
    """Random pairs, told again and again: nothing special."""
    return told(units(generator, pairs), units(generator, pairs), times, generator)


def outliers(generator: Generator, share: float = 0.1, size: float = 10.0) -> Stream:
    """As plain, but now and then the value is a large random one."""
    stream = plain(generator)
    wrong = torch.rand(len(stream.k), generator=generator) < share
    return stream._replace(v=torch.where(wrong[:, None], size * units(generator, len(stream.k)), stream.v))


def noisy(generator: Generator, noise: float = 1.0) -> Stream:
    """As plain, but each value comes with noise as long as itself."""
    stream = plain(generator)
    return stream._replace(v=stream.v + noise * units(generator, len(stream.v)))


def knowledge(generator: Generator, known: bool = True, noise: int = 48) -> Stream:
    """M_0 knows 6 pairs. Then `noise` pairs come that nobody asks for, then 4 that are told four times; asked for are
    these 4 and the 6, whose keys lie in one half of the features, those of the 4 in the other."""
    halves = torch.cat((units(generator, 6), units(generator, 4))).view(10, 2, DIM // 2)
    keys = torch.cat((F.pad(halves[:6, 0], (0, DIM // 2)), F.pad(halves[6:, 1], (DIM // 2, 0))))
    keys, values = F.normalize(keys, dim=-1), units(generator, 10)
    start = (torch.linalg.pinv(keys[:6]) @ values[:6]).T
    late = told(keys[6:], values[6:], 4, generator)
    k, v = (torch.cat((units(generator, 48)[:noise], part)) for part in (late.k, late.v))
    if not known:
        return late._replace(k=k, v=v)
    return Stream(k, v, keys, values, start)


def scaled(generator: Generator, smallest: float = 0.05, rotated: bool = False) -> Stream:
    """Keys whose features have sizes from 1 down to `smallest`, along the axes or along other directions."""
    sizes = smallest ** torch.linspace(0, 1, DIM, dtype=torch.float64)
    keys, values = units(generator, 12) * sizes, units(generator, 12)
    turn = torch.linalg.qr(torch.randn(DIM, DIM, generator=generator, dtype=torch.float64)).Q
    keys = F.normalize(keys @ turn if rotated else keys, dim=-1)
    return told(keys, values, 6, generator)


def once(
    generator: Generator, shared: float = 2.0, orthogonal: bool = False, rounds: int = 1, in_a_row: int = 1
) -> Stream:
    """12 pairs told once, their keys alike: `shared` of one direction for 1 of its own. Or keys at right angles;
    or told more often, in rounds of all or each some times in a row."""
    direction, own, values = units(generator, 1), units(generator, 12), units(generator, 12)
    keys = torch.linalg.qr(own.T).Q.T if orthogonal else F.normalize(own + shared * direction, dim=-1)
    stream = told(keys, values, rounds, generator)
    return stream._replace(k=stream.k.repeat_interleave(in_a_row, 0), v=stream.v.repeat_interleave(in_a_row, 0))


def drifting(generator: Generator, new: bool = True) -> Stream:
    """v_t = A_t k_t with new keys always, while A wanders; asked for with keys that were never told, or with the last
    ones that were."""
    A, k = torch.eye(DIM, dtype=torch.float64), units(generator, 64)
    values = []
    for key in k:
        A = A + 0.1 * torch.randn(DIM, DIM, generator=generator, dtype=torch.float64) * DIM**-0.5
        A = A / A.norm() * DIM**0.5
        values.append(A @ key)
    q = units(generator, 16) if new else k[-16:]
    return Stream(k, torch.stack(values), q, q @ A.T, torch.zeros_like(A))


def many(generator: Generator, pairs: int = 32) -> Stream:
    """Twice as many pairs as a key has features."""
    return told(units(generator, pairs), units(generator, pairs), 96 // pairs, generator)


STREAMS: dict[str, Callable[[Generator], Stream]] = {
    "plain": plain,
    "outlier": outliers,
    "known": knowledge,
    "scaled": scaled,
    "once": once,
    "noisy": noisy,
    "drift": drifting,
    "many": many,
}


def draw(make: Callable[[Generator], Stream], seeds: Iterable[int]) -> Stream:
    """The streams of these seeds, stacked: [seeds, ...]."""
    streams = [make(torch.Generator().manual_seed(seed)) for seed in seeds]
    return Stream(*(torch.stack(part) for part in zip(*streams, strict=True)))
