"""What is measured: the scan, the layer, titans-pytorch's layer, and the floor of plain matrix products."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from titans import DeepMemory, Gates, MemoryState, NeuralMemory, chunked_scan

EXPANSION, DEPTH = 4, 2  # of every memory here; titans-pytorch's defaults too
Run = Callable[[], None]
Sizes = dict[str, int]  # batch, tokens, dim, chunk; few: the smaller number of tokens to compare with


def train_step(layer: nn.Module, batch: int, tokens: int, dim: int) -> Run:
    """One forward and backward pass of a layer that returns (y, state), on a fixed random input."""
    x = torch.randn(batch, tokens, dim, requires_grad=True)
    direction = torch.randn(batch, tokens, dim)

    def run() -> None:
        x.grad = None
        layer.zero_grad()
        y, _ = layer(x)
        y.backward(direction)

    return run


class ScanInputs(nn.Module):
    """Queries, keys, values and gates as parameters of a module whose forward pass is one bare scan."""

    def __init__(
        self,
        sizes: Sizes,
        scan: Callable[..., tuple[Tensor, MemoryState]] = chunked_scan,
        max_surprise: float | None = None,
    ) -> None:
        super().__init__()
        batch, tokens, dim, chunk = (sizes[name] for name in ("batch", "tokens", "dim", "chunk"))
        self.memory = DeepMemory(dim, depth=DEPTH, expansion=EXPANSION)
        nn.init.normal_(self.memory.weights[-1], std=0.5 / (EXPANSION * dim) ** 0.5)
        q, k, v = (F.normalize(torch.randn(batch, 1, tokens, dim), dim=-1) for _ in range(3))
        shape = (batch, 1, tokens, DEPTH)
        gates = (0.02 * torch.rand(shape), 0.3 + 0.4 * torch.rand(shape), 0.01 * torch.rand(shape))
        self.inputs = nn.ParameterList(nn.Parameter(tensor) for tensor in (q, k, v, *gates))
        self.chunk, self.scan, self.max_surprise = chunk, scan, max_surprise

    def forward(self) -> tuple[Tensor, MemoryState]:
        q, k, v, *gates = self.inputs
        state = self.memory.initial_state(q.shape[0])
        return self.scan(self.memory, state, q, k, v, Gates(*gates), self.chunk, max_surprise=self.max_surprise)

    def train_step(self) -> None:
        self.zero_grad()
        y, _ = self()
        y.sum().backward()


def their_layer(dim: int, chunk_size: int, batch_size: int | None, extras: bool = True) -> Any:
    """titans-pytorch's layer. extras=False: without its norms and the residual, so that it is the paper's equations.

    Its gates' biases make it remember (its own start forgets half of everything at each token) and stay finite.
    """
    from titans_pytorch import MemoryMLP
    from titans_pytorch import NeuralMemory as TheirMemory

    options = {} if extras else {"pre_rmsnorm": False, "mem_model_norm_add_residual": False}
    model = MemoryMLP(dim, depth=DEPTH, expansion_factor=float(EXPANSION))
    layer = TheirMemory(dim=dim, chunk_size=chunk_size, batch_size=batch_size, model=model, **options)
    for linear, bias in ((layer.to_decay_factor[0], -4.0), (layer.to_adaptive_step[0], -3.0)):
        nn.init.constant_(linear.bias, bias)
    return layer


class SameFunction(nn.Module):
    """titans-pytorch's layer with chunk_size=1, batch_size=chunk and without extras, its scan replaced by ours.

    Its projections, gates and first weights are used as they are. Its loss is the mean over features where equation 12
    has the sum, so its theta is ours times dim. It reads after it writes, as D2 says.
    """

    def __init__(self, theirs: Any, dim: int, chunk: int) -> None:
        super().__init__()
        self.theirs, self.dim, self.chunk = theirs, dim, chunk
        self.memory = DeepMemory(dim, depth=DEPTH, expansion=EXPANSION)

    def forward(self, x: Tensor) -> tuple[Tensor, MemoryState]:
        theirs: Any = self.theirs
        q, k, v = (project(x)[:, None] for project in (theirs.to_queries, theirs.to_keys, theirs.to_values))
        theta = theirs.adaptive_step_transform(theirs.to_adaptive_step(x))[:, None] / self.dim  # [batch, 1, tokens]
        eta, alpha = theirs.to_momentum(x)[0].sigmoid().mT, theirs.to_decay_factor(x).sigmoid().mT
        weights = tuple(w.mT.expand(x.shape[0], *w.mT.shape) for w in theirs.memory_model_parameters)
        state = replace(self.memory.initial_state(x.shape[0]), weights=weights, chunk_weights=weights)
        y, state = chunked_scan(self.memory, state, q, k, v, Gates(theta, eta, alpha), self.chunk)
        return y[:, 0], state


def difference(theirs: nn.Module, ours: nn.Module, x: Tensor) -> float:
    """The largest relative difference between two layers in y and in the gradient with respect to x."""
    answers = []
    for layer in (theirs, ours):
        x = x.detach().requires_grad_()
        y, _ = layer(x)
        direction = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
        answers.append((y.detach(), *torch.autograd.grad(y, x, direction)))
    return max(((a - b).norm() / a.norm()).item() for a, b in zip(*answers, strict=True))


def matrix_products(dim: int, chunk: int) -> list[tuple[int, int, int, bool]]:
    """The products (rows, inner, columns) that one chunk of the closed form needs in its forward pass, and whether they
    are what it writes.

    A product of these sizes has two more of the same FLOPs in the backward pass; what the last chunk writes has none,
    since no loss reads it.
    """
    products: list[tuple[int, int, int, bool]] = []
    widths = [dim, *[EXPANSION * dim] * (DEPTH - 1), dim]
    for layer, (inside, outside) in enumerate(pairwise(widths)):
        products += [(chunk, inside, outside, False)] * 3  # keys through W; queries through W and S
        products += [(chunk, outside, inside, False)] * (layer > 0)  # errors back through W
        products += [(outside, chunk, inside, True)] * 2  # what is written, to W and S
        products += [(chunk, inside, chunk, False), (chunk, chunk, outside, False)]  # queries with keys, times errors
    return products


def floor(batch: int, tokens: int, dim: int, chunk: int) -> Run:
    """The same matrix products, forward and backward, into tensors that exist already, and nothing else."""
    products = []
    for rows, inner, columns, written in matrix_products(dim, chunk):
        a, b = torch.randn(batch, rows, inner), torch.randn(batch, inner, columns)
        out = torch.empty(batch, rows, columns)
        products.append((a, b, out, torch.empty_like(a), torch.empty_like(b), written))

    def run() -> None:
        for after in reversed(range(tokens // chunk)):
            for a, b, out, grad_a, grad_b, written in products:
                torch.bmm(a, b, out=out)
                if after or not written:
                    torch.bmm(out, b.mT, out=grad_a)
                    torch.bmm(a.mT, out, out=grad_b)

    return run


def stream(layer: NeuralMemory, tokens: int, x: Tensor) -> MemoryState:
    """The state after `tokens` tokens that arrive in pieces: x [batch, piece, dim], again and again."""
    state: Any = None
    for _ in range(tokens // x.shape[1]):
        _, state = layer(x, state)
    return state


def token_steps(layer: NeuralMemory, x: Tensor, state: MemoryState) -> Run:
    """Give the layer the tokens of x one at a time, after `state`."""

    def run() -> None:
        after = state
        for token in x.split(1, dim=1):
            _, after = layer(token, after)

    return run


PRODUCTS = {
    torch.ops.aten.mm.default: 0,
    torch.ops.aten.bmm.default: 0,
    torch.ops.aten.addmm.default: 1,
    torch.ops.aten.baddbmm.default: 1,
    torch.ops.aten.baddbmm_.default: 1,
}  # operation -> which of its arguments is the first factor


class Products(TorchDispatchMode):
    """Notes every matrix product that is made, in order: two factors of its sizes and layouts, and a result."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[Any, tuple[Tensor, Tensor, Tensor]] = {}
        self.order: list[tuple[Tensor, Tensor, Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in PRODUCTS:
            a, b = (x.detach() for x in args[PRODUCTS[func] :][:2])
            sizes = tuple((x.shape, x.stride()) for x in (a, b))
            if sizes not in self.made:
                self.made[sizes] = (a.clone(), b.clone(), a @ b)
            self.order.append(self.made[sizes])
        return func(*args, **(kwargs or {}))


def products_alone(run: Run) -> Run:
    """The matrix products of a run, in the same order, and nothing else."""
    with Products() as products:
        run()

    def again() -> None:
        for a, b, out in products.order:
            torch.matmul(a, b, out=out)

    return again


def extra_of_layer(sizes: Sizes) -> float:
    """MB that one call of the layer without gradients takes beyond its input and output, in a process of its own."""
    _load_kernels()
    layer = NeuralMemory(sizes["dim"], chunk_size=sizes["chunk"])
    x = torch.randn(sizes["batch"], sizes["tokens"], sizes["dim"])
    return _extra(lambda: layer(x)[0])


def extra_of_scan(sizes: Sizes) -> float:
    """The same of one bare scan, bounded as the layer bounds it (D12)."""
    _load_kernels()
    scan = ScanInputs(sizes, max_surprise=10 * sizes["dim"] ** 0.5)
    return _extra(lambda: scan()[0])


@torch.no_grad()
def _load_kernels() -> None:
    """What is loaded with the first use of an operation is not what a call takes."""
    NeuralMemory(4, chunk_size=2)(torch.randn(1, 4, 4))


@torch.no_grad()
def _extra(call: Callable[[], Tensor]) -> float:
    before, _ = _memory()
    y = call()
    _, peak = _memory()
    return max(4096, peak - before - y.numel() * y.element_size()) / 1e6  # a page at least


def _memory() -> tuple[int, int]:
    """Bytes that the process holds now, and that it has held at most (Linux).

    Not getrusage's: that counts what the parent process held when it made this one.
    """
    facts = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines())
    now, most = (int(facts[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
    return now, most
