"""What lesson 02 measures: writes of one pair after another, and all pairs written again and again, and what
shrinking does to two layers."""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from titans.lesson.kit.draws import random_pairs
from titans.lesson.kit.interventions import edited_memory
from titans.lesson.kit.watching import memory_of
from titans.memory import DeepMemory
from titans.model import ModelState, TitansLM
from titans.neural_memory import LayerState
from titans.tasks import Recall

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


def forgetting_of_first_pair(
    depth: int,
    others: int = 30,
    dim: int = DIM,
    seeds: int = 20,
    perpendicular: bool = False,
    others_say: float = 1.0,
) -> Tensor:
    """|M(k_A) - v_A|^2 after A was written once and then each of `others` pairs once: [others + 1],
    mean over seeds.

    perpendicular: keys that have nothing in common, at most dim - 1 others. others_say: a factor on the others' values.
    """
    curves = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        memory = DeepMemory(dim, depth=depth)
        weights = [weight.detach() for weight in memory.weights]
        k, v = random_pairs(others + 1, dim, seed)
        k = torch.linalg.qr(k.T)[0].T if perpendicular else k
        v = torch.cat((v[:1], others_say * v[1:]))
        errors = []
        for one_k, one_v in zip(k, v, strict=True):
            weights, _ = write(memory, weights, one_k, one_v)
            _, outputs = memory.layers(weights, k[:1, None])
            errors.append((outputs[-1].flatten() - v[0]).square().sum())
        curves.append(torch.stack(errors))
    return torch.stack(curves).mean(0)


@torch.no_grad()
def errors_of_two_pairs(W1: Tensor, writes: int = 500) -> list[float]:
    """|M(k) - v|^2 of two pairs with perpendicular keys, both written `writes` times in small steps into
    W_1 [hidden, dim] and W_2 = 0."""
    memory = DeepMemory(W1.shape[1])
    weights = [W1[None], torch.zeros(1, *W1.T.shape)]
    k, v = random_pairs(2, W1.shape[1])
    k = torch.linalg.qr(k.T)[0].T
    for _ in range(writes):
        inputs, errors = memory.errors(weights, k[None], v[None])
        weights = [w - 0.01 * e.mT @ a for w, e, a in zip(weights, errors, inputs, strict=True)]
    _, errors = memory.errors(weights, k[None], v[None])
    return (errors[-1][0].square().sum(-1) / 4).tolist()


@torch.no_grad()
def sizes(weights: Sequence[Tensor], pairs: int = 200) -> Tensor:
    """How large a memory's answers are, and the gradients of its layers: means over random pairs, [1 + depth]."""
    k, v = random_pairs(pairs, weights[0].shape[-1])
    memory = DeepMemory(k.shape[1], depth=len(weights))
    inputs, errors = memory.errors(weights, k[None], v[None])
    answers = memory.layers(weights, k[None])[1][-1].norm(dim=-1).mean()
    gradients = [(a.norm(dim=-1) * e.norm(dim=-1)).mean() for a, e in zip(inputs, errors, strict=True)]
    return torch.stack([answers, *gradients])


@torch.no_grad()
def error_after_a_write(weights: Sequence[Tensor], fresh: Sequence[Tensor], pairs: int = 200) -> float:
    """|M(k) - v|^2 after one write, mean over random pairs, each written into a copy of its own; theta is the
    step that would be exact for the weights `fresh`, if their last layer alone were written."""
    k, v = (x[:, None, None] for x in random_pairs(pairs, weights[0].shape[-1]))
    memory = DeepMemory(k.shape[-1], depth=len(weights))
    theta = 1 / (2 * memory.layers(fresh, k)[0][-1].square().sum((-2, -1), keepdim=True))
    inputs, errors = memory.errors(weights, k, v)
    after = [w - theta * e.mT @ a for w, e, a in zip(weights, errors, inputs, strict=True)]
    return float((memory.read(after, k) - v).square().sum(-1).mean())


def _with_first_weights(model: TitansLM, state: ModelState, layer: int, only_size: bool) -> ModelState:
    """A state in which one layer of the memory is M_0's again, or only as large as M_0's."""

    def edit(memory: LayerState) -> LayerState:
        first = memory_of(model).memory.initial_state(len(memory.weights[0])).weights[layer]

        def put_back(parts: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            now = parts[layer]
            part = now * _size(first) / _size(now) if only_size else first
            return (*parts[:layer], part, *parts[layer + 1 :])

        return replace(memory, weights=put_back(memory.weights), chunk_weights=put_back(memory.chunk_weights))

    return edited_memory(state, edit)


def _size(weights: Tensor) -> Tensor:
    return torch.linalg.matrix_norm(weights, keepdim=True)


@torch.no_grad()
def right_after_noise(
    model: TitansLM, put_back: int | None = None, after_telling: bool = False, only_size: bool = False, seed: int = 3
) -> float:
    """The share of right answers where 1,024 tokens of noise come first, then six pairs in one stretch, 56 tokens of
    noise, and the questions.

    put_back: the memory layer whose weights become M_0's again, just before the pairs are told or just after; with
    `only_size` they are only scaled to the size of those.
    """
    task, random = Recall(), torch.Generator().manual_seed(seed)
    state = model(task.pass_time(32, 1024, random)).state
    told, noise = task.tell(32, random), task.pass_time(32, 56, random)
    if put_back is not None and not after_telling:
        state = _with_first_weights(model, state, put_back, only_size)
    state = model(told.tokens, state).state
    if put_back is not None and after_telling:
        state = _with_first_weights(model, state, put_back, only_size)
    state = model(noise, state).state
    said, wanted = model(told.asked.tokens, state).logits[:, :-1].argmax(-1), told.asked.labels[:, 1:]
    return float((said == wanted)[wanted >= 0].double().mean())


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
