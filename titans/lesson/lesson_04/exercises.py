"""The exercises of lesson 04: a meta-gradient by hand, the best first memory, and which part was sabotaged."""

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

import torch
from torch import Tensor

from titans.lesson.kit.cards import space
from titans.lesson.kit.draws import random_draw
from titans.lesson.kit.exercise import Exercise, Mistake, RefusedError, Verdict, returned, values
from titans.lesson.kit.host import say

# Exercise 1: two writes, one question, and the slope of the loss in theta.


def _meta_cases(seed: int) -> list[tuple]:
    """m, k1, v1, k2, v2, theta, q, a: all positive, theta small enough for neither write to overshoot."""
    random = Random(seed)
    return [tuple(random.uniform(*((0.05, 0.2) if place == 5 else (0.3, 1.5))) for place in range(8)) for _ in range(3)]


def _loss(m: Tensor, k1: float, v1: float, k2: float, v2: float, theta: Tensor, q: float, target: float) -> Tensor:
    first = m - theta * 2 * (m * k1 - v1) * k1
    second = first - theta * 2 * (first * k2 - v2) * k2
    return (second * q - target) ** 2


def _slope(which: str, *case: float) -> Tensor:
    m, theta = (torch.tensor(case[n], dtype=torch.float64, requires_grad=True) for n in (0, 5))
    k1, v1, k2, v2, _, q, target = case[1:]
    loss = _loss(m, k1, v1, k2, v2, theta, q, target)
    (slope,) = torch.autograd.grad(loss, theta if which == "theta" else m)
    return slope


def _by_hand(
    m: float, k1: float, v1: float, k2: float, v2: float, theta: float, q: float, target: float,
    *, inner: float = 1.0, stale: bool = False, error: float = 2.0, asked: bool = True, first: float = 1.0,
) -> float:  # fmt: skip
    """The chain rule, with what may go wrong in it. inner: how much of the second surprise's own slope is taken."""
    u1 = 2 * (m * k1 - v1) * k1
    first_memory = m - theta * u1
    u2 = 2 * ((m if stale else first_memory) * k2 - v2) * k2
    memory = first_memory - theta * u2
    slope = first * -u1 * (1 - inner * 2 * theta * k2**2) - u2
    return error * (memory * q - target) * (q if asked else 1.0) * slope


def _meta_truth(
    m: float, k1: float, v1: float, k2: float, v2: float, theta: float, q: float, a: float
) -> Tensor:  # fmt: skip
    """From autograd."""
    return _slope("theta", m, k1, v1, k2, v2, theta, q, a)


META_GRADIENT = Exercise(
    _meta_cases,
    _meta_truth,
    {
        "detached": Mistake(
            lambda *case: _by_hand(*case, inner=0.0),
            "You treated the second surprise as a number. It depends on θ too, as it is taken at M₁: that is the "
            "gradient through the gradient.",
            "2つ目の驚きを、ただの数として扱っています。驚きは M₁ で計算するので、θ に依存します。"
            "それが、勾配を通る勾配です。",
        ),
        "stale": Mistake(
            lambda *case: _by_hand(*case, inner=0.0, stale=True),
            "The second surprise is taken at M₁, after the first write, not at M₀.",
            "2つ目の驚きは、M₀ ではなく、最初に書き込んだ後の M₁ で計算します。",
        ),
        "no error": Mistake(
            lambda *case: _by_hand(*case, error=1.0),
            "Half of it: the outer loss is a square too, and brings a 2.",
            "求める値の半分です。外側の損失も2乗なので、係数2が付きます。",
        ),
        "no query": Mistake(
            lambda *case: _by_hand(*case, asked=False),
            "The answer is M₂ q: its derivative by M₂ is q.",
            "答えは M₂ q なので、答えを M₂ で微分すると q が出ます。",
        ),
        "sign": Mistake(
            lambda *case: -_by_hand(*case),
            "The sign is flipped: θ multiplies minus the surprise.",
            "符号が逆です。θ が掛かるのは、マイナスの付いた驚きです。",
        ),
        "second write only": Mistake(
            lambda *case: _by_hand(*case, first=0.0),
            "θ scales the first write as well: M₁ depends on θ too.",
            "θ は最初の書き込みにも掛かっています。M₁ も θ に依存します。",
        ),
        "factor 2 inside": Mistake(
            lambda *case: _by_hand(*case, inner=0.5),
            "The derivative of the second surprise by M₁ is 2k₂², with the 2 of its square.",
            "2つ目の驚きを M₁ で微分すると 2k₂² です。2乗の微分から出る2を落としています。",
        ),
        "slope in M_0": Mistake(
            lambda *case: _slope("m", *case),
            "That is the derivative by M₀. Asked for is the one by θ.",
            "それは M₀ についての微分です。求めるのは、θ についての微分です。",
        ),
    },
    "Correct: a derivative through two writes, the second of which depends on the first.",
    "正解です。2回の書き込みを通した微分で、2回目の書き込みは1回目によって変わります。",
)


# Exercise 2: the first memory that is least surprised.


def _memory_cases(seed: int) -> list[tuple]:
    """More pairs than features, every size another; neither keys nor values have a mean of zero."""
    random, draw, cases = Random(seed), random_draw(seed), []
    for _ in range(3):
        dim, out, pairs = [*random.sample(range(2, 6), 2), random.randint(7, 10)]
        k, truth = draw(pairs, dim) + 0.5, draw(out, dim)
        cases.append((k, k @ truth.mT + 0.3 * draw(pairs, out) + 0.4))
    return cases


def _memory_truth(k: Tensor, v: Tensor) -> Tensor:
    """By QR, from the normal equations' defining property: what is left is at a right angle to every feature."""
    return torch.linalg.lstsq(k, v).solution.mT


def _solve(k: Tensor, v: Tensor, ridge: float = 0.0) -> Tensor:
    gram = k.mT @ k + ridge * torch.eye(k.shape[1], dtype=k.dtype)
    return torch.linalg.solve(gram, k.mT @ v).mT


FIRST_MEMORY = Exercise(
    _memory_cases,
    _memory_truth,
    {
        "adds": Mistake(
            lambda k, v: v.mT @ k,
            "That adds the pairs up, as linear attention does. The keys overlap: their overlaps KᵀK have to be "
            "taken out.",
            "それは、線形アテンションのようにペアを足したものです。キーどうしは重なっているので、"
            "重なり KᵀK を取り除く必要があります。",
        ),
        "mean of writes": Mistake(
            lambda k, v: v.mT @ k / len(k),
            "That is the mean of what each pair would write. It is the direction of the first step, not where the "
            "steps end.",
            "それは、各ペアの書き込みの平均です。最初の1歩の向きであって、行き着く先ではありません。",
        ),
        "transposed": Mistake(
            lambda k, v: _solve(k, v).mT,
            "Transposed: M maps keys to values, so its shape is [out, dim].",
            "転置になっています。M はキーを値に移すので、形は [out, dim] です。",
        ),
        "keys from values": Mistake(
            lambda k, v: torch.linalg.lstsq(v, k).solution.mT,
            "You predict the keys from the values. It is the other way round.",
            "値からキーを予測しています。向きが逆です。",
        ),
        "centred": Mistake(
            lambda k, v: _solve(k - k.mean(0), v - v.mean(0)),
            "You took the means out first. A memory M k has no constant term that could put them back.",
            "先に平均を引いています。メモリ M k には、それを戻す定数項がありません。",
        ),
        "decay": Mistake(
            lambda k, v: _solve(k, v, ridge=1.0),
            "That is regression with weight decay: shorter than the best.",
            "それは重み減衰付きの回帰なので、行列が最良のものより小さくなります。",
        ),
        "each feature alone": Mistake(
            lambda k, v: v.mT @ k / k.square().sum(0),
            "You fitted each column of the keys by itself, as if they were at right angles.",
            "キーの列が互いに直交しているかのように、1つずつ別々に当てはめています。",
        ),
        "one write each": Mistake(
            lambda k, v: _written(k, v),
            "That is the delta rule, pair by pair: the last pairs count too much. All pairs count alike here.",
            "それはデルタ則で1ペアずつ書いたもので、最後のほうのペアに偏ります。求めるのは、全ペアの平均を最小にするものです。",
        ),
    },
    "Correct: before a single write, no matrix is less surprised by these pairs.",
    "正解です。1回も書かないうちは、このペアに対する驚きがこれより小さい行列はありません。",
)


def _written(k: Tensor, v: Tensor) -> Tensor:
    M = torch.zeros(v.shape[1], k.shape[1], dtype=k.dtype)
    for key, value in zip(k, v, strict=True):
        M = M + torch.outer(value - M @ key, key) / (key @ key)
    return M


# Exercise 3: three models, each with one part as it was before training.

CANDIDATES = ("gates", "convolution", "W_K", "W_V", "W_Q", "M_0")
SABOTAGED = {"A": "W_Q", "B": "convolution", "C": "W_K"}

_Q = (
    "its keys and values are those of the trained model (overlap and |v| have not changed), so neither W_K, W_V nor "
    "the convolution can be it. What changed is how questions meet keys.",
    "キーと値は学習済みモデルのままなので（キーの重なりも |v| も変わっていません）、"
    "W_K でも W_V でも畳み込みでもありません。変わったのは、質問とキーの合い方です。",
)
HINTS: dict[tuple[str, str], tuple[str, str]] = {
    ("A", "W_K"): _Q,
    ("A", "W_V"): _Q,
    ("A", "convolution"): _Q,
    ("B", "W_K"): (
        "|v| has changed as well, and W_K does not touch values.",
        "|v| も変わっています。W_K は値に触れません。",
    ),
    ("B", "W_Q"): (
        "keys and values have changed as well, and W_Q touches only queries.",
        "キーと値も変わっています。W_Q が変えるのはクエリだけです。",
    ),
    ("B", "W_V"): (
        "q · k has changed as well, and W_V touches only values.",
        "q · k も変わっています。W_V が変えるのは値だけです。",
    ),
    ("C", "W_Q"): (
        "the keys of different pairs overlap more, and W_Q does not touch keys.",
        "異なるペアのキーの重なりが増えています。W_Q はキーに触れません。",
    ),
    ("C", "convolution"): (
        "|v| has not changed, and the convolution mixes values too.",
        "|v| は変わっていません。畳み込みなら、値も混ぜているはずです。",
    ),
    ("C", "W_V"): (
        "|v| has not changed, and the keys have. W_V touches only values.",
        "|v| は変わらず、キーが変わっています。W_V が変えるのは値だけです。",
    ),
}
_GATES = ("its steps θ are those of the trained model.", "ステップ幅 θ は学習済みモデルのままです。")
_START = (
    "M_0 changes neither keys nor queries, and these have changed.",
    "M_0 はキーもクエリも変えませんが、それらが変わっています。",
)


class Detective:
    """The check of exercise 3: three names, in the order of the models or by model."""

    def check(self, answer: Callable[[], Any]) -> Verdict:
        """What is said of the three names that a function returns."""
        try:
            given = returned(answer, ())
            if given is None or given is ... or (isinstance(given, list | tuple) and ... in given):
                values(given)  # which says so
        except RefusedError as refusal:
            return refusal.verdict
        names = _three_names(given)
        if isinstance(names, Verdict):
            return names
        for model, said in zip(SABOTAGED, names, strict=True):
            if said != SABOTAGED[model].lower():
                (name,) = (candidate for candidate in CANDIDATES if candidate.lower() == said)
                return _wrong(model, name)
        return Verdict(
            "passed",
            "Correct: all three found from what they left behind.",
            "正解です。残された痕跡から、3つとも突き止めました。",
        )


def _three_names(given: Any) -> list[str] | Verdict:
    """The names in lower case, or what is wrong with them."""
    if isinstance(given, dict):
        given = [given.get(model, given.get(model.lower())) for model in SABOTAGED]
    if isinstance(given, str):
        given = given.replace(",", " ").split()
    try:
        names = [str(name).strip().lower() for name in given]
    except TypeError:
        return Verdict(
            "shape",
            'Return three names, as in ("W_V", "M_0", "W_V").',
            '("W_V", "M_0", "W_V") のように、3つの名前を返してください。',
        )
    if len(names) != len(SABOTAGED):
        return Verdict(
            "shape",
            f"Return three names, one a model; these are {len(names)}.",
            f"モデルごとに1つ、3つの名前を返してください。いまは{len(names)}個です。",
        )
    known = {candidate.lower() for candidate in CANDIDATES}
    if unknown := next((name for name in names if name not in known), None):
        choice = ", ".join(CANDIDATES)
        return Verdict(
            "unknown", f"“{unknown}” is none of {choice}.", f"「{unknown}」は、{choice} のどれでもありません。"
        )
    return names


def _wrong(model: str, name: str) -> Verdict:
    english, japanese = HINTS.get((model, name), _GATES if name == "gates" else _START)
    return Verdict(
        f"{model} is not {name}",
        f"Model {model} is not the one without {name}: {english}",
        f"モデル {model} は {name} を戻したものではありません。{japanese}",
    )


DETECTIVE = Detective()


def clues(numbers: dict[str, Sequence[float]], names: dict[str, str]) -> str:
    """The table that the reader decides from: a column a model; names: of its rows, in English and Japanese."""
    models = [say(model, "学習済み" if model == "trained" else model) for model in numbers]
    lines = [" " * 18 + "".join(space(model, 11) + model for model in models)]
    for row, pair in zip(zip(*numbers.values(), strict=True), names.items(), strict=True):
        name = say(*pair)
        lines.append(name + space(name, 18) + "".join(f"{number:11.3f}" for number in row))
    return "\n".join(lines)
