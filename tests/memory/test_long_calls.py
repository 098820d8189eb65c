"""A call without gradients goes on by whole chunks: the same numbers, and memory that does not grow with its length."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.proofs import proofs
from tests.proofs.scans import is_tame
from tests.proofs.strategies import cases, make
from titans import NeuralMemory, chunked_scan
from titans.chunked import tokens_at_once
from titans.observe import edited_gates, observed
from titans.scan import Gates


@pytest.fixture(autouse=True, scope="module")
def one_chunk_at_a_time():
    """What some thousand tokens are otherwise, a chunk is here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("titans.chunked.BLOCK", 1)
        yield


def layer_and_input(tokens: int, seed: int = 0, **options) -> tuple[NeuralMemory, torch.Tensor]:
    torch.manual_seed(seed)
    layer = NeuralMemory(8, heads=2, chunk_size=3, **options).double()
    with torch.no_grad():
        for weight in layer.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return layer, torch.randn(2, tokens, 8, dtype=torch.float64)


@settings(max_examples=60)
@given(case=cases)
def test_a_scan_without_gradients_gives_what_one_with_gradients_gives(case):
    if is_tame(case):
        problem = make(case)
        want = proofs.results(problem, *proofs.run(chunked_scan, problem))
        with torch.no_grad():
            y, state = proofs.run(chunked_scan, problem)
        assert not y.requires_grad
        got = {"y": y} | {f"weights.{i}": w for i, w in enumerate(state.weights)}
        assert set(got) <= set(want)
        proofs.assert_same(got, {name: want[name].detach() for name in got}, 1e-10)


@settings(max_examples=30)
@given(tokens=st.integers(1, 20), before=st.integers(0, 5), depth=st.integers(1, 3), residual=st.booleans())
def test_a_layer_without_gradients_gives_what_one_with_gradients_gives(tokens, before, depth, residual):
    layer, x = layer_and_input(tokens + before, depth=depth, residual=residual)
    state = layer(x[:, :before])[1].detach() if before else None
    given = {name: tensor.clone() for name, tensor in state.tensors().items()} if state else {}
    want, after = layer(x[:, before:], state)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            y, end = layer(x[:, before:], state)
        proofs.assert_same({"y": y} | end.tensors(), {"y": want} | after.detach().tensors(), 1e-10)
        assert (end.place_in_chunk, end.chunk_size) == (after.place_in_chunk, after.chunk_size)
    if state:
        assert all(torch.equal(tensor, given[name]) for name, tensor in state.tensors().items())


def test_frozen_parameters_make_no_graph_and_trained_ones_do():
    layer, x = layer_and_input(20)
    want = layer(x)[0]
    assert want.requires_grad
    pieces = []
    learn = layer.learn
    layer.learn = lambda x, state: (pieces.append(x.shape[1]), learn(x, state))[1]
    layer(x)
    assert pieces == [20]
    layer.requires_grad_(False)
    frozen = layer(x)[0]
    assert pieces[1:] == [3, 3, 3, 3, 3, 3, 2]
    proofs.assert_same({"y": frozen}, {"y": want.detach()}, 1e-10)
    leaf = x.clone().requires_grad_()
    layer(leaf)[0].sum().backward()
    assert leaf.grad.norm() > 0


def test_pieces_end_where_chunks_end():
    layer, x = layer_and_input(12)
    with torch.no_grad():
        state = layer(x[:, :2])[1]
        assert [piece.shape[1] for piece in layer.pieces(x[:, 2:], state)] == [1, 3, 3, 3]


def test_an_observer_sees_one_call_and_an_edit_all_gates():
    layer, x = layer_and_input(13)
    with torch.no_grad(), observed(layer) as calls:
        y, _ = layer(x)
    assert len(calls) == 1
    assert calls[0].tokens.k.shape[2] == 13
    assert calls[0].surprise().shape == (2, 2, 13)
    proofs.assert_same({"y": layer(x)[0].detach()}, {"y": y}, 1e-10)

    def late(gates: Gates) -> Gates:
        """Nothing is written from token 7 on: an edit may ask where a token stands."""
        writes = torch.arange(gates.theta.shape[2]) < 7
        return gates._replace(theta=gates.theta * writes[None, None, :, None])

    with edited_gates(layer, late):
        want = layer(x)[0].detach()
        with torch.no_grad():
            proofs.assert_same({"y": layer(x)[0]}, {"y": want}, 1e-10)


def test_a_row_with_nan_in_a_late_piece_is_named():
    layer, x = layer_and_input(12)
    x[1, 10] = torch.nan
    with torch.no_grad(), pytest.raises(ValueError, match="x must hold numbers, row 1 holds NaN"):
        layer(x)


def test_a_foreign_state_is_refused_before_anything_is_cut():
    layer, x = layer_and_input(12)
    with torch.no_grad(), pytest.raises(TypeError, match="state must be a LayerState"):
        layer(x, "nothing")


def test_tokens_at_once_are_whole_chunks_and_fewer_for_more_rows(monkeypatch):
    monkeypatch.setattr("titans.chunked.BLOCK", 2**18)
    assert tokens_at_once(1, 64, 16) == 4096
    assert tokens_at_once(1, 64, 1024) == 1024
    assert tokens_at_once(8, 64, 16) == 512
    assert all(tokens_at_once(rows, 64, 48) % 48 == 0 for rows in (1, 3, 10**6))


@pytest.mark.parametrize("kind", ["extra_of_scan", "extra_of_layer"])
@pytest.mark.parametrize(("chunk", "tokens"), [(16, 100_000), (1024, 20_480)])
def test_one_call_takes_at_most_100_mb_beyond_input_and_output(kind, chunk, tokens):
    """Measured in a process of its own; in one piece it was 113 to 1,000 MB."""
    if not Path("/proc/self/status").exists():
        pytest.skip("memory is read from /proc")
    pytest.importorskip("resource", reason="the benchmark needs it, which Windows does not have")
    from tests.benchmarks import sides, timing

    sizes = {"batch": 1, "tokens": tokens, "dim": 64, "chunk": chunk}
    assert timing.in_own_process(getattr(sides, kind), sizes) <= 100
