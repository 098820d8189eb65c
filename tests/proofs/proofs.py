"""What must be true of a scan and of a layer, each a function that takes the scan or the layer to be judged.

The tests of this folder call them with the library's; `test_mutations` calls them with broken ones, and sees them fail.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from unittest.mock import patch

import torch
from torch import Tensor

from tests.proofs.strategies import Case, Problem, each_tensor, gates_of, make
from titans import Gates, MemoryState, NeuralMemory, recurrent_scan
from titans.observe import no_gates

Scan = Callable[..., tuple[Tensor, MemoryState]]
TOLERANCE = 1e-10  # relative, float64
FLOOR = 1e-5  # a tensor of a smaller norm is compared absolutely, to TOLERANCE * FLOOR


def relative_error(got: Tensor, want: Tensor) -> float:
    """|got - want| / |want|; NaN where either holds one."""
    return float((got - want).detach().norm() / want.detach().norm().clamp(min=FLOOR))


def assert_same(got: dict[str, Tensor], want: dict[str, Tensor], tolerance: float = TOLERANCE) -> None:
    """The same names, and under each name the same numbers."""
    assert got.keys() == want.keys()
    errors = {name: relative_error(got[name].detach(), want[name].detach()) for name in want}
    wrong = {name: error for name, error in errors.items() if not error <= tolerance}
    assert not wrong, f"relative errors over {tolerance:g}: {wrong}"


# ---- A scan is the paper's update ------------------------------------------------------------------------------------


def plain_forward(weights: Sequence[Tensor], x: Tensor, activation: str, residual: bool) -> Tensor:
    """M(x) for one token, x [batch, heads, dim], written out."""
    h = x
    for layer, weight in enumerate(weights):
        if layer:
            h = {
                "gelu": lambda h: h * (1 + torch.erf(h / math.sqrt(2))) / 2,
                "silu": lambda h: h * torch.sigmoid(h),
                "relu": lambda h: h * (h > 0),
                "tanh": torch.tanh,
            }[activation](h)
        h = torch.einsum("bhoi,bhi->bho", weight, h)
    if not residual:
        return h
    centred = h - h.mean(-1, keepdim=True)
    return x + centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-5)


def plain_loop(case: Case, second_order: bool = True) -> Scan:
    """The third way: equations 12-15 token by token, with nothing of the library and nothing of torch.func.

    second_order=False takes the inner gradient as a number: the same function with another outer gradient.
    """

    def scan(memory, state, q, k, v, gates, chunk_size=1, max_surprise=None):
        weights, momentum, start, place = (
            list(state.weights),
            list(state.momentum),
            state.chunk_weights,
            state.place_in_chunk,
        )
        outputs = []
        for t in range(k.shape[2]):
            at = [w if w.requires_grad else w.clone().requires_grad_() for w in start]
            error = plain_forward(at, k[:, :, t], case.activation, case.residual) - v[:, :, t]
            gradients = torch.autograd.grad((error**2).sum(), at, create_graph=second_order)
            for layer, u in enumerate(gradients):
                theta, eta, alpha = (
                    (g[:, :, t, layer] if g.ndim == 4 else g[:, :, t])[:, :, None, None] for g in gates
                )
                if max_surprise is not None:
                    norm = u.norm(dim=(2, 3), keepdim=True)
                    u = u * torch.where(norm > max_surprise, max_surprise / norm.clamp(min=1e-9), 1.0)
                momentum[layer] = eta * momentum[layer] - theta * u
                weights[layer] = (1 - alpha) * weights[layer] + momentum[layer]
            outputs.append(plain_forward(weights, q[:, :, t], case.activation, case.residual))
            place = (place + 1) % chunk_size
            if place == 0:
                start = tuple(weights)
        new = MemoryState(
            tuple(weights),
            tuple(start),
            tuple(momentum),
            place_in_chunk=place,
            chunk_size=chunk_size,
            signature=state.signature,
        )
        return torch.stack(outputs, dim=2), new

    return scan


def run(scan: Scan, problem: Problem, tokens: slice = slice(None), state: MemoryState | None = None):
    """y and the state after some of a problem's tokens."""
    case, part = problem.case, problem.part(tokens)
    state = problem.start() if state is None else state
    q, k, v = part["q"], part["k"], part["v"]
    return scan(problem.memory, state, q, k, v, gates_of(part), case.chunk_size, case.max_surprise)


def results(problem: Problem, y: Tensor, state: MemoryState) -> dict[str, Tensor]:
    """All that a scan returns, and the gradient of a random scalar of it for every leaf."""
    groups = {"weights": state.weights, "momentum": state.momentum, "chunk_weights": state.chunk_weights}
    named = {"y": y} | {f"{group}.{i}": tensor for group, layers in groups.items() for i, tensor in enumerate(layers)}
    random = torch.Generator().manual_seed(problem.case.seed + 1)
    scalar = sum((torch.randn(t.shape, generator=random, dtype=t.dtype) * t).sum() for t in named.values())
    leaves = problem.leaves
    gradients = torch.autograd.grad(scalar, list(leaves.values()), allow_unused=True)
    outer = {
        f"gradient of {name}": torch.zeros_like(leaf) if gradient is None else gradient
        for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True)
    }
    named["place"] = torch.tensor(float(state.place_in_chunk))
    return named | outer


def second_order(scan: Scan, case: Case) -> dict[str, Tensor]:
    """Gradients of a scalar of everything that a scan returns, and gradients of a scalar of those."""
    problem = make(case)
    y, state = run(scan, problem)
    leaves = problem.leaves
    random = torch.Generator().manual_seed(case.seed + 1)

    def weighed(tensors: list[Tensor]) -> Tensor:
        draws = (torch.randn(t.shape, generator=random, dtype=t.dtype) for t in tensors)
        return sum((t * draw).sum() for t, draw in zip(tensors, draws, strict=True))

    options = {"allow_unused": True, "materialize_grads": True}
    scalar = weighed([y, *state.weights, *state.momentum])
    first = torch.autograd.grad(scalar, list(leaves.values()), create_graph=True, **options)
    second = torch.autograd.grad(weighed(first), list(leaves.values()), **options)
    return {
        f"{order}. {name}": g for order, gs in ((1, first), (2, second)) for name, g in zip(leaves, gs, strict=True)
    }


def agrees_with_the_loop(scan: Scan, case: Case) -> None:
    """Outputs, final state and outer gradients are those of a loop written out here."""
    problem = make(case)
    got = results(problem, *run(scan, problem))
    want = results(problem, *run(plain_loop(case), problem))
    assert all(tensor.isfinite().all() for tensor in want.values())
    assert_same(got, want)


def passes_gradcheck(scan: Scan, case: Case) -> None:
    """The outer gradient of outputs and state is the slope of finite differences."""
    problem = make(case)
    names, leaves = zip(*problem.leaves.items(), strict=True)

    def call(*_: Tensor) -> tuple[Tensor, ...]:  # gradcheck moves the leaves in place
        y, state = run(scan, problem)
        return y, *state.weights, *state.momentum

    assert torch.autograd.gradcheck(call, leaves, raise_exception=False), names


# ---- Splits, causality, independence ---------------------------------------------------------------------------------


def splitting_changes_nothing(scans: Sequence[Scan], case: Case, cuts: Sequence[int]) -> None:
    """Pieces that the scans take in turn give what the first scan makes of the whole, outer gradients included."""
    problem = make(case)
    whole = results(problem, *run(scans[0], problem))
    state, outputs = problem.state, []
    for turn, (begin, end) in enumerate(pairwise([0, *cuts, case.tokens])):
        y, state = run(scans[turn % len(scans)], problem, slice(begin, end), state)
        outputs.append(y)
    assert_same(results(problem, torch.cat(outputs, dim=2), state), whole)


def is_causal(scan: Scan, case: Case) -> None:
    """No output depends on a later token; every output depends on every earlier key, value and gate."""
    problem = make(case)
    names, inputs = zip(*problem.inputs.items(), strict=True)

    def outputs(*inputs: Tensor) -> Tensor:
        return run(scan, replace(problem, inputs=dict(zip(names, inputs, strict=True))))[0]

    jacobians = torch.autograd.functional.jacobian(outputs, inputs)
    for name, jacobian in zip(names, jacobians, strict=True):
        # [batch, heads, tokens, dim, batch, heads, tokens, ...] -> size of the influence, [output, input]
        influence = jacobian.flatten(7).abs().sum(-1) if jacobian.ndim > 7 else jacobian.abs()
        influence = influence.movedim((2, 6), (0, 1)).flatten(2).sum(-1)
        assert (influence.triu(1) == 0).all(), f"{name} of a later token reaches an earlier output"
        if name == "q":
            assert (influence.tril(-1) == 0).all(), "a query reaches another token's output"
        else:
            assert (influence + torch.ones_like(influence).triu(1) > 0).all(), f"{name} does not reach later outputs"
    assert (influence.diagonal() > 0).all()


def rows_and_heads_are_independent(scan: Scan, case: Case) -> None:
    """No row of a batch and no head depends on another, and a row alone gives what it gives in a batch."""
    problem = make(case)
    names, inputs = zip(*problem.inputs.items(), strict=True)

    def outputs(*inputs: Tensor) -> tuple[Tensor, ...]:
        y, state = run(scan, replace(problem, inputs=dict(zip(names, inputs, strict=True))))
        return y, *state.weights, *state.momentum

    same = torch.eye(case.batch)[:, None, :, None] * torch.eye(case.heads)[:, None]  # [b, h, b', h']
    for jacobians in torch.autograd.functional.jacobian(outputs, inputs):
        for name, jacobian in zip(names, jacobians, strict=True):
            rows = jacobian.movedim((0, 1, 4, 5), (0, 1, 2, 3)).flatten(4).abs().sum(-1)
            assert (rows[same == 0] == 0).all(), f"{name} of one row or head reaches another"
            if name == "v":
                assert (rows[same == 1] > 0).all()

    together = dict(zip(("y", *(f"state {i}" for i in range(2 * case.depth))), outputs(*inputs), strict=True))
    for row in range(case.batch):
        alone = replace(
            problem,
            state=each_tensor(problem.state, lambda tensor, row=row: tensor[row : row + 1]),
            inputs={name: tensor[row : row + 1] for name, tensor in problem.inputs.items()},
        )
        y, state = run(scan, alone)
        got = dict(zip(together, (y, *state.weights, *state.momentum), strict=True))
        assert_same(got, {name: tensor[row : row + 1] for name, tensor in together.items()}, 1e-12)


def repeats_itself(scan: Scan, case: Case) -> None:
    """The same call twice gives the same bits, and changes neither parameters, nor the state it got, nor its inputs."""
    problem = make(case)
    held = [*problem.inputs.values(), *problem.memory.parameters(), *problem.state.tensors().values()]
    before = [tensor.detach().clone() for tensor in held]
    (y_1, state_1), (y_2, state_2) = run(scan, problem), run(scan, problem)
    assert torch.equal(y_1, y_2)
    assert all(map(torch.equal, state_1.tensors().values(), state_2.tensors().values()))
    assert all(map(torch.equal, held, before)), "a call changed a tensor that it was given"


# ---- The decisions, one by one ---------------------------------------------------------------------------------------


def plain_gates(shape: tuple[int, ...], theta: float, eta: float, alpha: float) -> Gates:
    return Gates(*(torch.full(shape, value, dtype=torch.float64) for value in (theta, eta, alpha)))


def gradients_are_taken_at_the_chunk_start(scan: Scan) -> None:
    """D1, with a matrix memory and two tokens: in one chunk both errors are those of W_0, in two each has its own."""
    problem = make(Case(heads=1, depth=1, batch=1, tokens=2, fresh=False))
    q, k, v = (problem.inputs[name] for name in ("q", "k", "v"))
    (k_1, k_2), (v_1, v_2) = k[0, 0], v[0, 0]
    gates = plain_gates((1, 1, 2), 0.3, 0, 0)
    w_0 = problem.memory.weights[0][0]
    w_1 = w_0 - 0.6 * torch.outer(w_0 @ k_1 - v_1, k_1)
    for chunk_size, start in ((2, w_0), (1, w_1)):
        state = problem.memory.initial_state(1)
        _, state = scan(problem.memory, state, q, k, v, gates, chunk_size)
        want = w_1 - 0.6 * torch.outer(start @ k_2 - v_2, k_2)
        assert_same({"W_2": state.weights[0][0, 0]}, {"W_2": want})


def a_token_sees_its_own_write(scan: Scan, case: Case) -> None:
    """D2: y_t is the memory of after t's write, asked for q_t, inside a chunk as well."""
    problem = make(case)
    y, _ = run(scan, problem)
    for t in range(case.tokens):
        _, state = run(scan, problem, slice(0, t + 1))
        want = plain_forward(state.weights, problem.inputs["q"][:, :, t], case.activation, case.residual)
        assert_same({"y": y[:, :, t]}, {"y": want})


def the_outer_gradient_is_full(scan: Scan) -> None:
    """D7: the gradient of a loss of y is that of finite differences; with the inner gradients cut it is another."""
    case = Case(heads=1, batch=1, tokens=6, chunk_size=2, fresh=False)
    problem = make(case)
    problem = replace(problem, state=None)
    key, weight = problem.inputs["k"], problem.memory.weights[0]
    with torch.no_grad():
        problem.inputs["theta"].fill_(0.15)

    def loss(scan: Scan) -> Tensor:
        return run(scan, problem)[0].square().sum()

    cut = plain_loop(case, second_order=False)
    assert_same({"value": loss(cut)}, {"value": loss(scan)})  # the same function ...
    for leaf in (key, weight):
        (got,) = torch.autograd.grad(loss(scan), leaf, allow_unused=True)
        assert got is not None, "no gradient through the inner gradient"
        direction = torch.randn(leaf.shape, generator=torch.Generator().manual_seed(0), dtype=leaf.dtype)
        ends = []
        for sign in (1, -1):
            with torch.no_grad():
                leaf.add_(sign * 1e-5 * direction)
                ends.append(run(scan, problem)[0].square().sum())
                leaf.sub_(sign * 1e-5 * direction)
        slope = (ends[0] - ends[1]) / 2e-5
        assert abs((got * direction).sum() - slope) < 1e-7 * abs(slope)
        (shorter,) = torch.autograd.grad(loss(cut), leaf, allow_unused=True)
        shorter = torch.zeros_like(leaf) if shorter is None else shorter
        assert relative_error(shorter, got) > 0.01  # ... with another gradient


def surprise_is_limited(scan: Scan) -> None:
    """D12: each token and layer writes a gradient of norm max_surprise at most, in the direction that it had."""
    problem = make(Case(heads=1, depth=2, batch=1, tokens=1, chunk_size=1, fresh=True))
    with torch.no_grad():
        for weight in problem.memory.weights:
            weight.normal_(generator=torch.Generator().manual_seed(1))
    q, k, v = (problem.inputs[name] for name in ("q", "k", "v"))

    def written(max_surprise: float | None) -> list[Tensor]:
        state = problem.memory.initial_state(1)
        _, state = scan(problem.memory, state, q, k, v, plain_gates((1, 1, 1), 1, 0, 0), 1, max_surprise)
        return [momentum[0, 0] for momentum in state.momentum]

    free = written(None)
    norms = [float(u.detach().norm()) for u in free]
    limit = sum(norms) / 2  # between the two
    assert min(norms) < 0.9 * limit < 1.1 * limit < max(norms)
    for u, got, norm in zip(free, written(limit), norms, strict=True):
        assert_same({"surprise": got}, {"surprise": u * min(1, limit / norm)})


# ---- A memory that works, with gates by hand -------------------------------------------------------------------------


def writing_lowers_the_loss(scan: Scan, case: Case) -> None:
    """Reading a stored pair again after it was written has a smaller loss than before, for every row and head."""
    problem = make(case)
    k, v = problem.inputs["k"][:, :, :1], problem.inputs["v"][:, :, :1]
    losses, state = [], problem.memory.initial_state(case.batch)
    for _ in range(4):
        answer = plain_forward(state.weights, k[:, :, 0], case.activation, case.residual)
        losses.append((answer - v[:, :, 0]).square().sum(-1))
        _, state = scan(problem.memory, state, k, k, v, plain_gates((case.batch, case.heads, 1), 0.02, 0, 0), 1)
    assert all((after < before).all() for before, after in pairwise(losses))


def forgetting_is_a_product(scan: Scan, case: Case) -> None:
    """theta = eta = 0: W_t = (1 - alpha_1) ... (1 - alpha_t) W_0, and no surprise at all."""
    problem = make(replace(case, per_layer=(False, False, False), fresh=True))
    alpha = problem.inputs["alpha"]
    gates = Gates(torch.zeros_like(alpha), torch.zeros_like(alpha), alpha)
    q, k, v = (problem.inputs[name] for name in ("q", "k", "v"))
    _, state = scan(problem.memory, problem.state, q, k, v, gates, case.chunk_size)
    kept = (1 - alpha).prod(2)[..., None, None]
    for layer, weight in enumerate(problem.state.weights):
        assert_same({"W": state.weights[layer]}, {"W": kept * weight})
        assert (state.momentum[layer] == 0).all()


def momentum_keeps_moving(scan: Scan, case: Case) -> None:
    """One surprise and then theta = 0: the weights move on, by a step that shrinks by eta each token."""
    problem = make(replace(case, fresh=False, per_layer=(False, False, False)))
    eta = 0.7
    q, k, v = (problem.inputs[name] for name in ("q", "k", "v"))
    theta = torch.zeros_like(problem.inputs["theta"])
    theta[:, :, 0] = 0.1
    gates = Gates(theta, torch.full_like(theta, eta), torch.zeros_like(theta))
    state = problem.memory.initial_state(case.batch)
    before = state.weights
    _, first = scan(problem.memory, state, q[:, :, :1], k[:, :, :1], v[:, :, :1], Gates(*(g[:, :, :1] for g in gates)),
                    case.chunk_size)  # fmt: skip
    _, last = scan(problem.memory, state, q, k, v, gates, case.chunk_size)
    steps = sum(eta**t for t in range(case.tokens))
    for layer, weight in enumerate(before):
        step = first.weights[layer] - weight
        assert (step.flatten(2).norm(dim=-1) > 1e-4).all()
        assert_same({"W": last.weights[layer]}, {"W": weight + steps * step})
        assert_same({"S": last.momentum[layer]}, {"S": eta ** (case.tokens - 1) * step})


def repetition_lowers_surprise(scan: Scan) -> None:
    """A passage read again surprises less, each time."""
    case = Case(dim=8, heads=2, depth=2, expansion=4, batch=2, tokens=24, chunk_size=4, fresh=True)
    problem = make(case)
    q, k, v = (problem.inputs[name] for name in ("q", "k", "v"))
    gates, state, surprises = plain_gates((2, 2, 24), 0.02, 0.5, 0.002), problem.state, []
    for _ in range(4):
        total = 0.0
        for t in range(case.tokens):
            at = [w.detach().requires_grad_() for w in state.chunk_weights]
            error = plain_forward(at, k[:, :, t].detach(), case.activation, case.residual) - v[:, :, t].detach()
            gradients = torch.autograd.grad(error.square().sum(), at)
            total += float(sum(u.square().sum() for u in gradients).sqrt())
            one = slice(t, t + 1)
            part = Gates(*(g[:, :, one] for g in gates))
            _, state = scan(problem.memory, state, q[:, :, one], k[:, :, one], v[:, :, one], part, case.chunk_size)
            state = state.detach()
        surprises.append(total)
    assert all(after < 0.95 * before for before, after in pairwise(surprises)), surprises


# ---- The layer -------------------------------------------------------------------------------------------------------


def make_layer(kind: type[NeuralMemory] = NeuralMemory, seed: int = 0, **options) -> NeuralMemory:
    """A small float64 layer as training could leave it: every gate depends on x, no tensor is zero."""
    options = {"dim": 6, "heads": 2, "depth": 2, "chunk_size": 3, "expansion": 2, "residual": False} | options
    layer = kind(**options).double()
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in (*layer.memory.weights, layer.to_gates.weight):
            weight.normal_(0, weight.shape[-1] ** -0.5, generator=random)
        for weight in layer.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=random, dtype=weight.dtype))
    return layer


def random_x(layer: NeuralMemory, batch: int, tokens: int, seed: int = 1) -> Tensor:
    return torch.randn(batch, tokens, layer.dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def layer_results(layer: NeuralMemory, x: Tensor, y: Tensor, state: MemoryState) -> dict[str, Tensor]:
    """All that a layer returns, and the gradient of a random scalar of it for x and every parameter."""
    named = {"y": y} | state.tensors() | {"place": torch.tensor(float(state.place_in_chunk))}
    random = torch.Generator().manual_seed(2)
    scalar = sum((torch.randn(t.shape, generator=random, dtype=t.dtype) * t).sum() for t in named.values())
    leaves = {"x": x} | dict(layer.named_parameters())
    gradients = torch.autograd.grad(scalar, list(leaves.values()))
    return named | {f"gradient of {name}": g for name, g in zip(leaves, gradients, strict=True)}


def layer_by_hand(layer: NeuralMemory, x: Tensor) -> Tensor:
    """Section 4.4 token by token, written out for a layer without residual, from M_0."""
    p = dict(layer.named_parameters())
    heads, width, depth = layer.heads, layer.conv_width, layer.memory.depth
    size = layer.dim // heads
    batch, tokens, _ = x.shape
    projected = [x @ p[f"W_{name}.weight"].T for name in "QKV"]
    kernels = p["conv.weight"][:, 0].split(layer.dim)

    def convolved(t: int, which: int) -> Tensor:
        """Equation 11, the causal convolution and SiLU: [batch, heads, size]."""
        past = range(max(0, t - width + 1), t + 1)
        mixed = sum(projected[which][:, i] * kernels[which][:, width - 1 - t + i] for i in past)
        return (mixed * torch.sigmoid(mixed)).reshape(batch, heads, size)

    weights = [weight.expand(batch, *weight.shape) for weight in layer.memory.weights]
    momentum, start, outputs = [torch.zeros_like(weight) for weight in weights], weights, []
    for t in range(tokens):
        q, k, v = (convolved(t, which) for which in range(3))
        q, k = (u / torch.sqrt((u * u).sum(-1, keepdim=True) + 1e-6) for u in (q, k))
        gates = torch.sigmoid(x[:, t] @ p["to_gates.weight"].T + p["to_gates.bias"])
        theta, eta, alpha = gates.reshape(batch, 3, heads, depth).unbind(1)
        if layer.forget_layers == "last":  # D16
            alpha = torch.cat((0 * alpha[..., :-1], alpha[..., -1:]), dim=-1)
        loss = ((plain_forward(start, k, "gelu", False) - v) ** 2).sum()
        gradients = torch.autograd.grad(loss, start, create_graph=True)
        for layer_nr, u in enumerate(gradients):
            norm = u.norm(dim=(2, 3), keepdim=True)
            u = torch.where(norm > layer.max_surprise, u * layer.max_surprise / norm, u)
            th, e, a = (gate[:, :, layer_nr, None, None] for gate in (layer.max_step * theta, eta, alpha))
            momentum[layer_nr] = e * momentum[layer_nr] - th * u
            weights = [*weights]
            weights[layer_nr] = (1 - a) * weights[layer_nr] + momentum[layer_nr]
        y = plain_forward(weights, q, "gelu", False)
        y = y / torch.sqrt((y * y).mean(-1, keepdim=True) + layer.norm.eps) * p["norm.weight"]
        gate = torch.sigmoid(x[:, t] @ p["W_G.weight"].T)
        outputs.append((y.reshape(batch, layer.dim) * gate) @ p["W_O.weight"].T)
        if (t + 1) % layer.chunk_size == 0:
            start = weights
    return torch.stack(outputs, dim=1)


def layer_is_section_4_4(layer: NeuralMemory) -> None:
    """Outputs and the gradient of every parameter are those of the layer written out here."""
    x = random_x(layer, 2, 8).requires_grad_()
    leaves = {"x": x} | dict(layer.named_parameters())
    found = []
    for y in (layer(x)[0], layer_by_hand(layer, x)):
        gradients = torch.autograd.grad((y * random_x(layer, 2, 8, seed=3)).sum(), list(leaves.values()))
        found.append({"y": y} | dict(zip(leaves, gradients, strict=True)))
    assert_same(*found)


def layer_splitting_changes_nothing(layer: NeuralMemory, tokens: int, cuts: Sequence[int]) -> None:
    """Any partition into calls gives the outputs, the state and the gradients of one call."""
    x = random_x(layer, 2, tokens).requires_grad_()
    whole = layer_results(layer, x, *layer(x))
    state, outputs = None, []
    for begin, end in pairwise([0, *cuts, tokens]):
        y, state = layer(x[:, begin:end], state)
        outputs.append(y)
    assert_same(layer_results(layer, x, torch.cat(outputs, dim=1), state), whole)


def layer_is_causal(layer: NeuralMemory, tokens: int) -> None:
    """No output depends on a later input, and every output on every earlier one, the first included."""
    x = random_x(layer, 1, tokens)
    jacobian = torch.autograd.functional.jacobian(lambda x: layer(x)[0], x)
    influence = jacobian.abs().sum((0, 2, 3, 5))  # [output, input]
    assert (influence.triu(1) == 0).all()
    assert (influence + torch.ones_like(influence).triu(1) > 0).all()


def layer_rows_are_independent(layer: NeuralMemory) -> None:
    """No row of a batch depends on another, and a row alone gives what it gives in a batch."""
    x = random_x(layer, 3, 5)
    jacobian = torch.autograd.functional.jacobian(lambda x: layer(x)[0], x)
    influence = jacobian.abs().sum((1, 2, 4, 5))
    assert (influence[~torch.eye(3, dtype=torch.bool)] == 0).all()
    assert (influence.diagonal() > 0).all()
    y, state = layer(x)
    for row in range(3):
        alone, alone_state = layer(x[row : row + 1])
        want = {name: tensor[row : row + 1] for name, tensor in ({"y": y} | state.tensors()).items()}
        assert_same({"y": alone} | alone_state.tensors(), want, 1e-12)


def layer_repeats_itself(layer: NeuralMemory) -> None:
    """The same call twice, in train and in eval mode, gives the same bits, and no parameter, state or input changes."""
    x = random_x(layer, 2, 8)
    _, state = layer(random_x(layer, 2, 4))
    held = [x, *layer.parameters(), *layer.buffers(), *state.tensors().values()]
    before = [tensor.detach().clone() for tensor in held]
    runs = []
    for training in (True, True, False):
        layer.train(training)
        y, after = layer(x, state)
        runs.append([y, *after.tensors().values()])
    assert all(torch.equal(*pair) for other in runs[1:] for pair in zip(runs[0], other, strict=True))
    assert all(map(torch.equal, held, before)), "a call changed a tensor that it was given"


def every_parameter_learns_through_the_memory(layer: NeuralMemory) -> None:
    """A loss on y alone gives every learned tensor a gradient, equal to the one through the autograd recurrence."""
    x = random_x(layer, 2, 8)
    found = []
    for scan in (None, recurrent_scan):
        with nullcontext() if scan is None else patch.object(sys.modules[type(layer).__module__], "chunked_scan", scan):
            loss = (layer(x)[0] * random_x(layer, 2, 8, seed=3)).sum()
        named = dict(layer.named_parameters())
        gradients = torch.autograd.grad(loss, list(named.values()), allow_unused=True)
        found.append(dict(zip(named, gradients, strict=True)))
    for name, gradient in found[0].items():
        assert gradient is not None, f"no gradient for {name}"
        assert gradient.norm() > 1e-6, f"no gradient for {name}"
    assert_same(*found)


def writes_reach_later_tokens(layer: NeuralMemory) -> None:
    """A later call read by a frozen copy: what made the state gets its gradient through the weights alone."""
    frozen = deepcopy(layer).requires_grad_(False)
    _, state = layer(random_x(layer, 2, 7))
    y, _ = frozen(random_x(layer, 2, 2, seed=5), replace(state, recent=state.recent.detach()))
    named = dict(layer.named_parameters())
    gradients = torch.autograd.grad(y.square().sum(), list(named.values()), allow_unused=True)
    for name, gradient in zip(named, gradients, strict=True):
        if name.split(".")[0] in ("W_Q", "W_G", "W_O", "norm"):
            assert gradient is None or not gradient.any(), f"{name} only reads"
            continue
        assert gradient is not None, f"no gradient for {name}"
        parts = [gradient]
        if name == "conv.weight":
            of_queries, *parts = gradient.split(layer.dim)
            assert not of_queries.any(), "queries only read"
        assert all(part.norm() > 1e-7 for part in parts), f"no gradient for {name}"


def the_state_carries_from_the_first_token_to_the_last(layer: NeuralMemory) -> None:
    """Chunks and convolution widths later the first token still matters; with theta zero it does not, exactly."""
    tokens = 5 * layer.chunk_size + layer.conv_width + 1
    x = random_x(layer, 1, tokens).requires_grad_()

    def influence(layer: NeuralMemory) -> Tensor:
        (gradient,) = torch.autograd.grad(layer(x)[0][:, -1].square().sum(), x)
        return gradient[0].abs().sum(-1)

    assert (influence(layer) > 1e-9).all()
    closed = deepcopy(layer)
    closed.gate_edits.append(no_gates)  # no other way from an early token to a late output
    assert (influence(closed)[: -layer.conv_width] == 0).all()
    assert (influence(closed)[-layer.conv_width :] > 0).all()
