"""MAC as equations 21-25 stand in the paper, with its two leaks: what D3 decides against."""

from __future__ import annotations

from unittest.mock import patch

import torch
from torch import Tensor

import titans.model
from tests.proofs.model_proofs import make_model
from titans import MemoryState, NeuralMemory, TitansConfig, TitansLM
from titans.attention import attend, rotate
from titans.blocks import MAC


class ReadAtTheEnd(NeuralMemory):
    """A layer that answers all tokens of a call from the weights that the last of them left."""

    def learn(self, x: Tensor, state: MemoryState) -> tuple[Tensor, MemoryState]:
        _, after = super().learn(x, state)
        q, _, _, _ = self.project(x, state.recent)
        return self.memory.read(after.weights, q), after


class LiteralMAC(MAC):
    """For whole sequences. Each of the two rules of D3 can be switched on; with both this is MAC."""

    mask_h = read_per_token = False

    def __init__(self, config: TitansConfig) -> None:
        super().__init__(config)
        if not self.read_per_token:
            self.memory.__class__ = ReadAtTheEnd

    def see(self, q, streams, keys, values, place, prefix):
        """A whole segment over [P | h | x]."""
        past = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool).tril()
        mask = torch.cat((past if self.mask_h else torch.ones_like(past), past), dim=1)
        (k_h, v_h), (k_x, v_x) = streams
        keys, values = torch.cat((rotate(k_h, 0), rotate(k_x, 0)), dim=2), torch.cat((v_h, v_x), dim=2)
        return attend(q, rotate(q, 0), keys, values, prefix, mask), (), ()


def literal(mask_h: bool = False, read_per_token: bool = False) -> type[TitansLM]:
    """Models of which "mac" is the literal one."""
    rules = {"mask_h": mask_h, "read_per_token": read_per_token}
    kind = type("LiteralMAC", (LiteralMAC,), rules)

    class LiteralLM(TitansLM):
        def __init__(self, config: TitansConfig) -> None:
            with patch.dict(titans.model.MIXERS, mac=kind):
                super().__init__(config)

    return LiteralLM


def make_literal(mask_h: bool, read_per_token: bool, **options) -> TitansLM:
    return make_model("mac", literal(mask_h, read_per_token), **options)
