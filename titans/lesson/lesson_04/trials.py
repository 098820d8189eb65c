"""What lesson 04 measures: whose gradient is what, what training changed, and which part does the work."""

import json
from collections.abc import Sequence
from copy import deepcopy
from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from titans.blocks import MixerTable
from titans.checkpoints import load_checkpoint
from titans.lesson.kit.cards import card, space
from titans.lesson.kit.host import say
from titans.lesson.kit.interventions import without_taps
from titans.lesson.kit.watching import each_pair, memory_of
from titans.lesson.lesson_04.overwriting import newest_and_old as newest_and_old
from titans.lesson.lesson_04.runs import FIRST_STEPS, PARTS, RESULTS, RUN, SWITCHED_OFF, belongs, other_start
from titans.model import TitansLM
from titans.observe import observed
from titans.recipes import OVERWRITING, checkpoint_name

OFFSETS = {"the key": 0, "the value": 1, "the token after": 2}  # tokens of a pair, counted from its key's
WORDS = {
    "none": "なし",
    "correction": "修正",
    "momentum": "モーメンタム",
    "forgetting": "忘却",
    "all three": "3つとも",
}  # for OVERWRITING


@cache
def untrained(seed: int = 0) -> TitansLM:
    """The model that training with this seed starts from."""
    torch.manual_seed(seed)
    return TitansLM(RUN.config)


def with_reset(model: TitansLM, *parts: str, start: TitansLM | None = None) -> TitansLM:
    """A copy of a trained model whose parts are as they were before training."""
    model, first = deepcopy(model), dict((start or untrained()).named_parameters())
    for name, parameter in model.named_parameters():
        if belongs(name, parts):
            parameter.data.copy_(first[name])
    return model


# What a pair was written with, and what it is asked with.


class Pairs(NamedTuple):
    """Rows of six pairs, told first in one stretch and followed by noise, in a model's memory."""

    k: Tensor  # write keys of the tokens in OFFSETS of each pair: [rows, pairs, 3, dim]
    v: Tensor  # their values, of the same shape
    M: Tensor  # the memory that the question finds: [rows, dim, dim]
    q: Tensor  # the query of each question, asked by itself: [rows, pairs, dim]
    theta: Tensor  # of the told tokens and of noise: [rows, tokens]
    eta: Tensor
    alpha: Tensor
    surprise: Tensor
    asked: Tensor  # the keys: [rows, pairs]
    answers: Tensor  # and what they were told with


@torch.no_grad()
def tell_and_ask(model: TitansLM, rows: int = 64, noise: int = 36, seed: int = 1) -> Pairs:
    """What a model of one layer does with pairs that are told and asked for."""
    random = torch.Generator().manual_seed(seed)
    told = RUN.task.tell(rows, random).tokens
    tokens = torch.cat((told, RUN.task.pass_time(rows, noise, random)), dim=1)
    with observed(memory_of(model)) as calls:
        state = model(tokens).state
    call = calls[-1]  # the first is about persistent tokens
    keys, values = told[:, ::2], told[:, 1::2]
    with observed(memory_of(model)) as asked:
        model(keys.reshape(-1, 1), each_pair(state, keys.shape[1]))
    places = 2 * torch.arange(keys.shape[1])[:, None] + torch.tensor(list(OFFSETS.values()))
    k, v = (part[:, 0, places] for part in (call.tokens.k, call.tokens.v))
    theta, eta, alpha = (gate[:, 0, :, 0] for gate in call.tokens.gates)
    q = asked[0].tokens.q[:, 0, 0].unflatten(0, keys.shape)
    return Pairs(k, v, call.after.weights[0][:, 0], q, theta, eta, alpha, call.surprise()[:, 0], keys, values)


def cosine(one: Tensor, other: Tensor) -> Tensor:
    """Means over rows and pairs: [..., n, dim] -> [n]."""
    return F.cosine_similarity(one, other, dim=-1).flatten(0, 1).mean(0)


def answers_at_write_keys(pairs: Pairs) -> Tensor:
    """cos(M k, v) of each of the three tokens."""
    return cosine(torch.einsum("rod,rpnd->rpno", pairs.M, pairs.k), pairs.v)


def answers_to_question(pairs: Pairs) -> Tensor:
    """cos(M q, v): which of the three values does the question get?"""
    return cosine(torch.einsum("rod,rpd->rpo", pairs.M, pairs.q)[:, :, None], pairs.v)


def question_meets(pairs: Pairs) -> Tensor:
    """q . k: which of the three write keys does the question look like?"""
    return torch.einsum("rpd,rpnd->rpn", pairs.q, pairs.k).flatten(0, 1).mean(0)


@torch.no_grad()
def right_with_key(model: TitansLM, pairs: Pairs, offset: int | None) -> float:
    """The share of right answers if the memory is read with a pair's write key, offset tokens after its first, in
    place of the question's query (None: with the query)."""
    (block,) = model.layers()
    x = model.embedding(pairs.asked.reshape(-1, 1))
    read_with = pairs.q if offset is None else pairs.k[:, :, offset]
    y = torch.einsum("rod,rpd->rpo", pairs.M, read_with).reshape(len(x), 1, 1, -1)
    x = x + memory_of(model).output(block.norm_mixer(x), y)
    said = model.head(model.norm(x + block.ffn(block.norm_ffn(x))))[:, 0].argmax(-1)
    return float((said.view_as(pairs.answers) == pairs.answers).float().mean())


def without_tap(model: TitansLM, what: str, back: int) -> TitansLM:
    """A copy whose convolution does not see the token `back` tokens ago when it makes `what`, one of q, k and v."""
    return without_taps(model, "qkv".index(what), back)


# Where keys are told twice.


@cache
def retold_models() -> dict[str, TitansLM]:
    """The models of the recipe `recall-retold`."""
    return {
        name: load_checkpoint(f"recall-retold/{checkpoint_name(name, 0, (0,)).removesuffix('.safetensors')}")[0]
        for name in OVERWRITING
    }


# The gradients of the outer loop.


def gradient_norms(mixers: MixerTable | None = None) -> dict[str, float]:
    """|dloss/d part| of every part of the untrained model on the first batch of its training."""
    torch.manual_seed(0)
    model, batch = TitansLM(RUN.config, mixers), RUN.batch(0, 0)
    model(batch.tokens, labels=batch.labels).loss.backward()
    found = {}
    for part in PARTS:
        squares = [
            p.grad.square().sum() for n, p in model.named_parameters() if belongs(n, (part,)) and p.grad is not None
        ]
        found[part] = float(torch.stack(squares).sum().sqrt()) if squares else 0.0
    return found


# Cards.


def results() -> dict[str, dict[str, dict]]:
    """What `runs` has found: by name and seed."""
    return json.loads(RESULTS.read_text(encoding="utf-8"))


def never_trained() -> dict[str, list[float]]:
    """Right at 56 tokens in between, a seed each, of models trained without a part."""
    return {
        name: [run["right"] for run in seeds.values()] for name, seeds in results().items() if "right" in seeds["0"]
    }


def other_first_steps() -> dict[str, list[float]]:
    """The same of the models of `recall-retold` that start with the theta of the other chunk size."""
    found = never_trained()
    return {name: found[other_start(name)] for name in FIRST_STEPS}


def switched_off() -> dict[str, dict[str, float]]:
    """Of the model that has all three: the share of newest values with each switched off, by seed and name."""
    return results()[SWITCHED_OFF]


def retold_card() -> dict:
    """The card of the recipe `recall-retold`."""
    return card("recall-retold")


def retold_table(card: dict) -> str:
    """Its results as text: percent right in every seed."""
    tops = [say(f"{tokens} tokens", f"{tokens}トークン") for tokens in next(iter(card["runs"].values()))["right"]]
    lines = [" " * 12 + "".join(space(top, 18) + top for top in tops)]
    for name, run in card["runs"].items():
        cells = ("/".join(f"{100 * share:.0f}" for share in right["each"]) for right in run["right"].values())
        name = say(name, WORDS[name])
        lines.append(name + space(name, 12) + "".join(f"{cell:>18}" for cell in cells))
    return "\n".join(lines)


def means(values: Tensor, told: int = 12) -> Sequence[float]:
    """Of the tokens of keys, of values and of noise, from [rows, tokens]."""
    parts = (values[:, :told:2], values[:, 1:told:2], values[:, told:])
    return [float(part.mean()) for part in parts]


CLUES = {
    "θ at keys": "キーでの θ",
    "θ at noise": "雑音での θ",
    "q·k, token after": "次のトークンのq·k",
    "overlap of keys": "キーの重なり",
    "|v|, token after": "次のトークンの|v|",
}  # in English and Japanese


def clue(model: TitansLM) -> list[float]:
    """What exercise 3 shows of a model."""
    pairs = tell_and_ask(model)
    k, v = pairs.k[:, :, 2], pairs.v[:, :, 2]
    products = k @ k.mT
    others = ~torch.eye(products.shape[-1], dtype=torch.bool)
    theta = means(pairs.theta)
    overlap, length = products[:, others].mean(), v.norm(dim=-1).mean()
    return [theta[0], theta[2], float(question_meets(pairs)[2]), float(overlap), float(length)]
