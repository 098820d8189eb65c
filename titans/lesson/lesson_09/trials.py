"""What lesson 09 measures: surprise over many rows, keys at two tellings, states and what becomes of
an edited one, needles in a haystack."""

from copy import deepcopy
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from titans.blocks import ContextState
from titans.lesson.kit.cards import card, space
from titans.lesson.kit.host import say
from titans.lesson.kit.watching import each_pair, memory_of
from titans.model import ModelState, TitansLM
from titans.observe import closed, observed
from titans.state import Weights
from titans.tasks import Needle


def scaled(state: ModelState, factor: float) -> ModelState:
    """The state of a one-block MAC, its memory's weights and momentum multiplied by a factor."""

    def multiplied(tensors: Weights) -> Weights:
        return tuple(factor * tensor for tensor in tensors)

    (layer,) = state.layers
    assert isinstance(layer, ContextState)
    old = layer.memory
    memory = replace(
        old,
        weights=multiplied(old.weights),
        rule_state=multiplied(old.rule_state),
        chunk_weights=multiplied(old.chunk_weights),
    )
    context = replace(layer, memory=memory, segment_weights=multiplied(layer.segment_weights))
    return replace(state, layers=(context,))


def state_bytes(state: ModelState) -> int:
    """Bytes of all tensors of a state, one that stands in two places counted once."""
    return sum(tensor.numel() * tensor.element_size() for tensor in state.tensors().values())


@torch.no_grad()
def mean_surprise(model: TitansLM, tokens: Tensor, state: ModelState | None = None) -> Tensor:
    """|u_t| of the model's memory at every token, the mean over rows: [tokens]"""
    with observed(memory_of(model)) as calls:
        model(tokens, state)
    return torch.cat([call.surprise()[:, 0] for call in calls], dim=1).mean(0)


class Written(NamedTuple):
    """What a memory of one matrix and one head was given to write, and what it was compared with."""

    k: Tensor  # [rows, tokens, dim]
    v: Tensor  # [rows, tokens, dim]
    start: Tensor  # the weights at which the token's gradient is taken: [rows, tokens, dim, dim]


@torch.no_grad()
def written(model: TitansLM, tokens: Tensor, state: ModelState | None = None) -> Written:
    """Every write of the model's memory. Its chunks must be its segments, so that a call is within one chunk."""
    with observed(memory_of(model)) as calls:
        model(tokens, state)
    starts = [call.before.chunk_weights[0][:, 0, None].expand(-1, call.tokens.k.shape[2], -1, -1) for call in calls]
    k, v = (torch.cat([getattr(call.tokens, name)[:, 0] for call in calls], dim=1) for name in "kv")
    return Written(k, v, torch.cat(starts, dim=1))


@torch.no_grad()
def queries(model: TitansLM, state: ModelState, keys: Tensor) -> Tensor:
    """With which q the memory is read when each key is asked for; keys [rows, pairs] -> [rows, pairs, dim]"""
    with observed(memory_of(model)) as calls:
        model(keys.reshape(-1, 1), each_pair(state, keys.shape[1]))
    return torch.cat([call.tokens.q for call in calls])[:, 0, 0].unflatten(0, keys.shape)


def answer(M: Tensor, k: Tensor) -> Tensor:
    """M k, for M [rows, dim, dim] and k [rows, pairs, dim]: [rows, pairs, dim]"""
    return torch.einsum("rij,rpj->rpi", M, k)


def alike(one: Tensor, other: Tensor) -> float:
    """The mean cosine of vectors of the last dimension."""
    return float(F.cosine_similarity(one, other, dim=-1).mean())


def miss(said: Tensor, v: Tensor) -> float:
    """The mean surprise 2|M k - v| of keys of length 1."""
    return float(2 * (said - v).norm(dim=-1).mean())


def at_best_length(said: Tensor, v: Tensor) -> float:
    """What is left of `miss` if every answer keeps its direction and has the length that fits best."""
    cosines = F.cosine_similarity(said, v, dim=-1)
    return float((2 * v.norm(dim=-1) * (1 - cosines.square()).clamp(min=0).sqrt()).mean())


def beside(said: Tensor, v: Tensor) -> str:
    """What a memory said beside what it should have said, means over all, as text: the cosine, both lengths, the
    surprise, and what is left of it at the best length."""
    lengths = (float(each.norm(dim=-1).mean()) for each in (said, v))
    return "".join(f"{number:9.2f}" for number in (alike(said, v), *lengths, miss(said, v), at_best_length(said, v)))


def with_first_h(state: ModelState, model: TitansLM) -> ModelState:
    """The state of a one-block MAC whose h is read from the memory before the first token, until the segment ends."""
    (layer,) = state.layers
    assert isinstance(layer, ContextState)
    (first,) = model.initial_state(len(layer.recent)).layers
    assert isinstance(first, ContextState)
    return replace(state, layers=(replace(layer, segment_weights=first.segment_weights),))


def in_chunks_of(size: int, model: TitansLM) -> TitansLM:
    """A copy whose memory takes its gradients at the weights of `size` tokens ago at most."""
    model = deepcopy(model)
    memory_of(model).chunk_size = size
    return model


@torch.no_grad()
def found_if_closed(model: TitansLM, task: Needle, hay: int, rows: int, seed: int = 0, rest: int = 16) -> float:
    """The share of needles found when nothing is written any more from `rest` tokens after the needle on."""
    random, reader = torch.Generator().manual_seed(seed), closed(model)
    told = task.tell(rows, random)
    state = model(torch.cat((told.tokens, task.pass_time(rows, rest, random)), dim=1)).state
    for done in range(rest, hay, 1024):
        state = reader(task.pass_time(rows, min(1024, hay - done), random), state).state
    said = reader(told.asked.tokens, state).logits[:, :-1].argmax(-1)
    return float((said == told.asked.labels[:, 1:]).all(1).double().mean())


@torch.no_grad()
def two_needles(model: TitansLM, task: Needle, hay: int, rows: int, seed: int = 1) -> tuple[float, float]:
    """Two needles with the same mark, each with hay behind it: how often the old one is answered, and the new one."""
    random, state, needles = torch.Generator().manual_seed(seed), None, []
    for _ in range(2):
        told = task.tell(rows, random)
        needles.append(told.asked)
        state = model(torch.cat((told.tokens, task.pass_time(rows, hay, random)), dim=1), state).state
    said = [model(asked.tokens, state).logits[:, :-1].argmax(-1) == asked.labels[:, 1:] for asked in needles]
    old, new = (float(right.all(1).double().mean()) for right in said)
    return old, new


# Share of needles found at 2K, 4K, 8K and 16K tokens, in percent, if the needle is a pass-key, a
# number or a word: the paper's later version (NeurIPS 2025).
PAPER_NEEDLE = {
    "TTT": ((98.4, 98.8, 98.0, 88.4), (60.2, 36.6, 10.2, 4.4), (78.8, 28.0, 4.4, 0.0)),
    "Mamba2": ((98.6, 61.4, 31.0, 5.4), (98.4, 55.8, 14.2, 0.0), (42.2, 4.2, 0.0, 0.0)),
    "DeltaNet": ((96.8, 98.8, 98.6, 71.4), (47.2, 15.4, 12.8, 5.4), (46.2, 20.0, 1.6, 0.0)),
    "LMM": ((99.8, 98.4, 98.2, 96.2), (100.0, 99.8, 93.4, 80.2), (90.4, 89.4, 85.8, 80.6)),
    "MAC": ((99.2, 98.8, 99.0, 98.4), (99.6, 98.2, 97.6, 97.4), (98.2, 98.2, 95.6, 95.2)),
    "MAG": ((99.4, 98.0, 97.4, 97.4), (99.2, 98.8, 97.2, 98.6), (98.0, 98.0, 90.2, 88.2)),
    "MAL": ((98.8, 98.6, 98.8, 97.8), (99.8, 98.1, 96.8, 96.4), (98.2, 97.4, 92.0, 90.4)),
}


def paper_needle() -> str:
    """The paper's table as text."""
    kinds_said = say("pass-key", "パスキー"), say("number", "数"), say("word", "単語")
    lines = [" " * 9 + "".join(space(kind, 23) + kind for kind in kinds_said)]
    for model, kinds in PAPER_NEEDLE.items():
        cells = ("/".join(f"{share:g}" for share in shares) for shares in kinds)
        lines.append(f"{model:9}" + "".join(f"{cell:>23}" for cell in cells))
    return "\n".join(lines)


def needle_card() -> dict:
    """The card of the recipe `needle`: what came of every run and seed."""
    return card("needle")


def said(run: str) -> str:
    """What a run of the recipe `needle` ("mac in noise", "mac that forgets in noise") is called in the lesson."""
    model, hay = run.split(" in ")
    model = model.upper().replace("ATTENTION", "アテンション").replace(" THAT FORGETS", "（忘却あり）")
    return say(run, f"{model}、{'雑音' if hay == 'noise' else 'テキスト'}")


def needle_table(card: dict) -> str:
    """The card's results as text: percent found by the median and by the worst seed."""
    hay = next(iter(card["runs"].values()))["right"]
    lines = [" " * 25 + "".join(f"{int(tokens):>10,}" for tokens in hay)]
    for name, result in card["runs"].items():
        texts = (f"{100 * cell['median']:.0f} ({100 * cell['worst']:.0f})" for cell in result["right"].values())
        name = said(name)
        lines.append(name + space(name, 25) + "".join(f"{text:>10}" for text in texts))
    return "\n".join(lines)
