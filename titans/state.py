"""What is carried from call to call (D10): states that can be cut from the graph, moved, saved,
loaded, and whose rows can be taken out and joined with those of others."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from inspect import get_annotations
from itertools import count
from numbers import Integral, Number
from pathlib import Path
from types import UnionType
from typing import Any, ClassVar, Self, Union, get_args, get_origin, get_type_hints

import torch
from torch import Tensor
from torch.utils._pytree import GetAttrKey, KeyEntry, register_pytree_node

from titans import files
from titans.checks import check_rows

Weights = tuple[Tensor, ...]
Places = int | tuple[int, ...]  # tokens: one number where all rows have the same, else one a row
MOMENTUM = "momentum"  # the signature of the inner rule of equations 13 and 14
FILE_FORMAT, OLD_FORMATS = "titans-state-3", ("titans-state-1", "titans-state-2")


@dataclass(frozen=True)
class State:
    """A frozen record of tensors [batch, ...], facts and other states. Nothing changes it in place:
    every call returns a new one.

    row_facts: names of fields that hold `Places`.
    """

    kinds: ClassVar[dict[str, type[State]]] = {}
    row_facts: ClassVar[frozenset[str]] = frozenset()
    tensor_fields: ClassVar[frozenset[str]] = frozenset()  # by their types: tools put other things in tensors' places
    made_by: ClassVar[tuple] = ()  # what `note` says of the state of one call

    def __init_subclass__(cls) -> None:
        known = State.kinds.setdefault(cls.__name__, cls)
        if (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
            raise TypeError(f"{cls.__name__} must have a name of its own: files name states so, and {known} has it")
        found = {name: set(re.findall(r"\w+", str(hint))) for name, hint in get_annotations(cls).items()}
        words = {"Tensor", "Weights", "State", *State.kinds}
        cls.tensor_fields |= {name for name, some in found.items() if some & words}
        State.kinds[cls.__name__] = cls  # the same class again, of a module or cell that is run again
        register_pytree_node(cls, _parts, partial(_of_parts, cls), flatten_with_keys_fn=_named_parts)

    def detach(self) -> Self:
        """The same numbers, cut from the graph: no gradient flows to earlier calls (D7)."""
        return _map(self, Tensor.detach, {})

    def to(self, *args, **kwargs) -> Self:
        """Moved or cast as `torch.Tensor.to` does."""
        return _map(self, lambda tensor: tensor.to(*args, **kwargs), {})

    def clone(self) -> Self:
        """The same numbers in tensors of their own, which can be trained on, whatever mode they were made under."""
        with torch.inference_mode(False):
            return _map(self, Tensor.clone, {})

    def select(self, rows: Tensor) -> Self:
        """Row i of the result is row rows[i] of this one. rows: whole numbers [n], negative ones
        counted from the end; or booleans [batch], which keep the rows that are True.

        Raises TypeError or ValueError for others.
        """
        rows, chosen = check_rows("rows", rows, self._rows()), {}

        def choose(tensor: Tensor) -> Tensor:
            if tensor.device not in chosen:
                chosen[tensor.device] = rows.to(tensor.device)
            return tensor.index_select(0, chosen[tensor.device])

        return _take(self, choose, rows.tolist(), {})

    def split(self) -> list[Self]:
        """A state for each row."""
        if (batch := self._rows()) is None:
            raise ValueError("state must hold tensors to be split by rows, got none")
        return [self.select(torch.tensor([row])) for row in range(batch)]

    @classmethod
    def join(cls, states: Sequence[Self]) -> Self:
        """One state for the rows of all, in their order, wherever each of them stands in its
        segment and chunk.

        A call of one token without gradients reads on from it directly; for others `TitansLM` takes
        rows of equal place together.
        Raises TypeError or ValueError for what is no state of one kind.
        """
        states = list(states)
        if not states or not all(isinstance(state, cls) for state in states):
            have = [type(state).__name__ for state in states]
            raise TypeError(f"states must be at least one {cls.__name__}, got {have}")
        sizes = [size for state in states if (size := state._rows()) is not None]
        if len(sizes) < len(states):
            raise ValueError("states must hold tensors to be joined by rows, got one without")
        return _join("state", states, sizes, {})

    def _rows(self) -> int | None:
        """How many rows it has; None where no tensor tells."""
        return next((len(tensor) for tensor in every_tensor(self)), None)

    def taken(self) -> Self:
        """Some rows of a state, once nothing is in it that none of them needs."""
        return self

    @classmethod
    def alike(cls, states: Sequence[Self], sizes: Sequence[int]) -> Sequence[Self]:
        """States of so many rows each as they are joined: with the same tensors of the same shapes, but for the
        rows, whatever they have read."""
        return states

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


SERIALS = count(secrets.randbits(48))  # of modules that make states; no two alike, in other processes neither


def note(state: State, *made_by: Any) -> None:
    """Note what has made this very state, so that it need not look at it again: whatever changes a state makes a new
    one, without the note."""
    object.__setattr__(state, "made_by", made_by)


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


Facts = tuple[tuple[str, ...], tuple[tuple[str, Any], ...]]


def _parts(state: State) -> tuple[list[Any], Facts]:
    """What of a state holds tensors, for tools that look for them in what a call takes and returns (torch.func,
    torch.export); beside it the names of these fields, and the fields that hold facts alone."""
    values, holding = {f.name: getattr(state, f.name) for f in fields(state)}, state.tensor_fields
    names = tuple(name for name, value in values.items() if name in holding and value is not None)
    return [values[name] for name in names], (names, tuple((n, v) for n, v in values.items() if n not in names))


def _named_parts(state: State) -> tuple[list[tuple[KeyEntry, Any]], Facts]:
    """`_parts`, each with the name of its field."""
    parts, facts = _parts(state)
    return [(GetAttrKey(name), part) for name, part in zip(facts[0], parts, strict=True)], facts


def _of_parts(kind: type[State], parts: Iterable[Any], facts: Facts) -> State:
    """The state of which these are the `_parts`."""
    names, others = facts
    return kind(**dict(zip(names, parts, strict=True)), **dict(others))


def row_facts(value: Any) -> Iterator[Places]:
    """All `Places` of a state."""
    if isinstance(value, tuple):
        for part in value:
            yield from row_facts(part)
    elif isinstance(value, State):
        for name, part in vars(value).items():
            if name in value.row_facts:
                yield part
            else:
                yield from row_facts(part)


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


def _take(value: Any, change: Callable[[Tensor], Tensor], rows: list[int], done: dict[int, Tensor]) -> Any:
    """As `_map`, where `change` takes some rows of a tensor, which of them in `rows`."""
    if isinstance(value, Tensor):
        return _map(value, change, done)
    if isinstance(value, tuple):
        return tuple(_take(part, change, rows, done) for part in value)
    if isinstance(value, State):
        parts = {}
        for name, part in ((f.name, getattr(value, f.name)) for f in fields(value)):
            if name not in value.row_facts:
                parts[name] = _take(part, change, rows, done)
            elif isinstance(part, tuple):
                parts[name] = places_of([part[row] for row in rows])
        return replace(value, **parts).taken()
    return _fact(value)


def _join(name: str, values: Sequence[Any], sizes: Sequence[int], done: dict[tuple[int, ...], Tensor]) -> Any:
    """The rows of several of the same structure, `sizes` of each."""
    first = values[0]
    if len({type(value) for value in values} - {int, float}) > 1:
        have, hint = [type(value).__name__ for value in values], ""
        if None in values:
            hint = "; begin with initial_state what is to be joined before its first token"
        raise ValueError(f"states must be of one kind, got {have} in {name}{hint}")
    if isinstance(first, Tensor):
        if (key := tuple(map(id, values))) not in done:
            if len({(value.shape[1:], value.dtype, value.device) for value in values}) > 1:
                have = [f"{value.dtype} {list(value.shape)} on {value.device}" for value in values]
                raise ValueError(f"states must be alike, {name} are {have}")
            done[key] = torch.cat(list(values))
        return done[key]
    if isinstance(first, tuple):
        if len(set(map(len, values))) > 1:
            raise ValueError(f"states must be alike, {name} have {[len(value) for value in values]} parts")
        return tuple(
            _join(f"{name}.{place}", parts, sizes, done) for place, parts in enumerate(zip(*values, strict=True))
        )
    if isinstance(first, State):
        return _join_states(name, first.alike(values, sizes), sizes, done)
    if any(value != first for value in values):
        raise ValueError(f"states must be alike, {name} are {list(values)}")
    return _fact(first)


def _join_states(name: str, states: Sequence[State], sizes: Sequence[int], done: dict[tuple[int, ...], Tensor]) -> Any:
    """`_join` for states that have been made alike."""
    parts: dict[str, Any] = {}
    for field in fields(states[0]):
        values = [getattr(state, field.name) for state in states]
        if field.name in states[0].row_facts:
            each = (each_row(value, size) for value, size in zip(values, sizes, strict=True))
            parts[field.name] = places_of([place for places in each for place in places])
        else:
            parts[field.name] = _join(f"{name}.{field.name}", values, sizes, done)
    return replace(states[0], **parts)


def each_row(places: Places, batch: int) -> tuple[int, ...]:
    """The place of every row."""
    return places if isinstance(places, tuple) else (places,) * batch


def moved_on(places: Places, tokens: int, length: int) -> Places:
    """Places in stretches of `length` after further tokens."""
    if isinstance(places, tuple):
        return tuple((place + tokens) % length for place in places)
    return (places + tokens) % length


def at_start(places: Places, new: Tensor, old: Tensor) -> Tensor:
    """`new` for the rows whose place is 0, `old` for the others."""
    if not isinstance(places, tuple):
        return new if places == 0 else old
    if all(places) or new is old:
        return old
    begun = torch.tensor([place == 0 for place in places], device=new.device)
    return torch.where(begun.view(-1, *[1] * (new.ndim - 1)), new, old)


def any_at_start(places: Places) -> bool:
    """Whether a row's place is 0."""
    return not all(places) if isinstance(places, tuple) else places == 0


def one_place(name: str, places: Places) -> int:
    """The place of all rows, or the error that says what to do where they differ."""
    if isinstance(places, tuple):
        raise ValueError(
            f"{name} must be one number for a call of several tokens or with gradients, got rows at {list(places)}: "
            "select rows of equal place, or read one token at a time without gradients"
        )
    return places


def places_of(each: Sequence[int]) -> Places:
    """Places of rows, as one number where all are equal."""
    return each[0] if len(set(each)) == 1 else tuple(each)


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
    place_in_chunk: tokens that the current chunk has seen, 0 <= place_in_chunk < chunk_size; a tuple of
        them where rows were joined that differ.
    chunk_size: tokens a chunk, set by the first scan; None before it.
    signature: of the memory that the state belongs to (`DeepMemory.signature`).
    """

    row_facts = frozenset(("place_in_chunk",))

    weights: Weights
    chunk_weights: Weights
    rule_state: tuple[Tensor, ...] = ()
    rule: str = MOMENTUM
    place_in_chunk: Places = 0
    chunk_size: int | None = None
    signature: str = ""

    @property
    def momentum(self) -> Weights:
        """S_t, which the default rule carries: zero before the first token."""
        if self.rule != MOMENTUM:
            raise AttributeError(f"a state of the rule {self.rule!r} has no momentum; see rule_state")
        return self.rule_state or tuple(torch.zeros_like(weight) for weight in self.weights)

    @classmethod
    def alike(cls, states: Sequence[Self], sizes: Sequence[int]) -> Sequence[Self]:
        """What a rule carries starts at zero (`Rule.shapes`): a memory that has read nothing gets it from one
        that has."""
        begun = next((state for state in states if state.chunk_size), None)
        if begun is None:
            return states
        return [state if state.chunk_size else state._begun_like(begun) for state in states]

    def _begun_like(self, other: Self) -> Self:
        """The same before its first token, with what the rule of the other carries."""
        like, batch = self.weights[0], len(self.weights[0])
        zeros = tuple(like.new_zeros(batch, *carried.shape[1:]) for carried in other.rule_state)
        return replace(self, rule_state=zeros, rule=other.rule, chunk_size=other.chunk_size)
