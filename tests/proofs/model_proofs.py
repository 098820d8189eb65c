"""What must be true of a model of any variant, each a function that takes the model or the maker to be judged.

The tests of this folder call them with the library's; `test_model_mutations` calls them with broken ones.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

import titans.neural_memory
from tests.proofs.proofs import assert_same, plain_forward
from titans import NeuralMemory, TitansConfig, TitansLM, recurrent_scan, unchanged_parameters
from titans.blocks import MemoryAndWindow, MemoryAsContext, Mixer, PrefixedMemory, SegmentAttention
from titans.config import VARIANTS
from titans.observe import closed

WITH_MEMORY = tuple(variant for variant in VARIANTS if variant != "attention")
SMALL = {
    "vocab_size": 7,
    "dim": 8,
    "layers": 2,
    "heads": 2,
    "segment_len": 4,
    "window": 3,
    "chunk_size": 3,
    "memory_heads": 2,
    "memory_expansion": 2,
    "persistent_tokens": 2,
    "max_step": 0.2,
}
Make = Callable[..., TitansLM]
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    **{variant: (variant, {}) for variant in VARIANTS},
    "mac, memory tokens": ("mac", {"memory_tokens": 3}),
    "mac, memory tokens alone": ("mac", {"memory_tokens": 1, "persistent_tokens": 0}),
    "mac, no persistent tokens": ("mac", {"persistent_tokens": 0}),
    "mac, a matrix": ("mac", {"memory_depth": 1, "memory_heads": 1}),
    "mac, three layers": ("mac", {"memory_depth": 3}),
    "mac, residual": ("mac", {"memory_residual": True}),
    "mac, chunks longer than segments": ("mac", {"chunk_size": 9}),
    "mac, chunks and segments alike": ("mac", {"chunk_size": 4}),
    "mac, chunks of 1": ("mac", {"chunk_size": 1}),
    "mac, segments of 1": ("mac", {"segment_len": 1}),
    "mac, one segment": ("mac", {"segment_len": 32, "chunk_size": 5}),
    "mac, no convolution": ("mac", {"conv_width": 1}),
    "mac, wide heads": ("mac", {"heads": 3, "dim_head": 6}),
    "mac, sliding over segments": ("mac", {"sliding": True, "window": 6, "memory_tokens": 1}),
    "mac, sliding inside segments": ("mac", {"sliding": True, "window": 2, "segment_len": 5}),
    "mac, memory in the second layer": ("mac", {"memory_layers": (2,), "layers": 2}),
    "mac, memory added": ("mac", {"memory_gate": False}),
    "mag, window of 1": ("mag", {"window": 1}),
    "mag, one window": ("mag", {"window": 32, "chunk_size": 5}),
    "mag, no persistent tokens": ("mag", {"persistent_tokens": 0, "memory_depth": 1}),
    "mal, residual": ("mal", {"memory_residual": True, "window": 5}),
    "mal, no momentum, no forgetting": ("mal", {"momentum": False, "forgetting": False, "persistent_tokens": 0}),
    "lmm, three layers": ("lmm", {"memory_depth": 3, "persistent_tokens": 0}),
    "lmm, as many persistent tokens as a chunk": ("lmm", {"persistent_tokens": 3}),
    "attention, no persistent tokens": ("attention", {"persistent_tokens": 0, "segment_len": 5}),
    "attention, sliding": ("attention", {"sliding": True, "window": 3}),
}


def make_model(variant: str = "mac", kind: type[TitansLM] = TitansLM, seed: int = 0, **options) -> TitansLM:
    """A small float64 model as training could leave it: no tensor is zero, and every gate depends on its token."""
    torch.manual_seed(seed)
    model = kind(TitansConfig(variant, **(SMALL | options))).double()
    with torch.no_grad():
        model.embedding.weight.normal_()
        for layer in memories(model):
            for weight in (*layer.memory.weights, layer.to_gates.weight):
                weight.normal_(0, weight.shape[-1] ** -0.5)
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model


def memories(model: nn.Module) -> list[NeuralMemory]:
    return [module for module in model.modules() if type(module).__name__ == "NeuralMemory"]


def random_tokens(model: TitansLM, batch: int, tokens: int, seed: int = 1) -> Tensor:
    return torch.randint(model.config.vocab_size, (batch, tokens), generator=torch.Generator().manual_seed(seed))


# ---- What a model returns --------------------------------------------------------------------------------------------


def parts(value: Any, name: str = "state") -> Iterator[tuple[str, Any]]:
    """Every leaf of a state by name, a tensor that stands in two places twice: places and sizes count too."""
    if is_dataclass(value):
        for field in fields(value):
            yield from parts(getattr(value, field.name), f"{name}.{field.name}")
    elif isinstance(value, tuple):
        for place, part in enumerate(value):
            yield from parts(part, f"{name}.{place}")
    else:
        yield name, value


def tensors_of(state: Any) -> dict[str, Tensor]:
    return {name: part for name, part in parts(state) if isinstance(part, Tensor)}


def facts_of(state: Any) -> dict[str, Any]:
    return {name: part for name, part in parts(state) if not isinstance(part, Tensor)}


def assert_identical_states(one: Any, other: Any) -> None:
    assert facts_of(one) == facts_of(other)
    assert tensors_of(one).keys() == tensors_of(other).keys()
    for name, tensor in tensors_of(one).items():
        assert torch.equal(tensor, tensors_of(other)[name]), name
        assert tensor.dtype == tensors_of(other)[name].dtype


def assert_same_states(got: Any, want: Any) -> None:
    """Fact by fact, and tensor by tensor up to rounding."""
    assert facts_of(got) == facts_of(want)
    assert_same(tensors_of(got), tensors_of(want))


def run_in_pieces(model: TitansLM, tokens: Tensor, cuts: Sequence[int]) -> tuple[Tensor, Any]:
    """Logits of all tokens and the last state, from one call for each piece."""
    state, logits = None, []
    for begin, end in pairwise([0, *cuts, tokens.shape[1]]):
        output = model(tokens[:, begin:end], state)
        state = output.state
        logits.append(output.logits)
    return torch.cat(logits, dim=1), state


# ---- Splits, causality, independence ---------------------------------------------------------------------------------


def splitting_changes_nothing(model: TitansLM, tokens: int, cuts: Sequence[int]) -> None:
    """Truth 2: pieces give the logits and the state of one call."""
    x = random_tokens(model, 2, tokens)
    with torch.no_grad():
        (logits, state), whole = run_in_pieces(model, x, cuts), model(x)
    assert_same({"logits": logits}, {"logits": whole.logits})
    assert_same_states(state, whole.state)


def gradients_flow_through_calls(model: TitansLM, tokens: int, cuts: Sequence[int]) -> None:
    """In pieces every parameter gets the gradient that it gets in one call (D7)."""
    x, found = random_tokens(model, 2, tokens), []
    for some in (cuts, []):
        logits, _ = run_in_pieces(model, x, some)
        model.zero_grad()
        logits.square().sum().backward()
        found.append({name: weight.grad.clone() for name, weight in model.named_parameters() if weight.numel()})
    assert_same(*found)


@contextmanager
def embedded(model: TitansLM, x: Tensor) -> Iterator[None]:
    """Calls of the model see the vectors x in place of the embeddings of their tokens."""
    hook = model.embedding.register_forward_hook(lambda *_: x)
    try:
        yield
    finally:
        hook.remove()


def influence(model: TitansLM, tokens: Tensor, outputs: Sequence[int] | None = None) -> Tensor:
    """How much each token's vector moves the logits of each output, in a row's Jacobian: [outputs, tokens].

    An output's logits are first weighed at random: that is zero where all of them are unmoved, and only there.
    """
    assert tokens.shape[0] == 1
    x = model.embedding(tokens).detach().requires_grad_()
    with embedded(model, x):
        logits = model(tokens).logits
    random = torch.Generator().manual_seed(2)
    weighed = (logits * torch.randn(logits.shape[-1], generator=random, dtype=logits.dtype)).sum(-1)[0]
    outputs = range(tokens.shape[1]) if outputs is None else outputs
    rows = [torch.autograd.grad(weighed[i], x, retain_graph=True)[0][0].norm(dim=-1) for i in outputs]
    return torch.stack(rows)


def reach_of_attention(config: TitansConfig, tokens: int) -> Tensor:
    """[output, input]: what "attention" sees through all layers: its segment, or so many windows, up to itself."""
    i, j = torch.arange(tokens)[:, None], torch.arange(tokens)
    near = (
        i - j <= config.layers * (config.window - 1)
        if config.sliding
        else i // config.segment_len == j // config.segment_len
    )
    return (j <= i) & near


def is_causal(model: TitansLM, tokens: int) -> None:
    """Truth 3: no later token moves an output, and every earlier one does ("attention" reaches less)."""
    found = influence(model, random_tokens(model, 1, tokens))
    assert (found.triu(1) == 0).all(), "the future leaks"
    past = torch.ones(tokens, tokens, dtype=torch.bool).tril()
    if model.config.variant == "attention":
        past = reach_of_attention(model.config, tokens)
    assert torch.equal(found > 0, past), "an output sees too little or too much of the past"


def rows_are_independent(model: TitansLM) -> None:
    """Truth 5: no row moves another's logits or state, and a row alone gives what it gives in a batch."""
    tokens = random_tokens(model, 2, 7)
    x = model.embedding(tokens).detach().requires_grad_()
    with embedded(model, x):
        logits, _, state = model(tokens)
    carried = [tensor for tensor in tensors_of(state).values() if tensor.requires_grad]
    for row in range(2):
        total = logits[row].square().sum() + sum(tensor[row].square().sum() for tensor in carried)
        (gradient,) = torch.autograd.grad(total, x, retain_graph=True)
        assert gradient[row].any()
        assert not gradient[torch.arange(2) != row].any(), "a row moves another"
        alone, _, alone_state = model(tokens[row : row + 1])
        want = {name: tensor[row : row + 1] for name, tensor in tensors_of(state).items()}
        assert_same({"logits": alone} | tensors_of(alone_state), {"logits": logits[row : row + 1]} | want, 1e-12)


def repeats_itself(model: TitansLM) -> None:
    """Truth 5: a call again, in train and eval mode, gives the same bits; parameters, state and tokens stay."""
    tokens = random_tokens(model, 2, 6)
    state = model(random_tokens(model, 2, 5, seed=2)).state
    held = [tokens, *model.parameters(), *model.buffers(), *tensors_of(state).values()]
    before = [tensor.detach().clone() for tensor in held]
    runs = []
    for training in (True, True, False):
        model.train(training)
        output = model(tokens, state)
        runs.append([output.logits, *tensors_of(output.state).values()])
    assert all(torch.equal(*pair) for other in runs[1:] for pair in zip(runs[0], other, strict=True))
    model.generate(tokens, 2, state, temperature=1.0, seed=0)
    assert all(map(torch.equal, held, before)), "a call changed a tensor that it was given"


# ---- The memory works ------------------------------------------------------------------------------------------------


def memory_carries_from_the_first_segment_to_the_last(make: Make, variant: str, **options) -> None:
    """Truth 7: what was read first moves the last logits through writes, and not at all where nothing is written."""
    model = make(variant, layers=1, forgetting=False, **options)
    tokens = random_tokens(model, 1, 6 * model.config.segment_len)
    first = slice(0, model.config.segment_len)
    assert (influence(model, tokens, [-1])[:, first] > 1e-12).all(), "the first segment is forgotten"
    assert (influence(closed(model), tokens, [-1])[:, first] == 0).all()


def every_parameter_learns(model: TitansLM, tokens: int) -> None:
    """Truth 7: a loss over some segments gives every learned tensor, and every persistent token, a finite gradient."""
    model.zero_grad()
    x = random_tokens(model, 2, tokens)
    model(x, labels=x).loss.backward()
    for name, weight in model.named_parameters():
        if not weight.numel():
            continue  # no persistent tokens, no memory tokens
        assert weight.grad is not None, f"no gradient for {name}"
        assert weight.grad.isfinite().all(), name
        one_by_one = name.endswith(("persistent", "memory_queries"))
        sizes = weight.grad.norm(dim=1) if one_by_one else weight.grad.norm()
        assert (sizes > 1e-9).all(), f"no gradient for {name}"


# ---- Losses ----------------------------------------------------------------------------------------------------------


def loss_is_the_cross_entropy_of_the_next_token(model: TitansLM) -> None:
    """-log p(token t | those before it), the mean over the labels that count."""
    tokens = random_tokens(model, 2, 6)
    labels = tokens.clone()
    labels[0, 2], labels[1, 4:], labels[1, 1] = -100, -100, 3
    logits, loss, _ = model(tokens, labels=labels)
    losses = []
    for row in range(2):
        for t in range(1, 6):
            if labels[row, t] != -100:
                p = logits[row, t - 1].exp() / logits[row, t - 1].exp().sum()
                losses.append(-math.log(float(p[labels[row, t]].detach())))
    assert len(losses) == 7
    assert abs(float(loss.detach()) - sum(losses) / 7) < 1e-12


# ---- Generation ------------------------------------------------------------------------------------------------------


def greedy_by_full_calls(model: TitansLM, tokens: Tensor, count: int) -> Tensor:
    """The likeliest token of the whole sequence so far, again and again, with no state."""
    for _ in range(count):
        logits = model(tokens).logits[:, -1]
        tokens = torch.cat((tokens, logits.argmax(-1, keepdim=True)), dim=1)
    return tokens


def greedy_generation_is_the_argmax_of_full_calls(model: TitansLM, prompt: int) -> None:
    tokens = random_tokens(model, 2, prompt)
    made, state = model.generate(tokens, 6)
    assert torch.equal(made, greedy_by_full_calls(model, tokens, 6))
    with torch.no_grad():
        assert_same_states(state, model(made[:, :-1]).state)  # after all of them but the last
        going_on, want = model(made[:, -1:], state), model(made)
    assert_same({"logits": going_on.logits}, {"logits": want.logits[:, -1:]})
    assert_same_states(going_on.state, want.state)


def a_row_that_stopped_goes_on_with_the_stop_token(model: TitansLM) -> None:
    """A row is as without a stop token until it has met it, and then nothing else; when all have, generation ends."""
    tokens = random_tokens(model, 3, 4)
    free, _ = model.generate(tokens, 12, temperature=1.0, seed=3)
    new = free[:, 4:].tolist()
    stop = next(token for token in range(7) if len({row.index(token) if token in row else 12 for row in new}) == 3)
    cut, _ = model.generate(tokens, 12, temperature=1.0, seed=3, stop_token=stop)
    until = [row.index(stop) + 1 if stop in row else 12 for row in new]
    assert cut.shape == (3, 4 + max(until))
    for row, length in enumerate(until):
        assert torch.equal(cut[row, : 4 + length], free[row, : 4 + length])
        assert (cut[row, 4 + length :] == stop).all()


# ---- Users who come and go, documents in rows ------------------------------------------------------------------------

COUNTS = ((1, 3), (2, 0), (2, 5), (1, 4))  # rows, and tokens that they have read


def alone(model: TitansLM, texts: Sequence[Tensor]) -> Tensor:
    """The last logits of each text in a call of its own, [texts, 1, vocab]."""
    return torch.cat([model(text[None]).logits[:, -1:] for text in texts])


def read_and_joined(model: TitansLM) -> tuple[Any, list[Tensor]]:
    """A state of rows that have read `COUNTS`, and their texts."""
    texts, states = [], []
    for rows, count in COUNTS:
        some = random_tokens(model, rows, count, seed=count)
        states.append(model(some).state if count else model.initial_state(rows))
        texts += some.unbind()
    return type(states[0]).join(states), texts


def a_token_for_each(model: TitansLM, state: Any, texts: Sequence[Tensor], seed: int) -> tuple[Any, list[Tensor]]:
    """One token for every row, which gets the logits of reading its text alone; the state and the texts after it."""
    token = random_tokens(model, len(texts), 1, seed)
    output = model(token, state)
    texts = [torch.cat((text, new)) for text, new in zip(texts, token, strict=True)]
    assert_same({"logits": output.logits}, {"logits": alone(model, texts)})
    return output.state, texts


@torch.no_grad()
def joined_rows_go_on_as_each_alone(model: TitansLM) -> None:
    """Logits token by token, and at the end every row's state."""
    state, texts = read_and_joined(model)
    for seed in range(5):
        state, texts = a_token_for_each(model, state, texts, seed)
    for row, text in enumerate(texts):
        assert_same_states(state.select(torch.tensor([row])), model(text[None]).state)


@torch.no_grad()
def reset_rows_begin_again_and_no_other(model: TitansLM) -> None:
    state, texts = read_and_joined(model)
    for seed, rows in enumerate(([4], [5, 0], [1, 2, 3])):
        state, texts = (
            model.reset(state, torch.tensor(rows)),
            [t[: t.numel() * (i not in rows)] for i, t in enumerate(texts)],
        )
        for more in range(2):
            state, texts = a_token_for_each(model, state, texts, 10 * seed + more)


@torch.no_grad()
def selected_rows_are_those_that_are_meant(model: TitansLM) -> None:
    """In another order, more than once, counted from the end, one by one; and the state that they came from stays."""
    state, texts = read_and_joined(model)
    for seed, rows in enumerate(([5, 3, 0, 3], [-1, 1, -6, -2], [2])):
        some = state.select(torch.tensor(rows)), [texts[row] for row in rows]
        a_token_for_each(model, *a_token_for_each(model, *some, seed), seed + 5)
    state = type(state).join(state.split()[::-1])
    a_token_for_each(model, state, texts[::-1], 9)


@torch.no_grad()
def packed_documents_are_those_of_calls_of_their_own(model: TitansLM) -> None:
    """Logits, loss and the last states, going on from rows that have read something."""
    tokens, starts = random_tokens(model, 3, 9), torch.zeros(3, 9, dtype=torch.bool)
    starts[0, [2, 7]] = starts[1, 4] = starts[2, [0, 5]] = True
    before = model(random_tokens(model, 3, 5, seed=3)).state
    output = model(tokens, before, labels=tokens, starts=starts)
    loss, count = 0.0, 0
    for row in range(3):
        state, borders = before.select(torch.tensor([row])), starts[row].nonzero()[:, 0].tolist()
        for begin, end in pairwise(sorted({0, *borders, 9})):
            text = tokens[row : row + 1, begin:end]
            own = model(text, None if begin in borders else state, labels=text)
            state, loss, count = own.state, loss + own.loss * (end - begin - 1), count + end - begin - 1
            assert_same({"logits": output.logits[row, begin:end]}, {"logits": own.logits[0]})
        assert_same_states(output.state.select(torch.tensor([row])), state)
    assert_same({"loss": output.loss}, {"loss": loss / count})


@torch.no_grad()
def a_clone_has_tensors_of_its_own(model: TitansLM) -> None:
    state, _ = read_and_joined(model)
    one, other = ({tensor.data_ptr() for tensor in some.tensors().values()} for some in (state, state.clone()))
    assert not one & other


@torch.no_grad()
def a_prefix_is_kept_in_its_block_alone(model: TitansLM) -> None:
    """Behind a block of `unchanged_parameters` a parameter may change, and so do the next logits, in another block too;
    nor has another model what one has kept."""
    tokens, token, other = random_tokens(model, 1, 2), random_tokens(model, 1, 1, seed=8), copy.deepcopy(model)
    mixer_of(other).persistent.mul_(2)
    with unchanged_parameters():
        state = model(tokens[:, 1:], model(tokens[:, :1]).state).state
        assert_same({"logits": other(token, state).logits}, {"logits": other(token, state.clone()).logits})
    mixer_of(model).persistent.mul_(1.5)
    want = model(token, state.clone()).logits
    assert_same({"logits": model(token, state).logits}, {"logits": want})
    with unchanged_parameters():
        assert_same({"logits": model(token, state).logits}, {"logits": want})


@torch.no_grad()
def a_hook_of_attention_changes_single_tokens_too(model: TitansLM) -> None:
    tokens = random_tokens(model, 2, 5)
    for register, hook in (
        ("register_forward_hook", lambda module, inputs, output: (2 * output[0], output[1])),
        ("register_forward_pre_hook", lambda module, inputs: (inputs[0] / 2, *inputs[1:])),
    ):
        handle = getattr(mixer_of(model).attention, register)(hook)
        assert_same({"logits": run_in_pieces(model, tokens, [3, 4])[0]}, {"logits": model(tokens).logits})
        handle.remove()


@torch.no_grad()
def a_bound_on_surprise_holds_for_single_tokens_too(model: TitansLM) -> None:
    """Small enough to bite."""
    free = model(random_tokens(model, 2, 9)).logits
    for layer in memories(model):
        layer.max_surprise = 0.1
    assert not torch.allclose(model(random_tokens(model, 2, 9)).logits, free)
    splitting_changes_nothing(model, 9, range(1, 9))


# ---- The equations, token by token -----------------------------------------------------------------------------------


def plain_attend(q: Tensor, seen: Sequence[tuple[Tensor, Tensor, int | None]]) -> Tensor:
    """softmax(q . k / sqrt(dim)) v for one token: q [batch, heads, dim], and of what it sees key, value and distance.

    Rotary positions by complex numbers: features j and j + dim/2 are one, and it turns by distance / 10000^(2j/dim).
    A distance of None is a key without position.
    """
    half = q.shape[-1] // 2
    frequencies = 10_000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    scores = []
    for key, _, distance in seen:
        turned = torch.complex(q[..., :half], q[..., half:])
        if distance is not None:
            turned = turned * torch.exp(1j * distance * frequencies)
        scores.append((turned * torch.complex(key[..., :half], key[..., half:]).conj()).real.sum(-1))
    scores = torch.stack(scores, dim=-1) / math.sqrt(q.shape[-1])
    weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
    return sum(weights[..., i, None] * value for i, (_, value, _) in enumerate(seen))


def split_heads(x: Tensor, heads: int) -> Tensor:
    return x.reshape(*x.shape[:-1], heads, -1)


def attention_of(mixer: Any, x: Tensor, prefix: Sequence[Tensor], streams: Sequence[Sequence[Tensor]]) -> Tensor:
    """One token, x [batch, dim], over a prefix without positions and streams of vectors up to its own position."""
    p, heads = dict(mixer.attention.named_parameters()), mixer.attention.heads

    def key_value(vector: Tensor) -> list[Tensor]:
        return [split_heads(vector @ p[f"W_{name}.weight"].T, heads) for name in "KV"]

    seen = [(*key_value(vector), None) for vector in prefix]
    for stream in streams:
        seen += [(*key_value(vector), len(stream) - 1 - j) for j, vector in enumerate(stream)]
    y = plain_attend(split_heads(x @ p["W_Q.weight"].T, heads), seen)
    return y.flatten(1) @ p["W_O.weight"].T


def plain_rms_norm(x: Tensor, norm: Any) -> Tensor:
    """x / sqrt(mean of x^2), times a learned scale."""
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + norm.eps) * norm.weight


def plain_silu(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def plain_combine(combine: Any, attention: Tensor, memory: Tensor) -> Tensor:
    """Equations 25 and 28: both normalised with learned scales, a non-linearity, multiplied (D14); or a plain sum."""
    if not list(combine.parameters()):
        return attention + memory
    gate = 1 / (1 + torch.exp(-plain_rms_norm(attention, combine.norm_attention)))
    return gate * plain_rms_norm(memory, combine.norm_memory)


def rows_of(tokens: Tensor, batch: int) -> list[Tensor]:
    """Learned tokens [count, dim], one after another, for every row."""
    return [token.expand(batch, -1) for token in tokens]


def seen_of(mixer: Any, stream: Sequence[Tensor], t: int) -> Sequence[Tensor]:
    """What token t sees of a stream: from its segment's start or, where segments slide, its window, to itself."""
    if mixer.sliding:
        return stream[max(0, t - mixer.window + 1) : t + 1]
    return stream[t - t % mixer.segment_len : t + 1]


def attention_by_hand(mixer: SegmentAttention, x: Tensor) -> Tensor:
    """[P | x] in segments, token by token."""
    outputs, persistent = [], rows_of(mixer.persistent, x.shape[0])
    for t in range(x.shape[1]):
        outputs.append(attention_of(mixer, x[:, t], persistent, [seen_of(mixer, x.unbind(1), t)]))
    return torch.stack(outputs, dim=1)


def mac_by_hand(mixer: MemoryAsContext, x: Tensor) -> Tensor:
    """Equations 21-25 with D3, D4 and D13, token by token, from the first."""
    batch, tokens, _ = x.shape
    heads, p = mixer.memory.heads, dict(mixer.named_parameters())
    projected, kernel = x @ p["W_Q.weight"].T, p["conv.weight"][:, 0]
    width = kernel.shape[1]

    def retrieve(weights: Sequence[Tensor], q: Tensor) -> Tensor:
        """h = M*(q), normalised: [batch, dim] -> [batch, dim]."""
        q = split_heads(q, heads)
        q = q / torch.sqrt((q * q).sum(-1, keepdim=True) + 1e-6)
        h = plain_forward(weights, q, "gelu", mixer.memory.memory.residual)
        return plain_rms_norm(h, mixer.norm).flatten(1)

    state, h, outputs = mixer.memory.initial_state(batch), [], []
    for t in range(tokens):
        if t % mixer.segment_len == 0:
            start = state.weights
            found = [retrieve(start, query) for query in rows_of(mixer.memory_queries, batch)]
        past = range(max(0, t - width + 1), t + 1)
        q = plain_silu(sum(projected[:, j] * kernel[:, width - 1 - t + j] for j in past))
        h.append(retrieve(start, q))
        prefix = rows_of(mixer.persistent, batch) + found
        streams = [seen_of(mixer, stream, t) for stream in (h, x.unbind(1))]
        y = x[:, t] + attention_of(mixer, x[:, t], prefix, streams)
        read, state = mixer.memory(plain_rms_norm(y, mixer.norm_written)[:, None], state)
        outputs.append(plain_combine(mixer.combine, y, read[:, 0]))
    return torch.stack(outputs, dim=1)


def memory_by_hand(mixer: PrefixedMemory, x: Tensor) -> Tensor:
    """M([P | x]) token by token; what the persistent tokens read is dropped (26, 29, D9)."""
    state, outputs = mixer.memory.initial_state(x.shape[0]), []
    for token in (*rows_of(mixer.persistent, x.shape[0]), *x.unbind(1)):
        y, state = mixer.memory(token[:, None], state)
        outputs.append(y)
    return torch.cat(outputs[len(mixer.persistent) :], dim=1)


def window_by_hand(mixer: MemoryAndWindow, x: Tensor) -> Tensor:
    """SW-Attn*([P | x]) token by token (27, 31)."""
    persistent, outputs = rows_of(mixer.persistent, x.shape[0]), []
    for t in range(x.shape[1]):
        near = x[:, max(0, t - mixer.window + 1) : t + 1].unbind(1)
        outputs.append(attention_of(mixer, x[:, t], persistent, [near]))
    return torch.stack(outputs, dim=1)


def mag_by_hand(mixer: Any, x: Tensor) -> Tensor:
    """Equations 26-28."""
    return plain_combine(mixer.combine, window_by_hand(mixer, x), memory_by_hand(mixer, x))


def mal_by_hand(mixer: Any, x: Tensor) -> Tensor:
    """Equations 29-31 with D13."""
    return window_by_hand(mixer, plain_rms_norm(x + memory_by_hand(mixer, x), mixer.norm))


BY_HAND: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "mac": mac_by_hand,
    "mag": mag_by_hand,
    "mal": mal_by_hand,
    "lmm": memory_by_hand,
    "attention": attention_by_hand,
}


def mixer_of(model: TitansLM) -> Mixer:
    return model.blocks[0].mixer


def mixer_is_its_equations(model: TitansLM, tokens: int) -> None:
    """A mixer's outputs, and the gradients of all its parameters, are those of the loop above over `recurrent_scan`."""
    mixer, found = mixer_of(model), []
    x = torch.randn(2, tokens, model.config.dim, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    leaves = {"x": x.requires_grad_()} | {name: w for name, w in mixer.named_parameters() if w.numel()}
    for by_hand in (False, True):
        if by_hand:
            with patch.object(titans.neural_memory, "chunked_scan", recurrent_scan):
                y = BY_HAND[model.config.variant](mixer, x)
        else:
            y, _ = mixer(x, mixer.initial_state(2))
        random = torch.randn(y.shape, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
        gradients = torch.autograd.grad((y * random).sum(), list(leaves.values()))
        found.append({"y": y} | {f"gradient of {k}": g for k, g in zip(leaves, gradients, strict=True)})
    assert_same(*found)
