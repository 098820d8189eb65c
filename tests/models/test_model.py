"""TitansLM of every variant: what DESIGN calls truths 2, 3, 5, 6 and 7, losses, states as files, and generation."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.proofs import model_proofs
from tests.proofs.literal_mac import literal
from tests.proofs.model_proofs import (
    MODELS,
    WITH_MEMORY,
    assert_identical_states,
    assert_same_states,
    embedded,
    facts_of,
    influence,
    make_model,
    memories,
    plain_rms_norm,
    plain_silu,
    random_tokens,
    run_in_pieces,
    tensors_of,
)
from tests.proofs.proofs import assert_same
from titans import ModelState, TitansConfig, TitansLM
from titans.config import VARIANTS
from titans.model import Block, SwiGLU, sampler
from titans.observe import closed

each_variant = pytest.mark.parametrize("variant", VARIANTS)
each_model = pytest.mark.parametrize("name", MODELS)


def model_of(name: str) -> TitansLM:
    """A model of one layer, where that is enough."""
    variant, options = MODELS[name]
    return make_model(variant, **({"layers": 1} | options))


# ---- What surrounds the mixers ---------------------------------------------------------------------------------------


def test_the_feed_forward_network_is_swiglu():
    torch.manual_seed(0)
    network, x = SwiGLU(6, 1.5).double(), torch.randn(2, 5, 6, dtype=torch.float64)
    W_1, W_2, W_3 = (layer.weight for layer in (network.W_1, network.W_2, network.W_3))
    assert W_1.shape == (9, 6)
    want = (plain_silu(x @ W_1.T) * (x @ W_2.T)) @ W_3.T
    assert_same({"y": network(x)}, {"y": want}, 1e-14)
    assert SwiGLU(4, 0.1).W_1.weight.shape == (1, 4)  # never without a hidden unit


@each_variant
def test_a_block_adds_mixer_and_network_to_what_came_in_and_logits_are_normalised(variant):
    model = make_model(variant, layers=1)
    (block,), tokens = model.blocks, random_tokens(model, 2, 6)
    x = model.embedding.weight[tokens]
    mixed, _ = block.mixer(plain_rms_norm(x, block.norm_mixer), block.initial_state(2))
    x = x + mixed
    x = x + block.ffn(plain_rms_norm(x, block.norm_ffn))
    want = plain_rms_norm(x, model.norm) @ model.head.weight.T
    assert_same({"logits": model(tokens).logits}, {"logits": want}, 1e-12)


# ---- Truth 2: splits -------------------------------------------------------------------------------------------------


@each_model
def test_D10_single_tokens_give_what_one_call_gives(name):
    model_proofs.splitting_changes_nothing(model_of(name), 9, range(1, 9))


@each_variant
@settings(max_examples=12)
@given(data=st.data())
def test_D10_splitting_a_sequence_changes_nothing(variant, data):
    sizes = {name: st.integers(1, 7) for name in ("segment_len", "window", "chunk_size")}
    sizes |= {"conv_width": st.integers(1, 5), "persistent_tokens": st.integers(0, 4), "layers": st.integers(1, 2)}
    sizes |= {"memory_depth": st.integers(1, 3), "memory_residual": st.booleans()}
    if variant == "mac":
        sizes["memory_tokens"] = st.integers(0, 2)
    options = data.draw(st.fixed_dictionaries(sizes))
    tokens = data.draw(st.integers(1, 17))
    cuts = data.draw(st.sets(st.integers(1, 16)))
    model = make_model(variant, seed=data.draw(st.integers(0, 1000)), **options)
    model_proofs.splitting_changes_nothing(model, tokens, sorted(cut for cut in cuts if cut < tokens))


@each_variant
def test_D7_gradients_flow_from_call_to_call(variant):
    model_proofs.gradients_flow_through_calls(make_model(variant), 11, [1, 4, 6])


@each_variant
def test_D7_detach_cuts_the_gradient_to_earlier_calls(variant):
    model = make_model(variant, segment_len=8, window=8)
    tokens = random_tokens(model, 1, 6)
    x = model.embedding(tokens).detach().requires_grad_()
    with embedded(model, x):
        state = model(tokens).state
    for cut in (state, state.detach()):
        logits = model(tokens, cut).logits
        (gradient,) = torch.autograd.grad(logits.square().sum(), x, allow_unused=True, retain_graph=True)
        assert (gradient is not None) == (cut is state)
    assert not any(tensor.requires_grad for tensor in tensors_of(state.detach()).values())


@each_variant
def test_a_stream_without_gradients_holds_no_graph(variant):
    model = make_model(variant)
    with torch.no_grad():
        _, state = run_in_pieces(model, random_tokens(model, 2, 11), [3, 4])
    assert not any(tensor.requires_grad or tensor.grad_fn for tensor in tensors_of(state).values())
    _, state = model.generate(random_tokens(model, 2, 5), 3)
    assert not any(tensor.requires_grad or tensor.grad_fn for tensor in tensors_of(state).values())


# ---- Truth 3: causality ----------------------------------------------------------------------------------------------


@each_model
def test_D3_no_logit_depends_on_a_later_token_and_all_on_earlier_ones(name):
    model_proofs.is_causal(model_of(name), 9)


@each_variant
@pytest.mark.parametrize("tokens", [1, 8, 13])
def test_D3_nor_in_two_layers_where_a_segment_is_whole_or_hardly_begun(variant, tokens):
    model_proofs.is_causal(make_model(variant), tokens)


def excess_after_training(kind: type[TitansLM], variant: str) -> float:
    """How far a trained model is from guessing, on new random tokens, in standard errors: negative is better.

    Nobody can foretell tokens that are drawn at random and independently: below ln(vocab) there is only the future.
    """
    torch.manual_seed(0)
    vocab = 4
    sizes = {"dim": 16, "segment_len": 2, "chunk_size": 4, "window": 4, "memory_depth": 1, "persistent_tokens": 1}
    model = kind(TitansConfig(variant, vocab, layers=1, **sizes))
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    for _ in range(60):
        tokens = torch.randint(vocab, (32, 8))
        optimizer.zero_grad()
        model(tokens, labels=tokens).loss.backward()
        optimizer.step()
    tokens = torch.randint(vocab, (2048, 8))
    with torch.no_grad():
        logits = model(tokens).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(logits.mT, tokens[:, 1:], reduction="none").mean(1)  # one a row
    return float((losses.mean() - math.log(vocab)) / (losses.std() / len(losses) ** 0.5))


@pytest.mark.parametrize("variant", ["mac", "mag"])
def test_D3_training_on_random_tokens_finds_nothing_to_predict(variant):
    assert excess_after_training(TitansLM, variant) > -3


def test_D3_read_literally_MAC_foretells_random_tokens():
    """The same training, so the test above can fail."""
    assert excess_after_training(literal(), "mac") < -20


# ---- Truth 5: independence and determinism ---------------------------------------------------------------------------


@each_model
def test_rows_of_a_batch_never_influence_one_another(name):
    model_proofs.rows_are_independent(model_of(name))


@each_model
def test_a_call_repeats_itself_bit_for_bit_and_changes_nothing(name):
    model_proofs.repeats_itself(model_of(name))


# ---- Truth 6: nothing is NaN -----------------------------------------------------------------------------------------


def hard_tokens(tokens: int) -> Tensor:
    """Five rows: noise, one token, two in turn, one passage again and again, and long runs."""
    noise, place = torch.randint(7, (tokens,), generator=torch.Generator().manual_seed(0)), torch.arange(tokens)
    return torch.stack((noise, 0 * place, place % 2, noise[place % 64], place // 100 % 7))


def wild_model(variant: str, scale: float, **options) -> TitansLM:
    """Fresh for scale 1; else every tensor random, none at its careful start, and scaled up."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 7, "dim": 8, "layers": 1, "segment_len": 64, "window": 64, "chunk_size": 64}
    model = TitansLM(TitansConfig(variant, **(sizes | options)))
    with torch.no_grad():
        if scale != 1:
            for layer in memories(model):
                for weight in (*layer.memory.weights, layer.to_gates.weight):
                    weight.normal_(0, weight.shape[-1] ** -0.5)
        for weight in model.parameters():
            weight.mul_(scale)
    return model


def assert_stream_is_finite(model: TitansLM, tokens: Tensor, piece: int) -> None:
    state = None
    with torch.no_grad():
        for part in tokens.split(piece, dim=1):
            logits, _, state = model(part, state)
            for name, tensor in ({"logits": logits} | tensors_of(state)).items():
                assert tensor.isfinite().all(), name


@each_variant
def test_D12_long_streams_stay_finite(variant):
    tokens = 20_000 if variant == "mac" else 5_000
    assert_stream_is_finite(wild_model(variant, 1), hard_tokens(tokens), 2_500)


@each_variant
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("scale", "depth", "residual"), [(1, 2, False), (3, 2, True), (3, 3, False)])
def test_D12_no_tokens_and_no_weights_give_nan_or_inf(variant, dtype, scale, depth, residual):
    model = wild_model(variant, scale, memory_depth=depth, memory_residual=residual).to(dtype)
    assert_stream_is_finite(model, hard_tokens(1000), 555)
    assert model(torch.zeros(1, 1, dtype=torch.int64)).logits.dtype == dtype


@each_variant
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_D12_gradients_are_finite_too(variant, dtype):
    model, tokens = wild_model(variant, 3).to(dtype), hard_tokens(200)
    model(tokens, labels=tokens).loss.backward()
    for name, weight in model.named_parameters():
        assert not weight.numel() or weight.grad.isfinite().all(), name


@each_variant
def test_D12_not_even_embeddings_at_the_end_of_float32_give_nan(variant):
    model, tokens = wild_model(variant, 1), hard_tokens(100)
    x = model.embedding(tokens).detach() * 1e38
    with embedded(model, x):
        assert_stream_is_finite(model, tokens, 100)


# ---- Truth 7: the memory works ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", WITH_MEMORY)
@pytest.mark.parametrize("options", [{}, {"memory_depth": 3}, {"memory_depth": 1, "chunk_size": 16}], ids=str)
def test_the_first_segment_reaches_the_last_logits_through_writes_alone(variant, options):
    model_proofs.memory_carries_from_the_first_segment_to_the_last(make_model, variant, **options)


def test_without_a_memory_no_layer_sees_beyond_its_segment():
    model = make_model("attention", layers=3)
    assert (influence(model, random_tokens(model, 1, 24), [-1])[:, :-4] == 0).all()


@pytest.mark.parametrize("variant", WITH_MEMORY)
def test_writing_changes_the_logits(variant):
    model = make_model(variant, forgetting=False)
    tokens = random_tokens(model, 2, 12)
    assert (model(tokens).logits - closed(model)(tokens).logits).norm() > 1e-3


@each_model
def test_every_learned_tensor_gets_a_gradient(name):
    """Where momentum or forgetting is off nothing asks for their part of the gates; every tensor still learns."""
    model_proofs.every_parameter_learns(model_of(name), 11)


@each_variant
def test_a_fresh_model_learns_in_every_tensor(variant):
    """At the start M_0 answers zero and gates do not look at tokens; that must not be a place without slopes."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 7, "dim": 8, "segment_len": 4, "window": 4, "chunk_size": 3}
    model_proofs.every_parameter_learns(TitansLM(TitansConfig(variant, **sizes)).double(), 13)


@pytest.mark.parametrize("variant", WITH_MEMORY)
def test_every_gate_of_every_head_and_memory_layer_learns(variant):
    model = make_model(variant, forget_layers="all")  # else alpha's gates of hidden layers have nothing to say
    tokens = random_tokens(model, 2, 13)
    model(tokens, labels=tokens).loss.backward()
    for layer in memories(model):
        assert (layer.to_gates.bias.grad.abs() > 1e-12).all()
        assert (layer.conv.weight.grad.flatten(1).norm(dim=1) > 1e-12).all()
        for weight in layer.memory.weights:
            assert (weight.grad.flatten(1).norm(dim=1) > 1e-12).all()


# ---- Losses ----------------------------------------------------------------------------------------------------------


@each_variant
def test_the_loss_is_the_mean_cross_entropy_of_the_labels_that_count(variant):
    model_proofs.loss_is_the_cross_entropy_of_the_next_token(make_model(variant))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_where_no_label_counts_the_loss_is_zero_and_so_is_its_gradient(dtype):
    model = make_model("mac").to(dtype)
    for tokens, labels in ((4, -100), (1, 3)):  # the first token is never predicted
        model.zero_grad()
        x = random_tokens(model, 2, tokens)
        loss = model(x, labels=torch.full_like(x, labels)).loss
        assert loss == 0
        loss.backward()
        assert all(weight.grad is None or not weight.grad.any() for weight in model.parameters())


@each_variant
def test_the_loss_is_at_least_of_single_precision(variant):
    model = make_model(variant)
    tokens = random_tokens(model, 2, 9)
    want = model(tokens, labels=tokens).loss
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        loss = model.to(dtype)(tokens, labels=tokens.int()).loss
        assert loss.dtype == torch.promote_types(dtype, torch.float32)
        assert abs(loss - want) < 10 * torch.finfo(dtype).eps * want
        loss.backward()


def test_labels_change_no_logit():
    model = make_model("mac")
    tokens = random_tokens(model, 2, 9)
    assert torch.equal(model(tokens, labels=tokens).logits, model(tokens).logits)
    assert model(tokens).loss is None


# ---- States ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "tokens"),
    [(name, 7) for name in MODELS] + [(variant, tokens) for variant in VARIANTS for tokens in (1, 8)],
)
def test_a_saved_state_is_read_back_bit_for_bit_and_goes_on_as_if_never_saved(name, tokens, tmp_path):
    model = model_of(name)
    x = random_tokens(model, 2, 11)
    state = model(x[:, :tokens]).state
    state.save(tmp_path / "state")
    loaded = ModelState.load(tmp_path / "state")
    assert_identical_states(loaded, state)
    kept, back = model(x[:, tokens:], state), model(x[:, tokens:], loaded)
    assert torch.equal(kept.logits, back.logits)
    assert_identical_states(kept.state, back.state)


@each_variant
def test_a_whole_model_and_its_state_can_be_pickled_and_copied(variant, tmp_path):
    """As torch.save, processes of their own and copy.deepcopy do."""
    model = make_model(variant)
    tokens = random_tokens(model, 2, 9)
    torch.save((model, model(tokens[:, :5]).state.detach()), tmp_path / "both")
    loaded, state = torch.load(tmp_path / "both", weights_only=False)
    for again in (loaded, copy.deepcopy(model)):
        assert torch.equal(again(tokens[:, 5:], state).logits, model(tokens[:, 5:], state).logits)


@each_variant
def test_a_fresh_state_is_what_a_sequence_starts_from(variant, tmp_path):
    model = make_model(variant)
    tokens = random_tokens(model, 2, 5)
    want = model(tokens)
    model.initial_state(2).save(tmp_path / "state")
    for state in (model.initial_state(2), ModelState.load(tmp_path / "state")):
        got = model(tokens, state)
        assert torch.equal(got.logits, want.logits)
        assert_identical_states(got.state, want.state)


@each_variant
def test_a_state_can_be_moved_and_cast(variant):
    model = make_model(variant)
    state = model(random_tokens(model, 2, 7)).state
    single = state.to(torch.float32)
    assert {tensor.dtype for tensor in tensors_of(single).values()} == {torch.float32}
    assert facts_of(single) == facts_of(state)
    away = state.to("meta")
    assert {tensor.device.type for tensor in tensors_of(away).values()} == {"meta"}
    tokens = random_tokens(model, 2, 4, seed=2)
    got = model.float()(tokens, single).logits
    assert_same({"logits": got.double()}, {"logits": model.double()(tokens, state).logits}, 1e-3)


@each_variant
def test_one_state_can_be_gone_on_from_twice(variant):
    """Two continuations of one beginning do not touch each other."""
    model = make_model(variant)
    state = model(random_tokens(model, 2, 6)).state
    one, other = (random_tokens(model, 2, 7, seed=seed) for seed in (3, 4))
    before = model(one, state)
    model(other, state)
    after = model(one, state)
    assert torch.equal(before.logits, after.logits)
    assert_identical_states(before.state, after.state)


# ---- Generation ------------------------------------------------------------------------------------------------------


@each_variant
@pytest.mark.parametrize("prompt", [1, 14])
def test_greedy_generation_is_the_argmax_of_full_calls(variant, prompt):
    """Prompts of one token, and longer than chunk, segment and window; the state is that of all tokens but the last."""
    model_proofs.greedy_generation_is_the_argmax_of_full_calls(make_model(variant), prompt)


@each_variant
def test_generation_goes_on_from_a_state(variant):
    model = make_model(variant)
    tokens = random_tokens(model, 2, 9)
    whole, whole_state = model.generate(tokens, 6)
    rest, rest_state = model.generate(tokens[:, 5:], 6, model(tokens[:, :5]).state)
    assert torch.equal(rest, whole[:, 5:])
    first, state = model.generate(tokens, 2)
    more, more_state = model.generate(first[:, -1:], 4, state)
    assert torch.equal(torch.cat((first[:, :-1], more), dim=1), whole)
    for other in (rest_state, more_state):
        assert_same_states(other, whole_state)


@each_variant
def test_a_row_is_generated_as_if_alone(variant):
    model = make_model(variant)
    tokens = random_tokens(model, 3, 5)
    together, _ = model.generate(tokens, 5)
    for row in range(3):
        alone, _ = model.generate(tokens[row : row + 1], 5)
        assert torch.equal(alone[0], together[row])


def test_one_seed_gives_one_result_and_the_global_generator_is_used_only_without_one():
    model = make_model("mac")
    tokens = random_tokens(model, 2, 5)

    def sample(seed: int | None) -> list[list[int]]:
        return model.generate(tokens, 10, temperature=1.0, seed=seed)[0].tolist()

    before = torch.get_rng_state()
    assert sample(1) == sample(1)
    assert len({str(sample(seed)) for seed in range(3)}) == 3
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(3)
    first = sample(None)
    assert first != sample(None)
    torch.manual_seed(3)
    assert sample(None) == first


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_row_that_stopped_goes_on_with_the_stop_token(variant):
    model_proofs.a_row_that_stopped_goes_on_with_the_stop_token(make_model(variant))


def test_generation_ends_when_every_row_has_stopped():
    model = make_model("mac")
    tokens = random_tokens(model, 1, 5)
    free, _ = model.generate(tokens, 12)
    stop = int(free[0, 7])
    cut, state = model.generate(tokens, 12, stop_token=stop)
    length = 5 + free[0, 5:].tolist().index(stop) + 1
    assert torch.equal(cut, free[:, :length])
    assert_same_states(state, model(cut[:, :-1]).state)
    given = torch.full((1, 3), stop)  # a stop token in the prompt does not stop
    assert model.generate(given, 1, stop_token=stop)[0].shape == (1, 4)


@each_variant
def test_generation_works_in_bfloat16_and_with_int32_tokens(variant):
    model = make_model(variant).bfloat16()
    tokens = random_tokens(model, 2, 5)
    for options in ({}, {"temperature": 0.8, "top_k": 3, "top_p": 0.9, "seed": 0}):
        made, state = model.generate(tokens, 5, **options)
        assert made.shape == (2, 10)
        assert ((made >= 0) & (made < 7)).all()
        assert torch.equal(made, model.generate(tokens.int(), 5, **options)[0])
        assert all(tensor.isfinite().all() for tensor in tensors_of(state).values())


# What the sampler draws, by the exact chances of each token.

LOGITS = torch.tensor([0.0, 2.0, -1.0, 1.0, 0.5], dtype=torch.float64)
ROWS = 20_000


def shares(temperature: float, top_k: int | None = None, top_p: float | None = None) -> Tensor:
    """How often each token is drawn."""
    choose = sampler(temperature, top_k, top_p, torch.Generator().manual_seed(0))
    chosen = choose(LOGITS.expand(ROWS, 5))
    assert chosen.shape == (ROWS, 1)
    return chosen[:, 0].bincount(minlength=5) / ROWS


def assert_drawn_by(got: Tensor, chances: Tensor) -> None:
    """Shares within five standard errors; what has no chance is never drawn."""
    error = (chances * (1 - chances) / ROWS).sqrt()
    assert ((got - chances).abs() <= 5 * error).all(), (got, chances)


@pytest.mark.parametrize("temperature", [0.5, 1, 3.0])
def test_tokens_are_drawn_by_softmax_of_logits_over_temperature(temperature):
    chances = (LOGITS / temperature).exp()
    assert_drawn_by(shares(temperature), chances / chances.sum())


@pytest.mark.parametrize("top_k", [1, 2, 4, 5, 50])
def test_top_k_keeps_the_k_likeliest(top_k):
    allowed = LOGITS.sort(descending=True).values[min(top_k, 5) - 1] <= LOGITS
    chances = LOGITS.exp() * allowed
    assert_drawn_by(shares(1.0, top_k=top_k), chances / chances.sum())


@pytest.mark.parametrize("top_p", [1e-9, 0.3, 0.55, 0.62, 0.8, 0.99, 1.0])
def test_top_p_keeps_the_fewest_likeliest_that_add_up_to_p(top_p):
    chances = torch.softmax(LOGITS, dim=0)
    kept, total = torch.zeros(5), 0.0
    for token in LOGITS.argsort(descending=True):
        if total < top_p:
            kept[token] = 1
        total += float(chances[token])
    chances = chances * kept
    assert_drawn_by(shares(1.0, top_p=top_p), chances / chances.sum())


def test_top_k_and_top_p_together_keep_what_both_keep():
    chances = torch.softmax(LOGITS, dim=0) * torch.tensor([0, 1, 0, 1, 0])
    assert_drawn_by(shares(1.0, top_k=2, top_p=0.95), chances / chances.sum())
    assert_drawn_by(shares(1.0, top_k=4, top_p=0.6), chances / chances.sum())


@pytest.mark.parametrize("options", [{"top_k": 1}, {"top_p": 1e-6}, {"temperature": 1e-30}, {"temperature": 5e-324}])
def test_the_narrowest_choices_are_greedy(options):
    """However low the temperature, no quotient overflows."""
    model = make_model("mac")
    tokens = random_tokens(model, 2, 5)
    made, _ = model.generate(tokens, 7, **({"temperature": 1.0} | options), seed=0)
    assert torch.equal(made, model.generate(tokens, 7)[0])


def test_the_highest_temperature_draws_evenly():
    assert_drawn_by(shares(1e300), torch.full((5,), 0.2))


def test_blocks_are_what_the_configuration_says():
    model = TitansLM(TitansConfig("mag", layers=3, ffn_expansion=1.5))
    assert [type(block) for block in model.blocks] == [Block] * 3
    assert model.blocks[0].ffn.W_1.weight.shape == (96, 64)
    assert replace(model.config, layers=3) == model.config
