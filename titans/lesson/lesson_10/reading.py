"""What a model of text pays for every byte, and what its memory does with it; and the same where nothing more is
written."""

from functools import cache, lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from titans.checkpoints import load_checkpoint
from titans.lesson.kit.watching import memory_of
from titans.model import TitansLM
from titans.observe import closed, observed


class Reading(NamedTuple):
    """What happened at every byte of a text, [bytes] each but for `chances`."""

    chances: Tensor  # of each byte to come next, before this one was read: [bytes, 256]; the first row is not a number
    bits: Tensor  # -log2 of the chance of the byte that came
    surprise: Tensor  # |u| of the write that the memory makes of it, or would make
    theta: Tensor
    eta: Tensor
    alpha: Tensor


@cache
def trained() -> TitansLM:
    """The model of text that comes with the package."""
    return load_checkpoint("text/mac")[0]


@cache
def never_writing() -> TitansLM:
    """The same with all gates at 0."""
    return closed(trained())


@lru_cache(maxsize=64)
@torch.no_grad()
def read(text: str, frozen: int | None = None) -> Reading:
    """The model reads the UTF-8 bytes of a text, and from byte `frozen` on no longer writes its memory.

    0 writes nothing at all, None all of it.
    """
    tokens = torch.tensor([*text.encode()], dtype=torch.long)[None]
    end = tokens.shape[1] if frozen is None else frozen
    logits, calls, state = [], [], None
    for model, part in ((trained(), tokens[:, :end]), (never_writing(), tokens[:, end:])):
        if part.shape[1]:
            with observed(memory_of(model)) as seen:
                output = model(part, state)
            logits.append(output.logits[0])
            calls += seen
            state = output.state
    if not calls:
        return Reading(torch.empty(0, 256), *torch.empty(5, 0))
    gates = zip(*(call.tokens.gates for call in calls), strict=True)
    theta, eta, alpha = (torch.cat(gate, dim=2).mean((0, 1, 3)) for gate in gates)
    surprise = torch.cat([call.surprise() for call in calls], dim=2).mean((0, 1))
    before = torch.cat((torch.full((1, 256), torch.nan), torch.cat(logits)[:-1])).log_softmax(-1)
    bits = -before.gather(1, tokens.mT)[:, 0] / torch.log(torch.tensor(2.0))
    return Reading(before.exp(), bits, surprise, theta, eta, alpha)
