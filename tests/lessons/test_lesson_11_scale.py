"""Lesson 11, what it costs: lines cross where it says, and what it names as the reason is the reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from titans import cost, transformer_cost
from titans.lesson.kit.cards import columns
from titans.lesson.kit.host import speak
from titans.lesson.lesson_11 import scale
from titans.lesson.lesson_11.scale import DTYPE, SIZES, sized

each_size = pytest.mark.parametrize("size", SIZES)
each_memory = pytest.mark.parametrize("heads_too", [False, True])


def of(size: str, heads_too: bool):
    return sized(size, SIZES[size][2] if heads_too else 1)


@pytest.mark.parametrize("least", [1, 2, 3, 4, 5, 31, 32, 33, 1000])
def test_first_is_the_first(least):
    assert scale.first(lambda number: number >= least) == least


@each_size
@each_memory
def test_lines_cross_where_it_says(size, heads_too):
    config = of(size, heads_too)
    length = scale.reading_is_cheaper(config)
    for tokens, cheaper in ((length - 512, False), (length, True), (length + 512, True), (4 * length, True)):
        assert (cost(config, tokens).operations < transformer_cost(config, tokens).operations) == cheaper
    length = scale.state_is_smaller(config)
    cache = transformer_cost(config, length, dtype=DTYPE).state_bytes
    assert transformer_cost(config, length - 1, dtype=DTYPE).state_bytes <= scale.largest_state(config) < cache


@each_size
@each_memory
def test_no_state_is_larger_than_the_largest(size, heads_too):
    config = of(size, heads_too)
    sizes = [cost(config, 1, before=4 * 512 + place, dtype=DTYPE).state_bytes for place in range(512)]
    assert max(sizes) == scale.largest_state(config) > 2 * sizes[-1]  # at a border of a segment only M and S are left


@each_size
@each_memory
def test_a_step_of_generation_is_cheap_because_keys_of_prefix_and_memory_tokens_are_kept(size, heads_too):
    """The one step of a segment that makes those of the memory tokens costs what all would without."""
    config = of(size, heads_too)
    step, first_step = scale.step_of(config), cost(config, 1, before=8 * config.segment_len).operations
    assert step < cost(config, scale.LONG).operations_per_token
    assert first_step > 25 * step
    others = {cost(config, 1, before=8 * config.segment_len + place).operations for place in range(1, 512)}
    assert max(others) < step
    length = scale.step_is_cheaper(config)
    for before, cheaper in ((length - 1, False), (length, True), (10 * length, True)):
        assert (step < transformer_cost(config, 1, before=before).operations) == cheaper


@each_size
def test_training_keeps_the_weights_and_momentum_of_every_chunk(size):
    """So a memory of one head keeps ten times more a token than a Transformer, and longer chunks much less."""
    config = sized(size)
    kept = {c: cost(replace(config, chunk_size=c), 4096, dtype=DTYPE).activation_bytes / 4096 for c in (16, 64)}
    weights = config.layers * 2 * 4 * 8 * config.dim**2
    assert kept[16] - kept[64] == pytest.approx(weights / 16 - weights / 64, rel=0.05)
    assert kept[16] > 0.8 * weights / 16
    assert kept[16] > 10 * transformer_cost(config, 4096, dtype=DTYPE).activation_bytes / 4096


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("memory_heads", [1, None])
def test_the_table_is_whole_and_straight(language, memory_heads):
    speak(language)
    lines = scale.scale_table(memory_heads).splitlines()
    assert len(lines) == 14
    assert {columns(line) for line in lines} == {76}
