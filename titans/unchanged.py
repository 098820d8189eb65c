"""What stays the same from token to token: a segment's prefix, where its parameters are known to stay, too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from titans.attention import KeysValues
from titans.checks import is_traced

LONG_WAY: ContextVar[bool] = ContextVar("long way", default=False)
_UNCHANGED: ContextVar[object] = ContextVar("unchanged parameters", default=None)


@contextmanager
def long_way() -> Iterator[None]:
    """Single tokens are read as several are, while the block runs."""
    token = LONG_WAY.set(True)
    try:
        yield
    finally:
        LONG_WAY.reset(token)


@contextmanager
def unchanged_parameters() -> Iterator[None]:
    """No parameter, hook or adapter of a model changes while the block runs: then the keys and values of persistent
    and memory tokens, which all tokens of a segment of MAC see, are made once a segment and not for every token."""
    token = _UNCHANGED.set(_UNCHANGED.get() or object())
    try:
        yield
    finally:
        _UNCHANGED.reset(token)


class Kept(NamedTuple):
    """The prefix of a segment, which block of `unchanged_parameters` it was made in, and by which mixer."""

    block: object
    mixer: tuple[int, int]
    prefix: KeysValues


def segment_prefix(mixer: Any, state: Any) -> Kept:
    """The prefix that a state keeps, or else a new one, which is kept inside `unchanged_parameters`."""
    block = None if is_traced() else _UNCHANGED.get()
    kept, which = state.kept, (id(mixer), mixer.memory.serial)
    if block is not None and kept is not None and kept.block is block and kept.mixer == which:
        return kept
    persistent = mixer.attention.prefix(mixer.persistent, len(state.recent))
    return Kept(block, which, mixer.with_memory_tokens(persistent, state.segment_weights))
