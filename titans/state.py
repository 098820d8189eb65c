"""What is carried from call to call (D10): states that can be cut from the graph, moved, saved and
loaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from numbers import Integral, Number
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Self, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from titans import files
from titans.checks import check_rows

Weights = tuple[Tensor, ...]
MOMENTUM = "momentum"  # the signature of the inner rule of equations 13 and 14
FILE_FORMAT, OLD_FORMATS = "titans-state-2", ("titans-state-1",)


@dataclass(frozen=True)
class State:
    """A frozen record of tensors, facts and other states. Nothing changes it in place: every call
    returns a new one."""

    kinds: ClassVar[dict[str, type[State]]] = {}

    def __init_subclass__(cls) -> None:
        known = State.kinds.setdefault(cls.__name__, cls)
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(f"{cls.__name__} must have a name of its own: files name states so, and {known} has it")
        State.kinds[cls.__name__] = cls  # the same class again, of a module or cell that is run again

    def detach(self) -> Self:
        """The same numbers, cut from the graph: no gradient flows to earlier calls (D7)."""
        return _map(self, Tensor.detach, {})

    def to(self, *args, **kwargs) -> Self:
        """Moved or cast as `torch.Tensor.to` does."""
        return _map(self, lambda tensor: tensor.to(*args, **kwargs), {})

    def select(self, rows: Tensor) -> Self:
        """Row i of the result is row rows[i] of this one. rows: whole numbers [n], negative ones
        counted from the end; or booleans [batch], which keep the rows that are True.

        Raises TypeError or ValueError for others.
        """
        batch = next((len(tensor) for tensor in self.tensors().values()), None)
        rows = check_rows("rows", rows, batch)
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
        """Write the state to a safetensors file; `load` reads it back bit for bit. An old file is
        replaced at the end, or stays as it was."""
        found: dict[str, Tensor] = {}
        facts = json.dumps(_pack(self, "", found, {}), default=_plain)
        # Clones, because M_0 may be one tensor that every row sees; a file holds each row.
        whole = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in found.items()}
        files.write(path, whole, {"format": FILE_FORMAT, "facts": facts})

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> Self:
        """Read a state that `save` of the same class wrote.

        Raises FileNotFoundError where there is no file, ValueError for one that is truncated,
        foreign, or has changed since it was written.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"path must be a file that {cls.__name__}.save wrote, found none at {path}")
        tensors, texts = files.read(path, device)
        foreign = f"path must be a file that {cls.__name__}.save wrote, {path} holds something else"
        if (written := texts.get("format")) in OLD_FORMATS:
            raise ValueError(
                f"path must hold a state of the format {FILE_FORMAT}, {path} was written by an older version "
                f"({written}), whose states cannot be gone on from: read the text again, and save anew"
            )
        if written != FILE_FORMAT:
            raise ValueError(foreign)
        files.check_whole(path, tensors, texts)
        try:
            unused = set(tensors)
            state = _unpack(json.loads(texts["facts"]), tensors, unused)
        except Exception as error:  # whatever foreign facts can do to a parser and to constructors
            raise ValueError(f"{foreign}: {type(error).__name__}: {error}") from error
        if not isinstance(state, cls):
            raise ValueError(foreign)
        if unused:
            raise ValueError(f"{foreign}: no fact names its tensors {sorted(unused)}")
        return state


def every_tensor(value: Any) -> Iterator[Tensor]:
    """All tensors of a state, some of them twice: quicker than `tensors`, which names them."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple):
        for part in value:
            yield from every_tensor(part)
    elif isinstance(value, State):
        for part in vars(value).values():
            yield from every_tensor(part)


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
    return _fact(value)


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
    return _fact(value)


def _fact(value: Any) -> Any:
    """What is no tensor, tuple or state: a number, a text or None."""
    if not isinstance(value, Number | str | None):
        raise TypeError(f"a State holds tensors, tuples, states, numbers and texts, got a {type(value).__name__}")
    return value


def _plain(number: Any) -> int | float:
    """A number that JSON does not know, such as numpy's, as one of Python's own."""
    return int(number) if isinstance(number, Integral) else float(number)


def _unpack(facts: Any, tensors: dict[str, Tensor], unused: set[str]) -> Any:
    """What `_pack` packed; names of tensors that it meets leave `unused`. Raises for anything else."""
    if isinstance(facts, list):
        return tuple(_unpack(part, tensors, unused) for part in facts)
    if not isinstance(facts, dict):
        return facts
    if facts.keys() == {"tensor"}:
        unused.discard(facts["tensor"])
        return tensors[facts["tensor"]]
    kind, parts = State.kinds[facts["state"]], facts["parts"]
    if parts.keys() != (wanted := {f.name for f in fields(kind)}):
        raise ValueError(f"{kind.__name__} must have {sorted(wanted)}, got {sorted(parts)}")
    parts, hints = {name: _unpack(part, tensors, unused) for name, part in parts.items()}, get_type_hints(kind)
    for name, part in parts.items():
        if not _fits(part, hints[name]):
            raise ValueError(f"{kind.__name__}.{name} must be {hints[name]}, got a {type(part).__name__}")
    return kind(**parts)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is what a field's type asks for, as far as files can hold it."""
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_fits(part, get_args(hint)[0]) for part in value)
    if get_origin(hint) in (Union, UnionType):
        return any(_fits(value, one) for one in get_args(hint))
    if not isinstance(hint, type):
        return True
    return isinstance(value, hint) and (hint is bool or not isinstance(value, bool))


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
