"""Users who come and go: states of rows at different places are joined, split, reset and cloned, and every row goes on
as if it were alone."""

from __future__ import annotations

import copy
import io
import pickle
from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import titans.state
from tests.proofs.model_proofs import (
    MODELS,
    SMALL,
    VARIANTS,
    a_token_for_each,
    assert_identical_states,
    assert_same_states,
    make_model,
    random_tokens,
)
from tests.proofs.mutants import library
from tests.proofs.proofs import assert_same
from tests.refusals.refused import refused
from titans import DeepMemory, ModelState, NeuralMemory, TitansConfig, TitansLM, unchanged_parameters
from titans.attention import Attention
from titans.blocks import MAC
from titans.blocks import MIXERS as BLOCKS
from titans.lesson.lesson_07.leaky_mac import WithoutResidual
from titans.neural_memory import LayerState
from titans.recurrence import Momentum
from titans.state import MemoryState

PLACES = (0, 1, 3, 4, 5, 8, 11, 12)  # borders of segments of 4 and of chunks of 3, and between them
MORE = 9


def model_of(name: str, **options) -> TitansLM:
    variant, own = MODELS[name]
    return make_model(variant, **own, **options)


@torch.no_grad()
def state_at(model: TitansLM, tokens: torch.Tensor) -> ModelState:
    """The state of one row after its tokens."""
    return model(tokens[None]).state if len(tokens) else model.initial_state(1)


def row(number: int) -> torch.Tensor:
    return torch.tensor([number])


@pytest.mark.parametrize("name", MODELS)
@torch.no_grad()
def test_users_at_any_places_go_on_together_as_each_would_alone(name):
    """Logits and states, also after the rows have been taken apart, in another order, and joined again."""
    model = model_of(name)
    users = [random_tokens(model, 1, place + MORE, seed=place)[0] for place in PLACES]
    alone = [model(tokens[None]) for tokens in users]
    state, found = ModelState.join([state_at(model, u[:place]) for u, place in zip(users, PLACES, strict=True)]), []
    for t in range(MORE):
        output = model(
            torch.stack([tokens[place + t] for tokens, place in zip(users, PLACES, strict=True)])[:, None], state
        )
        state = output.state
        found.append(output.logits)
        if t == 2:
            state = ModelState.join(state.split())
        if t == 5:
            order = torch.randperm(len(users), generator=torch.Generator().manual_seed(0))
            state = state.select(order).select(order.argsort())
    logits = torch.cat(found, dim=1)
    for number, (place, want) in enumerate(zip(PLACES, alone, strict=True)):
        assert_same({"logits": logits[number]}, {"logits": want.logits[0, place:]})
        one = state.select(row(number))
        assert_same_states(one, want.state)
        assert one.places == want.state.places


@given(
    st.sampled_from(
        ["mac", "mac, memory tokens", "mac, sliding over segments", "mag", "mal", "lmm", "attention, sliding"]
    ),
    st.lists(st.integers(0, 13), min_size=2, max_size=4),
    st.lists(st.tuples(st.sampled_from(["join", "leave", "reset", "clone", "none"]), st.integers(0, 9)), max_size=8),
)
@settings(max_examples=25)
@torch.no_grad()
def test_whoever_comes_and_goes_each_gets_the_numbers_of_reading_alone(name, begun, events):
    """A server's life: before every token somebody may come, leave, begin again, or all be copied."""
    model = model_of(name)
    texts = [random_tokens(model, 1, place, seed=number)[0] for number, place in enumerate(begun)]
    state = ModelState.join([state_at(model, text) for text in texts])
    for step, (event, value) in enumerate(events):
        if event == "join":
            texts.append(random_tokens(model, 1, value, seed=100 + step)[0])
            state = ModelState.join([state, state_at(model, texts[-1])])
        elif event == "leave" and len(texts) > 1:
            gone = value % len(texts)
            state = state.select(torch.tensor([number for number in range(len(texts)) if number != gone]))
            texts.pop(gone)
        elif event == "reset":
            state, texts[value % len(texts)] = model.reset(state, row(value % len(texts))), row(0)[:0]
        elif event == "clone":
            state = state.clone()
        token = random_tokens(model, len(texts), 1, seed=200 + step)
        output = model(token, state)
        state, texts = output.state, [torch.cat((text, new)) for text, new in zip(texts, token, strict=True)]
        for number, text in enumerate(texts):
            assert_same({"logits": output.logits[number]}, {"logits": model(text[None]).logits[0, -1:]})


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_a_reset_row_is_before_its_first_token_and_the_others_are_as_they_were(variant):
    model = make_model(variant)
    tokens, next_ones = random_tokens(model, 4, 6), random_tokens(model, 4, 1, seed=3)
    before = model(tokens).state
    after = model.reset(before, torch.tensor([False, True, False, True]))
    fresh, went_on = model(next_ones).logits, model(next_ones, before).logits
    want = torch.stack([went_on[0], fresh[1], went_on[2], fresh[3]])
    assert_same({"logits": model(next_ones, after).logits}, {"logits": want})
    assert_same({"logits": model(next_ones, model.reset(before, torch.arange(4))).logits}, {"logits": fresh})
    assert_same({"logits": model(next_ones, model.reset(before, row(-1))).logits[:3]}, {"logits": went_on[:3]})


def test_what_are_no_rows_or_no_state_to_reset_is_refused():
    """Before the first token, where there is nothing to reset, too."""
    model = make_model("mac")
    for state in (model.begin(2), model.initial_state(2)):
        assert_identical_states(model.reset(state, row(-1)), state)
        refused(ValueError, partial(model.reset, state, row(2)), "rows must be in [-2, 1], got values from 2 to 2")
        refused(ValueError, partial(model.reset, state, row(0)[:0]), "rows must select at least one row")
        refused(TypeError, partial(model.reset, state, [0]), "rows must be a tensor, got list")
    refused(TypeError, partial(model.reset, None, row(0)), "state must be a ModelState, got NoneType")


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_clone_of_what_inference_made_can_be_trained_on(variant):
    model = make_model(variant)
    tokens = random_tokens(model, 2, 11)
    with torch.inference_mode():
        made = model(tokens[:, :5]).state
        inside = made.clone()
    for state in (made.clone(), inside):
        model.zero_grad()
        loss = model(tokens[:, 5:], state, labels=tokens[:, 5:]).loss
        assert loss is not None
        loss.backward()
        assert all(weight.grad is not None for name, weight in model.named_parameters() if "memory.W_" in name)
        assert_same_states(state, model(tokens[:, :5]).state.detach())


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_joined_split_or_selected_of_what_inference_made_can_be_trained_on(variant):
    """With the gradients that it has from states made in another mode."""
    model, found = make_model(variant), []
    tokens = random_tokens(model, 3, 5, seed=3)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            one, two = (model(random_tokens(model, rows, count)).state for rows, count in ((1, 5), (2, 6)))
        joined = ModelState.join([one, *two.split()])
        for state in (joined, joined.select(torch.tensor([2, 0, 2])), model.reset(joined, row(1))):
            model.zero_grad()
            model(tokens, state, labels=tokens).loss.backward()
            found.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
    for got, want in zip(found[3:], found[:3], strict=True):
        assert_same(got, want)


@torch.no_grad()
def test_a_clone_is_of_its_own():
    state = make_model("mac")(torch.ones(2, 5, dtype=torch.long)).state
    clone = state.clone()
    assert_identical_states(clone, state)
    assert not {t.data_ptr() for t in clone.tensors().values()} & {t.data_ptr() for t in state.tensors().values()}


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_joining_changes_no_state_and_the_joined_one_stays_what_it_was(variant):
    model = make_model(variant)
    states = [state_at(model, random_tokens(model, 1, place, seed=place)[0]) for place in (0, 5, 6)]
    before = [copy.deepcopy(state) for state in states]
    joined = ModelState.join(states)
    kept, token = copy.deepcopy(joined), random_tokens(model, 3, 1)
    for _ in range(5):
        model(token, model(token, joined).state)
    for state, was in zip([*states, joined], [*before, kept], strict=True):
        assert_identical_states(state, was)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_a_row_that_holds_no_numbers_reaches_no_other(variant):
    """Also the keys that pad a row which has seen fewer tokens."""
    model = make_model(variant)
    spoilt = state_at(model, random_tokens(model, 1, 7)[0])
    spoilt = spoilt.with_tensors([torch.full_like(t, torch.nan) for t in spoilt.tensors().values()])
    good = state_at(model, random_tokens(model, 1, 2)[0])
    token = random_tokens(model, 2, 1, seed=5)
    try:
        both = model(token, ModelState.join([spoilt, good]))
    except ValueError:  # a memory says that its surprise is no number
        return
    assert_same({"logits": both.logits[1:]}, {"logits": model(token[1:], good).logits})


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_a_joined_state_is_saved_and_loaded(variant, tmp_path):
    model = make_model(variant)
    state = ModelState.join([state_at(model, random_tokens(model, 1, n, seed=n)[0]) for n in (2, 5, 9)])
    state = model(random_tokens(model, 3, 1), state).state
    state.save(tmp_path / "state")
    loaded = ModelState.load(tmp_path / "state")
    assert_identical_states(loaded, state)
    token = random_tokens(model, 3, 1, seed=4)
    assert_same({"logits": model(token, loaded).logits}, {"logits": model(token, state).logits})


def test_states_of_memory_layers_are_joined_too():
    torch.manual_seed(0)
    layer = NeuralMemory(8, heads=2, chunk_size=4).double()
    xs = [torch.randn(1, count + 3, 8).double() for count in (1, 4, 6)]
    with torch.no_grad():
        states = [layer(x[:, :-3])[1] for x in xs]
        state, found = LayerState.join([*states, layer.initial_state(1)]), []
        for t in (-3, -2, -1):
            y, state = layer(torch.cat([x[:, t, None] for x in [*xs, xs[0]]]), state)
            found.append(y)
        for number, x in enumerate([*xs, xs[0][:, -3:]]):
            assert_same({"y": torch.cat(found, 1)[number]}, {"y": layer(x)[0][0, -3:]})
    needed = "state.place_in_chunk must be one number for a call of several tokens or with gradients"
    refused(ValueError, lambda: layer(torch.zeros(4, 1, 8).double(), state), needed)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_a_joined_state_is_copied_and_pickled_with_what_it_keeps(variant):
    """As copy, worker processes and torch.save do; a copy keeps no prefix over a change behind its block."""
    model = make_model(variant)
    token, copies = random_tokens(model, 3, 1), {}
    with unchanged_parameters():
        state = ModelState.join([state_at(model, random_tokens(model, 1, n, seed=n)[0]) for n in (2, 5, 9)])
        state = model(token, state).state
        ways = (copy.copy, copy.deepcopy, lambda some: pickle.loads(pickle.dumps(some)), by_torch_save)
        for number, way in enumerate(ways):
            copies[number] = way(state)
            assert_identical_states(copies[number], state)
            assert torch.equal(model(token, copies[number]).logits, model(token, state).logits)
    for block in model.blocks:
        block.mixer.persistent.mul_(1.5)
    want = model(token, state.clone()).logits
    with unchanged_parameters():
        for copied in copies.values():
            assert torch.equal(model(token, copied).logits, want)


def by_torch_save(state: ModelState) -> ModelState:
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_splitting_many_rows_costs_as_much_for_each_as_splitting_few(variant):
    """In operations; and each has numbers of its own, so that it keeps no other row's alive."""
    model, counts = make_model(variant, layers=1), []
    for rows in (4, 32):
        some = [model(random_tokens(model, rows // 4, place)).state for place in (1, 2, 5, 6)]
        state = ModelState.join(some)
        with Count() as count:
            parts = state.split()
        counts.append(count.operations / rows)
        for part, before in zip(parts, [one for state in some for one in state.split()], strict=True):
            assert_same_states(part, before)
    assert counts[0] == counts[1]
    whole, held = sum(tensor.nbytes for tensor in state.tensors().values()), 0
    for part in parts:
        storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes()
                    for tensor in part.tensors().values()}  # fmt: skip
        held += sum(storages.values())
    assert held <= 1.5 * whole


def wrong_joins(model: TitansLM, other: TitansLM) -> list[tuple[list, type[Exception], str]]:
    one, none = state_at(model, random_tokens(model, 1, 3)[0]), model.begin(1)
    return [
        ([], TypeError, "states must be at least one ModelState, got []"),
        ([one, None], TypeError, "states must be at least one ModelState, got ['ModelState', 'NoneType']"),
        ([one, none], ValueError, "states must be of one kind, got ['ContextState', 'NoneType'] in state.layers.0"),
        ([one, other.initial_state(1)], ValueError, "states must be alike, state.layers.0.memory.weights.0 are"),
        ([one, replace(one, signature="another")], ValueError, "states must be alike, state.signature are"),
        ([one, one.to(torch.float32)], ValueError, "states must be alike, state.layers.0.memory.weights.0 are"),
        ([one, one.to("meta")], ValueError, "states must be alike, state.layers.0.memory.weights.0 are"),
        (
            [one, replace(one, layers=one.layers[:1])],
            ValueError,
            "states must be alike, state.layers have [2, 1] parts",
        ),
    ]


@pytest.mark.parametrize("case", range(8))
def test_what_cannot_be_joined_is_named(case):
    states, error, message = wrong_joins(make_model("mac"), make_model("mac", dim=16))[case]
    refused(error, lambda: ModelState.join(states), message)


# ---- What is kept from token to token --------------------------------------------------------------------------------


def with_a_token(model: TitansLM, count: int = 4) -> ModelState:
    """The state of a row that has read its last token by itself."""
    tokens = random_tokens(model, 1, count)
    return model(tokens[:, -1:], model(tokens[:, :-1]).state).state


def halved(weight: torch.Tensor) -> None:
    weight.data = weight.data / 2


CHANGES = {
    "in place": lambda mixer: mixer.persistent.mul_(1.5),
    "its numbers": lambda mixer: halved(mixer.attention.W_K.weight),
    "a hook": lambda mixer: mixer.attention.W_V.register_forward_hook(lambda module, inputs, output: 2 * output),
    "memory queries": lambda mixer: mixer.memory_queries.neg_(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@torch.no_grad()
def test_what_changes_between_tokens_changes_the_next_one(change):
    """Nothing that parameters, hooks or adapters are for is kept from token to token unasked."""
    model = make_model("mac", memory_tokens=2, segment_len=16)
    state, token = with_a_token(model), random_tokens(model, 1, 1, seed=8)
    before = model(token, state).logits
    for block in model.blocks:
        change(block.mixer)
    after = model(token, state).logits
    assert not torch.allclose(after, before)
    assert_same({"logits": after}, {"logits": model(token.expand(1, 2), state).logits[:, :1]})


@torch.no_grad()
def test_where_nothing_changes_the_prefix_is_kept_to_the_segments_end_and_the_numbers_are_the_same():
    model = make_model("mac", memory_tokens=2)
    tokens, kept = random_tokens(model, 2, 11), []
    want = model(tokens)
    with unchanged_parameters():
        state, logits = model(tokens[:, :2]).state, []
        for t in range(2, 11):
            output = model(tokens[:, t, None], state)
            state = output.state
            logits.append(output.logits)
            kept.append([layer.kept for layer in state.layers])
    assert_same({"logits": torch.cat(logits, 1)}, {"logits": want.logits[:, 2:]})
    assert_same_states(state, want.state)
    of_first = [layers[0] for layers in kept]  # after tokens 3 to 11: segments of 4 end after 4 and 8
    assert [one is None for one in of_first] == [False, True, False, False, False, True, False, False, False]
    assert of_first[2] is of_first[3] is of_first[4]
    assert of_first[6] is not of_first[4]
    assert all(layer.kept is None for layer in state.select(row(0)).layers)
    state = model(tokens[:, :1], model.begin(2)).state
    with unchanged_parameters():
        one = model(tokens[:, :1], state).state
        with unchanged_parameters():  # what an inner block asks, an outer one has asked
            assert model(tokens[:, :1], one).state.layers[0].kept is one.layers[0].kept is not None
    with unchanged_parameters():  # another block: what was kept before may have changed
        assert model(tokens[:, :1], one).state.layers[0].kept not in (None, one.layers[0].kept)
    plain = make_model("mac")  # without memory tokens nothing ends with a segment
    with unchanged_parameters():
        state, kept = plain(tokens[:, :3]).state, []
        for t in range(3, 9):
            state = plain(tokens[:, t, None], state).state
            kept.append(state.layers[0].kept)
    assert kept[0] is not None
    assert all(one is kept[0] for one in kept)


@pytest.mark.parametrize("memory_tokens", [0, 2])
@torch.no_grad()
def test_users_who_come_and_go_in_a_block_of_unchanged_parameters_get_the_numbers_of_reading_alone(memory_tokens):
    """Where prefixes are kept: nobody goes on with another's, nor, begun again, with that of an earlier text."""
    model = make_model("mac", memory_tokens=memory_tokens)
    texts = [random_tokens(model, 1, count, seed=count)[0] for count in (2, 3, 5, 6, 7)]

    step = partial(a_token_for_each, model)
    with unchanged_parameters():
        first, states = texts[0], [model(text[None, -1:], state_at(model, text[:-1])).state for text in texts]
        assert all(state.layers[0].kept is not None for state in states)
        state, texts = step(ModelState.join(states), texts, 10)
        state, texts = step(model.reset(state, row(1)), [texts[0], row(0)[:0], *texts[2:]], 11)
        state, texts = step(state.select(torch.tensor([4, 1, 1, 0])), [texts[4], texts[1], texts[1], texts[0]], 12)
        state, texts = step(ModelState.join([*state.clone().split(), states[0]]), [*texts, first], 13)
        step(state, texts, 14)


@torch.no_grad()
def test_what_one_model_has_kept_is_not_anothers():
    model, state_of = make_model("mac"), {}
    other = copy.deepcopy(model)
    for block in other.blocks:
        block.mixer.persistent.mul_(3)
    with unchanged_parameters():
        state_of[0] = with_a_token(model)
        token = random_tokens(model, 1, 1, seed=3)
        assert_same({"logits": other(token, state_of[0]).logits}, {"logits": other(token, state_of[0].clone()).logits})


@torch.no_grad()
def test_a_state_with_another_start_of_its_segment_keeps_no_prefix_of_the_old_one():
    model = make_model("mac", memory_tokens=2, segment_len=16)
    with unchanged_parameters():
        layer = with_a_token(model).layers[0]
        moved = replace(layer, segment_weights=tuple(2 * weight for weight in layer.segment_weights))
    assert layer.kept is not None
    assert moved.kept is None


# ---- Mixers, memories and rules of one's own -------------------------------------------------------------------------


class Louder(MAC):
    """A MAC that reads its memory in another way."""

    def retrieve(self, weights, asked):
        return 2 * super().retrieve(weights, asked)


class Shifted(Attention):
    """Attention whose values are others."""

    def keys_values(self, x):
        k, v = super().keys_values(x)
        return k, v + 1


class Doubled(DeepMemory):
    """A memory that answers twice as much."""

    def read(self, weights, x):
        return 2 * super().read(weights, x)


def with_attention(config: TitansConfig) -> MAC:
    mixer = MAC(config)
    mixer.attention = Shifted(config.dim, config.heads, config.head_size)
    return mixer


def with_memory(config: TitansConfig) -> MAC:
    mixer = MAC(config)
    old = mixer.memory.memory
    mixer.memory.memory = Doubled(old.dim, old.heads, old.depth, config.memory_expansion)
    return mixer


MIXERS = {"retrieve": Louder, "attention": with_attention, "memory": with_memory, "lesson 07": WithoutResidual}


@pytest.mark.parametrize("mixer", MIXERS.values(), ids=MIXERS)
@torch.no_grad()
def test_mixers_of_ones_own_read_single_tokens_as_they_read_several(mixer):
    """Also from rows that were joined at different places."""
    model = make_model("mac", lambda config: TitansLM(config, {"mac": mixer}))
    users = [random_tokens(model, 1, place + 3, seed=place)[0] for place in (0, 3, 6, 9)]
    state = ModelState.join([state_at(model, tokens[:-3]) for tokens in users])
    for t in (-3, -2, -1):
        output = model(torch.stack([tokens[t, None] for tokens in users]), state)
        state = output.state
        for number, tokens in enumerate(users):
            want = model(tokens[: len(tokens) + t + 1][None]).logits[:, -1:]
            assert_same({"logits": output.logits[number]}, {"logits": want[0]})


class Plain:
    """A memory of one matrix that knows no layers."""

    def __init__(self, dim, heads):
        self.dim, self.heads, self.shapes, self.signature = dim, heads, [torch.Size((heads, dim, dim))], "plain"

    def initial_state(self, batch):
        weights = (0.1 * torch.eye(self.dim).double().expand(batch, *self.shapes[0]).clone(),)
        return MemoryState(weights, weights, signature=self.signature)

    def read(self, weights, x):
        return x @ weights[0].mT


class Halved(Momentum):
    """The paper's rule, half as fast."""

    @property
    def signature(self):
        return "halved"

    def step(self, memory, weights, carried, at, token):
        token = token._replace(gates=token.gates._replace(theta=token.gates.theta / 2))
        return super().step(memory, weights, carried, at, token)


def with_rule(variant: str, config: TitansConfig):
    mixer = BLOCKS[variant](config)
    mixer.memory.rule = Halved()
    return mixer


def with_plain_memory(variant: str, config: TitansConfig):
    mixer = BLOCKS[variant](config)
    old, dim, heads = mixer.memory, config.dim, config.memory_heads
    mixer.memory = NeuralMemory(dim, heads, chunk_size=old.chunk_size, memory=Plain(dim // heads, heads))
    return mixer


@pytest.mark.parametrize("change", [with_rule, with_plain_memory])
@pytest.mark.parametrize("variant", ["mac", "mag", "lmm"])
@torch.no_grad()
def test_rules_and_memories_of_ones_own_are_read_at_any_places_too(variant, change):
    config = TitansConfig(variant, **SMALL)
    torch.manual_seed(0)
    model = TitansLM(config, {variant: partial(change, variant)}).double()
    users = [random_tokens(model, 1, place + 2, seed=place)[0] for place in (1, 3, 5)]
    state = ModelState.join([state_at(model, tokens[:-2]) for tokens in users])
    for t in (-2, -1):
        output = model(torch.stack([tokens[t, None] for tokens in users]), state)
        state = output.state
        for number, tokens in enumerate(users):
            want = model(tokens[: len(tokens) + t + 1][None]).logits[0, -1:]
            assert_same({"logits": output.logits[number]}, {"logits": want})


class Running(nn.Module):
    """A mixer whose state is a tuple: the mean of what it has read."""

    def __init__(self, config):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(config.dim))

    def initial_state(self, batch):
        return None

    def forward(self, x, state=None):
        total, count = state or (0, 0)
        totals = total + x.cumsum(1)
        counts = count + torch.arange(1, x.shape[1] + 1)
        return self.scale * totals / counts[:, None], (totals[:, -1:], int(counts[-1]))


@torch.no_grad()
def test_a_mixer_may_carry_what_it_likes():
    model = TitansLM(TitansConfig("lmm", **SMALL), {"lmm": Running})
    tokens = random_tokens(model, 2, 6)
    state, logits = None, []
    for t in range(6):
        output = model(tokens[:, t, None], state)
        state = output.state
        logits.append(output.logits)
    torch.testing.assert_close(torch.cat(logits, 1), model(tokens).logits)


def test_numbers_that_are_none_are_refused_for_a_single_token_too():
    model = make_model("lmm")
    state = model(random_tokens(model, 1, 3)).state.detach()
    with torch.no_grad():
        model.blocks[0].mixer.memory.to_gates.bias[0] = torch.nan
        refused(ValueError, lambda: model(torch.zeros(1, 1, dtype=torch.long), state), "gates must be in [0, 1]", "nan")


@pytest.mark.parametrize("noted", [True, False])
def test_layers_of_another_model_are_looked_at(noted):
    """Whatever has made them: a note says of whom, and of how many rows; what changes a state leaves it out."""
    model, other, token = make_model("mac"), make_model("mac", segment_len=8), torch.zeros(2, 1, dtype=torch.long)
    with torch.no_grad():
        made = [m(random_tokens(m, rows, 7)).state for m, rows in ((model, 2), (other, 2), (model, 3))]
    assert all(layer.made_by for state in made for layer in state.layers)
    state, theirs, three = made if noted else [state.detach() for state in made]
    shorter = state.with_tensors([tensor[..., :-1] for tensor in state.tensors().values()])
    refused(ValueError, lambda: model(token, replace(state, layers=theirs.layers)), "place_in_segment must be")
    refused(ValueError, lambda: model(token, replace(state, layers=three.layers)), "state.layers[0]")
    refused(ValueError, lambda: model(token, shorter), "state.layers[0].recent must have the shapes")
    refused(ValueError, lambda: model(token, state.to(torch.float32)), "state belongs to another dtype")


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_a_model_that_was_cast_or_moved_looks_at_its_own_states_again(variant):
    """And so does a layer of memory."""
    model, layer = make_model(variant), NeuralMemory(8).double()
    token, x = torch.zeros(2, 1, dtype=torch.long), torch.zeros(2, 1, 8)
    state, of_layer = model(random_tokens(model, 2, 5)).state, layer(x.double())[1]
    model.float(), layer.float()
    refused(ValueError, lambda: model(token, state), "state belongs to another dtype")
    refused(ValueError, lambda: layer(x, of_layer), "state belongs to another dtype")
    model.double().to("meta"), layer.double().to("meta")
    refused(ValueError, lambda: model(token.to("meta"), state), "state must be on device meta, got cpu")
    refused(ValueError, lambda: layer(x.double().to("meta"), of_layer), "state belongs to another device")


def test_no_two_modules_make_the_same_note_in_other_processes_neither():
    """By the number that the first one got; a package that is imported anew stands for another process."""
    serials = [module.serial for module in make_model("mac").modules() if hasattr(module, "serial")]
    assert len(set(serials)) == len(serials) == 4
    anew = library(titans.state, "SERIALS = count", "SERIALS = count")
    assert abs(next(anew.state.SERIALS) - serials[0]) > 10**6


@pytest.mark.parametrize("lengths", [[5, 4, 3, 8, 20], [*[4] * 100, 6]], ids=["few", "many of one segment"])
@torch.no_grad()
def test_a_state_of_packed_documents_holds_its_own_numbers_alone(lengths):
    """The last one goes on where a hundred others have ended, in the middle of its segment."""
    model, total = make_model("mac"), sum(lengths)
    starts = torch.zeros(1, total, dtype=torch.bool)
    starts[0, torch.tensor([0, *lengths]).cumsum(0)[:-1]] = True
    state = model(random_tokens(model, 1, total), starts=starts).state
    held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in state.tensors().values()}
    assert sum(held.values()) <= 1.5 * sum(t.nbytes for t in state.tensors().values())


class Count(TorchDispatchMode):
    """How many operations reach torch's dispatcher."""

    operations = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.operations += 1
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("variant", VARIANTS)
@torch.no_grad()
def test_a_token_costs_at_most_300_operations_a_layer(variant):
    """2,550 for two layers of MAC before a token had its own path."""
    counts = []
    for layers in (1, 2):
        model = TitansLM(TitansConfig(variant, vocab_size=16, dim=32, layers=layers))
        token = torch.zeros(1, 1, dtype=torch.long)
        state = model(token, model(token.expand(1, 5)).state).state
        with unchanged_parameters():
            state = model(token, state).state
            with Count() as count:
                model(token, state)
        counts.append(count.operations)
    assert counts[1] - counts[0] <= 300, counts
