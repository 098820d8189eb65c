"""One token at a time, without gradients: what generation and serving ask.

The closed form of a chunk, for one token, is the recurrence itself,

    S_t = eta S_{t-1} - theta e a^T,   M_t = (1 - alpha) M_{t-1} + S_t,   y_t = M_t(q_t)          (13-15)

with e and a at the chunk's start (D1): no masks, no copies, no look at the numbers that waits for a
device. Rows may stand anywhere in their chunks and segments: their places are facts of the state,
and only where a row comes to the end of one does anything depend on them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from titans.attention import KeysValues, Seen, halves_swapped, turns
from titans.bounds import bounded_errors, bounded_input, finite, full_precision, precise
from titans.checks import check_range
from titans.memory import LayeredMemory, unit
from titans.scan import Gates, Tokens
from titans.state import MOMENTUM, MemoryState, Weights, any_at_start, at_start, moved_on
from titans.unchanged import LONG_WAY, segment_prefix


def one_token(x: Tensor) -> bool:
    """Whether x [batch, tokens, ...] is a single token that no gradient is asked of, and takes the short way."""
    return x.shape[1] == 1 and not torch.is_grad_enabled() and (torch.compiler.is_compiling() or not LONG_WAY.get())


def convolve(padded: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """A depthwise convolution at the last of its tokens, padded [batch, width, channels], weight [channels, 1,
    width], and what the next needs."""
    return (padded * weight[:, 0].T).sum(1, keepdim=True), padded[:, 1:]


def project(layer: Any, x: Tensor, recent: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`NeuralMemory.project` for one token."""
    mixed, recent = layer.conv(torch.cat((layer.W_Q(x), layer.W_K(x), layer.W_V(x)), dim=-1), recent)
    mixed = F.silu(mixed).to(precise(x)).view(len(x), 3, layer.heads, 1, -1)
    q, k = unit(mixed[:, :2]).unbind(1)
    return q, k, mixed[:, 2], recent


def gates(layer: Any, x: Tensor) -> Gates:
    """`NeuralMemory.gates` for one token."""
    shares = torch.sigmoid(layer.to_gates(x).to(precise(x)))
    if x.device.type == "cpu":  # elsewhere a look would wait for the device
        check_range("gates", shares, 0, 1)
    return layer.limited(*shares.view(len(x), 3, layer.heads, 1, -1).unbind(1))


def output(layer: Any, x: Tensor, y: Tensor) -> Tensor:
    """`NeuralMemory.output` for one token."""
    y = layer.norm(finite(y).to(x.dtype)).reshape(x.shape)
    return layer.W_O(y * torch.sigmoid(layer.W_G(bounded_input(x))))


def read(memory: LayeredMemory, weights: Weights, q: Tensor) -> Tensor:
    """M(q) for one token q [batch, heads, 1, dim]."""
    z = first = q.flatten(0, 1)
    for layer, weight in enumerate(weights):
        z = (memory.activation.forward(z) if layer else z).bmm(weight.flatten(0, 1).mT)
    return memory.surround(first, z).view(q.shape)


def scan(
    memory: LayeredMemory, state: MemoryState, token: Tokens, chunk_size: int, max_surprise: float
) -> tuple[Tensor, MemoryState]:
    """`chunked_scan` for one token, with gates [batch, heads, 1, depth] that are in their ranges."""
    rows, k, v = token.k.shape[:2], token.k.flatten(0, 1), token.v.flatten(0, 1)
    theta, eta, alpha = (gate[..., None].unbind(3) for gate in token.gates)  # of each layer, [batch, heads, 1, 1]
    with full_precision(k):
        inputs, errors = memory.errors([weight.flatten(0, 1) for weight in state.chunk_weights], k, v)
        if len(inputs) > 2:
            inputs, errors = ([finite(x) for x in factor] for factor in (inputs, errors))
        momentum, weights = [], []
        for layer, (a, e) in enumerate(zip(inputs, errors, strict=True)):
            step = bounded_errors(a, e, max_surprise).reshape(*rows, -1, 1) * theta[layer]
            S = (state.momentum[layer] * eta[layer]).addcmul_(step, a.reshape(*rows, 1, -1), value=-1)
            weights.append(torch.addcmul(S, state.weights[layer], 1 - alpha[layer]))
            momentum.append(S)
        y = read(memory, tuple(weights), token.q)
    places = moved_on(state.place_in_chunk, 1, chunk_size)
    start = tuple(at_start(places, new, old) for new, old in zip(weights, state.chunk_weights, strict=True))
    return y, MemoryState(tuple(weights), start, tuple(momentum), MOMENTUM, places, chunk_size, memory.signature)


def attend(
    q: Tensor, streams: tuple[KeysValues, ...], seen: Seen, prefix: KeysValues, window: int
) -> tuple[Tensor, Seen]:
    """`Attention.forward` for one token: q [batch, heads, 1, dim_head]."""
    seen = seen.and_then(streams)
    count, heads, scaled = seen.keys[0].shape[2], q.shape[:2], q.flatten(0, 1) * q.shape[-1] ** -0.5
    cos, sin, cos_q, sin_q = turns(count, len(streams), q)
    keys = torch.cat(seen.keys, dim=2).flatten(0, 1)
    keys = torch.addcmul(keys * cos, halves_swapped(keys), sin)
    turned = torch.addcmul(scaled * cos_q, halves_swapped(scaled), sin_q)
    scores = torch.cat((scaled.bmm(prefix[0].flatten(0, 1).mT), turned.bmm(keys.mT)), dim=-1)
    if isinstance(seen.missing, tuple):
        first = torch.tensor(seen.missing, device=q.device).repeat_interleave(heads[1])[:, None, None]
        hidden = (torch.arange(count, device=q.device) < first).repeat(1, 1, len(streams))
        scores = scores.masked_fill(F.pad(hidden, (prefix[0].shape[2], 0)), -torch.inf)
    shares = torch.softmax(scores, dim=-1, dtype=precise(q)).to(q.dtype)
    values = torch.cat((prefix[1], *seen.values), dim=2).flatten(0, 1)
    return shares.bmm(values).view(*heads, 1, -1), seen.last(window - 1)


def context_step(mixer: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """`MAC.forward` for one token."""
    attention, layer, start = mixer.attention, mixer.memory, state.segment_weights

    def to_heads(x: Tensor) -> Tensor:
        return x.view(len(x), attention.heads, 1, -1)

    mixed, recent = mixer.conv(mixer.W_Q(x), state.recent)
    asked = unit(F.silu(mixed).to(precise(x)).view(len(x), layer.heads, 1, -1))
    h = mixer.norm(finite(read(layer.memory, start, asked)).to(x.dtype)).reshape(x.shape)
    streams = tuple((to_heads(attention.W_K(part)), to_heads(attention.W_V(part))) for part in (h, x))
    kept = segment_prefix(mixer, state)
    y, seen = attend(to_heads(attention.W_Q(x)), streams, state.seen, kept.prefix, mixer.window)
    y = mixer.surround(x, attention.W_O(y.view(len(x), 1, -1)))
    written = mixer.norm_written(y)
    answer, memory = layer.learn(written, state.memory)
    place = moved_on(state.place_in_segment, 1, mixer.segment_len)
    ends = any_at_start(place)
    if ends:
        start = tuple(at_start(place, new, old) for new, old in zip(memory.weights, start, strict=True))
        seen = seen if mixer.sliding else seen.forgotten(place)
    after = type(state)(memory, start, recent, seen, place)
    if kept.block is not None and not (ends and len(mixer.memory_queries)):
        object.__setattr__(after, "kept", kept)  # a state that is changed or chosen from is without it
    return mixer.combine(y, layer.output(written, answer)), after
