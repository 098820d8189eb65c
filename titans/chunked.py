"""The update in closed form, chunk by chunk (equations 16-18): exact, and no weights for single
tokens anywhere.

All gradients of a chunk are taken at the weights W that it starts with (D1), and each layer's is an
outer product
e_i a_i^T. Unrolling equations 13 and 14 from the chunk's start, with momentum S coming in, gives
for every layer

    W_t = P_t W + f_t S - sum_{i<=t} G_ti e_i a_i^T,

so that what a layer makes of the query side's input z_t needs W_t only in a product:

    W_t z_t = P_t (W z_t) + f_t (S z_t) - sum_{i<=t} G_ti (a_i . z_t) e_i.

The last term is causal linear attention: queries z, keys a, values e, with G as its mask. With
D(g)[t, s] = g_{s+1} ... g_t, the product of the gates after token s up to token t (s = 0 is the
chunk's start),

    P_t = D(1-alpha)[t, 0],   G_ti = theta_i sum_{s=i..t} D(1-alpha)[t, s] D(eta)[s, i],
    f_t = sum_{s=1..t} D(1-alpha)[t, s] D(eta)[s, 0],

so f and G are columns of one product of two lower-triangular matrices. It holds layer by layer
through the MLP: z of layer l + 1 is the activation of W_t z_t of layer l, with the weights at t,
not at the chunk's start.

The symbols, for b rows, h heads, T tokens, d features of a head and chunks of c tokens:

    q_t, k_t, v_t               q, k, v                       [b, h, T, d]
    y_t, what M answers         y                             [b, h, T, d]
    M_0, the start              memory.weights                one [h, out, in] a layer of M
    M_t                         state.weights                 one [b, h, out, in] a layer of M
    S_t, past and momentary     state.momentum                as M_t
        surprise
    M_t', the chunk's start     state.chunk_weights           as M_t
    theta_t, eta_t, alpha_t:    gates.theta, .eta, .alpha     [b, h, T] or [b, h, T, depth]
        step, momentum, forgetting
    a_i, e_i: a layer's input   memory.errors(...)            [b, h, T, in], [b, h, T, out]
        and error
    G_ti, token i's share       ChunkMix.written              [..., c, c]
        in M_t
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

import torch
from einops import rearrange
from torch import Tensor
from torch._higher_order_ops.scan import scan

from titans.bounds import bounded_errors, finite, full_precision
from titans.checks import is_traced, own_derivatives, worth_a_look
from titans.chunk_step import StepMix, chunk_step
from titans.memory import LayeredMemory, is_layered
from titans.recurrence import Momentum, inner_rule
from titans.scan import Gates, Rule, Tokens, check_scan
from titans.state import MOMENTUM, MemoryState, Weights, moved_on, one_place


class ChunkMix(NamedTuple):
    """How much of what is in W_t and S_t, t = 1 ... c, as the gates of a chunk of c tokens have it."""

    kept: Tensor  # P_t, the share of the chunk-start weights in W_t: [..., c]
    carried: Tensor  # f_t, the share of the incoming momentum in W_t: [..., c]
    written: Tensor  # G_ti, the share of token i's surprise in W_t: [..., c, c], lower triangular
    momentum_kept: Tensor  # the share of the incoming momentum in S_c, after the chunk: [...]
    momentum_written: Tensor  # n_ci, the share of token i's surprise in S_c: [..., c]


def chunk_mix(theta: Tensor, eta: Tensor, alpha: Tensor) -> ChunkMix:
    """The coefficients of a chunk in closed form, from its gates [..., c]. Gates of exactly 0 and 1
    are exact."""
    c = theta.shape[-1]
    keep, past = decay_products(torch.stack((1 - alpha, eta))).unbind()
    kept, keep = keep.split((1, c), dim=-1)  # not slices: their derivatives are filled with zeros and added
    carried, written = (keep @ past).split((1, c), dim=-1)
    momentum_kept, momentum_written = past[..., -1, :].split((1, c), dim=-1)
    return ChunkMix(
        kept[..., 0], carried[..., 0], written * theta[..., None, :], momentum_kept[..., 0], momentum_written * theta
    )


def decay_products(gate: Tensor) -> Tensor:
    """D[t, s] = gate_{s+1} ... gate_t for t = 1 ... c and s = 0 ... t, zero for s > t: [..., c] ->
    [..., c, 1 + c].

    Running products rather than differences of logarithms, so that gates of 0 give exact values and
    finite gradients.
    """
    return DecayProducts.apply(gate) if own_derivatives() else _decay_products(gate, torch.cumprod, torch.tril)


def _decay_products(gate: Tensor, cumprod: Callable[..., Tensor], tril: Callable[..., Tensor]) -> Tensor:
    c = gate.shape[-1]
    after = torch.ones(c, c + 1, dtype=torch.bool, device=gate.device).tril()
    return tril(cumprod(torch.where(after, gate[..., None], 1.0), -2), 1)


class DecayProducts(torch.autograd.Function):
    """`decay_products` with a derivative by hand: gate_j is a factor of D[t, s] for s < j <= t, so that its derivative
    is the sum of dD[t, s] D[t, s] / gate_j over these. Where that says nothing, at gates of 0 or so small that products
    of them are no longer exact, autograd's own is taken; and on a GPU, which would wait for the look at the gates.
    """

    @staticmethod
    def forward(ctx: Any, gate: Tensor) -> Tensor:
        D = _decay_products(gate, Tensor.cumprod_, Tensor.tril_)  # the largest tensors of a long chunk: made once
        ctx.save_for_backward(gate, D)
        return D

    @staticmethod
    def backward(ctx: Any, dD: Tensor) -> Tensor:
        """The gates' derivative, by hand where their numbers allow it."""
        gate, D = ctx.saved_tensors
        again = torch.is_grad_enabled()  # create_graph
        if not again and worth_a_look(gate) and bool((gate.abs() > torch.finfo(gate.dtype).tiny ** 0.5).all()):
            return (dD * D).cumsum_(-1)[..., :-1].tril().sum(-2) / gate
        with torch.enable_grad():
            gate = gate if again else gate.detach().requires_grad_()
            D = _decay_products(gate, torch.cumprod, torch.tril)
            return torch.autograd.grad(D, gate, dD, create_graph=again)[0]


def chunked_scan(
    memory: LayeredMemory,
    state: MemoryState,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gates: Gates,
    chunk_size: int = 16,
    max_surprise: float | None = None,
    rule: Rule | None = None,
) -> tuple[Tensor, MemoryState]:
    """The same function as `recurrent_scan`, with the same arguments, results and errors, computed
    chunk by chunk.

    memory: one of layers, a `LayeredMemory`. rule: None or a `Momentum`, the one rule that has a
        closed form.
    Outer gradients are full, and can be differentiated again.

    A chunk of c tokens costs two c x c products a layer besides the passes through the network;
    nothing of the size of the weights is made for a token. Time does not depend on how many tokens
    came before. Where no graph is made, nor does memory beyond inputs and outputs: see
    `tokens_at_once`.
    """
    if not is_layered(memory):
        raise TypeError(
            "memory must be a LayeredMemory, with activation, surround and errors, for the closed form; "
            f"recurrent_scan takes any memory, got {type(memory).__name__}"
        )
    rule = inner_rule(rule, max_surprise)
    if not isinstance(rule, Momentum):
        have = f"{MOMENTUM!r}, which has a closed form; recurrent_scan takes any"
        raise ValueError(f"rule must be {have}, got {rule.signature!r}")
    tokens = Tokens(q, k, v, gates)
    check_scan(memory, state, tokens, chunk_size, max_surprise, rule)
    tokens = tokens._replace(gates=gates.per_layer(len(memory.shapes)))
    count, done = k.shape[2], 0
    graph = is_traced() or makes_graph((q, k, v, *gates, *state.weights, *state.rule_state, *state.chunk_weights))
    most = count if graph else tokens_at_once(k.shape[0] * k.shape[1], k.shape[3], chunk_size)
    y = Parts(count, 2, graph)
    while done < count:
        place, left = one_place("state.place_in_chunk", state.place_in_chunk), count - done
        room, whole = chunk_size - place, min(left, most) // chunk_size if place == 0 else 0
        size = chunk_size if whole else min(room, left)  # whole chunks together; else what completes or begins one
        part = slice(done, done + max(whole, 1) * size)
        with full_precision(k):
            answer, state = _scan_chunks(memory, state, tokens.part(part), size, chunk_size, rule.max_surprise)
        y.add(answer)
        done = part.stop
    return y.whole(), state


# ---- Long calls that make no graph -----------------------------------------------------------------------------------

BLOCK = 2**18  # numbers of one kind that are made at once where none has to be kept for a backward pass


def makes_graph(tensors: Iterable[Tensor]) -> bool:
    """Whether autograd takes note of what is made of these tensors."""
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def tokens_at_once(rows: int, dim: int, chunk_size: int) -> int:
    """How many tokens to go on by where no graph is made: whole chunks, at least one, whose keys
    [rows, tokens, dim] and G [rows, tokens, chunk_size] do not exceed BLOCK. Any split of a
    sequence gives the same numbers (D10), and so memory does not grow with its length."""
    return max(1, BLOCK // (rows * max(dim, chunk_size) * chunk_size)) * chunk_size


class Parts:
    """An output that comes part by part along an axis. With a graph the parts are put together at
    the end; without one each is written into a tensor that is made once."""

    def __init__(self, size: int, dim: int, graph: bool) -> None:
        self.size, self.dim, self.graph, self.done = size, dim, graph, 0
        self.parts: list[Tensor] = []

    def add(self, part: Tensor) -> None:
        """The next part."""
        if self.graph or part.shape[self.dim] == self.size:
            self.parts.append(part)
            return
        if not self.parts:
            self.parts = [part.new_empty(*part.shape[: self.dim], self.size, *part.shape[self.dim + 1 :])]
        self.parts[0].narrow(self.dim, self.done, part.shape[self.dim]).copy_(part)
        self.done += part.shape[self.dim]

    def whole(self) -> Tensor:
        """All parts, one behind the other."""
        return self.parts[0] if len(self.parts) == 1 else torch.cat(self.parts, dim=self.dim)


# ---- Chunk by chunk --------------------------------------------------------------------------------------------------


def _scan_chunks(
    memory: LayeredMemory, state: MemoryState, tokens: Tokens, size: int, chunk_size: int, max_surprise: float | None
) -> tuple[Tensor, MemoryState]:
    """The scan over tokens that make up chunks of `size`: whole chunks, or one piece of a chunk."""
    batch, heads = tokens.k.shape[:2]
    # Rows and heads are independent and share one axis, n; chunks come first: [chunks, n, size,
    # ...].
    q, k, v = (rearrange(x, "b h (chunk c) d -> chunk (b h) c d", c=size).contiguous() for x in tokens[:3])
    mix = _step_mix(Gates(*(rearrange(gate, "b h (chunk c) l -> l chunk (b h) c", c=size) for gate in tokens.gates)))

    weights, momentum, start = (
        tuple(tensor.flatten(0, 1) for tensor in layers)
        for layers in (state.weights, state.momentum, state.chunk_weights)
    )
    start = start if state.place_in_chunk else weights
    chunks, carried = (q, k, v, *mix), (weights, momentum)
    if len(q) > 1 and torch.compiler.is_compiling():
        (weights, momentum), outputs = scan(partial(_next_chunk, memory, max_surprise), carried, chunks)
    else:
        answers: list[Tensor] = []
        for chunk in zip(*(x.unbind(0) for x in chunks), strict=True):
            begun = carried[0] if answers else start
            carried, answer = _chunk(memory, begun, carried, chunk, max_surprise)
            answers.append(answer)
        (weights, momentum), outputs = carried, torch.stack(answers)

    y = memory.surround(q, outputs)
    place = moved_on(state.place_in_chunk, k.shape[0] * size, chunk_size)
    at, past, begun = (tuple(x.unflatten(0, (batch, heads)) for x in layers) for layers in (weights, momentum, start))
    after = MemoryState(at, begun if place else at, past, MOMENTUM, place, chunk_size, memory.signature)
    return rearrange(y, "chunk (b h) c d -> b h (chunk c) d", b=batch), after


Carried = tuple[Weights, Weights]  # W and S of every layer, [n, out, in] each


def _chunk(
    memory: LayeredMemory, start: Weights, carried: Carried, chunk: tuple[Tensor, ...], max_surprise: float | None
) -> tuple[Carried, Tensor]:
    """One chunk of c tokens, for n memories at once: what is carried on, and what the last layer answers, [n, c, dim].

    start: the weights at which gradients are taken. chunk: q, k, v [n, c, dim], and a `StepMix` of each layer, one
        behind the other.
    """
    z, k, v, *mix = chunk
    weights, momentum, size = [], [], len(StepMix._fields)
    for layer, (a, e) in enumerate(_surprises(memory, start, k, v, max_surprise)):
        z = memory.activation.forward(z) if layer > 0 else z
        at = slice(layer * size, (layer + 1) * size)
        z, W, S = chunk_step(carried[0][layer], carried[1][layer], z, a, e, *mix[at])
        weights.append(W)
        momentum.append(S)
    return (tuple(weights), tuple(momentum)), z


def _next_chunk(
    memory: LayeredMemory, max_surprise: float | None, carried: Carried, chunk: tuple[Tensor, ...]
) -> tuple[Carried, Tensor]:
    """A chunk whose gradients are taken at the weights that are carried to it, as a scan asks for it."""
    return _chunk(memory, carried[0], carried, chunk, max_surprise)


def _surprises(
    memory: LayeredMemory, weights: Weights | list[Tensor], k: Tensor, v: Tensor, max_surprise: float | None
) -> list[tuple[Tensor, Tensor]]:
    """The surprise of every token and layer in factors, a and e, none larger than max_surprise."""
    inputs, errors = memory.errors(weights, k, v)
    if max_surprise is None:
        return list(zip(inputs, errors, strict=True))
    if len(weights) > 2:  # two layers stay in float32's range for millions of tokens
        inputs, errors = ([finite(x) for x in factor] for factor in (inputs, errors))
    return [(a, bounded_errors(a, e, max_surprise)) for a, e in zip(inputs, errors, strict=True)]


def _step_mix(gates: Gates) -> list[Tensor]:
    """What each layer's step multiplies with, from gates [layer, chunk, n, c]: columns, the sign of G. A `StepMix` of
    each layer, one behind the other, of [chunk, n, ...]."""
    mix = chunk_mix(-gates.theta, gates.eta, gates.alpha)
    parts = StepMix(
        P=mix.kept[..., None],
        f=mix.carried[..., None],
        M=mix.written,
        g_c=mix.momentum_kept[..., None, None],
        m=mix.momentum_written[..., None],
    )
    return [part for layer in zip(*(part.unbind(0) for part in parts), strict=True) for part in layer]
