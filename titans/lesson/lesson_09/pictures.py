"""Pictures and tables of lesson 09. `python -m titans.lesson.lesson_09.pictures FILE` draws README's picture."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from titans.checkpoints import SHIPPED
from titans.lesson.kit.figures import BLACK, BLUE, GREY, ORANGE, Picture, heatmap, new_figure, png, tidy
from titans.lesson.kit.player import right_answers, shade
from titans.lesson.lesson_09.mac_player import Watched, memory_of, record
from titans.lesson.lesson_09.mac_player import story as mac_story
from titans.model import ModelState, TitansLM
from titans.state import Weights

MOMENTS = (0, 5, 11, 47, 95)  # tokens at which README's picture shows the memory


@torch.no_grad()
def share_known(model: TitansLM, state: ModelState, keys: Tensor, values: Tensor) -> list[float]:
    """The share of rows that answer right, for each pair; keys and values [rows, pairs]. Asking changes no state."""
    rows, pairs = keys.shape
    each = state.select(torch.arange(rows).repeat_interleave(pairs))
    said = model(keys.reshape(-1, 1), each).logits[:, 0].argmax(-1).reshape(rows, pairs)
    return [round(share, 4) for share in (said == values).float().mean(0).tolist()]


def scaled(state: ModelState, factor: float) -> ModelState:
    """The state of a one-block MAC, its memory's weights and momentum multiplied by a factor."""

    def multiplied(tensors: Weights) -> Weights:
        return tuple(factor * tensor for tensor in tensors)

    (layer,) = state.layers
    assert layer.memory is not None
    assert layer.start is not None
    old = layer.memory
    memory = replace(
        old,
        weights=multiplied(old.weights),
        momentum=multiplied(old.momentum),
        chunk_weights=multiplied(old.chunk_weights),
    )
    return replace(state, layers=(replace(layer, memory=memory, start=multiplied(layer.start)),))


def state_bytes(state: ModelState) -> int:
    """Bytes of all tensors of a state, one that stands in two places counted once."""
    return sum(tensor.numel() * tensor.element_size() for tensor in state.tensors().values())


@torch.no_grad()
def mean_surprise(model: TitansLM, tokens: Tensor) -> Tensor:
    """|u_t| of the model's memory at every token, the mean over rows: [tokens]"""
    watched, state, means = Watched(memory_of(model)), model.initial_state(len(tokens)), []
    for t in range(tokens.shape[1]):
        state = model(tokens[:, t : t + 1], state).state
        means.append(watched.surprise().mean())
    return torch.stack(means)


def told_twice(surprise: Tensor) -> Picture:
    """The mean surprise of a trained memory while it is told facts, hears noise, and is told the same facts again."""
    figure = new_figure(9, 2.9)
    axes = tidy(figure.add_subplot(), "", "token", "mean surprise $|u_t|$")
    figure.subplots_adjust(left=0.08, right=0.98, top=0.88, bottom=0.18)
    axes.plot(range(len(surprise)), surprise, color=BLUE, marker="o", markersize=3, linewidth=1.2)
    axes.set(xlim=(-1, len(surprise)), ylim=(0, 1.1 * float(surprise.max())))
    shade(axes, mac_story().stretches)
    for chunk in range(16, len(surprise), 16):
        axes.axvline(chunk - 0.5, color=GREY, linewidth=0.8, linestyle=":")
    return Picture(
        figure,
        alt="Mean surprise of the trained memory over 96 tokens of 64 sequences. It is between 1 and 5 while facts are "
        "told, stays high for the first noise, falls to a third of it with the chunk that begins at token 32, and "
        "rises again when the same facts are told once more, to as much as the first time.",
        alt_ja="学習済みのメモリの平均の驚きを、64本の系列、96トークンについて示したグラフ。事実が伝えられる間は1から5の間です。最初の雑音の間は高く、"
        "トークン32から始まるチャンクで、その約3分の1に下がります。同じ事実がもう一度伝えられると、また1回目と同じくらいまで上がります。",
    )


def streaming(tokens: Sequence[int], known: Sequence[float], without: Sequence[float], size: Sequence[int]) -> Picture:
    """Share of right answers and size of the state against the tokens that passed, with and without memory."""
    figure = new_figure(9, 3.2)
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.08, right=0.98, top=0.88, bottom=0.17, wspace=0.25)
    tidy(left, "right answers", "tokens between telling and asking", "share of answers that are right")
    left.semilogx(tokens, known, base=2, color=BLUE, marker="o", label="MAC")
    left.semilogx(tokens, without, base=2, color=ORANGE, marker="s", linestyle="--", label="without its memory")
    left.axhline(1 / 32, color=GREY, linestyle=":", linewidth=1, label="a guess")
    left.set_ylim(-0.03, 1.05)
    left.legend(frameon=False, fontsize=8, loc="center right")
    tidy(right, "what is carried, one sequence", "tokens read", "bytes")
    right.loglog(tokens, size, color=BLUE, marker="o", label="MAC's state")
    cache = [2 * 64 * 4 * count for count in tokens]
    right.loglog(tokens, cache, color=BLACK, linestyle="-.", marker="^", label="keys and values of all tokens")
    right.legend(frameon=False, fontsize=8, loc="upper left")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(tokens, [f"{count:,}" for count in tokens], fontsize=7.5)
        axes.minorticks_off()
    return Picture(
        figure,
        alt="Left: share of right answers against the tokens between telling and asking, from 64 to 16,384. MAC stays "
        "near 1 throughout, without its memory the model stays at the level of a guess. Right: bytes carried; MAC's "
        "state stays the same, a cache of all keys and values grows in proportion and passes it early.",
        alt_ja="左は、伝えてからたずねるまでのトークン数（64から16,384）に対する正解率です。"
        "MAC はずっと1に近く、メモリのないモデルは当てずっぽうの水準にとどまります。"
        "右は、引き継ぐバイト数です。MAC の状態は変わらず、全トークンのキーと値のキャッシュは"
        "比例して増え、早いうちにそれを追い越します。",
    )


# Share of needles found at 2K, 4K, 8K and 16K tokens, in percent: the paper's later version (NeurIPS 2025).
PAPER_NEEDLE = {
    "pass-key": {
        "TTT": (98.4, 98.8, 98.0, 88.4),
        "Mamba2": (98.6, 61.4, 31.0, 5.4),
        "DeltaNet": (96.8, 98.8, 98.6, 71.4),
        "LMM": (99.8, 98.4, 98.2, 96.2),
        "MAC": (99.2, 98.8, 99.0, 98.4),
        "MAG": (99.4, 98.0, 97.4, 97.4),
        "MAL": (98.8, 98.6, 98.8, 97.8),
    },
    "number": {
        "TTT": (60.2, 36.6, 10.2, 4.4),
        "Mamba2": (98.4, 55.8, 14.2, 0.0),
        "DeltaNet": (47.2, 15.4, 12.8, 5.4),
        "LMM": (100.0, 99.8, 93.4, 80.2),
        "MAC": (99.6, 98.2, 97.6, 97.4),
        "MAG": (99.2, 98.8, 97.2, 98.6),
        "MAL": (99.8, 98.1, 96.8, 96.4),
    },
    "word": {
        "TTT": (78.8, 28.0, 4.4, 0.0),
        "Mamba2": (42.2, 4.2, 0.0, 0.0),
        "DeltaNet": (46.2, 20.0, 1.6, 0.0),
        "LMM": (90.4, 89.4, 85.8, 80.6),
        "MAC": (98.2, 98.2, 95.6, 95.2),
        "MAG": (98.0, 98.0, 90.2, 88.2),
        "MAL": (98.2, 97.4, 92.0, 90.4),
    },
}


def paper_needle() -> str:
    """The paper's table as text."""
    lines = [" " * 9 + "".join(f"{kind:>23}" for kind in PAPER_NEEDLE)]
    for model in PAPER_NEEDLE["pass-key"]:
        cells = ("/".join(f"{share:g}" for share in rows[model]) for rows in PAPER_NEEDLE.values())
        lines.append(f"{model:9}" + "".join(f"{cell:>23}" for cell in cells))
    return "\n".join(lines)


def needle_card() -> dict:
    """The card of the recipe `needle`: what came of every run and seed."""
    return json.loads((SHIPPED / "needle" / "card.json").read_text(encoding="utf-8"))


def needle_table(card: dict) -> str:
    """The card's results as text: percent found by the median and by the worst seed."""
    hay = next(iter(card["runs"].values()))["right"]
    lines = [" " * 25 + "".join(f"{int(tokens):>10,}" for tokens in hay)]
    for name, result in card["runs"].items():
        texts = (f"{100 * cell['median']:.0f} ({100 * cell['worst']:.0f})" for cell in result["right"].values())
        lines.append(f"{name:25}" + "".join(f"{text:>10}" for text in texts))
    return "\n".join(lines)


def memory_at_work() -> Picture:
    """A trained MAC's memory at five moments of a stream, and what it could answer at every moment."""
    words, run = mac_story(), record()[False, False, None]
    figure = new_figure(9, 5.6)
    top = figure.add_gridspec(1, len(MOMENTS), left=0.09, right=0.985, top=0.86, bottom=0.58, wspace=0.12)
    low = figure.add_gridspec(2, 1, left=0.09, right=0.985, top=0.47, bottom=0.09, hspace=0.25, height_ratios=(1.1, 1))
    figure.text(0.09, 0.945, "The weights of a memory while it reads", fontsize=12, weight="bold")
    for place, token in enumerate(MOMENTS):
        axes = figure.add_subplot(top[0, place])
        heatmap(axes, run.memory[token].astype(np.float32), f"after token {token}", 0.3)
        axes.title.set_fontsize(9)
    chance = tidy(figure.add_subplot(low[0]), y="asked for")
    right = right_answers(words, run).T
    image = chance.imshow(
        right, cmap="cividis", vmin=0, vmax=1, aspect="auto", extent=(-0.5, len(words.tokens) - 0.5, len(right), 0)
    )
    chance.set_yticks(np.arange(len(right)) + 0.5, words.probes, fontsize=8)
    chance.grid(False)
    chance.tick_params(labelbottom=False)
    surprise = tidy(figure.add_subplot(low[1], sharex=chance), x="token", y="surprise $|u_t|$")
    surprise.plot(range(len(words.tokens)), run.surprise, color=BLUE, marker="o", markersize=2.5, linewidth=1.1)
    surprise.set_ylim(0, 1.1 * float(run.surprise.max()))
    for name, (start, end) in words.stretches.items():
        chance.text((start + end) / 2 - 0.5, -0.35, name, ha="center", fontsize=8.5)
        surprise.axvspan(start - 0.5, end - 0.5, color="0.9" if "noise" not in name else "0.97", zorder=0, linewidth=0)
    for axes in (chance, surprise):
        for token in MOMENTS:
            axes.axvline(token, color="white" if axes is chance else BLACK, linewidth=0.9, linestyle=":")
    bar = figure.colorbar(image, ax=[chance], cax=figure.add_axes((0.85, 0.955, 0.13, 0.014)), orientation="horizontal")
    bar.ax.tick_params(labelsize=7, length=2, pad=1)
    bar.set_ticks([0, 1], labels=["0", "1"])
    figure.text(0.84, 0.953, "chance of the right value", fontsize=8, ha="right")
    return Picture(
        figure,
        alt="A memory at work. Top: the 64 by 64 weights of a trained MAC's memory after tokens 0, 5, 11, 47 and 95 of "
        "a stream; nearly empty at first, then a pattern of rows and columns that stays. Middle: the chance of the "
        "right value if asked for each of six keys at any token; each key lights up soon after it is told, and stays "
        "known through noise, repetition and questions. Bottom: the memory's surprise at each token.",
        alt_ja="働くメモリ。上段は、学習済みの MAC のメモリの64×64の重みを、"
        "ストリームのトークン0、5、11、47、95の後に示したものです。最初はほとんど空で、やがて行と列の模様ができ、それが残ります。"
        "中段は、6つのキーのそれぞれについてたずねたときの、正しい値の確率をトークンごとに示したものです。"
        "どのキーも、伝えられてまもなく明るくなり、雑音、くり返し、質問の間もずっと答えられます。下段は、各トークンでのメモリの驚きです。",
    )


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    Path(sys.argv[1]).write_bytes(png(memory_at_work().image))
