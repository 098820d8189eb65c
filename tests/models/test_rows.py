"""Rows of different lengths in one batch: each is read as if it were alone, wherever its padding stands."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.proofs.model_proofs import assert_identical_states, assert_same_states, make_model, random_tokens
from tests.proofs.proofs import assert_same
from titans.rows import RowStates, read_rows

BATCH, TOKENS = 3, 9


def reader(model):
    """What a model's blocks make of vectors, as `read_rows` asks for it."""

    def read(x, state):
        layers = []
        for block, layer in zip(model.layers(), state.layers, strict=True):
            x, layer = block(x, layer)
            layers.append(layer)
        return (x, 2 * x), type(state)(tuple(layers), state.signature, state.batch)

    return read


def read_alone(model, x, mask, row):
    """What a row's own tokens give without the others, and the state after them; None for a row without tokens."""
    own = x[row : row + 1, mask[row]]
    return reader(model)(own, model.initial_state(1)) if own.shape[1] else ((own, own), model.initial_state(1))


masks = st.lists(st.lists(st.booleans(), min_size=TOKENS, max_size=TOKENS), min_size=BATCH, max_size=BATCH)


@given(masks, st.lists(st.integers(1, TOKENS - 1), max_size=3, unique=True).map(sorted))
@settings(max_examples=12)
def test_every_row_is_read_as_if_alone_in_any_calls(mask, cuts):
    """Padding at the left, at the right, in holes, of whole rows: tokens, states and gradients are those of a row."""
    mask, model = torch.tensor(mask), make_model("mac")
    x = model.embedding(random_tokens(model, BATCH, TOKENS)).detach().requires_grad_()
    state, found = RowStates.begin(model.initial_state(BATCH)), []
    for begin, end in zip([0, *cuts], [*cuts, TOKENS], strict=True):
        (y, twice), state = read_rows(reader(model), x[:, begin:end], mask[:, begin:end], state, outputs=2)
        assert torch.equal(twice, 2 * y)
        found.append(y)
    y = torch.cat(found, dim=1)
    assert state.seen == TOKENS
    assert {row: count for rows, count in zip(state.rows, state.counts, strict=True) for row in rows} == dict(
        enumerate(mask.sum(1).tolist())
    )
    assert sorted(row for rows in state.rows for row in rows) == list(range(BATCH))
    (gradient,) = torch.autograd.grad(y[mask].square().sum() + 0 * x.sum(), x)
    assert not gradient[~mask].any()
    for row in range(BATCH):
        (want, _), want_state = read_alone(model, x, mask, row)
        assert_same({"y": y[row, mask[row]][None]}, {"y": want}, 1e-9)
        assert_same_states(state.select(torch.tensor([row])).groups[0], want_state)
        if want.numel():
            (alone,) = torch.autograd.grad(want.square().sum(), x)
            assert_same({"gradient": gradient[row]}, {"gradient": alone[row]}, 1e-9)


def test_a_position_that_is_no_token_repeats_the_last_one_or_is_zero():
    model = make_model("mac")
    x = model.embedding(random_tokens(model, 2, 5)).detach()
    mask = torch.tensor([[0, 1, 0, 1, 0], [0, 0, 0, 0, 0]]).bool()
    (y, _), _ = read_rows(reader(model), x, mask, RowStates.begin(model.initial_state(2)), outputs=2)
    assert not y[0, 0].any()
    assert torch.equal(y[0, 2], y[0, 1])
    assert torch.equal(y[0, 4], y[0, 3])
    assert not y[1].any()


@pytest.mark.parametrize("mask", [None, torch.ones(BATCH, TOKENS, dtype=torch.bool)], ids=["none", "all ones"])
def test_without_padding_there_is_one_group_and_one_call(mask):
    model = make_model("mac")
    x, calls = model.embedding(random_tokens(model, BATCH, TOKENS)), []

    def read(x, state):
        calls.append(x.shape)
        return reader(model)(x, state)

    _, state = read_rows(read, x, mask, RowStates.begin(model.initial_state(BATCH)), outputs=2)
    _, state = read_rows(read, x, mask, state, outputs=2)
    assert calls == [x.shape, x.shape]
    assert state.rows == ((0, 1, 2),)


def test_rows_of_one_length_are_read_together():
    """As many calls as there are different lengths, not as there are rows."""
    model = make_model("mac")
    x, calls = model.embedding(random_tokens(model, 4, 6)), []

    def read(x, state):
        calls.append(tuple(x.shape[:2]))
        return reader(model)(x, state)

    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6, [1, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 1]]).bool()
    _, state = read_rows(read, x, mask, RowStates.begin(model.initial_state(4)), outputs=2)
    assert sorted(calls) == [(1, 5), (1, 6), (2, 4)]
    read_rows(read, x[:, :1], None, state, outputs=2)
    assert sorted(calls[3:]) == [(1, 1), (1, 1), (2, 1)]


@pytest.mark.parametrize("rows", [[0, 1, 2], [2, 1, 0], [1, 1, 1, 0], [2]])
def test_rows_are_selected_across_groups(rows, tmp_path):
    model, rows = make_model("mac"), torch.tensor(rows)
    x = model.embedding(random_tokens(model, 3, 7)).detach()
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1] * 7, [0, 0, 1, 1, 1, 1, 1]]).bool()
    begin = RowStates.begin(model.initial_state(3))
    _, state = read_rows(reader(model), x, mask, begin, outputs=2)
    chosen = state.select(rows)
    assert chosen.batch == len(rows)
    counts = {row: count for part, count in zip(chosen.rows, chosen.counts, strict=True) for row in part}
    assert counts == dict(enumerate(mask[rows].sum(1).tolist()))
    assert chosen.seen == 7
    _, want = read_rows(reader(model), x[rows], mask[rows], RowStates.begin(model.initial_state(len(rows))), outputs=2)
    for row in range(len(rows)):
        one = torch.tensor([row])
        assert_same_states(chosen.select(one).groups[0], want.select(one).groups[0])
    chosen.save(tmp_path / "state")
    assert_identical_states(RowStates.load(tmp_path / "state"), chosen)
