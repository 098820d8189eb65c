"""Models of lesson 04 whose training takes longer than a lesson has: `python -m titans.lesson.lesson_04.runs`.

The same small model learns the same task with one of its parts never trained, and with the inner gradient cut from the
outer one, all of it or a part. And models of the recipe `recall-retold` start with the theta of another chunk size, or
have one thing switched off after training. What came out stands in runs.json beside this file.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from titans.blocks import LMM, MixerTable
from titans.config import TitansConfig
from titans.lesson.lesson_04.overwriting import WITHOUT, newest_and_old
from titans.memory import DeepMemory
from titans.model import TitansLM
from titans.neural_memory import NeuralMemory
from titans.observe import memories
from titans.recipes import LIVE, OVERWRITING, RETOLD, STORED, changed
from titans.training import Run, parameter_groups, share_right, train

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

# The first theta of chunks of 4, and that of chunks of 256 (D5), each given to models that start with the other one.
FIRST_STEPS = {
    name: min(NeuralMemory.FIRST_STEP, NeuralMemory.FIRST_CHUNK_STEP / (256 if "chunk_size" in changes else 4))
    for name, changes in OVERWRITING.items()
    if name != "all three"
}
SWITCHED_OFF = "retold, all three, one switched off"


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


def other_start(name: str) -> str:
    """What runs.json calls a model of `recall-retold` that starts with the theta of another chunk size."""
    return f"retold, {name}, first theta {FIRST_STEPS[name]:.2g}"


@torch.no_grad()
def start_with(model: TitansLM, theta: float) -> None:
    """Another theta before training, whatever the token."""
    (memory,) = memories(model)
    memory.to_gates.bias[: memory.heads] = torch.tensor(theta / memory.max_step).logit()


def train_without(
    parts: tuple[str, ...] = (),
    seed: int = 0,
    mixers: MixerTable | None = None,
    run: Run = RUN,
    theta: float | None = None,
) -> dict[str, Any]:
    """`titans.training.train` in short, with these parts never trained: steps, and right at 56 tokens in between.

    theta: with which the model starts, if it is another one.
    """
    torch.manual_seed(seed)
    model, share = TitansLM(run.config, mixers), 0.0
    if theta is not None:
        start_with(model, theta)
    with frozen(model, *parts):
        optimizer = torch.optim.AdamW(parameter_groups(model), lr=run.learning_rate)
        for step in range(run.steps):
            for group in optimizer.param_groups:
                group["lr"] = run.rate(step)
            batch = run.batch(seed, step)
            loss = model(batch.tokens, labels=batch.labels).loss
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_([p for p in model.parameters() if p.grad is not None], run.clip)
            optimizer.step()
            if (step + 1) % run.check_every == 0:
                share = share_right(model, run.task, run.between[1])
                if run.goal is not None and share >= run.goal:
                    break
    return {"steps": step + 1, "right": round(share, 4)}


def switch_off(seed: int) -> dict[str, float]:
    """The share of newest values that the model with all three answers, with one at a time switched off."""
    model = train(changed(RETOLD, **OVERWRITING["all three"]), seed).model
    for parameter in model.parameters():
        parameter.data.copy_(parameter.to(STORED))  # as the recipe keeps it
    return {name: round(newest_and_old(model, **without)[0], 4) for name, without in WITHOUT.items()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m titans.lesson.lesson_04.runs", description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2), help="default: %(default)s")
    torch.set_num_threads(1)
    seeds = parser.parse_args().seeds
    found = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    kinds: dict[str, Callable[[int], dict[str, Any]]] = {
        "all trained": partial(train_without, ()),
        "inner gradient detached": partial(train_without, (), mixers=FIRST_ORDER),
        "writes shaped by W_K, W_V alone": partial(train_without, ("convolution",), mixers=GIVEN),
        "writes shaped by the convolution alone": partial(train_without, ("W_K", "W_V"), mixers=GIVEN),
        "writes shaped by the embedding alone": partial(train_without, ("W_K", "W_V", "convolution")),
    }
    kinds |= {" ".join(parts): partial(train_without, parts) for parts in (*TOGETHER, *((part,) for part in PARTS))}
    for name, theta in FIRST_STEPS.items():
        run = changed(RETOLD, **OVERWRITING[name])
        kinds[other_start(name)] = partial(train_without, (), run=run, theta=theta)
    kinds[SWITCHED_OFF] = switch_off
    for seed in seeds:
        for name, found_with in kinds.items():
            if str(seed) not in found.setdefault(name, {}):
                found[name][str(seed)] = found_with(seed)
                print(name, seed, found[name][str(seed)], file=sys.stderr)
                RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
