"""The pictures of lesson 08."""

import numpy as np
from matplotlib.colors import to_rgb
from torch import Tensor

from titans.lesson.kit.figures import BLACK, BLUE, GREEN, ORANGE, Picture, new_figure
from titans.lesson.kit.host import say
from titans.lesson.lesson_08.flow import FLOWS, draw_flow


def variants() -> Picture:
    """The four variants, one below the other, as boxes and arrows."""
    figure = new_figure(7)
    grid = figure.add_gridspec(4, 1, left=0.01, right=0.99, top=0.96, bottom=0.01, hspace=0.12)
    for place, variant in enumerate(FLOWS):
        axes = figure.add_subplot(grid[place])
        draw_flow(axes, variant, ())
        axes.set_title(variant, fontsize=10, loc="left", pad=2)
    return Picture(
        figure,
        alt="Four ways from x to the output o. MAC reads h from the memory, attends over P, h and x, writes and reads "
        "what came out, and gates the two. MAG lets a sliding window and the memory read x side by side, and gates "
        "the one with the other. MAL reads the memory first and lets a sliding window attend over what came out. LMM "
        "has the memory alone.",
        alt_ja="入力 x から出力 o までの4通りの道筋。MAC はメモリから h を読み、P、h、x にアテンションをかけ、"
        "その結果を書いて読み、2つをゲートで合わせます。"
        "MAG ではスライディングウィンドウとメモリが並んで x を読み、一方が他方のゲートになります。"
        "MAL はまずメモリを読み、その結果にスライディングウィンドウのアテンションをかけます。LMM はメモリだけです。",
    )


def masks(window: Tensor, segment_len: int, persistent: int) -> Picture:
    """Who sees whom in attention: MAC's segments beside a sliding window.

    window: booleans [tokens, persistent + tokens], the mask of MAG and MAL.
    """
    tokens = len(window)
    i, j = np.arange(tokens)[:, None], np.arange(tokens)
    past = (j <= i) & (i // segment_len == j // segment_len)
    prefix = np.ones((tokens, persistent), dtype=bool)
    parts = {
        say("MAC: a segment, with h", "MAC：セグメントと h"): ((prefix, GREEN), (past, ORANGE), (past, BLUE)),
        say("MAG and MAL: a window", "MAG と MAL：ウィンドウ"): (
            (window[:, :persistent].numpy(), GREEN),
            (window[:, persistent:].numpy(), BLUE),
        ),
    }
    figure = new_figure(3.3)
    widths = [persistent + 2 * tokens + 2, persistent + tokens + 1]
    grid = figure.add_gridspec(1, 2, left=0.07, right=0.98, top=0.86, bottom=0.14, wspace=0.2, width_ratios=widths)
    for place, (title, masks_of) in enumerate(parts.items()):
        axes = figure.add_subplot(grid[place])
        image, ticks, first = np.ones((tokens, widths[place], 3)), [], 0
        for name, (mask, colour) in zip("Phx" if len(masks_of) == 3 else "Px", masks_of, strict=True):
            image[:, first : first + mask.shape[1]][mask] = to_rgb(colour)
            ticks.append((first + (mask.shape[1] - 1) / 2, name))
            first += mask.shape[1] + 1
        axes.imshow(image, interpolation="nearest", aspect="auto")
        axes.set_xticks([at for at, _ in ticks], [name for _, name in ticks], fontsize=10)
        axes.set_yticks(range(0, tokens, 4))
        axes.tick_params(labelsize=8, length=2, color=BLACK)
        axes.set_title(title, fontsize=10, loc="left")
        axes.set_ylabel(say("token", "トークン"), fontsize=9)
    return Picture(
        figure,
        alt=f"Two masks of {tokens} tokens, a row for each. Left, MAC: every token sees the persistent tokens, and of "
        f"h and of x those of its segment of {segment_len} up to itself, triangles in a row. Right, MAG and MAL: "
        "the persistent tokens, and a band of tokens along the diagonal, itself and those just before it, over all "
        "borders.",
        alt_ja=f"{tokens}トークンのマスクが2つ。1行が1トークンです。左は MAC で、どのトークンも永続トークンを見て、"
        f"h と x では長さ{segment_len}のセグメントのうち自分までを見ます（三角形が並びます）。"
        "右は MAG と MAL で、永続トークンと、対角線に沿った帯、つまり自分とその直前のトークンを、境目なく見ます。",
    )
