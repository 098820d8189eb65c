"""M itself: what it answers, what its gradient is made of, and where it starts (D6)."""

from __future__ import annotations

import pytest
import torch

from tests.proofs import proofs
from tests.proofs.strategies import ACTIVATIONS, Case, make
from titans import DeepMemory, chunked_scan, recurrent_scan

each_form = pytest.mark.parametrize(
    ("depth", "activation", "residual"),
    [
        (depth, activation, residual)
        for depth in (1, 2, 4)
        for activation in ACTIVATIONS
        for residual in (False, True)
        if depth > 1 or activation == "gelu"
    ],
)


def form(depth: int, activation: str, residual: bool):
    return make(Case(dim=4, depth=depth, activation=activation, residual=residual, tokens=5, fresh=False))


@each_form
def test_reading_is_the_network_written_out(depth, activation, residual):
    problem = form(depth, activation, residual)
    x, weights = problem.inputs["q"], problem.state.weights
    answers = [proofs.plain_forward(weights, x[:, :, t], activation, residual) for t in range(5)]
    proofs.assert_same({"M": problem.memory.read(weights, x)}, {"M": torch.stack(answers, dim=2)}, 1e-13)


@each_form
def test_gradient_by_hand_is_the_gradient_by_autograd(depth, activation, residual):
    """Each layer's gradient for one token is the outer product of its error and its input."""
    problem = form(depth, activation, residual)
    k, v = problem.inputs["k"], problem.inputs["v"]
    weights = [weight.detach().clone().requires_grad_() for weight in problem.state.weights]
    inputs, errors = problem.memory.errors(weights, k, v)
    for t in range(5):
        loss = (proofs.plain_forward(weights, k[:, :, t], activation, residual) - v[:, :, t]).square().sum()
        for layer, want in enumerate(torch.autograd.grad(loss, weights)):
            got = errors[layer][:, :, t, :, None] * inputs[layer][:, :, t, None, :]
            proofs.assert_same({"gradient": got}, {"gradient": want}, 1e-12)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("residual", [False, True])
def test_gradient_by_hand_can_itself_be_differentiated(activation, residual):
    """The outer loop goes through it, so its factors need slopes of their own, for every activation (D7)."""
    problem = make(Case(dim=3, heads=1, batch=1, depth=3, expansion=1, activation=activation, residual=residual))
    tensors = (problem.inputs["k"], problem.inputs["v"], *problem.state.weights)

    def factors(k, v, *weights):
        inputs, errors = problem.memory.errors(weights, k, v)
        return *inputs, *errors

    leaves = [tensor.detach().clone().requires_grad_() for tensor in tensors]
    assert torch.autograd.gradcheck(factors, leaves)


def test_depth_one_without_residual_is_a_matrix():
    memory = DeepMemory(4, heads=2, depth=1, residual=False).double()
    W, x = torch.randn(3, 2, 4, 4, dtype=torch.float64), torch.randn(3, 2, 5, 4, dtype=torch.float64)
    proofs.assert_same({"Wx": memory.read([W], x)}, {"Wx": torch.einsum("bhoi,bhti->bhto", W, x)}, 1e-14)


def test_weights_have_the_documented_shapes_and_there_are_no_biases():
    memory = DeepMemory(4, heads=3, depth=3, expansion=2)
    assert [tuple(weight.shape) for weight in memory.parameters()] == [(3, 8, 4), (3, 8, 8), (3, 4, 8)]
    state = memory.initial_state(5)
    for layers in (state.weights, state.momentum, state.chunk_weights):
        assert [tuple(weight.shape) for weight in layers] == [(5, 3, 8, 4), (5, 3, 8, 8), (5, 3, 4, 8)]


# ---- D6: M_0 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_D6_without_a_residual_the_first_memory_answers_zero(depth):
    """So the first errors are the values themselves."""
    memory = DeepMemory(4, heads=2, depth=depth, residual=False).double()
    k, v = torch.randn(2, 3, 2, 5, 4, dtype=torch.float64)
    weights = memory.initial_state(3).weights
    assert (memory.read(weights, k) == 0).all()
    _, errors = memory.errors(weights, k, v)
    assert torch.equal(errors[-1], -2 * v)


@pytest.mark.parametrize("scan", [recurrent_scan, chunked_scan])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_D6_gradients_at_the_start_are_finite_and_reach_every_layer(scan, residual, depth):
    torch.manual_seed(0)
    memory = DeepMemory(4, heads=2, depth=depth, residual=residual).double()
    q, k, v = torch.nn.functional.normalize(torch.randn(3, 2, 2, 9, 4, dtype=torch.float64), dim=-1)
    gates = proofs.plain_gates((2, 2, 9), 0.02, 0.5, 0.01)
    y, _ = scan(memory, memory.initial_state(2), q, k, v, gates, 4)
    (y - v).square().sum().backward()
    for weight in memory.weights:
        assert weight.grad.isfinite().all()
        assert weight.grad.norm() > 1e-6


def test_D6_with_a_residual_a_zero_last_layer_would_stand_where_the_norm_is_steepest():
    """LN's slope at zero is 1/sqrt(eps) = 316: there the error that comes back is 316 times the one that went in."""
    memory = DeepMemory(4, depth=2, residual=True).double()
    k, v = torch.randn(2, 1, 1, 5, 4, dtype=torch.float64)
    weights = list(memory.initial_state(1).weights)
    at_zero = memory.errors([weights[0], torch.zeros_like(weights[1])], k, v)[1][-1]
    error = 2 * (k - v)  # M(k) = k here
    centred = error - error.mean(-1, keepdim=True)
    proofs.assert_same({"error": at_zero}, {"error": 1e-5**-0.5 * centred}, 1e-12)
    as_it_starts = memory.errors(weights, k, v)[1][-1]
    assert as_it_starts.norm() < at_zero.norm() / 20


def test_D6_the_first_memory_is_learned():
    """It is a parameter, every row starts from it, and a state is part of its graph."""
    memory = DeepMemory(4, heads=2, depth=2)
    state = memory.initial_state(3)
    assert [name for name, _ in memory.named_parameters()] == ["weights.0", "weights.1"]
    sum(weight.sum() for weight in state.weights).backward()
    for parameter in memory.parameters():
        assert (parameter.grad == 3).all()
    assert not any(momentum.any() for momentum in state.momentum)


def test_one_memory_is_read_by_many_rows():
    """Weights of one row and head broadcast, whatever the axes of what is read."""
    memory = DeepMemory(dim=4).double()
    weights = [torch.randn(1, 1, *shape[1:]).double() for shape in memory.shapes]
    x = torch.randn(5, 3, 4).double()
    _, outputs = memory.layers(weights, x)
    want = memory.layers([weight.expand(5, 1, -1, -1) for weight in weights], x[:, None])[1][-1][:, 0]
    torch.testing.assert_close(outputs[-1].view_as(want), want)
    _, outputs = memory.layers([weight[0] for weight in weights], x)
    torch.testing.assert_close(outputs[-1], want)
