"""What models of the sizes in the paper's later version cost, beside Transformers with the same layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from titans.config import TitansConfig
from titans.costs import cost, transformer_cost
from titans.lesson.kit.cards import space
from titans.lesson.kit.host import say

SIZES = {"170M": (12, 768, 16), "340M": (24, 1024, 16), "760M": (24, 1536, 16), "1.3B": (18, 2048, 8)}
LONG = 2_000_000
DTYPE = torch.bfloat16  # of parameters, keys and values; a memory is float32


def sized(size: str, memory_heads: int = 1) -> TitansConfig:
    """MAC with the layers, features and heads that a size has there, and its chunks, segments and tokens.

    What is not told there: a SwiGLU of 8/3, as Transformers of this form have it, and the memory's heads. With one a
    memory of D features has 8 D^2 weights, with H heads 8 D^2 / H.
    """
    layers, dim, heads = SIZES[size]
    return TitansConfig(
        vocab_size=32_000,
        dim=dim,
        layers=layers,
        heads=heads,
        ffn_expansion=8 / 3,
        segment_len=512,
        window=2048,
        chunk_size=16,
        memory_heads=memory_heads,
        memory_depth=2,
        memory_expansion=4,
        memory_residual=True,
        persistent_tokens=128,
        memory_tokens=256,
    )


# ---- Where lines cross -----------------------------------------------------------------------------------------------


def first(holds: Callable[[int], bool]) -> int:
    """The first whole number from 1 on for which something holds that holds from there on."""
    high = 1
    while not holds(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def reading_is_cheaper(config: TitansConfig) -> int:
    """From how many tokens on, in whole segments, reading a text takes fewer operations than a Transformer's."""
    segment = config.segment_len
    return segment * first(
        lambda count: cost(config, segment * count).operations < transformer_cost(config, segment * count).operations
    )


def step_of(config: TitansConfig) -> float:
    """Operations of one step of generation, the mean over a segment far from the beginning."""
    start, segment = 4 * config.window, config.segment_len
    return sum(cost(config, 1, before=start + place).operations for place in range(segment)) / segment


def step_is_cheaper(config: TitansConfig) -> int:
    """After how many tokens a step of generation takes fewer operations than a Transformer's."""
    step = step_of(config)
    return first(lambda before: step < transformer_cost(config, 1, before=before).operations)


def largest_state(config: TitansConfig) -> int:
    """The most bytes that are carried, at the end of a segment and of a chunk of it, but for a token."""
    return cost(config, config.segment_len - 1, dtype=DTYPE).state_bytes


def state_is_smaller(config: TitansConfig) -> int:
    """From how many tokens on the largest state is smaller than a Transformer's cache."""
    state = largest_state(config)
    return first(lambda tokens: state < transformer_cost(config, tokens, dtype=DTYPE).state_bytes)


# ---- As a table ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scale:
    """What a size costs at `LONG` tokens, and where it begins to cost less than a Transformer.

    per_token: operations of reading. step: of a step of generation, the mean over a segment; first_step: of a
        segment's first, which makes the keys and values of the memory tokens.
    state, cache: bytes carried. kept: bytes a token, for the backward pass.
    reading_from, step_from, state_from: the lengths from which on MAC takes less.
    """

    parameters: int
    transformer_parameters: int
    per_token: float
    transformer_per_token: float
    step: float
    first_step: float
    state: int
    cache: int
    kept: float
    transformer_kept: float
    reading_from: int
    step_from: int
    state_from: int


def scale(size: str, memory_heads: int = 1) -> Scale:
    """What `titans.cost` says of a size, and the lengths where lines cross."""
    config = sized(size, memory_heads)
    ours, theirs = cost(config, LONG, dtype=DTYPE), transformer_cost(config, LONG, dtype=DTYPE)
    return Scale(
        ours.parameters,
        theirs.parameters,
        ours.operations_per_token,
        theirs.operations_per_token,
        step_of(config),
        cost(config, 1, before=4 * config.segment_len).operations,
        largest_state(config),
        theirs.state_bytes,
        ours.activation_bytes / LONG,
        theirs.activation_bytes / LONG,
        reading_is_cheaper(config),
        step_is_cheaper(config),
        state_is_smaller(config),
    )


def scale_table(memory_heads: int | None = 1) -> str:
    """A column for each size and a row for each quantity. memory_heads: None for as many as attention has."""
    scales = [scale(size, memory_heads or SIZES[size][2]) for size in SIZES]
    rows: tuple[tuple[str, Callable[[Scale], float], float, str], ...] = (
        (say("parameters, MAC", "パラメータ数、MAC"), lambda s: s.parameters, 1e6, "M"),
        (say("  Transformer", "　トランスフォーマー"), lambda s: s.transformer_parameters, 1e6, "M"),
        (say("operations/token, MAC", "演算数／トークン、MAC"), lambda s: s.per_token, 1e9, "G"),
        (say("  Transformer", "　トランスフォーマー"), lambda s: s.transformer_per_token, 1e9, "G"),
        (say("  a step of MAC's generation", "　MAC の生成の1ステップ"), lambda s: s.step, 1e9, "G"),
        (say("    a segment's first", "　　セグメントの最初"), lambda s: s.first_step, 1e9, "G"),
        (say("carried, MAC", "引き継ぐ大きさ、MAC"), lambda s: s.state, 1e6, "MB"),
        (say("  Transformer", "　トランスフォーマー"), lambda s: s.cache, 1e6, "MB"),
        (say("kept/token, MAC", "逆伝播用に残す／トークン、MAC"), lambda s: s.kept, 1e6, "MB"),
        (say("  Transformer", "　トランスフォーマー"), lambda s: s.transformer_kept, 1e6, "MB"),
        (say("reading is cheaper from", "読むのが安くなる長さ"), lambda s: s.reading_from, 1, ""),
        (say("a step is cheaper from", "1ステップが安くなる長さ"), lambda s: s.step_from, 1, ""),
        (say("carried is less from", "引き継ぐ大きさが小さくなる長さ"), lambda s: s.state_from, 1, ""),
    )
    lines = [" " * 32 + "".join(f"{size:>11}" for size in SIZES)]
    for name, value, unit, letter in rows:
        cells = (shown(value(one) / unit, letter) for one in scales)
        lines.append(name + space(name, 32) + "".join(f"{cell:>11}" for cell in cells))
    return "\n".join(lines)


def shown(value: float, unit: str) -> str:
    """A number with three digits at least, and its unit."""
    digits = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:,.{digits}f} {unit}".strip()
