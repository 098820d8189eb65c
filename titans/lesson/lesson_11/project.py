"""Lesson 11's last project: a memory that beats the lesson's on streams that nobody has seen, within a budget.

What the student hands in is run beside the default rule on streams of a seed that is new in every call. It is handed
one token at a time, in copies; the questions come after the last token, and the answers never. What is remembered has
to be in the weights and in what the rule carries: a step that is made again from the same has to come out the same, and
the weights of another stream must not know the answers. That finds mistakes and shortcuts; whoever wants to cheat the
interpreter itself can.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from titans.lesson.kit.exercise import Both, RefusedError, Verdict
from titans.lesson.lesson_11.streams import Stream, draw, told, units
from titans.lesson.lesson_11.trials import matrix
from titans.memory import Memory
from titans.recurrence import Momentum
from titans.scan import Gates, Rule, Tokens
from titans.state import Weights

Three = tuple[float, float, float]

# ---- The streams -----------------------------------------------------------------------------------------------------


def mixed(
    generator: Generator, pairs: int, times: int, shared: float, noise: float, share: float, size: float = 10.0
) -> Stream:
    """Pairs whose keys have `shared` of one direction for 1 of their own, told `times` times, each value with noise of
    this length; a `share` of the values is another one, `size` times as long. Asked for are the pairs."""
    keys = F.normalize(units(generator, pairs) + shared * units(generator, 1), dim=-1)
    stream = told(keys, units(generator, pairs), times, generator)
    count = len(stream.k)
    wrong = torch.rand(count, generator=generator) < share
    heard = stream.v + noise * units(generator, count)
    return stream._replace(v=torch.where(wrong[:, None], size * units(generator, count), heard))


KINDS: dict[str, Callable[[Generator], Stream]] = {
    "alike": partial(mixed, pairs=12, times=2, shared=2.0, noise=0.1, share=0.0),
    "outliers": partial(mixed, pairs=8, times=6, shared=0.7, noise=0.1, share=0.08),
    "noisy": partial(mixed, pairs=10, times=4, shared=1.0, noise=0.5, share=0.03),
}
NAMES: dict[str, Both] = {
    "alike": ("keys alike", "似たキー"),
    "outliers": ("outliers", "外れ値"),
    "noisy": ("noisy values", "値の雑音"),
}
STREAMS_OF_A_KIND = 48


def fresh(seed: int) -> list[Stream]:
    """The streams that belong to a seed, a batch for each kind."""
    return [draw(make, range(seed, seed + STREAMS_OF_A_KIND)) for make in KINDS.values()]


# ---- What is counted -------------------------------------------------------------------------------------------------

PRODUCTS = {"mm", "bmm", "mv", "dot", "vdot", "addmm", "addmv", "baddbmm"}
HEAVY = ("linalg_", "_linalg", "cholesky", "lu_", "triangular", "geqrf", "orgqr", "ormqr", "_cdist", "_fft")
LEAVES = {"numpy", "tolist", "item", "data_ptr", "untyped_storage", "__array__", "__dlpack__", "__float__"}


def operations(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> int:
    """Of one call: 2 r i o for the product of matrices [r, i] and [i, o]; 10 m n max(m, n) for a decomposition, an
    inverse or a solution of m x n; nothing for a view; else a number for each that it writes or, if more, reads."""
    packet, name = func.overloadpacket, func.overloadpacket.__name__.rstrip("_")
    views = any(out.alias_info is not None and not out.alias_info.is_write for out in func._schema.returns)
    if views or name == "_unsafe_view":
        return 0
    if packet in flop_registry:
        return flop_registry[packet](*args, **kwargs, out_val=result)
    read, written = ([x for x in tree_leaves(part) if isinstance(x, Tensor)] for part in ((args, kwargs), result))
    largest = max(read, key=Tensor.numel, default=None)
    made = sum(x.numel() for x in written) if written else sum(x.numel() for x in read)
    if name in PRODUCTS:
        factor = args[1 if "add" in name else 0]
        return 2 * made * factor.shape[-1]
    if name.startswith(HEAVY) and "norm" not in name and largest is not None:
        return 10 * largest.numel() * max(largest.shape[-2:], default=1)
    return max(made, 0 if largest is None else largest.numel())


class Counter(TorchDispatchMode):
    """Counts the operations of all that runs in it, those of gradients too; beyond `limit` it stops."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.count, self.limit = 0, limit

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.count += operations(func, args, kwargs or {}, result)
        if self.count > self.limit:
            raise TooMuchError
        return result


class TooMuchError(Exception):
    """More operations than a check goes on counting."""


class InTorch(TorchFunctionMode):
    """Refuses to hand numbers out of torch, to where nothing is counted."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in LEAVES:
            raise RefusedError(
                "not counted",
                f"Your rule or memory calls `{func.__name__}`, which takes numbers out of torch, where nothing is "
                "counted. Stay in torch.",
                f"規則かメモリが `{func.__name__}` を呼んで、数値を torch の外に出しています。"
                "そこでは演算を数えられません。torch の中だけで計算してください。",
            )
        return func(*args, **(kwargs or {}))


# ---- Running a rule --------------------------------------------------------------------------------------------------


class Entry(NamedTuple):
    """What is run: a rule, its memory, and theta, eta and alpha, the same for all tokens of all streams."""

    rule: Rule
    memory: Memory
    gates: Three


class Run(NamedTuple):
    """The mean error on each kind of stream, and the operations of all."""

    errors: list[float]
    operations: int

    @property
    def error(self) -> float:
        """The mean over the kinds."""
        return sum(self.errors) / len(self.errors)


class Moment(NamedTuple):
    """A step's arguments, and what came of it."""

    weights: Weights
    carried: Weights
    token: Tokens
    after: Weights


class Bench:
    """An entry at work: all that it computes is counted, and what comes back is looked at.

    limit: the operations after which it is stopped.
    Raises RefusedError, here and in what follows, for what does not work.
    """

    def __init__(self, entry: Entry, limit: float = float("inf")) -> None:
        self.entry, self.counter = entry, Counter(limit)
        with answering("shapes"):
            self.shapes = [tuple(shape) for shape in entry.memory.shapes]
            self.carries = [tuple(shape) for shape in entry.rule.shapes(entry.memory)]

    def run(self, streams: Sequence[Stream], replayed: int = 0) -> Run:
        """Tell it the streams, a token at a time, and ask it at the end. replayed: which step is made again then, to
        see that it comes out the same."""
        runs = [self.write(stream, replayed % stream.k.shape[1]) for stream in streams]
        errors = [self.error(weights, stream) for (weights, _), stream in zip(runs, streams, strict=True)]
        count, self.counter.limit = self.counter.count, float("inf")
        for (weights, moment), stream in zip(runs, streams, strict=True):
            self.refuse_hidden(moment)
            self.refuse_oracle(weights, stream)
        return Run(errors, count)

    def write(self, stream: Stream, kept: int) -> tuple[Weights, Moment]:
        """The weights after all tokens, and the moment of one of them. The rule gets copies: it may change them."""
        rows, tokens, _ = stream.k.shape
        weights = self.first(rows)
        carried = tuple(stream.k.new_zeros(rows, *shape) for shape in self.carries)
        for t in range(tokens):
            before = copied(weights), copied(carried)
            weights, carried = self.step(weights, carried, self.token(stream, t))
            if t == kept:
                moment = Moment(*before, self.token(stream, t), copied((*weights, *carried)))
        return weights, moment

    def first(self, rows: int) -> Weights:
        """M_0, a copy for each row."""
        with answering("initial_state"):
            weights = copied(self.entry.memory.initial_state(rows).weights)
        refuse_shapes("initial_state", weights, rows, self.shapes)
        return weights

    def token(self, stream: Stream, t: int) -> Tokens:
        """One token, with the entry's gates."""
        k, v = (part[:, None, t : t + 1].clone() for part in (stream.k, stream.v))
        gates = (k.new_full((len(k), 1, 1, len(self.shapes)), gate) for gate in self.entry.gates)
        return Tokens(k.clone(), k, v, Gates(*gates))

    def step(self, weights: Weights, carried: Weights, token: Tokens) -> tuple[Weights, Weights]:
        """A step of the rule: copies of what it returned, in their shapes."""
        with self.counter, InTorch(), answering("step"):
            given = self.entry.rule.step(self.entry.memory, weights, carried, weights, token)
        refuse_pair(given)
        for tensors, shapes in zip(given, (self.shapes, self.carries), strict=True):
            refuse_shapes("step", tensors, len(token.k), shapes)
        new, carried = (copied(tensors) for tensors in given)
        if not all(bool(tensor.isfinite().all()) for tensor in (*new, *carried)):
            raise not_finite("step")
        return new, carried

    def error(self, weights: Weights, stream: Stream) -> float:
        """|M(q) - wanted| / |wanted|, the mean over questions and streams."""
        q = stream.q[:, None].clone()
        with self.counter, InTorch(), answering("read"):
            answers = self.entry.memory.read(copied(weights), q)
        refuse_shapes("read", (answers,), len(q), [q.shape[1:]])
        if not bool(answers.isfinite().all()):
            raise not_finite("read")
        return float(((answers.detach()[:, 0] - stream.wanted).norm(dim=-1) / stream.wanted.norm(dim=-1)).mean())

    def refuse_hidden(self, moment: Moment) -> None:
        """RefusedError where the same step from the same weights does not come out the same."""
        weights, carried = self.step(copied(moment.weights), copied(moment.carried), moment.token)
        for one, other in zip((*weights, *carried), moment.after, strict=True):
            if not torch.allclose(one, other, rtol=1e-7, atol=1e-9):
                raise RefusedError(
                    "hidden",
                    "Made again from the same weights and the same token, a step of your rule came out otherwise. What "
                    "it knows of earlier tokens has to be in the weights and in what it carries, not in `self` or "
                    "elsewhere.",
                    "同じ重みと同じトークンから、規則のステップをもう一度行うと、違う結果になりました。前のトークンから覚えておくことは、"
                    "`self` などではなく、重みと、持ち越すもの（`shapes`）に入れてください。",
                )

    def refuse_oracle(self, weights: Weights, stream: Stream) -> None:
        """RefusedError where the weights of the next stream know this one's answers."""
        foreign = self.error(tuple(tensor.roll(1, 0) for tensor in weights), stream)
        if foreign < NOTHING:
            raise RefusedError(
                "oracle",
                "Asked with the weights of another stream, your memory still knows the answers (error "
                f"{foreign:.2f}): they do not come from its weights. `read` may use nothing else.",
                f"別のストリームの重みを渡してたずねても、メモリは答えを知っています（誤差 {foreign:.2f}）。"
                "答えが重みから来ていません。`read` で使ってよいのは、渡された重みだけです。",
            )


def copied(tensors: Sequence[Tensor]) -> Weights:
    """The same numbers, in tensors that nothing else holds."""
    return tuple(tensor.detach().clone() for tensor in tensors)


# ---- What is refused -------------------------------------------------------------------------------------------------


@contextmanager
def answering(method: str) -> Iterator[None]:
    """An error in a method of the student's becomes a refusal that names it."""
    try:
        yield
    except (RefusedError, TooMuchError):
        raise
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {error}".rstrip(".: ")
        raise RefusedError(
            "error", f"`{method}` raised {what}.", f"`{method}` がエラーを出しました：{what}。"
        ) from error


def not_finite(method: str) -> RefusedError:
    """What is said of NaN and infinities."""
    return RefusedError(
        "not finite",
        f"There is NaN or an infinite number in what `{method}` returned: the memory diverged, or something was "
        "divided by zero. A smaller theta, or a bound?",
        f"`{method}` が返した値に、NaN か無限大が含まれています。メモリが発散したか、0で割っています。"
        "theta を小さくするか、上限を設けてはどうでしょうか。",
    )


def refuse_pair(given: Any) -> None:
    """RefusedError unless a step returned two tuples of tensors."""
    if given is ... or (isinstance(given, tuple) and ... in [part for part in given if not isinstance(part, Tensor)]):
        raise UNTOUCHED
    parts = given if isinstance(given, tuple) and len(given) == 2 else ()
    if not parts or not all(isinstance(p, tuple | list) and all(isinstance(x, Tensor) for x in p) for p in parts):
        raise RefusedError(
            "type",
            "`step` should return two tuples of tensors, the new weights and what is carried on: `return M, S`.",
            "`step` が返すのは、新しい重みと、持ち越すものの、2つのテンソルのタプルです：`return M, S`。",
        )


def refuse_shapes(method: str, given: Sequence[Tensor], rows: int, shapes: Sequence[Sequence[int]]) -> None:
    """RefusedError unless these tensors have these shapes for so many rows, in float64."""
    if not all(isinstance(x, Tensor) for x in given):
        raise RefusedError("type", f"`{method}` should return tensors.", f"`{method}` が返すのはテンソルです。")
    have, want = ([list(shape) for shape in side] for side in ((x.shape for x in given), ((rows, *s) for s in shapes)))
    if have != want:
        raise RefusedError(
            "shape",
            f"`{method}` returned the shapes {have}, and they should be {want}: {rows} streams are read side by side.",
            f"`{method}` が返した形は {have} ですが、正しくは {want} です。{rows}本のストリームを並べて読んでいます。",
        )
    if any(x.dtype != torch.float64 for x in given):
        raise RefusedError(
            "dtype",
            f"`{method}` returned {given[0].dtype}; all is float64 here, so tensors that you make have to be, too.",
            f"`{method}` が {given[0].dtype} を返しました。"
            "ここではすべて float64 なので、自分で作るテンソルも float64 にします。",
        )


UNTOUCHED = RefusedError(
    "todo", "Not attempted yet: replace the dots.", "まだ解いていません。「...」を書き換えてください。"
)


def entered(rule: Any, gates: Any, memory: Any) -> Entry:
    """An entry, or the RefusedError that says what is missing of it."""
    if rule is ... or gates is ... or memory is ...:
        raise UNTOUCHED
    refuse_lacking("rule", "規則", rule, ("signature", "shapes", "step"))
    memory = matrix() if memory is None else memory
    refuse_lacking("memory", "メモリ", memory, ("dim", "heads", "shapes", "signature", "initial_state", "read"))
    try:
        theta, eta, alpha = (float(gate) for gate in gates)
        fits = 0 <= theta < float("inf") and 0 <= eta <= 1 and 0 <= alpha <= 1
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise RefusedError(
            "gates",
            "gates should be three numbers, theta (not negative), eta and alpha (from 0 to 1).",
            "ゲート `gates` は3つの数です。theta（0以上）、eta と alpha（0から1まで）の順に書きます。",
        )
    return Entry(rule, memory, (theta, eta, alpha))


def refuse_lacking(english: str, japanese: str, thing: Any, names: Sequence[str]) -> None:
    """RefusedError for a class instead of an object, and for one that lacks some of these names."""
    if isinstance(thing, type):
        raise RefusedError(
            f"not a {english}",
            f"Hand over an object, not the class: `{thing.__name__}()`.",
            f"クラスではなく、オブジェクトを渡してください：`{thing.__name__}()`。",
        )
    lacking = ", ".join(f"`{name}`" for name in names if not hasattr(thing, name))
    if lacking:
        raise RefusedError(
            f"not a {english}",
            f"This is no {english}: {type(thing).__name__} lacks {lacking}.",
            f"{type(thing).__name__} は{japanese}になっていません。{lacking} がありません。",
        )


# ---- The project -----------------------------------------------------------------------------------------------------

DEFAULT_GATES = (0.1, 0.0, 0.0)  # the best of GRID for the default rule, over all kinds, on TUNED
TUNED = range(STREAMS_OF_A_KIND)
NOTHING = 0.9  # an error that is as good as knowing nothing
STOP = 5  # times the budget: more is not counted


class Project(NamedTuple):
    """Beat the lesson's memory.

    share: the error asked for, as a share of the default's. times: the budget, in operations of the default.
    """

    share: float
    times: int

    @torch.enable_grad()  # a lesson may have switched gradients off
    def check(self, rule: Any, gates: Any = DEFAULT_GATES, memory: Any = None, seed: int | None = None) -> Verdict:
        """Try a rule beside the default one.

        gates: theta, eta and alpha, the same for every token. memory: a matrix unless another one is handed over.
        seed: of the streams; a new one in every call unless it is given.
        """
        seed = TUNED.stop + secrets.randbelow(10**6) if seed is None else seed
        streams = fresh(seed)
        default = Bench(Entry(Momentum(), matrix(), DEFAULT_GATES)).run(streams)
        budget = self.times * default.operations
        try:
            mine = Bench(entered(rule, gates, memory), STOP * budget).run(streams, seed)
        except RefusedError as refusal:
            return refusal.verdict
        except TooMuchError:
            return self.over(f"more than {STOP}", f"{STOP}倍以上")
        if mine.operations > budget:
            much = mine.operations / budget
            return self.over(f"{much:.1f}", f"{much:.1f}倍")
        return self.judged(mine, default, seed)

    def over(self, much: str, japanese: str) -> Verdict:
        """Over the budget, by so many times."""
        return Verdict(
            "over budget",
            f"Too dear: your rule takes {much} times the budget, which is {self.times} times the default's operations.",
            f"演算が多すぎます。予算（既定の規則の{self.times}倍）の{japanese}かかっています。",
        )

    def judged(self, mine: Run, default: Run, seed: int) -> Verdict:
        """The verdict on a run within the budget."""
        share, times = mine.error / default.error, mine.operations / default.operations
        if share <= self.share:
            outcome = "passed"
            first = "Passed: your memory beats the lesson's.", "合格です。レッスンのメモリに勝ちました。"
        else:
            outcome, first = "not better", self._not_better(mine, default)
        english, japanese = (_each(mine, default, language) for language in (0, 1))
        return Verdict(
            outcome,
            f"{first[0]} Its error is {mine.error:.2f}, the default's with its best gates {DEFAULT_GATES} is "
            f"{default.error:.2f}: {share:.2f} of it, and {self.share} or less passes. Operations: {times:.1f} times "
            f"the default's, of {self.times}. {english}. The same streams again: seed={seed}.",
            f"{first[1]}誤差は {mine.error:.2f}、既定の規則（最良のゲート {DEFAULT_GATES}）の誤差は "
            f"{default.error:.2f} なので、その {share:.2f} 倍です（目標は {self.share} 倍以下）。"
            f"演算は、既定の規則の {times:.1f} 倍です"
            f"（予算は {self.times} 倍）。{japanese}。同じストリームで試すには、シードを seed={seed} とします。",
        )

    def _not_better(self, mine: Run, default: Run) -> Both:
        """Where it is worse than the default, or where it is furthest from what is asked for."""
        shares = {kind: a / b for kind, a, b in zip(KINDS, mine.errors, default.errors, strict=True)}
        worse = [kind for kind, share in shares.items() if share > 1]
        if worse:
            english, japanese = (joint.join(NAMES[kind][n] for kind in worse) for n, joint in enumerate((", ", "、")))
            return (
                f"Not yet: it is worse than the default on: {english}.",
                f"まだです。{japanese}で、既定の規則より悪くなっています。",
            )
        most = max(shares, key=lambda kind: shares[kind])
        return (
            f"Not yet: it gains least on: {NAMES[most][0]}.",
            f"まだです。得がいちばん少ないのは、{NAMES[most][1]}です。",
        )


def _each(mine: Run, default: Run, language: int) -> str:
    """The errors on each kind, those of the default in brackets."""
    kinds = zip(KINDS, mine.errors, default.errors, strict=True)
    found = [f"{NAMES[kind][language]} {one:.2f} ({other:.2f})" for kind, one, other in kinds]
    return f"On {', '.join(found)}" if language == 0 else f"種類ごとでは、{'、'.join(found)}（括弧内は既定の規則）"


PROJECT = Project(share=0.61, times=10)
