"""The pictures of lesson 02."""

import torch

from titans.lesson.kit.draws import random_pairs
from titans.lesson.kit.figures import Picture, chart, heatmap, new_figure, plot_curves
from titans.lesson.kit.host import say
from titans.lesson.lesson_02.trials import forgetting_of_first_pair, write
from titans.memory import DeepMemory


def first_writes() -> Picture:
    """Weights and gradients of a fresh two-layer memory at its first three writes of one pair, in each column on one
    scale."""
    torch.manual_seed(1)
    memory = DeepMemory(dim=6, depth=2, expansion=2)
    weights = [weight.detach() for weight in memory.weights]
    k, v = (pair[0] for pair in random_pairs(1, dim=6, seed=1))
    rows = []
    for _ in range(3):
        after, gradients = write(memory, weights, k, v, share=0.3)
        rows.append((weights[0][0], gradients[0][0], weights[1][0], gradients[1][0]))
        weights = after
    of_layer = say("$W_{}$ before", "書き込む前の $W_{}$"), say("gradient of $W_{}$", "$W_{}$ の勾配")
    names = [name.format(layer) for layer in (1, 2) for name in of_layer]
    figure = new_figure(5.8)
    axes = figure.subplots(3, 4)
    figure.subplots_adjust(left=0.05, right=0.99, top=0.9, bottom=0.05, wspace=0.1, hspace=0.35)
    for column, name in enumerate(names):
        limit = max(float(row[column].abs().max()) for row in rows)
        for panel, row in zip(axes[:, column], rows, strict=True):
            heatmap(panel, row[column], limit=limit)
            panel.set_xlabel(say("size", "大きさ") + f" {float(row[column].norm()):.2f}", fontsize=9)
        colours = say(f"colours: −{limit:.2g} to {limit:.2g}", f"色：−{limit:.2g}〜{limit:.2g}")
        axes[0, column].set_title(f"{name}\n{colours}", fontsize=10)
    for number, panel in enumerate(axes[:, 0], 1):
        panel.set_ylabel(say(f"write {number}", f"{number}回目"), fontsize=10)
    return Picture(
        figure,
        alt="Weights and gradients of a two-layer memory at its first three writes of one pair, each column on one "
        "colour scale. At the first write W2 and the gradient of W1 are all zero. Then W2 and the gradient of W1 grow, "
        "the gradient of W2 gets paler from write to write, and W1 looks the same. Every gradient is an outer product.",
        alt_ja="2層のメモリに同じペアを3回書き込むときの重みと勾配。色の範囲は列ごとに同じです。"
        "1回目は、W2 も、W1 の勾配も、すべて0です。その後、W2 と、W1 の勾配は大きくなり、"
        "W2 の勾配は書き込むたびに薄くなります。W1 の見た目は変わりません。どの勾配も外積の形です。",
    )


def interference() -> Picture:
    """How one stored pair fares while others are written: a matrix beside a two-layer memory."""
    y = say("error of pair A, ", "ペアAの誤差 ") + "$|M(k_A)-v_A|^2$"
    x = say("other pairs written since", "Aの後に書き込んだペアの数")
    figure, axes = chart(3, x, y, (0.09, 0.17, 0.97, 0.95))
    names = {1: say("matrix (depth 1)", "行列（深さ1）"), 2: say("two layers (depth 2)", "2層（深さ2）")}
    plot_curves(axes, {name: (range(31), forgetting_of_first_pair(depth)) for depth, name in names.items()})
    axes.axhline(1, color="0.5", linewidth=0.8, linestyle=":")
    empty = say("an empty memory's error", "空のメモリの誤差")
    axes.text(30, 0.97, empty, ha="right", va="top", fontsize=8, color="0.35")
    axes.set(ylim=(0, None), xlim=(0, 30.4))
    axes.legend(frameon=False, fontsize=9)
    return Picture(
        figure,
        alt="Error of pair A against the number of other pairs written since, mean over 20 random draws. It starts "
        "near 0 and rises for the matrix and for the two-layer memory, past the error 1 of an empty memory.",
        alt_ja="ペアAの誤差を、その後に書き込んだほかのペアの数に対して示したグラフ（乱数20回の平均）。0付近から始まり、行列でも2層のメモリでも"
        "上昇し、空のメモリの誤差1を超えます。",
    )
