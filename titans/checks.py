"""Checks of arguments: each raises an error that names the argument, what came and what is accepted."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import torch
from torch import Tensor


def check_integer(name: str, value: object, minimum: int = 1, maximum: int | None = None) -> None:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < minimum or (maximum is not None and value > maximum):
        wanted = f"at least {minimum}" if maximum is None else f"in [{minimum}, {maximum}]"
        raise ValueError(f"{name} must be {wanted}, got {value}")


def check_number(name: str, value: object, low: float, high: float = math.inf, low_counts: bool = False) -> None:
    """A finite number with low < value <= high, or low <= value <= high."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be a number, got {value!r}")
    if not (math.isfinite(value) and low <= value <= high and (low_counts or value != low)):
        bracket, words = ("[", "at least") if low_counts else ("(", "greater than")
        wanted = f"in {bracket}{low}, {high}]" if high < math.inf else f"finite and {words} {low}"
        raise ValueError(f"{name} must be {wanted}, got {value}")


def check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def check_choice(name: str, value: object, accepted: Collection[str]) -> None:
    if value not in accepted:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, accepted))}, got {value!r}")


def check_instance(name: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got {type(value).__name__}")


def check_shape(name: str, value: object, shape: Mapping[str, int | None], like: Tensor | None = None) -> None:
    """A tensor of floats whose sizes are those of `shape` (None: any size from 1), of `like`'s
    dtype and device."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    wanted = "[" + ", ".join(key if size is None else f"{key}={size}" for key, size in shape.items()) + "]"
    fits = value.ndim == len(shape) and all(
        have == want if want is not None else have >= 1 for have, want in zip(value.shape, shape.values(), strict=True)
    )
    if not fits:
        empty = " (empty)" if value.numel() == 0 else ""
        raise ValueError(f"{name} must have shape {wanted}, every size at least 1, got {list(value.shape)}{empty}")
    if not value.is_floating_point():
        raise TypeError(f"{name} must hold floating-point numbers, got {value.dtype}")
    if like is not None and value.dtype != like.dtype:
        raise TypeError(f"{name} must have dtype {like.dtype}, got {value.dtype}")
    if like is not None and value.device != like.device:
        raise ValueError(f"{name} must be on device {like.device}, got {value.device}")


def check_rows(name: str, value: Tensor) -> None:
    """No NaN in any row of a batch."""
    rows = value.detach().isnan().flatten(1).any(1).nonzero()[:, 0].tolist()
    if rows:
        which = f"row {rows[0]} holds" if len(rows) == 1 else f"rows {', '.join(map(str, rows))} hold"
        raise ValueError(f"{name} must hold numbers, {which} NaN")


def known(parameter: object) -> Tensor | None:
    """A parameter to compare an argument with; None where it is elsewhere now (offloaded), or no tensor (quantised)."""
    return parameter if isinstance(parameter, Tensor) and not parameter.is_meta else None


def check_range(name: str, value: Tensor, low: float, high: float) -> None:
    """Every entry in [low, high]; NaN is refused too. What has no data, a meta tensor, passes."""
    if value.is_meta:
        return
    smallest, largest = (float(bound) for bound in torch.aminmax(value.detach()))
    if not (smallest >= low and largest <= high and math.isfinite(largest)):
        wanted = f"in [{low:g}, {high:g}]" if math.isfinite(high) else f"finite and at least {low:g}"
        raise ValueError(f"{name} must be {wanted}, got values from {smallest:g} to {largest:g}")
