"""What lesson 05 measures: how long chunks take, what their gradients miss, and when they explode."""

import time
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from titans.checkpoints import load_checkpoint
from titans.chunked import chunked_scan
from titans.lesson.kit.cards import card
from titans.lesson.kit.draws import random_pairs
from titans.lesson.kit.host import say
from titans.lesson.kit.watching import memory_of
from titans.memory import DeepMemory
from titans.model import IGNORED_LABEL, TitansLM
from titans.observe import edited_gates, observed
from titans.scan import Gates
from titans.tasks import Recall
from titans.training import share_right

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Seconds(NamedTuple):
    """Milliseconds for one pass over the tokens, the fastest of several."""

    forward: float
    backward: float


def milliseconds(chunk_size: int, rows: int = 1, tokens: int = 256, dim: int = 64, rounds: int = 7) -> Seconds:
    """The library's closed form on `rows` sequences of `tokens` tokens, forward and backward."""
    memory = DeepMemory(dim, depth=1)
    draw = torch.randn(3, rows, 1, tokens, dim, generator=torch.Generator().manual_seed(0))
    gates = Gates(*(torch.full((rows, 1, tokens), gate) for gate in (0.05, 0.5, 0.01)))
    times = []
    for _ in range(rounds + 1):
        q, k, v = (F.normalize(part, dim=-1).requires_grad_() for part in draw)
        begin = time.perf_counter()
        y, _ = chunked_scan(memory, memory.initial_state(rows), q, k, v, gates, chunk_size)
        middle = time.perf_counter()
        y.sum().backward()
        times.append((middle - begin, time.perf_counter() - middle))
    return Seconds(*(1e3 * min(column) for column in zip(*times[1:], strict=True)))


@cache
def all_milliseconds() -> dict[int, Seconds]:
    """Of every size, once."""
    return {size: milliseconds(size) for size in SIZES}


# A passage read again and again, without momentum and forgetting.


class Passage(NamedTuple):
    """Mean |u| of every reading, measured in two ways, and the error of the memory that each reading leaves."""

    stale: Tensor  # at the weights where the memory takes its gradients: [readings]
    blocks: Tensor  # at the weights of the last block of 16 tokens, wherever gradients are taken
    left: Tensor  # |2 (M k - v)| over the whole passage, asked after the reading


def read_passage(
    chunk_size: int, theta: float = 0.25, readings: int = 4, length: int = 32, dim: int = 32, seed: int = 0
) -> Passage:
    """A matrix memory reads `length` random pairs `readings` times, each gradient at its chunk's first weights."""
    k, v = (part.double() for part in random_pairs(length, dim, seed))
    M = torch.zeros(dim, dim, dtype=torch.float64)
    at = block = M
    stale, blocks, left = [], [], []
    for reading in range(readings):
        for t in range(length):
            token = reading * length + t
            at = M if token % chunk_size == 0 else at
            block = M if token % 16 == 0 else block
            error = 2 * (at @ k[t] - v[t])
            stale.append(error.norm())
            blocks.append((2 * (block @ k[t] - v[t])).norm())
            M = M - theta * torch.outer(error, k[t])
        left.append((2 * (k @ M.mT - v)).norm(dim=1).mean())
    at_stale, at_blocks = (torch.stack(part).view(readings, length).mean(1) for part in (stale, blocks))
    return Passage(at_stale, at_blocks, torch.stack(left))


@cache
def passage_left(chunk_size: int, theta: float = 0.25, draws: int = 5) -> float:
    """The error that three readings of a passage leave, the mean over draws, which are read side by side."""
    pairs = zip(*(random_pairs(32, 32, seed) for seed in range(draws)), strict=True)
    k, v = (torch.stack(part).double() for part in pairs)
    M = torch.zeros(draws, 32, 32, dtype=torch.float64)
    for keys, values in zip(*(part.repeat(1, 3, 1).split(chunk_size, 1) for part in (k, v)), strict=True):
        M = M - theta * (2 * (keys @ M.mT - values)).mT @ keys
    return float((2 * (k @ M.mT - v)).norm(dim=-1).mean())


# Stability.


def grown(k: Tensor, theta: float, readings: int = 100, bound: float | None = None) -> float:
    """The size of the error of a memory that reads the same chunk of keys again and again, as one chunk each
    time, with a start at random and all values zero; in parts of what it was. bound: the largest surprise of a
    token (D12)."""
    M = torch.randn(k.shape[1], k.shape[1], generator=torch.Generator().manual_seed(0), dtype=k.dtype)
    start = (k @ M.mT).norm()
    for _ in range(readings):
        e = 2 * (k @ M.mT)
        if bound is not None:
            e = e * (bound / (e.norm(dim=1) * k.norm(dim=1))).clamp(max=1)[:, None]
        M = M - theta * e.mT @ k
    return float((k @ M.mT).norm() / start)


def random_keys(count: int, dim: int, seed: int = 0) -> Tensor:
    """Keys of length 1 in random directions: [count, dim]."""
    return random_pairs(count, dim, seed)[0].double()


def chunks_card() -> dict:
    """The card of the recipe `chunks`: what became of models with chunks of 1, 16 and 64 tokens."""
    return card("chunks")


def chunks_table(card: dict, longer: bool = False) -> str:
    """The card's results as text, of the models that were trained longer or of the others: percent right, the median
    seed and (the worst)."""
    runs = {name.partition(",")[0]: run for name, run in card["runs"].items() if ("longer" in name) == longer}
    between = next(iter(runs.values()))["right"]
    lines = [say(" " * 10, " " * 14) + "".join(f"{int(tokens):>14,}" for tokens in between)]
    for name, run in runs.items():
        cells = (f"{100 * share['median']:.1f} ({100 * share['worst']:.1f})" for share in run["right"].values())
        name = say(name, name.replace("chunk", "チャンク"))  # four letters as wide as two each
        lines.append(f"{name:10}" + "".join(f"{cell:>14}" for cell in cells))
    return "\n".join(lines)


RECALL = Recall()
DISTANCES = (56, 116, 180, 244, 1024)


def read_in_chunks(read: int, trained: int = 64) -> TitansLM:
    """A shipped model that was trained with chunks of one size, and reads in chunks of another."""
    model, _, _ = load_checkpoint(f"chunks/chunk-{trained}")
    memory_of(model).chunk_size = read
    return model


def crossed_chunks(rows: int = 32) -> dict[tuple[int, int], list[float]]:
    """The shares of right answers after DISTANCES, (chunk in training, chunk at test time) -> shares."""
    return {
        (trained, read): [share_right(read_in_chunks(read, trained), RECALL, n, rows) for n in DISTANCES]
        for trained, read in ((64, 64), (64, 16), (64, 1), (16, 64))
    }


# What noise writes.


def as_trained(gates: Gates) -> Gates:
    """Gates that nothing changes."""
    return gates


@torch.no_grad()
def after_noise(
    edit: Callable[[Gates], Gates] = as_trained, read: int = 64, noise: int = 1024, rows: int = 16
) -> float:
    """The share of right answers of the model of 64 after noise, whose gates `edit` changes after its first 40
    tokens; it reads in chunks of `read`."""
    model = read_in_chunks(read)
    (told, passing), asked = RECALL.stream(rows, noise, torch.Generator().manual_seed(1), noise)
    state = model(torch.cat((told, passing[:, :40]), dim=1)).state
    with edited_gates(model, edit):
        state = model(passing[:, 40:], state).state
    said, wanted = model(asked.tokens, state).logits[:, :-1].argmax(-1), asked.labels[:, 1:]
    return float((said == wanted)[wanted != IGNORED_LABEL].double().mean())


@torch.no_grad()
def written_in_all(trained: int, noise: int = 1024) -> float:
    """What a token of noise writes of its surprise in all, where nothing is forgotten: the mean of
    theta / (1 - eta)."""
    model, random = read_in_chunks(trained, trained), torch.Generator().manual_seed(1)
    with observed(memory_of(model)) as calls:
        state = model(RECALL.tell(16, random).tokens).state
        calls.clear()
        model(RECALL.pass_time(16, noise, random), state)
    return float(torch.cat([c.tokens.gates.theta / (1 - c.tokens.gates.eta) for c in calls], dim=2).mean())
