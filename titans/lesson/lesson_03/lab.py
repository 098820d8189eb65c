"""The gates lab of lesson 03: a matrix memory reads an eventful stream, under gates that the reader
sets."""

from functools import lru_cache, partial

import torch
from matplotlib.gridspec import GridSpec

from titans.lesson.kit.figures import BLACK, BLUE, GREEN, GREY, RED, heatmap, name_stretches, new_figure, shade, tidy
from titans.lesson.kit.host import say
from titans.lesson.kit.live import Drawing, LivePicture, count, play_button, slider
from titans.lesson.kit.matrix_memory import trace
from titans.lesson.lesson_03.streams import early_answer, eventful_stream

EVENTS = {"early pair": "最初のペア", "burst": "バースト", "shift": "変化", "lie": "うそ"}  # of the stream
SURPRISE_TOP, ANSWER_TOP = 4.2, 3.6  # of the two axes


class GatesDrawing(Drawing):
    """M_t, S_t and the token's own write; surprise over the stream; how much of the early pair is
    still answered."""

    def __init__(self) -> None:
        self.figure, self.stream = new_figure(5), eventful_stream()
        self.read = lru_cache(maxsize=1)(partial(trace, self.stream.k, self.stream.v))
        grid = self.figure.add_gridspec(
            3, 3, height_ratios=(1.5, 1, 1), hspace=0.45, left=0.08, right=0.95, top=0.87, bottom=0.1
        )
        self.now = self.figure.text(0.08, 0.96, "", fontsize=11, weight="bold")
        self._draw_maps(grid)
        self._draw_curves(grid)
        frames = [spine for image in self.maps for spine in image.axes.spines.values()]
        self.moving = [*self.maps, *frames, self.surprise, self.answer, *self.cursors, *self.notes, self.now]

    def _draw_maps(self, grid: GridSpec) -> None:
        names = (
            say("memory $M_t$", "メモリ $M_t$"),
            say("momentum $S_t$", "モーメンタム $S_t$"),
            say(r"this token's write $-\theta_t u_t$", r"このトークンの書き込み $-\theta_t u_t$"),
        )
        empty = torch.zeros(self.stream.k.shape[1], self.stream.k.shape[1])
        self.maps = [
            heatmap(self.figure.add_subplot(grid[0, i]), empty, name, limit)
            for i, (name, limit) in enumerate(zip(names, (1.0, 0.3, 0.3), strict=True))
        ]
        for image in self.maps:
            bar = self.figure.colorbar(image, ax=image.axes, fraction=0.046, pad=0.04)
            bar.ax.tick_params(labelsize=8)

    def _draw_curves(self, grid: GridSpec) -> None:
        top = tidy(self.figure.add_subplot(grid[1, :]), y=say("surprise $|u_t|$", "驚き $|u_t|$"))
        x, y = say("token", "トークン"), say("share of early pair", "最初のペアの割合")
        low = tidy(self.figure.add_subplot(grid[2, :]), x=x, y=y)
        tokens = range(len(self.stream.k))
        (self.surprise,) = top.plot(tokens, [0.0 for _ in tokens], color=BLUE, marker="o", markersize=3)
        (self.answer,) = low.plot(tokens, [0.0 for _ in tokens], color=GREEN, marker="s", markersize=3)
        self.cursors = [axes.axvline(0, color=BLACK, linewidth=1) for axes in (top, low)]
        top.set(xlim=(-1, len(tokens)), ylim=(0, SURPRISE_TOP))
        low.set(xlim=(-1, len(tokens)), ylim=(-0.4, ANSWER_TOP), yticks=(0, 1, 2, 3))
        low.axhline(1, color=GREY, linewidth=0.8, linestyle=":")
        shade(top, self.stream.events, ("0.78", "0.86", "0.92", "0.78"))
        named = {say(name, EVENTS[name]): where for name, where in self.stream.events.items()}
        name_stretches(top, named, -0.5, 1.06, 8)
        self.notes = [
            axes.text(52, 1.06, "", transform=axes.get_xaxis_transform(), ha="right", fontsize=8, color=RED)
            for axes in (top, low)
        ]

    def draw(self, theta: float, eta: float, alpha: float, token: int) -> None:
        seen = self.read(theta, eta, alpha)
        english = f"θ = {theta:g}, η = {eta:g}, α = {alpha:g}; token {token}"
        self.now.set_text(say(english, f"θ = {theta:g}、η = {eta:g}、α = {alpha:g}、トークン{token}"))
        for image, states in zip(self.maps, (seen.memory, seen.momentum, seen.write), strict=True):
            image.set_data(states[token].numpy())
        answers = early_answer(self.stream, seen.memory)
        self.surprise.set_ydata(seen.surprise.clamp(max=10 * SURPRISE_TOP))
        self.answer.set_ydata(answers.clamp(-10, 10))
        for cursor in self.cursors:
            cursor.set_xdata([token, token])
        tops = ((seen.surprise, SURPRISE_TOP), (answers, ANSWER_TOP))
        for note, (curve, top) in zip(self.notes, tops, strict=True):
            highest = float(curve.max())
            off = say(f"off the chart: up to {highest:.3g}", f"枠外、最大 {highest:.3g}")
            note.set_text(off if highest > top else "")


def gates_lab() -> LivePicture:
    """The live picture: gates and token as controls; M_t, S_t and the token's own write; surprise;
    the early pair."""
    drawing = GatesDrawing()
    controls = {
        "theta": slider(say("θ step", "θ ステップ"), 0.25, 0.0, 1.0, 0.05),
        "eta": slider(say("η past", "η 過去"), 0.0, 0.0, 0.95, 0.05),
        "alpha": slider(say("α forget", "α 忘却"), 0.0, 0.0, 0.3, 0.01),
        "token": count(say("token", "トークン"), 20, 0, len(drawing.stream.k) - 1),
    }
    rows = (("theta", "eta", "alpha"), ("token", play_button(controls["token"])))
    return LivePicture(
        drawing,
        controls,
        rows,
        states=(
            {"theta": 0.25, "eta": 0.8, "alpha": 0.0, "token": 20},
            {"theta": 0.25, "eta": 0.0, "alpha": 0.1, "token": 20},
        ),
        shows="Gates lab: heat maps of the memory, the momentum and the token's own write, the surprise over 64 "
        "tokens, and how much of the early pair is still answered.",
        shows_ja="ゲート実験室。メモリ、モーメンタム、そのトークン自身の書き込みのヒートマップと、64トークンにわたる驚きの大きさ、"
        "最初のペアをどれだけ答えられるかを示した図。",
        alt="At token 20 with theta 0.25, with momentum (eta 0.8) and, below, with forgetting instead (alpha 0.1). "
        "Momentum makes surprise ring after every event; forgetting lets the early pair fade to nothing.",
        alt_ja="θ = 0.25、トークン20での様子で、上はモーメンタムあり（η = 0.8）、下は代わりに忘却あり（α = 0.1）です。"
        "モーメンタムがあると出来事のたびに驚きが振動し、忘却があると最初のペアは消えていきます。",
    )
