"""The pictures of lesson 07."""

from collections.abc import Mapping

import torch
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from matplotlib.patheffects import withStroke
from torch import Tensor

from titans.lesson.kit.figures import BLACK, BLUE, GREEN, GREY, ORANGE, PINK, Picture, chart, new_figure, plot_curves
from titans.lesson.kit.host import say
from titans.lesson.lesson_07.leaky_mac import IN_JAPANESE
from titans.lesson.lesson_07.trials import PAIRS, SYMBOLS, crossing_off
from titans.training import Trained

VARIANTS = {
    "MAC": "MAC",
    "without memory": "メモリなし",
    "h without positions": "h に位置なし",
    "without attention": "アテンションなし",
    "without convolution": "畳み込みなし",
    "without residual": "残差接続なし",
}  # what the lesson trains, in Japanese


def flow() -> Picture:
    """MAC as boxes and arrows: read, put side by side, attend, write, read again, gate."""
    figure = new_figure(3.4)
    axes = figure.add_axes((0.01, 0.02, 0.98, 0.96))
    axes.set(xlim=(0, 9), ylim=(0, 3.4))
    axes.axis("off")
    _box(axes, 0.15, 1.35, 1.0, say("segment", "セグメント") + "\n$S^{(t)}$", BLUE)
    _box(axes, 1.65, 2.45, 1.25, say("1 read", "1 読み出し") + "\n$h_t = M^*_{t-1}(q_t)$", ORANGE)
    _box(axes, 1.65, 0.25, 1.25, say("persistent", "永続トークン") + "\n$P$", GREEN)
    _box(axes, 3.4, 1.35, 1.35, say("2 concatenate", "2 連結") + "\n$[P \\,\\Vert\\, h_t \\,\\Vert\\, S^{(t)}]$", GREY)
    _box(axes, 5.15, 1.35, 1.1, say("3 attend", "3 アテンション") + "\n$y_t$", PINK)
    _box(axes, 6.6, 2.45, 1.0, say("4 write", "4 書き込み") + "\n$M_t$", ORANGE)
    _box(axes, 6.6, 0.25, 1.0, say("6 gate", "6 ゲート") + "\n$\\otimes$", GREY)
    _box(axes, 8.0, 1.35, 0.9, say("5 read", "5 読み出し") + "\n$M^*_t(y_t)$", ORANGE)
    for start, end in (
        ((0.65, 2.05), (1.65, 2.8)), ((1.15, 1.7), (3.4, 1.7)), ((2.9, 2.8), (3.75, 2.05)), ((2.9, 0.6), (3.75, 1.35)),
        ((4.75, 1.7), (5.15, 1.7)), ((5.95, 2.05), (6.6, 2.8)), ((5.95, 1.35), (6.6, 0.6)), ((6.25, 1.7), (8.0, 1.7)),
        ((7.6, 2.8), (8.45, 2.05)), ((8.45, 1.35), (7.6, 0.6)), ((2.28, 3.35), (2.28, 3.15)), ((7.1, 0.25), (7.1, 0.0)),
    ):  # fmt: skip
        axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": "0.25", "linewidth": 1.2})
    before = say("memory before the segment, $M_{t-1}$", "セグメントの前のメモリ $M_{t-1}$")
    axes.text(2.4, 3.24, before, fontsize=8, va="center")
    axes.text(7.2, 0.1, say("output $o_t$", "出力 $o_t$"), fontsize=8, va="center")
    return Picture(
        figure,
        alt="MAC as boxes and arrows. The segment asks the memory as it was before: 1 read, h. 2 concatenate: "
        "persistent tokens P, h and the segment side by side. 3 attend over them gives y. 4 write y into the memory. "
        "5 read the new memory with y. 6 gate: y and what was read give the output o.",
        alt_ja="MAC の流れを箱と矢印で示した図。セグメントが、それより前のメモリにたずねます（1 読み出し、h）。"
        "永続トークン P、h、セグメントを横に並べ（2 連結）、その全体にアテンションをかけて y を得ます（3）。"
        "y をメモリに書き込み（4）、新しいメモリを y で読んで（5）、"
        "y と読み出したものをゲートで合わせ、出力 o を得ます（6）。",
    )


def _box(axes: Axes, x: float, y: float, width: float, text: str, colour: str) -> None:
    style = "round,pad=0,rounding_size=0.08"
    shape = FancyBboxPatch((x, y), width, 0.7, boxstyle=style, facecolor=(colour, 0.25), edgecolor=colour)
    axes.add_patch(shape)
    axes.text(x + width / 2, y + 0.35, text, ha="center", va="center", fontsize=9)


def leaks(found: Mapping[str, Tensor], segment_len: int) -> Picture:
    """Heat maps of |d o_i / d x_j|, a panel for each way to compute the block, the future marked."""
    figure = new_figure(2.7)
    figure.subplots_adjust(left=0.06, right=0.92, top=0.88, bottom=0.18, wspace=0.18)
    bound = max(float(size.max()) for size in found.values())
    tokens = next(iter(found.values())).shape[0]
    all_axes = []
    for place, (name, size) in enumerate(found.items()):
        axes = figure.add_subplot(1, len(found), place + 1)
        shown = torch.where(size > 0, size, torch.nan).log10()
        image = axes.imshow(shown.numpy(), cmap="cividis", vmin=-3, vmax=torch.tensor(bound).log10().item())
        axes.set_facecolor("white")
        rows, columns = torch.nonzero(size.triu(1), as_tuple=True)
        axes.plot(
            columns, rows, "x", color=BLACK, markersize=4, path_effects=[withStroke(linewidth=3, foreground="white")]
        )
        for border in range(segment_len, tokens, segment_len):
            axes.axhline(border - 0.5, color=GREY, linewidth=0.6)
            axes.axvline(border - 0.5, color=GREY, linewidth=0.6)
        axes.set_title(say(name, IN_JAPANESE[name]), fontsize=9)
        axes.set_xlabel(say("input token j", "入力トークン j"), fontsize=8)
        axes.set_ylabel(say("output token i", "出力トークン i") if place == 0 else "", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.set_xticks(range(0, tokens, 5))
        axes.set_yticks(range(0, tokens, 5))
        all_axes.append(axes)
    bar = figure.colorbar(image, ax=all_axes, fraction=0.012, pad=0.015, ticks=(-3, -2, -1, 0, 1))
    bar.ax.set_yticklabels(["0.001", "0.01", "0.1", "1", "10"], fontsize=8)
    return Picture(
        figure,
        alt="Four heat maps of how strongly input j reaches output i, for 11 tokens in segments of 4: literal, mask on "
        "h only, read per token only, both. In the first three there are entries above the diagonal, marked with a "
        "cross, within each segment. With both rules everything above the diagonal is empty.",
        alt_ja="入力 j が出力 i にどれだけ強く届くかを示す4枚のヒートマップ。11トークンで、セグメントの長さは4です。"
        "左から、文字どおり、h のマスクだけ、トークンごとの読み出しだけ、両方です。"
        "初めの3枚では、各セグメントの中で対角線より上に値があり、×印が付いていますが、"
        "両方の規則がある4枚目では、対角線より上は空です。",
    )


def curves(trained: Mapping[str, Trained]) -> Picture:
    """The share of right answers over the steps of training, with the two guessers' shares."""
    names = say("training step", "訓練のステップ"), say("right answers", "正解率")
    figure, axes = chart(3.4, *names, (0.08, 0.15, 0.74, 0.95))
    points = {
        say(name, VARIANTS[name]): [(step, share) for step, _, share in one.history if share is not None]
        for name, one in trained.items()
    }
    plot_curves(axes, {name: tuple(zip(*pairs, strict=True)) for name, pairs in points.items()})
    for line, size in zip(axes.lines, (11, 4, 7.5, 4, 5, 5), strict=False):  # three lie on one another: rings
        line.set(markersize=size, linewidth=0.3 * size)
    knowing = sum(crossing_off(left) for left in range(1, PAIRS + 1)) / PAIRS
    for share, name in (
        (knowing, say("crossing off", "候補を消して答える")),
        (1 / SYMBOLS, say("guessing", "当てずっぽう")),
    ):
        axes.axhline(share, color="0.35", linewidth=1.4, linestyle=":")
        axes.text(1.01, share, name, transform=axes.get_yaxis_transform(), fontsize=8, va="center", color="0.35")
    axes.set_ylim(-0.03, 1.05)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.02))
    return Picture(
        figure,
        alt="Right answers over the steps of training. MAC, MAC whose h has no positions and MAC without attention "
        "climb close to 1. MAC without convolution and MAC without the residual stop climbing near a dotted line, of "
        "crossing off values, at 0.58. The model without a memory stays at the dotted line of guessing, one in eight.",
        alt_ja="訓練のステップに対する正解率。MAC、h に位置のない MAC、アテンションのない MAC は、"
        "1の近くまで上がります。畳み込みのない MAC と、残差接続のない MAC は、値の候補を消しながら当てる場合を示す点線"
        "（0.58）の近くで止まります。メモリのないモデルは、当てずっぽうの点線（8分の1）のところにとどまります。",
    )
