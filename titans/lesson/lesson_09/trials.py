"""What lesson 09 measures: surprise over many rows, states and what becomes of a scaled one,
needles in a haystack."""

import json
from dataclasses import replace

import torch
from torch import Tensor

from titans.blocks import ContextState
from titans.checkpoints import SHIPPED
from titans.lesson.kit.watching import memory_of
from titans.model import ModelState, TitansLM
from titans.observe import observed
from titans.state import Weights


def scaled(state: ModelState, factor: float) -> ModelState:
    """The state of a one-block MAC, its memory's weights and momentum multiplied by a factor."""

    def multiplied(tensors: Weights) -> Weights:
        return tuple(factor * tensor for tensor in tensors)

    (layer,) = state.layers
    assert isinstance(layer, ContextState)
    old = layer.memory
    memory = replace(
        old,
        weights=multiplied(old.weights),
        rule_state=multiplied(old.rule_state),
        chunk_weights=multiplied(old.chunk_weights),
    )
    context = replace(layer, memory=memory, segment_weights=multiplied(layer.segment_weights))
    return replace(state, layers=(context,))


def state_bytes(state: ModelState) -> int:
    """Bytes of all tensors of a state, one that stands in two places counted once."""
    return sum(tensor.numel() * tensor.element_size() for tensor in state.tensors().values())


@torch.no_grad()
def mean_surprise(model: TitansLM, tokens: Tensor) -> Tensor:
    """|u_t| of the model's memory at every token, the mean over rows: [tokens]"""
    with observed(memory_of(model)) as calls:
        model(tokens)
    return torch.cat([call.surprise()[:, 0] for call in calls], dim=1).mean(0)


# Share of needles found at 2K, 4K, 8K and 16K tokens, in percent, if the needle is a pass-key, a
# number or a word: the paper's later version (NeurIPS 2025).
PAPER_NEEDLE = {
    "TTT": ((98.4, 98.8, 98.0, 88.4), (60.2, 36.6, 10.2, 4.4), (78.8, 28.0, 4.4, 0.0)),
    "Mamba2": ((98.6, 61.4, 31.0, 5.4), (98.4, 55.8, 14.2, 0.0), (42.2, 4.2, 0.0, 0.0)),
    "DeltaNet": ((96.8, 98.8, 98.6, 71.4), (47.2, 15.4, 12.8, 5.4), (46.2, 20.0, 1.6, 0.0)),
    "LMM": ((99.8, 98.4, 98.2, 96.2), (100.0, 99.8, 93.4, 80.2), (90.4, 89.4, 85.8, 80.6)),
    "MAC": ((99.2, 98.8, 99.0, 98.4), (99.6, 98.2, 97.6, 97.4), (98.2, 98.2, 95.6, 95.2)),
    "MAG": ((99.4, 98.0, 97.4, 97.4), (99.2, 98.8, 97.2, 98.6), (98.0, 98.0, 90.2, 88.2)),
    "MAL": ((98.8, 98.6, 98.8, 97.8), (99.8, 98.1, 96.8, 96.4), (98.2, 97.4, 92.0, 90.4)),
}


def paper_needle() -> str:
    """The paper's table as text."""
    lines = [" " * 9 + "".join(f"{kind:>23}" for kind in ("pass-key", "number", "word"))]
    for model, kinds in PAPER_NEEDLE.items():
        cells = ("/".join(f"{share:g}" for share in shares) for shares in kinds)
        lines.append(f"{model:9}" + "".join(f"{cell:>23}" for cell in cells))
    return "\n".join(lines)


def needle_card() -> dict:
    """The card of the recipe `needle`: what came of every run and seed."""
    return json.loads((SHIPPED / "needle" / "card.json").read_text(encoding="utf-8"))


def needle_table(card: dict) -> str:
    """The card's results as text: percent found by the median and by the worst seed."""
    hay = next(iter(card["runs"].values()))["right"]
    lines = [" " * 25 + "".join(f"{int(tokens):>10,}" for tokens in hay)]
    for name, result in card["runs"].items():
        texts = (f"{100 * cell['median']:.0f} ({100 * cell['worst']:.0f})" for cell in result["right"].values())
        lines.append(f"{name:25}" + "".join(f"{text:>10}" for text in texts))
    return "\n".join(lines)
