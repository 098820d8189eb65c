"""Attention with persistent tokens, inside segments and in a sliding window (equations 19 and 20,
figure 3).

A query sees the prefix (persistent tokens, and what memory queries read) without positions, and
tokens with rotary ones (D4). Both fit into one softmax: a query is used twice, turned to its
position for the tokens and as it is for the prefix, side by side in one vector of twice the size,
against keys that are zero in the other half.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from titans.state import Places, State, each_row, one_place, places_of

KeysValues = tuple[Tensor, Tensor]
ROTARY_BASE = 10_000.0


def rotary(first: int, tokens: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine of position * frequency at positions first, first + 1, ...: [tokens, dim / 2] each.

    A turn is 2^64 here, so that what whole turns are dropped by is the overflow of whole numbers: exact at any
    position, and without float64, which some devices lack.
    """
    table = _table if type(like) is Tensor and not torch.compiler.is_compiling() else _table.__wrapped__
    return table(first, tokens, like.shape[-1] // 2, like.dtype, like.device)


@lru_cache(maxsize=256)
@torch.inference_mode(False)  # what is kept must be of use in training too
def _table(first: int, tokens: int, half: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    phase = torch.arange(first, first + tokens, device=device)[:, None] * torch.tensor(_steps(half), device=device)
    angles = phase.to(torch.promote_types(dtype, torch.float32)) * (2 * math.pi / 2**64)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def _steps(half: int) -> list[int]:
    """What one position adds to the phase of each pair of features, in turns of 2^64, from -2^63 on."""
    turns = (ROTARY_BASE ** (-j / half) / (2 * math.pi) for j in range(half))
    return [(round(turn * 2**64) + 2**63) % 2**64 - 2**63 for turn in turns]


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [..., tokens, dim], each pair of features turned by its angle."""
    one, other = x.chunk(2, dim=-1)
    return torch.cat((one * cos - other * sin, one * sin + other * cos), dim=-1)


def rotate(x: Tensor, first: int) -> Tensor:
    """x [..., tokens, dim] at positions first, first + 1, ... (D4)"""
    return turn(x, *rotary(first, x.shape[-2], x))


def halves_swapped(x: Tensor) -> Tensor:
    """The second half of the features before the first."""
    one, other = x.chunk(2, dim=-1)
    return torch.cat((other, one), dim=-1)


def turns(count: int, streams: int, like: Tensor) -> tuple[Tensor, ...]:
    """Factors of x and of x with its halves swapped that turn `streams` times `count` keys to their positions, and
    a query to the last."""
    kept = type(like) is Tensor and not torch.compiler.is_compiling()
    table = _turns if kept else _turns.__wrapped__
    return table(count, streams, like.shape[-1], like.dtype, like.device)


@lru_cache(maxsize=256)
@torch.inference_mode(False)
def _turns(count: int, streams: int, dim: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, ...]:
    cos, sin = rotary(0, count, torch.empty(0, dim, dtype=dtype, device=device))
    cos, sin = torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1)
    return cos.repeat(streams, 1), sin.repeat(streams, 1), cos[-1:], sin[-1:]


def attend(q: Tensor, turned: Tensor, keys: Tensor, values: Tensor, prefix: KeysValues, mask: Tensor) -> Tensor:
    """Softmax attention of q [batch, heads, tokens, dim] over a prefix that all may see and keys
    under a mask.

    turned: q at its positions; keys: at theirs; prefix keys and values: [batch, heads, prefix,
        dim], without positions.
    mask: [batch or 1, 1, tokens, keys] or [tokens, keys], True where a query may see a key.
    """
    prefix_keys, prefix_values = prefix
    both = torch.cat((turned, q), dim=-1)
    all_keys = torch.cat((F.pad(prefix_keys, (q.shape[-1], 0)), F.pad(keys, (0, q.shape[-1]))), dim=-2)
    all_values = torch.cat((prefix_values, values), dim=-2)
    mask = F.pad(mask, (prefix_keys.shape[-2], 0), value=True)
    return F.scaled_dot_product_attention(both, all_keys, all_values, attn_mask=mask, scale=q.shape[-1] ** -0.5)


def causal_mask(tokens: int, before: int, device: torch.device) -> Tensor:
    """[tokens, before + tokens]: token i may see the `before` tokens that came earlier, those up to
    it, and itself."""
    return torch.ones(tokens, before + tokens, dtype=torch.bool, device=device).tril(before)


def window_attention(
    q: Tensor, keys: tuple[Tensor, ...], values: tuple[Tensor, ...], prefix: KeysValues, window: int
) -> Tensor:
    """Each token sees the prefix and, in every stream, itself and the window - 1 tokens before it
    (D3).

    q: [batch, heads, tokens, dim]. keys, values: of each stream, [batch, heads, before + tokens,
    dim], those of earlier tokens first, at most window - 1 of them; keys without positions.
    Positions count from the first key: only differences of positions matter, so none grows with the
    length of the stream.
    At a cost of tokens * window: more queries than a window go in blocks, and each block meets the
    keys of its stretch.
    """
    batch, _, tokens, _ = q.shape
    before = keys[0].shape[2] - tokens
    if tokens <= window:
        mask = causal_mask(tokens, before, q.device)
        mask = mask.triu(before - window + 1) if before + tokens > window else mask
        return _attend_streams(q, keys, values, prefix, mask)
    blocks = -(-tokens // window)
    empty, filled = window - 1 - before, blocks * window - tokens  # places before the first key, and after the last
    span = 2 * window - 1

    def stretches(x: Tensor) -> Tensor:
        cut = F.pad(x, (0, 0, empty, filled)).unfold(2, span, window)
        return rearrange(cut, "b h blocks d span -> (b blocks) h span d")

    i, j = torch.arange(window, device=q.device)[:, None], torch.arange(span, device=q.device)
    first = window * torch.arange(blocks, device=q.device)[:, None, None]
    mask = ((i <= j) & (j < i + window) & (first + j >= empty)).repeat(batch, 1, 1)[:, None]
    q = rearrange(F.pad(q, (0, 0, 0, filled)), "b h (blocks i) d -> (b blocks) h i d", i=window)
    prefix_keys, prefix_values = (x.repeat_interleave(blocks, dim=0) for x in prefix)
    keys, values = (tuple(map(stretches, streams)) for streams in (keys, values))
    y = _attend_streams(q, keys, values, (prefix_keys, prefix_values), mask)
    return rearrange(y, "(b blocks) h i d -> b h (blocks i) d", b=batch)[:, :, :tokens]


def _attend_streams(
    q: Tensor, keys: tuple[Tensor, ...], values: tuple[Tensor, ...], prefix: KeysValues, mask: Tensor
) -> Tensor:
    """Attention over [P | stream | stream ...], the same mask and the same positions for every stream."""
    first = keys[0].shape[2] - q.shape[2]
    cos, sin = rotary(0, keys[0].shape[2], q)
    if first == 0:  # queries and keys of the same tokens
        turned_q, *turned = turn(torch.stack((q, *keys)), cos, sin).unbind()
    else:
        turned_q, turned = turn(q, cos[first:], sin[first:]), list(turn(torch.stack(keys), cos, sin).unbind())
    turned_k = turned[0] if len(turned) == 1 else torch.cat(turned, dim=2)
    mask = mask if len(keys) == 1 else mask.repeat(*[1] * (mask.ndim - 1), len(keys))
    all_values = values[0] if len(values) == 1 else torch.cat(values, dim=2)
    return attend(q, turned_q, turned_k, all_values, prefix, mask)


@dataclass(frozen=True)
class Seen(State):
    """What tokens to come may still see of earlier ones.

    keys, values: [batch, heads, tokens, dim_head] each, one of every stream; keys without
        positions.
    missing: how many of a row's first keys are none, where rows were joined that have seen fewer.
    """

    row_facts = frozenset(("missing",))

    keys: tuple[Tensor, ...] = ()
    values: tuple[Tensor, ...] = ()
    missing: Places = 0

    def and_then(self, streams: tuple[KeysValues, ...]) -> Seen:
        """With the keys and values of further tokens."""
        keys, values = (tuple(parts) for parts in zip(*streams, strict=True))
        if not self.keys:
            return Seen(keys, values)
        return Seen(_joined(self.keys, keys), _joined(self.values, values), self.missing)

    def last(self, tokens: int) -> Seen:
        """Of the last tokens alone."""
        first = max(0, self.keys[0].shape[2] - tokens) if self.keys else 0
        return self._from(first) if first else self

    def copied(self) -> Seen:
        """In tensors of its own: a view of one segment would keep the whole call's alive."""
        return Seen(tuple(k.clone() for k in self.keys), tuple(v.clone() for v in self.values), self.missing)

    def forgotten(self, places: Places) -> Seen:
        """Nothing, for the rows whose place is 0."""
        if not isinstance(places, tuple):
            return self if places else NOTHING_SEEN
        count = self.keys[0].shape[2]
        missing = zip(each_row(self.missing, len(places)), places, strict=True)
        return replace(self, missing=tuple(lacking if place else count for lacking, place in missing)).taken()

    def taken(self) -> Seen:
        """Without keys that no row has."""
        each = each_row(self.missing, 1)
        if not any(each) or not (least := min(each)):
            return self
        return NOTHING_SEEN if least == self.keys[0].shape[2] else self._from(least)

    def _from(self, first: int) -> Seen:
        """Without the first tokens."""
        keys, values = (tuple(x[:, :, first:] for x in streams) for streams in (self.keys, self.values))
        return Seen(keys, values, places_of([max(0, lacking - first) for lacking in each_row(self.missing, 1)]))

    @classmethod
    def alike(cls, states: Sequence[Seen], sizes: Sequence[int]) -> Sequence[Seen]:
        """All with the keys of equally many tokens, the first of which are none."""
        most = max(states, key=lambda seen: seen.keys[0].shape[2] if seen.keys else -1)
        return [seen._padded(most, size) for seen, size in zip(states, sizes, strict=True)]

    def _padded(self, most: Seen, rows: int) -> Seen:
        """With as many tokens as `most`, the first of them none."""
        if not self.keys and most.keys:
            both = (most.keys, most.values)
            keys, values = (tuple(x.new_zeros(rows, *x.shape[1:]) for x in streams) for streams in both)
            return Seen(keys, values, most.keys[0].shape[2])
        if not self.keys or not (lacking := most.keys[0].shape[2] - self.keys[0].shape[2]):
            return self
        keys, values = (tuple(F.pad(x, (0, 0, lacking, 0)) for x in streams) for streams in (self.keys, self.values))
        return Seen(keys, values, places_of([more + lacking for more in each_row(self.missing, rows)]))


NOTHING_SEEN = Seen()


def _joined(earlier: tuple[Tensor, ...], later: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(torch.cat(pair, dim=2) for pair in zip(earlier, later, strict=True))


class Attention(nn.Module):
    """Multi-head attention of tokens over a prefix, and over streams that have a vector for each
    token."""

    def __init__(self, dim: int, heads: int, dim_head: int) -> None:
        super().__init__()
        self.heads = heads
        self.W_Q, self.W_K, self.W_V = (nn.Linear(dim, heads * dim_head, bias=False) for _ in range(3))
        self.W_O = nn.Linear(heads * dim_head, dim, bias=False)
        with torch.no_grad():
            self.W_O.weight.div_(3)  # at the start a token is more than the average of its neighbours (D15)

    def forward(
        self, q: Tensor, streams: tuple[KeysValues, ...], seen: Seen, prefix: KeysValues, window: int
    ) -> tuple[Tensor, Seen]:
        """Every token sees the prefix, itself and the window - 1 tokens before it, in every stream.

        streams: keys and values of these tokens: of x, and in MAC of h before it. seen: of earlier
            tokens.
        Returns y [batch, heads, tokens, dim_head] and what the next window - 1 tokens may see.
        """
        one_place("state.seen.missing", seen.missing)
        seen = seen.and_then(streams)
        return window_attention(q, seen.keys, seen.values, prefix, window), seen.last(window - 1)

    def queries(self, x: Tensor) -> Tensor:
        """[batch, tokens, dim] -> [batch, heads, tokens, dim_head]"""
        return rearrange(self.W_Q(x), "b t (h d) -> b h t d", h=self.heads)

    def keys_values(self, x: Tensor) -> KeysValues:
        """[batch, tokens, dim] -> keys and values, [batch, heads, tokens, dim_head] each."""
        k, v = (rearrange(W(x), "b t (h d) -> b h t d", h=self.heads) for W in (self.W_K, self.W_V))
        return k, v

    def prefix(self, tokens: Tensor, batch: int) -> KeysValues:
        """Keys and values of tokens [count, dim], the same for every row."""
        return self.keys_values(tokens.expand(batch, *tokens.shape))

    def output(self, y: Tensor) -> Tensor:
        """[batch, heads, tokens, dim_head] -> [batch, tokens, dim]"""
        return self.W_O(rearrange(y, "b h t d -> b t (h d)"))
