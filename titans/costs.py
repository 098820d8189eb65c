"""What a model costs, by arithmetic alone: no model is made, so a large one at two million tokens takes milliseconds.

The letters: T tokens after n earlier ones, D features of the model (`dim`), A = heads * dim_head of attention, H memory
heads, c tokens of a chunk or of the piece of one that a call or a segment leaves, N_p persistent and N_m memory tokens,
and for layer l of the memory's L its matrix in a head, o_l x i_l. A memory is |M| = H sum_l o_l i_l numbers.

Operations are what `torch.utils.flop_counter.FlopCounterMode` counts on a CPU, once it is told of `baddbmm_`, which it
passes over: 2 r i o for the product of matrices [r, i] and [i, o], nothing for what is done number by number
(convolutions, norms, gates, softmax). They are those of this
library's code: what a mask empties, and the places that fill a last window up, are computed and counted. A row's are

    projections    2 T D D', D' being D, A, the width of the network, or the vocabulary
    attention      6 A r k for r queries that meet k keys: 4 for q k^T, where both stand twice (D4), 2 for what is read
    reading        2 |M| a token
    writing        a piece, head and layer: 10 c o_l i_l + 2 c o_l i_l [l > 1] + 2 c^2 (o_l + i_l) + 2 c^2 (c + 1)

The 10 are the errors' forward pass (2), W z and S z (4), W' and S' (4); one more product takes an error back through a
layer; then come a . z, its product with e, and G. A single token without gradients takes another way (`titans.single`):

    writing it     a head and layer: 4 o_l i_l + 2 o_l i_l [l > 1], what it reads being one of the 4
    attention      4 A k for k keys; those of prefix and memory queries are made once a segment

In training the backward pass does twice what the forward pass did,
but for what nothing is learned from, as W' and S' of the last piece, which no loss reads.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, fields, replace

import torch

from titans.checks import check_choice, check_instance, check_integer
from titans.config import TitansConfig

DTYPES = {str(dtype): dtype for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16)}


@dataclass(frozen=True)
class Cost:
    """What reading some tokens costs, all rows of a batch together.

    tokens: of all rows.
    operations: of a forward pass. training: of it and the backward pass.
    parameters: numbers that are learned; parameter_bytes: what they take.
    state_bytes: what is carried on after these tokens, every tensor of the state; for a Transformer keys and values.
    activation_bytes: about what a forward pass keeps for the backward pass on a CPU, parameters not counted.
    """

    tokens: int
    operations: int
    training: int
    parameters: int
    parameter_bytes: int
    state_bytes: int
    activation_bytes: int

    @property
    def operations_per_token(self) -> float:
        """Operations of a forward pass, shared out among the tokens."""
        return self.operations / self.tokens


def cost(
    config: TitansConfig, tokens: int, batch: int = 1, before: int = 0, dtype: torch.dtype = torch.float32
) -> Cost:
    """What it costs a `TitansLM` of this configuration to read `tokens` tokens in one call.

    before: tokens that were read earlier: cost(config, 1, before=n) is a step of generation, one of many, without
        gradients. Its `training` is another way through a token, with derivatives with respect to the state, too.
    dtype: of the parameters. A memory's state is float32 at least.
    Raises TypeError or ValueError, naming the argument, for one that does not fit.
    """
    _check(config, tokens, batch, before, dtype)
    count, state, parameters = _around(config, tokens), _Count(), _around_parameters(config)
    for variant, layers in Counter(config.variant_of(layer) for layer in range(1, config.layers + 1)).items():
        count += _mixer(config, variant, tokens, before) * layers
        state += _state(config, variant, before + tokens) * layers
        parameters += _mixer_parameters(config, variant) * layers
    read = _cost(tokens, batch, dtype, count, state, parameters)
    if tokens > 1:
        return read
    mixers = sum(_single(config, config.variant_of(layer), before) for layer in range(1, config.layers + 1))
    return replace(read, operations=batch * (mixers + _around(config, 1).operations))


def transformer_cost(
    config: TitansConfig, tokens: int, batch: int = 1, before: int = 0, dtype: torch.dtype = torch.float32
) -> Cost:
    """The same for a Transformer: full causal attention in the place of every mixer, no persistent tokens.

    Token t meets t keys, 4 A t operations a layer, and n + T of them are carried on, 2 A (n + T) numbers. What a mask
    empties is not counted, nor are a softmax's weights kept, as where one kernel does it all: the cheapest Transformer
    is held against this library's Titans.
    """
    _check(config, tokens, batch, before, dtype)
    width, pairs = config.heads * config.head_size, tokens * before + tokens * (tokens + 1) // 2
    mixer = _Count(8 * tokens * config.dim * width + 4 * width * pairs)
    mixer.plain = tokens * (config.dim + 4 * width + config.heads)  # x, q, k, v, what was read, the softmax's sum
    parameters = _around_parameters(config) + config.layers * 4 * config.dim * width
    state = _Count(plain=config.layers * 2 * width * (before + tokens))
    return _cost(tokens, batch, dtype, _around(config, tokens) + mixer * config.layers, state, parameters)


def _check(config: object, tokens: object, batch: object, before: object, dtype: object) -> None:
    check_instance("config", config, TitansConfig)
    check_integer("tokens", tokens)
    check_integer("batch", batch)
    check_integer("before", before, 0)
    check_instance("dtype", dtype, torch.dtype)
    check_choice("dtype", str(dtype), DTYPES)


@dataclass
class _Count:
    """Operations, those of them without a backward pass, and numbers: of the parameters' dtype, of a memory's."""

    operations: int = 0
    not_learned: int = 0
    plain: int = 0
    precise: int = 0

    def __add__(self, other: _Count) -> _Count:
        return _Count(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __mul__(self, times: int) -> _Count:
        return _Count(*(getattr(self, f.name) * times for f in fields(self)))


def _cost(tokens: int, batch: int, dtype: torch.dtype, count: _Count, state: _Count, parameters: int) -> Cost:
    def size(numbers: _Count) -> int:
        return batch * (numbers.plain * dtype.itemsize + numbers.precise * max(dtype.itemsize, 4))

    operations, training = batch * count.operations, batch * (3 * count.operations - 2 * count.not_learned)
    return Cost(batch * tokens, operations, training, parameters, parameters * dtype.itemsize, size(state), size(count))


# ---- Around the mixers -----------------------------------------------------------------------------------------------


def _hidden(config: TitansConfig) -> int:
    return max(1, round(config.dim * config.ffn_expansion))


def _around(config: TitansConfig, T: int) -> _Count:
    """Embedding, norms, SwiGLU and logits: 6 T D D' a block, and 2 T D V. Kept are every product's input and what
    stands before a norm or a SiLU, and log-probabilities."""
    D, hidden, V = config.dim, _hidden(config), config.vocab_size
    kept = config.layers * (5 * D + 4 * hidden + 2) + 3 * D + V + 3
    return _Count(2 * T * D * (3 * hidden * config.layers + V), plain=T * kept)


def _around_parameters(config: TitansConfig) -> int:
    D = config.dim
    return 2 * config.vocab_size * D + D + config.layers * (2 * D + 3 * D * _hidden(config))


# ---- The mixers ------------------------------------------------------------------------------------------------------


def _shapes(config: TitansConfig) -> list[tuple[int, int]]:
    """(o_l, i_l) of each layer of a head's memory."""
    d = config.dim // config.memory_heads
    widths = [d] + [d * config.memory_expansion] * (config.memory_depth - 1) + [d]
    return list(zip(widths[1:], widths[:-1], strict=True))


def _memory_size(config: TitansConfig) -> int:
    """|M|"""
    return config.memory_heads * sum(o * i for o, i in _shapes(config))


def _mixer(config: TitansConfig, variant: str, T: int, n: int) -> _Count:
    """What a row costs a mixer that has read n tokens."""
    D, width, prefix = config.dim, config.heads * config.head_size, config.persistent_tokens
    count = _Count()
    if variant != "lmm":  # q, k, v and the output of T tokens; k and v of the prefix
        count += _Count(4 * (2 * T + prefix) * D * width, plain=T * (D + width) + prefix * D)
    if variant in ("mac", "attention"):
        return count + _segments(config, variant == "mac", T, n)
    if n == 0 and prefix:  # what the persistent tokens read is dropped (D9)
        dropped = _output(config, prefix)
        dropped.not_learned = dropped.operations
        count += _learn(config, prefix, 0) + dropped
    count += _learn(config, T, (prefix + n) % config.chunk_size) + _last(config, T, prefix + n + T) + _output(config, T)
    if variant == "lmm":
        return count
    count.plain += T * 6 * D if variant == "mag" else T * (2 * D + 1)  # the gate's norms and factors, or a norm
    return count + _attention(config, T, min(n, config.window - 1), prefix, 1, config.window)


def _single(config: TitansConfig, variant: str, n: int) -> int:
    """Operations of a mixer for one token after n others, without gradients."""
    D, width, memory, size = config.dim, config.heads * config.head_size, variant == "mac", _memory_size(config)
    persistent, asked = config.persistent_tokens, config.memory_tokens * memory
    segmented, count = memory or variant == "attention", 0
    if variant != "lmm":  # q, k, v, output; attention; k and v of the prefix
        window = config.segment_len if segmented and not config.sliding else config.window
        seen = n % window if segmented and not config.sliding else min(n, window - 1)
        count += 8 * D * width + 4 * width * (persistent + asked + (1 + memory) * (seen + 1))
        if not memory:
            count += 4 * persistent * D * width
        elif n == 0 or (asked and n % config.segment_len == 0):
            count += 4 * (persistent + asked) * D * width + 2 * asked * size
    if memory:  # queries for h, what they read, its k and v
        count += 2 * D * D + 2 * size + 4 * D * width
    if variant != "attention":  # q, k, v, gates, the write and what it reads, the output gate
        back = config.memory_heads * sum(o * i for o, i in _shapes(config)[1:])
        count += 10 * D * D + 6 * D * config.memory_heads * config.memory_depth + 4 * size + 2 * back
    if n == 0 and persistent and not segmented:
        count += _learn(config, persistent, 0).operations + _output(config, persistent).operations
    return count


def _segments(config: TitansConfig, memory: bool, T: int, n: int) -> _Count:
    """What MAC and "attention" do segment by segment, pieces of one sort together."""
    D, width, sliding = config.dim, config.heads * config.head_size, config.sliding
    window = config.window if sliding else config.segment_len
    sorts: Counter[tuple[int, int, int]] = Counter()
    at = n
    while at < n + T:
        place = at % config.segment_len
        size = min(config.segment_len - place, n + T - at)
        sorts[size, min(at, window - 1) if sliding else place, at % config.chunk_size] += 1
        at += size
    count = _Count()
    for (size, seen, place), times in sorts.items():
        prefix = config.persistent_tokens + config.memory_tokens * memory
        piece = _attention(config, size, seen, prefix, 1 + memory, window)
        if memory:
            asked = size + config.memory_tokens
            piece += _read(config, asked) + _Count(4 * asked * D * width, plain=asked * D)
            piece += _learn(config, size, place)
        count += piece * times
    if memory:  # queries for h, their convolution and SiLU; what is written, normalised; the gate
        count += _last(config, size, n + T)
        count += _Count(2 * T * D * D, plain=T * (4 * D + 1 + 6 * D * config.memory_gate)) + _output(config, T)
    return count


def _attention(config: TitansConfig, T: int, seen: int, prefix: int, streams: int, window: int) -> _Count:
    """6 A r k: T queries and a prefix, and of every stream the keys of `seen` tokens and theirs; or block by block, a
    window of queries and 2 window - 1 keys. Kept: queries, keys (twice as long), values, the softmax."""
    width = config.heads * config.head_size
    blocks, queries, span = (1, T, seen + T) if window >= T else (-(-T // window), window, 2 * window - 1)
    keys = prefix + streams * span
    kept = width * (2 * queries + 3 * keys) + config.heads * queries * keys
    return _Count(6 * width * blocks * queries * keys, plain=blocks * kept)


def _read(config: TitansConfig, T: int) -> _Count:
    """M*(q) for T queries: 2 |M| each. Kept: what goes into each layer and into norms."""
    H, shapes = config.memory_heads, _shapes(config)
    hidden = sum(o for o, _ in shapes[:-1])
    return _Count(2 * T * _memory_size(config), precise=T * (4 * config.dim + 2 * H * (1 + hidden)))


def _learn(config: TitansConfig, T: int, place: int) -> _Count:
    """q, k, v and gates of T tokens, and the closed form over the pieces of chunks that they make up, the first of
    which finds `place` tokens in its chunk. Kept besides what goes into products: W and S, 2 |M| a piece."""
    D, H, L = config.dim, config.memory_heads, config.memory_depth
    count = _Count(6 * T * D * D + 6 * T * D * H * L, plain=T * 8 * D, precise=T * (3 * D + 5 * H * L))
    first = min(T, config.chunk_size - place)
    whole, rest = divmod(T - first, config.chunk_size)
    for c, times in ((first, 1), (config.chunk_size, whole), (rest, rest > 0)):
        count += _piece(config, c) * int(times)
    return count


def _last(config: TitansConfig, T: int, n: int) -> _Count:
    """W' and S' of the last piece of T tokens, n being all that the memory has read then: no loss reads them."""
    c = min(T, n % config.chunk_size or config.chunk_size)
    return _Count(not_learned=4 * c * _memory_size(config))


def _piece(config: TitansConfig, c: int) -> _Count:
    """The closed form over c tokens of one chunk, in all heads. No gradient goes through G where both gates are 0."""
    shapes, H = _shapes(config), config.memory_heads
    mix = 2 * c * c * (c + 1) * len(shapes)
    layers = sum(10 * c * o * i + 2 * c * c * (o + i) for o, i in shapes) + sum(2 * c * o * i for o, i in shapes[1:])
    learned = config.momentum or config.forgetting
    kept = sum(c * (3 * o + 2 * i) for o, i in shapes) + sum(3 * c * o for o, _ in shapes[:-1])
    kept += (2 * c * c + 3 * c * (c + 1)) * len(shapes)  # a . z and M; the running products that they are made of
    if config.memory_residual:  # LN, its error, and the sums in both
        kept += 6 * c * shapes[-1][0]
    return _Count(H * (layers + mix), 0 if learned else H * mix, precise=2 * _memory_size(config) + H * kept)


def _output(config: TitansConfig, T: int) -> _Count:
    """The output gate: 4 T D^2."""
    return _Count(4 * T * config.dim**2, plain=T * (7 * config.dim + config.memory_heads))


def _state(config: TitansConfig, variant: str, n: int) -> _Count:
    """What a mixer carries after n tokens: M_t and S_t; inside a chunk M_t', inside a segment of MAC its start's
    weights; tokens for convolutions; keys and values that may still be seen."""
    size, D, state = _memory_size(config), config.dim, _Count()
    if variant != "attention":
        place = (n if variant == "mac" else n + config.persistent_tokens) % config.chunk_size
        state += _Count(plain=(config.conv_width - 1) * 3 * D, precise=(2 + (place > 0)) * size)
    if variant == "mac":
        state += _Count(plain=(config.conv_width - 1) * D, precise=(n % config.segment_len > 0) * size)
    if variant == "lmm":
        return state
    segmented = variant in ("mac", "attention") and not config.sliding
    seen = n % config.segment_len if segmented else min(n, config.window - 1)
    return state + _Count(plain=2 * (1 + (variant == "mac")) * seen * config.heads * config.head_size)


def _mixer_parameters(config: TitansConfig, variant: str) -> int:
    D, H, width = config.dim, config.memory_heads, config.heads * config.head_size
    count = config.persistent_tokens * D
    if variant != "lmm":
        count += 4 * D * width
    if variant != "attention":
        gates = 3 * H * config.memory_depth * (D + 1)
        count += 5 * D * D + 3 * D * config.conv_width + _memory_size(config) + gates + D // H
    if variant == "mac":
        query = D * D + D * config.conv_width + config.memory_tokens * D
        count += query + D // H + D + 2 * D * config.memory_gate
    return count + (2 * D if variant == "mag" else D if variant == "mal" else 0)
