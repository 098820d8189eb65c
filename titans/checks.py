"""Checks of arguments: each raises an error that names the argument, what came and what is accepted."""

from __future__ import annotations

import math
import sys
from collections.abc import Collection, Mapping
from numbers import Integral, Real

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.autograd import forward_ad


def is_traced() -> bool:
    """Whether a tool writes down what is done, or does it for many at once, so that no number can be looked at:
    torch.compile, torch.export, make_fx, torch.jit.trace, and what torch.func transforms."""
    return (
        torch.compiler.is_compiling()
        or torch._C._functorch.maybe_current_level() is not None
        or torch.jit.is_tracing()
        or (torch._C._len_torch_dispatch_stack() > 0 and any(map(torch._C._get_dispatch_mode, _TRACING)))
    )


_TRACING = (torch._C._TorchDispatchModeKey.PROXY, torch._C._TorchDispatchModeKey.FUNCTIONAL)


def own_derivatives() -> bool:
    """Whether an operation may bring a derivative by hand: tools that trace or map, and forward-mode derivatives, must
    meet torch's own operations alone."""
    return not (is_traced() or forward_ad._current_level >= 0)


def has_numbers(value: Tensor) -> bool:
    """Whether a tensor's numbers can be looked at: not those of a meta or a fake tensor, and none while tracing."""
    return not (is_traced() or value.is_meta or isinstance(value, FakeTensor))


def worth_a_look(value: Tensor) -> bool:
    """Whether to look at a tensor's numbers may save work: other devices than the CPU would wait for the answer."""
    return value.device.type == "cpu" and has_numbers(value)


def check_integer(name: str, value: object, minimum: int = 1, maximum: int | None = None) -> int:
    """A whole number, numpy's too, as Python's own: texts and files that hold it are the same for both."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    number = int(value)
    if number < minimum or (maximum is not None and number > maximum):
        wanted = f"at least {minimum}" if maximum is None else f"in [{minimum}, {maximum}]"
        raise ValueError(f"{name} must be {wanted}, got {number}")
    return number


def check_number(name: str, value: object, low: float, high: float = math.inf, low_counts: bool = False) -> float:
    """A finite number with low < value <= high, or low <= value <= high, as one of Python's own."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {value!r}")
    number = value if type(value) is int else float(value)
    if not (abs(number) <= sys.float_info.max and low <= number <= high and (low_counts or number != low)):
        bracket, words = ("[", "at least") if low_counts else ("(", "greater than")
        wanted = f"in {bracket}{low}, {high}]" if high < math.inf else f"finite and {words} {low}"
        raise ValueError(f"{name} must be {wanted}, got {number}")
    return number


def keep_integers(record: object, *names: str, minimum: int = 1) -> None:
    """Check these fields of a frozen dataclass, and keep them as Python's own whole numbers."""
    for name in names:
        object.__setattr__(record, name, check_integer(name, getattr(record, name), minimum))


def keep_number(record: object, name: str, low: float, high: float = math.inf, low_counts: bool = False) -> None:
    """Check this field of a frozen dataclass, and keep it as one of Python's own numbers."""
    object.__setattr__(record, name, check_number(name, getattr(record, name), low, high, low_counts))


def check_flag(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {value!r}")


def check_choice(name: str, value: object, accepted: Collection[str]) -> None:
    if not isinstance(value, str) or value not in accepted:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, accepted))}, got {value!r}")


def check_instance(name: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be a {kind.__name__}, got {type(value).__name__}")


def is_dense(value: Tensor) -> bool:
    """Whether a tensor's numbers lie in memory one by one: not sparse, nested or packed."""
    return value.layout is torch.strided and not value.is_nested


def check_tensor(name: str, value: object) -> Tensor:
    """A dense tensor, see `is_dense`."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, got {type(value).__name__}")
    if not is_dense(value):
        kind = value.layout if value.layout != torch.strided else "nested"
        raise TypeError(f"{name} must be a dense tensor (torch.strided), got a {kind} one")
    return value


def check_shape(name: str, value: object, shape: Mapping[str, int | None], like: Tensor | None = None) -> None:
    """A tensor of floats whose sizes are those of `shape` (None: any size from 1), of `like`'s
    dtype and device."""
    value = check_tensor(name, value)
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


def check_no_nan(name: str, value: Tensor) -> None:
    """No NaN in any row of a batch, where numbers can be looked at."""
    if not has_numbers(value):
        return
    rows = value.detach().isnan().flatten(1).any(1).nonzero()[:, 0].tolist()
    if rows:
        which = f"row {rows[0]} holds" if len(rows) == 1 else f"rows {', '.join(map(str, rows))} hold"
        raise ValueError(f"{name} must hold numbers, {which} NaN")


def known(parameter: object) -> Tensor | None:
    """A parameter to compare an argument with; None where it is elsewhere now (offloaded), or no tensor (quantised)."""
    return parameter if isinstance(parameter, Tensor) and not parameter.is_meta else None


WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8)  # not uint8: for some libraries that is a mask


def check_rows(name: str, rows: object, batch: int | None) -> Tensor:
    """Which rows of a batch (None: of any size) are meant, as places [n], each in [0, batch - 1].

    rows: whole numbers [n], negative ones counted from the end; or booleans [batch], True for each
        row that is meant.
    """
    rows = check_tensor(name, rows)
    if rows.dtype not in (*WHOLE, torch.bool):
        raise TypeError(f"{name} must hold whole numbers or booleans, got {rows.dtype}")
    if rows.ndim != 1:
        raise ValueError(f"{name} must have one axis, [rows], got shape {list(rows.shape)}")
    if rows.dtype == torch.bool:
        if batch is not None and len(rows) != batch:
            raise ValueError(f"{name} must hold a boolean for each of {batch} rows, got {len(rows)}")
        rows = rows.nonzero()[:, 0]
    if len(rows) == 0:
        raise ValueError(f"{name} must select at least one row, got none")
    rows = rows.long()
    if batch is None:
        return rows
    low, high = (int(bound) for bound in torch.aminmax(rows))
    if low < -batch or high >= batch:
        raise ValueError(f"{name} must be in [{-batch}, {batch - 1}], got values from {low} to {high}")
    return torch.where(rows < 0, rows + batch, rows)


def present(parameter: object) -> Tensor:
    """A parameter to make a state beside, or the error that says how to begin without one."""
    if (here := known(parameter)) is None:
        raise RuntimeError(
            "initial_state needs parameters, which are elsewhere or quantised: call without a state to begin"
        )
    return here


def check_range(name: str, value: Tensor, low: float, high: float = math.inf) -> None:
    """Every entry in [low, high]; NaN is refused too. What has no numbers to look at, see `has_numbers`, passes."""
    if not has_numbers(value):
        return
    smallest, largest = (float(bound) for bound in torch.aminmax(value.detach()))
    if not (smallest >= low and largest <= high and math.isfinite(largest)):
        wanted = f"in [{low:g}, {high:g}]" if math.isfinite(high) else f"finite and at least {low:g}"
        raise ValueError(f"{name} must be {wanted}, got values from {smallest:g} to {largest:g}")
