"""What lesson 07 trains and measures: small models, guessers, and how far one token reaches another."""

from copy import deepcopy
from dataclasses import replace

import torch
from torch import Tensor, nn

from titans.attention import NOTHING_SEEN
from titans.blocks import MAC, MemoryAsContext
from titans.config import TitansConfig
from titans.lesson.kit.host import session
from titans.lesson.kit.interventions import KEY, QUERY, VALUE, without_attention, without_taps
from titans.lesson.kit.watching import without_h
from titans.model import IGNORED_LABEL, TitansLM
from titans.recipes import small
from titans.tasks import Recall
from titans.training import EVALUATION_SEED, Run, Trained, share_right, train

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
    check_every=10,
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
    """The same run without the memory."""
    return replace(run, config=replace(run.config, variant="attention"))


def without_convolution(run: Run) -> Run:
    """The same run with convolutions over one token, its own: they look back at nothing."""
    return replace(run, config=replace(run.config, conv_width=1))


def _block(model: TitansLM) -> MAC:
    mixer = model.blocks[0].mixer
    assert isinstance(mixer, MAC)
    return mixer


def no_earlier(model: TitansLM, part: int) -> TitansLM:
    """The same copy without all taps that look back."""
    return without_taps(model, part, 1, 2, 3)


def with_zero(model: TitansLM, name: str) -> TitansLM:
    """A copy of a one-block MAC in which the parameter of that name is 0."""
    model = deepcopy(model)
    nn.init.zeros_(_block(model).get_parameter(name))
    return model


class Bare(MAC):
    """A trained MAC from which the residual around attention is taken."""

    def surround(self, x: Tensor, attended: Tensor) -> Tensor:
        return attended


def without_residual(model: TitansLM) -> TitansLM:
    """A copy of a one-block MAC without the residual."""
    model = deepcopy(model)
    _block(model).__class__ = Bare
    return model


def parts_off(model: TitansLM) -> dict[str, TitansLM]:
    """Copies of a one-block MAC, each with one part switched off."""
    return {
        "attention": without_attention(model),
        "h": without_h(model),
        "persistent tokens": with_zero(model, "persistent"),
        "the output gate": with_zero(model, "memory.W_G.weight"),
        "the last read": with_zero(model, "combine.norm_memory.weight"),
        "the residual": without_residual(model),
        "queries looking back": no_earlier(model, QUERY),
        "keys looking back": no_earlier(model, KEY),
        "values looking back": no_earlier(model, VALUE),
    }


def taps_lost(model: TitansLM, task: Recall, between: int) -> dict[str, list[float]]:
    """Right answers without the tap that looks back 0, 1, 2, 3 tokens, for queries, keys and values."""
    parts = {"query": QUERY, "key": KEY, "value": VALUE}
    return {
        name: [share_right(without_taps(model, part, back), task, between) for back in range(4)]
        for name, part in parts.items()
    }


class Library:
    """The pieces of a MAC with a matrix memory, as functions of what the lesson's own take: [tokens, ...]."""

    def __init__(self, block: MAC) -> None:
        self.block, self.start = block, block.initial_state(1)

    @torch.no_grad()
    def retrieve(self, x: Tensor) -> Tensor:
        """h, from the first weights."""
        block = self.block
        mixed, _ = block.conv(block.W_Q(x[None]), self.start.recent)
        return block.retrieve(self.start.segment_weights, nn.functional.silu(mixed))[0]

    @torch.no_grad()
    def attend(self, x: Tensor, h: Tensor) -> Tensor:
        """What attention makes of one segment."""
        attention = self.block.attention
        q, of_h, of_x = attention.queries(x[None]), attention.keys_values(h[None]), attention.keys_values(x[None])
        y, _ = self.block.attend(q, of_h, of_x, NOTHING_SEEN, attention.prefix(self.block.persistent, 1))
        return attention.output(y)[0]

    @torch.no_grad()
    def project(self, y: Tensor) -> tuple[Tensor, ...]:
        """q, k, v [tokens, dim] and the gates [tokens, 3]."""
        memory = self.block.memory
        q, k, v, _ = memory.project(y[None], self.start.memory.recent)
        return q[0, 0], k[0, 0], v[0, 0], torch.cat(memory.gates(y[None]), dim=-1)[0, 0]

    @torch.no_grad()
    def write_and_read(self, written: Tensor) -> Tensor:
        """What is read right after each write."""
        return self.block.memory.learn(written[None], self.start.memory)[0][0, 0]

    @torch.no_grad()
    def gate(self, y: Tensor, written: Tensor, reads: Tensor) -> Tensor:
        """o, of y and what was read."""
        return self.block.combine(y[None], self.block.memory.output(written[None], reads[None, None]))[0]


def resized(block: MAC, config: TitansConfig, chunk_size: int, segment_len: int) -> MAC:
    """A block of the same weights with other chunks and segments."""
    other = MAC(replace(config, chunk_size=chunk_size, segment_len=segment_len)).to(block.W_Q.weight)
    other.load_state_dict(block.state_dict())
    return other


def sizes(jacobian: Tensor) -> Tensor:
    """From d o / d x, [tokens, dim, tokens, dim], the size of every block d o_i / d x_j: [tokens,
    tokens]."""
    return jacobian.square().sum((1, 3)).sqrt()
