"""Random problems for a scan: every size, kind of memory, kind of gate and place in a chunk that it accepts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from hypothesis import strategies as st
from torch import Tensor

from titans import DeepMemory, Gates, MemoryState

ACTIVATIONS = ("gelu", "silu", "relu", "tanh")


@dataclass(frozen=True)
class Case:
    """The facts of one random problem; the tensors follow from them and the seed."""

    dim: int = 3
    heads: int = 2
    depth: int = 2
    expansion: int = 2
    activation: str = "gelu"
    residual: bool = False
    batch: int = 2
    tokens: int = 7
    chunk_size: int = 3
    max_surprise: float | None = None
    per_layer: tuple[bool, bool, bool] = (True, True, True)  # gates theta, eta, alpha: one for each layer, or shared
    exact: float = 0.0  # the share of gates that are exactly 0, and of those that are exactly 1
    fresh: bool = False  # start from M_0 as the library initialises it, instead of from any state, in mid-chunk or not
    seed: int = 0


cases = st.builds(
    Case,
    dim=st.integers(1, 4),
    heads=st.integers(1, 3),
    depth=st.integers(1, 4),
    expansion=st.integers(1, 3),
    activation=st.sampled_from(ACTIVATIONS),
    residual=st.booleans(),
    batch=st.integers(1, 2),
    tokens=st.integers(1, 11),
    chunk_size=st.integers(1, 12),
    max_surprise=st.sampled_from([None, None, 0.1, 1.0, 1e6]),
    per_layer=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    exact=st.sampled_from([0.0, 0.25, 0.5]),
    fresh=st.booleans(),
    seed=st.integers(0, 2**31 - 1),
)


@dataclass(frozen=True)
class Problem:
    """A memory, a state to start from, and what is scanned; every tensor in `leaves` asks for its gradient."""

    case: Case
    memory: DeepMemory
    state: MemoryState | None  # None: M_0 as it is when the scan begins
    inputs: dict[str, Tensor]  # q, k, v, theta, eta, alpha

    @property
    def leaves(self) -> dict[str, Tensor]:
        own = {f"M_0.{layer}": weight for layer, weight in enumerate(self.memory.weights)}
        groups = ("weights", "rule_state", "chunk_weights")
        carried = {f"{name}.{i}": x for name in groups for i, x in enumerate(getattr(self.state, name)) if x.is_leaf}
        return self.inputs | (own if self.case.fresh else carried)

    def start(self) -> MemoryState:
        """Where a scan begins; a state holds a copy of M_0, so it is begun anew where M_0 is what moves."""
        fresh = self.state is None or self.case.fresh
        return self.memory.initial_state(self.case.batch) if fresh else self.state

    def part(self, tokens: slice) -> dict[str, Tensor]:
        return {name: tensor[:, :, tokens] for name, tensor in self.inputs.items()}


def make(case: Case) -> Problem:
    """The problem of a case, in float64."""
    random = torch.Generator().manual_seed(case.seed)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        return scale * torch.randn(*shape, generator=random, dtype=torch.float64)

    memory = DeepMemory(case.dim, case.heads, case.depth, case.expansion, case.activation, case.residual).double()
    with torch.no_grad():
        for layer, weight in enumerate(memory.weights):
            if case.fresh and layer == case.depth - 1 and not case.residual:
                continue  # stays zero, as the library starts it
            weight.copy_(normal(*weight.shape, scale=weight.shape[-1] ** -0.5))
    state = memory.initial_state(case.batch)
    if not case.fresh:
        shapes = [weight.shape for weight in state.weights]
        momentum = tuple(normal(*s, scale=0.2 * s[-1] ** -0.5).requires_grad_() for s in shapes)
        place = int(torch.randint(case.chunk_size, (), generator=random))
        weights, start = (tuple(normal(*s, scale=s[-1] ** -0.5).requires_grad_() for s in shapes) for _ in range(2))
        start = start if place else weights
        state = replace(state, weights=weights, rule_state=momentum, chunk_weights=start)
        state = replace(state, place_in_chunk=place, chunk_size=case.chunk_size)

    shape = (case.batch, case.heads, case.tokens)
    inputs = {name: normal(*shape, case.dim, scale=case.dim**-0.5).requires_grad_() for name in ("q", "k", "v")}
    for name, per_layer in zip(("theta", "eta", "alpha"), case.per_layer, strict=True):
        full = (*shape, case.depth) if per_layer else shape
        gate = torch.rand(full, generator=random, dtype=torch.float64)
        which = torch.rand(full, generator=random)
        if name == "theta":
            gate = gate * (0.05 if case.residual else 0.2)
        gate = torch.where(which < case.exact / 2, 0.0, torch.where(which > 1 - case.exact / 2, 1.0, gate))
        inputs[name] = gate.requires_grad_()
    return Problem(case, memory, state, inputs)


def each_tensor(state: MemoryState, change: Callable[[Tensor], Tensor]) -> MemoryState:
    """The state with every tensor changed."""
    groups = {name: tuple(map(change, getattr(state, name))) for name in ("weights", "rule_state", "chunk_weights")}
    return replace(state, **groups)


def gates_of(inputs: dict[str, Tensor]) -> Gates:
    return Gates(inputs["theta"], inputs["eta"], inputs["alpha"])
