"""The pictures of lesson 03."""

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from titans.lesson.kit.figures import Curves, Picture, chart, legend_outside, name_stretches, plot_curves
from titans.lesson.kit.host import say
from titans.lesson.lesson_03.streams import keys_alike, topics
from titans.lesson.lesson_03.trials import THETAS, errors, number_memory, passage_surprise


def _curves(
    curves: Curves, x: str, y: str, ylim: tuple[float, float], target: float, height: float = 3
) -> tuple[Figure, Axes]:
    """A figure with named curves and a dotted line at the target."""
    figure, axes = chart(height, x, y, (0.08, 0.17, 0.8, 0.9))
    plot_curves(axes, curves, markersize=3.5, linewidth=1.2)
    axes.axhline(target, color="0.5", linewidth=0.8, linestyle=":")
    axes.set_ylim(*ylim)
    legend_outside(axes)
    return figure, axes


def _of_a_number() -> tuple[str, str]:
    """The names of the axes where a memory of one number reads token by token."""
    return say("token", "トークン"), say("what the memory holds", "メモリの中身")


def _error() -> tuple[str, str]:
    """The names of the axes where errors at the end stand over the step size."""
    return say("step size θ", "ステップ幅 θ"), say("squared error at the end", "最後の2乗誤差")


def step_sizes() -> Picture:
    """The number that a memory holds while it reads the value 1 again and again, for five step sizes."""
    curves = {
        f"θ = {theta}": (range(13), [0.0, *number_memory([1.0] * 12, theta)]) for theta in (0.1, 0.25, 0.5, 0.9, 1.05)
    }
    figure, _ = _curves(curves, *_of_a_number(), (-1.2, 3.2), 1)
    return Picture(
        figure,
        alt="What a memory of one number holds while it reads the value 1 twelve times. With theta 0.1 and 0.25 it "
        "creeps up to 1, with 0.5 it is there after one token, with 0.9 it swings around 1 and settles, with 1.05 it "
        "swings ever further.",
        alt_ja="1つの数だけのメモリが値1を12回読むときの中身。θが0.1と0.25ではゆっくり1に近づき、0.5では1トークンで到達し、0.9では1の"
        "まわりで振動しながら落ち着き、1.05では振れ幅が広がっていきます。",
    )


def momentum_overshoots() -> Picture:
    """The same memory with momentum: the value 1 again and again, for four values of eta."""
    curves = {f"η = {eta}": (range(31), [0.0, *number_memory([1.0] * 30, 0.1, eta)]) for eta in (0.0, 0.5, 0.8, 0.95)}
    figure, _ = _curves(curves, *_of_a_number(), (-0.2, 2.1), 1)
    return Picture(
        figure,
        alt="A memory of one number reads the value 1 thirty times with theta 0.1. Without momentum it creeps up to 1; "
        "with eta 0.5 it is there sooner; with 0.8 it overshoots and comes back; with 0.95 it still swings widely "
        "after twenty tokens.",
        alt_ja="1つの数だけのメモリがθ=0.1で値1を30回読む様子。モーメンタムなしではゆっくり1に近づき、η=0.5では早く到達し、0.8では"
        "行き過ぎてから戻り、0.95では20トークンを過ぎても大きく振れています。",
    )


def fading() -> Picture:
    """How much of a memory is left, token by token, for four values of alpha."""
    tokens = torch.arange(0, 101, 4)
    curves = {f"α = {alpha}": (tokens, (1 - alpha) ** tokens) for alpha in (0.002, 0.01, 0.1, 0.5)}
    x, y = say("tokens since the write", "書き込んだ後のトークンの数"), say("share that is left", "残っている割合")
    figure, _ = _curves(curves, x, y, (-0.03, 1.05), 0.5)
    return Picture(
        figure,
        alt="Share of a memory that is left over 100 tokens. With alpha 0.002 most of it is left at the end, with 0.01 "
        "about a third, with 0.1 half is gone after 7 tokens, with 0.5 after a single one.",
        alt_ja="メモリの残る割合を100トークンにわたって示したグラフ。αが0.002では最後まで大部分が残り、0.01では約3分の1、0.1では7トークンで"
        "半分になり、0.5では1トークンで半分になります。",
    )


def momentum_wins() -> Picture:
    """The error at the end over the step size, for keys that are much alike, for four values of eta."""
    told = keys_alike(0.9)
    curves = {f"η = {eta}": (THETAS, errors(told, THETAS, eta).mean((1, 2, 3))) for eta in (0.0, 0.4, 0.7, 0.9)}
    figure, axes = chart(3, *_error(), (0.09, 0.17, 0.8, 0.94))
    plot_curves(axes, curves, markersize=3.5, linewidth=1.2)
    axes.set_yscale("log")
    axes.set_ylim(1e-3, 3)
    legend_outside(axes)
    return Picture(
        figure,
        alt="Squared error at the end over the step size, four keys with cosines of 0.9. Without momentum the lowest "
        "point is 0.1, at a step of 0.65; with eta 0.7 it is 0.004, at 0.35; with eta 0.9 it lies between the two.",
        alt_ja="互いのコサインが0.9の4つのキーについて、最後の2乗誤差をステップ幅ごとに示したグラフ。モーメンタムがないと最小でも0.1"
        "（ステップ幅0.65）ですが、ηが0.7なら0.004（ステップ幅0.35）まで下がります。ηが0.9ではその中間です。",
    )


def forgetting_wins() -> Picture:
    """The error at the end of a topic over the step size, asked by related keys, for four values of alpha."""
    told = topics(near=0.7)
    curves = {
        f"α = {alpha}": (THETAS, errors(told, THETAS, alpha=alpha)[:, :, 1:].mean((1, 2, 3)))
        for alpha in (0.0, 0.02, 0.1, 0.3)
    }
    figure, _ = _curves(curves, say("step size θ", "ステップ幅 θ"), say("squared error", "2乗誤差"), (0.3, 1.1), 1)
    return Picture(
        figure,
        alt="Squared error over the step size, asked by keys related to those that were told. Without forgetting the "
        "lowest point is 0.54; with alpha 0.02 it is lower, with 0.1 it is 0.39, with 0.3 it is higher again.",
        alt_ja="伝えたキーに似たキーでたずねたときの2乗誤差を、ステップ幅ごとに示したグラフ。忘却がないと最小でも0.54で、αが0.02なら"
        "それより低く、0.1なら0.39まで下がり、0.3ではまた高くなります。",
    )


def repeated_passage() -> Picture:
    """Surprise at every token while a passage of 32 tokens is read four times, for three chunk sizes."""
    names = {size: say(f"chunk {size}", f"チャンク {size}") for size in (1, 16)}
    names[128] = say("chunk 128 (all)", "チャンク 128\n（全体）")
    curves = {name: (range(128), passage_surprise(chunk_size)) for chunk_size, name in names.items()}
    x, y = say("token", "トークン"), say("surprise $|u_t|$", "驚き $|u_t|$")
    figure, axes = _curves(curves, x, y, (0, 2.4), 2, height=3.2)
    for start in range(0, 128, 32):
        axes.axvline(start - 0.5, color="0.5", linewidth=0.8)
    name_stretches(axes, {say(f"reading {n + 1}", f"{n + 1}回目"): (32 * n, 32 * n + 32) for n in range(4)}, 1, 1.03, 8)
    axes.set_xlim(-1, 128)
    return Picture(
        figure,
        alt="Surprise at every token while a passage of 32 tokens is read four times. With chunks of 1 and of 16 "
        "tokens it falls from reading to reading; with one chunk of 128 tokens it is 2 all the time.",
        alt_ja="32トークンの文章を4回読むときの、トークンごとの驚き。チャンクが1トークンと16トークンのときは読むたびに下がりますが、"
        "128トークンを1つのチャンクにすると、ずっと2のままです。",
    )
