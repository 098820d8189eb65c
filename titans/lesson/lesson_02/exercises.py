"""The exercises of lesson 02: the gradient of two layers by hand, and the step of one exact write."""

from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor

from titans.lesson.kit.draws import keys_of_all_lengths, random_draw
from titans.lesson.kit.exercise import Exercise, Mistake

OUTER = (" Is an outer product the wrong way round?", "外積の順序が逆ではありませんか。")

# Exercise 1: the step that stores a pair in one write.


def _one_write_truth(k: Tensor) -> Tensor:
    """The step at which a write by autograd leaves no error: the error falls in a straight line as the step grows."""
    M = torch.zeros(1, len(k), dtype=k.dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad((M @ k - 1).square().sum(), M)
    return 1 / (-gradient @ k)[0]


ONE_WRITE = Exercise(
    keys_of_all_lengths,
    _one_write_truth,
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
        "half of the error": Mistake(
            lambda k: 1 / (4 * k.square().sum()),
            "With it half of the error is left: M(k) goes half of the way to v.",
            "これでは誤差が半分残ります。M(k) は v までの半分しか進みません。",
        ),
        "upside down": Mistake(
            lambda k: 2 * k.square().sum(),
            "A longer key moves the answer more by itself: the step has to become smaller, so divide.",
            "長いキーは、それだけで答えを大きく動かします。ステップは小さくする必要があるので、掛けずに割ります。",
        ),
        "mean for sum": Mistake(
            lambda k: 1 / (2 * k.square().mean()),
            "You take the mean of the squares. k·k is their sum.",
            "2乗の平均を使っています。k·k は2乗の和です。",
        ),
    },
    "Correct: with this step one write stores the pair exactly, whatever the key's length.",
    "正解です。このステップ幅なら、キーの長さによらず1回の書き込みでペアが正確に記憶されます。",
)


# Exercise 2: the gradient of a two-layer memory by hand.


def _gradient_cases(seed: int) -> list[tuple]:
    draw, pick = random_draw(seed), Random(seed)
    sizes = [pick.sample(range(2, 9), 3) for _ in range(3)]
    return [(draw(hidden, d), draw(out, hidden), draw(d), draw(out)) for d, hidden, out in sizes]


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


def _gradient_with_relu_slope(W1: Tensor, W2: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    h, last = W1 @ k, _gradient_truth(W1, W2, k, v)[1]
    return torch.outer((h > 0) * (W2.mT @ (2 * (W2 @ F.gelu(h) - v))), k), last


def _first_and_last(W1: Tensor, W2: Tensor, k: Tensor, v: Tensor) -> Tensor:
    a = F.gelu(W1 @ k)
    answer = W2 @ a
    return torch.outer(_gelu_slope(answer) * 2 * (answer - v), a)


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
        "slope of another activation": Mistake(
            _gradient_with_relu_slope,
            "That is the slope of ReLU, 0 or 1. The activation here is gelu.",
            "それは ReLU の傾き（0か1）です。ここの活性化関数は GELU です。",
        ),
        "error of the last layer": Mistake(
            lambda W1, W2, k, v: (_gradient_truth(W1, W2, k, v)[0], _first_and_last(W1, W2, k, v)),
            "The last layer has no activation behind it: its error is 2 (M(k) − v), without a slope.",
            "最後の層の後ろに活性化関数はありません。誤差は 2 (M(k) − v) で、傾きは掛けません。",
        ),
        "order": Mistake(
            lambda *case: _gradient_truth(*case)[::-1],
            "Right, but the wrong way round: first the gradient of W1, then that of W2.",
            "値は合っていますが、順序が逆です。W1 の勾配、W2 の勾配の順に返してください。",
        ),
    },
    "Correct: both outer products agree with autograd on three random memories.",
    "正解です。3つのランダムなメモリで、2つの外積とも自動微分と一致しました。",
    {
        "turned": OUTER,
        "sizes": (" Is a matrix to be transposed on the way back?", "逆向きに進むとき、行列を転置しましたか。"),
    },
)
