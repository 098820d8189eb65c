"""`titans.cost` says what torch counts: operations, parameters, states, and what is kept for the backward pass."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.refusals.refused import refused
from titans import TitansConfig, TitansLM, cost, transformer_cost, unchanged_parameters
from titans.config import VARIANTS

each_variant = pytest.mark.parametrize("variant", VARIANTS)
each_seed = pytest.mark.parametrize("seed", range(8))


def any_config(variant: str, seed: int) -> TitansConfig:
    """A small configuration with every field drawn."""
    pick = Random(f"{variant} {seed}")
    number, flag = pick.randint, lambda: pick.random() < 0.5
    fields = {
        **{"variant": variant, "vocab_size": number(2, 20), "dim": 12 * number(1, 3), "layers": number(1, 3)},
        **{"heads": number(1, 3), "dim_head": pick.choice((0, 4)), "ffn_expansion": pick.choice((0.5, 2.0, 2.7))},
        **{"segment_len": number(1, 9), "window": number(1, 9), "chunk_size": number(1, 9)},
        **{"memory_heads": number(1, 3), "memory_depth": number(1, 3), "memory_expansion": number(1, 3)},
        **{"memory_residual": flag(), "persistent_tokens": number(0, 5), "conv_width": number(1, 4)},
        **{"momentum": flag(), "forgetting": flag(), "forget_layers": pick.choice(("last", "all"))},
    }
    if variant in ("mac", "attention"):
        fields["sliding"] = flag()
    if variant == "mac":
        layers = pick.choice((None, (), (1,)))
        fields |= {"memory_tokens": number(0, 3), "memory_gate": flag(), "memory_layers": layers}
    return TitansConfig(**fields)


def drawn(variant: str, seed: int) -> tuple[TitansConfig, TitansLM, int, int, int]:
    """A configuration, its model, a batch, and the lengths of two calls."""
    config, pick = any_config(variant, seed), Random(seed)
    return config, TitansLM(config), pick.randint(1, 3), pick.randint(1, 40), pick.randint(1, 20)


def any_tokens(config: TitansConfig, batch: int, count: int) -> torch.Tensor:
    return torch.randint(0, config.vocab_size, (batch, count))


def product_in_place(summand, left, right, **_) -> int:
    batch, rows, inner = left
    return 2 * batch * rows * inner * right[-1]


def counter() -> FlopCounterMode:
    """torch's counter, told of the product that is added in place, which it would pass over."""
    return FlopCounterMode(display=False, custom_mapping={torch.ops.aten.baddbmm_: product_in_place})


def state_bytes(state) -> int:
    return sum(tensor.nbytes for tensor in state.tensors().values())


def kept_bytes(model: TitansLM, tokens: torch.Tensor) -> int:
    """What autograd holds after a forward pass, each storage once, the parameters not counted."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _held = model(tokens, labels=tokens)
    return sum(storage.nbytes() for storage in kept.values())


# ---- Exactly ---------------------------------------------------------------------------------------------------------


@each_variant
@each_seed
def test_operations_are_those_that_torch_counts(variant, seed):
    config, model, batch, first, second = drawn(variant, seed)
    with counter() as counted:
        state = model(any_tokens(config, batch, first)).state.detach()
    expected = cost(config, first, batch)
    assert counted.get_total_flops() == expected.operations
    assert expected.operations_per_token == expected.operations / (batch * first)
    with counter() as counted:
        model(any_tokens(config, batch, second), state)
    assert counted.get_total_flops() == cost(config, second, batch, before=first).operations


@each_variant
@each_seed
def test_training_is_what_torch_counts_forwards_and_backwards(variant, seed):
    config, model, batch, first, _ = drawn(variant, seed)
    tokens = any_tokens(config, batch, first)
    with counter() as counted:
        model(tokens, labels=tokens).loss.backward()
    assert counted.get_total_flops() == cost(config, first, batch).training


@each_variant
@each_seed
def test_a_step_of_generation_costs_what_torch_counts(variant, seed):
    config, model, batch, first, _ = drawn(variant, seed)
    model.requires_grad_(False)  # torch's counter looks for the gradients of what could have some
    with torch.no_grad(), unchanged_parameters():  # as in `generate`; the first token makes the keys that are kept
        state = model(any_tokens(config, batch, 1), model(any_tokens(config, batch, first)).state).state
        for before in range(first + 1, first + 13):
            with counter() as counted:
                state = model(any_tokens(config, batch, 1), state).state
            expected = cost(config, 1, batch, before)
            assert counted.get_total_flops() == expected.operations
            assert state_bytes(state) <= expected.state_bytes  # less where a chunk and its segment begin at one token


@each_variant
@each_seed
def test_parameters_and_states_are_as_large_as_they_are(variant, seed):
    config, model, batch, first, second = drawn(variant, seed)
    expected = cost(config, first, batch)
    assert expected.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert expected.parameter_bytes == sum(parameter.nbytes for parameter in model.parameters())
    state = model(any_tokens(config, batch, first)).state
    assert expected.state_bytes == state_bytes(state)
    state = model(any_tokens(config, batch, second), state).state
    assert cost(config, second, batch, before=first).state_bytes == state_bytes(state)


@each_variant
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_dtype_counts_but_a_memory_is_float32_at_least(variant, dtype):
    config = any_config(variant, 3)
    model = TitansLM(config).to(dtype)
    expected = cost(config, 7, 2, dtype=dtype)
    assert expected.state_bytes == state_bytes(model(any_tokens(config, 2, 7)).state)
    assert expected.parameter_bytes == sum(parameter.nbytes for parameter in model.parameters())


@each_variant
def test_a_large_model_is_as_large_as_one_without_numbers(variant):
    config = TitansConfig(variant=variant, vocab_size=32_000, dim=2048, layers=18, heads=8, memory_heads=8)
    with torch.device("meta"):
        model = TitansLM(config)
    assert cost(config, 2_000_000).parameters == sum(parameter.numel() for parameter in model.parameters()) > 5e8


@each_variant
@pytest.mark.parametrize("memory_heads", [1, 16])
def test_at_full_width_torch_counts_the_same(variant, memory_heads):
    sizes = {"dim": 1024, "layers": 1, "heads": 16, "memory_heads": memory_heads, "persistent_tokens": 128}
    config = TitansConfig(variant, 32_000, segment_len=512, window=512, memory_tokens=256 * (variant == "mac"), **sizes)
    with torch.device("meta"), counter() as counted:
        state = TitansLM(config)(torch.zeros(1, 530, dtype=torch.long)).state
    expected = cost(config, 530)
    assert (counted.get_total_flops(), state_bytes(state)) == (expected.operations, expected.state_bytes)


# ---- Nearly ----------------------------------------------------------------------------------------------------------


def ample(variant: str, **more) -> TitansConfig:
    sizes = {"vocab_size": 64, "dim": 64, "heads": 4, "window": 32, "persistent_tokens": 4}
    return TitansConfig(variant=variant, **sizes | more)


@each_variant
@pytest.mark.parametrize(
    "more",
    [{}, {"memory_residual": True}, {"memory_depth": 3, "memory_heads": 2}, {"memory_heads": 8, "chunk_size": 48}],
)
def test_what_is_kept_for_the_backward_pass_is_right_to_a_fiftieth_and_grows_as_it_should(variant, more):
    config = ample(variant, **more)
    model = TitansLM(config)
    kept = {tokens: kept_bytes(model, any_tokens(config, 1, tokens)) for tokens in (96, 192)}
    said = {tokens: cost(config, tokens).activation_bytes for tokens in kept}
    assert said == pytest.approx(kept, rel=0.02)
    assert said[192] - said[96] == pytest.approx(kept[192] - kept[96], rel=0.02)


@each_variant
@each_seed
def test_what_is_kept_is_right_to_a_fifth_whatever_the_configuration(variant, seed):
    config, model, batch, first, _ = drawn(variant, seed)
    assert cost(config, first, batch).activation_bytes == pytest.approx(
        kept_bytes(model, any_tokens(config, batch, first)), rel=0.2
    )


# ---- A Transformer ---------------------------------------------------------------------------------------------------


def test_a_transformer_is_attention_whose_segment_never_ends():
    config = TitansConfig(variant="mac", layers=3, heads=2, dim_head=6, dim=20)
    endless = replace(config, variant="attention", segment_len=1000, persistent_tokens=0)
    expected, same = transformer_cost(config, 50, 2), cost(endless, 50, 2)
    assert (expected.parameters, expected.state_bytes) == (same.parameters, same.state_bytes)
    width = 12
    pairs = 50 * 51 // 2  # D4 makes a query meet a key twice, and a mask leaves about half of the square empty
    assert same.operations - expected.operations == 2 * 3 * width * (6 * 50**2 - 4 * pairs)


def test_a_transformer_with_a_cache_costs_what_torch_counts_token_by_token():
    config = TitansConfig(vocab_size=11, dim=8, layers=1, heads=2, dim_head=6, ffn_expansion=2.0)
    D, A, hidden, V = 8, 12, 16, 11
    W_qkv, W_o, up, down, head = (
        torch.ones(*shape) for shape in ((D, 3 * A), (A, D), (D, 2 * hidden), (hidden, D), (D, V))
    )
    keys, values = torch.zeros(2, 0, 6), torch.zeros(2, 0, 6)
    for before in range(5):
        with counter() as counted:
            q, k, v = (torch.zeros(1, D) @ W_qkv).view(3, 2, 1, 6)
            keys, values = torch.cat((keys, k), 1), torch.cat((values, v), 1)
            x = (torch.softmax(q @ keys.mT, -1) @ values).reshape(1, A) @ W_o
            (x @ up)[:, :hidden] @ down @ head
        expected = transformer_cost(config, 1, before=before)
        assert counted.get_total_flops() == expected.operations
        assert expected.state_bytes == keys.nbytes + values.nbytes
    whole = transformer_cost(config, 5)
    assert whole.operations == sum(transformer_cost(config, 1, before=before).operations for before in range(5))


# ---- Refused ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [cost, transformer_cost])
def test_wrong_arguments_are_refused_by_name(function):
    config = TitansConfig()
    refused(TypeError, lambda: function("mac", 10), "config must be a TitansConfig")
    refused(ValueError, lambda: function(config, 0), "tokens must be at least 1")
    refused(ValueError, lambda: function(config, 1, 0), "batch must be at least 1")
    refused(ValueError, lambda: function(config, 1, before=-1), "before must be at least 0")
    refused(TypeError, lambda: function(config, 1, dtype="float32"), "dtype must be a dtype")
    refused(ValueError, lambda: function(config, 1, dtype=torch.int64), "dtype must be one of", "torch.int64")
