"""The labs of lesson 01: one write seen from every direction of the plane, and pairs against dimensions."""

import torch
from torch import Tensor

from titans.lesson.kit.figures import BLACK, BLUE, CYCLE, GREEN, GREY, RED, new_figure, tidy
from titans.lesson.kit.host import say
from titans.lesson.kit.live import Drawing, LivePicture, count, slider
from titans.lesson.lesson_01.pictures import called, direction, mean_error
from titans.lesson.lesson_01.trials import MEMORIES, measured, predicted

OLD_ANGLE, OLD_VALUE, NEW_VALUE = 30.0, 1.0, -0.5
DEGREES = torch.arange(-180.0, 181.0, 3)


def one_write(angle: float, length: float, beta: float) -> dict[str, Tensor]:
    """A memory of one row that knows the old pair, and what becomes of it: before, after adding, after the "
    "delta rule."""
    before = OLD_VALUE * direction(OLD_ANGLE)
    key = length * direction(angle)
    return {
        "before": before,
        "adding": before + beta * NEW_VALUE * key,
        "delta rule": before + beta * (NEW_VALUE - before @ key) * key,
    }


class KeyDrawing(Drawing):
    """Left the two keys in the plane; right the answer to every direction, before and after the write."""

    def __init__(self) -> None:
        self.figure = new_figure(3.5)
        plane, axes = self.figure.subplots(1, 2, width_ratios=(1, 2.1))
        self.figure.subplots_adjust(left=0.05, right=0.98, top=0.88, bottom=0.15, wspace=0.2)
        tidy(plane, say("two keys", "2つのキー"))
        plane.set(xlim=(-2.1, 2.1), ylim=(-2.1, 2.1), aspect="equal")
        circle = direction(DEGREES)
        plane.plot(circle[:, 0], circle[:, 1], color=GREY, linewidth=0.8, linestyle=":")
        old = direction(OLD_ANGLE)
        plane.plot([0, old[0]], [0, old[1]], color=GREEN, linewidth=2.5, marker="o", markevery=[1])
        plane.text(1.15 * float(old[0]), 1.15 * float(old[1]), "A", fontsize=11)
        self.name = plane.text(0, 0, "B", fontsize=11, ha="center", va="center")
        (self.key,) = plane.plot([0, 1], [0, 0], color=BLACK, linewidth=2.5, marker="s", markevery=[1])
        x = say("direction of the key that is asked for, in degrees", "たずねるキーの向き（度）")
        tidy(axes, "", x, say("answer", "答え"))
        axes.set(xlim=(-180, 180), xticks=range(-180, 181, 60), ylim=(-4.2, 2.8))
        looks = {
            say("before the write", "書く前"): (GREY, ":"),
            say("after adding", "足した後"): (RED, "--"),
            say("after the delta rule", "デルタ則の後"): (BLUE, "-"),
        }
        self.lines = [
            axes.plot(DEGREES, 0 * DEGREES, color=colour, linestyle=line, label=name)[0]
            for name, (colour, line) in looks.items()
        ]
        old_pair, new_pair = say("A, told before", "A（前に伝えた）"), say("B, written now", "B（いま書いた）")
        axes.plot([OLD_ANGLE], [OLD_VALUE], "o", color=GREEN, markersize=8, label=old_pair)
        (self.wanted,) = axes.plot([0], [NEW_VALUE], "s", color=BLACK, markersize=8, label=new_pair)
        axes.legend(frameon=False, fontsize=8, loc="lower left", ncols=2)
        self.note = axes.set_title("", fontsize=9, loc="left")
        self.moving = [self.key, self.name, *self.lines, self.wanted, self.note]

    def draw(self, angle: int, length: float, beta: float) -> None:
        key = length * direction(angle)
        self.key.set_data([0, float(key[0])], [0, float(key[1])])
        self.name.set_position(((length + 0.25) * direction(angle)).tolist())
        memories = one_write(angle, length, beta)
        for line, memory in zip(self.lines, memories.values(), strict=True):
            line.set_ydata(direction(DEGREES) @ memory)
        self.wanted.set_data([angle], [NEW_VALUE / length if length else float("nan")])
        answers = [float(memories[name] @ direction(OLD_ANGLE)) for name in ("adding", "delta rule")]
        note = say(
            "A, 1.00 before: {:.2f} after adding, {:.2f} after the delta rule",
            "A への答え：書く前は1.00、足した後は{:.2f}、デルタ則の後は{:.2f}",
        )
        self.note.set_text(note.format(*answers) + f"    β|k|² = {beta * length**2:.2f}")


def key_lab() -> LivePicture:
    """The live picture: angle and length of the new key, and the step."""
    controls = {
        "angle": count(say("angle of B", "B の角度"), 120, -180, 180, 5),
        "length": slider(say("length of B", "B の長さ"), 1.0, 0.1, 2.0, 0.1),
        "beta": slider(say("step β", "ステップ β"), 1.0, 0.0, 2.0, 0.1),
    }
    return LivePicture(
        KeyDrawing(),
        controls,
        (("angle", "length", "beta"),),
        states=({"angle": 120}, {"angle": 60}),
        shows="Key lab: left the keys A and B as arrows in the plane, right the answer to every direction, "
        "before the write, after adding and after the delta rule.",
        shows_ja="キー実験室。左は平面上のキー A と B を表す矢印、右はあらゆる向きのキーへの答えで、書く前、"
        "足した後、デルタ則の後の3本の曲線です。",
        alt="Above, B at a right angle to A: both rules leave A's answer at 1 and give B its value. Below, B 30 "
        "degrees from A: adding misses both; the delta rule answers B exactly, and A with less than nothing.",
        alt_ja="上は B が A と直角のときで、どちらの規則でも A への答えは1のままで、B は自分の値になります。"
        "下は B が A から30度のときで、足し算では両方とも外れ、デルタ則では B が正確になる代わりに、A "
        "への答えはゼロより下になります。",
    )


class CapacityDrawing(Drawing):
    """The three memories' errors, predicted and measured, with a cursor; and the numbers that each keeps."""

    PAIRS = (2, 4, 8, 16, 32, 48, 64)

    def __init__(self) -> None:
        self.figure = new_figure(3.6)
        axes, sizes = self.figure.subplots(1, 2, width_ratios=(2.4, 1))
        self.figure.subplots_adjust(left=0.07, right=0.97, top=0.88, bottom=0.15, wspace=0.45)
        tidy(axes, "", say("pairs told", "伝えたペアの数"), mean_error())
        axes.axhline(1, color=GREY, linewidth=1, linestyle=":")
        axes.set(xlim=(0, 65), ylim=(0, 2.5))
        self.lines, self.dots = [], []
        for name, (colour, marker, line) in zip(MEMORIES, CYCLE, strict=False):
            self.lines += axes.plot(range(1, 65), [0.0] * 64, color=colour, linestyle=line)
            self.dots += axes.plot(self.PAIRS, [0.0] * len(self.PAIRS), marker, color=colour, label=called(name))
        axes.legend(frameon=False, fontsize=9, loc="upper left")
        self.cursor = axes.axvline(1, color=BLACK, linewidth=1)
        self.note = axes.set_title("", fontsize=9, loc="left")
        tidy(sizes, say("numbers kept", "保持する数値の個数"))
        self.bars = sizes.barh([say("matrix", "行列"), called("look-up")], [0, 0], color=[CYCLE[1][0], CYCLE[0][0]])
        sizes.set(xlim=(0, 8400), xticks=(0, 4000, 8000))
        self.moving = [*self.lines, *self.dots, self.cursor, self.note, *self.bars]

    def draw(self, dim: int, pairs: int) -> None:
        for name, line, dots in zip(MEMORIES, self.lines, self.dots, strict=True):
            line.set_ydata([predicted(name, n, dim) for n in range(1, 65)])
            dots.set_ydata([measured(name, n, dim, rows=16).mean for n in self.PAIRS])
        self.cursor.set_xdata([pairs, pairs])
        errors = say(", ", "、").join(f"{called(name)} {predicted(name, pairs, dim):.2f}" for name in MEMORIES)
        note = say(f"{pairs} pairs in {dim} dimensions, predicted: ", f"{dim}次元、{pairs}ペアでの予測：")
        self.note.set_text(note + errors)
        for bar, numbers in zip(self.bars, (dim * dim, 2 * pairs * dim), strict=True):
            bar.set_width(numbers)


def capacity_lab() -> LivePicture:
    """The live picture: dimensions and pairs."""
    return LivePicture(
        CapacityDrawing(),
        {
            "dim": count(say("dimensions", "次元"), 16, 4, 64, 4),
            "pairs": count(say("pairs", "ペアの数"), 16, 1, 64),
        },
        (("dim", "pairs"),),
        states=({"dim": 8}, {"dim": 32}),
        shows="Capacity lab: the mean error of the look-up, of adding and of the delta rule against the pairs "
        "told, lines predicted and dots measured; beside it the numbers that a look-up and a matrix keep.",
        shows_ja="容量実験室。検索、足し算、デルタ則の平均誤差を、伝えたペアの数に対して示した図で、線は予測、"
        "点は測った値です。横に、検索と行列が保持する数値の個数があります。",
        alt="Above 8 dimensions, below 32. In 8, adding is worse than no answer from 10 pairs on, the delta "
        "rule from 16; in 32, from 34 and from about 60.",
        alt_ja="上は8次元、下は32次元です。8次元では、足し算は10ペアから、デルタ則は16ペアから、"
        "何も答えないより悪くなります。32次元では、34ペアと約60ペアからです。",
    )
