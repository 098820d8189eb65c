"""MAC with its rules taken away one by one: the two of D3, the position of h (D4), the residual of
attention (D13).

What lesson 07 measures. `LeakyMAC` is for whole sequences; the others differ from MAC in one method
each.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from titans.attention import KeysValues, Seen, attend, causal_mask, rotate
from titans.blocks import MemoryAsContext
from titans.config import TitansConfig
from titans.lesson.kit.draws import random_draw, randomise
from titans.neural_memory import LayerState
from titans.recipes import WithoutAttention as WithoutAttention

MODES = {
    "literal": (False, False),
    "mask on h only": (True, False),
    "read per token only": (False, True),
    "both": (True, True),
}  # name: (h_j only for tokens i >= j, o_i read with the weights right after token i)
IN_JAPANESE = {
    "literal": "文字どおり",
    "mask on h only": "h のマスクだけ",
    "read per token only": "トークンごとの読み出しだけ",
    "both": "両方",
}


class LeakyMAC(MemoryAsContext):
    """Equations 21-25 with or without each rule of D3. With both it is MAC."""

    def __init__(self, config: TitansConfig, mask_h: bool, read_per_token: bool) -> None:
        super().__init__(config)
        self.mask_h, self.read_per_token = mask_h, read_per_token

    def attend(self, q: Tensor, h: KeysValues, x: KeysValues, seen: Seen, prefix: KeysValues) -> tuple[Tensor, Seen]:
        past = causal_mask(q.shape[2], 0, q.device)
        mask = torch.cat((past if self.mask_h else torch.ones_like(past), past), dim=1)
        keys = torch.cat((rotate(h[0], 0), rotate(x[0], 0)), dim=2)
        return attend(q, rotate(q, 0), keys, torch.cat((h[1], x[1]), dim=2), prefix, mask), seen

    def surround(self, x: Tensor, attended: Tensor) -> Tensor:
        return x + attended

    def write_and_read(self, written: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        y, after = self.memory.learn(written, state)
        if self.read_per_token:
            return y, after
        q, _, _, _ = self.memory.project(written, state.recent)
        return self.memory.memory.read(after.weights, q), after


class PositionlessH(MemoryAsContext):
    """MAC in which h has no positions, as the persistent tokens have none."""

    def attend(self, q: Tensor, h: KeysValues, x: KeysValues, seen: Seen, prefix: KeysValues) -> tuple[Tensor, Seen]:
        seen = seen.and_then((h, x))
        (k_h, k_x), (v_h, v_x) = seen.keys, seen.values
        dim, place = q.shape[-1], k_x.shape[2] - q.shape[2]
        # `attend` has keys of one kind under a mask; here h, under it too, is of the prefix's kind.
        both = torch.cat((rotate(q, place), q), dim=-1)
        still, turned = torch.cat((prefix[0], k_h), dim=2), rotate(k_x, 0)
        mask = causal_mask(q.shape[2], place, q.device).repeat(1, 2)
        y = F.scaled_dot_product_attention(
            both,
            torch.cat((F.pad(still, (dim, 0)), F.pad(turned, (0, dim))), dim=2),
            torch.cat((prefix[1], v_h, v_x), dim=2),
            attn_mask=F.pad(mask, (prefix[0].shape[2], 0), value=True),
            scale=dim**-0.5,
        )
        return y, seen

    def surround(self, x: Tensor, attended: Tensor) -> Tensor:
        return x + attended

    def write_and_read(self, written: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        return self.memory.learn(written, state)


class WithoutResidual(MemoryAsContext):
    """MAC with y = Attn([P | h | x]), as equation 23 stands: no x is added."""

    def attend(self, q: Tensor, h: KeysValues, x: KeysValues, seen: Seen, prefix: KeysValues) -> tuple[Tensor, Seen]:
        return self.attention(q, (h, x), seen, prefix, self.window)

    def surround(self, x: Tensor, attended: Tensor) -> Tensor:
        return attended

    def write_and_read(self, written: Tensor, state: LayerState) -> tuple[Tensor, LayerState]:
        return self.memory.learn(written, state)


class PlainAverage(WithoutResidual):
    """MAC without the residual, whose attention begins as a blend of what it sees and nothing else: W_V and W_O are 1.

    Beside `WithoutAttention`, which writes x itself, it differs by the blending alone.
    """

    def __init__(self, config: TitansConfig) -> None:
        super().__init__(config)
        for linear in (self.attention.W_V, self.attention.W_O):
            nn.init.eye_(linear.weight)


@lru_cache(maxsize=64)
def influence(mode: str, segment_len: int, persistent: int, tokens: int = 16) -> Tensor:
    """The size of d o_i / d x_j, [tokens, tokens], of a small random block. All of it in one
    backward pass:
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
