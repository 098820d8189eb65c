"""The memory as a layer (section 4.4): projections, convolution, gates, write, read, output gate."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from titans.checks import check_flag, check_integer, check_number, check_shape
from titans.chunked import chunked_scan
from titans.memory import DeepMemory, Gates
from titans.recurrence import finite
from titans.state import MemoryState, check_state

INPUT_LIMIT = 1e4  # a normalised input is nowhere near it; it keeps squares finite (D12)


class CausalConv(nn.Module):
    """A depthwise convolution over the token and the width - 1 tokens before it, which a call hands to the next."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 1, width))
        nn.init.uniform_(self.weight, -(width**-0.5), width**-0.5)

    def forward(self, x: Tensor, recent: Tensor) -> tuple[Tensor, Tensor]:
        """x [batch, tokens, channels], recent [batch, width - 1, channels] -> the same shapes."""
        padded = torch.cat((recent, x), dim=1)
        tokens, (first, *others) = x.shape[1], self.weight[:, 0].unbind(-1)
        mixed = padded[:, :tokens] * first  # products that are added up: F.conv1d's derivative is several times slower
        for shift, weight in enumerate(others, 1):
            mixed = torch.addcmul(mixed, padded[:, shift : shift + tokens], weight)
        return mixed, padded[:, x.shape[1] :].clone()  # a view would keep all of x alive


class NeuralMemory(nn.Module):
    """A sequence layer whose state is a memory that learns while it reads: (x, state) -> (y, state).

        q, k, v = SiLU(conv(x W_Q)), SiLU(conv(x W_K)), SiLU(conv(x W_V)), q and k of unit length        (11)
        y = the memory written with (k_t, v_t), then read with q_t, token by token                (12-15, D2)
        out = (RMSNorm(y) * sigmoid(x W_G)) W_O

    The convolution is causal and depthwise, `conv_width` tokens wide; the projection before it is the pointwise half of
    a depthwise-separable one. Every token, head and memory layer has gates of its own (D5):
    theta = max_step * sigmoid, eta = sigmoid, alpha = sigmoid of linear maps of x. They start at `initial_gates`.

    dim: features of x, a multiple of heads.
    heads: independent memories, each of dim / heads features. depth, expansion, activation, residual: see `DeepMemory`.
    chunk_size: tokens that share the weights at which their gradients are taken (D1).
    max_step: the largest theta.
    max_surprise: the largest gradient norm of a token and memory layer (D12); None takes 10 sqrt(dim / heads), several
        times what unit keys and values of a normalised input give.
    momentum, forgetting: False keeps eta or alpha at exactly 0, as the paper's ablation does.

    A half-precision layer keeps its memory and gates in float32: a small write to a large weight would be lost.
    The outer gradient is full: it flows through the inner gradients, and through a carried state until
    `state.detach()` (D7).
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
    ) -> None:
        super().__init__()
        for name, value in (("dim", dim), ("heads", heads), ("chunk_size", chunk_size), ("conv_width", conv_width)):
            check_integer(name, value)
        if dim % heads:
            raise ValueError(f"dim must be a multiple of heads, got dim={dim} and heads={heads}")
        check_number("max_step", max_step, 0)
        if max_surprise is None:
            max_surprise = 10 * math.sqrt(dim // heads)
        check_number("max_surprise", max_surprise, 0)
        check_flag("momentum", momentum)
        check_flag("forgetting", forgetting)
        self.momentum, self.forgetting = momentum, forgetting
        self.dim, self.heads, self.chunk_size, self.conv_width = dim, heads, chunk_size, conv_width
        self.max_step, self.max_surprise = float(max_step), float(max_surprise)
        self.W_Q, self.W_K, self.W_V, self.W_G, self.W_O = (nn.Linear(dim, dim, bias=False) for _ in range(5))
        self.conv = CausalConv(3 * dim, conv_width)
        self.memory = DeepMemory(dim // heads, heads, depth, expansion, activation, residual)
        self.to_gates = nn.Linear(dim, 3 * heads * depth)
        self.norm = nn.RMSNorm(dim // heads, eps=1e-6)
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

        The gradients of a chunk add up, so theta shrinks with its length: with theta * chunk_size <= 0.2 and eta = 0.5
        writing is stable even if all tokens are the same.
        """
        theta = min(self.FIRST_STEP, self.FIRST_CHUNK_STEP / self.chunk_size, self.max_step / 2)
        return theta, self.FIRST_ETA, self.FIRST_ALPHA

    def initial_state(self, batch: int) -> MemoryState:
        """M_0, no momentum and no earlier tokens, for `batch` rows."""
        state = self.memory.initial_state(batch)
        weight = self.W_K.weight
        recent = weight.new_zeros(batch, self.conv_width - 1, 3 * self.dim)
        return replace(state.to(_memory_like(weight).dtype), recent=recent)

    def forward(self, x: Tensor, state: MemoryState | None = None) -> tuple[Tensor, MemoryState]:
        """x, y: [batch, tokens, dim]. Without a state a sequence starts at M_0; any split of it gives the same y (D10).

        Raises TypeError or ValueError, naming the argument, for an x or a state that does not fit this layer.
        """
        check_shape("x", x, {"batch": None, "tokens": None, "dim": self.dim}, like=self.W_K.weight)
        y, state = self.learn(x, self.initial_state(x.shape[0]) if state is None else state)
        return self.output(x, y), state

    def learn(self, x: Tensor, state: MemoryState) -> tuple[Tensor, MemoryState]:
        """Write every token of x and read it back: y, [batch, heads, tokens, dim / heads], and the state after x."""
        weight, memory = self.W_K.weight, self.memory
        check_state(state, memory.signature, memory.shapes, x.shape[0], self.chunk_size, _memory_like(weight))
        recent_shape = {"batch": x.shape[0], "tokens": self.conv_width - 1, "channels": 3 * self.dim}
        check_shape("state.recent", state.recent, recent_shape, like=weight)
        assert state.recent is not None
        x = x.clamp(-INPUT_LIMIT, INPUT_LIMIT)
        q, k, v, recent = self.project(x, state.recent)
        y, state = chunked_scan(memory, state, q, k, v, self.gates(x), self.chunk_size, self.max_surprise)
        return y, replace(state, recent=recent)

    def output(self, x: Tensor, y: Tensor) -> Tensor:
        """What the memory answered to x, as `learn` gives it, normalised, gated and projected: [batch, tokens, dim]."""
        y = rearrange(self.norm(finite(y).to(x.dtype)), "b h t d -> b t (h d)")
        return self.W_O(y * torch.sigmoid(self.W_G(x.clamp(-INPUT_LIMIT, INPUT_LIMIT))))

    def project(self, x: Tensor, recent: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """q, k, v [batch, heads, tokens, dim / heads] of x (11), and what the convolutions need for the next call."""
        mixed, recent = self.conv(torch.cat((self.W_Q(x), self.W_K(x), self.W_V(x)), dim=-1), recent)
        mixed = F.silu(mixed).to(_memory_like(x).dtype)
        q, k, v = rearrange(mixed, "b t (three h d) -> three b h t d", three=3, h=self.heads)
        return unit(q), unit(k), v, recent

    def gates(self, x: Tensor) -> Gates:
        """theta, eta and alpha for x [batch, tokens, dim], each [batch, heads, tokens, depth]."""
        shares = torch.sigmoid(self.to_gates(x).to(_memory_like(x).dtype))
        theta, eta, alpha = rearrange(shares, "b t (gate h l) -> gate b h t l", gate=3, h=self.heads)
        return Gates(
            self.max_step * theta,
            eta if self.momentum else torch.zeros_like(eta),
            alpha if self.forgetting else torch.zeros_like(alpha),
        )


def unit(x: Tensor) -> Tensor:
    """x / |x|, with a bounded slope at 0."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)


def _memory_like(tensor: Tensor) -> Tensor:
    """An empty tensor of the dtype, at least float32, and the device that a memory beside `tensor` has."""
    return tensor.new_empty(0, dtype=torch.promote_types(tensor.dtype, torch.float32))
