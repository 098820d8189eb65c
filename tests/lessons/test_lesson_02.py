"""Lesson 02: what its explanations predict where their cause is taken away."""

import torch
import torch.nn.functional as F

from titans.lesson.kit.draws import random_draw, random_pairs
from titans.lesson.lesson_02 import trials
from titans.memory import DeepMemory


def error_of_first_pair(W1):
    """|M(k_A) - v_A|^2 after eight pairs with perpendicular keys, A first, were written once into W_1 and W_2 = 0."""
    memory = DeepMemory(8)
    k, v = torch.eye(8), random_pairs(8, 8)[1]
    weights = [W1[None], torch.zeros(1, 8, len(W1))]
    for one_k, one_v in zip(k, v, strict=True):
        weights, _ = trials.write(memory, weights, one_k, one_v)
    return float((memory.layers(weights, k[:1, None])[1][-1].flatten() - v[0]).square().sum())


def test_a_deep_memory_keeps_perpendicular_keys_apart_if_its_hidden_layer_does():
    """Hidden units that answer to one key each: nothing of A is lost, so it is the mixed hidden layer that loses it."""
    assert error_of_first_pair(random_draw(0)(32, 8).float()) > 0.2
    assert error_of_first_pair(torch.eye(8).repeat_interleave(4, 0)) < 1e-10


def test_a_hidden_layer_of_one_unit_for_all_never_tells_two_keys_apart():
    row = random_draw(3)(1, 8).float()
    assert max(trials.errors_of_two_pairs(row.repeat(32, 1), writes=5000)) > 0.5
    nearly = row + 0.1 * random_draw(4)(32, 8).float()
    assert max(trials.errors_of_two_pairs(nearly, writes=5000)) < 0.05


def test_a_first_write_reaches_the_first_layer_where_the_last_is_not_zero():
    k, v = (x[None] for x in random_pairs(1, 6))
    memory = DeepMemory(6)
    fresh = [weight.detach() for weight in memory.weights]
    for last, reached in ((fresh[1], False), (fresh[1] + 0.1, True)):
        _, errors = memory.errors([fresh[0], last], k, v)
        assert bool(errors[0].any()) == reached


def test_what_the_lab_shows_early():
    def means(depth, pairs):
        return [float(trials.write_repeatedly(depth, 4, pairs).errors.mean(1)[n]) for n in (5, 10, 20)]

    matrix, deep, deeper = (means(depth, 8) for depth in (1, 2, 3))
    assert all(one < min(others) for one, *others in zip(matrix, deep, deeper, strict=True))
    matrix, deep, deeper = (means(depth, 24) for depth in (1, 2, 3))
    assert deep[0] - 0.05 < matrix[0] < deep[0]
    assert all(two < min(others) for two, *others in zip(deep[1:], matrix[1:], deeper[1:], strict=True))

    def at_15(depth):
        return trials.write_repeatedly(depth, 4, 8).errors.mean(1)[15]

    assert at_15(1) - 0.05 < at_15(2) < at_15(1) < at_15(3)
    wide = [trials.write_repeatedly(depth, 8, 24).errors.mean(1) for depth in (1, 2, 3)]
    assert min(range(3), key=lambda depth: wide[depth][5]) == 0
    assert all(wide[2][writes] < min(wide[0][writes], wide[1][writes]) for writes in (10, 15, 20))


def test_for_as_many_weights_a_wide_memory_is_ahead_of_a_deep_one_in_the_lab():
    runs = [trials.write_repeatedly(depth, width, 48) for depth, width in ((2, 4), (3, 2), (3, 4))]
    assert [sum(weight.numel() for weight in run.weights[0]) for run in runs] == [512, 512, 3 * 512]
    wide, deep, both = (float(run.errors[-1].mean()) for run in runs)
    assert (round(wide, 2), round(deep, 2)) == (0.44, 0.60)
    assert both < wide


def test_shrinking_both_layers_multiplies_their_factors():
    """With ReLU, which knows no size, two halves are a quarter; half of the last layer alone is half."""
    draw = random_draw(0)
    W1, W2, x = draw(32, 8), draw(8, 32), draw(8)
    whole = W2 @ F.relu(W1 @ x)
    torch.testing.assert_close(W2 / 2 @ F.relu(W1 / 2 @ x), whole / 4)
    torch.testing.assert_close(W2 / 2 @ F.relu(W1 @ x), whole / 2)


def test_as_many_numbers_as_weights_are_held_only_with_very_many_writes():
    """64 pairs of 8 numbers in 512 weights."""
    errors = trials.write_repeatedly(2, 4, 64, writes=2000).errors.mean(1)
    assert errors[200] > 0.4
    assert 0.05 < errors[2000] < 0.2


def test_width_changes_nothing_in_a_matrix():
    """It has no hidden layer; two layers have one."""
    narrow, wide = (trials.write_repeatedly(1, expansion, 8, writes=10).errors for expansion in (1, 8))
    torch.testing.assert_close(narrow, wide, rtol=0, atol=0)
    narrow, wide = (trials.write_repeatedly(2, expansion, 8, writes=10).errors for expansion in (1, 8))
    assert not torch.allclose(narrow, wide)
