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
from titans.checks import has_numbers
from titans.memory import LayeredMemory, unit
from titans.scan import Gates, Tokens
from titans.state import MOMENTUM, MemoryState, Weights, any_at_start, at_start, moved_on


def one_token(x: Tensor) -> bool:
    """Whether x [batch, tokens, ...] is a single token that no gradient is asked of."""
    return x.shape[1] == 1 and not torch.is_grad_enabled()


def convolve(padded: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """A depthwise convolution at the last of its tokens, padded [batch, width, channels], weight [channels, 1,
    width], and what the next needs."""
    return (padded * weight[:, 0].T).sum(1, keepdim=True), padded[:, 1:]


def project(layer: Any, x: Tensor, recent: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`NeuralMemory.project` for one token x [batch, dim]: q, k, v [batch, heads, 1, dim / heads]."""
    projected = torch.cat((layer.W_Q(x), layer.W_K(x), layer.W_V(x)), dim=-1)
    mixed, recent = layer.conv(projected[:, None], recent)
    mixed = F.silu(mixed).to(precise(x)).view(len(x), 3, layer.heads, 1, -1)
    q, k = unit(mixed[:, :2]).unbind(1)
    return q, k, mixed[:, 2], recent


def gates(layer: Any, x: Tensor) -> Gates:
    """`NeuralMemory.gates` for one token x [batch, dim]: each [batch, heads, 1, depth]."""
    shares = torch.sigmoid(layer.to_gates(x).to(precise(x)))
    return layer.limited(*shares.view(len(x), 3, layer.heads, 1, -1).unbind(1))


def output(layer: Any, x: Tensor, y: Tensor) -> Tensor:
    """`NeuralMemory.output` for one token x [batch, dim], and of that shape."""
    y = layer.norm(finite(y).to(x.dtype)).view(x.shape)
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
    """`chunked_scan` for one token, with gates [batch, heads, 1, depth] that are in their ranges.

    Raises ValueError where the surprise is no number, if that can be seen without waiting for a device.
    """
    rows, k, v = token.k.shape[:2], token.k.flatten(0, 1), token.v.flatten(0, 1)
    theta, eta, alpha = (gate[..., None].unbind(3) for gate in token.gates)  # of each layer, [batch, heads, 1, 1]
    with full_precision(k):
        inputs, errors = memory.errors([weight.flatten(0, 1) for weight in state.chunk_weights], k, v)
        if len(inputs) > 2:
            inputs, errors = ([finite(x) for x in factor] for factor in (inputs, errors))
        momentum, weights = [], []
        for layer, (a, e) in enumerate(zip(inputs, errors, strict=True)):
            bounded = bounded_errors(a, e, max_surprise)
            if bounded is not e and e.device.type == "cpu" and has_numbers(e) and bool(bounded.isnan().any()):
                raise ValueError("the surprise must be a number, got NaN")
            step = bounded.reshape(*rows, -1, 1) * theta[layer]
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
    """`MemoryAsContext.forward` for one token x [batch, dim], y too, with a prefix that is made once a segment."""
    attention, layer, start = mixer.attention, mixer.memory, state.segment_weights

    def keys_values(x: Tensor) -> KeysValues:
        return to_heads(attention, attention.W_K(x)), to_heads(attention, attention.W_V(x))

    mixed, recent = mixer.conv(mixer.W_Q(x)[:, None], state.recent)
    asked = unit(F.silu(mixed).to(precise(x)).view(len(x), layer.heads, 1, -1))
    h = mixer.norm(finite(read(layer.memory, start, asked)).to(x.dtype)).view(x.shape)
    prefix, q = mixer.prefix(state), to_heads(attention, attention.W_Q(x))
    y, seen = mixer.attend(q, keys_values(h), keys_values(x), state.seen, (prefix.keys, prefix.values))
    y = mixer.surround(x, attention.W_O(y.reshape(len(x), -1)))
    written = mixer.norm_written(y)
    answer, memory = mixer.write_and_read(written[:, None], state.memory)
    place = moved_on(state.place_in_segment, 1, mixer.segment_len)
    kept = prefix if prefix.made_of else None
    if any_at_start(place):
        start = tuple(at_start(place, new, old) for new, old in zip(memory.weights, start, strict=True))
        seen = seen if mixer.sliding else seen.forgotten(place)
        kept = None if len(mixer.memory_queries) else kept
    y = mixer.combine(y, output(layer, written, answer))
    return y, type(state)(memory, start, recent, seen, place, kept)


def to_heads(attention: Any, x: Tensor) -> Tensor:
    """[batch, heads * dim_head] -> [batch, heads, 1, dim_head]"""
    return x.view(len(x), attention.heads, 1, -1)
