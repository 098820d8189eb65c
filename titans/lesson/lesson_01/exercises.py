"""The exercises of lesson 01: the step of one exact write, interference, and the delta rule as masked attention."""

from random import Random

import torch
from torch import Tensor

from titans.lesson.kit.draws import keys_of_all_lengths, random_draw
from titans.lesson.kit.exercise import Exercise, Mistake

# Exercise 1: what the other pairs add to an answer.


def _interference_cases(seed: int) -> list[tuple]:
    draw, pick = random_draw(seed), Random(seed)
    sizes = [pick.sample(range(3, 7), 3) for _ in range(3)]
    cases = []
    for pairs, d, out in sizes:
        k, v, j = draw(pairs, d), draw(pairs, out), pick.randrange(pairs)
        k[j - 1] *= -torch.sign(k[j - 1] @ k[j])  # one product is negative, one positive
        k[j - 2] *= torch.sign(k[j - 2] @ k[j])
        cases.append((k, v, j))
    return cases


def _interference_truth(k: Tensor, v: Tensor, j: int) -> Tensor:
    """What is left of the answer when the pair's own share is taken away, by one memory without that pair."""
    others = [i for i in range(len(k)) if i != j]
    return sum((torch.outer(v[i], k[i]) for i in others), torch.zeros(v.shape[1], k.shape[1], dtype=k.dtype)) @ k[j]


INTERFERENCE = Exercise(
    _interference_cases,
    _interference_truth,
    {
        "whole answer": Mistake(
            lambda k, v, j: v.mT @ (k @ k[j]),
            "That is the whole answer, the pair's own share included. What do the others add?",
            "それは自分のペアの分も含む、答えの全体です。ほかのペアが加える分だけを求めてください。",
        ),
        "minus the value": Mistake(
            lambda k, v, j: v.mT @ (k @ k[j]) - v[j],
            "You took v_j away from the answer. For a key that is not of length 1 its own share is (k_j·k_j) v_j.",
            "答えから v_j を引いています。キーの長さが1でなければ、自分の分は (k_j·k_j) v_j です。",
        ),
        "only products": Mistake(
            lambda k, v, j: torch.stack([k[i] @ k[j] for i in range(len(k)) if i != j]).sum() * v[j],
            "Each product k_i·k_j belongs to the value of its own pair, v_i, not to v_j.",
            "内積 k_i·k_j に掛かるのは、v_j ではなく、それぞれのペアの値 v_i です。",
        ),
        "values for keys": Mistake(
            lambda k, v, j: sum((v[i] @ v[j]) * v[i] for i in range(len(k)) if i != j),
            "You compared values with values; a memory compares keys with keys.",
            "値どうしを比べています。メモリが比べるのは、キーどうしです。",
        ),
        "sign": Mistake(
            lambda k, v, j: -_interference_truth(k, v, j),
            "The sign is flipped: interference is what the others add.",
            "符号が逆です。干渉とは、ほかのペアが加える分です。",
        ),
        "absolute products": Mistake(
            lambda k, v, j: sum((k[i] @ k[j]).abs() * v[i] for i in range(len(k)) if i != j),
            "A product k_i·k_j may be negative, and then it takes away: leave its sign as it is.",
            "内積 k_i·k_j は負にもなり、そのときは引く向きに働きます。符号はそのままにしてください。",
        ),
    },
    "Correct: for three sets of keys you predicted what the others add.",
    "正解です。3組のキーについて、ほかのペアが加える分を当てました。",
)


# Exercise 2: the step that stores a pair in one write.


def _exact_step_truth(k: Tensor) -> Tensor:
    """An empty memory writes v = 1 with step 1: how far the answer moves says what step moves it by just 1."""
    M = torch.zeros(1, len(k), dtype=k.dtype)
    M = M + torch.outer(1 - M @ k, k)
    return 1 / (M @ k)[0]


EXACT_STEP = Exercise(
    keys_of_all_lengths,
    _exact_step_truth,
    {
        "one": Mistake(
            lambda k: torch.tensor(1.0, dtype=torch.float64),
            "Right for keys of length 1 only. What does a key of length 3 do to (v − M k) kᵀ k?",
            "長さ1のキーにしか当てはまりません。長さ3のキーでは (v − M k) kᵀ k はどうなりますか。",
        ),
        "norm not squared": Mistake(
            lambda k: 1 / k.norm(),
            "The key enters twice, once in the write and once in the read: its length has to be squared.",
            "キーは書き込みと読み出しの両方に現れます。長さは2乗になります。",
        ),
        "half": Mistake(
            lambda k: 0.5 / k.square().sum(),
            "Half of the error is left. A factor 2 would come from a gradient; the delta rule is written without it.",
            "誤差が半分残ります。係数2が出るのは勾配のほうで、ここで書いたデルタ則の式にはありません。",
        ),
        "twice": Mistake(
            lambda k: 2 / k.square().sum(),
            "With it the answer lands as far behind v as it was before it.",
            "これでは、答えが v を元と同じ距離だけ通り過ぎます。",
        ),
        "upside down": Mistake(
            lambda k: k.square().sum(),
            "A longer key already moves the answer more: the step has to become smaller, not larger.",
            "長いキーは、それだけで答えを大きく動かします。ステップは大きくではなく、小さくする必要があります。",
        ),
        "sign": Mistake(
            lambda k: -1 / k.square().sum(),
            "A step is positive: v − M k already points the right way.",
            "ステップは正です。v − M k がすでに正しい向きを指しています。",
        ),
    },
    "Correct: with this step one write stores the pair exactly, whatever the key's length.",
    "正解です。このステップなら、キーの長さによらず、1回の書き込みでペアが正確に記憶されます。",
)


# Exercise 3: the delta rule without a matrix.


def _attention_cases(seed: int) -> list[tuple]:
    draw, pick = random_draw(seed), Random(seed)
    sizes = [pick.sample(range(3, 7), 3) for _ in range(3)]
    return [tuple(draw(tokens, d) / d**0.5 for d in (dim, dim, out)) for tokens, dim, out in sizes]


def _loop(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    M, answers = torch.zeros(v.shape[1], k.shape[1], dtype=k.dtype), []
    for query, key, value in zip(q, k, v, strict=True):
        M = M + torch.outer(value - M @ key, key)
        answers.append(M @ query)
    return torch.stack(answers)


def _errors(k: Tensor, v: Tensor) -> Tensor:
    M, errors = torch.zeros(v.shape[1], k.shape[1], dtype=k.dtype), []
    for key, value in zip(k, v, strict=True):
        errors.append(value - M @ key)
        M = M + torch.outer(errors[-1], key)
    return torch.stack(errors)


def _off_by_one(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.tril(q @ k.mT, -1) @ _errors(k, v)


DELTA_AS_ATTENTION = Exercise(
    _attention_cases,
    _loop,
    {
        "linear attention": Mistake(
            lambda q, k, v: torch.tril(q @ k.mT) @ v,
            "That is linear attention: it adds the values. The delta rule adds the errors, e_t = v_t − M_{t−1} k_t.",
            "それは線形アテンションで、値を足しています。デルタ則が足すのは誤差 e_t = v_t − M_{t−1} k_t です。",
        ),
        "no mask": Mistake(
            lambda q, k, v: (q @ k.mT) @ _errors(k, v),
            "The answer to q_t sees errors of later tokens: only i ≤ t may count.",
            "q_t への答えに、後のトークンの誤差が入っています。数えるのは i ≤ t だけです。",
        ),
        "own token left out": Mistake(
            _off_by_one,
            "The answer to q_t leaves out token t's own write. Read after the write: i ≤ t, not i < t.",
            "q_t への答えに、トークン t 自身の書き込みが入っていません。読むのは書いた後です。i < t ではなく i "
            "≤ t です。",
        ),
        "errors of values alone": Mistake(
            lambda q, k, v: torch.tril(q @ k.mT) @ (v - torch.tril(k @ k.mT, -1) @ v),
            "In e_t you took away what the earlier *values* answer. The memory holds earlier *errors*: "
            "e_t = v_t − Σ (k_t·k_i) e_i.",
            "e_t を求めるとき、前の「値」による答えを引いています。メモリに入っているのは前の「誤差」です："
            "e_t = v_t − Σ (k_t·k_i) e_i。",
        ),
        "softmax": Mistake(
            lambda q, k, v: (
                torch.softmax((q @ k.mT).masked_fill(torch.ones(len(q), len(q)).triu(1).bool(), -torch.inf), -1)
                @ _errors(k, v)
            ),
            "No softmax here: the weights are the bare products q_t·k_i.",
            "ここに softmax はありません。重みは内積 q_t·k_i そのものです。",
        ),
        "errors alone": Mistake(
            lambda q, k, v: _errors(k, v),
            "Those are the errors. An answer adds them up, each weighted by q_t·k_i.",
            "それは誤差です。答えは、誤差に q_t·k_i の重みをつけて足したものです。",
        ),
        "keys for queries": Mistake(
            lambda q, k, v: torch.tril(k @ k.mT) @ _errors(k, v),
            "You asked with the keys. The answers are to the queries q_t.",
            "キーでたずねています。求めるのは、クエリ q_t への答えです。",
        ),
    },
    "Correct: the same answers as the matrix memory's. Nothing but past errors is needed for them.",
    "正解です。行列のメモリと同じ答えになりました。必要なのは、過去の誤差だけです。",
)
