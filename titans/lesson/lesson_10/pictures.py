"""The pictures of lesson 10."""

from typing import Any

from torch import Tensor

from titans.lesson.kit.figures import Picture, legend_outside, new_figure, plot_curves, tidy
from titans.lesson.kit.host import say
from titans.lesson.lesson_10.trials import ROWS


def by_place(card: dict[str, Any]) -> Picture:
    """What each run of the recipe costs more or less than attention for as long, by place: medians of the seeds."""
    runs = card["runs"]
    ends = list(runs["mac"]["bits"])
    base = {end: runs["attention, as long"]["bits"][end]["median"] for end in ends}
    figure = new_figure(3.6)
    axes = tidy(figure.add_subplot(), "", say("place in the file", "ファイルの中の位置"))
    axes.set_ylabel(
        say("bits a byte, more than\nattention as long", "同じ時間のアテンションとの差\n（ビット／バイト）"), fontsize=9
    )
    curves = {
        say(run, ROWS[run]): (range(len(ends)), [found["bits"][end]["median"] - base[end] for end in ends])
        for run, found in runs.items()
    }
    plot_curves(axes, curves)
    axes.set_xticks(range(len(ends)), [f"–{int(end):,}" for end in ends])
    legend_outside(axes)
    figure.subplots_adjust(0.12, 0.15, 0.72, 0.96)
    first, last = ends[0], ends[-1]
    gap = {end: runs["mac"]["bits"][end]["median"] - base[end] for end in (first, last)}
    single = runs["mac, single pieces"]["bits"][last]["median"] - base[last]
    return Picture(
        figure,
        alt="Bits a byte beyond attention trained for as long, against the place in the file, a line a run. MAC: "
        f"{gap[first]:+.2f} in the first {first} bytes, {gap[last]:+.2f} in the last; trained on single pieces "
        f"{single:+.2f} in the last.",
        alt_ja=f"ファイルの中の位置に対する、同じ時間だけ訓練したアテンションとの差（1バイト当たりのビット数）。"
        f"1本の線が1回の訓練です。MAC は最初の{first}バイトで{gap[first]:+.2f}、最後で{gap[last]:+.2f}、"
        f"1区間ずつ訓練したものは最後で{single:+.2f}です。",
    )


def after_a_border(cases: dict[str, Tensor], width: int = 64) -> Picture:
    """What the bytes behind a border cost more than with the memory as it is, by their distance from it.

    cases: bits [files, bytes] of each case, "as it is" among them.
    """
    names = {
        "begun anew": say("begun anew", "リセット"),
        "another file's": say("another file's", "別のファイル"),
        "never written": say("never written", "書き込みなし"),
    }
    figure = new_figure(3.2)
    axes = tidy(
        figure.add_subplot(), "", say("bytes since the memory was taken away", "メモリを取り除いてからのバイト数")
    )
    axes.set_ylabel(say("bits a byte more", "増えたコスト（ビット／バイト）"), fontsize=9)
    base, curves, means = cases["as it is"], {}, {}
    for case, name in names.items():
        more = (cases[case] - base).mean(0)
        more = more[: len(more) // width * width].view(-1, width).mean(1)
        curves[name] = ([width * (place + 0.5) for place in range(len(more))], more.tolist())
        means[case] = (float(more[0]), float(more[-1]))
    plot_curves(axes, curves, markersize=3)
    axes.set_xscale("log", base=2)
    axes.axhline(0, color="0.5", linewidth=0.8)
    legend_outside(axes)
    figure.subplots_adjust(0.1, 0.17, 0.76, 0.96)
    told = "; ".join(f"{case} {a:.2f} at first and {b:.2f} at the end" for case, (a, b) in means.items())
    told_ja = "、".join(f"「{names[case]}」は最初が{a:.2f}、最後が{b:.2f}" for case, (a, b) in means.items())
    return Picture(
        figure,
        alt=f"Bits a byte more than with the memory as it is, against the bytes since the border: {told}.",
        alt_ja=f"境目からのバイト数に対する、メモリがそのままの場合と比べて増えたコスト（1バイト当たりのビット数）。{told_ja}です。",
    )
