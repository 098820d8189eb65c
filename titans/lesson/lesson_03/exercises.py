"""The exercises of lesson 03: the update, from a half-life to alpha, and gates that follow the data."""

import math
from collections.abc import Callable
from random import Random
from typing import Any

import torch
from torch import Tensor

from titans.lesson.kit.draws import random_draw
from titans.lesson.kit.exercise import Exercise, Mistake, RefusedError, Verdict, returned, values
from titans.lesson.kit.matrix_memory import Trace, surprise_by_autograd, trace
from titans.lesson.lesson_03.streams import EARLY, LIE, SHIFT, EventfulStream, early_answer, eventful_stream

OUTER = (" Is an outer product the wrong way round?", "外積の順序が逆ではありませんか。")

# Exercise 1: from a half-life to alpha.


def _half_life_truth(tokens: int) -> float:
    """The alpha at which half is left after so many tokens, found by trying ever closer."""
    low, high = 0.0, 1.0
    for _ in range(60):
        alpha, left = (low + high) / 2, 1.0
        for _ in range(tokens):
            left *= 1 - alpha
        low, high = (alpha, high) if left > 0.5 else (low, alpha)
    return low


HALF_LIFE = Exercise(
    lambda seed: [(tokens,) for tokens in Random(seed).sample(range(1, 60), 5)],
    _half_life_truth,
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
        "power for root": Mistake(
            lambda tokens: 1 - 0.5**tokens,
            "You take a power where a root is needed: (1 − α)ⁿ = 1/2, so 1 − α is the n-th root of 1/2.",
            "根を求めるところで累乗にしています。(1 − α)ⁿ = 1/2 なので、1 − α は 1/2 の n 乗根です。",
        ),
        "doubling": Mistake(
            lambda tokens: 1 - 2 ** (1 / tokens),
            "That is negative: the memory would double. It is 1/2 of which the root is taken, not 2.",
            "負の値なので、メモリは2倍に増えてしまいます。根をとるのは 2 ではなく 1/2 です。",
        ),
        "exponential of 1/n": Mistake(
            lambda tokens: 1 - math.exp(-1 / tokens),
            "After n tokens 1/e is left. For one half it has to be exp(−ln 2 / n).",
            "それでは、n トークン後に 1/e が残ります。半分を残すには exp(−ln 2 / n) とします。",
        ),
    },
    "Correct: after that many tokens exactly half is left.",
    "正解です。そのトークン数の後、ちょうど半分が残ります。",
)


# Exercise 2: the update with momentum and forgetting.


def _update_cases(seed: int) -> list[tuple]:
    draw, pick = random_draw(seed), Random(seed)
    gates = ((0.3, 0.6, 0.1), (0.1, 0.9, 0.3), (0.7, 0.2, 0.05))
    return [
        (draw(d, d), draw(d, d), draw(d), draw(d), *(gate * pick.uniform(0.8, 1.05) for gate in three))
        for d, three in zip(pick.sample(range(2, 7), 3), gates, strict=True)
    ]


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


def _update_with(turn: Callable[[Tensor, Tensor, Tensor], Tensor]) -> Callable[..., tuple[Tensor, Tensor]]:
    """The update with another gradient, turn(M, k, v)."""

    def answer(
        M: Tensor, S: Tensor, k: Tensor, v: Tensor, theta: float, eta: float, alpha: float
    ) -> tuple[Tensor, Tensor]:
        S = eta * S - theta * turn(M, k, v)
        return (1 - alpha) * M + S, S

    return answer


def _update_theta_outside(
    M: Tensor, S: Tensor, k: Tensor, v: Tensor, theta: float, eta: float, alpha: float
) -> tuple[Tensor, Tensor]:
    S = eta * S - surprise_by_autograd(M, k, v)
    return (1 - alpha) * M + theta * S, S


UPDATE = Exercise(
    _update_cases,
    _update_truth,
    {
        "sign": Mistake(
            lambda M, S, k, v, theta, eta, alpha: _update_truth(M, S, k, v, -theta, eta, alpha),
            "The sign of the gradient is flipped: a step against the gradient lowers the loss, yours climbs.",
            "勾配の符号が逆です。損失を下げるには勾配と反対に進みますが、この式では損失が増えていきます。",
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
            "忘却後の重みで勾配を計算しています。勾配は、忘却も書き込みもする前の M_{t−1} で計算します。",
        ),
        "write before surprise": Mistake(
            _update_old_momentum,
            "M moves by the old S: work out the new S first, then add it (the token must feel its own surprise).",
            "M に古い S を足しています。トークン自身の驚きも反映するように、先に新しい S を求めて足してください。",
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
        "S taken away": Mistake(
            lambda M, S, *rest: ((1 - rest[-1]) * M - _update_truth(M, S, *rest)[1], _update_truth(M, S, *rest)[1]),
            "M − S climbs: S holds the minus sign already, so it is added to M.",
            "M − S では損失が増えます。マイナスは S の中にすでにあるので、M には S を足します。",
        ),
        "key from the left": Mistake(
            _update_with(lambda M, k, v: torch.outer(2 * (k @ M - v), k)),
            "The memory is read as kᵀM. It answers with M k: the key stands on the right.",
            "メモリを kᵀM として読んでいます。答えは M k です。キーは右から掛けます。",
        ),
        "outer product": Mistake(
            _update_with(lambda M, k, v: surprise_by_autograd(M, k, v).mT),
            "The outer product is the wrong way round: the error gives the rows, the key the columns, e kᵀ.",
            "外積の順序が逆です。行が誤差、列がキーで、e kᵀ となります。",
        ),
        "averaging": Mistake(
            lambda M, S, k, v, theta, eta, alpha: _update_truth(M, S, k, v, (1 - eta) * theta, eta, alpha),
            "The surprise is multiplied by (1 − η): that is an average. Equation 14 takes the whole new surprise.",
            "驚きに (1 − η) を掛けて、平均にしています。式(14)では、新しい驚きを丸ごと足します。",
        ),
        "theta outside": Mistake(
            _update_theta_outside,
            "θ scales the whole of S. It belongs to this token's surprise alone: each surprise keeps its own θ.",
            "θ を S 全体に掛けています。θ が掛かるのは、このトークンの驚きだけです。",
        ),
        "order": Mistake(
            lambda *case: _update_truth(*case)[::-1],
            "Right, but the wrong way round: return M first, then S.",
            "値は合っていますが、順序が逆です。M、S の順に返してください。",
        ),
    },
    "Correct: M and S agree with the equations for three settings of the gates.",
    "正解です。3通りのゲート設定で、M と S が式と一致しました。",
    {"sizes": OUTER},
)


# Exercise 3: gates that follow the data. A goal, with many solutions.


def check_schedule(schedule: Callable[[int], Any]) -> Verdict:
    """Let theta, eta, alpha = schedule(token) rule the eventful stream and judge what the memory
    knows, from the lie up to the end."""
    stream = eventful_stream()
    try:
        gates = [_gates(schedule, token) for token in range(len(stream.k))]
        return _judge(stream, trace(stream.k, stream.v, *torch.stack(gates).T))
    except RefusedError as refusal:
        return refusal.verdict


def _gates(schedule: Callable[[int], Any], token: int) -> Tensor:
    gates = values(returned(schedule, (token,)), 3)
    if any(gate.ndim for gate in gates):
        raise RefusedError(
            "shape",
            "Each gate is one number: return theta, eta, alpha for this token alone.",
            "ゲートはどれも1つの数です。そのトークンの theta、eta、alpha だけを返してください。",
        )
    theta, eta, alpha = map(float, gates)
    if theta < 0 or not 0 <= eta <= 1 or not 0 <= alpha <= 1:
        numbers = f"θ = {theta:.5g}, η = {eta:.5g}, α = {alpha:.5g}"
        raise RefusedError(
            "range",
            f"A gate is out of range at token {token}: {numbers}. θ ≥ 0, and η and α between 0 and 1.",
            f"トークン{token}でゲートの値が範囲外です：{numbers}。θ ≥ 0、η と α は0以上1以下にします。",
        )
    return torch.stack(gates)


def _judge(stream: EventfulStream, seen: Trace) -> Verdict:
    """Whether the new rule was learned and kept, the lie not believed, then or later, and the early
    pair kept."""
    lie = LIE[0]
    rule = stream.k[SHIFT[0] : lie], stream.v[SHIFT[0] : lie]
    adapted = _error(seen.memory[lie - 1], *rule)
    believed, when = max((_error(M, stream.k[lie], -stream.v[lie]), t) for t, M in _from(seen, lie))
    others = (rule[0] @ stream.k[lie]).abs() < 0.5
    unlearned, lost = max((_error(M, rule[0][others], rule[1][others]), t) for t, M in _from(seen, lie))
    kept = early_answer(stream, seen.memory)[EARLY[1] :]
    if not adapted <= 0.1:
        return Verdict(
            "slow",
            f"By token {lie} the memory has not learned the new rule (squared error {adapted:.2g}, at most 0.1).",
            f"トークン{lie}までに、メモリが新しい規則を覚えきれていません（平均2乗誤差{adapted:.2g}、目標は0.1以下）。",
        )
    if not unlearned <= 0.1:
        return Verdict(
            "loses the rule",
            f"The new rule was learned and then lost: after token {lost} the squared error is {unlearned:.2g}, "
            "and should be at most 0.1 up to the end.",
            f"いったん覚えた新しい規則が失われました。トークン{lost}の後、平均2乗誤差が{unlearned:.2g}あります。"
            "最後まで0.1以下に保ってください。",
        )
    if not believed <= 0.1:
        return Verdict(
            "believes the lie",
            f"The memory believed the lie: after token {when} the squared error against the truth is {believed:.2g}, "
            "and should be at most 0.1 up to the end.",
            f"メモリがうそを信じました。トークン{when}の後、真の値との2乗誤差が{believed:.2g}あります。"
            "最後まで0.1以下に保ってください。",
        )
    low, high = float(kept.min()), float(kept.max())
    if not 0.8 <= low <= high <= 1.2:
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


def _from(seen: Trace, token: int) -> list[tuple[int, Tensor]]:
    return [(t, M) for t, M in enumerate(seen.memory) if t >= token]


def _error(memory: Tensor, k: Tensor, v: Tensor) -> float:
    """The squared error, averaged over pairs where there are several; what overflows counts as
    infinite."""
    return float((k @ memory.mT - v).square().sum(-1).mean().nan_to_num(nan=torch.inf))
