"""The MAC lab of lesson 07: what a token sees inside its segment, and which tokens reach its output."""

from typing import Any

import ipywidgets as widgets
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from titans.lesson.kit.figures import BLACK, BLUE, GREEN, GREY, ORANGE, RED, new_figure, tidy
from titans.lesson.kit.host import say
from titans.lesson.kit.live import Drawing, LivePicture, choice, count
from titans.lesson.lesson_07.leaky_mac import IN_JAPANESE, MODES, influence

TOKENS, MOST_PERSISTENT = 16, 4
H_FIRST, X_FIRST = MOST_PERSISTENT + 1, MOST_PERSISTENT + TOKENS + 2  # columns; an empty one between the three parts
COLUMNS = X_FIRST + TOKENS
PALE = 0.3  # how much colour a row has that is not asked for


def visible(segment_len: int, persistent: int, mask_h: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which entries of [P | h | x] every token sees, as truth values: [tokens, 4], [tokens, tokens]
    twice."""
    i, j = np.arange(TOKENS)[:, None], np.arange(TOKENS)
    same = i // segment_len == j // segment_len
    x = same & (j <= i)
    p = np.broadcast_to(np.arange(MOST_PERSISTENT) >= MOST_PERSISTENT - persistent, (TOKENS, MOST_PERSISTENT))
    return p, (x if mask_h else same), x


def mask_image(segment_len: int, persistent: int, mask_h: bool, query: int) -> np.ndarray:
    """The mask as colours, [tokens, columns, 3]: the query's row in full colour, the others pale."""
    p, h, x = visible(segment_len, persistent, mask_h)
    image = np.ones((TOKENS, COLUMNS, 3))
    future = np.arange(TOKENS) > np.arange(TOKENS)[:, None]
    parts = ((p, 0, GREEN), (h & ~future, H_FIRST, ORANGE), (h & future, H_FIRST, RED), (x, X_FIRST, BLUE))
    for seen, first, colour in parts:
        view = image[:, first : first + seen.shape[1]]
        view[seen] = to_rgb(colour)
    strength = np.full((TOKENS, 1, 1), PALE)
    strength[query] = 1
    return 1 - strength * (1 - image)


def _label(axes: Axes) -> None:
    title = say("who sees what in attention: a row for each token", "アテンションで見えるもの：1行が1トークン")
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_ylabel(say("token", "トークン"), fontsize=9)
    places = [MOST_PERSISTENT / 2 - 0.5]
    places += [first + token for first in (H_FIRST, X_FIRST) for token in range(0, TOKENS, 5)]
    axes.set_xticks(places, ["P", *(f"{name}{token}" for name in "hx" for token in range(0, TOKENS, 5))], fontsize=8)
    axes.set_yticks(range(0, TOKENS, 5))
    axes.tick_params(labelsize=8)
    axes.spines[:].set_visible(False)


class MACDrawing(Drawing):
    """The mask of attention, the asked token's row in full colour; below, how far each input
    reaches its output."""

    def __init__(self) -> None:
        self.figure = new_figure(5)
        grid = self.figure.add_gridspec(
            2, 1, height_ratios=(1.7, 1), hspace=0.42, left=0.08, right=0.97, top=0.94, bottom=0.09
        )
        self._draw_mask(self.figure.add_subplot(grid[0]))
        self._draw_reach(self.figure.add_subplot(grid[1]))
        mask, marks = (self.image, *self.net, self.row, self.crosses), (self.marks, self.cursor, self.note)
        self.moving = [*mask, self.segment, *self.bars, *marks]

    def _draw_mask(self, axes: Axes) -> None:
        empty = np.ones((TOKENS, COLUMNS, 3))
        self.image = axes.imshow(empty, interpolation="nearest", aspect="auto")
        _label(axes)
        upright, level = (np.arange(lines + 1) - 0.5 for lines in (COLUMNS, TOKENS))
        self.net = (
            axes.vlines(upright, -0.5, TOKENS - 0.5, color="0.93", linewidth=0.5),
            axes.hlines(level, -0.5, COLUMNS - 0.5, color="0.93", linewidth=0.5),
        )
        self.row = Rectangle((-0.5, -0.5), COLUMNS, 1, fill=False, edgecolor=BLACK, linewidth=1.5)
        axes.add_patch(self.row)
        (self.crosses,) = axes.plot([], [], "x", color="white", markersize=4)

    def _draw_reach(self, axes: Axes) -> None:
        tidy(axes, "", say("input token j", "入力トークン j"), r"$|\partial o_i / \partial x_j|$")
        axes.set(xlim=(-0.6, TOKENS - 0.4), yscale="log", ylim=(1e-3, 3), xticks=range(0, TOKENS, 5))
        self.bars = axes.bar(np.arange(TOKENS), np.full(TOKENS, 1e-3), width=0.7)
        (self.marks,) = axes.plot([], [], "x", color=RED, markersize=7)
        self.segment = axes.axvspan(0, 1, color="0.9", zorder=0, linewidth=0)
        self.cursor = axes.axvline(0, color=BLACK, linewidth=1, linestyle=":")
        self.note = axes.set_title("", fontsize=10, loc="left")

    def draw(self, segment_len: int, persistent: int, mode: str, query: int) -> None:
        mask_h, _ = MODES[mode]
        self.image.set_data(mask_image(segment_len, persistent, mask_h, query))
        self.row.set_y(query - 0.5)
        first = query - query % segment_len
        last = min(first + segment_len, TOKENS) - 1
        ahead = range(query + 1, last + 1) if not mask_h else range(0)
        self.crosses.set_data([H_FIRST + j for j in ahead], [query] * len(ahead))
        self.segment.set_bounds(first - 0.5, 0, last + 1 - first, 1)
        self.cursor.set_xdata([query, query])
        self._show_reach(query, first, influence(mode, segment_len, persistent, TOKENS)[query].numpy())

    def _show_reach(self, query: int, first: int, sizes: np.ndarray) -> None:
        for j, (bar, size) in enumerate(zip(self.bars, sizes, strict=True)):
            bar.set_height(max(size, 0.0))
            bar.set_color(RED if j > query else BLUE if first <= j else GREY)
        future = [j for j in range(query + 1, TOKENS) if sizes[j] > 0]
        self.marks.set_data(future, [min(2.0, 1.6 * sizes[j]) for j in future])
        found = say(f"later tokens that do: {len(future)}", f"後ろのトークンから{len(future)}個")
        if not future:
            found = say("exactly 0 for every later token", "後ろのトークンからは、ちょうど0")
        note = say(
            "what reaches output {}; {}   (grey band: its segment)", "出力{}に届くもの：{}（灰色の帯：そのセグメント）"
        )
        self.note.set_text(note.format(query, found))


def mac_lab() -> LivePicture:
    """The live picture: segment length, persistent tokens, mode and query; the mask, and what
    reaches the output."""
    modes: list[Any] = [(say(name, IN_JAPANESE[name]), name) for name in MODES]
    controls: dict[str, widgets.Widget] = {
        "segment_len": count(say("segment", "セグメント"), 6, 2, 16),
        "persistent": count(say("persistent", "永続トークン"), 2, 0, MOST_PERSISTENT),
        "mode": choice(say("mode", "モード"), modes, "literal"),
        "query": count(say("query token", "トークン"), 8, 0, TOKENS - 1),
    }
    states = [{"segment_len": 6, "persistent": 2, "mode": mode, "query": 8} for mode in ("literal", "both")]
    rows = (("segment_len", "persistent", "query"), ("mode",))
    return LivePicture(
        MACDrawing(),
        controls,
        rows,
        states=states,
        shows="MAC lab: which entries of P, h and x every token sees in attention, and how strongly each input token "
        "reaches one token's output.",
        shows_ja="MAC 実験室。各トークンがアテンションで P、h、x のどこを見るかと、各入力トークンが1つのトークンの"
        "出力にどれだけ届くかを示した図。",
        alt="Token 8 in segments of 6 with two persistent tokens, computed literally and, below, with both rules. "
        "Literally, tokens 9 to 11, later ones of the same segment, reach output 8; with both rules they do not. "
        "Tokens of earlier segments always do.",
        alt_ja="セグメントの長さ6、永続トークン2個で、トークン8を調べたものです。上は文字どおりの計算、下は両方の規則がある場合です。"
        "文字どおりでは、同じセグメントの後ろにあるトークン9から11が出力8に届いてしまいますが、両方の規則があると届きません。"
        "前のセグメントのトークンは、いつも届きます。",
    )
