"""What lesson 07 trains and measures: small models, guessers, and how far one token reaches another."""

from dataclasses import replace

import torch
from torch import Tensor

from titans.blocks import MAC, MemoryAsContext
from titans.config import TitansConfig
from titans.lesson.kit.host import session
from titans.model import IGNORED_LABEL, TitansLM
from titans.recipes import small
from titans.tasks import Recall
from titans.training import EVALUATION_SEED, Run, Trained, train

PAIRS, SYMBOLS = 4, 8
TASK = Recall(PAIRS, SYMBOLS, SYMBOLS, SYMBOLS)
RUN = Run(
    small(TASK, dim=48, segment_len=8, window=8, chunk_size=8),
    TASK,
    between=(10, 20),
    steps=150,
    rows=24,
    learning_rate=5e-3,
    goal=0.94,
)


def crossing_off(left: int, values: int = SYMBOLS) -> float:
    """How often a guesser is right who picks one of `left` told values, not knowing whose they are.

    It is the value that was asked for once in `left` times; else it may happen to be equal to that.
    """
    return 1 / left + (1 - 1 / left) / values


@torch.no_grad()
def by_question(model: TitansLM, task: Recall = TASK, between: int = 20, rows: int = 256) -> tuple[list, list]:
    """For the first question, the second, ...: the share of right answers, and of answers that were
    told at all."""
    batch = task.sample(rows, between, torch.Generator().manual_seed(EVALUATION_SEED))
    asked = batch.labels[:, 1:] != IGNORED_LABEL
    answers = model(batch.tokens).logits[:, :-1].argmax(-1)[asked].view(rows, task.pairs)
    right = answers == batch.tokens[:, 1:][asked].view(rows, task.pairs)
    told = batch.tokens[:, 1 : 2 * task.pairs : 2]
    among = (answers[:, :, None] == told[:, None]).any(-1)
    return right.float().mean(0).tolist(), among.float().mean(0).tolist()


def train_variant(run: Run, mixer: type[MemoryAsContext] = MAC, seed: int = 2, progress: bool = True) -> Trained:
    """Train a model whose MAC is `mixer`; the bar is shown where it moves, not where a notebook is built."""
    return train(run, seed, progress=progress and session() is not None, mixers={"mac": mixer})


def without_memory(run: Run) -> Run:
    """The same run without the memory, and half as long: nothing comes of it."""
    return replace(run, config=replace(run.config, variant="attention"), steps=75)


def resized(block: MAC, config: TitansConfig, chunk_size: int, segment_len: int) -> MAC:
    """A block of the same weights with other chunks and segments."""
    other = MAC(replace(config, chunk_size=chunk_size, segment_len=segment_len)).to(block.W_Q.weight)
    other.load_state_dict(block.state_dict())
    return other


def sizes(jacobian: Tensor) -> Tensor:
    """From d o / d x, [tokens, dim, tokens, dim], the size of every block d o_i / d x_j: [tokens,
    tokens]."""
    return jacobian.square().sum((1, 3)).sqrt()
