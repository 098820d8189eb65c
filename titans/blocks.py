"""The sequence mixers: MAC, MAG, MAL, LMM (equations 21-31), and MAC without its memory.

Each is a module with forward(x, state) -> (y, state), x and y [batch, tokens, dim]; any split of a sequence into calls
gives the same y (D10), nothing sees the future (D3), and a state stops growing after a segment or a window.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from titans.attention import Attention, KeysValues, see_segment, see_window, window_attention
from titans.config import TitansConfig
from titans.neural_memory import CausalConv, NeuralMemory, unit
from titans.recurrence import finite
from titans.state import MemoryState, State, Weights


@dataclass(frozen=True)
class BlockState(State):
    """What a block carries from call to call.

    memory: the state of its memory.
    start: MAC's memory weights at the start of the segment, from which h is read.
    recent: earlier tokens that MAC's query convolution needs.
    keys, values: of the tokens so far in the segment, or of the last window - 1 tokens; two streams in MAC, h and x.
    place: tokens that the segment has seen.
    """

    memory: MemoryState | None = None
    start: Weights | None = None
    recent: Tensor | None = None
    keys: tuple[Tensor, ...] = ()
    values: tuple[Tensor, ...] = ()
    place: int = 0


class Combine(nn.Module):
    """The gate of equations 25 and 28: both inputs normalised with learned scales, one squashed, multiplied (D14)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm_attention, self.norm_memory = nn.RMSNorm(dim, eps=1e-6), nn.RMSNorm(dim, eps=1e-6)

    def forward(self, attention: Tensor, memory: Tensor) -> Tensor:
        return torch.sigmoid(self.norm_attention(attention)) * self.norm_memory(memory)


class Sum(nn.Module):
    """Instead of the gate: what the memory read is added."""

    def forward(self, attention: Tensor, memory: Tensor) -> Tensor:
        return attention + memory


def make_memory(config: TitansConfig) -> NeuralMemory:
    """The memory layer of a configuration."""
    return NeuralMemory(
        config.dim,
        config.memory_heads,
        config.memory_depth,
        config.chunk_size,
        config.memory_expansion,
        residual=config.memory_residual,
        conv_width=config.conv_width,
        max_step=config.max_step,
        momentum=config.momentum,
        forgetting=config.forgetting,
    )


def make_tokens(count: int, dim: int) -> nn.Parameter:
    """Learned tokens, data-independent (equation 19). None at all are nothing to train."""
    return nn.Parameter(torch.randn(count, dim) * 0.5, requires_grad=count > 0)


class Mixer(nn.Module):
    """What all mixers share: a state to begin with."""

    def initial_state(self, batch: int) -> BlockState:
        return BlockState()


class SegmentMixer(Mixer):
    """Attention inside segments: [P | x], causal, P visible to all. MAC without its memory.

    With `sliding`, a token sees the `window` tokens up to itself instead, over borders of segments.
    """

    def __init__(self, config: TitansConfig) -> None:
        super().__init__()
        self.segment_len = config.segment_len
        self.sliding_window = config.window if config.sliding else None
        self.attention = Attention(config.dim, config.heads, config.head_size)
        self.persistent = make_tokens(config.persistent_tokens, config.dim)

    def prefix(self, tokens: Tensor, batch: int) -> KeysValues:
        """Keys and values of tokens [count, dim], the same for every row."""
        return self.attention.keys_values(tokens.expand(batch, *tokens.shape))

    def see(
        self,
        q: Tensor,
        streams: tuple[KeysValues, ...],
        keys: tuple[Tensor, ...],
        values: tuple[Tensor, ...],
        place: int,
        prefix: KeysValues,
    ) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Attention of some tokens of one segment, `place` tokens after its start; see `see_segment`, `see_window`."""
        if self.sliding_window is not None:
            return see_window(q, streams, keys, values, self.sliding_window, prefix)
        if place == 0:
            keys, values = (), ()
        return see_segment(q, streams, keys, values, place, prefix)

    def forward(self, x: Tensor, state: BlockState) -> tuple[Tensor, BlockState]:
        q = self.attention.queries(x)
        k, v = self.attention.keys_values(x)
        prefix = self.prefix(self.persistent, x.shape[0])
        keys, values, place = state.keys, state.values, state.place
        outputs = []
        sizes = pieces(x.shape[1], place, self.segment_len)
        for q_part, k_part, v_part in zip(*(tensor.split(sizes, dim=2) for tensor in (q, k, v)), strict=True):
            place %= self.segment_len
            y, keys, values = self.see(q_part, ((k_part, v_part),), keys, values, place, prefix)
            outputs.append(y)
            place += q_part.shape[2]
        y = self.attention.output(torch.cat(outputs, dim=2))
        return y, BlockState(keys=keys, values=own(values), place=place)


def pieces(tokens: int, place: int, segment_len: int) -> list[int]:
    """How many tokens go into each segment, when the first finds `place` tokens in its own."""
    first = min(tokens, segment_len - place % segment_len)
    whole, rest = divmod(tokens - first, segment_len)
    return [first, *[segment_len] * whole, *[rest] * (rest > 0)]


def own(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Copies: a view of one segment would keep the whole call's tensor alive."""
    return tuple(tensor.clone() for tensor in tensors)


class MAC(SegmentMixer):
    """Memory as context, equations 21-25, segment by segment:

        h = M*(q), q = x W_Q               read with the weights at the segment's start                  (21)
        y = x + Attn([P | h | x])          causal inside the segment; h_j only for tokens i >= j     (22, 23, D3, D13)
        M_t = M_{t-1}(y_t)                 y, normalised, is written, token by token                     (24)
        o_t = y_t (x) M*_t(y_t)            and read with the weights right after its own token           (25, D3)

    Taken literally, h and the last read let a token see the whole of its segment; the two rules of D3 close both leaks.
    The paper has a residual around each block (4.4); here attention has one too (D13). Without it what is written is,
    at the start of training, an average over the segment, and no key is bound to its value.
    `memory_tokens` learned queries may read the memory at the segment's start too; what they find is seen by all.
    """

    def __init__(self, config: TitansConfig) -> None:
        super().__init__(config)
        self.memory = make_memory(config)
        self.W_Q = nn.Linear(config.dim, config.dim, bias=False)
        self.conv = CausalConv(config.dim, config.conv_width)
        self.memory_queries = make_tokens(config.memory_tokens, config.dim)
        self.norm = nn.RMSNorm(config.dim // config.memory_heads, eps=1e-6)
        nn.init.constant_(self.norm.weight, 0.1)  # h is faint until keys are bound: at first it is all pairs at once
        self.norm_written = nn.RMSNorm(config.dim, eps=1e-6)
        self.combine = Combine(config.dim) if config.memory_gate else Sum()

    def initial_state(self, batch: int) -> BlockState:
        recent = self.W_Q.weight.new_zeros(batch, self.conv.weight.shape[-1] - 1, self.W_Q.in_features)
        return BlockState(memory=self.memory.initial_state(batch), recent=recent)

    def forward(self, x: Tensor, state: BlockState) -> tuple[Tensor, BlockState]:
        assert state.memory is not None
        assert state.recent is not None
        q = self.attention.queries(x)
        k, v = self.attention.keys_values(x)
        mixed, recent = self.conv(self.W_Q(x), state.recent)
        asked = F.silu(mixed)
        persistent = self.prefix(self.persistent, x.shape[0])
        memory, start, keys, values, place = state.memory, state.start, state.keys, state.values, state.place
        ys, writes, reads = [], [], []
        sizes = pieces(x.shape[1], place, self.segment_len)
        cut = (*(t.split(sizes, dim=1) for t in (x, asked)), *(t.split(sizes, dim=2) for t in (q, k, v)))
        for x_part, asked_part, q_part, k_part, v_part in zip(*cut, strict=True):
            place %= self.segment_len
            if place == 0:
                start = memory.weights
            assert start is not None
            h = self.attention.keys_values(self.retrieve(start, asked_part))
            prefix = self.with_memory_tokens(persistent, start)
            y, keys, values = self.see(q_part, (h, (k_part, v_part)), keys, values, place, prefix)
            y = self.surround(x_part, self.attention.output(y))
            written = self.norm_written(y)
            read, memory = self.memory.learn(written, memory)
            ys.append(y)
            writes.append(written)
            reads.append(read)
            place += x_part.shape[1]
        read = self.memory.output(torch.cat(writes, dim=1), torch.cat(reads, dim=2))
        return self.combine(torch.cat(ys, dim=1), read), BlockState(memory, start, recent, keys, own(values), place)

    def surround(self, x: Tensor, attended: Tensor) -> Tensor:
        """The residual around attention (D13)."""
        return x + attended

    def retrieve(self, weights: Weights, asked: Tensor) -> Tensor:
        """M*(q) for queries [batch, tokens, dim] (21), normalised head by head: [batch, tokens, dim]."""
        q = unit(rearrange(asked.to(weights[0].dtype), "b t (h d) -> b h t d", h=self.memory.heads))
        h = finite(self.memory.memory.read(weights, q)).to(asked.dtype)
        return rearrange(self.norm(h), "b h t d -> b t (h d)")

    def with_memory_tokens(self, prefix: KeysValues, weights: Weights) -> KeysValues:
        """The prefix, and behind it what the learned memory queries read at the segment's start."""
        if not len(self.memory_queries):
            return prefix
        asked = self.memory_queries.expand(weights[0].shape[0], *self.memory_queries.shape)
        k, v = self.attention.keys_values(self.retrieve(weights, asked))
        return torch.cat((prefix[0], k), dim=2), torch.cat((prefix[1], v), dim=2)


class MemoryMixer(Mixer):
    """LMM: the memory alone. The persistent tokens are written first; what they read is dropped (D9)."""

    def __init__(self, config: TitansConfig) -> None:
        super().__init__()
        self.memory = make_memory(config)
        self.persistent = make_tokens(config.persistent_tokens, config.dim)

    def initial_state(self, batch: int) -> BlockState:
        memory = self.memory.initial_state(batch)
        if len(self.persistent):
            _, memory = self.memory(self.persistent.expand(batch, *self.persistent.shape), memory)
        return BlockState(memory=memory)

    def forward(self, x: Tensor, state: BlockState) -> tuple[Tensor, BlockState]:
        y, memory = self.memory(x, state.memory)
        return y, BlockState(memory=memory)


class WindowMixer(MemoryMixer):
    """What MAG and MAL share: a memory beside sliding-window attention, with the persistent tokens as its prefix."""

    def __init__(self, config: TitansConfig) -> None:
        super().__init__(config)
        self.window = config.window
        self.attention = Attention(config.dim, config.heads, config.head_size)

    def attend(self, x: Tensor, state: BlockState) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        """SW-Attn*([P | x]) (27): the output for x, and the keys and values of the last window - 1 tokens."""
        k, v = self.attention.keys_values(x)
        if state.keys:
            k, v = torch.cat((*state.keys, k), dim=2), torch.cat((*state.values, v), dim=2)
        prefix = self.attention.keys_values(self.persistent.expand(x.shape[0], *self.persistent.shape))
        y = window_attention(self.attention.queries(x), k, v, prefix, self.window)
        last = slice(max(0, k.shape[2] - self.window + 1), None)
        return self.attention.output(y), (k[:, :, last].clone(),), (v[:, :, last].clone(),)


class MAG(WindowMixer):
    """Memory as a gate, equations 26-28: o = SW-Attn*([P | x]) (x) M([P | x])."""

    def __init__(self, config: TitansConfig) -> None:
        super().__init__(config)
        self.combine = Combine(config.dim)

    def forward(self, x: Tensor, state: BlockState) -> tuple[Tensor, BlockState]:
        read, memory = self.memory(x, state.memory)
        y, keys, values = self.attend(x, state)
        return self.combine(y, read), BlockState(memory, keys=keys, values=values)


class MAL(WindowMixer):
    """Memory as a layer, equations 29-31: o = SW-Attn(y), y = x + M([P | x]), normalised. The residual is D13's."""

    def __init__(self, config: TitansConfig) -> None:
        super().__init__(config)
        self.norm = nn.RMSNorm(config.dim, eps=1e-6)

    def forward(self, x: Tensor, state: BlockState) -> tuple[Tensor, BlockState]:
        read, memory = self.memory(x, state.memory)
        y, keys, values = self.attend(self.norm(x + read), state)
        return y, BlockState(memory, keys=keys, values=values)


MIXERS: dict[str, type[Mixer]] = {"mac": MAC, "mag": MAG, "mal": MAL, "lmm": MemoryMixer, "attention": SegmentMixer}
