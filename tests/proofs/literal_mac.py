"""MAC as equations 21-25 stand in the paper, with its two leaks: what D3 decides against. Lesson 07 has the mixer."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tests.proofs.model_proofs import make_model
from titans import TitansConfig, TitansLM
from titans.lesson.lesson_07.leaky_mac import LeakyMAC


def literal(mask_h: bool = False, read_per_token: bool = False) -> Callable[[TitansConfig], TitansLM]:
    """What makes models of which "mac" is the literal one, with or without each of the two rules of D3."""
    return partial(TitansLM, mixers={"mac": partial(LeakyMAC, mask_h=mask_h, read_per_token=read_per_token)})


def make_literal(mask_h: bool, read_per_token: bool, **options) -> TitansLM:
    return make_model("mac", literal(mask_h, read_per_token), **options)
