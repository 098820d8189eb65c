"""The telling lab of lesson 00: tell six facts, wait, ask; with the memory on and off."""

from functools import lru_cache
from typing import Any

import ipywidgets as widgets
import torch
from matplotlib.patches import Rectangle
from torch import Tensor

from titans.lesson.kit.figures import FRAME, GREY, new_figure, share_map
from titans.lesson.kit.host import say
from titans.lesson.kit.live import Drawing, LivePicture, choice, notches
from titans.lesson.lesson_00.trials import chances, models
from titans.lesson.lesson_00.words import NAMES, PLACES, filler, ids, told_words
from titans.model import ModelState

WHO = tuple(NAMES[:6])
WHERE = ("Lima", "Kyoto", "Oslo", "Cairo", "Lyon", "Rome")
WAITS = (0, 1, 2, 4, 16, 64, 256, 500, 1000, 2000)
MEMORY = {"memory on": ("on", "あり"), "memory never written": ("off (never written)", "なし（書き込まない）")}


@lru_cache(maxsize=256)
def waited(name: str, places: tuple[str, ...], wait: int) -> ModelState:
    """The state of a model after the facts and `wait` tokens; goes on from the notch before, so
    each is read once."""
    model = models()[name]
    if wait == 0:
        return model(ids(told_words(dict(zip(WHO, places, strict=True))))).state
    before = max(notch for notch in WAITS if notch < wait)
    return model(filler(wait)[:, before:], waited(name, places, before)).state


@lru_cache(maxsize=256)
def answers(name: str, places: tuple[str, ...], wait: int) -> Tensor:
    """The probability of every place for each of the six names: [6, 32]."""
    return chances(models()[name], waited(name, places, wait), WHO)


def segments_between(wait: int, told: int = 2 * len(WHO)) -> int:
    """Borders of segments between the last token told and the question."""
    segment = models()["memory on"].config.segment_len
    return (told + wait) // segment - (told - 1) // segment


class TellingDrawing(Drawing):
    """Every place's probability for every name, a frame around the place that was told, and the
    likeliest one."""

    def __init__(self) -> None:
        self.figure = new_figure(3.5)
        axes = self.figure.add_axes((0.06, 0.2, 0.7, 0.66))
        self.image = share_map(axes, torch.zeros(len(WHO), len(PLACES)))
        axes.set_xticks(range(len(PLACES)), PLACES, rotation=90, fontsize=8)
        axes.set_yticks(range(len(WHO)), [f"{name}?" for name in WHO], fontsize=9)
        axes.tick_params(length=0)
        self.title = axes.set_title("", fontsize=10, loc="left")
        self.frames = [Rectangle((0, row - 0.45), 0.9, 0.9, fill=False, ec=FRAME, lw=2) for row in range(len(WHO))]
        for frame in self.frames:
            axes.add_patch(frame)
        replies = say("answer, probability", "答えと確率")
        axes.text(1.02, 1.04, replies, transform=axes.transAxes, fontsize=8, color=GREY)
        self.replies = [axes.text(32.2, row, "", fontsize=9, va="center") for row in range(len(WHO))]
        bar = self.figure.add_axes((0.955, 0.2, 0.012, 0.66))
        self.figure.colorbar(self.image, cax=bar, ticks=(0, 0.5, 1)).ax.tick_params(labelsize=8)
        self.moving = [self.image, *self.frames, *self.replies, self.title]

    def draw(self, memory: str, wait: int, **chosen: str) -> None:
        places = tuple(chosen[name] for name in WHO)
        found = answers(memory, places, wait)
        self.image.set_data(found.numpy())
        best, likeliest = found.max(1)
        right = 0
        for row, place in enumerate(places):
            self.frames[row].set_x(PLACES.index(place) - 0.45)
            answer = PLACES[int(likeliest[row])]
            right += answer == place
            self.replies[row].set_text(f"{'✓' if answer == place else '✗'} {answer} {float(best[row]):.0%}")
        title = say(
            "memory {}; asked {:,} tokens and {} segments later: {} of 6 right",
            "メモリ{}。{:,}トークン、{}セグメント後にたずねる：正解 {}/6",
        )
        self.title.set_text(title.format(say(*MEMORY[memory]), wait, segments_between(wait), right))


def telling_lab() -> LivePicture:
    """The live picture: six places, the wait and the memory as controls; every place's probability
    for every name."""
    controls: dict[str, widgets.Widget] = {
        name: notches(name, PLACES, place) for name, place in zip(WHO, WHERE, strict=True)
    }
    for control in controls.values():
        control.style.description_width = "48px"
    waits = [(f"{wait:,}", wait) for wait in WAITS]
    controls["wait"] = notches(say("tokens", "トークン数"), waits, 500, 330)  # 2,000 take longer to read
    options: list[Any] = [(say(*words), memory) for memory, words in MEMORY.items()]
    controls["memory"] = choice(say("memory", "メモリ"), options, "memory on")
    rows = (WHO, ("wait",), ("memory",))
    told = dict(zip(WHO, WHERE, strict=True))
    return LivePicture(
        TellingDrawing(),
        controls,
        rows,
        states=tuple({**told, "memory": memory, "wait": 2000} for memory in MEMORY),
        shows="Telling lab: a map of the probability of 32 places for six names, a frame around the place that was "
        "told, and each name's likeliest place.",
        shows_ja="伝言実験室。6つの名前に対する32の場所の確率を色で表し、伝えた場所を枠で囲んだ図。右に、名前ごとに最も確率の高い場所が並びます。",
        alt="Asked 2,000 tokens later, with the memory on and, below, with the memory never written. With it on all "
        "six framed places are answered; never written, the answers have nothing to do with the frames.",
        alt_ja="2,000トークン後にたずねた様子で、上はメモリあり、下はメモリに何も書き込まない場合です。"
        "メモリありでは、6つとも枠の場所を答えます。書き込まない場合、答えは枠と関係がありません。",
    )
