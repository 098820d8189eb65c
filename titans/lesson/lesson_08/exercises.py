"""The exercises of lesson 08: the mask of a sliding window, the gate of MAG, and which explanations a table of
ablations leaves standing."""

from collections.abc import Callable, Iterable
from random import Random

import torch
from torch import Tensor

from titans.blocks import Combine
from titans.lesson.kit.draws import random_draw
from titans.lesson.kit.exercise import BOOLEANS, Exercise, Mistake

EPS_Y, EPS_READ = 1e-6, 1e-2  # what the two norms of exercise 2 add to the mean square

# Exercise 1: the mask of a sliding window.


def _window_cases(seed: int) -> list[tuple]:
    pick, cases = Random(seed), []
    for tokens in pick.sample(range(7, 12), 3):
        window, persistent = pick.sample(range(2, 6), 2)
        cases.append((tokens, window, persistent))
    return cases


def _window_truth(tokens: int, window: int, persistent: int) -> Tensor:
    """Row by row, what a token sees."""
    mask = torch.zeros(tokens, persistent + tokens, dtype=torch.bool)
    for i in range(tokens):
        seen = [i - back for back in range(window) if back <= i]
        mask[i, [*range(persistent), *(persistent + j for j in seen)]] = True
    return mask


def _window_with(sees: Callable[[Tensor, Tensor, int], Tensor]) -> Callable[..., Tensor]:
    """All persistent columns, and those tokens j that token i sees by another rule: sees(i, j, window)."""

    def mask(tokens: int, window: int, persistent: int) -> Tensor:
        place = torch.arange(tokens)
        return torch.cat((torch.ones(tokens, persistent), sees(place[:, None], place, window)), dim=1)

    return mask


def _band(tokens: int, columns: int, window: int, shift: int) -> Tensor:
    """[tokens, columns]: in row i the window that ends at column i + shift."""
    back = torch.arange(tokens)[:, None] + shift - torch.arange(columns)
    return (back >= 0) & (back < window)


def _not_shifted(tokens: int, window: int, persistent: int) -> Tensor:
    return _band(tokens, persistent + tokens, window, 0) | (torch.arange(persistent + tokens) < persistent)


def _hidden(tokens: int, window: int, persistent: int) -> Tensor:
    return _window_truth(tokens, window, persistent) & (torch.arange(persistent + tokens) >= persistent)


def _window_cell(case: tuple, row: int, column: int) -> tuple[str, str]:
    _, _, persistent = case
    seen = f"P_{column}" if column < persistent else f"x_{column - persistent}"
    return f"token {row} looks at {seen}", f"トークン{row}から見た {seen}"


WINDOW = Exercise(
    _window_cases,
    _window_truth,
    {
        "no window": Mistake(
            _window_with(lambda i, j, window: j <= i),
            "This is plain causal attention: nothing is ever forgotten. Where does the window end in the past?",
            "ふつうの因果的なアテンションで、過去がすべて見えています。ウィンドウは、過去のどこで終わるでしょうか。",
        ),
        "one too many": Mistake(
            _window_with(lambda i, j, window: (j <= i) & (j >= i - window)),
            "The window is one token too long: it holds the token itself and the window − 1 before it.",
            "ウィンドウが1トークン長すぎます。入るのは、自分自身とその前の window − 1 個です。",
        ),
        "one too few": Mistake(
            _window_with(lambda i, j, window: (j <= i) & (j > i - window + 1)),
            "The window is one token too short: with the token itself it holds `window` tokens.",
            "ウィンドウが1トークン短すぎます。自分自身を入れて window 個です。",
        ),
        "not itself": Mistake(
            _window_with(lambda i, j, window: (j < i) & (j >= i - window)),
            "A token does not see itself: the window ends with the token, not before it.",
            "トークンから自分自身が見えていません。ウィンドウの最後は、そのトークン自身です。",
        ),
        "both sides": Mistake(
            _window_with(lambda i, j, window: (i - j).abs() < window),
            "The window reaches as far to the right: a token sees what comes after it, which it has to predict.",
            "ウィンドウが右にも広がっていて、これから予測するはずの後ろのトークンが見えています。",
        ),
        "the future": Mistake(
            _window_with(lambda i, j, window: (j >= i) & (j < i + window)),
            "The window looks ahead: rows are the tokens that look, columns what they look at.",
            "ウィンドウが後ろのトークンに向いています。行が「見る側」のトークン、列が「見られる側」です。",
        ),
        "segments": Mistake(
            _window_with(lambda i, j, window: (j <= i) & (j // window == i // window)),
            "These are segments, as in MAC: the first token of a segment sees none before it. A window slides along "
            "with "
            "each token.",
            "MAC のようなセグメントになっていて、区切りの直後のトークンから前が見えません。"
            "ウィンドウはトークンとともに動きます。",
        ),
        "persistent tokens hidden": Mistake(
            _hidden,
            "Nobody sees the persistent tokens: their columns come first, and are open to all.",
            "永続トークンがどこからも見えません。その列は先頭にあり、すべてのトークンから見えます。",
        ),
        "persistent tokens slide out": Mistake(
            lambda tokens, window, persistent: _band(tokens, persistent + tokens, window, persistent),
            "The window is counted over the persistent columns too, so they slide out of sight after a few tokens. "
            "They stand beside the window, not in it.",
            "永続トークンの列までウィンドウに数えているので、数トークンで見えなくなります。"
            "永続トークンはウィンドウの中ではなく、ウィンドウとは別にあります。",
        ),
        "not shifted": Mistake(
            _not_shifted,
            "The window begins at the wrong column: token j stands behind all persistent ones, in column "
            "persistent + j.",
            "ウィンドウの列がずれています。トークン j は永続トークンの後ろ、persistent + j 列にあります。",
        ),
        "persistent tokens last": Mistake(
            lambda *case: _window_truth(*case).roll(-case[2], dims=1),
            "The persistent columns stand at the end: they come first, [P | x].",
            "永続トークンの列が後ろにあります。並びは [P | x] で、永続トークンが先です。",
        ),
        "no persistent columns": Mistake(
            lambda tokens, window, persistent: _window_truth(tokens, window, 0),
            "The columns of the persistent tokens are missing: they come first, and all tokens see them.",
            "永続トークンの列が抜けています。列は先頭にあり、どのトークンからも見えます。",
        ),
        "transposed": Mistake(
            lambda *case: _window_truth(*case).mT,
            "Rows and columns are exchanged: a row for each token that looks, a column for each that is looked at.",
            "行と列が逆です。「見る側」のトークンが行、「見られる側」が列です。",
        ),
        "inverted": Mistake(
            lambda *case: ~_window_truth(*case),
            "True and False are exchanged: True is what a token sees.",
            "True と False が入れ替わっています。トークンから見えるところが True です。",
        ),
    },
    "Correct: the window slides with the token, and the persistent tokens never leave it.",
    "正解です。ウィンドウはトークンとともに動き、永続トークンはいつでも見えます。",
    {"not finite": BOOLEANS, "type": BOOLEANS},
    _window_cell,
)


# Exercise 2: the gate.

Norm = Callable[[Tensor, float], Tensor]


def _gate_cases(seed: int) -> list[tuple]:
    """Branches of several sizes; most are so small that it matters what is added to their mean square."""
    draw, pick, cases = random_draw(seed), Random(seed), []
    for size_y, size_read in ((1.0, 0.05), (0.02, 0.1), (0.1, 1.0)):
        tokens, dim = pick.sample(range(3, 8), 2)
        y, read = size_y * draw(tokens, dim), size_read * draw(tokens, dim)
        cases.append((y, read, 1 + draw(dim) / 2, 1 + draw(dim) / 2))
    return cases


@torch.no_grad()
def _gate_truth(y: Tensor, read: Tensor, scale_y: Tensor, scale_read: Tensor) -> Tensor:
    """The library's own gate with these scales."""
    gate = Combine(y.shape[1]).double()
    gate.norm_attention.weight.copy_(scale_y)
    gate.norm_memory.weight.copy_(scale_read)
    return gate(y, read)


def _rms(x: Tensor, eps: float, over: int = -1) -> Tensor:
    return x / (x.square().mean(over, keepdim=True) + eps).sqrt()


def _raw(x: Tensor, eps: float) -> Tensor:
    return x


def _gate_with(
    join: Callable[[Tensor, Tensor], Tensor] = lambda a, b: a.sigmoid() * b,
    norm_y: Norm = _rms,
    norm_read: Norm = _rms,
    eps: tuple[float, float] = (EPS_Y, EPS_READ),
) -> Callable[..., Tensor]:
    """The gate with another way to join its branches, other norms, or other constants in them."""
    return lambda y, read, scale_y, scale_read: join(norm_y(y, eps[0]) * scale_y, norm_read(read, eps[1]) * scale_read)


def _gate_with_norm(norm: Norm) -> Callable[..., Tensor]:
    return _gate_with(norm_y=norm, norm_read=norm)


def _scaled_gate(y: Tensor, read: Tensor, scale_y: Tensor, scale_read: Tensor) -> Tensor:
    return _rms(y, EPS_Y).sigmoid() * scale_y * _rms(read, EPS_READ) * scale_read


ONE_EPS = (
    "Both norms add the same eps. The one for the read is larger on purpose: a memory that answers almost nothing "
    "is to stay quiet.",
    "2つの正規化に同じ eps を使っています。read 側の eps が大きいのには理由があります。"
    "ほとんど答えのないメモリの値を、大きく引き伸ばさないためです。",
)


GATE = Exercise(
    _gate_cases,
    _gate_truth,
    {
        "sigmoid on the read": Mistake(
            _gate_with(lambda a, b: a * b.sigmoid()),
            "The sigmoid stands on the wrong branch: here the memory gates attention. In this library attention opens "
            "the gate, and what passes through it is the read.",
            "シグモイドを掛ける側が逆で、メモリがアテンションのゲートになっています。このライブラリでは、"
            "アテンションがゲートを開き、そこをメモリの読み出しが通ります。",
        ),
        "sigmoid on both": Mistake(
            _gate_with(lambda a, b: a.sigmoid() * b.sigmoid()),
            "Both branches went through a sigmoid. Only the gate is squashed: what passes it keeps its sign and size.",
            "両方にシグモイドを掛けています。ゲートを通るほうは、符号も大きさも残します。シグモイドは片方だけです。",
        ),
        "no sigmoid": Mistake(
            _gate_with(lambda a, b: a * b),
            "A product without a gate: nothing keeps the factor between 0 and 1.",
            "積だけで、ゲートがありません。このままでは、掛ける数が0から1の間に収まりません。",
        ),
        "tanh": Mistake(
            _gate_with(lambda a, b: a.tanh() * b),
            "tanh goes from −1 to 1, so it can turn the sign of what passes. A gate that is shut gives 0: "
            "take the sigmoid.",
            "tanh は−1から1までの値をとり、通るものの符号を反転させることがあります。ゲートはシグモイドです。",
        ),
        "silu": Mistake(
            _gate_with(lambda a, b: a * a.sigmoid() * b),
            "That is SiLU, x · σ(x), which grows without bound. A gate is the sigmoid alone, between 0 and 1.",
            "それは SiLU、x · σ(x) で、いくらでも大きくなります。ゲートは、0から1の間のシグモイドだけです。",
        ),
        "sum": Mistake(
            _gate_with(lambda a, b: a.sigmoid() + b),
            "The branches are added. A gate multiplies: it decides for each feature how much of the read passes.",
            "2つを足しています。ゲートは掛け算です。読み出しをどれだけ通すかを、成分ごとに決めます。",
        ),
        "y not normalised": Mistake(
            _gate_with(norm_y=_raw),
            "y is not normalised: how far the gate opens would depend on how large attention's output happens to be.",
            "y が正規化されていません。これでは、ゲートの開き方がアテンションの出力の大きさで変わってしまいます。",
        ),
        "read not normalised": Mistake(
            _gate_with(norm_read=_raw),
            "The read is not normalised: both branches have a norm of their own.",
            "読み出し（read）が正規化されていません。正規化は2つの枝のそれぞれにあります。",
        ),
        "scales swapped": Mistake(
            lambda y, read, scale_y, scale_read: _gate_truth(y, read, scale_read, scale_y),
            "The scales are exchanged: each belongs to the norm of its own branch.",
            "スケールが入れ替わっています。それぞれ、自分の枝の正規化に付くものです。",
        ),
        "scale outside": Mistake(
            _scaled_gate,
            "scale_y is multiplied after the sigmoid, so the gate may exceed 1. It belongs to the norm, inside.",
            "scale_y をシグモイドの後で掛けているので、ゲートが1を超えます。正規化の一部として、内側で掛けます。",
        ),
        "over tokens": Mistake(
            _gate_with_norm(lambda x, eps: _rms(x, eps, over=0)),
            "The mean goes over the tokens, so a token's gate depends on later ones. Each token is normalised "
            "by itself, over its features.",
            "平均をトークン方向にとっているので、ゲートが後ろのトークンの影響を受けます。"
            "正規化はトークンごとに、成分の方向で行います。",
        ),
        "length": Mistake(
            _gate_with_norm(lambda x, eps: x / (x.square().sum(-1, keepdim=True) + eps).sqrt()),
            "This makes every token's length 1. RMS divides by the root of the mean square, not of the sum.",
            "各トークンの長さを1にしています。RMS で割るのは、2乗の和ではなく、2乗の平均の平方根です。",
        ),
        "mean subtracted": Mistake(
            _gate_with_norm(lambda x, eps: _rms(x - x.mean(-1, keepdim=True), eps)),
            "The mean is subtracted first: that is LayerNorm. RMS norm only divides.",
            "先に平均を引いています。それはレイヤー正規化（LayerNorm）です。RMS 正規化は割るだけです。",
        ),
        "one eps, small": Mistake(_gate_with(eps=(EPS_Y, EPS_Y)), *ONE_EPS),
        "one eps, large": Mistake(_gate_with(eps=(EPS_READ, EPS_READ)), *ONE_EPS),
        "eps swapped": Mistake(
            _gate_with(eps=(EPS_READ, EPS_Y)),
            "The two eps are exchanged: the larger one belongs to the read.",
            "2つの eps が入れ替わっています。大きいほうが、読み出し（read）の側です。",
        ),
        "no eps": Mistake(
            _gate_with(eps=(0, 0)),
            "eps is missing: without it a read close to zero is blown up to full size.",
            "eps がありません。これでは、0に近い読み出しまで、ふつうの大きさに引き伸ばされます。",
        ),
        "eps outside the root": Mistake(
            _gate_with_norm(lambda x, eps: x / (x.square().mean(-1, keepdim=True).sqrt() + eps)),
            "eps is added after the root. It belongs to the mean square, under the root.",
            "eps を平方根の後で足しています。平方根の中で、2乗の平均に足します。",
        ),
    },
    "Correct: attention opens the gate feature by feature, and a read that says little passes as little.",
    "正解です。アテンションが成分ごとにゲートを開き、ほとんど答えのない読み出しは小さいまま通ります。",
)


# Exercise 3: which explanations survive a table of ablations.

PARTS = ("attention", "h", "convolution", "momentum", "forgetting", "gate", "residual", "persistent tokens")
Fits = Callable[[str, str], bool]
Survives = Callable[[float, dict[str, float], float, dict[str, dict[str, str]]], list[bool]]


def _table(pick: Random) -> tuple[float, dict[str, float], float, dict[str, str]]:
    """full, rows, spread, and a part for each thing that can come out, the last of which is not measured."""
    full, spread = round(pick.uniform(0.6, 0.75), 2), round(pick.uniform(0.03, 0.06), 2)
    far, near = (lambda: spread * pick.uniform(1.2, 1.6)), (lambda: spread * pick.uniform(0.75, 0.9))
    changes = {"worse": -far() - 0.1, "as bad": -far(), "lower": -near(), "higher": near(), "better": far()}
    part = dict(zip((*changes, "unmeasured"), pick.sample(PARTS, len(changes) + 1), strict=True))
    rows = [(part[kind], round(full + change, 3)) for kind, change in changes.items()]
    return full, dict(pick.sample(rows, len(rows))), spread, part


def _survives_cases(seed: int) -> list[tuple]:
    """Explanations on each of which another slip goes wrong, dealt out to two tables, and some more to a third."""
    pick = Random(seed)
    decisive = [
        {"lower": "worse", "worse": "worse"},
        {"higher": "same"},
        {"worse": "same"},
        {"better": "same", "as bad": "worse"},
        {"better": "worse"},
        {"unmeasured": "worse"},
        {"unmeasured": "same", "as bad": "worse"},
        {"worse": "worse", "as bad": "worse", "lower": "same"},
    ]
    dealt, cases = pick.sample(decisive, len(decisive)), []
    for explanations in (dealt[:4], dealt[4:], pick.sample(decisive, 5)):
        full, rows, spread, part = _table(pick)
        claims = {
            name: {part[kind]: said for kind, said in pick.sample(list(predicted.items()), len(predicted))}
            for name, predicted in zip("ABCDE", explanations, strict=False)
        }
        cases.append((full, rows, spread, claims))
    return cases


def _outcome(full: float, rows: dict[str, float], spread: float, part: str) -> str:
    """What came out without a part: "worse", "same", "better", or "" where that was not measured."""
    if part not in rows:
        return ""
    change = rows[part] - full
    return "same" if abs(change) <= spread else "worse" if change < 0 else "better"


def _fits(said: str, came: str) -> bool:
    return came in (said, "")


def _survives_with(
    fits: Fits = _fits, enough: Callable[[Iterable[bool]], bool] = all, spreads: float = 1.0
) -> Survives:
    """For each explanation whether `enough` of its predictions fit what came out."""

    def survives(full: float, rows: dict, spread: float, claims: dict) -> list[bool]:
        return [
            enough(fits(said, _outcome(full, rows, spreads * spread, part)) for part, said in predicted.items())
            for predicted in claims.values()
        ]

    return survives


def _facts(case: tuple) -> dict[str, str]:
    """What decides on each explanation: the table's rows, and what it predicts."""
    full, rows, spread, claims = case
    table = f"full = {full}, spread = {spread}, rows = {rows}"
    return {name: f"{table}, claims[{name!r}] = {predicted}" for name, predicted in claims.items()}


ONE_SUFFICES = (
    "You let one fulfilled prediction suffice. An explanation falls with the first that fails: look at all of them.",
    "予想が1つ当たれば十分だとしています。説明は、予想が1つ外れただけで退けられます。すべての予想を見てください。",
)
UNMEASURED = (
    "A part that was never taken out speaks against nothing: for it there is no result, neither good nor bad.",
    "一度も外していない要素は、どの説明の反証にもなりません。結果がないのであって、"
    "良い結果でも悪い結果でもありません。",
)


SURVIVES = Exercise(
    _survives_cases,
    _survives_with(),
    {
        "ignores the spread": Mistake(
            _survives_with(spreads=0),
            "You count every difference. Another seed alone makes one of `spread`: what is smaller says nothing.",
            "どんな差も数えています。シードを変えるだけでも spread ほどの差は出ます。"
            "それより小さい差からは何も言えません。",
        ),
        "one suffices": Mistake(_survives_with(enough=any), *ONE_SUFFICES),
        "one measured suffices": Mistake(_survives_with(lambda said, came: said == came, any), *ONE_SUFFICES),
        "same ignored": Mistake(
            _survives_with(lambda said, came: said == "same" or _fits(said, came)),
            'You never test "same". It is a prediction too, and fails when something changes.',
            '"same" を調べていません。「変わらない」も予想であり、変化があれば外れます。',
        ),
        "worse ignored": Mistake(
            _survives_with(lambda said, came: said == "worse" or _fits(said, came)),
            'You never test "worse". It fails when the model does as well without the part.',
            '"worse" を調べていません。要素を外しても正解率が下がらなければ、この予想は外れです。',
        ),
        "better counts as same": Mistake(
            _survives_with(lambda said, came: _fits(said, came) or (said, came) == ("same", "better")),
            "You count better as same. A part without which the model improves does something, if only harm: "
            "the spread has two sides.",
            '良くなった場合も "same" としています。外すと良くなる要素は、害という形であれ、何かをしています。'
            "spread には上下の両側があります。",
        ),
        "better counts as worse": Mistake(
            _survives_with(lambda said, came: _fits(said, came) or (said, came) == ("worse", "better")),
            "You count every large difference as worse. Look at its direction too.",
            '大きな差をすべて "worse" としています。差の向きも見てください。',
        ),
        "unmeasured contradicts": Mistake(_survives_with(lambda said, came: said == came), *UNMEASURED),
        "unmeasured as full": Mistake(_survives_with(lambda said, came: said == (came or "same")), *UNMEASURED),
        "unmeasured as zero": Mistake(_survives_with(lambda said, came: said == (came or "worse")), *UNMEASURED),
        "the refuted": Mistake(
            lambda *case: [not stands for stands in _survives_with()(*case)],
            "These are the explanations that fell. Asked for are those that no result contradicts.",
            "それは退けられた説明です。たずねているのは、どの結果とも矛盾しない説明です。",
        ),
        "all of them": Mistake(
            lambda full, rows, spread, claims: [True] * len(claims),
            "No explanation ever falls. Which result would you not expect if it were true?",
            "どの説明も退けられていません。その説明が正しければ出ないはずの結果は、どれでしょうか。",
        ),
    },
    "Correct. What survives is not proved: it has only not been contradicted yet, and there may be several.",
    "正解です。残った説明も、証明されたわけではありません。まだ反証されていないだけで、いくつも残ることがあります。",
    names=_facts,
)
