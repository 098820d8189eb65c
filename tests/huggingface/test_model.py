"""TitansMACForCausalLM: calls, padding, states, files, and what transformers' own tests ask of a model."""

from __future__ import annotations

import copy
import inspect
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import init_empty_weights, load_checkpoint_and_dispatch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache

from tests.huggingface.models import make_config, make_model, no_warnings_of_transformers, random_ids
from tests.proofs.proofs import assert_same
from tests.refusals.edits import survivors
from tests.refusals.refused import INF, NAN, refused
from titans import ModelState, TitansLM
from titans.huggingface import TitansCache, TitansMACConfig, TitansMACForCausalLM

pytestmark = pytest.mark.filterwarnings("error")
LEFT, RIGHT, BOTH, HOLES = [0, 0, 0, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 0, 0, 0], [0, 1, 1, 1, 1, 0, 0, 0, 0], None
MASKS = {
    "left": [LEFT, [1] * 9, [0] * 8 + [1], [0, 1, 1, 1, 1, 1, 1, 1, 1]],
    "right": [RIGHT, [1] * 9, [1] + [0] * 8, RIGHT],
    "both, and holes": [BOTH, [1, 0, 1, 1, 0, 0, 1, 1, 1], [1] * 9, [1, 0] * 4 + [1]],
    "none": [[1] * 9] * 4,
}
each_mask = pytest.mark.parametrize("name", MASKS)


@pytest.fixture(autouse=True)
def logged():
    with no_warnings_of_transformers() as found:
        yield found


def mask_of(name: str) -> Tensor:
    return torch.tensor(MASKS[name])


# ---- Calls -----------------------------------------------------------------------------------------------------------


def test_the_program_that_the_project_advertises():
    torch.manual_seed(0)  # at a start where the empty memory's first answer is not all rounding
    config = TitansMACConfig(
        num_tokens=10000,
        d_model=256,
        depth=2,
        num_heads=4,
        dim_head=64,
        segment_len=32,
        num_longterm_mem_tokens=4,
        persistent_size=8,
        neural_memory_segment_len=36,
        context_window=256,
    )
    model = TitansMACForCausalLM(config)
    input_ids = torch.randint(0, config.num_tokens, (1, 16))
    outputs = model(input_ids=input_ids)
    generated = model.generate(input_ids, max_new_tokens=20)
    assert outputs.logits.shape == (1, 16, 10000)
    assert generated.shape == (1, 36)
    assert torch.equal(generated[:, :16], input_ids)
    with torch.no_grad():  # and its cached steps, over the borders of segment and chunk, are the whole
        whole, cache = model(generated.repeat(1, 2)).logits, TitansCache()
        steps = [model(token, past_key_values=cache).logits for token in generated.repeat(1, 2).split(1, dim=1)]
    assert (torch.cat(steps, dim=1) - whole).abs().max() < 1e-5


def test_same_input_twice_same_logits():
    model, ids = make_model(), random_ids(2, 13)
    for training in (True, False):
        model.train(training)
        assert torch.equal(model(ids).logits, model(ids).logits)


@pytest.mark.parametrize("tokens", [1, 2, 5, 40])
@pytest.mark.parametrize("options", [{}, {"sliding_window_attn": True, "context_window": 7}], ids=str)
def test_any_length_gives_exactly_its_own_length(tokens, options):
    """Shorter than a segment, and longer than any segment, chunk and window."""
    model = make_model(**options)
    assert model(random_ids(2, tokens)).logits.shape == (2, tokens, 49)
    assert model.generate(random_ids(2, tokens), max_new_tokens=3).shape == (2, tokens + 3)


def test_embeddings_in_place_of_tokens():
    model, ids = make_model(), random_ids(2, 13)
    x = model.get_input_embeddings()(ids)
    assert torch.equal(model(inputs_embeds=x).logits, model(ids).logits)
    assert torch.equal(model(inputs_embeds=x, labels=ids).loss, model(ids, labels=ids).loss)


def test_the_loss_is_the_mean_over_labels_that_count():
    model, ids = make_model().double(), random_ids(2, 9)
    labels = ids.clone()
    labels[0, 2], labels[1, 4:], labels[1, 1] = -100, -100, 3
    output = model(ids, labels=labels)
    chances = output.logits.log_softmax(-1)
    counted = [(row, t) for row in range(2) for t in range(1, 9) if labels[row, t] != -100]
    want = -sum(chances[row, t - 1, labels[row, t]] for row, t in counted) / len(counted)
    assert_same({"loss": output.loss}, {"loss": want}, 1e-6)  # the loss is in single precision
    plain = TitansLM(model.config.to_titans()).double()
    plain.load_state_dict(model.model.state_dict())
    assert_same({"loss": output.loss}, {"loss": plain(ids, labels=labels).loss}, 1e-6)
    assert_same(
        {"loss": model(ids, labels=labels, num_items_in_batch=26).loss}, {"loss": want * len(counted) / 26}, 1e-6
    )


@pytest.mark.parametrize("count", [None, 0, torch.tensor(0)])
def test_where_no_label_counts_the_loss_is_zero(count):
    model, ids = make_model(), random_ids(2, 9)
    loss = model(ids, labels=torch.full_like(ids, -100), num_items_in_batch=count).loss
    loss.backward()
    assert loss == 0
    assert not model.get_output_embeddings().weight.grad.any()


def test_hidden_states_are_embedding_and_layers_the_last_one_normalised():
    model, ids = make_model(depth=3), random_ids(2, 9)
    output = model(ids, output_hidden_states=True)
    assert [tuple(hidden.shape) for hidden in output.hidden_states] == [(2, 9, 16)] * 4
    assert torch.equal(output.hidden_states[0], model.get_input_embeddings()(ids))
    assert torch.equal(model.get_output_embeddings()(output.hidden_states[-1]), output.logits)
    assert model(ids).hidden_states is None
    model.config.output_hidden_states = True
    assert_same(dict(enumerate(model(ids).hidden_states)), dict(enumerate(output.hidden_states)), 0)


@pytest.mark.parametrize("keep", [1, 3, torch.tensor([0, 4]), 0, 99])
def test_logits_of_some_positions_are_those_of_all(keep):
    model, ids = make_model(), random_ids(2, 9)
    want = model(ids).logits
    assert_same(
        {"logits": model(ids, logits_to_keep=keep).logits},
        {"logits": want[:, keep] if isinstance(keep, Tensor) else want[:, -keep:]},
        1e-6,
    )


def test_a_tuple_holds_what_the_output_holds():
    model, ids = make_model(), random_ids(2, 9)
    output = model(ids, labels=ids, output_hidden_states=True)
    loss, logits, cache, hidden = model(ids, labels=ids, output_hidden_states=True, return_dict=False)
    assert torch.equal(loss, output.loss)
    assert torch.equal(logits, output.logits)
    assert isinstance(cache, TitansCache)
    assert all(map(torch.equal, hidden, output.hidden_states))
    model.config.return_dict = False
    assert torch.equal(model(ids)[0], logits)


def test_eager_attention_gives_the_same_by_the_plainest_kernel():
    model, ids = make_model(), random_ids(2, 13)
    eager = TitansMACForCausalLM._from_config(make_config(), attn_implementation="eager").eval()
    eager.load_state_dict(model.state_dict())
    assert_same({"logits": eager(ids).logits}, {"logits": model(ids).logits}, 1e-5)
    allowed, kernels = [], torch.backends.cuda  # its switches are those of all devices
    for one in (model, eager):
        hook = one.model.blocks[0].mixer.attention.W_O.register_forward_hook(
            lambda *_: allowed.append((kernels.math_sdp_enabled(), kernels.flash_sdp_enabled()))
        )
        one(ids)
        hook.remove()
    assert set(allowed[: len(allowed) // 2]) == {(True, True)}
    assert set(allowed[len(allowed) // 2 :]) == {(True, False)}


# ---- Padding ---------------------------------------------------------------------------------------------------------


@each_mask
@pytest.mark.parametrize(
    "options", [{}, {"sliding_window_attn": True, "context_window": 3}], ids=["segments", "window"]
)
def test_padding_changes_no_logit(name, options):
    model, ids, mask = make_model(**options).double(), random_ids(4, 9), mask_of(name)
    output = model(ids, attention_mask=mask, output_hidden_states=True)
    for row in range(4):
        own = mask[row].bool()
        alone = model(ids[row : row + 1, own], output_hidden_states=True)
        assert_same({"logits": output.logits[row, own]}, {"logits": alone.logits[0]})
        for got, want in zip(output.hidden_states, alone.hidden_states, strict=True):
            assert_same({"hidden": got[row, own]}, {"hidden": want[0]})
    for kind in (torch.bool, torch.float64):
        assert torch.equal(model(ids, attention_mask=mask.to(kind)).logits, output.logits)


@each_mask
def test_what_stands_at_padding_is_never_read(name):
    model, ids, mask = make_model(), random_ids(4, 9), mask_of(name)
    other = torch.where(mask.bool(), ids, (ids + 7) % 49)
    assert torch.equal(model(ids, attention_mask=mask).logits, model(other, attention_mask=mask).logits)


@pytest.mark.parametrize("name", ["left", "right", "none"])
def test_padding_changes_neither_loss_nor_gradients(name):
    """The loss of a padded batch is the mean over what its rows alone would predict; labels at padding do not count."""
    model, ids, mask = make_model().double(), random_ids(4, 9), mask_of(name)
    found = []
    for alone in (False, True):
        if alone:
            rows = [ids[row : row + 1, mask[row].bool()] for row in range(4)]
            chances = [model(row).logits.log_softmax(-1)[0, :-1].gather(1, row[:, 1:].T) for row in rows]
            loss = -torch.cat(chances).mean()
        else:
            loss = model(ids, attention_mask=mask, labels=ids).loss
        model.zero_grad()
        loss.backward()
        found.append({"loss": loss} | {key: weight.grad.clone() for key, weight in model.named_parameters()})
    assert_same(*found, 1e-5)


def test_a_label_at_a_hole_or_right_after_one_does_not_count():
    model, ids = make_model().double(), random_ids(1, 6)
    mask, counted = torch.tensor([[1, 1, 0, 1, 1, 1]]), [1, 4, 5]
    output = model(ids, attention_mask=mask, labels=ids)
    chances = output.logits[0].log_softmax(-1)
    assert_same({"loss": output.loss}, {"loss": -sum(chances[t - 1, ids[0, t]] for t in counted) / 3}, 1e-6)


def test_the_last_position_holds_what_comes_next_whichever_side_is_padded():
    model, ids = make_model().double(), random_ids(1, 9)
    want = model(ids).logits[0, -1]
    for left, right in ((3, 0), (0, 3), (2, 2)):
        padded = torch.cat((ids.new_zeros(1, left), ids, ids.new_zeros(1, right)), dim=1)
        mask = torch.tensor([[0] * left + [1] * 9 + [0] * right])
        assert_same({"logits": model(padded, attention_mask=mask).logits[0, -1]}, {"logits": want})


def test_a_row_without_a_token_gives_zeros_and_keeps_its_start():
    model, ids = make_model().double(), random_ids(2, 4)
    output = model(ids, attention_mask=torch.tensor([[0] * 4, [1] * 4]))
    assert not output.logits[0].any()
    both = torch.tensor([[0] * 4 + [1] * 4, [1] * 8])
    later = model(ids, attention_mask=both, past_key_values=output.past_key_values)
    assert_same({"logits": later.logits[0]}, {"logits": model(ids[:1]).logits[0]})


# ---- States ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{}, {"sliding_window_attn": True, "context_window": 7}], ids=["segments", "window"]
)
@pytest.mark.parametrize("cuts", [[1] * 23, [9, 14], [5, 5, 13], [22, 1]], ids=str)
def test_cached_steps_give_what_one_call_gives(cuts, options):
    model, ids = make_model(**options), random_ids(2, 23)
    whole, cache, logits = model(ids).logits, None, []
    for part in ids.split(cuts, dim=1):
        output = model(part, past_key_values=cache)
        cache = output.past_key_values
        logits.append(output.logits)
    assert (torch.cat(logits, dim=1) - whole).abs().max() < 1e-5
    assert cache.get_seq_length() == 23


@each_mask
def test_cached_steps_of_padded_rows_give_what_one_call_gives(name):
    """Masks of the new tokens alone, and, as transformers writes them, of all tokens so far."""
    model, ids, mask = make_model().double(), random_ids(4, 9), mask_of(name)
    whole = model(ids, attention_mask=mask).logits
    for over_all in (False, True):
        cache, begin = None, 0
        for size in (2, 1, 4, 2):
            part = slice(begin, begin + size)
            given = mask[:, : begin + size] if over_all else mask[:, part]
            output = model(ids[:, part], attention_mask=given, past_key_values=cache)
            cache, begin = output.past_key_values, begin + size
            own = mask[:, part].bool()
            assert_same({"logits": output.logits[own]}, {"logits": whole[:, part][own]})


def test_a_cache_is_moved_on_in_place_and_a_copy_of_it_is_not():
    model, ids = make_model(), random_ids(2, 9)
    cache = model(ids[:, :5]).past_key_values
    branch = copy.deepcopy(cache)
    first = model(ids[:, 5:], past_key_values=cache)
    assert first.past_key_values is cache
    assert (cache.get_seq_length(), branch.get_seq_length()) == (9, 5)
    assert torch.equal(model(ids[:, 5:], past_key_values=branch).logits, first.logits)


def test_without_use_cache_a_cache_is_read_and_left_as_it_is():
    model, ids = make_model(), random_ids(2, 9)
    cache = model(ids[:, :5]).past_key_values
    looks = [model(ids[:, 5:], past_key_values=cache, use_cache=False) for _ in range(2)]
    assert looks[0].past_key_values is None
    assert torch.equal(looks[0].logits, looks[1].logits)
    assert cache.get_seq_length() == 5


def test_a_state_does_not_grow():
    model = make_model()
    sizes = []
    for tokens in (45, 90, 450):
        with torch.no_grad():
            cache = model(random_ids(1, tokens)).past_key_values
        sizes.append(sum(tensor.numel() for tensor in cache.state.tensors().values()))
    assert sizes[0] == sizes[1] == sizes[2]


def test_gradients_flow_through_a_cache_until_it_is_detached():
    model, ids = make_model().double(), random_ids(2, 9)
    found = []
    for cut in (9, 4):
        model.zero_grad()
        first = model(ids[:, :cut])
        logits = [first.logits]
        if cut < 9:
            logits.append(model(ids[:, cut:], past_key_values=first.past_key_values).logits)
        torch.cat(logits, dim=1).square().sum().backward()
        found.append({name: weight.grad.clone() for name, weight in model.named_parameters()})
    assert_same(*found)
    x = model.get_input_embeddings()(ids).detach().requires_grad_()
    cache = model(inputs_embeds=x[:, :4]).past_key_values
    model(ids[:, 4:], past_key_values=copy.deepcopy(cache)).logits.sum().backward(retain_graph=True)
    assert x.grad.any()
    x.grad = None
    model(ids[:, 4:], past_key_values=cache.detach()).logits.sum().backward()
    assert x.grad is None


def test_rows_of_a_cache_are_chosen_repeated_and_ordered():
    model, ids = make_model().double(), random_ids(3, 9)
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1, 1], [1] * 9, [0, 1, 1, 1, 1, 1, 1, 1, 1]])
    whole = model(ids, attention_mask=mask).logits[:, 6:]
    cache = model(ids[:, :6], attention_mask=mask[:, :6]).past_key_values
    assert (len(cache), cache.batch_size, cache.get_max_length(), cache.is_compileable) == (2, 3, -1, False)
    assert repr(cache) == "TitansCache(6 positions of 3 rows)"
    for change, rows in (
        (lambda cache: cache.reorder_cache(torch.tensor([2, 2, 0])), [2, 2, 0]),
        (lambda cache: cache.reorder_cache(torch.tensor([-1, 0])), [2, 0]),
        (lambda cache: cache.batch_select_indices(torch.tensor([1])), [1]),
        (lambda cache: cache.batch_select_indices(torch.tensor([True, False, True])), [0, 2]),
        (lambda cache: cache.batch_select_indices(torch.tensor([-2, 2])), [1, 2]),
        (lambda cache: cache.batch_repeat_interleave(2), [0, 0, 1, 1, 2, 2]),
    ):
        other = copy.deepcopy(cache)
        change(other)
        got = model(ids[rows, 6:], past_key_values=other).logits
        assert_same({"logits": got}, {"logits": whole[rows]})
    cache.reset()
    assert (len(cache), cache.batch_size, cache.get_seq_length()) == (0, -1, 0)
    cache.reorder_cache(torch.tensor([0]))  # before the first token there is nothing to order
    cache.batch_repeat_interleave(2)
    assert torch.equal(model(ids, past_key_values=cache).logits, model(ids).logits)
    refused(NotImplementedError, lambda: cache.crop(-1), "cannot be cropped")


def test_a_cache_refuses_what_selects_no_rows_by_its_name():
    cache = make_model()(random_ids(3, 6)).past_key_values
    for empty in (TitansCache(), cache):
        for name, call in (("indices", empty.batch_select_indices), ("beam_idx", empty.reorder_cache)):
            refused(TypeError, lambda call=call: call([0]), f"{name} must be a tensor, got list")
            refused(TypeError, lambda call=call: call(torch.tensor([0.0])), f"{name} must hold whole numbers or bool")
            refused(ValueError, lambda call=call: call(torch.tensor([[0]])), f"{name} must have one axis")
        for value in (0, -1):
            words = f"repeats must be at least 1, got {value}"
            refused(ValueError, lambda empty=empty, value=value: empty.batch_repeat_interleave(value), words)
    for name, call in (("indices", cache.batch_select_indices), ("beam_idx", cache.reorder_cache)):
        for wrong, message in (
            (torch.tensor([0, 3]), "must be in [-3, 2], got values from 0 to 3"),
            (torch.tensor([-4]), "must be in [-3, 2], got values from -4 to -4"),
            (torch.tensor([True, False]), "must hold a boolean for each of 3 rows, got 2"),
        ):
            refused(ValueError, lambda call=call, wrong=wrong: call(wrong), f"{name} {message}")
    assert cache.batch_size == 3


@pytest.mark.parametrize("padded", [False, True])
def test_a_saved_cache_goes_on_as_if_never_saved(tmp_path, padded):
    model, ids = make_model(), random_ids(2, 9)
    mask = torch.tensor([[0] * padded + [1] * (7 - padded), [1] * 7])
    cache = model(ids[:, :7], attention_mask=mask).past_key_values
    cache.save(tmp_path / "state")
    loaded = TitansCache.load(tmp_path / "state")
    assert loaded.get_seq_length() == 7
    assert torch.equal(
        model(ids[:, 7:], past_key_values=loaded).logits, model(ids[:, 7:], past_key_values=copy.deepcopy(cache)).logits
    )
    torch.save(cache, tmp_path / "pickled")  # with the graph that a cache may hold
    loaded = torch.load(tmp_path / "pickled", weights_only=False)
    assert loaded.get_seq_length() == 7
    assert torch.equal(
        model(ids[:, 7:], past_key_values=loaded).logits, model(ids[:, 7:], past_key_values=cache).logits
    )


# ---- Files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tie", [False, True])
@pytest.mark.parametrize("size", ["5GB", "8KB"])
def test_a_saved_model_is_read_back_bit_for_bit(tmp_path, tie, size):
    model, ids = make_model(tie_word_embeddings=tie, neural_memory_layers=[2]), random_ids(2, 13)
    model.save_pretrained(tmp_path, max_shard_size=size)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (size == "8KB")
    for kind in (TitansMACForCausalLM, AutoModelForCausalLM):
        loaded = kind.from_pretrained(tmp_path)
        assert type(loaded) is TitansMACForCausalLM
        assert not loaded.training
        assert loaded.state_dict().keys() == model.state_dict().keys()
        for name, tensor in model.state_dict().items():
            assert torch.equal(loaded.state_dict()[name], tensor), name
        assert torch.equal(loaded(ids).logits, model(ids).logits)
        assert (loaded.get_input_embeddings().weight is loaded.get_output_embeddings().weight) == tie
    again = TitansMACForCausalLM(model.config)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.eval()(ids).logits, model(ids).logits)


def test_a_tied_matrix_learns_from_both_of_its_uses():
    model, ids = make_model(tie_word_embeddings=True), random_ids(2, 9)
    model(ids, labels=ids).loss.backward()
    weight = model.get_input_embeddings().weight
    assert weight is model.get_output_embeddings().weight
    absent = [token for token in range(49) if token not in ids]
    assert weight.grad[absent].any()  # through the logits
    untied = make_model(tie_word_embeddings=False)
    untied(ids, labels=ids).loss.backward()
    assert not untied.get_input_embeddings().weight.grad[absent].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_model_is_loaded_in_the_dtype_asked_for(tmp_path, dtype):
    model, ids = make_model(), random_ids(2, 9)
    model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=dtype)
    assert {tensor.dtype for tensor in loaded.parameters()} == {dtype}
    assert_same({"logits": loaded(ids).logits.float()}, {"logits": model(ids).logits}, 0.05)


def test_tensors_that_a_file_lacks_are_refused_or_start_as_in_a_new_model(tmp_path, logged):
    model = make_model()
    model.save_pretrained(tmp_path)
    whole = load_file(tmp_path / "model.safetensors")
    lacking = ["model.blocks.1.mixer.memory.to_gates.bias", "model.blocks.0.mixer.persistent"]
    part = {name: tensor for name, tensor in whole.items() if name not in lacking}
    save_file(part, tmp_path / "model.safetensors", metadata={"format": "pt"})
    refused(ValueError, lambda: TitansMACForCausalLM.from_pretrained(tmp_path), "lacks 2 tensors", *lacking)
    torch.manual_seed(5)
    fresh = TitansMACForCausalLM(model.config).state_dict()
    torch.manual_seed(5)
    mended = TitansMACForCausalLM.from_pretrained(tmp_path, ignore_mismatched_sizes=True).state_dict()
    for name, tensor in mended.items():
        assert torch.equal(tensor, fresh[name] if name in lacking else whole[name]), name
    _, info = TitansMACForCausalLM.from_pretrained(tmp_path, output_loading_info=True)
    assert info["missing_keys"] == set(lacking)
    logged.clear()  # transformers' own reports


def test_files_of_another_model_are_refused(tmp_path, logged):
    make_model().save_pretrained(tmp_path)
    kind = TitansMACForCausalLM
    refused(ValueError, lambda: kind.from_pretrained(tmp_path, depth=1), "is no file of this model", "has unknown")
    refused(ValueError, lambda: kind.from_pretrained(tmp_path, depth=3), "is no file of this model", "lacks", "…")
    refused(RuntimeError, lambda: kind.from_pretrained(tmp_path, d_model=32), "ignore_mismatched_sizes")
    assert any("size mismatch" in line for line in logged)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_residual_streams": 4}), encoding="utf-8")
    refused(ValueError, lambda: kind.from_pretrained(tmp_path), "num_residual_streams is not implemented here")
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "gpt2"}), encoding="utf-8")
    refused(ValueError, lambda: kind.from_pretrained(tmp_path), "model_type must be 'titans_mac', got 'gpt2'")
    assert any("of type `gpt2`" in line for line in logged)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    refused(OSError, lambda: kind.from_pretrained(tmp_path), "not a valid JSON file")
    logged.clear()


def test_missing_and_truncated_files_are_refused(tmp_path):
    refused(OSError, lambda: TitansMACForCausalLM.from_pretrained(tmp_path / "nothing"))
    make_model().save_pretrained(tmp_path)
    whole = (tmp_path / "model.safetensors").read_bytes()
    for size in (len(whole) // 2, 8, 0):
        (tmp_path / "model.safetensors").write_bytes(whole[:size])
        for options in ({}, {"output_loading_info": True}):
            refused(
                ValueError,
                lambda options=options: TitansMACForCausalLM.from_pretrained(tmp_path, **options),
                f"{tmp_path} must hold whole safetensors files",
            )
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(OSError, match=r"model\.safetensors"):
        TitansMACForCausalLM.from_pretrained(tmp_path)


def test_a_file_that_is_no_state_is_refused(tmp_path):
    model = make_model()
    refused(FileNotFoundError, lambda: TitansCache.load(tmp_path / "nothing"), "path must be a file")
    refused(ValueError, lambda: TitansCache().save(tmp_path / "state"), "must have read something")
    model.model(random_ids(1, 3)).state.save(tmp_path / "plain")
    refused(ValueError, lambda: TitansCache.load(tmp_path / "plain"), "RowStates.save", "something else")
    cache = model(random_ids(2, 3)).past_key_values
    cache.save(tmp_path / "state")
    refused(ValueError, lambda: ModelState.load(tmp_path / "state"), "ModelState.save", "something else")
    (tmp_path / "state").write_bytes((tmp_path / "state").read_bytes()[:-1])
    refused(ValueError, lambda: TitansCache.load(tmp_path / "state"), "whole safetensors file")


@pytest.mark.parametrize("padded", [False, True])
def test_every_edit_of_a_caches_facts_is_one_clear_error_or_gives_the_same_kind_of_state(tmp_path, padded):
    model = make_model().requires_grad_(False)
    mask = torch.tensor([[0] * padded + [1] * (6 - padded), [1] * 6])

    def go_on(cache):
        assert f"{len(cache)} layers, {cache!r}"
        cache.reorder_cache(torch.tensor([1, 0]))
        return model(random_ids(2, 1), past_key_values=cache).past_key_values.state

    state = model(random_ids(2, 6), mask).past_key_values.state
    assert survivors(tmp_path / "state", state, 250, 0, TitansCache.load, go_on) <= 12


# ---- What transformers does to models --------------------------------------------------------------------------------


@pytest.mark.parametrize("tie", [False, True])
@pytest.mark.parametrize("size", [52, 40])
def test_the_vocabulary_can_be_resized(tie, size, logged):
    model, ids = make_model(tie_word_embeddings=tie), random_ids(2, 9, num_tokens=40)
    before, state = model(ids).logits, model(ids).past_key_values
    model.resize_token_embeddings(size)
    logged.clear()  # how new rows begin
    assert model.config.num_tokens == model.config.vocab_size == size
    after = model(ids).logits
    assert after.shape == (2, 9, size)
    assert_same({"logits": after[..., :40]}, {"logits": before[..., :40]}, 1e-6)
    refused(ValueError, lambda: model(ids + 40), "input_ids must be in [0, ")
    refused(ValueError, lambda: model(ids, past_key_values=state), "state belongs to another configuration")
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tie
    kept = copy.deepcopy(model.state_dict())
    model.post_init()  # starts nothing anew
    assert all(torch.equal(tensor, kept[name]) for name, tensor in model.state_dict().items())


def test_a_vocabulary_without_its_special_tokens_is_refused(logged):
    """It could be saved, but not loaded."""
    model = make_model(pad_token_id=48)
    refused(ValueError, lambda: model.resize_token_embeddings(40), "pad_token_id must be in [0, 39], got 48")
    logged.clear()
    model.config.pad_token_id = None
    model.config.check()
    assert model(random_ids(2, 9, num_tokens=40)).logits.shape == (2, 9, 40)


def test_a_model_can_be_copied():
    model, ids = make_model(), random_ids(2, 9)
    assert torch.equal(copy.deepcopy(model)(ids).logits, model(ids).logits)


def test_embeddings_can_be_taken_and_set():
    model = make_model()
    for take, put in (
        ("get_input_embeddings", "set_input_embeddings"),
        ("get_output_embeddings", "set_output_embeddings"),
    ):
        old = getattr(model, take)()
        getattr(model, put)(copy.deepcopy(old))
        assert getattr(model, take)() is not old
    assert model.base_model is model.model


# Where a model is built without numbers, as big models are.
EMPTY = {"meta": lambda: torch.device("meta"), "accelerate": init_empty_weights}


@pytest.mark.parametrize("tie", [False, True])
@pytest.mark.parametrize("without", EMPTY.values(), ids=EMPTY)
def test_a_model_starts_when_it_gets_memory(without, tie):
    """Built without numbers, then given memory, then started."""
    with without():
        model = TitansMACForCausalLM(make_config(tie_word_embeddings=tie))
    assert {tensor.device.type for tensor in model.parameters()} == {"meta"}
    model.to_empty(device="cpu")
    torch.manual_seed(5)
    model.init_weights()
    torch.manual_seed(5)
    new = TitansMACForCausalLM(make_config(tie_word_embeddings=tie))
    assert_same(dict(model.state_dict()), dict(new.state_dict()), 0)


@pytest.mark.parametrize("tie", [False, True])
@pytest.mark.parametrize("without", EMPTY.values(), ids=EMPTY)
def test_a_model_built_without_numbers_gets_those_of_a_file(tmp_path, without, tie):
    """And what is built and loaded after it is as ever."""
    model, ids = make_model(tie_word_embeddings=tie), random_ids(2, 9)
    want = model(ids).logits
    model.save_pretrained(tmp_path)
    for fill in (
        lambda empty: load_checkpoint_and_dispatch(empty, tmp_path, device_map={"": "cpu"}),
        lambda empty: empty.load_state_dict(model.state_dict(), assign=True),
    ):
        with without():
            empty = TitansMACForCausalLM(model.config)
        empty.tie_weights()
        fill(empty)
        assert torch.equal(empty.eval()(ids).logits, want)
    assert torch.equal(TitansMACForCausalLM.from_pretrained(tmp_path)(ids).logits, want)
    assert {tensor.device.type for tensor in TitansMACForCausalLM(model.config).parameters()} == {"cpu"}


def test_the_signature_of_forward_begins_as_transformers_expects():
    names = list(inspect.signature(TitansMACForCausalLM.forward).parameters)
    assert names[:2] == ["self", "input_ids"]
    assert {"attention_mask", "inputs_embeds", "labels", "past_key_values", "use_cache"} <= set(names)
    assert TitansMACForCausalLM.main_input_name == "input_ids"
    assert TitansMACForCausalLM.can_generate()
    assert make_model().loss_type == "ForCausalLM"


@pytest.mark.parametrize(
    ("options", "dtype"),
    [
        ({}, torch.bfloat16),
        ({"tie_word_embeddings": True}, torch.bfloat16),
        ({"persistent_size": 0, "num_longterm_mem_tokens": 0}, torch.bfloat16),
        ({}, torch.float16),
    ],
    ids=str,
)
def test_half_precision_computes_in_half_precision_with_its_memory_in_float32(options, dtype):
    model, ids = make_model(**options), random_ids(2, 23)
    want = model(ids, labels=ids)
    output = model.to(dtype)(ids, labels=ids)
    assert output.logits.dtype == dtype
    assert_same({"logits": output.logits.float()}, {"logits": want.logits}, 0.1)
    assert output.past_key_values.state.state.layers[0].memory.weights[0].dtype == torch.float32
    output.loss.backward()
    assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.requires_grad)
    assert model.generate(ids, max_new_tokens=9, do_sample=False).shape == (2, 32)


# ---- What is refused -------------------------------------------------------------------------------------------------


def test_wrong_tokens_and_embeddings_are_refused():
    model, ids = make_model(), random_ids(2, 5)
    x = model.get_input_embeddings()(ids)
    refused(ValueError, model, "give input_ids or inputs_embeds")
    refused(ValueError, lambda: model(ids, inputs_embeds=x), "and not both")
    refused(TypeError, lambda: model(ids.tolist()), "input_ids must be a tensor, got list")
    refused(TypeError, lambda: model(x), "input_ids must be int64 or int32, got torch.float32")
    refused(ValueError, lambda: model(ids[0]), "input_ids must have shape [batch, tokens]", "got [5]")
    refused(ValueError, lambda: model(ids[:, :0]), "input_ids must have shape", "got [2, 0]")
    refused(ValueError, lambda: model(ids + 45), "input_ids must be in [0, 48]")
    refused(ValueError, lambda: model(ids - 49), "input_ids must be in [0, 48]")
    refused(ValueError, lambda: model(inputs_embeds=x[..., :-1]), "inputs_embeds must have shape", "d_model=16", "15]")
    refused(TypeError, lambda: model(inputs_embeds=x.double()), "inputs_embeds must have dtype torch.float32")
    refused(
        TypeError, lambda: model(inputs_embeds=torch.ones(2, 5, 16).long()), "inputs_embeds must hold floating-point"
    )
    refused(ValueError, lambda: model(ids, output_attentions=True), "output_attentions is not implemented")


def test_wrong_masks_are_refused():
    model, ids = make_model(), random_ids(2, 5)
    refused(TypeError, lambda: model(ids, attention_mask=[[1] * 5] * 2), "attention_mask must be a tensor, got list")
    for shape in ((2, 4), (1, 5), (2, 6), (2, 1, 5, 5), (5,)):
        mask = torch.ones(shape)
        refused(ValueError, lambda mask=mask: model(ids, attention_mask=mask), "attention_mask must have shape [2, 5]")
    for value in (2, -1, 0.5, float("nan"), float("-inf")):
        mask = torch.ones(2, 5)
        mask[1, 3] = value
        refused(ValueError, lambda mask=mask: model(ids, attention_mask=mask), "must hold 0 and 1 alone", f"{value:g}")
    cache = model(ids).past_key_values
    mask = torch.ones(2, 7)
    message = "shape [2, 5], or 5 more for what was read before, got [2, 7]"
    refused(ValueError, lambda: model(ids, attention_mask=mask, past_key_values=cache), message)


def test_a_mask_that_skips_what_was_read_before_is_refused():
    """It cannot be unread. Masks of the new tokens alone say nothing of what was before."""
    model, ids = make_model(), random_ids(2, 5)
    first = torch.tensor([[0, 1, 1, 1, 1], [1] * 5])
    cache = model(ids, attention_mask=first).past_key_values
    for past, row, count in (([[0, 0, 1, 1, 1], [1] * 5], 0, 3), ([[0, 1, 1, 1, 1], [0] * 5], 1, 0)):
        mask = torch.cat((torch.tensor(past), torch.ones(2, 5, dtype=torch.long)), dim=1)
        for kind in (torch.long, torch.bool, torch.float):
            message = f"row {row} has read {4 + row} tokens, {count} are marked"
            given = {"attention_mask": mask.to(kind), "past_key_values": cache}
            refused(ValueError, lambda given=given: model(ids, **given), "attention_mask must mark what past_", message)
    mask = torch.cat((first, torch.ones(2, 5)), dim=1)
    want = model(ids, attention_mask=mask, past_key_values=copy.deepcopy(cache)).logits
    assert torch.equal(model(ids, attention_mask=torch.ones(2, 5), past_key_values=cache).logits, want)


def test_wrong_positions_of_logits_are_refused():
    model, ids = make_model(), random_ids(2, 5)
    for value, kind, message in (
        (-1, ValueError, "must be at least 0, got -1"),
        (1.5, TypeError, "must be an integer, got 1.5"),
        (None, TypeError, "must be an integer, got None"),
        (torch.tensor([5]), ValueError, "must be in [0, 4], got values from 5 to 5"),
        (torch.tensor([-1, 2]), ValueError, "must be in [0, 4], got values from -1 to 2"),
        (torch.tensor([1.0]), TypeError, "must be whole numbers [n], n at least 1, got torch.float32 [1]"),
        (torch.tensor([[1]]), TypeError, "must be whole numbers [n], n at least 1, got torch.int64 [1, 1]"),
        (torch.tensor([], dtype=torch.long), TypeError, "must be whole numbers [n], n at least 1, got torch.int64 [0]"),
    ):
        refused(kind, lambda value=value: model(ids, logits_to_keep=value), f"logits_to_keep {message}")


def test_wrong_labels_are_refused():
    model, ids = make_model(), random_ids(2, 5)
    refused(TypeError, lambda: model(ids, labels=1), "labels must be a tensor, got int")
    refused(TypeError, lambda: model(ids, labels=ids > 3), "labels (but for -100) must be int64 or int32", "torch.bool")
    refused(ValueError, lambda: model(ids, labels=ids[:, 1:]), "labels must have the shape of tokens, [2, 5]")
    refused(ValueError, lambda: model(ids, labels=ids + 45), "labels (but for -100) must be in [0, 48]")
    refused(ValueError, lambda: model(ids, labels=ids - 49), "labels (but for -100) must be in [0, 48]")
    refused(ValueError, lambda: model(ids, labels=ids, logits_to_keep=1), "logits_to_keep must be 0")
    refused(TypeError, lambda: model(ids, labels=ids, shift_labels=ids), "unexpected keyword argument 'shift_labels'")


def test_a_number_of_labels_to_divide_by_is_at_least_1():
    """Where none counts it may be 0, as Trainer counts, and the loss is 0."""
    model, ids = make_model(), random_ids(2, 5)
    none = torch.full_like(ids, -100)
    want = model(ids, labels=ids).loss * 8
    for count in (4, 4.0, np.int64(4), np.float32(4), torch.tensor(4), torch.tensor([4])):
        assert_same({"loss": model(ids, labels=ids, num_items_in_batch=count).loss}, {"loss": want / 4}, 1e-6)
    for count in (0, 0.0, torch.tensor(0)):
        assert model(ids, labels=none, num_items_in_batch=count).loss == 0
    words = "num_items_in_batch must be finite and at least 1, got"
    for count in (0, -3, 0.5, NAN, INF, torch.tensor(0), torch.tensor(-3), torch.tensor(NAN)):
        refused(ValueError, lambda count=count: model(ids, labels=ids, num_items_in_batch=count), words)
    for count in (-1, 0.5, NAN):
        refused(ValueError, lambda count=count: model(ids, labels=none, num_items_in_batch=count), words)
    for count, came in (("4", "'4'"), (True, "True"), (torch.tensor(True), "True"), ([4], "[4]")):
        words = f"num_items_in_batch must be a number, got {came}"
        refused(TypeError, lambda count=count: model(ids, labels=ids, num_items_in_batch=count), words)
    words = "num_items_in_batch must be one number, got shape [2]"
    refused(ValueError, lambda: model(ids, labels=ids, num_items_in_batch=torch.ones(2)), words)


def test_tensors_that_are_not_dense_are_refused():
    model, ids = make_model(), random_ids(2, 5)
    sparse = {name: ids.to_sparse() for name in ("input_ids", "attention_mask", "labels")}
    for name, wrong in (sparse | {"logits_to_keep": torch.tensor([1, 2]).to_sparse()}).items():
        given = {"input_ids": ids, name: wrong}
        refused(TypeError, lambda given=given: model(**given), f"{name} must be a dense tensor", "torch.sparse_coo")
    x = model.get_input_embeddings()(ids).detach()
    for wrong, came in ((x.to_sparse(), "torch.sparse_coo"), (x.to_mkldnn(), "torch._mkldnn")):
        words = ("inputs_embeds must be a dense tensor", came)
        refused(TypeError, lambda wrong=wrong: model(inputs_embeds=wrong), *words)


def test_a_number_of_positions_may_be_numpys():
    model, ids = make_model(), random_ids(2, 5)
    assert torch.equal(model(ids, logits_to_keep=np.int64(2)).logits, model(ids, logits_to_keep=2).logits)


def test_wrong_caches_are_refused():
    model, ids = make_model(), random_ids(2, 5)
    cache = model(ids).past_key_values

    def call(other, model=model, ids=ids):
        return lambda: model(ids, past_key_values=other)

    refused(TypeError, call(DynamicCache()), "past_key_values must be a TitansCache, got DynamicCache")
    refused(TypeError, call(cache.state), "past_key_values must be a TitansCache, got RowStates")
    refused(ValueError, call(cache, ids=ids[:1]), "past_key_values must have the batch size 1, got 2")
    for options in ({"segment_len": 6}, {"neural_mem_gate_attn_output": False}, {"dropout": 0.5}):
        refused(ValueError, call(cache, make_model(**options)), "state belongs to another configuration")
    refused(ValueError, call(cache, make_model().double()), "state belongs to another dtype")
    twice = copy.deepcopy(cache)
    object.__setattr__(twice, "state", replace(cache.state, counts=(5,)))
    refused(ValueError, call(twice), "past_key_values must count the tokens of each row, got (5,)")


def test_a_wrong_configuration_is_refused():
    refused(TypeError, lambda: TitansMACForCausalLM({"d_model": 16}), "PreTrainedConfig")
    refused(ValueError, lambda: TitansMACForCausalLM._from_config(make_config(), attn_implementation="flex_attention"))
