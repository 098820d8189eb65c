"""Derivatives that are written by hand are those of finite differences: once, twice, and many at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.utils.checkpoint import checkpoint

import titans.chunked
import titans.memory
import titans.neural_memory
from tests.proofs.mutants import mutant
from titans.chunked import DecayProducts
from titans.memory import TimesTransposed
from titans.neural_memory import Convolution, NeuralMemory


def random(*shape: int) -> Tensor:
    return torch.randn(
        *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(shape))
    ).requires_grad_()


def gates(*exact: float) -> Tensor:
    """Two rows of five gates, some of which are exactly these numbers."""
    inside = torch.linspace(0.2, 0.9, 10, dtype=torch.float64).view(2, 5)
    inside[1, 1 : 1 + len(exact)] = torch.tensor(exact, dtype=torch.float64)
    return inside.requires_grad_()


CASES = {
    "decay products": (DecayProducts, (gates(),)),
    "decay products at gates of 0 and 1": (DecayProducts, (gates(0.0, 1.0, 0.0),)),
    "a convolution": (Convolution, (random(2, 7, 3), random(3, 1, 4))),
    "a convolution of one token": (Convolution, (random(2, 5, 3), random(3, 1, 1))),
    "a product with weights": (TimesTransposed, (random(2, 4, 3), random(2, 5, 3))),
}


def has_right_derivatives(function: Callable[..., Tensor], inputs: tuple[Tensor, ...]) -> None:
    assert gradcheck(function, inputs, raise_exception=False, check_batched_grad=True)
    assert gradgradcheck(function, inputs, raise_exception=False, check_batched_grad=True)


@pytest.mark.parametrize("case", CASES)
def test_derivatives_by_hand_are_those_of_finite_differences(case):
    function, inputs = CASES[case]
    has_right_derivatives(function.apply, inputs)


FAULTS = {
    "decay products": (titans.chunked, ".cumsum_(-1)[", "["),
    "decay products at gates of 0 and 1": (titans.chunked, "> torch.finfo(gate.dtype).tiny ** 0.5", ">= 0"),
    "a convolution": (titans.neural_memory, "weight.flip(-1)", "weight"),
    "a product with weights": (titans.memory, "torch.bmm(g.mT, x)", "torch.bmm(g.mT, x.flip(-1))"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_in_a_derivative_by_hand_is_caught(case):
    module, old, new = FAULTS[case]
    function, inputs = CASES[case]
    broken = getattr(mutant(module, old, new), function.__name__)
    with pytest.raises(AssertionError):
        has_right_derivatives(broken.apply, inputs)


def test_products_of_gates_that_fall_below_all_numbers_have_their_derivative():
    gate = gates(1e-200, 1e-200)  # whose product is 0, and its derivative 1e-200
    seen = random(5, 6)
    by_hand, by_autograd = (
        torch.autograd.grad((products * seen).sum(), gate)[0]
        for products in (DecayProducts.apply(gate), titans.chunked._decay_products(gate, torch.cumprod, torch.tril))
    )
    torch.testing.assert_close(by_hand, by_autograd, rtol=1e-12, atol=0.0)


def test_a_layer_that_is_checkpointed_has_the_same_gradients():
    """What was saved may be looked at once: checkpointing makes it anew."""
    layer, x = NeuralMemory(8, chunk_size=4).double(), random(2, 11, 8)
    inputs = (x, *layer.parameters())
    plain = torch.autograd.grad(layer(x)[0].square().sum(), inputs)
    y, _ = checkpoint(layer, x, use_reentrant=False)
    assert all(map(torch.equal, plain, torch.autograd.grad(y.square().sum(), inputs)))
