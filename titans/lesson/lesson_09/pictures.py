"""The pictures of lesson 09. `python -m titans.lesson.lesson_09.pictures FILE` draws README's picture."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from torch import Tensor

from titans.lesson.kit.figures import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    Picture,
    chart,
    heatmap,
    name_stretches,
    new_figure,
    png,
    shade,
    tidy,
)
from titans.lesson.kit.host import say
from titans.lesson.kit.player import Recording, Story, right_answers
from titans.lesson.lesson_09.mac_player import recordings, story

MOMENTS = (0, 5, 11, 47, 95)  # tokens at which README's picture shows the memory


def told_twice(surprise: Tensor) -> Picture:
    """The mean surprise of a trained memory while it is told facts, hears noise, and is told the
    same facts again."""
    names = say("token", "トークン"), say("mean surprise $|u_t|$", "驚きの平均 $|u_t|$")
    figure, axes = chart(2.9, *names, (0.08, 0.18, 0.98, 0.88))
    axes.plot(range(len(surprise)), surprise, color=BLUE, marker="o", markersize=3, linewidth=1.2)
    axes.set(xlim=(-1, len(surprise)), ylim=(0, 1.1 * float(surprise.max())))
    shade(axes, story().stretches)
    name_stretches(axes, story().stretches)
    for chunk in range(16, len(surprise), 16):
        axes.axvline(chunk - 0.5, color=GREY, linewidth=0.8, linestyle=":")
    return Picture(
        figure,
        alt="Mean surprise of the trained memory over 96 tokens of 64 sequences. It is between 1 and 5 while facts are "
        "told, about 5 for the first noise, falls to a third of that with the chunk that begins at token 32, and rises "
        "again when the same facts are told once more, to as much as the first time. It is highest, above 7, in the "
        "noise after that, tokens 66 to 79, and falls with the chunk that begins at token 80.",
        alt_ja="学習済みのメモリの驚きを、64本の系列で平均し、96トークンについて示したグラフ。事実が伝えられる間は1から5の間です。最初の雑音では約5で、"
        "トークン32から始まるチャンクで、その約3分の1に下がります。同じ事実がもう一度伝えられると、また1回目と同じくらいまで上がります。"
        "いちばん高いのは、その後の雑音（トークン66〜79）で、7を超え、トークン80から始まるチャンクで下がります。",
    )


def streaming(tokens: Sequence[int], known: Sequence[float], without: Sequence[float], size: Sequence[int]) -> Picture:
    """Share of right answers and size of the state against the tokens that passed, with and without
    memory."""
    figure = new_figure(3.2)
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.08, right=0.98, top=0.88, bottom=0.17, wspace=0.25)
    x = say("tokens between telling and asking", "伝えてからたずねるまでのトークン数")
    tidy(left, say("right answers", "正解率"), x, say("share of answers that are right", "正解の割合"))
    left.semilogx(tokens, known, base=2, color=BLUE, marker="o", label="MAC")
    bare = say("without its memory", "メモリなし")
    left.semilogx(tokens, without, base=2, color=ORANGE, marker="s", linestyle="--", label=bare)
    left.axhline(1 / 32, color=GREY, linestyle=":", linewidth=1, label=say("a guess", "当てずっぽう"))
    left.set_ylim(-0.03, 1.05)
    left.legend(frameon=False, fontsize=8, loc="center right")
    carried = say("what is carried, one sequence", "引き継ぐ大きさ（1系列）")
    tidy(right, carried, say("tokens read", "読んだトークン数"), say("bytes", "バイト"))
    right.loglog(tokens, size, color=BLUE, marker="o", label=say("MAC's state", "MAC の状態"))
    cache = [2 * 64 * 4 * count for count in tokens]
    all_tokens = say("keys and values of all tokens", "全トークンのキーと値")
    right.loglog(tokens, cache, color=BLACK, linestyle="-.", marker="^", label=all_tokens)
    right.legend(frameon=False, fontsize=8, loc="upper left")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(tokens, [f"{count:,}" for count in tokens], fontsize=8)
        axes.minorticks_off()
    return Picture(
        figure,
        alt="Left: share of right answers against the tokens between telling and asking, from 64 to 16,384. MAC stays "
        "near 1 throughout, without its memory the model stays at the level of a guess. Right: bytes carried; MAC's "
        "state stays the same, a cache of all keys and values grows in proportion and passes it early.",
        alt_ja="左は、伝えてからたずねるまでのトークン数（64から16,384）に対する正解率です。"
        "MAC はずっと1に近く、メモリのないモデルは当てずっぽうの水準にとどまります。"
        "右は、引き継ぐバイト数です。MAC の状態は変わらず、全トークンのキーと値のキャッシュは"
        "トークン数に比例して増え、早いうちに MAC の状態を追い越します。",
    )


def memory_at_work() -> Picture:
    """A trained MAC's memory at five moments of a stream, and what it could answer at every moment."""
    words, seen = story(), recordings()[False, False, None]
    figure = new_figure(6.2)
    heading = say("The weights of a memory while it reads", "読んでいる最中のメモリの重み")
    figure.text(0.06, 0.955, heading, fontsize=12, weight="bold")
    maps = seen.memory[list(MOMENTS)].astype(np.float32)
    limit = round(float(np.percentile(np.abs(maps), 99)), 2)  # a few weights are ten times as large as all others
    top = figure.add_gridspec(1, len(MOMENTS), left=0.06, right=0.91, top=0.88, bottom=0.62, wspace=0.08)
    for place, token in enumerate(MOMENTS):
        axes = figure.add_subplot(top[0, place])
        image = heatmap(axes, maps[place], say(f"after token {token}", f"トークン{token}の後"), limit)
        axes.title.set_fontsize(9)
        axes.spines[:].set(visible=True, color=GREY, linewidth=0.8)
    scale = figure.colorbar(
        image, cax=figure.add_axes((0.925, 0.63, 0.013, 0.22)), extend="both", ticks=(-limit, 0, limit)
    )
    scale.ax.tick_params(labelsize=8, length=2, pad=2)
    scale.ax.set_title(say("weight", "重み"), fontsize=8, pad=9)
    low = figure.add_gridspec(2, 1, left=0.09, right=0.985, top=0.54, bottom=0.08, hspace=0.18, height_ratios=(1.1, 1))
    chance = figure.add_subplot(low[0])
    _chances(chance, words, seen)
    surprise = tidy(figure.add_subplot(low[1], sharex=chance), y=say("surprise $|u_t|$", "驚き $|u_t|$"))
    surprise.set_xlabel(say("token", "トークン"), fontsize=9)
    surprise.plot(range(len(words.tokens)), seen.surprise, color=BLUE, marker="o", markersize=2.5, linewidth=1.1)
    surprise.set_ylim(0, 1.1 * float(seen.surprise.max()))
    shade(surprise, words.stretches)
    for axes, colour in ((chance, "white"), (surprise, BLACK)):
        for token in MOMENTS:
            axes.axvline(token, color=colour, linewidth=0.9, linestyle=":")
    return Picture(
        figure,
        alt="A memory at work. Top: the 64 by 64 weights of a trained MAC's memory after tokens 0, 5, 11, 47 and 95 of "
        "a stream; nearly empty at first, then a pattern of rows and columns that stays. Middle: the chance of the "
        "right value if asked for each of six keys at any token; each key lights up soon after it is told, and stays "
        "known through noise, repetition and questions. Bottom: the memory's surprise at each token.",
        alt_ja="読んでいる最中のメモリの図。上段は、学習済みの MAC のメモリの64×64の重みを、"
        "ストリームのトークン0、5、11、47、95の後に示したものです。最初はほとんど空で、やがて行と列の模様ができ、それが残ります。"
        "中段は、6つのキーのそれぞれについてたずねたときの、正しい値の確率をトークンごとに示したものです。"
        "どのキーも、伝えられてまもなく明るくなり、雑音、くり返し、質問の間もずっと答えられます。下段は、各トークンでのメモリの驚きです。",
    )


def _chances(axes: Axes, words: Story, seen: Recording) -> None:
    """The chance of the right value for each key at every token, the stretches' names above, a bar
    of colours."""
    right = right_answers(words, seen).T
    extent = (-0.5, len(words.tokens) - 0.5, len(right), 0)
    tidy(axes, y=say("asked for", "たずねるキー"))
    image = axes.imshow(right, cmap="cividis", vmin=0, vmax=1, aspect="auto", extent=extent)
    axes.set_yticks(np.arange(len(right)) + 0.5, words.probes, fontsize=8)
    axes.grid(False)
    axes.tick_params(labelbottom=False)
    for name, (start, end) in words.stretches.items():
        axes.text((start + end) / 2 - 0.5, -0.35, name, ha="center", fontsize=8.5)
    figure = axes.figure
    bar = figure.colorbar(image, cax=figure.add_axes((0.85, 0.955, 0.13, 0.014)), orientation="horizontal")
    bar.ax.tick_params(labelsize=8, length=2, pad=1)
    bar.set_ticks([0, 1], labels=["0", "1"])
    figure.text(0.84, 0.953, say("chance of the right value", "正しい値の確率"), fontsize=8, ha="right")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    torch.set_num_threads(1)
    Path(sys.argv[1]).write_bytes(png(memory_at_work().image))
