"""The picture of lesson 11: what reading and carrying cost, against the length of a text."""

from __future__ import annotations

from collections.abc import Callable

from matplotlib.axes import Axes

from titans.config import TitansConfig
from titans.costs import cost, transformer_cost
from titans.lesson.kit.figures import BLACK, BLUE, GREY, ORANGE, Picture, new_figure, tidy
from titans.lesson.kit.host import say
from titans.lesson.lesson_11.scale import DTYPE, SIZES, reading_is_cheaper, sized, state_is_smaller

SIZE = "340M"


def costs() -> Picture:
    """Operations a token of reading, and bytes carried, against the length: where the lines cross."""
    many = SIZES[SIZE][2]
    figure = new_figure(3.6)
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.08, right=0.98, top=0.9, bottom=0.16, wspace=0.22)
    lengths, x = [2**power for power in range(9, 22)], say("tokens", "トークン数")
    work = say("reading: operations per token", "読むときの1トークンあたりの演算数")
    tidy(left, work, x, say("operations", "演算数"))
    tidy(right, say("what is carried, one sequence", "引き継ぐ大きさ（1系列）"), x, say("bytes", "バイト"))
    one, whole = sized(SIZE), sized(SIZE, many)
    draw(left, lengths, lambda config, n: cost(config, n).operations_per_token, one, whole)
    draw(right, lengths, lambda config, n: cost(config, n - 1, dtype=DTYPE).state_bytes, one, whole)
    full = {
        "color": BLACK,
        "linestyle": "-.",
        "marker": "^",
        "markersize": 4,
        "label": say("Transformer", "トランスフォーマー"),
    }
    left.plot(lengths, [transformer_cost(one, n).operations_per_token for n in lengths], **full)
    right.plot(lengths, [transformer_cost(one, n, dtype=DTYPE).state_bytes for n in lengths], **full)
    crossings = [[cross(config) for config in (one, whole)] for cross in (reading_is_cheaper, state_is_smaller)]
    for axes, found in zip((left, right), crossings, strict=True):
        for length in found:
            axes.axvline(length, color=GREY, linewidth=0.8, linestyle=":", ymax=0.72)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(lengths[::3], [f"{n:,}" for n in lengths[::3]], fontsize=8)
        axes.minorticks_off()
        axes.legend(frameon=False, fontsize=8, loc="upper left")
    (work_one, work_many), (state_one, state_many) = crossings
    return Picture(
        figure,
        alt=f"Two charts against the length of a text, from 512 to 2 million tokens, for models of {SIZE}. "
        "Left, operations per token of reading: MAC's stay the same, a Transformer's grow, in the end in proportion, "
        f"and are more from {work_many:,} tokens on if the memory has {many} heads, from {work_one:,} on if it has "
        "one. Right, bytes carried: MAC's stay the same, a Transformer's cache grows from the first token on, and "
        f"passes them at {state_many:,} and {state_one:,} tokens.",
        alt_ja=f"テキストの長さ（512から200万トークン）に対する2つのグラフで、モデルの大きさは {SIZE} です。左は、"
        "読むときの1トークンあたりの演算数です。MAC では変わらず、トランスフォーマーでは、やがて長さに比例して増え、"
        f"メモリのヘッドが{many}個なら{work_many:,}トークンから、1個なら{work_one:,}トークンから、"
        "MAC より多くなります。"
        "右は、引き継ぐバイト数です。MAC では変わらず、トランスフォーマーのキャッシュは最初のトークンから増え続け、"
        f"それぞれ{state_many:,}トークンと{state_one:,}トークンで MAC を追い越します。",
    )


def draw(
    axes: Axes, lengths: list[int], value: Callable[[TitansConfig, int], float], one: TitansConfig, whole: TitansConfig
) -> None:
    """MAC's two lines: a memory of one head, and one of as many as attention has."""
    names = (
        say("MAC, memory of 1 head", "MAC、メモリのヘッド1個"),
        say(f"MAC, memory of {whole.memory_heads} heads", f"MAC、メモリのヘッド{whole.memory_heads}個"),
    )
    for config, name, colour, marker, line in zip((one, whole), names, (BLUE, ORANGE), "os", ("-", "--"), strict=True):
        values = [value(config, n) for n in lengths]
        axes.plot(lengths, values, color=colour, marker=marker, linestyle=line, markersize=4, label=name)
