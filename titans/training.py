"""One small training loop, which can be interrupted at any time."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from titans.blocks import MixerTable
from titans.checkpoints import load_checkpoint, save_checkpoint
from titans.checks import check_instance, check_integer, keep_integers, keep_number
from titans.config import TitansConfig
from titans.model import IGNORED_LABEL, ModelState, TitansLM
from titans.tasks import Batch, Task

WEIGHT_DECAY = 0.01  # AdamW's own
EVALUATION_SEED = 1_000_003  # no seed of training: what is measured was never trained on


@dataclass(frozen=True)
class Run:
    """One model to be trained.

    config, task: what is trained on what.
    between: tokens between telling and asking in training, from and to; every step draws one
        length.
    steps, rows: steps at most, and sequences in each.
    learning_rate: the largest, reached after `warm_up` steps; then it falls as a cosine to a tenth.
    clip: the largest norm of the gradient.
    goal: training ends when this share of answers is right at the longest `between`; asked every
        `check_every` steps.
    """

    config: TitansConfig
    task: Task
    between: tuple[int, int]
    steps: int = 400
    rows: int = 32
    learning_rate: float = 3e-3
    warm_up: int = 20
    clip: float = 1.0
    goal: float | None = None
    check_every: int = 25

    def __post_init__(self) -> None:
        check_instance("config", self.config, TitansConfig)
        check_instance("task", self.task, Task)
        keep_integers(self, "steps", "rows", "check_every")
        keep_integers(self, "warm_up", minimum=0)
        for name in ("learning_rate", "clip"):
            keep_number(self, name, 0)
        if self.goal is not None:
            keep_number(self, "goal", 0, 1)
        self._check_between()
        known = check_integer("task.vocab_size", getattr(self.task, "vocab_size", None))
        if self.config.vocab_size < known:
            raise ValueError(f"config.vocab_size must be at least the task's {known}, got {self.config.vocab_size}")

    def _check_between(self) -> None:
        if not isinstance(self.between, list | tuple):
            raise TypeError(f"between must be two numbers, got {self.between!r}")
        between = tuple(check_integer("between", tokens, minimum=0) for tokens in self.between)
        if len(between) != 2 or between[0] > between[1]:
            raise ValueError(f"between must be two numbers, 0 <= from <= to, got {self.between}")
        object.__setattr__(self, "between", between)

    def rate(self, step: int) -> float:
        """The learning rate of a step."""
        fall = 0.55 + 0.45 * math.cos(math.pi * step / self.steps)
        return self.learning_rate * min(1.0, (step + 1) / (self.warm_up + 1)) * fall

    def batch(self, seed: int, step: int) -> Batch:
        """What a step trains on: the same for the same seed and step, whether or not training was
        interrupted."""
        random = torch.Generator().manual_seed(int(seed) * 10_000_019 + int(step))
        low, high = self.between
        between = int(torch.randint(low, high + 1, (), generator=random))
        return self.task.at(step / self.steps).sample(self.rows, between, random)

    def state(self, trained: Trained, seed: int) -> ModelState | None:
        """What a step begins with; None: every row has read nothing."""
        return None

    def identity(self, seed: int) -> str:
        """All that decides the result, as text, to tell whose an unfinished training is."""
        return f"seed={seed} {self!r}"


@dataclass(frozen=True)
class Reading(Run):
    """A model to be trained on long stretches, read in pieces, one a step, with the state carried from piece to piece
    and detached: what a piece writes gets gradients from that piece alone.

    Every row reads stretches of its own, one behind the other, so that a step has pieces from all places.
    between: tokens of a piece, whole segments and chunks. pieces: of a stretch; each number of them gets as many steps
        as any other.
    """

    pieces: tuple[int, ...] = (1, 2, 4, 8, 16)

    def __post_init__(self) -> None:
        super().__post_init__()
        pieces = tuple(check_integer("pieces", number) for number in self.pieces)
        if not pieces:
            raise ValueError("pieces must be at least one number, got none")
        object.__setattr__(self, "pieces", pieces)
        whole = math.lcm(self.config.segment_len, self.config.chunk_size)
        if self.between[0] != self.between[1] or self.between[0] % whole:
            raise ValueError(f"between must be one number, twice, and a multiple of {whole}, got {self.between}")

    def batch(self, seed: int, step: int) -> Batch:
        """The next piece of every row's stretch."""
        size, parts = self.between[0], []
        for row in range(self.rows):
            first, pieces = self._stretch(seed, row, step)
            random = torch.Generator().manual_seed((seed * 1009 + row) * 10_000_019 + first)
            whole = self.task.sample(1, pieces * size, random)
            parts.append([tensor[:, (step - first) * size :][:, :size] for tensor in whole])
        return Batch(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))

    def state(self, trained: Trained, seed: int) -> ModelState:
        """What a step begins with: rows whose stretch begins have read nothing."""
        if trained.state is None:
            return trained.model.initial_state(self.rows)
        fresh = [row for row in range(self.rows) if self._stretch(seed, row, trained.steps)[0] == trained.steps]
        state = trained.state.detach()
        return trained.model.reset(state, torch.tensor(fresh)) if fresh else state

    def _stretch(self, seed: int, row: int, step: int) -> tuple[int, int]:
        """The step at which a row's stretch begins, and how many pieces that has."""
        random = torch.Generator().manual_seed(seed * 1009 + row)
        chances = torch.tensor([1 / number for number in self.pieces])
        first = 0
        while True:
            pieces = self.pieces[int(torch.multinomial(chances, 1, generator=random))]
            if step < first + pieces:
                return first, pieces
            first += pieces


@dataclass
class Trained:
    """A model and how it came to be. history: step, loss and, where it was asked for, the share of
    right answers. state: after the tokens of the last step."""

    model: TitansLM
    seconds: float = 0.0
    steps: int = 0
    history: list[tuple[int, float, float | None]] = field(default_factory=list)
    state: ModelState | None = None


def train(
    run: Run, seed: int = 0, path: str | Path | None = None, progress: bool = True, mixers: MixerTable | None = None
) -> Trained:
    """Train a model. The same run and seed give the same model on the same machine.

    path: where to keep the unfinished training. Interrupted (Ctrl-C, or worse), the next call with
    the same run, seed and path goes on from there, to the same result; it raises ValueError where
    the file belongs to another training. When training ends the file goes. progress: show a bar
    with loss and share of right answers. mixers: see `TitansLM`.
    """
    seed = check_integer("seed", seed, minimum=0)
    torch.manual_seed(seed)
    trained = Trained(TitansLM(run.config, mixers))
    optimizer = torch.optim.AdamW(parameter_groups(trained.model), lr=run.learning_rate)
    path = None if path is None else Path(path)
    if path is not None and path.exists():
        _resume(path, run, seed, trained, optimizer)
    bar = tqdm(total=run.steps, initial=trained.steps, disable=not progress, unit="step")
    began = time.perf_counter() - trained.seconds
    try:
        with bar:
            while trained.steps < run.steps and not _reached(run, trained):
                with _uninterrupted():
                    _step(run, seed, trained, optimizer)
                trained.seconds = time.perf_counter() - began
                _, loss, share = trained.history[-1]
                bar.update()
                bar.set_postfix({"loss": f"{loss:.2f}"} | ({} if share is None else {"right": f"{share:.0%}"}))
                if path is not None and trained.steps % 100 == 0:
                    _keep(path, run, seed, trained, optimizer)
            _fill(bar, trained.steps)
    except KeyboardInterrupt:
        if path is not None:
            _keep(path, run, seed, trained, optimizer)
        raise
    if path is not None:
        path.unlink(missing_ok=True)
    return trained


def parameter_groups(model: nn.Module, weight_decay: float = WEIGHT_DECAY) -> list[dict[str, Any]]:
    """A model's parameters in two groups for an optimizer: those that weight decay draws to zero,
    and those that it does not. transformers' Trainer makes the same of a `TitansMACForCausalLM`.

    Decayed is whatever a network multiplies features with, or features themselves: projections,
    convolutions, embeddings, M_0, persistent tokens, memory queries. Zero is a good place for them:
    it is where M_0 starts as a function (D6), and what a norm follows keeps its effect at any size.
    Not decayed are scales of norms, which undo just that, and biases: those of the gates are where
    steps and forgetting start (D5), and at zero a memory would forget half of itself at each token.
    """
    spared = {
        id(parameter)
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if isinstance(module, nn.RMSNorm | nn.LayerNorm) or name == "bias"
    }
    decayed = [parameter for parameter in model.parameters() if id(parameter) not in spared]
    others = [parameter for parameter in model.parameters() if id(parameter) in spared]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _fill(bar: tqdm, steps: int) -> None:
    """Where the goal has ended a training, its bar is full and not broken off."""
    bar.total = steps
    if hasattr(bar, "container"):  # in a notebook, a widget with a maximum of its own
        bar.container.children[1].max = steps


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Let Ctrl-C wait until the end, so that no step is half done."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: asked.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if asked:
        raise KeyboardInterrupt


def _reached(run: Run, trained: Trained) -> bool:
    share = trained.history[-1][2] if trained.history else None
    return run.goal is not None and share is not None and share >= run.goal


def _step(run: Run, seed: int, trained: Trained, optimizer: torch.optim.Optimizer) -> None:
    """One step of training, counted only when it is done."""
    batch = run.batch(seed, trained.steps)
    for group in optimizer.param_groups:
        group["lr"] = run.rate(trained.steps)
    output = trained.model(batch.tokens, run.state(trained, seed), labels=batch.labels)
    loss, trained.state = output.loss, output.state
    optimizer.zero_grad()
    loss.backward()
    for weight in trained.model.parameters():  # M_0 where no row begins: it goes on decaying and moving all the same
        if weight.requires_grad and weight.grad is None:
            weight.grad = torch.zeros_like(weight)
    nn.utils.clip_grad_norm_(trained.model.parameters(), run.clip)
    optimizer.step()
    trained.steps += 1
    asked = run.goal is not None and trained.steps % run.check_every == 0
    share = share_right(trained.model, run.task, run.between[1]) if asked else None
    trained.history.append((trained.steps, float(loss.detach()), share))


@torch.no_grad()
def share_right(
    model: TitansLM, task: Task, between: int, rows: int = 64, seed: int = EVALUATION_SEED, piece: int = 1024
) -> float:
    """The share of answers that are the model's first choice after `between` tokens, read in pieces
    from the state.

    Where `task.whole`, an answer of several tokens counts only if all of them are right.
    """
    rows, piece = check_integer("rows", rows), check_integer("piece", piece)
    between, seed = (check_integer(name, value, minimum=0) for name, value in (("between", between), ("seed", seed)))
    random = torch.Generator().manual_seed(seed)
    pieces, asked = task.stream(rows, between, random, piece)
    state = None
    for tokens in pieces:
        state = model(tokens, state).state
    return share_of(model(asked.tokens, state).logits, asked, task.whole)


def share_of(logits: Tensor, asked: Batch, whole: bool = False) -> float:
    """The share of answers that are the first choice of logits [rows, tokens, vocab_size]; if `whole`, the share of
    rows in which all are."""
    wanted = asked.labels[:, 1:]
    right = (logits[:, :-1].argmax(-1) == wanted) | (wanted == IGNORED_LABEL)
    return float(right.all(dim=1).float().mean() if whole else right[wanted != IGNORED_LABEL].float().mean())


def _keep(path: Path, run: Run, seed: int, trained: Trained, optimizer: torch.optim.Optimizer) -> None:
    """Write an unfinished training."""
    more: dict[str, Tensor] = {}
    for place, parameter in enumerate(trained.model.parameters()):
        values = optimizer.state.get(parameter, {})
        more |= {f"{place}.{name}": torch.as_tensor(value) for name, value in values.items()}
    if isinstance(run, Reading) and trained.state is not None:
        more |= {f"state.{name}": tensor for name, tensor in trained.state.tensors().items()}
    facts = {"run": run.identity(seed), "seconds": trained.seconds, "steps": trained.steps, "history": trained.history}
    save_checkpoint(path, trained.model, facts, more)


def _resume(path: Path, run: Run, seed: int, trained: Trained, optimizer: torch.optim.Optimizer) -> None:
    """Take up an unfinished training where `_keep` left it."""
    model, facts, more = load_checkpoint(path, mixers=trained.model.mixers)
    if facts.get("run") != run.identity(seed):
        raise ValueError(
            f"path must hold this training, {path} holds another ({facts.get('run')}); delete or rename it"
        )
    trained.model.load_state_dict(model.state_dict())
    parameters = list(trained.model.parameters())  # in the model's order, whatever groups the optimizer has
    carried = {name: more.pop(name) for name in list(more) if name.startswith("state.")}
    if carried:
        like = trained.model(run.batch(seed, 0).tokens).state
        trained.state = like.with_tensors([carried[f"state.{name}"] for name in like.tensors()])
    for name, tensor in more.items():
        place, _, value = name.partition(".")
        optimizer.state[parameters[int(place)]][value] = tensor
    trained.seconds, trained.steps = facts["seconds"], facts["steps"]
    trained.history = [tuple(entry) for entry in facts["history"]]
