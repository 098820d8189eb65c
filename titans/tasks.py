"""Data that needs memory: key-value recall, a needle in a haystack, a drifting regression, text.

Recall and needle tell something, let many tokens pass, and ask. `tell` and `pass_time` make the
parts one by one, so that the time between can be streamed, however long; `sample` joins them for
training.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from titans.checks import check_choice, check_integer, check_number, keep_integers, keep_number
from titans.model import IGNORED_LABEL


class Batch(NamedTuple):
    """tokens [rows, tokens], and labels of the same shape: the answer at the place behind its question, else -100. What
    stands there is the answer, or, where a task does not show it, the next question."""

    tokens: Tensor
    labels: Tensor


class Telling(NamedTuple):
    """What was told [rows, tokens], and the question with its answers, as a `Batch`."""

    tokens: Tensor
    asked: Batch


class Task:
    """Something told, time that passes, and a question. Randomness comes from the generator that is
    handed in."""

    vocab_size: int
    whole = False  # whether an answer of several tokens counts only if all of them are right

    def tell(self, rows: int, random: torch.Generator) -> Telling:
        raise NotImplementedError

    def pass_time(self, rows: int, tokens: int, random: torch.Generator) -> Tensor:
        """What fills the time between telling and asking: [rows, tokens]."""
        raise NotImplementedError

    def at(self, share: float) -> Task:
        """What is trained on when this share of the training is over, from 0 to 1: a curriculum begins with something
        easier."""
        return self

    def stream(self, rows: int, between: int, random: torch.Generator, piece: int) -> tuple[Iterator[Tensor], Batch]:
        """What is read until the question, piece by piece, with `between` tokens that do not matter,
        and the question. The pieces are to be taken before anything else is drawn from `random`."""
        told = self.tell(rows, random)
        sizes = [min(piece, between - done) for done in range(0, between, piece)]
        return chain([told.tokens], (self.pass_time(rows, n, random) for n in sizes)), told.asked

    def sample(self, rows: int, between: int, random: torch.Generator) -> Batch:
        """Whole sequences with `between` tokens that do not matter before the question."""
        pieces, asked = self.stream(rows, between, random, max(between, 1))
        tokens = torch.cat((*pieces, asked.tokens), dim=1)
        before = torch.full_like(tokens[:, : -asked.labels.shape[1]], IGNORED_LABEL)
        return Batch(tokens, torch.cat((before, asked.labels), dim=1))


@dataclass(frozen=True)
class Recall(Task):
    """Key-value recall: `pairs` of a key and a value are told, noise follows, every key is asked
    for in another order.

    Token ids: keys first, then values, then noise. Values may repeat, so a guess is right once in
    `values` times.
    """

    pairs: int = 6
    keys: int = 32
    values: int = 32
    noise: int = 32

    def __post_init__(self) -> None:
        keep_integers(self, "pairs", "keys", "values", "noise")
        if self.pairs > self.keys:
            raise ValueError(f"pairs must be at most keys, got pairs={self.pairs} and keys={self.keys}")

    @property
    def vocab_size(self) -> int:  # type: ignore[override]
        return self.keys + self.values + self.noise

    def tell(self, rows: int, random: torch.Generator) -> Telling:
        key = _choose(rows, self.pairs, self.keys, random)
        value = self.keys + torch.randint(self.values, (rows, self.pairs), generator=random)
        order = _choose(rows, self.pairs, self.pairs, random)
        asked_key, answer = key.gather(1, order), value.gather(1, order)
        labels = torch.stack((torch.full_like(answer, IGNORED_LABEL), answer), dim=2).flatten(1)
        asked = torch.stack((asked_key, answer), dim=2).flatten(1)
        return Telling(torch.stack((key, value), dim=2).flatten(1), Batch(asked, labels))

    def pass_time(self, rows: int, tokens: int, random: torch.Generator) -> Tensor:
        return self.keys + self.values + torch.randint(self.noise, (rows, tokens), generator=random)


@dataclass(frozen=True)
class VariedRecall(Recall):
    """Recall in which each batch of training has another number of pairs, from 2 to `pairs`.

    With many pairs in every batch from the first step on, nothing is learned.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        keep_integers(self, "pairs", minimum=2)

    def sample(self, rows: int, between: int, random: torch.Generator) -> Batch:
        pairs = int(torch.randint(2, self.pairs + 1, (), generator=random))
        return Recall(pairs, self.keys, self.values, self.noise).sample(rows, between, random)


@dataclass(frozen=True)
class ScatteredRecall(Recall):
    """Recall in which the pairs are not told in one stretch: each stands anywhere in the noise.

    So with `between` tokens of noise the first pair is told early, and the last just before the questions:
    k1 v1 noise noise k2 v2 noise ... k2? k1?
    """

    def stream(self, rows: int, between: int, random: torch.Generator, piece: int) -> tuple[Iterator[Tensor], Batch]:
        told = self.tell(rows, random)
        tokens = self.pass_time(rows, between + 2 * self.pairs, random)
        # Each pair takes one of between + pairs slots, and every pair before it one more token.
        slots = _choose(rows, self.pairs, between + self.pairs, random).sort(dim=1).values
        first = slots + torch.arange(self.pairs)
        tokens.scatter_(1, torch.stack((first, first + 1), dim=2).flatten(1), told.tokens)
        return iter(tokens.split(piece, dim=1)), told.asked


@dataclass(frozen=True)
class MixedRecall(VariedRecall):
    """Recall in which each batch of training has another layout: pairs told in one stretch, or scattered.

    What is trained on one layout need not hold for the other. As in `VariedRecall`, the number of pairs changes too.
    """

    def sample(self, rows: int, between: int, random: torch.Generator) -> Batch:
        pairs = int(torch.randint(2, self.pairs + 1, (), generator=random))
        layout = (Recall, ScatteredRecall)[int(torch.randint(2, (), generator=random))]
        return layout(pairs, self.keys, self.values, self.noise).sample(rows, between, random)


@dataclass(frozen=True)
class RetoldRecall(Recall):
    """Recall in which every key is told a second time, with another value, in another order; the newest is asked for.

    k1 v1 k2 v2 ... k2 v4 k1 v3 ... noise ... k1? (v3). Who keeps the first value, or both, is wrong.
    """

    def tell(self, rows: int, random: torch.Generator) -> Telling:
        first = super().tell(rows, random)
        key, value = first.tokens[:, ::2], first.tokens[:, 1::2]
        shift = torch.randint(1, self.values, value.shape, generator=random)
        newest = (value - self.keys + shift) % self.values + self.keys
        orders = (_choose(rows, self.pairs, self.pairs, random) for _ in range(2))
        again, asked = (
            torch.stack((key.gather(1, order), newest.gather(1, order)), dim=2).flatten(1) for order in orders
        )
        labels = asked.clone()
        labels[:, ::2] = IGNORED_LABEL
        return Telling(torch.cat((first.tokens, again), dim=1), Batch(asked, labels))


@dataclass(frozen=True)
class TwoFacts(Task):
    """An answer that takes two facts: k1 v1 k2 v2 ... are told, noise follows, and two keys at once are asked for.

    k2 k4? (v2 + v4 modulo `values`, or whether they are the same) k1 k3? ... Answers are not shown.
    of: "sum" or "same". both: the share of questions that are so; in the others both keys are one and the same, and its
        value is asked for.
    Token ids: keys, values (for "same" the first two are no and yes), noise.
    """

    of: str = "sum"
    pairs: int = 4
    keys: int = 16
    values: int = 4
    noise: int = 16
    both: float = 1.0

    def __post_init__(self) -> None:
        check_choice("of", self.of, ("sum", "same"))
        keep_integers(self, "pairs", "values", minimum=2)
        keep_integers(self, "keys", "noise")
        keep_number(self, "both", 0, 1, low_counts=True)
        if self.pairs > self.keys:
            raise ValueError(f"pairs must be at most keys, got pairs={self.pairs} and keys={self.keys}")

    @property
    def vocab_size(self) -> int:  # type: ignore[override]
        return self.keys + self.values + self.noise

    def tell(self, rows: int, random: torch.Generator) -> Telling:
        key = _choose(rows, self.pairs, self.keys, random)
        value = torch.randint(self.values, key.shape, generator=random)
        two = torch.rand(rows, self.pairs, self.pairs, generator=random).argsort(dim=2)[:, :, :2]
        alone = torch.rand(rows, self.pairs, generator=random) >= self.both
        two = torch.where(alone[:, :, None], two[:, :, :1], two)
        asked, found = (x[:, None].expand(-1, self.pairs, -1).gather(2, two) for x in (key, value))
        one, other = found.unbind(2)
        joined = (one + other) % self.values if self.of == "sum" else (one == other).long()
        told = torch.stack((key, value + self.keys), dim=2).flatten(1)
        return Telling(told, _unanswered(asked, self.keys + torch.where(alone, one, joined)))

    def pass_time(self, rows: int, tokens: int, random: torch.Generator) -> Tensor:
        return self.keys + self.values + torch.randint(self.noise, (rows, tokens), generator=random)


@dataclass(frozen=True)
class TwoFactsCurriculum(TwoFacts):
    """Two facts as they are learned: half of the questions are for one."""

    def sample(self, rows: int, between: int, random: torch.Generator) -> Batch:
        return TwoFacts(self.of, self.pairs, self.keys, self.values, self.noise, 0.5).sample(rows, between, random)


@dataclass(frozen=True)
class TwoHops(Task):
    """Two facts make one answer: a leads to b and b to c, told apart from one another; asked is where a leads to.

    b1 c1 b2 c2 ... noise ... a2 b2 a1 b1 ... noise ... twice a1? (c1) twice a2? (c2)
    `apart` tokens lie between the two tellings: more than a segment, so that attention never sees both. Answers are not
    shown, so that none can be crossed off.
    end_first: whether what b leads to is known when a's fact is told, as above; else a's facts are told first.
    twice: the share of questions that take two steps. The others take one, "once a1?" (b1) or "once b1?" (c1).
    Token ids: as many `things` for a, for b and for c, noise, once, twice.
    """

    chains: int = 4
    things: int = 8
    noise: int = 16
    apart: int = 24
    twice: float = 1.0
    end_first: bool = True

    def __post_init__(self) -> None:
        keep_integers(self, "chains", "things", "noise", "apart")
        keep_number(self, "twice", 0, 1, low_counts=True)
        if self.chains > self.things:
            raise ValueError(f"chains must be at most things, got chains={self.chains} and things={self.things}")

    @property
    def vocab_size(self) -> int:  # type: ignore[override]
        return 3 * self.things + self.noise + 2

    def tell(self, rows: int, random: torch.Generator) -> Telling:
        a, b, c = (place * self.things + _choose(rows, self.chains, self.things, random) for place in range(3))
        order = _choose(rows, self.chains, self.chains, random)
        first = torch.stack((a, b), dim=2).flatten(1)
        second = torch.stack((b.gather(1, order), c.gather(1, order)), dim=2).flatten(1)
        early, late = (second, first) if self.end_first else (first, second)
        told = torch.cat((early, self.pass_time(rows, self.apart, random), late), dim=1)
        return Telling(told, self._ask(a, b, c, random))

    def _ask(self, a: Tensor, b: Tensor, c: Tensor, random: torch.Generator) -> Batch:
        """A question about each chain, in any order."""
        chance, order = torch.rand(a.shape, generator=random), _choose(len(a), self.chains, self.chains, random)
        twice, from_a = chance < self.twice, chance < (1 + self.twice) / 2
        answer = torch.where(from_a & ~twice, b, c).gather(1, order)
        mark = self.vocab_size - 2 + twice.long().gather(1, order)
        key = torch.where(from_a, a, b).gather(1, order)
        return _unanswered(torch.stack((mark, key), dim=2), answer)

    def pass_time(self, rows: int, tokens: int, random: torch.Generator) -> Tensor:
        return 3 * self.things + torch.randint(self.noise, (rows, tokens), generator=random)


@dataclass(frozen=True)
class TwoHopsCurriculum(TwoHops):
    """Two hops as they are learned: questions of one step alone for a fifth of the training, then both kinds; from 2 to
    `chains` chains a batch."""

    def at(self, share: float) -> Task:
        return replace(self, twice=0.0 if share < 0.2 else 0.6)

    def sample(self, rows: int, between: int, random: torch.Generator) -> Batch:
        chains = int(torch.randint(2, self.chains + 1, (), generator=random))
        task = TwoHops(chains, self.things, self.noise, self.apart, self.twice, self.end_first)
        return task.sample(rows, between, random)


def _unanswered(questions: Tensor, answers: Tensor) -> Batch:
    """Questions of two tokens [rows, questions, 2] one behind the other, and some token at the end; the answers
    [rows, questions] are labels alone, each at the token behind its question."""
    nothing = torch.full_like(answers, IGNORED_LABEL)
    tokens = torch.cat((questions.flatten(1), questions[:, :1, 0]), dim=1)
    labels = torch.cat((nothing[:, :1], torch.stack((nothing, answers), dim=2).flatten(1)), dim=1)
    return Batch(tokens, labels)


def _choose(rows: int, count: int, among: int, random: torch.Generator) -> Tensor:
    """For each row `count` different numbers below `among`, in random order."""
    return torch.rand(rows, among, generator=random).argsort(dim=1)[:, :count]


@dataclass(frozen=True)
class Needle(Task):
    """A needle in a haystack: a mark and a pass-key of `digits`, then hay and the mark again; asked
    for are the digits.

    kind: "noise" for hay of characters at random, "text" for stretches of `text()`. Digits and the
    mark occur nowhere in the hay. Token ids: the characters of `alphabet()`, ten digits, the mark.
    Hay of at most `before` tokens precedes the needle, so that it may stand anywhere in its segment
    and chunk.
    """

    kind: str = "noise"
    digits: int = 4
    before: int = 32
    whole = True

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, ("noise", "text"))
        keep_integers(self, "digits")
        keep_integers(self, "before", minimum=0)

    @property
    def vocab_size(self) -> int:  # type: ignore[override]
        return len(alphabet()) + 11

    def tell(self, rows: int, random: torch.Generator) -> Telling:
        mark = torch.full((rows, 1), self.vocab_size - 1)
        key = len(alphabet()) + torch.randint(10, (rows, self.digits), generator=random)
        needle = torch.cat((mark, key), dim=1)
        ahead = int(torch.randint(self.before + 1, (), generator=random))
        labels = torch.cat((torch.full_like(mark, IGNORED_LABEL), key), dim=1)
        return Telling(torch.cat((self.pass_time(rows, ahead, random), needle), dim=1), Batch(needle, labels))

    def pass_time(self, rows: int, tokens: int, random: torch.Generator) -> Tensor:
        if self.kind == "noise":
            return torch.randint(len(alphabet()), (rows, tokens), generator=random)
        return text_batch(rows, tokens, random)


@cache
def text() -> str:
    """The text that comes with the package: a few pages of English prose in small letters."""
    return (files("titans") / "text.txt").read_text(encoding="utf-8")


@cache
def alphabet() -> str:
    """The characters of `text()` but for digits, sorted; their places are their token ids."""
    return "".join(sorted(set(text()) - set("0123456789")))


@cache
def _text_tokens() -> Tensor:
    ids = {character: place for place, character in enumerate(alphabet())}
    return torch.tensor([ids[character] for character in text() if character in ids])


def text_batch(rows: int, tokens: int, random: torch.Generator) -> Tensor:
    """Stretches of the text, each from a random place and round from its end to its start: [rows,
    tokens]."""
    whole = _text_tokens()
    start = torch.randint(len(whole), (rows, 1), generator=random)
    return whole[(start + torch.arange(tokens)) % len(whole)]


class Stream(NamedTuple):
    """Keys of unit length and values [rows, 1, tokens, dim]: what a bare scan reads and writes."""

    k: Tensor
    v: Tensor


def drifting_regression(
    rows: int, tokens: int, dim: int, random: torch.Generator, drift: float = 0.01, noise: float = 0.0
) -> Stream:
    """v_t = A_t k_t + noise, with a matrix A_t that turns a little at every token: what was learned
    early grows wrong.

    A_0 is random with entries of variance 1 / dim; A_t = sqrt(1 - drift^2) A_{t-1} + drift *
    (another such matrix), so that its size stays and about 1 / drift^2 tokens later nothing of it
    is left.
    drift: in (0, 1]. noise: the standard deviation of what is added to the values.
    """
    for name, value in (("rows", rows), ("tokens", tokens), ("dim", dim)):
        check_integer(name, value)
    check_number("drift", drift, 0, 1)
    check_number("noise", noise, 0, low_counts=True)
    k = torch.nn.functional.normalize(torch.randn(rows, 1, tokens, dim, generator=random), dim=-1)
    A = torch.randn(rows, dim, dim, generator=random) * dim**-0.5
    v = []
    for t in range(tokens):
        v.append((A @ k[:, 0, t, :, None])[..., 0] + noise * torch.randn(rows, dim, generator=random))
        A = (1 - drift**2) ** 0.5 * A + drift * dim**-0.5 * torch.randn(rows, dim, dim, generator=random)
    return Stream(k, torch.stack(v, dim=1)[:, None])
