"""The memory lab of lesson 02: how many pairs a memory of some depth and width holds, write by write."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from titans.lesson.kit.figures import BLACK, BLUE, GREEN, GREY, heatmap, new_figure, tidy
from titans.lesson.kit.live import LivePicture, count, player
from titans.memory import DeepMemory

DIM, STEPS, MOMENTUM = 8, 200, 0.9


class Course(NamedTuple):
    """What became of a memory while it wrote the same pairs again and again."""

    weights: list[list[Tensor]]  # before each write and after the last, a matrix a layer
    errors: Tensor  # |M(k) - v|^2 of every pair: [writes + 1, pairs]


def random_pairs(pairs: int, dim: int = DIM, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Keys and values of length 1 in random directions: [pairs, dim] each."""
    draw = torch.randn(2, pairs, dim, generator=torch.Generator().manual_seed(seed))
    k, v = F.normalize(draw, dim=-1)
    return k, v


@lru_cache(maxsize=8)
@torch.no_grad()
def write_repeatedly(depth: int, expansion: int, pairs: int, writes: int = STEPS, seed: int = 0) -> Course:
    """Write all pairs at once, `writes` times, with momentum 0.9; the step fits the largest direction of the inputs.

    The step is theta = (1 - 0.9) / (2 lambda), where lambda is the largest eigenvalue of A^T A for the inputs A of the
    last layer: carried on by the momentum, half of the largest stable step of plain gradient descent on that layer.
    """
    torch.manual_seed(seed)
    memory = DeepMemory(DIM, depth=depth, expansion=expansion)
    k, v = random_pairs(pairs, seed=seed)
    weights = [weight.detach().clone() for weight in memory.weights]
    momentum = [torch.zeros_like(weight) for weight in weights]
    theta = None
    course = []
    for _ in range(writes + 1):
        inputs, errors = memory.errors(weights, k[None], v[None])
        course.append(([weight[0].clone() for weight in weights], errors[-1][0].square().sum(-1) / 4))
        theta = theta or (1 - MOMENTUM) / (2 * float(torch.linalg.matrix_norm(inputs[-1][0], 2)) ** 2)
        for layer, (a, e) in enumerate(zip(inputs, errors, strict=True)):
            momentum[layer] = MOMENTUM * momentum[layer] - theta * e.mT @ a
            weights[layer] = weights[layer] + momentum[layer]
    return Course([weights for weights, _ in course], torch.stack([error for _, error in course]))


def memory_lab() -> LivePicture:
    """The live picture: depth, width, pairs and writes; the weights, every pair's error, the mean over the writes."""
    figure = new_figure(9, 5.4)
    grid = figure.add_gridspec(2, 1, height_ratios=(1.15, 1), hspace=0.5, left=0.09, right=0.97, top=0.93, bottom=0.1)
    top = grid[0].subgridspec(1, 5, width_ratios=(1, 1, 1, 0.15, 3), wspace=0.3)
    maps = [heatmap(figure.add_subplot(top[0, i]), torch.zeros(1, 1), f"$W_{i + 1}$") for i in range(3)]
    titles = [image.axes.title for image in maps]
    for image in maps:
        image.axes.set_aspect("auto")
        image.axes.axis("off")
    bars_axes = tidy(figure.add_subplot(top[0, 4]), "error of every pair", "pair", r"$|M(k)-v|^2$")
    bars = bars_axes.stairs([0.0] * 48, fill=True, color=GREEN)
    bars_axes.set(xlim=(0, 48), ylim=(0, 1.1))
    curve_axes = tidy(figure.add_subplot(grid[1]), "", "writes of all pairs", r"mean error $|M(k)-v|^2$")
    (curve,) = curve_axes.plot(range(STEPS + 1), [0.0] * (STEPS + 1), color=BLUE)
    bound = curve_axes.axhline(0, color=GREY, linestyle=":", linewidth=1.2)
    cursor = curve_axes.axvline(0, color=BLACK, linewidth=1)
    curve_axes.set(xlim=(0, STEPS), ylim=(0, 1.05))
    note = curve_axes.set_title("", fontsize=9, loc="left")

    def draw(depth: int, width: int, pairs: int, step: int) -> None:
        course = write_repeatedly(depth, width, pairs)
        for layer, image in enumerate(maps):
            image.set_visible(layer < depth)
            titles[layer].set_visible(layer < depth)
            if layer < depth:
                matrix = course.weights[step][layer]
                image.set_data(matrix.numpy())
                rows, columns = matrix.shape
                image.set_extent((0, columns, rows, 0))
                image.axes.set_title(f"$W_{layer + 1}$  {rows} × {columns}", fontsize=9)
        bars.set_data(F.pad(course.errors[step], (0, 48 - pairs)))
        mean = course.errors.mean(1)
        curve.set_ydata(mean)
        cursor.set_xdata([step, step])
        matrix_floor = max(0.0, 1 - DIM / pairs)
        bound.set_ydata([matrix_floor, matrix_floor])
        size = sum(weight.numel() for weight in course.weights[0])
        note.set_text(
            f"{size} weights, {pairs} pairs; mean error {float(mean[step]):.2f} after {step} writes"
            f"   (dotted: about the best that a matrix can do, 1 − {DIM}/pairs)"
        )

    controls = {
        "depth": count("depth", 2, 1, 3),
        "width": count("width", 4, 1, 8),
        "pairs": count("pairs", 16, 4, 48, 4),
        "step": count("writes", STEPS, 0, STEPS, 5),
    }
    return LivePicture(
        figure,
        controls,
        draw,
        moving=[*maps, *titles, bars, bound, curve, cursor, note],
        states=(
            {"depth": 1, "width": 4, "pairs": 16, "step": STEPS},
            {"depth": 2, "width": 4, "pairs": 16, "step": STEPS},
            {"depth": 2, "width": 4, "pairs": 48, "step": STEPS},
            {"depth": 3, "width": 4, "pairs": 48, "step": STEPS},
        ),
        alt="Memory lab after 200 writes, in four settings below one another: a matrix with 16 pairs, then depth 2 "
        "with 16 pairs, depth 2 with 48 and depth 3 with 48. Each shows the weights as heat maps, the error of every "
        "pair as bars, and the mean error over the writes. The matrix stops at an error near 0.5; the deeper memories "
        "go below the dotted line that bounds a matrix.",
        alt_ja="メモリ実験室で200回書き込んだ後の様子を、4通りの設定で上から順に示した図。行列に16ペア、深さ2に16ペア、深さ2に48ペア、"
        "深さ3に48ペアです。それぞれ、各層の重みのヒートマップ、ペアごとの誤差の棒グラフ、書き込み回数に対する平均誤差を示します。"
        "行列の誤差は約0.5で止まりますが、深いメモリの誤差は、行列の限界を示す点線より下まで下がります。",
        rows=(("depth", "width"), ("pairs", "step", player(controls["step"]))),
    )
