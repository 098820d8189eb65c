"""What the lessons stand on: live pictures move and match their strips, and exercise checks name the mistake.

The pictures and exercises are those of lessons 02 and 03; other lessons have files of their own, test_lesson_NN.py.
"""

import re
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F

from tests.lessons.cells import exercise_cells, run
from tests.lessons.labs import check_failing_draw, check_strip, check_words
from tests.paths import SOURCES
from titans import DeepMemory, Gates, chunked_scan
from titans.lesson.kit.exercise import Exercise
from titans.lesson.kit.matrix_memory import trace
from titans.lesson.lesson_02 import exercises as exercises_02
from titans.lesson.lesson_02 import lab as memory_lab
from titans.lesson.lesson_02 import pictures as lesson_02
from titans.lesson.lesson_02 import trials
from titans.lesson.lesson_03 import exercises as exercises_03
from titans.lesson.lesson_03 import lab as gates_lab
from titans.lesson.lesson_03 import pictures as lesson_03
from titans.lesson.lesson_03 import streams

LABS = {"gates": gates_lab.gates_lab, "memory": memory_lab.memory_lab}
PICTURES = [
    lesson_02.first_writes,
    lesson_02.interference,
    lesson_03.step_sizes,
    lesson_03.momentum_overshoots,
    lesson_03.fading,
    lesson_03.repeated_passage,
]


@pytest.mark.parametrize("name", LABS)
def test_every_control_of_a_lab_changes_its_picture(name):
    lab = LABS[name]()
    for control in lab.controls.values():
        before, start = lab.png, control.value
        control.value = control.max if start != control.max else control.min
        assert lab.png != before, control.description
        control.value = start
        assert lab.png == before


@pytest.mark.parametrize("name", LABS)
def test_a_lab_draws_every_corner_of_its_controls(name):
    lab = LABS[name]()
    for corner in ("min", "max"):
        for control in lab.controls.values():
            control.value = getattr(control, corner)
    assert lab.png.startswith(b"\x89PNG")


@pytest.mark.parametrize("name", LABS)
def test_a_labs_strip_shows_what_its_controls_show(name):
    check_strip(LABS[name]())


def test_a_failing_picture_tells_whoever_moved_the_control(monkeypatch):
    check_failing_draw(gates_lab.gates_lab(), "theta", 0.5, monkeypatch)


@pytest.mark.parametrize("make", [*LABS.values(), *PICTURES], ids=lambda make: make.__name__)
def test_every_picture_speaks_both_languages(make):
    check_words(make)


def test_the_gates_lab_traces_what_the_library_computes():
    stream = streams.eventful_stream()
    seen = trace(stream.k, stream.v, 0.25, 0.6, 0.05)
    memory = DeepMemory(8, depth=1).double()
    k, v = stream.k[None, None], stream.v[None, None]
    gates = Gates(*(torch.full((1, 1, 64), gate, dtype=torch.float64) for gate in (0.25, 0.6, 0.05)))
    y, state = chunked_scan(memory, memory.initial_state(1), k, k, v, gates, chunk_size=1)
    torch.testing.assert_close(seen.memory[-1], state.weights[0][0, 0].detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(seen.momentum[-1], state.momentum[0][0, 0].detach(), rtol=0, atol=1e-12)
    answers = (seen.memory @ stream.k[..., None])[..., 0]
    torch.testing.assert_close(answers, y[0, 0].detach(), rtol=0, atol=1e-12)


def final_error(depth, expansion, pairs, writes=200):
    return float(trials.write_repeatedly(depth, expansion, pairs).errors.mean(1)[writes])


def test_what_the_answers_say_of_the_memory_lab():
    assert final_error(1, 4, 8) < 1e-6 < 0.3 < final_error(1, 4, 12)
    assert final_error(1, 1, 8) == final_error(1, 8, 8)
    assert final_error(3, 4, 48) < final_error(2, 4, 48)
    assert final_error(3, 2, 48) > final_error(2, 2, 48)
    sizes = [sum(w.numel() for w in trials.write_repeatedly(depth, 4, 48).weights[0]) for depth in (2, 3)]
    assert sizes[1] == 3 * sizes[0]
    for writes in (5, 20):
        assert final_error(1, 4, 8, writes) < min(final_error(depth, 4, 8, writes) for depth in (2, 3))


def test_what_the_answers_say_of_the_gates_lab():
    stream = streams.eventful_stream()
    after_the_shift = {
        theta: trace(stream.k, stream.v, theta, 0, 0).surprise[32:48].sum() for theta in (0.25, 0.45, 0.5, 0.55, 0.75)
    }
    assert min(after_the_shift, key=after_the_shift.get) == 0.5
    believing = trace(stream.k, stream.v, 0.5, 0, 0).surprise[54:]
    assert [round(float(surprise), 6) for surprise in believing if surprise > 1e-6] == [4, 4]
    assert streams.early_answer(stream, trace(stream.k, stream.v, 0.25, 0.8, 0).memory)[-1] > 3
    fading = trace(stream.k, stream.v, 0.25, 0, 0.1)
    early = streams.early_answer(stream, fading.memory)
    torch.testing.assert_close(early[63] / early[3], torch.tensor(0.9**60, dtype=torch.float64), rtol=1e-6, atol=0)
    assert fading.surprise[20:32].min() > 0.5 > 0.1 > trace(stream.k, stream.v, 0.25, 0, 0).surprise[31]


# Wrong answers, written as a reader might write them: (the mistake that the check has to name, the answer).


def gelu_slope(h):
    return torch.ops.aten.gelu_backward(torch.ones_like(h), h)


def hand_gradient(sign=1.0, factor=2.0, slope_at="h1", last_input="a1", turned=False):
    def gradient(W1, W2, k, v):
        h1 = W1 @ k
        a1 = F.gelu(h1)
        e2 = factor * sign * (W2 @ a1 - v)
        slope = {"h1": gelu_slope(h1), "a1": gelu_slope(a1), "none": torch.ones_like(h1)}[slope_at]
        e1 = slope * (W2.T @ e2)
        first, last = torch.outer(e1, k), torch.outer(e2, {"a1": a1, "h1": h1}[last_input])
        return (first.T, last.T) if turned else (first, last)

    return gradient


def update(
    surprise=lambda M, k, v: torch.outer(2 * (M @ k - v), k), combine=lambda M, S, old, alpha: (1 - alpha) * M + S
):
    def answer(M, S, k, v, theta, eta, alpha):
        new = eta * S - theta * surprise(M, k, v)
        return combine(M, new, S, alpha), new

    return answer


def forgets_before_the_gradient(M, S, k, v, theta, eta, alpha):
    M = (1 - alpha) * M
    S = eta * S - theta * torch.outer(2 * (M @ k - v), k)
    return M + S, S


def without_momentum(M, S, k, v, theta, eta, alpha):
    S = -theta * torch.outer(2 * (M @ k - v), k)
    return (1 - alpha) * M + S, S


WRONG = {
    "HAND_GRADIENT": [
        ("sign", hand_gradient(sign=-1)),
        ("factor 2", hand_gradient(factor=1)),
        ("no slope", hand_gradient(slope_at="none")),
        ("slope at the wrong place", hand_gradient(slope_at="a1")),
        ("input of the second layer", hand_gradient(last_input="h1")),
        ("shape", hand_gradient(turned=True)),
        ("error", lambda W1, W2, k, v: W2 @ k),
        ("different", hand_gradient(factor=3)),
    ],
    "ONE_WRITE": [
        ("factor 2", lambda k: 1 / (k @ k)),
        ("unit keys", lambda k: 0.5),
        ("norm not squared", lambda k: 0.5 / k.norm()),
        ("sign", lambda k: -0.5 / (k @ k)),
    ],
    "UPDATE": [
        ("sign", update(lambda M, k, v: torch.outer(2 * (v - M @ k), k))),
        ("factor 2", update(lambda M, k, v: torch.outer(M @ k - v, k))),
        ("no forgetting", update(combine=lambda M, S, old, alpha: M + S)),
        ("forgets the write", update(combine=lambda M, S, old, alpha: (1 - alpha) * (M + S))),
        ("write before surprise", update(combine=lambda M, S, old, alpha: (1 - alpha) * M + old)),
        ("alpha keeps", update(combine=lambda M, S, old, alpha: alpha * M + S)),
        ("no momentum", without_momentum),
        ("gradient at the wrong weights", forgets_before_the_gradient),
    ],
    "HALF_LIFE": [
        ("keep, not forget", lambda n: 2 ** (-1 / n)),
        ("one over", lambda n: 1 / n),
        ("approximation", lambda n: 0.6931471805599453 / n),
        ("linear", lambda n: 1 / (2 * n)),
    ],
    "check_schedule": [
        ("believes the lie", lambda token: (0.25, 0.0, 0.0)),
        ("slow", lambda token: (0.05, 0.0, 0.0)),
        ("early pair", lambda token: (0.0 if token == 54 else 0.4, 0.0, 0.02)),
        ("range", lambda token: (0.25, 1.5, 0.0)),
        ("error", lambda token: 1 / 0),
    ],
}


EXERCISES = {
    name: value
    for name, value in {**vars(exercises_02), **vars(exercises_03)}.items()
    if isinstance(value, Exercise) or name == "check_schedule"
}


def check_of(name):
    exercise = EXERCISES[name]
    return exercise.check if isinstance(exercise, Exercise) else exercise


@pytest.mark.parametrize(("name", "mistake", "answer"), [(n, *case) for n, cases in WRONG.items() for case in cases])
def test_a_wrong_answer_is_told_its_mistake(name, mistake, answer):
    verdict = check_of(name)(answer)
    assert verdict.outcome == mistake
    assert re.search("[ぁ-ん]", verdict.japanese)


@pytest.mark.parametrize("name", WRONG)
def test_messages_of_an_exercise_differ(name):
    verdicts = [check_of(name)(answer) for _, answer in WRONG[name]]
    assert (
        len({verdict.english for verdict in verdicts})
        == len({verdict.japanese for verdict in verdicts})
        == len(verdicts)
    )


@pytest.mark.parametrize("source", sorted(SOURCES.glob("*.py")), ids=lambda path: path.stem)
def test_no_line_of_code_is_cut_in_a_narrow_window(source):
    cells = re.split(r"^# %%(.*)$", source.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    code = [text for header, text in zip(cells[::2], cells[1::2], strict=True) if "[markdown]" not in header]
    assert [line for text in code for line in text.splitlines() if len(line) > 79] == []


def test_no_constant_gates_solve_the_last_exercise():
    """The lesson says so: on the sliders' grid, here every second or third notch and the setting that comes closest."""
    grid = [
        (theta / 20, eta / 20, alpha / 100)
        for theta in range(1, 20, 2)
        for eta in range(0, 20, 3)
        for alpha in (0, 1, 5)
    ]
    for gates in [*grid, (0.05, 0.85, 0.01)]:
        assert exercises_03.check_schedule(lambda token, gates=gates: gates).outcome != "passed"


BOTH = SimpleNamespace(**EXERCISES)


@pytest.mark.parametrize(("name", "stub", "solution"), list(exercise_cells("02", "03")))
def test_a_stub_is_not_attempted_and_the_solution_passes(name, stub, solution):
    assert check_of(name)(run(stub, BOTH)).outcome == "todo"
    helpers = stub[: stub.rindex("def ")]
    assert check_of(name)(run(helpers + solution, BOTH)).outcome == "passed"


def test_every_exercise_stands_in_a_lesson_and_has_three_wrong_answers():
    assert {param.values[0] for param in exercise_cells("02", "03")} == set(EXERCISES) == set(WRONG)
    assert all(len(cases) >= 3 for cases in WRONG.values())
