"""Titans' relatives, each as a plain loop and as parameters of one matrix memory of the library: a ladder on which each
rung changes one thing of the one before, and what each change is good for on small streams.

Loops take tokens in order, q, k, v [tokens, dim], and one number a token for each gate. M is [dim, dim], y_t = M_t q_t.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad

from titans.chunked import chunked_scan
from titans.lesson.kit.cards import columns, space
from titans.lesson.kit.draws import random_draw
from titans.lesson.kit.host import say
from titans.memory import DeepMemory
from titans.recurrence import recurrent_scan
from titans.scan import Gates
from titans.state import MemoryState

Net = Callable[[Tensor, Tensor], Tensor]  # weights and a vector -> what the inner model makes of it
Gate = Tensor | float


# ---- The loops -------------------------------------------------------------------------------------------------------


def linear_attention(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, keep: Tensor) -> Tensor:
    """M_t = keep_t M_{t-1} + beta_t v_t k_t^T: linear attention with keep = 1, else with a scalar gate (Mamba-2)."""
    M, y = torch.zeros(v.shape[1], k.shape[1], dtype=k.dtype), []
    for t in range(len(k)):
        M = keep[t] * M + beta[t] * torch.outer(v[t], k[t])
        y.append(M @ q[t])
    return torch.stack(y)


def delta_rule(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, keep: Tensor) -> Tensor:
    """M_t = M + beta_t (v_t - M k_t) k_t^T with M = keep_t M_{t-1}: DeltaNet with keep = 1, else Gated DeltaNet."""
    M, y = torch.zeros(v.shape[1], k.shape[1], dtype=k.dtype), []
    for t in range(len(k)):
        M = keep[t] * M
        M = M + beta[t] * torch.outer(v[t] - M @ k[t], k[t])
        y.append(M @ q[t])
    return torch.stack(y)


def longhorn(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, diagonal: bool = False) -> Tensor:
    """M_t is where |M - M_{t-1}|^2 + beta_t |M k_t - v_t|^2 is least, solved as d equations.

    diagonal: k k^T replaced by its diagonal, as Longhorn's released layer computes it.
    """
    M, y = torch.zeros(v.shape[1], k.shape[1], dtype=k.dtype), []
    for t in range(len(k)):
        if diagonal:
            step = beta[t] / (1 + beta[t] * k[t] @ k[t])
            M = M * (1 - step * k[t].square()) + step * torch.outer(v[t], k[t])
        else:
            left = torch.eye(len(k[t]), dtype=k.dtype) + beta[t] * torch.outer(k[t], k[t])
            M = torch.linalg.solve(left, (M + beta[t] * torch.outer(v[t], k[t])).mT).mT
        y.append(M @ q[t])
    return torch.stack(y)


def ttt(q: Tensor, k: Tensor, v: Tensor, eta: Tensor, batch: int, net: Net, M: Tensor) -> Tensor:
    """Test-time training: M_t = M_{t-1} - eta_t grad |net(M', k_t) - v_t|^2, M' being where the mini-batch began."""
    surprise, start, y = grad(lambda W, k, v: (net(W, k) - v).square().sum()), M, []
    for t in range(len(k)):
        start = M if t % batch == 0 else start
        M = M - eta[t] * surprise(start, k[t], v[t])
        y.append(net(M, q[t]))
    return torch.stack(y)


def titans_loop(q: Tensor, k: Tensor, v: Tensor, theta: Tensor, eta: Tensor, alpha: Tensor) -> Tensor:
    """Equations 13 to 15 for a matrix: S_t = eta_t S_{t-1} - theta_t u_t, M_t = (1 - alpha_t) M_{t-1} + S_t."""
    M = S = torch.zeros(v.shape[1], k.shape[1], dtype=k.dtype)
    y = []
    for t in range(len(k)):
        S = eta[t] * S - theta[t] * torch.outer(2 * (M @ k[t] - v[t]), k[t])
        M = (1 - alpha[t]) * M + S
        y.append(M @ q[t])
    return torch.stack(y)


def matrix(W: Tensor, x: Tensor) -> Tensor:
    """The plain inner model, W x."""
    return W @ x


def wrapped(scale: Gate = 1.0, shift: Gate = 0.0, bias: Gate = 0.0) -> Net:
    """TTT-Linear's inner model, x + LN(W x + bias), the norm with a scale and a shift of its own."""

    def net(W: Tensor, x: Tensor) -> Tensor:
        return x + scale * F.layer_norm(W @ x + bias, x.shape) + shift

    return net


# ---- The library -----------------------------------------------------------------------------------------------------


def one_matrix(dim: int, residual: bool = False) -> DeepMemory:
    """The library's memory of depth 1, M(x) = W x, or with a residual M(x) = x + LN(W x)."""
    return DeepMemory(dim, depth=1, residual=residual).double()


def titans(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    theta: Tensor,
    eta: Gate = 0.0,
    alpha: Gate = 0.0,
    chunk: int = 1,
    M: Tensor | None = None,
    residual: bool = False,
) -> Tensor:
    """What the library reads, [tokens, dim], from a matrix memory that starts at M (or at zero)."""
    memory = one_matrix(k.shape[1], residual)
    start = torch.zeros(k.shape[1], k.shape[1], dtype=k.dtype) if M is None else M
    weights = (start[None, None],)
    state = MemoryState(weights, weights, signature=memory.signature)
    gates = Gates(*((torch.as_tensor(gate, dtype=k.dtype) + 0 * theta)[None, None] for gate in (theta, eta, alpha)))
    q, k, v = (x[None, None] for x in (q, k, v))
    return chunked_scan(memory, state, q, k, v, gates, chunk)[0][0, 0].detach()


def from_gated_delta(beta: Tensor, alpha: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """theta, alpha and values with which Titans is Gated DeltaNet of step beta that keeps 1 - alpha. alpha < 1."""
    return beta * (1 - alpha) / 2, alpha, v / (1 - alpha)[:, None]


# ---- The ladder ------------------------------------------------------------------------------------------------------


class Example(NamedTuple):
    """Random tokens and gates to try the rungs on."""

    q: Tensor  # [tokens, dim], about unit length, like k and v
    k: Tensor
    v: Tensor
    beta: Tensor  # [tokens], a step
    alpha: Tensor  # [tokens], what is forgotten
    eta: Tensor  # [tokens], momentum
    M: Tensor  # [dim, dim], an M_0 that is not zero
    scale: Tensor  # [dim], of a norm
    shift: Tensor  # [dim], of a norm, and the inner model's bias


def example(tokens: int = 24, dim: int = 8, seed: int = 0) -> Example:
    """Gates in their usual ranges: steps 0.1 to 0.9, a forgetting of up to 0.2, momentum up to 0.9."""
    draw = random_draw(seed)
    q, k, v = draw(3, tokens, dim) / dim**0.5
    gates = draw(3, tokens).sigmoid()
    M, (scale, shift) = draw(dim, dim) / dim**0.5, draw(2, dim)
    return Example(q, k, v, 0.1 + 0.8 * gates[0], 0.2 * gates[1], 0.9 * gates[2], M, 1 + scale / 4, shift / 4)


def relative_error(have: Tensor, want: Tensor) -> float:
    """|have - want| / |want|."""
    return float((have - want).norm() / want.norm())


Run = Callable[[Example], Tensor]


class Rung(NamedTuple):
    """One relative: its loop, the library with the parameters that make it the same, and with the newest left out."""

    names: tuple[str, str]
    changes: tuple[str, str]  # what differs from the rung before
    loop: Run
    library: Run
    left_out: Run

    @property
    def name(self) -> str:
        return say(*self.names)


BATCH = 6  # tokens of a mini-batch of TTT

LADDER = [
    Rung(
        ("linear attention", "線形アテンション"),
        ("one chunk, M_0 = 0, theta = 1/2", "チャンク1つ、M_0 = 0、theta = 1/2"),
        lambda e: linear_attention(e.q, e.k, e.v, torch.ones_like(e.beta), torch.ones_like(e.beta)),
        lambda e: titans(e.q, e.k, e.v, torch.full_like(e.beta, 0.5), chunk=len(e.k)),
        lambda e: titans(e.q, e.k, e.v, torch.ones_like(e.beta), chunk=len(e.k)),
    ),
    Rung(
        ("gated (Mamba-2)", "ゲート付き（Mamba-2）"),
        ("alpha = 1 - keep, theta = beta / 2", "alpha = 1 - keep、theta = beta / 2"),
        lambda e: linear_attention(e.q, e.k, e.v, e.beta, 1 - e.alpha),
        lambda e: titans(e.q, e.k, e.v, e.beta / 2, alpha=e.alpha, chunk=len(e.k)),
        lambda e: titans(e.q, e.k, e.v, e.beta / 2, chunk=len(e.k)),
    ),
    Rung(
        ("DeltaNet", "DeltaNet"),
        ("chunks of 1, alpha = 0", "チャンクは1トークン、alpha = 0"),
        lambda e: delta_rule(e.q, e.k, e.v, e.beta, torch.ones_like(e.beta)),
        lambda e: titans(e.q, e.k, e.v, e.beta / 2),
        lambda e: titans(e.q, e.k, e.v, e.beta / 2, chunk=len(e.k)),
    ),
    Rung(
        ("Longhorn", "Longhorn"),
        ("theta = beta / 2(1 + beta |k|^2)", "theta = beta / 2(1 + beta |k|^2)"),
        lambda e: longhorn(e.q, e.k, e.v, e.beta),
        lambda e: titans(e.q, e.k, e.v, e.beta / (1 + e.beta * e.k.square().sum(1)) / 2),
        lambda e: titans(e.q, e.k, e.v, e.beta / 2),
    ),
    Rung(
        ("Gated DeltaNet", "Gated DeltaNet"),
        ("theta = keep beta / 2, v / keep", "theta = keep beta / 2、v / keep"),
        lambda e: delta_rule(e.q, e.k, e.v, e.beta, 1 - e.alpha),
        lambda e: _gated_delta(e, *from_gated_delta(e.beta, e.alpha, e.v)),
        lambda e: _gated_delta(e, e.beta / 2, e.alpha, e.v),
    ),
    Rung(
        ("TTT, a matrix", "TTT（行列）"),
        (f"chunks of {BATCH}, own M_0, alpha = 0", f"チャンクは{BATCH}トークン、M_0、alpha = 0"),
        lambda e: ttt(e.q, e.k, e.v, e.beta / 2, BATCH, matrix, e.M),
        lambda e: titans(e.q, e.k, e.v, e.beta / 2, chunk=BATCH, M=e.M),
        lambda e: titans(e.q, e.k, e.v, e.beta / 2, M=e.M),
    ),
    Rung(
        ("TTT-Linear's norm", "TTT-Linear の正規化"),
        ("residual=True: x + LN(M x)", "residual=True：x + LN(M x)"),
        lambda e: ttt(e.q, e.k, e.v, e.beta / 2, BATCH, wrapped(), e.M),
        lambda e: titans(e.q, e.k, e.v, e.beta / 2, chunk=BATCH, M=e.M, residual=True),
        lambda e: titans(e.q, e.k, e.v, e.beta / 2, chunk=BATCH, M=e.M),
    ),
    Rung(
        ("Titans, a matrix", "Titans（行列）"),
        ("eta and alpha on, chunks of 1", "eta と alpha、チャンクは1トークン"),
        lambda e: titans_loop(e.q, e.k, e.v, e.beta / 2, e.eta, e.alpha),
        lambda e: titans(e.q, e.k, e.v, e.beta / 2, e.eta, e.alpha),
        lambda e: titans(e.q, e.k, e.v, e.beta / 2, 0.0, e.alpha),
    ),
]


def _gated_delta(e: Example, theta: Tensor, alpha: Tensor, v: Tensor) -> Tensor:
    return titans(e.q, e.k, v, theta, alpha=alpha)


# ---- TTT-Linear: what is a special case ------------------------------------------------------------------------------


def _one_scale(e: Example) -> Tensor:
    """The library as x + g LN(W x) + s, one number g: the loss is g^2 |LN(W k) - (v - k - s) / g|^2."""
    g, s = e.scale.mean(), e.shift
    y = titans(e.q, e.k, e.k + (e.v - e.k - s) / g, g**2 * e.beta / 2, M=e.M, residual=True)
    return e.q + g * (y - e.q) + s


def _with_ones(e: Example) -> Tensor:
    """The library as W x + b: a feature that is always 1 in keys and queries, its column of M being b."""
    q, k = (F.pad(x, (0, 1), value=1.0) for x in (e.q, e.k))
    M = F.pad(e.M, (0, 1, 0, 1))
    return titans(q, k, F.pad(e.v, (0, 1)), e.beta / 2, M=M)[:, :-1]


def _bias_learns(net: Callable[[Tensor, Tensor, Tensor], Tensor], batch: int = 1) -> Run:
    """The loop of an inner model whose bias is written as its matrix is, from zero."""

    def run(e: Example) -> Tensor:
        def whole(W: Tensor, x: Tensor) -> Tensor:
            return net(W[:, :-1], W[:, -1], x)

        return ttt(e.q, e.k, e.v, e.beta / 2, batch, whole, F.pad(e.M, (0, 1)))

    return run


class TTTLinear:
    """TTT-Linear's inner model as a memory that `recurrent_scan` takes: M(x) = x + scale LN(W x + b) + shift.

    W and b are written; scale and shift, [dim], stay what the outer loop made them.
    """

    heads = 1

    def __init__(self, M: Tensor, scale: Tensor, shift: Tensor) -> None:
        self.dim = len(scale)
        self.scale, self.shift = scale, shift
        self.first = (M[None], torch.zeros_like(shift)[None, None])
        self.shapes = [weight.shape for weight in self.first]
        self.signature = f"TTT-Linear {self.dim}"

    def initial_state(self, batch: int) -> MemoryState:
        weights = tuple(weight.expand(batch, *weight.shape).clone() for weight in self.first)
        return MemoryState(weights, weights, signature=self.signature)

    def read(self, weights: Sequence[Tensor], x: Tensor) -> Tensor:
        W, b = weights
        return x + self.scale * F.layer_norm(x @ W.mT + b, (self.dim,)) + self.shift


def _own_memory(e: Example) -> Tensor:
    memory, zero = TTTLinear(e.M, e.scale, e.shift), 0 * e.beta
    gates = Gates(*(gate[None, None] for gate in (e.beta / 2, zero, zero)))
    q, k, v = (x[None, None] for x in (e.q, e.k, e.v))
    return recurrent_scan(memory, memory.initial_state(1), q, k, v, gates, BATCH)[0][0, 0]


def _ttt_with(net: Net, batch: int = 1, zero: bool = False) -> Run:
    return lambda e: ttt(e.q, e.k, e.v, e.beta / 2, batch, net, 0 * e.M if zero else e.M)


def _titans_with(chunk: int = 1, zero: bool = False, residual: bool = False) -> Run:
    return lambda e: titans(e.q, e.k, e.v, e.beta / 2, chunk=chunk, M=None if zero else e.M, residual=residual)


TTT_PARTS = [
    Rung(
        ("mini-batches", "ミニバッチ"),
        (f"chunks of {BATCH}", f"チャンクは{BATCH}トークン"),
        _ttt_with(matrix, BATCH),
        _titans_with(BATCH),
        _titans_with(),
    ),
    Rung(
        ("a learned start", "学習された出発点"),
        ("M_0", "M_0"),
        _ttt_with(matrix),
        _titans_with(),
        _titans_with(zero=True),
    ),
    Rung(
        ("a bias", "バイアス"),
        ("a feature 1 in k and q, 0 in v", "k と q に1、v に0の成分を足す"),
        _bias_learns(lambda W, b, x: W @ x + b),
        _with_ones,
        _titans_with(),
    ),
    Rung(
        ("x + LN(W x)", "x + LN(W x)"),
        ("residual=True", "residual=True"),
        _ttt_with(wrapped()),
        _titans_with(residual=True),
        _titans_with(),
    ),
    Rung(
        ("LN with one scale, an offset", "LN に1つの倍率とずれ"),
        ("theta, v and y changed", "theta、v、y を変える"),
        lambda e: _ttt_with(wrapped(e.scale.mean(), e.shift))(e),
        _one_scale,
        _titans_with(residual=True),
    ),
    Rung(
        ("LN with a scale per feature", "LN に成分ごとの倍率"),
        ("none: the mean taken instead", "設定なし（平均で代用）"),
        lambda e: _ttt_with(wrapped(e.scale, e.shift))(e),
        _one_scale,
        _titans_with(residual=True),
    ),
    Rung(
        ("LN around a bias", "LN の内側のバイアス"),
        ("none: left out", "設定なし（外す）"),
        _bias_learns(lambda W, b, x: x + F.layer_norm(W @ x + b, x.shape)),
        _titans_with(residual=True),
        _titans_with(residual=True),
    ),
    Rung(
        ("all of TTT-Linear", "TTT-Linear のすべて"),
        ("a memory of your own", "自分で書いたメモリ"),
        lambda e: _bias_learns(lambda W, b, x: wrapped(e.scale, e.shift, b)(W, x), BATCH)(e),
        _own_memory,
        _titans_with(BATCH, residual=True),
    ),
]


class Row(NamedTuple):
    """How far the library is from a rung's loop with its parameters, and without what changed."""

    rung: Rung
    error: float
    left_out: float


def ladder(rungs: list[Rung] = LADDER, seed: int = 0) -> list[Row]:
    """Every rung measured on an example."""
    e, rows = example(seed=seed), []
    for rung in rungs:
        want = rung.loop(e)
        errors = [relative_error(run(e), want) for run in (rung.library, rung.left_out)]
        rows.append(Row(rung, *errors))
    return rows


def table(rows: list[Row]) -> str:
    """The rows of a ladder: name, what changes, the error with it and without it."""
    heads = [
        say("relative", "モデル"),
        say("what changes", "変えるところ"),
        say("error", "誤差"),
        say("without", "変えないと"),
    ]
    cells = [heads]
    for row in rows:
        exact = say("exact", "一致") if row.error < 1e-12 else f"{row.error:.1%}"
        cells.append([row.rung.name, say(*row.rung.changes), exact, f"{row.left_out:.1%}"])
    return _aligned(cells, left=2)


def _aligned(cells: list[list[str]], left: int) -> str:
    """Lines of cells, the first `left` columns from the left, the others from the right."""
    widths = [max(columns(row[n]) for row in cells) for n in range(len(cells[0]))]
    lines = []
    for row in cells:
        parts = [
            cell + space(cell, width) if n < left else space(cell, width) + cell
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def ghost(alpha: float, same_gates: bool = True, dim: int = 8) -> float:
    """A pair is told, then its key with another value, forgetting `alpha`, beta = 1: how much of the first value the
    answer still has. Same gates: theta = beta / 2 and v as they are; else those of `from_gated_delta`."""
    k, old, new = torch.eye(dim, dtype=torch.float64)[:3]
    keys, v = torch.stack((k, k)), torch.stack((old, new))
    beta, forget = torch.ones(2, dtype=torch.float64), torch.tensor([0.0, alpha], dtype=torch.float64)
    theta, forget, v = (beta / 2, forget, v) if same_gates else from_gated_delta(beta, forget, v)
    return float(titans(keys, keys, v, theta, alpha=forget)[1] @ old)


def same_gates(alpha: float, seed: int = 0) -> float:
    """How far Titans with theta = beta / 2 and the same alpha, one number for all tokens, is from Gated DeltaNet."""
    e = example(seed=seed)
    e = e._replace(alpha=torch.full_like(e.alpha, alpha))
    rung = next(rung for rung in LADDER if rung.names[0] == "Gated DeltaNet")
    return relative_error(rung.left_out(e), rung.loop(e))


# ---- What each rung is good for --------------------------------------------------------------------------------------


class Told(NamedTuple):
    """Several streams of pairs, and what is asked after the last."""

    k: Tensor  # [seeds, tokens, dim]
    v: Tensor
    q: Tensor  # [seeds, questions, dim]
    wanted: Tensor


SEEDS, DIM = 40, 16  # the first half of the streams chooses the gates, the second is measured


def _pairs(draw: Callable[..., Tensor], count: int) -> tuple[Tensor, Tensor]:
    k, v = F.normalize(draw(2, SEEDS, count, DIM), dim=-1)
    return k, v


def few(seed: int = 0) -> Told:
    """Eight pairs told once, all asked."""
    k, v = _pairs(random_draw(seed), 8)
    return Told(k, v, k, v)


def retold(seed: int = 1) -> Told:
    """Eight keys told, then told again in turn with other values, which are asked."""
    draw = random_draw(seed)
    k, old = _pairs(draw, 8)
    _, new = _pairs(draw, 8)
    return Told(torch.cat((k, k), 1), torch.cat((old, new), 1), k, new)


def uneven(seed: int = 1) -> Told:
    """The same, with keys of lengths 0.5 to 3."""
    told = retold(seed)
    lengths = (0.5 + 2.5 * torch.linspace(0, 1, 8, dtype=torch.float64))[:, None]
    return told._replace(k=told.k * lengths.repeat(2, 1), q=told.q * lengths)


def only_new(seed: int = 1) -> Told:
    """The second half of `retold` alone: the same questions, and no old value that could be in the way."""
    told = retold(seed)
    return told._replace(k=told.q, v=told.wanted)


def crowded(seed: int = 2, last: int = 64) -> Told:
    """64 pairs, four times as many as dimensions, told once; the last so many are asked."""
    k, v = _pairs(random_draw(seed), 64)
    return Told(k, v, k[:, -last:], v[:, -last:])


def recent(seed: int = 2) -> Told:
    """The same, the last eight asked."""
    return crowded(seed, 8)


def drifting(seed: int = 3, tokens: int = 64, turn: float = 0.2) -> Told:
    """v = R_t k with a matrix R_t that turns a little with every token; new keys are asked for the last of them."""
    draw = random_draw(seed)
    R, _ = torch.linalg.qr(draw(SEEDS, DIM, DIM))
    k, q = F.normalize(draw(SEEDS, tokens, DIM), dim=-1), F.normalize(draw(SEEDS, 8, DIM), dim=-1)
    values = []
    for t in range(tokens):
        step = turn * draw(SEEDS, DIM, DIM) / DIM**0.5
        R = torch.linalg.matrix_exp((step - step.mT) / 2) @ R
        values.append((R @ k[:, t, :, None])[..., 0])
    return Told(k, torch.stack(values, 1), q, q @ R.mT)


def noisy(seed: int = 4, times: int = 8, noise: float = 1.0) -> Told:
    """Eight pairs told eight times, each value with noise of its own, as long as itself; the clean values are asked."""
    draw = random_draw(seed)
    k, v = _pairs(draw, 8)
    heard = v.repeat(1, times, 1) + noise / DIM**0.5 * draw(SEEDS, 8 * times, DIM)
    return Told(k.repeat(1, times, 1), heard, k, v)


STREAMS: dict[tuple[str, str], Callable[[], Told]] = {
    ("few", "少数"): few,
    ("retold", "言い直し"): retold,
    ("uneven", "長さ不揃い"): uneven,
    ("crowded", "多数"): crowded,
    ("recent", "最後の8つ"): recent,
    ("drifting", "変化"): drifting,
    ("noisy", "雑音"): noisy,
}


class Setting(NamedTuple):
    """A rung's gates to choose from, one number for all tokens each, and how Titans is run with them."""

    betas: tuple[float, ...]
    alphas: tuple[float, ...] = (0.0,)
    etas: tuple[float, ...] = (0.0,)
    chunk: int = 1  # 0: the whole stream
    kind: str = ""  # "Gated DeltaNet" or "Longhorn": whose theta and values are handed over


BETAS = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 3 / 4, 1.0)
ALPHAS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2)
ETAS = (0.0, 0.5, 0.9)
SETTINGS: dict[tuple[str, str], Setting] = {
    ("linear attention", "線形アテンション"): Setting(BETAS, chunk=0),
    ("gated (Mamba-2)", "ゲート付き（Mamba-2）"): Setting(BETAS, ALPHAS, chunk=0),
    ("DeltaNet", "DeltaNet"): Setting(BETAS),
    ("Longhorn", "Longhorn"): Setting((*BETAS, 2.0, 4.0, 8.0, 16.0), kind="Longhorn"),
    ("Gated DeltaNet", "Gated DeltaNet"): Setting(BETAS, ALPHAS, kind="Gated DeltaNet"),
    ("TTT, chunks of 8", "TTT、8トークン"): Setting(BETAS, chunk=8),
    ("Titans, eta = 0", "Titans、eta = 0"): Setting(BETAS, ALPHAS),
    ("Titans", "Titans"): Setting(BETAS, ALPHAS, ETAS),
}


@lru_cache(maxsize=128)
def recall_error(setting: Setting, stream: Callable[[], Told]) -> tuple[float, tuple[float, float, float]]:
    """The mean |answer - wanted|^2 over the second half of the streams, with the gates (beta, alpha, eta) that the
    first half chose. 1 is what no answer costs where the wanted have length 1."""
    told = stream()
    grid = torch.cartesian_prod(*(torch.tensor(part, dtype=torch.float64) for part in setting[:3]))
    grid = grid.reshape(-1, 3)
    errors = (_answers(setting, told, grid) - told.wanted).square().sum(-1).mean(-1)  # [gates, seeds]
    half = SEEDS // 2
    best = int(errors[:, :half].mean(1).nan_to_num(torch.inf).argmin())
    beta, alpha, eta = grid[best].tolist()
    return float(errors[best, half:].mean()), (beta, alpha, eta)


@torch.no_grad()
def _answers(setting: Setting, told: Told, grid: Tensor) -> Tensor:
    """To every question, with each row of gates: [gates, seeds, questions, dim]."""
    count, tokens = len(grid), told.k.shape[1]
    beta, alpha, eta = grid.repeat_interleave(SEEDS, 0).mT[:, :, None, None].expand(-1, -1, 1, tokens)
    k, v = (x.repeat(count, 1, 1)[:, None] for x in (told.k, told.v))
    if setting.kind == "Gated DeltaNet":
        beta, v = beta * (1 - alpha), v / (1 - alpha)[..., None]
    if setting.kind == "Longhorn":
        beta = beta / (1 + beta * k.square().sum(-1))
    memory = one_matrix(DIM)
    gates = Gates(beta / 2, eta, alpha)
    _, state = chunked_scan(memory, memory.initial_state(len(k)), k, k, v, gates, setting.chunk or tokens)
    M = state.weights[0][:, 0].unflatten(0, (count, SEEDS))
    return told.q @ M.mT


def recall_table() -> str:
    """The recall error of every rung (a row) on every stream (a column)."""
    cells = [[say("recall error", "想起の誤差")] + [say(*names) for names in STREAMS]]
    for names, setting in SETTINGS.items():
        cells.append([say(*names)] + [f"{recall_error(setting, stream)[0]:.2f}" for stream in STREAMS.values()])
    return _aligned(cells, left=1)


def at_the_border(alpha: float, beta: float = 0.75) -> dict[str, float]:
    """The recall error on `recent` where forgetting happens once, when the eight pairs that are asked begin: in Gated
    DeltaNet's order and in the paper's; in the paper's one token earlier, and that without that token's write; and what
    a memory makes of the eight pairs that has read nothing before them."""
    told = recent()
    tokens, first = told.k.shape[1], told.k.shape[1] - 8
    place = torch.arange(tokens)
    on, before = ((place == at).double()[None, None].expand(SEEDS, 1, -1) for at in (first, first - 1))
    late = (place >= first).double()[None, None].expand(SEEDS, 1, -1)
    memory, found = one_matrix(DIM), {}
    k, v, step = told.k[:, None], told.v[:, None], torch.full_like(on, beta)
    keep = 1 - alpha * on
    runs = {
        say("error after", "忘却後の誤差"): (step * keep, alpha * on, v / keep[..., None]),
        say("before", "忘却前"): (step, alpha * on, v),
        say("a token earlier", "1トークン前"): (step, alpha * before, v),
        say("unwritten", "書かずに"): (step * (1 - before), alpha * before, v),
        say("empty", "空から"): (step * late, 0 * on, v),
    }
    for name, (theta, forget, values) in runs.items():
        gates = Gates(theta / 2, torch.zeros_like(theta), forget)
        state = chunked_scan(memory, memory.initial_state(SEEDS), k, k, values, gates, 1)[1]
        answers = told.q @ state.weights[0][:, 0].detach().mT
        found[name] = float((answers - told.wanted).square().sum(-1).mean())
    return found


def border_table(alphas: Sequence[float] = (0.0, 0.5, 0.99)) -> str:
    """`at_the_border`, a row for each alpha."""
    rows = [at_the_border(alpha) for alpha in alphas]
    cells = [["alpha", *rows[0]]]
    cells += [[f"{alpha:.2f}", *(f"{x:.3f}" for x in row.values())] for alpha, row in zip(alphas, rows, strict=True)]
    return _aligned(cells, left=1)
