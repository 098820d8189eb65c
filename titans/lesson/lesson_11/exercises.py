"""The exercises of lesson 11: Gated DeltaNet with the gates of Titans, and the project."""

from collections.abc import Callable
from random import Random

import torch
from torch import Tensor

from titans.lesson.kit.draws import random_draw
from titans.lesson.kit.exercise import Exercise, Mistake
from titans.lesson.lesson_11 import project

Handed = tuple[Tensor, Tensor, Tensor]


def _gated_cases(seed: int) -> list[tuple]:
    draw, pick = random_draw(seed), Random(seed)
    cases = []
    for tokens in pick.sample(range(3, 8), 3):
        beta, alpha = 0.2 + 0.7 * draw(tokens).sigmoid(), 0.1 + 0.5 * draw(tokens).sigmoid()
        cases.append((beta, alpha, draw(tokens, pick.randrange(2, 6))))
    return cases


def _gated_step(M: Tensor, k: Tensor, v: Tensor, beta: Tensor, alpha: Tensor) -> Tensor:
    """One token of Gated DeltaNet: forget, then correct what is left."""
    kept = (1 - alpha) * M
    return kept + beta * torch.outer(v - kept @ k, k)


def _gated_truth(beta: Tensor, alpha: Tensor, v: Tensor) -> Handed:
    """Read off Gated DeltaNet's own step, with a key of length 1: what is left of a memory across the key is 1 - alpha;
    what a step without a value takes off along the key, beyond that, is 2 theta; and what an empty memory answers is
    2 theta times the value."""
    dim = v.shape[1]
    k, across = torch.eye(dim, dtype=v.dtype)[:2]
    found = []
    for b, a, value in zip(beta, alpha, v, strict=True):
        M = torch.eye(dim, dtype=v.dtype)
        after = _gated_step(M, k, torch.zeros_like(value), b, a)
        keep, along = after[1] @ across, after[0] @ k
        theta = (keep - along) / 2
        found.append((theta, 1 - keep, _gated_step(0 * M, k, value, b, a) @ k / (2 * theta)))
    theta, forget, values = (torch.stack(parts) for parts in zip(*found, strict=True))
    return theta, forget, values


def _handed(
    theta: Callable[[Tensor, Tensor], Tensor], value: Callable[[Tensor, Tensor], Tensor | float]
) -> Callable[..., Handed]:
    """Other parameters: theta, and the factor of the values, from beta and what is kept."""

    def answer(beta: Tensor, alpha: Tensor, v: Tensor) -> Handed:
        keep = 1 - alpha
        return theta(beta, keep), alpha, v * torch.as_tensor(value(beta, keep)).reshape(-1, 1)

    return answer


def _keep_for_alpha(beta: Tensor, alpha: Tensor, v: Tensor) -> Handed:
    return beta * (1 - alpha) / 2, 1 - alpha, v / (1 - alpha)[:, None]


def _alpha_for_keep(beta: Tensor, alpha: Tensor, v: Tensor) -> Handed:
    return beta * alpha / 2, alpha, v / alpha[:, None]


GATED_DELTA = Exercise(
    _gated_cases,
    _gated_truth,
    {
        "same gates": Mistake(
            _handed(lambda beta, keep: beta / 2, lambda beta, keep: 1.0),
            "These are the same gates, only with the factor 2 seen to. Titans takes the error before it forgets, Gated "
            "DeltaNet after: its error is v − (1 − α) M k. What does that do to the term with M k?",
            "係数2は正しく扱えていますが、ゲートがもとのままです。Titans は忘れる前の誤差を、"
            "Gated DeltaNet は忘れた後の誤差 v − (1 − α) M k を使います。M k の項はどう変わるでしょうか。",
        ),
        "nothing changed": Mistake(
            lambda beta, alpha, v: (beta, alpha, v),
            "Handed over as they are. Two things differ: the gradient of |M k − v|² has a factor 2, and the order of "
            "forgetting and error.",
            "もとのまま渡しています。違いは2つあります。|M k − v|² の勾配に付く係数2と、忘却と誤差の順序です。",
        ),
        "factor 2": Mistake(
            _handed(lambda beta, keep: beta * keep, lambda beta, keep: 1 / keep),
            "theta is twice as large as it should be: the gradient of |M k − v|² is 2 (M k − v) kᵀ.",
            "theta が2倍になっています。|M k − v|² の勾配は 2 (M k − v) kᵀ です。",
        ),
        "factor 2 the other way": Mistake(
            _handed(lambda beta, keep: 2 * beta * keep, lambda beta, keep: 1 / keep),
            "You multiplied by 2. The gradient already brings the factor: theta has to be half.",
            "2を掛けています。係数2は勾配にすでに付いているので、theta は半分にします。",
        ),
        "values as they are": Mistake(
            _handed(lambda beta, keep: beta * keep / 2, lambda beta, keep: 1.0),
            "theta is right. But now the values are written with the smaller step too, 2 theta v = β (1 − α) v, where "
            "Gated DeltaNet writes β v.",
            "theta は正解です。ただし、このままでは値も小さいステップで書かれ、2 theta v = β (1 − α) v となります。"
            "Gated DeltaNet が書くのは β v です。",
        ),
        "values times keep": Mistake(
            _handed(lambda beta, keep: beta * keep / 2, lambda beta, keep: keep),
            "The values are scaled the wrong way: the step is already smaller, so they have to be larger.",
            "値の倍率が逆です。ステップが小さくなった分、値は大きくします。",
        ),
        "step as it is": Mistake(
            _handed(lambda beta, keep: beta / 2, lambda beta, keep: 1 / keep),
            "The values are scaled, the step is not. What is taken away for M k is β (1 − α) M k: that decides theta.",
            "値だけが変わっていて、ステップがもとのままです。M k の分として引かれるのは β (1 − α) M k です。"
            "theta はこれで決まります。",
        ),
        "the other direction": Mistake(
            _handed(lambda beta, keep: beta / keep / 2, lambda beta, keep: keep),
            "That leads the other way: it is what to hand to Gated DeltaNet to get Titans (apart from the factor 2).",
            "向きが逆です。それは、Gated DeltaNet に渡して Titans と同じにするための式です（係数2は別として）。",
        ),
        "keep for alpha": Mistake(
            _keep_for_alpha,
            "alpha is handed over as what is kept. In Titans, too, α is what is forgotten: leave it as it is.",
            "alpha として、残す割合を渡しています。Titans でも α は忘れる割合なので、そのまま渡します。",
        ),
        "alpha for keep": Mistake(
            _alpha_for_keep,
            "The factor is α. What stands before M in Gated DeltaNet is what is kept, 1 − α.",
            "α を掛けています。Gated DeltaNet で M に掛かるのは、残す割合 1 − α です。",
        ),
        "values times the step": Mistake(
            _handed(lambda beta, keep: beta * keep / 2, lambda beta, keep: beta),
            "The values are multiplied by β. The step is in theta already.",
            "値に β を掛けています。ステップは、すでに theta に入っています。",
        ),
    },
    "Correct: with these, Titans is Gated DeltaNet, to the last digit.",
    "正解です。これで、Titans は Gated DeltaNet と最後の桁まで一致します。",
    {
        "count": (
            " In this order: theta, alpha, the values.",
            "theta、alpha、値の順に返します。",
        ),
        "sizes": (
            " A gate has one number a token, [tokens], values are [tokens, dim]: `gate[:, None]` makes a column of it.",
            "ゲートは [tokens]、値は [tokens, dim] です。`gate[:, None]` で縦の列にできます。",
        ),
    },
)

PROJECT = project.PROJECT
