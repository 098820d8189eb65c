"""What keeps numbers finite, whatever is read (D12), and precise, whatever autocast says."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.amp.autocast_mode import is_autocast_available

from titans.checks import worth_a_look

NUMBER_LIMIT = 1e15  # of what a norm squares
SMALLEST_SQUARE = 1e-30  # of a norm; what is smaller counts as that
INPUT_LIMIT = 1e4  # of a layer's input: a normalised one is nowhere near it


def precise(x: Tensor) -> torch.dtype:
    """The dtype of x, or float32 where that is less precise."""
    return x.dtype if x.dtype in (torch.float32, torch.float64) else torch.promote_types(x.dtype, torch.float32)


def full_precision(x: Tensor) -> AbstractContextManager:
    """Autocast switched off on x's device, where it is on: a small write to a large weight would be lost."""
    return torch.autocast(x.device.type, enabled=False) if in_autocast(x) else nullcontext()


def in_autocast(x: Tensor) -> bool:
    """Whether autocast is on on x's device."""
    device = x.device.type
    return is_autocast_available(device) and torch.is_autocast_enabled(device)


def finite(x: Tensor) -> Tensor:
    """x with numbers that a norm can square, whatever it was.

    Nothing that has been learned comes near the limit. It matters for a memory of three layers and
    more whose gates are at their ends, where the bounded steps of many tokens add up until a product
    of weights leaves float32's range.
    """
    if worth_a_look(x) and _all_within(x.detach(), NUMBER_LIMIT):
        return x  # as nearly always, see `bounded_errors`
    return x.nan_to_num(nan=0.0).clamp(-NUMBER_LIMIT, NUMBER_LIMIT)


def bounded_input(x: Tensor) -> Tensor:
    """What a layer reads, no entry larger than `INPUT_LIMIT`."""
    return x.clamp(-INPUT_LIMIT, INPUT_LIMIT)


def bounded_gradient(gradient: Tensor, largest: float) -> Tensor:
    """A gradient [batch, heads, out, in], each head's scaled down to the norm `largest` where it is
    larger."""
    gradient = finite(gradient)
    return gradient * _shrink(_norm(gradient.flatten(2))[..., None], largest)


def bounded_errors(a: Tensor, e: Tensor, largest: float) -> Tensor:
    """The errors e, scaled so that no token's gradient e a^T has a norm over `largest`."""
    if worth_a_look(e) and _all_below(a.detach(), e.detach(), largest):
        return e  # as nearly always
    return e * _shrink(_norm(e) * _norm(a), largest)


def _all_within(x: Tensor, limit: float) -> bool:
    """Whether all of x are numbers from -limit to limit."""
    low, high = map(float, torch.aminmax(x))
    return -limit <= low and high <= limit


def _all_below(a: Tensor, e: Tensor, largest: float) -> bool:
    """Whether no token's gradient e a^T comes near a norm of `largest`."""
    norms = torch.linalg.vector_norm(e, dim=-1) * torch.linalg.vector_norm(a, dim=-1)
    return bool((norms < largest).all())


def _norm(x: Tensor) -> Tensor:
    """|x| over the last axis, which stays with size 1; its derivatives of every order are finite at 0 too."""
    return x.square().sum(-1, keepdim=True).clamp(min=SMALLEST_SQUARE).sqrt()


def _shrink(norm: Tensor, largest: float) -> Tensor:
    """The factor that brings something of this norm down to `largest`; 1 where it is small enough."""
    return largest / norm.clamp(min=largest)
