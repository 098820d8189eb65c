"""The memory as a layer (section 4.4): projections, convolution, gates, write, read, output gate."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from titans import single
from titans.bounds import bounded_input, finite, full_precision, in_autocast, precise
from titans.checks import (
    check_choice,
    check_flag,
    check_instance,
    check_integer,
    check_no_nan,
    check_number,
    check_shape,
    is_traced,
    known,
    own_derivatives,
    present,
)
from titans.chunked import Parts, chunked_scan, makes_graph, tokens_at_once
from titans.memory import DeepMemory, Memory, check_memory, is_layered, unit
from titans.recurrence import Momentum, inner_rule, recurrent_scan
from titans.scan import Gates, Rule, Tokens, check_gates, check_state
from titans.state import SERIALS, MemoryState, Weights, every_tensor, note, one_place


@dataclass(frozen=True)
class LayerState(MemoryState):
    """The state of a memory layer: of its memory, and what its convolutions still need.

    recent: earlier tokens, projected, [batch, conv_width - 1, 3 dim].
    """

    recent: Tensor = field(kw_only=True)

    @classmethod
    def of(cls, state: MemoryState, recent: Tensor) -> LayerState:
        """The state of a scan with what the convolutions need."""
        return cls(**{name: getattr(state, name) for name in _FIELDS}, recent=recent)


_FIELDS = [f.name for f in fields(MemoryState)]
FORGET_LAYERS = ("last", "all")
ANSWER_EPS = 1e-3  # an answer of an empty memory is small or zero, and its rounding must not be enlarged a millionfold


class CausalConv(nn.Module):
    """A depthwise convolution over the token and the width - 1 tokens before it, which a call hands
    to the next."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 1, width))
        nn.init.uniform_(self.weight, -(width**-0.5), width**-0.5)

    def forward(self, x: Tensor, recent: Tensor) -> tuple[Tensor, Tensor]:
        """x [batch, tokens, channels], recent [batch, width - 1, channels] -> the same shapes."""
        padded = torch.cat((recent, x), dim=1)
        if single.one_token(x):
            return single.convolve(padded, self.weight)
        mixed = Convolution.apply(padded, self.weight) if own_derivatives() else convolved(padded, self.weight)
        return mixed, padded[:, x.shape[1] :].clone()  # a view would keep all of x alive


def convolved(padded: Tensor, weight: Tensor) -> Tensor:
    """A depthwise convolution, padded [batch, width - 1 + tokens, channels] and weight [channels, 1, width]: products
    that are added up, since F.conv1d's derivative is several times slower."""
    plus = Tensor.addcmul_ if own_derivatives() else torch.addcmul
    first, *others = weight[:, 0].mT.contiguous()
    tokens = padded.shape[1] - len(others)
    mixed = padded.narrow(1, 0, tokens) * first  # a slice of everything is what vmap over gradients cannot take
    for shift, one in enumerate(others, 1):
        mixed = plus(mixed, padded.narrow(1, shift, tokens), one)
    return mixed


class Convolution(torch.autograd.Function):
    """`convolved` with a derivative by hand: autograd's own fills a tensor of the size of x with zeros for every token
    of the width, and adds it."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(padded, weight)
        return convolved(padded, weight)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        padded, weight = ctx.saved_tensors
        width, tokens = weight.shape[-1], g.shape[1]
        back = convolved(F.pad(g, (0, 0, width - 1, width - 1)), weight.flip(-1))
        each = [(g * padded.narrow(1, shift, tokens)).sum((0, 1)) for shift in range(width)]
        return back, torch.stack(each, dim=-1)[:, None]


class NeuralMemory(nn.Module):
    """A sequence layer whose state is a memory that learns while it reads: (x, state) -> (y,
    state).

        q, k, v = SiLU(conv(x W_Q)), SiLU(conv(x W_K)), SiLU(conv(x W_V)), q and k of unit length        (11)
        y = the memory written with (k_t, v_t), then read with q_t, token by token                (12-15, D2)
        out = (RMSNorm(y) * sigmoid(x W_G)) W_O

    The convolution is causal and depthwise, `conv_width` tokens wide; the projection before it is
    the pointwise half of a depthwise-separable one. Every token, head and memory layer has gates of
    its own (D5):
    theta = max_step * sigmoid, eta = sigmoid, alpha = sigmoid of linear maps of x. They start at
    `initial_gates`.

    dim: features of x, a multiple of heads.
    heads: independent memories, each of dim / heads features. depth, expansion, activation,
        residual: see `DeepMemory`.
    chunk_size: tokens that share the weights at which their gradients are taken (D1).
    max_step: the largest theta.
    max_surprise: the largest gradient norm of a token and memory layer (D12); None takes 10
        sqrt(dim / heads), several times what unit keys and values of a normalised input give.
    momentum, forgetting: False keeps eta or alpha at exactly 0, as the paper's ablation does.
    forget_layers: "last" lets alpha act on the memory's last layer alone; "all" on every layer, as the paper's
        equation 13 says (D16). Pulled to zero, hidden layers would stop the gradients of all that is written later. A
        memory of your own that has no order of layers, no `LayeredMemory`, forgets in all its weights.
    memory: a `Memory` in place of the `DeepMemory` that depth, expansion, activation and residual
        describe. One that is not a `LayeredMemory` is written token by token, which is slow.
    rule: an inner rule in place of the paper's, see `Rule`; it bounds its own steps, and is slow
        too.

    A half-precision layer keeps its memory and gates in float32: a small write to a large weight
    would be lost.
    The outer gradient is full: it flows through the inner gradients, and through a carried state
    until `state.detach()` (D7). To look inside, and to change gates, see `titans.observe`.
    """

    FIRST_STEP, FIRST_CHUNK_STEP = 0.05, 0.2  # theta at the start, and what it may add up to over a chunk
    FIRST_ETA, FIRST_ALPHA = 0.5, 0.002  # that alpha is a half-life of 346 tokens

    def __init__(
        self,
        dim: int,
        heads: int = 1,
        depth: int = 2,
        chunk_size: int = 16,
        expansion: int = 4,
        activation: str = "gelu",
        residual: bool = False,
        conv_width: int = 4,
        max_step: float = 1.0,
        max_surprise: float | None = None,
        momentum: bool = True,
        forgetting: bool = True,
        forget_layers: str = "last",
        memory: Memory | None = None,
        rule: Rule | None = None,
    ) -> None:
        super().__init__()
        given = {"dim": dim, "heads": heads, "chunk_size": chunk_size, "conv_width": conv_width}
        dim, heads, chunk_size, conv_width = (check_integer(name, value) for name, value in given.items())
        if dim % heads:
            raise ValueError(f"dim must be a multiple of heads, got dim={dim} and heads={heads}")
        check_number("max_step", max_step, 0)
        if rule is not None:
            inner_rule(rule, max_surprise)
        if max_surprise is None:
            max_surprise = 10 * math.sqrt(dim // heads)
        check_number("max_surprise", max_surprise, 0)
        check_flag("momentum", momentum)
        check_flag("forgetting", forgetting)
        check_choice("forget_layers", forget_layers, FORGET_LAYERS)
        self.momentum, self.forgetting, self.forget_layers = momentum, forgetting, forget_layers
        self.dim, self.heads, self.chunk_size, self.conv_width = dim, heads, chunk_size, conv_width
        self.max_step, self.max_surprise = float(max_step), float(max_surprise)
        self.W_Q, self.W_K, self.W_V, self.W_G, self.W_O = (nn.Linear(dim, dim, bias=False) for _ in range(5))
        self.conv = CausalConv(3 * dim, conv_width)
        made = DeepMemory(dim // heads, heads, depth, expansion, activation, residual) if memory is None else memory
        self.memory, self.rule = sized_memory(made, dim // heads, heads), rule
        self.to_gates = nn.Linear(dim, 3 * heads * len(self.memory.shapes))
        self.norm = nn.RMSNorm(dim // heads, eps=ANSWER_EPS)
        self.serial = next(SERIALS)
        self.gate_edits: list[Callable[[Gates], Gates]] = []
        self.observers: list[Callable[[Tokens, LayerState, LayerState], None]] = []
        self.reset_gates()

    def reset_gates(self) -> None:
        """Start every gate at its initial value, whatever the token."""
        theta, eta, alpha = self.initial_gates()
        shares = torch.tensor([theta / self.max_step, eta, alpha])
        nn.init.zeros_(self.to_gates.weight)
        with torch.no_grad():
            self.to_gates.bias.copy_(shares.logit().repeat_interleave(self.to_gates.out_features // 3))

    def initial_gates(self) -> tuple[float, float, float]:
        """theta, eta and alpha before any training (D5).

        The gradients of a chunk add up, so theta shrinks with its length: with theta * chunk_size
        <= 0.2 and eta = 0.5 writing is stable even if all tokens are the same.
        """
        theta = min(self.FIRST_STEP, self.FIRST_CHUNK_STEP / self.chunk_size, self.max_step / 2)
        return theta, self.FIRST_ETA, self.FIRST_ALPHA

    def initial_state(self, batch: int) -> LayerState:
        """M_0 and no earlier tokens, for `batch` rows."""
        check_integer("batch", batch)
        return self.begin(present(self.W_K.weight).new_empty(batch, 0, self.dim))

    def begin(self, x: Tensor) -> LayerState:
        """The state before the first token of x, of its dtype and on its device."""
        state = self.memory.initial_state(len(x)).to(precise(x))
        return LayerState.of(state, x.new_zeros(len(x), self.conv_width - 1, 3 * self.dim))

    def forward(self, x: Tensor, state: LayerState | None = None) -> tuple[Tensor, LayerState]:
        """x, y: [batch, tokens, dim]. Without a state a sequence starts at M_0; any split of it
        gives the same y (D10).

        Raises TypeError or ValueError, naming the argument, for an x or a state that does not fit
        this layer.
        """
        like = known(self.W_K.weight)
        if like is not None and isinstance(x, Tensor) and in_autocast(like):
            x = x.to(like.dtype)  # a memory leaves autocast by itself
        check_shape("x", x, {"batch": None, "tokens": None, "dim": self.dim}, like)
        with full_precision(x):
            state = self.begin(x) if state is None else state
            pieces = self.pieces(x, state)
            outputs = Parts(x.shape[1], 1, graph=len(pieces) == 1)
            for piece in pieces:
                y, state = self.learn(piece, state)
                outputs.add(self.output(piece, y))
            return outputs.whole(), state

    def pieces(self, x: Tensor, state: LayerState) -> tuple[Tensor, ...]:
        """x cut along its tokens where a chunk ends, so that memory does not grow with its length; in one
        piece where a graph is made of it, and where an observer or an edit of gates is to see the whole call."""
        at_once = tokens_at_once(len(x) * self.heads, self.dim // self.heads, self.chunk_size)
        if x.shape[1] <= at_once or self.observers or self.gate_edits or is_traced():
            return (x,)
        if makes_graph((x, *every_tensor(state), *self.parameters())):
            return (x,)
        self.check_state(state, x)
        first = at_once - one_place("state.place_in_chunk", state.place_in_chunk)
        return (x[:, :first], *x[:, first:].split(at_once, dim=1))

    def learn(self, x: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        """Write every token of x and read it back: y, [batch, heads, tokens, dim / heads], and the
        state after x."""
        made_by = (self.serial, len(x), x.dtype, x.device)
        if not isinstance(state, LayerState) or state.made_by != made_by:
            self.check_state(state, x)
        x = bounded_input(x)
        q, k, v, recent = self.project(x, state.recent)
        tokens = Tokens(q, k, v, self.gates(x))
        try:
            y, written = self.scan(tokens, state)
        except ValueError:
            check_no_nan("x", x)  # NaN in a row is NaN in its gates, which the scan refuses without knowing x
            raise
        after = LayerState.of(written, recent)
        note(after, *made_by)
        for observer in self.observers:
            observer(tokens, state, after)
        return y, after

    def scan(self, tokens: Tokens, state: MemoryState) -> tuple[Tensor, MemoryState]:
        """The memory's update and reading: in closed form, or token by token where there is none."""
        if self.rule is None and is_layered(self.memory):
            if self.short and single.one_token(tokens.k.transpose(1, 2)):
                if self.gate_edits:
                    check_gates(tokens.gates, tokens.k, len(self.memory.shapes))
                    tokens = tokens._replace(gates=tokens.gates.per_layer(len(self.memory.shapes)))
                return single.scan(self.memory, state, tokens, self.chunk_size, self.max_surprise)
            return chunked_scan(self.memory, state, *tokens, self.chunk_size, self.max_surprise)
        bound = self.max_surprise if self.rule is None else None
        return recurrent_scan(self.memory, state, *tokens, self.chunk_size, bound, self.rule)

    @property
    def short(self) -> bool:
        """Whether a single token without gradients takes the short way, see `titans.blocks.Mixer.short`."""
        return type(self) is NeuralMemory and type(self.memory) is DeepMemory and self.rule is None

    def retrieve(self, weights: Weights, asked: Tensor) -> Tensor:
        """M*(q) for q [batch, tokens, dim], not yet of unit length (21): [batch, heads, tokens, dim
        / heads]."""
        q = unit(rearrange(asked.to(weights[0].dtype), "b t (h d) -> b h t d", h=self.heads))
        return finite(self.memory.read(weights, q)).to(asked.dtype)

    def output(self, x: Tensor, y: Tensor) -> Tensor:
        """What the memory answered to x, as `learn` gives it, normalised, gated and projected:
        [batch, tokens, dim]."""
        if single.one_token(x):
            return single.output(self, x, y)
        y = rearrange(self.norm(finite(y).to(x.dtype)), "b h t d -> b t (h d)")
        return self.W_O(y * torch.sigmoid(self.W_G(bounded_input(x))))

    def project(self, x: Tensor, recent: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """q, k, v [batch, heads, tokens, dim / heads] of x (11), and what the convolutions need for
        the next call."""
        if single.one_token(x):
            return single.project(self, x, recent)
        mixed, recent = self.conv(torch.cat((self.W_Q(x), self.W_K(x), self.W_V(x)), dim=-1), recent)
        mixed = F.silu(mixed).to(precise(x))
        q, k, v = rearrange(mixed, "b t (three h d) -> three b h t d", three=3, h=self.heads)
        return unit(q), unit(k), v, recent

    def gates(self, x: Tensor) -> Gates:
        """theta, eta and alpha for x [batch, tokens, dim], each [batch, heads, tokens, depth]: alpha is
        one number for all channels of a head and layer (D11), and 0 but in the last layer (D16)."""
        if single.one_token(x):
            return single.gates(self, x)
        shares = torch.sigmoid(self.to_gates(x).to(precise(x)))
        return self.limited(*rearrange(shares, "b t (gate h l) -> gate b h t l", gate=3, h=self.heads))

    def limited(self, theta: Tensor, eta: Tensor, alpha: Tensor) -> Gates:
        """Gates from shares in [0, 1]: what this layer's options make of them, and those who edit them."""
        if self.forget_layers == "last" and is_layered(self.memory):
            alpha = F.pad(alpha[..., -1:], (alpha.shape[-1] - 1, 0))
        gates = Gates(
            self.max_step * theta,
            eta if self.momentum else torch.zeros_like(eta),
            alpha if self.forgetting else torch.zeros_like(alpha),
        )
        for edit in self.gate_edits:
            gates = edit(gates)
        return gates

    def check_state(self, state: LayerState, x: Tensor) -> None:
        """Raise unless a state fits this layer, and has what the convolutions need beside x."""
        check_instance("state", state, LayerState)
        rule = self.rule or Momentum()
        check_state(state, self.memory, rule, x.shape[0], self.chunk_size, _memory_like(x))
        shape = {"batch": x.shape[0], "tokens": self.conv_width - 1, "channels": 3 * self.dim}
        check_shape("state.recent", state.recent, shape, like=x)


def sized_memory(memory: object, dim: int, heads: int) -> Memory:
    """A memory of these sizes, or the error that says why it is none."""
    memory = check_memory(memory)
    if (memory.dim, memory.heads) != (dim, heads):
        have = f"dim={memory.dim} and heads={memory.heads}"
        raise ValueError(f"memory must have dim={dim} and heads={heads}, the layer's dim / heads and heads, got {have}")
    return memory


def _memory_like(tensor: Tensor) -> Tensor:
    """A tensor of the dtype, at least float32, and the device that a memory beside `tensor` has."""
    return tensor if tensor.dtype is precise(tensor) else tensor.new_empty(0, dtype=precise(tensor))
