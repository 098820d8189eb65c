"""Exercises that check themselves: each check compares with an independent truth and names the
mistake that it finds.

A check knows the truth from autograd or from the defining property, never from the solution in the
lesson, and knows what the usual slips would give, so that it can tell a flipped sign from a missing
factor. A right answer is right however it is written: in float32, with numpy, as lists, in place.
"""

import inspect
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from titans.lesson.kit.host import say

EXACT, SINGLE, NEAR = 1e-9, 2e-5, 2e-2  # differences, as shares of the largest number: float64, float32, two digits
SMALL = 6  # arguments of at most so many numbers are shown

Values = tuple[Tensor, ...]
Both = tuple[str, str]  # the same in English and in Japanese

# What to add, as a hint, where a mask came back as something else.
BOOLEANS = (" Asked for are booleans: True where a token sees.", "求めるのは真偽値です。見えるところを True にします。")


@dataclass(frozen=True)
class Verdict:
    """What a check says: its outcome ("passed", "todo", or the mistake's name) and a sentence in
    each language."""

    outcome: str
    english: str
    japanese: str

    def __repr__(self) -> str:
        mark = {"passed": "✓", "todo": "…"}.get(self.outcome, "✗")
        return f"{mark} {say(self.english, self.japanese)}"


class RefusedError(Exception):
    """What came back is no answer that could be compared; the verdict says why. The hint that belongs
    to it goes by the outcome's name, or by one of its own."""

    def __init__(self, outcome: str, english: str, japanese: str, hint: str = "") -> None:
        self.verdict, self.hint = Verdict(outcome, english, japanese), hint or outcome


class Mistake(NamedTuple):
    """A usual slip: what it would compute, and what to say about it."""

    answer: Callable[..., Any]
    english: str
    japanese: str

    def on(self, cases: Sequence[tuple]) -> list[Values]:
        """What it computes; an empty answer, which nothing agrees with, where that is no number."""
        found: list[Values] = []
        for case in cases:
            try:
                found.append(values(self.answer(*deepcopy(case))))
            except RefusedError:
                found.append(())
        return found


class Exercise(NamedTuple):
    """A function to write: arguments to try it on, the truth, the slips to recognise, and the
    praise.

    cases: lists the arguments. Where it takes a seed they are drawn: the same answer always meets
        the same, another one meets others, so that no table of cases passes.
    hints: outcome -> what to add to the engine's own sentence where that outcome has a likely cause
        in this exercise ("shape", "type", "count", "ragged"; "turned"
        for a shape of rows and columns exchanged, "sizes" for an error about sizes that do not fit).
    cell: what a cell of a mask stands for, from its case, row and column.
    names: where an answer lists names: those of a case, each with the facts that decide on it. Truth and slips
        are then booleans, one for each name.
    """

    cases: Callable[..., Sequence[tuple]]
    truth: Callable[..., Any]
    mistakes: Mapping[str, Mistake]
    english: str
    japanese: str
    hints: Mapping[str, Both] = {}
    cell: Callable[[tuple, int, int], Both] | None = None
    names: Callable[[tuple], Mapping[str, str]] | None = None

    @torch.enable_grad()  # a lesson may have switched gradients off
    def check(self, answer: Callable[..., Any]) -> Verdict:
        """Try the answer on every case; say what is wrong with the first that differs."""
        try:
            cases = self.drawn(seed_of(answer))
            truths = [values(self.truth(*deepcopy(case))) for case in cases]
            given = [
                values(self._read(returned(answer, case, self.truth), case), len(truth), truth[0].shape)
                for case, truth in zip(cases, truths, strict=True)
            ]
            verdict = self._judge(answer, cases, given, truths)
            hint = verdict.outcome
        except RefusedError as refusal:
            verdict, hint = refusal.verdict, refusal.hint
        english, japanese = self.hints.get(hint, ("", ""))
        return Verdict(verdict.outcome, verdict.english + english, verdict.japanese + japanese)

    def drawn(self, seed: int) -> Sequence[tuple]:
        """The cases that belong to a seed."""
        return self.cases(seed) if inspect.signature(self.cases).parameters else self.cases()

    def _read(self, value: Any, case: tuple) -> Any:
        return value if self.names is None else _listed(value, self.names(case))

    def _judge(self, answer: Callable[..., Any], cases: Sequence[tuple], given: list, truths: list) -> Verdict:
        if _agree(given, truths, EXACT):
            return Verdict("passed", self.english, self.japanese)
        if _agree(given, truths, SINGLE):
            return Verdict(
                "passed", f"{self.english} (In the precision of float32.)", f"{self.japanese}（float32の誤差の範囲で）"
            )
        for name, mistake in self.mistakes.items():
            if _agree(given, mistake.on(cases), SINGLE):
                return Verdict(name, mistake.english, mistake.japanese)
        first = next(
            n for n, pair in enumerate(zip(given, truths, strict=True)) if not _agree(pair[:1], pair[1:], SINGLE)
        )
        where, have, want = shown(cases[first], answer, self.truth), given[first], truths[first]
        _refuse_shape(have, want)
        if self.names:
            return _wrong_name(have[0], want[0], self.names(cases[first]))
        if self.cell:
            row, column = _first_wrong(have[0], want[0])
            return _wrong_cell(where, have[0], want[0], (row, column), self.cell(cases[first], row, column))
        return _difference(where, have, want, near=_agree(given, truths, NEAR))


def seed_of(answer: Callable[..., Any]) -> int:
    """A number that another answer hardly shares: what its code does, not what it is called."""
    code = getattr(answer, "__code__", None)
    if code is None:
        return 0
    constants = [constant for constant in code.co_consts if isinstance(constant, int | float | str | tuple)]
    return zlib.crc32(code.co_code + repr((code.co_names, constants)).encode())


# ---- From what a function returns to numbers -----------------------------------------------------


def returned(answer: Callable[..., Any], case: tuple, truth: Callable[..., Any] | None = None) -> Any:
    """What the answer gives for copies of the arguments: it may change them as it likes."""
    if not callable(answer):
        raise RefusedError(
            "not a function",
            "Hand over the function itself: its name, without brackets.",
            "関数そのものを渡してください。名前だけを書き、括弧は付けません。",
        )
    try:
        return answer(*deepcopy(case))
    except (Exception, SystemExit) as error:
        raise _raised(error, shown(case, answer, truth or answer)) from error


def _raised(error: BaseException, where: str) -> RefusedError:
    message = str(error)
    what = f"{type(error).__name__}: {message}".rstrip(".: ")
    english, japanese = f"our function raised {what}.", f"関数がエラーを出しました：{what}。"
    english, japanese = (
        (f"With {where}, y{english}", f"{where} のとき、{japanese}") if where else (f"Y{english}", japanese)
    )
    of_dtype = "dtype" in message or "scalar type" in message
    if of_dtype:
        english += " The arguments are float64, so tensors that you make have to be float64 too."
        japanese += "引数は float64 なので、自分で作るテンソルも float64 にします。"
    of_sizes = any(word in message for word in ("size", "shape", "mismatch", "dimension"))
    return RefusedError("error", english, japanese, "sizes" if of_sizes and not of_dtype else "error")


def values(value: Any, count: int = 0, shape: Sequence[int] = ()) -> Values:
    """The numbers of an answer, each of `count` values a tensor of its own; RefusedError where there are
    none. Without a count a tuple is as many values as it has, and all else is one."""
    try:
        found = _tensors(value, count, shape)
        nan, infinite = (any(bool(test(part).any()) for part in found) for test in (torch.isnan, torch.isinf))
    except RefusedError:
        raise
    except Exception:  # whatever else numbers may be made of
        raise _no_numbers(*_of_type(value)) from None
    if nan or infinite:
        raise RefusedError(
            "not finite",
            f"There is {'NaN (not a number)' if nan else 'an infinite number'} in what your function returned. "
            "Is something divided by zero?",
            f"返された値に{'NaN（数でない値）' if nan else '無限大'}が含まれています。0で割っていませんか。",
        )
    return tuple(found)


def _tensors(value: Any, count: int, shape: Sequence[int]) -> list[Tensor]:
    _refuse_dots(value)
    if count == 1 and isinstance(value, tuple) and len(value) > 1 and not len(shape):
        raise _count(len(value), 1)
    if count == 1 or (count == 0 and not isinstance(value, tuple)):
        return [_tensor(value)]
    if value is None or not isinstance(value, tuple | list | Tensor | np.ndarray):
        _tensor(value)  # what is no number says so itself
        raise _count(1, count)
    if not isinstance(value, tuple | list) and not value.ndim:
        _tensor(value)
        raise _count(1, count)
    parts = list(value)
    if count and len(parts) != count:
        raise _count(len(parts) if isinstance(value, tuple | list) else 1, count)
    for place, part in enumerate(parts, start=1):
        if part is None:
            raise RefusedError(
                "nothing",
                f"Value {place} of {len(parts)} is None: what was it meant to be?",
                f"{len(parts)}個のうち{place}番目の値が None です。値が入っていますか。",
            )
    return [_tensor(part) for part in parts]


def _count(have: int, want: int) -> RefusedError:
    return RefusedError(
        "count",
        f"Your function returned {have} value{'s' * (have != 1)}, it should return {want}.",
        f"関数が返した値は{have}個ですが、{want}個返してください。",
    )


def _refuse_dots(value: Any) -> None:
    if value is ...:
        raise RefusedError(
            "todo", "Not attempted yet: replace the dots.", "まだ解いていません。「...」を書き換えてください。"
        )
    if isinstance(value, tuple | list):
        for part in value:
            _refuse_dots(part)


def _tensor(value: Any) -> Tensor:
    """Any numbers as one tensor in float64, a copy: numpy's, Python's, rows in lists."""
    if value is None:
        raise RefusedError(
            "nothing",
            "Your function returned nothing (None). Is `return` missing? What is printed does not count.",
            "関数が何も返していません（None）。`return` を忘れていませんか。print で表示しただけでは、値は返りません。",
        )
    if isinstance(value, Tensor):
        if value.is_complex():
            raise _no_numbers("complex numbers", "複素数")
        return value.detach().cpu().to_dense().to(torch.float64, copy=True)
    if hasattr(value, "__array__"):
        return _tensor(np.asarray(value).tolist())
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        rows = [_tensor(part) for part in value]
        if len({row.shape for row in rows}) > 1:
            raise RefusedError(
                "ragged",
                f"The parts of what your function returned differ in shape: {_shapes(rows)[0]}.",
                f"返された値の要素どうしで、形が違っています：{_shapes(rows)[1]}。",
            )
        return torch.stack(rows) if rows else torch.zeros(0, dtype=torch.float64)
    return torch.tensor(_number(value), dtype=torch.float64)


def _number(value: Any) -> float:
    kind = type(value).__name__
    if isinstance(value, str | bytes):
        raise _no_numbers(f"text ({kind})", f"文字列（{kind}）")
    if callable(value):
        raise _no_numbers("a function; are the brackets of a call missing?", "関数（呼び出しの括弧を忘れていませんか）")
    if isinstance(value, Iterator):
        raise _no_numbers(f"a {kind}; make a list of it", f"{kind}（リストにしてください）")
    try:
        return float(value)
    except OverflowError:
        return float("inf")
    except (TypeError, ValueError):
        raise _no_numbers(*_of_type(value)) from None


def _of_type(value: Any) -> Both:
    kind = type(value).__name__
    return f"an object of type {kind}", f"{kind} 型のオブジェクト"


def _no_numbers(english: str, japanese: str) -> RefusedError:
    return RefusedError(
        "type",
        f"Your function should return numbers, and returned {english}.".replace("?.", "?"),
        f"関数が返すのは数値ですが、{japanese}が返されました。",
    )


def _listed(value: Any, names: Iterable[str]) -> Any:
    """A list, tuple or set of names as a boolean for each name that there is; all else as it came."""
    if isinstance(value, str | Mapping | Iterator | int | float):
        english, japanese = _of_type(value)
        raise RefusedError(
            "type",
            f"Your function should return a list of names, and returned {english}.",
            f"関数が返すのは名前のリストですが、{japanese}が返されました。",
        )
    if not isinstance(value, list | tuple | set | frozenset) or not all(isinstance(part, str) for part in value):
        return value
    for name in sorted(set(value).difference(names)):
        raise RefusedError(
            "type",
            f"{name!r} is none of the names that there are: {', '.join(names)}.",
            f"{name!r} という名前はありません。あるのは {', '.join(names)} です。",
        )
    return [name in value for name in names]


# ---- Comparing and telling -----------------------------------------------------------------------


def _agree(given: Sequence[Values], wanted: Sequence[Values], tolerance: float) -> bool:
    return all(
        len(have) == len(want) and all(_alike(*pair, tolerance) for pair in zip(have, want, strict=True))
        for have, want in zip(given, wanted, strict=True)
    )


def _alike(have: Tensor, want: Tensor, tolerance: float) -> bool:
    """Whether no number differs by more than that share of the largest."""
    if have.shape != want.shape or not want.numel():
        return have.shape == want.shape
    return bool((have - want).abs().max() <= tolerance * want.abs().max().clamp(min=1e-6))


def _refuse_shape(have: Values, want: Values) -> None:
    for one, other in zip(have, want, strict=True):
        if one.shape != other.shape and not other.ndim:
            raise RefusedError(
                "shape",
                f"One number is asked for, and your function returned several, in the shape {list(one.shape)}."
                if one.numel() != 1
                else "Return the number itself, not a list or tensor around it.",
                f"求めるのは1つの数ですが、形 {list(one.shape)} の値が返されました。"
                if one.numel() != 1
                else "リストやテンソルで包まずに、数そのものを返してください。",
            )
    turned = all(one.shape == other.mT.shape for one, other in zip(have, want, strict=True) if other.ndim == 2)
    (shapes, japanese), (right, _) = _shapes(have), _shapes(want)
    if shapes != right:
        be = "shape is" if len(have) == 1 else "shapes are"
        raise RefusedError(
            "shape",
            f"The {be} {shapes}, and should be {right}.",
            f"形が {japanese} になっています。正しくは {right} です。",
            "turned" if turned else "shape",
        )


def _first_wrong(have: Tensor, want: Tensor) -> tuple[int, int]:
    row, column = (have != want).nonzero()[0].tolist()
    return row, column


def _wrong_cell(where: str, have: Tensor, want: Tensor, at: tuple[int, int], words: Both) -> Verdict:
    """The first cell of a mask that is wrong."""
    seen = {0.0: "False", 1.0: "True"}
    yours, right = (seen.get(float(mask[at]), _written(mask[at])) for mask in (have, want))
    (row, column), (english, japanese) = at, words
    return Verdict(
        "different",
        f"Not yet. With {where}, row {row}, column {column} ({english}) is {yours}, and should be {right}.",
        f"まだ違います。{where} のとき、{row}行{column}列（{japanese}）が {yours} ですが、正しくは {right} です。",
    )


def _wrong_name(have: Tensor, want: Tensor, names: Mapping[str, str]) -> Verdict:
    """The first name that is missing, or that should be."""
    place = int((have != want).nonzero()[0])
    (name, facts), listed = list(names.items())[place], bool(want[place])
    return Verdict(
        "different",
        f"Not yet. {name!r} {'belongs' if listed else 'does not belong'} in the list: {facts}.",
        f"まだ違います。{name!r} はリストに{'入ります' if listed else '入りません'}：{facts}。",
    )


def _difference(where: str, have: Values, want: Values, near: bool) -> Verdict:
    """The first value that differs, and by how much."""
    part = next(n for n, pair in enumerate(zip(have, want, strict=True)) if not _alike(*pair, SINGLE))
    one, other = have[part], want[part]
    if one.ndim:
        worst = float((one - other).abs().max())
        english, japanese = (
            f"the largest difference from the truth is {worst:.2g}",
            f"正しい値との差は最大 {worst:.2g} です",
        )
    else:
        english = f"yours {_written(one)}, right {_written(other)}"
        japanese = f"あなたの答えは {_written(one)}、正しい値は {_written(other)} です"
    if where:
        english, japanese = f"{where}: {english}", f"{where} のとき、{japanese}"
    if len(have) > 1:
        english, japanese = (
            f"value {part + 1} of {len(have)}: {english}",
            f"{len(have)}個のうち{part + 1}番目の値：{japanese}",
        )
    if near and bool((other != other.round()).any()):
        return Verdict(
            "near",
            f"Close, but not exact ({english}). Is something rounded, or is it an approximation?",
            f"近いのですが、正確ではありません（{japanese}）。丸めや近似をしていませんか。",
        )
    return Verdict("different", f"Not yet ({english}).", f"まだ違います（{japanese}）。")


def shown(case: tuple, answer: Callable[..., Any], truth: Callable[..., Any]) -> str:
    """The arguments by name where all are small, or nothing: "t = 5, segment_len = 4". The names are
    the answer's where it has one for each, or the truth's."""
    try:
        numbers = [_tensor(part) for part in case]
    except RefusedError:
        return ""
    names = _names(answer, len(case)) or _names(truth, len(case))
    if not names or sum(part.numel() for part in numbers) > SMALL:
        return ""
    return ", ".join(f"{name} = {_written(part)}" for name, part in zip(names, numbers, strict=True))


def _names(function: Callable[..., Any], count: int) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return names if len(names) == count else []


def _written(value: Tensor) -> str:
    return f"{float(value):.5g}" if not value.ndim else f"[{', '.join(_written(part) for part in value)}]"


def _shapes(parts: Sequence[Tensor]) -> Both:
    english, japanese = (
        ", ".join(str(list(part.shape)) if part.ndim else one for part in parts) for one in ("one number", "1つの数")
    )
    return english, japanese
