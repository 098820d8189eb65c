"""Exercises that check themselves: each check compares with an independent truth and names the mistake that it finds.

A check knows the truth from autograd or from the defining property, never from the solution in the lesson, and knows
what the usual slips would give, so that it can tell a flipped sign from a missing factor.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from titans.lesson.gates_lab import early_answer, trace
from titans.lesson.streams import EARLY, LIE, SHIFT, eventful_stream

TOLERANCE = 1e-9


@dataclass(frozen=True)
class Verdict:
    """What a check says: its outcome ("passed", "todo", or the mistake's name) and a sentence in each language."""

    outcome: str
    english: str
    japanese: str

    def __repr__(self) -> str:
        mark = {"passed": "✓", "todo": "…"}.get(self.outcome, "✗")
        return f"{mark} {self.english}\n{mark} {self.japanese}"


TODO = Verdict("todo", "Not attempted yet: replace the dots.", "まだ解いていません。「...」を書き換えてください。")


class Mistake(NamedTuple):
    """A usual slip: what it would compute, and what to say about it."""

    name: str
    answer: Callable[..., Any]
    english: str
    japanese: str


class Exercise(NamedTuple):
    """A function to write: arguments to try it on, the truth, the slips to recognise, and the praise."""

    cases: Callable[[], Sequence[tuple]]
    truth: Callable[..., Any]
    mistakes: Sequence[Mistake]
    passed: Verdict

    def check(self, answer: Callable[..., Any]) -> Verdict:
        """Try the answer on every case; say what is wrong with the first that differs."""
        cases = self.cases()
        given: list[Any] = []
        for case in cases:
            try:
                given.append(answer(*case))
            except Exception as error:
                what = f"{type(error).__name__}: {error}"
                return Verdict("error", f"Your function raised {what}", f"関数がエラーを出しました：{what}")
            if _is_unfinished(given[-1]):
                return TODO
        truths = [self.truth(*case) for case in cases]
        if _agree(given, truths):
            return self.passed
        for mistake in self.mistakes:
            if _agree(given, [mistake.answer(*case) for case in cases]):
                return Verdict(mistake.name, mistake.english, mistake.japanese)
        return _shape_verdict(given[0], truths[0]) or _difference(given, truths)


def _parts(value: Any) -> list[Tensor]:
    values = value if isinstance(value, tuple | list) else (value,)
    return [torch.as_tensor(part, dtype=torch.float64) for part in values]


def _is_unfinished(value: Any) -> bool:
    values = value if isinstance(value, tuple | list) else (value,)
    return any(part is None or part is ... for part in values)


def _agree(given: list[Any], wanted: list[Any]) -> bool:
    for have, want in zip(given, wanted, strict=True):
        pairs = _parts(have), _parts(want)
        if len(pairs[0]) != len(pairs[1]):
            return False
        for one, other in zip(*pairs, strict=True):
            if one.shape != other.shape or not torch.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE):
                return False
    return True


def _shape_verdict(given: Any, truth: Any) -> Verdict | None:
    have, want = ([list(part.shape) for part in _parts(value)] for value in (given, truth))
    if have == want:
        return None
    return Verdict(
        "shape",
        f"The shapes are {have}, they should be {want}. Is an outer product the wrong way round?",
        f"形が {have} になっています。正しくは {want} です。外積の順序が逆ではありませんか。",
    )


def _difference(given: list[Any], truths: list[Any]) -> Verdict:
    worst = max(
        float((one - other).abs().max())
        for have, want in zip(given, truths, strict=True)
        for one, other in zip(_parts(have), _parts(want), strict=True)
    )
    return Verdict(
        "different",
        f"Not yet: the largest difference from the truth is {worst:.2g}. Go through the equation term by term.",
        f"まだ違います。正しい値との差は最大 {worst:.2g} です。式を1項ずつ確かめてください。",
    )


def _random(seed: int) -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64)


# Lesson 02, exercise 2: the gradient of a two-layer memory by hand.


def _gradient_cases() -> list[tuple]:
    draw = _random(1)
    return [(draw(7, 3), draw(3, 7), draw(3), draw(3)) for _ in range(3)]


def _gradient_truth(W1: Tensor, W2: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    weights = [W1.clone().requires_grad_(), W2.clone().requires_grad_()]
    return torch.autograd.grad((weights[1] @ F.gelu(weights[0] @ k) - v).square().sum(), weights)


def _gelu_slope(h: Tensor) -> Tensor:
    h = h.clone().requires_grad_()
    return torch.autograd.grad(F.gelu(h).sum(), h)[0]


def _gradient_without_slope(W1: Tensor, W2: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    last = _gradient_truth(W1, W2, k, v)[1]
    return torch.outer(W2.mT @ (2 * (W2 @ F.gelu(W1 @ k) - v)), k), last


def _gradient_slope_of_activated(W1: Tensor, W2: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    a = F.gelu(W1 @ k)
    last = _gradient_truth(W1, W2, k, v)[1]
    return torch.outer(_gelu_slope(a) * (W2.mT @ (2 * (W2 @ a - v))), k), last


def _gradient_without_activation(W1: Tensor, W2: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    first = _gradient_truth(W1, W2, k, v)[0]
    return first, torch.outer(2 * (W2 @ F.gelu(W1 @ k) - v), W1 @ k)


HAND_GRADIENT = Exercise(
    _gradient_cases,
    _gradient_truth,
    (
        Mistake(
            "sign",
            lambda *case: tuple(-part for part in _gradient_truth(*case)),
            "The sign is flipped: the error is M(k) − v, what you have minus what you want.",
            "符号が逆です。誤差は M(k) − v、つまり「いまの答え」引く「ほしい答え」です。",
        ),
        Mistake(
            "factor 2",
            lambda *case: tuple(part / 2 for part in _gradient_truth(*case)),
            "Everything is half as large as it should be: the square in equation 12 leaves a factor 2 behind.",
            "すべて半分の大きさです。式(12)の2乗を微分すると、係数2が出ます。",
        ),
        Mistake(
            "no slope",
            _gradient_without_slope,
            "The error passes through the activation on its way back: multiply it by gelu'(h1).",
            "誤差は逆向きに活性化関数を通ります。gelu'(h1) を掛けてください。",
        ),
        Mistake(
            "slope at the wrong place",
            _gradient_slope_of_activated,
            "The slope of gelu is taken at h1, before the activation, not at a1.",
            "GELU の傾きは、活性化後の a1 ではなく、活性化前の h1 で計算します。",
        ),
        Mistake(
            "input of the second layer",
            _gradient_without_activation,
            "The second layer's input is a1 = gelu(h1), not h1.",
            "2層目の入力は h1 ではなく a1 = gelu(h1) です。",
        ),
    ),
    Verdict(
        "passed",
        "Correct: both outer products agree with autograd on three random memories.",
        "正解です。3つのランダムなメモリで、2つの外積とも自動微分と一致しました。",
    ),
)


# Lesson 02, exercise 1: the step that stores a pair in one write.


ONE_WRITE = Exercise(
    lambda: [(_random(seed)(4) * (seed + 1),) for seed in range(3)],
    lambda k: 1 / (2 * k.square().sum()),
    (
        Mistake(
            "factor 2",
            lambda k: 1 / k.square().sum(),
            "Twice too large: with it M(k) lands as far behind v as it was before it. The gradient has a factor 2.",
            "2倍の大きさです。これでは、M(k) が v を元と同じ距離だけ通り過ぎます。勾配には係数2があります。",
        ),
        Mistake(
            "unit keys",
            lambda k: torch.tensor(0.5),
            "Right for keys of length 1 only. What does a key of length 3 do to e kᵀk?",
            "長さ1のキーにしか当てはまりません。長さ3のキーでは e kᵀk はどうなりますか。",
        ),
        Mistake(
            "norm not squared",
            lambda k: 1 / (2 * k.norm()),
            "The key enters twice, once in the gradient and once in the read: its length has to be squared.",
            "キーは勾配と読み出しの両方に現れます。長さは2乗になります。",
        ),
        Mistake(
            "sign",
            lambda k: -1 / (2 * k.square().sum()),
            "A step is positive: the minus sign is already in the update.",
            "ステップ幅は正です。マイナスは更新式のほうに入っています。",
        ),
    ),
    Verdict(
        "passed",
        "Correct: with this step one write stores the pair exactly, whatever the key's length.",
        "正解です。このステップ幅なら、キーの長さによらず1回の書き込みでペアが正確に記憶されます。",
    ),
)


# Lesson 03, exercise 2: the update with momentum and forgetting.


def _update_cases() -> list[tuple]:
    draw = _random(2)
    gates = ((0.3, 0.6, 0.1), (0.1, 0.9, 0.3), (0.7, 0.2, 0.05))
    return [(draw(3, 3), draw(3, 3), draw(3), draw(3), *gate) for gate in gates]


def _surprise(M: Tensor, k: Tensor, v: Tensor) -> Tensor:
    M = M.clone().requires_grad_()
    return torch.autograd.grad((M @ k - v).square().sum(), M)[0]


def _update_truth(
    M: Tensor, S: Tensor, k: Tensor, v: Tensor, theta: float, eta: float, alpha: float
) -> tuple[Tensor, Tensor]:
    S = eta * S - theta * _surprise(M, k, v)
    return (1 - alpha) * M + S, S


def _update_forget_after(
    M: Tensor, S: Tensor, k: Tensor, v: Tensor, theta: float, eta: float, alpha: float
) -> tuple[Tensor, Tensor]:
    _, S = _update_truth(M, S, k, v, theta, eta, alpha)
    return (1 - alpha) * (M + S), S


def _update_forget_before(
    M: Tensor, S: Tensor, k: Tensor, v: Tensor, theta: float, eta: float, alpha: float
) -> tuple[Tensor, Tensor]:
    return _update_truth((1 - alpha) * M, S, k, v, theta, eta, 0.0)


def _update_old_momentum(
    M: Tensor, S: Tensor, k: Tensor, v: Tensor, theta: float, eta: float, alpha: float
) -> tuple[Tensor, Tensor]:
    return (1 - alpha) * M + S, _update_truth(M, S, k, v, theta, eta, alpha)[1]


UPDATE = Exercise(
    _update_cases,
    _update_truth,
    (
        Mistake(
            "sign",
            lambda M, S, k, v, theta, eta, alpha: _update_truth(M, S, k, v, -theta, eta, alpha),
            "The sign of the gradient is flipped: a step against the gradient lowers the loss, yours climbs.",
            "勾配の符号が逆です。損失を下げるには勾配と反対に進みます。この式では損失が増えていきます。",
        ),
        Mistake(
            "no forgetting",
            lambda M, S, k, v, theta, eta, alpha: _update_truth(M, S, k, v, theta, eta, 0.0),
            "Nothing is forgotten: where is (1 − α) M?",
            "忘却がありません。(1 − α) M はどこにありますか。",
        ),
        Mistake(
            "no momentum",
            lambda M, S, k, v, theta, eta, alpha: _update_truth(M, S, k, v, theta, 0.0, alpha),
            "The past surprise is lost: where is η S?",
            "過去の驚きが失われています。η S はどこにありますか。",
        ),
        Mistake(
            "forgets the write",
            _update_forget_after,
            "The new write is forgotten along with the old memory: (1 − α) belongs to M alone (equation 13).",
            "新しい書き込みまで、前のメモリと一緒に忘れています。(1 − α) が掛かるのは M だけです（式(13)）。",
        ),
        Mistake(
            "gradient at the wrong weights",
            _update_forget_before,
            "The gradient is taken after forgetting: it belongs at M_{t−1}, before anything happens to it.",
            "忘却後の重みで勾配を計算しています。勾配は何もする前の M_{t−1} で計算します。",
        ),
        Mistake(
            "write before surprise",
            _update_old_momentum,
            "M moves by the old S: work out the new S first, then add it (the token must feel its own surprise).",
            "M に古い S を足しています。先に新しい S を求めてから足してください。トークン自身の驚きも反映します。",
        ),
        Mistake(
            "factor 2",
            lambda M, S, k, v, theta, eta, alpha: _update_truth(M, S, k, v, theta / 2, eta, alpha),
            "The surprise is half as large as it should be: the gradient of |Mk − v|² has a factor 2.",
            "驚きが半分の大きさです。|Mk − v|² の勾配には係数2があります。",
        ),
        Mistake(
            "alpha keeps",
            lambda M, S, k, v, theta, eta, alpha: _update_truth(M, S, k, v, theta, eta, 1 - alpha),
            "α is what is forgotten; what stays is 1 − α.",
            "α は忘れる割合です。残るのは 1 − α です。",
        ),
    ),
    Verdict(
        "passed",
        "Correct: M and S agree with the equations for three settings of the gates.",
        "正解です。3通りのゲート設定で、M と S が式と一致しました。",
    ),
)


# Lesson 03, exercise 1: from a half-life to alpha.


HALF_LIFE = Exercise(
    lambda: [(tokens,) for tokens in (1, 5, 100, 346)],
    lambda tokens: 1 - 0.5 ** (1 / tokens),
    (
        Mistake(
            "keep, not forget",
            lambda tokens: 0.5 ** (1 / tokens),
            "That is what stays after a token, 1 − α. Which share is forgotten?",
            "それは1トークン後に残る割合 1 − α です。忘れる割合はいくつですか。",
        ),
        Mistake(
            "one over",
            lambda tokens: 1 / tokens,
            "After 1/α tokens a share of about 1/e = 37 % is left, not one half.",
            "1/α トークン後に残るのは約 1/e = 37% で、半分ではありません。",
        ),
        Mistake(
            "approximation",
            lambda tokens: torch.log(torch.tensor(2.0, dtype=torch.float64)) / tokens,
            "Close for long half-lives, but ln 2 / n is an approximation: for n = 1 it gives 0.69 in place of 0.5. "
            "Solve (1 − α)ⁿ = 1/2.",
            "半減期が長ければ近い値ですが、ln 2 / n は近似です。n = 1 では 0.5 ではなく 0.69 になります。"
            "(1 − α)ⁿ = 1/2 を解いてください。",
        ),
        Mistake(
            "linear",
            lambda tokens: 0.5 / tokens,
            "Forgetting multiplies: each token takes a share of what is left, not of what was there at first.",
            "忘却は掛け算です。トークンごとに、最初にあった量ではなく、残っている量の一定の割合が失われます。",
        ),
    ),
    Verdict(
        "passed",
        "Correct: after that many tokens exactly half is left.",
        "正解です。そのトークン数の後、ちょうど半分が残ります。",
    ),
)


# Lesson 03, exercise 3: gates that follow the data. A goal, with many solutions.


def check_schedule(schedule: Callable[[int], Any]) -> Verdict:
    """Let theta, eta, alpha = schedule(token) rule the eventful stream and judge what the memory knows at the end."""
    stream = eventful_stream()
    tokens = stream.k.shape[0]
    try:
        gates = [schedule(token) for token in range(tokens)]
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        return Verdict("error", f"Your function raised {what}", f"関数がエラーを出しました：{what}")
    if any(_is_unfinished(gate) for gate in gates):
        return TODO
    theta, eta, alpha = torch.tensor(gates, dtype=torch.float64).T
    if theta.min() < 0 or min(eta.min(), alpha.min()) < 0 or max(eta.max(), alpha.max()) > 1:
        return Verdict(
            "range",
            "A gate is out of range: θ ≥ 0, and η and α between 0 and 1.",
            "ゲートの値が範囲外です。θ ≥ 0、η と α は0以上1以下にします。",
        )
    seen = trace(stream, theta, eta, alpha)
    believed = _error(seen.memory[LIE[0]], stream.k[LIE[0]], -stream.v[LIE[0]])
    adapted = _error(seen.memory[LIE[0] - 1], stream.k[SHIFT[0] : LIE[0]], stream.v[SHIFT[0] : LIE[0]])
    kept = early_answer(stream, seen.memory)[EARLY[1] :]
    if adapted > 0.1:
        return Verdict(
            "slow",
            f"By token {LIE[0]} the memory has not learned the new rule (squared error {adapted:.2f}, at most 0.1).",
            f"トークン{LIE[0]}までに、メモリが新しい規則を覚えきれていません（平均2乗誤差{adapted:.2f}、目標は0.1以下）。",
        )
    if believed > 0.1:
        return Verdict(
            "believes the lie",
            f"The memory believed the lie (squared error {believed:.2f} against the truth, at most 0.1).",
            f"メモリがうそを信じてしまいました（真の値との2乗誤差{believed:.2f}、目標は0.1以下）。",
        )
    low, high = float(kept.min()), float(kept.max())
    if low < 0.8 or high > 1.2:
        return Verdict(
            "early pair",
            f"From token {EARLY[1]} on the early pair is answered with shares from {low:.2f} to {high:.2f}; "
            "they should stay between 0.8 and 1.2.",
            f"トークン{EARLY[1]}以降、最初のペアを答える割合が {low:.2f} から {high:.2f} の間で動いています。"
            "ずっと0.8以上1.2以下に保ってください。",
        )
    return Verdict(
        "passed",
        "Correct: the new rule is learned, the lie is not believed, and the early pair is still there.",
        "正解です。新しい規則を覚え、うそを信じず、最初のペアも残っています。",
    )


def _error(memory: Tensor, k: Tensor, v: Tensor) -> float:
    """The squared error, averaged over pairs where there are several."""
    return float((k @ memory.mT - v).square().sum(-1).mean())
