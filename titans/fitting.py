"""Whether the state of a layer is one that its model makes: its kind, its place, and the sizes of
what attention and convolutions find in it. What the memory finds in it, the memory checks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from titans.attention import Seen
from titans.blocks import AloneState, ContextState, SegmentState, WindowState
from titans.checks import check_integer
from titans.config import TitansConfig
from titans.state import State

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
        place = check_integer(f"{name}.place_in_segment", state.place_in_segment, 0, config.segment_len - 1)
        tokens = range(config.window) if config.sliding else range(place, place + 1)
        _check_seen(f"{name}.seen", state.seen, 2 if variant == "mac" else 1, tokens, config, batch)
    if isinstance(state, WindowState):
        _check_seen(f"{name}.seen", state.seen, 1, range(config.window), config, batch)


def _check_seen(name: str, seen: Seen, streams: int, tokens: range, config: TitansConfig, batch: int) -> None:
    """Raise unless every stream has keys and values of as many tokens; of none it may have none."""
    count = seen.keys[0].shape[2] if seen.keys and seen.keys[0].ndim == 4 else 0
    if count not in tokens:
        raise ValueError(f"{name} must hold from {tokens[0]} to {tokens[-1]} tokens, got {count}")
    sizes = [(batch, config.heads, count, config.head_size)] * (streams if seen.keys else 0)
    _check_sizes(f"{name}.keys", seen.keys, sizes)
    _check_sizes(f"{name}.values", seen.values, sizes)


def _check_sizes(name: str, tensors: Iterable[Tensor], sizes: Sequence[tuple[int, ...]]) -> None:
    have = [tuple(tensor.shape) for tensor in tensors]
    if have != sizes:
        raise ValueError(f"{name} must have the shapes {sizes}, got {have}")
