"""The mixers: equations 21-31 written out, what reaches what, the two leaks of D3, and states of constant size."""

from __future__ import annotations

import pytest
import torch

from tests.proofs import model_proofs
from tests.proofs.literal_mac import make_literal
from tests.proofs.model_proofs import (
    MODELS,
    influence,
    make_model,
    mixer_of,
    plain_combine,
    random_tokens,
    reach_of_attention,
    tensors_of,
)
from tests.proofs.proofs import assert_same
from titans import NeuralMemory
from titans.blocks import Combine, segment_sizes
from titans.config import VARIANTS
from titans.observe import closed

# ---- What they compute -----------------------------------------------------------------------------------------------


def each_model_of(*variants: str) -> pytest.MarkDecorator:
    """The models of these variants of which a single layer can be built."""
    found = [name for name, (variant, options) in MODELS.items() if variant in variants and "layers" not in options]
    return pytest.mark.parametrize("name", found)


def is_its_equations(name: str) -> None:
    variant, options = MODELS[name]
    model_proofs.mixer_is_its_equations(make_model(variant, layers=1, **options), 9)


@each_model_of("mac")
def test_equations_21_to_25_MAC_token_by_token(name):
    is_its_equations(name)


@each_model_of("mag")
def test_equations_26_to_28_MAG_token_by_token(name):
    is_its_equations(name)


@each_model_of("mal")
def test_equations_29_to_31_MAL_token_by_token(name):
    is_its_equations(name)


@each_model_of("lmm", "attention")
def test_memory_alone_and_attention_alone_token_by_token(name):
    is_its_equations(name)


@pytest.mark.parametrize("variant", ["mag", "mal", "lmm"])
def test_D9_persistent_tokens_are_written_and_what_they_read_is_dropped(variant):
    """Equations 26 and 29: the memory reads [P | x] as one sequence, of which x's outputs are kept."""
    mixer = mixer_of(make_model(variant, layers=1, persistent_tokens=5))
    x = torch.randn(2, 8, 8, dtype=torch.float64)
    state = mixer.initial_state(2).memory
    with_tokens, end = mixer.memory(torch.cat((mixer.persistent.expand(2, 5, 8), x), dim=1))
    got, got_end = mixer.memory(x, state)
    assert_same({"y": got} | tensors_of(got_end), {"y": with_tokens[:, 5:]} | tensors_of(end))
    without, _ = mixer.memory(x)
    assert (without - got).norm() > 1e-3 * got.norm()
    if variant == "lmm":
        assert_same({"y": mixer(x, mixer.initial_state(2))[0]}, {"y": got})


def test_equations_25_and_28_the_gate_normalises_both_sides():
    torch.manual_seed(0)
    gate = Combine(6).double()
    with torch.no_grad():
        for weight in gate.parameters():
            weight.normal_()
    attention, memory = torch.randn(2, 3, 5, 6, dtype=torch.float64)
    assert_same({"o": gate(attention, memory)}, {"o": plain_combine(gate, attention, memory)}, 1e-12)
    loud, louder = ({"o": gate(attention, scale * memory)} for scale in (1e4, 1e8))
    assert_same(louder, loud, 1e-5)  # a memory that is nearly empty is left small (D14)
    assert_same({"o": gate(1e4 * attention, memory)}, {"o": gate(attention, memory)}, 1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_layer_has_a_memory_and_persistent_tokens_of_its_own(variant):
    model = make_model(variant, layers=3)
    owned = [block.mixer.persistent for block in model.blocks]
    assert len({id(tokens) for tokens in owned}) == 3
    layers = [module for module in model.modules() if isinstance(module, NeuralMemory)]
    assert len(layers) == (0 if variant == "attention" else 3)


@pytest.mark.parametrize("segment_len", [1, 3, 8])
@pytest.mark.parametrize("tokens", [1, 3, 7])
def test_segment_sizes_cover_the_tokens_and_cross_no_border(segment_len, tokens):
    for place in range(segment_len):
        sizes = segment_sizes(tokens, place, segment_len)
        assert sum(sizes) == tokens
        at = place  # of the first token in its segment
        for size in sizes:
            assert size >= 1
            assert at + size <= segment_len
            at = (at + size) % segment_len
        assert all(size == segment_len for size in sizes[1:-1])


# ---- What reaches what -----------------------------------------------------------------------------------------------


def reach_closed(variant: str, tokens: int, segment_len: int, window: int, conv_width: int) -> torch.Tensor:
    """[output, input] of one layer that writes nothing: convolutions and attention, and M_0 read at single tokens."""
    i, j = torch.arange(tokens)[:, None], torch.arange(tokens)
    conv = conv_width - 1
    first = {
        "attention": i - i % segment_len,
        "lmm": i - conv,
        "mag": i - torch.tensor(max(conv, window - 1)),
        "mal": i - conv - (window - 1),
        # The memory's convolution takes the y of tokens before i; each of them saw its segment, and each h in it more.
        "mac": (i - conv).clamp(min=0) // segment_len * segment_len - conv,
    }[variant]
    return (j <= i) & (j >= first)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("segment_len", "window", "conv_width"), [(4, 3, 2), (3, 6, 1), (5, 1, 4)])
def test_without_writing_a_layer_sees_no_further_than_its_segment_or_window(variant, segment_len, window, conv_width):
    """And with it every token, up to the first: the memory is what reaches beyond."""
    sizes = {"segment_len": segment_len, "window": window, "conv_width": conv_width}
    model = make_model(variant, layers=1, forgetting=False, **sizes)
    tokens = random_tokens(model, 1, 13)
    still = influence(closed(model), tokens)
    assert torch.equal(still > 0, reach_closed(variant, 13, **sizes))
    whole = torch.ones(13, 13, dtype=torch.bool).tril()
    wanted = reach_of_attention(model.config, 13) if variant == "attention" else whole
    assert torch.equal(influence(model, tokens) > 0, wanted)


def test_D3_read_literally_MAC_leaks_twice():
    """A mask on h alone leaks, a read per token alone leaks; both together are exactly causal, and are MAC."""
    for mask_h, read_per_token in ((False, False), (True, False), (False, True)):
        model = make_literal(mask_h, read_per_token, layers=1)
        found = influence(model, random_tokens(model, 1, 11))
        future = found.triu(1)
        assert future.max() > 1e-3 * found.max()
        segment = torch.arange(11) // 4
        assert (future[segment[:, None] != segment] == 0).all()  # as far as the segment's end
    model, ours = make_literal(True, True, layers=1), make_model("mac", layers=1)
    tokens = random_tokens(model, 1, 11)
    assert (influence(model, tokens).triu(1) == 0).all()
    assert_same({"logits": model(tokens).logits}, {"logits": ours(tokens).logits})


@pytest.mark.parametrize("what", ["persistent", "memory_queries"])
def test_persistent_and_memory_tokens_reach_every_output_of_every_segment(what):
    """In MAC both are in the context of every token."""
    model = make_model("mac", layers=1, memory_tokens=2)
    model_tokens = random_tokens(model, 1, 10)
    logits, learned = model(model_tokens).logits, getattr(mixer_of(model), what)
    for t in range(10):
        (gradient,) = torch.autograd.grad(logits[0, t].square().sum(), learned, retain_graph=True)
        assert (gradient.norm(dim=1) > 1e-9).all()


# ---- States ----------------------------------------------------------------------------------------------------------


def held_bytes(state) -> int:
    """Memory that a state keeps alive: whole storages, for a small view of a large tensor keeps all of it."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in tensors_of(state).values()}
    return sum(storage.nbytes() for storage in storages.values())


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_state_holds_no_more_after_many_tokens_than_after_few(variant):
    """Read in one call or in several, that end anywhere in a segment."""
    model = make_model(variant, layers=1, segment_len=16, window=16, chunk_size=8)
    mixer = mixer_of(model)
    x = torch.randn(2, 607, 8, dtype=torch.float64)
    with torch.no_grad():
        largest = max(held_bytes(mixer(x[:, :t], mixer.initial_state(2))[1]) for t in range(33, 49))
        sizes = {t: held_bytes(mixer(x[:, :t], mixer.initial_state(2))[1]) for t in (208, 213, 592, 597, 607)}
        _, state = mixer(x[:, :500], mixer.initial_state(2))
        _, in_pieces = mixer(x[:, 500:], state)
    assert sizes[208] == sizes[592]
    assert sizes[213] == sizes[597]
    assert max(sizes.values()) <= largest
    assert held_bytes(in_pieces) == sizes[607]


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_mixer_leaves_the_state_that_it_got(variant):
    mixer = mixer_of(make_model(variant, layers=1))
    x = torch.randn(2, 14, 8, dtype=torch.float64)
    _, state = mixer(x[:, :6], mixer.initial_state(2))
    before = {name: tensor.detach().clone() for name, tensor in tensors_of(state).items()}
    mixer(x[:, 6:], state)
    assert before.keys() == tensors_of(state).keys()
    assert all(torch.equal(before[name], tensor) for name, tensor in tensors_of(state).items())
