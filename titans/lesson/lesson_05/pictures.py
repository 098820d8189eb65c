"""The pictures of lesson 05."""

from collections.abc import Mapping

import torch
from torch import Tensor

from titans.lesson.kit.figures import GREY, Picture, chart, new_figure, plot_curves, tidy
from titans.lesson.kit.host import say
from titans.lesson.lesson_05.trials import SIZES, all_milliseconds, grown, random_keys, read_passage


def masks(named: Mapping[str, Tensor]) -> Picture:
    """Some lower triangular matrices side by side, with one scale."""
    figure = new_figure(2.8)
    figure.subplots_adjust(left=0.05, right=0.9, top=0.85, bottom=0.14, wspace=0.25)
    limit = max(float(matrix.abs().max()) for matrix in named.values())
    for number, (name, matrix) in enumerate(named.items(), 1):
        axes = figure.add_subplot(1, len(named), number)
        image = axes.imshow(matrix.numpy(), cmap="cividis", vmin=0, vmax=limit)
        axes.set_title(name, fontsize=10)
        axes.set_xlabel(say("token $i$ that wrote", "書いたトークン $i$"), fontsize=9)
        axes.tick_params(labelsize=8)
        if number == 1:
            axes.set_ylabel(say("token $t$ that reads", "読むトークン $t$"), fontsize=9)
    bar = figure.colorbar(image, cax=figure.add_axes((0.92, 0.2, 0.015, 0.6)))
    bar.ax.tick_params(labelsize=8)
    return Picture(
        figure,
        alt=f"The matrices {', '.join(named)} as maps, tokens that read downwards, tokens that wrote to the right. All "
        "are zero above the diagonal. Forgetting alone fades to the left of the diagonal; momentum alone too, "
        "faster; "
        "their product grows at first to the left of the diagonal and then fades.",
        alt_ja=f"行列 {'、'.join(named)} を色で表した図。"
        "縦が読むトークン、横が書いたトークンで、対角より上はすべて0です。"
        "忘却だけ、モーメンタムだけの行列は、対角から左へ薄れていきます（モーメンタムのほうが速い）。"
        "両者の積は、対角から左へ、いったん大きくなってから薄れます。",
    )


def speed() -> Picture:
    """Milliseconds for 256 tokens against the size of a chunk."""
    x = say("tokens a chunk", "チャンクのトークン数")
    y = say("milliseconds for 256 tokens", "256トークンの時間（ミリ秒）")
    figure, axes = chart(3, x, y, (0.09, 0.17, 0.97, 0.95))
    times = all_milliseconds()
    names = {"forward": say("forward", "順伝播"), "backward": say("backward", "逆伝播")}
    curves = {words: (SIZES, [getattr(times[size], name) for size in SIZES]) for name, words in names.items()}
    plot_curves(axes, curves)
    axes.set(xscale="log", yscale="log", xticks=SIZES, xticklabels=SIZES)
    axes.minorticks_off()
    axes.legend(frameon=False, fontsize=9)
    return Picture(
        figure,
        alt="Milliseconds for 256 tokens against the tokens a chunk, both on logarithmic scales, forward and "
        "backward. "
        "Both fall steeply from a chunk of 1 to one of 64, more than tenfold, and are flat or rise a little "
        "after it.",
        alt_ja="チャンクのトークン数に対する、256トークン分の計算時間（ミリ秒）。両対数で、"
        "順伝播と逆伝播を示します。"
        "どちらも、1から64までで10分の1以下に下がり、その先は横ばいか、少し増えます。",
    )


def two_yardsticks() -> Picture:
    """The surprise of a repeated passage, and the error that each reading leaves, for chunks of 1 and 16."""
    figure = new_figure(3.2)
    figure.subplots_adjust(left=0.07, right=0.98, top=0.88, bottom=0.16, wspace=0.2)
    titles = {
        "stale": say("surprise, as each memory measures it", "それぞれのメモリが測った驚き"),
        "left": say("error that is left after the reading", "読み終えた後に残る誤差"),
    }
    for axes, (name, title) in zip(figure.subplots(1, 2, sharey=True), titles.items(), strict=True):
        tidy(axes, title, say("reading", "何回目の読みか"), say("mean over the passage", "文章全体の平均"))
        runs = {size: getattr(read_passage(size), name) for size in (1, 16)}
        plot_curves(
            axes, {say(f"chunk {size}", f"チャンク {size}"): (range(1, 5), values) for size, values in runs.items()}
        )
        axes.set(xticks=range(1, 5), ylim=(0.8, 2.2))
        axes.legend(frameon=False, fontsize=9)
    return Picture(
        figure,
        alt="Two charts over four readings. Left the surprise: chunks of 16 are below chunks of 1. Right the "
        "error that "
        "is left after each reading: the curves are nearly one, chunks of 16 slightly above.",
        alt_ja="4回の読みについての2つのグラフ。左は驚きで、16トークンのチャンクのほうが、1トークンより下にあります。"
        "右は各回の読みの後に残る誤差で、2つの曲線はほとんど重なり、16トークンのほうがわずかに上です。",
    )


def explosion(dim: int = 16) -> Picture:
    """How a memory fares that reads one chunk again and again, for steps around the largest stable one."""
    x = say("step in parts of the predicted limit", "予測した限界に対するステップ幅の比")
    y = say("error after 100 readings", "100回読んだ後の誤差")
    figure, axes = chart(3, x, y, (0.1, 0.17, 0.97, 0.95))
    shares = (0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 1.05, 1.1, 1.2, 1.3)
    curves = {}
    for count in (1, 8, 64):
        k = random_keys(count, dim)
        limit = 1 / float(torch.linalg.eigvalsh(k.mT @ k)[-1])
        curves[say("1 token" if count == 1 else f"{count} tokens", f"{count}トークン")] = (
            shares,
            [max(1e-12, grown(k, share * limit)) for share in shares],
        )
    plot_curves(axes, curves)
    axes.axvline(1, color=GREY, linewidth=1.2, linestyle=":")
    axes.axhline(1, color=GREY, linewidth=0.8, linestyle=":")
    axes.set(yscale="log")
    axes.legend(frameon=False, fontsize=9)
    return Picture(
        figure,
        alt="Error after 100 readings of the same chunk, in parts of the error before, against the step in "
        "parts of the "
        "predicted limit, for chunks of 1, 8 and 64 tokens. All three curves are far below 1 left of the limit "
        "and rise "
        "above 1 right of it.",
        alt_ja="同じチャンクを100回読んだ後の誤差（読む前の何倍か）を、"
        "予測した限界に対するステップ幅の比に対して示したグラフ。"
        "チャンクは1、8、64トークンです。3本とも、限界の左では1よりはるかに小さく、限界を超えると1を上回ります。",
    )
