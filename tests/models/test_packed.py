"""Documents packed into rows give what each gives in a row of its own: logits, loss, gradients and the last state."""

from __future__ import annotations

from itertools import pairwise
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import titans.model
import titans.rows
from tests.proofs.model_proofs import (
    MODELS,
    VARIANTS,
    assert_same_states,
    embedded,
    make_model,
    random_tokens,
    tensors_of,
)
from tests.proofs.proofs import assert_same
from tests.refusals.refused import refused
from titans import TitansLM
from titans.rows import ModelState

ROWS, TOKENS = 3, 13
SLIDING = {"sliding": True, "window": 6}
KINDS = {**{variant: (variant, {}) for variant in VARIANTS}, "mac sliding": ("mac", SLIDING | {"memory_tokens": 1}),
         "attention sliding": ("attention", SLIDING)}  # fmt: skip


def random_starts(rows: int, tokens: int, seed: int, share: float = 0.25) -> Tensor:
    return torch.rand(rows, tokens, generator=torch.Generator().manual_seed(seed)) < share


def one(row: int) -> Tensor:
    return torch.tensor([row])


def separately(model: TitansLM, tokens: Tensor, starts: Tensor, state: ModelState | None):
    """Logits, the sum of losses and how many count, and the state of each row, with a call of its own for each
    document."""
    logits, states, loss, count = [], [], torch.tensor(0.0).double(), 0
    for row in range(len(tokens)):
        begins = starts[row].nonzero()[:, 0].tolist()
        found = []
        for begin, end in pairwise(sorted({0, *begins, tokens.shape[1]})):
            goes_on = state is not None and begin not in begins
            document = tokens[row : row + 1, begin:end]
            output = model(document, state.select(one(row)) if goes_on else None, labels=document)
            found.append(output.logits)
            loss, count = loss + output.loss * (end - begin - 1), count + end - begin - 1
        logits.append(torch.cat(found, dim=1))
        states.append(output.state)
    return torch.cat(logits), loss, count, states


def in_calls(model: TitansLM, tokens: Tensor, starts: Tensor, state: ModelState | None, cuts):
    """Logits and the last state of packed rows that are read in several calls."""
    logits = []
    for begin, end in pairwise([0, *cuts, tokens.shape[1]]):
        output = model(tokens[:, begin:end], state, starts=starts[:, begin:end])
        state = output.state
        logits.append(output.logits)
    return torch.cat(logits, dim=1), state


def gradients(model: TitansLM, scalar: Tensor) -> dict[str, Tensor]:
    named = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    found = torch.autograd.grad(scalar, list(named.values()), retain_graph=True, materialize_grads=True)
    return dict(zip(named, found, strict=True))


def carried(state: ModelState) -> Tensor:
    """A number that every tensor of a state moves."""
    return sum(tensor.square().sum() for tensor in tensors_of(state).values())


# ---- Equal to separate rows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_packed_documents_are_those_of_separate_rows(name):
    variant, options = MODELS[name]
    model = make_model(variant, **options)
    tokens, starts = random_tokens(model, ROWS, TOKENS), random_starts(ROWS, TOKENS, seed=len(name))
    output = model(tokens, labels=tokens, starts=starts)
    logits, loss, count, states = separately(model, tokens, starts, None)
    assert_same({"logits": output.logits, "loss": output.loss}, {"logits": logits, "loss": loss / count})
    for row, state in enumerate(states):
        assert_same_states(output.state.select(one(row)), state)
    got = gradients(model, output.loss + carried(output.state))
    assert_same(got, gradients(model, loss / count + sum(map(carried, states))))


@given(
    st.sampled_from(sorted(KINDS)),
    st.integers(1, 4),
    st.integers(1, 16),
    st.integers(0, 10**6),
    st.sampled_from([0.1, 0.3, 0.7]),
    st.sampled_from([None, 1, 5]),
    st.data(),
)
@settings(max_examples=30)
def test_any_packing_in_any_calls_from_any_state(name, rows, tokens, seed, share, before, data):
    """Cut anywhere into calls, from the start or going on: logits, states, and gradients through all calls."""
    variant, options = KINDS[name]
    model = make_model(variant, layers=1, **options)
    cuts = (
        sorted(data.draw(st.lists(st.integers(1, max(1, tokens - 1)), max_size=3, unique=True))) if tokens > 1 else []
    )
    x, starts = random_tokens(model, rows, tokens, seed), random_starts(rows, tokens, seed, share)
    state = None if before is None else model(random_tokens(model, rows, before, seed + 1)).state
    with (
        patch.object(titans.rows, "LEAST_PADDING", data.draw(st.sampled_from([0, 6, 1000]))),
        patch.object(titans.model, "SHORTEST_STRETCH", data.draw(st.sampled_from([1, 5, 32]))),
    ):
        logits, after = in_calls(model, x, starts, state, cuts)
    want, _, _, states = separately(model, x, starts, state)
    assert_same({"logits": logits}, {"logits": want})
    for row, alone in enumerate(states):
        assert_same_states(after.select(one(row)), alone)
    assert_same(gradients(model, logits.square().sum()), gradients(model, want.square().sum()))


@pytest.mark.parametrize("name", KINDS)
def test_documents_of_several_stretches(name):
    """As long as they are in use: segments and chunks of the usual size, documents of very different lengths."""
    variant, options = KINDS[name]
    sizes = {"segment_len": 32, "chunk_size": 16, "window": 24, "layers": 1}
    model = make_model(variant, **(options | sizes))
    lengths, total = ([5, 70, 1, 120, 33], [97, 32, 64, 36], [200, 29], [229]), 229
    starts = torch.zeros(len(lengths), total, dtype=torch.bool)
    for row, some in enumerate(lengths):
        starts[row, torch.tensor([0, *some]).cumsum(0)[:-1]] = True
    tokens = random_tokens(model, len(lengths), total)
    output = model(tokens, labels=tokens, starts=starts)
    logits, loss, count, states = separately(model, tokens, starts, None)
    assert count == len(lengths) * total - sum(map(len, lengths))
    assert_same({"logits": output.logits, "loss": output.loss}, {"logits": logits, "loss": loss / count})
    assert_same(gradients(model, output.loss), gradients(model, loss / count))
    for row, state in enumerate(states):
        assert_same_states(output.state.select(one(row)), state)


@pytest.mark.parametrize("name", KINDS)
def test_documents_are_read_together_in_few_calls(name):
    """In stretches: not one call a document."""
    variant, options = KINDS[name]
    model = make_model(variant, layers=1, **(options | {"segment_len": 32, "chunk_size": 16, "window": 24}))
    lengths = torch.randint(16, 200, (40,), generator=torch.Generator().manual_seed(3))
    starts = torch.zeros(1, int(lengths.sum()), dtype=torch.bool)
    starts[0, lengths.cumsum(0)[:-1]] = True
    starts[0, 0] = True
    sizes = []
    hook = model.blocks[0].register_forward_hook(lambda _, inputs, __: sizes.append(inputs[0].shape[:2]))
    with torch.no_grad():
        model(random_tokens(model, 1, starts.shape[1]), starts=starts)
    hook.remove()
    assert len(sizes) <= 8
    assert sum(rows * tokens for rows, tokens in sizes) <= 1.2 * starts.shape[1]


# ---- Where documents begin -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_no_border_is_a_plain_call_and_a_border_at_the_start_forgets_the_state(variant):
    model = make_model(variant)
    tokens, state = random_tokens(model, 2, 7), model(random_tokens(model, 2, 5, seed=2)).state
    none = torch.zeros(2, 7, dtype=torch.bool)
    first = none.clone()
    first[:, 0] = True
    assert torch.equal(model(tokens, state, starts=none).logits, model(tokens, state).logits)
    assert torch.equal(model(tokens, state, starts=first).logits, model(tokens).logits)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_token_of_a_new_document_beside_one_that_goes_on(variant):
    """As a server reads them, without gradients."""
    model = make_model(variant)
    tokens, new = random_tokens(model, 3, 7), random_tokens(model, 3, 1, seed=2)
    starts = torch.tensor([[False], [True], [False]])
    with torch.no_grad():
        output = model(new, model(tokens).state, starts=starts)
        want = [model(new[row : row + 1], None if row == 1 else model(tokens[one(row)]).state) for row in range(3)]
    assert_same({"logits": output.logits}, {"logits": torch.cat([alone.logits for alone in want])})
    more = random_tokens(model, 3, 4, seed=3)
    later = model(more, output.state).logits
    for row, alone in enumerate(want):
        assert_same({"later": later[one(row)]}, {"later": model(more[one(row)], alone.state).logits})


@pytest.mark.parametrize("variant", VARIANTS)
def test_rows_that_were_joined_read_several_tokens_and_documents(variant):
    """From states at three places: as each row alone, and with a document that begins in one of them."""
    model = make_model(variant)
    each = [model(random_tokens(model, rows, tokens, seed=tokens)).state for rows, tokens in ((1, 3), (2, 5), (1, 4))]
    state, tokens = ModelState.join(each), random_tokens(model, 4, 6)
    for starts in (torch.zeros(4, 6, dtype=torch.bool), random_starts(4, 6, seed=0)):
        output = model(tokens, state, labels=tokens, starts=starts)
        logits, loss, count, states = separately(model, tokens, starts, state)
        assert_same({"logits": output.logits, "loss": output.loss}, {"logits": logits, "loss": loss / count})
        for row, alone in enumerate(states):
            one_more = random_tokens(model, 1, 5, seed=row)
            got = model(one_more, output.state.select(one(row))).logits
            assert_same({"later": got}, {"later": model(one_more, alone).logits})
    assert torch.equal(model(tokens, state).logits, model(tokens, state, starts=torch.zeros_like(starts)).logits)


def test_a_documents_first_label_does_not_count():
    """It is no continuation: whatever stands there, the loss is that of the others."""
    model = make_model("mac")
    tokens, starts = random_tokens(model, 2, 9), torch.zeros(2, 9, dtype=torch.bool)
    starts[0, 4] = starts[1, 7] = True
    labels = tokens.masked_fill(starts, -100)
    want = model(tokens, labels=labels, starts=starts).loss
    assert torch.equal(model(tokens, labels=tokens, starts=starts).loss, want)
    assert torch.equal(model(tokens, labels=(tokens + starts.long()) % 7, starts=starts).loss, want)
    assert model(tokens, labels=tokens).loss != want
    every = torch.ones_like(starts)
    assert model(tokens, labels=tokens, starts=every).loss == 0


# ---- Nothing gets across a border ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", KINDS)
def test_no_gradient_crosses_a_border(name):
    variant, options = KINDS[name]
    model = make_model(variant, **options)
    tokens, starts = random_tokens(model, 2, 12), torch.zeros(2, 12, dtype=torch.bool)
    starts[0, [3, 8]] = True
    starts[1, 5] = True
    document = starts.long().cumsum(1) + torch.tensor([[0], [10]])
    x = model.embedding(tokens).detach().requires_grad_()
    with embedded(model, x):
        logits = model(tokens, starts=starts).logits
    for number in document.unique().tolist():
        own = document == number
        (gradient,) = torch.autograd.grad(logits[own].square().sum(), x, retain_graph=True)
        assert gradient[own].abs().sum(-1).all()
        assert not gradient[~own].any()


@pytest.mark.parametrize("name", ["attention", "attention sliding"])
def test_nan_in_one_document_does_not_reach_another(name):
    """Attention lets NaN pass, in its own document alone; a memory refuses it."""
    variant, options = KINDS[name]
    model, tokens = make_model(variant, **options), torch.tensor([[1, 2, 3, 1, 0, 2, 1, 3, 1]])
    starts = torch.zeros(1, 9, dtype=torch.bool)
    starts[0, [3, 6]] = True
    own = torch.arange(9).div(3, rounding_mode="floor") == 1
    want = model(tokens, starts=starts)
    x = model.embedding(tokens).detach().masked_fill(own[None, :, None], torch.nan).requires_grad_()
    with embedded(model, x):
        output = model(tokens, starts=starts)
    assert output.logits[0, own].isnan().all()
    assert torch.equal(output.logits[0, ~own], want.logits[0, ~own])
    assert_same_states(output.state, want.state)
    (gradient,) = torch.autograd.grad(output.logits[0, ~own].square().sum(), x)
    assert gradient[0, ~own].isfinite().all()
    memory = make_model("mac")
    with embedded(memory, x):
        refused(ValueError, lambda: memory(tokens, starts=starts), "x must hold numbers", "NaN")


def test_no_argument_and_no_state_that_was_handed_out_changes():
    model = make_model("mac")
    tokens, starts = random_tokens(model, ROWS, TOKENS), random_starts(ROWS, TOKENS, seed=4)
    state = model(random_tokens(model, ROWS, 5)).state
    first = model(tokens, state, labels=tokens, starts=starts)
    held = [tokens, starts, *tensors_of(state).values(), *tensors_of(first.state).values()]
    before = [tensor.detach().clone() for tensor in held]
    model(tokens, state, labels=tokens, starts=starts).loss.backward()
    model(tokens, first.state, starts=starts)
    assert all(map(torch.equal, held, before))


@pytest.mark.parametrize("variant", VARIANTS)
def test_in_float32_packed_rows_agree_with_separate_ones(variant):
    model = make_model(variant).float()
    tokens, starts = random_tokens(model, ROWS, TOKENS), random_starts(ROWS, TOKENS, seed=5)
    output = model(tokens, starts=starts)
    assert output.logits.dtype == torch.float32
    assert_same({"logits": output.logits}, {"logits": separately(model, tokens, starts, None)[0]}, 2e-5)


# ---- What is refused -------------------------------------------------------------------------------------------------


def test_what_are_no_starts_is_refused():
    model = make_model("mac")
    tokens = random_tokens(model, 2, 5)
    refused(TypeError, lambda: model(tokens, starts=[[True] * 5] * 2), "starts must be a tensor, got list")
    refused(TypeError, lambda: model(tokens, starts=torch.ones(2, 5)), "starts must be booleans", "got torch.float32")
    refused(TypeError, lambda: model(tokens, starts=torch.zeros_like(tokens)), "starts must be booleans", "torch.int64")
    for shape in ((2, 4), (1, 5), (5,)):
        wrong = torch.ones(shape, dtype=torch.bool)
        refused(ValueError, lambda wrong=wrong: model(tokens, starts=wrong), "starts must have the shape of tokens, [2")
    sparse = torch.ones(2, 5, dtype=torch.bool).to_sparse()
    refused(TypeError, lambda: model(tokens, starts=sparse), "starts must be a dense tensor")
