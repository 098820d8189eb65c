"""Lesson 11's project: the default does not pass, ideas that differ do whatever the seed, shortcuts are refused."""

import re

import numpy as np
import pytest
import torch
from torch.func import grad
from torch.utils.flop_counter import FlopCounterMode

from titans.lesson.kit import progress
from titans.lesson.kit.host import speak
from titans.lesson.lesson_11 import exercises, project, rules, streams, trials
from titans.lesson.lesson_11.project import PROJECT, Bench, Entry
from titans.memory import DeepMemory
from titans.recurrence import Momentum, surprise

torch.set_num_threads(1)
SEEDS = range(1000, 2000, 100)
HUBER = rules.AnotherLoss(rules.huber)


class Default:
    """The default rule, written as in the lesson."""

    signature = "default by hand"

    def shapes(self, memory):
        return list(memory.shapes)

    def step(self, memory, M, S, at, token):
        return rules.descend(M, S, surprise(memory, at, token.k, token.v), token.gates)


class HuberWindow:
    """Huber's loss over the last eight pairs."""

    signature = "Huber over a window"

    def shapes(self, memory):
        return [*memory.shapes, *rules.past_pairs(memory, 8)]

    def step(self, memory, M, carried, at, token):
        S, (k, v) = carried[: len(M)], rules.with_past(carried[len(M) :], token)
        u = grad(lambda at: rules.huber(memory.read(at, k) - v))(tuple(at))
        M, S = rules.descend(M, S, u, token.gates)
        return M, (*S, k[:, :, 1:], v[:, :, 1:])


class LeastSquares:
    """Recursive least squares: P, which is 10 I at first, says how uncertain each direction still is. With a bound, an
    error counts as if it were no longer than that."""

    signature = "least squares"

    def __init__(self, bound=torch.inf):
        self.bound = bound

    def shapes(self, memory):
        return [(1, memory.dim, memory.dim)]

    def step(self, memory, M, carried, at, token):
        k, prior = token.k.mT, 10 * torch.eye(memory.dim, dtype=token.k.dtype)
        P, e = prior + carried[0], token.v.mT - M[0] @ k
        w = (self.bound / (e.norm(dim=(-1, -2), keepdim=True) + 1e-9)).clamp(max=1)
        g = P @ k * w / (0.1 + w * k.mT @ P @ k)
        return (M[0] + e @ g.mT,), (P - g @ (P @ k).mT - prior,)


def deep():
    torch.manual_seed(0)
    return DeepMemory(streams.DIM, depth=2, expansion=2).double()


IDEAS = {
    "window": (HuberWindow(), (0.1, 0.5, 0.0), lambda: None),
    "least squares": (LeastSquares(), (0.0, 0.0, 0.0), lambda: None),
    "bounded least squares": (LeastSquares(0.5), (0.0, 0.0, 0.0), lambda: None),
    "deep": (HUBER, (0.3, 0.5, 0.0), deep),
    "polynomial": (HUBER, (0.3, 0.5, 0.0), lambda: rules.FeatureMemory(streams.DIM)),
}
ALONE = {
    "default": Momentum(),
    "Huber": HUBER,
    "Adam": rules.Adam(),
    "window": rules.Window(),
    "normalised": rules.Muon(1, rules.normalised),
}


def best_gates(rule):
    """Of the grid, over all kinds of streams, on other seeds than are measured."""
    drawn = [streams.draw(make, project.TUNED) for make in project.KINDS.values()]
    choice = trials.Choice(rule, trials.matrix)
    found = sum(trials.errors(choice, stream, trials.GRID).mean(1) for stream in drawn)
    return trials.GRID[int(found.argmin())]


# ---- Who passes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("idea", IDEAS)
def test_ideas_that_differ_pass_whatever_the_seed(idea):
    rule, gates, memory = IDEAS[idea]
    assert [PROJECT.check(rule, gates, memory(), seed).outcome for seed in SEEDS] == ["passed"] * len(SEEDS)


@pytest.mark.parametrize("name", ALONE)
def test_no_single_rule_of_the_table_passes(name):
    gates = best_gates(ALONE[name])
    assert {PROJECT.check(ALONE[name], gates, seed=seed).outcome for seed in SEEDS[:4]} == {"not better"}


def test_muon_alone_is_over_the_budget():
    assert PROJECT.check(rules.Muon(), (0.1, 0.5, 0.0), seed=1000).outcome == "over budget"


def test_the_default_has_the_gates_of_the_grid_that_are_best_for_it():
    assert best_gates(Momentum()) == project.DEFAULT_GATES


def test_what_is_measured_is_what_the_trials_measure():
    stream = streams.draw(project.KINDS["noisy"], range(5))
    entry = Entry(Momentum(), trials.matrix(), (0.1, 0.5, 0.02))
    want = trials.errors(trials.CHOICES["default"], stream, [entry.gates]).mean()
    assert Bench(entry).run([stream]).errors == pytest.approx([float(want)], rel=1e-9)


# ---- Fresh seeds -----------------------------------------------------------------------------------------------------


def test_every_call_has_a_seed_of_its_own_and_says_it():
    seeds, says = set(), []
    for _ in range(3):
        verdict = PROJECT.check(Default())
        seeds.add(int(re.search(r"seed=(\d+)", verdict.english)[1]))
        says.append(verdict)
    assert len(seeds) == 3
    assert min(seeds) >= project.TUNED.stop  # never those that the default's gates were tuned on
    assert PROJECT.check(Default(), seed=int(re.search(r"seed=(\d+)", says[0].english)[1])) == says[0]


# ---- What is counted -------------------------------------------------------------------------------------------------


def counted(function):
    counter = project.Counter(float("inf"))
    with counter:
        function()
    return counter.count


def test_products_count_as_torch_counts_them_and_the_rest_by_its_numbers():
    a, b, square = torch.randn(3, 4, 5), torch.randn(3, 5, 6), torch.eye(7)
    with FlopCounterMode(display=False) as flops:
        a @ b
    assert counted(lambda: a @ b) == flops.get_total_flops() == 2 * 3 * 4 * 5 * 6
    assert counted(lambda: a[0] @ b[0, :, 0]) == 2 * 4 * 5
    assert counted(lambda: square.addmm_(square, square)) == 2 * 7**3
    assert counted(lambda: a + 1) == counted(lambda: a.sum()) == a.numel()
    assert counted(lambda: a.mT[0]) == 0
    assert counted(lambda: torch.linalg.inv(square)) >= 10 * 7**3


def test_products_written_number_by_number_gain_nothing():
    a, b = torch.randn(9, 8), torch.randn(8, 7)
    assert counted(lambda: (a[:, :, None] * b).sum(1)) >= counted(lambda: a @ b)


def test_gradients_count_too():
    M, k = torch.randn(8, 8), torch.randn(8)
    assert counted(lambda: grad(lambda M: (M @ k).square().sum())(M)) > 1.5 * counted(lambda: M @ k)


class Repeated(Default):
    """A step made so many times, of which the last one counts."""

    def __init__(self, times):
        self.times = times

    def step(self, *args):
        for _ in range(self.times):
            result = super().step(*args)
        return result


TIMES = [(9, "not better", "of 10"), (20, "over budget", r"(1\.[89]|2\.0) times the budget")]


@pytest.mark.parametrize(("times", "outcome", "says"), TIMES)
def test_a_rule_that_does_too_much_is_refused_and_told_by_how_much(times, outcome, says):
    verdict = PROJECT.check(Repeated(times), seed=1000)
    assert verdict.outcome == outcome
    assert re.search(says, verdict.english)


def test_far_too_much_is_stopped_early():
    assert "more than 5 times" in PROJECT.check(Repeated(10_000), seed=1000).english


# ---- Shortcuts -------------------------------------------------------------------------------------------------------


class Oracle(rules.FeatureMemory):
    """A memory that keeps every pair that its rule hears, beside its weights."""

    def __init__(self):
        super().__init__(streams.DIM, lambda x: x)
        self.k, self.v = [], []

    def read(self, weights, x):
        if not self.k or len(x) != len(self.k[0]) or x.shape[2] == 1:
            return x @ weights[0].mT
        k, v = torch.cat(self.k, 2), torch.cat(self.v, 2)
        return (50 * (x @ k.mT)).softmax(-1) @ v


class Listening(Default):
    def step(self, memory, M, S, at, token):
        memory.k.append(token.k.clone())
        memory.v.append(token.v.clamp(-1, 1))
        return super().step(memory, M, S, at, token)


class Hidden(Default):
    """Eight pairs, in the rule itself instead of in what it carries."""

    def __init__(self):
        self.past = []

    def step(self, memory, M, S, at, token):
        self.past = [*self.past, token][-8:]
        k, v = (torch.cat([getattr(t, name) for t in self.past], 2) for name in "kv")
        u = grad(lambda at: rules.huber(memory.read(at, k) - v))(tuple(at))
        return rules.descend(M, S, u, token.gates)


class InNumpy(Default):
    def step(self, memory, M, S, at, token):
        np.asarray(M[0].detach())
        return super().step(memory, M, S, at, token)


class Vandal(Default):
    """Changes all that it is handed."""

    def step(self, memory, M, S, at, token):
        result = super().step(memory, M, S, at, token)
        for tensor in (*M, *S, token.k, token.v, token.q):
            tensor.zero_()
        return result


def test_a_memory_that_knows_without_its_weights_is_refused():
    assert PROJECT.check(Listening(), memory=Oracle(), seed=1000).outcome == "oracle"


def test_a_rule_that_remembers_beside_what_it_carries_is_refused():
    assert PROJECT.check(Hidden(), (0.1, 0.5, 0.0), seed=1000).outcome == "hidden"


def test_numbers_do_not_leave_torch_unnoticed():
    verdict = PROJECT.check(InNumpy(), seed=1000)
    assert verdict.outcome == "not counted"
    assert "__array__" in verdict.english


def test_nothing_is_gained_by_changing_what_is_handed_over():
    runs = [
        Bench(Entry(rule, trials.matrix(), (0.1, 0.5, 0.0))).run(project.fresh(1000)) for rule in (Vandal(), Default())
    ]
    assert runs[0].errors == runs[1].errors
    assert runs[0].operations > runs[1].operations


# ---- What is wrong, in words -----------------------------------------------------------------------------------------


class NoStep:
    signature = "no step"

    def shapes(self, memory):
        return []


def returning(change):
    class Changed(Default):
        def step(self, *args):
            return change(*super().step(*args))

    return Changed()


def raised(M, S):
    raise KeyError("S")


WRONG = {
    "dots": ((Default(), ...), "todo", "dots"),
    "dots returned": ((returning(lambda M, S: ...),), "todo", "dots"),
    "a class": ((Default,), "not a rule", r"`Default\(\)`"),
    "no step": ((NoStep(),), "not a rule", "lacks `step`"),
    "a number": ((3,), "not a rule", "lacks `signature`, `shapes`, `step`"),
    "no memory": ((Default(), (0.1, 0, 0), NoStep()), "not a memory", "lacks `dim`, `heads`, `initial_state`, `read`"),
    "two gates": ((Default(), (0.1, 0.5)), "gates", "three numbers"),
    "gates out of range": ((Default(), (0.1, 1.5, 0.0)), "gates", "from 0 to 1"),
    "only M": ((returning(lambda M, S: M),), "type", "two tuples"),
    "nothing": ((returning(lambda M, S: None),), "type", "two tuples"),
    "turned": ((returning(lambda M, S: ((M[0][..., :8],), S)),), "shape", r"1, 16, 8\]\].*1, 16, 16\]\]"),
    "one row": ((returning(lambda M, S: ((M[0][:1],), S)),), "shape", "side by side"),
    "float32": ((returning(lambda M, S: ((M[0].float(),), S)),), "dtype", "float64"),
    "nan": ((returning(lambda M, S: ((M[0] / 0,), S)),), "not finite", "`step`"),
    "diverges": ((Default(), (1e30, 1.0, 0.0)), "not finite", "diverged"),
    "raises": ((returning(raised),), "error", "`step` raised KeyError"),
    "no better": ((Default(), project.DEFAULT_GATES), "not better", "Not yet"),
    "worse": ((Default(), (0.003, 0.0, 0.0)), "not better", "worse than the default on: keys alike"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.filterwarnings("error")
def test_each_mistake_has_its_own_message_in_both_languages(name):
    handed, outcome, says = WRONG[name]
    verdict = PROJECT.check(*handed, seed=1000)
    assert verdict.outcome == outcome
    assert re.search(says, verdict.english)
    speak("ja")
    try:
        assert repr(verdict)[2:] == verdict.japanese
        assert re.search("[ぁ-ん]", verdict.japanese)
    finally:
        speak("en")


def test_a_verdict_says_what_was_reached():
    verdict = PROJECT.check(*IDEAS["window"][:2], seed=1000)
    for text in (verdict.english, verdict.japanese):
        assert "seed=1000" in text
        assert str(project.DEFAULT_GATES) in text
        assert len(re.findall(r"\d\.\d\d \(\d\.\d\d\)", text)) == len(project.KINDS)


def test_the_project_counts_among_the_exercises():
    assert "PROJECT" in progress.checks(exercises)
