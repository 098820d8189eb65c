"""The proofs of the models can fail: each fault, put into the library on purpose, is caught by the proof beside it.

As in `test_mutations`, a fault is one place of one module's source changed and run under another name.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import cache, partial
from types import ModuleType
from unittest.mock import patch

import pytest
import torch

import titans.attention
import titans.blocks
import titans.model
import titans.neural_memory
import titans.rows
import titans.single
import titans.state
import titans.unchanged
from tests.proofs import model_proofs
from tests.proofs.model_proofs import Make, make_model
from tests.proofs.mutants import library, mutant
from titans import TitansConfig, TitansLM

Proof = Callable[[Make], None]


def with_blocks(blocks: ModuleType) -> Make:
    """What makes models from the mixers of another module."""

    def broken(config: TitansConfig) -> TitansLM:
        return TitansLM(config, blocks.MIXERS)

    return lambda variant="mac", **options: make_model(variant, broken, **options)


def blocks(old: str, new: str) -> Make:
    return with_blocks(mutant(titans.blocks, old, new))


def attention(old: str, new: str) -> Make:
    """What makes models whose mixers see through a broken attention."""
    broken = mutant(titans.attention, old, new)
    with patch.dict(sys.modules, {"titans.attention": broken}):
        return with_blocks(mutant(titans.blocks, "from __future__", "from __future__"))


def single(old: str, new: str) -> Make:
    """What makes models that read single tokens by a broken path."""
    same = ("from __future__", "from __future__")
    with patch.object(titans, "single", mutant(titans.single, old, new)):
        layers = mutant(titans.neural_memory, *same)
        with patch.dict(sys.modules, {"titans.neural_memory": layers}):
            return with_blocks(mutant(titans.blocks, *same))


def model(old: str, new: str) -> Make:
    broken = mutant(titans.model, old, new).TitansLM
    return lambda variant="mac", **options: make_model(variant, broken, **options)


def everywhere(module: ModuleType, old: str, new: str) -> Make:
    """What makes models of a library all of which is built upon a broken module."""
    broken = library(module, old, new)

    def made(config: TitansConfig) -> TitansLM:
        return broken.TitansLM(broken.TitansConfig(**asdict(config)))

    return lambda variant="mac", **options: make_model(variant, made, **options)


states, seen, rows_read, models, kept = (
    partial(everywhere, module)
    for module in (titans.state, titans.attention, titans.rows, titans.model, titans.unchanged)
)


# ---- The proofs, bound to models -------------------------------------------------------------------------------------


@cache
def splits(variant: str, **options) -> Proof:
    return lambda make: model_proofs.splitting_changes_nothing(make(variant, **options), 9, [1, 2, 5, 6])


@cache
def steps(variant: str, **options) -> Proof:
    return lambda make: model_proofs.splitting_changes_nothing(make(variant, **options), 9, range(1, 9))


@cache
def kept_steps(variant: str, **options) -> Proof:
    return titans.unchanged_parameters()(steps(variant, **options))


@cache
def causal(variant: str, **options) -> Proof:
    return lambda make: model_proofs.is_causal(make(variant, **options), 9)


@cache
def equations(variant: str, **options) -> Proof:
    return lambda make: model_proofs.mixer_is_its_equations(make(variant, layers=1, **options), 9)


@cache
def carries(variant: str) -> Proof:
    return lambda make: model_proofs.memory_carries_from_the_first_segment_to_the_last(make, variant)


@cache
def learns(variant: str, **options) -> Proof:
    return lambda make: model_proofs.every_parameter_learns(make(variant, **options), 9)


@cache
def of(proof: Callable[[TitansLM], None], variant: str, **options) -> Proof:
    """A proof about one model."""
    return lambda make: proof(make(variant, **options))


joins = partial(of, model_proofs.joined_rows_go_on_as_each_alone)
resets = partial(of, model_proofs.reset_rows_begin_again_and_no_other)
selects = partial(of, model_proofs.selected_rows_are_those_that_are_meant)
packs = partial(of, model_proofs.packed_documents_are_those_of_calls_of_their_own)
clones = partial(of, model_proofs.a_clone_has_tensors_of_its_own)
keeps = partial(of, model_proofs.a_prefix_is_kept_in_its_block_alone)
hooked = partial(of, model_proofs.a_hook_of_attention_changes_single_tokens_too)
bounded = partial(of, model_proofs.a_bound_on_surprise_holds_for_single_tokens_too)


def rows(make: Make) -> None:
    model_proofs.rows_are_independent(make("mag"))


def repeats(make: Make) -> None:
    model_proofs.repeats_itself(make("mac"))


def loss(make: Make) -> None:
    model_proofs.loss_is_the_cross_entropy_of_the_next_token(make("attention"))


def greedy(make: Make) -> None:
    model_proofs.greedy_generation_is_the_argmax_of_full_calls(make("mac"), 5)


def stops(make: Make) -> None:
    model_proofs.a_row_that_stopped_goes_on_with_the_stop_token(make("mac"))


SEEN = "mask = mask if len(keys) == 1 else mask.repeat(*[1] * (mask.ndim - 1), len(keys))"
READ = "return self.memory.learn(written, state)"
BEGINS = "start, seen = memory.weights, seen if self.sliding else NOTHING_SEEN\n"
TURNED = "turned_k = turned[0] if len(turned) == 1 else torch.cat(turned, dim=2)"
EMBEDDED = "seen, layers = [x], []"
PLACES = "[place for places in each for place in places]"
JOINED = "done[key] = torch.cat(list(values))"
FRESH = "fresh = self.initial_state(len(again))"
AGAIN = 'again = set(check_rows("rows", rows, state.batch).tolist())'
BEGUN = 'state = self.reader.begin(len(rows)) if key == "begin" else _select(self.state, rows)'
GATES = "return layer.limited(*shares.view(len(x), 3, layer.heads, 1, -1).unbind(1))"
SHARES = "t, e, a = shares.view(len(x), 3, layer.heads, 1, -1).unbind(1); return layer.limited(t, e, a)"


def still(layer: str, part: str) -> str:
    """What makes a reset forget to begin this part of every layer's state again."""
    new = f"replace(new{layer}, {part}=old{layer}.{part})"
    new = new if not layer else f"replace(new, memory={new})"
    return f"""{FRESH}
        olds = state.select(torch.tensor(sorted(again))).layers
        fresh = replace(fresh, layers=tuple({new} for new, old in zip(fresh.layers, olds)))"""


NEXT = "self(made[-1], output.state)"

# Where, what stands there, what is put there, and the proof that sees it.
FAULTS: dict[str, tuple[Callable[[str, str], Make], str, str, Proof]] = {
    # MAC
    "h without a causal mask": (
        attention, SEEN, "mask = torch.cat((torch.ones_like(mask), mask)[-len(keys):], dim=1)", causal("mac")),
    "o read with the weights at the segment's end": (
        blocks, READ, "_, after = self.memory.learn(written, state); return self.memory.learn(written, after)",
        causal("mac")),
    "h without positions": (
        attention, TURNED, "turned_k = torch.cat((*keys[:-1], turned[-1]), dim=2)", equations("mac")),
    "h read with the weights of now": (
        blocks, "self.retrieve(start, asked)", "self.retrieve(memory.weights, asked)", splits("mac")),
    "h read with the first weights for ever": (
        blocks, BEGINS, "seen = NOTHING_SEEN\n", equations("mac")),
    "memory tokens read with the weights of now": (
        blocks, "self.with_memory_tokens(persistent, start)", "self.with_memory_tokens(persistent, memory.weights)",
        splits("mac", memory_tokens=2)),
    "the convolution of MAC's queries forgets at a call's border": (
        blocks, "self.conv(self.W_Q(x), state.recent)", "self.conv(self.W_Q(x), 0 * state.recent)", splits("mac")),
    "the memory starts anew in each segment": (
        blocks, BEGINS, f"memory = self.memory.initial_state(x.shape[0]); {BEGINS}", carries("mac")),
    "the memory is cut from the graph between segments": (
        blocks, BEGINS, f"memory = memory.detach(); {BEGINS}", carries("mac")),
    "what the memory reads is not used": (
        blocks, "ys.append(y)", "ys.append(y); read = torch.zeros_like(read)", learns("mac")),
    # Places and positions at a call's border
    "the place in the segment is lost": (
        blocks, "ContextState(memory, start, recent, seen.copied(), place)",
        "ContextState(memory, start, recent, seen.copied(), 0)", splits("mac")),
    "positions restart at each call": (
        attention, "return Seen(_joined(self.keys, keys)",
        "return Seen(_joined(tuple(k.roll(1, 2) for k in self.keys), keys)",
        splits("attention")),
    "queries' positions restart at each call": (
        attention, "turn(q, cos[first:], sin[first:])",
        "turn(q, cos[: q.shape[2]], sin[: q.shape[2]])", splits("attention")),
    "keys of the last window off by one": (
        attention, "seen.last(window - 1)", "seen.last(max(1, window - 2))", splits("mag")),
    "keys of the last window are forgotten": (attention, "if not self.keys:", "if True:", splits("mal")),
    "keys of a sliding segment off by one": (
        attention, "seen.last(window - 1)", "seen.last(max(1, window - 2))", equations("mac", sliding=True)),
    "a segment's keys are seen by the next": (
        blocks, "seen if self.sliding else NOTHING_SEEN", "seen", equations("mac")),
    "a sliding segment that slides one too far": (
        attention, "triu(before - window + 1)", "triu(before - window)",
        equations("attention", sliding=True, window=5)),
    "the memory's state is not carried": (
        blocks, "return self.combine(y, read), WindowState(memory,",
        "return self.combine(y, read), WindowState(state.memory,", splits("mag")),
    # One token at a time
    "a single token's step with the sign of ascent": (single, "value=-1", "value=1", steps("lmm")),
    "a single token's momentum without its decay": (single, " * eta[layer])", " * 1)", steps("lmm")),
    "a single token that forgets nothing": (
        single, "1 - alpha[layer])", "torch.ones_like(alpha[layer]))", steps("lmm")),
    "a single token's error at the weights of now": (
        single, "for weight in state.chunk_weights]", "for weight in state.weights]", steps("lmm")),
    "a single token that reads before it writes": (
        single, "y = read(memory, tuple(weights), token.q)", "y = read(memory, state.weights, token.q)", steps("lmm")),
    "a chunk that single tokens never end": (
        single, "moved_on(state.place_in_chunk, 1, chunk_size)", "moved_on(state.place_in_chunk, 0, chunk_size)",
        steps("lmm", chunk_size=2)),
    "a single token's window one too short": (single, "seen.last(window - 1)", "seen.last(window - 2)", steps("mag")),
    "a single token that does not turn its query": (
        single, "turned = torch.addcmul(scaled * cos_q, halves_swapped(scaled), sin_q)", "turned = scaled",
        steps("mag")),
    "a single token's prefix with positions": (single, "(scaled.bmm(prefix", "(turned.bmm(prefix", steps("mag")),
    "a segment that single tokens do not forget": (
        single, "seen if mixer.sliding else seen.forgotten(place)", "seen", steps("mac")),
    "a prefix that outlives its segment": (
        single, "and not (ends and len(mixer.memory_queries))", "", kept_steps("mac", memory_tokens=2)),
    "single tokens that read h with the first weights for ever": (
        single, "start = tuple(at_start(place, new, old)", "start = tuple(at_start(place, old, old)", steps("mac")),
    "a single token's convolution one token late": (single, "padded[:, 1:]", "padded[:, :-1]", steps("lmm")),
    "a single token whose surprise has no bound": (
        single, "bounded_errors(a, e, max_surprise)", "e", bounded("lmm")),
    "a single token whose memory has no residual": (
        single, "return memory.surround(first, z)", "return z", steps("lmm", memory_residual=True)),
    "a single token that forgets in all layers": (
        single, GATES, f"{SHARES}._replace(alpha=a)", steps("lmm")),
    "a single token that forgets in the last layer alone": (
        single, GATES, f"{SHARES}._replace(alpha=torch.cat((0 * a[..., :-1], a[..., -1:]), -1))",
        steps("lmm", forget_layers="all")),
    "a single token with momentum where there is none": (
        single, GATES, f"{SHARES}._replace(eta=e)", steps("lmm", momentum=False)),
    "a single token whose gates are those of other heads": (
        single, GATES, GATES.replace("1, -1)", "1, -1).flip(2)"), steps("lmm")),
    "a single token whose values are those of other heads": (
        single, "return q, k, mixed[:, 2], recent", "return q, k, mixed[:, 2].flip(1), recent", steps("lmm")),
    "a single token without the gate of its answer": (
        single, "y * torch.sigmoid(layer.W_G(bounded_input(x)))", "y", steps("lmm")),
    "a single token that is not added to what attention finds": (
        single, "y = mixer.surround(x, attention.W_O(y.view(len(x), 1, -1)))",
        "y = attention.W_O(y.view(len(x), 1, -1))", steps("mac")),
    "a single token that sees keys which are none": (
        single, "if isinstance(seen.missing, tuple):", "if False:", joins("mag")),
    "a single token to which hooks of attention do not matter": (
        blocks, " and not (attention._forward_hooks or attention._forward_pre_hooks)", "", hooked("mag")),
    "a single token to which hooks before attention do not matter": (
        blocks, "(attention._forward_hooks or attention._forward_pre_hooks)", "attention._forward_hooks",
        hooked("attention")),
    # What is kept from token to token
    "a prefix that outlives its block": (kept, " and kept.block is block", "", keeps("mac")),
    "a prefix that is kept unasked": (
        kept, "block = None if is_traced() else _UNCHANGED.get()", "block = 'always'", keeps("mac")),
    "a prefix of another model": (kept, "(id(mixer), mixer.memory.serial)", "mixer.memory.serial", keeps("mac")),
    # Users who come and go, documents
    "a row that is joined without its momentum": (
        states, JOINED, f"{JOINED}\n            if 'rule_state' in name: done[key][-1] = 0", joins("lmm")),
    "a row that is joined without what its convolution needs": (
        states, JOINED, f"{JOINED}\n            if 'recent' in name: done[key][0] = 0", joins("mac")),
    "joined rows at one another's places": (
        states, PLACES, f"{PLACES}[::-1]", joins("lmm")),
    "joined rows, all of which begin a chunk where one does": (
        states, "if all(places) or new is old:", "if not all(places):\n        return new\n    else:", joins("lmm")),
    "a row that has read nothing joins with the first momentum of another": (
        states, "like.new_zeros(batch, *carried.shape[1:])", "carried[:1].expand(batch, *carried.shape[1:])",
        joins("mac")),
    "keys that a row lacks stand behind its own": (
        seen, "F.pad(x, (0, 0, lacking, 0))", "F.pad(x, (0, 0, 0, lacking))", joins("mac")),
    "a row that forgets when another's segment ends": (
        seen, "lacking if place else count for", "count for", joins("attention")),
    "selected rows at the place of the first": (
        states, "[part[row] for row in rows]", "[part[rows[0]] for row in rows]", selects("lmm")),
    "selected rows in the order of the state": (
        states, "chosen[tensor.device] = rows.to(tensor.device)", "chosen[tensor.device] = rows.sort().values",
        selects("attention")),
    "a state that is split from its end": (
        states, "for row in range(batch)]", "for row in reversed(range(batch))]", selects("mac")),
    "a clone that copies nothing": (
        states, "_map(self, Tensor.clone, {})", "_map(self, Tensor.detach, {})", clones("mac")),
    "a row that is reset with its neighbour": (
        models, AGAIN, f"{AGAIN}; again |= {{(min(again) + 1) % state.batch}}", resets("attention")),
    "a row that is reset but for its chunk's start": (models, FRESH, still(".memory", "chunk_weights"), resets("lmm")),
    "a row that is reset but for its momentum": (models, FRESH, still(".memory", "rule_state"), resets("lmm")),
    "a row that is reset but for its convolution": (models, FRESH, still(".memory", "recent"), resets("lmm")),
    "a row that is reset but for its segment's start": (models, FRESH, still("", "segment_weights"), resets("mac")),
    "reset rows that change places with others": (
        models, "*sorted(again)]).argsort()", "*sorted(again)])", resets("mag")),
    "a document that goes on from the one before": (
        rows_read, '"begin" if piece.fresh or nothing_read', '"begin" if nothing_read', packs("attention")),
    "a document that begins with the last one's convolution": (
        rows_read, BEGUN, f"""{BEGUN}
            if key == "begin":
                fresh, olds = self.reader.initial_state(len(rows)), self.state.select(_whole(rows)).layers
                both = zip(fresh.layers, olds)
                state = replace(fresh, layers=tuple(replace(new, recent=old.recent) for new, old in both))""",
        packs("mac")),
    "a document whose first token is to be foretold": (
        model, "labels if starts is None else labels.masked_fill(starts, IGNORED_LABEL)", "labels", packs("mal")),
    "packed rows that are given back in another order": (
        rows_read, "rows.argsort().tolist())", "rows.argsort().flip(0).tolist())", packs("lmm")),
    "documents that are given back at one another's places": (
        rows_read, "back[read] = _range(0, len(read))", "back[read] = _range(0, len(read)).roll(1)", packs("mag")),
    # The gate, the window, persistent tokens
    "the gate ignores the memory": (
        blocks, "* self.norm_memory(memory)", "* self.norm_memory(torch.ones_like(memory))", carries("mag")),
    "the gate ignores attention": (
        blocks, "self.norm_attention(attention)", "self.norm_attention(torch.ones_like(attention))", learns("mag")),
    "a window too wide by one": (attention, "(j < i + window)", "(j <= i + window)", equations("mag", window=4)),
    "a window that sees places before the first token": (
        attention, "& (first + j >= empty))", "& (first + j >= 0))", equations("mal")),
    "a window that sees the next token": (
        attention, "(i <= j) & (j < i + window)", "(i < j) & (j < i + window + 1)", causal("mag")),
    "persistent tokens that nobody sees": (
        attention, "return self.keys_values(tokens.expand(batch,",
        "tokens = tokens[:0]; return self.keys_values(tokens.expand(batch,",
        learns("attention")),
    "persistent tokens with positions": (
        attention, "torch.cat((turned, q), dim=-1)", "torch.cat((turned, turned), dim=-1)", equations("attention")),
    "persistent tokens are not written": (blocks, "if len(self.persistent):", "if False:", learns("lmm")),
    "MAG's attention reads the memory's output": (
        blocks, "y, seen = self.attend(x, state.seen)", "y, seen = self.attend(read, state.seen)",
        equations("mag")),
    # The model
    "states of the layers change places": (
        model, "replace(state, layers=tuple(layers))", "replace(state, layers=tuple(layers[::-1]))", splits("mac")),
    "rows that are normalised together": (model, EMBEDDED, f"{EMBEDDED}; x = x / (1 + x.mean(0, True).abs())", rows),
    "a model that looks ahead": (model, EMBEDDED, f"{EMBEDDED}; x = x + 0.01 * x.roll(-1, 1)", causal("lmm")),
    "chance in the forward pass": (model, EMBEDDED, f"{EMBEDDED}; x = x + 1e-9 * torch.randn_like(x)", repeats),
    "another function in eval mode": (model, EMBEDDED, f"{EMBEDDED}; x = x if self.training else 1.001 * x", repeats),
    "a parameter is changed by a call": (model, EMBEDDED, f"{EMBEDDED}; self.head.weight.data.mul_(1.001)", repeats),
    "labels that are not shifted": (model, "IGNORED_LABEL))[:, 1:]", "IGNORED_LABEL))[:, :-1]", loss),
    "a mean over labels that do not count": (
        model, "(target != IGNORED_LABEL).sum()", "(target != 999).sum()", loss),
    "generation without its state": (model, NEXT, "self(made[-1], state)", greedy),
    "generation reads the prompt's last token twice": (
        model, NEXT, "self(made[-1] if step > 1 else tokens[:, -1:], output.state)", greedy),
    "the state after all tokens, the last too": (
        model, "return torch.cat(made, dim=1), output.state",
        "return torch.cat(made, dim=1), self(made[-1], output.state).state", greedy),
    "a row that goes on after its stop token": (
        model, "new = torch.where(done[:, None], stop_token, new)", "pass", stops),
    "one row's stop token stops all": (model, "bool(done.all())", "bool(done.any())", stops),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_a_model_is_caught(fault):
    put, old, new, proof = FAULTS[fault]
    make = put(old, new)
    with pytest.raises(AssertionError):
        proof(make)


def test_every_one_of_these_proofs_passes_for_the_library():
    for proof in {proof for *_, proof in FAULTS.values()}:
        proof(make_model)


HARNESSES = ((blocks, READ), (attention, SEEN), (model, EMBEDDED), (single, "value=-1"), (states, JOINED))


def test_the_harness_of_the_faults_changes_nothing_by_itself():
    tokens = torch.arange(9)[None] % 7
    for variant in model_proofs.VARIANTS:
        want = make_model(variant)(tokens).logits
        for put, same in HARNESSES:
            assert torch.equal(put(same, same)(variant)(tokens).logits, want)
