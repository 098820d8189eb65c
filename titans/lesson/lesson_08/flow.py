"""The four variants as boxes and arrows, with parts of them switched off."""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from titans.lesson.kit.figures import BLACK, GREEN, GREY, ORANGE, PINK, SKY
from titans.lesson.kit.host import say

HEIGHT = 1.85  # of a flow, in the units of its places; it is 9 wide
TOP, MIDDLE, BOTTOM = 1.55, 0.93, 0.3  # the three lanes
HALF, TALL = 0.23, 0.32  # half the height of a box, and of one with two lines of words
PALE, FAINT = "0.97", "0.82"  # inside a box that is switched off, and its cross


class Box(NamedTuple):
    """One step: its centre and width, its words in both languages, its number in the paper, the part it belongs to."""

    x: float
    y: float
    width: float
    words: tuple[str, str]
    number: str | tuple[str, str]
    part: str = ""  # "" for what is never switched off
    colour: str = ORANGE


class Arrow(NamedTuple):
    """A way from corner to corner, and the part whose output it carries."""

    corners: Sequence[tuple[float, float]]
    part: str = ""


class Flow(NamedTuple):
    """All boxes and arrows of a variant, and the symbols between them: (x, symbol), in the middle lane."""

    boxes: Sequence[Box]
    arrows: Sequence[Arrow]
    symbols: Sequence[tuple[float, str]]

    @property
    def parts(self) -> set[str]:
        """What can be switched off in it."""
        return {box.part for box in self.boxes} - {""}


def _level(start: float, end: float, part: str = "") -> Arrow:
    """An arrow in the middle lane."""
    return Arrow(((start, MIDDLE), (end, MIDDLE)), part)


def _round(start: float, end: float, lane: float, part: str = "") -> Arrow:
    """An arrow from the middle lane into another one, along it, and back."""
    edge = MIDDLE + (HALF if lane > MIDDLE else -HALF)
    return Arrow(((start, edge), (start, lane), (end, lane), (end, edge)), part)


def _memory(convolution: float, write: float, read: float, numbers: tuple[str, str]) -> tuple[list[Box], list[Arrow]]:
    """What all variants have in common: convolution, write with momentum, read; the arrows between them."""
    boxes = [
        Box(convolution, MIDDLE, 1.05, ("convolution", "畳み込み"), ("section 4.4", "4.4節"), "convolution", SKY),
        Box(write, MIDDLE, 0.9, ("write", "書き込み"), numbers[0], "memory"),
        Box(write, BOTTOM, 1.05, ("momentum", "モーメンタム"), "(10)", "momentum", GREEN),
        Box(read, MIDDLE, 0.9, ("read", "読み出し"), numbers[1]),
    ]
    arrows = [
        _level(convolution + 0.53, write - 0.45, "convolution"),
        Arrow(((write, BOTTOM + HALF), (write, MIDDLE - HALF)), "momentum"),
        _level(write + 0.45, read - 0.45, "memory"),
    ]
    return boxes, arrows


def _mac() -> Flow:
    boxes, arrows = _memory(4.32, 5.5, 6.63, ("(24)", "(25)"))
    ask = ("read $h$ from $M_{t-1}$", "$M_{t-1}$ から $h$ を読む")
    attend = ("attention\n$[P\\,|\\,h\\,|\\,x]$", "アテンション\n$[P\\,|\\,h\\,|\\,x]$")
    boxes += [
        Box(1.4, TOP, 1.6, ask, "(21)", "h"),
        Box(2.43, MIDDLE, 1.2, attend, "(22, 23)", "attention", PINK),
        Box(7.73, MIDDLE, 0.75, ("gate", "ゲート"), "(25)", colour=GREY),
    ]
    arrows += [
        Arrow(((0.3, MIDDLE + HALF), (0.3, TOP), (0.6, TOP))),
        Arrow(((2.2, TOP), (2.43, TOP), (2.43, MIDDLE + TALL)), "h"),
        _level(0.45, 1.83),
        _level(3.03, 3.23, "attention"),
        _round(0.3, 3.38, BOTTOM),
        _level(3.53, 3.79),
        _round(3.38, 7.73, TOP),
        _level(7.08, 7.35),
        _level(8.11, 8.45),
    ]
    return Flow(boxes, arrows, [(0.3, "$x$"), (3.38, "$y$"), (8.6, "$o$")])


WINDOWED = ("attention, window", "アテンション（窓）")


def _mag() -> Flow:
    boxes, arrows = _memory(1.9, 3.5, 5.0, ("(28)", "(28)"))
    boxes += [
        Box(3.5, TOP, 1.55, WINDOWED, "(27)", "attention", PINK),
        Box(6.7, MIDDLE, 0.75, ("gate", "ゲート"), "(28)", colour=GREY),
    ]
    arrows += [
        Arrow(((0.3, MIDDLE + HALF), (0.3, TOP), (2.72, TOP))),
        Arrow(((4.28, TOP), (6.7, TOP), (6.7, MIDDLE + HALF)), "attention"),
        _level(0.45, 1.37),
        _level(5.45, 6.32),
        _level(7.08, 8.05),
    ]
    return Flow(boxes, arrows, [(0.3, "$x$"), (8.2, "$o$")])


def _mal() -> Flow:
    boxes, arrows = _memory(1.5, 2.9, 4.2, ("(30)", "(30)"))
    boxes += [Box(6.6, MIDDLE, 1.55, WINDOWED, "(31)", "attention", PINK)]
    arrows += [
        _level(0.45, 0.97),
        _level(4.65, 5.15),
        _round(0.3, 5.3, TOP),
        _level(5.45, 5.82),
        _level(7.38, 8.05, "attention"),
    ]
    return Flow(boxes, arrows, [(0.3, "$x$"), (5.3, "$y$"), (8.2, "$o$")])


def _lmm() -> Flow:
    boxes, arrows = _memory(2.0, 4.0, 6.0, ("(9)", "(15)"))
    arrows += [_level(0.45, 1.47), _level(6.45, 8.05)]
    return Flow(boxes, arrows, [(0.3, "$x$"), (8.2, "$o$")])


FLOWS = {"MAC": _mac(), "MAG": _mag(), "MAL": _mal(), "LMM": _lmm()}


def draw_flow(axes: Axes, variant: str, off: Collection[str]) -> None:
    """The flow of a variant on empty axes; parts that are `off` are pale, dashed and crossed out."""
    axes.set(xlim=(0, 9), ylim=(0, HEIGHT))
    axes.axis("off")
    flow = FLOWS[variant]
    for arrow in flow.arrows:
        _draw_arrow(axes, arrow, arrow.part in off)
    for box in flow.boxes:
        _draw_box(axes, box, box.part in off)
    for x, symbol in flow.symbols:
        axes.text(x, MIDDLE, symbol, ha="center", va="center", fontsize=12)


def _draw_arrow(axes: Axes, arrow: Arrow, off: bool) -> None:
    line, colour = (":" if off else "-"), ("0.6" if off else "0.25")
    *way, last, end = arrow.corners
    axes.plot(*zip(*way, last, strict=True), color=colour, linewidth=1.2, linestyle=line)
    style = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.2, "linestyle": line, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", end, last, arrowprops=style)


def _draw_box(axes: Axes, box: Box, off: bool) -> None:
    words, number = say(*box.words), box.number if isinstance(box.number, str) else say(*box.number)
    half = TALL if "\n" in words else HALF
    left, right, low, high = box.x - box.width / 2, box.x + box.width / 2, box.y - half, box.y + half
    shape = FancyBboxPatch(
        (left, low),
        box.width,
        2 * half,
        boxstyle="round,pad=0,rounding_size=0.06",
        facecolor=PALE if off else (box.colour, 0.22),
        edgecolor=GREY if off else box.colour,
        linestyle="--" if off else "-",
        zorder=2,
    )
    axes.add_patch(shape)
    if off:
        for ends in ((low, high), (high, low)):
            axes.plot((left, right), ends, color=FAINT, linewidth=1.5, zorder=2.5)
    ink = "0.35" if off else BLACK
    axes.text(box.x, box.y + 0.09, words, ha="center", va="center", fontsize=9, color=ink, linespacing=1.25, zorder=3)
    axes.text(box.x, low + 0.09, number, ha="center", va="center", fontsize=8, color=ink, zorder=3)
