"""MAC as equations 21-25 stand in the paper, with its two leaks: what D3 decides against."""

from __future__ import annotations

from unittest.mock import patch

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

import titans.model
from tests.model_proofs import make_model
from titans import MemoryState, NeuralMemory, TitansConfig, TitansLM
from titans.attention import attend, rotate
from titans.blocks import MAC, BlockState


class LiteralMAC(MAC):
    """For whole sequences. Each of the two rules of D3 can be switched on; with both this is MAC."""

    mask_h = read_per_token = False

    def forward(self, x: Tensor, state: BlockState) -> tuple[Tensor, BlockState]:
        asked = F.silu(self.conv(self.W_Q(x), state.recent)[0])
        prefix, memory, outputs = self.prefix(self.persistent, x.shape[0]), state.memory, []
        for part, query in zip(x.split(self.segment_len, 1), asked.split(self.segment_len, 1), strict=True):
            h = self.retrieve(memory.weights, query)  # 21
            (k_h, v_h), (k_x, v_x) = self.attention.keys_values(h), self.attention.keys_values(part)
            keys, values = torch.cat((rotate(k_h, 0), rotate(k_x, 0)), 2), torch.cat((v_h, v_x), 2)  # 22
            past = torch.ones(part.shape[1], part.shape[1], dtype=torch.bool).tril()
            mask = torch.cat((past if self.mask_h else torch.ones_like(past), past), dim=1)
            q = self.attention.queries(part)
            y = self.attention.output(attend(q, rotate(q, 0), keys, values, prefix, mask))  # 23
            before = memory
            read, memory = self.memory(y, before)  # 24
            if not self.read_per_token:
                read = read_at_the_end(self.memory, y, before, memory)
            outputs.append(self.combine(y, read))  # 25
        return torch.cat(outputs, dim=1), BlockState(memory)


def read_at_the_end(layer: NeuralMemory, x: Tensor, before: MemoryState, after: MemoryState) -> Tensor:
    """What the layer answers all tokens of x from the weights that the last of them left."""
    q, _, _, _ = layer.project(x, before.recent)
    y = rearrange(layer.norm(layer.memory.read(after.weights, q)), "b h t d -> b t (h d)")
    return layer.W_O(y * torch.sigmoid(layer.W_G(x)))


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
