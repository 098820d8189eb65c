"""MAC as equations 21-25 stand in the paper, with its two leaks: what D3 decides against."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from tests.proofs.model_proofs import make_model
from titans import TitansConfig, TitansLM
from titans.attention import attend, rotate
from titans.blocks import MemoryAsContext


class LiteralMAC(MemoryAsContext):
    """For whole sequences. Each of the two rules of D3 can be switched on; with both this is MAC."""

    mask_h = read_per_token = False

    def attend(self, q, h, x, seen, prefix):
        """A whole segment over [P | h | x]."""
        past = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).tril()
        mask = torch.cat((past if self.mask_h else torch.ones_like(past), past), dim=1)
        keys, values = torch.cat((rotate(h[0], 0), rotate(x[0], 0)), dim=2), torch.cat((h[1], x[1]), dim=2)
        return attend(q, rotate(q, 0), keys, values, prefix, mask), seen

    def surround(self, x, attended):
        return x + attended

    def write_and_read(self, written, state):
        y, after = self.memory.learn(written, state)
        if not self.read_per_token:
            y = self.memory.memory.read(after.weights, self.memory.project(written, state.recent)[0])
        return y, after


def literal(mask_h: bool = False, read_per_token: bool = False) -> Callable[[TitansConfig], TitansLM]:
    """What makes models of which "mac" is the literal one."""
    kind = type("LiteralMAC", (LiteralMAC,), {"mask_h": mask_h, "read_per_token": read_per_token})
    return partial(TitansLM, mixers={"mac": kind})


def make_literal(mask_h: bool, read_per_token: bool, **options) -> TitansLM:
    return make_model("mac", literal(mask_h, read_per_token), **options)
