"""What no way of cutting a sequence into chunks and calls may change, and what the chunked form promises besides."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests.proofs import proofs
from tests.proofs.scans import SCANS, each_activation, each_scan, is_tame
from tests.proofs.strategies import Case, cases, each_tensor, make
from titans import DeepMemory, chunked_scan, recurrent_scan

# ---- Splits (D10) ----------------------------------------------------------------------------------------------------


@settings(max_examples=40)
@given(cases, st.data())
def test_D10_splitting_a_sequence_changes_nothing(case, data):
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, case.tokens - 1))), label="cuts") - {case.tokens})
    assume(is_tame(case))
    for scans in ([chunked_scan], [recurrent_scan], [chunked_scan, recurrent_scan]):
        proofs.splitting_changes_nothing(scans, case, cuts)


@pytest.mark.parametrize("chunk_size", [1, 2, 3, 5, 16])
def test_D10_single_tokens_give_what_one_call_gives(chunk_size):
    case = Case(tokens=11, chunk_size=chunk_size, depth=3, max_surprise=1.0)
    for scans in ([chunked_scan], [chunked_scan, recurrent_scan]):
        proofs.splitting_changes_nothing(scans, case, range(1, 11))


@each_scan
def test_D7_detach_cuts_the_gradient_to_earlier_calls(scan):
    problem = make(Case(tokens=8, chunk_size=3, fresh=True))
    for cut in (3, 4):  # on a chunk's border, and inside
        _, state = proofs.run(scan, problem, slice(0, cut))
        y, _ = proofs.run(scan, problem, slice(cut, 8), state.detach())
        assert not any(tensor.requires_grad for tensor in state.detach().tensors().values())
        for name, leaf in problem.inputs.items():
            (gradient,) = torch.autograd.grad(y.sum(), leaf, retain_graph=True)
            assert (gradient[:, :, :cut] == 0).all()
            assert (gradient[:, :, cut:] != 0).any(), name
        assert torch.autograd.grad(y.sum(), list(problem.memory.weights), allow_unused=True) == (None, None)

        whole, _ = proofs.run(scan, problem, slice(cut, 8), state)  # without detach the gradient does arrive
        assert torch.equal(whole, y)
        for name in ("k", "v", "theta", "eta", "alpha"):
            (gradient,) = torch.autograd.grad(whole.sum(), problem.inputs[name], retain_graph=True)
            assert (gradient[:, :, :cut] != 0).any(), name
        for gradient in torch.autograd.grad(whole.sum(), list(problem.memory.weights), retain_graph=True):
            assert gradient.any()


# ---- Causality, independence, determinism ----------------------------------------------------------------------------


@each_scan
@pytest.mark.parametrize(("chunk_size", "tokens"), [(1, 5), (2, 7), (3, 7), (4, 8), (16, 5)])
@pytest.mark.parametrize(("depth", "residual"), [(1, False), (2, False), (2, True)])
def test_no_output_depends_on_a_later_token(scan, chunk_size, tokens, depth, residual):
    case = Case(heads=1, batch=1, depth=depth, residual=residual, chunk_size=chunk_size, tokens=tokens)
    proofs.is_causal(scan, case)


@each_scan
@pytest.mark.parametrize("residual", [False, True])
def test_rows_and_heads_never_influence_one_another(scan, residual):
    proofs.rows_and_heads_are_independent(scan, Case(dim=3, expansion=1, residual=residual, tokens=4, max_surprise=0.5))


@each_scan
def test_a_head_alone_gives_what_it_gives_beside_others(scan):
    case = Case(heads=3, tokens=7)
    problem = make(case)
    y, state = proofs.run(scan, problem)
    for head in range(3):
        memory = DeepMemory(case.dim, 1, case.depth, case.expansion).double()
        start = each_tensor(problem.state, lambda tensor, h=head: tensor[:, h : h + 1])
        start = replace(start, signature=memory.signature)
        inputs = {name: tensor[:, head : head + 1] for name, tensor in problem.inputs.items()}
        got, end = proofs.run(scan, replace(problem, memory=memory, state=start, inputs=inputs))
        alone = {"y": got} | end.tensors()
        among = {"y": y} | state.tensors()
        proofs.assert_same(alone, {name: tensor[:, head : head + 1] for name, tensor in among.items()}, 1e-12)


@each_scan
@pytest.mark.parametrize("max_surprise", [None, 0.5])
def test_the_same_call_twice_gives_the_same_bits_and_changes_nothing(scan, max_surprise):
    proofs.repeats_itself(scan, Case(tokens=8, max_surprise=max_surprise))


# ---- Gradients -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    [
        Case(dim=2, heads=1, batch=1, depth=1, tokens=3, chunk_size=2),
        Case(dim=2, heads=1, batch=1, depth=2, tokens=3, chunk_size=2),
        Case(dim=3, heads=1, batch=1, depth=2, tokens=3, chunk_size=3, residual=True, activation="silu"),
        Case(dim=2, heads=2, batch=1, depth=3, tokens=2, chunk_size=1, activation="tanh", expansion=1),
        # Limits away from the kink: one that every token passes, one that none does.
        Case(dim=2, heads=1, batch=1, depth=2, tokens=3, chunk_size=2, max_surprise=1e-3),
        Case(dim=2, heads=1, batch=1, depth=2, tokens=3, chunk_size=2, max_surprise=1e3),
    ],
    ids=lambda case: f"depth{case.depth}-{case.activation}{'-residual' * case.residual}-limit{case.max_surprise}",
)
def test_outer_gradients_pass_gradcheck(case):
    proofs.passes_gradcheck(chunked_scan, case)


@pytest.mark.parametrize(("theta", "eta", "alpha"), list(product((0.0, 1.0), repeat=3)))
@pytest.mark.parametrize("depth", [1, 2])
def test_gates_of_exactly_zero_and_one_have_finite_exact_gradients(theta, eta, alpha, depth):
    """All tokens at a corner of the cube of gates; a limit keeps theta = 1 from diverging."""
    case = Case(depth=depth, tokens=7, chunk_size=3, max_surprise=0.5)
    problem = make(case)
    for name, value in (("theta", theta), ("eta", eta), ("alpha", alpha)):
        with torch.no_grad():
            problem.inputs[name].fill_(value)
    want = proofs.results(problem, *proofs.run(proofs.plain_loop(case), problem))
    assert all(tensor.isfinite().all() for tensor in want.values())
    for scan in SCANS.values():
        proofs.assert_same(proofs.results(problem, *proofs.run(scan, problem)), want)


@each_scan
@each_activation
@pytest.mark.parametrize("residual", [False, True])
def test_gradients_are_finite_for_zeros_everywhere(scan, activation, residual):
    """Zero keys, queries and values have norms at their kink, and a fresh memory is the zero function."""
    problem = make(Case(activation=activation, residual=residual, fresh=True, tokens=5, max_surprise=1.0))
    with torch.no_grad():
        for name in ("q", "k", "v"):
            problem.inputs[name].zero_()
    for name, tensor in proofs.results(problem, *proofs.run(scan, problem)).items():
        assert tensor.isfinite().all(), name


# ---- Cost ------------------------------------------------------------------------------------------------------------


class LargestTensor(TorchDispatchMode):
    """Notes how many numbers the largest tensor holds that any operation makes."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self.numbers = max(self.numbers, tensor.untyped_storage().nbytes() // tensor.element_size())
        return out


def test_nothing_of_the_size_of_the_weights_is_made_for_a_token():
    problem = make(Case(dim=32, heads=1, depth=2, expansion=4, batch=1, tokens=64, chunk_size=64, fresh=True))
    weights = problem.memory.weights[0].numel()
    with LargestTensor() as largest:
        y, _ = proofs.run(chunked_scan, problem)
        y.sum().backward()
    assert weights <= largest.numbers < 64 * weights / 8


@each_scan
def test_a_state_does_not_grow_with_the_tokens_it_has_seen(scan):
    sizes = []
    for tokens in (1, 5, 40):
        _, state = proofs.run(scan, make(Case(tokens=tokens, chunk_size=16, fresh=True)))
        sizes.append(sum(tensor.numel() for tensor in state.tensors().values()))
    assert sizes[0] == sizes[1] == sizes[2]


@each_scan
def test_float32_agrees_with_float64_to_its_own_precision(scan):
    problem = make(Case(tokens=11, chunk_size=4, fresh=True))
    y, _ = proofs.run(scan, problem)
    memory = DeepMemory(3, 2, 2, 2)
    memory.load_state_dict(problem.memory.state_dict())
    inputs = {name: tensor.detach().float() for name, tensor in problem.inputs.items()}
    single, _ = proofs.run(scan, replace(problem, memory=memory, state=memory.initial_state(2), inputs=inputs))
    assert single.dtype == torch.float32
    proofs.assert_same({"y": single.double()}, {"y": y}, 1e-5)
