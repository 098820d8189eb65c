"""The exercises of lesson 07: what a token sees, the mask of [P | h | x], and reading after one's
own write."""

from collections.abc import Callable
from random import Random

import torch
from torch import Tensor

from titans.lesson.kit.draws import random_draw
from titans.lesson.kit.exercise import BOOLEANS, Exercise, Mistake
from titans.lesson.kit.matrix_memory import surprise_by_autograd

Part = Callable[[Tensor], Tensor]

# Exercise 1: how many entries a token's attention has.


def _sees_truth(t: int, segment_len: int, persistent: int) -> int:
    seen = persistent
    for j in range(t + 1):
        if j // segment_len == t // segment_len:
            seen += 2  # x_j and h_j
    return seen


def _places(seed: int) -> list[tuple]:
    """Tokens in several segments: in the middle of one, first, last, and one far away."""
    pick, cases = Random(seed), []
    for segments in (0, 1, 2, pick.randint(60, 90)):
        segment_len, persistent = pick.sample(range(4, 12), 2)
        first = segments * segment_len
        places = (first + pick.randrange(1, segment_len - 1), first + pick.choice((0, segment_len - 1)))
        cases += [(t, segment_len, persistent) for t in places]
    return cases


SEES = Exercise(
    _places,
    _sees_truth,
    {
        "no h": Mistake(
            lambda t, segment_len, persistent: persistent + t % segment_len + 1,
            "Only half of it: every token of the segment stands there twice, as x and as what was retrieved for it, h.",
            "半分しか数えていません。セグメントの各トークンは、x と、読み出した h の2つの形で並びます。",
        ),
        "not itself": Mistake(
            lambda t, segment_len, persistent: persistent + 2 * (t % segment_len),
            "A token sees itself too, and its own h: the first token of a segment has one of each.",
            "トークンは自分自身と自分の h も見ます。セグメントの最初のトークンにも、1つずつあります。",
        ),
        "no segments": Mistake(
            lambda t, segment_len, persistent: persistent + 2 * (t + 1),
            "This counts all tokens since the beginning. Attention ends at the start of the segment: take t % segment.",
            "全トークンを数えています。アテンションが届くのはセグメントの始まりまでです。t % segment を使います。",
        ),
        "whole segment": Mistake(
            lambda t, segment_len, persistent: persistent + 2 * segment_len,
            "This is the last token of a segment. The others do not see what comes after them.",
            "それはセグメントの最後のトークンの場合です。ほかのトークンは、自分より後ろを見ません。",
        ),
        "no persistent tokens": Mistake(
            lambda t, segment_len, persistent: 2 * (t % segment_len + 1),
            "The persistent tokens are missing: every token sees all of them, in every segment.",
            "永続トークンが抜けています。どのセグメントのどのトークンも、そのすべてを見ます。",
        ),
        "persistent tokens twice": Mistake(
            lambda t, segment_len, persistent: 2 * (persistent + t % segment_len + 1),
            "The persistent tokens stand there once: nothing is retrieved for them.",
            "永続トークンは1回だけ並びます。永続トークンのための読み出しはありません。",
        ),
        "segment number": Mistake(
            lambda t, segment_len, persistent: persistent + 2 * (t // segment_len + 1),
            "t // segment_len is the number of the segment. The place inside it is t % segment_len.",
            "t // segment_len はセグメントの番号です。セグメントの中の位置は t % segment_len です。",
        ),
        "one too many": Mistake(
            lambda t, segment_len, persistent: persistent + 2 * (t % segment_len + 2),
            "One token too many: t is counted from 0, so t % segment_len tokens stand before it in the segment.",
            "1トークン多く数えています。t は0から数えるので、セグメントの中で前にあるのは t % segment_len 個です。",
        ),
    },
    "Correct: this number does not grow with the stream. A token far on sees no more than one in the first segment.",
    "正解です。この数はストリームが長くなっても増えません。ずっと後のトークンも、最初のセグメントと同じだけを見ます。",
)


# Exercise 2: the mask.


def _mask_truth(tokens: int, persistent: int) -> Tensor:
    mask = torch.zeros(tokens, persistent + 2 * tokens, dtype=torch.bool)
    for i in range(tokens):
        for column in range(mask.shape[1]):
            mask[i, column] = column < persistent or (column - persistent) % tokens <= i
    return mask


def _mask(tokens: int, persistent: int, h: Part, x: Part = torch.tril) -> Tensor:
    """What each part leaves of a square of ones."""
    square = torch.ones(tokens, tokens)
    return torch.cat((torch.ones(tokens, persistent), h(square), x(square)), dim=1)


def _cell(case: tuple, row: int, column: int) -> tuple[str, str]:
    tokens, persistent = case
    if column < persistent:
        seen = f"P_{column}"
    else:
        part, place = divmod(column - persistent, tokens)
        seen = f"{'hx'[part]}_{place}"
    return f"token {row} looks at {seen}", f"トークン{row}から見た {seen}"


MASK = Exercise(
    lambda seed: [tuple(Random(seed + n).sample(range(2, 7), 2)) for n in range(3)],
    _mask_truth,
    {
        "all of h": Mistake(
            lambda n, p: _mask(n, p, lambda square: square),
            "This is the literal reading: h_j was asked for with token j, so a token before j must not see it.",
            "式を文字どおりに読んだ形です。h_j はトークン j でたずねたものなので、j より前に見せてはいけません。",
        ),
        "one triangle over everything": Mistake(
            lambda n, p: torch.ones(n, p + 2 * n).tril(),
            "One triangle does not fit [P | h | x]: P is seen by all, and h and x have a triangle each.",
            "[P | h | x] は1つの三角形では表せません。P はどこからも見え、h と x にはそれぞれ三角形が必要です。",
        ),
        "not its own h": Mistake(
            lambda n, p: _mask(n, p, lambda square: square.tril(-1)),
            "Token i may see its own h_i: token i asked for it, and a memory from before the segment answered.",
            "トークン i は h_i を見てかまいません。たずねたのは自分で、答えたのはセグメントの前のメモリだからです。",
        ),
        "only its own h": Mistake(
            lambda n, p: _mask(n, p, lambda square: torch.eye(n)),
            "Stricter than needed: h_j with j < i belongs to the past and may be seen.",
            "厳しすぎます。j < i の h_j は過去のものなので、見てもかまいません。",
        ),
        "the future": Mistake(
            lambda n, p: _mask(n, p, torch.triu, torch.triu),
            "The triangles are upside down: rows are the tokens that look, columns what they look at.",
            "三角形の向きが逆です。行が「見る側」のトークン、列が「見られる側」です。",
        ),
        "inverted": Mistake(
            lambda n, p: ~_mask_truth(n, p),
            "True and False are exchanged: True is what may be seen.",
            "True と False が入れ替わっています。見てよいところが True です。",
        ),
        "no persistent tokens": Mistake(
            lambda n, p: _mask(n, 0, torch.tril),
            "The columns of P are missing: they come first, and all tokens see them.",
            "P の列が抜けています。P は先頭にあり、どのトークンからも見えます。",
        ),
        "not itself": Mistake(
            lambda n, p: _mask(n, p, torch.tril, lambda square: square.tril(-1)),
            "A token does not see itself: x_i belongs to what token i may see.",
            "トークンから自分自身が見えていません。トークン i は x_i を見てかまいません。",
        ),
    },
    "Correct: persistent tokens for all, and of h and x only what belongs to the past or to the token itself.",
    "正解です。永続トークンはどのトークンからも見え、h と x は、過去と自分自身の分だけが見えます。",
    {"not finite": BOOLEANS, "type": BOOLEANS},
    _cell,
)


# Exercise 3: every token reads right after its own write.


def _write_cases(seed: int) -> list[tuple]:
    draw, pick = random_draw(seed), Random(seed)
    sizes = [pick.sample(range(3, 7), 2) for _ in range(2)]
    return [
        (draw(d, d), draw(tokens, d) / d**0.5, draw(tokens, d), draw(tokens, d), pick.uniform(0.1, 0.4))
        for tokens, d in sizes
    ]


def _memories(M: Tensor, K: Tensor, V: Tensor, theta: float) -> list[Tensor]:
    """M before the first token and after each, by autograd."""
    found = [M]
    for k, v in zip(K, V, strict=True):
        found.append(found[-1] - theta * surprise_by_autograd(found[-1], k, v))
    return found


def _reads(memories: list[Tensor], Q: Tensor) -> Tensor:
    return torch.stack([M @ q for M, q in zip(memories, Q, strict=True)])


def _write_truth(M: Tensor, K: Tensor, V: Tensor, Q: Tensor, theta: float) -> Tensor:
    return _reads(_memories(M, K, V, theta)[1:], Q)


def _write_each_alone(M: Tensor, K: Tensor, V: Tensor, Q: Tensor, theta: float) -> Tensor:
    return _reads([_memories(M, k[None], v[None], theta)[1] for k, v in zip(K, V, strict=True)], Q)


def _write_one_chunk(M: Tensor, K: Tensor, V: Tensor, Q: Tensor, theta: float) -> Tensor:
    memories = [M]
    for k, v in zip(K, V, strict=True):
        memories.append(memories[-1] + _memories(M, k[None], v[None], theta)[1] - M)
    return _reads(memories[1:], Q)


def _write_with(write: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The same loop, where a token adds theta * write(M, k, v)."""

    def answer(M: Tensor, K: Tensor, V: Tensor, Q: Tensor, theta: float) -> Tensor:
        memories = [M]
        for k, v in zip(K, V, strict=True):
            memories.append(memories[-1] + theta * write(memories[-1], k, v))
        return _reads(memories[1:], Q)

    return answer


LINEAR_ATTENTION = (
    "The value itself is written: that is linear attention. The delta rule writes what is missing, v − M k.",
    "値そのものを書き込んでいます。それは線形アテンションです。デルタ則では、足りない分 v − M k を書き込みます。",
)


WRITE_AND_READ = Exercise(
    _write_cases,
    _write_truth,
    {
        "read at the end": Mistake(
            lambda M, K, V, Q, theta: _reads([_memories(M, K, V, theta)[-1]] * len(K), Q),
            "Every token is answered by the last memory, into which later tokens are written: this is the second leak.",
            "どのトークンにも最後のメモリが答えています。そこには後ろのトークンも書き込まれています。これが2つ目の漏れです。",
        ),
        "read before the write": Mistake(
            lambda M, K, V, Q, theta: _reads(_memories(M, K, V, theta)[:-1], Q),
            "Nothing leaks, but each token is answered by the memory before its own write. Equation 25 reads M_t.",
            "漏れはありませんが、トークンに、自分の書き込みより前のメモリが答えています。式(25)が読むのは M_t です。",
        ),
        "never written": Mistake(
            lambda M, K, V, Q, theta: _reads([M] * len(K), Q),
            "All answers come from the memory before the segment. Keep what a write returns: M = M − θ · gradient.",
            "すべての答えがセグメントの前のメモリから出ています。書き込んだ結果を M に残します：M = M − θ · 勾配。",
        ),
        "each alone": Mistake(
            _write_each_alone,
            "Every token writes into the first memory and the next one forgets it: carry M from token to token.",
            "どのトークンも最初のメモリに書き、その結果は次のトークンで忘れられています。M を引き継いでください。",
        ),
        "gradient at the wrong weights": Mistake(
            _write_one_chunk,
            "All gradients are taken at the first weights: that is one chunk (D1). Here every token is its own chunk.",
            "すべての勾配を最初の重みでとっています。全体が1つのチャンクの場合です(D1)。ここでは1トークンが1チャンクです。",
        ),
        "sign": Mistake(
            lambda M, K, V, Q, theta: _write_truth(M, K, V, Q, -theta),
            "The sign of the gradient is flipped: each write makes the memory more wrong.",
            "勾配の符号が逆です。書き込むたびに、メモリの間違いが大きくなります。",
        ),
        "factor 2": Mistake(
            lambda M, K, V, Q, theta: _write_truth(M, K, V, Q, theta / 2),
            "The writes are half as large as they should be: the square in the loss leaves a factor 2 behind.",
            "書き込みが半分の大きさです。損失の2乗を微分すると、係数2が出ます。",
        ),
        "asks with the key": Mistake(
            lambda M, K, V, Q, theta: _write_truth(M, K, V, K, theta),
            "The memory is asked with the key; a read takes the query, Q[t].",
            "メモリにキーでたずねています。読み出しにはクエリ Q[t] を使います。",
        ),
        "linear attention": Mistake(_write_with(lambda M, k, v: torch.outer(v, k)), *LINEAR_ATTENTION),
        "linear attention, twice": Mistake(_write_with(lambda M, k, v: 2 * torch.outer(v, k)), *LINEAR_ATTENTION),
        "key from the left": Mistake(
            _write_with(lambda M, k, v: torch.outer(2 * (v - k @ M), k)),
            "The error is taken from kᵀM. The memory answers with M k: the key stands on the right.",
            "誤差を kᵀM から求めています。メモリの答えは M k です。キーは右から掛けます。",
        ),
        "outer product": Mistake(
            _write_with(lambda M, k, v: -surprise_by_autograd(M, k, v).mT),
            "The outer product is the wrong way round: the error gives the rows, the key the columns, e kᵀ.",
            "外積の順序が逆です。行が誤差、列がキーで、e kᵀ となります。",
        ),
        "query from the left": Mistake(
            lambda M, K, V, Q, theta: _reads([M.mT for M in _memories(M, K, V, theta)[1:]], Q),
            "The answers are qᵀM. A read is M q: the query stands on the right.",
            "qᵀM で答えを読み出しています。読み出しは M q です。クエリは右から掛けます。",
        ),
    },
    "Correct: each answer comes from the memory right after the token's own write, and no later token is in it.",
    "正解です。どの答えも、そのトークンを書き込んだ直後のメモリから出ていて、後ろのトークンは入っていません。",
    {"ragged": (" Stack one answer for each token.", "トークンごとの答えを、1つずつ重ねてください。")},
)
