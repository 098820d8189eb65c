"""The pictures of lesson 06, its questions of three kinds, and a look at where a trained model's attention goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from titans.attention import causal_mask, rotate
from titans.blocks import SegmentMixer
from titans.lesson.kit.figures import BLACK, BLUE, CYCLE, GREEN, ORANGE, Picture, new_figure, tidy
from titans.model import TitansLM


def persistent_share(q: Tensor, persistent_keys: Tensor, keys: Tensor) -> Tensor:
    """The share of one softmax that goes to the persistent keys; what exercise 1 asks for."""
    ours, theirs = ((k @ q / len(q) ** 0.5).exp().sum() for k in (persistent_keys, keys))
    return ours / (ours + theirs)


# ---- Before anything is learned --------------------------------------------------------------------------------------


def received(persistent: int, tokens: int = 32, draws: int = 0) -> Tensor:
    """What each column of causal attention over [P | x] receives, averaged over the queries: [persistent + tokens].

    draws: 0 for equal scores, else the mean over so many random draws of queries and keys with 16 features.
    """
    mask = F.pad(causal_mask(tokens, 0, torch.device("cpu")), (persistent, 0), value=True)
    random = torch.Generator().manual_seed(0)
    q = torch.randn(max(draws, 1), tokens, 16, generator=random)
    k = torch.randn(max(draws, 1), persistent + tokens, 16, generator=random)
    scores = q @ k.mT / 4 * (draws > 0)
    return scores.masked_fill(~mask, -torch.inf).softmax(-1).mean((0, 1))


def sinks() -> Picture:
    """What each column receives before anything is learned, without and with four persistent tokens."""
    figure = new_figure(9, 3.1)
    panels = figure.subplots(1, 2, sharey=True)
    figure.subplots_adjust(left=0.08, right=0.98, top=0.88, bottom=0.17, wspace=0.08)
    for axes, persistent in zip(panels, (0, 4), strict=True):
        tidy(axes, f"{persistent} persistent tokens", "column (persistent tokens: < 0)", "")
        columns = range(-persistent, 32)
        axes.bar(range(-persistent, 0), received(persistent)[:persistent].numpy(), width=0.85, color="#F5D79B")
        for draws, name, (colour, marker, line) in zip((0, 500), ("all scores equal", "random"), CYCLE, strict=False):
            shares = received(persistent, draws=draws).numpy()
            axes.plot(
                columns, shares, color=colour, marker=marker, markersize=3, linewidth=1, linestyle=line, label=name
            )
        axes.set_xlim(-5, 32)
    panels[0].set_ylabel("share received, mean of 32 queries", fontsize=9)
    panels[0].legend(frameon=False, fontsize=9)
    return Picture(
        figure,
        alt="Attention that each of 32 columns receives before anything is learned. Without persistent tokens the "
        "first token receives about 13 percent and the last 0.1; with four in front, each of them receives 6 to 7 "
        "percent and the first token about as much. Equal scores and random ones give nearly the same curve.",
        alt_ja="何も学習していないときに32個の列が受け取るアテンション。永続トークンがないと、最初のトークンは約13%、最後は約0.1%を受け取ります。"
        "4個を先頭に置くと、それぞれが6〜7%を受け取り、最初のトークンも同じくらいになります。スコアがすべて等しい場合とランダムな場合で、"
        "曲線はほぼ同じです。",
    )


# ---- Questions of three kinds ----------------------------------------------------------------------------------------

KINDS = ("told", "always true", "unknown")
FACTS, TOLD, DIM = 4, 8, 16


class Questions(NamedTuple):
    """Rows of a question, eight told pairs and the wanted answer; which of KINDS, and which fact, the question is."""

    q: Tensor  # [rows, DIM]
    keys: Tensor  # [rows, TOLD, DIM]
    values: Tensor  # [rows, TOLD, DIM]
    wanted: Tensor  # [rows, DIM]
    kind: Tensor  # [rows]
    fact: Tensor  # [rows]


def questions(rows: int, random: torch.Generator) -> Questions:
    """A third of the rows asks for a told key, a third for one of four facts that are never told, a third for nothing.

    The four facts are the same in all sequences. The answer to an unknown key is zero.
    """

    def directions(*shape: int, generator: torch.Generator = random) -> Tensor:
        return F.normalize(torch.randn(*shape, DIM, generator=generator), dim=-1)

    fact_keys, fact_values = directions(2, FACTS, generator=torch.Generator().manual_seed(7))
    keys, values, stranger = directions(rows, TOLD), directions(rows, TOLD), directions(rows)
    row, kind = torch.arange(rows), torch.arange(rows) % 3
    pick = torch.randint(TOLD, (rows,), generator=random)
    fact = torch.randint(FACTS, (rows,), generator=random)
    q = torch.stack((keys[row, pick], fact_keys[fact], stranger))[kind, row]
    wanted = torch.stack((values[row, pick], fact_values[fact], torch.zeros(rows, DIM)))[kind, row]
    return Questions(q, keys, values, wanted, kind, fact)


def three_kinds(errors: Mapping[int, Tensor]) -> Picture:
    """errors: for each number of persistent tokens the mean squared error of every seed and kind, [seeds, 3]."""
    figure = new_figure(9, 2.9)
    axes = tidy(figure.add_subplot(), "", "", "squared error")
    figure.subplots_adjust(left=0.08, right=0.76, top=0.95, bottom=0.12)
    for place, ((count, each), (colour, marker, _)) in enumerate(zip(errors.items(), CYCLE, strict=False)):
        for kind in range(3):
            x = kind + 0.2 * (place - 1) + torch.linspace(-0.05, 0.05, len(each))
            name = f"{count} persistent" if kind == 0 else None
            axes.scatter(x, each[:, kind], color=colour, marker=marker, s=28, label=name)
    axes.set_xticks(range(3), KINDS)
    axes.set_ylim(-0.04, 1.3)
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return Picture(
        figure,
        alt="Squared errors of three seeds for each number of persistent tokens. Told keys: small for all. Facts that "
        "are always true: above 1 without persistent tokens, about 0.6 with one, near 0 with six. Unknown keys: above "
        "0.2 without, about 0.15 with one, near 0 with six.",
        alt_ja="永続トークンの個数ごとに、3つの乱数シードの2乗誤差を示した図。伝えたキーでは、どれも小さくなります。いつも正しい事実では、永続トークン"
        "なしだと1を超え、1個で約0.6、6個ではほぼ0です。知らないキーでは、永続トークンなしで0.2を超え、1個で約0.15、6個ではほぼ0です。",
    )


def who_is_asked(shares: Tensor, asked: Questions) -> Picture:
    """shares [rows, persistent + TOLD]: where the attention of each kind of question goes."""
    persistent = shares.shape[1] - TOLD
    shares = torch.cat((shares[:, :persistent], shares[:, persistent:].sum(1, keepdim=True)), dim=1)
    rows = {f"fact {'ABCD'[n]}": shares[(asked.kind == 1) & (asked.fact == n)].mean(0) for n in range(FACTS)}
    rows |= {"unknown": shares[asked.kind == 2].mean(0), "told": shares[asked.kind == 0].mean(0)}
    table = torch.stack(list(rows.values()))
    figure = new_figure(9, 3.1)
    axes = figure.add_subplot()
    figure.subplots_adjust(left=0.2, right=0.85, top=0.88, bottom=0.06)
    axes.imshow(table.numpy(), cmap="cividis", vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    axes.set_xticks(range(persistent + 1), [f"$p_{n + 1}$" for n in range(persistent)] + ["the 8 told"])
    axes.set_yticks(range(len(rows)), list(rows))
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, labelsize=9, length=0)
    axes.set_ylabel("question", fontsize=9)
    for (row, column), share in np.ndenumerate(table.numpy()):
        axes.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize=9, color=_ink(share))
    return Picture(
        figure,
        alt="Where the attention of each kind of question goes, six persistent tokens and the eight told pairs as "
        "columns. Unknown keys go almost all to one persistent token; each of the four facts goes to a token of its "
        "own and to the one for unknown keys; told keys go to the told pairs.",
        alt_ja="質問の種類ごとのアテンションの行き先。列は6個の永続トークンと、伝えた8つのペアです。知らないキーは、ほとんどが1個の永続トークンに向かいます。"
        "4つの事実は、それぞれ専用のトークンと、知らないキー用のトークンに向かいます。伝えたキーは、伝えたペアに向かいます。",
    )


def _ink(share: float) -> str:
    return "black" if share > 0.5 else "white"


# ---- A trained model -------------------------------------------------------------------------------------------------


@torch.no_grad()
def attention_shares(model: TitansLM, tokens: Tensor) -> Tensor:
    """Where the attention of a model's first layer, MAC or "attention", goes: [heads, tokens, parts], mean over rows.

    parts: persistent tokens, then the streams: in MAC the retrieved h and the segment's own tokens. Each adds up to 1.
    """
    mixer = next(model.layers()).mixer
    assert isinstance(mixer, SegmentMixer)
    original, found = mixer.see, []

    def see(q, streams, keys, values, place, prefix):
        assert place == 0, "tokens must be whole segments from the first on"
        mask = causal_mask(q.shape[2], 0, q.device)
        scores = [q @ prefix[0].mT]
        scores += [(rotate(q, 0) @ rotate(k, 0).mT).masked_fill(~mask, -torch.inf) for k, _ in streams]
        shares = (torch.cat(scores, dim=-1) / q.shape[-1] ** 0.5).softmax(-1)
        parts = shares.split([part.shape[-1] for part in scores], dim=-1)
        found.append(torch.stack([part.sum(-1) for part in parts], dim=-1).mean(0))
        return original(q, streams, keys, values, place, prefix)

    mixer.see = see  # type: ignore[method-assign]
    try:
        model(tokens)
    finally:
        del mixer.see
    return torch.cat(found, dim=1)


def where_it_goes(shares: Tensor, even: Tensor, stretches: Mapping[str, slice]) -> Picture:
    """shares [heads, tokens, 3] of a MAC: bars for every head and stretch of the sequence, split into P, h and x.

    even: what P would receive at each token if all scores were equal, [tokens].
    """
    figure = new_figure(9, 2.9)
    axes = tidy(figure.add_subplot(), "", "share of attention, mean of the stretch", "")
    figure.subplots_adjust(left=0.17, right=0.78, top=0.97, bottom=0.17)
    names = [f"head {head + 1}, {name}" for head in range(len(shares)) for name in stretches]
    table = torch.stack([shares[head, part].mean(0) for head in range(len(shares)) for part in stretches.values()])
    start = torch.zeros(len(table))
    parts = (("persistent", ORANGE, ""), ("retrieved $h$", GREEN, "//"), ("segment $x$", BLUE, ".."))
    for column, (name, colour, hatch) in enumerate(parts):
        axes.barh(
            names,
            table[:, column].numpy(),
            left=start.numpy(),
            color=colour,
            hatch=hatch,
            edgecolor="white",
            label=name,
        )
        start = start + table[:, column]
    marks = [float(even[part].mean()) for _ in range(len(shares)) for part in stretches.values()]
    axes.plot(
        marks, names, color=BLACK, marker="|", markersize=18, markeredgewidth=2, linestyle="", label="$P$, equal scores"
    )
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return Picture(
        figure,
        alt="Where the attention of a trained MAC goes, for both heads and three stretches. While pairs are told and "
        "asked for, about 40 to 50 percent goes to the four persistent tokens, more than the 29 percent of equal "
        "scores; during noise 10 to 20 percent, less than equal scores would give, most goes to the segment itself.",
        alt_ja="学習済みの MAC のアテンションの行き先を、2つのヘッドと3つの区間について示した図。ペアを伝える間と"
        "たずねる間は、約40〜50%が4個の永続トークンに向かい、スコアが等しい場合の29%より多くなります。雑音の間は10〜20%で、"
        "スコアが等しい場合より少なく、ほとんどはセグメント自身のトークンに向かいます。",
    )


def without_persistent(model: TitansLM) -> TitansLM:
    """The same weights in a model that has no persistent tokens."""
    bare = TitansLM(replace(model.config, persistent_tokens=0))
    weights = {name: w[:0] if name.endswith(".persistent") else w for name, w in model.state_dict().items()}
    bare.load_state_dict(weights)
    return bare
