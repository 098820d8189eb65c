"""The sequence mixers: MAC, MAG, MAL, LMM (equations 21-31), and MAC without its memory.

Each is a module with forward(x, state) -> (y, state), x and y [batch, tokens, dim]; any split of a
sequence into calls gives the same y (D10), nothing sees the future (D3), and a state stops growing
after a segment or a window.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from titans import single
from titans.attention import NOTHING_SEEN, Attention, KeysValues, Seen
from titans.checks import present
from titans.config import TitansConfig
from titans.neural_memory import CausalConv, LayerState, NeuralMemory
from titans.state import Places, State, Weights, moved_on, one_place
from titans.unchanged import Kept


class Mixer(nn.Module, ABC):
    """What mixes the tokens of a sequence: (x, state) -> (y, state), with a state of its own kind."""

    def initial_state(self, batch: int) -> Any:
        """The state before the first token, for `batch` rows."""
        return self.begin(present(next(self.parameters(), None)).new_empty(batch, 0, 0))

    @abstractmethod
    def begin(self, x: Tensor) -> Any:
        """The state before the first token of x [batch, ...], of its dtype and on its device."""

    @property
    def short(self) -> bool:
        """Whether a single token without gradients takes the short way (`titans.single`), from rows at any places: in
        mixers of the library, no method of which is another, and whose attention has no hook."""
        return False

    @abstractmethod
    def forward(self, x: Tensor, state: Any | None = None) -> tuple[Tensor, Any]:
        """x and y [batch, tokens, dim]; without a state a sequence begins. Parameters are read here alone, so
        that tools which bring them only when a module is called can bring them."""


def is_plain(attention: nn.Module) -> bool:
    """Whether calling it does what `Attention.forward` does, and nothing else: no class of one's own, no hook."""
    return type(attention) is Attention and not (attention._forward_hooks or attention._forward_pre_hooks)


# ---- MAC -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ContextState(State):
    """What MAC carries from call to call.

    memory: the state of its memory.
    segment_weights: the memory's weights at the start of the segment, from which h is read.
    recent: earlier tokens that the query convolution needs, [batch, conv_width - 1, dim].
    seen: keys and values of h and of x that tokens to come may see.
    place_in_segment: tokens that the segment has seen; a tuple of them where rows were joined that differ.
    kept: what all tokens of the segment see, where `titans.unchanged_parameters` lets single tokens keep it.
    """

    row_facts = frozenset(("place_in_segment",))
    kept: ClassVar[Kept | None] = None

    memory: LayerState
    segment_weights: Weights
    recent: Tensor
    seen: Seen = NOTHING_SEEN
    place_in_segment: Places = 0


class MemoryAsContext(Mixer):
    """Equations 21-25, segment by segment, but for what they leave open: who sees whom, what
    surrounds attention, and with which weights the last read is done. `MAC` decides it; lesson 07
    tries other decisions.

        h = M*(q), q = x W_Q               read with the weights at the segment's start                  (21)
        y = Attn([P | h | x])              causal inside the segment                                 (22, 23)
        M_t = M_{t-1}(y_t)                 y, normalised, is written                                     (24)
        o_t = y_t (x) M*_t(y_t)            and read                                                      (25)

    `memory_tokens` learned queries may read the memory at the segment's start too; what they find
    is seen by all. With `sliding`, a token sees the `window` tokens up to itself, over borders of
    segments.
    """

    def __init__(self, config: TitansConfig) -> None:
        super().__init__()
        self.segment_len, self.sliding = config.segment_len, config.sliding
        self.window = config.window if config.sliding else config.segment_len
        self.attention = Attention(config.dim, config.heads, config.head_size)
        self.persistent = make_tokens(config.persistent_tokens, config.dim)
        self.memory = make_memory(config)
        self.W_Q = nn.Linear(config.dim, config.dim, bias=False)
        self.conv = CausalConv(config.dim, config.conv_width)
        self.recent_shape = (config.conv_width - 1, config.dim)
        self.memory_queries = make_tokens(config.memory_tokens, config.dim)
        self.norm = nn.RMSNorm(config.dim // config.memory_heads, eps=1e-6)
        nn.init.constant_(self.norm.weight, 0.1)  # h is faint until keys are bound: it is all pairs at once (D15)
        self.norm_written = nn.RMSNorm(config.dim, eps=1e-6)
        self.combine = Combine(config.dim) if config.memory_gate else Sum()

    @abstractmethod
    def attend(self, q: Tensor, h: KeysValues, x: KeysValues, seen: Seen, prefix: KeysValues) -> tuple[Tensor, Seen]:
        """Attention of some tokens of one segment over the prefix, h and x, [batch, heads, tokens,
        dim_head] all."""

    @abstractmethod
    def surround(self, x: Tensor, attended: Tensor) -> Tensor:
        """y, from x and what attention makes of it, [batch, tokens, dim]."""

    @abstractmethod
    def write_and_read(self, written: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """What the memory answers to what is written, [batch, heads, tokens, dim / heads], and its
        state after it."""

    def begin(self, x: Tensor) -> ContextState:
        memory = self.memory.begin(x)
        return ContextState(memory, memory.weights, x.new_zeros(len(x), *self.recent_shape), NOTHING_SEEN)

    def forward(self, x: Tensor, state: ContextState | None = None) -> tuple[Tensor, ContextState]:
        state = self.begin(x) if state is None else state
        if self.short and single.one_token(x):
            return single.context_step(self, x, state)
        one_place("state.seen.missing", state.seen.missing)
        q = self.attention.queries(x)
        k, v = self.attention.keys_values(x)
        mixed, recent = self.conv(self.W_Q(x), state.recent)
        persistent = self.attention.prefix(self.persistent, x.shape[0])
        memory, start, seen = state.memory, state.segment_weights, state.seen
        place = one_place("state.place_in_segment", state.place_in_segment)
        ys, writes, reads = [], [], []
        sizes = segment_sizes(x.shape[1], place, self.segment_len)
        cut = (*(t.split(sizes, dim=1) for t in (x, F.silu(mixed))), *(t.split(sizes, dim=2) for t in (q, k, v)))
        for x_part, asked, q_part, k_part, v_part in zip(*cut, strict=True):
            h = self.attention.keys_values(self.retrieve(start, asked))
            prefix = self.with_memory_tokens(persistent, start)
            y, seen = self.attend(q_part, h, (k_part, v_part), seen, prefix)
            y = self.surround(x_part, self.attention.output(y))
            written = self.norm_written(y)
            read, memory = self.write_and_read(written, memory)
            ys.append(y)
            writes.append(written)
            reads.append(read)
            place = (place + x_part.shape[1]) % self.segment_len
            if place == 0:
                start, seen = memory.weights, seen if self.sliding else NOTHING_SEEN
        read = self.memory.output(torch.cat(writes, dim=1), torch.cat(reads, dim=2))
        return self.combine(torch.cat(ys, dim=1), read), ContextState(memory, start, recent, seen.copied(), place)

    def retrieve(self, weights: Weights, asked: Tensor) -> Tensor:
        """M*(q) for queries [batch, tokens, dim] (21), normalised head by head: [batch, tokens, dim]."""
        return rearrange(self.norm(self.memory.retrieve(weights, asked)), "b h t d -> b t (h d)")

    def with_memory_tokens(self, prefix: KeysValues, weights: Weights) -> KeysValues:
        """The prefix, and behind it what the learned memory queries read at the segment's start."""
        if not len(self.memory_queries):
            return prefix
        asked = self.memory_queries.expand(weights[0].shape[0], *self.memory_queries.shape)
        k, v = self.attention.keys_values(self.retrieve(weights, asked))
        return torch.cat((prefix[0], k), dim=2), torch.cat((prefix[1], v), dim=2)


class MAC(MemoryAsContext):
    """Memory as context, with the decisions D3, D4 and D13.

    Taken literally, h and the last read let a token see the whole of its segment; the two rules of
    D3 close both leaks: h_j only for tokens i >= j, and o_t read with the weights right after token
    t. Each h has the position of its token (D4). The paper has a residual around each block (4.4);
    here attention has one too (D13): without it what is written is, at the start of training, an
    average over the segment, and no key is bound to its value.
    """

    @property
    def short(self) -> bool:
        return type(self) is MAC and is_plain(self.attention) and self.memory.short

    def attend(self, q: Tensor, h: KeysValues, x: KeysValues, seen: Seen, prefix: KeysValues) -> tuple[Tensor, Seen]:
        return self.attention(q, (h, x), seen, prefix, self.window)

    def surround(self, x: Tensor, attended: Tensor) -> Tensor:
        return x + attended

    def write_and_read(self, written: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        return self.memory.learn(written, state)


@dataclass(frozen=True)
class SegmentState(State):
    """What MAC without its memory carries: keys and values that may still be seen, and tokens of
    the segment so far."""

    row_facts = frozenset(("place_in_segment",))

    seen: Seen = NOTHING_SEEN
    place_in_segment: Places = 0


class SegmentAttention(Mixer):
    """MAC without its memory: attention over [P | x], causal inside segments, or `sliding` over
    their borders."""

    def __init__(self, config: TitansConfig) -> None:
        super().__init__()
        self.segment_len, self.sliding = config.segment_len, config.sliding
        self.window = config.window if config.sliding else config.segment_len
        self.attention = Attention(config.dim, config.heads, config.head_size)
        self.persistent = make_tokens(config.persistent_tokens, config.dim)

    @property
    def short(self) -> bool:
        return type(self) is SegmentAttention and is_plain(self.attention)

    def begin(self, x: Tensor) -> SegmentState:
        return SegmentState(NOTHING_SEEN)

    def forward(self, x: Tensor, state: SegmentState | None = None) -> tuple[Tensor, SegmentState]:
        state = self.begin(x) if state is None else state
        q = self.attention.queries(x)
        k, v = self.attention.keys_values(x)
        prefix = self.attention.prefix(self.persistent, x.shape[0])
        if self.short and single.one_token(x):
            y, seen = single.attend(q, ((k, v),), state.seen, prefix, self.window)
            place = moved_on(state.place_in_segment, 1, self.segment_len)
            return self.attention.output(y), SegmentState(seen if self.sliding else seen.forgotten(place), place)
        place, seen, outputs = one_place("state.place_in_segment", state.place_in_segment), state.seen, []
        sizes = segment_sizes(x.shape[1], place, self.segment_len)
        for q_part, k_part, v_part in zip(*(tensor.split(sizes, dim=2) for tensor in (q, k, v)), strict=True):
            y, seen = self.attention(q_part, ((k_part, v_part),), seen, prefix, self.window)
            outputs.append(y)
            place = (place + q_part.shape[2]) % self.segment_len
            if place == 0 and not self.sliding:
                seen = NOTHING_SEEN
        return self.attention.output(torch.cat(outputs, dim=2)), SegmentState(seen.copied(), place)


def segment_sizes(tokens: int, place: int, segment_len: int) -> list[int]:
    """How many tokens go into each segment, when the first finds `place` tokens in its own."""
    first = min(tokens, segment_len - place)
    whole, rest = (tokens - first) // segment_len, (tokens - first) % segment_len
    return [first, *[segment_len] * whole, *[rest] * (rest > 0)]


# ---- LMM, MAG, MAL ---------------------------------------------------------------------------------------------------


class PrefixedMemory(Mixer):
    """What LMM, MAG and MAL share: a memory into which the persistent tokens are written first (D9)."""

    def __init__(self, config: TitansConfig) -> None:
        super().__init__()
        self.memory = make_memory(config)
        self.persistent = make_tokens(config.persistent_tokens, config.dim)

    def begin_memory(self, x: Tensor) -> LayerState:
        """The memory after the persistent tokens; what they read is dropped."""
        memory = self.memory.begin(x)
        if len(self.persistent):
            _, memory = self.memory(self.persistent.expand(len(x), *self.persistent.shape), memory)
        return memory


@dataclass(frozen=True)
class AloneState(State):
    """What LMM carries: the state of its memory."""

    memory: LayerState


class LMM(PrefixedMemory):
    """The memory alone."""

    @property
    def short(self) -> bool:
        return type(self) is LMM and self.memory.short

    def begin(self, x: Tensor) -> AloneState:
        return AloneState(self.begin_memory(x))

    def forward(self, x: Tensor, state: AloneState | None = None) -> tuple[Tensor, AloneState]:
        state = self.begin(x) if state is None else state
        y, memory = self.memory(x, state.memory)
        return y, AloneState(memory)


@dataclass(frozen=True)
class WindowState(State):
    """What MAG and MAL carry: the state of the memory, and keys and values of the last window - 1
    tokens."""

    memory: LayerState
    seen: Seen = NOTHING_SEEN


class MemoryAndWindow(PrefixedMemory):
    """What MAG and MAL share: a memory, and sliding-window attention with the persistent tokens as
    its prefix."""

    def __init__(self, config: TitansConfig) -> None:
        super().__init__(config)
        self.window = config.window
        self.attention = Attention(config.dim, config.heads, config.head_size)

    @property
    def short(self) -> bool:
        return type(self) in (MAG, MAL) and is_plain(self.attention) and self.memory.short

    def begin(self, x: Tensor) -> WindowState:
        return WindowState(self.begin_memory(x), NOTHING_SEEN)

    def attend(self, x: Tensor, seen: Seen) -> tuple[Tensor, Seen]:
        """SW-Attn*([P | x]) (27) for x [batch, tokens, dim], of that shape, and what tokens to come
        may see."""
        streams = (self.attention.keys_values(x),)
        prefix = self.attention.prefix(self.persistent, x.shape[0])
        if self.short and single.one_token(x):
            y, seen = single.attend(self.attention.queries(x), streams, seen, prefix, self.window)
            return self.attention.output(y), seen
        y, seen = self.attention(self.attention.queries(x), streams, seen, prefix, self.window)
        return self.attention.output(y), seen.copied()


class MAG(MemoryAndWindow):
    """Memory as a gate, equations 26-28: o = SW-Attn*([P | x]) (x) M([P | x])."""

    def __init__(self, config: TitansConfig) -> None:
        super().__init__(config)
        self.combine = Combine(config.dim)

    def forward(self, x: Tensor, state: WindowState | None = None) -> tuple[Tensor, WindowState]:
        state = self.begin(x) if state is None else state
        read, memory = self.memory(x, state.memory)
        y, seen = self.attend(x, state.seen)
        return self.combine(y, read), WindowState(memory, seen)


class MAL(MemoryAndWindow):
    """Memory as a layer, equations 29-31: o = SW-Attn(y), y = x + M([P | x]), normalised. The
    residual is D13's."""

    def __init__(self, config: TitansConfig) -> None:
        super().__init__(config)
        self.norm = nn.RMSNorm(config.dim, eps=1e-6)

    def forward(self, x: Tensor, state: WindowState | None = None) -> tuple[Tensor, WindowState]:
        state = self.begin(x) if state is None else state
        read, memory = self.memory(x, state.memory)
        y, seen = self.attend(self.norm(x + read), state.seen)
        return y, WindowState(memory, seen)


# ---- What they are made of -------------------------------------------------------------------------------------------


MEMORY_EPS = 1e-2  # see `titans.neural_memory.ANSWER_EPS`


class Combine(nn.Module):
    """The gate of equations 25 and 28: both inputs normalised with learned scales, one squashed,
    multiplied (D14)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm_attention, self.norm_memory = nn.RMSNorm(dim, eps=1e-6), nn.RMSNorm(dim, eps=MEMORY_EPS)

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
        forget_layers=config.forget_layers,
    )


def make_tokens(count: int, dim: int) -> nn.Parameter:
    """Learned tokens, data-independent (equation 19). None at all are nothing to train."""
    return nn.Parameter(torch.randn(count, dim) * 0.5, requires_grad=count > 0)


MixerTable = Mapping[str, Callable[[TitansConfig], Mixer]]
MIXERS: MixerTable = {"mac": MAC, "mag": MAG, "mal": MAL, "lmm": LMM, "attention": SegmentAttention}
