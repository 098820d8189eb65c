"""Whether the state of a layer is one that its model makes: its kind, its place, and the sizes of
what attention and convolutions find in it. What the memory finds in it, the memory checks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from titans.attention import Seen
from titans.blocks import AloneState, ContextState, SegmentState, WindowState
from titans.checks import check_integer
from titans.config import TitansConfig
from titans.state import Places, State, each_row

KINDS = {"mac": ContextState, "mag": WindowState, "mal": WindowState, "lmm": AloneState, "attention": SegmentState}


def check_layer(name: str, state: State, variant: str, config: TitansConfig, batch: int) -> None:
    """Raise unless this is the state of a layer of this variant, of the library's own making."""
    if not isinstance(state, kind := KINDS[variant]):
        raise ValueError(f"{name} must be a {kind.__name__}, got a {type(state).__name__}")
    if isinstance(state, ContextState):
        _check_sizes(f"{name}.recent", (state.recent,), [(batch, config.conv_width - 1, config.dim)])
        sizes = [tuple(weight.shape) for weight in state.memory.weights]
        _check_sizes(f"{name}.segment_weights", state.segment_weights, sizes)
    if isinstance(state, ContextState | SegmentState):
        each = _check_places(f"{name}.place_in_segment", state.place_in_segment, config.segment_len, batch)
        window = config.window if config.sliding else config.segment_len
        _check_seen(f"{name}.seen", state.seen, 2 if variant == "mac" else 1, window, config, batch)
        count = _seen(state.seen)
        for place, missing in zip(each, each_row(state.seen.missing, batch), strict=True):
            if not config.sliding and count - missing != place:
                raise ValueError(f"{name}.seen must hold from {place} to {place} tokens, got {count - missing}")
    if isinstance(state, WindowState):
        _check_seen(f"{name}.seen", state.seen, 1, config.window, config, batch)


def _check_places(name: str, places: Places, length: int, batch: int) -> tuple[int, ...]:
    """The place of every row, or the error that says why these are none."""
    each = each_row(places, batch)
    if len(each) != batch:
        raise ValueError(f"{name} must be one number or {batch}, one a row, got {len(each)}")
    return tuple(check_integer(name, place, 0, length - 1) for place in each)


def _seen(seen: Seen) -> int:
    """How many keys there are, those that are missing in some rows too."""
    return seen.keys[0].shape[2] if seen.keys and seen.keys[0].ndim == 4 else 0


def _check_seen(name: str, seen: Seen, streams: int, window: int, config: TitansConfig, batch: int) -> None:
    """Raise unless every stream has keys and values of as many tokens; of none it may have none."""
    count = _seen(seen)
    if not 0 <= count < window:
        raise ValueError(f"{name} must hold from 0 to {window - 1} tokens, got {count}")
    _check_places(f"{name}.missing", seen.missing, count + 1, batch)
    sizes = [(batch, config.heads, count, config.head_size)] * (streams if seen.keys else 0)
    _check_sizes(f"{name}.keys", seen.keys, sizes)
    _check_sizes(f"{name}.values", seen.values, sizes)


def _check_sizes(name: str, tensors: Iterable[Tensor], sizes: Sequence[tuple[int, ...]]) -> None:
    have = [tuple(tensor.shape) for tensor in tensors]
    if have != sizes:
        raise ValueError(f"{name} must have the shapes {sizes}, got {have}")
