"""Lesson 11, Titans' relatives: each loop is the library with its parameters, and what each is good for."""

import pytest
import torch
import torch.nn.functional as F
from torch.func import grad

from titans import recurrent_scan
from titans.lesson.kit.cards import columns
from titans.lesson.kit.host import speak
from titans.lesson.lesson_11 import relatives
from titans.lesson.lesson_11.relatives import LADDER, SETTINGS, STREAMS, TTT_PARTS

torch.set_num_threads(1)
BY_NAME = {rung.names[0]: rung for rung in (*LADDER, *TTT_PARTS)}
NO_SETTING = {"LN with a scale per feature", "LN around a bias"}
SETTING = {names[0]: setting for names, setting in SETTINGS.items()}
STREAM = {names[0]: make for names, make in STREAMS.items()} | {"only new": relatives.only_new}


def error(rung, stream):
    return relatives.recall_error(SETTING[rung], STREAM[stream])[0]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("rungs", [LADDER, TTT_PARTS], ids=["ladder", "TTT"])
def test_every_rung_is_the_library_with_its_parameters_and_not_without(rungs, seed):
    for row in relatives.ladder(rungs, seed):
        name = row.rung.names[0]
        assert (row.error <= 1e-12) == (name not in NO_SETTING), name
        assert row.error > 0.3 or row.error <= 1e-12, name
        assert row.left_out > 0.02, name


@pytest.mark.parametrize("name", [rung.names[0] for rung in LADDER])
def test_the_plain_scan_says_the_same(name, monkeypatch):
    e, rung = relatives.example(seed=5), BY_NAME[name]
    closed = rung.library(e)
    monkeypatch.setattr(relatives, "chunked_scan", recurrent_scan)
    assert relatives.relative_error(rung.library(e), closed) <= 1e-12


def test_longhorn_is_where_what_it_minimises_is_least():
    e = relatives.example(tokens=1)
    k, v, beta = e.k[0], e.v[0], e.beta[0]
    M = (beta / (1 + beta * k @ k) * torch.outer(v, k)).requires_grad_()  # from M_0 = 0
    (M.square().sum() + beta * (M @ k - v).square().sum()).backward()
    assert M.grad.abs().max() < 1e-12
    assert torch.allclose(relatives.longhorn(e.q, e.k, e.v, e.beta)[0], M.detach() @ e.q[0])


def test_longhorns_diagonal_form_is_not_the_delta_rule():
    e = relatives.example()
    gates = e.q, e.k, e.v, e.beta
    assert relatives.relative_error(relatives.longhorn(*gates, diagonal=True), relatives.longhorn(*gates)) > 0.1


def test_the_same_gates_are_further_off_the_more_is_forgotten():
    off = [relatives.same_gates(alpha) for alpha in (0.0, 0.01, 0.1, 0.2, 0.5, 0.9)]
    assert off[0] < 1e-12
    assert off == sorted(off)
    assert 0.02 < off[2] < 0.05
    assert off[-1] > 0.1


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.5, 0.9])
def test_with_the_same_gates_a_retold_key_still_answers_minus_alpha_of_its_old_value(alpha):
    assert relatives.ghost(alpha) == pytest.approx(-alpha, abs=1e-12)
    assert relatives.ghost(alpha, same_gates=False) == pytest.approx(0, abs=1e-12)


def test_a_scale_of_each_feature_would_need_values_that_depend_on_the_memory():
    """With these values the gradient is the plain norm's; another memory needs others, unless all scales are one."""
    e = relatives.example()
    k, v = e.k[0], e.v[0]
    needed = {"own": [], "one": []}
    for name, scale in (("own", e.scale), ("one", e.scale.mean().expand(e.scale.shape))):
        for M in (e.M, e.M.flip(0)):
            normal = F.layer_norm(M @ k, k.shape)
            theta = scale.square().mean()
            values = k + normal - scale * (scale * normal + k + e.shift - v) / theta
            nets = relatives.wrapped(scale, e.shift), relatives.wrapped()
            losses = [
                lambda W, net=net, v=v: (net(W, k) - v).square().sum() for net, v in zip(nets, (v, values), strict=True)
            ]
            have, want = (grad(loss)(M) for loss in losses)
            assert torch.allclose(have, theta * want, atol=1e-12)
            needed[name].append(values)
    assert not torch.allclose(*needed["own"], atol=0.01)
    assert torch.allclose(*needed["one"])


# ---- What each is good for -------------------------------------------------------------------------------------------


def test_the_delta_rule_is_worth_most_where_a_key_is_told_again():
    """What the old values cost: the same questions with and without them."""
    costs = {rung: error(rung, "retold") - error(rung, "only new") for rung in ("linear attention", "DeltaNet")}
    assert costs["linear attention"] > 0.25
    assert abs(costs["DeltaNet"]) < 0.1


def test_a_gate_helps_linear_attention_far_more_than_the_delta_rule():
    for stream in ("retold", "recent"):
        assert error("linear attention", stream) - error("gated (Mamba-2)", stream) > 0.15
        assert 0 <= error("DeltaNet", stream) - error("Gated DeltaNet", stream) < 0.03


def test_a_matrix_that_is_too_small_is_too_small_for_all_of_them():
    told = relatives.crowded()
    best = torch.linalg.lstsq(told.k, told.v).solution
    least = float((told.k @ best - told.v).square().sum(-1).mean())
    errors = [error(rung, "crowded") for rung in SETTING]
    assert least == pytest.approx(1 - relatives.DIM / 64, abs=0.01)
    assert least < min(errors)
    assert max(errors) - min(errors) < 0.03


def test_longhorn_differs_from_the_delta_rule_where_keys_differ_in_length():
    assert abs(error("DeltaNet", "retold") - error("Longhorn", "retold")) < 0.02
    assert error("DeltaNet", "uneven") - error("Longhorn", "uneven") > 0.2


def test_mini_batches_cost_something_where_the_delta_rule_is_good():
    for stream in ("retold", "recent", "drifting"):
        assert error("TTT, chunks of 8", stream) - error("DeltaNet", stream) > 0.03


def test_the_order_of_error_and_forgetting_does_not_show_while_little_is_forgotten():
    for stream in STREAM:
        assert abs(error("Titans, eta = 0", stream) - error("Gated DeltaNet", stream)) < 0.002


def test_the_order_shows_where_a_gate_clears_the_memory_at_once():
    never, cleared = relatives.at_the_border(0.0), relatives.at_the_border(0.99)
    after, before, earlier, unwritten, empty = cleared.values()
    assert len({round(value, 10) for value in list(never.values())[:3]}) == 1
    assert after < earlier < before < never["before"]
    assert before - after > 0.015
    assert after == pytest.approx(empty, abs=0.001)
    assert unwritten == pytest.approx(empty, abs=0.001)


def test_momentum_is_worth_little_here():
    gains = {stream: error("Titans, eta = 0", stream) - error("Titans", stream) for stream in STREAMS_OF_TABLE}
    assert max(gains.values()) < 0.06
    assert gains["few"] > 0.02


STREAMS_OF_TABLE = [names[0] for names in STREAMS]


# ---- Tables ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("language", ["en", "ja"])
def test_tables_fit_and_stand_in_columns(language):
    speak(language)
    try:
        tables = [relatives.table(relatives.ladder(rungs)) for rungs in (LADDER, TTT_PARTS)]
        others = [relatives.recall_table(), relatives.border_table()]
    finally:
        speak("en")
    for text in others:
        assert len({columns(line) for line in text.splitlines()}) == 1
        assert max(map(columns, text.splitlines())) <= 100
    for text in tables:
        widths = [columns(line) for line in text.splitlines()]
        assert max(widths) <= 100
        assert len(set(widths)) == 1
        assert ("一致" in text) == (language == "ja")
