"""Attention: rotary positions, the prefix that has none, masks, the sliding window and what it costs."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.proofs.model_proofs import plain_attend, split_heads
from tests.proofs.proofs import assert_same
from titans.attention import Attention, attend, causal_mask, rotate, window_attention


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# ---- Rotary positions ------------------------------------------------------------------------------------------------


def test_rotation_is_multiplication_of_complex_numbers():
    x = normal(2, 3, 5, 8)
    frequencies = torch.tensor([10_000.0 ** (-j / 4) for j in range(4)], dtype=torch.float64)
    turn = torch.exp(1j * torch.arange(7, 12)[:, None] * frequencies)
    want = torch.complex(x[..., :4], x[..., 4:]) * turn
    assert_same({"x": rotate(x, 7)}, {"x": torch.cat((want.real, want.imag), dim=-1)}, 1e-14)


def test_position_0_does_not_turn_and_no_position_changes_a_length():
    x = normal(2, 1, 8)
    assert torch.equal(rotate(x, 0), x)
    assert_same({"length": rotate(x, 1000).norm(dim=-1)}, {"length": x.norm(dim=-1)}, 1e-14)


@pytest.mark.parametrize("shift", [1, 100, 10_000])
def test_D4_only_differences_of_positions_matter(shift):
    q, k = normal(4, 8), normal(6, 8, seed=1)
    scores = [rotate(q, 3 + s) @ rotate(k, s).mT for s in (0, shift)]
    assert_same({"scores": scores[1]}, {"scores": scores[0]}, 1e-11)
    assert (rotate(q, 4) @ rotate(k, 0).mT - scores[0]).norm() > 0.1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_far_positions_lose_no_precision(dtype):
    """Angles are worked out in float64: in float32 position 1e7 would be off by half a radian."""
    x = normal(1, 8)
    want = rotate(x, 10_000_000).to(dtype)
    assert (rotate(x.to(dtype), 10_000_000) - want).abs().max() < 4 * torch.finfo(dtype).eps


# ---- One softmax over prefix and tokens ------------------------------------------------------------------------------


def dense(q: Tensor, k: Tensor, v: Tensor, prefix: tuple[Tensor, Tensor], mask: Tensor, first: int) -> Tensor:
    """Token by token: the prefix without positions, then the keys that the mask shows; query 0 is at key `first`."""
    outputs = []
    for i in range(q.shape[2]):
        seen = [(prefix[0][:, :, n], prefix[1][:, :, n], None) for n in range(prefix[0].shape[2])]
        seen += [(k[:, :, j], v[:, :, j], first + i - j) for j in range(k.shape[2]) if mask[i, j]]
        outputs.append(plain_attend(q[:, :, i], seen))
    return torch.stack(outputs, dim=2)


@pytest.mark.parametrize("prefix_len", [0, 1, 3])
@pytest.mark.parametrize("before", [0, 4])
def test_equation_19_attention_is_softmax_over_prefix_and_past(prefix_len, before):
    q, k, v = normal(2, 3, 5, 8), normal(2, 3, before + 5, 8, seed=1), normal(2, 3, before + 5, 8, seed=2)
    prefix = (normal(2, 3, prefix_len, 8, seed=3), normal(2, 3, prefix_len, 8, seed=4))
    mask = causal_mask(5, before, q.device)
    got = attend(q, rotate(q, before), rotate(k, 0), v, prefix, mask)
    assert_same({"y": got}, {"y": dense(q, k, v, prefix, mask, before)}, 1e-12)


def test_any_mask_is_obeyed():
    q, k, v = normal(2, 3, 5, 8), normal(2, 3, 7, 8, seed=1), normal(2, 3, 7, 8, seed=2)
    prefix = (normal(2, 3, 1, 8, seed=3), normal(2, 3, 1, 8, seed=4))
    mask = normal(5, 7, seed=5) > 0
    mask[2] = False  # a token that sees nothing but the prefix
    got = attend(q, rotate(q, 0), rotate(k, 0), v, prefix, mask)
    assert_same({"y": got}, {"y": dense(q, k, v, prefix, mask, 0)}, 1e-12)
    assert_same({"y": got[:, :, 2]}, {"y": prefix[1][:, :, 0]}, 1e-12)


def test_the_causal_mask_shows_the_past_and_the_token_itself():
    assert causal_mask(3, 2, torch.device("cpu")).int().tolist() == [[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]]


def test_equation_20_persistent_keys_and_values_alone_are_a_feed_forward_network():
    """With nothing else to see, attention is W_V softmax(W_K q): the same keys and values whatever the data."""
    q, W_K, W_V = normal(1, 1, 5, 8), normal(6, 8, seed=1), normal(6, 8, seed=2)
    empty, mask = q[:, :, :0], torch.zeros(5, 0, dtype=torch.bool)
    got = attend(q, q, empty, empty, (W_K[None, None], W_V[None, None]), mask)[0, 0]
    want = torch.softmax(q[0, 0] @ W_K.T / math.sqrt(8), dim=-1) @ W_V
    assert_same({"y": got}, {"y": want}, 1e-13)


# ---- The sliding window ----------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    tokens=st.integers(1, 12),
    cached=st.integers(0, 20),
    window=st.integers(1, 14),
    prefix_len=st.integers(0, 2),
    seed=st.integers(0, 1000),
)
def test_the_window_is_a_mask(tokens, cached, window, prefix_len, seed):
    """Each token sees itself, the window - 1 before it, as far as there are any, and the prefix."""
    cached = min(cached, window - 1)
    q, k, v = (normal(2, 2, length, 4, seed=seed + n) for n, length in enumerate((tokens, *[cached + tokens] * 2)))
    prefix = (normal(2, 2, prefix_len, 4, seed=seed + 3), normal(2, 2, prefix_len, 4, seed=seed + 4))
    distance = torch.arange(cached, cached + tokens)[:, None] - torch.arange(cached + tokens)
    want = dense(q, k, v, prefix, (distance >= 0) & (distance < window), cached)
    assert_same({"y": window_attention(q, (k,), (v,), prefix, window)}, {"y": want}, 1e-12)


class Work(TorchDispatchMode):
    """Counts the numbers that all operations write."""

    numbers = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple) else (result,):
            if isinstance(tensor, Tensor) and func not in (torch.ops.aten.view.default, torch.ops.aten.expand.default):
                self.numbers += tensor.numel()
        return result


def work(tokens: int, window: int) -> int:
    x = torch.randn(1, 1, tokens, 4)
    with Work() as counted:
        window_attention(x, (x,), (x,), (x[:, :, :2], x[:, :, :2]), window)
    return counted.numbers


def test_a_window_costs_tokens_times_window():
    """Twice the tokens cost twice as much; of twice the window, no more than twice. A dense mask costs four times."""
    assert work(2048, 16) / work(1024, 16) == pytest.approx(2, rel=0.01)
    assert work(1024, 32) < 2 * work(1024, 16)
    x = torch.randn(1, 1, 2048, 4)
    with Work() as dense_work:
        attend(x, x, x, x, (x[:, :, :2], x[:, :, :2]), causal_mask(2048, 0, x.device))
    assert dense_work.numbers > 10 * work(2048, 16)


# ---- Heads -----------------------------------------------------------------------------------------------------------


def test_projections_split_into_heads_and_have_no_biases():
    torch.manual_seed(0)
    attention, x = Attention(6, heads=3, dim_head=4).double(), normal(2, 5, 6)
    assert {name: tuple(weight.shape) for name, weight in attention.named_parameters()} == {
        "W_Q.weight": (12, 6),
        "W_K.weight": (12, 6),
        "W_V.weight": (12, 6),
        "W_O.weight": (6, 12),
    }
    k, v = attention.keys_values(x)
    for got, W in ((attention.queries(x), attention.W_Q), (k, attention.W_K), (v, attention.W_V)):
        want = split_heads(x @ W.weight.T, 3).transpose(1, 2)
        assert_same({"head": got}, {"head": want}, 1e-14)
    y = normal(2, 3, 5, 4)
    assert_same({"y": attention.output(y)}, {"y": y.transpose(1, 2).flatten(2) @ attention.W_O.weight.T}, 1e-14)
