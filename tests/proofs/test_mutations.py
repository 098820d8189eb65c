"""The proofs can fail: each fault below, put into the library on purpose, is caught by the proof named beside it.

A fault is one place of one module's source changed and run under another name; nothing of the library is touched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

import titans.chunk_step
import titans.chunked
import titans.memory
import titans.neural_memory
import titans.recurrence
from tests.proofs import proofs
from tests.proofs.mutants import mutant
from tests.proofs.proofs import Scan, make_layer
from tests.proofs.strategies import Case
from titans import DeepMemory, chunked_scan, recurrent_scan
from titans.chunked import ChunkMix, chunk_mix


def recurrence(old: str, new: str) -> Scan:
    return mutant(titans.recurrence, old, new).recurrent_scan


def chunked_with(mix: Callable[..., ChunkMix]) -> Scan:
    """The chunked form with other coefficients."""

    def scan(*args, **kwargs):
        with patch.object(titans.chunked, "chunk_mix", mix):
            return chunked_scan(*args, **kwargs)

    return scan


def chunk_step_with(old: str, new: str) -> Scan:
    """The chunked form with another derivative of a layer's step."""
    broken = mutant(titans.chunk_step, old, new).chunk_step

    def scan(*args, **kwargs):
        with patch.object(titans.chunked, "chunk_step", broken):
            return chunked_scan(*args, **kwargs)

    return scan


def memory_with(old: str, new: str, name: str) -> Scan:
    """The chunked form over a memory one method of which is broken."""
    broken = getattr(mutant(titans.memory, old, new).DeepMemory, name)

    def scan(*args, **kwargs):
        with patch.object(DeepMemory, name, broken):
            return chunked_scan(*args, **kwargs)

    return scan


def with_limit(limit: Callable[[Tensor, Tensor, float], Tensor]) -> Scan:
    def scan(*args, **kwargs):
        with patch.object(titans.chunked, "bounded_errors", limit):
            return chunked_scan(*args, **kwargs)

    return scan


def around(change_input=lambda state: state, change_output=lambda state: state) -> Scan:
    """The chunked form with a state that is changed on its way in or out."""

    def scan(memory, state, *args, **kwargs):
        y, state = chunked_scan(memory, change_input(state), *args, **kwargs)
        return y, change_output(state)

    return scan


def chunk_after_chunk(change: Callable) -> Scan:
    """The chunked form called once a chunk, with the state changed at every border in between."""

    def scan(memory, state, q, k, v, gates, chunk_size=16, max_surprise=None):
        outputs, done = [], 0
        while done < k.shape[2]:
            part = slice(done, done + chunk_size - state.place_in_chunk)
            tensors = [x[:, :, part] for x in (q, k, v)]
            part_gates = titans.Gates(*(gate[:, :, part] for gate in gates))
            y, state = chunked_scan(memory, state, *tensors, part_gates, chunk_size, max_surprise)
            outputs.append(y)
            done = part.stop
            if done < k.shape[2]:
                state = change(state)
        return torch.cat(outputs, dim=2), state

    return scan


# ---- Faulty coefficients of the chunked form -------------------------------------------------------------------------


def flipped(theta: Tensor, eta: Tensor, alpha: Tensor) -> ChunkMix:
    mix = chunk_mix(theta, eta, alpha)
    return mix._replace(written=-mix.written, momentum_written=-mix.momentum_written)


def without_momentum(theta: Tensor, eta: Tensor, alpha: Tensor) -> ChunkMix:
    return chunk_mix(theta, torch.zeros_like(eta), alpha)


def leaking(theta: Tensor, eta: Tensor, alpha: Tensor) -> ChunkMix:
    mix = chunk_mix(theta, eta, alpha)
    return mix._replace(written=mix.written.mT)


def without_decay_in_g(theta: Tensor, eta: Tensor, alpha: Tensor) -> ChunkMix:
    return chunk_mix(theta, eta, alpha)._replace(written=chunk_mix(theta, eta, torch.zeros_like(alpha)).written)


def without_own_write(theta: Tensor, eta: Tensor, alpha: Tensor) -> ChunkMix:
    mix = chunk_mix(theta, eta, alpha)
    last = torch.zeros_like(mix.written)
    last[..., -1, :] = mix.written[..., -1, :]  # what is left after the chunk stays right
    return mix._replace(written=torch.where(last != 0, last, mix.written.tril(-1)))


def first_layers_gates(theta: Tensor, eta: Tensor, alpha: Tensor) -> ChunkMix:
    return chunk_mix(*(gate[:1].expand_as(gate) for gate in (theta, eta, alpha)))


def through_logarithms(theta: Tensor, eta: Tensor, alpha: Tensor) -> ChunkMix:
    """Decay products as differences of logarithms: right inside (0, 1), NaN at 0."""

    def products(gate: Tensor) -> Tensor:
        total = torch.nn.functional.pad(gate.log().cumsum(-1), (1, 0))
        return (total[..., 1:, None] - total[..., None, :]).tril(1).exp().tril(1)

    with patch.object(titans.chunked, "decay_products", products):
        return chunk_mix(theta, eta, alpha)


def row_0_for_all(state):
    return replace(state, weights=tuple(w[:1].expand_as(w) for w in state.weights), chunk_weights=state.chunk_weights)


def without_momentum_state(state):
    return replace(state, rule_state=tuple(torch.zeros_like(s) for s in state.momentum))


def limit_per_chunk(a: Tensor, e: Tensor, max_surprise: float) -> Tensor:
    """One factor for a whole chunk instead of one a token."""
    norm = (e.norm(dim=-1) * a.norm(dim=-1)).amax(-1)[..., None, None]
    return e * (max_surprise / norm.clamp(min=max_surprise))


def limit_entries(a: Tensor, e: Tensor, max_surprise: float) -> Tensor:
    """Every entry clamped by itself, which turns the gradient's direction."""
    return e.clamp(-max_surprise, max_surprise)


# ---- The proofs, bound to a case -------------------------------------------------------------------------------------

PLAIN = Case(tokens=7, chunk_size=3)
GATED = Case(tokens=8, chunk_size=3, exact=0.5, per_layer=(True, True, True), seed=3)
LIMITED = Case(tokens=8, chunk_size=3, max_surprise=0.5)
RESIDUAL = Case(tokens=5, chunk_size=3, residual=True)
SMALL = Case(heads=1, batch=1, tokens=5, chunk_size=3)


def agrees(scan: Scan) -> None:
    proofs.agrees_with_the_loop(scan, PLAIN)


def agrees_at_exact_gates(scan: Scan) -> None:
    proofs.agrees_with_the_loop(scan, GATED)


def agrees_with_a_limit(scan: Scan) -> None:
    proofs.agrees_with_the_loop(scan, LIMITED)


def agrees_with_a_residual(scan: Scan) -> None:
    proofs.agrees_with_the_loop(scan, RESIDUAL)


def agrees_twice_differentiated(scan: Scan) -> None:
    proofs.assert_same(proofs.second_order(scan, PLAIN), proofs.second_order(recurrent_scan, PLAIN), 1e-8)


def splits(scan: Scan) -> None:
    proofs.splitting_changes_nothing([scan], PLAIN, [1, 2, 5])


def causal(scan: Scan) -> None:
    proofs.is_causal(scan, SMALL)


def independent(scan: Scan) -> None:
    proofs.rows_and_heads_are_independent(scan, Case(dim=2, expansion=1, tokens=3, chunk_size=2))


def own_write(scan: Scan) -> None:
    proofs.a_token_sees_its_own_write(scan, PLAIN)


def repeats(scan: Scan) -> None:
    proofs.repeats_itself(scan, PLAIN)


def learns_by_writing(scan: Scan) -> None:
    proofs.writing_lowers_the_loss(scan, Case(dim=4, fresh=True))


def forgets(scan: Scan) -> None:
    proofs.forgetting_is_a_product(scan, replace(PLAIN, tokens=9))


def keeps_moving(scan: Scan) -> None:
    proofs.momentum_keeps_moving(scan, PLAIN)


def gradcheck(scan: Scan) -> None:
    proofs.passes_gradcheck(scan, Case(dim=2, heads=1, batch=1, tokens=3, chunk_size=2))


SCAN_FAULTS = {
    "the sign of the surprise, recurrence": (recurrence("e * s - th * u", "e * s + th * u"), learns_by_writing),
    "the sign of the surprise, chunked": (chunked_with(flipped), learns_by_writing),
    "no momentum, recurrence": (recurrence("e * s - th * u", "-th * u"), keeps_moving),
    "no momentum, chunked": (chunked_with(without_momentum), keeps_moving),
    "no forgetting": (recurrence("(1 - a) * w + s", "w + s"), forgets),
    "forgetting that takes the surprise too": (recurrence("(1 - a) * w + s", "(1 - a) * (w + s)"), agrees),
    "read before write, recurrence": (
        recurrence("outputs.append(memory.read(weights,", "outputs.append(memory.read(state.weights,"),
        own_write,
    ),
    "read before write, chunked": (chunked_with(without_own_write), own_write),
    "gradients at the current weights": (
        recurrence("surprise(memory, at, token.k", "surprise(memory, weights, token.k"),
        proofs.gradients_are_taken_at_the_chunk_start,
    ),
    "gradients at the first weights for ever": (
        recurrence("at = weights\n    after", "pass\n    after"),
        proofs.gradients_are_taken_at_the_chunk_start,
    ),
    "no factor 2, recurrence": (
        recurrence(".square().sum()", ".square().sum() / 2"),
        proofs.gradients_are_taken_at_the_chunk_start,
    ),
    "no factor 2, chunked": (
        memory_with("error = 2 * (", "error = (", "errors"),
        proofs.gradients_are_taken_at_the_chunk_start,
    ),
    "the mean over features": (recurrence(".square().sum()", ".square().mean()"), agrees),
    "no activation's slope": (
        memory_with("self.activation.backward(_times(errors[-1], weights[layer]), outputs[layer - 1])",
                    "errors[-1] @ weights[layer]", "errors"),
        agrees,
    ),
    "no slope of the norm": (
        memory_with("_layer_norm_backward(error, outputs[-1]) if self.residual else error", "error", "errors"),
        agrees_with_a_residual,
    ),
    "a later token leaks": (chunked_with(leaking), causal),
    "no decay in G": (chunked_with(without_decay_in_g), agrees),
    "one layer's gates for all": (chunked_with(first_layers_gates), agrees),
    "products through logarithms": (chunked_with(through_logarithms), agrees_at_exact_gates),
    "inner gradients cut, recurrence": (
        recurrence("gradients = grad(loss)(tuple(weights))",
                   "gradients = tuple(g.detach() for g in grad(loss)(tuple(weights)))"),
        proofs.the_outer_gradient_is_full,
    ),
    "inner gradients cut, chunked": (
        memory_with("return inputs, errors[::-1]", "return inputs, [e.detach() for e in errors[::-1]]", "errors"),
        gradcheck,
    ),
    "a derivative without what the next chunk reads": (
        chunk_step_with("plus(dW, dW_end, P[:, -1:])", "dW"), agrees),
    "a derivative without what momentum carries": (
        chunk_step_with("dS_end, g_c)", "dS_end, 0 * g_c)"), agrees),
    "a derivative with keys for queries": (
        chunk_step_with("torch.bmm(edh_M.mT, z)", "torch.bmm(edh_M.mT, a)"), gradcheck),
    "a derivative without the last forgetting": (
        chunk_step_with("plus_last(dP, _dot(dW_end, W))", "dP"), gradcheck),
    "a second derivative without the graph of its products": (
        chunk_step_with("if torch.is_grad_enabled():", "if False:"), agrees_twice_differentiated),
    "row 0's weights for every row": (around(change_input=row_0_for_all), independent),
    "the place is lost at a call's border": (
        around(change_input=lambda state: replace(state, place_in_chunk=0)),
        splits,
    ),
    "the chunk's start is lost at a call's border": (
        around(change_output=lambda state: replace(state, chunk_weights=state.weights)),
        splits,
    ),
    "momentum is lost at a chunk's border": (chunk_after_chunk(without_momentum_state), agrees),
    "momentum is lost at a call's border": (around(change_input=without_momentum_state), splits),
    "the graph is cut at a call's border": (around(change_output=lambda state: state.detach()), splits),
    "no limit": (with_limit(lambda a, e, max_surprise: e), proofs.surprise_is_limited),
    "a limit on entries": (with_limit(limit_entries), proofs.surprise_is_limited),
    "a limit on chunks": (with_limit(limit_per_chunk), agrees_with_a_limit),
}  # fmt: skip


def in_place(scan: Scan) -> Scan:
    def broken(memory, state, *args, **kwargs):
        with torch.no_grad():
            memory.weights[0].mul_(1.001)
        return scan(memory, state, *args, **kwargs)

    return broken


SCAN_FAULTS["a parameter is changed by a call"] = (in_place(chunked_scan), repeats)


@pytest.mark.parametrize("fault", SCAN_FAULTS)
def test_a_fault_in_a_scan_is_caught(fault):
    broken, proof = SCAN_FAULTS[fault]
    with pytest.raises(AssertionError):
        proof(broken)


def test_every_one_of_these_proofs_passes_for_both_scans():
    for proof in {proof for _, proof in SCAN_FAULTS.values()}:
        for scan in (recurrent_scan, chunked_scan):
            proof(scan)


def test_the_harness_of_the_faults_changes_nothing_by_itself():
    for scan in (
        recurrence("e * s - th * u", "e * s - th * u"),
        chunked_with(chunk_mix),
        memory_with("error = 2 * (", "error = 2 * (", "errors"),
        around(),
        chunk_after_chunk(lambda state: state),
        with_limit(titans.chunked.bounded_errors),
        chunk_step_with("plus(dW, dW_end, P[:, -1:])", "plus(dW, dW_end, P[:, -1:])"),
    ):
        for proof in (agrees, agrees_with_a_limit, splits):
            proof(scan)


# ---- The layer -------------------------------------------------------------------------------------------------------


def layer_splits(layer) -> None:
    proofs.layer_splitting_changes_nothing(layer, 9, [1, 2, 5])


def layer_causal(layer) -> None:
    proofs.layer_is_causal(layer, 7)


LAYER_FAULTS = {
    "the convolution forgets at a call's border": (
        "self.project(x, state.recent)", "self.project(x, torch.zeros_like(state.recent))", layer_splits),
    "the convolution sees ahead": (
        "torch.cat((recent, x), dim=1)", "torch.cat((recent[:, 1:], x, x[:, :1]), dim=1)", layer_causal),
    "a write that reaches nobody": (
        "return y, after", "return q + 0 * y, after",
        proofs.the_state_carries_from_the_first_token_to_the_last),
    "the state is not handed on": (
        "return y, after", "return y, self.initial_state(x.shape[0])",
        layer_splits),
    "the memory is cut from the graph": (
        "return unit(q), unit(k), v, recent", "return unit(q), unit(k).detach(), v.detach(), recent",
        proofs.every_parameter_learns_through_the_memory),
    "gates without a gradient": (
        "shares = torch.sigmoid(self.to_gates(x)", "shares = torch.sigmoid(self.to_gates(x).detach()",
        proofs.writes_reach_later_tokens),
    "M_0 without a gradient": (
        "state = self.memory.initial_state(len(x))", "state = self.memory.initial_state(len(x)).detach()",
        proofs.every_parameter_learns_through_the_memory),
    "keys of any length": (
        "return unit(q), unit(k), v, recent", "return unit(q), k, v, recent", proofs.layer_is_section_4_4),
    "no output gate": (
        "y * torch.sigmoid(self.W_G(bounded_input(x)))", "y + 0 * self.W_G(x)",
        proofs.layer_is_section_4_4),
    "a parameter is changed by a call": (
        "x = bounded_input(", "self.W_K.weight.data.mul_(1.001); x = bounded_input(", proofs.layer_repeats_itself),
    "chance in the forward pass": (
        "x = bounded_input(", "x = x + 1e-9 * torch.randn_like(x); x = bounded_input(", proofs.layer_repeats_itself),
    "another function in eval mode": (
        "x = bounded_input(", "x = x if self.training else 1.001 * x; x = bounded_input(", proofs.layer_repeats_itself),
    "rows that are normalised together": (
        "x = bounded_input(", "x = x / (1 + x.mean(0, keepdim=True).abs()); x = bounded_input(",
        proofs.layer_rows_are_independent),
}  # fmt: skip


@pytest.mark.parametrize("fault", LAYER_FAULTS)
def test_a_fault_in_the_layer_is_caught(fault):
    old, new, proof = LAYER_FAULTS[fault]
    broken = mutant(titans.neural_memory, old, new).NeuralMemory
    with pytest.raises(AssertionError):
        proof(make_layer(broken))


def test_every_one_of_these_proofs_passes_for_the_layer():
    same = mutant(titans.neural_memory, "x = bounded_input(", "x = bounded_input(").NeuralMemory
    for proof in {proof for _, _, proof in LAYER_FAULTS.values()}:
        proof(make_layer())
        proof(make_layer(same))
