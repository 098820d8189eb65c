"""The persistent lab of lesson 06: attention over persistent tokens and a sequence, and how the two
share it."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from matplotlib import colormaps
from matplotlib.gridspec import GridSpec
from matplotlib.patches import Rectangle
from torch import Tensor

from titans.attention import causal_mask
from titans.lesson.kit.draws import random_draw
from titans.lesson.kit.figures import BLUE, FRAME, GREY, ORANGE, RED, new_figure, tidy
from titans.lesson.kit.host import say
from titans.lesson.kit.live import Drawing, LivePicture, count, slider

TOKENS, MOST, DIM = 24, 8, 16


class Heads(NamedTuple):
    """Queries and keys of a sequence, and persistent keys to be scaled."""

    q: Tensor  # [TOKENS, DIM]
    k: Tensor  # [TOKENS, DIM]
    persistent: Tensor  # [MOST, DIM]


def heads(seed: int = 0) -> Heads:
    """Queries that have one direction in common, keys of the tokens at random, persistent keys near
    that direction.

    As trained heads do: a common part of all queries is what a persistent key can be found by,
    whatever the token.
    """
    own, k, spread = random_draw(seed)(TOKENS + TOKENS + MOST, DIM).split((TOKENS, TOKENS, MOST))
    common = F.normalize(torch.ones(DIM, dtype=torch.float64), dim=0)
    k = k - (k @ common)[:, None] * common  # tokens' keys know nothing of the common part
    spread = spread - (spread @ common)[:, None] * common
    return Heads(2 * common + 0.6 * own, k, 2 * common + 0.3 * spread)


def shares(data: Heads, persistent: int, scale: float, window: int) -> Tensor:
    """Attention over [P | x]: the shares of all columns, [TOKENS, persistent + TOKENS]; each row
    adds up to 1."""
    keys = torch.cat((scale * data.persistent[:persistent], data.k))
    mask = F.pad(causal_mask(TOKENS, 0, data.q.device).triu(1 - window), (persistent, 0), value=True)
    scores = (data.q @ keys.mT / DIM**0.5).masked_fill(~mask, -torch.inf)
    return scores.softmax(-1)


class PersistentDrawing(Drawing):
    """The whole of attention, one query's share of it, and what every query gives to the persistent
    tokens."""

    def __init__(self) -> None:
        self.data, self.figure = heads(), new_figure(4.6)
        grid = self.figure.add_gridspec(
            2, 2, width_ratios=(1.3, 1), left=0.06, right=0.98, top=0.93, bottom=0.11, hspace=0.55, wspace=0.22
        )
        self._draw_map(grid)
        self._draw_shares(grid)
        titles = [axes.set_title(" ", fontsize=10, loc="left") for axes in (self.map_axes, self.row_axes)]
        curves = (self.even, self.mass, self.cursor)
        self.moving = [self.image, self.border, self.frame, *self.bars, *curves, *titles]

    def _draw_map(self, grid: GridSpec) -> None:
        x = say("column: persistent tokens (< 0), then the sequence", "列：永続トークン（負の番号）、その後に系列")
        self.map_axes = tidy(self.figure.add_subplot(grid[:, 0]), "", x, say("query", "クエリ"))
        self.map_axes.grid(visible=False)
        self.image = self.map_axes.imshow(
            torch.full((TOKENS, MOST + TOKENS), torch.nan).numpy(),
            cmap=colormaps["cividis"].with_extremes(bad="0.92"),
            vmin=0,
            vmax=0.5,
            interpolation="nearest",
            extent=(-MOST - 0.5, TOKENS - 0.5, TOKENS - 0.5, -0.5),
        )
        bar = self.figure.colorbar(self.image, ax=self.map_axes, fraction=0.035, pad=0.02, extend="max")
        bar.ax.tick_params(labelsize=8)
        self.border = self.map_axes.axvline(-0.5, color="white", linewidth=2)
        self.frame = Rectangle((0, 0), 1, 1, fill=False, edgecolor=FRAME, linewidth=1.4)
        self.map_axes.add_patch(self.frame)

    def _draw_shares(self, grid: GridSpec) -> None:
        share = say("share", "割合")
        self.row_axes = tidy(self.figure.add_subplot(grid[0, 1]), "", say("column", "列"), share)
        columns = torch.arange(-MOST, TOKENS)
        self.bars = self.row_axes.bar(columns, [0.0] * len(columns), color=[ORANGE] * MOST + [BLUE] * TOKENS)
        self.row_axes.set(xlim=(-MOST - 0.7, TOKENS - 0.3), ylim=(0, 1.02))
        title = say("on persistent tokens (dotted: equal scores)", "永続トークンへの割合（点線：等しいスコア）")
        axes = tidy(self.figure.add_subplot(grid[1, 1]), title, say("query", "クエリ"), share)
        (self.mass,) = axes.plot([0.0] * TOKENS, color=ORANGE, marker="o", markersize=3.5)
        (self.even,) = axes.plot([0.0] * TOKENS, color=GREY, linestyle=":")
        self.cursor = axes.axvline(0, color=RED, linewidth=1.2)
        axes.set(xlim=(-0.5, TOKENS - 0.5), ylim=(-0.02, 1.02))

    def draw(self, persistent: int, scale: float, window: int, query: int) -> None:
        seen = F.pad(shares(self.data, persistent, scale, window), (MOST - persistent, 0))
        self.image.set_data(seen.masked_fill(seen == 0, torch.nan).numpy())
        self.frame.set_bounds(-persistent - 0.5, query - 0.5, persistent + TOKENS, 1)
        for bar, height in zip(self.bars, seen[query].tolist(), strict=True):
            bar.set_height(height)
        on_persistent = seen[:, :MOST].sum(1)
        self.mass.set_ydata(on_persistent)
        visible = torch.arange(1, TOKENS + 1).clamp(max=window)
        self.even.set_ydata(persistent / (persistent + visible))
        self.cursor.set_xdata([query, query])
        title = say("query {}: {:.0%} on persistent tokens", "クエリ{}：{:.0%}が永続トークンへ")
        self.row_axes.set_title(title.format(query, float(on_persistent[query])), fontsize=10, loc="left")
        title = say("{} persistent tokens, their keys × {:.1f}", "永続トークン{}個、キーは{:.1f}倍")
        self.map_axes.set_title(title.format(persistent, scale), fontsize=10, loc="left")


def persistent_lab() -> LivePicture:
    """The live picture: number of persistent tokens, scale of their keys, window and query; who
    gets the attention."""
    controls = {
        "persistent": count(say("persistent", "永続トークン"), 2, 0, MOST),
        "scale": slider(say("key scale", "キーの倍率"), 1.0, -1.0, 3.0, 0.25),
        "window": count(say("window", "ウィンドウ"), TOKENS, 1, TOKENS),
        "query": count(say("query", "クエリ"), 12, 0, TOKENS - 1),
    }
    rows = (("persistent", "scale"), ("window", "query"))
    return LivePicture(
        PersistentDrawing(),
        controls,
        rows,
        states=(
            {"persistent": 2, "scale": 1.0, "window": TOKENS},
            {"persistent": 8, "scale": 0.0, "window": 6},
        ),
        shows="Persistent lab: the attention matrix with the persistent columns in front, one query's shares as bars, "
        "and every query's share on persistent tokens.",
        shows_ja="永続トークン実験室。永続トークンの列を先頭に置いたアテンション行列、1つのクエリの割合の棒グラフ、"
        "クエリごとの永続トークンへの割合を示した図。",
        alt="Two persistent tokens and, below, eight with keys of zero and a window of 6. Above, the share on "
        "persistent tokens is largest for the first queries; below, it stays around 8/14, late queries included.",
        alt_ja="上は永続トークンが2個、下は8個でキーがゼロ、ウィンドウが6の場合です。上では、永続トークンへの割合は最初のほうの"
        "クエリで最も大きくなります。下では、後のクエリでも8/14のあたりにとどまります。",
    )
