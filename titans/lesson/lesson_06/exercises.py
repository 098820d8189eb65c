"""The exercises of lesson 06: a share of one softmax, a network as attention, a window with a prefix."""

from random import Random

import torch
from torch import Tensor

from titans.lesson.kit.draws import random_draw
from titans.lesson.kit.exercise import Exercise, Mistake

# Exercise 1: the share of the persistent tokens.


def _share_cases(seed: int) -> list[tuple]:
    draw, pick = random_draw(seed), Random(seed)
    sizes = [pick.sample(range(2, 9), 3) for _ in range(4)]
    return [(draw(d), draw(persistent, d), draw(tokens, d)) for d, persistent, tokens in sizes]


def _share_truth(q: Tensor, persistent_keys: Tensor, keys: Tensor, scale: float | None = None) -> Tensor:
    """The first columns of one softmax over everything."""
    scores = torch.cat((persistent_keys, keys)) @ q
    return (scores * (len(q) ** -0.5 if scale is None else scale)).softmax(0)[: len(persistent_keys)].sum()


def _share_of_raw_scores(q: Tensor, persistent_keys: Tensor, keys: Tensor) -> Tensor:
    ours, theirs = (persistent_keys @ q).sum(), (keys @ q).sum()
    return ours / (ours + theirs)


def _share_of_means(q: Tensor, persistent_keys: Tensor, keys: Tensor) -> Tensor:
    ours, theirs = ((k @ q / len(q) ** 0.5).exp().mean() for k in (persistent_keys, keys))
    return ours / (ours + theirs)


def _share_of_shifted(q: Tensor, persistent_keys: Tensor, keys: Tensor) -> Tensor:
    scores = [k @ q / len(q) ** 0.5 for k in (persistent_keys, keys)]
    ours, theirs = ((part - part.max()).exp().sum() for part in scores)
    return ours / (ours + theirs)


SHARE = Exercise(
    _share_cases,
    _share_truth,
    {
        "the tokens' share": Mistake(
            lambda *case: 1 - _share_truth(*case),
            "That is the share of the sequence's tokens, 1 − g. Which part belongs to the persistent ones?",
            "それは系列のトークンが受け取る割合 1 − g です。永続トークンの取り分はどちらでしょうか。",
        ),
        "no scale": Mistake(
            lambda q, persistent_keys, keys: _share_truth(q, persistent_keys, keys, scale=1.0),
            "The scores are not divided by √d: attention takes q·k / √d, for persistent keys too.",
            "スコアを √d で割っていません。アテンションのスコアは q·k / √d で、永続トークンのキーでも同じです。",
        ),
        "no exponential": Mistake(
            _share_of_raw_scores,
            "Raw scores may be negative, so they are no shares: softmax takes their exponentials first.",
            "スコアそのものは負にもなるので、割合になりません。softmax では、まず指数関数をとります。",
        ),
        "means": Mistake(
            _share_of_means,
            "You compare means. Softmax adds: ten tokens take ten times as much as one with the same score.",
            "平均を比べていますが、softmax では和です。スコアが同じなら、10個のトークンは1個の10倍を受け取ります。",
        ),
        "counting": Mistake(
            lambda q, persistent_keys, keys: len(persistent_keys) / (len(persistent_keys) + len(keys)),
            "You count tokens: right only if all scores are equal.",
            "トークンの個数を数えていますが、それが成り立つのは、すべてのスコアが等しいときだけです。",
        ),
        "scaled by d": Mistake(
            lambda q, persistent_keys, keys: _share_truth(q, persistent_keys, keys, scale=1 / len(q)),
            "The scores are divided by d. It is the square root of d.",
            "スコアを d で割っていますが、割る数は d の平方根です。",
        ),
        "each its own largest": Mistake(
            _share_of_shifted,
            "You take away the largest score of each part for itself. Take the same number away from all scores.",
            "それぞれの最大のスコアを別々に引いています。引くなら、全体に共通の値にしてください。",
        ),
        "ratio": Mistake(
            lambda *case: _share_truth(*case) / (1 - _share_truth(*case)),
            "That is one part divided by the other. A share is one part divided by the whole.",
            "それは一方を他方で割った比です。割合は、一方を全体で割ったものです。",
        ),
    },
    "Correct: the same share as the first columns of the whole softmax, for four sizes.",
    "正解です。4通りの大きさで、全体の softmax の最初の列の和と一致しました。",
)


# Exercise 2: a feed-forward network with softmax.


def _network_cases(seed: int) -> list[tuple]:
    draw, pick = random_draw(seed), Random(seed)
    sizes = [pick.sample(range(2, 8), 3) for _ in range(3)]
    return [(draw(tokens, d), draw(hidden, d), draw(hidden, d)) for tokens, d, hidden in sizes]


def _network_truth(x: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Equation 20 number by number: each token on its own, each hidden unit a key and a value."""
    outputs = []
    for token in x:
        weights = [torch.exp(token @ key) for key in keys]
        outputs.append(sum(w * value for w, value in zip(weights, values, strict=True)) / sum(weights))
    return torch.stack(outputs)


FEED_FORWARD = Exercise(
    _network_cases,
    _network_truth,
    {
        "wrong axis": Mistake(
            lambda x, keys, values: (x @ keys.T).softmax(0) @ values,
            "The softmax runs over the tokens. It has to run over the keys: each token shares out its own 1.",
            "softmax をトークンの方向にとっていますが、とるのはキーの方向です。トークンごとに、1をキーに配分します。",
        ),
        "no softmax": Mistake(
            lambda x, keys, values: x @ keys.T @ values,
            "Without softmax the two matrices are one: the network is linear.",
            "softmax がないので、2つの行列が1つにまとまり、線形のネットワークになってしまいます。",
        ),
        "another activation": Mistake(
            lambda x, keys, values: (x @ keys.T).relu() @ values,
            "That is an ordinary network with ReLU. Equation 20 has softmax in that place.",
            "それは ReLU を使った普通のネットワークです。式(20)では、そこが softmax です。",
        ),
        "scaled": Mistake(
            lambda x, keys, values: (x @ keys.T / keys.shape[1] ** 0.5).softmax(-1) @ values,
            "Equation 20 has no √d: put it into the keys if you want the two to agree.",
            "式(20)には √d がありません。アテンションと一致させたいときは、キーのほうに含めます。",
        ),
        "keys and values exchanged": Mistake(
            lambda x, keys, values: (x @ values.T).softmax(-1) @ keys,
            "Keys and values are exchanged: a token is compared with the keys, and gets the values.",
            "キーと値が入れ替わっています。トークンと比べるのがキーで、受け取るのが値です。",
        ),
        "not divided": Mistake(
            lambda x, keys, values: (x @ keys.T).exp() @ values,
            "The exponentials are not divided by their sum: each token's weights have to add up to 1.",
            "指数関数の値を、その和で割っていません。どのトークンでも、重みの和は1になります。",
        ),
        "sigmoid": Mistake(
            lambda x, keys, values: (x @ keys.T).sigmoid() @ values,
            "A sigmoid looks at each key alone. With softmax the keys share one total of 1.",
            "シグモイドは、キーを1つずつ別々に見ます。softmax では、キーどうしが合計1を分け合います。",
        ),
    },
    "Correct: each token gets the average of the values that its own softmax asks for.",
    "正解です。どのトークンも、自分の softmax で重みづけした値の平均を受け取っています。",
)


BOOLEANS = (" Asked for are booleans: True where a token sees.", "求めるのは真偽値です。見えるところを True にします。")

# Exercise 3: who sees whom in a sliding window with a persistent prefix.


def _mask_truth(tokens: int, persistent: int, window: int) -> Tensor:
    """Asked of every pair: may token i see this column?"""
    rows = [
        [column < persistent or 0 <= i - (column - persistent) < window for column in range(persistent + tokens)]
        for i in range(tokens)
    ]
    return torch.tensor(rows)


def _band(first: int, tokens: int, columns: int, window: int) -> Tensor:
    """One band over all columns: the rows' own ones are `first` and those behind it."""
    own, column = torch.arange(first, first + tokens)[:, None], torch.arange(columns)
    return (column <= own) & (column > own - window)


def _mask_seeing_ahead(tokens: int, persistent: int, window: int) -> Tensor:
    i = torch.arange(tokens)
    near = (i[:, None] - i).abs() < window
    return torch.cat((torch.ones(tokens, persistent, dtype=torch.bool), near), dim=1)


def _mask_cases(seed: int) -> list[tuple]:
    """Windows shorter than the stretch, and one that is longer."""
    pick = Random(seed)
    cases = [sorted(pick.sample(range(1, 8), 3)) for _ in range(3)]
    return [*((tokens + 1, persistent, window) for persistent, window, tokens in cases), (4, pick.randint(1, 3), 9)]


def _cell(case: tuple, row: int, column: int) -> tuple[str, str]:
    persistent = case[1]
    if column < persistent:
        return f"x{row} looks at p{column + 1}", f"x{row} から見た p{column + 1}"
    return f"x{row} looks at x{column - persistent}", f"x{row} から見た x{column - persistent}"


MASK = Exercise(
    _mask_cases,
    _mask_truth,
    {
        "scrolls out": Mistake(
            lambda tokens, persistent, window: _band(persistent, tokens, persistent + tokens, window),
            "The persistent tokens scroll out of the window. They stay visible to every token, however late.",
            "永続トークンがウィンドウの外に出てしまっています。どんなに後のトークンからも、見えるようにしてください。",
        ),
        "counted from the front": Mistake(
            lambda tokens, persistent, window: _band(0, tokens, persistent + tokens, window),
            "Token i stands in column persistent + i: your rows are shifted, and tokens do not see themselves.",
            "トークン i は persistent + i 列目にあります。行がずれていて、自分自身が見えていません。",
        ),
        "future": Mistake(
            _mask_seeing_ahead,
            "A token sees the future: columns to the right of its own must be False.",
            "トークンから未来が見えています。自分より右の列は False にします。",
        ),
        "one too many": Mistake(
            lambda tokens, persistent, window: _mask_truth(tokens, persistent, window + 1),
            "One token too many: a window of w is the token itself and the w − 1 before it.",
            "見えるトークンが1つ多くなっています。大きさ w のウィンドウは、自分自身とその前の w − 1 個です。",
        ),
        "no window": Mistake(
            lambda tokens, persistent, window: _mask_truth(tokens, persistent, tokens),
            "Causal, but the window is missing: what is `window` or more tokens ago is out of sight.",
            "因果的ですが、ウィンドウがありません。`window` 個以上前のトークンは見えません。",
        ),
        "inverted": Mistake(
            lambda *case: ~_mask_truth(*case),
            "The mask is inverted: True means that a column is seen.",
            "マスクが逆です。True は「その列が見える」という意味です。",
        ),
        "no prefix": Mistake(
            lambda tokens, persistent, window: _mask_truth(tokens, 0, window),
            "The columns of the persistent tokens are missing: the mask has persistent + tokens columns.",
            "永続トークンの列がありません。マスクには persistent + tokens 本の列があります。",
        ),
        "one too few": Mistake(
            lambda tokens, persistent, window: _mask_truth(tokens, persistent, window - 1),
            "One token too few: a window of w is the token itself and the w − 1 before it.",
            "見えるトークンが1つ足りません。大きさ w のウィンドウは、自分自身とその前の w − 1 個です。",
        ),
    },
    "Correct: every pair of token and column, for four sizes.",
    "正解です。4通りの大きさで、トークンと列のすべての組が合っています。",
    {"not finite": BOOLEANS, "type": BOOLEANS},
    _cell,
)
