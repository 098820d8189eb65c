"""The exercises of lesson 02: the gradient of two layers by hand, and the step of one exact write."""

import torch
import torch.nn.functional as F
from torch import Tensor

from titans.lesson.kit.draws import random_draw
from titans.lesson.kit.exercise import Exercise, Mistake

# Exercise 2: the gradient of a two-layer memory by hand.


def _gradient_cases() -> list[tuple]:
    draw = random_draw(1)
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
    {
        "sign": Mistake(
            lambda *case: tuple(-part for part in _gradient_truth(*case)),
            "The sign is flipped: the error is M(k) − v, what you have minus what you want.",
            "符号が逆です。誤差は M(k) − v、つまり「いまの答え」引く「ほしい答え」です。",
        ),
        "factor 2": Mistake(
            lambda *case: tuple(part / 2 for part in _gradient_truth(*case)),
            "Everything is half as large as it should be: the square in equation 12 leaves a factor 2 behind.",
            "すべて半分の大きさです。式(12)の2乗を微分すると、係数2が出ます。",
        ),
        "no slope": Mistake(
            _gradient_without_slope,
            "The error passes through the activation on its way back: multiply it by gelu'(h1).",
            "誤差は逆向きに活性化関数を通ります。gelu'(h1) を掛けてください。",
        ),
        "slope at the wrong place": Mistake(
            _gradient_slope_of_activated,
            "The slope of gelu is taken at h1, before the activation, not at a1.",
            "GELU の傾きは、活性化後の a1 ではなく、活性化前の h1 で計算します。",
        ),
        "input of the second layer": Mistake(
            _gradient_without_activation,
            "The second layer's input is a1 = gelu(h1), not h1.",
            "2層目の入力は h1 ではなく a1 = gelu(h1) です。",
        ),
    },
    "Correct: both outer products agree with autograd on three random memories.",
    "正解です。3つのランダムなメモリで、2つの外積とも自動微分と一致しました。",
)


# Exercise 1: the step that stores a pair in one write.

ONE_WRITE = Exercise(
    lambda: [(random_draw(seed)(4) * (seed + 1),) for seed in range(3)],
    lambda k: 1 / (2 * k.square().sum()),
    {
        "factor 2": Mistake(
            lambda k: 1 / k.square().sum(),
            "Twice too large: with it M(k) lands as far behind v as it was before it. The gradient has a factor 2.",
            "2倍の大きさです。これでは、M(k) が v を元と同じ距離だけ通り過ぎます。勾配には係数2があります。",
        ),
        "unit keys": Mistake(
            lambda k: torch.tensor(0.5),
            "Right for keys of length 1 only. What does a key of length 3 do to e kᵀk?",
            "長さ1のキーにしか当てはまりません。長さ3のキーでは e kᵀk はどうなりますか。",
        ),
        "norm not squared": Mistake(
            lambda k: 1 / (2 * k.norm()),
            "The key enters twice, once in the gradient and once in the read: its length has to be squared.",
            "キーは勾配と読み出しの両方に現れます。長さは2乗になります。",
        ),
        "sign": Mistake(
            lambda k: -1 / (2 * k.square().sum()),
            "A step is positive: the minus sign is already in the update.",
            "ステップ幅は正です。マイナスは更新式のほうに入っています。",
        ),
    },
    "Correct: with this step one write stores the pair exactly, whatever the key's length.",
    "正解です。このステップ幅なら、キーの長さによらず1回の書き込みでペアが正確に記憶されます。",
)
