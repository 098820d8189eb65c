"""Rows of a batch that differ in what they are to read, and in where they stand: each is read as if it were alone."""

from __future__ import annotations

from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import titans.rows
from tests.proofs.model_proofs import assert_identical_states, assert_same_states, make_model, random_tokens
from tests.proofs.proofs import assert_same
from tests.refusals.refused import refused
from titans.rows import ModelState, Piece, RowStates, Stretch, cut, read_rows, read_together, take_apart

BATCH, TOKENS = 3, 9


def reader(model, calls: list | None = None, **options):
    """What reads with a model and gives x and features; what it is asked for is added to `calls`."""
    made = model.reader(every=True)

    def read(x, state):
        if calls is not None:
            calls.append(tuple(x.shape[:2]))
        results, state = made.read(x, state)
        return (results[-1], 2 * results[-1]), state

    return made._replace(read=read, results=2, **options)


def read_alone(model, x, mask, starts, row):
    """What a row's own tokens give without the others, and the state after them."""
    own, begins = x[row : row + 1, mask[row]], starts[row, mask[row]].nonzero()[:, 0].tolist()
    state, found = model.initial_state(1), [own[:, :0]]
    for begin, end in zip([0, *begins], [*begins, own.shape[1]], strict=True):
        state = model.initial_state(1) if begin in begins else state
        if end > begin:
            (y, _), state = reader(model).read(own[:, begin:end], state)
            found.append(y)
    return torch.cat(found, dim=1), state


each = st.lists(st.lists(st.booleans(), min_size=TOKENS, max_size=TOKENS), min_size=BATCH, max_size=BATCH)


@given(
    each,
    each,
    st.lists(st.integers(1, TOKENS - 1), max_size=3, unique=True).map(sorted),
    st.integers(1, 5),
    st.integers(0, 4),
    st.sampled_from([0, 3, 100]),
    st.sampled_from(["mac", "mag"]),
)
@settings(max_examples=20)
def test_every_row_is_read_as_if_alone_in_any_calls(mask, starts, cuts, unit, ahead, least, variant):
    """Padding at the left, at the right, in holes, of whole rows, and documents that begin anywhere, in any stretches:
    tokens, states and gradients are those of a row."""
    mask, starts, model = torch.tensor(mask), torch.tensor(starts), make_model(variant)
    x = model.embedding(random_tokens(model, BATCH, TOKENS)).detach().requires_grad_()
    state, found = RowStates.begin(model.begin(BATCH)), []
    with patch.object(titans.rows, "LEAST_PADDING", least):
        for begin, end in zip([0, *cuts], [*cuts, TOKENS], strict=True):
            part = slice(begin, end)
            some = reader(model, unit=unit, ahead=ahead % unit)
            (y, twice), after = read_rows(some, x[:, part], state.state, mask[:, part], starts[:, part])
            state = state.moved_on(after, end - begin, mask[:, part])
            assert torch.equal(twice, 2 * y)
            found.append(y)
    y = torch.cat(found, dim=1)
    assert (state.seen, state.counts) == (TOKENS, tuple(mask.sum(1).tolist()))
    (gradient,) = torch.autograd.grad(y[mask].square().sum() + 0 * x.sum(), x)
    assert not gradient[~mask].any()
    for row in range(BATCH):
        want, want_state = read_alone(model, x, mask, starts, row)
        assert_same({"y": y[row, mask[row]][None]}, {"y": want})
        own = state.select(torch.tensor([row])).state
        (on, _), _ = reader(model).read(x[row : row + 1, :2], own)
        (want_on, _), _ = reader(model).read(x[row : row + 1, :2], want_state)
        assert_same({"next": on}, {"next": want_on})
        if want.numel():
            assert_same_states(own, want_state)
            (alone,) = torch.autograd.grad(want.square().sum(), x)
            assert_same({"gradient": gradient[row]}, {"gradient": alone[row]})


def test_a_position_that_is_no_token_repeats_the_last_one_or_is_zero():
    model = make_model("mac")
    x = model.embedding(random_tokens(model, 2, 5)).detach()
    mask = torch.tensor([[0, 1, 0, 1, 0], [0, 0, 0, 0, 0]]).bool()
    (y, _), _ = read_rows(reader(model), x, model.begin(2), mask)
    assert not y[0, 0].any()
    assert torch.equal(y[0, 2], y[0, 1])
    assert torch.equal(y[0, 4], y[0, 3])
    assert not y[1].any()


def test_a_batch_without_any_token_gives_zeros_and_keeps_its_state():
    model = make_model("mac")
    x, begun = torch.ones(2, 3, 8).double(), model(random_tokens(model, 2, 4)).state
    for state in (model.begin(2), begun):
        results, after = read_rows(reader(model), x, state, torch.zeros(2, 3, dtype=torch.bool))
        assert [result.shape for result in results] == [x.shape] * 2
        assert not any(result.any() for result in results)
        assert_identical_states(after, state)


# ---- How many calls --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mask", [None, torch.ones(BATCH, TOKENS, dtype=torch.bool)], ids=["none", "all ones"])
@pytest.mark.parametrize("starts", [None, False, True])
def test_without_padding_and_borders_there_is_one_call(mask, starts):
    """A document that begins with the call is none either."""
    model, calls = make_model("mac"), []
    x = model.embedding(random_tokens(model, BATCH, TOKENS))
    if starts is not None:
        starts = torch.tensor([starts] + [False] * (TOKENS - 1)).expand(BATCH, TOKENS)
    _, state = read_rows(reader(model, calls), x, model.begin(BATCH), mask, starts)
    (y, _), state = read_rows(reader(model, calls), x, state, mask, starts)
    assert calls == [x.shape[:2]] * 2
    whole = torch.cat((x, x), dim=1) if starts is None or not starts.any() else x
    assert_same({"y": y}, {"y": reader(model).read(whole, model.begin(BATCH))[0][0][:, -TOKENS:]})


def test_rows_of_one_length_are_read_together():
    """The longest, and what is left of others behind whole units."""
    model, calls = make_model("mac"), []
    x = model.embedding(random_tokens(model, 4, 6))
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6, [1, 1, 1, 1, 0, 0], [0, 1, 1, 1, 1, 1]]).bool()
    _, state = read_rows(reader(model, calls, unit=4), x, model.begin(4), mask)
    assert calls == [(4, 4), (1, 2), (1, 1)]
    calls.clear()
    read_rows(reader(model, calls), x[:, :2], state)
    assert sorted(calls) == [(1, 2), (1, 2), (2, 2)]


@torch.no_grad()
def test_a_token_of_rows_that_differ_is_one_call_without_gradients():
    model, calls = make_model("mac"), []
    x = model.embedding(random_tokens(model, 3, 6))
    mask = torch.tensor([[0, 0, 1, 1, 1, 1], [1] * 6, [0, 1, 1, 1, 1, 1]]).bool()
    _, state = read_rows(reader(model), x, model.begin(3), mask)
    (y, _), after = read_rows(reader(model, calls), x[:, :1], state)
    assert calls == [(3, 1)]
    for row in range(3):
        one = torch.tensor([row])
        (want, _), want_state = reader(model).read(x[one, :1], state.select(one))
        assert_same({"y": y[one]}, {"y": want})
        assert_same_states(after.select(one), want_state)


def test_pieces_are_the_documents_of_each_row_without_its_padding():
    tokens = torch.tensor([0, 1, 2, 4, 6, 7, 12])  # of rows of 5 positions
    starts = torch.tensor([0, 0, 1, 1, 0, 1, 0]).bool()
    assert take_apart(tokens, starts, 5) == [
        Piece(0, 0, 2, fresh=False, last=False),
        Piece(0, 2, 3, fresh=True, last=False),
        Piece(0, 3, 4, fresh=True, last=True),
        Piece(1, 4, 5, fresh=False, last=False),
        Piece(1, 5, 6, fresh=True, last=True),
        Piece(2, 6, 7, fresh=False, last=True),
    ]
    assert [piece.begin for piece in take_apart(tokens, None, 5)] == [0, 4, 6]


def piece(tokens: int, last: bool = False) -> Piece:
    return Piece(0, 0, tokens, fresh=True, last=last)


def test_the_last_pieces_of_rows_are_read_with_others_as_far_as_whole_units():
    pieces = [piece(3), piece(14, last=True), piece(17), piece(1, last=True), piece(8, last=True)]
    assert read_together(pieces, unit=5, ahead=2) == ([pieces[2], pieces[1], pieces[4], pieces[0], pieces[3]],
                                                      [17, 12, 7, 3, 0])  # fmt: skip
    assert read_together([piece(6, last=True), piece(5)], 4, 0)[1] == [6, 5]  # the longest is read to its end


def test_stretches_end_at_whole_units_where_that_saves_enough():
    pieces, needs = read_together([piece(20), *[piece(3)] * 6, *[piece(9)] * 2, piece(13, last=True)], 4, 0)
    assert needs == [20, 12, 9, 9, 3, 3, 3, 3, 3, 3]
    assert cut(pieces, needs, 4, 0, least=0) == [Stretch(0, 4, 10), Stretch(4, 12, 4), Stretch(12, 20, 1)]
    assert cut(pieces, needs, 4, 0, least=49) == [Stretch(0, 12, 10), Stretch(12, 20, 1)]  # where a last piece must
    assert cut(pieces, needs, 4, 0, least=48) == [Stretch(0, 4, 10), Stretch(4, 12, 4), Stretch(12, 20, 1)]


# ---- States ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [[0, 1, 2], [2, 1, 0], [1, 1, 1, 0], [2]])
def test_rows_that_differ_are_selected_and_saved(rows, tmp_path):
    model, rows = make_model("mac"), torch.tensor(rows)
    x = model.embedding(random_tokens(model, 3, 7)).detach()
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1] * 7, [0, 0, 1, 1, 1, 1, 1]]).bool()
    begin = RowStates.begin(model.begin(3))
    state = begin.moved_on(read_rows(reader(model), x, begin.state, mask)[1], 7, mask)
    chosen = state.select(rows)
    assert (chosen.batch, chosen.seen, chosen.counts) == (len(rows), 7, tuple(mask[rows].sum(1).tolist()))
    _, want = read_rows(reader(model), x[rows], model.begin(len(rows)), mask[rows])
    assert_same_states(chosen.state, want)
    chosen.save(tmp_path / "state")
    assert_identical_states(RowStates.load(tmp_path / "state"), chosen)


def test_the_first_rows_of_a_state_are_in_the_same_memory():
    model = make_model("mac")
    state = model(random_tokens(model, 3, 7)).state
    first = state.first(2)
    assert_identical_states(first, state.select(torch.tensor([0, 1])))
    own, whole = (list(states.tensors().values()) for states in (first, state))
    assert [tensor.data_ptr() for tensor in own] == [tensor.data_ptr() for tensor in whole]


def test_counts_that_do_not_fit_their_rows_are_refused(tmp_path):
    state = make_model("mac")(torch.ones(2, 3, dtype=torch.long)).state
    for wrong in (RowStates(state, (3,), 3), RowStates(state, (3, 4), 3), RowStates(state, (3, -1), 3)):
        wrong.save(tmp_path / "state")
        refused(ValueError, lambda: RowStates.load(tmp_path / "state"), "RowStates.save", "rows and counts differ")


def test_places_that_do_not_fit_their_rows_are_refused():
    model = make_model("attention", layers=1)
    state = model(random_tokens(model, 3, 2)).state
    (layer,) = state.layers
    object.__setattr__(layer, "place_in_segment", (2, 2))
    wrong = ModelState((layer,), state.signature, 3)
    for call in (lambda: wrong.places, lambda: wrong.select(torch.tensor([2]))):
        refused(ValueError, call, "state must hold a place for each of 3 rows, got [2, 2]")
