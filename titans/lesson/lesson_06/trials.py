"""What lesson 06 measures: shares of attention, questions of three kinds, a trained model's attention."""

from copy import deepcopy
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from titans.attention import NOTHING_SEEN, Attention, causal_mask, rotate, window_attention
from titans.model import IGNORED_LABEL, TitansLM
from titans.tasks import Task


def persistent_share(q: Tensor, persistent_keys: Tensor, keys: Tensor) -> Tensor:
    """The share of one softmax that goes to the persistent keys; what exercise 1 asks for."""
    ours, theirs = ((k @ q / len(q) ** 0.5).exp().sum() for k in (persistent_keys, keys))
    return ours / (ours + theirs)


def received(persistent: int, tokens: int = 32, draws: int = 0) -> Tensor:
    """What each column of causal attention over [P | x] receives, averaged over the queries:
    [persistent + tokens].

    draws: 0 for equal scores, else the mean over so many random draws of queries and keys with 16
        features.
    """
    mask = F.pad(causal_mask(tokens, 0, torch.device("cpu")), (persistent, 0), value=True)
    random = torch.Generator().manual_seed(0)
    q = torch.randn(max(draws, 1), tokens, 16, generator=random)
    k = torch.randn(max(draws, 1), persistent + tokens, 16, generator=random)
    scores = q @ k.mT / 4 * (draws > 0)
    return scores.masked_fill(~mask, -torch.inf).softmax(-1).mean((0, 1))


KINDS = (("told", "伝えたキー"), ("always true", "いつも正しい事実"), ("unknown", "知らないキー"))


def through_windows(x: Tensor, P: Tensor, window: int, layers: int, P_reads: bool = False) -> Tensor:
    """What comes out of layers of sliding-window attention, [tokens, dim], with fixed random weights.

    P: what stands in front of every layer, [count, dim]. Where it reads, it looks at all tokens in each layer, as a
        persistent token does not.
    """
    weights = torch.randn(layers, 3, *2 * x.shape[-1:], generator=torch.Generator().manual_seed(0)).to(x)
    for W_Q, W_K, W_V in weights / x.shape[-1] ** 0.5:
        q, k, v, P_k, P_v = (part[None, None] for part in (x @ W_Q, x @ W_K, x @ W_V, P @ W_K, P @ W_V))
        y = window_attention(q, (k,), (v,), (P_k, P_v), window)[0, 0]
        if P_reads:
            P = P + (P @ W_Q @ (x @ W_K).T / x.shape[-1] ** 0.5).softmax(1) @ (x @ W_V)
        x = x + y
    return x


def how_far_it_gets(persistent: int, window: int, layers: int, P_reads: bool = False, tokens: int = 40) -> int:
    """Token 10 is changed: how many tokens further on does what comes out still change?"""
    random = torch.Generator().manual_seed(1)
    x, P = (torch.randn(n, 16, generator=random, dtype=torch.float64) for n in (tokens, persistent))
    other = x.clone()
    other[10] += 1
    before, after = (through_windows(each, P, window, layers, P_reads) for each in (x, other))
    return int((before != after).any(1).nonzero().max()) - 10


FACTS, TOLD, DIM = 4, 8, 16


class Questions(NamedTuple):
    """Rows of a question, eight told pairs and the wanted answer; which of KINDS, and which fact,
    the question is."""

    q: Tensor  # [rows, DIM]
    keys: Tensor  # [rows, TOLD, DIM]
    values: Tensor  # [rows, TOLD, DIM]
    wanted: Tensor  # [rows, DIM]
    kind: Tensor  # [rows]
    fact: Tensor  # [rows]


def questions(rows: int, random: torch.Generator) -> Questions:
    """A third of the rows asks for a told key, a third for one of four facts that are never told, a
    third for nothing.

    The four facts are the same in all sequences. The answer to an unknown key is zero.
    """

    def directions(*shape: int, generator: torch.Generator = random) -> Tensor:
        return F.normalize(torch.randn(*shape, DIM, generator=generator), dim=-1)

    fact_keys, fact_values = directions(2, FACTS, generator=torch.Generator().manual_seed(7))
    keys, values, stranger = directions(rows, TOLD), directions(rows, TOLD), directions(rows)
    row, kind = torch.arange(rows), torch.arange(rows) % 3
    pick = torch.randint(TOLD, (rows,), generator=random)
    fact = torch.randint(FACTS, (rows,), generator=random)
    q = torch.stack((keys[row, pick], fact_keys[fact], stranger))[kind, row]
    wanted = torch.stack((values[row, pick], fact_values[fact], torch.zeros(rows, DIM)))[kind, row]
    return Questions(q, keys, values, wanted, kind, fact)


@torch.no_grad()
def attention_shares(model: TitansLM, tokens: Tensor) -> Tensor:
    """Where the attention of a model's first layer, MAC or "attention", goes: [heads, tokens,
    parts], mean over rows.

    parts: persistent tokens, then the streams: in MAC the retrieved h and the segment's own tokens.
        Each adds up to 1.
    """
    attention, found = next(model.layers()).mixer.attention, []
    assert isinstance(attention, Attention)

    def look(module, arguments):
        q, streams, seen, prefix, _ = arguments
        assert seen is NOTHING_SEEN, "tokens must be whole segments from the first on"
        mask = causal_mask(q.shape[2], 0, q.device)
        scores = [q @ prefix[0].mT]
        scores += [(rotate(q, 0) @ rotate(k, 0).mT).masked_fill(~mask, -torch.inf) for k, _ in streams]
        shares = (torch.cat(scores, dim=-1) / q.shape[-1] ** 0.5).softmax(-1)
        parts = shares.split([part.shape[-1] for part in scores], dim=-1)
        found.append(torch.stack([part.sum(-1) for part in parts], dim=-1).mean(0))

    with attention.register_forward_pre_hook(look):
        model(tokens)
    return torch.cat(found, dim=1)


def with_zero_tokens(model: TitansLM, count: int) -> TitansLM:
    """The same weights in a model that has so many zero vectors for persistent tokens."""
    other = TitansLM(replace(model.config, persistent_tokens=count))
    weights = {
        name: w.new_zeros(count, *w.shape[1:]) if name.endswith(".persistent") else w
        for name, w in model.state_dict().items()
    }
    other.load_state_dict(weights)
    return other


def without_persistent(model: TitansLM) -> TitansLM:
    """The same weights in a model that has no persistent tokens."""
    return with_zero_tokens(model, 0)


def with_persistent(model: TitansLM, tokens: Tensor) -> TitansLM:
    """A copy of a model whose first layer has other persistent tokens, [count, dim]."""
    weights = dict(model.state_dict())
    name = next(name for name in weights if name.endswith(".persistent"))
    model = deepcopy(model)
    model.load_state_dict(weights | {name: tokens.expand_as(weights[name])})
    return model


def without_columns_of_h(model: TitansLM) -> TitansLM:
    """A copy of a MAC whose attention sees the persistent tokens and the segment, and no h. What it leaves behind is no
    state of the model: it reads a sequence in one call."""
    model = deepcopy(model)
    attention = next(model.layers()).mixer.attention
    assert isinstance(attention, Attention)

    def look_away(module, arguments):
        q, streams, seen, prefix, window = arguments
        assert seen is NOTHING_SEEN, "a sequence must be read in one call"
        return q, streams[1:], seen, prefix, window

    attention.register_forward_pre_hook(look_away)
    return model


@torch.no_grad()
def right_in_one_call(model: TitansLM, task: Task, between: int, rows: int = 256) -> float:
    """The share of right answers in sequences that are read in one call, with `between` tokens of noise."""
    batch = task.sample(rows, between, torch.Generator().manual_seed(9))
    said, wanted = model(batch.tokens).logits[:, :-1].argmax(-1), batch.labels[:, 1:]
    return float((said == wanted)[wanted != IGNORED_LABEL].double().mean())


def with_prefix(model: TitansLM, keys: float, values: float) -> TitansLM:
    """A copy of a model whose first layer's persistent tokens have keys and values that are so many times as large."""
    model = deepcopy(model)
    attention = next(model.layers()).mixer.attention
    assert isinstance(attention, Attention)

    def scale(module, arguments):
        q, streams, seen, (k, v), window = arguments
        return q, streams, seen, (keys * k, values * v), window

    attention.register_forward_pre_hook(scale)
    return model


@torch.no_grad()
def common_part(model: TitansLM, tokens: Tensor) -> list[float]:
    """What share of its queries' squared length a direction has that all of them have in common, for each head of the
    first layer."""
    attention, found = next(model.layers()).mixer.attention, []
    assert isinstance(attention, Attention)
    with attention.register_forward_pre_hook(lambda module, arguments: found.append(arguments[0])):
        model(tokens)
    q = torch.cat(found, dim=2).transpose(0, 1).flatten(1, 2)  # [heads, rows and tokens, dim]
    return (q.mean(1).square().sum(-1) / q.square().sum(-1).mean(1)).tolist()
