"""The labs of lesson 05: the mask G, its row in words, and the size of a chunk."""

import torch
from torch import Tensor

from titans.lesson.kit.figures import BLACK, BLUE, GREEN, GREY, ORANGE, new_figure, tidy
from titans.lesson.kit.live import Drawing, LivePicture, count, slider
from titans.lesson.lesson_05.trials import SIZES, all_milliseconds, passage_left

TOKENS = 16


def mask(theta: float, eta: float, alpha: float, tokens: int = TOKENS) -> Tensor:
    """G for gates that are the same at every token: token i's share in M_t, [t, i]. It does not depend on chunks."""
    steps = torch.arange(tokens, dtype=torch.float64)
    age = (steps[:, None] - steps).clamp(min=0)
    causal = (steps[:, None] >= steps).double()
    return theta * (causal * (1 - alpha) ** age) @ (causal * eta**age)


def same_chunk(chunk: int, tokens: int = TOKENS) -> Tensor:
    """Which tokens' gradients are taken at the weights that the reading token's chunk began with: [t, i]."""
    steps = torch.arange(tokens)
    return (steps[:, None] // chunk == steps // chunk) & (steps[:, None] >= steps)


class MaskDrawing(Drawing):
    """G as a map, and the row of one token as bars."""

    def __init__(self) -> None:
        self.figure = new_figure(3.7)
        left, right = self.figure.subplots(1, 2, width_ratios=(1, 1.5))
        self.figure.subplots_adjust(left=0.07, right=0.98, top=0.86, bottom=0.14, wspace=0.2)
        tidy(left, "G", "token $i$ that wrote", "token $t$ that reads")
        left.grid(False)
        left.set(xticks=range(0, TOKENS, 3), yticks=range(0, TOKENS, 3))
        self.map = left.imshow(torch.zeros(TOKENS, TOKENS), cmap="cividis", vmin=0, vmax=1)
        (self.frame,) = left.plot([], [], color=ORANGE, linewidth=2)
        axes = tidy(right, "", "token $i$ that wrote", "its share in $M_t$")
        axes.set(xlim=(-0.6, TOKENS - 0.4), ylim=(0, 1.02))
        self.own = axes.bar(range(TOKENS), [0.0] * TOKENS, color=BLUE, width=0.8)
        self.older = axes.bar(range(TOKENS), [0.0] * TOKENS, color=GREY, width=0.8)
        axes.bar([0], [0], color=BLUE, label="in t's chunk: from this row of G")
        axes.bar([0], [0], color=GREY, label="earlier chunks: carried in $M$ and $S$")
        axes.legend(frameon=False, fontsize=8, loc="upper left")
        self.note = axes.set_title("", fontsize=9, loc="left")
        self.moving = [self.map, self.frame, *self.own, *self.older, self.note]

    def draw(self, theta: float, eta: float, alpha: float, chunk: int, token: int) -> None:
        shares, inside = mask(theta, eta, alpha), same_chunk(chunk)
        self.map.set_data(shares * inside)
        self.map.set_clim(0, max(1e-6, float(shares.max())))
        self.frame.set_data(
            [-0.5, TOKENS - 0.5, TOKENS - 0.5, -0.5, -0.5],
            [token - 0.5, token - 0.5, token + 0.5, token + 0.5, token - 0.5],
        )
        top = max(1e-6, float(shares.max()))
        for bars, which in ((self.own, inside[token]), (self.older, ~inside[token])):
            for bar, share in zip(bars, shares[token] * which, strict=True):
                bar.set_height(float(share) / top)
        best = int(shares[token].argmax())
        named = {token: "", best: " (the most)", 0: ""}
        parts = [f"{float(shares[token, i]):.2f} of token {i}'s{what}" for i, what in named.items()]
        self.note.set_text(f"$M_{{{token}}}$ holds of the gradients: " + ", ".join(parts))


def mask_lab() -> LivePicture:
    """The live picture: gates, chunk, and the token whose row is shown."""
    controls = {
        "theta": slider("θ", 0.25, 0.05, 0.5, 0.05),
        "eta": slider("η", 0.5, 0.0, 1.0, 0.05),
        "alpha": slider("α", 0.1, 0.0, 1.0, 0.05),
        "chunk": count("chunk", 16, 1, TOKENS),
        "token": count("token t", 12, 0, TOKENS - 1),
    }
    return LivePicture(
        MaskDrawing(),
        controls,
        (("theta", "eta", "alpha"), ("chunk", "token")),
        states=({}, {"eta": 0.0, "chunk": 4}),
        alt="Mask lab in two settings below one another. Left G as a map, with the row of token 12 framed; "
        "right that row "
        "as bars. With momentum the largest share is not token 12's own but that of a token shortly before it. "
        "Without "
        "momentum and with chunks of 4 the shares fade to the left from token 12 on, and G has blocks on its "
        "diagonal.",
        alt_ja="マスク実験室を、2通りの設定で上下に並べた図。左は G の図で、トークン12の行に枠があり、"
        "右はその行の棒グラフです。"
        "モーメンタムがあると、いちばん大きいのはトークン12自身ではなく、少し前のトークンの割合です。"
        "モーメンタムがなくチャンクが4のときは、"
        "割合がトークン12から左へ薄れていき、G は対角に並ぶブロックになります。",
    )


class SizeDrawing(Drawing):
    """Speed and quality against the size of a chunk, with a cursor."""

    def __init__(self) -> None:
        self.figure = new_figure(3.4)
        left, right = self.figure.subplots(1, 2)
        self.figure.subplots_adjust(left=0.08, right=0.98, top=0.86, bottom=0.16, wspace=0.22)
        tidy(left, "", "tokens a chunk", "ms for 256 tokens, both ways")
        tidy(right, "", "tokens a chunk", "error that three readings leave")
        times = all_milliseconds()
        self.total = {size: sum(times[size]) for size in SIZES}
        left.plot(SIZES, list(self.total.values()), "o-", color=BLUE)
        left.set(xscale="log", yscale="log", xticks=SIZES, xticklabels=SIZES)
        sizes = SIZES[:7]
        self.errors: dict[float, dict[int, float]] = {}
        right.set(xscale="log", xticks=sizes, xticklabels=sizes, ylim=(0.5, 3))
        (self.curve,) = right.plot(sizes, [0.0] * len(sizes), "s--", color=GREEN)
        for axes in (left, right):
            axes.minorticks_off()
        self.cursors = [axes.axvline(1, color=BLACK, linewidth=1) for axes in (left, right)]
        self.notes = [axes.set_title("", fontsize=9, loc="left") for axes in (left, right)]
        self.moving = [self.curve, *self.cursors, *self.notes]

    def draw(self, power: int, theta: float) -> None:
        size = 2**power
        errors = {each: passage_left(each, theta) for each in SIZES[:7]}
        self.curve.set_ydata(list(errors.values()))
        for cursor in self.cursors:
            cursor.set_xdata([size, size])
        fastest = min(self.total, key=self.total.__getitem__)
        best = min(errors, key=errors.__getitem__)
        self.notes[0].set_text(f"chunk {size}: {self.total[size]:.1f} ms; fastest: {fastest}")
        text = f"chunk {size}: {errors[size]:.3g}" if size in errors else "the passage has 32 tokens"
        self.notes[1].set_text(f"{text}; least error: {best}")


def size_lab() -> LivePicture:
    """The live picture: the size of a chunk, as a power of two, and the step."""
    return LivePicture(
        SizeDrawing(),
        {"power": count("log2 chunk", 4, 0, 6), "theta": slider("θ", 0.25, 0.05, 0.5, 0.05)},
        (("power", "theta"),),
        states=({}, {"theta": 0.4}),
        alt="Size lab for steps of 0.25 and 0.4. Left the time falls with the size of the chunk. Right the "
        "error that "
        "three readings leave is nearly flat at 0.25; at 0.4 it is far larger for chunks of 32 than for smaller "
        "ones.",
        alt_ja="大きさ実験室の図。ステップ幅は0.25と0.4です。左では、チャンクが大きいほど時間が短くなります。"
        "右の、3回読んだ後に残る誤差は、0.25ではほとんど平らで、0.4では32トークンのチャンクで、"
        "ほかよりはるかに大きくなります。",
    )
