"""The memory lab of lesson 02: how many pairs a memory of some depth and width holds, write by write."""

import torch
import torch.nn.functional as F

from titans.lesson.kit.figures import BLACK, BLUE, GREEN, GREY, heatmap, new_figure, tidy
from titans.lesson.kit.host import say
from titans.lesson.kit.live import Drawing, LivePicture, count, play_button
from titans.lesson.lesson_02.trials import DIM, WRITES, write_repeatedly

DEPTHS, MOST_PAIRS = 3, 48


class MemoryDrawing(Drawing):
    """The weights of every layer, the error of every pair, and the mean error over the writes."""

    def __init__(self) -> None:
        self.figure = new_figure(5)
        grid = self.figure.add_gridspec(
            2, 1, height_ratios=(1.15, 1), hspace=0.5, left=0.09, right=0.97, top=0.93, bottom=0.1
        )
        top = grid[0].subgridspec(1, 5, width_ratios=(1, 1, 1, 0.15, 3), wspace=0.3)
        self.maps = [
            heatmap(self.figure.add_subplot(top[0, i]), torch.zeros(1, 1), f"$W_{i + 1}$") for i in range(DEPTHS)
        ]
        self.titles = [image.axes.title for image in self.maps]
        for image in self.maps:
            image.axes.set_aspect("auto")
            image.axes.axis("off")
        each = say("error of every pair", "ペアごとの誤差"), say("pair", "ペア")
        bars = tidy(self.figure.add_subplot(top[0, 4]), *each, "$|M(k)-v|^2$")
        self.bars = bars.stairs([0.0] * MOST_PAIRS, fill=True, color=GREEN)
        bars.set(xlim=(0, MOST_PAIRS), ylim=(0, 1.1))
        x, y = say("writes of all pairs", "全ペアを書き込んだ回数"), say("mean error", "平均誤差") + " $|M(k)-v|^2$"
        curve = tidy(self.figure.add_subplot(grid[1]), "", x, y)
        (self.curve,) = curve.plot(range(WRITES + 1), [0.0] * (WRITES + 1), color=BLUE)
        self.bound = curve.axhline(0, color=GREY, linestyle=":", linewidth=1.2)
        self.cursor = curve.axvline(0, color=BLACK, linewidth=1)
        curve.set(xlim=(0, WRITES), ylim=(0, 1.05))
        self.note = curve.set_title("", fontsize=9, loc="left")
        self.moving = [*self.maps, *self.titles, self.bars, self.bound, self.curve, self.cursor, self.note]

    def draw(self, depth: int, width: int, pairs: int, step: int) -> None:
        history = write_repeatedly(depth, width, pairs)
        self._show_weights([matrix.numpy() for matrix in history.weights[step]])
        self.bars.set_data(F.pad(history.errors[step], (0, MOST_PAIRS - pairs)))
        mean = history.errors.mean(1)
        self.curve.set_ydata(mean)
        self.cursor.set_xdata([step, step])
        self.bound.set_ydata([max(0.0, 1 - DIM / pairs)] * 2)
        size = sum(weight.numel() for weight in history.weights[0])
        note = say(
            "{} weights, {} pairs; mean error {:.2f} after {} writes"
            "   (dotted: about the best that a matrix can do, 1 − {}/pairs)",
            "重み{}個、{}ペア。平均誤差は{:.2f}（{}回書き込んだ後）。点線：行列のおよその限界、1 − {}/ペア数",
        )
        self.note.set_text(note.format(size, pairs, float(mean[step]), step, DIM))

    def _show_weights(self, matrices: list) -> None:
        for layer, (image, title) in enumerate(zip(self.maps, self.titles, strict=True)):
            there = layer < len(matrices)
            image.set_visible(there)
            title.set_visible(there)
            if there:
                rows, columns = matrices[layer].shape
                image.set_data(matrices[layer])
                image.set_extent((0, columns, rows, 0))
                image.axes.set_title(f"$W_{layer + 1}$  {rows} × {columns}", fontsize=9)


def memory_lab() -> LivePicture:
    """The live picture: depth, width, pairs and writes; the weights, every pair's error, the mean
    over the writes."""
    controls = {
        "depth": count(say("depth", "深さ"), 2, 1, DEPTHS),
        "width": count(say("width", "幅"), 4, 1, 8),
        "pairs": count(say("pairs", "ペアの数"), 16, 4, MOST_PAIRS, 4),
        "step": count(say("writes", "書き込み"), WRITES, 0, WRITES, 5),
    }
    rows = (("depth", "width"), ("pairs", "step", play_button(controls["step"])))
    return LivePicture(
        MemoryDrawing(),
        controls,
        rows,
        states=(
            {"depth": 1, "width": 4, "pairs": 16, "step": WRITES},
            {"depth": 2, "width": 4, "pairs": 16, "step": WRITES},
        ),
        shows="Memory lab: the weights as heat maps, the error of every pair as bars, and the mean error over the "
        "writes, with a dotted line for about the best that a matrix can do.",
        shows_ja="メモリ実験室。各層の重みのヒートマップ、ペアごとの誤差の棒グラフ、書き込み回数に対する平均誤差を示した図。"
        "点線は、行列で達成できるおおよその限界です。",
        alt="After 200 writes of 16 pairs, a matrix and, below, a memory of depth 2. The matrix stops at an error near "
        "0.5, at the dotted line; the deeper memory goes below it.",
        alt_ja="16ペアを200回書き込んだ後の様子で、上は行列、下は深さ2のメモリです。行列の誤差は点線の約0.5で止まりますが、"
        "深いメモリの誤差は、それより下まで下がります。",
    )
