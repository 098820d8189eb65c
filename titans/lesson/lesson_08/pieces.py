"""The pieces that the reader has written in lessons 03, 06 and 07, for one sequence: [tokens, dim]."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from titans.attention import rotate


def conv(x: Tensor, kernel: Tensor) -> Tensor:
    """A depthwise convolution over each token and those before it; nothing before the first."""
    width = kernel.shape[-1]
    padded = F.pad(x, (0, 0, width - 1, 0))
    return torch.stack([padded[j : j + len(x)] * kernel[:, 0, j] for j in range(width)]).sum(0)


def unit(x: Tensor) -> Tensor:
    """x / |x|."""
    return x / (x.square().sum(-1, keepdim=True) + 1e-6).sqrt()


def norm(x: Tensor, scale: Tensor, eps: float = 1e-6) -> Tensor:
    """x over its root mean square, times a learned scale."""
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt() * scale


@dataclass(frozen=True)
class Pieces:
    """A block's weights by name, and how many tokens a chunk has; one head, a matrix memory."""

    weights: dict[str, Tensor]
    chunk: int

    def memory(self, x: Tensor) -> Tensor:
        """M(x): every token is written, then answered (lesson 03), through the memory's own gate (lesson 07)."""
        W, (q, k, v, gates) = self.weights, self._project(x)
        M = W["memory.memory.weights.0"][0]
        S, M_chunk, reads = torch.zeros_like(M), M, []
        for t in range(len(x)):
            M_chunk = M if t % self.chunk == 0 else M_chunk
            theta, eta, alpha = gates[t]
            S = eta * S - theta * torch.outer(2 * (M_chunk @ k[t] - v[t]), k[t])
            M = (1 - alpha) * M + S
            reads.append(M @ q[t])
        y = norm(torch.stack(reads), W["memory.norm.weight"], eps=1e-3)
        return (y * torch.sigmoid(x @ W["memory.W_G.weight"].T)) @ W["memory.W_O.weight"].T

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """q, k, v [tokens, dim] and the gates [tokens, 3] (11)."""
        W = self.weights
        three = torch.cat([W[f"memory.W_{name}.weight"] for name in "QKV"])
        q, k, v = F.silu(conv(x @ three.T, W["memory.conv.weight"])).chunk(3, dim=1)
        gates = x @ W["memory.to_gates.weight"].T + W["memory.to_gates.bias"]
        return unit(q), unit(k), v, torch.sigmoid(gates)

    def attention(self, x: Tensor, seen: Tensor) -> Tensor:
        """Attention over [P | x] (lesson 06), where `seen` [tokens, P + tokens] says who sees whom."""
        W, P = self.weights, self.weights["persistent"]
        Q, K, V, out = (W[f"attention.W_{name}.weight"].T for name in "QKVO")
        q = x @ Q
        scores = torch.cat((q @ (P @ K).T, rotate(q, 0) @ rotate(x @ K, 0).T), dim=1) / q.shape[1] ** 0.5
        shares = scores.masked_fill(~seen, -torch.inf).softmax(dim=1)
        return shares @ torch.cat((P, x)) @ V @ out


def pieces_of(block: nn.Module, chunk: int) -> Pieces:
    """The pieces with the weights of a library's block."""
    return Pieces({name: weight.detach() for name, weight in block.named_parameters()}, chunk)
