"""The update itself: three ways that agree, equations 8-15, decisions D1, D2, D7, D8, D12, and a memory that works.

Every proof runs on both scans: the recurrence judges the chunked form, and is judged here by a loop that knows neither.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings

from tests.proofs import proofs
from tests.proofs.scans import SCANS, each_activation, each_scan, is_tame
from tests.proofs.strategies import Case, cases, make
from titans import DeepMemory, Gates
from titans.recurrence import surprise


@settings(max_examples=100)
@given(cases)
def test_recurrence_and_chunked_form_are_the_plain_loop(case):
    assume(is_tame(case))
    for scan in SCANS.values():
        proofs.agrees_with_the_loop(scan, case)


# ---- The equations, one by one ---------------------------------------------------------------------------------------


def step(scan, eta: float, alpha: float):
    """W before, S before, the gradient by autograd, and W and S after one token with theta = 0.1; depth 2, gelu."""
    problem = make(Case(heads=1, batch=1, tokens=1, chunk_size=1, fresh=False))
    q, k, v = (problem.inputs[name].detach() for name in ("q", "k", "v"))
    before = problem.state.detach()
    at = [weight.clone().requires_grad_() for weight in before.weights]
    loss = (proofs.plain_forward(at, k[:, :, 0], "gelu", False) - v[:, :, 0]).square().sum()
    gradient = torch.autograd.grad(loss, at)
    gates = proofs.plain_gates((1, 1, 1), 0.1, eta, alpha)
    y, after = scan(problem.memory, before, q, k, v, gates, 1)
    return q, y, before, gradient, after


def same(got, want) -> None:
    assert len(got) == len(want)
    for one, other in zip(got, want, strict=True):
        proofs.assert_same({"layer": one}, {"layer": other})


@each_scan
def test_equation_8_a_write_is_a_step_down_the_gradient(scan):
    _, _, before, gradient, after = step(scan, eta=0, alpha=0)
    same(after.weights, [w - 0.1 * u for w, u in zip(before.weights, gradient, strict=True)])


@each_scan
def test_equations_9_and_10_past_surprise_is_carried_on(scan):
    _, _, before, gradient, after = step(scan, eta=0.6, alpha=0)
    moved = [0.6 * s - 0.1 * u for s, u in zip(before.momentum, gradient, strict=True)]
    same(after.momentum, moved)
    same(after.weights, [w + s for w, s in zip(before.weights, moved, strict=True)])


@each_scan
def test_equations_13_and_14_the_memory_forgets_before_the_surprise_is_added(scan):
    _, _, before, gradient, after = step(scan, eta=0.6, alpha=0.25)
    moved = [0.6 * s - 0.1 * u for s, u in zip(before.momentum, gradient, strict=True)]
    same(after.momentum, moved)  # forgetting does not touch the momentum
    same(after.weights, [0.75 * w + s for w, s in zip(before.weights, moved, strict=True)])


@each_scan
def test_equation_15_reading_is_a_forward_pass_with_the_weights_of_that_token(scan):
    q, y, _, _, after = step(scan, eta=0.6, alpha=0.25)
    same([y[:, :, 0]], [proofs.plain_forward(after.weights, q[:, :, 0], "gelu", False)])


@each_activation
@pytest.mark.parametrize("residual", [False, True])
def test_equation_12_surprise_is_the_slope_of_the_loss(activation, residual):
    problem = make(Case(dim=4, heads=2, depth=3, activation=activation, residual=residual, tokens=5, fresh=False))
    k, v, weights = problem.inputs["k"].detach(), problem.inputs["v"].detach(), problem.state.detach().weights

    def loss(weights) -> torch.Tensor:
        answers = [proofs.plain_forward(weights, k[:, :, t], activation, residual) for t in range(5)]
        return (torch.stack(answers, dim=2) - v).square().sum()

    gradients = surprise(problem.memory, weights, k, v)
    for layer, gradient in enumerate(gradients):
        direction = torch.randn_like(gradient)
        nudged = [[*weights[:layer], weights[layer] + h * direction, *weights[layer + 1 :]] for h in (1e-6, -1e-6)]
        slope = (loss(nudged[0]) - loss(nudged[1])) / 2e-6
        assert abs((gradient * direction).sum() - slope) < 1e-6 * max(abs(slope), 1)


# ---- The decisions ---------------------------------------------------------------------------------------------------


@each_scan
def test_D1_gradients_are_taken_at_the_chunk_start(scan):
    proofs.gradients_are_taken_at_the_chunk_start(scan)


@each_scan
def test_D1_chunk_size_one_is_the_recurrence_without_chunks(scan):
    """With chunks of one token every gradient sees all earlier writes; with longer ones it does not."""
    problem = make(Case(tokens=8, chunk_size=1, fresh=True))
    one, _ = proofs.run(scan, problem)
    long, _ = proofs.run(scan, replace(problem, case=replace(problem.case, chunk_size=8)))
    proofs.assert_same({"first": one[:, :, :1]}, {"first": long[:, :, :1]})
    assert proofs.relative_error(one[:, :, 1:], long[:, :, 1:]) > 0.01


@each_scan
def test_D2_a_token_sees_its_own_write(scan):
    proofs.a_token_sees_its_own_write(scan, Case(tokens=7, chunk_size=3))


@each_scan
def test_D7_outer_gradient_is_full(scan):
    proofs.the_outer_gradient_is_full(scan)


@each_scan
def test_D8_loss_is_summed_over_features_and_keeps_its_factor_two(scan):
    """From W_0 = 0 with theta = 1, one pair is written as 2 v k^T, however many features there are."""
    memory = DeepMemory(3, depth=1, residual=False).double()
    k = torch.tensor([[[[1.0, 0, 0]]]], dtype=torch.float64)
    v = torch.tensor([[[[5.0, -7, 11]]]], dtype=torch.float64)
    y, state = scan(memory, memory.initial_state(1), k, k, v, proofs.plain_gates((1, 1, 1), 1, 0, 0))
    assert state.weights[0][0, 0].tolist() == [[10, 0, 0], [-14, 0, 0], [22, 0, 0]]
    assert torch.equal(y, 2 * v)


@each_scan
def test_D12_surprise_is_limited_in_size_and_not_in_direction(scan):
    proofs.surprise_is_limited(scan)


@each_scan
def test_D12_a_limit_that_is_never_reached_changes_no_number(scan):
    case = Case(tokens=8, chunk_size=3)
    free, limited = make(case), make(replace(case, max_surprise=1e9))
    proofs.assert_same(
        proofs.results(limited, *proofs.run(scan, limited)), proofs.results(free, *proofs.run(scan, free)), 1e-14
    )


@each_scan
def test_D12_off_the_scan_diverges_where_gradient_descent_does_and_only_there(scan):
    """A matrix, one key of length 1 again and again, chunks of c: the error is multiplied by 1 - 2 theta c a chunk."""
    chunk, count = 4, 120
    memory = DeepMemory(2, depth=1, residual=False).double()
    k = torch.tensor([1.0, 0], dtype=torch.float64).expand(1, 1, chunk * count, 2)
    v = torch.tensor([0, 1.0], dtype=torch.float64).expand(1, 1, chunk * count, 2)
    for factor in (-0.9, -1.1, -1e3):
        gates = proofs.plain_gates((1, 1, chunk * count), (1 - factor) / (2 * chunk), 0, 0)
        y, state = scan(memory, memory.initial_state(1), k, k, v, gates, chunk)
        learned = state.weights[0][0, 0, 1, 0]
        if factor == -1e3:
            assert not y.isfinite().all(), "the equations leave float64's range here"
        else:
            want = 1 - factor**count  # 1 - 3e-6, and 1 - 9e4
            assert abs(learned - want) < 1e-10 * abs(want)
        limited, _ = scan(memory, memory.initial_state(1), k, k, v, gates, chunk, max_surprise=1.0)
        assert limited.isfinite().all()


# ---- The memory works ------------------------------------------------------------------------------------------------


@each_scan
@each_activation
@pytest.mark.parametrize("residual", [False, True])
def test_a_pair_reads_better_after_it_was_written(scan, activation, residual):
    proofs.writing_lowers_the_loss(scan, Case(dim=4, activation=activation, residual=residual, fresh=not residual))


@each_scan
@pytest.mark.parametrize("depth", [1, 3])
def test_forgetting_alone_multiplies_the_weights_and_nothing_else(scan, depth):
    proofs.forgetting_is_a_product(scan, Case(depth=depth, tokens=9, chunk_size=4, exact=0.0))
    proofs.forgetting_is_a_product(scan, Case(depth=depth, tokens=3, chunk_size=4, exact=0.5))


@each_scan
@pytest.mark.parametrize("depth", [1, 3])
def test_momentum_alone_keeps_the_weights_moving(scan, depth):
    proofs.momentum_keeps_moving(scan, Case(depth=depth, tokens=9, chunk_size=4))


@each_scan
def test_a_repeated_passage_surprises_less_each_time(scan):
    proofs.repetition_lowers_surprise(scan)


@each_scan
def test_theta_zero_writes_nothing(scan):
    problem = make(Case(tokens=9, chunk_size=4, fresh=True, depth=2))
    zero = torch.zeros_like(problem.inputs["theta"])
    inputs = problem.inputs | {"theta": zero, "alpha": torch.zeros_like(problem.inputs["alpha"])}
    _, state = proofs.run(scan, replace(problem, inputs=inputs))
    assert all(map(torch.equal, state.weights, problem.state.weights))
    assert not any(s.any() for s in state.momentum)


@each_scan
def test_one_gate_for_all_layers_is_that_gate_for_each(scan):
    problem = make(Case(depth=3, per_layer=(False, False, False)))
    shared = Gates(*(problem.inputs[name] for name in Gates._fields))
    spread = {name: gate[..., None].repeat(1, 1, 1, 3) for name, gate in shared._asdict().items()}
    y, _ = proofs.run(scan, problem)
    other, _ = proofs.run(scan, replace(problem, inputs=problem.inputs | spread))
    assert torch.equal(y, other)
