"""What both scans are handed: gates, tokens, and the inner rule's contract; and the errors for what
does not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from titans.checks import check_instance, check_integer, check_number, check_range, check_shape, check_tensor
from titans.memory import Memory
from titans.state import MemoryState, Weights, each_row


class Gates(NamedTuple):
    """What a write obeys (equations 9-14), for every token: [batch, heads, tokens], or with a last
    axis [..., depth].

    theta >= 0: step size on the momentary surprise. eta in [0, 1]: how much of the past surprise
    stays.
    alpha in [0, 1]: how much of the memory is forgotten.
    """

    theta: Tensor
    eta: Tensor
    alpha: Tensor

    def per_layer(self, depth: int) -> Gates:
        """The same gates with their last axis: [batch, heads, tokens, depth]."""
        return Gates(*(gate if gate.ndim == 4 else gate[..., None].expand(*gate.shape, depth) for gate in self))

    def by_layer(self) -> tuple[Weights, Weights, Weights]:
        """theta, eta and alpha of every layer, [batch, heads, tokens, 1] each, from gates with
        their last axis."""
        theta, eta, alpha = (gate[..., None].unbind(-2) for gate in self)
        return theta, eta, alpha


class Tokens(NamedTuple):
    """What a scan reads: q, k, v [batch, heads, tokens, dim], and the gates of these tokens."""

    q: Tensor
    k: Tensor
    v: Tensor
    gates: Gates

    def part(self, tokens: slice) -> Tokens:
        """Some of the tokens."""
        gates = Gates(*(gate[:, :, tokens] for gate in self.gates))
        return Tokens(self.q[:, :, tokens], self.k[:, :, tokens], self.v[:, :, tokens], gates)


@runtime_checkable
class Rule(Protocol):
    """The inner rule: how one token changes a memory. `recurrent_scan` takes any; `Momentum` is the
    paper's.

    signature: text that tells one rule from another, for the states that it has carried something
        in.
    """

    @property
    def signature(self) -> str: ...

    def shapes(self, memory: Memory) -> Sequence[Sequence[int]]:
        """Of what the rule carries from token to token, for one row. It starts at zero."""
        ...

    def step(
        self, memory: Memory, weights: Weights, carried: tuple[Tensor, ...], at: Weights, token: Tokens
    ) -> tuple[Weights, tuple[Tensor, ...]]:
        """One token later: new weights, and what is carried on.

        weights: as the token finds them. at: those where gradients are taken, the chunk's start
            (D1).
        token: a single one, its gates [batch, heads, 1, depth].
        """
        ...


# ---- The errors ------------------------------------------------------------------------------------------------------


def check_scan(
    memory: Memory, state: MemoryState, tokens: Tokens, chunk_size: int, max_surprise: float | None, rule: Rule
) -> None:
    """Raise the error that names the first argument of a scan that does not fit."""
    check_integer("chunk_size", chunk_size)
    if any(len(shape) != 3 for shape in memory.shapes):
        have = [tuple(shape) for shape in memory.shapes]
        raise ValueError(f"memory.shapes must be [heads, out, in] each (a bias: [heads, 1, dim]), got {have}")
    if max_surprise is not None:
        check_number("max_surprise", max_surprise, 0)
    q, k, v, gates = tokens
    check_shape("k", k, {"batch": None, "heads": memory.heads, "tokens": None, "dim": memory.dim})
    if k.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"k must be float32 or float64 (a half-precision memory loses small writes), got {k.dtype}")
    shape: dict[str, int | None] = dict(zip(("batch", "heads", "tokens", "dim"), k.shape, strict=True))
    check_shape("q", q, shape, like=k)
    check_shape("v", v, shape, like=k)
    check_gates(gates, k, len(memory.shapes))
    check_state(state, memory, rule, k.shape[0], chunk_size, k)


def check_step(memory: Memory, rule: Rule, weights: Weights, carried: tuple[Tensor, ...], like: Tensor) -> None:
    """Raise unless a step of a rule has made what it says: weights and what is carried on, in their shapes."""
    parts = {"weights": (weights, memory.shapes), "what is carried": (carried, rule.shapes(memory))}
    for name, (tensors, shapes) in parts.items():
        want = [((len(like), *shape), like.dtype) for shape in shapes]
        have = [(tuple(tensor.shape), tensor.dtype) for tensor in tensors]
        if not isinstance(tensors, tuple) or have != want:
            kind = type(tensors).__name__
            raise ValueError(
                f"rule {rule.signature!r}: {name} after a step must be a tuple of {want}, got a {kind} of {have}"
            )


def check_gates(gates: Gates, like: Tensor, depth: int) -> None:
    """Raise unless shapes and ranges fit keys `like` [batch, heads, tokens, dim] and a memory of
    this depth."""
    check_instance("gates", gates, Gates)
    shape: dict[str, int | None] = dict(zip(("batch", "heads", "tokens"), like.shape[:3], strict=True))
    for name, gate, high in (("theta", gates.theta, torch.inf), ("eta", gates.eta, 1), ("alpha", gates.alpha, 1)):
        per_layer = isinstance(gate, Tensor) and gate.ndim == 4
        check_shape(f"gates.{name}", gate, shape | {"depth": depth} if per_layer else shape, like)
        check_range(f"gates.{name}", gate, 0, high)


def check_state(state: object, memory: Memory, rule: Rule, batch: int, chunk_size: int, like: Tensor) -> None:
    """Refuse a state that another memory, rule, batch size, chunk size, dtype or device has made."""
    check_instance("state", state, MemoryState)
    assert isinstance(state, MemoryState)
    if not state.weights:
        raise ValueError("state must hold the weights of every layer, got none")
    first = check_tensor("state.weights[0]", state.weights[0])
    facts = [
        ("memory", state.signature, memory.signature),
        ("batch size", first.shape[0] if first.ndim else 0, batch),
        ("chunk_size", state.chunk_size or chunk_size, chunk_size),
        ("rule", state.rule if state.chunk_size else rule.signature, rule.signature),
        ("dtype", first.dtype, like.dtype),
        ("device", first.device, like.device),
    ]
    for name, have, want in facts:
        if have != want:
            raise ValueError(f"state belongs to another {name}: it has {have}, needed is {want}")
    shapes = {"weights": memory.shapes, "chunk_weights": memory.shapes, "rule_state": rule.shapes(memory)}
    for name, wanted in shapes.items():
        tensors, whole = getattr(state, name), [(batch, *shape) for shape in wanted]
        have = [tuple(check_tensor(f"state.{name}", tensor).shape) for tensor in tensors]
        if have != whole and (tensors or name != "rule_state"):
            raise ValueError(f"state.{name} must have the shapes {whole}, got {have}")
        if any((tensor.dtype, tensor.device) != (like.dtype, like.device) for tensor in tensors):
            raise ValueError(f"state.{name} must have dtype {like.dtype} and be on device {like.device}")
    places = state.place_in_chunk
    if not all(0 <= place < chunk_size for place in each_row(places, 1)):
        raise ValueError(f"state.place_in_chunk must be in [0, {chunk_size - 1}], got {places}")
    if isinstance(places, tuple) and len(places) != batch:
        raise ValueError(f"state.place_in_chunk must be one number or {batch}, one a row, got {len(places)}")
