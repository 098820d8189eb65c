"""Lesson 00: its exercises name the mistake, its lab follows its controls, and what it says of its models holds."""

import re
from itertools import pairwise

import pytest
import torch

from tests.lessons.cells import exercise_cells, run
from tests.lessons.labs import check_failing_draw, check_strip
from titans.lesson.kit.exercise import Exercise
from titans.lesson.lesson_00 import exercises as exercises_00
from titans.lesson.lesson_00 import lab as telling_lab
from titans.lesson.lesson_00 import pictures as lesson_00
from titans.lesson.lesson_00 import trials, words
from titans.lesson.lesson_00.words import NAMES, PLACES, TASK, VOCABULARY
from titans.training import share_right

FACTS = dict(zip(telling_lab.WHO, telling_lab.WHERE, strict=True))
EXERCISES = {name: value for name, value in vars(exercises_00).items() if isinstance(value, Exercise)}
CELLS = list(exercise_cells("00"))


def product_of_chances(n):
    chance = 1.0
    for left in range(1, n + 1):
        chance /= left
    return chance


def ceiling(told, filler, segment_len):
    whole, rest = divmod(filler, segment_len)
    return whole + (rest > 0)


WRONG = {
    "CROSSING_OFF": [
        ("no crossing off", lambda n: n / n**2),
        ("number, not share", lambda n: sum(1 / (n - done) for done in range(n))),
        ("all of them", product_of_chances),
        ("first and last", lambda n: (n + 1) / (2 * n)),
        ("any place", lambda n: 0.03125),
        ("different", lambda n: 0.41),
        ("error", lambda n: n / 0),
    ],
    "SEGMENTS_BETWEEN": [
        ("only the filler", lambda told, filler, size: int(filler / size)),
        ("rounded up", ceiling),
        ("from the start", lambda told, filler, size: divmod(told + filler, size)[0]),
        ("one too far at the telling", lambda told, filler, size: (told + filler) // size - told // size),
        ("one short at the question", lambda told, filler, size: (told + filler - 1) // size - (told - 1) // size),
        ("no whole number", lambda told, filler, size: filler / size),
        ("different", lambda told, filler, size: told),
    ],
}


@pytest.mark.parametrize(("name", "mistake", "answer"), [(n, *case) for n, cases in WRONG.items() for case in cases])
def test_a_wrong_answer_is_told_its_mistake(name, mistake, answer):
    verdict = EXERCISES[name].check(answer)
    assert verdict.outcome == mistake
    assert re.search("[ぁ-ん]", verdict.japanese)


@pytest.mark.parametrize("name", WRONG)
def test_messages_of_an_exercise_differ(name):
    verdicts = [EXERCISES[name].check(answer) for _, answer in WRONG[name]]
    assert len({verdict.english for verdict in verdicts}) == len({verdict.japanese for verdict in verdicts})
    assert len({verdict.english for verdict in verdicts}) == len(verdicts)


@pytest.mark.parametrize(("name", "stub", "solution"), CELLS)
def test_a_stub_is_not_attempted_and_the_solution_passes(name, stub, solution):
    assert EXERCISES[name].check(run(stub, exercises_00)).outcome == "todo"
    assert EXERCISES[name].check(run(solution, exercises_00)).outcome == "passed"


def test_every_exercise_stands_in_the_lesson_and_has_three_wrong_answers():
    assert {cell.values[0] for cell in CELLS} == set(EXERCISES) == set(WRONG)
    assert all(len(cases) >= 3 for cases in WRONG.values())


def test_a_clever_guesser_gets_41_percent_of_six():
    assert round(100 * exercises_00.CROSSING_OFF.truth(6)) == 41


def test_there_is_a_word_for_every_token():
    assert len(set(VOCABULARY)) == len(VOCABULARY) == TASK.vocab_size
    assert (len(NAMES), len(PLACES)) == (TASK.keys, TASK.values)
    with pytest.raises(ValueError, match="Atlantis"):
        words.ids(["Ada", "Atlantis"])


def test_a_memory_that_is_never_written_stays_what_it_was():
    model = trials.models()["memory never written"]
    state = model(TASK.sample(2, 50, torch.Generator().manual_seed(0)).tokens).state
    for now, first in zip(state.layers[0].memory.weights, model.initial_state(2).layers[0].memory.weights, strict=True):
        assert torch.equal(now, first)


def test_filler_of_another_length_begins_alike():
    assert torch.equal(words.filler(2000)[:, :100], words.filler(100))


def test_the_lab_asks_what_a_single_reading_answers():
    """Its states go on from shorter waits; a model that reads everything in one call says the same."""
    model = trials.models()["memory on"]
    tokens = torch.cat((words.ids(words.told_words(FACTS)), words.filler(256)), dim=1)
    at_once = trials.chances(model, model(tokens).state, telling_lab.WHO)
    torch.testing.assert_close(telling_lab.answers("memory on", telling_lab.WHERE, 256), at_once, rtol=0, atol=1e-4)


@pytest.mark.parametrize("wait", telling_lab.WAITS)
def test_the_lab_counts_segments_as_the_exercise_does(wait):
    assert telling_lab.segments_between(wait) == exercises_00.SEGMENTS_BETWEEN.truth(12, wait, 16)


def right(places, wait, name="memory on"):
    return (telling_lab.answers(name, places, wait).argmax(1) == torch.tensor([PLACES.index(p) for p in places])).sum()


def test_what_the_lesson_says_of_the_lab():
    where = telling_lab.WHERE
    assert right(where, 2000) == right(where, 4) == 6
    assert right(("Tokyo",) * 6, 2000) == 6
    assert right(where, 0) == 5
    assert telling_lab.answers("memory on", where, 0)[5].argmax() != PLACES.index(where[5])
    for wait in (16, 64):
        answers = [telling_lab.answers("memory never written", places, wait) for places in (where, where[::-1])]
        assert torch.equal(*answers)


def test_models_of_the_lesson_answer_as_the_library_measures():
    models = trials.models()
    assert share_right(models["memory on"], TASK, 100) > 0.97
    assert max(share_right(models[name], TASK, 100) for name in models if name != "memory on") < 0.1


def test_the_last_fact_is_written_by_the_tokens_behind_it():
    last = trials.last_fact()
    assert last.at_once < 0.5
    assert last.after > 0.9
    assert last.after_without_writing < 0.2


def test_the_model_keeps_the_old_place_and_invents_one_for_a_stranger():
    told = trials.told_again()
    assert told.old > 0.6
    assert told.new < 0.4
    assert told.invented > 0.6


def test_the_picture_of_writes_shows_the_changes_of_one_reading():
    model = trials.models()["memory on"]
    tokens = words.ids(words.told_words(FACTS))
    changes = trials.writes(model, tokens)
    states = [model(tokens[:, :end]).state.layers[0].memory.weights[0] for end in (11, 12)]
    assert changes[-1] == pytest.approx(float((states[1] - states[0]).norm()), rel=1e-3)


# The lab's controls.


def other_values(control):
    options = [option[1] if isinstance(option, tuple) else option for option in control.options]
    return [option for option in options if option != control.value]


def test_every_control_of_the_lab_changes_its_picture():
    lab = telling_lab.telling_lab()
    lab.controls["wait"].value = 16
    for name, control in lab.controls.items():
        before, start = lab.png, control.value
        control.value = other_values(control)[0]
        assert lab.png != before, name
        control.value = start
        assert lab.png == before, name


def test_the_lab_draws_both_ends_of_every_control():
    lab = telling_lab.telling_lab()
    lab.controls["wait"].value = 16
    for name, control in lab.controls.items():
        for value in (other_values(control)[0], other_values(control)[-1]):
            if name != "wait" or value < 1000:
                control.value = value
                assert lab.png.startswith(b"\x89PNG")


def test_the_labs_strip_shows_what_its_controls_show():
    check_strip(telling_lab.telling_lab())


def test_a_failing_lab_tells_whoever_moved_the_control(monkeypatch):
    check_failing_draw(telling_lab.telling_lab(), "Ada", "Riga", monkeypatch)


@pytest.mark.parametrize("make", [telling_lab.telling_lab, lesson_00.by_distance, lambda: lesson_00.idea(FACTS)])
def test_every_picture_has_alt_text_in_both_languages(make):
    data, metadata = make()._repr_mimebundle_()
    assert data["image/png"]
    assert len(metadata["image/png"]["alt"]) > 60
    assert re.search("[ぁ-ん]", metadata["image/png"]["alt_ja"])


def test_distances_grow():
    assert all(one < other for one, other in pairwise(trials.DISTANCES))
    assert all(one < other for one, other in pairwise(telling_lab.WAITS))
