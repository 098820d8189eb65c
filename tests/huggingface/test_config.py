"""TitansMACConfig: every field has an effect, and what has none is refused."""

from __future__ import annotations

import json
from dataclasses import fields

import numpy as np
import pytest
import torch
from transformers import AutoConfig, PreTrainedConfig

from tests.huggingface.models import make_config, make_model, no_warnings_of_transformers, random_ids, stir
from tests.proofs.proofs import assert_same
from tests.refusals.refused import INF, NAN, WRONG_NUMBERS, WRONG_SIZES, refused
from titans import TitansLM
from titans.huggingface import TitansMACConfig, TitansMACForCausalLM
from titans.huggingface.config import NOT_IMPLEMENTED
from titans.neural_memory import NeuralMemory

pytestmark = pytest.mark.filterwarnings("error")
OWN = [field.name for field in fields(TitansMACConfig) if field.name not in PreTrainedConfig.__dataclass_fields__]


@pytest.fixture(autouse=True)
def logged():
    with no_warnings_of_transformers() as found:
        yield found


# ---- Effects ---------------------------------------------------------------------------------------------------------

# Fields of what a model computes: another value, and what else is set for it to matter.
CHANGES = {
    "num_tokens": (50, {}),
    "d_model": (32, {"dim_head": 8}),
    "depth": (1, {}),
    "num_heads": (4, {"dim_head": 8}),
    "dim_head": (10, {}),
    "ff_mult": (3.0, {}),
    "segment_len": (7, {}),
    "sliding_window_attn": (True, {"context_window": 4}),
    "context_window": (3, {"sliding_window_attn": True, "context_window": 4}),
    "neural_memory_segment_len": (9, {}),
    "num_memory_layers": (1, {}),
    "num_longterm_mem_tokens": (3, {}),
    "persistent_size": (3, {}),
    "neural_memory_layers": ([2], {}),
    "neural_mem_gate_attn_output": (False, {}),
    "dropout": (0.5, {}),
    "tie_word_embeddings": (True, {}),
}
TESTED_BELOW = {"initializer_range", "use_cache", "pad_token_id", "bos_token_id", "eos_token_id"}


def logits_in_training(**options) -> torch.Tensor:
    torch.manual_seed(0)
    model = TitansMACForCausalLM(make_config(**options))
    torch.manual_seed(0)
    return stir(model).train()(random_ids(2, 13)).logits.detach()


def test_every_field_has_a_test_of_its_effect():
    assert sorted([*CHANGES, *TESTED_BELOW]) == sorted(OWN)
    assert all(name in TitansMACConfig.__doc__ for name in OWN)


@pytest.mark.parametrize("name", CHANGES)
def test_every_field_of_the_model_changes_its_logits(name):
    value, others = CHANGES[name]
    before, after = logits_in_training(**others), logits_in_training(**(others | {name: value}))
    assert before.shape != after.shape or (before - after).abs().max() > 1e-3


@pytest.mark.parametrize(
    "options", [{}, *({name: value} | others for name, (value, others) in CHANGES.items())], ids=lambda x: str(list(x))
)
def test_a_model_is_this_librarys_model_and_nothing_else(options):
    model = make_model(**options)
    plain = TitansLM(model.config.to_titans()).eval()
    plain.load_state_dict(model.model.state_dict())
    ids = random_ids(2, 13)
    assert torch.equal(model(ids).logits, plain(ids).logits)


def test_each_field_becomes_the_choice_that_it_names():
    config = TitansMACConfig(
        num_tokens=50,
        d_model=24,
        depth=4,
        num_heads=3,
        dim_head=6,
        ff_mult=3,
        segment_len=7,
        sliding_window_attn=True,
        context_window=11,
        neural_memory_segment_len=9,
        num_memory_layers=3,
        num_longterm_mem_tokens=2,
        persistent_size=5,
        neural_memory_layers=[1, 3],
        neural_mem_gate_attn_output=False,
        dropout=0.25,
    )
    titans = config.to_titans()
    assert titans.variant == "mac"
    assert (titans.vocab_size, titans.dim, titans.layers) == (50, 24, 4)
    assert (titans.heads, titans.head_size, titans.ffn_expansion) == (3, 6, 3.0)
    assert (titans.segment_len, titans.sliding, titans.window) == (7, True, 11)
    assert (titans.chunk_size, titans.memory_depth, titans.memory_layers) == (9, 3, (1, 3))
    assert (titans.memory_tokens, titans.persistent_tokens) == (2, 5)
    assert (titans.memory_gate, titans.dropout) == (False, 0.25)


def test_context_window_is_used_with_sliding_window_attn_alone():
    """The one field that may be set for nothing, as its description says."""
    assert torch.equal(make_model(context_window=3)(random_ids(1, 13)).logits, make_model()(random_ids(1, 13)).logits)
    assert "without sliding_window_attn it does nothing" in " ".join(TitansMACConfig.__doc__.split())


@pytest.mark.parametrize("tie", [False, True])
def test_initializer_range_is_the_spread_of_embedding_and_projections_and_of_nothing_else(tie):
    options = {"d_model": 64, "depth": 1, "tie_word_embeddings": tie}
    torch.manual_seed(0)
    model = TitansMACForCausalLM(make_config(initializer_range=0.3, **options))
    torch.manual_seed(0)
    own_start = TitansMACForCausalLM(make_config(**options))
    gates = {id(module.to_gates) for module in model.modules() if isinstance(module, NeuralMemory)}
    wide = [module for module in model.modules() if isinstance(module, torch.nn.Linear | torch.nn.Embedding)]
    chosen = {id(module.weight) for module in wide if id(module) not in gates}
    assert len(chosen) == 15 - tie
    plain = dict(own_start.named_parameters())
    for name, weight in model.named_parameters():
        if id(weight) in chosen:
            assert abs(float(weight.detach().std()) / 0.3 - 1) < 0.05, name
        else:
            assert torch.equal(weight, plain[name]), name


def test_without_initializer_range_a_model_starts_as_the_librarys_does():
    config = make_config()
    torch.manual_seed(3)
    model = TitansMACForCausalLM(config)
    torch.manual_seed(3)
    plain = TitansLM(config.to_titans())
    assert_same(dict(model.model.state_dict()), dict(plain.state_dict()), 0)


def test_use_cache_says_whether_a_state_comes_back():
    ids = random_ids(1, 7)
    assert make_model(use_cache=True)(ids).past_key_values is not None
    assert make_model(use_cache=False)(ids).past_key_values is None
    assert make_model(use_cache=False)(ids, use_cache=True).past_key_values is not None


def test_special_tokens_are_those_of_generation():
    model = make_model(pad_token_id=3, bos_token_id=4, eos_token_id=[5, 6])
    chosen = model.generation_config
    assert (chosen.pad_token_id, chosen.bos_token_id, chosen.eos_token_id) == (3, 4, [5, 6])
    assert model.generate(max_new_tokens=2)[0, 0] == 4  # without tokens it begins with bos
    ids = random_ids(1, 6)
    free = make_model().generate(ids, max_new_tokens=5, do_sample=False)[0, 6:].tolist()
    stopping = make_model(pad_token_id=3, eos_token_id=free[1])
    both = stopping.generate(torch.cat((ids, random_ids(1, 6, seed=5))), max_new_tokens=5, do_sample=False)
    until = free.index(free[1]) + 1
    assert both[0, 6 : 6 + until].tolist() == free[:until]
    assert (both[0, 6 + until :] == 3).all()


def test_a_chunk_may_be_longer_than_a_segment():
    """The memory's chunk runs on over the border of segments: any split gives the same, and the past reaches on."""
    model = make_model(segment_len=4, neural_memory_segment_len=9).double()
    ids = random_ids(1, 23)
    whole, cache, pieces = model(ids).logits, None, []
    for part in ids.split(3, dim=1):
        output = model(part, past_key_values=cache)
        cache = output.past_key_values
        pieces.append(output.logits)
    assert_same({"logits": torch.cat(pieces, dim=1)}, {"logits": whole})
    changed = ids.clone()
    changed[0, 0] += 1
    assert (model(changed).logits[0, -1] - whole[0, -1]).abs().max() > 1e-9


# ---- What configurations of transformers can do ----------------------------------------------------------------------


def test_common_names_of_transformers_are_there():
    config = make_config()
    assert (config.vocab_size, config.hidden_size, config.num_hidden_layers) == (49, 16, 2)
    assert (config.num_attention_heads, config.head_dim) == (2, 8)
    assert TitansMACConfig(vocab_size=50, hidden_size=32).to_titans().vocab_size == 50
    assert make_config(vocab_size=49).num_tokens == 49


def test_a_configuration_needs_nothing():
    assert TitansMACForCausalLM(TitansMACConfig(d_model=32))(torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, 10_000)


def test_configurations_pass_through_text_files_and_folders(tmp_path):
    config = make_config(eos_token_id=[1, 2], neural_memory_layers=(2,), dropout=0.25, dtype="bfloat16")
    assert TitansMACConfig(**config.to_dict()).to_dict() == config.to_dict()
    assert json.loads(config.to_json_string())["neural_memory_layers"] == [2]
    config.to_json_file(tmp_path / "text")
    assert TitansMACConfig.from_json_file(tmp_path / "text").to_dict() == config.to_dict()
    config.save_pretrained(tmp_path / "sub")
    for loaded in (
        AutoConfig.from_pretrained(tmp_path / "sub"),
        TitansMACConfig.from_pretrained(tmp_path / "sub"),
        TitansMACConfig.from_pretrained(tmp_path, subfolder="sub"),
        AutoConfig.for_model(**config.to_dict()),
    ):
        assert type(loaded) is TitansMACConfig
        loaded.name_or_path = ""
        assert loaded.to_dict() == config.to_dict()
        assert loaded.to_titans() == config.to_titans()


def test_a_field_can_be_changed_while_a_configuration_is_loaded(tmp_path):
    make_config().save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path, depth=5).to_titans().layers == 5
    _, rest = TitansMACConfig.from_pretrained(tmp_path, depth=5, more=1, return_unused_kwargs=True)
    assert rest == {"more": 1}
    for options, name in (({"depth": 0}, "depth must be at least 1, got 0"), ({"more": 1}, "more is no field")):
        refused(ValueError, lambda options=options: AutoConfig.from_pretrained(tmp_path, **options), name)
    refused(ValueError, lambda: AutoConfig.from_pretrained(tmp_path, use_flex_attn=True), "use_flex_attn is not impl")


# What transformers and its tools write into configurations of any model.
OF_ANY_MODEL = {
    "auto_map": {"AutoConfig": "configuration.TitansMACConfig"},
    "quantization_config": {"quant_method": "torchao"},
    "custom_pipelines": {"one": {"impl": "pipeline.One"}},
    "tokenizer_class": "PreTrainedTokenizerFast",
    "processor_class": "Processor",
    "architectures": ["TitansMACForCausalLM"],
    "dtype": "bfloat16",
}


@pytest.mark.parametrize("name", OF_ANY_MODEL)
def test_fields_of_transformers_itself_are_kept(name, tmp_path):
    config = make_config(**{name: OF_ANY_MODEL[name]})
    assert getattr(config, name) in (OF_ANY_MODEL[name], torch.bfloat16)
    assert config.to_titans() == make_config().to_titans()
    assert TitansMACConfig(**config.to_dict()).to_dict() == config.to_dict()
    assert json.loads(config.to_json_string())[name] == OF_ANY_MODEL[name]
    config.save_pretrained(tmp_path)
    for loaded in (AutoConfig.from_pretrained(tmp_path), TitansMACConfig.from_pretrained(tmp_path)):
        assert getattr(loaded, name) == getattr(config, name)
    make_config().save_pretrained(tmp_path)
    later = AutoConfig.from_pretrained(tmp_path, **{name: OF_ANY_MODEL[name]})
    assert getattr(later, name) in (OF_ANY_MODEL[name], torch.bfloat16)


def test_what_transformers_passes_or_takes_for_granted_is_accepted():
    assert make_config(_attn_implementation="eager")._attn_implementation == "eager"
    assert make_config(attn_implementation="eager")._attn_implementation == "eager"
    assert make_config(num_labels=2).to_dict() == make_config().to_dict()
    assert not hasattr(make_config(transformers_weights="model.safetensors"), "unheard")


def test_numbers_of_numpy_become_pythons_own():
    """The same configuration, text and model."""
    plain = {"num_tokens": 49, "dim_head": 8, "eos_token_id": [1, 2], "pad_token_id": 3, "neural_memory_layers": [2]}
    plain |= {"ff_mult": 2.5, "dropout": 0.25, "initializer_range": 0.5}
    numpys = {
        name: [np.int64(one) for one in value]
        if isinstance(value, list)
        else (np.int32(value) if isinstance(value, int) else np.float32(value))
        for name, value in plain.items()
    }
    assert make_config(**numpys).to_json_string() == make_config(**plain).to_json_string()
    assert make_config(**numpys).to_titans().signature == make_config(**plain).to_titans().signature
    assert make_config(bos_token_id=np.int8(3)).bos_token_id == 3
    refused(TypeError, lambda: make_config(depth=np.float32(2)), "depth must be an integer")
    refused(TypeError, lambda: make_config(depth=np.True_), "depth must be an integer")


# ---- What is refused -------------------------------------------------------------------------------------------------

SIZES = ("num_tokens", "d_model", "depth", "num_heads", "segment_len", "context_window", "neural_memory_segment_len")
COUNTS = ("num_longterm_mem_tokens", "persistent_size")
FLAGS = (
    *("sliding_window_attn", "neural_mem_gate_attn_output", "use_cache", "tie_word_embeddings"),
    *("output_hidden_states", "return_dict"),
)


@pytest.mark.parametrize(("value", "kind", "message"), WRONG_SIZES)
@pytest.mark.parametrize("name", [*SIZES, "num_memory_layers"])
def test_a_wrong_size_is_refused(name, value, kind, message):
    refused(kind, lambda: make_config(**{name: value}), f"{name} must be {message}")


@pytest.mark.parametrize("name", COUNTS)
def test_a_wrong_count_is_refused_and_zero_is_none(name):
    assert make_config(**{name: 0})
    refused(ValueError, lambda: make_config(**{name: -1}), f"{name} must be at least 0, got -1")
    refused(TypeError, lambda: make_config(**{name: 1.5}), f"{name} must be an integer, got 1.5")


@pytest.mark.parametrize(("value", "kind", "message"), WRONG_NUMBERS)
@pytest.mark.parametrize("name", ["ff_mult", "initializer_range"])
def test_a_wrong_number_is_refused(name, value, kind, message):
    refused(kind, lambda: make_config(**{name: value}), f"{name} must be {message}")


@pytest.mark.parametrize("value", [1, None, "yes"])
@pytest.mark.parametrize("name", FLAGS)
def test_a_flag_that_is_none_is_refused(name, value):
    refused(TypeError, lambda: make_config(**{name: value}), f"{name} must be True or False, got {value!r}")


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"dim_head": 0}, ValueError, "dim_head must be at least 1, got 0"),
        ({"dim_head": 3}, ValueError, "dim_head must be even"),
        (
            {"num_heads": 3},
            ValueError,
            "d_model must be a multiple of num_heads where dim_head is None, got d_model=16",
        ),
        ({"dropout": -0.1}, ValueError, "dropout must be in [0, 1], got -0.1"),
        ({"dropout": NAN}, ValueError, "dropout must be in [0, 1], got nan"),
        ({"dropout": INF}, ValueError, "dropout must be in [0, 1], got inf"),
        ({"dropout": True}, TypeError, "dropout must be a number, got True"),
        ({"neural_memory_layers": [3]}, ValueError, "neural_memory_layers must be in [1, 2], got 3"),
        ({"neural_memory_layers": [0]}, ValueError, "neural_memory_layers must be in [1, 2], got 0"),
        ({"neural_memory_layers": ["1"]}, TypeError, "neural_memory_layers must be an integer, got '1'"),
        ({"neural_memory_layers": 1}, TypeError, "neural_memory_layers must be None or a list of layers, got 1"),
        ({"pad_token_id": 49}, ValueError, "pad_token_id must be in [0, 48], got 49"),
        ({"bos_token_id": -1}, ValueError, "bos_token_id must be in [0, 48], got -1"),
        ({"eos_token_id": [1, 99]}, ValueError, "eos_token_id must be in [0, 48], got 99"),
        ({"pad_token_id": "0"}, TypeError, "pad_token_id must be an integer, got '0'"),
        ({"id2label": {0: "a"}}, ValueError, "num_labels and id2label are not implemented here"),
        ({"label2id": {"a": 0}}, ValueError, "label2id is not implemented here, got {'a': 0}"),
        ({"model_type": "gpt2"}, ValueError, "model_type must be 'titans_mac', got 'gpt2'"),
        ({"dtype": "float33"}, ValueError, "dtype must be None, a dtype of torch or its name, got 'float33'"),
        ({"dtype": 32}, ValueError, "dtype must be None, a dtype of torch or its name, got 32"),
        ({"vocab_size": 50}, ValueError, "num_tokens and vocab_size are one field, got 49 and 50"),
        ({"num_labels": 3}, ValueError, "num_labels is no field of TitansMACConfig, got 3"),
        ({"unheard": None}, ValueError, "unheard is no field of TitansMACConfig, got None"),
        ({"temperature": 0.5}, ValueError, "temperature is no field of TitansMACConfig, got 0.5"),
    ],
    ids=str,
)
def test_a_wrong_field_is_refused(options, kind, message):
    refused(kind, lambda: make_config(**options), message)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("num_residual_streams", 4),
        ("use_flex_attn", True),
        ("neural_memory_add_value_residual", True),
        ("neural_mem_weight_residual", True),
        ("neural_memory_qkv_receives_diff_views", True),
        ("neural_memory_batch_size", 64),
        ("neural_memory_kwargs", {"momentum": False}),
        ("neural_memory_model", torch.nn.Linear(2, 2)),
        ("output_attentions", True),
        ("chunk_size_feed_forward", 2),
        ("is_encoder_decoder", True),
        ("per_layer_config", {0: {"dropout": 0.5}}),
        ("problem_type", "regression"),
        ("experts_implementation", "eager"),
        ("tie_last_hidden_states", False),
    ],
)
def test_what_is_not_implemented_says_so_and_its_neutral_value_is_accepted(name, value):
    neutral = NOT_IMPLEMENTED[name]
    refused(ValueError, lambda: make_config(**{name: value}), f"{name} is not implemented here", f"must be {neutral!r}")
    assert make_config(**{name: neutral}).to_titans() == make_config().to_titans()


def test_everything_that_is_not_implemented_is_tried():
    (cases,) = [
        mark
        for mark in test_what_is_not_implemented_says_so_and_its_neutral_value_is_accepted.pytestmark
        if mark.name == "parametrize"
    ]
    assert {name for name, _ in cases.args[1]} == set(NOT_IMPLEMENTED)


def test_attributes_set_later_are_checked_when_a_model_is_built():
    config = make_config()
    config.depth = 0
    refused(ValueError, lambda: TitansMACForCausalLM(config), "depth must be at least 1, got 0")
    for name, value in (("num_residual_streams", 4), ("use_flex_attn", True), ("is_encoder_decoder", True)):
        config = make_config()
        setattr(config, name, value)
        refused(ValueError, lambda config=config: TitansMACForCausalLM(config), f"{name} is not implemented here")
