"""What lesson 08 measures on trained models: a table of what is left without each part, what h decides, how much of
the hay is written."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from titans.blocks import ContextState
from titans.lesson.kit.cards import columns, space
from titans.lesson.kit.host import say
from titans.lesson.kit.watching import memory_of
from titans.model import ModelState, TitansLM
from titans.observe import edited_gates, observed
from titans.tasks import Needle, Task, TwoHops
from titans.training import EVALUATION_SEED, share_of

PIECE = 1024  # tokens that are read at once

ROWS = {
    "full": "全部あり",
    "no attention": "アテンションなし",
    "no h": "h なし",
    "matrix memory": "行列のメモリ",
    "no convolution": "畳み込みなし",
    "no momentum": "モーメンタムなし",
    "no forgetting": "忘却なし",
    "all layers forget": "全層で忘却",
    "no persistent tokens": "永続トークンなし",
    "no memory": "メモリなし",
    "mac": "MAC",
    "mac, faint h": "MAC、h が弱い",
    "mac, no h": "MAC、h なし",
    "mac, no h, 8 things": "MAC、h なし、名前8つ",
    "mag": "MAG",
    "mal": "MAL",
    "lmm": "LMM",
    "lmm, two layers": "LMM、2層",
    "lmm, end first": "LMM、終わりが先",
    "lmm, end first, one chunk": "LMM、終わりが先、1チャンク",
    "lmm, sum": "LMM、和",
    "lmm, same": "LMM、同じかどうか",
    "mac in noise": "MAC",
    "mag in noise": "MAG",
    "mal in noise": "MAL",
    "lmm in noise": "LMM",
}  # runs of the recipes, in Japanese


def table(card: dict[str, Any], runs: list[str], tests: tuple[str, ...], kind: str = "right") -> str:
    """Percent of right answers of some runs, a row each: the median of the seeds and, in brackets, the worst.

    tests: a column each, by the name that the card has for it. kind: "right", or "after", which not every run has.
    """
    names = [say(run, ROWS[run]) for run in runs]
    heads = [_head(test) for test in tests]
    width, cell = max(map(columns, names)), max(15, 2 + max(map(columns, heads)))
    lines = [" " * width + "".join(space(head, cell) + head for head in heads)]
    for name, run in zip(names, runs, strict=True):
        found = card["runs"][run].get(kind)
        shares = ["–" if found is None else _cell(found[test]) for test in tests]
        lines.append(name + space(name, width) + "".join(f"{share:>{cell}}" for share in shares))
    return "\n".join(lines)


def _head(test: str) -> str:
    tokens, _, scattered = test.partition(" ")
    return f"{int(tokens):,}" + (say(", scattered", "、分散") if scattered else "")


def _cell(found: dict[str, Any]) -> str:
    return f"{100 * found['median']:.1f} ({100 * found['worst']:.1f})"


def crossing_off(pairs: int, values: int) -> float:
    """How often one is right who picks a told value that has not been an answer yet (lesson 07)."""
    return sum(1 / left + (1 - 1 / left) / values for left in range(1, pairs + 1)) / pairs


# ---- Two hops --------------------------------------------------------------------------------------------------------

BETWEEN, QUESTIONS = 40, 256


@torch.no_grad()
def share_by_phase(telling: TitansLM, asking: TitansLM, task: Task, between: int = BETWEEN) -> float:
    """The share of right answers where one model reads until the question and another, with the same weights but for a
    part, is asked."""
    pieces, asked = task.stream(QUESTIONS, between, torch.Generator().manual_seed(EVALUATION_SEED), PIECE)
    state = None
    for tokens in pieces:
        state = telling(tokens, state).state
    return share_of(asking(asked.tokens, state).logits, asked)


@torch.no_grad()
def two_memories(model: TitansLM, task: TwoHops, part: str, between: int = BETWEEN) -> dict[str, tuple[float, float]]:
    """Two readers hear the same, but for one half: to the second each a (part "beginnings") or each b ("ends") leads
    where another one leads to for the first.

    The first is asked; then once more with the second's memory where h is read, and with it where the last read is.
    Returns the shares of answers that the first's chains give, and the second's.
    """
    assert not task.end_first
    random = torch.Generator().manual_seed(EVALUATION_SEED)
    told = task.tell(QUESTIONS, random)
    passing = task.pass_time(QUESTIONS, between, random)
    other, size = told.tokens.clone(), 2 * task.chains
    moved = slice(1, size, 2) if part == "beginnings" else slice(other.shape[1] - size + 1, None, 2)
    other[:, moved] = told.tokens[:, moved].roll(1, dims=1)
    one, two = (model(torch.cat((tokens, passing), dim=1)).state for tokens in (told.tokens, other))
    question = told.asked.tokens[:, :2]
    asked = (told.tokens[:, 0:size:2] == question[:, 1:]).nonzero()[:, 1:]
    found = {}
    for name, state in {"": one, "h": _mixed(one, two, "segment_weights"), "read": _mixed(one, two, "memory")}.items():
        said = model(question, state).logits[:, 1].argmax(-1)
        own, others = (_ends(tokens, task).gather(1, asked)[:, 0] for tokens in (told.tokens, other))
        found[name] = (float((said == own).float().mean()), float((said == others).float().mean()))
    return found


@torch.no_grad()
def fetched(model: TitansLM, task: TwoHops, between: int = BETWEEN) -> tuple[float, float]:
    """How far the read at a question of two steps moves when the asked chain has an untold c, and when another has it.

    What is not fetched cannot move it.
    """
    random = torch.Generator().manual_seed(EVALUATION_SEED)
    told = task.tell(QUESTIONS, random)
    passing, question = task.pass_time(QUESTIONS, between, random), told.asked.tokens[:, :2]
    size, rows = 2 * task.chains, torch.arange(QUESTIONS)
    asked = (told.tokens[:, 0:size:2] == question[:, 1:]).nonzero()[:, 1:]
    b = told.tokens[:, 1:size:2].gather(1, asked)
    own = (told.tokens[:, -size::2] == b).long().argmax(1)
    names = torch.arange(2 * task.things, 3 * task.things).expand(QUESTIONS, -1)
    untold = names[~(names[:, :, None] == told.tokens[:, None, 1 - size :: 2]).any(2)].view(QUESTIONS, -1)[:, 0]

    def read(tokens: Tensor) -> Tensor:
        state = model(torch.cat((tokens, passing), dim=1)).state
        with observed(memory_of(model)) as calls:
            model(question, state)
        return (calls[-1].after.weights[0][:, 0] @ calls[-1].tokens.q[:, 0, 1, :, None])[..., 0]

    before, moved = read(told.tokens), []
    for chain in (own, (own + 1) % task.chains):
        tokens = told.tokens.clone()
        tokens[rows, tokens.shape[1] - size + 2 * chain + 1] = untold
        moved.append(float((read(tokens) - before).norm(dim=1).mean()))
    return moved[0], moved[1]


def in_one_chunk(model: TitansLM) -> TitansLM:
    """The same weights with chunks of 256: all gradients are taken at M_0, and nothing that was written corrects a
    write."""
    other = TitansLM(replace(model.config, chunk_size=256))
    other.load_state_dict(model.state_dict())
    return other


def _ends(tokens: Tensor, task: TwoHops) -> Tensor:
    """Where every a leads to in two steps, in the order in which they are told: [rows, chains]."""
    links, late = tokens[:, 1 : 2 * task.chains : 2], tokens[:, -2 * task.chains :]
    place = (late[:, None, ::2] == links[:, :, None]).long().argmax(2)
    return late[:, 1::2].gather(1, place)


@torch.no_grad()
def overlaps(model: TitansLM, task: TwoHops) -> tuple[float, float]:
    """k_i . k_j of the key with which "a b" is written and that of "b c": of the same b, and of another; means.

    Each is taken where the token's theta is largest of the two that may write it: the second of the pair, and the one
    behind it.
    """
    assert task.end_first
    random = torch.Generator().manual_seed(EVALUATION_SEED)
    told = task.tell(QUESTIONS, random).tokens
    read = torch.cat((told, task.pass_time(QUESTIONS, 1, random)), dim=1)
    with observed(memory_of(model)) as calls:
        model(read)
    tokens, told_last = calls[-1].tokens, told.shape[1] - 2 * task.chains
    theta = tokens.gates.theta[:, 0, :, 0].mean(0)
    keys = []
    for first in (0, told_last):
        second = torch.arange(first + 1, first + 2 * task.chains, 2)
        writer = second if theta[second].mean() > theta[second + 1].mean() else second + 1
        keys.append(tokens.k[:, 0, writer])
    same = told[:, told_last + 1 :: 2][:, :, None] == told[:, : 2 * task.chains : 2][:, None]
    products = keys[1] @ keys[0].mT
    return float(products[same].mean()), float(products[~same].mean())


def _mixed(one: ModelState, two: ModelState, part: str) -> ModelState:
    """A state of a one-layer MAC with a part of another."""
    (layer,), (foreign,) = one.layers, two.layers
    assert isinstance(layer, ContextState)
    return replace(one, layers=(replace(layer, **{part: getattr(foreign, part)}),))


# ---- Needles ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def steps(model: TitansLM, task: Needle, tokens: int = 2048, rows: int = 16) -> tuple[float, float]:
    """How far a token moves the memory in all, theta |u| / (1 - eta): a digit of the needle, and a token of hay."""
    random = torch.Generator().manual_seed(EVALUATION_SEED)
    told = task.tell(rows, random).tokens
    read = torch.cat((told, task.pass_time(rows, tokens, random)), dim=1)
    state = model.initial_state(rows)
    with observed(memory_of(model)) as calls:
        model(read, state)
    moved = torch.cat(
        [(c.tokens.gates.theta[..., 0] * c.surprise() / (1 - c.tokens.gates.eta[..., 0]))[:, 0] for c in calls], dim=1
    )[:, -read.shape[1] :]
    digit = (read >= task.vocab_size - 11) & (read < task.vocab_size - 1)
    late = torch.arange(read.shape[1]) >= told.shape[1]
    return float(moved[digit].mean()), float(moved[late.expand_as(read)].mean())


@torch.no_grad()
def share_with_quieter_hay(model: TitansLM, task: Needle, between: int, factor: float, rows: int = 16) -> float:
    """The share of needles found when, while the hay passes, every theta is this many times as large."""
    random = torch.Generator().manual_seed(EVALUATION_SEED)
    told = task.tell(rows, random)
    state = model(told.tokens).state
    with edited_gates(model, lambda gates: gates._replace(theta=factor * gates.theta)):
        for done in range(0, between, PIECE):
            state = model(task.pass_time(rows, min(PIECE, between - done), random), state).state
    return share_of(model(told.asked.tokens, state).logits, told.asked, task.whole)


# ---- Attention and the gates -----------------------------------------------------------------------------------------


@torch.no_grad()
def share_with_gates_of(model: TitansLM, giver: TitansLM, task: Task, between: int, rows: int = 32) -> float:
    """The share of right answers of a model whose memory has, at every token, the gates that another's has there."""
    pieces, asked = task.stream(rows, between, torch.Generator().manual_seed(EVALUATION_SEED), PIECE)
    states: list[ModelState | None] = [None, None]
    for tokens in (*pieces, asked.tokens):
        with observed(memory_of(giver)) as calls:
            given = giver(tokens, states[1])
        gates = iter([call.tokens.gates for call in calls])
        with edited_gates(model, lambda _, gates=gates: next(gates)):  # type: ignore[misc]
            output = model(tokens, states[0])
        states = [output.state, given.state]
    return share_of(output.logits, asked)
