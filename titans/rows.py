"""Batches whose rows have read different numbers of tokens: what padding asks of a model with a
state.

A state belongs to rows that stand at the same place of segment and chunk. So a batch is kept as
groups of such rows, each with a state of its own, and every call runs group by group. Without
padding there is one group, and nothing costs more; with n different lengths there are n groups, and
n calls instead of one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from titans.checks import check_rows
from titans.model import ModelState
from titans.state import State

Reader = Callable[[Tensor, ModelState], tuple[tuple[Tensor, ...], ModelState]]


@dataclass(frozen=True)
class RowStates(State):
    """The state of a batch.

    rows: the rows of each group. groups: its state. counts: tokens that each of its rows has read.
    seen: positions that every row has had so far, padding included.
    """

    rows: tuple[tuple[int, ...], ...]
    groups: tuple[ModelState, ...]
    counts: tuple[int, ...]
    seen: int = 0

    @classmethod
    def begin(cls, state: ModelState) -> RowStates:
        """Before the first token, all rows together."""
        return cls((tuple(range(state.batch)),), (state,), (0,))

    @property
    def batch(self) -> int:
        """Rows."""
        return sum(map(len, self.rows))

    def select(self, rows: Tensor) -> RowStates:
        """As a `State`'s, across groups; a row may be taken more than once, or not at all."""
        wanted = check_rows("rows", rows, self.batch).tolist()
        parts, groups, counts = [], [], []
        for members, state, count in zip(self.rows, self.groups, self.counts, strict=True):
            taken = [(new, members.index(old)) for new, old in enumerate(wanted) if old in members]
            if taken:
                parts.append(tuple(new for new, _ in taken))
                groups.append(state.select(torch.tensor([place for _, place in taken])))
                counts.append(count)
        return RowStates(tuple(parts), tuple(groups), tuple(counts), self.seen)

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> Self:
        """As a `State`'s, and refused where rows, groups and counts do not belong together."""
        state = super().load(path, device)
        sizes = [group.batch for group in state.groups]
        each_once = sorted(row for rows in state.rows for row in rows) == list(range(state.batch))
        counted = len(state.counts) == len(sizes) and all(0 <= count <= state.seen for count in state.counts)
        if not (each_once and counted and sizes and sizes == [len(rows) for rows in state.rows] and min(sizes) > 0):
            raise ValueError(f"path must be a file that {cls.__name__}.save wrote, in {path} rows and groups differ")
        return state


def read_rows(
    read: Reader, x: Tensor, mask: Tensor | None, state: RowStates, outputs: int = 1
) -> tuple[tuple[Tensor, ...], RowStates]:
    """Let every row read its own tokens of x [batch, tokens, dim], those where mask [batch, tokens]
    is True.

    read: (x, state) -> (results, state) for rows without padding; `outputs` results, each [batch,
        tokens, dim].
    A position that is no token of its row gets the output of the last one before it in this call,
    zeros if there is none: so the last position always holds what comes next, whichever side the
    padding is on.
    """
    if len(state.groups) == 1 and (mask is None or bool(mask.all())):
        whole, group = read(x, state.groups[0])
        return whole, RowStates(state.rows, (group,), (state.counts[0] + x.shape[1],), state.seen + x.shape[1])
    mask = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if mask is None else mask
    parts, groups, totals, results = [], [], [], []
    for members, group, before in zip(state.rows, state.groups, state.counts, strict=True):
        counts = mask[list(members)].sum(1)
        for count in counts.unique().tolist():
            places = (counts == count).nonzero()[:, 0]
            alike = group if len(places) == len(members) else group.select(places)
            rows = torch.tensor(members, device=x.device)[places]
            if count:
                found, alike = _read_alike(read, x[rows], mask[rows], count, alike)
            else:
                found = (torch.zeros_like(x[rows]),) * outputs
            parts.append(tuple(rows.tolist()))
            groups.append(alike)
            totals.append(before + count)
            results.append(found)
    back = torch.tensor([row for part in parts for row in part], device=x.device).argsort()
    whole = tuple(torch.cat(found)[back] for found in zip(*results, strict=True))
    return whole, RowStates(tuple(parts), tuple(groups), tuple(totals), state.seen + x.shape[1])


def _read_alike(
    read: Reader, x: Tensor, mask: Tensor, count: int, state: ModelState
) -> tuple[tuple[Tensor, ...], ModelState]:
    """`read_rows` for rows that have the same state of reading, and `count` tokens each, wherever
    those stand."""
    row = torch.arange(len(x), device=x.device)[:, None]
    places = mask.nonzero()[:, 1].view(len(x), count)
    results, state = read(x[row, places], state)
    done = mask.cumsum(1)  # [batch, tokens]: tokens up to here
    spread = (result[row, (done - 1).clamp(min=0)] for result in results)
    return tuple(result.where(done[..., None] > 0, 0) for result in spread), state
