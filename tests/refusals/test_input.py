"""What every public entry refuses: the type of the error, and a message with argument, what came, what is wanted."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from tests.refusals.refused import INF, NAN, WRONG_NUMBERS, WRONG_SIZES, refused
from titans import DeepMemory, Gates, MemoryState, NeuralMemory, chunked_scan, recurrent_scan
from titans.state import FILE_FORMAT

BATCH, HEADS, TOKENS, DIM, DEPTH = 2, 3, 5, 4, 2

# ---- Sizes, numbers, flags and choices of the two modules ------------------------------------------------------------


@pytest.mark.parametrize(("value", "kind", "message"), WRONG_SIZES)
@pytest.mark.parametrize("name", ["dim", "heads", "depth", "expansion"])
def test_memory_refuses_a_wrong_size(name, value, kind, message):
    refused(kind, lambda: DeepMemory(**({"dim": 4} | {name: value})), f"{name} must be {message}")


@pytest.mark.parametrize(("value", "kind", "message"), WRONG_SIZES)
@pytest.mark.parametrize("name", ["dim", "heads", "depth", "chunk_size", "expansion", "conv_width"])
def test_layer_refuses_a_wrong_size(name, value, kind, message):
    refused(kind, lambda: NeuralMemory(**({"dim": 4} | {name: value})), f"{name} must be {message}")


@pytest.mark.parametrize(("value", "kind", "message"), WRONG_NUMBERS)
@pytest.mark.parametrize("name", ["max_step", "max_surprise"])
def test_layer_refuses_a_wrong_number(name, value, kind, message):
    refused(kind, lambda: NeuralMemory(4, **{name: value}), f"{name} must be {message}")


@pytest.mark.parametrize("module", [DeepMemory, NeuralMemory])
@pytest.mark.parametrize("value", ["sigmoid", "GELU", None, torch.relu])
def test_an_unknown_activation_is_refused(module, value):
    refused(ValueError, lambda: module(4, activation=value), "activation must be one of 'gelu', ", f"got {value!r}")


@pytest.mark.parametrize(
    ("module", "name"),
    [(DeepMemory, "residual"), (NeuralMemory, "residual"), (NeuralMemory, "momentum"), (NeuralMemory, "forgetting")],
)
@pytest.mark.parametrize("value", [1, None, "yes"])
def test_a_flag_that_is_none_is_refused(module, name, value):
    refused(TypeError, lambda: module(4, **{name: value}), f"{name} must be True or False, got {value!r}")


def test_layer_refuses_heads_that_do_not_divide_dim():
    refused(ValueError, lambda: NeuralMemory(6, heads=4), "dim must be a multiple of heads", "dim=6", "heads=4")


@pytest.mark.parametrize(("value", "kind", "message"), WRONG_SIZES)
@pytest.mark.parametrize("module", [DeepMemory, NeuralMemory])
def test_initial_state_refuses_a_wrong_batch(module, value, kind, message):
    refused(kind, lambda: module(4).initial_state(value), f"batch must be {message}")


# ---- Tensors ---------------------------------------------------------------------------------------------------------


def wrong_tensors(good: torch.Tensor, shape: str):
    """Everything that a tensor of this shape, dtype and device must not be, with the error and its words."""
    empty = good[:, :, :0] if good.ndim > 3 else good[:, :0]
    return [
        (good[0], ValueError, shape, f"got {list(good[0].shape)}"),
        (good[..., :-1], ValueError, shape, f"got {list(good[..., :-1].shape)}"),
        (empty, ValueError, shape, f"got {list(empty.shape)} (empty)"),
        (good[:0], ValueError, shape, "(empty)"),
        (good.long(), TypeError, "floating-point", "got torch.int64"),
        (good.to(torch.complex64), TypeError, "floating-point", "got torch.complex64"),
        (good.tolist(), TypeError, "must be a tensor", "got list"),
        (None, TypeError, "must be a tensor", "got NoneType"),
    ]


def test_read_refuses_a_wrong_input_and_a_wrong_number_of_weights():
    memory = DeepMemory(DIM, HEADS)
    weights = memory.initial_state(BATCH).weights
    x = torch.randn(BATCH, HEADS, TOKENS, DIM)
    for wrong, kind, *parts in wrong_tensors(x, f"[batch, heads={HEADS}, tokens, dim={DIM}]"):
        refused(kind, lambda wrong=wrong: memory.read(weights, wrong), "x must", *parts)
    refused(ValueError, lambda: memory.read(weights[:1], x), "weights must hold 2 tensors", "got 1")


def test_layer_refuses_a_wrong_input():
    layer = NeuralMemory(DIM)
    x = torch.randn(BATCH, TOKENS, DIM)
    for wrong, kind, *parts in wrong_tensors(x, f"[batch, tokens, dim={DIM}]"):
        refused(kind, lambda wrong=wrong: layer(wrong), "x must", *parts)
    refused(TypeError, lambda: layer(x.double()), "x must have dtype torch.float32, got torch.float64")
    refused(ValueError, lambda: layer(x.to("meta")), "x must be on device cpu, got meta")


# ---- The scans -------------------------------------------------------------------------------------------------------


@pytest.fixture(params=[recurrent_scan, chunked_scan], ids=["recurrent", "chunked"])
def call(request):
    """A scan with good arguments, of which a test replaces some."""
    memory = DeepMemory(DIM, HEADS, DEPTH, residual=False)
    q, k, v = torch.randn(3, BATCH, HEADS, TOKENS, DIM)
    gates = Gates(*torch.rand(3, BATCH, HEADS, TOKENS, DEPTH))
    good = {"memory": memory, "state": memory.initial_state(BATCH), "q": q, "k": k, "v": v, "gates": gates}
    good["chunk_size"] = 3

    def scan(**changed):
        return request.param(**(good | changed))

    scan.good = good
    return scan


def test_scan_refuses_another_memory(call):
    for wrong, name in ((torch.nn.Linear(4, 4), "Linear"), (None, "NoneType"), (DeepMemory, "type")):
        refused(TypeError, lambda wrong=wrong: call(memory=wrong), "memory must be a", "Memory", f"got {name}")


@pytest.mark.parametrize(("value", "kind", "message"), WRONG_SIZES)
def test_scan_refuses_a_wrong_chunk_size(call, value, kind, message):
    refused(kind, lambda: call(chunk_size=value), f"chunk_size must be {message}")


@pytest.mark.parametrize(("value", "kind", "message"), WRONG_NUMBERS)
def test_scan_refuses_a_wrong_max_surprise(call, value, kind, message):
    refused(kind, lambda: call(max_surprise=value), f"max_surprise must be {message}")


@pytest.mark.parametrize("name", ["q", "k", "v"])
def test_scan_refuses_wrong_queries_keys_and_values(call, name):
    good = call.good[name]
    sizes = "[batch, heads=3, tokens, dim=4]" if name == "k" else "[batch=2, heads=3, tokens=5, dim=4]"
    for wrong, kind, *parts in wrong_tensors(good, sizes):
        refused(kind, lambda wrong=wrong: call(**{name: wrong}), f"{name} must", *parts)


@pytest.mark.parametrize("name", ["q", "v"])
def test_scan_refuses_queries_and_values_that_do_not_go_with_the_keys(call, name):
    good = call.good[name]
    sizes = f"{name} must have shape [batch=2, heads=3, tokens=5, dim=4]"
    refused(ValueError, lambda: call(**{name: good[:1]}), sizes, "got [1, 3, 5, 4]")
    refused(ValueError, lambda: call(**{name: good[:, :, :4]}), sizes, "got [2, 3, 4, 4]")
    refused(TypeError, lambda: call(**{name: good.double()}), f"{name} must have dtype torch.float32", "torch.float64")
    refused(ValueError, lambda: call(**{name: good.to("meta")}), f"{name} must be on device cpu, got meta")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_scan_refuses_half_precision_and_says_why(call, dtype):
    changed = {name: call.good[name].to(dtype) for name in ("q", "k", "v")}
    refused(TypeError, lambda: call(**changed), "k must be float32 or float64", "loses small writes", f"got {dtype}")


@pytest.mark.parametrize("name", Gates._fields)
def test_scan_refuses_wrong_gates(call, name):
    gates = call.good["gates"]
    good = getattr(gates, name)

    def with_gate(wrong):
        return lambda: call(gates=gates._replace(**{name: wrong}))

    full = f"gates.{name} must have shape [batch=2, heads=3, tokens=5, depth=2]"
    for wrong, came in (
        (good[..., :1], "got [2, 3, 5, 1]"),
        (good[:, :, :0], "got [2, 3, 0, 2] (empty)"),
        (good[:1], "got [1, 3, 5, 2]"),
    ):
        refused(ValueError, with_gate(wrong), full, came)
    shared = f"gates.{name} must have shape [batch=2, heads=3, tokens=5]"
    refused(ValueError, with_gate(good[:, 0]), shared, "got [2, 5, 2]")
    refused(ValueError, with_gate(good[0, 0, 0, 0]), shared, "got []")
    refused(TypeError, with_gate(0.5), f"gates.{name} must be a tensor, got float")
    refused(TypeError, with_gate(good.double()), f"gates.{name} must have dtype torch.float32, got torch.float64")
    refused(TypeError, with_gate(good.round().long()), f"gates.{name} must hold floating-point", "got torch.int64")
    refused(ValueError, with_gate(good.to("meta")), f"gates.{name} must be on device cpu, got meta")


@pytest.mark.parametrize("name", Gates._fields)
@pytest.mark.parametrize("value", [-0.25, 1.5, NAN, INF, -INF])
def test_scan_refuses_gates_out_of_range(call, name, value):
    gates = call.good["gates"]
    wrong = getattr(gates, name).clone()
    wrong[1, 2, 3, 1] = value
    changed = gates._replace(**{name: wrong})
    if name == "theta" and value == 1.5:
        call(gates=changed)  # a step may be larger than 1
        return
    wanted = "finite and at least 0" if name == "theta" else "in [0, 1]"
    refused(ValueError, lambda: call(gates=changed), f"gates.{name} must be {wanted}, got values", f"{value:g}")


def test_scan_refuses_gates_of_another_type(call):
    theta, eta, alpha = call.good["gates"]
    refused(TypeError, lambda: call(gates=(theta, eta, alpha)), "gates must be a Gates, got tuple")
    refused(TypeError, lambda: call(gates=None), "gates must be a Gates, got NoneType")


# ---- States of another configuration ---------------------------------------------------------------------------------

OTHER_MEMORIES = {
    "dim": {"dim": DIM + 1},
    "heads": {"heads": HEADS - 1},
    "depth": {"depth": DEPTH + 1},
    "expansion": {"expansion": 3},
    "activation": {"activation": "silu"},
    "residual": {"residual": True},
}


@pytest.mark.parametrize("name", OTHER_MEMORIES)
def test_scan_refuses_the_state_of_another_memory(call, name):
    other = {"dim": DIM, "heads": HEADS, "depth": DEPTH, "residual": False} | OTHER_MEMORIES[name]
    state = DeepMemory(**other).initial_state(BATCH)
    refused(
        ValueError,
        lambda: call(state=state),
        "state belongs to another memory",
        f"it has {state.signature}",
        f"needed is {call.good['memory'].signature}",
    )


def test_scan_refuses_the_state_of_another_batch_dtype_device_and_chunk_size(call):
    state, needed = call.good["state"], "state belongs to another"
    _, used = call()
    for wrong, *parts in (
        (call.good["memory"].initial_state(BATCH + 1), "batch size", "it has 3", "needed is 2"),
        (state.to(torch.float64), "dtype", "it has torch.float64", "needed is torch.float32"),
        (state.to("meta"), "device", "it has meta", "needed is cpu"),
        (replace(used, chunk_size=4), "chunk_size", "it has 4", "needed is 3"),
    ):
        refused(ValueError, lambda wrong=wrong: call(state=wrong), needed, *parts)


def test_scan_refuses_a_state_whose_parts_do_not_fit_one_another(call):
    state = call.good["state"]
    short = tuple(tensor[..., :-1] for tensor in state.momentum)
    for part, wrong in (("weights", state.weights[:1]), ("rule_state", short), ("chunk_weights", ())):
        refused(
            ValueError,
            lambda bad={part: wrong}: call(state=replace(state, **bad)),
            f"state.{part} must have the shapes",
        )
    refused(ValueError, lambda: call(state=replace(state, weights=())), "state must hold the weights of every layer")
    for place in (-1, 16):
        wrong = replace(state, place_in_chunk=place, chunk_size=16)
        refused(
            ValueError,
            lambda wrong=wrong: call(state=wrong, chunk_size=16),
            "state.place_in_chunk must be in [0, 15]",
            str(place),
        )


def test_scan_refuses_what_is_no_state(call):
    for wrong, name in ((None, "NoneType"), (call.good["state"].weights, "tuple"), ({}, "dict")):
        refused(TypeError, lambda wrong=wrong: call(state=wrong), "state must be a MemoryState", f"got {name}")


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"dim": 12}, ("another memory", "dim=6", "needed is dim=4")),
        ({"heads": 1}, ("another memory", "heads=1", "heads=2")),
        ({"depth": 3}, ("another memory", "depth=3", "depth=2")),
        ({"expansion": 2}, ("another memory", "expansion=2", "expansion=4")),
        ({"activation": "relu"}, ("another memory", "activation='relu'", "activation='gelu'")),
        ({"residual": True}, ("another memory", "residual=True", "residual=False")),
        ({"chunk_size": 8}, ("another chunk_size", "it has 8", "needed is 16")),
        ({"conv_width": 3}, ("state.recent must have shape [batch=2, tokens=3, channels=24]", "got [2, 2, 24]")),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_layer_refuses_the_state_of_another_layer(options, parts):
    x = torch.randn(2, 5, 8)
    other = {"dim": 8, "heads": 2, "residual": False} | options
    _, state = NeuralMemory(**other)(torch.randn(2, 5, other["dim"]))
    layer = NeuralMemory(8, heads=2, residual=False)
    refused(ValueError, lambda: layer(x, state), *parts)


def test_layer_refuses_a_state_of_another_batch_dtype_or_device_and_one_without_its_convolutions_past():
    layer, x = NeuralMemory(8, heads=2), torch.randn(2, 5, 8)
    _, state = layer(x)
    refused(ValueError, lambda: layer(x[:1], state), "another batch size", "it has 2", "needed is 1")
    refused(ValueError, lambda: layer(x, state.to(torch.float64)), "another dtype", "torch.float64", "torch.float32")
    refused(ValueError, lambda: layer(x, state.to("meta")), "another device", "meta", "cpu")
    bare = layer.memory.initial_state(2)
    refused(TypeError, lambda: layer(x, bare), "state must be a LayerState, got MemoryState")
    refused(TypeError, lambda: layer(x, (state, None)), "state must be a LayerState, got tuple")


# ---- Files -----------------------------------------------------------------------------------------------------------


def test_load_refuses_a_missing_file(tmp_path):
    path = tmp_path / "missing"
    refused(FileNotFoundError, lambda: MemoryState.load(path), "path must be a file", "MemoryState.save", str(path))
    refused(FileNotFoundError, lambda: MemoryState.load(tmp_path), "path must be a file", str(tmp_path))


def test_load_refuses_a_truncated_file(tmp_path):
    path = tmp_path / "state"
    DeepMemory(4).initial_state(2).save(path)
    whole = path.read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, 8, 3, 0):
        path.write_bytes(whole[:size])
        refused(ValueError, lambda: MemoryState.load(path), "path must be a whole safetensors file", str(path))


def test_load_refuses_garbage(tmp_path):
    path = tmp_path / "state"
    for garbage in (b"not a state at all" * 50, b"\0" * 100, json.dumps({"weights": []}).encode()):
        path.write_bytes(garbage)
        refused(ValueError, lambda: MemoryState.load(path), "path must be a whole safetensors file", str(path))


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"format": "titans-memory-state-0", "facts": "{}"}])
def test_load_refuses_a_foreign_safetensors_file(tmp_path, metadata):
    path = tmp_path / "state"
    save_file({"weights.0": torch.zeros(2)}, path, metadata=metadata)
    refused(ValueError, lambda: MemoryState.load(path), "MemoryState.save", str(path), "holds something else")


@pytest.mark.parametrize(
    "facts", ["", "{", '{"state": "Unheard", "parts": {}}', '{"state": "MemoryState", "parts": {"x": 1}}']
)
def test_state_load_refuses_a_file_that_was_tampered_with(tmp_path, facts):
    path = tmp_path / "state"
    save_file({"x": torch.ones(1)}, path, metadata={"format": FILE_FORMAT, "facts": facts})
    refused(ValueError, lambda: MemoryState.load(path), "path must be a file that MemoryState.save wrote", str(path))
