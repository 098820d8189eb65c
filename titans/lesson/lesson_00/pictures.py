"""Lesson 00: words for the token ids of `titans.tasks.Recall`, models told and asked, and the lesson's pictures."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from torch import Tensor

from titans.checkpoints import load_checkpoint
from titans.lesson.kit.figures import BLACK, BLUE, CYCLE, GREY, ORANGE, Picture, new_figure, tidy
from titans.model import ModelState, TitansLM
from titans.neural_memory import NeuralMemory
from titans.tasks import Recall

# A word for each token id of `Recall()`: 32 names, then 32 places, then 32 words of filler.
# ruff: noqa: SIM905 (lists of quoted words are harder to read)
NAMES = """Ada Ben Chi Dan Eva Fumi Gil Hana Ian Jun Kai Lea Mio Nia Oto Pia
    Qi Rin Sam Tom Uma Vic Wes Xia Yui Zoe Abe Bea Cleo Dev Emi Finn""".split()
PLACES = """Lima Oslo Rome Paris Cairo Tokyo Quito Delhi Seoul Milan Kyoto Dakar Accra Athens Bergen Boston
    Hanoi Lagos Leeds Lyon Madrid Manila Miami Minsk Nara Osaka Perth Porto Riga Sofia Tunis Turin""".split()
FILLER = """the of and to in it is was that for on with as at by from
    this but not or one all so out up if then now some rain tea well""".split()
VOCABULARY = [*NAMES, *PLACES, *FILLER]
TASK = Recall()
OF = {word: number for number, word in enumerate(VOCABULARY)}


def ids(words: Sequence[str]) -> Tensor:
    """Token ids of words, as one row: [1, tokens]."""
    unknown = [word for word in words if word not in OF]
    if unknown:
        raise ValueError(f"words must be in VOCABULARY, got {', '.join(unknown)}")
    return torch.tensor([[OF[word] for word in words]])


def filler(tokens: int, seed: int = 0) -> Tensor:
    """Filler words at random, [1, tokens]; a longer one begins as a shorter one does."""
    return TASK.pass_time(1, tokens, torch.Generator().manual_seed(seed))


def never_written(model: TitansLM) -> TitansLM:
    """A copy in which the gates of every memory are 0, step size and forgetting: each memory stays M_0."""
    model = copy.deepcopy(model)
    for layer in model.modules():
        if isinstance(layer, NeuralMemory):
            torch.nn.init.zeros_(layer.to_gates.weight)
            torch.nn.init.constant_(layer.to_gates.bias, -200.0)  # sigmoid(-200) is 0 in float32
    return model


@cache
def models() -> dict[str, TitansLM]:
    """The three models that the lesson compares, without gradients; nobody may change them."""
    mac, attention = (load_checkpoint(f"recall-live/{name}")[0].requires_grad_(False) for name in ("mac", "attention"))
    return {"memory on": mac, "memory never written": never_written(mac), "trained without memory": attention}


def told_words(facts: dict[str, str]) -> list[str]:
    """Names and places in turn."""
    return [word for fact in facts.items() for word in fact]


def chances(model: TitansLM, state: ModelState, names: Sequence[str]) -> Tensor:
    """The probability of every place as the answer to each name, asked alone from the same state: [names, 32]."""
    first = len(NAMES)
    asked = [model(ids([name]), state).logits[0, -1].softmax(-1) for name in names]
    return torch.stack(asked)[:, first : first + len(PLACES)]


class Course(NamedTuple):
    """The share of right answers for each pair in the order of telling, at several distances: [distances, pairs]."""

    distances: tuple[int, ...]
    right: Tensor


DISTANCES = (0, 1, 2, 4, 8, 16, 64, 256, 1024, 2048)


@cache
def share_by_distance(name: str, rows: int = 32, distances: tuple[int, ...] = DISTANCES) -> Course:
    """One of `models()`: told, kept waiting, and asked for each pair alone, at growing distances of one stream."""
    model, random = models()[name], torch.Generator().manual_seed(7)
    told = TASK.tell(rows, random).tokens
    passed = TASK.pass_time(rows, max(distances), random)
    state, done, right = model(told).state, 0, []
    for distance in distances:
        if distance > done:
            state, done = model(passed[:, done:distance], state).state, distance
        right.append(right_answers(model, state, told))
    return Course(distances, torch.stack(right))


def right_answers(model: TitansLM, state: ModelState, told: Tensor) -> Tensor:
    """The share of rows in which each told pair is answered, each asked alone from the same state: [pairs]."""
    keys, values = told[:, 0::2], told[:, 1::2]
    answers = torch.stack([model(key[:, None], state).logits[:, -1].argmax(-1) for key in keys.T], dim=1)
    return (answers == values).float().mean(0)


class Afterthought(NamedTuple):
    """The share of rows that answer the last pair: at once, after a few tokens, and after a few without writing."""

    at_once: float
    after: float
    after_without_writing: float


def last_fact(tokens: int = 4, rows: int = 64) -> Afterthought:
    """Ask for the last pair at once, after some tokens of filler, and after the same ones read without writing."""
    on, off = models()["memory on"], models()["memory never written"]
    random = torch.Generator().manual_seed(3)
    told = TASK.tell(rows, random).tokens
    few = TASK.pass_time(rows, tokens, random)
    state = on(told).state
    states = state, on(few, state).state, off(few, state).state
    return Afterthought(*(float(right_answers(on, state, told)[-1]) for state in states))


class Told(NamedTuple):
    """Shares of rows: the old place answered, the new one; for a name never told, a place that somebody else has."""

    old: float
    new: float
    invented: float


def told_again(distance: int = 100, rows: int = 64) -> Told:
    """The first name gets a second place in the end; and a name is asked for that was never told."""
    model, random = models()["memory on"], torch.Generator().manual_seed(4)
    told = TASK.tell(rows, random).tokens
    keys, values = told[:, 0::2], told[:, 1::2]
    moved = (values[:, :1] - TASK.keys + 1) % TASK.values + TASK.keys
    passed = TASK.pass_time(rows, distance, random)
    state = model(passed, model(torch.cat((told, keys[:, :1], moved), dim=1)).state).state
    answer = model(keys[:, :1], state).logits[:, -1].argmax(-1)
    stranger = torch.tensor([[next(k for k in range(TASK.keys) if k not in row)] for row in keys.tolist()])
    state = model(passed, model(told).state).state
    invented = model(stranger, state).logits[:, -1].argmax(-1)
    shares = (answer == values[:, 0], answer == moved[:, 0], (invented[:, None] == values).any(1))
    return Told(*(float(share.float().mean()) for share in shares))


def by_distance() -> Picture:
    """Right answers against the distance between telling and asking, for the three models and for the last pair."""
    figure = new_figure(9, 3.4)
    axes = tidy(figure.add_subplot(), "", "tokens of filler between telling and asking", "share of right answers")
    figure.subplots_adjust(left=0.08, right=0.72, top=0.95, bottom=0.16)
    with_memory = share_by_distance("memory on")
    curves = {
        "memory on, first five facts": with_memory.right[:, :-1].mean(1),
        "memory on, last fact": with_memory.right[:, -1],
        "memory never written": share_by_distance("memory never written").right.mean(1),
        "trained without memory": share_by_distance("trained without memory").right.mean(1),
    }
    places = range(len(DISTANCES))
    for (name, curve), (colour, marker, line) in zip(curves.items(), CYCLE, strict=False):
        axes.plot(places, curve, color=colour, marker=marker, linestyle=line, markersize=5, label=name)
    axes.axhline(1 / TASK.values, color=GREY, linewidth=0.9, linestyle=":", label="one place in 32, at random")
    axes.set_xticks(places, [f"{distance:,}" for distance in DISTANCES])
    axes.set(ylim=(-0.03, 1.05))
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return Picture(
        figure,
        alt="Share of right answers against the filler between telling and asking, from 0 to 2,048 tokens. With the "
        "memory on it stays near 1 at every distance, but for the last fact when it is asked for at once. With the "
        "memory never written, and in a model trained without memory, it lies near 0.03 throughout.",
        alt_ja="伝えてからたずねるまでの埋め草の長さ（0〜2,048トークン）に対する正解の割合。メモリありでは、"
        "どの距離でも1に近いのですが、最後の事実だけは、すぐにたずねると低くなります。メモリに書き込まない場合と、"
        "メモリなしで訓練したモデルでは、どの距離でも約0.03です。",
    )


IDEA_FILLER = 45  # so that the question is the tenth token of the fourth segment


def writes(model: TitansLM, tokens: Tensor) -> list[float]:
    """The size of the change of the first layer's memory at each token of one row: |M_t - M_{t-1}|."""
    state, sizes = model.initial_state(1), []
    for token in tokens.T:
        before, state = state, model(token[None], state).state
        sizes.append(float((_memory(state) - _memory(before)).norm()))
    return sizes


def _memory(state: ModelState) -> Tensor:
    memory = state.layers[0].memory
    assert memory is not None
    return memory.weights[0]


def idea(facts: dict[str, str]) -> Picture:
    """A stream of tokens, what attention sees of it at the question, and how much each token changed the memory."""
    model = models()["memory on"]
    words, name = told_words(facts), next(iter(facts))
    tokens = torch.cat((ids(words), filler(IDEA_FILLER), ids([name])), dim=1)
    sizes, last = writes(model, tokens), tokens.shape[1] - 1
    segment = model.config.segment_len
    figure = new_figure(9, 3.7)
    grid = figure.add_gridspec(2, 1, height_ratios=(1, 1.25), hspace=0.12, left=0.09, right=0.98, top=0.98, bottom=0.13)
    stream, axes = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    _stream(stream, [VOCABULARY[token] for token in tokens[0].tolist()], len(words), segment)
    tidy(axes, "", "token", r"change of memory $|M_t - M_{t-1}|$")
    axes.bar(range(last + 1), sizes, color=BLUE, width=0.8)
    for axis in (stream, axes):
        axis.set_xlim(-0.8, last + 1.3)
    axes.annotate(
        f"the question {name}? reads\nwhat all writes have left", (last, sizes[last]), (last - 4, 0.6 * max(sizes)),
        fontsize=9, ha="right", va="center", arrowprops={"arrowstyle": "->", "color": BLACK},
    )  # fmt: skip
    return Picture(
        figure,
        alt=f"Above, a stream of {last + 1} tokens in segments of {segment}: six facts, filler, a question. Attention "
        "sees from the question back to the start of its own segment only, not to the facts. Below, how much the "
        "memory changes at each token: much while the facts are told and just after, little during the filler. The "
        "question reads from what this leaves.",
        alt_ja=f"上は、{last + 1}トークンの流れを{segment}トークンずつのセグメントに区切った図。"
        "6つの事実、埋め草、質問の順に並びます。アテンションに見えるのは、質問から自分のセグメントの始まりまでで、"
        "事実には届きません。下は、トークンごとのメモリの変化の大きさです。事実を伝えている間とその直後に大きく、"
        "埋め草では小さくなります。質問は、こうして残ったものを読みます。",
    )


def _stream(axes: Axes, words: list[str], told: int, segment: int) -> None:
    """The tokens as boxes, names and places with their words, and brackets for the segments."""
    last = len(words) - 1
    for place, word in enumerate(words):
        kind = "name" if word in NAMES else "place" if word in PLACES else "filler"
        face = {"name": BLUE, "place": ORANGE, "filler": "0.88"}[kind]
        axes.add_patch(Rectangle((place - 0.45, 0), 0.9, 1, facecolor=face, edgecolor="none"))
        ink = {"name": "white", "place": "black", "filler": "0.35"}[kind]
        axes.text(place, 0.5, word, rotation=90, ha="center", va="center", fontsize=7, color=ink)
    for number, first in enumerate(range(0, last + 1, segment), 1):
        end = min(first + segment - 1, last)
        axes.plot([first - 0.4, first - 0.4, end + 0.4, end + 0.4], [1.15, 1.3, 1.3, 1.15], color=BLACK, linewidth=1)
        seen = " (attention sees this)" if end == last else ""
        centre = (first + end) / 2
        axes.text(centre, 1.4, f"segment {number}{seen}", ha="center", fontsize=8)
    axes.text((told - 1) / 2, -0.12, "told", ha="center", va="top", fontsize=8)
    axes.text((told + last - 1) / 2, -0.12, "filler", ha="center", va="top", fontsize=8)
    axes.text(last, -0.12, "asked", ha="center", va="top", fontsize=8)
    axes.set_ylim(-0.5, 1.85)
    axes.axis("off")
