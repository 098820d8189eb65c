"""The memory player of lesson 09: a memory's weights while it reads, two runs side by side, and a probe.

What happened is worked out before (`Run`, a recording of every token); a move of a slider only shows it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import ipywidgets as widgets
import numpy as np
from matplotlib.axes import Axes

from titans.lesson.kit.figures import BLACK, BLUE, GREY, ORANGE, heatmap, new_figure, tidy
from titans.lesson.kit.live import LivePicture, count, player


class Run(NamedTuple):
    """A recording: what a memory did at each token, and what it would have answered to each probe right after it."""

    memory: np.ndarray  # M_t: [tokens, out, in]
    momentum: np.ndarray  # S_t: [tokens, out, in]
    write: np.ndarray  # the token's own share of S_t, -theta_t u_t: [tokens, out, in]
    surprise: np.ndarray  # |u_t|: [tokens]
    answers: np.ndarray  # how strongly each choice is answered: [tokens, probes, choices]


class Story(NamedTuple):
    """What is read, in words."""

    tokens: Sequence[str]  # each token
    stretches: Mapping[str, tuple[int, int]]  # name -> first token and the one after the last
    probes: Sequence[str]  # keys that can be asked for
    choices: Sequence[str]  # what may be answered
    told: np.ndarray  # number of the choice that was told last for each probe, -1 before: [tokens, probes]
    freezes: Mapping[str, int | None]  # from which token on writing may be frozen


class Scales(NamedTuple):
    """Where colours and axes end."""

    memory: float
    momentum: float
    write: float
    surprise: float
    answer: tuple[float, float]


Runs = Callable[[bool, bool, "int | None"], Run]  # (no momentum, no forgetting, frozen from) -> the recording


def right_answers(story: Story, run: Run) -> np.ndarray:
    """How strongly each probe's last told value is answered, 0 before it is told: [tokens, probes]."""
    picked = np.take_along_axis(run.answers, story.told.clip(min=0)[..., None], axis=2)[..., 0]
    return np.where(story.told >= 0, picked, 0.0)


def memory_player(
    story: Story,
    runs: Runs,
    scales: Scales,
    states: Sequence[Mapping[str, object]],
    alt: str,
    alt_ja: str,
    answer: str,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
) -> LivePicture:
    """The live picture. Left: the memory as it is; right: the same stream with what the switches take away.

    answer: what the strength of an answer is called. rows, columns: names of the matrix's rows and columns, if few.
    """
    tokens = len(story.tokens)
    figure = new_figure(9, 5.9)
    top = figure.add_gridspec(1, 7, left=0.07, right=0.995, top=0.83, bottom=0.6, width_ratios=(1, 1, 1, 0.2, 1, 1, 1))
    low = figure.add_gridspec(
        2, 2, left=0.07, right=0.985, top=0.5, bottom=0.08, hspace=0.55, wspace=0.2, width_ratios=(2.2, 1)
    )
    names = ("memory $M_t$", "momentum $S_t$", r"write $-\theta_t u_t$")
    first = runs(False, False, None)
    blank = np.zeros(first.memory.shape[1:])
    maps = []
    for place in (0, 1, 2, 4, 5, 6):
        axes = figure.add_subplot(top[0, place])
        image = heatmap(axes, blank, names[place % 4], (scales.memory, scales.momentum, scales.write)[place % 4])
        image.set_interpolation("none")
        axes.set_aspect("auto")
        axes.title.set_fontsize(9)
        if columns:
            axes.set_xticks(range(len(columns)), columns, fontsize=6.5, rotation=90)
        if rows and place == 0:
            axes.set_yticks(range(len(rows)), rows, fontsize=7)
        axes.tick_params(length=0, pad=2)
        maps.append(image)
    now = figure.text(0.07, 0.965, "", fontsize=11, weight="bold")
    ends = f"colours end at ±{scales.memory:g}, ±{scales.momentum:g}, ±{scales.write:g}"
    figure.text(0.985, 0.965, ends, fontsize=8, color=GREY, ha="right")
    figure.text(0.07, 0.905, "left (blue): as it is", fontsize=9, color=BLUE)
    other = figure.text(0.545, 0.905, "", fontsize=9, color="#9A6B00")

    surprise_axes = tidy(figure.add_subplot(low[0, :]), y="surprise $|u_t|$")
    answer_axes = tidy(figure.add_subplot(low[1, 0]), x="token", y=answer)
    bar_axes = tidy(figure.add_subplot(low[1, 1]), x="")
    curves, bars = [], []
    for colour, style, mark, shift in ((BLUE, "-", "o", -0.2), (ORANGE, "--", "s", 0.2)):
        look: dict[str, Any] = {
            "color": colour,
            "linestyle": style,
            "linewidth": 1.2,
            "marker": mark,
            "markersize": 2.2,
        }
        curves.append([axes.plot(range(tokens), [0.0] * tokens, **look)[0] for axes in (surprise_axes, answer_axes)])
        spots = np.arange(len(story.choices)) + shift
        bars.append(bar_axes.bar(spots, [0.0] * len(spots), width=0.38, color=colour))
    surprise_axes.set(xlim=(-1, tokens), ylim=(0, scales.surprise))
    answer_axes.set(xlim=(-1, tokens), ylim=scales.answer)
    bar_axes.set(ylim=scales.answer, xlim=(-0.6, len(story.choices) - 0.4))
    bar_axes.set_xticks(range(len(story.choices)), story.choices, fontsize=7.5)
    for axes in (answer_axes, bar_axes):
        axes.axhline(1, color=GREY, linewidth=0.8, linestyle=":")
    cursors = [axes.axvline(0, color=BLACK, linewidth=1) for axes in (surprise_axes, answer_axes)]
    shade(surprise_axes, story.stretches)
    bar_title, answer_title = (axes.set_title(" ", fontsize=9, loc="left") for axes in (bar_axes, answer_axes))

    def draw(token: int, probe: str, no_momentum: bool, no_forgetting: bool, freeze: str) -> None:
        asked = story.probes.index(probe)
        both = first, runs(no_momentum, no_forgetting, story.freezes[freeze])
        for run, images, (surprise, right), containers in zip(both, (maps[:3], maps[3:]), curves, bars, strict=True):
            for image, series in zip(images, (run.memory, run.momentum, run.write), strict=True):
                image.set_data(series[token])
            surprise.set_ydata(run.surprise)
            right.set_ydata(right_answers(story, run)[:, asked])
            for bar, height in zip(containers, run.answers[token, asked], strict=True):
                bar.set_height(height)
        for cursor in cursors:
            cursor.set_xdata([token, token])
        now.set_text(f"token {token}: {story.tokens[token]}")
        taken = [name for name, on in (("no momentum", no_momentum), ("no forgetting", no_forgetting)) if on]
        if story.freezes[freeze] is not None:
            taken.append(f"frozen {freeze}")
        other.set_text(f"right (orange): {', '.join(taken) or 'the same; switch something off'}")
        answer_title.set_text(f"asked for {probe} after each token: what was told last")
        bar_title.set_text(f"now, asked for {probe}")

    controls: dict[str, widgets.Widget] = {
        "token": count("token", 0, 0, tokens - 1),
        "probe": widgets.Dropdown(
            options=list(story.probes), description="probe", layout=widgets.Layout(width="200px")
        ),
        "no_momentum": switch("no momentum"),
        "no_forgetting": switch("no forgetting"),
        "freeze": widgets.Dropdown(
            options=list(story.freezes), description="freeze", layout=widgets.Layout(width="300px")
        ),
    }
    for name, value in states[0].items():
        controls[name].value = value
    play = player(controls["token"])
    moving = [*maps, *(curve for pair in curves for curve in pair), *(bar for group in bars for bar in group)]
    moving += [*cursors, now, other, answer_title, bar_title]
    return LivePicture(
        figure, controls, draw, moving, states, alt, alt_ja,
        rows=(("token", play, "probe"), ("no_momentum", "no_forgetting", "freeze")),
    )  # fmt: skip


def switch(name: str) -> widgets.Checkbox:
    """A box to tick."""
    return widgets.Checkbox(value=False, description=name, indent=False, layout=widgets.Layout(width="140px"))


def shade(axes: Axes, stretches: Mapping[str, tuple[int, int]]) -> None:
    """The stretches of a stream in two greys by turns, each with its name above it."""
    for number, (name, (start, end)) in enumerate(stretches.items()):
        axes.axvspan(start - 0.5, end - 0.5, color=("0.9", "0.97")[number % 2], zorder=0, linewidth=0)
        axes.text(start - 0.4, 1.04, name, transform=axes.get_xaxis_transform(), fontsize=7.5)
