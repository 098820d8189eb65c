"""The memory M: a small network whose weights are the state (equations 11, 12 and 15).

Reading is a forward pass, y = M(q). Writing is a gradient step on the associative loss of one pair,
    l(M; k, v) = |M(k) - v|^2,                                                      (12)
summed over features, the factor 2 of its gradient kept (D8). In a network without biases the
gradient of every layer is an outer product, e a^T: `a` is what goes into the layer, `e` the error
that comes back to what leaves it. `DeepMemory.errors` works both out by hand; everything in
`titans.chunked` rests on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, TypeGuard, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from titans.bounds import full_precision
from titans.checks import check_choice, check_flag, check_integer, check_shape, own_derivatives
from titans.state import MemoryState, Weights

LAYER_NORM_EPS = 1e-5


class Activation(NamedTuple):
    """A non-linearity s, and what it hands back: backward(g, h) = g s'(h), itself differentiable."""

    forward: Callable[[Tensor], Tensor]
    backward: Callable[[Tensor, Tensor], Tensor]


def _silu_backward(g: Tensor, h: Tensor) -> Tensor:
    sigmoid = torch.sigmoid(h)  # written out: torch.ops.aten.silu_backward has no derivative of its own
    return g * sigmoid * (1 + h * (1 - sigmoid))


ACTIVATIONS = {
    "gelu": Activation(F.gelu, torch.ops.aten.gelu_backward),
    "silu": Activation(F.silu, _silu_backward),
    "relu": Activation(F.relu, lambda g, h: g * (h > 0)),
    "tanh": Activation(torch.tanh, lambda g, h: g * (1 - torch.tanh(h) ** 2)),
}


@runtime_checkable
class Memory(Protocol):
    """What `recurrent_scan` asks of a memory; autograd does the rest.

    dim, heads: features of a head, and how many heads, each a memory of its own.
    shapes: of its weights for one row, [heads, out, in] each. A layer is one of them, and has gates
        of its own.
    signature: text that tells one configuration from another, for the states that belong to it.
    """

    @property
    def dim(self) -> int: ...

    @property
    def heads(self) -> int: ...

    @property
    def shapes(self) -> Sequence[torch.Size]: ...

    @property
    def signature(self) -> str: ...

    def initial_state(self, batch: int) -> MemoryState:
        """M_0 for each of `batch` rows: `MemoryState(weights, weights, signature=self.signature)`, the
        weights being copies, so that a state stays what it was when M_0 is trained."""
        ...

    def read(self, weights: Sequence[Tensor], x: Tensor) -> Tensor:
        """M(x): x and the result [batch, heads, tokens, dim], weights [batch, heads, out, in] a layer."""
        ...


def check_memory(memory: object) -> Memory:
    """A memory, or the error that says what it lacks."""
    lacking = [name for name in vars(Memory) if not name.startswith("_") and not hasattr(memory, name)]
    if lacking or isinstance(memory, type):
        without = f", which lacks {', '.join(lacking)}" if lacking else ""
        raise TypeError(f"memory must be a Memory, got {type(memory).__name__}{without}")
    assert isinstance(memory, Memory)
    return memory


@runtime_checkable
class LayeredMemory(Memory, Protocol):
    """What `chunked_scan` asks besides: that reading goes through the layers one by one, h_l = W_l
    a_l, so
    that the gradient of each is a sum of outer products, e_l a_l^T. See `DeepMemory` for each
    method."""

    @property
    def activation(self) -> Activation: ...

    def surround(self, x: Tensor, h: Tensor) -> Tensor: ...

    def errors(self, weights: Sequence[Tensor], k: Tensor, v: Tensor) -> tuple[list[Tensor], list[Tensor]]: ...


def is_layered(memory: object) -> TypeGuard[LayeredMemory]:
    """Whether a memory is a `LayeredMemory`; for a `DeepMemory` known without a look at all that it has."""
    return isinstance(memory, DeepMemory | LayeredMemory)


class FirstWeights(nn.ParameterList):
    """M_0, one tensor [heads, out, in] a layer. Called, so that tools which bring parameters only when their module is
    called can bring it: a copy for each row."""

    __call__ = nn.Module.__call__  # a ParameterList refuses to be called

    def forward(self, batch: int) -> Weights:
        return tuple(weight.expand(batch, *weight.shape).clone() for weight in self)


class DeepMemory(nn.Module):
    """M(x) = W_L s(W_{L-1} ... s(W_1 x)): an MLP without biases, one for each head, its weights
    handed in from outside.

    The module owns M_0, the weights that every sequence starts from, learned in the outer loop
    (D6). Without a residual the last layer starts at zero, so M_0 is the zero function and the
    first errors are the values themselves.

    dim: features of a head's keys, queries and values.
    heads: independent memories.
    depth: layers L; 1 is a matrix.
    expansion: hidden width / dim, for depth > 1.
    activation: s, one of "gelu", "silu", "relu", "tanh".
    residual: True for M(x) = x + LN(MLP(x)), the form of the paper's later version, LN without
        scale or shift. At a zero last layer LN is singular (its slope is 1/sqrt(eps)), so there the
        last layer starts at random instead.
    """

    def __init__(
        self,
        dim: int,
        heads: int = 1,
        depth: int = 2,
        expansion: int = 4,
        activation: str = "gelu",
        residual: bool = False,
    ) -> None:
        super().__init__()
        given = {"dim": dim, "heads": heads, "depth": depth, "expansion": expansion}
        dim, heads, depth, expansion = (check_integer(name, value) for name, value in given.items())
        check_choice("activation", activation, ACTIVATIONS)
        check_flag("residual", residual)
        self.dim, self.heads, self.depth, self.residual = dim, heads, depth, residual
        self.activation_name = activation
        self.signature = f"{dim=} {heads=} {depth=} {expansion=} {activation=} {residual=}"
        widths = [dim] + [dim * expansion] * (depth - 1) + [dim]
        shapes = zip(widths[1:], widths[:-1], strict=True)
        self.weights = FirstWeights(nn.Parameter(torch.empty(heads, *shape)) for shape in shapes)
        self.shapes = [weight.shape for weight in self.weights]
        self.reset_parameters()

    @property
    def activation(self) -> Activation:
        """s and its derivative, looked up by name: its functions cannot be pickled, and a module
        should be."""
        return ACTIVATIONS[self.activation_name]

    def reset_parameters(self) -> None:
        """Hidden layers at random; the last one zero, or at random too where a residual surrounds
        the network."""
        for weight in self.weights:
            nn.init.normal_(weight, std=2 * weight.shape[-1] ** -0.5)
        if not self.residual:
            nn.init.zeros_(self.weights[-1])

    def initial_state(self, batch: int) -> MemoryState:
        """A copy of M_0 for each of `batch` rows, part of the graph, so that M_0 can be learned (D6)."""
        check_integer("batch", batch)
        weights = self.weights(batch)
        return MemoryState(weights, weights, signature=self.signature)

    def read(self, weights: Sequence[Tensor], x: Tensor) -> Tensor:
        """M(x), equation 15: x and the result [batch, heads, tokens, dim], weights [batch, heads,
        out, in] a layer."""
        check_shape("x", x, {"batch": None, "heads": self.heads, "tokens": None, "dim": self.dim})
        if len(weights) != self.depth:
            raise ValueError(f"weights must hold {self.depth} tensors, one a layer, got {len(weights)}")
        _, outputs = self.layers(weights, x)
        return self.surround(x, outputs[-1])

    def layers(self, weights: Sequence[Tensor], x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """What goes into each layer, a_1 ... a_L, and what leaves it, h_l = W_l a_l (before the
        activation)."""
        inputs: list[Tensor] = []
        outputs: list[Tensor] = []
        for weight in weights:
            inputs.append(self.activation.forward(outputs[-1]) if outputs else x)
            outputs.append(_times_transposed(inputs[-1], weight))
        return inputs, outputs

    def surround(self, x: Tensor, h: Tensor) -> Tensor:
        """From the last layer's h to M(x): h itself, or x + LN(h)."""
        return x + _layer_norm(h)[0] if self.residual else h

    def errors(self, weights: Sequence[Tensor], k: Tensor, v: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The gradient of equation 12, a sum over features (D8), in factors, by hand: layer l's, for
        token i, is e_l[i] a_l[i]^T.

        Back-propagation: e_L = 2 (M(k) - v), through LN where there is one, and e_l = s'(h_l) *
        (W_{l+1}^T e_{l+1}).
        Returns the lists a_1 ... a_L, of [..., tokens, in], and e_1 ... e_L, of [..., tokens, out].
        """
        inputs, outputs = self.layers(weights, k)
        error = 2 * (self.surround(k, outputs[-1]) - v)
        errors = [_layer_norm_backward(error, outputs[-1]) if self.residual else error]
        for layer in range(self.depth - 1, 0, -1):
            errors.append(self.activation.backward(_times(errors[-1], weights[layer]), outputs[layer - 1]))
        return inputs, errors[::-1]

    def extra_repr(self) -> str:
        return self.signature


def unit(x: Tensor) -> Tensor:
    """x / |x|, with a bounded slope at 0."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)


def _times(x: Tensor, weight: Tensor) -> Tensor:
    """x @ weight; for three axes of the same size by the operation that `@` takes many steps to reach."""
    return torch.bmm(x, weight) if _one_each(x, weight) else x @ weight


def _times_transposed(x: Tensor, weight: Tensor) -> Tensor:
    """x @ weight.mT, that is W x of every token."""
    if torch.is_grad_enabled() and _one_each(x, weight) and own_derivatives():
        return TimesTransposed.apply(x, weight)
    return _times(x, weight.mT)


def _one_each(x: Tensor, weight: Tensor) -> bool:
    return x.ndim == weight.ndim == 3 and len(x) == len(weight)


class TimesTransposed(torch.autograd.Function):
    """x @ weight.mT, for three axes of the same size. Autograd's own derivative with respect to the weight lies
    transposed in memory, and adding it to the others takes ten times as long as adding tensors that lie alike."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.bmm(x, weight.mT)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        with full_precision(g):
            return torch.bmm(g, weight), torch.bmm(g.mT, x)


def _layer_norm(h: Tensor) -> tuple[Tensor, Tensor]:
    """LN(h) = (h - mean) / sqrt(variance + eps), and one over that root.

    Written out, since the third derivative of torch's own is wrong, which gradients of outer gradients need.
    """
    centred = h - h.mean(-1, keepdim=True)
    scale = torch.rsqrt(centred.square().mean(-1, keepdim=True) + LAYER_NORM_EPS)
    return centred * scale, scale


def _layer_norm_backward(g: Tensor, h: Tensor) -> Tensor:
    """The error at h of LN(h), given the error g at its output."""
    normal, scale = _layer_norm(h)
    return scale * (g - g.mean(-1, keepdim=True) - normal * (g * normal).mean(-1, keepdim=True))
