"""Exercises that check themselves: each check compares with an independent truth and names the
mistake that it finds.

A check knows the truth from autograd or from the defining property, never from the solution in the
lesson, and knows what the usual slips would give, so that it can tell a flipped sign from a missing
factor.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

TOLERANCE = 1e-9


@dataclass(frozen=True)
class Verdict:
    """What a check says: its outcome ("passed", "todo", or the mistake's name) and a sentence in
    each language."""

    outcome: str
    english: str
    japanese: str

    def __repr__(self) -> str:
        mark = {"passed": "✓", "todo": "…"}.get(self.outcome, "✗")
        return f"{mark} {self.english}\n{mark} {self.japanese}"


TODO = Verdict("todo", "Not attempted yet: replace the dots.", "まだ解いていません。「...」を書き換えてください。")


class Mistake(NamedTuple):
    """A usual slip: what it would compute, and what to say about it."""

    answer: Callable[..., Any]
    english: str
    japanese: str


class Exercise(NamedTuple):
    """A function to write: arguments to try it on, the truth, the slips to recognise, and the
    praise.

    no_numbers: what to say of an answer that cannot be compared; None leaves the error to whoever
        checks.
    """

    cases: Callable[[], Sequence[tuple]]
    truth: Callable[..., Any]
    mistakes: Mapping[str, Mistake]
    english: str
    japanese: str
    no_numbers: Verdict | None = None

    def check(self, answer: Callable[..., Any]) -> Verdict:
        """Try the answer on every case; say what is wrong with the first that differs."""
        cases = self.cases()
        given: list[Any] = []
        for case in cases:
            try:
                given.append(answer(*case))
            except Exception as error:
                return raised(error)
            if is_unfinished(given[-1]):
                return TODO
        try:
            return self._judge(given, cases)
        except (TypeError, ValueError, RuntimeError):
            if self.no_numbers is None:
                raise
            return self.no_numbers

    def _judge(self, given: list[Any], cases: Sequence[tuple]) -> Verdict:
        truths = [self.truth(*case) for case in cases]
        if _agree(given, truths):
            return Verdict("passed", self.english, self.japanese)
        for name, mistake in self.mistakes.items():
            if _agree(given, [mistake.answer(*case) for case in cases]):
                return Verdict(name, mistake.english, mistake.japanese)
        return _shape_verdict(given[0], truths[0]) or _difference(given, truths)


def raised(error: Exception) -> Verdict:
    """What is said of an answer that raises an error."""
    what = f"{type(error).__name__}: {error}"
    return Verdict("error", f"Your function raised {what}", f"関数がエラーを出しました：{what}")


def is_unfinished(value: Any) -> bool:
    """Whether the dots of the stub, or nothing at all, came back."""
    return any(part is None or part is ... for part in _listed(value))


def _parts(value: Any) -> list[Tensor]:
    return [torch.as_tensor(part, dtype=torch.float64) for part in _listed(value)]


def _listed(value: Any) -> Sequence[Any]:
    return value if isinstance(value, tuple | list) else (value,)


def _agree(given: list[Any], wanted: list[Any]) -> bool:
    for have, want in zip(given, wanted, strict=True):
        pairs = _parts(have), _parts(want)
        if len(pairs[0]) != len(pairs[1]):
            return False
        for one, other in zip(*pairs, strict=True):
            if one.shape != other.shape or not torch.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE):
                return False
    return True


def _shape_verdict(given: Any, truth: Any) -> Verdict | None:
    have, want = ([list(part.shape) for part in _parts(value)] for value in (given, truth))
    if have == want:
        return None
    return Verdict(
        "shape",
        f"The shapes are {have}, they should be {want}. Is an outer product the wrong way round?",
        f"形が {have} になっています。正しくは {want} です。外積の順序が逆ではありませんか。",
    )


def _difference(given: list[Any], truths: list[Any]) -> Verdict:
    worst = max(
        float((one - other).abs().max())
        for have, want in zip(given, truths, strict=True)
        for one, other in zip(_parts(have), _parts(want), strict=True)
    )
    return Verdict(
        "different",
        f"Not yet: the largest difference from the truth is {worst:.2g}. Go through the equation term by term.",
        f"まだ違います。正しい値との差は最大 {worst:.2g} です。式を1項ずつ確かめてください。",
    )
