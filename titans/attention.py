"""Attention with persistent tokens, inside segments and in a sliding window (equations 19 and 20, figure 3).

A query sees the prefix (persistent tokens, and what memory queries read) without positions, and tokens with rotary
ones (D4). Both fit into one softmax: a query is used twice, turned to its position for the tokens and as it is for the
prefix, side by side in one vector of twice the size, against keys that are zero in the other half.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

KeysValues = tuple[Tensor, Tensor]
ROTARY_BASE = 10_000.0


def rotate(x: Tensor, first: int) -> Tensor:
    """x [..., tokens, dim] at positions first, first + 1, ...: pairs of features turned by position * frequency."""
    half = x.shape[-1] // 2
    frequencies = ROTARY_BASE ** (-torch.arange(half, device=x.device, dtype=torch.float64) / half)
    positions = torch.arange(first, first + x.shape[-2], device=x.device, dtype=torch.float64)
    angles = positions[:, None] * frequencies
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    one, other = x[..., :half], x[..., half:]
    return torch.cat((one * cos - other * sin, one * sin + other * cos), dim=-1)


def attend(q: Tensor, turned: Tensor, keys: Tensor, values: Tensor, prefix: KeysValues, mask: Tensor) -> Tensor:
    """Softmax attention of q [batch, heads, tokens, dim] over a prefix that all may see and keys under a mask.

    turned: q at its positions; keys: at theirs; prefix keys and values: [batch, heads, prefix, dim], without positions.
    mask: [batch or 1, 1, tokens, keys] or [tokens, keys], True where a query may see a key.
    """
    prefix_keys, prefix_values = prefix
    both = torch.cat((turned, q), dim=-1)
    all_keys = torch.cat((F.pad(prefix_keys, (q.shape[-1], 0)), F.pad(keys, (0, q.shape[-1]))), dim=-2)
    all_values = torch.cat((prefix_values, values), dim=-2)
    mask = F.pad(mask, (prefix_keys.shape[-2], 0), value=True)
    return F.scaled_dot_product_attention(both, all_keys, all_values, attn_mask=mask, scale=q.shape[-1] ** -0.5)


def causal_mask(tokens: int, before: int, device: torch.device) -> Tensor:
    """[tokens, before + tokens]: token i may see the `before` tokens that came earlier, those up to it, and itself."""
    return torch.ones(tokens, before + tokens, dtype=torch.bool, device=device).tril(before)


def window_attention(q: Tensor, k: Tensor, v: Tensor, prefix: KeysValues, window: int) -> Tensor:
    """Each token sees itself, the window - 1 tokens before it and the prefix, at a cost of tokens * window.

    q: [batch, heads, tokens, dim]; k, v: [batch, heads, cached + tokens, dim], the cached ones at most window - 1.
    Queries go in blocks, and each block meets the keys of its own stretch, with positions counted from its start: only
    differences of positions matter, so no position grows with the length of the stream.
    """
    batch, _, tokens, _ = q.shape
    block = min(window, tokens)
    blocks = -(-tokens // block)
    empty = window - 1 - (k.shape[2] - tokens)  # places before the first token of all
    filled = blocks * block - tokens
    span = block + window - 1
    k, v = (F.pad(x, (0, 0, empty, filled)).unfold(2, span, block) for x in (k, v))
    k, v = (rearrange(x, "b h blocks d span -> (b blocks) h span d") for x in (k, v))
    q = rearrange(F.pad(q, (0, 0, 0, filled)), "b h (blocks i) d -> (b blocks) h i d", i=block)

    i, j = torch.arange(block, device=q.device)[:, None], torch.arange(span, device=q.device)
    near = (i <= j) & (j < i + window)
    first = block * torch.arange(blocks, device=q.device)[:, None, None]
    mask = (near & (first + j >= empty)).repeat(batch, 1, 1)[:, None]
    prefix_keys, prefix_values = (x.repeat_interleave(blocks, dim=0) for x in prefix)
    y = attend(q, rotate(q, window - 1), rotate(k, 0), v, (prefix_keys, prefix_values), mask)
    return rearrange(y, "(b blocks) h i d -> b h (blocks i) d", b=batch)[:, :, :tokens]


def see_segment(
    q: Tensor,
    streams: tuple[KeysValues, ...],
    keys: tuple[Tensor, ...],
    values: tuple[Tensor, ...],
    place: int,
    prefix: KeysValues,
) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Attention of tokens at `place` of a segment over the prefix and over streams that have a vector for each token.

    streams: keys and values of these tokens, for x and in MAC for h before it; keys, values: of the segment's earlier
    tokens. Token i sees entry j of every stream if j <= i (D3), at j's position (D4).
    Returns y and the keys and values of the segment so far.
    """
    turned_q, *turned_k = rotate(torch.stack((q, *(k for k, _ in streams))), place).unbind()
    turned = tuple(turned_k)
    new_values = tuple(v for _, v in streams)
    if keys:
        turned = tuple(torch.cat(pair, dim=2) for pair in zip(keys, turned, strict=True))
        new_values = tuple(torch.cat(pair, dim=2) for pair in zip(values, new_values, strict=True))
    mask = causal_mask(q.shape[2], place, q.device).repeat(1, len(streams))
    y = attend(q, turned_q, torch.cat(turned, dim=2), torch.cat(new_values, dim=2), prefix, mask)
    return y, turned, new_values


def see_window(
    q: Tensor,
    streams: tuple[KeysValues, ...],
    keys: tuple[Tensor, ...],
    values: tuple[Tensor, ...],
    window: int,
    prefix: KeysValues,
) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Attention in which a token sees the prefix and, in every stream, itself and the window - 1 tokens before it.

    streams: keys and values of these tokens, without positions; keys, values: of the last window - 1 tokens at most.
    Positions count from the first that is kept. Returns y and the keys and values of the last window - 1 tokens.
    """
    if keys:
        streams = tuple(
            (torch.cat((old_k, k), dim=2), torch.cat((old_v, v), dim=2))
            for old_k, old_v, (k, v) in zip(keys, values, streams, strict=True)
        )
    tokens, before = q.shape[2], streams[0][0].shape[2] - q.shape[2]
    mask = causal_mask(tokens, before, q.device).triu(before - window + 1).repeat(1, len(streams))
    turned = torch.cat([rotate(k, 0) for k, _ in streams], dim=2)
    y = attend(q, rotate(q, before), turned, torch.cat([v for _, v in streams], dim=2), prefix, mask)
    last = slice(max(0, before + tokens - window + 1), None)
    return y, tuple(k[:, :, last].clone() for k, _ in streams), tuple(v[:, :, last].clone() for _, v in streams)


class Attention(nn.Module):
    """The projections of multi-head attention. What sees what is the caller's business."""

    def __init__(self, dim: int, heads: int, dim_head: int) -> None:
        super().__init__()
        self.heads = heads
        self.W_Q, self.W_K, self.W_V = (nn.Linear(dim, heads * dim_head, bias=False) for _ in range(3))
        self.W_O = nn.Linear(heads * dim_head, dim, bias=False)
        with torch.no_grad():
            self.W_O.weight.div_(3)  # at the start a token is more than the average of its neighbours (D13)

    def queries(self, x: Tensor) -> Tensor:
        """[batch, tokens, dim] -> [batch, heads, tokens, dim_head]"""
        return rearrange(self.W_Q(x), "b t (h d) -> b h t d", h=self.heads)

    def keys_values(self, x: Tensor) -> KeysValues:
        """[batch, tokens, dim] -> keys and values, [batch, heads, tokens, dim_head] each."""
        k, v = (rearrange(W(x), "b t (h d) -> b h t d", h=self.heads) for W in (self.W_K, self.W_V))
        return k, v

    def output(self, y: Tensor) -> Tensor:
        """[batch, heads, tokens, dim_head] -> [batch, tokens, dim]"""
        return self.W_O(rearrange(y, "b h t d -> b t (h d)"))
