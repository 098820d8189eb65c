"""The memory player: a memory's weights while it reads, two recordings of it side by side, and a
probe.

What happened is worked out before (a `Recording` of every token); a move of a slider only shows it.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import ipywidgets as widgets
import numpy as np

from titans.lesson.kit.figures import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    Stretches,
    heatmap,
    name_stretches,
    new_figure,
    shade,
    tidy,
)
from titans.lesson.kit.host import say
from titans.lesson.kit.live import Drawing, LivePicture, choice, count, play_button, switch


class Recording(NamedTuple):
    """What a memory did at each token, and what it would have answered to each probe right after it."""

    memory: np.ndarray  # M_t: [tokens, out, in]
    momentum: np.ndarray  # S_t: [tokens, out, in]
    write: np.ndarray  # the token's own share of S_t, -theta_t u_t: [tokens, out, in]
    surprise: np.ndarray  # |u_t|: [tokens]
    answers: np.ndarray  # how strongly each choice is answered: [tokens, probes, choices]


class Story(NamedTuple):
    """What is read, in words."""

    tokens: Sequence[str]  # each token
    stretches: Stretches
    probes: Sequence[str]  # keys that can be asked for
    choices: Sequence[str]  # what may be answered
    told: np.ndarray  # number of the choice that was told last for each probe, -1 before: [tokens, probes]
    freezes: Mapping[str, tuple[int | None, str]]  # from which token on writing may be frozen; in Japanese
    columns: Sequence[str] = ()  # names of the matrix's columns, if few; its rows are then the choices


class Look(NamedTuple):
    """Where colours and axes end, and what is written beside them."""

    memory: float
    momentum: float
    write: float
    surprise: float
    answer: tuple[float, float]
    answer_name: str  # what the strength of an answer is called


OFF = ("no momentum", "モーメンタムなし"), ("no forgetting", "忘却なし")
Recorder = Callable[[bool, bool, int | None], Recording]  # of (no momentum, no forgetting, frozen from this token on)


def in_turn(lengths: Mapping[str, int]) -> Stretches:
    """Stretches one after another, from how many tokens each has."""
    ends = list(accumulate(lengths.values()))
    return dict(zip(lengths, zip([0, *ends], ends, strict=False), strict=True))


def right_answers(story: Story, recording: Recording) -> np.ndarray:
    """How strongly each probe's last told value is answered, 0 before it is told: [tokens, probes]."""
    picked = np.take_along_axis(recording.answers, story.told.clip(min=0)[..., None], axis=2)[..., 0]
    return np.where(story.told >= 0, picked, 0.0)


def memory_player(
    story: Story, recorder: Recorder, look: Look, states: Sequence[Mapping[str, object]], alt: str, alt_ja: str
) -> LivePicture:
    """The live picture. Left: the memory as it is; right: the same stream with what the switches
    take away. alt, alt_ja: what the states show."""
    shows = (
        "Memory player, the memory as it is on the left and another run on the right: heat maps of memory, momentum "
        f"and last write, the surprise at each of {len(story.tokens)} tokens, and what is answered to a probe."
    )
    shows_ja = (
        "メモリプレーヤー。左がそのままのメモリ、右がもう1つの実行です。メモリ、モーメンタム、最後の書き込みのヒートマップと、"
        f"{len(story.tokens)}トークンの驚き、問い合わせへの答えを示した図。"
    )
    freezes: list[Any] = [(say(name, japanese), name) for name, (_, japanese) in story.freezes.items()]
    controls: dict[str, widgets.Widget] = {
        "token": count(say("token", "トークン"), 0, 0, len(story.tokens) - 1),
        "probe": choice(say("probe", "問い合わせ"), story.probes),
        "no_momentum": switch(say(*OFF[0])),
        "no_forgetting": switch(say(*OFF[1])),
        "freeze": choice(say("freeze", "凍結"), freezes, freezes[0][1]),
    }
    for name, value in states[0].items():
        controls[name].value = value
    rows = (("token", play_button(controls["token"])), ("probe",), ("freeze",), ("no_momentum", "no_forgetting"))
    return LivePicture(PlayerDrawing(story, recorder, look), controls, rows, states, shows, shows_ja, alt, alt_ja)


class PlayerDrawing(Drawing):
    """Heat maps of both recordings above; their surprise, their answers and the answers of this
    moment below."""

    def __init__(self, story: Story, recorder: Recorder, look: Look) -> None:
        self.story, self.recorder, self.look = story, recorder, look
        self.figure, self.as_it_is = new_figure(5.2), recorder(False, False, None)
        self._draw_maps()
        self._draw_headings()
        self._draw_curves_and_bars()
        curves = [curve for pair in zip(self.surprise, self.answer, strict=True) for curve in pair]
        bars = [bar for group in self.bars for bar in group]
        texts = [self.now, self.other, self.answer_title, self.bar_title]
        frames = [spine for image in self.maps for spine in image.axes.spines.values()]
        self.moving = [*self.maps, *frames, *curves, *bars, *self.cursors, *texts]

    def _draw_maps(self) -> None:
        grid = self.figure.add_gridspec(
            1,
            7,
            left=0.07,
            right=0.995,
            top=0.83,
            bottom=0.6 if self.story.columns else 0.56,
            width_ratios=(1, 1, 1, 0.2, 1, 1, 1),
        )
        story, look, blank = self.story, self.look, np.zeros(self.as_it_is.memory.shape[1:])
        names = say("memory", "メモリ"), say("momentum", "モーメンタム"), say("write", "書き込み")
        titles = [f"{name} ${formula}$" for name, formula in zip(names, ("M_t", "S_t", r"-\theta_t u_t"), strict=True)]
        limits = (look.memory, look.momentum, look.write)
        self.maps = []
        for place in (0, 1, 2, 4, 5, 6):
            axes = self.figure.add_subplot(grid[0, place])
            image = heatmap(axes, blank, titles[place % 4], limits[place % 4])
            image.set_interpolation("none")
            axes.set_aspect("auto")
            axes.title.set_fontsize(9)
            if story.columns:
                axes.set_xticks(range(len(story.columns)), story.columns, fontsize=8, rotation=90)
            if story.columns and place == 0:
                axes.set_yticks(range(len(story.choices)), story.choices, fontsize=8)
            axes.tick_params(length=0, pad=2)
            self.maps.append(image)

    def _draw_headings(self) -> None:
        look = self.look
        self.now = self.figure.text(0.07, 0.965, "", fontsize=11, weight="bold")
        ends = say("colours end at ", "色の範囲：") + f"±{look.memory:g}, ±{look.momentum:g}, ±{look.write:g}"
        self.figure.text(0.985, 0.965, ends, fontsize=8, color=GREY, ha="right")
        self.figure.text(0.07, 0.905, say("left (blue): as it is", "左（青）：そのまま"), fontsize=9, color=BLUE)
        self.other = self.figure.text(0.545, 0.905, "", fontsize=9, color="#9A6B00")

    def _draw_curves_and_bars(self) -> None:
        grid = self.figure.add_gridspec(
            2, 2, left=0.07, right=0.985, top=0.5, bottom=0.08, hspace=0.55, wspace=0.2, width_ratios=(2.2, 1)
        )
        story, look, tokens = self.story, self.look, len(self.story.tokens)
        surprise = tidy(self.figure.add_subplot(grid[0, :]), y=say("surprise $|u_t|$", "驚き $|u_t|$"))
        answer = tidy(self.figure.add_subplot(grid[1, 0]), x=say("token", "トークン"), y=look.answer_name)
        bars = tidy(self.figure.add_subplot(grid[1, 1]))
        self.surprise, self.answer = (
            [
                axes.plot([0.0] * tokens, style, color=colour, linewidth=1.2, markersize=2.2)[0]
                for colour, style in ((BLUE, "o-"), (ORANGE, "s--"))
            ]
            for axes in (surprise, answer)
        )
        places = np.arange(len(story.choices))
        self.bars = [
            bars.bar(places + shift, [0.0] * len(places), width=0.38, color=colour)
            for colour, shift in ((BLUE, -0.2), (ORANGE, 0.2))
        ]
        surprise.set(xlim=(-1, tokens), ylim=(0, look.surprise))
        answer.set(xlim=(-1, tokens), ylim=look.answer)
        bars.set(xlim=(-0.6, len(places) - 0.4), ylim=look.answer)
        bars.set_xticks(places, story.choices, fontsize=8)
        for axes in (answer, bars):
            axes.axhline(1, color=GREY, linewidth=0.8, linestyle=":")
        self.cursors = [axes.axvline(0, color=BLACK, linewidth=1) for axes in (surprise, answer)]
        shade(surprise, story.stretches)
        name_stretches(surprise, story.stretches)
        self.bar_title, self.answer_title = (axes.set_title(" ", fontsize=9, loc="left") for axes in (bars, answer))

    def draw(self, token: int, probe: str, no_momentum: bool, no_forgetting: bool, freeze: str) -> None:
        story, asked = self.story, self.story.probes.index(probe)
        frozen, japanese = story.freezes[freeze]
        self._show(0, self.as_it_is, token, asked)
        self._show(1, self.recorder(no_momentum, no_forgetting, frozen), token, asked)
        for cursor in self.cursors:
            cursor.set_xdata([token, token])
        self.now.set_text(say(f"token {token}: ", f"トークン{token}：") + story.tokens[token])
        taken = [say(*name) for name, on in zip(OFF, (no_momentum, no_forgetting), strict=True) if on]
        if frozen is not None:
            taken.append(say(f"frozen {freeze}", f"{japanese}に凍結"))
        same = say("the same; switch something off", "左と同じ（スイッチで何かを切ってください）")
        self.other.set_text(say("right (orange): ", "右（橙）：") + (say(", ", "、").join(taken) or same))
        then = say(
            "asked for {} after each token: what was told last", "各トークンの後に {} についてたずねる：最後に伝えた値"
        )
        self.answer_title.set_text(then.format(probe))
        self.bar_title.set_text(say(f"now, asked for {probe}", f"いま {probe} についてたずねた答え"))

    def _show(self, side: int, recording: Recording, token: int, asked: int) -> None:
        series = (recording.memory, recording.momentum, recording.write)
        for image, states in zip(self.maps[3 * side :][:3], series, strict=True):
            image.set_data(states[token])
        self.surprise[side].set_ydata(recording.surprise)
        self.answer[side].set_ydata(right_answers(self.story, recording)[:, asked])
        for bar, height in zip(self.bars[side], recording.answers[token, asked], strict=True):
            bar.set_height(height)
