"""The exercises of lesson 05: G by its definition, the answers of a chunk, and the largest stable step."""

from random import Random

import torch
from torch import Tensor

from titans.lesson.kit.draws import random_draw
from titans.lesson.kit.exercise import Exercise, Mistake

# Exercise 1: G by its definition.


def _gates(seed: int, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.rand(3, tokens, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return 0.1 + 0.4 * draw[0], 0.2 + 0.7 * draw[1], 0.05 + 0.4 * draw[2]


def _mask_cases(seed: int) -> list[tuple]:
    return [_gates(seed + tokens, tokens) for tokens in Random(seed).sample(range(3, 8), 3)]


def _mask_truth(theta: Tensor, eta: Tensor, alpha: Tensor) -> Tensor:
    """Let every token write a gradient of its own kind, minus a unit vector, and look what is left of which."""
    tokens = len(theta)
    M, S, rows = torch.zeros(tokens, dtype=theta.dtype), torch.zeros(tokens, dtype=theta.dtype), []
    for t in range(tokens):
        S = eta[t] * S + theta[t] * torch.eye(tokens, dtype=theta.dtype)[t]
        M = (1 - alpha[t]) * M + S
        rows.append(M)
    return torch.stack(rows)


def _products(keep: Tensor, shift: int = 1) -> Tensor:
    tokens = len(keep)
    return torch.tensor(
        [[float(keep[i + shift : t + 1].prod()) if i <= t else 0.0 for i in range(tokens)] for t in range(tokens)],
        dtype=keep.dtype,
    )


MASK = Exercise(
    _mask_cases,
    _mask_truth,
    {
        "no momentum": Mistake(
            lambda theta, eta, alpha: _products(1 - alpha) * theta,
            "That is G without momentum: what stays of a single write. A surprise goes on writing, by η, at "
            "each later "
            "token.",
            "それはモーメンタムのない G、つまり1回の書き込みのうち残る分です。驚きは、その後のトークンでも、η "
            "に従って書き込まれ続けます。",
        ),
        "no forgetting": Mistake(
            lambda theta, eta, alpha: torch.tril(torch.ones(len(eta), len(eta)).double()) @ _products(eta) * theta,
            "Forgetting is missing: what was added at token s has faded by the factor (1 − α) at each token after s.",
            "忘却が入っていません。トークン s で足されたものは、その後のトークンごとに (1 − α) 倍に薄れます。",
        ),
        "momentum alone": Mistake(
            lambda theta, eta, alpha: _products(eta) * theta,
            "That is each token's share in S_t. M_t adds up all S from the token on.",
            "それは、トークンが S_t に占める割合です。M_t には、そのトークンから後の S がすべて足されます。",
        ),
        "elementwise": Mistake(
            lambda theta, eta, alpha: _products(1 - alpha) * _products(eta) * theta,
            "You multiplied the two decays element by element. A surprise is carried to some token s and "
            "forgotten from "
            "there: a sum over s, which is a product of matrices.",
            "2つの減衰を要素ごとに掛けています。驚きは、あるトークン s まで運ばれ、そこから忘れられるので、"
            "s についての和、つまり行列の積になります。",
        ),
        "forgets its own write": Mistake(
            lambda theta, eta, alpha: _products(1 - alpha, 0) @ _products(eta) * theta,
            "A write is forgotten from the next token on: (1 − α_t) belongs to M_{t−1}, not to S_t.",
            "書き込みが忘れられるのは、次のトークンからです。(1 − α_t) が掛かるのは M_{t−1} で、S_t ではありません。",
        ),
        "theta of the reader": Mistake(
            lambda theta, eta, alpha: _products(1 - alpha) @ _products(eta) * theta[:, None],
            "θ belongs to the token that wrote, i: scale the columns, not the rows.",
            "θ は、書いたトークン i のものです。行ではなく列に掛けてください。",
        ),
        "alpha keeps": Mistake(
            lambda theta, eta, alpha: _products(alpha) @ _products(eta) * theta,
            "α is what is forgotten; what stays is 1 − α.",
            "α は忘れる割合です。残るのは 1 − α です。",
        ),
        "no theta": Mistake(
            lambda theta, eta, alpha: _products(1 - alpha) @ _products(eta),
            "The step sizes are missing: token i's gradient came in with θ_i.",
            "ステップ幅がありません。トークン i の勾配は、θ_i 倍で入りました。",
        ),
        "sign": Mistake(
            lambda theta, eta, alpha: -_products(1 - alpha) @ _products(eta) * theta,
            "G itself has no minus: the sign stands in the equation, before the sum.",
            "G にマイナスは付きません。符号は、式の和の前にあります。",
        ),
        "transposed": Mistake(
            lambda theta, eta, alpha: (_products(1 - alpha) @ _products(eta) * theta).mT,
            "Rows and columns are exchanged: a row is the token that reads.",
            "行と列が逆です。行が、読むトークンです。",
        ),
        "order": Mistake(
            lambda theta, eta, alpha: _products(eta) @ _products(1 - alpha) * theta,
            "The order is turned round: first momentum carries a surprise (right factor), then forgetting takes over "
            "(left factor).",
            "順序が逆です。先にモーメンタムが驚きを運び（右の因子）、その後を忘却が引き継ぎます（左の因子）。",
        ),
    },
    "Correct: G says what is left of every token's gradient at every later token.",
    "正解です。どのトークンの勾配が、その後のどのトークンにどれだけ残るかを、G が表しています。",
)


# Exercise 2: the answers of a chunk, from G.


def _answer_cases(seed: int) -> list[tuple]:
    draw, pick, cases = random_draw(seed), Random(seed), []
    for _ in range(3):
        tokens, dim, out = pick.sample(range(2, 7), 3)
        q, k, v = draw(tokens, dim), draw(tokens, dim), draw(tokens, out)
        theta, eta, alpha = _gates(pick.randrange(10**6), tokens)
        cases.append((draw(out, dim), q, k, v, _mask_truth(theta, eta, alpha), torch.cumprod(1 - alpha, 0)))
    return cases


def _answer_truth(W: Tensor, q: Tensor, k: Tensor, v: Tensor, G: Tensor, beta: Tensor) -> Tensor:
    """Build the memory after every token, and ask it."""
    answers = []
    for t in range(len(q)):
        M = beta[t] * W
        for i in range(len(q)):
            M = M - G[t, i] * torch.outer(2 * (W @ k[i] - v[i]), k[i])
        answers.append(M @ q[t])
    return torch.stack(answers)


ANSWERS = Exercise(
    _answer_cases,
    _answer_truth,
    {
        "no start": Mistake(
            lambda W, q, k, v, G, beta: -(G * (q @ k.mT)) @ (2 * (k @ W.mT - v)),
            "What the memory held before the chunk is missing: β_t W q_t.",
            "チャンクの前からメモリにあったもの、β_t W q_t が抜けています。",
        ),
        "start not faded": Mistake(
            lambda W, q, k, v, G, beta: q @ W.mT - (G * (q @ k.mT)) @ (2 * (k @ W.mT - v)),
            "What was there before the chunk fades too: multiply W q_t by β_t.",
            "チャンクの前からあったものも薄れます。W q_t に β_t を掛けてください。",
        ),
        "sign": Mistake(
            lambda W, q, k, v, G, beta: beta[:, None] * (q @ W.mT) + (G * (q @ k.mT)) @ (2 * (k @ W.mT - v)),
            "The sign of the writes is flipped: a write goes down the gradient.",
            "書き込みの符号が逆です。書き込みは勾配を下る向きです。",
        ),
        "factor 2": Mistake(
            lambda W, q, k, v, G, beta: beta[:, None] * (q @ W.mT) - (G * (q @ k.mT)) @ (k @ W.mT - v),
            "The writes are half as large as they should be: e = 2(W k − v).",
            "書き込みの大きさが半分になっています。e = 2(W k − v) です。",
        ),
        "values for errors": Mistake(
            lambda W, q, k, v, G, beta: beta[:, None] * (q @ W.mT) + (G * (q @ k.mT)) @ (2 * v),
            "You added values. That is linear attention; here the errors at the chunk's first weights are written.",
            "値を足していますが、それでは線形アテンションです。ここで書くのは、チャンクの始まりの重みでの誤差です。",
        ),
        "keys for queries": Mistake(
            lambda W, q, k, v, G, beta: beta[:, None] * (k @ W.mT) - (G * (k @ k.mT)) @ (2 * (k @ W.mT - v)),
            "You asked with the keys: the answers are to the queries.",
            "キーでたずねています。求めるのはクエリへの答えです。",
        ),
        "matrix product with G": Mistake(
            lambda W, q, k, v, G, beta: beta[:, None] * (q @ W.mT) - (G @ (q @ k.mT)) @ (2 * (k @ W.mT - v)),
            "G and the products of queries and keys are multiplied element by element, ⊙, not as matrices.",
            "G とクエリ・キーの内積は、行列の積ではなく、要素ごとの積（⊙）です。",
        ),
        "keys ask queries": Mistake(
            lambda W, q, k, v, G, beta: beta[:, None] * (q @ W.mT) - (G * (k @ q.mT)) @ (2 * (k @ W.mT - v)),
            "Rows are queries, columns are keys: q kᵀ, not k qᵀ.",
            "行がクエリ、列がキーです。k qᵀ ではなく q kᵀ です。",
        ),
        "no mask": Mistake(
            lambda W, q, k, v, G, beta: beta[:, None] * (q @ W.mT) - (q @ k.mT) @ (2 * (k @ W.mT - v)),
            "G is missing: without it a token sees later ones, and nothing fades.",
            "G が抜けています。これがないと、後のトークンまで見え、何も薄れません。",
        ),
    },
    "Correct: a whole chunk of writes and reads in a few products of matrices.",
    "正解です。チャンク全体の書き込みと読み出しが、数個の行列の積になりました。",
)


# Exercise 3: the largest stable step.


def _step_truth(k: Tensor) -> Tensor:
    """Twice the step times the loss's largest curvature may be 2: found from the map of the error, by its radius."""
    eye = torch.eye(k.shape[1], dtype=k.dtype)
    low, high = 0.0, 10.0
    for _ in range(200):
        middle = (low + high) / 2
        radius = torch.linalg.eigvalsh(eye - 2 * middle * k.mT @ k).abs().max()
        low, high = (middle, high) if radius <= 1 + 1e-13 else (low, middle)
    return torch.tensor(low, dtype=k.dtype)


def _step_cases(seed: int) -> list[tuple]:
    draw, pick = random_draw(seed), Random(seed)
    sizes = [pick.sample(range(2, 9), 2) for _ in range(3)]
    return [(draw(tokens, dim) / dim**0.5,) for tokens, dim in sizes]


LARGEST_STEP = Exercise(
    _step_cases,
    _step_truth,
    {
        "one token": Mistake(
            lambda k: 1 / k.square().sum(1).max(),
            "That is the limit for one token alone. All gradients of the chunk are added up: which direction "
            "gets most?",
            "それは1トークンだけのときの限界です。チャンクの勾配はすべて足し合わされます。"
            "その合計をいちばん多く受けるのは、どの方向でしょうか。",
        ),
        "all keys alike": Mistake(
            lambda k: 1 / k.square().sum(),
            "Safe, but too small: it would be the limit if all keys pointed the same way.",
            "安全ですが、小さすぎます。それは、すべてのキーが同じ向きのときの限界です。",
        ),
        "factor 2": Mistake(
            lambda k: 2 / torch.linalg.eigvalsh(k.mT @ k)[-1],
            "Twice too large: the gradient brings a factor 2, so 2θλ may be at most 2.",
            "2倍の大きさです。勾配に係数2があるので、2以下でなければならないのは 2θλ です。",
        ),
        "half": Mistake(
            lambda k: 0.5 / torch.linalg.eigvalsh(k.mT @ k)[-1],
            "With this step the error along the worst direction is gone after one chunk. It may still swing, up "
            "to twice that.",
            "そのステップ幅なら、最悪の方向の誤差が1チャンクで消えます。その2倍までなら、行き過ぎても発散しません。",
        ),
        "singular value": Mistake(
            lambda k: 1 / torch.linalg.matrix_norm(k, 2),
            "The largest singular value of K has to be squared: λ belongs to KᵀK.",
            "K の最大の特異値は、2乗する必要があります。λ は KᵀK の固有値だからです。",
        ),
        "smallest": Mistake(
            lambda k: 1 / torch.linalg.eigvalsh(k.mT @ k)[0].abs().clamp(min=1e-3),
            "You took the smallest eigenvalue; the largest explodes first.",
            "最小の固有値を使っています。先に発散するのは、最大の固有値の方向です。",
        ),
    },
    "Correct: beyond it the same chunk, read again and again, explodes.",
    "正解です。これを超えると、同じチャンクをくり返し読むだけで発散します。",
)
