"""What is carried from call to call (D10): states that can be cut from the graph, moved, saved and
loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

Weights = tuple[Tensor, ...]
MOMENTUM = "momentum"  # the signature of the inner rule of equations 13 and 14
FILE_FORMAT, OLD_FORMATS = "titans-state-2", ("titans-state-1",)


@dataclass(frozen=True)
class State:
    """A frozen record of tensors, facts and other states. Nothing changes it in place: every call
    returns a new one."""

    kinds: ClassVar[dict[str, type[State]]] = {}

    def __init_subclass__(cls) -> None:
        State.kinds[cls.__name__] = cls

    def detach(self) -> Self:
        """The same numbers, cut from the graph: no gradient flows to earlier calls (D7)."""
        return _map(self, Tensor.detach, {})

    def to(self, *args, **kwargs) -> Self:
        """Moved or cast as `torch.Tensor.to` does."""
        return _map(self, lambda tensor: tensor.to(*args, **kwargs), {})

    def select(self, rows: Tensor) -> Self:
        """Row i of the result is row rows[i] of this one; rows: whole numbers [n]."""
        return _map(self, lambda tensor: tensor.index_select(0, rows.to(tensor.device)), {})

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by name, one that stands in two places once."""
        found: dict[str, Tensor] = {}
        _pack(self, "", found, {})
        return found

    def with_tensors(self, tensors: Iterable[Tensor]) -> Self:
        """The same facts with other tensors, in the order of `tensors()`."""
        new = dict(zip(map(id, self.tensors().values()), tensors, strict=True))
        return _map(self, lambda tensor: new[id(tensor)], {})

    def save(self, path: str | Path) -> None:
        """Write the state to a safetensors file; `load` reads it back bit for bit."""
        found: dict[str, Tensor] = {}
        facts = _pack(self, "", found, {})
        # Clones, because M_0 may be one tensor that every row sees; a file holds each row.
        whole = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in found.items()}
        save_file(whole, path, metadata={"format": FILE_FORMAT, "facts": json.dumps(facts)})

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> Self:
        """Read a state that `save` of the same class wrote.

        Raises FileNotFoundError where there is no file, ValueError for a truncated or a foreign
        file.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"path must be a file that {cls.__name__}.save wrote, found none at {path}")
        try:
            with safe_open(path, framework="pt", device=str(device)) as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
        except SafetensorError as error:
            raise ValueError(f"path must be a whole safetensors file, {path} is not: {error}") from error
        foreign = f"path must be a file that {cls.__name__}.save wrote, {path} holds something else"
        if (written := metadata.get("format")) in OLD_FORMATS:
            raise ValueError(
                f"path must hold a state of the format {FILE_FORMAT}, {path} was written by an older version "
                f"({written}), whose states cannot be gone on from: read the text again, and save anew"
            )
        try:
            state = _unpack(json.loads(metadata["facts"]), tensors) if written == FILE_FORMAT else None
        except (AttributeError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{foreign}: {error!r}") from error
        if not isinstance(state, cls):
            raise ValueError(foreign)
        return state


def _map(value: Any, change: Callable[[Tensor], Tensor], done: dict[int, Tensor]) -> Any:
    """The same structure with every tensor changed, one that stands in two places once."""
    if isinstance(value, Tensor):
        if id(value) not in done:
            done[id(value)] = change(value)
        return done[id(value)]
    if isinstance(value, tuple):
        return tuple(_map(part, change, done) for part in value)
    if isinstance(value, State):
        return replace(value, **{f.name: _map(getattr(value, f.name), change, done) for f in fields(value)})
    return value


def _pack(value: Any, name: str, found: dict[str, Tensor], names: dict[int, str]) -> Any:
    """The structure as JSON can hold it, with names in place of tensors, which are added to `found`."""
    if isinstance(value, Tensor):
        if id(value) not in names:
            names[id(value)], found[name] = name, value
        return {"tensor": names[id(value)]}
    prefix = f"{name}." if name else ""
    if isinstance(value, tuple):
        return [_pack(part, f"{prefix}{place}", found, names) for place, part in enumerate(value)]
    if isinstance(value, State):
        parts = {f.name: _pack(getattr(value, f.name), prefix + f.name, found, names) for f in fields(value)}
        return {"state": type(value).__name__, "parts": parts}
    return value


def _unpack(facts: Any, tensors: dict[str, Tensor]) -> Any:
    """What `_pack` packed."""
    if isinstance(facts, list):
        return tuple(_unpack(part, tensors) for part in facts)
    if isinstance(facts, dict) and "tensor" in facts:
        return tensors[facts["tensor"]]
    if isinstance(facts, dict):
        return State.kinds[facts["state"]](**{name: _unpack(part, tensors) for name, part in facts["parts"].items()})
    return facts


@dataclass(frozen=True)
class MemoryState(State):
    """The state of a memory after some tokens.

    The gradients of a chunk are all taken at the weights that the chunk started with (D1). A
    sequence may be cut inside a chunk, so those weights travel along, and so does the number of
    tokens that the chunk has seen. That is what makes any split of a sequence into calls give the
    same numbers as one call (D10).

    weights: M_t, one tensor [batch, heads, out, in] a layer.
    chunk_weights: M_t', where the gradients of the current chunk are taken; the same tensors as
        `weights` at place 0.
    rule_state: what the inner rule carries from token to token, tensors [batch, ...]: S_t with the
        default rule, of the shapes of `weights`. Empty before the first token.
    rule: the signature of that rule.
    place_in_chunk: tokens that the current chunk has seen, 0 <= place_in_chunk < chunk_size.
    chunk_size: tokens a chunk, set by the first scan; None before it.
    signature: of the memory that the state belongs to (`DeepMemory.signature`).
    """

    weights: Weights
    chunk_weights: Weights
    rule_state: tuple[Tensor, ...] = ()
    rule: str = MOMENTUM
    place_in_chunk: int = 0
    chunk_size: int | None = None
    signature: str = ""

    @property
    def momentum(self) -> Weights:
        """S_t, which the default rule carries: zero before the first token."""
        if self.rule != MOMENTUM:
            raise AttributeError(f"a state of the rule {self.rule!r} has no momentum; see rule_state")
        return self.rule_state or tuple(torch.zeros_like(weight) for weight in self.weights)
