"""A single token without gradients takes a short way: whatever stands beside it, hooks and adapters too, it gets the
numbers of the long one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from tests.proofs.model_proofs import VARIANTS, make_model, memories, random_tokens, run_in_pieces
from tests.proofs.proofs import assert_same
from tests.refusals.refused import refused
from titans import DeepMemory, Gates, ModelState, NeuralMemory, TitansConfig, TitansLM, unchanged_parameters
from titans.attention import Attention
from titans.blocks import MIXERS, Mixer
from titans.model import IN_MEMORY_PRECISION, Output
from titans.observe import edited_gates, observed
from titans.recurrence import Momentum
from titans.state import SERIALS
from titans.unchanged import LONG_WAY, long_way

TOKENS = 6
MEMORY_TOKENS = {"mac": {"memory_tokens": 2}}


def made(variant: str, **options) -> TitansLM:
    return make_model(variant, **MEMORY_TOKENS.get(variant, {}), **options)


def both_ways(model: TitansLM, token: Tensor, state: ModelState) -> list[Output]:
    """What a call gives on the short way and on the long one, with the same random numbers."""
    found = []
    for way in (nullcontext, long_way):
        torch.manual_seed(1)
        with way():
            found.append(model(token, state))
    return found


def logits_of_steps(model: TitansLM, tokens: Tensor) -> Tensor:
    """One call for three tokens, and one for each of the others."""
    return run_in_pieces(model, tokens, range(3, tokens.shape[1]))[0]


# ---- Hooks and adapters ----------------------------------------------------------------------------------------------


def louder(module: nn.Module, inputs: tuple, output: object) -> object:
    """A hook that changes what is made; of a pair, which comes with a state, its first part."""
    if isinstance(output, Tensor):
        return 1.3 * output
    return (1.3 * output[0], *output[1:]) if isinstance(output[0], Tensor) and len(output) == 2 else output


def laid_out_anew(module: nn.Module, inputs: tuple, output: object) -> object:
    """A hook that changes no number, but the places of numbers in storage: rows stand in its middle."""
    return output.transpose(0, 1).contiguous().transpose(0, 1) if isinstance(output, Tensor) else output


def softer_queries(module: nn.Module, inputs: tuple) -> tuple:
    """A hook before the call: attention looks at all more alike."""
    return 0.5 * inputs[0], *inputs[1:]


@pytest.mark.parametrize("hook", [louder, laid_out_anew])
@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_a_hook_of_any_module_changes_single_tokens_as_it_changes_several(variant, hook):
    model = made(variant, layers=1)
    tokens = random_tokens(model, 2, 5)
    for name, module in list(model.named_modules())[1:]:
        handle = module.register_forward_hook(hook)
        assert_same({name: logits_of_steps(model, tokens)}, {name: model(tokens).logits})
        handle.remove()


@pytest.mark.parametrize("variant", [variant for variant in VARIANTS if variant != "lmm"])
@torch.no_grad()
def test_where_attention_has_a_hook_the_short_way_is_not_taken_by_joined_rows_either(variant):
    """Before and after its call; once it is removed, everything is as it was."""
    model = made(variant)
    tokens = random_tokens(model, 2, TOKENS)
    users, more = [tokens[:1, :2], tokens[1:, :5]], random_tokens(model, 2, 1, seed=3)
    plain = model(tokens).logits
    for register, hook in (("register_forward_hook", louder), ("register_forward_pre_hook", softer_queries)):
        attentions = [module for module in model.modules() if isinstance(module, Attention)]
        handles = [getattr(module, register)(hook) for module in attentions]
        want = [
            model(torch.cat((user, new[None]), dim=1)).logits[:, -1:] for user, new in zip(users, more, strict=True)
        ]
        assert not torch.allclose(model(tokens).logits, plain)
        state = ModelState.join([model(user).state for user in users])
        assert_same({"logits": model(more, state).logits}, {"logits": torch.cat(want)})
        assert not any(block.mixer.short for block in model.blocks)
        for handle in handles:
            handle.remove()
        assert all(block.mixer.short for block in model.blocks)
        assert_same({"logits": logits_of_steps(model, tokens)}, {"logits": plain})


class Softer(Attention):
    """Attention that looks at all more alike, in a call of its own."""

    def forward(self, q, *others):
        return super().forward(q / 2, *others)


class Own(DeepMemory):
    """A memory that might do anything."""


def with_attention(mixer: Mixer, config: TitansConfig) -> None:
    mixer.attention = Softer(config.dim, config.heads, config.head_size)


def with_memory(mixer: Mixer, config: TitansConfig) -> None:
    old = mixer.memory.memory
    mixer.memory.memory = Own(old.dim, old.heads, old.depth, config.memory_expansion)


def with_rule(mixer: Mixer, config: TitansConfig) -> None:
    mixer.memory.rule = Momentum()


def as_a_subclass(mixer: Mixer, config: TitansConfig) -> None:
    mixer.__class__ = type("OfOnesOwn", (type(mixer),), {})


def with_a_layer_of_a_subclass(mixer: Mixer, config: TitansConfig) -> None:
    mixer.memory.__class__ = type("OfOnesOwn", (NeuralMemory,), {})


OWN = {
    with_attention: ("mac", "mag", "mal", "attention"),
    with_memory: ("mac", "mag", "mal", "lmm"),
    with_rule: ("mac", "mag", "mal", "lmm"),
    as_a_subclass: VARIANTS,
    with_a_layer_of_a_subclass: ("mac", "mag", "mal", "lmm"),
}


@pytest.mark.parametrize(("change", "variant"), [(change, variant) for change, some in OWN.items() for variant in some])
@torch.no_grad()
def test_what_is_of_ones_own_takes_no_short_way(change, variant):
    """Whatever it is; and it reads single tokens as it reads several."""

    def mixer_of_ones_own(config: TitansConfig) -> Mixer:
        mixer = MIXERS[variant](config)
        change(mixer, config)
        return mixer

    model = make_model(variant, lambda config: TitansLM(config, {variant: mixer_of_ones_own}), layers=1)
    tokens = random_tokens(model, 2, 5)
    assert not model.blocks[0].mixer.short
    assert not model.reader().together
    assert_same({"logits": logits_of_steps(model, tokens)}, {"logits": model(tokens).logits})


class LowRank(nn.Module):
    """What an adapter adds to a weight."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.a, self.b = (0.3 * torch.randn(size, 1).to(weight) for size in weight.shape)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.a @ self.b.T


def adapted(mixer: nn.Module) -> None:
    parametrize.register_parametrization(mixer.attention.W_V, "weight", LowRank(mixer.attention.W_V.weight))


def trained(mixer: nn.Module) -> None:
    """A step of an optimizer."""
    optimizer = torch.optim.SGD(mixer.parameters(), lr=0.1)
    for weight in mixer.parameters():
        weight.grad = torch.ones_like(weight)
    optimizer.step()


def bound_otherwise(mixer: nn.Module) -> None:
    parametrize.register_parametrization(mixer, "persistent", LowRank(mixer.persistent))


CHANGES: dict[str, Callable[[nn.Module], None]] = {
    "an adapter": adapted,
    "a step of an optimizer": trained,
    "an adapter of the persistent tokens": bound_otherwise,
}


@pytest.mark.parametrize("inside", [False, True], ids=["outside a block", "inside another"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@torch.no_grad()
def test_a_prefix_kept_in_a_block_is_not_used_after_a_change_behind_it(change, inside):
    model = make_model("mac", memory_tokens=2, segment_len=16)
    tokens, token = random_tokens(model, 1, 4), random_tokens(model, 1, 1, seed=8)
    with unchanged_parameters():
        state = model(tokens[:, -1:], model(tokens[:, :-1]).state).state
    assert all(layer.kept is not None for layer in state.layers)
    before = model(token, state).logits
    for block in model.blocks:
        change(block.mixer)
    with unchanged_parameters() if inside else nullcontext():
        after = model(token, state).logits
    assert not torch.allclose(after, before)
    assert_same({"logits": after}, {"logits": model(token.expand(1, 2), state).logits[:, :1]})


@torch.no_grad()
def test_a_block_that_an_error_ends_is_left():
    """Later changes are seen, and single tokens take the short way again."""
    model = make_model("mac", segment_len=16)
    tokens, token = random_tokens(model, 1, 4), random_tokens(model, 1, 1, seed=8)
    for block in (unchanged_parameters, long_way):
        with pytest.raises(KeyError), block():
            raise KeyError
    assert not LONG_WAY.get()
    state = model(tokens[:, -1:], model(tokens[:, :-1]).state).state
    assert all(layer.kept is None for layer in state.layers)
    model.blocks[0].mixer.persistent.mul_(2)
    got, want = model(token, state).logits, model(token.expand(1, 2), state).logits[:, :1]
    assert_same({"logits": got}, {"logits": want})


@pytest.mark.parametrize("variant", ["mac", "mag"])
@torch.no_grad()
def test_generation_makes_a_prefix_once_a_segment_and_not_for_every_token(variant):
    """MAC's, of memory tokens; for others persistent tokens are made in every call."""
    model, counts = made(variant), []
    for new in (5, 9):
        with patch.object(Attention, "prefix", autospec=True, side_effect=Attention.prefix) as prefix:
            model.generate(random_tokens(model, 1, 4), new)
        counts.append(prefix.call_count)
    tokens, segments = 4, 1
    assert counts[1] - counts[0] == model.config.layers * (segments if variant == "mac" else tokens)


@torch.no_grad()
def test_what_is_kept_is_another_mixers_no_more_where_one_stands_in_its_place():
    """In the same memory, perhaps: by its number."""
    model = make_model("mac", segment_len=16)
    tokens = random_tokens(model, 1, 4)
    with unchanged_parameters():
        state = model(tokens[:, -1:], model(tokens[:, :-1]).state).state
        mixer = model.blocks[0].mixer
        mixer.memory.serial = next(SERIALS)
        mixer.persistent.mul_(2)
        assert_same(
            {"logits": model(tokens[:, :1], state).logits}, {"logits": model(tokens[:, :1], state.clone()).logits}
        )


@pytest.mark.filterwarnings("ignore:There is a performance drop")
@torch.no_grad()
def test_an_ensemble_in_a_block_gets_prefixes_of_its_own_parameters():
    """vmap brings others than the model's, which a state has kept something of."""
    model = make_model("mac", memory_tokens=2, segment_len=16)
    tokens, token = random_tokens(model, 1, 4), random_tokens(model, 1, 1, seed=8)
    many = {name: torch.stack((weight, 1.5 * weight)) for name, weight in model.named_parameters()}

    def call(weights: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(model, weights, (token, state)).logits

    with unchanged_parameters():
        state = model(tokens[:, -1:], model(tokens[:, :-1]).state).state
        got = torch.func.vmap(call)(many)
    for number in range(2):
        assert_same({"logits": got[number]}, {"logits": call({name: many[name][number] for name in many})})


# ---- Gates, surprise, numbers at the end of their range --------------------------------------------------------------

EDITS: dict[str, Callable[[Gates], Gates]] = {
    "no momentum": lambda gates: gates._replace(eta=0 * gates.eta),
    "one gate for all layers": lambda gates: Gates(*(gate.mean(-1) for gate in gates)),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
@torch.no_grad()
def test_edited_gates_are_those_of_single_tokens_too_and_observers_see_them(edit):
    model = made("mac")
    tokens = random_tokens(model, 2, TOKENS)
    plain = model(tokens).logits
    with edited_gates(model, edit), observed(memories(model)[0]) as calls:
        whole, stepped = model(tokens).logits, logits_of_steps(model, tokens)
    assert not torch.allclose(whole, plain)
    assert_same({"logits": stepped}, {"logits": whole})
    of_calls = [call.tokens.gates.eta for call in calls]
    assert [eta.shape[2] for eta in of_calls] == [4, 2, 3, 1, 1, 1]  # a call ends with its segment of 4 tokens
    assert_same({"eta": torch.cat(of_calls[2:], dim=2)}, {"eta": torch.cat(of_calls[:2], dim=2)})


@torch.no_grad()
def test_gates_that_an_edit_takes_out_of_their_range_are_refused_for_single_tokens_too():
    layer = NeuralMemory(8)
    x, state = torch.randn(1, 1, 8), layer(torch.randn(1, 3, 8))[1]
    with edited_gates(layer, lambda gates: gates._replace(alpha=gates.alpha + 1)):
        refused(ValueError, lambda: layer(x, state), "gates.alpha must be in [0, 1]")
    with edited_gates(layer, lambda gates: gates._replace(eta=gates.eta[..., :1])):
        refused(ValueError, lambda: layer(x, state), "gates.eta must have shape")


HUGE = [(1, 1e38, 1e15), (2, 1e38, 1), (2, 1e38, 1e12), (3, 1e38, 1), (3, 1, 1e15), (3, 1e38, 1e15)]


@pytest.mark.parametrize(("depth", "inputs", "weights"), HUGE)
@torch.no_grad()
def test_numbers_at_the_end_of_float32_give_single_tokens_what_they_give_several(depth, inputs, weights):
    """The first tokens, before rounding is enlarged, unless their products leave float32's range; nothing is NaN."""
    torch.manual_seed(0)
    layer = NeuralMemory(8, heads=2, depth=depth)
    for weight in layer.memory.weights:
        weight.normal_().mul_(weights)
    x, state, found = inputs * torch.randn(2, 20, 8).clamp(-3, 3), layer.initial_state(2), []
    whole, _ = layer(x, state)
    for token in x.split(1, dim=1):
        y, state = layer(token, state)
        found.append(y)
    stepped = torch.cat(found, dim=1)
    assert all(some.isfinite().all() for some in (stepped, whole, *state.weights, *state.momentum))
    if depth < 3 or weights == 1:
        assert_same({"y": stepped[:, :3]}, {"y": whole[:, :3]}, 1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_no_single_token_is_nan_where_the_products_of_a_memory_leave_float32(variant):
    model = make_model(variant, memory_depth=3).float()
    for layer in memories(model):
        for weight in layer.memory.weights:
            weight.mul_(1e15)
    tokens = random_tokens(model, 2, TOKENS)
    assert logits_of_steps(model, tokens).isfinite().all()
    assert model(tokens).logits.isfinite().all()


# ---- Training mode, autocast -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_in_training_mode_dropout_falls_on_a_single_token_as_on_the_long_way(variant):
    model = made(variant, dropout=0.5).train()
    tokens, token = random_tokens(model, 2, TOKENS), random_tokens(model, 2, 1, seed=3)
    state = model(tokens).state
    short, long = both_ways(model, token, state)
    assert_same({"logits": short.logits}, {"logits": long.logits})
    assert not torch.allclose(short.logits, model.eval()(token, state).logits)


@torch.no_grad()
def test_a_single_token_leaves_autocast_by_itself():
    """In a layer, and in its scan alone."""
    torch.manual_seed(0)
    layer, x = NeuralMemory(8, heads=2, chunk_size=3), torch.randn(2, 1, 8)
    with observed(layer) as calls:
        _, state = layer(torch.randn(2, 5, 8))
        want, after = layer(x, state)
        with torch.autocast("cpu", torch.bfloat16):
            got, in_autocast = layer(x, state)
            _, scanned = layer.scan(calls[1].tokens, state)
    assert torch.equal(got, want)
    for one in (in_autocast, scanned):
        assert all(map(torch.equal, one.weights, after.weights))


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_in_half_precision_a_single_token_has_the_numbers_of_the_long_way_and_writes_in_float32(variant):
    model = made(variant, layers=1).bfloat16()
    tokens, token = random_tokens(model, 2, TOKENS), random_tokens(model, 2, 1, seed=3)
    state = model(tokens).state
    short, long = both_ways(model, token, state)
    assert_same({"logits": short.logits.float()}, {"logits": long.logits.float()}, 0.05)
    for name, tensor in short.state.tensors().items():
        learns = IN_MEMORY_PRECISION.intersection(name.split("."))
        assert tensor.dtype == (torch.float32 if learns else torch.bfloat16), name
