"""Caches of users who come and go: joined, split, reset and cloned, each row goes on as if it were alone."""

from __future__ import annotations

import copy
import pickle
from unittest.mock import patch

import pytest
import torch
from torch import Tensor

from tests.huggingface.models import make_model, no_warnings_of_transformers, random_ids
from tests.proofs.model_proofs import assert_identical_states
from tests.proofs.proofs import assert_same
from tests.refusals.refused import refused
from titans.attention import Attention
from titans.huggingface import TitansCache, TitansMACForCausalLM

LENGTHS = (5, 1, 9, 3, 12)  # segments of 5 tokens, chunks of 3


@pytest.fixture(autouse=True)
def logged():
    with no_warnings_of_transformers() as found:
        yield found


def row(number: int) -> Tensor:
    return torch.tensor([number])


@torch.no_grad()
def read(model: TitansMACForCausalLM, ids: Tensor, cache: TitansCache | None = None) -> tuple[Tensor, TitansCache]:
    output = model(ids, past_key_values=cache, use_cache=True)
    return output.logits, output.past_key_values


@pytest.mark.parametrize("options", [{}, {"sliding_window_attn": True, "context_window": 4}], ids=str)
def test_joined_caches_go_on_token_by_token_and_in_longer_calls_as_each_alone(options):
    model = make_model(**options).double()
    texts = [random_ids(1, tokens + 8, seed=seed) for seed, tokens in enumerate(LENGTHS)]
    alone = [read(model, text) for text in texts]
    cache = TitansCache.join([read(model, text[:, :-8])[1] for text in texts])
    assert (cache.batch_size, cache.get_seq_length(), cache.state.counts) == (5, 12, LENGTHS)
    found = []
    for begin, end in ((-8, -7), (-7, -6), (-6, -2), (-2, -1)):
        logits, cache = read(model, torch.cat([text[:, begin:end] for text in texts]), cache)
        found.append(logits)
        cache = TitansCache.join(cache.split())
    for number, (text, (want, after)) in enumerate(zip(texts, alone, strict=True)):
        got = torch.cat(found, dim=1)[number]
        assert_same({"logits": got}, {"logits": want[0, -8:-1]})
        one = cache.split()[number]
        last = read(model, text[:, -1:], one)
        assert_same({"logits": last[0]}, {"logits": want[:, -1:]})
        assert last[1].state.state.places == after.state.state.places


def test_generate_goes_on_from_joined_caches():
    """As transformers asks it of a batch: padding at the left, and a mask that marks what each row has read."""
    model = make_model().double()
    texts = [random_ids(1, tokens, seed=seed) for seed, tokens in enumerate(LENGTHS) if tokens > 1]
    cache = TitansCache.join([read(model, text[:, :-1])[1] for text in texts])
    width = max(LENGTHS)
    ids = torch.cat([torch.nn.functional.pad(text, (width - text.shape[1], 0)) for text in texts])
    mask = torch.cat([torch.nn.functional.pad(torch.ones_like(text), (width - text.shape[1], 0)) for text in texts])
    made = model.generate(ids, attention_mask=mask, past_key_values=cache, do_sample=False, max_new_tokens=6)
    for number, text in enumerate(texts):
        want = model.generate(text, do_sample=False, max_new_tokens=6)[0, text.shape[1] :]
        assert made[number, width:].tolist() == want.tolist()


def test_a_reset_row_begins_again_and_the_others_go_on():
    model = make_model().double()
    ids, new = random_ids(3, 7), random_ids(3, 2, seed=5)
    cache = read(model, ids)[1]
    went_on, fresh = read(model, new, cache.clone())[0], read(model, new)[0]
    cache.reset_rows(model, torch.tensor([False, True, False]))
    assert cache.state.counts == (7, 0, 7)
    got, after = read(model, new, cache)
    assert_same({"logits": got}, {"logits": torch.stack([went_on[0], fresh[1], went_on[2]])})
    assert after.state.counts == (9, 2, 9)
    for rows, counts in ((row(-1), (9, 2, 0)), (torch.tensor([2, 0, -3]), (0, 2, 0)), (torch.arange(3), (0, 0, 0))):
        some = after.clone()
        some.reset_rows(model, rows)
        assert some.state.counts == counts
        alone = [cache if count else None for cache, count in zip(after.split(), counts, strict=True)]
        want = torch.cat([read(model, new[:1, :1], cache)[0] for cache in alone])
        assert_same({"logits": read(model, new[:1, :1].expand(3, 1), some)[0]}, {"logits": want})


def test_a_clone_is_of_its_own_and_can_be_trained_on():
    model = make_model().double()
    with torch.inference_mode():
        cache = model(random_ids(2, 4), use_cache=True).past_key_values
    clone = cache.clone()
    assert_identical_states(clone.state, cache.state)
    ids = random_ids(2, 6, seed=3)
    model(ids, past_key_values=clone, labels=ids).loss.backward()
    assert model.model.blocks[0].mixer.memory.W_K.weight.grad.abs().sum() > 0


def test_a_joined_cache_is_copied_and_pickled():
    """A copy is a branch: what goes on from it leaves the other where it was."""
    model, new = make_model().double(), random_ids(2, 1)
    cache = TitansCache.join([read(model, random_ids(1, tokens))[1] for tokens in (2, 5)])
    for again in (copy.copy(cache), copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        assert_identical_states(again.state, cache.state)
        logits, after = read(model, new, again)
        assert after is again
        assert (again.state.counts, cache.state.counts) == ((3, 6), (2, 5))
        assert torch.equal(logits, read(model, new, cache.clone())[0])


def test_generate_makes_the_prefix_once_a_segment_and_not_for_every_token():
    model, counts = make_model().double(), []
    for new in (6, 11):
        with patch.object(Attention, "prefix", autospec=True, side_effect=Attention.prefix) as prefix:
            model.generate(random_ids(1, 5), do_sample=False, max_new_tokens=new, min_new_tokens=new)
        counts.append(prefix.call_count)
    assert counts[1] - counts[0] == 2  # of a segment of 5 tokens more, in two layers


def test_joining_changes_no_cache():
    model = make_model().double()
    caches = [read(model, random_ids(1, tokens))[1] for tokens in (2, 5)]
    states = [cache.state for cache in caches]
    joined = TitansCache.join(caches)
    read(model, random_ids(2, 1), joined)
    assert [cache.state for cache in caches] == states


def test_what_cannot_be_joined_split_or_reset_is_named():
    model = make_model()
    empty, other = TitansCache(), read(make_model(segment_len=6), random_ids(1, 2))[1]
    cache = read(model, random_ids(1, 2))[1]
    refused(TypeError, lambda: TitansCache.join([]), "caches must be at least one TitansCache, got []")
    refused(TypeError, lambda: TitansCache.join([cache, 1]), "caches must be at least one TitansCache", "'int'")
    refused(ValueError, lambda: TitansCache.join([cache, empty]), "caches must have read something before")
    refused(ValueError, lambda: TitansCache.join([cache, other]), "states must be alike, state.state.signature are")
    refused(ValueError, empty.split, "the cache must have read something before it is split")
    refused(
        ValueError, lambda: empty.reset_rows(model, row(0)), "the cache must have read something before it is reset"
    )
    refused(ValueError, lambda: cache.reset_rows(model, row(1)), "rows must be in [-1, 0], got values from 1 to 1")


@pytest.mark.parametrize(("read_before", "now"), [(4, 1), (1, 1), (5, 1), (1, 4), (9, 7)])
def test_gradients_of_reentrant_checkpoints_are_those_without(read_before, now):
    """Their first pass has no gradients, as generation has none, and must give what the second gives."""
    gradients = []
    for checkpointed in (False, True):
        model = make_model().double().train()
        if checkpointed:
            model.gradient_checkpointing_enable({"use_reentrant": True})
        ids, more = random_ids(1, read_before), random_ids(1, now + 1, seed=2)[:, : max(now, 2)]
        cache = model(ids, use_cache=True).past_key_values
        output = model(more[:, :now], past_key_values=cache, use_cache=True)
        output.logits.square().sum().backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert_same(gradients[1], gradients[0])
