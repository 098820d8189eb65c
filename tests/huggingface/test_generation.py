"""`generate` of TitansMACForCausalLM: what is made is what full calls say, in batches, by beams, from any state."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from torch import Tensor
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedTokenizerFast, pipeline
from transformers.generation.streamers import BaseStreamer

from tests.huggingface.models import make_model, no_warnings_of_transformers, random_ids
from tests.proofs.proofs import assert_same
from tests.refusals.refused import refused
from titans import TitansLM
from titans.huggingface import TitansCache

pytestmark = pytest.mark.filterwarnings("error")
GREEDY = {"do_sample": False, "max_new_tokens": 9}
LONG = {"sliding_window_attn": True, "context_window": 4}


@pytest.fixture(autouse=True)
def logged():
    with no_warnings_of_transformers() as found:
        yield found


def by_full_calls(model, ids: Tensor, count: int) -> Tensor:
    """The likeliest token of the whole sequence so far, again and again, with no state."""
    for _ in range(count):
        ids = torch.cat((ids, model(ids, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)), dim=1)
    return ids


def left_padded(rows: list[Tensor], length: int) -> tuple[Tensor, Tensor]:
    """Rows [tokens] as one batch with its mask, the padding being token 0."""
    ids = torch.stack([torch.cat((row.new_zeros(length - len(row)), row)) for row in rows])
    mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
    return ids, mask


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One character a token."""
    tokenizer = Tokenizer(models.BPE({chr(65 + number): number for number in range(49)}, []))
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="A", padding_side="left")


# ---- Greedy ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, LONG, {"segment_len": 4, "neural_memory_segment_len": 9}], ids=str)
@pytest.mark.parametrize("tokens", [1, 13])
def test_greedy_generation_is_the_argmax_of_full_calls(tokens, options):
    """Past the ends of segments, chunks and windows; and the same by this library's own loop."""
    model, ids = make_model(**options).double(), random_ids(2, tokens)
    made = model.generate(ids, **GREEDY)
    assert torch.equal(made, by_full_calls(model, ids, 9))
    plain = TitansLM(model.config.to_titans()).double().eval()
    plain.load_state_dict(model.model.state_dict())
    assert torch.equal(made, plain.generate(ids, 9)[0])


def test_generation_without_a_state_gives_the_same():
    model, ids = make_model().double(), random_ids(2, 6)
    assert torch.equal(model.generate(ids, use_cache=False, **GREEDY), model.generate(ids, **GREEDY))


def test_generation_reads_each_token_once():
    """From the state: after the prompt, one token a call."""
    model, ids, sizes = make_model(), random_ids(2, 7), []
    model.get_input_embeddings().register_forward_hook(lambda module, inputs, output: sizes.append(inputs[0].shape[1]))
    model.generate(ids, **GREEDY)
    assert sizes == [7] + [1] * 8


def test_what_generation_returns_besides_tokens():
    model, ids = make_model().double(), random_ids(2, 7)
    output = model.generate(
        ids,
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
        output_hidden_states=True,
        **GREEDY,
    )
    whole = model(output.sequences).logits[:, 6:-1]
    assert_same({"logits": torch.stack(output.logits, dim=1)}, {"logits": whole.float()}, 1e-5)
    assert_same(dict(enumerate(output.scores)), dict(enumerate(output.logits)), 0)
    assert [len(step) for step in output.hidden_states] == [3] * 9
    assert output.hidden_states[1][0].shape == (2, 1, 16)
    assert isinstance(output.past_key_values, TitansCache)
    assert output.past_key_values.get_seq_length() == 15  # all but the last


def test_embeddings_can_be_the_prompt():
    model, ids = make_model(), random_ids(2, 7)
    made = model.generate(ids, **GREEDY)
    x = model.get_input_embeddings()(ids)
    assert torch.equal(model.generate(inputs_embeds=x, **GREEDY), made[:, 7:])
    assert torch.equal(model.generate(ids, inputs_embeds=x, **GREEDY), made)


@pytest.mark.parametrize("size", [3, 7, 50])
def test_a_long_prompt_can_be_read_in_pieces(size):
    model = make_model().double()
    ids, mask = left_padded([random_ids(1, 17)[0], random_ids(1, 12, seed=2)[0]], 17)
    for given in (None, mask):
        want = model.generate(ids, attention_mask=given, **GREEDY)
        assert torch.equal(model.generate(ids, attention_mask=given, prefill_chunk_size=size, **GREEDY), want)


def test_a_streamer_gets_every_token_as_it_is_made():
    class Collector(BaseStreamer):
        def __init__(self) -> None:
            self.got, self.ended = [], False

        def put(self, value: Tensor) -> None:
            assert not self.ended
            self.got.append(value.tolist())

        def end(self) -> None:
            self.ended = True

    model, ids, streamer = make_model(), random_ids(1, 7), Collector()
    made = model.generate(ids, streamer=streamer, **GREEDY)
    assert streamer.ended
    assert streamer.got == [ids.tolist(), *([token] for token in made[0, 7:].tolist())]


# ---- Batches ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_rows_are_generated_as_if_alone(side):
    model = make_model(pad_token_id=0).double()
    rows = [random_ids(1, size, seed=size)[0].clamp(min=1) for size in (9, 3, 1, 9)]
    ids, mask = left_padded(rows, 9)
    if side == "right":
        turned = [(len(own) - 9, x) for own, x in zip(rows, zip(ids, mask, strict=True), strict=True)]
        ids, mask = (torch.stack([x[which].roll(by) for by, x in turned]) for which in (0, 1))
    together = model.generate(inputs_embeds=model.get_input_embeddings()(ids), attention_mask=mask, **GREEDY)
    for row, own in enumerate(rows):
        assert torch.equal(together[row], model.generate(own[None], **GREEDY)[0, len(own) :])
    if side == "left":
        assert torch.equal(model.generate(ids, **GREEDY)[:, 9:], together)  # the mask is seen in the padding tokens
        assert torch.equal(model.generate(ids, attention_mask=mask, **GREEDY)[:, 9:], together)


def test_rows_end_at_their_own_end_of_text():
    model, ids = make_model().double(), random_ids(3, 6)
    free = model.generate(ids, **GREEDY)[:, 6:].tolist()
    stop = free[0][4]
    until = [row.index(stop) + 1 if stop in row else 9 for row in free]
    cut = model.generate(ids, eos_token_id=stop, pad_token_id=0, **GREEDY)[:, 6:].tolist()
    for row, length in enumerate(until):
        assert cut[row][:length] == free[row][:length]
        assert set(cut[row][length:]) <= {0}
    assert len(cut[0]) == max(until)


def test_a_row_that_has_ended_has_read_its_padding(logged):
    """So it goes on from there only with a mask that says so, and no mask that skips it is silently ignored."""
    model, ids = make_model(pad_token_id=0).double(), random_ids(3, 6).clamp(min=1)
    stop = model.generate(ids, **GREEDY)[0, 7].item()
    first = model.generate(ids, eos_token_id=stop, return_dict_in_generate=True, **GREEDY)
    text, ended = first.sequences, first.past_key_values
    assert text[0, -1] == 0
    refused(ValueError, lambda: model.generate(text, past_key_values=ended, **GREEDY), "row 0 has read 14 tokens")
    ones = torch.ones_like(text)
    made = model.generate(text, attention_mask=ones, past_key_values=ended, **GREEDY)
    assert torch.equal(made, model.generate(text, attention_mask=ones, **GREEDY))
    assert all("right-padding was detected" in line for line in logged)
    logged.clear()


def test_no_row_ends_before_its_least_number_of_tokens():
    model, ids = make_model().double(), random_ids(2, 6).clamp(min=1)
    stop = model.generate(ids, **GREEDY)[0, 7].item()
    options = {"eos_token_id": stop, "pad_token_id": 0, "min_new_tokens": 5} | GREEDY
    made = model.generate(ids, **options)
    assert made.shape[1] >= 6 + 5
    assert not (made[:, 6:11] == stop).any()
    assert torch.equal(made, model.generate(ids, use_cache=False, **options))


def test_a_text_ends_at_a_string():
    model, ids, wrapped = make_model().double(), random_ids(1, 6), make_tokenizer()
    free = model.generate(ids, **GREEDY)[0, 6:].tolist()
    made = model.generate(ids, stop_strings=[wrapped.decode(free[3])], tokenizer=wrapped, **GREEDY)[0, 6:].tolist()
    assert made == free[: free.index(free[3]) + 1]


@pytest.mark.parametrize(
    "options",
    [{"repetition_penalty": 1.5, "no_repeat_ngram_size": 2}, {"guidance_scale": 1.5}],
    ids=str,
)
def test_what_changes_scores_changes_them_with_a_state_as_without(options):
    model, ids = make_model().double(), random_ids(2, 6)
    made = model.generate(ids, **options, **GREEDY)
    assert torch.equal(made, model.generate(ids, use_cache=False, **options, **GREEDY))
    assert not torch.equal(made, model.generate(ids, **GREEDY))


# ---- Sampling --------------------------------------------------------------------------------------------------------


def test_sampling_draws_by_the_chances_of_full_calls():
    model, ids = make_model().double(), random_ids(1, 6)
    torch.manual_seed(0)
    drawn = model.generate(ids.expand(1000, -1), max_new_tokens=1, do_sample=True, top_k=0)[:, -1]
    chances = model(ids).logits[0, -1].softmax(-1).float()
    shares = drawn.bincount(minlength=49) / 1000
    assert ((shares - chances).abs() <= 5 * (chances * (1 - chances) / 1000).sqrt() + 1e-9).all()


def test_a_seed_gives_one_sample_and_several_sequences_are_several_samples():
    model, ids = make_model(), random_ids(2, 6)
    options = {"do_sample": True, "max_new_tokens": 8, "top_k": 20, "top_p": 0.9, "temperature": 1.5}
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(model.generate(ids, num_return_sequences=3, **options))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
    assert found[0].shape == (6, 14)
    assert torch.equal(found[0][:, :6], ids.repeat_interleave(3, dim=0))
    assert len({str(row) for row in found[0].tolist()}) == 6


# ---- Beams -----------------------------------------------------------------------------------------------------------


def test_beams_wide_enough_find_the_likeliest_of_all_sequences():
    """Every continuation of three tokens is weighed by hand, by full calls."""
    model = make_model(num_tokens=6).double()
    ids = random_ids(2, 7, num_tokens=6)
    made = model.generate(ids, num_beams=36, num_return_sequences=4, max_new_tokens=3, do_sample=False)
    rest = torch.tensor(list(itertools.product(range(6), repeat=3)))
    for row in range(2):
        tokens = torch.cat((ids[row].expand(216, -1), rest), dim=1)
        chances = model(tokens).logits.log_softmax(-1)[:, 6:-1].gather(2, rest[..., None]).sum((1, 2))
        best = chances.topk(4).indices
        assert torch.equal(made[4 * row : 4 * row + 4], tokens[best])


@pytest.mark.parametrize("options", [{}, LONG], ids=["segments", "window"])
def test_beams_go_on_from_the_state_of_the_beam_that_they_come_from(options):
    """With the state as without one, padded or not; rows that were reordered wrongly would give other beams."""
    model = make_model(**options).double()
    ids, mask = left_padded([random_ids(1, 9)[0], random_ids(1, 4, seed=2)[0]], 9)
    search = {"num_beams": 3, "num_return_sequences": 3, "max_new_tokens": 8, "do_sample": False}
    for given in (None, mask):
        found = []
        for use_cache in (True, False):
            output = model.generate(
                ids,
                attention_mask=given,
                use_cache=use_cache,
                return_dict_in_generate=True,
                output_scores=True,
                **search,
            )
            found.append(output)
        assert torch.equal(found[0].sequences, found[1].sequences)
        assert_same({"scores": found[0].sequences_scores}, {"scores": found[1].sequences_scores}, 1e-5)
        assert not torch.equal(found[0].beam_indices, found[0].beam_indices.sort(dim=1).values)  # beams did cross
    alone = model.generate(ids[1:, 5:], **search)
    assert torch.equal(found[0].sequences[3:, 5:], alone)


def test_beams_are_sampled_too():
    model, ids = make_model(), random_ids(2, 6)
    found = []
    for _ in range(2):
        torch.manual_seed(0)
        found.append(model.generate(ids, num_beams=3, do_sample=True, max_new_tokens=6, num_return_sequences=2))
    assert torch.equal(*found)
    assert found[0].shape == (4, 12)


# ---- Going on from a state -------------------------------------------------------------------------------------------


def first_part(model, ids, count, **options):
    more = GREEDY | {"max_new_tokens": count}
    return model.generate(ids, return_dict_in_generate=True, **(more | options))


@pytest.mark.parametrize("count", [1, 5])
def test_going_on_from_the_state_that_generation_leaves_is_one_long_call(count, tmp_path):
    """Given the whole text so far, or only what is new beside a mask over both; or from a file, by a loaded model."""
    model, ids = make_model().double(), random_ids(2, 7)
    whole = model.generate(ids, **GREEDY)
    first = first_part(model, ids, count)
    rest = GREEDY | {"max_new_tokens": 9 - count}
    branch = copy.deepcopy(first.past_key_values)
    assert torch.equal(model.generate(first.sequences, past_key_values=branch, **rest), whole)
    branch, seen = copy.deepcopy(first.past_key_values), first.sequences.shape[1]
    new = first.sequences[:, -1:]
    made = model.generate(new, past_key_values=branch, attention_mask=torch.ones(2, seen), **rest)
    assert torch.equal(made, whole[:, seen - 1 :])
    model.save_pretrained(tmp_path)
    first.past_key_values.save(tmp_path / "state")
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float64)
    state = TitansCache.load(tmp_path / "state")
    assert torch.equal(loaded.generate(first.sequences, past_key_values=state, **rest), whole)


def test_going_on_with_text_of_ones_own_between():
    """Generate, add tokens, generate: as from scratch with the whole text. The cache given is the one moved on."""
    model, ids, more = make_model().double(), random_ids(2, 7), random_ids(2, 6, seed=4)
    cache = TitansCache()
    made = model.generate(ids, past_key_values=cache, **GREEDY)
    text = torch.cat((made, more), dim=1)
    assert cache.get_seq_length() == 15
    assert torch.equal(model.generate(text, past_key_values=cache, **GREEDY), model.generate(text, **GREEDY))
    assert cache.get_seq_length() == 22 + 8


def test_padded_rows_go_on_from_their_state():
    model = make_model().double()
    ids, mask = left_padded([random_ids(1, 9)[0], random_ids(1, 4, seed=2)[0]], 9)
    whole = model.generate(ids, attention_mask=mask, **GREEDY)
    first = first_part(model, ids, 5, attention_mask=mask)
    longer = torch.cat((mask, mask.new_ones(2, 5)), dim=1)
    rest = {"attention_mask": longer, "past_key_values": first.past_key_values} | GREEDY | {"max_new_tokens": 4}
    assert torch.equal(model.generate(first.sequences, **rest), whole)


def test_one_prompt_can_be_read_once_for_many():
    model, prompt = make_model().double(), random_ids(1, 9)
    cache = model(prompt).past_key_values
    for seed in (5, 6):
        text = torch.cat((prompt, random_ids(1, 3, seed=seed)), dim=1)
        branch = copy.deepcopy(cache)
        assert torch.equal(model.generate(text, past_key_values=branch, **GREEDY), model.generate(text, **GREEDY))
    cache.batch_repeat_interleave(3)
    texts = torch.cat((prompt.expand(3, -1), random_ids(3, 2, seed=7)), dim=1)
    assert torch.equal(model.generate(texts, past_key_values=cache, **GREEDY), model.generate(texts, **GREEDY))


# ---- What is refused, and pipelines ----------------------------------------------------------------------------------


def test_what_generation_cannot_do_is_refused(logged):
    model, ids = make_model(), random_ids(1, 7)
    cache = model(random_ids(1, 9)).past_key_values
    missing = "input_ids must hold all that past_key_values has read and what is new"
    refused(ValueError, lambda: model.generate(ids, past_key_values=cache, **GREEDY), missing, "3 tokens are lacking")
    text = torch.cat((random_ids(1, 9), ids), dim=1)
    state = {"past_key_values": cache} | GREEDY
    refused(ValueError, lambda: model.generate(text, use_cache=False, **state), "use_cache must be True where past_key")
    refused(ValueError, lambda: model.generate(text, num_beams=3, **state), "must have the batch size 3, got 1")
    other = {"past_key_values": DynamicCache()} | GREEDY
    refused(TypeError, lambda: model.generate(text, **other), "must be a TitansCache, got DynamicCache")
    for kind in ("static", "quantized", "dynamic"):
        refused(ValueError, lambda kind=kind: model.generate(ids, cache_implementation=kind, **GREEDY), repr(kind))
    refused(ValueError, lambda: model.generate(ids, assistant_model=make_model(), **GREEDY), "stateful models")
    refused(ValueError, lambda: model.generate(ids, prompt_lookup_num_tokens=2, **GREEDY), "stateful models")
    refused(
        ValueError, lambda: model.generate(ids, penalty_alpha=0.6, top_k=4, **GREEDY), "Contrastive Search requires"
    )
    assert "Contrastive Search was moved" in logged.pop()
    logged.clear()
    refused(NotImplementedError, lambda: model.generate_batch(ids.tolist()), "continuous batching is not implemented")
    refused(ValueError, lambda: model.generate(ids + 49, **GREEDY), "input_ids must be in [0, 48]")
    refused(
        ValueError, lambda: model.generate(ids[0], **GREEDY), "input_ids must have shape [batch, tokens]", "got [7]"
    )
    refused(ValueError, lambda: model.generate(ids[:, :0], **GREEDY), "input_ids must have shape", "got [1, 0]")
    refused(TypeError, lambda: model.generate(ids.float(), **GREEDY), "input_ids must be int64 or int32")
    wide = torch.zeros(1, 3, 17)
    refused(ValueError, lambda: model.generate(inputs_embeds=wide, **GREEDY), "inputs_embeds must have shape")
    refused(ValueError, lambda: model.generate(ids, unheard=1, **GREEDY), "unheard")
    refused(ValueError, lambda: model.generate(ids, position_ids=ids, **GREEDY), "position_ids must be 0 at the first")
    options = {"output_attentions": True, "return_dict_in_generate": True} | GREEDY
    refused(ValueError, lambda: model.generate(ids, **options), "output_attentions")


def test_the_text_generation_pipeline_works_from_a_folder(tmp_path):
    model, wrapped = make_model(pad_token_id=0).double(), make_tokenizer()
    model.save_pretrained(tmp_path)
    wrapped.save_pretrained(tmp_path)
    write = pipeline("text-generation", model=str(tmp_path))
    prompts = ["DEFGH", "IJ"]
    texts = write(prompts, max_new_tokens=6, do_sample=False, batch_size=2, return_full_text=False)
    for prompt, text in zip(prompts, texts, strict=True):
        ids = torch.tensor([[ord(letter) - 65 for letter in prompt]])
        want = model.generate(ids, max_new_tokens=6, do_sample=False)[0, ids.shape[1] :]
        assert text[0]["generated_text"] == wrapped.decode(want)
