"""The rows of a batch, wherever each of them stands: what padding, documents in one row and users
who come and go ask of a model with a state.

Nothing in the mathematics knows of padding or of documents. A row is taken apart into pieces, one a
document, each the list of its tokens' places, and the pieces become the rows of other batches:
those that stand at one place are read together, longest first, in stretches. A piece that has ended
leaves at the next stretch's end, and what was read behind its end, zeros, is dropped: nothing sees
the future. Only the last piece of a row must end with its own state, which goes on; so its tokens
behind the last whole chunk or segment are read by themselves. At the end one index brings all to
where it belongs. Rows at one place without padding and borders are read as they are, in one call.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, Self

import torch
from torch import Tensor

from titans.checks import check_rows
from titans.state import State, each_row, row_facts


@dataclass(frozen=True)
class ModelState(State):
    """What a model carries from call to call: a state a layer, and whose they are
    (`TitansLM.signature`)."""

    layers: tuple[State | None, ...]  # None: the layer begins by itself
    signature: str
    batch: int

    def select(self, rows: Tensor) -> ModelState:
        """As a `State`'s, as beam search needs it."""
        rows = check_rows("rows", rows, self.batch)
        self.check_places()
        return replace(super().select(rows), batch=len(rows))

    @classmethod
    def alike(cls, states: Sequence[ModelState], sizes: Sequence[int]) -> Sequence[ModelState]:
        """With one batch size, that of all together."""
        return [replace(state, batch=sum(sizes)) for state in states]

    @property
    def places(self) -> list[tuple[int, ...]]:
        """Where each row stands in its chunks and segments: rows of equal places can be read in one call."""
        self.check_places()
        facts = [each_row(fact, self.batch) for fact in row_facts(self)]
        return list(zip(*facts, strict=True)) if facts else [()] * self.batch

    def check_places(self) -> None:
        """Raise unless places that differ are there for every row."""
        for places in row_facts(self):
            if isinstance(places, tuple) and len(places) != self.batch:
                raise ValueError(f"state must hold a place for each of {self.batch} rows, got {list(places)}")

    def _rows(self) -> int:
        return self.batch

    def first(self, rows: int) -> ModelState:
        """Of the first rows alone, in the same memory."""
        return replace(self.with_tensors(tensor[:rows] for tensor in self.tensors().values()), batch=rows)


@dataclass(frozen=True)
class RowStates(State):
    """The state of a batch, and how much each row has read.

    counts: tokens that each row has read. seen: positions that every row has had so far, padding
        included.
    """

    state: ModelState
    counts: tuple[int, ...]
    seen: int = 0

    @classmethod
    def begin(cls, state: ModelState) -> RowStates:
        """Before the first token."""
        return cls(state, (0,) * state.batch)

    @property
    def batch(self) -> int:
        """Rows."""
        return self.state.batch

    def _rows(self) -> int:
        return self.batch

    @classmethod
    def alike(cls, states: Sequence[RowStates], sizes: Sequence[int]) -> Sequence[RowStates]:
        """With the counts of all, and as many positions as the one that has had the most."""
        counts, seen = tuple(count for state in states for count in state.counts), max(state.seen for state in states)
        return [replace(state, counts=counts, seen=seen) for state in states]

    def moved_on(self, state: ModelState, tokens: int, mask: Tensor | None) -> RowStates:
        """After further positions, those of which are tokens where mask [batch, tokens] is True."""
        new = [tokens] * self.batch if mask is None else mask.sum(1).tolist()
        counts = tuple(count + more for count, more in zip(self.counts, new, strict=True))
        return RowStates(state, counts, self.seen + tokens)

    def select(self, rows: Tensor) -> RowStates:
        """As a `State`'s; a row may be taken more than once, or not at all."""
        rows = check_rows("rows", rows, self.batch)
        return RowStates(self.state.select(rows), tuple(self.counts[row] for row in rows.tolist()), self.seen)

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> Self:
        """As a `State`'s, and refused where rows and counts do not belong together."""
        state = super().load(path, device)
        if len(state.counts) != state.batch or not all(0 <= count <= state.seen for count in state.counts):
            raise ValueError(f"path must be a file that {cls.__name__}.save wrote, in {path} rows and counts differ")
        return state


class Reader(NamedTuple):
    """Who reads: a model's blocks.

    read: (x, state) -> (results, state), results [batch, tokens, dim] each, for rows at one place, or for one token
        each without gradients at any.
    begin, initial_state: the state of so many rows before their first token, of layers that begin by themselves,
        and made whole.
    unit: tokens of a whole chunk or segment. ahead: tokens to the first end of one, for rows that begin.
    results: how many there are.
    together: whether one token each without gradients can be read from rows at any places.
    """

    read: Callable[[Tensor, ModelState], tuple[tuple[Tensor, ...], ModelState]]
    begin: Callable[[int], ModelState]
    initial_state: Callable[[int], ModelState]
    unit: int = 16
    ahead: int = 0
    results: int = 1
    together: bool = True


LEAST_PADDING = 128  # tokens; a stretch ends where going on would read more than so many behind the ends of pieces


def read_rows(
    reader: Reader, x: Tensor, state: ModelState, mask: Tensor | None = None, starts: Tensor | None = None
) -> tuple[tuple[Tensor, ...], ModelState]:
    """Let every row read its own tokens of x [batch, tokens, dim], those where mask [batch, tokens]
    is True, beginning anew at those where starts [batch, tokens] is True.

    A position that is no token of its row gets the output of the last one before it in this call,
    zeros if there is none: so the last position always holds what comes next, whichever side the
    padding is on.
    """
    mask = None if mask is None or bool(mask.all()) else mask
    if starts is not None and mask is None and not bool(starts[:, 1:].any()) and bool(starts[:, 0].all()):
        starts, state = None, reader.begin(len(x))
    if mask is None and (starts is None or not bool(starts.any())) and _in_one_call(x, state, reader.together):
        return reader.read(x, state)
    return _Pieces(reader, x, state, mask, starts).read()


def _in_one_call(x: Tensor, state: ModelState, together: bool) -> bool:
    """Whether a model can read from this state as it is."""
    one_token = together and x.shape[1] == 1 and not torch.is_grad_enabled()
    return one_token or not any(isinstance(fact, tuple) for fact in row_facts(state))


class Piece(NamedTuple):
    """A document's tokens in a row: those from `begin` to `end` in the list of all tokens of a call."""

    row: int
    begin: int
    end: int
    fresh: bool  # begins anew
    last: bool  # of its row

    @property
    def tokens(self) -> int:
        return self.end - self.begin


class Stretch(NamedTuple):
    """Tokens begin ... end - 1 of the first `rows` pieces of a group."""

    begin: int
    end: int
    rows: int


class Group(NamedTuple):
    """Pieces at one place, in order of `needs`, the largest first.

    needs: how many tokens of each are read together with those of others; what is left of it is read after that.
    """

    state: ModelState
    pieces: list[Piece]
    needs: list[int]
    stretches: list[Stretch]


def take_apart(tokens: Tensor, starts: Tensor | None, width: int) -> list[Piece]:
    """The pieces of rows of `width` positions, from the places of their tokens among all positions, row
    after row, and starts [tokens]."""
    rows = tokens // width
    begins = torch.ones_like(rows, dtype=torch.bool)
    begins[1:] = rows[1:] != rows[:-1]
    begins = begins if starts is None else begins | starts
    borders = begins.nonzero()[:, 0]
    fresh = [False] * len(borders) if starts is None else starts[borders].tolist()
    own, firsts = rows[borders].tolist(), [*borders.tolist(), len(rows)]
    last = [row != after for row, after in zip(own, [*own, None][1:], strict=True)]
    return [Piece(*facts) for facts in zip(own, firsts[:-1], firsts[1:], fresh, last, strict=True)]


def read_together(pieces: Iterable[Piece], unit: int, ahead: int) -> tuple[list[Piece], list[int]]:
    """Pieces of one group in its order, and what is read together: all of it, or of a row's last one whole units."""
    pieces = list(pieces)
    longest = max(piece.tokens for piece in pieces)

    def need(piece: Piece) -> int:
        if not piece.last or piece.tokens == longest:
            return piece.tokens
        return ahead + (piece.tokens - ahead) // unit * unit if piece.tokens >= ahead else 0

    pieces.sort(key=need, reverse=True)
    return pieces, [need(piece) for piece in pieces]


def cut(pieces: list[Piece], needs: list[int], unit: int, ahead: int, least: int) -> list[Stretch]:
    """Stretches that end where a row's last piece must, and where else going on would read `least` tokens
    behind the ends of others; at whole units all, but for the end of the longest piece."""
    most, falling = needs[0], [-need for need in needs]
    exact = {need for piece, need in zip(pieces, needs, strict=True) if piece.last}
    rounded = {min(most, ahead + -(-(need - ahead) // unit) * unit) for need in needs}
    ends = sorted((exact | rounded) - {0})
    stretches, begin = [], 0
    for end, next_end in zip(ends, [*ends[1:], most], strict=True):
        alive, left = bisect_left(falling, -begin), bisect_left(falling, -end)
        if end in exact or end == most or (alive - left) * (next_end - end) >= least:
            stretches.append(Stretch(begin, end, alive))
            begin = end
    return stretches


class _Pieces:
    """`read_rows` where rows are taken apart."""

    def __init__(
        self, reader: Reader, x: Tensor, state: ModelState, mask: Tensor | None, starts: Tensor | None
    ) -> None:
        self.reader, self.x, self.state, self.mask = reader, x, state, mask
        self.batch, self.width, self.dim = x.shape
        self.everywhere = self.batch * self.width
        tokens = _range(0, self.everywhere) if mask is None else mask.flatten().nonzero()[:, 0].cpu()
        starts = None if starts is None else starts.flatten().cpu()[tokens]
        self.pieces = take_apart(tokens, starts, self.width)
        self.tokens = torch.cat((tokens, _whole([self.everywhere])))  # behind the last one: of zeros
        self.ended: list[tuple[list[int], ModelState]] = []  # rows, and their state at the end
        self.waiting: list[tuple[list[Piece], int, ModelState]] = []  # pieces, how much they lack, and their state
        self.called: list[Tensor] = []  # what each call has read, as places in x
        self.found: list[tuple[Tensor, ...]] = []  # and what it gave, [tokens, dim] each

    def read(self) -> tuple[tuple[Tensor, ...], ModelState]:
        """Everything."""
        untouched = sorted(set(range(self.batch)) - {piece.row for piece in self.pieces})
        if untouched:
            begun = len(untouched) == self.batch or None not in self.state.layers
            own = _select(self.state, untouched) if begun else self.reader.initial_state(len(untouched))
            self.ended.append((untouched, own))
        groups = list(self.groups())
        parts = self.gather([self.rectangle(group, stretch) for group in groups for stretch in group.stretches])
        for group in groups:
            self.read_group(group, parts)
        self.read_tails()
        return self.results(), self.after()

    def groups(self) -> Iterator[Group]:
        """The pieces that begin, and of those that go on the ones at each place."""
        alike: dict[object, list[Piece]] = defaultdict(list)
        places, nothing_read = self.state.places, None in self.state.layers
        for piece in self.pieces:
            alike["begin" if piece.fresh or nothing_read else places[piece.row]].append(piece)
        for key, some in alike.items():
            ahead = self.reader.ahead if key == "begin" else 0
            pieces, needs = read_together(some, self.reader.unit, ahead)
            rows = [piece.row for piece in pieces]
            state = self.reader.begin(len(rows)) if key == "begin" else _select(self.state, rows)
            yield Group(state, pieces, needs, cut(pieces, needs, self.reader.unit, ahead, LEAST_PADDING))

    def rectangle(self, group: Group, stretch: Stretch) -> Tensor:
        """Places in x of what a stretch reads, [rows, tokens]."""
        pieces, count = group.pieces[: stretch.rows], len(self.tokens) - 1
        first, end = (_whole(bounds)[:, None] for bounds in zip(*((p.begin, p.end) for p in pieces), strict=True))
        places = first + _range(stretch.begin, stretch.end)
        return self.tokens[places.where(places < end, count)]

    def gather(self, rectangles: list[Tensor]) -> Iterator[Tensor]:
        """x of each of these places, in one go for all."""
        if not rectangles:
            return iter(())
        self.called += [places.flatten() for places in rectangles]
        places = torch.cat([places.flatten() for places in rectangles]).to(self.x.device)
        x = torch.cat((self.x.flatten(0, 1), self.x.new_zeros(1, self.dim))).index_select(0, places)
        parts = x.split([places.numel() for places in rectangles])
        return (part.view(*places.shape, self.dim) for part, places in zip(parts, rectangles, strict=True))

    def call(self, x: Tensor, state: ModelState) -> ModelState:
        results, state = self.reader.read(x, state)
        self.found.append(tuple(result.flatten(0, 1) for result in results))
        return state

    def read_group(self, group: Group, parts: Iterator[Tensor]) -> None:
        """Stretch by stretch; the last piece of a row leaves its state where its part ends."""
        state = group.state
        self.leave(group, 0, state)
        for stretch in group.stretches:
            state = state if state.batch == stretch.rows else state.first(stretch.rows)
            state = self.call(next(parts), state)
            self.leave(group, stretch.end, state)

    def leave(self, group: Group, at: int, state: ModelState) -> None:
        """Keep the states of rows whose last piece needs no more than `at` tokens."""
        leaving: dict[int, list[int]] = defaultdict(list)
        for place, (piece, need) in enumerate(zip(group.pieces, group.needs, strict=True)):
            if piece.last and need == at:
                leaving[piece.tokens - need].append(place)
        for lacking, places in leaving.items():
            # What a group has been narrowed to is a view of all that it was: its own is a copy.
            own = _select(state, places) if state.batch == group.state.batch else state.select(_whole(places))
            pieces = [group.pieces[place] for place in places]
            if lacking:
                self.waiting.append((pieces, lacking, own))
            else:
                self.ended.append(([piece.row for piece in pieces], own))

    def read_tails(self) -> None:
        """What is left of last pieces, those of one length and at one place together."""
        tails = [tail for begun in (False, True) for tail in self.tails(begun)]
        places = [_whole([p.end for p in pieces])[:, None] + _range(-n, 0) for n, pieces, _ in tails]
        parts = self.gather([self.tokens[place] for place in places])
        for _, pieces, state in tails:
            self.ended.append(([piece.row for piece in pieces], self.call(next(parts), state)))

    def tails(self, begun: bool) -> Iterator[tuple[int, list[Piece], ModelState]]:
        """How many tokens pieces lack that have `begun` or not, which, and their state."""
        waiting = [part for part in self.waiting if (None not in part[2].layers) == begun]
        if not waiting:
            return
        pieces = [(piece, lacking) for some, lacking, _ in waiting for piece in some]
        state = _join([state for *_, state in waiting])
        alike: dict[object, list[int]] = defaultdict(list)
        for number, ((_, lacking), place) in enumerate(zip(pieces, state.places, strict=True)):
            alike[lacking, place].append(number)
        for numbers in alike.values():
            yield pieces[numbers[0]][1], [pieces[number][0] for number in numbers], _select(state, numbers)

    def results(self) -> tuple[Tensor, ...]:
        """What all calls gave, at the positions of x."""
        if not self.found:
            return (torch.zeros_like(self.x),) * self.reader.results
        read = torch.cat(self.called)
        back = torch.empty(self.everywhere + 1, dtype=torch.long, device="cpu")
        back[read] = _range(0, len(read))
        back[-1] = len(read)  # zeros
        own = _range(0, self.everywhere)
        if self.mask is not None:
            own = own.view(self.batch, self.width).where(self.mask.cpu(), -1).cummax(1).values.flatten()
        back = back[own]
        back = back.to(self.x.device)
        whole = (torch.cat((*found, found[0].new_zeros(1, self.dim))) for found in zip(*self.found, strict=True))
        return tuple(result.index_select(0, back).view(self.x.shape) for result in whole)

    def after(self) -> ModelState:
        """The state of every row after its last piece."""
        rows = _whole([row for rows, _ in self.ended for row in rows])
        return _select(_join([state for _, state in self.ended]), rows.argsort().tolist())


def _join(states: Sequence[ModelState]) -> ModelState:
    return states[0] if len(states) == 1 else ModelState.join(states)


def _select(state: ModelState, rows: list[int]) -> ModelState:
    """`ModelState.select`, which copies nothing where all rows are taken in their order."""
    return state if rows == list(range(state.batch)) else state.select(_whole(rows))


def _whole(numbers: Sequence[int]) -> Tensor:
    """Whole numbers; places are counted on the CPU."""
    return torch.tensor(numbers, dtype=torch.long, device="cpu")


def _range(first: int, end: int) -> Tensor:
    return torch.arange(first, end, device="cpu")
