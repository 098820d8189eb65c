"""The exercises of lesson 03: the update, from a half-life to alpha, and gates that follow the data."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from titans.lesson.kit.draws import random_draw
from titans.lesson.kit.exercise import Exercise, Mistake, RefusedError, Verdict, returned, values
from titans.lesson.kit.matrix_memory import Trace, surprise_by_autograd, trace
from titans.lesson.lesson_03.streams import EARLY, LIE, SHIFT, EventfulStream, early_answer, eventful_stream

# Exercise 2: the update with momentum and forgetting.


def _update_cases() -> list[tuple]:
    draw = random_draw(2)
    gates = ((0.3, 0.6, 0.1), (0.1, 0.9, 0.3), (0.7, 0.2, 0.05))
    return [(draw(3, 3), draw(3, 3), draw(3), draw(3), *gate) for gate in gates]


def _update_truth(
    M: Tensor, S: Tensor, k: Tensor, v: Tensor, theta: float, eta: float, alpha: float
) -> tuple[Tensor, Tensor]:
    S = eta * S - theta * surprise_by_autograd(M, k, v)
    return (1 - alpha) * M + S, S


def _update_forget_after(M: Tensor, S: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    _, S = _update_truth(M, S, *rest)
    return (1 - rest[-1]) * (M + S), S


def _update_old_momentum(M: Tensor, S: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return (1 - rest[-1]) * M + S, _update_truth(M, S, *rest)[1]


UPDATE = Exercise(
    _update_cases,
    _update_truth,
    {
        "sign": Mistake(
            lambda M, S, k, v, theta, eta, alpha: _update_truth(M, S, k, v, -theta, eta, alpha),
            "The sign of the gradient is flipped: a step against the gradient lowers the loss, yours climbs.",
            "勾配の符号が逆です。損失を下げるには勾配と反対に進みます。この式では損失が増えていきます。",
        ),
        "no forgetting": Mistake(
            lambda M, S, k, v, theta, eta, alpha: _update_truth(M, S, k, v, theta, eta, 0.0),
            "Nothing is forgotten: where is (1 − α) M?",
            "忘却がありません。(1 − α) M はどこにありますか。",
        ),
        "no momentum": Mistake(
            lambda M, S, k, v, theta, eta, alpha: _update_truth(M, S, k, v, theta, 0.0, alpha),
            "The past surprise is lost: where is η S?",
            "過去の驚きが失われています。η S はどこにありますか。",
        ),
        "forgets the write": Mistake(
            _update_forget_after,
            "The new write is forgotten along with the old memory: (1 − α) belongs to M alone (equation 13).",
            "新しい書き込みまで、前のメモリと一緒に忘れています。(1 − α) が掛かるのは M だけです（式(13)）。",
        ),
        "gradient at the wrong weights": Mistake(
            lambda M, S, k, v, theta, eta, alpha: _update_truth((1 - alpha) * M, S, k, v, theta, eta, 0.0),
            "The gradient is taken after forgetting: it belongs at M_{t−1}, before anything happens to it.",
            "忘却後の重みで勾配を計算しています。勾配は何もする前の M_{t−1} で計算します。",
        ),
        "write before surprise": Mistake(
            _update_old_momentum,
            "M moves by the old S: work out the new S first, then add it (the token must feel its own surprise).",
            "M に古い S を足しています。先に新しい S を求めてから足してください。トークン自身の驚きも反映します。",
        ),
        "factor 2": Mistake(
            lambda M, S, k, v, theta, eta, alpha: _update_truth(M, S, k, v, theta / 2, eta, alpha),
            "The surprise is half as large as it should be: the gradient of |Mk − v|² has a factor 2.",
            "驚きが半分の大きさです。|Mk − v|² の勾配には係数2があります。",
        ),
        "alpha keeps": Mistake(
            lambda M, S, k, v, theta, eta, alpha: _update_truth(M, S, k, v, theta, eta, 1 - alpha),
            "α is what is forgotten; what stays is 1 − α.",
            "α は忘れる割合です。残るのは 1 − α です。",
        ),
    },
    "Correct: M and S agree with the equations for three settings of the gates.",
    "正解です。3通りのゲート設定で、M と S が式と一致しました。",
)


# Exercise 1: from a half-life to alpha.

HALF_LIFE = Exercise(
    lambda: [(tokens,) for tokens in (1, 5, 100, 346)],
    lambda tokens: 1 - 0.5 ** (1 / tokens),
    {
        "keep, not forget": Mistake(
            lambda tokens: 0.5 ** (1 / tokens),
            "That is what stays after a token, 1 − α. Which share is forgotten?",
            "それは1トークン後に残る割合 1 − α です。忘れる割合はいくつですか。",
        ),
        "one over": Mistake(
            lambda tokens: 1 / tokens,
            "After 1/α tokens a share of about 1/e = 37 % is left, not one half.",
            "1/α トークン後に残るのは約 1/e = 37% で、半分ではありません。",
        ),
        "approximation": Mistake(
            lambda tokens: torch.log(torch.tensor(2.0, dtype=torch.float64)) / tokens,
            "Close for long half-lives, but ln 2 / n is an approximation: for n = 1 it gives 0.69 in place of 0.5. "
            "Solve (1 − α)ⁿ = 1/2.",
            "半減期が長ければ近い値ですが、ln 2 / n は近似です。n = 1 では 0.5 ではなく 0.69 になります。"
            "(1 − α)ⁿ = 1/2 を解いてください。",
        ),
        "linear": Mistake(
            lambda tokens: 0.5 / tokens,
            "Forgetting multiplies: each token takes a share of what is left, not of what was there at first.",
            "忘却は掛け算です。トークンごとに、最初にあった量ではなく、残っている量の一定の割合が失われます。",
        ),
    },
    "Correct: after that many tokens exactly half is left.",
    "正解です。そのトークン数の後、ちょうど半分が残ります。",
)


# Exercise 3: gates that follow the data. A goal, with many solutions.


def check_schedule(schedule: Callable[[int], Any]) -> Verdict:
    """Let theta, eta, alpha = schedule(token) rule the eventful stream and judge what the memory
    knows at the end."""
    stream = eventful_stream()
    try:
        gates = [torch.stack(values(returned(schedule, (token,)), 3)) for token in range(len(stream.k))]
    except RefusedError as refusal:
        return refusal.verdict
    except RuntimeError:
        return Verdict("shape", "Each of the three gates is one number.", "3つのゲートは、どれも1つの数です。")
    theta, eta, alpha = torch.stack(gates).T
    if theta.min() < 0 or min(eta.min(), alpha.min()) < 0 or max(eta.max(), alpha.max()) > 1:
        return Verdict(
            "range",
            "A gate is out of range: θ ≥ 0, and η and α between 0 and 1.",
            "ゲートの値が範囲外です。θ ≥ 0、η と α は0以上1以下にします。",
        )
    return _judge(stream, trace(stream.k, stream.v, theta, eta, alpha))


def _judge(stream: EventfulStream, seen: Trace) -> Verdict:
    """Whether the new rule was learned, the lie not believed, and the early pair kept."""
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
