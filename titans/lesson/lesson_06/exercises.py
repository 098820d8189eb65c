"""The exercises of lesson 06: a share of one softmax, a network as attention, how far windows reach."""

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


# Exercise 3: how far back a say reaches through layers of a sliding window.


def _reach_truth(layers: int, persistent: int, window: int) -> int:
    """Asked of every pair, layer by layer: does this token's beginning have a say in that one? Persistent tokens come
    first, and nobody has a say in them."""
    tokens = layers * window + 1
    columns = persistent + tokens
    sees = [
        {column for column in range(columns) if column < persistent or 0 <= row - column < window} | {row}
        for row in range(persistent, columns)
    ]
    say = [{row} for row in range(columns)]
    for _ in range(layers):
        said = [set[int]().union(*(say[column] for column in seen)) for seen in sees]
        say = say[:persistent] + said
    return columns - 1 - min(row for row in say[-1] if row >= persistent)


def _reaches(seed: int) -> list[tuple]:
    pick = Random(seed)
    return [(pick.randint(2, 5), *pick.sample(range(2, 7), 2)) for _ in range(6)]


REACH = Exercise(
    _reaches,
    _reach_truth,
    {
        "one layer": Mistake(
            lambda layers, persistent, window: window - 1,
            "That is one layer. In the next, what a token sees has itself seen tokens before it.",
            "それは1層の場合です。次の層では、見える相手のほうも、その前のトークンをすでに見ています。",
        ),
        "the token itself": Mistake(
            lambda layers, persistent, window: layers * window,
            "A window of w is the token itself and the w − 1 before it: each layer goes back by w − 1.",
            "大きさ w のウィンドウは、そのトークン自身とその前の w − 1 個です。1層でさかのぼれるのは w − 1 個です。",
        ),
        "how many are within reach": Mistake(
            lambda layers, persistent, window: layers * (window - 1) + 1,
            "You count the token itself too. Asked for is how many tokens back the farthest one stands.",
            "自分自身も数えています。求めるのは、いちばん遠いトークンが何個前にあるかです。",
        ),
        "persistent tokens counted": Mistake(
            lambda layers, persistent, window: layers * (window - 1) + persistent,
            "The persistent tokens are seen, but they are not further back in the text: do not add them.",
            "永続トークンは見えますが、テキストの中で遠くにあるわけではないので、足しません。",
        ),
        "counted in every layer": Mistake(
            lambda layers, persistent, window: layers * (window - 1 + persistent),
            "You add the persistent tokens in every layer. They read nobody, so they pass nothing on.",
            "層ごとに永続トークンを足しています。永続トークンは何も読まないので、何も伝えません。",
        ),
        "they take room": Mistake(
            lambda layers, persistent, window: layers * (window - 1 - persistent),
            "Persistent tokens take no places in the window: they are seen besides it.",
            "永続トークンはウィンドウの枠を使いません。ウィンドウとは別に見えます。",
        ),
        "a power": Mistake(
            lambda layers, persistent, window: (window - 1) ** layers,
            "Too far: each layer adds w − 1 tokens, it does not multiply by it.",
            "遠すぎます。1層ごとに w − 1 倍になるのではなく、w − 1 トークンずつ増えます。",
        ),
        "one layer too few": Mistake(
            lambda layers, persistent, window: (layers - 1) * (window - 1),
            "One layer too few: the first one looks back too.",
            "1層足りません。最初の層でも前を見ます。",
        ),
    },
    "Correct: as far as a change gets when it is followed layer by layer, for six settings.",
    "正解です。6通りの設定で、変化が伝わる先を1層ずつたどった結果と一致しました。",
)
