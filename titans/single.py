"""One token at a time, without gradients: what generation and serving ask.

The closed form of a chunk, for one token, is the recurrence itself,

    S_t = eta S_{t-1} - theta e a^T,   M_t = (1 - alpha) M_{t-1} + S_t,   y_t = M_t(q_t)          (13-15)

with e and a at the chunk's start (D1): no masks, no copies, no look at the numbers that waits for a
device. Rows may stand anywhere in their chunks and segments: their places are facts of the state,
and only where a row comes to the end of one does anything depend on them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from titans.attention import KeysValues, Seen, rotary, turn
from titans.bounds import bounded_errors, finite, full_precision
from titans.memory import LayeredMemory
from titans.scan import Tokens
from titans.state import MOMENTUM, MemoryState, State, at_start, each_row, moved_on


@dataclass(frozen=True)
class Prefix(State):
    """Keys and values of persistent tokens, and of what memory queries read at the segment's start, which stay until
    its end: [batch, heads, tokens, dim_head].

    made_of: the parameters that they were made with, see `versions`.
    """

    keys: Tensor
    values: Tensor
    made_of: tuple[tuple[int, int], ...]


def one_token(x: Tensor) -> bool:
    """Whether x [batch, tokens, ...] is a single token that no gradient is asked of."""
    return x.shape[1] == 1 and not torch.is_grad_enabled()


def convolve(padded: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """A depthwise convolution at the last of its tokens, padded [batch, width, channels], weight [channels, 1,
    width], and what the next needs."""
    return (padded * weight[:, 0].T).sum(1, keepdim=True), padded[:, 1:]


def scan_token(
    memory: LayeredMemory, state: MemoryState, token: Tokens, chunk_size: int, max_surprise: float | None
) -> tuple[Tensor, MemoryState]:
    """`chunked_scan` for one token, with gates [batch, heads, 1, depth] that are in their ranges."""
    with full_precision(token.k):
        shape = token.k.shape
        z, k, v = (x.flatten(0, 1) for x in token[:3])  # [n, 1, dim], a row and head after another
        # Of each layer: [n, 1, 1].
        theta, eta, alpha = (gate.flatten(0, 2).T[..., None, None].unbind() for gate in token.gates)
        inputs, errors = memory.errors([weight.flatten(0, 1) for weight in state.chunk_weights], k, v)
        if max_surprise is not None and len(inputs) > 2:
            inputs, errors = ([finite(x) for x in factor] for factor in (inputs, errors))
        momentum, weights, query = [], [], z
        for layer, (a, e) in enumerate(zip(inputs, errors, strict=True)):
            e = e if max_surprise is None else bounded_errors(a, e, max_surprise)
            step = (e * theta[layer]).mT
            S = (state.momentum[layer].flatten(0, 1) * eta[layer]).addcmul_(step, a, value=-1)
            W = torch.addcmul(S, state.weights[layer].flatten(0, 1), 1 - alpha[layer])
            z = (memory.activation.forward(z) if layer else z).bmm(W.mT)
            momentum.append(S.unflatten(0, shape[:2]))
            weights.append(W.unflatten(0, shape[:2]))
        y = memory.surround(query, z).view(shape)
    places = moved_on(state.place_in_chunk, 1, chunk_size)
    start = tuple(at_start(places, new, old) for new, old in zip(weights, state.chunk_weights, strict=True))
    return y, MemoryState(tuple(weights), start, tuple(momentum), MOMENTUM, places, chunk_size, memory.signature)


def attend(
    q: Tensor, streams: tuple[KeysValues, ...], seen: Seen, prefix: KeysValues, window: int
) -> tuple[Tensor, Seen]:
    """`Attention.forward` for one token: q [batch, heads, 1, dim_head]."""
    seen = seen.and_then(streams)
    count = seen.keys[0].shape[2]
    cos, sin = rotary(0, count, q)
    q = q * q.shape[-1] ** -0.5
    keys = torch.cat(turn(torch.stack(seen.keys), cos, sin).unbind(), dim=2)
    values = torch.cat((prefix[1], *seen.values), dim=2)
    scores = torch.cat((q @ prefix[0].mT, turn(q, cos[-1:], sin[-1:]) @ keys.mT), dim=-1)
    if isinstance(seen.missing, tuple):
        first = torch.tensor(seen.missing, device=q.device)[:, None, None, None]
        hidden = (torch.arange(count, device=q.device) < first).repeat(1, 1, 1, len(seen.keys))
        scores = scores.masked_fill(F.pad(hidden, (prefix[0].shape[2], 0)), -torch.inf)
    shares = torch.softmax(scores, dim=-1, dtype=torch.promote_types(q.dtype, torch.float32)).to(q.dtype)
    return shares @ values, seen.last(window - 1)


def context_step(mixer: Any, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """`MemoryAsContext.forward` for one token x [batch, 1, dim], with a prefix that is made once a segment."""
    attention, start = mixer.attention, state.segment_weights
    mixed, recent = mixer.conv(mixer.W_Q(x), state.recent)
    h = attention.keys_values(mixer.retrieve(start, F.silu(mixed)))
    prefix, made_of = state.prefix, versions(mixer.prefix_parameters())
    if prefix is None or prefix.made_of != made_of:
        keys, values = mixer.with_memory_tokens(attention.prefix(mixer.persistent, len(x)), start)
        prefix = Prefix(keys, values, made_of)
    y, seen = mixer.attend(attention.queries(x), h, attention.keys_values(x), state.seen, (prefix.keys, prefix.values))
    y = mixer.surround(x, attention.output(y))
    written = mixer.norm_written(y)
    read, memory = mixer.write_and_read(written, state.memory)
    place = moved_on(state.place_in_segment, 1, mixer.segment_len)
    kept: Prefix | None = prefix
    if 0 in each_row(place, 1):
        start = tuple(at_start(place, new, old) for new, old in zip(memory.weights, start, strict=True))
        seen = seen if mixer.sliding else seen.forgotten(place)
        kept = None if len(mixer.memory_queries) else prefix
    y = mixer.combine(y, mixer.memory.output(written, read))
    return y, type(state)(memory, start, recent, seen, place, kept)


def versions(parameters: Iterable[Tensor]) -> tuple[tuple[int, int], ...]:
    """Which parameters these are, and how often each was changed in place."""
    return tuple((id(p), 0 if p.is_inference() else p._version) for p in parameters)
