"""The update in closed form, chunk by chunk (equations 16-18): exact, and no weights for single tokens anywhere.

All gradients of a chunk are taken at the weights W that it starts with (D1), and each layer's is an outer product
e_i a_i^T. Unrolling equations 13 and 14 from the chunk's start, with momentum S coming in, gives for every layer

    W_t = P_t W + f_t S - sum_{i<=t} G_ti e_i a_i^T,

so that what a layer makes of the query side's input z_t needs W_t only in a product:

    W_t z_t = P_t (W z_t) + f_t (S z_t) - sum_{i<=t} G_ti (a_i . z_t) e_i.

The last term is causal linear attention: queries z, keys a, values e, with G as its mask. With
D(g)[t, s] = g_{s+1} ... g_t, the product of the gates after token s up to token t (s = 0 is the chunk's start),

    P_t = D(1-alpha)[t, 0],   G_ti = theta_i sum_{s=i..t} D(1-alpha)[t, s] D(eta)[s, i],
    f_t = sum_{s=1..t} D(1-alpha)[t, s] D(eta)[s, 0],

so f and G are columns of one product of two lower-triangular matrices. It holds layer by layer through the MLP: z of
layer l + 1 is the activation of W_t z_t of layer l, with the weights at t, not at the chunk's start.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from einops import rearrange
from torch import Tensor

from titans.chunk_step import ChunkStep
from titans.memory import DeepMemory, Gates
from titans.recurrence import check_scan, finite
from titans.state import MemoryState


class ChunkMix(NamedTuple):
    """How much of what is in W_t and S_t, t = 1 ... c, as the gates of a chunk of c tokens have it."""

    kept: Tensor  # P_t, the share of the chunk-start weights in W_t: [..., c]
    carried: Tensor  # f_t, the share of the incoming momentum in W_t: [..., c]
    written: Tensor  # G_ti, the share of token i's surprise in W_t: [..., c, c], lower triangular
    momentum_kept: Tensor  # the share of the incoming momentum in S_t: [..., c]
    momentum_written: Tensor  # n_ti, the share of token i's surprise in S_t: [..., c, c], lower triangular


def chunk_mix(theta: Tensor, eta: Tensor, alpha: Tensor) -> ChunkMix:
    """The coefficients of a chunk in closed form, from its gates [..., c]. Gates of exactly 0 and 1 are exact."""
    keep, past = decay_products(torch.stack((1 - alpha, eta))).unbind()
    mixed = keep[..., 1:] @ past  # [..., c, 1 + c]: f, then G without theta
    theta = theta[..., None, :]
    return ChunkMix(keep[..., 0], mixed[..., 0], mixed[..., 1:] * theta, past[..., 0], past[..., 1:] * theta)


def decay_products(gate: Tensor) -> Tensor:
    """D[t, s] = gate_{s+1} ... gate_t for t = 1 ... c and s = 0 ... t, zero for s > t: [..., c] -> [..., c, 1 + c].

    Running products rather than differences of logarithms, so that gates of 0 give exact values and finite gradients.
    """
    c = gate.shape[-1]
    after = torch.ones(c, c + 1, dtype=torch.bool, device=gate.device).tril()
    return torch.where(after, gate[..., None], 1.0).cumprod(-2).tril(1)


def chunked_scan(
    memory: DeepMemory,
    state: MemoryState,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gates: Gates,
    chunk_size: int = 16,
    max_surprise: float | None = None,
) -> tuple[Tensor, MemoryState]:
    """The same function as `recurrent_scan`, with the same arguments, results and errors, computed chunk by chunk.

    Outer gradients are full, but have no gradients of their own (`ChunkStep`): for those take `recurrent_scan`.

    A chunk of c tokens costs two c x c products a layer besides the passes through the network; nothing of the size of
    the weights is made for a token. Time and, under no_grad, memory beyond inputs and outputs do not depend on how many
    tokens came before.
    """
    check_scan(memory, state, q, k, v, gates, chunk_size, max_surprise)
    tokens, outputs, done = k.shape[2], [], 0
    while done < tokens:
        room, left = chunk_size - state.place, tokens - done
        whole = left // chunk_size if state.place == 0 else 0
        size = chunk_size if whole else min(room, left)  # whole chunks together; else what completes or begins one
        part = slice(done, done + max(whole, 1) * size)
        part_gates = Gates(*(gate[:, :, part] for gate in gates))
        y, state = _scan_chunks(
            memory, state, q[:, :, part], k[:, :, part], v[:, :, part], part_gates, size, chunk_size, max_surprise
        )
        outputs.append(y)
        done = part.stop
    return (torch.cat(outputs, dim=2) if len(outputs) > 1 else outputs[0]), state


def _scan_chunks(
    memory: DeepMemory,
    state: MemoryState,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gates: Gates,
    size: int,
    chunk_size: int,
    max_surprise: float | None,
) -> tuple[Tensor, MemoryState]:
    """The scan over tokens that make up chunks of `size`: whole chunks, or one piece of a chunk."""
    batch, heads = k.shape[:2]
    # Rows and heads are independent and share one axis, n; chunks come first: [chunks, n, size, ...].
    q, k, v = (rearrange(x, "b h (chunk c) d -> chunk (b h) c d", c=size).contiguous() for x in (q, k, v))
    gates = Gates(*(rearrange(g, "b h (chunk c) l -> l chunk (b h) c", c=size) for g in gates.per_layer(memory.depth)))
    factors = [
        list(zip(*(x.unbind(0) for x in parts), strict=True))  # layer, chunk -> P, f, M, g_c and m of `ChunkStep`
        for parts in zip(*_step_factors(chunk_mix(*gates)), strict=True)
    ]

    weights, momentum, start = (
        [tensor.flatten(0, 1) for tensor in layers] for layers in (state.weights, state.momentum, state.chunk_weights)
    )
    outputs = []
    for chunk, (z, k_c, v_c) in enumerate(zip(q.unbind(0), k.unbind(0), v.unbind(0), strict=True)):
        if chunk > 0 or state.place == 0:
            start = list(weights)
        inputs, errors = memory.errors(start, k_c, v_c)
        if max_surprise is not None:
            if memory.depth > 2:  # two layers stay in float32's range for millions of tokens
                inputs, errors = ([finite(x) for x in factor] for factor in (inputs, errors))
            errors = [_limit(a, e, max_surprise) for a, e in zip(inputs, errors, strict=True)]
        for layer, (a, e) in enumerate(zip(inputs, errors, strict=True)):
            z = memory.activation.forward(z) if layer > 0 else z
            step = ChunkStep.apply(weights[layer], momentum[layer], z, a, e, *factors[layer][chunk])
            z, weights[layer], momentum[layer] = step
        outputs.append(z)

    y = memory.surround(q, torch.stack(outputs))
    place = (state.place + k.shape[0] * size) % chunk_size
    at, past, begun = (tuple(x.unflatten(0, (batch, heads)) for x in layers) for layers in (weights, momentum, start))
    new_state = MemoryState(at, past, at if place == 0 else begun, place, chunk_size, state.memory, state.recent)
    return rearrange(y, "chunk (b h) c d -> b h (chunk c) d", b=batch), new_state


def _step_factors(mix: ChunkMix) -> tuple[Tensor, ...]:
    """What `ChunkStep` multiplies with, as columns: P and f, M = -G, and of the momentum what is left at the end."""
    return (
        mix.kept[..., None],
        mix.carried[..., None],
        -mix.written,
        mix.momentum_kept[..., -1, None, None],
        -mix.momentum_written[..., -1, :, None],
    )


def _limit(a: Tensor, e: Tensor, max_surprise: float) -> Tensor:
    """The errors scaled so that no token's gradient e a^T has a norm over max_surprise (D12)."""
    norm = torch.linalg.vector_norm(e, dim=-1, keepdim=True) * torch.linalg.vector_norm(a, dim=-1, keepdim=True)
    return e * (max_surprise / norm.clamp(min=max_surprise))
