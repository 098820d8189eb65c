"""What a trained memory does with every token, drawn: its gates and its surprise; and the one example
of which lessons show them again and again."""

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from titans.lesson.kit.figures import BLACK, BLUE, Picture, Stretches, name_stretches, new_figure, shade, tidy
from titans.lesson.kit.host import say
from titans.lesson.kit.watching import memory_of
from titans.model import TitansLM
from titans.observe import observed
from titans.tasks import Recall

# Six facts of `Recall()`, told in one stretch: lesson 00 calls them "Ada Lima Ben Kyoto Chi Oslo Dan Cairo Eva Lyon
# Fumi Rome". Filler follows up to the end of the fourth segment.
TOLD = (0, 32, 1, 42, 2, 33, 3, 36, 4, 51, 5, 34)
TOKENS = 64


class Trace(NamedTuple):
    """theta, eta, alpha and |u|, the surprise, of every token: [tokens] each."""

    theta: Tensor
    eta: Tensor
    alpha: Tensor
    surprise: Tensor


def six_facts() -> tuple[Tensor, dict[str, tuple[int, int]]]:
    """The example: six facts and then filler, as tokens [1, 64] for the models of the recipe `recall-live`, and what
    is where."""
    filler = Recall().pass_time(1, TOKENS - len(TOLD), torch.Generator().manual_seed(0))
    tokens = torch.cat((torch.tensor([TOLD]), filler), dim=1)
    return tokens, {say("told", "伝えた事実"): (0, len(TOLD)), say("filler", "埋め草"): (len(TOLD), TOKENS)}


@torch.no_grad()
def trace(model: TitansLM, tokens: Tensor) -> Trace:
    """What the only memory of a model does with tokens [rows, tokens], from its first state; means over rows and
    heads."""
    with observed(memory_of(model)) as calls:
        model(tokens)
    gates = zip(*(call.tokens.gates for call in calls), strict=True)
    theta, eta, alpha = (torch.cat(gate, dim=2).mean((0, 1, 3)) for gate in gates)
    return Trace(theta, eta, alpha, torch.cat([call.surprise() for call in calls], dim=2).mean((0, 1)))


ROWS: tuple[tuple[str, tuple[str, str], Callable[[Tensor], float]], ...] = (
    ("theta", (r"step $\theta$", r"ステップ幅 $\theta$"), lambda values: 1.15 * float(values.max())),
    ("eta", (r"momentum $\eta$", r"モーメンタム $\eta$"), lambda values: 1.08),
    ("alpha", (r"forgetting $\alpha$", r"忘却 $\alpha$"), lambda values: 1.15 * max(float(values.max()), 1e-3)),
    ("surprise", ("surprise $|u|$", "驚き $|u|$"), lambda values: 1.15 * float(values.max())),
)  # name, label in both languages, the upper end of its axis


def gates_and_surprise(model: TitansLM, tokens: Tensor, spans: Stretches) -> Picture:
    """theta, eta, alpha and |u| of a model's only memory at every token, below one another, borders of chunks dotted.

    tokens: [rows, tokens]; of several rows the mean is drawn.
    spans: what is where in them, name -> (first token, the one after the last); the first is shaded darker.
    """
    found, chunk = trace(model, tokens), memory_of(model).chunk_size
    figure = new_figure(4.6)
    grid = figure.add_gridspec(len(ROWS), 1, hspace=0.22, left=0.12, right=0.985, top=0.94, bottom=0.095)
    for row, (name, label, top) in enumerate(ROWS):
        axes, values = tidy(figure.add_subplot(grid[row]), y=say(*label)), getattr(found, name)
        axes.vlines(range(len(values)), 0, values, color=BLUE, linewidth=1)
        axes.plot(range(len(values)), values, color=BLUE, marker="o", markersize=3.5, linestyle="none")
        axes.set(xlim=(-0.8, len(values) - 0.2), ylim=(0, top(values)))
        axes.yaxis.set_label_coords(-0.075, 0.5)
        axes.set_xticks(range(0, len(values) + 1, chunk))
        axes.tick_params(labelbottom=row == len(ROWS) - 1)
        shade(axes, spans)
        for border in range(chunk, len(values), chunk):
            axes.axvline(border - 0.5, color=BLACK, linestyle=":", linewidth=1.2)
        if row == 0:
            name_stretches(axes, spans, size=9)
    x = say(f"token (dotted: borders of chunks of {chunk})", f"トークン（点線：{chunk}トークンのチャンクの境目）")
    axes.set_xlabel(x, fontsize=9)
    return Picture(figure, *(_words(found, spans, chunk, *text) for text in (ENGLISH, JAPANESE)))


ENGLISH = (
    "Four rows of points, one a token: the step size θ, the momentum η, the forgetting α and the surprise |u|; chunks "
    "of {chunk} tokens. Means: {means}.",
    "{name}: θ {theta:.3f}, η {eta:.2f}, α {alpha:.4f}, |u| {surprise:.1f}",
    "; ",
)
JAPANESE = (
    "1トークンを1点で表した4段の図。上からステップ幅 θ、モーメンタム η、忘却 α、驚き |u| で、"
    "チャンクは{chunk}トークンです。平均値は、{means}。",
    "「{name}」で θ {theta:.3f}、η {eta:.2f}、α {alpha:.4f}、|u| {surprise:.1f}",
    "。",
)


def _words(found: Trace, spans: Stretches, chunk: int, text: str, each: str, between: str) -> str:
    """The picture in words: the means of every stretch, cut at borders of chunks."""
    said = []
    for name, (start, end) in spans.items():
        edges = sorted({start, end, *range(0, end, chunk)} - set(range(start)))
        for first, last in pairwise(edges):
            means = {key: float(values[first:last].mean()) for key, values in found._asdict().items()}
            said.append(each.format(name=f"{name} {first}–{last - 1}", **means))
    return text.format(chunk=chunk, means=between.join(said))
