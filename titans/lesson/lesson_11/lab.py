"""The choice lab of lesson 11: a stream of pairs, told to the default rule and to one with a choice swapped."""

from functools import cache
from typing import NamedTuple

import ipywidgets as widgets
import torch
from torch import Tensor

from titans.lesson.kit.figures import BLUE, GREY, ORANGE, RED, new_figure, tidy
from titans.lesson.kit.host import say
from titans.lesson.kit.live import Drawing, LivePicture, notches, switch
from titans.lesson.lesson_11.streams import STREAMS, Stream, draw
from titans.lesson.lesson_11.trials import ALPHAS, CHOICES, ETAS, MEASURED, THETAS, measured
from titans.recurrence import recurrent_scan
from titans.scan import Gates

STREAM_NAMES = {
    "plain": ("random pairs", "ランダムなペア"),
    "outlier": ("outliers", "外れ値"),
    "known": ("M₀ knows some", "M₀ に知識"),
    "scaled": ("scaled features", "大きさの違う成分"),
    "once": ("alike, told once", "似たキーを1回"),
    "noisy": ("noisy values", "雑音のある値"),
    "drift": ("drifting", "移り変わり"),
    "many": ("many pairs", "多くのペア"),
}
CHOICE_NAMES = {
    "|e|": ("loss |e|", "損失 |e|"),
    "Huber": ("loss of Huber", "Huber の損失"),
    "to M_0": ("forgetting to M₀", "M₀ への忘却"),
    "Adam": ("Adam", "Adam"),
    "Muon": ("Muon", "Muon"),
    "window": ("window of 8", "8トークンの窓"),
    "Muon+window": ("Muon, window", "Muon と窓"),
    "deep": ("deep memory", "深いメモリ"),
    "polynomial": ("polynomial keys", "多項式のキー"),
}
DEFAULT = ("default", "既定")
TOP = 1.6  # of the axes


class Told(NamedTuple):
    """How wrong a memory was, |M(k) - v| / |v|: about each pair just before it was written [tokens], and about each
    question at the end [questions]."""

    before: Tensor
    end: Tensor


@cache
@torch.no_grad()
def told(name: str, stream: str, gates: tuple[float, float, float]) -> Told:
    """A choice on the first of the streams that the lesson's table measures."""
    choice, drawn = CHOICES[name], Stream(*(part[:, None] for part in draw(STREAMS[stream], MEASURED[:1])))
    memory, state = choice.start(drawn.start)
    k, v = drawn.k, drawn.v
    held = Gates(*(torch.full(k.shape[:3], gate, dtype=k.dtype) for gate in gates))
    first = memory.read(state.weights, k[:, :, :1])
    y, state = recurrent_scan(memory, state, k.roll(-1, 2), k, v, held, rule=choice.rule)  # M_t answers the next key
    answers = torch.cat((first, y[:, :, :-1]), dim=2)
    end = memory.read(state.weights, drawn.q)
    return Told(*(wrong(answer, true)[0, 0] for answer, true in ((answers, v), (end, drawn.wanted))))


def wrong(answer: Tensor, true: Tensor) -> Tensor:
    """|answer - true| / |true|; what diverged is infinite."""
    return ((answer - true).norm(dim=-1) / true.norm(dim=-1)).nan_to_num(nan=torch.inf)


class ChoiceDrawing(Drawing):
    """Left, the error of each pair as it is told; right, that of each question at the end; default and swapped."""

    def __init__(self) -> None:
        self.figure = new_figure(3.4)
        y = say("error |M(k) − v| / |v|", "誤差 |M(k) − v| / |v|")
        left = tidy(self.figure.add_axes((0.07, 0.15, 0.53, 0.6)), x=say("token", "トークン"), y=y)
        right = tidy(self.figure.add_axes((0.66, 0.15, 0.32, 0.6)), x=say("question", "質問"))
        for axes, title in (
            (left, say("just before it is written", "書き込まれる直前")),
            (right, say("asked at the end", "最後にたずねたとき")),
        ):
            axes.set(ylim=(-0.05, TOP), xlim=(-0.02, 1.02))
            axes.set_xticks([0, 1], [say("first", "最初"), say("last", "最後")])
            axes.set_title(title, fontsize=9, loc="left")
            axes.axhline(1, color=GREY, linewidth=0.8, linestyle=":")
        looks = ((BLUE, "o", "-"), (ORANGE, "s", "--"))
        self.curves, self.ends = (
            [
                axes.plot([], [], color=colour, marker=marker, markersize=4, linestyle=line, linewidth=1)[0]
                for colour, marker, line in looks
            ]
            for axes in (left, right)
        )
        for line in self.ends:
            line.set_linestyle("")
        self.names = [
            self.figure.text(0.07, height, "", fontsize=9.5, va="center", color=colour, weight="bold")
            for height, colour in ((0.94, BLUE), (0.87, "#8A5900"))
        ]
        self.note = self.figure.text(0.98, 0.02, "", fontsize=8.5, color=RED, ha="right")
        self.moving = [*self.curves, *self.ends, *self.names, self.note]

    def draw(self, stream: str, choice: str, theta: float, eta: float, alpha: float, best: bool) -> None:
        off = 0
        for row, (name, words) in enumerate((("default", DEFAULT), (choice, CHOICE_NAMES[choice]))):
            gates = measured(name, STREAMS[stream]).gates if best else (theta, eta, alpha)
            found = told(name, stream, gates)
            for line, errors in ((self.curves[row], found.before), (self.ends[row], found.end)):
                line.set_data(torch.linspace(0, 1, len(errors)), errors.clamp(max=10 * TOP))
                off += int((errors > TOP).sum())
            label = say(
                "{} {}: error at the end {:.2f}   (θ = {}, η = {}, α = {})",
                "{} {}：最後の誤差 {:.2f}（θ = {}、η = {}、α = {}）",
            )
            end = found.end.mean().clamp(max=99)
            self.names[row].set_text(label.format("●■"[row], say(*words), end, *gates))
        self.note.set_text(say(f"off the chart: {off} points", f"枠外の点：{off}個") if off else "")


def choice_lab() -> LivePicture:
    """The live picture: a stream, the choice that is swapped, and the gates of both rules."""
    streams = [(say(*words), name) for name, words in STREAM_NAMES.items()]
    choices = [(say(*words), name) for name, words in CHOICE_NAMES.items()]
    controls: dict[str, widgets.Widget] = {
        "stream": notches(say("stream", "ストリーム"), streams, "outlier", 360),
        "choice": notches(say("swapped", "替えたもの"), choices, "Huber", 360),
        "theta": notches(say("θ step", "θ ステップ"), THETAS, 0.3),
        "eta": notches(say("η past", "η 過去"), ETAS, 0.0),
        "alpha": notches(say("α forget", "α 忘却"), ALPHAS, 0.0),
        "best": switch(say("each its best", "それぞれ最良")),
    }
    best = {"theta": 0.3, "eta": 0.0, "alpha": 0.0, "best": True}
    cases = (("outlier", "Huber"), ("once", "Muon+window"), ("drift", "polynomial"))
    return LivePicture(
        ChoiceDrawing(),
        controls,
        (("stream", "choice"), ("theta", "eta", "alpha", "best")),
        states=[{**best, "stream": stream, "choice": choice} for stream, choice in cases],
        shows="Choice lab: on the left the error of each pair just before it is written, on the right that of each "
        "question at the end; blue circles for the default rule, orange squares for the one with a choice swapped.",
        shows_ja="選択実験室。左は、それぞれのペアの、書き込まれる直前の誤差、右は、最後にたずねたときの、質問ごとの誤差を示した図。"
        "青い丸が既定の規則、オレンジの四角が、1か所を替えた規則です。",
        alt="Three states, each rule with its best gates. Among outliers the default stays near error 1 and ends at "
        "0.83; with Huber's loss all but the outliers fall toward 0, and it ends at 0.18. With 12 keys that are alike, "
        "each told once, the default ends at 0.92, Muon over a window of 8 at 0.54. While a linear map drifts, "
        "polynomial keys err more than the default on keys that were never told: 0.52 against 0.39.",
        alt_ja="3つの状態で、どちらの規則のゲートも、それぞれ最良のものです。外れ値のあるストリームでは、"
        "既定の規則の誤差は1の近くにとどまり、最後は0.83です。"
        "Huber の損失では、外れ値のほかは0に近づき、最後は0.18です。"
        "似たキーを1回ずつ、12個伝えるストリームでは、既定の規則が0.92、8トークンの窓と Muon が0.54です。"
        "線形写像が移り変わるストリームでは、伝えていないキーでの誤差は、多項式のキーのほうが大きく、"
        "既定の0.39に対して0.52です。",
    )
