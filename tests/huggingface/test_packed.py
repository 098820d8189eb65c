"""TitansMACForCausalLM on documents packed into rows, as `position_ids` tell where they begin."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import DataCollatorWithFlattening

from tests.huggingface.models import make_model, no_warnings_of_transformers, random_ids
from tests.huggingface.training import PLAIN, make_start, make_trainer
from tests.proofs.model_proofs import assert_same_states
from tests.proofs.proofs import assert_same
from tests.refusals.refused import refused

pytestmark = pytest.mark.filterwarnings("error")
GREEDY = {"do_sample": False, "max_new_tokens": 7}
LENGTHS = [5, 1, 9, 3, 12]


@pytest.fixture(autouse=True)
def logged():
    with no_warnings_of_transformers() as found:
        yield found


def documents(lengths=LENGTHS) -> list[Tensor]:
    return [random_ids(1, tokens, seed=seed) for seed, tokens in enumerate(lengths)]


def counted(*lengths: int) -> Tensor:
    """Positions of documents of these lengths in one row, [1, tokens]."""
    return torch.cat([torch.arange(tokens) for tokens in lengths])[None]


# ---- As separate rows ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"sliding_window_attn": True, "context_window": 4}], ids=str)
def test_what_the_flattening_collator_packs_is_read_as_separate_rows(options):
    """Logits, loss, gradients and the cache; from the collator of transformers as it is."""
    model, texts = make_model(**options).double(), documents()
    batch = DataCollatorWithFlattening()([{"input_ids": text[0].tolist()} for text in texts])
    assert batch.keys() == {"input_ids", "labels", "position_ids"}
    output = model(**batch, output_hidden_states=True)
    alone = [model(text, labels=text, output_hidden_states=True) for text in texts]
    loss = sum(one.loss * (len(text[0]) - 1) for one, text in zip(alone, texts, strict=True)) / (sum(LENGTHS) - 5)
    logits = torch.cat([one.logits for one in alone], dim=1)
    assert_same({"logits": output.logits}, {"logits": logits})
    assert_same({"loss": output.loss}, {"loss": loss}, 1e-6)  # transformers sums in float32
    for layer, hidden in enumerate(output.hidden_states):
        assert_same({"hidden": hidden}, {"hidden": torch.cat([one.hidden_states[layer] for one in alone], dim=1)})
    assert_same_states(output.past_key_values.state.state, alone[-1].past_key_values.state.state)
    weights = list(model.parameters())
    got, wanted = (torch.autograd.grad(found.square().sum(), weights) for found in (output.logits, logits))
    assert_same(dict(enumerate(got)), dict(enumerate(wanted)))


def test_a_documents_first_label_does_not_count():
    """Nor without the collator, which marks it -100."""
    model, ids = make_model().double(), torch.cat(documents(), dim=1)
    positions, labels = counted(*LENGTHS), ids.clone()
    labels[positions == 0] = -100
    want = model(ids, labels=labels, position_ids=positions).loss
    assert torch.equal(model(ids, labels=ids, position_ids=positions).loss, want)
    other = torch.where(positions == 0, (ids + 1) % 49, ids)
    assert torch.equal(model(ids, labels=other, position_ids=positions).loss, want)


def test_trainer_learns_the_same_from_packed_as_from_padded_rows(tmp_path, capsys):
    """A few steps of the gradient itself, with labels counted over two calls a step."""
    rows, found = [], []
    for row in range(16):
        ids = [(3 * row + place) % 20 for place in range(3 + 5 * row % 11)]
        rows.append({"input_ids": ids, "labels": [-100, *ids[1:]]})

    def padded(features: list[dict]) -> dict[str, Tensor]:
        width = max(len(feature["input_ids"]) for feature in features)
        filled = {"input_ids": 0, "labels": -100}
        batch = {
            name: torch.tensor([feature[name] + [value] * (width - len(feature[name])) for feature in features])
            for name, value in filled.items()
        }
        mask = [[1] * len(feature["input_ids"]) for feature in features]
        return batch | {"attention_mask": torch.tensor([one + [0] * (width - len(one)) for one in mask])}

    for collator in (DataCollatorWithFlattening(), padded):
        trainer = make_trainer(tmp_path, make_start().double(), gradient_accumulation_steps=2, max_steps=2, **PLAIN)
        trainer.train_dataset, trainer.data_collator = rows, collator
        trainer.train()
        found.append(dict(trainer.model.state_dict()))
    assert_same(*found)
    assert any((found[0][name] != weight).any() for name, weight in make_start().double().state_dict().items())
    capsys.readouterr()  # Trainer prints what it logs


def test_gradient_checkpointing_changes_nothing():
    model, found = make_model().double().train(), []
    ids = torch.cat(documents(), dim=1)
    for checkpointed in (False, True):
        if checkpointed:
            model.activation_checkpointing_enable()
        loss = model(ids, labels=ids, position_ids=counted(*LENGTHS)).loss
        found.append(dict(enumerate(torch.autograd.grad(loss, list(model.parameters())))))
    assert_same(*found)


# ---- Padding, caches, counting on ------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.lists(st.integers(1, 10), max_size=2, unique=True).map(sorted))
@settings(max_examples=15)
def test_documents_padding_and_calls_in_any_order(seed, cuts):
    """Documents in rows with holes, in several calls: a token's position counts padding or not, as one likes."""
    model, ids, random = make_model().double(), random_ids(3, 11, seed), torch.Generator().manual_seed(seed)
    mask = torch.rand(3, 11, generator=random) < 0.7
    begins = (torch.rand(3, 11, generator=random) < 0.3) & mask
    begins |= mask & (mask.cumsum(1) == 1)  # a row's first token begins a document
    starts = torch.where(begins, torch.arange(11), 0).cummax(1).values
    with_padding = torch.arange(11) - starts
    tokens = mask.long().cumsum(1)
    without = tokens - tokens.gather(1, starts)
    without = without.masked_fill(~mask, 1)
    for positions in (with_padding.where(mask, 0), without):
        cache, logits = None, []
        for begin, end in zip([0, *cuts], [*cuts, 11], strict=True):
            part = slice(begin, end)
            given = {"attention_mask": mask[:, part].long(), "position_ids": positions[:, part]}
            output = model(ids[:, part], **given, past_key_values=cache)
            cache = output.past_key_values
            logits.append(output.logits)
        logits = torch.cat(logits, dim=1)
        for row in range(3):
            for number in begins[row].cumsum(0).unique().tolist():
                own = mask[row] & (begins[row].cumsum(0) == number)
                if own.any():
                    assert_same({"logits": logits[row, own]}, {"logits": model(ids[row, own][None]).logits[0]})
        assert cache.state.counts == tuple(mask.sum(1).tolist())


@pytest.mark.parametrize("first", [0, 7])
def test_positions_that_merely_count_on_change_nothing(first):
    """From anything, for one row or all, in one call or from a cache."""
    model, ids = make_model(), random_ids(2, 12)
    whole = model(ids).logits
    positions = torch.arange(first, first + 12)
    for some in (positions[None], positions.expand(2, 12), positions.int()[None]):
        assert torch.equal(model(ids, position_ids=some).logits, whole)
        cache = model(ids[:, :5], position_ids=some[:, :5]).past_key_values
        later = model(ids[:, 5:], position_ids=some[:, 5:], past_key_values=cache).logits
        assert torch.equal(later, model(ids[:, 5:], past_key_values=model(ids[:, :5]).past_key_values).logits)


def test_a_cache_is_forgotten_where_a_document_begins():
    model, ids = make_model(), random_ids(2, 12)
    cache = model(ids[:, :5]).past_key_values
    later = model(ids[:, 5:], position_ids=torch.arange(7)[None], past_key_values=cache)
    assert torch.equal(later.logits, model(ids[:, 5:]).logits)
    assert later.past_key_values.state.counts == (12, 12)


# ---- Generation ------------------------------------------------------------------------------------------------------


def test_generation_begins_nothing_anew():
    """What `generate` counts by itself, with padding, beams and caches, is not handed on; what it is given is."""
    model, asked = make_model().double(), []
    hook = model.register_forward_pre_hook(
        lambda _, __, given: asked.append(given.get("position_ids")), with_kwargs=True
    )
    ids, mask = random_ids(2, 9), torch.tensor([[0, 0, 0, 1, 1, 1, 1, 1, 1], [1] * 9])
    state = model.generate(ids, return_dict_in_generate=True, **GREEDY)
    model.generate(ids, attention_mask=mask, num_beams=2, **GREEDY)
    model.generate(state.sequences, past_key_values=state.past_key_values, **GREEDY)
    model.generate(inputs_embeds=model.get_input_embeddings()(ids), **GREEDY)
    assert set(asked) == {None}
    hook.remove()
    for positions in ((mask.cumsum(1) - 1).masked_fill(mask == 0, 1), (mask.cumsum(1) - 1).clamp(min=0)):
        for options in ({}, {"num_beams": 3}, {"num_return_sequences": 2, "num_beams": 2}, {"prefill_chunk_size": 4}):
            options = options | GREEDY
            made = model.generate(ids, attention_mask=mask, position_ids=positions, **options)
            assert torch.equal(made, model.generate(ids, attention_mask=mask, **options))


def test_a_prompt_of_several_documents_goes_on_from_its_last():
    model, texts = make_model().double(), documents()
    made = model.generate(torch.cat(texts, dim=1), position_ids=counted(*LENGTHS), **GREEDY)
    assert torch.equal(made[:, -7:], model.generate(texts[-1], **GREEDY)[:, -7:])


# ---- What is refused -------------------------------------------------------------------------------------------------


def test_positions_that_tell_nothing_are_refused():
    model, ids = make_model(), random_ids(2, 5)

    def call(positions, **more):
        return lambda: model(ids, position_ids=positions, **more)

    refused(TypeError, call([[0, 1, 2, 3, 4]]), "position_ids must be a tensor, got list")
    refused(TypeError, call(torch.zeros(2, 5)), "position_ids must be int64 or int32, got torch.float32")
    for shape in ((2, 4), (3, 5), (5,), (3, 2, 5)):
        wrong = torch.ones(shape, dtype=torch.long)
        refused(ValueError, call(wrong), "position_ids must have shape [2, 5] or [1, 5]", f"got {list(shape)}")
    for wrong, words in {
        (2, 3, 2, 3, 4): "got 2 after 3 in row 0",  # a collator's position_ids_start=2
        (0, 1, 1, 2, 3): "got 1 after 1 in row 0",
        (0, 1, 2, 4, 5): "got 4 after 2 in row 0",
        (0, 1, 2, 3, -1): "got -1 after 3 in row 0",
    }.items():
        refused(ValueError, call(torch.tensor([wrong])), "position_ids must be 0 at the first token of a doc", words)
    rows = torch.tensor([[0, 1, 2, 3, 4], [0, 1, 0, 0, 5]])
    refused(ValueError, call(rows), "got 5 after 0 in row 1")
    mask = torch.tensor([[1] * 5, [1, 1, 1, 1, 0]])
    assert model(ids, position_ids=rows, attention_mask=mask)  # at padding anything may stand


@pytest.mark.parametrize("more", [{"return_flash_attn_kwargs": True}, {"return_seq_idx": True}], ids=str)
def test_other_ways_to_tell_documents_are_refused_by_name(more):
    batch = DataCollatorWithFlattening(**more)([{"input_ids": text[0].tolist()} for text in documents()])
    name = "cu_seq_lens_q" if "return_flash_attn_kwargs" in more else "seq_idx"
    refused(TypeError, lambda: make_model()(**batch), f"unexpected keyword argument '{name}'")
