"""The pictures of lesson 01."""

import math

import torch
from torch import Tensor

from titans.lesson.kit.figures import CYCLE, GREY, Picture, chart, new_figure, plot_curves, tidy
from titans.lesson.kit.host import say
from titans.lesson.lesson_01.trials import MEMORIES, measured, predicted

PAIRS = (1, 2, 4, 8, 16, 24, 32, 48, 64)
WORDS = {"look-up": "検索", "adding": "足し算", "delta rule": "デルタ則"}  # for MEMORIES


def direction(degrees: Tensor | float) -> Tensor:
    """The unit vector at an angle: [..., 2]."""
    angle = torch.as_tensor(degrees, dtype=torch.float64) * math.pi / 180
    return torch.stack((angle.cos(), angle.sin()), dim=-1)


def called(memory: str) -> str:
    """What one of MEMORIES is called in a picture."""
    return say(memory, WORDS[memory])


def mean_error() -> str:
    """The name of the axis of errors."""
    return say(r"mean error $|{\rm answer}-v|^2$", r"平均誤差 $|$答え$-v|^2$")


def looking(keys: Tensor, values: Tensor, betas: tuple[float, ...] = (1.0, 8.0, 100.0)) -> Picture:
    """What a look-up answers to queries all around the circle; keys [pairs, 2], values [pairs] are numbers."""
    x = say("direction of the query, in degrees", "クエリの向き（度）")
    figure, axes = chart(3, x, say("answer", "答え"), (0.09, 0.17, 0.97, 0.95))
    degrees = torch.arange(-180.0, 181.0, 4)
    scores = direction(degrees) @ keys.mT.double()
    for beta, (colour, _, line) in zip(betas, CYCLE, strict=False):
        answers = torch.softmax(beta * scores, -1) @ values.double()
        axes.plot(degrees, answers, color=colour, linestyle=line, label=say("sharpness", "鋭さ") + f" {beta:g}")
    where = torch.atan2(keys[:, 1], keys[:, 0]) * 180 / math.pi
    axes.plot(where, values, "o", color="black", markersize=7, label=say("told", "伝えたペア"))
    axes.set(xlim=(-180, 180), xticks=range(-180, 181, 60))
    axes.legend(frameon=False, fontsize=9)
    return Picture(
        figure,
        alt="The answer of a look-up against the direction of the query, for three sharpnesses. With 1 a "
        "flat wave "
        "around the mean of the values; with 8 a smooth curve near the three told dots; with 100 "
        "three steps, "
        "one for each key.",
        alt_ja="クエリの向きに対する検索の答えを、3通りの鋭さについて示したグラフ。1では、"
        "値の平均のまわりのゆるやかな波になります。"
        "8では、伝えた3点の近くを通るなめらかな曲線に、100では、キーごとに1段の階段になります。",
    )


def capacity(dim: int = 16) -> Picture:
    """Error against pairs for the three memories: lines are predicted, dots are measured."""
    figure = new_figure(3.4)
    figure.subplots_adjust(left=0.07, right=0.98, top=0.88, bottom=0.16, wspace=0.22)
    titles = say("all three", "3つのメモリ"), say("the same, near zero", "同じもの、0付近")
    for axes, top, title in zip(figure.subplots(1, 2), (2.2, 0.03), titles, strict=True):
        tidy(axes, title, say(f"pairs, in {dim} dimensions", f"ペアの数（{dim}次元）"), mean_error())
        for name, (colour, marker, line) in zip(MEMORIES, CYCLE, strict=False):
            axes.plot(range(1, 65), [predicted(name, n, dim) for n in range(1, 65)], color=colour, linestyle=line)
            axes.plot(PAIRS, [measured(name, n, dim).mean for n in PAIRS], marker, color=colour, label=called(name))
        axes.axhline(1, color=GREY, linewidth=1, linestyle=":")
        axes.set(ylim=(0, top), xlim=(0, 65))
    nothing = say("answering nothing", "何も答えない場合")
    figure.axes[0].text(64, 1.03, nothing, ha="right", fontsize=8, color="0.35")
    figure.axes[0].legend(frameon=False, fontsize=9, loc="upper left")
    return Picture(
        figure,
        alt="Mean error against the number of pairs in 16 dimensions; measured dots stand on predicted lines. "
        "Adding rises "
        "in a straight line and passes 1, the error of no answer, at 17 pairs. The delta rule rises less, to 1 "
        "at about "
        "30 pairs. The look-up stays below 0.02.",
        alt_ja="16次元で、ペアの数に対する平均誤差を示したグラフ。測った点は、予測した線と重なります。"
        "足し算の誤差はまっすぐに増え、"
        "17ペアで、何も答えないときの誤差1を超えます。デルタ則の増え方はそれより緩く、約30ペアで1に届きます。"
        "検索は0.02未満にとどまります。",
    )


def kept_of_first(dims: tuple[int, ...] = (8, 16, 64), rows: int = 400) -> Picture:
    """What the delta rule's answer to the first key still has of its value, while others are written."""
    x = say("pairs written since", "その後に書き込んだペアの数")
    figure, axes = chart(3, x, r"$M k_1 \cdot v_1$", (0.09, 0.17, 0.97, 0.95))
    others = (0, 1, 3, 7, 15, 23, 31, 47, 63)
    for dim, (colour, marker, line) in zip(dims, CYCLE, strict=False):
        axes.plot(range(64), [(1 - 1 / dim) ** n for n in range(64)], color=colour, linestyle=line)
        kept = [measured("delta rule", n + 1, dim, rows).kept for n in others]
        axes.plot(others, kept, marker, color=colour, label=say(f"{dim} dimensions", f"{dim}次元"))
    axes.set(xlim=(0, 64), ylim=(-0.05, 1.05))
    axes.legend(frameon=False, fontsize=9)
    return Picture(
        figure,
        alt="What is left of the first value against the pairs written since, in 8, 16 and 64 dimensions: dots "
        "on lines "
        "that fall by a share of one over the dimensions with every write. After as many writes as dimensions "
        "about a "
        "third is left.",
        alt_ja="最初の値がどれだけ残っているかを、その後に書き込んだペアの数に対して示したグラフ（8、16、"
        "64次元）。書き込みのたびに"
        "「1/次元」の割合で下がる線に、測った点が重なります。次元の数だけ書き込むと、残りは約3分の1です。",
    )


def reading_again(errors: dict[str, list[float]], bound: float) -> Picture:
    """Mean error against passes over the same pairs; bound: the best that any matrix can do where there are
    too many. errors: by number of pairs, "12 pairs"."""
    x = say("times that all pairs were read", "全ペアを読んだ回数")
    figure, axes = chart(3, x, say("mean error", "平均誤差"), (0.09, 0.17, 0.97, 0.95))
    named = {say(name, name.replace(" pairs", "ペア")): each for name, each in errors.items()}
    plot_curves(axes, {name: (range(1, len(each) + 1), each) for name, each in named.items()})
    for line, each in zip(axes.lines, errors.values(), strict=True):
        line.set_markevery([2**power - 1 for power in range(9) if 2**power <= len(each)])
    axes.axhline(bound, color=GREY, linewidth=1.2, linestyle=":")
    best = say("least squares, 32 pairs", "最小2乗法（32ペア）")
    axes.text(max(map(len, errors.values())), bound + 0.02, best, ha="right", fontsize=8, color="0.35")
    axes.set(ylim=(-0.02, None), xscale="log")
    axes.legend(frameon=False, fontsize=9)
    return Picture(
        figure,
        alt="Mean error against the times that all pairs were read, for fewer pairs than dimensions, as many, "
        "and twice "
        "as many. Fewer: it falls to 0 soon. As many: slowly. Twice as many: it stays above the dotted line, "
        "the error "
        "of least squares.",
        alt_ja="全ペアを読んだ回数に対する平均誤差を、ペアの数が次元より少ないとき、同じとき、"
        "2倍のときについて示したグラフ。"
        "少ないときはすぐに0に近づき、同じときはゆっくり下がり、2倍のときは、"
        "最小2乗法の誤差を示す点線より上にとどまります。",
    )
