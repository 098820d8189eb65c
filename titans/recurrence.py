"""The update token by token, through autograd: slow, and nothing in it but the equations (8-15).

This is the judge of the fast form in `titans.chunked`. It works for any memory with a `read(weights, x)`, knows nothing
of layers, outer products or masks, and asks `torch.func.grad` for every surprise.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import grad

from titans.checks import check_instance, check_integer, check_number, check_shape
from titans.memory import DeepMemory, Gates
from titans.state import MemoryState, Weights, check_state

NUMBER_LIMIT = 1e15  # see `finite`


def check_scan(
    memory: DeepMemory,
    state: MemoryState,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gates: Gates,
    chunk_size: int,
    max_surprise: float | None,
) -> None:
    """Raise the error that names the first argument of a scan that does not fit."""
    check_instance("memory", memory, DeepMemory)
    check_integer("chunk_size", chunk_size)
    if max_surprise is not None:
        check_number("max_surprise", max_surprise, 0)
    check_shape("k", k, {"batch": None, "heads": memory.heads, "tokens": None, "dim": memory.dim})
    if k.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"k must be float32 or float64 (a half-precision memory loses small writes), got {k.dtype}")
    shape: dict[str, int | None] = dict(zip(("batch", "heads", "tokens", "dim"), k.shape, strict=True))
    check_shape("q", q, shape, like=k)
    check_shape("v", v, shape, like=k)
    check_instance("gates", gates, Gates)
    gates.check(k, memory.depth)
    check_state(state, memory.signature, memory.shapes, k.shape[0], chunk_size, k)


def recurrent_scan(
    memory: DeepMemory,
    state: MemoryState,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gates: Gates,
    chunk_size: int = 1,
    max_surprise: float | None = None,
) -> tuple[Tensor, MemoryState]:
    """Write every token into the memory and read it back, one after another:

        S_t = eta_t S_{t-1} - theta_t u_t,   M_t = (1 - alpha_t) M_{t-1} + S_t,   y_t = M_t(q_t)        (13, 14, 15)

    where the surprise u_t is the gradient of |M_t'(k_t) - v_t|^2 with respect to the weights, and M_t' is the memory at
    the start of t's chunk (D1; with chunk_size=1 it is M_{t-1}). A token sees its own write (D2).

    q, k, v: [batch, heads, tokens, dim], float32 or float64. gates: see `Gates`.
    max_surprise: the largest norm that the surprise of a token and layer may have; larger ones are scaled down (D12).
    Returns y, [batch, heads, tokens, dim], and the state after the last token. Any split of the tokens into calls gives
    the same numbers (D10). Gradients flow through the inner gradients too (D7).
    Raises TypeError or ValueError, naming the argument, for wrong types, shapes, dtypes, ranges and states.
    """
    check_scan(memory, state, q, k, v, gates, chunk_size, max_surprise)
    gates = gates.per_layer(memory.depth)
    weights, momentum, start, place = state.weights, state.momentum, state.chunk_weights, state.place
    outputs = []
    for t in range(k.shape[2]):
        surprises = surprise(memory, start, k[:, :, t : t + 1], v[:, :, t : t + 1], max_surprise)
        theta, eta, alpha = (gate[:, :, t, :, None, None].unbind(2) for gate in gates)  # a layer: [batch, heads, 1, 1]
        momentum = tuple(e * s - th * u for e, s, th, u in zip(eta, momentum, theta, surprises, strict=True))
        weights = tuple((1 - a) * w + s for a, w, s in zip(alpha, weights, momentum, strict=True))
        outputs.append(memory.read(weights, q[:, :, t : t + 1]))
        place = (place + 1) % chunk_size
        if place == 0:
            start = weights
    new_state = MemoryState(weights, momentum, start, place, chunk_size, state.memory, state.recent)
    return torch.cat(outputs, dim=2), new_state


def surprise(memory: DeepMemory, weights: Weights, k: Tensor, v: Tensor, max_surprise: float | None = None) -> Weights:
    """The gradient of |M(k) - v|^2 (12) with respect to the memory's weights, one tensor a layer, by autograd.

    k, v: [batch, heads, tokens, dim]; the losses of several tokens are summed. With max_surprise, the gradient of every
    row, head and layer is scaled down to that norm where it is larger (D12; meant for one token).
    """

    def loss(weights: Weights) -> Tensor:
        return (memory.read(weights, k) - v).square().sum()

    gradients = grad(loss)(tuple(weights))
    if max_surprise is None:
        return gradients
    gradients = tuple(finite(gradient) for gradient in gradients)
    return tuple(gradient * shrink(gradient.flatten(2).norm(dim=2), max_surprise) for gradient in gradients)


def finite(x: Tensor) -> Tensor:
    """x with numbers that a norm can square, whatever it was (D12).

    Nothing that has been learned comes near the limit. It matters for a memory of three layers and more whose gates are
    at their ends, where the bounded steps of many tokens add up until a product of weights leaves float32's range.
    """
    return x.nan_to_num(nan=0.0).clamp(-NUMBER_LIMIT, NUMBER_LIMIT)


def shrink(norm: Tensor, max_surprise: float) -> Tensor:
    """The factor that brings a gradient of this norm down to max_surprise; 1 where it is small enough (D12)."""
    return (max_surprise / norm.clamp(min=max_surprise))[..., None, None]
