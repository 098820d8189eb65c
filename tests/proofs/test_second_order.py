"""Gradients of outer gradients: equal to the recurrence's, to finite differences, or refused by torch; never wrong."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from tests.proofs import proofs
from tests.proofs.model_proofs import make_model, random_tokens
from tests.proofs.scans import is_tame
from tests.proofs.strategies import Case, cases, make
from titans import NeuralMemory, chunked_scan, recurrent_scan
from titans.config import VARIANTS


@settings(max_examples=60)
@given(case=cases)
def test_the_closed_forms_second_order_is_the_recurrences(case):
    if is_tame(case):
        want = proofs.second_order(recurrent_scan, case)
        if all(float(g.detach().abs().max()) < 1e4 for g in want.values() if g.numel()):
            proofs.assert_same(proofs.second_order(chunked_scan, case), want, 1e-8)


@pytest.mark.parametrize("scan", [recurrent_scan, chunked_scan])
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("max_surprise", [None, 0.5, 50.0])
@pytest.mark.parametrize("fresh", [True, False])
def test_second_order_is_the_slope_of_the_gradient(scan, residual, max_surprise, fresh):
    """By finite differences, which know nothing of either form; at a fresh M_0, where errors are zero, too."""
    case = Case(dim=3, heads=1, batch=1, tokens=5, residual=residual, max_surprise=max_surprise, fresh=fresh)
    problem = make(case)
    leaves = list(problem.leaves.values())
    random = torch.Generator().manual_seed(3)
    directions = [torch.randn(leaf.shape, generator=random, dtype=leaf.dtype) for leaf in leaves]

    def slope() -> Tensor:
        """The first derivative along the directions."""
        y, state = proofs.run(scan, problem)
        scalar = y.square().sum() + sum(w.square().sum() for w in (*state.weights, *state.momentum))
        gradients = torch.autograd.grad(scalar, leaves, create_graph=True, allow_unused=True, materialize_grads=True)
        return sum((g * d).sum() for g, d in zip(gradients, directions, strict=True))

    seconds = torch.autograd.grad(slope(), leaves, allow_unused=True, materialize_grads=True)
    assert all(g.isfinite().all() for g in seconds)
    got = sum(float((g * d).sum()) for g, d in zip(seconds, directions, strict=True))
    ends = []
    for sign in (1, -1):
        with torch.no_grad():
            for leaf, direction in zip(leaves, directions, strict=True):
                leaf.add_(sign * 1e-5 * direction)
        ends.append(float(slope().detach()))
        with torch.no_grad():
            for leaf, direction in zip(leaves, directions, strict=True):
                leaf.sub_(sign * 1e-5 * direction)
    want = (ends[0] - ends[1]) / 2e-5
    assert abs(got - want) < 1e-5 * abs(want)


@pytest.mark.parametrize("trained", [False, True])
def test_a_layer_gives_the_hessian_that_the_recurrence_gives(monkeypatch, trained):
    """By create_graph, and by torch.autograd.functional.hessian; from a fresh layer too, which once gave NaN."""
    torch.manual_seed(0)
    layer, x = NeuralMemory(8, chunk_size=3).double(), torch.randn(1, 4, 8, dtype=torch.float64)
    if trained:
        with torch.no_grad():
            for weight in layer.parameters():
                weight.add_(0.3 * torch.randn_like(weight))

    def hessian() -> Tensor:
        return torch.autograd.functional.hessian(lambda x: layer(x)[0].square().sum(), x)

    got, leaf = hessian(), x.clone().requires_grad_()
    (g,) = torch.autograd.grad(layer(leaf)[0].square().sum(), leaf, create_graph=True)
    (along,) = torch.autograd.grad(g.square().sum() / 2, leaf)
    assert got.norm() > 1e-3
    proofs.assert_same({"H g": along}, {"H g": torch.einsum("abcdef,def->abc", got, g.detach())}, 1e-8)
    monkeypatch.setattr("titans.neural_memory.chunked_scan", recurrent_scan)
    proofs.assert_same({"hessian": got}, {"hessian": hessian()}, 1e-8)


def test_a_meta_gradient_through_an_inner_step_is_that_of_finite_differences():
    """MAML: the loss after one step of descent on the layer's own parameters, differentiated by where it began."""
    torch.manual_seed(0)
    layer = NeuralMemory(6, chunk_size=2).double()
    x, target = torch.randn(2, 1, 5, 6, dtype=torch.float64)
    names, begin = zip(*layer.named_parameters(), strict=True)

    def loss(parameters: list[Tensor]) -> Tensor:
        y, _ = torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))
        return (y - target).square().sum()

    def after_one_step(parameters: list[Tensor]) -> Tensor:
        gradients = torch.autograd.grad(loss(parameters), parameters, create_graph=True)
        return loss([p - 0.01 * g for p, g in zip(parameters, gradients, strict=True)])

    leaves = [p.detach().clone().requires_grad_() for p in begin]
    gradients = torch.autograd.grad(after_one_step(leaves), leaves)
    direction = [torch.randn_like(p) for p in leaves]
    ends = [
        float(
            after_one_step(
                [(p + s * 1e-6 * d).detach().requires_grad_() for p, d in zip(leaves, direction, strict=True)]
            ).detach()
        )
        for s in (1, -1)
    ]
    want = (ends[0] - ends[1]) / 2e-6
    got = sum(float((g * d).sum()) for g, d in zip(gradients, direction, strict=True))
    assert abs(got - want) < 1e-6 * abs(want)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_models_second_order_is_the_slope_of_its_gradient(variant):
    """By finite differences, with attention's plain kernel, and with the one that torch takes by itself."""
    model = make_model(variant, layers=1)
    tokens, weights = random_tokens(model, 1, 7), [w for w in model.parameters() if w.requires_grad]
    direction = [torch.randn_like(w) for w in weights]

    def slope() -> Tensor:
        loss = model(tokens, labels=tokens).loss
        gradients = torch.autograd.grad(loss, weights, create_graph=True, allow_unused=True, materialize_grads=True)
        return sum((g * d).sum() for g, d in zip(gradients, direction, strict=True))

    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        seconds = torch.autograd.grad(slope(), weights, allow_unused=True, materialize_grads=True)
        got = sum(float((g * d).sum()) for g, d in zip(seconds, direction, strict=True))
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                for w, d in zip(weights, direction, strict=True):
                    w.add_(sign * 1e-6 * d)
            ends.append(float(slope().detach()))
            with torch.no_grad():
                for w, d in zip(weights, direction, strict=True):
                    w.sub_(sign * 1e-6 * d)
    want = (ends[0] - ends[1]) / 2e-6
    assert abs(got - want) < 1e-5 * abs(want) + 1e-7
    seconds = torch.autograd.grad(slope(), weights, allow_unused=True, materialize_grads=True)
    other = sum(float((g * d).sum()) for g, d in zip(seconds, direction, strict=True))
    assert abs(other - got) < 1e-8 * abs(got)  # by whatever kernel torch takes by itself
