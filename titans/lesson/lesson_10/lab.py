"""The lab of lesson 10: what a model of text pays for every byte, its surprise, and what its memory saves."""

import math
from typing import Any

import ipywidgets as widgets
import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.colors import Colormap
from matplotlib.patches import Rectangle
from torch import Tensor

from titans.lesson.kit.figures import BLACK, BLUE, GREY, new_figure
from titans.lesson.kit.host import say
from titans.lesson.kit.live import Drawing, LivePicture, choice, count, switch
from titans.lesson.lesson_10.lines import PAID, SAVED, Lines, byte_sign, cells, families
from titans.lesson.lesson_10.reading import Reading, read, trained
from titans.lesson.lesson_10.texts import LONGEST, SPANS, TEXTS, Passage, passage

MEASURES = {
    "bits": ("bits", "ビット"),
    "surprise": ("surprise |u|", "驚き |u|"),
    "theta": ("step θ", "ステップ幅 θ"),
    "saved": ("saved bits", "節約したビット"),
}  # what may colour the text
MOST_BITS, MOST_SAVED, BEST = 8, 4, 5
COLUMN_ENDS = (0.752, 0.852, 0.925, 0.995)  # of the table, as shares of the figure


# ---- What is shown ---------------------------------------------------------------------------------------------------


def saved(shown: Reading, off: Reading) -> Tensor:
    """Bits a byte that are saved where the memory is written, against where it never is: [bytes]."""
    return off.bits - shown.bits


def measured(measure: str, text: str, frozen: int | None) -> tuple[np.ndarray, Colormap, tuple[float, float]]:
    """A measure at every byte of a text, its colours, and where these end: for surprise and step at the largest of the
    memory as it is, so that a frozen one is seen on the same scale."""
    shown = read(text, frozen)
    if measure == "saved":
        return saved(shown, read(text, 0)).numpy(), SAVED, (-MOST_SAVED, MOST_SAVED)
    values, whole = getattr(shown, measure), getattr(read(text), measure)
    top = MOST_BITS if measure == "bits" else float(whole.max()) if len(whole) else 1.0
    return values.numpy(), PAID, (0.0, top)


def best(reading: Reading, place: int) -> list[tuple[int, float]]:
    """The bytes that were expected most at a place, with their chances."""
    chances, found = reading.chances[place].topk(BEST)
    return list(zip(found.tolist(), chances.tolist(), strict=True))


def means(text: Passage, frozen: int | None) -> dict[str, list[float]]:
    """Of the whole text and of each marked stretch: bits, bits with writes off, surprise and theta, on average."""
    shown, off = read(text.text, frozen), read(text.text, 0)
    spans = {"": (0, len(shown.bits)), **text.spans}
    series = (shown.bits, off.bits, shown.surprise, shown.theta)
    return {name: [float(one[start:end].nanmean()) for one in series] for name, (start, end) in spans.items()}


def table(found: dict[str, list[float]]) -> list[str]:
    """The means as text, a column each: names, then numbers."""
    names = [say(*SPANS[name]) if name else say("all", "全体") for name in found]
    heads = (say("bits", "ビット"), say("writes off", "書き込みなし"), "|u|", "θ")
    numbers = zip(*found.values(), strict=True)
    columns = [
        "\n".join([head, *(form.format(n) if math.isfinite(n) else "–" for n in column)])
        for head, column, form in zip(heads, numbers, ("{:.2f}", "{:.2f}", "{:.2f}", "{:.3f}"), strict=True)
    ]
    return ["\n".join([say("mean", "平均"), *names]), *columns]


def readout(text: str, place: int, frozen: int | None) -> str:
    """The byte at a place in words and numbers."""
    found, shown, off = cells(text), read(text, frozen), read(text, 0)
    nth, size = found.nth[place]
    part = say(f" (its byte {nth} of {size})", f"（{size}バイト中{nth}番目）") if size > 1 else ""
    lines = [say(f"byte {place}: ", f"バイト{place}：") + found.signs[place] + part]
    if place:
        now, then = float(shown.bits[place]), float(off.bits[place])
        lines.append(
            say(f"{now:.2f} bits, with writes off {then:.2f}", f"{now:.2f}ビット、書き込みなしでは{then:.2f}ビット")
        )
    else:
        lines.append(say("the first: nothing foretells it", "最初のバイトなので、予測はありません"))
    numbers = [float(getattr(shown, name)[place]) for name in ("surprise", "theta", "eta", "alpha")]
    lines.append(say("surprise |u| = {:.2f}", "驚き |u| = {:.2f}").format(numbers[0]))
    lines.append("θ = {:.3f}   η = {:.2f}   α = {:.4f}".format(*numbers[1:]))
    return "\n".join(lines)


# ---- What is drawn ---------------------------------------------------------------------------------------------------


class Expected:
    """Axes with the bytes that a model expected most, a bar each; below them, the byte that came."""

    def __init__(self, axes: Axes, colour: str) -> None:
        axes.axis("off")
        axes.set(xlim=(0, 1), ylim=(BEST + 1.1, -1))
        self.title = axes.text(0, -0.5, "", fontsize=9, weight="bold", va="center", color=colour)
        self.bars = [Rectangle((0.2, n + 0.15), 0, 0.7, facecolor=colour, edgecolor=BLACK) for n in range(BEST)]
        for bar in self.bars:
            axes.add_patch(bar)
        self.names, self.shares = (
            [axes.text(x, n + 0.5, "", fontsize=9, ha=side, va="center", parse_math=False) for n in range(BEST + 1)]
            for x, side in ((0.15, "right"), (1.0, "right"))
        )
        self.moving = [self.title, *self.bars, *self.names, *self.shares]

    def draw(self, title: str, reading: Reading, place: int, came: int | None) -> None:
        """came: the byte at the place, which is named bold, its bar framed; None where nothing was expected."""
        self.title.set_text(title)
        for artist in self.moving[1:]:
            artist.set_visible(came is not None)
        if came is None:
            return
        expected = [*best(reading, place), (came, float(reading.chances[place, came]))]
        for bar, (byte, chance) in zip(self.bars, expected, strict=False):
            bar.set_width(0.52 * chance)
            bar.set_linewidth(1.5 if byte == came else 0)
        for n, (name, share, (byte, chance)) in enumerate(zip(self.names, self.shares, expected, strict=True)):
            name.set_text(byte_sign(byte) if n < BEST else say("came: ", "実際：") + byte_sign(byte))
            name.set_horizontalalignment("right" if n < BEST else "left")
            name.set_x(0.15 if n < BEST else 0.0)
            share.set_text(f"{chance:.1%}")
            for words in (name, share):
                words.set_fontweight("bold" if byte == came else "normal")


class TextDrawing(Drawing):
    """Left, the text in coloured cells and the colours' scale; right, means of its stretches, the byte under the
    cursor, and what was expected there."""

    def __init__(self) -> None:
        self.figure = new_figure(5.1)
        self.lines = Lines(self.figure.add_axes((0.006, 0.07, 0.599, 0.852)))
        self.heading = self.figure.text(0.008, 0.965, "", fontsize=10, weight="bold", va="center")
        scale = self.figure.add_axes((0.13, 0.022, 0.2, 0.03))
        self.scale = scale.imshow(np.ones((1, 64, 3)), aspect="auto")
        scale.set(xticks=(), yticks=())
        self.ends = [
            self.figure.text(x, 0.036, "", fontsize=8, ha=side, va="center")
            for x, side in ((0.122, "right"), (0.337, "left"))
        ]
        self.table = [
            self.figure.text(x, 0.98, "", fontsize=8.5, ha=side, va="top", linespacing=1.5)
            for x, side in ((0.625, "left"), *((end, "right") for end in COLUMN_ENDS))
        ]
        fonts = [*rcParams["font.family"], *families()]  # a byte may be of any letter
        self.readout = self.figure.text(0.625, 0.72, "", fontsize=9, va="top", linespacing=1.5, family=fonts)
        self.readout.set_parse_math(False)
        self.expected = [
            Expected(self.figure.add_axes((left, 0.1, 0.17, 0.38)), colour)
            for left, colour in ((0.625, BLUE), (0.822, "#9A6B00"))
        ]
        marks = say("underlined: compared   |: a segment begins", "下線：比べる部分　|：セグメントの始まり")
        self.figure.text(0.625, 0.04, marks, fontsize=8, va="center", color=GREY)
        words = [self.heading, *self.ends, *self.table, self.readout]
        self.moving = [
            *self.lines.moving,
            self.scale,
            *scale.spines.values(),
            *words,
            *(a for e in self.expected for a in e.moving),
        ]

    def draw(self, text: str, own: str, colour: str, place: int, freeze: bool, start: int) -> None:
        chosen = passage(text, own)
        data = chosen.text.encode()
        frozen = min(start, len(data)) if freeze else None
        place = min(place, max(len(data) - 1, 0))
        values, colours, limits = measured(colour, chosen.text, frozen)
        compared = [span for name, span in chosen.spans.items() if name != "between"]
        segment = trained().config.segment_len
        self.lines.draw(chosen.text, values, colours, limits, compared, segment, frozen, place)
        self.scale.set_data(colours(np.linspace(0, 1, 64))[None, :, :3])
        self._words(text, colour, limits, frozen, text == "own" and len(own.encode(errors="replace")) > LONGEST)
        for words, column in zip(self.table, table(means(chosen, frozen)), strict=True):
            words.set_text(column)
        self.readout.set_text(readout(chosen.text, place, frozen) if data else _nothing())
        came = data[place] if place else None
        titles = (_frozen(frozen) or say("as it is", "そのまま"), say("writes off", "書き込みなし"))
        for expected, title, reading in zip(
            self.expected, titles, (read(chosen.text, frozen), read(chosen.text, 0)), strict=True
        ):
            expected.draw(title if data else "", reading, place, came)

    def _words(self, text: str, colour: str, limits: tuple[float, float], frozen: int | None, shortened: bool) -> None:
        name, by = say(*TEXTS[text]), say(*MEASURES[colour])
        if shortened:
            name += say(f" ({LONGEST:,} bytes of it)", f"（先頭の{LONGEST:,}バイト）")
        heading = say(f"{name}, coloured by {by}", f"{name}、色：{by}")
        self.heading.set_text(heading + (say("; ", "、") + _frozen(frozen) if frozen is not None else ""))
        low, high = limits
        ends = (f"{low:g}", f"{high:.3g}" + (say(" or more", "以上") if colour in ("bits", "saved") else ""))
        if colour == "saved":
            ends = (say("cost more: −4", "コスト増：−4"), say("+4: saved", "+4：節約"))
        for words, end in zip(self.ends, ends, strict=True):
            words.set_text(end)


def _frozen(frozen: int | None) -> str:
    """That the memory is frozen, in words; empty where it is not."""
    return "" if frozen is None else say(f"frozen from byte {frozen}", f"バイト{frozen}から凍結")


def _nothing() -> str:
    """What is said of a text without a byte."""
    return say("An empty text: write one into the box.", "テキストが空です。欄に入力してください。")


class TextLab(LivePicture):
    """Sliders go as far as the text does, and what is typed is what is shown."""

    fitting = False

    def _changed(self, change: Any) -> None:
        if self.fitting:
            return
        if change["owner"] in (self.controls["text"], self.controls["own"]):
            self.fitting = True
            if change["owner"] is self.controls["own"]:
                self.controls["text"].value = "own"
            self._fit()
            self.fitting = False
        super()._changed(change)

    def _fit(self) -> None:
        """Look at the last stretch of the text that is marked, and let writing end at the first."""
        chosen = passage(self.controls["text"].value, self.controls["own"].value)
        last = max(len(chosen.text.encode()) - 1, 0)
        spans = list(chosen.spans.values())
        for name, value in (("place", spans[-1][0] if spans else last // 2), ("start", spans[0][0] if spans else 0)):
            self.controls[name].max = last
            self.controls[name].value = value


def text_lab() -> LivePicture:
    """The live picture: a text, what colours it, the byte that is looked at, and from where on nothing is written."""
    start = {"text": "repeated", "own": "", "start": 64, "place": 400}
    return TextLab(
        TextDrawing(),
        _controls(),
        (("text",), ("own",), ("colour",), ("place",), ("freeze", "start")),
        states=[{**start, "colour": "surprise", "freeze": freeze} for freeze in (False, True)],
        shows="Text lab: on the left a text, a coloured cell for every byte; on the right the means of its underlined "
        "stretches, and of one byte the bits, the surprise, the gates, and the five bytes that were expected most, "
        "with the memory and with writes off.",
        shows_ja="テキスト実験室。左は、1バイトごとにマスに色をつけたテキスト。右は、下線を引いた部分の平均と、"
        "選んだ1バイトのビット、驚き、ゲート、そして最も確率が高いと予測された5つのバイト"
        "（メモリがある場合と、書き込みなしの場合）を示した図。",
        alt="A passage of 128 bytes that is read twice, coloured by surprise. Above, it surprises less the second "
        "time; below, with the memory frozen before the first reading, as much as the first time.",
        alt_ja="128バイトの一節を2回読む様子で、色は驚きを表します。上では、2回目の驚きが1回目より小さくなります。"
        "下では、1回目の前にメモリを凍結したので、2回目の驚きも1回目と同じです。",
    )


def _controls() -> dict[str, Any]:
    """The controls as they are at first."""
    box = widgets.Textarea(
        description=say("your text", "テキスト"),
        placeholder=say(
            f"Write or paste up to {LONGEST:,} bytes, then click elsewhere.",
            f"{LONGEST:,}バイトまで入力するか貼り付けて、欄の外をクリックしてください。",
        ),
        continuous_update=False,
        rows=2,
        layout=widgets.Layout(width="600px"),
    )
    last = len(passage("repeated").text) - 1
    texts: list[Any] = [(say(*names), kind) for kind, names in TEXTS.items()]
    measures: list[Any] = [(say(*names), measure) for measure, names in MEASURES.items()]
    return {
        "text": choice(say("text", "テキスト"), texts, "repeated"),
        "own": box,
        "colour": choice(say("colour", "色"), measures, "bits"),
        "place": count(say("byte", "バイト"), 400, 0, last),
        "freeze": switch(say("freeze", "凍結")),
        "start": count(say("from byte", "凍結の開始"), 64, 0, last),
    }
