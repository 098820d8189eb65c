"""The telling lab of lesson 00: tell six facts, wait, ask; with the memory on and off."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import ipywidgets as widgets
import numpy as np
from matplotlib.patches import Rectangle
from torch import Tensor

from titans.lesson.kit.figures import RED, new_figure
from titans.lesson.kit.live import LivePicture
from titans.lesson.lesson_00 import pictures as lesson_00
from titans.lesson.lesson_00.pictures import NAMES, PLACES
from titans.model import ModelState

WHO = tuple(NAMES[:6])
WHERE = ("Lima", "Kyoto", "Oslo", "Cairo", "Lyon", "Rome")
WAITS = (0, 1, 2, 4, 16, 64, 256, 500, 1000, 2000)
MEMORY = {"on": "memory on", "off (never written)": "memory never written"}


@lru_cache(maxsize=256)
def waited(name: str, places: tuple[str, ...], wait: int) -> ModelState:
    """The state of a model after the facts and `wait` tokens; goes on from the notch before, so each is read once."""
    model = lesson_00.models()[name]
    if wait == 0:
        return model(lesson_00.ids(lesson_00.told_words(dict(zip(WHO, places, strict=True))))).state
    before = max(notch for notch in WAITS if notch < wait)
    return model(lesson_00.filler(wait)[:, before:], waited(name, places, before)).state


@lru_cache(maxsize=256)
def answers(name: str, places: tuple[str, ...], wait: int) -> Tensor:
    """The probability of every place for each of the six names: [6, 32]."""
    return lesson_00.chances(lesson_00.models()[name], waited(name, places, wait), WHO)


def segments_between(wait: int, told: int = 2 * len(WHO)) -> int:
    """Borders of segments between the last token told and the question."""
    segment = lesson_00.models()["memory on"].config.segment_len
    return (told + wait) // segment - (told - 1) // segment


def telling_lab(places: Sequence[str] = WHERE) -> LivePicture:
    """The live picture: six places, the wait and the memory as controls; every place's probability for every name."""
    figure = new_figure(9, 3.5)
    axes = figure.add_axes((0.06, 0.2, 0.7, 0.66))
    image = axes.imshow(np.zeros((6, 32)), cmap="cividis", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    axes.set_xticks(range(32), PLACES, rotation=90, fontsize=8)
    axes.set_yticks(range(6), [f"{name}?" for name in WHO], fontsize=9)
    axes.tick_params(length=0)
    title = axes.set_title("", fontsize=10, loc="left")
    frames = [Rectangle((0, row - 0.45), 0.9, 0.9, fill=False, ec=RED, lw=2) for row in range(6)]
    for frame in frames:
        axes.add_patch(frame)
    axes.text(1.02, 1.04, "answer, probability", transform=axes.transAxes, fontsize=8, color="0.35")
    replies = [axes.text(32.2, row, "", fontsize=9, va="center") for row in range(6)]
    bar = figure.add_axes((0.955, 0.2, 0.012, 0.66))
    figure.colorbar(image, cax=bar, ticks=(0, 0.5, 1)).ax.tick_params(labelsize=7)

    def draw(memory: str, wait: int, **chosen: str) -> None:
        places = tuple(chosen[name] for name in WHO)
        chances = answers(MEMORY[memory], places, wait)
        image.set_data(chances.numpy())
        best, choice = chances.max(1)
        right = 0
        for row, place in enumerate(places):
            frames[row].set_x(PLACES.index(place) - 0.45)
            answer = PLACES[int(choice[row])]
            good = answer == place
            right += good
            replies[row].set_text(f"{'✓' if good else '✗'} {answer} {float(best[row]):.0%}")
        title.set_text(
            f"memory {memory}; asked {wait:,} tokens and {segments_between(wait)} segments later: {right} of 6 right"
        )

    layout = widgets.Layout(width="190px")
    style = {"description_width": "48px"}
    controls: dict[str, widgets.Widget] = {
        name: widgets.Dropdown(options=PLACES, value=place, description=name, layout=layout, style=style)
        for name, place in zip(WHO, places, strict=True)
    }
    controls["wait"] = widgets.SelectionSlider(
        options=[(f"{wait:,}", wait) for wait in WAITS], value=2000, description="tokens",
        layout=widgets.Layout(width="330px"),
    )  # fmt: skip
    controls["memory"] = widgets.Dropdown(
        options=list(MEMORY), description="memory", layout=widgets.Layout(width="240px")
    )
    here = dict(zip(WHO, places, strict=True))
    return LivePicture(
        figure,
        controls,
        draw,
        moving=[image, *frames, *replies, title],
        states=(
            {**here, "memory": "on", "wait": 2000},
            {**here, "memory": "off (never written)", "wait": 2000},
            {**here, WHO[0]: "Tokyo", WHO[1]: "Tokyo", "memory": "on", "wait": 2000},
            {**here, "memory": "on", "wait": 0},
        ),
        alt="Telling lab in four settings, below one another: 2,000 tokens later with the memory on, the same with the "
        "memory never written, with two facts changed to Tokyo, and asked at once. Each is a map of the probability of "
        "32 places for six names, a frame around the place that was told. With the memory on the framed places are "
        "answered; never written, the answers have nothing to do with the frames; asked at once, the last fact fails.",
        alt_ja="伝言実験室の4通りの設定を上から順に示した図。メモリありで2,000トークン後、同じ条件でメモリに"
        "書き込まない場合、2つの事実を Tokyo に変えた場合、すぐにたずねた場合です。それぞれ、"
        "6つの名前に対する32の場所の確率を色で表し、伝えた場所を枠で囲みます。メモリありでは枠の場所を答えます。書き込まない場合、答えは枠と"
        "関係がありません。すぐにたずねると、最後の事実だけ答えられません。",
        rows=(WHO[:3], WHO[3:], ("wait", "memory")),
    )
