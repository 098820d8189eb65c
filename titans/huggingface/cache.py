"""TitansCache: a state as transformers' `generate` carries it from call to call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor
from transformers import Cache

from titans.checks import check_integer, check_rows
from titans.huggingface.base import TitansPreTrainedModel
from titans.rows import RowStates


class TitansCache(Cache):
    """What a TitansMACForCausalLM has read: its state, constant in size, whatever the length of the
    text.

    Calls move a cache on in place, as they do all caches of transformers; `copy.deepcopy` makes a
    branch that costs nothing, because the states in it are never changed, only replaced. A row that
    has ended, while others of its batch go on, reads the padding that `generate` writes behind it.

    state: None before the first token.
    """

    is_compileable = False
    is_croppable = False  # the memory cannot be unwritten

    def __init__(self, state: RowStates | None = None) -> None:
        super().__init__(layers=[])
        self.state = state

    def __len__(self) -> int:
        return 0 if self.state is None else len(self.state.state.layers)

    def __repr__(self) -> str:
        return f"TitansCache({self.get_seq_length()} positions of {max(self.batch_size, 0)} rows)"

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)(self.state)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions so far, padding included."""
        return 0 if self.state is None else self.state.seen

    def get_max_length(self, layer_idx: int | None = None) -> int:
        """-1: there is none."""
        return -1

    @property
    def batch_size(self) -> int:
        """Rows, -1 before the first token."""
        return -1 if self.state is None else self.state.batch

    def batch_select_indices(self, indices: Tensor) -> None:
        """Row i becomes what row indices[i] was; negative indices count from the end. Or indices
        are booleans [batch], and the rows that are True stay."""
        self._select("indices", indices)

    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Beam i goes on from what beam beam_idx[i] has read."""
        self._select("beam_idx", beam_idx)

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Every row `repeats` times, one after another."""
        repeats = check_integer("repeats", repeats)
        if self.state is not None:
            self._select("repeats", torch.arange(self.batch_size).repeat_interleave(repeats))

    @classmethod
    def join(cls, caches: Sequence[TitansCache]) -> Self:
        """One cache for the rows of all, in their order, wherever each stands. Its `attention_mask` marks as many
        positions of each row as that has read, of the most that one of them has had (`get_seq_length`).

        Raises TypeError or ValueError for what is no cache of one model that has read something.
        """
        caches = list(caches)
        if not caches or not all(isinstance(cache, TitansCache) for cache in caches):
            raise TypeError(f"caches must be at least one TitansCache, got {[type(c).__name__ for c in caches]}")
        states = [cache.state for cache in caches if cache.state is not None]
        if len(states) < len(caches):
            raise ValueError("caches must have read something before they are joined")
        return cls(RowStates.join(states))

    def split(self) -> list[Self]:
        """A cache for each row."""
        return [type(self)(state) for state in self._begun("split").split()]

    def clone(self) -> Self:
        """The same numbers in tensors of their own, which can be trained on, whatever mode they were made under."""
        return type(self)(None if self.state is None else self.state.clone())

    def reset_rows(self, model: TitansPreTrainedModel, rows: Tensor) -> None:
        """Rows of whole numbers or booleans are before their first token again, at M_0 of this
        TitansMACForCausalLM."""
        state = self._begun("reset by rows")
        again = set(check_rows("rows", rows, state.batch).tolist())
        counts = tuple(0 if row in again else count for row, count in enumerate(state.counts))
        self.state = replace(state, state=model.model.reset(state.state, rows), counts=counts)

    def _begun(self, done: str) -> RowStates:
        if self.state is None:
            raise ValueError(f"the cache must have read something before it is {done}")
        return self.state

    def _select(self, name: str, rows: Tensor) -> None:
        """Before the first token there is nothing to select from."""
        rows = check_rows(name, rows, None if self.state is None else self.batch_size)
        self.state = None if self.state is None else self.state.select(rows)

    def reset(self) -> None:
        """Back to before the first token."""
        self.state = None

    def crop(self, tokens_to_remove: int) -> None:
        """Refused: what was written into the memory cannot be taken back."""
        raise NotImplementedError(
            "a TitansCache cannot be cropped: a memory cannot be unwritten; keep a deepcopy instead"
        )

    def detach(self) -> Self:
        """The same state, cut from the graph: no gradient flows to earlier calls (D7)."""
        return type(self)(None if self.state is None else self.state.detach())

    def save(self, path: str | Path) -> None:
        """Write the state to a safetensors file."""
        self._begun("saved").save(path)

    @classmethod
    def load(cls, path: str | Path, device: str | torch.device = "cpu") -> Self:
        """What `save` wrote, bit for bit. Raises FileNotFoundError, or ValueError for a truncated
        or foreign file."""
        return cls(RowStates.load(path, device))
