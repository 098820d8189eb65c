"""What lesson 03 measures: one number that is written again and again, and the surprise of a
repeated passage."""

import torch
from torch import Tensor

from titans.chunked import chunked_scan
from titans.lesson.kit.draws import random_pairs
from titans.lesson.kit.matrix_memory import update
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


def passage_surprise(chunk_size: int, repeats: int = 4, length: int = 32, dim: int = 32) -> Tensor:
    """|u_t| of every token while a matrix memory reads a passage `repeats` times: [repeats * length]."""
    memory = DeepMemory(dim, depth=1).double()
    k, v = (x.double().repeat(repeats, 1)[None, None] for x in random_pairs(length, dim))
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
