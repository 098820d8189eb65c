"""The labs of lesson 05: the mask G, its row in words, and the size of a chunk."""

import torch
from matplotlib.ticker import LogLocator
from torch import Tensor

from titans.lesson.kit.figures import BLACK, BLUE, GREEN, GREY, ORANGE, RED, new_figure, tidy
from titans.lesson.kit.host import say
from titans.lesson.kit.live import Drawing, LivePicture, count, notches, slider
from titans.lesson.lesson_05.trials import SIZES, all_milliseconds, chunks_card, passage_left

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
        wrote = say("token $i$ that wrote", "書いたトークン $i$")
        tidy(left, "G", wrote, say("token $t$ that reads", "読むトークン $t$"))
        left.grid(False)
        left.set(xticks=range(0, TOKENS, 3), yticks=range(0, TOKENS, 3))
        self.map = left.imshow(torch.zeros(TOKENS, TOKENS).numpy(), cmap="cividis", vmin=0, vmax=1)
        (self.frame,) = left.plot([], [], color=ORANGE, linewidth=2)
        axes = tidy(
            right, "", wrote, say("share in $M_t$, $G$'s largest as 1", "$M_t$ の中の割合（$G$ の最大を1として）")
        )
        axes.set(xlim=(-0.6, TOKENS - 0.4), ylim=(0, 1.4), yticks=(0, 0.5, 1))
        self.own = axes.bar(range(TOKENS), [0.0] * TOKENS, color=BLUE, width=0.8)
        self.older = axes.bar(range(TOKENS), [0.0] * TOKENS, color=GREY, width=0.8)
        axes.bar(
            [0], [0], color=BLUE, label=say("in t's chunk: from this row of G", "t のチャンクの中：G のこの行から")
        )
        earlier = say("earlier chunks: carried in $M$ and $S$", "前のチャンク：$M$ と $S$ が引き継ぐ")
        axes.bar([0], [0], color=GREY, label=earlier)
        axes.legend(frameon=False, fontsize=8, loc="upper left")
        self.note = axes.set_title("", fontsize=9, loc="left")
        self.moving = [self.map, self.frame, *self.own, *self.older, self.note]

    def draw(self, eta: float, alpha: float, chunk: int, token: int) -> None:
        shares, inside = mask(1.0, eta, alpha), same_chunk(chunk)
        self.map.set_data((shares * inside).numpy())
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
        own, most = float(shares[token, token]), float(shares[token, best])
        english = f"$M_{{{token}}}$: {own:.2f} θ of token {token}'s gradient; the most: {most:.2f} θ, token {best}'s"
        japanese = f"$M_{{{token}}}$：トークン{token}の勾配の {own:.2f} θ 倍。最大は、トークン{best}の {most:.2f} θ 倍"
        self.note.set_text(say(english, japanese))


def mask_lab() -> LivePicture:
    """The live picture: gates, chunk, and the token whose row is shown."""
    controls = {
        "eta": slider("η", 0.5, 0.0, 1.0, 0.05),
        "alpha": slider("α", 0.1, 0.0, 1.0, 0.05),
        "chunk": count(say("chunk", "チャンク"), 16, 1, TOKENS),
        "token": count(say("token t", "トークン t"), 12, 0, TOKENS - 1),
    }
    return LivePicture(
        MaskDrawing(),
        controls,
        (("eta", "alpha"), ("chunk", "token")),
        states=({}, {"eta": 0.0, "chunk": 4}),
        shows="Mask lab: left G as a map, with the row of token t framed; right that row as bars, blue where "
        "the gradient is taken in t's own chunk.",
        shows_ja="マスク実験室。左は G の図で、トークン t の行に枠があります。右はその行の棒グラフで、青は、勾配を t "
        "と同じチャンクで計算したものです。",
        alt="Above, with momentum, the largest share is that of a token shortly before token 12. Below, without "
        "momentum and with chunks of 4, the shares fade from token 12 to the left, and G has blocks on its diagonal.",
        alt_ja="上はモーメンタムがあるときで、いちばん大きいのはトークン12の少し前のトークンの割合です。"
        "下はモーメンタムがなくチャンクが4のときで、割合はトークン12から左へ薄れ、G は対角に並ぶブロックになります。",
    )


class SizeDrawing(Drawing):
    """Speed, error and recall against the size of a chunk, with a cursor, the best of each named."""

    def __init__(self) -> None:
        self.figure = new_figure(3.4)
        panels = self.figure.subplots(1, 3)
        self.figure.subplots_adjust(left=0.07, right=0.985, top=0.86, bottom=0.16, wspace=0.3)
        times = all_milliseconds()
        self.total = {size: sum(times[size]) for size in SIZES}
        labels = (
            say("ms for 256 tokens, both ways", "256トークンの時間（往復、ミリ秒）"),
            say("error that three readings leave", "3回読んだ後に残る誤差"),
            say("right after 1,024 tokens", "1,024トークン後の正解率"),
        )
        for axes, label in zip(panels, labels, strict=True):
            tidy(axes, "", say("tokens a chunk", "チャンクのトークン数"), label)
            axes.set(xscale="log", xticks=SIZES[::2], xticklabels=SIZES[::2], xlim=(0.8, 320))
            axes.minorticks_off()
        panels[0].plot(SIZES, list(self.total.values()), "o-", color=BLUE)
        panels[0].set(yscale="log")
        panels[0].yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panels[0].yaxis.set_major_formatter("{x:g}")
        panels[0].minorticks_off()  # their labels would push the axis' name out of the picture
        panels[1].set(ylim=(0.5, 3))
        (self.curve,) = panels[1].plot(SIZES[:7], [0.0] * 7, "s--", color=GREEN)
        runs = chunks_card()["runs"]
        self.recall = {size: runs[f"chunk {size}"]["right"]["1024"]["median"] for size in (1, 16, 64)}
        panels[2].plot(list(self.recall), list(self.recall.values()), "D:", color=RED)
        panels[2].set(ylim=(0, 1.05))
        self.cursors = [axes.axvline(1, color=BLACK, linewidth=1) for axes in panels]
        self.notes = [axes.set_title("", fontsize=9, loc="left") for axes in panels]
        self.moving = [self.curve, *self.cursors, *self.notes]

    def draw(self, size: int, theta: float) -> None:
        errors = {each: passage_left(each, theta) for each in SIZES[:7]}
        self.curve.set_ydata(list(errors.values()))
        for cursor in self.cursors:
            cursor.set_xdata([size, size])
        fastest = min(self.total, key=self.total.__getitem__)
        best = min(errors, key=errors.__getitem__)
        nearest = min(self.recall, key=lambda each: abs(each - size))
        words = say("fastest", "最速"), say("least", "最小"), say("trained with", "訓練時")
        self.notes[0].set_text(f"{size}: {self.total[size]:.1f} ms ({words[0]}: {fastest})")
        self.notes[1].set_text(f"{size}: {errors[size]:.3g} ({words[1]}: {best})")
        self.notes[2].set_text(f"{words[2]} {nearest}: {self.recall[nearest]:.0%}")


def size_lab() -> LivePicture:
    """The live picture: the size of a chunk, and the step."""
    return LivePicture(
        SizeDrawing(),
        {"size": notches(say("chunk", "チャンク"), SIZES[:7], 16), "theta": slider("θ", 0.25, 0.05, 0.5, 0.05)},
        (("size", "theta"),),
        states=({}, {"theta": 0.4}),
        shows="Size lab, against the tokens a chunk: the milliseconds for 256 tokens, the error that three "
        "readings of a "
        "passage leave, and the share of right answers after 1,024 tokens of models that were trained with it.",
        shows_ja="大きさ実験室。チャンクのトークン数に対して、左から、256トークン分の計算時間（ミリ秒）、"
        "文章を3回読んだ後に残る誤差、"
        "その大きさで訓練したモデルの、1,024トークン後の正解率を示した図。",
        alt="The time falls with the size of the chunk. The error is nearly flat for a step of 0.25, above; for "
        "0.4, below, it is far larger for chunks of 32 than for smaller ones. The share right stays near 1 for "
        "chunks of "
        "1 and 16 "
        "and falls below a third for 64.",
        alt_ja="チャンクが大きいほど時間は短くなります。誤差は、上のステップ幅0.25ではほとんど平らで、"
        "下の0.4では、32トークンのチャンクで、それより小さいチャンクよりもはるかに大きくなります。"
        "正解率は、チャンクが1と16ではほぼ1のままですが、64では3分の1を下回ります。",
    )
