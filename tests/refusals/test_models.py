"""What configurations, models, their states and generation refuse, and with which words."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch
from safetensors.torch import save_file

from tests.proofs.model_proofs import VARIANTS, make_model, random_tokens
from tests.refusals.refused import INF, NAN, WRONG_NUMBERS, WRONG_SIZES, refused
from titans import MemoryState, ModelState, NeuralMemory, TitansConfig, TitansLM
from titans.blocks import ContextState
from titans.model import sampler
from titans.state import FILE_FORMAT

# ---- The configuration, field by field -------------------------------------------------------------------------------

SIZES = (
    "vocab_size",
    "dim",
    "layers",
    "heads",
    "segment_len",
    "window",
    "chunk_size",
    "memory_heads",
    "memory_depth",
    "memory_expansion",
    "conv_width",
)
COUNTS = ("persistent_tokens", "memory_tokens", "dim_head")  # may be 0
NUMBERS = ("ffn_expansion", "max_step")
FLAGS = ("sliding", "memory_residual", "memory_gate", "momentum", "forgetting")
OTHERS = ("variant", "memory_layers", "forget_layers", "dropout")


def test_every_field_is_tried():
    assert sorted(SIZES + COUNTS + NUMBERS + FLAGS + OTHERS) == sorted(field.name for field in fields(TitansConfig))


@pytest.mark.parametrize(("value", "kind", "message"), WRONG_SIZES)
@pytest.mark.parametrize("name", SIZES)
def test_a_wrong_size_is_refused(name, value, kind, message):
    refused(kind, lambda: TitansConfig(**{name: value}), f"{name} must be {message}")


@pytest.mark.parametrize("name", COUNTS)
def test_a_wrong_count_is_refused(name):
    refused(ValueError, lambda: TitansConfig(**{name: -1}), f"{name} must be at least 0, got -1")
    for value in (1.0, "1", False, None):
        refused(
            TypeError, lambda value=value: TitansConfig(**{name: value}), f"{name} must be an integer, got {value!r}"
        )


@pytest.mark.parametrize(("value", "kind", "message"), WRONG_NUMBERS)
@pytest.mark.parametrize("name", NUMBERS)
def test_a_wrong_number_is_refused(name, value, kind, message):
    refused(kind, lambda: TitansConfig(**{name: value}), f"{name} must be {message}")


@pytest.mark.parametrize("value", [1, 0, None, "yes"])
@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_that_is_none_is_refused(name, value):
    refused(TypeError, lambda: TitansConfig(**{name: value}), f"{name} must be True or False, got {value!r}")


@pytest.mark.parametrize("value", ["MAC", "transformer", "", None, 3, ["mac"]])
def test_an_unknown_variant_is_refused(value):
    wanted = "variant must be one of 'mac', 'mag', 'mal', 'lmm', 'attention'"
    refused(ValueError, lambda: TitansConfig(value), wanted, f"got {value!r}")


@pytest.mark.parametrize("value", [-0.1, 1.1, NAN, INF])
def test_a_dropout_out_of_range_is_refused(value):
    refused(ValueError, lambda: TitansConfig(dropout=value), "dropout must be in [0, 1]", f"got {value}")
    refused(TypeError, lambda: TitansConfig(dropout="0.1"), "dropout must be a number, got '0.1'")


def test_heads_that_do_not_divide_dim_are_refused():
    refused(ValueError, lambda: TitansConfig(dim=64, heads=3), "dim must be a multiple of heads", "dim=64", "heads=3")
    refused(ValueError, lambda: TitansConfig(dim=64, memory_heads=5), "multiple of memory_heads", "memory_heads=5")
    refused(ValueError, lambda: TitansConfig(dim=64, memory_heads=5, dim_head=8), "multiple of memory_heads")


@pytest.mark.parametrize("sizes", [{"dim": 6, "heads": 2}, {"dim_head": 5}, {"dim": 1, "heads": 1}])
def test_heads_of_odd_size_are_refused(sizes):
    size = sizes.get("dim_head") or sizes["dim"] // sizes["heads"]
    refused(ValueError, lambda: TitansConfig(**sizes), "dim_head must be even", f"got {size}")


@pytest.mark.parametrize("variant", VARIANTS[1:])
def test_what_only_mac_has_is_refused_elsewhere(variant):
    refused(ValueError, lambda: TitansConfig(variant, memory_tokens=1), "memory_tokens must be 0", "'mac'", "got 1")
    refused(
        ValueError, lambda: TitansConfig(variant, memory_gate=False), "memory_gate must be True", f"got {variant!r}"
    )
    refused(ValueError, lambda: TitansConfig(variant, memory_layers=(1,)), "memory_layers must be None", f"{variant!r}")
    if variant != "attention":
        refused(ValueError, lambda: TitansConfig(variant, sliding=True), "sliding must be False", f"got {variant!r}")


def test_wrong_memory_layers_are_refused():
    for layer in (0, 3, -1):
        wanted = f"memory_layers must be in [1, 2], got {layer}"
        refused(ValueError, lambda layer=layer: TitansConfig(layers=2, memory_layers=(layer,)), wanted)
    refused(TypeError, lambda: TitansConfig(memory_layers=(1.0,)), "memory_layers must be an integer, got 1.0")
    refused(TypeError, lambda: TitansConfig(memory_layers=2), "memory_layers must be None or a tuple", "got 2")


@pytest.mark.parametrize("config", [None, "mac", {"variant": "mac"}, TitansConfig])
def test_a_model_refuses_what_is_no_configuration(config):
    refused(TypeError, lambda: TitansLM(config), "config must be a TitansConfig", f"got {type(config).__name__}")


# ---- Tokens and labels -----------------------------------------------------------------------------------------------

GOOD = torch.tensor([[1, 2, 3], [4, 5, 6]])
WRONG_TOKENS = [
    ([[1, 2, 3]], TypeError, "must be a tensor, got list"),
    (None, TypeError, "must be a tensor, got NoneType"),
    (GOOD.float(), TypeError, "must be int64 or int32, got torch.float32"),
    (GOOD.bool(), TypeError, "must be int64 or int32, got torch.bool"),
    (GOOD.to(torch.uint8), TypeError, "must be int64 or int32, got torch.uint8"),
    (GOOD[0], ValueError, "must have shape [batch, tokens], both at least 1, got [3]"),
    (GOOD[None], ValueError, "must have shape [batch, tokens], both at least 1, got [1, 2, 3]"),
    (GOOD[0, 0], ValueError, "must have shape [batch, tokens], both at least 1, got []"),
    (GOOD[:, :0], ValueError, "must have shape [batch, tokens], both at least 1, got [2, 0]"),
    (GOOD[:0], ValueError, "must have shape [batch, tokens], both at least 1, got [0, 3]"),
    (GOOD - 2, ValueError, "must be in [0, 6], got values from -1 to 4"),
    (GOOD + 1, ValueError, "must be in [0, 6], got values from 2 to 7"),
    (GOOD.to("meta"), ValueError, "must be on the model's device cpu, got meta"),
]
each_wrong_tokens = pytest.mark.parametrize(("tokens", "kind", "message"), WRONG_TOKENS)


@pytest.fixture(scope="module")
def model():
    return make_model("mac")


@each_wrong_tokens
def test_a_model_refuses_wrong_tokens(model, tokens, kind, message):
    refused(kind, lambda: model(tokens), f"tokens {message}")


@each_wrong_tokens
def test_generation_refuses_wrong_tokens(model, tokens, kind, message):
    for options in ({}, {"temperature": 1.0, "seed": 3}):
        refused(kind, lambda options=options: model.generate(tokens, 2, **options), f"tokens {message}")


def test_a_model_refuses_wrong_labels(model):
    for labels, kind, message in (
        (GOOD.tolist(), TypeError, "labels must be a tensor, got list"),
        (GOOD[:, :2], ValueError, "labels must have the shape of tokens, [2, 3], got [2, 2]"),
        (GOOD[0], ValueError, "labels must have the shape of tokens, [2, 3], got [3]"),
        (GOOD.float(), TypeError, "labels (but for -100) must be int64 or int32, got torch.float32"),
        (GOOD - 2, ValueError, "labels (but for -100) must be in [0, 6], got values from -1 to 4"),
        (GOOD + 1, ValueError, "labels (but for -100) must be in [0, 6], got values from 2 to 7"),
        (GOOD.to("meta"), ValueError, "labels (but for -100) must be on the model's device cpu, got meta"),
    ):
        refused(kind, lambda labels=labels: model(GOOD, labels=labels), message)


# ---- States ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "kind", "message"), WRONG_SIZES)
def test_a_wrong_batch_is_refused(model, value, kind, message):
    refused(kind, lambda: model.initial_state(value), f"batch must be {message}")


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_state_of_another_configuration_is_refused(variant):
    """Whatever field differs, shapes alike or not."""
    model = make_model(variant)
    state = model(GOOD).state
    changes = {
        "segment_len": 3,
        "window": 4,
        "chunk_size": 4,
        "layers": 1,
        "heads": 1,
        "memory_depth": 1,
        "max_step": 1.0,
    }
    for name, value in changes.items():
        other = make_model(variant, **{name: value})
        have, want = (f"{name}={getattr(config, name)!r}" for config in (model.config, other.config))
        words = ("state belongs to another configuration", f"it has ['{have}'", f"needed is ['{want}'")
        if name != "heads":  # the size of a head differs too
            refused(ValueError, lambda other=other: other(GOOD, state), *words)
        refused(ValueError, lambda other=other: other(GOOD, state), words[0], have, want)
        refused(ValueError, lambda other=other: other.generate(GOOD, 2, state), words[0], have, want)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_state_of_another_variant_is_refused(variant):
    for other in set(VARIANTS) - {variant}:
        state = make_model(other)(GOOD).state
        have, want = f"variant='{other}'", f"variant='{variant}'"
        refused(ValueError, lambda state=state: make_model(variant)(GOOD, state), "another configuration", have, want)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_state_of_another_batch_device_or_dtype_is_refused(variant):
    model = make_model(variant)
    state = model(GOOD).state
    batch = ("state belongs to another batch size", "it has 2, needed is 1")
    refused(ValueError, lambda: model(GOOD[:1], state), *batch)
    refused(ValueError, lambda: model.generate(GOOD[:1], 2, state), *batch)
    device = ("state must be on device cpu, got meta",)
    refused(ValueError, lambda: model(GOOD, state.to("meta")), *device)
    refused(ValueError, lambda: model.generate(GOOD, 2, state.to("meta")), *device)
    for dtype in (torch.float32, torch.bfloat16):
        words = ("state belongs to another dtype", f"it has {dtype}", "needed is torch.float64")
        refused(ValueError, lambda dtype=dtype: model(GOOD, state.to(dtype)), *words)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_bfloat16_model_keeps_its_memory_in_float32_and_refuses_another(variant):
    model = make_model(variant).bfloat16()
    state = model(GOOD).state
    model(GOOD, state)
    for wrong in (torch.float32, torch.bfloat16):
        cast = state.to(wrong)
        if variant == "attention" and wrong == torch.bfloat16:
            model(GOOD, cast)  # it has no memory
        else:
            refused(
                ValueError, lambda cast=cast: model(GOOD, cast), "state belongs to another dtype", f"it has {wrong}"
            )


def test_what_is_no_state_of_a_model_is_refused(model):
    state = model(GOOD).state
    _, memory = NeuralMemory(8)(torch.randn(2, 3, 8))
    for wrong, name in (
        (state.layers, "tuple"),
        (state.layers[0], "ContextState"),
        (memory, "LayerState"),
        ({}, "dict"),
    ):
        words = ("state must be a ModelState", f"got {name}")
        refused(TypeError, lambda wrong=wrong: model(GOOD, wrong), *words)
        refused(TypeError, lambda wrong=wrong: model.generate(GOOD, 2, wrong), *words)


def test_a_state_with_too_few_layers_is_refused(model):
    state = model(GOOD).state
    short = replace(state, layers=state.layers[:1])
    refused(ValueError, lambda: model(GOOD, short), "state must hold a state for each of 2 layers, got 1")


# ---- Files -----------------------------------------------------------------------------------------------------------


def test_a_file_of_another_kind_of_state_is_refused(model, tmp_path):
    _, memory = NeuralMemory(8)(torch.randn(2, 3, 8))
    state = model(GOOD).state
    kinds = {ModelState: state, ContextState: state.layers[0], MemoryState: memory}
    for kind, written in kinds.items():
        written.save(tmp_path / kind.__name__)
    for kind in kinds:
        assert isinstance(kind.load(tmp_path / kind.__name__), kind)
        for other in set(kinds) - {kind}:
            path = tmp_path / other.__name__
            refused(ValueError, lambda kind=kind, path=path: kind.load(path), f"{kind.__name__}.save wrote", str(path))


def test_missing_truncated_and_foreign_files_are_refused(model, tmp_path):
    path = tmp_path / "state"
    refused(
        FileNotFoundError, lambda: ModelState.load(path), "path must be a file that ModelState.save wrote", str(path)
    )
    model(GOOD).state.save(path)
    whole = path.read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, 8, 0):
        path.write_bytes(whole[:size])
        refused(ValueError, lambda: ModelState.load(path), "path must be a whole safetensors file", str(path))
    save_file(model.state_dict(), path)
    refused(ValueError, lambda: ModelState.load(path), "path must be a file that ModelState.save wrote", str(path))


@pytest.mark.parametrize(
    "facts",
    [
        "3",
        "[]",
        '{"state": "ModelState"}',
        '{"state": "ModelState", "parts": 3}',
        '{"state": "ModelState", "parts": {"layers": []}}',
        '{"state": "ModelState", "parts": {"layers": [{"tensor": "y"}], "signature": "", "batch": 1}}',
        '{"state": ["ModelState"], "parts": {}}',
    ],
)
def test_a_file_that_was_tampered_with_is_refused(tmp_path, facts):
    path = tmp_path / "state"
    save_file({"x": torch.ones(1)}, path, metadata={"format": FILE_FORMAT, "facts": facts})
    refused(ValueError, lambda: ModelState.load(path), "path must be a file that ModelState.save wrote", str(path))


# ---- Generation ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("value", "kind", "message"), WRONG_SIZES)
@pytest.mark.parametrize("name", ["max_new_tokens", "top_k"])
def test_generation_refuses_a_wrong_count(model, name, value, kind, message):
    if name == "top_k" and value is None:
        return  # means all
    arguments = {"max_new_tokens": 2, "temperature": 1.0, name: value}
    refused(kind, lambda: model.generate(GOOD, **arguments), f"{name} must be {message}")


@pytest.mark.parametrize("value", [-1, -1e-9, NAN, INF, -INF])
def test_generation_refuses_a_temperature_out_of_range(model, value):
    words = ("temperature must be finite and at least 0", f"got {value}")
    refused(ValueError, lambda: model.generate(GOOD, 2, temperature=value), *words)


@pytest.mark.parametrize("value", ["1", None, False, True, [1.0]])
def test_generation_refuses_a_temperature_that_is_no_number(model, value):
    words = f"temperature must be a number, got {value!r}"
    refused(TypeError, lambda: model.generate(GOOD, 2, temperature=value), words)


@pytest.mark.parametrize("value", [0, -0.1, 1.0001, NAN, INF])
def test_generation_refuses_a_top_p_out_of_range(model, value):
    words = ("top_p must be in (0, 1]", f"got {value}")
    refused(ValueError, lambda: model.generate(GOOD, 2, temperature=1.0, top_p=value), *words)
    refused(TypeError, lambda: model.generate(GOOD, 2, top_p="0.9"), "top_p must be a number, got '0.9'")


@pytest.mark.parametrize("name", ["stop_token", "seed"])
def test_generation_refuses_a_wrong_stop_token_or_seed(model, name):
    largest = {"stop_token": 6, "seed": 2**64 - 1}[name]
    for value in (-1, largest + 1):
        words = f"{name} must be in [0, {largest}], got {value}"
        refused(ValueError, lambda value=value: model.generate(GOOD, 2, **{name: value}), words)
    for value in (1.0, "1", True, torch.tensor(1)):
        words = f"{name} must be an integer, got {value!r}"
        refused(TypeError, lambda value=value: model.generate(GOOD, 2, **{name: value}), words)
    model.generate(GOOD, 1, **{name: largest})


def test_top_k_may_exceed_the_vocabulary(model):
    """Then all tokens are among the k likeliest."""
    made = [model.generate(GOOD, 5, temperature=1.0, top_k=k, seed=0)[0] for k in (7, 8, 10**6)]
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[0], made[2])
    sampler(1.0, 8, None, None)(torch.zeros(2, 7))


def test_a_refused_call_leaves_the_model_as_it_was(model):
    tokens = random_tokens(model, 2, 5)
    before = model(tokens).logits
    for wrong in (tokens - 9, tokens.float()):
        with pytest.raises((TypeError, ValueError)):
            model(wrong)
    assert torch.equal(model(tokens).logits, before)
