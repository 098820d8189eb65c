"""The gates lab of lesson 03: a matrix memory reads an eventful stream, under gates that the reader sets."""

from __future__ import annotations

from typing import NamedTuple

import torch
from matplotlib.axes import Axes
from torch import Tensor

from titans.lesson.kit.figures import BLACK, BLUE, GREEN, GREY, RED, heatmap, new_figure, tidy
from titans.lesson.kit.live import LivePicture, count, player, slider
from titans.lesson.lesson_03.streams import Stream, eventful_stream


class Trace(NamedTuple):
    """Everything that happened while a matrix memory read a stream, token by token."""

    memory: Tensor  # M_t after each token: [tokens, dim, dim]
    momentum: Tensor  # S_t: [tokens, dim, dim]
    write: Tensor  # -theta u_t, the token's own share of S_t: [tokens, dim, dim]
    surprise: Tensor  # |u_t|, the norm of the gradient: [tokens]


def trace(stream: Stream, theta: Tensor | float, eta: Tensor | float, alpha: Tensor | float) -> Trace:
    """Equations 13-14 for a matrix memory that starts at zero, every state kept; gates are numbers or [tokens]."""
    tokens, dim = stream.k.shape
    gates = [torch.as_tensor(gate, dtype=torch.float64).expand(tokens).tolist() for gate in (theta, eta, alpha)]
    memory = momentum = torch.zeros(dim, dim, dtype=torch.float64)
    steps = []
    for k, v, step, past, forget in zip(stream.k, stream.v, *gates, strict=True):
        gradient = torch.outer(2 * (memory @ k - v), k)
        momentum = past * momentum - step * gradient
        memory = (1 - forget) * memory + momentum
        steps.append((memory, momentum, -step * gradient, gradient.norm()))
    return Trace(*(torch.stack(column) for column in zip(*steps, strict=True)))


def early_answer(stream: Stream, memories: Tensor) -> Tensor:
    """How much of the early pair's value the memory answers to its key: 1 is all of it, 0 nothing. [tokens]"""
    k, v = stream.k[stream.early], stream.v[stream.early]
    return (memories @ k) @ v / v.square().sum()


SURPRISE_TOP, ANSWER_TOP = 4.2, 3.6  # of the two axes


def gates_lab(stream: Stream | None = None) -> LivePicture:
    """The live picture: gates and token as controls; M_t, S_t and the token's own write; surprise; the early pair."""
    stream = stream or eventful_stream()
    tokens, dim = stream.k.shape
    figure = new_figure(9, 5.6)
    grid = figure.add_gridspec(
        3, 3, height_ratios=(1.5, 1, 1), hspace=0.45, left=0.08, right=0.95, top=0.94, bottom=0.09
    )
    empty = torch.zeros(dim, dim)
    names = ("memory $M_t$", "momentum $S_t$", r"this token's write $-\theta_t u_t$")
    limits = (1.0, 0.3, 0.3)
    maps = [heatmap(figure.add_subplot(grid[0, i]), empty, name, limits[i]) for i, name in enumerate(names)]
    for image in maps:
        figure.colorbar(image, ax=image.axes, fraction=0.046, pad=0.04).ax.tick_params(labelsize=7)
    frames = [spine for image in maps for spine in image.axes.spines.values()]
    surprise_axes = tidy(figure.add_subplot(grid[1, :]), y="surprise $|u_t|$")
    answer_axes = tidy(figure.add_subplot(grid[2, :]), x="token", y="share of early pair")
    axis = torch.arange(tokens)
    (surprise,) = surprise_axes.plot(axis, axis * 0.0, color=BLUE, marker="o", markersize=3)
    (answer,) = answer_axes.plot(axis, axis * 0.0, color=GREEN, marker="s", markersize=3)
    cursors = [axes.axvline(0, color=BLACK, linewidth=1) for axes in (surprise_axes, answer_axes)]
    surprise_axes.set(xlim=(-1, tokens), ylim=(0, SURPRISE_TOP))
    answer_axes.set(xlim=(-1, tokens), ylim=(-0.4, ANSWER_TOP), yticks=(0, 1, 2, 3))
    answer_axes.axhline(1, color=GREY, linewidth=0.8, linestyle=":")
    mark_events(surprise_axes, stream)
    notes = [
        axes.text(52, 1.06, "", transform=axes.get_xaxis_transform(), ha="right", fontsize=8, color=RED)
        for axes in (surprise_axes, answer_axes)
    ]

    cache: dict[tuple[float, float, float], Trace] = {}

    def draw(theta: float, eta: float, alpha: float, token: int) -> None:
        if (theta, eta, alpha) not in cache:
            cache.clear()
            cache[theta, eta, alpha] = trace(stream, theta, eta, alpha)
        seen = cache[theta, eta, alpha]
        for image, states in zip(maps, (seen.memory, seen.momentum, seen.write), strict=True):
            image.set_data(states[token].numpy())
        answers = early_answer(stream, seen.memory)
        surprise.set_ydata(seen.surprise.clamp(max=10 * SURPRISE_TOP))
        answer.set_ydata(answers.clamp(-10, 10))
        for cursor in cursors:
            cursor.set_xdata([token, token])
        for note, curve, top in zip(notes, (seen.surprise, answers), (SURPRISE_TOP, ANSWER_TOP), strict=True):
            highest = float(curve.max())
            note.set_text(f"off the chart: up to {highest:.3g}" if highest > top else "")

    controls = {
        "theta": slider("θ step", 0.25, 0.0, 1.0, 0.05),
        "eta": slider("η past", 0.0, 0.0, 0.95, 0.05),
        "alpha": slider("α forget", 0.0, 0.0, 0.3, 0.01),
        "token": count("token", 20, 0, tokens - 1),
    }
    return LivePicture(
        figure,
        controls,
        draw,
        moving=[*maps, *frames, surprise, answer, *cursors, *notes],
        states=(
            {"theta": 0.25, "eta": 0.0, "alpha": 0.0, "token": 20},
            {"theta": 0.25, "eta": 0.8, "alpha": 0.0, "token": 20},
            {"theta": 0.25, "eta": 0.0, "alpha": 0.1, "token": 20},
        ),
        alt="Gates lab at token 20 in three settings, below one another: step size alone (theta 0.25), with momentum "
        "(eta 0.8), with forgetting (alpha 0.1). Each shows heat maps of the memory, the momentum and the token's own "
        "write, the surprise over 64 tokens, and how much of the early pair is still answered. Momentum makes surprise "
        "ring after every event; forgetting lets the early pair fade to nothing.",
        alt_ja="ゲート実験室のトークン20での様子を、3通りの設定で上から順に示した図。"
        "ステップ幅のみ（θ = 0.25）、モーメンタムあり（η = 0.8）、忘却あり（α = 0.1）です。"
        "それぞれ、メモリ、モーメンタム、そのトークン自身の書き込みのヒートマップと、64トークンにわたる驚きの大きさ、"
        "最初のペアをどれだけ答えられるかを示します。モーメンタムがあると出来事のたびに驚きが振動し、忘却があると最初のペアは消えていきます。",
        rows=(("theta", "eta", "alpha"), ("token", player(controls["token"]))),
    )


def mark_events(axes: Axes, stream: Stream) -> None:
    """Shade what happens in the stream, each stretch with its name above it."""
    for (name, (first, end)), shade in zip(stream.events.items(), ("0.78", "0.86", "0.92", "0.78"), strict=True):
        axes.axvspan(first - 0.5, end - 0.5, color=shade, zorder=0, linewidth=0)
        axes.text(first - 0.5, 1.06, name, transform=axes.get_xaxis_transform(), fontsize=8)
