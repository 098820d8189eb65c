"""The lab of lesson 04: one sequence through a memory before its training and after it, token by token."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from titans.lesson.kit.figures import BLACK, BLUE, GREY, ORANGE, name_stretches, new_figure, shade, tidy
from titans.lesson.kit.host import say
from titans.lesson.kit.live import Drawing, LivePicture, count, notches, play_button
from titans.lesson.kit.traces import TOLD, six_facts
from titans.lesson.kit.watching import each_pair, memory_of
from titans.model import TitansLM
from titans.observe import observed

TOKENS = 48
KEYS = TOLD[::2]


class Film(NamedTuple):
    """What a memory does at every token, and what it holds after it."""

    theta: np.ndarray  # [tokens]
    eta: np.ndarray
    alpha: np.ndarray
    surprise: np.ndarray
    at_write_key: np.ndarray  # cos(M k, v) with k and v of the token after each pair: [tokens, pairs]
    to_question: np.ndarray  # cos(M q, v) with the query of its question: [tokens, pairs]
    chance: np.ndarray  # the probability of the right answer: [tokens, pairs]


@torch.no_grad()
def film(model: TitansLM) -> Film:
    """The example of the lessons, six facts and then filler, read token by token, all six keys asked after each."""
    tokens, asked, answers = six_facts()[0][:, :TOKENS], torch.tensor(KEYS)[:, None], torch.tensor(TOLD[1::2])
    with observed(memory_of(model)) as calls:
        model(tokens)
    k, v = (part[0, 0] for part in calls[-1].tokens[1:3])
    after = 2 + 2 * torch.arange(len(KEYS))  # the tokens after the pairs
    theta, eta, alpha = (gate[0, 0, :, 0].numpy() for gate in calls[-1].tokens.gates)
    state, written, read, chances = model.begin(1), [], [], []
    for token in range(TOKENS):
        state = model(tokens[:, token : token + 1], state).state
        with observed(memory_of(model)) as calls_now:
            logits = model(asked, each_pair(state, len(KEYS))).logits[:, 0]
        M, q = calls_now[-1].before.weights[0][0, 0], calls_now[-1].tokens.q[:, 0, 0]
        known = after <= token
        written.append(F.cosine_similarity(k[after] @ M.mT, v[after], dim=-1) * known)
        read.append(F.cosine_similarity(q @ M.mT, v[after], dim=-1) * known)
        chances.append(logits.softmax(-1).gather(1, answers[:, None])[:, 0])
    at_write_key, to_question, chance = (torch.stack(part).numpy() for part in (written, read, chances))
    return Film(theta, eta, alpha, calls[-1].surprise()[0, 0].numpy(), at_write_key, to_question, chance)


ROWS = {"theta": r"$\theta$", "eta": r"$\eta$", "surprise": "$|u|$"}


class FilmDrawing(Drawing):
    """Gates and surprise above, with a cursor; below what each model holds of the six pairs after that token."""

    def __init__(self, before: TitansLM, after: TitansLM) -> None:
        kinds = say("before training", "訓練前"), say("after", "訓練後")
        self.films = dict(zip(kinds, (film(before), film(after)), strict=True))
        self.figure = new_figure(4.9)
        upper = self.figure.add_gridspec(3, 1, left=0.07, right=0.985, top=0.89, bottom=0.48, hspace=0.25)
        lower = self.figure.add_gridspec(1, 2, left=0.07, right=0.985, top=0.34, bottom=0.1, wspace=0.1)
        self.cursors = [self._row(upper[row], *names) for row, names in enumerate(ROWS.items())]
        self.note = self.figure.text(0.07, 0.965, "", fontsize=10)
        self.bars, self.titles = [], []
        for place, kind in enumerate(kinds):
            y = say("cosine", "コサイン") if place == 0 else ""
            axes = tidy(self.figure.add_subplot(lower[place]), "", say("pair", "ペア"), y)
            axes.set(ylim=(-0.3, 1.05), xticks=range(len(KEYS)), xticklabels=range(1, len(KEYS) + 1))
            for shift, colour, hatch in ((-0.2, BLUE, ""), (0.2, ORANGE, "//")):
                places, heights = np.arange(len(KEYS)) + shift, np.zeros(len(KEYS))
                self.bars.append(axes.bar(places, heights, 0.36, color=colour, hatch=hatch, edgecolor="white"))
            self.titles.append(axes.set_title(kind, fontsize=9, loc="left"))
        handles = [self.bars[0][0], self.bars[1][0]]
        self.figure.legend(
            handles,
            [say("answer at the write key", "書き込みのキーへの答え"), say("answer to the question", "質問への答え")],
            loc="center", bbox_to_anchor=(0.8, 0.425), ncols=2, frameon=False, fontsize=8,
        )  # fmt: skip
        self.moving = [*self.cursors, *(bar for group in self.bars for bar in group), *self.titles, self.note]

    def _row(self, place, name: str, label: str):
        axes = tidy(self.figure.add_subplot(place), y=label)
        for (kind, seen), colour, marker in zip(self.films.items(), (GREY, BLUE), ("s", "o"), strict=True):
            axes.plot(range(TOKENS), getattr(seen, name), marker, color=colour, markersize=3, label=kind)
        axes.set(xlim=(-0.6, TOKENS - 0.4))
        axes.set_ylim(bottom=0)
        axes.tick_params(labelbottom=name == "surprise")
        spans = {say("told", "伝えた事実"): (0, len(TOLD)), say("filler", "埋め草"): (len(TOLD), TOKENS)}
        shade(axes, spans)
        if name == "theta":
            name_stretches(axes, spans)
            axes.legend(frameon=False, fontsize=8, ncols=2, loc="lower right", bbox_to_anchor=(1.0, 0.98))
        return axes.axvline(0, color=BLACK, linewidth=1)

    def draw(self, token: int, shown: str) -> None:
        for cursor in self.cursors:
            cursor.set_xdata([token, token])
        for place, (kind, seen) in enumerate(self.films.items()):
            groups = (seen.at_write_key[token], seen.to_question[token])
            for bars, heights, wanted in zip(self.bars[2 * place :], groups, ("write key", "question"), strict=False):
                for bar, height in zip(bars, heights, strict=True):
                    bar.set_height(float(height) if shown in ("both", wanted) else 0.0)
            right = float(seen.chance[token].mean())
            share = say(f": the right answers have {right:.0%} of the probability", f"：正しい答えの確率は{right:.0%}")
            self.titles[place].set_text(kind + share)
        told = min(6, (token + 1) // 2)
        note = say(
            f"after token {token}: {told} of 6 pairs told", f"トークン{token}の後：6ペアのうち{told}ペアを伝えた"
        )
        self.note.set_text(note)


def film_lab(before: TitansLM, after: TitansLM) -> LivePicture:
    """The live picture: the token after which both memories are looked at."""
    token = count(say("token", "トークン"), 20, 0, TOKENS - 1)
    shown = (
        (say("both", "両方"), "both"),
        (say("write key", "書き込みのキー"), "write key"),
        (say("question", "質問"), "question"),
    )
    return LivePicture(
        FilmDrawing(before, after),
        {"token": token, "shown": notches(say("bars", "棒"), shown, "both")},
        (("token", play_button(token)), ("shown",)),
        states=({"token": 5}, {"token": 40}),
        shows="Above step θ, momentum η and surprise |u| at each of 48 tokens, before training and after; below, for "
        "six pairs, how well each memory answers at the write key and to the question.",
        shows_ja="上は48トークンのステップ幅 θ、モーメンタム η、驚き |u|（訓練の前と後）。"
        "下は、6つのペアについて、各メモリが書き込みのキーと質問にどれだけよく答えるかを示した図。",
        alt="After token 5 two pairs have been written in both memories. After token 40 both memories answer all six "
        "write keys; only the trained one answers the questions.",
        alt_ja="トークン5の後は、どちらのメモリにも2ペアが書き込まれています。トークン40の後は、"
        "どちらのメモリも6つの書き込みのキーに答えますが、質問に答えるのは学習済みのほうだけです。",
    )
