"""Tools that trace or map: torch.compile, torch.export, torch.jit.trace, torch.func, fake tensors, the meta device.

Each must give the numbers of the plain call; no check of numbers is made while they trace, and all are made otherwise.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, stack_module_state, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

from tests.proofs import proofs
from tests.proofs.model_proofs import assert_same_states, make_model, random_tokens, tensors_of
from tests.proofs.proofs import assert_same
from tests.proofs.strategies import Case, make
from titans import DeepMemory, Gates, NeuralMemory, TitansConfig, TitansLM, chunked_scan, recurrent_scan
from titans.checks import is_traced
from titans.config import VARIANTS

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch's own about its tools
each_variant = pytest.mark.parametrize("variant", VARIANTS)


@pytest.fixture(autouse=True)
def nothing_compiled():
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()


def make_layer(seed: int = 0, **options) -> NeuralMemory:
    """A float64 layer as training could leave it."""
    torch.manual_seed(seed)
    layer = NeuralMemory(8, **({"heads": 2, "chunk_size": 3} | options)).double()
    with torch.no_grad():
        for weight in layer.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return layer


def random_input(batch: int, tokens: int, dim: int = 8, seed: int = 1) -> Tensor:
    return torch.randn(batch, tokens, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def trained(module: nn.Module, call: Callable[..., Any], *args) -> dict[str, Tensor]:
    """What a call returns, and the gradients of its inputs and of all parameters, by name."""
    leaves = [arg.clone().requires_grad_() if arg.is_floating_point() else arg for arg in args]
    module.zero_grad()
    y, *_, state = call(*leaves)
    parts = {"y": y} | tensors_of(state)
    sum(part.square().sum() for part in parts.values() if part.requires_grad).backward()
    found = dict(module.named_parameters()) | {f"input {i}": leaf for i, leaf in enumerate(leaves)}
    gradients = {f"gradient of {name}": leaf.grad.clone() for name, leaf in found.items() if leaf.grad is not None}
    return {name: part.detach() for name, part in parts.items()} | gradients


# ---- torch.compile ---------------------------------------------------------------------------------------------------


@each_variant
def test_a_compiled_model_is_the_model(variant):
    """In one graph, forward and backward."""
    model = make_model(variant, layers=1, persistent_tokens=int(variant == "mac"))
    tokens = random_tokens(model, 2, 6)
    want = trained(model, model, tokens)
    got = trained(model, torch.compile(model, fullgraph=True, backend="aot_eager"), tokens)
    assert got.keys() == want.keys()
    assert_same(got, want)


@each_variant
def test_a_compiled_model_streams(variant):
    """In pieces, the last of them single tokens, under no_grad; and goes on from a state of the plain model."""
    model = make_model(variant, layers=1)
    tokens = random_tokens(model, 2, 7)
    compiled = torch.compile(model, fullgraph=True, backend="eager", dynamic=False)
    with torch.no_grad():
        want, first = model(tokens), model(tokens[:, :5])
        logits = [first.logits]
        for t in (5, 6):
            output = compiled(tokens[:, t : t + 1], first.state)
            first = output
            logits.append(output.logits)
    assert_same({"logits": torch.cat(logits, dim=1)}, {"logits": want.logits})
    assert_same_states(output.state, want.state)


LAYERS = {
    "as it comes": {},
    "a matrix": {"depth": 1, "conv_width": 1},
    "three layers, bounded": {"depth": 3, "max_surprise": 0.5, "forget_layers": "all"},
    "residual, chunks of 1": {"residual": True, "chunk_size": 1, "momentum": False},
}


@pytest.mark.parametrize("kind", ["three layers, bounded", "residual, chunks of 1"])
def test_a_compiled_layer_is_the_layer(kind):
    """Forward and backward, also for numbers so large that what is small in the first call is bounded."""
    layer = make_layer(**LAYERS[kind])
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for scale in (1, 1000):
        x = scale * random_input(2, 7)
        assert_same(trained(layer, compiled, x), trained(layer, layer, x))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1


def test_a_compiled_layer_in_float32_is_the_layer():
    layer = make_layer().float()
    x = random_input(2, 8).float()
    got = trained(layer, torch.compile(layer, fullgraph=True, backend="aot_eager"), x)
    assert_same(got, trained(layer, layer, x), 1e-5)


def test_a_compiled_scan_is_the_scan():
    """From a state in mid-chunk, with gates of exactly 0 and 1."""
    problem, found = make(Case(tokens=8, exact=0.25)), []
    for scan in (chunked_scan, torch.compile(chunked_scan, fullgraph=True, backend="aot_eager")):
        y, state = proofs.run(scan, problem)
        found.append(proofs.results(problem, y, state))
    assert_same(*found)


def graph_size(tokens: int) -> int:
    """Operations in the graphs of a layer's call of so many tokens, those of inner graphs too."""
    sizes = []

    def count(graph: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
        sizes.append(sum(len(m.graph.nodes) for m in graph.modules() if isinstance(m, torch.fx.GraphModule)))
        return graph.forward

    torch.compiler.reset()
    torch.compile(NeuralMemory(8), fullgraph=True, backend=count)(torch.randn(1, tokens, 8))
    return sum(sizes)


def test_what_is_compiled_does_not_grow_with_the_number_of_tokens():
    assert graph_size(4096) == graph_size(64) < 3 * graph_size(16)


@pytest.mark.skipif(not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler here")
def test_inductor_compiles_a_layer():
    layer, x = make_layer(heads=1, depth=1, conv_width=1), random_input(1, 7)
    with torch.no_grad():
        (want, after), (got, got_after) = layer(x), torch.compile(layer, fullgraph=True)(x)
    assert_same({"y": got}, {"y": want})
    assert_same_states(got_after, after)


# ---- torch.func ------------------------------------------------------------------------------------------------------


def loss_of(layer: nn.Module) -> Callable[[dict[str, Tensor], Tensor], Tensor]:
    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        y, state = functional_call(layer, parameters, (x[None],))
        return y.square().sum() + sum(part.square().sum() for part in tensors_of(state).values())

    return loss


@pytest.mark.parametrize("options", LAYERS.values(), ids=LAYERS)
def test_gradients_of_each_sample_are_those_of_single_calls(options):
    layer, x = make_layer(**options), torch.cat((random_input(2, 7), 1000 * random_input(1, 7, seed=2)))
    parameters = {name: weight.detach() for name, weight in layer.named_parameters()}
    got = vmap(grad(loss_of(layer)), (None, 0))(parameters, x)
    for sample in range(3):
        layer.zero_grad()
        loss_of(layer)(dict(layer.named_parameters()), x[sample]).backward()
        want = {name: weight.grad for name, weight in layer.named_parameters() if weight.grad is not None}
        assert_same({name: got[name][sample] for name in want}, want)


@each_variant
def test_gradients_of_each_sample_of_a_model_are_those_of_single_calls(variant):
    model = make_model(variant)
    tokens = random_tokens(model, 2, 9)
    parameters = {name: weight.detach() for name, weight in model.named_parameters()}

    def loss(parameters: dict[str, Tensor], tokens: Tensor) -> Tensor:
        return functional_call(model, parameters, (tokens[None],), {"labels": tokens[None]}).loss

    got = vmap(grad(loss), (None, 0))(parameters, tokens)
    for sample in range(2):
        model.zero_grad()
        model(tokens[sample : sample + 1], labels=tokens[sample : sample + 1]).loss.backward()
        want = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
        assert_same({name: got[name][sample] for name in want}, want)


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("tokens", [1, 7])
def test_mapped_rows_are_the_rows(gradients, tokens):
    """Over one axis and over two; states that come out go in again."""
    layer, x = make_layer(), random_input(4, 2 * tokens)
    with torch.set_grad_enabled(gradients):
        want, after = layer(x)
        first, state = vmap(lambda x: layer(x[None]))(x[:, :tokens])
        rest, state = vmap(lambda x, state: layer(x[None], state))(x[:, tokens:], state)
        nested = vmap(vmap(lambda x: layer(x[None])[0][0]))(x.unflatten(0, (2, 2)))
    assert_same({"y": torch.cat((first, rest), dim=2)[:, 0]}, {"y": want})
    assert_same({n: t[:, 0] for n, t in tensors_of(state).items()}, tensors_of(after))
    assert_same({"y": nested.flatten(0, 1)}, {"y": want})


def test_an_ensemble_of_layers_is_mapped():
    layers, x = [make_layer(seed) for seed in range(3)], random_input(2, 7)
    parameters, _ = stack_module_state(layers)
    got = vmap(lambda parameters: functional_call(layers[0], parameters, (x,))[0])(parameters)
    for one, layer in zip(got, layers, strict=True):
        assert_same({"y": one}, {"y": layer(x)[0]})


@each_variant
def test_an_ensemble_of_models_streams(variant):
    """Token by token, where a model may carry what it has made of its parameters."""
    models = [make_model(variant, seed=seed, memory_tokens=0) for seed in range(2)]
    tokens = random_tokens(models[0], 1, 6)
    parameters, _ = stack_module_state(models)

    def read(parameters: dict[str, Tensor]) -> Tensor:
        state, logits = None, []
        for t in range(6):
            output = functional_call(models[0], parameters, (tokens[:, t : t + 1], state))
            state = output.state
            logits.append(output.logits)
        return torch.cat(logits, dim=1)

    with torch.no_grad():
        for one, model in zip(vmap(read)(parameters), models, strict=True):
            assert_same({"logits": one}, {"logits": model(tokens).logits})


@pytest.mark.parametrize("scan", [chunked_scan, recurrent_scan])
def test_a_scan_is_mapped(scan):
    problem = make(Case(batch=3, fresh=True))
    memory, (q, k, v, *gates) = problem.memory, problem.inputs.values()

    def read(q: Tensor, k: Tensor, v: Tensor, *gates: Tensor) -> Tensor:
        one = [x[None] for x in (q, k, v)]
        return scan(memory, memory.initial_state(1), *one, Gates(*(g[None] for g in gates)), 3, 0.5)[0][0]

    want, _ = scan(memory, memory.initial_state(3), q, k, v, Gates(*gates), 3, 0.5)
    assert_same({"y": vmap(read)(q, k, v, *gates)}, {"y": want})


def test_a_memory_is_mapped():
    memory, x = DeepMemory(4, heads=2).double(), random_input(6, 5, 4).unflatten(0, (3, 2))
    weights = memory.initial_state(3).weights
    got = vmap(lambda x, *weights: memory.read([w[None] for w in weights], x[None])[0])(x, *weights)
    assert_same({"y": got}, {"y": memory.read(weights, x)})


def test_derivatives_of_every_mode_and_order_agree():
    layer, x = make_layer(), random_input(1, 5)
    direction = random_input(1, 5, seed=2)

    def loss(x: Tensor) -> Tensor:
        return layer(x)[0].square().sum()

    want = torch.autograd.functional.hessian(loss, x)
    ways = {"hessian": hessian, "reverse": lambda f: jacrev(grad(f)), "forward": lambda f: jacfwd(jacfwd(f))}
    for name, get in ways.items():
        assert_same({name: get(loss)(x)}, {name: want}, 1e-9)
    leaf = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(loss(leaf), leaf)
    assert_same({"along": jvp(loss, (x,), (direction,))[1]}, {"along": (g * direction).sum()})


@pytest.mark.parametrize("what", ["y", "weights", "momentum"])
def test_gradients_asked_for_in_batches_are_those_asked_for_one_by_one(what):
    layer, x = make_layer(), random_input(1, 7).requires_grad_()
    y, state = layer(x)
    output = {"y": y, "weights": state.weights[0], "momentum": state.momentum[1]}[what]
    some = torch.randn(3, *output.shape, dtype=y.dtype)
    (got,) = torch.autograd.grad(output, x, some, is_grads_batched=True, retain_graph=True)
    want = torch.stack([torch.autograd.grad(output, x, one, retain_graph=True)[0] for one in some])
    assert_same({"g": got}, {"g": want})


# ---- Without numbers -------------------------------------------------------------------------------------------------


@each_variant
@pytest.mark.parametrize("where", ["fake", "meta"])
def test_without_numbers_a_model_says_what_shapes_it_would_give(variant, where):
    """Training, a single token from its state, and generation."""
    with FakeTensorMode() if where == "fake" else torch.device("meta"):
        model = TitansLM(TitansConfig(variant, vocab_size=7, dim=8, layers=2))
        tokens = torch.zeros(2, 70, dtype=torch.long)
        logits, loss, state = model(tokens, labels=tokens)
        loss.backward()
        with torch.no_grad():
            more = model(tokens[:, :1], state)
        made, _ = model.generate(tokens, 3)
    assert isinstance(logits, FakeTensor) if where == "fake" else logits.is_meta
    assert [*map(list, (logits.shape, loss.shape, more.logits.shape, made.shape))] == [
        [2, 70, 7],
        [],
        [2, 1, 7],
        [2, 73],
    ]
    assert all(weight.grad.shape == weight.shape for weight in model.blocks[0].mixer.parameters() if weight.numel())


def test_without_numbers_a_scan_says_what_shapes_it_would_give():
    with FakeTensorMode():
        memory = DeepMemory(4)
        x, gate = torch.zeros(2, 1, 40, 4), torch.zeros(2, 1, 40)
        y, state = chunked_scan(memory, memory.initial_state(2), x, x, x, Gates(gate, gate, gate), 16, 1.0)
    assert isinstance(y, FakeTensor)
    assert (y.shape, state.weights[0].shape, state.place_in_chunk) == ((2, 1, 40, 4), (2, 1, 16, 4), 8)


# ---- torch.export, torch.jit -----------------------------------------------------------------------------------------


class Answers(nn.Module):
    """A module without the state that it returns."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return self.module(x)[0]


@pytest.mark.parametrize("strict", [True, False])
def test_an_exported_layer_is_the_layer_and_takes_its_state(strict):
    layer, x = make_layer(), random_input(2, 8)
    _, state = layer(x[:, :2])
    state = state.detach()
    exported = torch.export.export(layer, (x, state), strict=strict).module()
    for scale in (1, 1000):
        (y, after), (got, got_after) = layer(scale * x, state), exported(scale * x, state)
        assert_same({"y": got}, {"y": y})
        assert_same_states(got_after, after)


@each_variant
def test_an_exported_model_is_the_model(variant):
    model = make_model(variant, layers=1)
    tokens, others = random_tokens(model, 2, 9), random_tokens(model, 2, 9, seed=2)
    exported = torch.export.export(model, (tokens,)).module()
    want, got = model(others), exported(others)
    assert_same({"logits": got[0]} | tensors_of(got[2]), {"logits": want.logits} | tensors_of(want.state))


def test_a_traced_layer_is_the_layer_without_its_state():
    """Of one shape; numbers are not looked at, so that what is bounded in the trace does not depend on its example."""
    layer, x = make_layer(max_surprise=3.0), random_input(2, 7)
    traced = torch.jit.trace(Answers(layer), (0.01 * x,), check_trace=False)
    for scale in (0.01, 1, 1000):
        assert_same({"y": traced(scale * x)}, {"y": layer(scale * x)[0]})
    with pytest.raises(RuntimeError, match=r"(?s)Only tensors and .*LayerState"):
        torch.jit.trace(layer, (x,), check_trace=False)


def test_make_fx_writes_down_what_a_layer_does():
    layer, x = make_layer(max_surprise=3.0), random_input(2, 7)
    traced = make_fx(lambda x: layer(x)[0])(0.01 * x)
    assert_same({"y": traced(1000 * x)}, {"y": layer(1000 * x)[0]})


# ---- Checks are made in every plain call -----------------------------------------------------------------------------


def test_checks_of_numbers_are_left_out_while_tracing_alone():
    layer, bad = NeuralMemory(8), torch.full((1, 3, 8), torch.nan)
    model, foreign = make_model("lmm"), torch.full((1, 3), 99)
    with FlopCounterMode(display=False), torch.device("cpu"):  # modes that trace nothing
        assert not is_traced()
        with pytest.raises(ValueError, match="x must hold numbers, row 0 holds NaN"):
            layer(bad)
        with pytest.raises(ValueError, match=r"tokens must be in \[0, 6\], got values from 99 to 99"):
            model(foreign)
    assert torch.compile(layer, fullgraph=True, backend="eager")(bad)[0].isnan().all()
    seen = []
    vmap(lambda x: (seen.append(is_traced()), x)[1])(torch.ones(2))
    grad(lambda x: (seen.append(is_traced()), x.sum())[1])(torch.ones(2))
    make_fx(lambda x: (seen.append(is_traced()), x)[1])(torch.ones(2))
    torch.jit.trace(lambda x: (seen.append(is_traced()), 2 * x)[1], torch.ones(2), check_trace=False)
    assert seen == [True] * 4
    assert not is_traced()
