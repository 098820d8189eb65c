"""The pictures of lesson 00."""

from itertools import product

import torch
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from titans.lesson.kit.figures import (
    BLACK,
    BLUE,
    GREY,
    ORANGE,
    Picture,
    chart,
    legend_outside,
    new_figure,
    plot_curves,
    share_map,
    tidy,
)
from titans.lesson.kit.host import say
from titans.lesson.lesson_00.trials import DISTANCES, models, share_by_distance, silent_token, writes
from titans.lesson.lesson_00.words import NAMES, PLACES, TASK, VOCABULARY, filler, ids, told_words


def by_distance() -> Picture:
    """Right answers against the distance between telling and asking, for the three models and for
    the last pair."""
    x = say("tokens of filler between telling and asking", "伝えてからたずねるまでの埋め草のトークン数")
    figure, axes = chart(3.4, x, say("share of right answers", "正解率"), (0.08, 0.16, 0.72, 0.95))
    right = {name: share_by_distance(name).right for name in models()}
    shares = {
        say("memory on, first five facts", "メモリあり、最初の5つの事実"): right["memory on"][:, :-1].mean(1),
        say("memory on, last fact", "メモリあり、最後の事実"): right["memory on"][:, -1],
        say("memory never written", "メモリに書き込まない"): right["memory never written"].mean(1),
        say("trained without memory", "メモリなしで訓練"): right["trained without memory"].mean(1),
    }
    places = range(len(DISTANCES))
    plot_curves(axes, {name: (places, share) for name, share in shares.items()}, markersize=5)
    at_random = say("one place in 32, at random", "32か所からランダムに1つ")
    axes.axhline(1 / TASK.values, color=GREY, linewidth=0.9, linestyle=":", label=at_random)
    axes.set_xticks(places, [f"{distance:,}" for distance in DISTANCES])
    axes.set(ylim=(-0.03, 1.05))
    legend_outside(axes, 8)
    return Picture(
        figure,
        alt="Share of right answers against the filler between telling and asking, from 0 to 2,048 tokens. With the "
        "memory on it stays near 1 at every distance, but for the last fact when it is asked for at once. With the "
        "memory never written, and in a model trained without memory, it lies near 0.03 throughout.",
        alt_ja="伝えてからたずねるまでの埋め草の長さ（0〜2,048トークン）に対する正解の割合。メモリありでは、"
        "どの距離でも1に近いのですが、最後の事実だけは、すぐにたずねると低くなります。メモリに書き込まない場合と、"
        "メモリなしで訓練したモデルでは、どの距離でも約0.03です。",
    )


def silent() -> Picture:
    """Which facts are known after 16 tokens, when one of these tokens takes a step of 0."""
    shares = silent_token()
    tokens, facts = shares.shape
    x = say("the token whose step is 0", "ステップ幅を0にしたトークン")
    figure, axes = chart(2.7, x, say("the fact in", "事実のあるトークン"), (0.18, 0.2, 0.98, 0.88))
    axes.grid(visible=False)
    share_map(axes, shares.T)
    title = say("share that knows the fact after token 15", "トークン15の後で事実を答えられた割合")
    axes.set_title(title, fontsize=9, loc="left")
    axes.set_xticks(range(tokens))
    of_fact = say("tokens {} and {}", "トークン{}と{}")
    axes.set_yticks(range(facts), [of_fact.format(2 * fact, 2 * fact + 1) for fact in range(facts)])
    for token, fact in product(range(tokens), range(facts)):
        share = float(shares[token, fact])
        axes.text(
            token, fact, f"{share:.0%}", ha="center", va="center", fontsize=8, color="white" if share < 0.5 else "black"
        )
    return Picture(
        figure,
        alt="A table: for each of the tokens 0 to 15, whose step is held at 0, the share of rows that know each of the "
        "six facts in the end. All shares are above 90 %, but for one a fact, below 25 %: the fact in tokens 0 and 1 "
        "is lost without the step of token 2, that in tokens 2 and 3 without token 4, and so on to tokens 10 and 11 "
        "without token 12.",
        alt_ja="0から15までのトークンを1つずつ選び、そのステップ幅を0にしたとき、6つの事実それぞれを最後に答えられる行の割合の表。"
        "ほとんどが90%を超えますが、どの事実にも1つだけ、25%未満のところがあります。トークン0と1の事実はトークン2を、"
        "2と3の事実はトークン4を止めると失われ、同じように続いて、10と11の事実はトークン12を止めると失われます。",
    )


IDEA_FILLER = 45  # so that the question is the tenth token of segment 3


def idea(facts: dict[str, str]) -> Picture:
    """A stream of tokens, what attention sees of it at the question, and how much each token
    changed the memory."""
    model = models()["memory on"]
    words, name = told_words(facts), next(iter(facts))
    tokens = torch.cat((ids(words), filler(IDEA_FILLER), ids([name])), dim=1)
    sizes, last = writes(model, tokens), tokens.shape[1] - 1
    segment = model.config.segment_len
    figure = new_figure(3.7)
    grid = figure.add_gridspec(2, 1, height_ratios=(1, 1.25), hspace=0.12, left=0.09, right=0.98, top=0.98, bottom=0.13)
    stream, axes = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    _stream(stream, [VOCABULARY[token] for token in tokens[0].tolist()], len(words), segment)
    tidy(axes, "", say("token", "トークン"), say("change of memory", "メモリの変化") + " $|M_t - M_{t-1}|$")
    axes.bar(range(last + 1), sizes, color=BLUE, width=0.8)
    for border in range(segment, last + 1, segment):
        axes.axvline(border - 0.5, color=BLACK, linestyle=":", linewidth=1.2)
    axes.set_xticks(range(0, last + 1, segment // 2))
    for axis in (stream, axes):
        axis.set_xlim(-0.8, last + 1.3)
    question = say(
        f"the question {name}? reads\nwhat all writes have left",
        f"質問「{name}?」が読むのは、\n全部の書き込みが残したもの",
    )
    axes.annotate(
        question, (last, sizes[last]), (last - 4, 0.6 * max(sizes)),
        fontsize=9, ha="right", va="center", arrowprops={"arrowstyle": "->", "color": BLACK},
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 2},
    )  # fmt: skip
    return Picture(
        figure,
        alt=f"Above, a stream of {last + 1} tokens in segments of {segment}: six facts, filler, a question. Attention "
        "sees from the question back to the start of its own segment only, not to the facts. Below, how much the "
        "memory changes at each token: more and more while the facts are told, most at the four tokens behind "
        "them, half as much in segment 1, little from token 32 on. The question reads from what this leaves.",
        alt_ja=f"上は、{last + 1}トークンの流れを{segment}トークンずつのセグメントに区切った図。"
        "6つの事実、埋め草、質問の順に並びます。アテンションに見えるのは、質問から自分のセグメントの始まりまでで、"
        "事実には届きません。下は、トークンごとのメモリの変化の大きさです。事実を伝えている間に少しずつ増え、"
        "直後の埋め草4トークンで最も大きく、セグメント1ではその約半分、トークン32からはわずかです。"
        "質問は、こうして残ったものを読みます。",
    )


def _stream(axes: Axes, words: list[str], told: int, segment: int) -> None:
    """The tokens as boxes, names and places with their words, and brackets for the segments."""
    last = len(words) - 1
    for place, word in enumerate(words):
        kind = "name" if word in NAMES else "place" if word in PLACES else "filler"
        face = {"name": BLUE, "place": ORANGE, "filler": "0.88"}[kind]
        axes.add_patch(Rectangle((place - 0.45, 0), 0.9, 1, facecolor=face, edgecolor="none"))
        ink = {"name": "white", "place": "black", "filler": "0.35"}[kind]
        axes.text(place, 0.5, word, rotation=90, ha="center", va="center", fontsize=8, color=ink)
    for number, first in enumerate(range(0, last + 1, segment)):
        end = min(first + segment - 1, last)
        axes.plot([first - 0.4, first - 0.4, end + 0.4, end + 0.4], [1.15, 1.3, 1.3, 1.15], color=BLACK, linewidth=1)
        seen = say(" (attention sees this)", "（アテンションで見える）") if end == last else ""
        centre = (first + end) / 2
        axes.text(centre, 1.4, say("segment ", "セグメント") + f"{number}{seen}", ha="center", fontsize=8)
    below = (
        ((told - 1) / 2, say("told", "伝えた事実")),
        ((told + last - 1) / 2, say("filler", "埋め草")),
        (last, say("asked", "質問")),
    )
    for middle, what in below:
        axes.text(middle, -0.12, what, ha="center", va="top", fontsize=8)
    axes.set_ylim(-0.5, 1.85)
    axes.axis("off")
