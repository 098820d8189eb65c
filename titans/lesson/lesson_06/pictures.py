"""The pictures of lesson 06."""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from titans.lesson.kit.figures import (
    BLACK,
    BLUE,
    CYCLE,
    GREEN,
    ORANGE,
    Picture,
    chart,
    legend_outside,
    new_figure,
    share_map,
    tidy,
)
from titans.lesson.kit.host import say
from titans.lesson.lesson_06.trials import FACTS, KINDS, TOLD, Questions, received

STRETCHES = {
    "told": "伝える間",
    "noise": "雑音の間",
    "asked": "たずねる間",
}  # what a sequence's stretches are in Japanese


def sinks() -> Picture:
    """What each column receives before anything is learned, without and with four persistent tokens."""
    figure = new_figure(3.1)
    panels = figure.subplots(1, 2, sharey=True)
    figure.subplots_adjust(left=0.08, right=0.98, top=0.88, bottom=0.17, wspace=0.08)
    for axes, persistent in zip(panels, (0, 4), strict=True):
        x = say("column (persistent tokens: < 0)", "列（負の番号は永続トークン）")
        tidy(axes, say(f"{persistent} persistent tokens", f"永続トークン{persistent}個"), x, "")
        columns, equal = range(-persistent, 32), received(persistent).tolist()
        all_equal = say("all scores equal", "スコアがすべて等しい")
        axes.bar(columns[persistent:], equal[persistent:], width=0.8, color=BLUE, label=all_equal)
        axes.bar(columns[:persistent], equal[:persistent], width=0.8, color=ORANGE, edgecolor=BLACK, hatch="//")
        random = received(persistent, draws=500)
        name = say("random scores", "ランダムなスコア")
        axes.plot(columns, random, "o", color=BLACK, markersize=5, markerfacecolor="none", label=name)
        axes.set_xlim(-5, 32)
    y = say("share received, mean of 32 queries", "受け取る割合（32個のクエリの平均）")
    panels[0].set_ylabel(y, fontsize=9)
    panels[0].legend(frameon=False, fontsize=9)
    return Picture(
        figure,
        alt="Attention that each of 32 columns receives before anything is learned. Without persistent tokens the "
        "first token receives about 13 percent and the last 0.1; with four in front, each of them receives 6 to 7 "
        "percent and the first token about as much. The circles of random scores sit on the bars of equal ones.",
        alt_ja="何も学習していないときに32個の列が受け取るアテンション。永続トークンがないと、最初のトークンは約13%、最後は約0.1%を受け取ります。"
        "4個を先頭に置くと、それぞれが6〜7%を受け取り、最初のトークンも同じくらいになります。ランダムなスコアの丸印は、"
        "スコアがすべて等しい場合の棒の先端にほぼ重なります。",
    )


def three_kinds(errors: Mapping[int, Tensor]) -> Picture:
    """errors: for each number of persistent tokens the mean squared error of every seed and kind,
    [seeds, 3]."""
    figure, axes = chart(2.9, "", say("squared error", "2乗誤差"), (0.08, 0.12, 0.76, 0.95))
    for place, ((count, each), (colour, marker, _)) in enumerate(zip(errors.items(), CYCLE, strict=False)):
        for kind in range(3):
            x = kind + 0.2 * (place - 1) + torch.linspace(-0.05, 0.05, len(each))
            name = say(f"{count} persistent", f"永続トークン{count}個") if kind == 0 else None
            axes.scatter(x, each[:, kind], color=colour, marker=marker, s=28, label=name)
    axes.set_xticks(range(3), [say(*kind) for kind in KINDS])
    axes.set_ylim(-0.04, 1.3)
    legend_outside(axes)
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
    fact = say("fact ", "事実")
    rows = {fact + "ABCD"[n]: shares[(asked.kind == 1) & (asked.fact == n)].mean(0) for n in range(FACTS)}
    rows |= {say(*KINDS[kind]): shares[asked.kind == kind].mean(0) for kind in (2, 0)}
    table = torch.stack(list(rows.values()))
    figure = new_figure(3.1)
    axes = figure.add_subplot()
    figure.subplots_adjust(left=0.2, right=0.85, top=0.88, bottom=0.06)
    share_map(axes, table)
    names = [f"$p_{n + 1}$" for n in range(persistent)] + [say("the 8 told", "伝えた8つ")]
    axes.set_xticks(range(persistent + 1), names)
    axes.set_yticks(range(len(rows)), list(rows))
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False, labelsize=9, length=0)
    axes.set_ylabel(say("question", "質問"), fontsize=9)
    for (row, column), share in np.ndenumerate(table.numpy()):
        ink = "black" if share > 0.5 else "white"
        axes.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize=9, color=ink)
    return Picture(
        figure,
        alt="Where the attention of each kind of question goes, six persistent tokens and the eight told pairs as "
        "columns. Unknown keys go almost all to one persistent token; each of the four facts goes to a token of its "
        "own and to the one for unknown keys; told keys go to the told pairs.",
        alt_ja="質問の種類ごとのアテンションの行き先。列は6個の永続トークンと、伝えた8つのペアです。知らないキーは、ほとんどが1個の永続トークンに向かいます。"
        "4つの事実は、それぞれ専用のトークンと、知らないキー用のトークンに向かいます。伝えたキーは、伝えたペアに向かいます。",
    )


def where_it_goes(shares: Tensor, even: Tensor, stretches: Mapping[str, slice]) -> Picture:
    """shares [heads, tokens, 3] of a MAC: bars for every head and stretch of the sequence, split
    into P, h and x.

    even: what P would receive at each token if all scores were equal, [tokens].
    """
    x = say("share of attention, mean of the stretch", "アテンションの割合（区間の平均）")
    figure, axes = chart(2.9, x, "", (0.17, 0.17, 0.78, 0.97))
    heads = range(1, len(shares) + 1)
    names = [say(f"head {head}, {name}", f"ヘッド{head}、{STRETCHES[name]}") for head in heads for name in stretches]
    table = torch.stack([head[part].mean(0) for head in shares for part in stretches.values()]).numpy()
    parts = (
        (say("persistent", "永続トークン"), ORANGE, ""),
        (say("retrieved $h$", "読み出した $h$"), GREEN, "//"),
        (say("segment $x$", "セグメント $x$"), BLUE, ".."),
    )
    for column, (part, colour, hatch) in enumerate(parts):
        before, width = table[:, :column].sum(1), table[:, column]
        axes.barh(names, width, left=before, color=colour, hatch=hatch, edgecolor="white", label=part)
    marks = [float(even[part].mean()) for part in stretches.values()] * len(shares)
    equal = say("$P$, equal scores", "$P$（等しいスコア）")
    axes.plot(marks, names, "|", color=BLACK, markersize=18, markeredgewidth=2, label=equal)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    legend_outside(axes)
    return Picture(
        figure,
        alt="Where the attention of a trained MAC goes, for both heads and three stretches. While pairs are told and "
        "asked for, about 40 to 50 percent goes to the four persistent tokens, more than the 29 percent of equal "
        "scores; during noise 10 to 20 percent, less than equal scores would give, most goes to the segment itself.",
        alt_ja="学習済みの MAC のアテンションの行き先を、2つのヘッドと3つの区間について示した図。ペアを伝える間と"
        "たずねる間は、約40〜50%が4個の永続トークンに向かい、スコアが等しい場合の29%より多くなります。雑音の間は10〜20%で、"
        "スコアが等しい場合より少なく、ほとんどはセグメント自身のトークンに向かいます。",
    )
