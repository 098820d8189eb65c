"""The pictures of lesson 02."""

from __future__ import annotations

import torch
from torch import Tensor

from titans.lesson.kit.figures import CYCLE, Picture, heatmap, new_figure, tidy
from titans.lesson.lesson_02.lab import random_pairs
from titans.memory import DeepMemory


def exact_step(inputs: list[Tensor]) -> float:
    """The theta that would store the pair in one write, if the last layer alone were written: 1 / (2 |a_L|^2)."""
    return 1 / (2 * float(inputs[-1].square().sum()))


@torch.no_grad()
def write(
    memory: DeepMemory, weights: list[Tensor], k: Tensor, v: Tensor, share: float = 1.0
) -> tuple[list[Tensor], list[Tensor]]:
    """One gradient step on one pair, [dim] each, a share of the exact one; also the gradients that it took."""
    inputs, errors = memory.errors(weights, k[None, None], v[None, None])
    gradients = [e.mT @ a for a, e in zip(inputs, errors, strict=True)]
    theta = share * exact_step(inputs)
    return [weight - theta * gradient for weight, gradient in zip(weights, gradients, strict=True)], gradients


def first_writes() -> Picture:
    """Weights and gradients of a fresh two-layer memory at its first three writes of one pair."""
    torch.manual_seed(1)
    memory = DeepMemory(dim=6, depth=2, expansion=2)
    weights = [weight.detach() for weight in memory.weights]
    k, v = (pair[0] for pair in random_pairs(1, dim=6, seed=1))
    figure = new_figure(9, 5.6)
    axes = figure.subplots(3, 4)
    figure.subplots_adjust(left=0.09, right=0.98, top=0.9, bottom=0.02, wspace=0.1, hspace=0.35)
    for row, panels in enumerate(axes, 1):
        after, gradients = write(memory, weights, k, v, share=0.3)
        shown = (weights[0][0], gradients[0][0], weights[1][0], gradients[1][0])
        names = ("$W_1$ before", "gradient of $W_1$", "$W_2$ before", "gradient of $W_2$")
        for panel, matrix, name in zip(panels, shown, names, strict=True):
            heatmap(panel, matrix, name if row == 1 else "", limit=max(0.02, float(matrix.abs().max())))
            if not matrix.any():
                panel.text(0.5, 0.5, "all zero", transform=panel.transAxes, ha="center", va="center", fontsize=9)
        panels[0].set_ylabel(f"write {row}", fontsize=10)
        weights = after
    return Picture(
        figure,
        alt="Weights and gradients of a two-layer memory at its first three writes of one pair. At the first write W2 "
        "and the gradient of W1 are all zero; the gradient of W2 has rank 1. From the second write on both gradients "
        "are outer products. Each panel has its own colour scale.",
        alt_ja="2層のメモリに同じペアを3回書き込むときの重みと勾配。1回目は、W2 も、W1 の勾配も、すべて0です。"
        "W2 の勾配は階数1です。2回目からは、どちらの勾配も外積の形になります。色の範囲はパネルごとに異なります。",
    )


def forgetting_of_first_pair(depth: int, others: int = 30, dim: int = 8, seeds: int = 20) -> Tensor:
    """|M(k_A) - v_A|^2 after A was written once and then each of `others` pairs once: [others + 1], mean over seeds."""
    curves = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        memory = DeepMemory(dim, depth=depth)
        weights = [weight.detach() for weight in memory.weights]
        k, v = random_pairs(others + 1, dim, seed)
        errors = []
        for one_k, one_v in zip(k, v, strict=True):
            weights, _ = write(memory, weights, one_k, one_v)
            _, outputs = memory.layers(weights, k[:1, None])
            errors.append((outputs[-1].flatten() - v[0]).square().sum())
        curves.append(torch.stack(errors))
    return torch.stack(curves).mean(0)


def interference() -> Picture:
    """How one stored pair fares while others are written: a matrix beside a two-layer memory."""
    figure = new_figure(9, 3)
    axes = tidy(figure.add_subplot(), "", "other pairs written since", r"error of pair A, $|M(k_A)-v_A|^2$")
    figure.subplots_adjust(left=0.09, right=0.97, top=0.95, bottom=0.17)
    names = {1: "matrix (depth 1)", 2: "two layers (depth 2)"}
    for (depth, name), (colour, marker, line) in zip(names.items(), CYCLE, strict=False):
        curve = forgetting_of_first_pair(depth)
        axes.plot(curve, color=colour, marker=marker, linestyle=line, markersize=4, label=name)
    axes.axhline(1, color="0.5", linewidth=0.8, linestyle=":")
    axes.text(30, 0.97, "an empty memory's error", ha="right", va="top", fontsize=8, color="0.35")
    axes.set(ylim=(0, None), xlim=(0, 30.4))
    axes.legend(frameon=False, fontsize=9)
    return Picture(
        figure,
        alt="Error of pair A against the number of other pairs written since, mean over 20 random draws. It starts "
        "near 0 and rises for the matrix and for the two-layer memory, past the error 1 of an empty memory.",
        alt_ja="ペアAの誤差を、その後に書き込んだほかのペアの数に対して示したグラフ（乱数20回の平均）。0付近から始まり、行列でも2層のメモリでも"
        "上昇し、空のメモリの誤差1を超えます。",
    )
