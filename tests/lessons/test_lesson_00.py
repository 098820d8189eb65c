"""Lesson 00: its exercises name the mistake, its lab follows its controls, and what it says of its models holds."""

import re
from copy import deepcopy
from dataclasses import replace
from itertools import pairwise, product

import pytest
import torch

from tests.lessons.cells import exercise_cells, run
from tests.lessons.labs import check_failing_draw, check_strip, check_words
from titans.lesson.kit import interventions
from titans.lesson.kit.exercise import Exercise
from titans.lesson.kit.traces import gates_and_surprise, six_facts, trace
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


# What happens behind the last fact (section 4).


def test_neither_the_push_nor_attention_stores_the_last_fact_but_the_convolution():
    model, rows = trials.models()["memory on"], trials.rows_told()
    heard, blind = model(rows.told).state, interventions.without_attention(model)
    assert rows.last(heard) < 0.2
    assert rows.last_after(model, heard) > 0.9
    with interventions.held(model, theta=0.0):
        assert rows.last_after(model, heard) < 0.2
    assert rows.last_after(model, interventions.without_momentum(heard)) > 0.9
    assert rows.last_after(blind, heard) < 0.6
    assert rows.last_after(blind, blind(rows.told).state) > 0.65
    assert rows.last_after(model, interventions.without_recent_tokens(heard)) < 0.2


def test_what_attention_does_there_it_does_by_the_gates():
    """Without attention, but with the gates as they were, the fact is stored; with attention, but with the gates as
    they are without it, it often is not."""
    model, rows = trials.models()["memory on"], trials.rows_told()
    heard, blind = model(rows.told).state, interventions.without_attention(model)
    stream = torch.cat((rows.told, rows.filler), dim=1)
    with_it, without_it = ([float(gate[12:].mean()) for gate in trace(one, stream)[:3]] for one in (model, blind))
    assert with_it == pytest.approx([0.045, 0.955, 0.0], abs=0.002)
    with interventions.held(blind, **dict(zip(("theta", "eta", "alpha"), with_it, strict=True))):
        assert rows.last_after(blind, heard) > 0.85
    with interventions.held(model, **dict(zip(("theta", "eta", "alpha"), without_it, strict=True))):
        assert rows.last_after(model, heard) < 0.65


def test_a_fact_is_lost_without_the_step_of_the_token_behind_it_and_only_without_that():
    known = trials.silent_token()
    writer = torch.zeros_like(known, dtype=torch.bool)
    writer[range(2, 14, 2), range(6)] = True
    assert known[writer].max() < 0.25
    assert known[~writer].min() > 0.9


def test_its_key_is_the_name_two_tokens_back_and_its_value_the_place_one_token_back():
    model, rows = trials.models()["memory on"], trials.rows_told()
    heard = model(rows.told).state
    for part, token in product(("query", "key", "value"), (9, 10, 11)):
        found = rows.last_after(model, trials.history_cleared(heard, part, token))
        assert (found < 0.3) == ((part, token) in {("key", 10), ("value", 11)})
        assert found < 0.3 or found > 0.9


def test_the_other_three_tokens_carry_on_the_push_of_that_one_write():
    model, rows = trials.models()["memory on"], trials.rows_told()
    heard = model(rows.told).state
    draws = [(draw, model(draw.told).state) for draw in (trials.rows_told(seed=seed) for seed in (3, 4, 5, 6))]
    with interventions.held(model, eta=0.0):
        found = [draw.last_after(model, state) for draw, state in draws]
    assert 0.3 < min(found) < max(found) < 0.45
    first = model(rows.filler[:, :1], heard).state
    assert rows.last(first) < 0.6
    with interventions.held(model, theta=0.0):
        assert rows.last(model(rows.filler[:, 1:], first).state) > 0.9


# What moves the memory (section 5).


def test_the_words_of_the_lesson_are_the_example_that_comes_back():
    tokens, spans = six_facts()
    assert torch.equal(tokens, torch.cat((words.ids(words.told_words(FACTS)), words.filler(52)), dim=1))
    assert spans == {"told": (0, 12), "filler": (12, 64)}


def test_the_facts_are_in_the_weights_alone():
    model = trials.models()["memory on"]
    places = ("Oslo", "Tokyo", "Riga", "Nara", "Perth", "Milan")
    mine, yours = (
        model(words.filler(500), model(words.ids(words.told_words(dict(zip(FACTS, told, strict=True))))).state).state
        for told in (FACTS.values(), places)
    )
    weights = yours.layers[0].memory.weights
    moved = interventions.edited_memory(mine, lambda memory: replace(memory, weights=weights))
    assert trials.chances(model, moved, list(FACTS)).argmax(1).tolist() == [PLACES.index(place) for place in places]


def test_the_tallest_bars_are_mostly_push():
    model, (tokens, _) = trials.models()["memory on"], six_facts()
    bars = torch.tensor(trials.writes(model, tokens))
    assert set(bars.topk(4).indices.tolist()) == {12, 13, 14, 15}
    without_steps = trials.writes(model, tokens, {token: {"theta": 0.0} for token in (13, 14, 15)})
    without_push = trials.writes(model, tokens, {token: {"eta": 0.0} for token in (13, 14, 15)})
    assert sum(without_steps[13:16]) == pytest.approx(0.9 * float(bars[13:16].sum()), rel=0.05)
    assert sum(without_push[13:16]) < 0.4 * float(bars[13:16].sum())


def test_gates_fall_at_the_segment_and_surprise_at_the_chunk():
    model, (tokens, _) = trials.models()["memory on"], six_facts()
    seen, blind = trace(model, tokens), trace(interventions.without_attention(model), tokens)
    assert seen.theta[16:].max() < 0.5 * seen.theta[12:16].min()
    assert seen.eta[16:32].mean() < 0.7 * seen.eta[12:16].mean()
    assert blind.theta[16:32].mean() > 0.8 * blind.theta[12:16].mean()
    assert seen.theta[32:48].mean() > 0.85 * seen.theta[16:32].mean()
    assert seen.surprise[32:48].mean() < 0.3 * seen.surprise[16:32].mean()
    chunks = trials.surprise_by_chunk(model, tokens)
    torch.testing.assert_close(torch.tensor(chunks), seen.surprise.reshape(4, 16).mean(1))
    silent = trials.surprise_by_chunk(model, tokens, silent=1)
    assert silent[2] > 0.9 * silent[1]
    assert silent[3] < 0.4 * silent[2]


def test_one_fixed_step_answers_as_well_and_a_large_one_for_the_filler_washes_the_facts_away():
    assert trials.fixed_step(0.017).everywhere > 0.95
    assert trials.fixed_step(0.017, between=2000).everywhere > 0.95
    assert trials.fixed_step(0.005).facts_only < 0.75
    large = trials.fixed_step(0.045)
    assert large.facts_only > 0.95
    assert large.filler_only < 0.8


def test_the_picture_of_writes_shows_the_changes_of_one_reading():
    model = trials.models()["memory on"]
    tokens = words.ids(words.told_words(FACTS))
    changes = trials.writes(model, tokens)
    states = [model(tokens[:, :end]).state.layers[0].memory.weights[0] for end in (11, 12)]
    assert changes[-1] == pytest.approx(float((states[1] - states[0]).norm()), rel=1e-3)


# What it cannot do (section 6).


def test_the_model_keeps_the_old_place_and_invents_one_for_a_stranger():
    told = trials.told_again()
    assert told.old > 0.6
    assert told.new < 0.4
    strangers = trials.strangers()
    assert strangers.invented > 0.6
    assert strangers.told_late < 0.6


def test_its_gates_keep_it_from_overwriting_not_its_memory():
    rows = trials.rows_told()
    stream = torch.cat((rows.told, rows.told[:, :1], rows.told[:, 3:4], rows.filler), dim=1)
    seen = trace(trials.models()["memory on"], stream)
    assert seen.theta[12:].max() == pytest.approx(0.05, abs=0.005)
    assert seen.alpha[12:].max() < 0.002
    assert trials.told_again(emptied=True).new > 0.9
    for gates in ({"theta": 0.1}, {"alpha": 0.2}):
        told = trials.told_again(**gates)
        assert told.new > 0.8
        assert told.others > 0.9


def test_twenty_steps_on_names_told_twice_teach_it_to_overwrite_and_twenty_of_the_old_kind_do_not():
    twice, once = trials.practised(trials.ToldTwice()), trials.practised(TASK)
    assert trials.told_again(twice).new > 0.7
    assert trials.told_again(once).new < 0.4
    assert trials.told_again(twice, wait=20).new < 0.4


def test_half_of_what_practice_changes_are_the_gates():
    """Their values, that is. The weights that compute the gates do little alone: the gates follow what the rest of the
    model makes of a token."""
    fresh, twice = trials.models()["memory on"], trials.practised(trials.ToldTwice())
    for model, source in ((fresh, twice), (twice, fresh)):
        assert 0.35 < trials.told_again(model, gates_of=source).new < 0.65
    assert trials.told_again(fresh, gates_of=fresh) == trials.told_again(fresh)
    shares = {}
    for gates in (True, False):
        mixed = deepcopy(fresh)
        mixed.load_state_dict(
            {name: weight for name, weight in twice.state_dict().items() if ("to_gates" in name) == gates}, strict=False
        )
        shares[gates] = trials.told_again(mixed).new
    assert shares[True] < 0.35 < 0.75 < shares[False]


def test_a_key_told_twice_has_its_newest_value_asked_for():
    told = trials.ToldTwice().tell(16, torch.Generator().manual_seed(0))
    for row, asked in zip(told.tokens.tolist(), told.asked.tokens.tolist(), strict=True):
        newest = dict(zip(row[::2], row[1::2], strict=True))
        assert len(newest) == 5
        assert newest == dict(zip(asked[::2], asked[1::2], strict=True))


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


def gates_of_the_example():
    return gates_and_surprise(trials.models()["memory on"], *six_facts())


def idea():
    return lesson_00.idea(FACTS)


PICTURES = [telling_lab.telling_lab, lesson_00.by_distance, lesson_00.silent, idea, gates_of_the_example]


@pytest.mark.parametrize("make", PICTURES)
def test_every_picture_speaks_both_languages(make):
    check_words(make)


def test_distances_grow():
    assert all(one < other for one, other in pairwise(trials.DISTANCES))
    assert all(one < other for one, other in pairwise(telling_lab.WAITS))
