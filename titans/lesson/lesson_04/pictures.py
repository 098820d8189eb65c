"""The pictures of lesson 04."""

from collections.abc import Mapping, Sequence

from titans.lesson.kit.figures import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    Picture,
    chart,
    name_stretches,
    new_figure,
    plot_curves,
    shade,
    tidy,
)
from titans.lesson.kit.host import say
from titans.lesson.kit.traces import ROWS, six_facts, trace
from titans.lesson.lesson_04.trials import (
    WORDS,
    Pairs,
    answers_at_write_keys,
    answers_to_question,
    question_meets,
)
from titans.model import TitansLM

PART_WORDS = {
    "gates": "ゲート",
    "convolution": "畳み込み",
    "persistent": "永続トークン",
    "norms": "正規化",
    "FFN": "順伝播型ネットワーク",
    "embedding": "埋め込み",
    "head": "出力層",
}  # of PARTS, those that are words


def before_and_after(before: TitansLM, after: TitansLM) -> Picture:
    """Gates and surprise of every token of one example, in the model before training and after it."""
    tokens, spans = six_facts()
    first = before.config.persistent_tokens  # read before all others
    spans = {"persistent": (0, first)} | {name: (a + first, b + first) for name, (a, b) in spans.items()}
    found = {say("before training", "訓練前"): trace(before, tokens), say("after", "訓練後"): trace(after, tokens)}
    figure = new_figure(4.8)
    grid = figure.add_gridspec(len(ROWS), 1, hspace=0.24, left=0.1, right=0.985, top=0.9, bottom=0.095)
    for row, (name, label, top) in enumerate(ROWS):
        axes = tidy(figure.add_subplot(grid[row]), y=say(*label))
        for (kind, series), colour, marker in zip(found.items(), (GREY, BLUE), ("s", "o"), strict=True):
            values = getattr(series, name)
            axes.plot(range(len(values)), values, marker, color=colour, markersize=3.5, label=kind)
        axes.set(xlim=(-0.8, len(values) - 0.2), ylim=(0, max(top(getattr(series, name)) for series in found.values())))
        axes.yaxis.set_label_coords(-0.065, 0.5)
        axes.tick_params(labelbottom=row == len(ROWS) - 1)
        shade(axes, spans)
        if row == 0:
            name_stretches(axes, {"P" if name == "persistent" else name: ends for name, ends in spans.items()}, size=9)
            axes.legend(frameon=False, fontsize=8, ncols=2, loc="lower right", bbox_to_anchor=(1.0, 1.0))
    axes.set_xlabel(say("token", "トークン"), fontsize=9)
    return Picture(
        figure,
        alt="Four charts below one another, one point a token: step θ, momentum η, forgetting α and surprise |u|, "
        "before training and after. Before, every gate is the same at all tokens. After, from the first fact on, θ is "
        "mostly larger, most of all at names, η is close to 1 and α close to 0; the surprise is larger at most tokens.",
        alt_ja="1トークンを1点で表した4段の図。上から、訓練の前と後のステップ幅 θ、"
        "モーメンタム η、忘却 α、驚き |u|。訓練前は、どのゲートもすべてのトークンで同じです。"
        "訓練後は、最初の事実から後では、θ がたいてい大きくなり、特に名前で大きく、η は1に、α は0に近くなります。"
        "驚きは多くのトークンで訓練前より大きくなります。",
    )


def two_keys(pairs: Pairs) -> Picture:
    """For the three tokens of a pair: the answer at the write key, the answer to the question, and how alike they
    are."""
    figure = new_figure(2.7)
    figure.subplots_adjust(left=0.07, right=0.985, top=0.86, bottom=0.14, wspace=0.25)
    at_write_keys = answers_at_write_keys(pairs)
    panels = {
        (r"answer at the write key: $\cos(Mk, v)$", r"書き込みのキーへの答え：$\cos(Mk, v)$"): at_write_keys,
        (r"answer to the question: $\cos(Mq, v)$", r"質問への答え：$\cos(Mq, v)$"): answers_to_question(pairs),
        (r"the question and the write key: $q \cdot k$", r"質問と書き込みのキー：$q \cdot k$"): question_meets(pairs),
    }
    tokens = [say("the key", "キー"), say("the value", "値"), say("the token after", "次のトークン")]  # as in OFFSETS
    for axes, (title, values), colour in zip(figure.subplots(1, 3), panels.items(), (BLUE, ORANGE, BLACK), strict=True):
        tidy(axes)
        axes.set_title(say(*title), fontsize=9, loc="left")
        bars = axes.bar(tokens, values.tolist(), color=colour, width=0.6)
        axes.bar_label(bars, fmt="%.2f", fontsize=8, padding=2)
        axes.set_ylim(-0.3, 1.1)
        axes.axhline(0, color=GREY, linewidth=0.8)
    return Picture(
        figure,
        alt="Three bar charts over the tokens of a pair: the key, the value, the token after. At the write keys the "
        "memory answers all three well. The question gets the value of the token after, and next to nothing of the "
        "other two, and its query is like the write key of the token after alone.",
        alt_ja="ペアの3つのトークン（キー、値、その次のトークン）についての3つの棒グラフ。"
        "書き込みのキーでは、メモリは3つともよく答えます。質問への答えは、次のトークンの値とだけ似ていて、"
        "質問のクエリも、次のトークンの書き込みのキーとだけ似ています。",
    )


def which_part(reset: Mapping[str, float], never: Mapping[str, Sequence[float]]) -> Picture:
    """Percent right with a part put back after training, and with it never trained (every seed)."""
    figure, axes = chart(4.2, say("right, %", "正解率（%）"), "", (0.165, 0.12, 0.97, 0.93))
    names = sorted(reset, key=lambda name: reset[name])
    put_back = say("put back after training", "訓練の後で初期値に戻したとき")
    untrained = say("never trained, a mark a seed", "一度も訓練しなかったとき（印1つが1シード）")
    for row, name in enumerate(names):
        axes.plot([100 * reset[name]], [row], "o", color=BLUE, markersize=7, label=put_back)
        shares = [100 * share for share in never[name]]
        axes.plot(shares, [row] * len(shares), "D", color=ORANGE, fillstyle="none", markersize=6, label=untrained)
        if row == 0:
            axes.legend(frameon=False, fontsize=9, loc="lower center", ncols=2, bbox_to_anchor=(0.5, 0.99))
    shown = [say(name, PART_WORDS.get(name, name)) for name in names]
    axes.set_yticks(range(len(names)), shown, fontsize=9)
    axes.set_xlim(0, 103)
    said = "; ".join(
        f"{part} {100 * reset[name]:.0f}, {'/'.join(f'{100 * share:.0f}' for share in never[name])}"
        for part, name in zip(shown, names, strict=True)
    )
    return Picture(
        figure,
        alt=f"Percent right for every part of the model, first with the part put back to its start after training, "
        f"then never trained: {said}.",
        alt_ja="モデルの部分ごとの正解率（%）。訓練の後で初期値に戻したときと、"
        f"一度も訓練しなかったときの順です。{said}。",
    )


def waiting(shares: Mapping[str, Mapping[int, tuple[float, float]]]) -> Picture:
    """How often the newest value is answered, and how often the old one, the longer the noise lasts."""
    figure = new_figure(3)
    figure.subplots_adjust(left=0.07, right=0.985, top=0.88, bottom=0.17, wspace=0.15)
    answers = say("answers, %", "答えの割合（%）")
    for axes, (name, found) in zip(figure.subplots(1, len(shares), sharey=True), shares.items(), strict=True):
        title = say(f"trained with {name}", f"{WORDS[name]}だけのモデル")
        tidy(axes, title, say("tokens of noise before the question", "質問までの雑音のトークン数"), answers)
        curves = {
            kind: (list(found), [100 * share[place] for share in found.values()])
            for place, kind in enumerate((say("the newest value", "新しい値"), say("the old value", "古い値")))
        }
        plot_curves(axes, curves)
        axes.set(xscale="log", xticks=list(found), xticklabels=list(found), ylim=(-3, 103))
        axes.minorticks_off()
        axes.legend(frameon=False, fontsize=8, loc="center right")
    return Picture(
        figure,
        alt="Percent of answers that are the newest value and the old one, against tokens of noise before the "
        "question, one chart a model. With correction the newest is answered at once and stays. With momentum the "
        "old value is answered first; the curves cross at about six tokens, and after some thirty the newest has won.",
        alt_ja="質問までの雑音のトークン数に対する、"
        "新しい値と古い値を答えた割合（%）。モデルごとに1つの図です。修正では、はじめから新しい値を答え、ずっと変わりません。"
        "モーメンタムでは、はじめは古い値を答え、6トークンほどで逆転し、30トークンほどで新しい値になります。",
    )
