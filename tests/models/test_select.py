"""Rows of a state are chosen by places, from either end, or by a mask: the right ones in every variant."""

from __future__ import annotations

import pytest
import torch

from tests.proofs.model_proofs import VARIANTS, assert_identical_states, assert_same_states, make_model, random_tokens
from tests.proofs.proofs import assert_same
from tests.refusals.refused import refused
from titans import NeuralMemory
from titans.rows import RowStates, read_rows

ROWS, TOKENS = 4, 7
# What selects, and the rows that it means among four.
SELECTIONS = {
    "places": (torch.tensor([2, 0, 0]), [2, 0, 0]),
    "int32": (torch.tensor([3, 1], dtype=torch.int32), [3, 1]),
    "from the end": (torch.tensor([-1, 1, -4]), [3, 1, 0]),
    "mask": (torch.tensor([True, False, False, True]), [0, 3]),
    "whole mask": (torch.ones(4, dtype=torch.bool), [0, 1, 2, 3]),
}
each_selection = pytest.mark.parametrize(("chosen", "rows"), SELECTIONS.values(), ids=SELECTIONS)
WRONG = [
    ([0], TypeError, "must be a tensor, got list"),
    (0, TypeError, "must be a tensor, got int"),
    (torch.tensor([0.0, 1.0]), TypeError, "must hold whole numbers or booleans, got torch.float32"),
    (torch.tensor([0, 1], dtype=torch.uint8), TypeError, "must hold whole numbers or booleans, got torch.uint8"),
    (torch.tensor(1), ValueError, "must have one axis, [rows], got shape []"),
    (torch.tensor([[0, 1]]), ValueError, "must have one axis, [rows], got shape [1, 2]"),
    (torch.ones(4, 1, dtype=torch.bool), ValueError, "must have one axis, [rows], got shape [4, 1]"),
    (torch.ones(3, dtype=torch.bool), ValueError, "must hold a boolean for each of 4 rows, got 3"),
    (torch.tensor([0, 4]), ValueError, "must be in [-4, 3], got values from 0 to 4"),
    (torch.tensor([-5, 1]), ValueError, "must be in [-4, 3], got values from -5 to 1"),
    (torch.zeros(4, dtype=torch.bool), ValueError, "must select at least one row, got none"),
    (torch.tensor([], dtype=torch.long), ValueError, "must select at least one row, got none"),
    (torch.tensor([0, 1]).to_sparse(), TypeError, "must be a dense tensor (torch.strided), got a torch.sparse_coo one"),
]


def padded(model) -> RowStates:
    """The state of four rows that have read 5, 7, 5 and 6 tokens."""
    x, begin = model.embedding(random_tokens(model, ROWS, TOKENS)).detach(), RowStates.begin(model.begin(ROWS))
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1] * 7, [0, 0, 1, 1, 1, 1, 1], [0, 1, 1, 1, 1, 1, 1]]).bool()
    return begin.moved_on(read_rows(model.reader(), x, begin.state, mask)[1], TOKENS, mask)


@each_selection
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_models_state_is_selected_and_goes_on_as_those_rows(variant, chosen, rows):
    model = make_model(variant)
    tokens, more = random_tokens(model, ROWS, TOKENS), random_tokens(model, ROWS, 5, seed=2)
    state = model(tokens).state
    some = state.select(chosen)
    assert some.batch == len(rows)
    assert_same_states(some, model(tokens[rows]).state)
    whole = model(more, state).logits
    assert_same({"logits": model(more[rows], some).logits}, {"logits": whole[rows]})


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_state_before_the_first_token_is_selected_too(variant):
    model = make_model(variant)
    chosen = model.initial_state(ROWS).select(torch.tensor([True, False, True, False]))
    assert_identical_states(chosen, model.initial_state(2))


@each_selection
def test_a_layers_state_is_selected(chosen, rows):
    layer, x = NeuralMemory(8, heads=2, chunk_size=3).double(), torch.randn(ROWS, TOKENS, 8).double()
    some = layer(x)[1].select(chosen)
    assert_same(some.tensors(), layer(x[rows])[1].tensors())


@each_selection
def test_rows_at_several_places_are_selected(chosen, rows):
    state = padded(make_model("mac"))
    assert len(set(state.state.places)) == 3
    some = state.select(chosen)
    assert some.batch == len(rows)
    for new, old in enumerate(rows):
        one, other = (states.select(torch.tensor([row])) for states, row in ((some, new), (state, old)))
        assert_identical_states(one, other)


@pytest.mark.parametrize(("wrong", "kind", "message"), WRONG)
def test_what_selects_no_rows_is_refused(wrong, kind, message):
    model = make_model("mac")
    layer = NeuralMemory(8)
    fresh, read = (make_model(variant).initial_state(ROWS) for variant in ("attention", "mac"))
    for state in (layer(torch.randn(ROWS, 3, 8))[1], fresh, read, padded(model)):
        refused(kind, lambda state=state: state.select(wrong), f"rows {message}")
