"""MAC with its rules taken away one by one: the two of D3, the position of h (D4), the residual of attention (D13).

What lesson 07 measures. `LeakyMAC` is for whole sequences; the others differ from MAC in a line each.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from titans.attention import KeysValues, attend, causal_mask, rotate
from titans.blocks import MAC
from titans.config import TitansConfig
from titans.lesson.kit.draws import random_draw, randomise
from titans.neural_memory import NeuralMemory
from titans.state import MemoryState

MODES = {
    "literal": (False, False),
    "mask on h only": (True, False),
    "read per token only": (False, True),
    "both": (True, True),
}  # name: (h_j only for tokens i >= j, o_i read with the weights right after token i)


class ReadAtTheEnd(NeuralMemory):
    """A memory layer that answers all tokens of a call from the weights that the last of them left."""

    def learn(self, x: Tensor, state: MemoryState) -> tuple[Tensor, MemoryState]:
        _, after = super().learn(x, state)
        assert state.recent is not None
        q, _, _, _ = self.project(x, state.recent)
        return self.memory.read(after.weights, q), after


class LeakyMAC(MAC):
    """Equations 21-25 with or without each rule of D3. With both it is MAC."""

    def __init__(self, config: TitansConfig, mask_h: bool, read_per_token: bool) -> None:
        super().__init__(config)
        self.mask_h = mask_h
        if not read_per_token:
            self.memory.__class__ = ReadAtTheEnd

    def see(
        self,
        q: Tensor,
        streams: tuple[KeysValues, ...],
        keys: tuple[Tensor, ...],
        values: tuple[Tensor, ...],
        place: int,
        prefix: KeysValues,
    ) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        past = causal_mask(q.shape[2], 0, q.device)
        mask = torch.cat((past if self.mask_h else torch.ones_like(past), past), dim=1)
        turned = torch.cat([rotate(k, 0) for k, _ in streams], dim=2)
        y = attend(q, rotate(q, 0), turned, torch.cat([v for _, v in streams], dim=2), prefix, mask)
        return y, (), ()


class PositionlessH(MAC):
    """MAC in which h has no positions, as the persistent tokens have none."""

    def see(
        self,
        q: Tensor,
        streams: tuple[KeysValues, ...],
        keys: tuple[Tensor, ...],
        values: tuple[Tensor, ...],
        place: int,
        prefix: KeysValues,
    ) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...]]:
        (h, v_h), (x, v_x) = streams
        parts: tuple[Tensor, ...] = (h, v_h, rotate(x, place), v_x)
        if place > 0:
            before = (keys[0], values[0], keys[1], values[1])
            parts = tuple(torch.cat(pair, dim=2) for pair in zip(before, parts, strict=True))
        h, v_h, x, v_x = parts
        dim = q.shape[-1]
        # `attend` has keys of one kind under a mask; here h, under it too, is of the prefix's kind.
        both = torch.cat((rotate(q, place), q), dim=-1)
        still, turned = F.pad(torch.cat((prefix[0], h), dim=2), (dim, 0)), F.pad(x, (0, dim))
        mask = causal_mask(q.shape[2], place, q.device).repeat(1, 2)
        mask = F.pad(mask, (prefix[0].shape[2], 0), value=True)
        y = F.scaled_dot_product_attention(
            both,
            torch.cat((still, turned), dim=2),
            torch.cat((prefix[1], v_h, v_x), dim=2),
            attn_mask=mask,
            scale=dim**-0.5,
        )
        return y, (h, x), (v_h, v_x)


class WithoutResidual(MAC):
    """MAC with y = Attn([P | h | x]), as equation 23 stands: no x is added."""

    def surround(self, x: Tensor, attended: Tensor) -> Tensor:
        return attended


@lru_cache(maxsize=64)
def influence(mode: str, segment_len: int, persistent: int, tokens: int = 16) -> Tensor:
    """The size of d o_i / d x_j, [tokens, tokens], of a small random block. All of it in one backward pass:
    row i of a batch of `tokens` equal sequences is asked for its output i."""
    dim = 4
    config = TitansConfig(
        dim=dim, heads=1, segment_len=segment_len, chunk_size=4, memory_depth=1, persistent_tokens=persistent
    )
    block = LeakyMAC(config, *MODES[mode]).double()
    randomise(block, seed=1)
    rows = random_draw(2)(tokens, dim).repeat(tokens * dim, 1, 1).requires_grad_()
    o, _ = block(rows, block.initial_state(tokens * dim))
    asked = o.unflatten(0, (tokens, dim)).diagonal(dim1=0, dim2=2).diagonal(dim1=0, dim2=1)
    (slopes,) = torch.autograd.grad(asked.sum(), rows)
    return slopes.unflatten(0, (tokens, dim)).square().sum((1, 3)).sqrt()
