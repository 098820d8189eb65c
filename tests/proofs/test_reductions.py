"""What the memory is when parts of it are switched off: its relatives, and equations 16-18 as the paper prints them.

Each reference is a few lines that know nothing of the library. The relatives minimise half the squared error, so their
step is twice ours: theta = step / 2 (D8).
"""

from __future__ import annotations

import torch
from torch import Tensor

from tests.proofs.proofs import assert_same, plain_forward, relative_error
from tests.proofs.scans import each_scan
from titans import DeepMemory, Gates

BATCH, HEADS, TOKENS, DIM = 2, 3, 9, 4


def random_tensors(seed: int = 0) -> tuple[Tensor, ...]:
    """q, k, v of about unit length, and three gates in (0, 1), one number a token."""
    random = torch.Generator().manual_seed(seed)
    q, k, v = torch.randn(3, BATCH, HEADS, TOKENS, DIM, generator=random, dtype=torch.float64) / DIM**0.5
    return q, k, v, *(0.05 + 0.9 * torch.rand(3, BATCH, HEADS, TOKENS, generator=random, dtype=torch.float64))


def matrix_memory(zero: bool = False) -> tuple[DeepMemory, Tensor]:
    """A memory that is one matrix, and that matrix for each row, [batch, heads, dim, dim]."""
    memory = DeepMemory(DIM, HEADS, depth=1, residual=False).double()
    with torch.no_grad():
        memory.weights[0].normal_(0, 0.0 if zero else 0.5, generator=torch.Generator().manual_seed(7))
    return memory, memory.weights[0].detach().expand(BATCH, -1, -1, -1).clone()


def scanned(scan, memory: DeepMemory, q, k, v, gates: Gates, chunk_size: int) -> dict[str, Tensor]:
    y, state = scan(memory, memory.initial_state(BATCH), q, k, v, gates, chunk_size)
    return {"y": y, "W": state.weights[0]}


def outer(a: Tensor, b: Tensor) -> Tensor:
    return a[..., :, None] * b[..., None, :]


def apply(W: Tensor, x: Tensor) -> Tensor:
    return (W @ x[..., None])[..., 0]


# ---- Relatives (equations 32-35) -------------------------------------------------------------------------------------


def gated_delta_rule(W: Tensor, q, k, v, beta, keep) -> dict[str, Tensor]:
    """Gated DeltaNet: W_t = keep_t W_{t-1} (I - beta_t k_t k_t^T) + beta_t v_t k_t^T; with keep = 1, DeltaNet."""
    outputs = []
    for t in range(TOKENS):
        b, a = beta[..., t, None, None], keep[..., t, None, None]
        W = a * (W - b * outer(apply(W, k[..., t, :]), k[..., t, :])) + b * outer(v[..., t, :], k[..., t, :])
        outputs.append(apply(W, q[..., t, :]))
    return {"y": torch.stack(outputs, dim=2), "W": W}


@each_scan
def test_without_momentum_and_forgetting_it_is_the_delta_rule(scan):
    q, k, v, beta, _, _ = random_tensors()
    memory, W = matrix_memory()
    zero = torch.zeros_like(beta)
    got = scanned(scan, memory, q, k, v, Gates(beta / 2, zero, zero), 1)
    assert_same(got, gated_delta_rule(W, q, k, v, beta, 1 - zero))


@each_scan
def test_with_forgetting_it_is_the_gated_delta_rule_with_other_gates(scan):
    q, k, v, theta, _, alpha = random_tensors()
    memory, W = matrix_memory()
    got = scanned(scan, memory, q, k, v, Gates(theta / 2, torch.zeros_like(theta), alpha), 1)
    keep = 1 - alpha
    assert_same(got, gated_delta_rule(W, q, k, keep[..., None] * v, theta / keep, keep))


@each_scan
def test_with_forgetting_it_is_not_the_gated_delta_rule_with_the_same_gates(scan):
    """Gated DeltaNet takes the error after it has forgotten, the paper before."""
    q, k, v, theta, _, alpha = random_tensors()
    memory, W = matrix_memory()
    got = scanned(scan, memory, q, k, v, Gates(theta / 2, torch.zeros_like(theta), alpha / 4), 1)
    assert relative_error(got["y"], gated_delta_rule(W, q, k, v, theta, 1 - alpha / 4)["y"]) > 0.01


@each_scan
def test_in_one_chunk_from_zero_it_is_gated_linear_attention(scan):
    """Mamba-2's form: y_t = sum_{i<=t} keep_{i+1} ... keep_t (k_i . q_t) theta_i v_i."""
    q, k, v, theta, _, alpha = random_tensors()
    memory, _ = matrix_memory(zero=True)
    got = scanned(scan, memory, q, k, v, Gates(theta / 2, torch.zeros_like(theta), alpha), TOKENS)
    y = torch.zeros_like(q)
    for t in range(TOKENS):
        for i in range(t + 1):
            kept = (1 - alpha[..., i + 1 : t + 1]).prod(-1)
            y[..., t, :] += (kept * theta[..., i] * (k[..., i, :] * q[..., t, :]).sum(-1))[..., None] * v[..., i, :]
    assert_same({"y": got["y"]}, {"y": y})


@each_scan
def test_with_open_gates_in_one_chunk_from_zero_it_is_linear_attention(scan):
    q, k, v, theta, _, _ = random_tensors()
    memory, _ = matrix_memory(zero=True)
    zero = torch.zeros_like(theta)
    got = scanned(scan, memory, q, k, v, Gates(zero + 0.5, zero, zero), 2 * TOKENS)
    assert_same(got, {"y": (q @ k.mT).tril() @ v, "W": v.mT @ k})


# ---- The chunked form as printed -------------------------------------------------------------------------------------


def gradients_at(weights, k: Tensor, v: Tensor, depth: int) -> list[list[Tensor]]:
    """For every token, the gradient of |M(k_t) - v_t|^2 at the given weights of a gelu network, by autograd."""
    found = []
    for t in range(k.shape[2]):
        at = [weight.detach().clone().requires_grad_() for weight in weights]
        loss = (plain_forward(at, k[:, :, t], "gelu", False) - v[:, :, t]).square().sum()
        found.append(list(torch.autograd.grad(loss, at)))
    assert len(found[0]) == depth
    return found


def deep_memory() -> DeepMemory:
    memory = DeepMemory(DIM, HEADS, depth=2, expansion=2, residual=False).double()
    with torch.no_grad():
        for weight in memory.weights:
            weight.normal_(0, 0.5, generator=torch.Generator().manual_seed(8))
    return memory


@each_scan
def test_equation_16_as_printed(scan):
    """M_t = beta_t M_t' - sum_{i<=t} theta_i (beta_t / beta_i) grad_i, over two chunks of a deep memory, eta = 0."""
    q, k, v, theta, _, alpha = random_tensors()
    theta = theta / 10
    memory, chunk = deep_memory(), 5
    at_start = memory.initial_state(BATCH)
    start = [weight.detach() for weight in at_start.weights]
    for first in (0, chunk):
        gradients = gradients_at(start, k[:, :, first : first + chunk], v[:, :, first : first + chunk], 2)
        beta = (1 - alpha[..., first : first + chunk]).cumprod(-1)
        for t in range(min(chunk, TOKENS - first)):
            want = {"place": torch.tensor((first + t + 1) % chunk)}
            for layer, weight in enumerate(start):
                moved = beta[..., t, None, None] * weight
                for i in range(t + 1):
                    ratio = (theta[..., first + i] * beta[..., t] / beta[..., i])[..., None, None]
                    moved = moved - ratio * gradients[i][layer]
                want[f"W.{layer}"] = moved
            seen = slice(0, first + t + 1)
            gates = Gates(theta[..., seen], torch.zeros_like(theta[..., seen]), alpha[..., seen])
            _, state = scan(memory, at_start, q[:, :, seen], k[:, :, seen], v[:, :, seen], gates, chunk)
            got = {f"W.{layer}": weight for layer, weight in enumerate(state.weights)}
            assert state.place_in_chunk == want.pop("place")
            assert_same(got, want)
        start = [weight.detach() for weight in state.weights]


@each_scan
def test_equation_17_as_matrix_products_with_its_misprints_mended(scan):
    """M_b = beta_b W_0 - 2 (W_0 K - V) Theta B K^T, with the 2, with keys and values, the diagonals between the two."""
    q, k, v, theta, _, alpha = random_tensors()
    memory, W = matrix_memory()
    got = scanned(scan, memory, q, k, v, Gates(theta, torch.zeros_like(theta), alpha), TOKENS)
    beta = (1 - alpha).cumprod(-1)
    K, V = k.mT, v.mT  # one column a token
    Theta, B = torch.diag_embed(theta), torch.diag_embed(beta[..., -1:] / beta)
    right = beta[..., -1, None, None] * W - 2 * (W @ K - V) @ Theta @ B @ K.mT
    assert_same({"W": got["W"]}, {"W": right})
    printed = beta[..., -1, None, None] * W - (W @ K - V) @ Theta @ B @ K.mT
    assert relative_error(got["W"], printed) > 0.01


@each_scan
def test_equation_18_momentum_in_a_chunk_is_a_linear_recurrence(scan):
    """S_t = eta_t S_{t-1} - theta_t u_t with u_t at the chunk's start, so S_b is one weighted sum of what came."""
    q, k, v, theta, eta, alpha = random_tensors()
    theta = theta / 10
    memory, chunk = deep_memory(), 5
    at_start = memory.initial_state(BATCH)
    _, state = scan(memory, at_start, q, k, v, Gates(theta, eta, alpha), chunk)  # chunks of 5 and 4 tokens
    early = slice(0, chunk)
    gates = Gates(theta[..., early], eta[..., early], alpha[..., early])
    _, border = scan(memory, at_start, q[:, :, early], k[:, :, early], v[:, :, early], gates, chunk)
    u = gradients_at(at_start.weights, k[:, :, early], v[:, :, early], 2)
    u += gradients_at(border.weights, k[:, :, chunk:], v[:, :, chunk:], 2)
    for layer in range(2):
        S = torch.zeros_like(u[0][layer])
        for t in range(TOKENS):  # S crosses the chunk's border
            S = S - theta[..., t, None, None] * eta[..., t + 1 :].prod(-1)[..., None, None] * u[t][layer]
        assert_same({"S": state.momentum[layer]}, {"S": S})
