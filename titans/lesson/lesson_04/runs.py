"""Models of lesson 04 whose training takes longer than a lesson has: `python -m titans.lesson.lesson_04.runs`.

The same small model learns the same task with one of its parts never trained, and with the inner gradient cut from the
outer one, all of it or a part. What came out stands in runs.json beside this file.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from titans.blocks import LMM, MixerTable
from titans.config import TitansConfig
from titans.memory import DeepMemory
from titans.model import TitansLM
from titans.neural_memory import NeuralMemory
from titans.recipes import LIVE, changed
from titans.training import parameter_groups, share_right

RESULTS = Path(__file__).with_name("runs.json")
RUN = changed(LIVE, variant="lmm")  # the memory alone, one layer, on recall: six pairs told first, then noise
MEMORY = "blocks.0.mixer.memory."
PARTS: dict[str, tuple[str, ...]] = {
    "gates": (f"{MEMORY}to_gates.",),
    "convolution": (f"{MEMORY}conv.",),
    "W_K": (f"{MEMORY}W_K.",),
    "W_V": (f"{MEMORY}W_V.",),
    "W_Q": (f"{MEMORY}W_Q.",),
    "W_O": (f"{MEMORY}W_O.",),
    "W_G": (f"{MEMORY}W_G.",),
    "M_0": (f"{MEMORY}memory.",),
    "persistent": ("blocks.0.mixer.persistent",),
    "norms": ("norm.", "blocks.0.norm_", f"{MEMORY}norm."),
    "FFN": ("blocks.0.ffn.",),
    "embedding": ("embedding.",),
    "head": ("head.",),
}  # a trained part by the beginnings of its parameters' names
TOGETHER = (("W_K", "W_V"), ("W_K", "W_V", "W_Q", "convolution"))  # and several at once


def belongs(name: str, parts: tuple[str, ...]) -> bool:
    """Whether a parameter belongs to one of these parts."""
    return any(name.startswith(PARTS[part]) for part in parts)


class FirstOrderMemory(DeepMemory):
    """A memory whose surprise is a number to the outer loop: no gradient flows through the inner one."""

    def errors(self, weights: Any, k: Tensor, v: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        inputs, errors = super().errors(weights, k, v)
        return [a.detach() for a in inputs], [e.detach() for e in errors]


def first_order_lmm(config: TitansConfig) -> LMM:
    """LMM with such a memory, its start the same."""
    mixer = LMM(config)
    mixer.memory.memory.__class__ = FirstOrderMemory
    return mixer


class WrittenAsGiven(NeuralMemory):
    """A layer in which what is written does not train what it is made of: no gradient from keys and values to x."""

    def project(self, x: Tensor, recent: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        q, _, _, after = super().project(x, recent)
        _, k, v, _ = super().project(x.detach(), recent)
        return q, k, v, after


def given_lmm(config: TitansConfig) -> LMM:
    """LMM with such a layer, its start the same."""
    mixer = LMM(config)
    mixer.memory.__class__ = WrittenAsGiven
    return mixer


FIRST_ORDER: MixerTable = {"lmm": first_order_lmm}
GIVEN: MixerTable = {"lmm": given_lmm}


@contextmanager
def frozen(model: nn.Module, *parts: str) -> Iterator[None]:
    """A model's parts as they are, while the block runs: nothing trains them."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not belongs(name, parts))
    yield
    model.requires_grad_(True)


def train_without(parts: tuple[str, ...] = (), seed: int = 0, mixers: MixerTable | None = None) -> dict[str, Any]:
    """`titans.training.train` in short, with these parts never trained: steps, and right at 56 tokens in between."""
    torch.manual_seed(seed)
    model, share = TitansLM(RUN.config, mixers), 0.0
    with frozen(model, *parts):
        optimizer = torch.optim.AdamW(parameter_groups(model), lr=RUN.learning_rate)
        for step in range(RUN.steps):
            for group in optimizer.param_groups:
                group["lr"] = RUN.rate(step)
            batch = RUN.batch(seed, step)
            loss = model(batch.tokens, labels=batch.labels).loss
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], RUN.clip)
            optimizer.step()
            if (step + 1) % RUN.check_every == 0:
                share = share_right(model, RUN.task, RUN.between[1])
                if RUN.goal is not None and share >= RUN.goal:
                    break
    return {"steps": step + 1, "right": round(share, 4)}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m titans.lesson.lesson_04.runs", description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2), help="default: %(default)s")
    torch.set_num_threads(1)
    seeds = parser.parse_args().seeds
    found = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    kinds: dict[str, tuple[tuple[str, ...], MixerTable | None]] = {"all trained": ((), None)}
    kinds |= {
        "inner gradient detached": ((), FIRST_ORDER),
        "writes shaped by W_K, W_V alone": (("convolution",), GIVEN),
        "writes shaped by the convolution alone": (("W_K", "W_V"), GIVEN),
        "writes shaped by the embedding alone": (("W_K", "W_V", "convolution"), None),
    }
    kinds |= {" ".join(parts): (parts, None) for parts in (*TOGETHER, *((part,) for part in PARTS))}
    for seed in seeds:
        for name, (parts, mixers) in kinds.items():
            if str(seed) not in found.setdefault(name, {}):
                found[name][str(seed)] = train_without(parts, seed, mixers)
                print(name, seed, found[name][str(seed)], file=sys.stderr)
                RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
