"""A sliding window in MAC, memories in some layers, reads that are added, dropout, rows of a state, autocast."""

from __future__ import annotations

import pytest
import torch

from tests.proofs import model_proofs
from tests.proofs.model_proofs import (
    assert_identical_states,
    assert_same_states,
    attention_of,
    influence,
    make_model,
    memories,
    plain_attend,
    random_tokens,
    rows_of,
    tensors_of,
)
from tests.proofs.proofs import assert_same
from tests.refusals.refused import refused
from titans import TitansConfig
from titans.attention import Attention, Seen
from titans.blocks import MAC, SegmentAttention
from titans.observe import closed

OPTIONS = {
    "sliding": {"sliding": True, "window": 6},
    "sliding, window of 1": {"sliding": True, "window": 1},
    "sliding, shorter than a segment": {"sliding": True, "window": 3, "memory_tokens": 2, "chunk_size": 9},
    "sliding, one window": {"sliding": True, "window": 32, "persistent_tokens": 0},
    "a memory in layer 1": {"memory_layers": (1,)},
    "a memory in layer 2, sliding": {"memory_layers": (2,), "sliding": True, "window": 5},
    "added, not gated": {"memory_gate": False},
    "dropout": {"dropout": 0.5},
}
each_option = pytest.mark.parametrize("name", OPTIONS)


def model_of(name: str, **more):
    return make_model("mac", **(OPTIONS[name] | more)).eval()


@each_option
def test_D10_any_split_gives_what_one_call_gives(name):
    model_proofs.splitting_changes_nothing(model_of(name), 11, range(1, 11))
    model_proofs.splitting_changes_nothing(model_of(name), 13, [3, 4, 9])


@each_option
def test_gradients_flow_through_calls(name):
    model_proofs.gradients_flow_through_calls(model_of(name), 9, [2, 5])


@each_option
def test_D3_nothing_sees_the_future_and_everything_the_past(name):
    model_proofs.is_causal(model_of(name), 11)


@each_option
def test_rows_are_independent(name):
    model_proofs.rows_are_independent(model_of(name))


@each_option
def test_every_learned_tensor_gets_a_gradient(name):
    model_proofs.every_parameter_learns(model_of(name), 11)


@each_option
def test_generation_is_the_argmax_of_full_calls(name):
    model_proofs.greedy_generation_is_the_argmax_of_full_calls(model_of(name), 6)


@pytest.mark.parametrize("name", [name for name in OPTIONS if name != "dropout"])
def test_a_call_again_gives_the_same_bits_in_train_mode_too(name):
    model_proofs.repeats_itself(model_of(name))


# ---- The sliding window ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 3, 5, 20])
def test_attention_sees_the_window_up_to_itself_in_every_stream(window):
    """Token by token, with rotary positions as complex numbers; in one call, and with earlier tokens kept."""
    torch.manual_seed(0)
    q, *streams = torch.randn(5, 2, 3, 9, 4, dtype=torch.float64)
    (h_k, h_v, x_k, x_v), prefix = streams, tuple(torch.randn(2, 2, 3, 2, 4, dtype=torch.float64))
    want = []
    for t in range(9):
        seen = [(prefix[0][:, :, j], prefix[1][:, :, j], None) for j in range(2)]
        for k, v in ((h_k, h_v), (x_k, x_v)):
            seen += [(k[:, :, j], v[:, :, j], t - j) for j in range(max(0, t - window + 1), t + 1)]
        want.append(plain_attend(q[:, :, t], seen))
    for cuts in ([9], [4, 5], [1] * 9):
        seen, outputs, begin = Seen(), [], 0
        for size in cuts:
            part = slice(begin, begin + size)
            pairs = ((h_k[:, :, part], h_v[:, :, part]), (x_k[:, :, part], x_v[:, :, part]))
            y, seen = Attention(12, 3, 4)(q[:, :, part], pairs, seen, prefix, window)
            outputs.append(y)
            begin += size
        assert_same({"y": torch.cat(outputs, dim=2)}, {"y": torch.stack(want, dim=2)}, 1e-12)
        assert {k.shape[2] for k in (*seen.keys, *seen.values)} == {min(9, window - 1)}


@pytest.mark.parametrize("window", [1, 3, 6])
def test_without_memory_a_layer_is_sliding_window_attention(window):
    model = make_model("attention", layers=1, sliding=True, window=window)
    (block,), x = model.blocks, torch.randn(2, 9, 8, dtype=torch.float64)
    persistent, want = rows_of(block.mixer.persistent, 2), []
    for t in range(9):
        want.append(attention_of(block.mixer, x[:, t], persistent, [x[:, max(0, t - window + 1) : t + 1].unbind(1)]))
    assert_same({"y": block.mixer(x, block.initial_state(2))[0]}, {"y": torch.stack(want, dim=1)})


@pytest.mark.parametrize("window", [1, 3, 6])
def test_with_a_still_memory_mac_sees_its_window_and_no_more(window):
    """Over borders of segments, of 4 tokens each; what is further away reaches it through writes alone."""
    model = make_model("mac", layers=1, sliding=True, window=window, conv_width=1, forgetting=False)
    tokens = random_tokens(model, 1, 13)
    distance = torch.arange(13)[:, None] - torch.arange(13)
    near = (distance >= 0) & (distance < window)
    assert torch.equal(influence(closed(model), tokens) > 0, near)
    assert torch.equal(influence(model, tokens) > 0, distance >= 0)


def test_in_one_segment_a_window_that_holds_it_changes_nothing():
    plain, sliding = (make_model("mac", segment_len=16, window=16, sliding=sliding) for sliding in (False, True))
    sliding.load_state_dict(plain.state_dict())
    tokens = random_tokens(plain, 2, 16)
    assert_same({"logits": sliding(tokens).logits}, {"logits": plain(tokens).logits})


def test_a_sliding_state_stops_growing():
    model = model_of("sliding")
    sizes = {
        tokens: sum(tensor.numel() for tensor in tensors_of(model(random_tokens(model, 1, tokens)).state).values())
        for tokens in (5, 40, 41, 42, 43, 400)
    }
    assert sizes[5] <= sizes[40]
    assert len({size for tokens, size in sizes.items() if tokens >= 40}) == 1


# ---- Some layers with a memory; reads that are added -----------------------------------------------------------------


@pytest.mark.parametrize(("layers", "kinds"), [((2,), "aMa"), ((3, 1, 3), "MaM"), ((), "aaa"), ([1, 2, 3], "MMM")])
def test_the_layers_named_have_a_memory_and_the_others_attention_alone(layers, kinds):
    model = make_model("mac", layers=3, memory_layers=layers)
    assert [type(block.mixer) for block in model.blocks] == [MAC if kind == "M" else SegmentAttention for kind in kinds]
    assert len(memories(model)) == kinds.count("M")


def test_one_choice_of_layers_is_one_configuration():
    assert TitansConfig(layers=3, memory_layers=[3, 1, 3]) == TitansConfig(layers=3, memory_layers=(1, 3))
    assert len(TitansConfig(layers=3, memory_layers=(1, 3)).signature.split()) == len(TitansConfig().signature.split())


def test_without_the_gate_the_read_is_added_to_the_attention():
    combine = make_model("mac", layers=1, memory_gate=False).blocks[0].mixer.combine
    attention, memory = torch.randn(2, 3, 5, 8)
    assert torch.equal(combine(attention, memory), attention + memory)


# ---- Dropout ---------------------------------------------------------------------------------------------------------


def test_dropout_is_random_in_training_and_nothing_in_evaluation():
    plain, model = make_model("mac"), make_model("mac", dropout=0.5)
    model.load_state_dict(plain.state_dict())
    tokens = random_tokens(model, 2, 9)
    assert torch.equal(model.eval()(tokens).logits, plain(tokens).logits)
    one, other = model.train()(tokens).logits, model(tokens).logits
    assert (one - other).norm() > 1e-3
    torch.manual_seed(5)
    first = model(tokens).logits
    torch.manual_seed(5)
    assert torch.equal(model(tokens).logits, first)


def test_dropout_of_everything_leaves_the_embedding():
    model = make_model("mac", dropout=1.0).train()
    tokens = random_tokens(model, 2, 9)
    assert_same({"logits": model(tokens).logits}, {"logits": model.head(model.norm(model.embedding(tokens)))}, 1e-12)


def test_dropout_zeroes_its_share_and_scales_the_rest():
    (block,) = make_model("mac", layers=1, dropout=0.25).train().blocks
    kept = block.dropout(torch.ones(100_000))
    assert set(kept.unique().tolist()) == {0, torch.tensor(1 / 0.75).item()}
    assert abs((kept == 0).float().mean() - 0.25) < 0.01


# ---- Rows of a state -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["mac", "mag", "mal", "lmm", "attention"])
@pytest.mark.parametrize("tokens", [2, 7])
def test_rows_of_a_state_are_taken_repeated_and_put_in_another_order(variant, tokens):
    model = make_model(variant)
    x, rest = random_tokens(model, 3, tokens), random_tokens(model, 4, 5, seed=3)
    rows = torch.tensor([2, 0, 2, 1])
    state = model(x).state.select(rows)
    assert_same_states(state, model(x[rows]).state)
    got, want = model(rest, state), model(torch.cat((x[rows], rest), dim=1))
    assert_same({"logits": got.logits}, {"logits": want.logits[:, tokens:]})


def test_all_rows_in_order_are_the_state_itself():
    model = make_model("mac")
    state = model(random_tokens(model, 3, 6)).state
    assert_identical_states(state.select(torch.arange(3)), state)
    assert len(state.select(torch.arange(3)).tensors()) == len(state.tensors())  # what was shared still is


# ---- Autocast --------------------------------------------------------------------------------------------------------


def test_under_autocast_the_network_alone_is_in_half_precision():
    model = make_model("mac").float()
    tokens = random_tokens(model, 2, 11)
    want = model(tokens, labels=tokens)
    with torch.autocast("cpu", torch.bfloat16):
        got = model(tokens, labels=tokens)
        more = model(tokens, got.state)
    assert got.logits.dtype == torch.bfloat16
    assert 1e-6 < (got.logits.float() - want.logits).norm() / want.logits.norm() < 0.05
    assert {tensor.dtype for tensor in tensors_of(more.state).values()} == {torch.float32}
    got.loss.backward()
    assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.numel())


# ---- What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "kind", "parts"),
    [
        ({"dropout": -0.1}, ValueError, ("dropout must be in [0, 1]", "-0.1")),
        ({"dropout": 1.5}, ValueError, ("dropout must be in [0, 1]", "1.5")),
        ({"dropout": "0.1"}, TypeError, ("dropout must be a number", "'0.1'")),
        ({"sliding": 1}, TypeError, ("sliding must be True or False", "1")),
        ({"sliding": True, "variant": "mag"}, ValueError, ("sliding must be False unless", "'mag'")),
        ({"memory_gate": None}, TypeError, ("memory_gate must be True or False", "None")),
        ({"memory_gate": False, "variant": "mag"}, ValueError, ("memory_gate must be True unless", "'mag'")),
        ({"memory_layers": (0,)}, ValueError, ("memory_layers must be in [1, 2]", "0")),
        ({"memory_layers": (1, 3)}, ValueError, ("memory_layers must be in [1, 2]", "3")),
        ({"memory_layers": ("1",)}, TypeError, ("memory_layers must be an integer", "'1'")),
        ({"memory_layers": 1}, TypeError, ("memory_layers must be None or a tuple", "1")),
        ({"memory_layers": (1,), "variant": "lmm"}, ValueError, ("memory_layers must be None unless", "'lmm'")),
    ],
    ids=str,
)
def test_a_wrong_option_is_refused(options, kind, parts):
    refused(kind, lambda: TitansConfig(**options), *parts)
