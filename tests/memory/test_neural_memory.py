"""The layer: section 4.4 written out, D5, splits, causality, independence, gradients through the memory, stability."""

from __future__ import annotations

import math
from itertools import pairwise, product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.proofs import proofs
from tests.proofs.proofs import make_layer, random_x
from titans import MemoryState, NeuralMemory

# ---- What it computes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_surprise", [0.3, 100.0], ids=["a limit that bites", "a limit that does not"])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_equation_11_and_section_4_4_written_out(depth, max_surprise):
    proofs.layer_is_section_4_4(make_layer(depth=depth, max_surprise=max_surprise, max_step=0.5))


def test_equation_11_keys_and_values_are_projections_of_the_token():
    """x W, then a causal convolution over 4 tokens and SiLU; queries and keys of unit length."""
    layer, x = make_layer(), random_x(make_layer(), 2, 7)
    q, k, v, _ = layer.project(x, layer.initial_state(2).recent)
    for got, name, kernel in zip((q, k, v), "QKV", layer.conv.weight.split(6), strict=True):
        want = torch.zeros(2, 7, 6, dtype=torch.float64)
        projected = x @ getattr(layer, f"W_{name}").weight.T
        for t in range(7):
            for back in range(min(4, t + 1)):
                want[:, t] += projected[:, t - back] * kernel[:, 0, 3 - back]
        want = (want * torch.sigmoid(want)).view(2, 7, 2, 3).transpose(1, 2)
        if name in "QK":
            want = want / torch.sqrt((want**2).sum(-1, keepdim=True) + 1e-6)
            assert (got.norm(dim=-1) - 1).abs().max() < 1e-2
        proofs.assert_same({name: got}, {name: want}, 1e-12)


def test_D5_gates_start_where_they_are_documented_to_start_whatever_the_token():
    layer = NeuralMemory(8, heads=2, depth=3, chunk_size=4, forget_layers="all").double()
    gates = layer.gates(100 * torch.randn(2, 5, 8, dtype=torch.float64))
    for gate, want in zip(gates, (0.05, 0.5, 0.002), strict=True):
        assert gate.shape == (2, 2, 5, 3)
        assert (gate - want).abs().max() < 1e-7
    half_life = math.log(0.5) / math.log(1 - float(gates.alpha.detach().flatten()[0]))
    assert 345 < half_life < 347
    for chunk_size, theta in ((1, 0.05), (16, 0.0125), (64, 0.003125)):  # at most 0.2 over a chunk
        chunked = NeuralMemory(8, chunk_size=chunk_size).gates(torch.randn(1, 1, 8))
        assert (chunked.theta - theta).abs().max() < 1e-6
    small = NeuralMemory(8, chunk_size=4, max_step=0.06).gates(
        torch.randn(1, 1, 8)
    )  # theta starts at half of max_step at most
    assert (small.theta - 0.03).abs().max() < 1e-6


def test_D5_gates_stay_in_their_ranges():
    layer = make_layer(max_step=0.7)
    for scale in (1, 1e4):
        gates = layer.gates(scale * random_x(layer, 3, 50))
        for gate, high in zip(gates, (0.7, 1, 1), strict=True):
            assert gate.min() >= 0
            assert gate.max() <= high
            assert gate.std() > 0.1 * gate.mean()  # they do depend on the token


def test_D5_every_head_and_memory_layer_has_gates_of_its_own():
    layer = make_layer(depth=3, forget_layers="all")
    for gate in layer.gates(random_x(layer, 1, 4)):
        assert gate.shape == (1, 2, 4, 3)
        assert len(gate.flatten().unique()) == gate.numel()


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_D16_the_last_layer_alone_forgets_or_all_do(depth):
    """alpha is exactly 0 in hidden layers, and as in the paper's form in the last; the rest is the same."""
    last, everywhere = (make_layer(depth=depth, forget_layers=layers) for layers in ("last", "all"))
    x = random_x(last, 2, 5)
    assert torch.equal(last.gates(x).alpha[..., -1], everywhere.gates(x).alpha[..., -1])
    assert not last.gates(x).alpha[..., :-1].any()
    assert everywhere.gates(x).alpha.all()
    assert torch.equal(last.gates(x).theta, everywhere.gates(x).theta)
    assert NeuralMemory(8).forget_layers == "last"


@pytest.mark.parametrize("forget_layers", ["last", "all"])
def test_D16_a_memory_that_forgets_all_layers_can_no_longer_learn(forget_layers):
    """4,096 tokens of forgetting later, the gradient of a hidden layer has died with the layers, or is as it was."""
    torch.manual_seed(0)
    layer = NeuralMemory(8, depth=2, forget_layers=forget_layers).double()
    with torch.no_grad():
        for weight in layer.memory.weights:
            weight.normal_(0, weight.shape[-1] ** -0.5)
    k, v = torch.nn.functional.normalize(torch.randn(2, 1, 1, 1, 8, dtype=torch.float64), dim=-1)
    alpha = layer.gates(torch.zeros(1, 1, 8, dtype=torch.float64)).alpha[0, 0, 0]
    norms = []
    for tokens in (0, 4096):
        weights = [weight[None] * (1 - a) ** tokens for weight, a in zip(layer.memory.weights, alpha, strict=True)]
        (_, a), (_, e) = layer.memory.errors(weights, k, v)
        norms.append(float((a.norm() * e.norm()).detach()))
    assert (norms[1] / norms[0] > 0.3) == (forget_layers == "last")
    assert norms[1] / norms[0] > 0.3 or norms[1] / norms[0] < 1e-2


@pytest.mark.parametrize(("dim", "heads"), [(16, 1), (64, 2), (64, 8), (128, 1)])
@pytest.mark.parametrize("kind", ["noise", "one token again and again"])
@pytest.mark.parametrize("chunk_size", [1, 4, 16, 64])
def test_D5_writing_is_stable_at_the_start_without_the_help_of_the_limit(dim, heads, kind, chunk_size):
    torch.manual_seed(0)
    layer = NeuralMemory(dim, heads, chunk_size=chunk_size)
    x = torch.randn(2, 512 if kind == "noise" else 1, dim).expand(2, 512, dim)
    with torch.no_grad():
        limited, _ = layer(x)
        layer.max_surprise = 1e30
        free, state = layer(x)
    assert torch.equal(limited, free)  # D12: ordinary use does not reach it
    assert max(float(weight.abs().max()) for weight in state.weights) < 10


@pytest.mark.parametrize("name", ["momentum", "forgetting"])
def test_momentum_and_forgetting_can_be_switched_off_exactly(name):
    gate, x = {"momentum": "eta", "forgetting": "alpha"}[name], torch.randn(2, 5, 6, dtype=torch.float64)
    on, off = (make_layer(forget_layers="all", **options) for options in ({}, {name: False}))
    for other in {"theta", "eta", "alpha"} - {gate}:
        assert torch.equal(getattr(on.gates(x), other), getattr(off.gates(x), other))
    assert getattr(on.gates(x), gate).all()
    assert not getattr(off.gates(x), gate).any()


# ---- Splits, causality, independence, determinism --------------------------------------------------------------------


@settings(max_examples=20)
@given(
    tokens=st.integers(1, 11),
    cuts=st.sets(st.integers(1, 10)),
    chunk_size=st.integers(1, 6),
    conv_width=st.integers(1, 5),
    residual=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_D10_splitting_a_sequence_changes_nothing(tokens, cuts, chunk_size, conv_width, residual, seed):
    layer = make_layer(seed=seed, chunk_size=chunk_size, conv_width=conv_width, residual=residual, max_step=0.2)
    proofs.layer_splitting_changes_nothing(layer, tokens, sorted(cut for cut in cuts if cut < tokens))


@pytest.mark.parametrize("chunk_size", [1, 3, 16])
def test_D10_single_tokens_give_what_one_call_gives(chunk_size):
    proofs.layer_splitting_changes_nothing(make_layer(chunk_size=chunk_size), 10, range(1, 10))


def test_D7_detach_cuts_the_gradient_to_earlier_calls():
    layer = make_layer(max_step=0.2)
    x = random_x(layer, 2, 8).requires_grad_()
    for cut in (3, 4):  # on a chunk's border, and inside
        _, state = layer(x[:, :cut])
        for given_state, reached in ((state, True), (state.detach(), False)):
            y, _ = layer(x[:, cut:], given_state)
            (gradient,) = torch.autograd.grad(y.square().sum(), x, retain_graph=True)
            assert gradient[:, :cut].any() == reached
            assert (gradient[:, cut:] != 0).any(-1).all()


@pytest.mark.parametrize(("chunk_size", "tokens"), [(1, 6), (3, 8), (4, 8), (16, 7)])
@pytest.mark.parametrize("residual", [False, True])
def test_no_output_depends_on_a_later_token(chunk_size, tokens, residual):
    proofs.layer_is_causal(make_layer(chunk_size=chunk_size, residual=residual), tokens)


def test_rows_of_a_batch_never_influence_one_another():
    proofs.layer_rows_are_independent(make_layer())


@pytest.mark.parametrize("residual", [False, True])
def test_the_same_input_twice_gives_the_same_bits_and_changes_nothing(residual):
    proofs.layer_repeats_itself(make_layer(residual=residual))


# ---- The memory works ------------------------------------------------------------------------------------------------

each_form = pytest.mark.parametrize(("depth", "residual"), [(1, False), (1, True), (2, False), (2, True), (3, False)])


@each_form
def test_every_learned_tensor_gets_the_gradient_that_the_recurrence_gives(depth, residual):
    proofs.every_parameter_learns_through_the_memory(make_layer(depth=depth, residual=residual, max_step=0.2))


@each_form
def test_what_writes_learns_from_later_tokens_through_the_memorys_weights_alone(depth, residual):
    proofs.writes_reach_later_tokens(make_layer(depth=depth, residual=residual, max_step=0.2))


@each_form
def test_the_state_carries_from_the_first_token_to_the_last(depth, residual):
    proofs.the_state_carries_from_the_first_token_to_the_last(make_layer(depth=depth, residual=residual, max_step=0.2))


def test_a_fresh_layer_learns_in_every_tensor_after_one_step():
    """At the start M_0 answers zero and the gates do not look at x; that must not be a place without slopes."""
    torch.manual_seed(0)
    layer = NeuralMemory(8, heads=2, chunk_size=4)
    x, target = torch.randn(2, 3, 12, 8)
    (layer(x)[0] - target).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad.isfinite().all()
        assert parameter.grad.norm() > 1e-6, name


def test_a_repeated_passage_surprises_less_each_time():
    """The loss of the same tokens, at the weights before they are read again, in a fresh layer."""
    torch.manual_seed(0)
    layer = NeuralMemory(32, heads=2, chunk_size=4, max_step=0.02).double()
    x, state, losses = random_x(layer, 2, 24), layer.initial_state(2), []
    with torch.no_grad():
        _, k, v, _ = layer.project(x, layer.initial_state(2).recent)
        for _ in range(4):
            losses.append(float((layer.memory.read(state.weights, k) - v).square().sum()))
            _, state = layer(x, state)
    assert all(after < before for before, after in pairwise(losses)), losses
    assert losses[-1] < 0.6 * losses[0]


# ---- Stability (D12) -------------------------------------------------------------------------------------------------

KINDS = ("noise", "constant", "repeated", "zeros", "alternating", "spikes", "1e30", "3e38")


def hard_inputs(tokens: int, dim: int) -> Tensor:
    """One row for each of KINDS: rows are independent, so one run serves them all."""
    noise = torch.randn(tokens, dim, generator=torch.Generator().manual_seed(0))
    place = torch.arange(tokens)
    spikes = 100.0 * torch.nn.functional.one_hot(place % dim, dim) * (place % 7 == 0)[:, None]
    return torch.stack(
        (
            noise,
            torch.ones(tokens, dim),
            noise[:64].repeat(tokens // 64 + 1, 1)[:tokens],
            torch.zeros(tokens, dim),
            torch.where(place % 2 == 0, 1.0, -1.0)[:, None].expand(tokens, dim),
            spikes,
            1e30 * noise.sign(),
            torch.full((tokens, dim), 3e38),
        )
    )


def assert_finite(y: Tensor, state: MemoryState) -> None:
    everything = {"y": y, **{f"start.{i}": w for i, w in enumerate(state.chunk_weights)}} | state.tensors()
    for name, tensor in everything.items():
        for kind, row in zip(KINDS, tensor, strict=True):
            assert row.isfinite().all(), f"{name} of the row of {kind}"


def wild_layer(scale: float, **options) -> NeuralMemory:
    """Fresh for scale 1; else every tensor random, none at its careful start, and scaled up."""
    torch.manual_seed(0)
    layer = NeuralMemory(8, chunk_size=64, **options)
    with torch.no_grad():
        if scale != 1:
            for weight in (*layer.memory.weights, layer.to_gates.weight):
                weight.normal_(0, weight.shape[-1] ** -0.5)
        for weight in layer.parameters():
            weight.mul_(scale)
    return layer


def test_D12_a_hundred_thousand_tokens_stay_finite():
    layer, state = wild_layer(1), None
    x = hard_inputs(6400, 8)  # 100 chunks: the passage repeats without a seam
    with torch.no_grad():
        for _ in range(16):
            y, state = layer(x, state)
            assert_finite(y, state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("depth", "residual"), [(1, False), (2, False), (2, True), (3, False), (4, True)])
@pytest.mark.parametrize("scale", [1, 3])
def test_D12_no_input_and_no_weights_give_nan_or_inf(dtype, depth, residual, scale):
    layer = wild_layer(scale, heads=2, depth=depth, residual=residual).to(dtype)
    x = hard_inputs(2000, 8).to(dtype)
    with torch.no_grad():
        y, state = layer(x[:, :1010])
        assert_finite(y, state)  # inside a chunk
        y, state = layer(x[:, 1010:], state)
    assert_finite(y, state)
    assert y.dtype == dtype
    assert all(weight.dtype == torch.float32 for weight in (*state.weights, *state.momentum))


@pytest.mark.parametrize(("depth", "residual"), [(2, False), (3, False), (4, False), (4, True)])
def test_D12_not_even_with_every_gate_at_its_end_and_nothing_forgotten(depth, residual):
    """theta = eta = 1 and alpha = 0 at every token: weights grow until three layers leave the range of float32."""
    layer, state = wild_layer(3, depth=depth, residual=residual), None
    torch.nn.init.zeros_(layer.to_gates.weight)
    with torch.no_grad():
        layer.to_gates.bias.copy_(torch.tensor([100.0, 100.0, -200.0]).repeat_interleave(depth))
        x = hard_inputs(6400, 8)
        for _ in range(5):
            y, state = layer(x, state)
            assert_finite(y, state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("scale", "residual"), list(product([1, 3], [False, True])))
def test_D12_gradients_are_finite_for_the_same_inputs(dtype, scale, residual):
    layer = wild_layer(scale, heads=2, residual=residual).to(dtype)
    x = hard_inputs(200, 8).to(dtype).requires_grad_()
    for row, kind in enumerate(KINDS):
        y, _ = layer(x[row : row + 1])
        layer.zero_grad()
        (gradient,) = torch.autograd.grad(y.float().square().sum(), x, retain_graph=True)
        y.float().square().sum().backward()
        assert gradient.isfinite().all(), kind
        for name, parameter in layer.named_parameters():
            assert parameter.grad.isfinite().all(), f"{name} of the row of {kind}"


def test_D12_a_limit_bounds_what_a_token_writes():
    """Without it the same layer, with an unwisely large step, leaves every bound; with it, it does not."""
    largest = []
    torch.manual_seed(0)
    x = torch.randn(1, 64, 8).repeat(1, 10, 1)
    for max_surprise in (None, 1e300):
        torch.manual_seed(0)
        layer = NeuralMemory(8, chunk_size=64, max_surprise=max_surprise).double()
        torch.nn.init.constant_(layer.to_gates.bias[:2], 2.0)  # theta = 0.88
        with torch.no_grad():
            _, state = layer(x.double())
        largest.append(max(float(weight.abs().max()) for weight in state.weights))
    assert largest[0] < 640 * 10 * 8**0.5 * 2  # tokens, times the largest write, with momentum
    assert not largest[1] < 1e9  # nor is it a number any more
