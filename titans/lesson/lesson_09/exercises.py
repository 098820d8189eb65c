"""The exercises of lesson 09: a stream in pieces, the size of a state, a gradient through a state."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random

import torch
from torch import Tensor

from titans.lesson.kit.draws import random_draw, randomise
from titans.lesson.kit.exercise import Exercise, Mistake
from titans.neural_memory import NeuralMemory
from titans.state import MemoryState

Call = Callable[..., tuple[Tensor, MemoryState]]
# Exercise 1: a stream that comes in pieces.


def _stream_cases(seed: int) -> list[tuple[Call, list[Tensor]]]:
    pick, cases = Random(seed), []
    for pieces in (3, 5):
        batch, dim = pick.sample(range(1, 4), 1)[0], pick.choice((4, 6, 8))
        sizes = pick.sample(range(1, 8), pieces)
        draw = random_draw(seed + pieces)
        cases.append((_call(dim, seed), [draw(batch, size, dim) for size in sizes]))
    return cases


def _call(dim: int, seed: int) -> Call:
    layer = NeuralMemory(dim, depth=1, chunk_size=4).double()
    randomise(layer, seed)

    @torch.no_grad()
    def call(x: Tensor, state: MemoryState | None = None) -> tuple[Tensor, MemoryState]:
        return layer(x, state)

    return call


def _with_states(choose: Callable[[list[MemoryState]], MemoryState | None]) -> Callable[..., Tensor]:
    """A loop over pieces that hands on the state that `choose` takes from all so far."""

    def stream(call: Call, pieces: Sequence[Tensor]) -> Tensor:
        states: list[MemoryState] = []
        answers = []
        for piece in pieces:
            y, state = call(piece, choose(states) if states else None)
            states.append(state)
            answers.append(y)
        return torch.cat(answers, dim=1)

    return stream


def _last_only(call: Call, pieces: Sequence[Tensor]) -> Tensor:
    whole, _ = call(torch.cat(list(pieces), dim=1))
    return whole[:, -pieces[-1].shape[1] :]


STREAM = Exercise(
    _stream_cases,
    lambda call, pieces: call(torch.cat(pieces, dim=1))[0],
    {
        "starts anew": Mistake(
            _with_states(lambda states: None),
            "Every piece begins with an empty memory: hand the state of one call to the next.",
            "どの部分も空のメモリから読み始めています。呼び出しで返された状態を、次の呼び出しに渡してください。",
        ),
        "old state": Mistake(
            _with_states(lambda states: states[0]),
            "Every later piece begins with the state after the first: keep the newest state, not the first.",
            "2つ目以降の部分をすべて、最初の部分の後の状態から読み始めています。いちばん新しい状態を渡してください。",
        ),
        "last piece only": Mistake(
            _last_only,
            "Only the last piece's answers came back: collect those of all pieces.",
            "最後の部分の答えしか返っていません。すべての部分の答えを集めてください。",
        ),
        "order": Mistake(
            lambda call, pieces: _with_states(lambda states: states[-1])(call, pieces[::-1]),
            "The pieces were read from the last to the first.",
            "部分を後ろから順に読んでいます。",
        ),
        "one state too old": Mistake(
            _with_states(lambda states: states[max(0, len(states) - 2)]),
            "A piece begins with the state of one call too early: hand on the newest.",
            "1つ前の呼び出しより古い状態から読み始めています。いちばん新しい状態を渡してください。",
        ),
        "first piece only": Mistake(
            lambda call, pieces: call(pieces[0])[0],
            "Only the first piece's answers came back: is `return` inside the loop?",
            "最初の部分の答えしか返っていません。`return` がループの中に入っていませんか。",
        ),
    },
    "Correct: in pieces the stream gives the same answers as in one call, across borders of chunks too.",
    "正解です。ストリームを分けて読んでも、1回で読んだときと同じ答えになりました。チャンクの境目をまたぐ場合も同じです。",
    {
        "type": (
            " Return the answers y alone, not the state.",
            "状態ではなく、答え y だけを返してください。",
        ),
        "ragged": (" Join the pieces with torch.cat.", "部分ごとの答えは torch.cat でつなげます。"),
    },
)


# Exercise 2: how many numbers a state holds.


def _state_truth(batch: int, heads: int, dim: int, depth: int, expansion: int) -> int:
    """Counted in a real state, inside a chunk, where the chunk's start is a third copy of the weights."""
    layer = NeuralMemory(dim, heads, depth, chunk_size=4, expansion=expansion)
    with torch.no_grad():
        _, state = layer(torch.zeros(batch, 1, dim))
    return sum(t.numel() for part in (state.weights, state.momentum, state.chunk_weights) for t in part)


def _weights(dim: int, depth: int, expansion: int) -> int:
    widths = [dim] + [dim * expansion] * (depth - 1) + [dim]
    return sum(one * other for one, other in pairwise(widths))


def _one_copy(batch: int, heads: int, dim: int, depth: int, expansion: int) -> int:
    return batch * heads * _weights(dim // heads, depth, expansion)


def _state_sizes(seed: int) -> list[tuple]:
    pick, cases = Random(seed), []
    batches = pick.sample(range(2, 7), 4)
    for depth, batch in zip((1, 2, 3, 2), batches, strict=True):
        heads, features, expansion = pick.sample([size for size in range(2, 8) if size != batch], 3)
        cases.append((batch, heads, heads * features, depth, expansion))
    return cases


STATE_NUMBERS = Exercise(
    _state_sizes,
    _state_truth,
    {
        "weights alone": Mistake(
            _one_copy,
            "That is M alone. S has as many numbers, and so have the weights of the chunk's start.",
            "それは M だけの個数です。S にも、チャンクの始まりの重みにも、同じ個数の数値があります。",
        ),
        "no chunk start": Mistake(
            lambda *case: 2 * _one_copy(*case),
            "M and S are there, but inside a chunk the weights of its start travel along too (D10).",
            "M と S は入っていますが、チャンクの途中では、チャンクの始まりの重みも引き継ぎます（D10）。",
        ),
        "heads share features": Mistake(
            lambda batch, heads, *rest: 3 * heads * _one_copy(batch, 1, *rest),
            "Each head has dim / heads features, so its matrices are smaller.",
            "各ヘッドの次元は dim / heads なので、行列はもっと小さくなります。",
        ),
        "one memory for all rows": Mistake(
            lambda batch, *rest: 3 * _one_copy(1, *rest),
            "Every sequence of the batch has a memory of its own.",
            "バッチの中の系列は、それぞれ自分のメモリを持ちます。",
        ),
        "square layers": Mistake(
            lambda batch, heads, dim, depth, expansion: 3 * batch * heads * depth * (dim // heads) ** 2,
            "Hidden layers are wider: expansion times the features of a head.",
            "隠れ層はもっと広く、ヘッドの次元の expansion 倍あります。",
        ),
        "one memory for all heads": Mistake(
            lambda batch, heads, *rest: 3 * _one_copy(batch, heads, *rest) // heads,
            "Every head has a memory of its own.",
            "ヘッドは、それぞれ自分のメモリを持ちます。",
        ),
        "four copies": Mistake(
            lambda *case: 4 * _one_copy(*case),
            "That is one set too many: M, S, and the weights of the chunk's start.",
            "1組多く数えています。M と S、それにチャンクの始まりの重みです。",
        ),
    },
    "Correct: as many numbers as there are in real states, for one token or a million.",
    "正解です。実際の状態にある数値の個数と一致しました。1トークンでも100万トークンでも同じです。",
)


# Exercise 3: a gradient through carried states.


@torch.enable_grad()  # the lesson switches gradients off
def _slope_truth(theta: float, alpha: float, tokens: int) -> Tensor:
    first = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    m = torch.zeros((), dtype=torch.float64)
    for value in (first, *[torch.tensor(0.5, dtype=torch.float64)] * (tokens - 1)):
        m = (1 - alpha) * m - theta * 2 * (m - value)
    return torch.autograd.grad(m, first)[0]


def _slopes(seed: int) -> list[tuple]:
    pick = Random(seed)
    return [
        (round(pick.uniform(0.05, 0.3), 3), round(pick.uniform(0.01, 0.1), 3), tokens)
        for tokens in (1, *pick.sample(range(2, 7), 3))
    ]


SLOPE = Exercise(
    _slopes,
    _slope_truth,
    {
        "cut": Mistake(
            lambda theta, alpha, tokens: 2 * theta if tokens == 1 else 0.0,
            "That is what is left after state.detach(). The state itself carries the gradient on.",
            "それは state.detach() で切り離した場合の値です。状態そのものは、勾配を伝えます。",
        ),
        "one too many": Mistake(
            lambda theta, alpha, tokens: 2 * theta * (1 - alpha - 2 * theta) ** tokens,
            "One factor too many: after its own token, the first value passes tokens − 1 others.",
            "因子が1つ多くなっています。最初の値は、自分のトークンの後、残りの tokens − 1 個のトークンを通ります。",
        ),
        "no forgetting": Mistake(
            lambda theta, alpha, tokens: 2 * theta * (1 - 2 * theta) ** (tokens - 1),
            "Later tokens also forget: where is α?",
            "後のトークンでは忘却も起こります。α はどこにありますか。",
        ),
        "forgetting alone": Mistake(
            lambda theta, alpha, tokens: 2 * theta * (1 - alpha) ** (tokens - 1),
            "Later surprises depend on m too: each pulls m towards its own value, by 2θ.",
            "後の驚きも m によって変わります。どのトークンも、m を自分の値のほうへ 2θ の割合で引き寄せます。",
        ),
        "factor 2": Mistake(
            lambda theta, alpha, tokens: theta * (1 - alpha - theta) ** (tokens - 1),
            "The surprise is 2(m − v): the factor 2 is missing.",
            "驚きは 2(m − v) です。係数2がありません。",
        ),
        "sign": Mistake(
            lambda *case: -_slope_truth(*case),
            "The sign is flipped: a larger first value pulls m up.",
            "符号が逆です。最初の値が大きいほど、m は大きくなります。",
        ),
        "no first step": Mistake(
            lambda theta, alpha, tokens: (1 - alpha - 2 * theta) ** (tokens - 1),
            "The first token's own write is missing: it takes over 2θ of its value.",
            "最初のトークン自身の書き込みが抜けています。書き込まれるのは、値の 2θ 倍です。",
        ),
    },
    "Correct: autograd, through the carried state, says the same.",
    "正解です。引き継いだ状態を通した自動微分の値と一致しました。",
)
