"""The variant lab of lesson 08: MAC, MAG, MAL and LMM with parts switched off, and what they still answer."""

from collections.abc import Callable
from contextlib import nullcontext
from copy import deepcopy
from functools import cache
from typing import NamedTuple

import ipywidgets as widgets
import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.path import Path
from torch import Tensor

from titans.checkpoints import load_checkpoint
from titans.lesson.kit.figures import BLUE, RED, new_figure
from titans.lesson.kit.host import say
from titans.lesson.kit.interventions import held, without_attention
from titans.lesson.kit.live import Drawing, LivePicture, choice, notches, switch
from titans.lesson.kit.watching import without_h
from titans.lesson.lesson_08.flow import FLOWS, HEIGHT, draw_flow
from titans.model import TitansLM
from titans.neural_memory import CausalConv
from titans.observe import closed
from titans.tasks import Needle, alphabet
from titans.training import EVALUATION_SEED

TASK, ROWS, SHOWN = Needle("noise"), 32, 8
PARTS = {
    "attention": ("attention", "アテンション"),
    "h": ("h", "h"),
    "convolution": ("convolution", "畳み込み"),
    "momentum": ("momentum", "モーメンタム"),
    "memory": ("writing", "書き込み"),
}  # what can be switched off, in both languages
CHECK = Path([(-1, 0), (-0.3, -0.8), (1, 1)])


# ---- What is computed ------------------------------------------------------------------------------------------------


class Answers(NamedTuple):
    """Pass-keys that were told, and what a model says, as token ids [ROWS, 4]."""

    told: Tensor
    said: Tensor

    @property
    def keys(self) -> int:
        """How many rows have all digits right."""
        return int((self.told == self.said).all(1).sum())

    @property
    def digits(self) -> float:
        """The share of right digits."""
        return float((self.told == self.said).double().mean())


@cache
def trained(variant: str) -> TitansLM:
    """The variant as it comes with the package, trained on the needle in noise."""
    return load_checkpoint(f"needle/{variant.lower()}-in-noise")[0]


@torch.no_grad()
def without_convolution(model: TitansLM) -> TitansLM:
    """A copy whose convolutions look back at no token: those of the memory's queries, keys and values, and that of
    MAC's queries for h."""
    model = deepcopy(model)
    for module in model.modules():
        if isinstance(module, CausalConv):
            module.weight[..., :-1] = 0
    return model


COPIES: dict[str, Callable[[TitansLM], TitansLM]] = {
    "attention": without_attention,
    "h": without_h,
    "convolution": without_convolution,
    "memory": closed,
}


@cache
@torch.no_grad()
def answers(variant: str, off: frozenset[str], between: int) -> Answers:
    """What a variant without the parts `off` says, each digit after the true ones before it, `between` tokens after it
    was told."""
    model = trained(variant)
    for part, copy_without in COPIES.items():
        if part in off:
            model = copy_without(model)
    pieces, asked = TASK.stream(ROWS, between, torch.Generator().manual_seed(EVALUATION_SEED), max(between, 1))
    tokens = torch.cat((*pieces, asked.tokens), dim=1)
    with held(model, eta=0.0) if "momentum" in off else nullcontext():
        logits = model(tokens).logits
    return Answers(asked.labels[:, 1:], logits[:, -TASK.digits - 1 : -1].argmax(-1))


# ---- What is drawn ---------------------------------------------------------------------------------------------------


def letter(token: int) -> str:
    """A token as it is shown: a digit, a letter of the noise, "#" for the mark."""
    letters = f"{alphabet()}0123456789#"
    return "␣" if letters[token].isspace() else letters[token]


def draw_answers(axes: Axes, found: Answers) -> None:
    """The first pass-keys on empty axes: what was told, what is said, and a mark for right or wrong."""
    axes.set(xlim=(0, 9), ylim=(0, 1))
    axes.axis("off")
    for y, words in ((0.83, say("told", "伝えた数字")), (0.48, say("answered", "答え"))):
        axes.text(0.05, y, words, fontsize=9, va="center")
    marks: dict[bool, list[tuple[float, float]]] = {True: [], False: []}
    for row in range(SHOWN):
        axes.add_patch(Rectangle((0.92 + row, 0.03), 0.92, 0.96, facecolor="0.96", linewidth=0))
        for place, (told, said) in enumerate(zip(found.told[row].tolist(), found.said[row].tolist(), strict=True)):
            x, right = 1.07 + row + 0.205 * place, told == said
            axes.text(x, 0.83, letter(told), fontsize=11, ha="center", va="center")
            colour = BLUE if right else RED
            axes.text(x, 0.48, letter(said), fontsize=11, ha="center", va="center", color=colour, weight="bold")
            marks[right].append((x, 0.17))
    for right, marker, colour in ((True, CHECK, BLUE), (False, "x", RED)):
        axes.plot(
            *torch.tensor(marks[right]).view(-1, 2).T,
            linestyle="",
            marker=marker,
            color=colour,
            markerfacecolor="none",
            markersize=6,
            markeredgewidth=1.5,
        )


def heading(variant: str, off: frozenset[str]) -> str:
    """The variant, what it is without, and what it does not have anyway."""
    has = FLOWS[variant].parts
    gone, absent = ([say(*PARTS[part]) for part in PARTS if part in some] for some in (off & has, off - has))
    name = say(f"{variant}, whole", f"{variant}（すべてあり）")
    if gone:
        name = say(f"{variant} without {', '.join(gone)}", f"{variant}（外したもの：{'、'.join(gone)}）")
    if absent:
        name += say(f"   ({variant} has no {' and no '.join(absent)})", f"　{variant} にないもの：{'、'.join(absent)}")
    return name


class VariantDrawing(Drawing):
    """Above, the variant as boxes and arrows; below, what it was told and what it answers."""

    def __init__(self) -> None:
        self.figure = new_figure(3.4)
        self.flow = self.figure.add_axes((0, 1.27 / 3.4, 1, HEIGHT / 3.4))
        self.answers = self.figure.add_axes((0.01, 0.01, 0.98, 0.98 / 3.4))
        self.name = self.figure.text(0.01, 3.26 / 3.4, "", fontsize=10, va="center", weight="bold")
        self.share = self.figure.text(0.01, 1.13 / 3.4, "", fontsize=10, va="center")
        self.moving = [self.flow, self.answers, self.name, self.share]

    def draw(self, variant: str, between: int, **switched: bool) -> None:
        off = frozenset(part for part in PARTS if switched[part])
        found = answers(variant, off & FLOWS[variant].parts, between)
        for axes in (self.flow, self.answers):
            axes.clear()
        draw_flow(self.flow, variant, off)
        draw_answers(self.answers, found)
        self.name.set_text(heading(variant, off))
        share = say(
            "right: {} of {} pass-keys, {:.0%} of the digits   ({} tokens between telling and asking)",
            "正解：パスキー{1}個のうち{0}個、数字の{2:.0%}（伝えてからたずねるまで{3}トークン）",
        )
        self.share.set_text(share.format(found.keys, ROWS, found.digits, between))


def variant_lab() -> LivePicture:
    """The live picture: a variant, the parts that are switched off, and the tokens between telling and asking."""
    controls: dict[str, widgets.Widget] = {
        "variant": choice(say("variant", "変種"), list(FLOWS)),
        "between": notches(say("between", "間のトークン"), (64, 256, 1024), 256),
        **{part: switch(say(*name)) for part, name in PARTS.items()},
    }
    whole = {"variant": "MAC", "between": 256, **dict.fromkeys(PARTS, False)}
    states = [
        {**whole, "variant": variant, part: True}
        for variant, part in (("MAC", "attention"), ("MAL", "attention"), ("MAC", "convolution"))
    ]
    return LivePicture(
        VariantDrawing(),
        controls,
        (("variant", "between"), (widgets.Label(say("switch off:", "外すもの：")), *PARTS)),
        states=states,
        shows="Variant lab: a variant as boxes and arrows in the order of computation, with what is switched off pale "
        "and crossed out; below, eight pass-keys as they were told and as the model answers them, each digit with a "
        "tick if it is right and a cross if not.",
        shows_ja="変種実験室。変種の計算の流れを箱と矢印で示し、外したものは薄い色と×印で表した図。"
        "その下に、伝えた8個のパスキーとモデルの答えがあり、数字ごとに、正しければチェック、誤りなら×印が付いています。",
        alt="Three states, with 256 tokens between telling and asking. MAC without attention still answers all of 32 "
        "pass-keys right: attention is crossed out, and x goes past it into y. MAL without attention answers none "
        "right, with 12% of the digits, and says only 0 and 8, whatever was told: no arrow leads past its attention to "
        "o. MAC without convolution answers none right either, with 21% of the digits.",
        alt_ja="伝えてからたずねるまでが256トークンの、3つの状態です。アテンションを外した MAC は、"
        "32個のパスキーすべてに正しく答えます。アテンションに×印がありますが、x はそれを通らずに y に届きます。"
        "アテンションを外した MAL は、1個も正しく答えられず、正しい数字は12%で、何を伝えても0か8としか答えません。"
        "アテンションを通らずに o に届く矢印がないからです。"
        "畳み込みを外した MAC も、1個も正しく答えられず、正しい数字は21%です。",
    )
