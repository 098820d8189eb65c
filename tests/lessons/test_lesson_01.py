"""Lesson 01: what it predicts is what comes out, and what it says of a write is so."""

import pytest
import torch

from tests.lessons.labs import check_words
from titans.lesson.lesson_01 import lab, pictures, trials


@pytest.mark.parametrize("dim", [8, 16, 48])
@pytest.mark.parametrize("memory", trials.MEMORIES)
def test_predicted_errors_are_measured(memory, dim):
    for pairs in (2, dim // 2, dim, 2 * dim):
        seen = trials.measured(memory, pairs, dim, 600).mean
        assert seen == pytest.approx(trials.predicted(memory, pairs, dim), rel=0.12, abs=1e-3)


def test_a_prediction_of_another_memory_would_be_seen():
    assert trials.measured("delta rule", 16, 16, 400).mean < 0.8 * trials.predicted("adding", 16, 16)


def test_the_delta_rule_spends_its_room_on_the_pairs_that_came_last():
    k, v = trials.draw_pairs(64, 16, 200)
    errors = (trials.correct(k, v) - v).square().sum(-1).mean(0)
    assert errors[-1] < 1e-20
    assert errors[-8:].mean() < 0.3 * errors[:8].mean()
    adding = (trials.add_up(k, v) - v).square().sum(-1).mean(0)
    assert adding[-8:].mean() == pytest.approx(float(adding[:8].mean()), rel=0.1)


@pytest.mark.parametrize("angle", [-150, -60, 45, 60, 120])
def test_a_write_touches_no_key_at_a_right_angle_to_it(angle):
    memories = lab.one_write(angle, 1.0, 1.0)
    across = lab.direction(angle + 90.0)
    assert memories["delta rule"] @ across == pytest.approx(float(memories["before"] @ across), abs=1e-12)
    assert memories["delta rule"] @ lab.direction(angle) == pytest.approx(lab.NEW_VALUE, abs=1e-12)


def test_the_key_lab_leaves_less_than_nothing_of_a_key_at_thirty_degrees():
    answer = float(lab.one_write(60, 1.0, 1.0)["delta rule"] @ lab.direction(lab.OLD_ANGLE))
    assert answer == pytest.approx(-0.18, abs=0.01)
    each = {
        angle: float(lab.one_write(angle, 1.0, 1.0)["delta rule"] @ lab.direction(30.0)) for angle in range(0, 360, 5)
    }
    assert min(each, key=each.get) == lab.OLD_ANGLE


def test_a_long_key_overshoots_from_two_on():
    for length, worse in ((1.2, False), (1.5, True)):
        after = float(lab.one_write(100, length, 1.0)["delta rule"] @ (length * lab.direction(100)))
        before = float(lab.one_write(100, length, 1.0)["before"] @ (length * lab.direction(100)))
        assert (abs(after - lab.NEW_VALUE) > abs(before - lab.NEW_VALUE)) == worse


def test_reading_the_delta_rule_from_its_errors_is_reading_it_from_the_matrix():
    k, v = trials.draw_pairs(5, 7, 1)
    errors = torch.zeros_like(v[0])
    for t in range(5):
        errors[t] = v[0, t] - (k[0, t] @ k[0, :t].mT) @ errors[:t]
    assert torch.allclose((k[0] @ k[0].mT) @ errors, trials.correct(k, v)[0])


def looking():
    return pictures.looking(pictures.direction(torch.tensor([-100.0, 20.0])), torch.tensor([1.0, -1.0]))


def reading_again():
    return pictures.reading_again({"12 pairs": [1.0, 0.2], "32 pairs": [1.0, 0.8]}, 0.5)


@pytest.mark.parametrize("make", [looking, reading_again])
def test_a_picture_of_what_is_handed_to_it_speaks_both_languages(make):
    check_words(make)
