"""Autocast, devices without float64, the cached step in float32, and rows that hold NaN."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.proofs.model_proofs import make_model, random_tokens, run_in_pieces, tensors_of
from titans import DeepMemory, Gates, NeuralMemory, TitansConfig, TitansLM, chunked_scan, recurrent_scan
from titans.config import VARIANTS

AUTOCAST = {"device_type": "cpu", "dtype": torch.bfloat16}
each_variant = pytest.mark.parametrize("variant", VARIANTS)


def scan_results(scan, depth: int, autocast: bool, backward_inside: bool) -> list[Tensor]:
    """Outputs, states and gradients of a scan, in autocast or not."""
    torch.manual_seed(0)
    memory = DeepMemory(4, heads=2, depth=depth)
    with torch.no_grad():
        for weight in memory.weights:
            weight.normal_(0, 0.5)
    q, k, v = (torch.randn(2, 2, 7, 4, requires_grad=True) for _ in range(3))
    gates = Gates(*(torch.rand(2, 2, 7) * high for high in (0.1, 0.9, 0.1)))
    with torch.autocast(**AUTOCAST, enabled=autocast):
        y, state = scan(memory, memory.initial_state(2), q, k, v, gates, 3, 1.0)
        loss = y.square().sum() + sum(w.square().sum() for w in state.weights)
        if backward_inside:
            loss.backward()
    if not backward_inside:
        loss.backward()
    leaves = (q, k, v, *memory.parameters())
    return [y, *state.weights, *state.momentum, *(leaf.grad for leaf in leaves)]


@pytest.mark.parametrize("scan", [recurrent_scan, chunked_scan])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("backward_inside", [False, True])
def test_a_scan_leaves_autocast_by_itself(scan, depth, backward_inside):
    """Nothing of it is in bfloat16. Where backward is called inside autocast, which torch advises against, torch's own
    products round to bfloat16 there: the gradients then are those, rounded."""
    want = scan_results(scan, depth, False, False)
    got = scan_results(scan, depth, True, backward_inside)
    for number, (one, other) in enumerate(zip(got, want, strict=True)):
        assert one.dtype == torch.float32
        is_gradient = number > 2 * depth
        limit = 0.02 if backward_inside and is_gradient else 1e-5
        assert (one - other).norm() <= limit * other.norm()


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("backward_inside", [False, True])
def test_a_layer_leaves_autocast_by_itself(depth, backward_inside):
    """An x in half precision, as a linear layer before it makes it there, becomes what the layer is."""
    results = []
    for autocast in (False, True):
        torch.manual_seed(0)
        layer, x = NeuralMemory(8, depth=depth, chunk_size=3), torch.randn(2, 7, 8)
        with torch.autocast(**AUTOCAST, enabled=autocast):
            _, state = layer(x)
            y, state = layer(x.bfloat16() if autocast else x.bfloat16().float(), state)
            loss = y.square().sum()
            if backward_inside:
                loss.backward()
        if not backward_inside:
            loss.backward()
        assert {t.dtype for t in (y, *state.tensors().values())} == {torch.float32}
        results.append([y, *state.weights, *(weight.grad for weight in layer.parameters())])
    for number, (one, other) in enumerate(zip(*results, strict=True)):
        limit = 0.05 if backward_inside and number > depth else 1e-5
        assert (one - other).norm() <= limit * other.norm()


@each_variant
@pytest.mark.parametrize("backward_inside", [False, True])
def test_a_model_trains_in_autocast_with_its_memory_in_float32(variant, backward_inside):
    torch.manual_seed(0)
    model = TitansLM(TitansConfig(variant, vocab_size=50, dim=16, layers=2))
    tokens = torch.randint(50, (2, 40))
    want = model(tokens).logits
    with torch.autocast(**AUTOCAST):
        output = model(tokens, labels=tokens)
        _, _, state = model(tokens, output.state)
        if backward_inside:
            output.loss.backward()
    if not backward_inside:
        output.loss.backward()
    assert (output.logits - want).abs().max() < 0.1 * want.abs().max()
    assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)
    assert {tensor.dtype for tensor in tensors_of(state).values()} == {torch.float32}


# ---- Without float64 -------------------------------------------------------------------------------------------------


class NoFloat64(TorchDispatchMode):
    """As on a device that has no float64: an operation that makes any is an error."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else (result,):
            assert not (isinstance(tensor, Tensor) and tensor.dtype == torch.float64), f"{func} makes float64"
        return result


@each_variant
def test_a_float32_model_needs_no_float64(variant):
    torch.manual_seed(0)
    model = TitansLM(TitansConfig(variant, vocab_size=50, dim=16, layers=1))
    tokens = torch.randint(50, (2, 40))
    with NoFloat64():
        model(tokens, labels=tokens).loss.backward()
        model.generate(tokens, 3, temperature=0.7, top_k=5, top_p=0.9, seed=0)
    with pytest.raises(AssertionError, match="makes float64"), NoFloat64():
        model.double()(tokens)


def test_no_temperature_is_too_low():
    model, tokens = make_model("attention").float(), torch.tensor([[1, 2, 3]])
    coldest, _ = model.generate(tokens, 5, temperature=1e-320, seed=0)
    assert torch.equal(coldest, model.generate(tokens, 5)[0])


# ---- Truth 8: the cached step is the full call, in float32 -----------------------------------------------------------

ADVERTISED = {"dim": 64, "heads": 2, "segment_len": 8, "window": 16, "chunk_size": 9, "persistent_tokens": 4}


@each_variant
def test_the_cached_step_is_the_full_call_in_float32_at_300_starts(variant):
    """To 2e-5 of the largest logit. An empty memory's first answer is small, by chance next to nothing."""
    options = ADVERTISED | ({"memory_tokens": 4} if variant == "mac" else {})
    for seed in range(300):
        torch.manual_seed(seed)
        model = TitansLM(TitansConfig(variant, vocab_size=100, **options))
        tokens = torch.randint(100, (1, 12))
        with torch.no_grad():
            full = model(tokens).logits
            step, _ = run_in_pieces(model, tokens, range(1, 12))
        assert (step - full).abs().max() <= 2e-5 * full.abs().max(), f"seed {seed}"


# ---- Rows ------------------------------------------------------------------------------------------------------------


def test_NaN_in_a_row_is_an_error_that_names_x_and_the_row():
    layer, x = NeuralMemory(8), torch.randn(3, 5, 8)
    x[1, 2, 3] = torch.nan
    with pytest.raises(ValueError, match="x must hold numbers, row 1 holds NaN"):
        layer(x)
    x[2] = torch.nan
    with pytest.raises(ValueError, match="x must hold numbers, rows 1, 2 hold NaN"):
        layer(x)
    with torch.no_grad():
        layer.to_gates.bias.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"gates.theta must be finite"):  # x is not to blame
        layer(torch.randn(3, 5, 8))


# ---- States that were handed out -------------------------------------------------------------------------------------


@each_variant
@pytest.mark.parametrize("tokens", [0, 1, 3, 5])
@pytest.mark.parametrize("detached", [False, True])
def test_a_state_that_was_handed_out_stays_when_the_optimiser_steps(variant, tokens, detached):
    """Begun, inside a chunk and a segment, and beyond; at a learning rate at which nothing stays that can move."""
    model = make_model(variant)
    x = random_tokens(model, 2, 7)
    output = model(x[:, : tokens or 7])
    state = output.state if tokens else model.initial_state(2)
    state = state.detach() if detached else state
    before = {name: tensor.detach().clone() for name, tensor in tensors_of(state).items()}
    model(x, labels=x).loss.backward()
    torch.optim.SGD(model.parameters(), lr=1.0).step()
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors_of(state).items())
