"""Lesson 04: what it says of gradients, trained parts and overwriting is so, and its exercises know their mistakes."""

import copy
import json

import numpy as np
import pytest
import torch

from tests.lessons.cells import exercise_cells, run
from tests.lessons.labs import check_failing_draw, check_strip, check_words
from tests.lessons.translated import is_english
from titans import TitansLM
from titans.chunked import chunked_scan
from titans.lesson.kit.cards import columns
from titans.lesson.kit.host import speak
from titans.lesson.kit.watching import memory_of
from titans.lesson.lesson_04 import exercises, lab, pictures, runs, trials
from titans.lesson.lesson_04.overwriting import WITHOUT
from titans.recipes import OVERWRITING, RETOLD, changed
from titans.recurrence import Momentum, recurrent_scan, surprise
from titans.scan import Gates
from titans.tasks import RetoldRecall

NEVER = trials.never_trained()
WAYS = (
    "writes shaped by W_K, W_V alone",
    "writes shaped by the convolution alone",
    "writes shaped by the embedding alone",
)


class FirstOrder(Momentum):
    """The inner rule whose surprise is detached, token by token."""

    def step(self, memory, weights, momentum, at, token):
        found = [u.detach() for u in surprise(memory, at, token.k, token.v)]
        theta, eta, alpha = token.gates.by_layer()
        momentum = tuple(e * s - th * u for e, s, th, u in zip(eta, momentum, theta, found, strict=True))
        return tuple((1 - a) * w + s for a, w, s in zip(alpha, weights, momentum, strict=True)), momentum


# ---- Two loops, and the gradient between them ------------------------------------------------------------------------


@pytest.mark.parametrize("chunk_size", [1, 3, 16])
def test_the_closed_form_without_second_order_is_the_rule_that_detaches_the_surprise(chunk_size):
    """Outputs equal, and every outer gradient; none reaches keys and values."""
    draw = torch.randn(3, 2, 1, 9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    parts = [x.requires_grad_() for x in torch.nn.functional.normalize(draw, dim=-1)]
    gates = [gate.requires_grad_() for gate in torch.rand(3, 2, 1, 9, dtype=torch.float64) * 0.4]
    memory = runs.FirstOrderMemory(4, depth=1).double()
    memory.weights[0].data.normal_()
    found = []
    for scan, rule in ((chunked_scan, None), (recurrent_scan, FirstOrder())):
        y, state = scan(memory, memory.initial_state(2), *parts, Gates(*gates), chunk_size, rule=rule)
        leaves = [*parts, *gates, memory.weights[0]]
        loss = y.square().sum() + state.weights[0].sin().sum()
        found.append([y, *torch.autograd.grad(loss, leaves, allow_unused=True)])
    for one, other in zip(*found, strict=True):
        one, other = (torch.zeros(()) if x is None else x for x in (one, other))
        assert torch.allclose(one.expand_as(other) if one.dim() == 0 else one, other, rtol=1e-9, atol=1e-9)
    assert all(x is None or not x.any() for x in found[0][2:4])
    assert found[0][4].any()


def test_what_is_cut_leaves_the_forward_pass_as_it_is():
    batch = runs.RUN.batch(0, 0)
    outputs = []
    for mixers in (None, runs.FIRST_ORDER, runs.GIVEN):
        torch.manual_seed(0)
        model = TitansLM(runs.RUN.config, mixers)
        outputs.append(model(batch.tokens, labels=batch.labels))
        outputs[-1].loss.backward()
        memory = memory_of(model)
        grads = [bool(p.grad is not None and p.grad.any()) for p in (memory.W_K.weight, memory.conv.weight)]
        assert grads == [mixers is not runs.FIRST_ORDER, True]
    assert all(torch.equal(o.logits, outputs[0].logits) for o in outputs)


def test_frozen_parts_are_not_trained_and_the_others_are():
    model = copy.deepcopy(trials.untrained())
    batch = runs.RUN.batch(0, 0)
    with runs.frozen(model, "gates", "M_0"):
        model(batch.tokens, labels=batch.labels).loss.backward()
        assert all((p.grad is None) == runs.belongs(n, ("gates", "M_0")) for n, p in model.named_parameters())
    assert all(p.requires_grad for p in model.parameters())


def test_every_parameter_belongs_to_one_part():
    for name, _ in trials.untrained().named_parameters():
        assert sum(runs.belongs(name, (part,)) for part in runs.PARTS) == 1, name


# ---- What was trained without a part ---------------------------------------------------------------------------------


def test_three_seeds_of_every_part():
    found = json.loads(runs.RESULTS.read_text(encoding="utf-8"))
    assert {"all trained", "inner gradient detached", *WAYS, *runs.PARTS} <= set(found)
    assert all(list(seeds) == ["0", "1", "2"] for seeds in found.values())


def test_no_single_part_of_the_memory_has_to_be_trained():
    for part in set(runs.PARTS) - {"embedding"}:
        assert min(NEVER[part]) >= 0.95, part


def test_what_is_written_has_to_be_trained_somewhere():
    """By W_K and W_V, or by the embedding, or by the convolution, which alone is not always enough. Without W_K and W_V
    it goes as well as with them; with all three cut off, as when the inner gradient is detached, it does not."""
    detached = NEVER["inner gradient detached"]
    assert min(NEVER["W_K W_V"]) >= 0.95
    assert max(detached) < 0.4
    for way in WAYS[::2]:
        assert min(NEVER[way]) > 2 * max(detached), way


# ---- Overwriting -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def retold():
    torch.set_num_threads(1)
    return trials.retold_models()


def test_newest_and_old_are_told_apart():
    """A model that answers what was told last, and one that answers what was told first, would be found out."""
    told = RetoldRecall().tell(8, torch.Generator().manual_seed(1)).tokens
    assert (told[:, :12:2].sort().values == told[:, 12::2].sort().values).all()
    assert not (told[:, 1:12:2] == told[:, 13::2]).all()


def test_momentum_overwrites_by_waiting(retold):
    """It answers the old value at first; what turns it is S, not what noise writes."""
    model = retold["momentum"]
    assert trials.newest_and_old(model, 1)[1] > 0.7
    assert trials.newest_and_old(model, 56)[0] > 0.95
    for without in ({"erased": True}, {"in_noise": {"eta": 0.0}}, {"in_told": {"eta": 1.0}}):
        assert trials.newest_and_old(model, **without)[1] > 0.7
    assert trials.newest_and_old(model, in_noise={"theta": 0.0})[0] > 0.95


def test_the_correction_overwrites_by_chunks_that_know_the_first_telling(retold):
    shares = [trials.newest_and_old(retold["correction"], chunk_size=size)[0] for size in (1, 4, 256)]
    assert min(shares[:2]) > 0.95 > 0.65 > shares[2]


def test_with_all_three_the_first_seed_leans_on_momentum(retold):
    model = retold["all three"]
    assert trials.newest_and_old(model, chunk_size=256)[0] > 0.85
    assert trials.newest_and_old(model, in_noise={"eta": 0.0})[0] < 0.75
    assert trials.newest_and_old(model, in_noise={"alpha": 0.0}, in_told={"alpha": 0.0})[0] > 0.95


def test_what_is_found_of_seed_0_is_what_its_shipped_model_does(retold):
    found = trials.switched_off()["0"]
    for name, without in WITHOUT.items():
        assert trials.newest_and_old(retold["all three"], **without)[0] == pytest.approx(found[name], abs=0.02)


def test_of_all_three_two_seeds_lean_on_momentum_and_one_on_the_correction():
    found = trials.switched_off()
    without = {n: [found[seed][n] for seed in ("0", "1", "2")] for n in WITHOUT}
    assert [share < 0.9 for share in without["no momentum in the noise"]] == [True, True, False]
    assert [share < 0.9 for share in without["no correction (one chunk)"]] == [False, False, True]
    assert min(without["no forgetting"]) > 0.97


def test_forgetting_alone_was_weak_by_its_first_theta():
    """From the larger start it overwrites in every seed; what has nothing to overwrite with does not, from either."""
    card, other = trials.retold_card()["runs"], trials.other_first_steps()
    assert card["forgetting"]["right"]["56"]["worst"] < 0.1
    assert min(other["forgetting"]) > 0.9
    assert max(other["none"] + card["none"]["right"]["56"]["each"]) < 0.7


@pytest.mark.parametrize("name", runs.FIRST_STEPS)
def test_other_starts_are_those_of_the_other_chunk_size(name):
    size = {4: 256, 256: 4}
    run = changed(RETOLD, **OVERWRITING[name])
    model, other = TitansLM(run.config), TitansLM(changed(run, chunk_size=size[run.config.chunk_size]).config)
    before = memory_of(model).to_gates.bias.detach().clone()
    runs.start_with(model, runs.FIRST_STEPS[name])
    bias, wanted = memory_of(model).to_gates.bias, memory_of(other).to_gates.bias
    assert torch.allclose(bias, wanted)
    assert torch.equal(bias[1:], before[1:])


# ---- Pictures and the lab --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(retold):
    """A trained memory of the same sizes."""
    trained = copy.deepcopy(trials.untrained())
    trained.load_state_dict(retold["correction"].state_dict())
    return trained


@pytest.fixture(scope="module")
def film(model):
    return lab.film_lab(trials.untrained(), model)


def test_the_lab_moves_and_its_strip_shows_what_its_controls_show(film):
    before = film.png
    film.controls["token"].value = 33
    assert film.png != before
    seen = film.png
    film.controls["shown"].value = "question"
    assert film.png != seen
    film.controls["shown"].value = "both"
    check_strip(film)


def test_a_failing_picture_tells_whoever_moved_the_control(film, monkeypatch):
    check_failing_draw(film, "token", 7, monkeypatch)


def test_the_film_is_what_the_model_does(model):
    seen = lab.film(model)
    tokens = lab.six_facts()[0][:, : lab.TOKENS]
    state = model(tokens).state
    chance = model(torch.tensor(lab.KEYS)[:, None], trials.each_pair(state, 6)).logits[:, 0].softmax(-1)
    answers = chance.gather(1, torch.tensor(lab.TOLD[1::2])[:, None])[:, 0]
    assert np.allclose(seen.chance[-1], answers.detach().numpy(), atol=1e-5)
    assert (seen.at_write_key[:2] == 0).all()
    assert (seen.at_write_key[2:, 0] != 0).all()


def test_every_picture_speaks_both_languages(model):
    pairs = trials.tell_and_ask(model, rows=4)
    reset = dict.fromkeys(runs.PARTS, 0.5)
    shares = {name: dict.fromkeys((1, 4), (0.2, 0.8)) for name in ("correction", "momentum")}
    check_words(lambda: pictures.before_and_after(trials.untrained(), model))
    check_words(lambda: pictures.two_keys(pairs))
    check_words(lambda: pictures.which_part(reset, NEVER))
    check_words(lambda: pictures.waiting(shares))


def test_tables_speak_japanese_in_columns_of_the_same_width():
    numbers = dict.fromkeys(("trained", "A"), [0.5] * len(trials.CLUES))
    for table in (lambda: trials.retold_table(trials.retold_card()), lambda: exercises.clues(numbers, trials.CLUES)):
        speak("en")
        english = table()
        speak("ja")
        japanese = table().splitlines()
        assert [*map(columns, japanese)] == [*map(len, english.splitlines())]
        assert not any(is_english(line) for line in japanese)


def test_a_write_key_is_made_of_the_name_two_back_and_a_value_of_the_place_one_back(model):
    """In a model that was trained to overwrite as in the lesson's own."""
    for what, needed in (("k", 2), ("v", 1)):
        for back in range(4):
            changed = trials.without_tap(model, what, back)
            pairs = trials.tell_and_ask(changed)
            assert (trials.right_with_key(changed, pairs, None) < 0.5) == (back == needed)
            assert (trials.question_meets(pairs)[2] < 0.2) == ((what, back) == ("k", 2))


def test_reading_with_the_query_is_what_the_model_answers(model):
    """Answers worked out by hand, from M and q, are the model's."""
    pairs = trials.tell_and_ask(model, rows=16)
    share = trials.right_with_key(model, pairs, None)
    told = torch.stack((pairs.asked, pairs.answers), dim=2).flatten(1)
    assert told.shape == (16, 12)
    assert 0 <= share <= 1


# ---- Exercises -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "stub", "solution"), list(exercise_cells("04")))
def test_stubs_are_told_to_go_on_and_solutions_pass(name, stub, solution):
    check = getattr(exercises, name).check
    assert check(run(stub.rsplit("exercises.", 1)[0], exercises)).outcome == "todo"
    assert check(run(solution, exercises)).outcome == "passed"


@pytest.mark.parametrize("name", ["META_GRADIENT", "FIRST_MEMORY"])
def test_mistakes_are_told_apart(name):
    exercise = getattr(exercises, name)
    assert len(exercise.mistakes) >= 6
    for outcome, mistake in exercise.mistakes.items():
        assert exercise.check(mistake.answer).outcome == outcome


def _difference(m, k1, v1, k2, v2, theta, q, a):
    """The loss is a polynomial of degree 4 in theta, whose slope five points give exactly."""
    steps, weights = (-2, -1, 1, 2), (1 / 12, -8 / 12, 8 / 12, -1 / 12)
    losses = [exercises._loss(m, k1, v1, k2, v2, theta + 0.01 * n, q, a) for n in steps]
    return sum(w * loss for w, loss in zip(weights, losses, strict=True)) / 0.01


RIGHT = {
    "FIRST_MEMORY": {
        "lstsq": lambda k, v: torch.linalg.lstsq(k, v).solution.T,
        "pinv": lambda k, v: (torch.linalg.pinv(k) @ v).T,
        "normal equations": lambda k, v: torch.linalg.solve(k.T @ k, k.T @ v).T,
        "inverse": lambda k, v: v.T @ k @ torch.linalg.inv(k.T @ k),
        "qr": lambda k, v: torch.linalg.solve(torch.linalg.qr(k).R, torch.linalg.qr(k).Q.T @ v).T,
        "numpy": lambda k, v: np.linalg.lstsq(k.numpy(), v.numpy(), rcond=None)[0].T,
        "ridge of nothing": lambda k, v: exercises._solve(k, v),
        "cholesky": lambda k, v: torch.cholesky_solve(k.T @ v, torch.linalg.cholesky(k.T @ k)).T,
    },
    "META_GRADIENT": {
        "by hand": exercises._by_hand,
        "expanded": lambda m, k1, v1, k2, v2, t, q, a: (
            2
            * q
            * (q * ((m - t * 2 * (m * k1 - v1) * k1) * (1 - 2 * t * k2**2) + 2 * t * v2 * k2) - a)
            * (
                -2 * (m * k1 - v1) * k1 * (1 - 2 * t * k2**2)
                - 2 * k2**2 * (m - 2 * t * (m * k1 - v1) * k1)
                + 2 * v2 * k2
            )
        ),
        "numpy": lambda *case: np.float64(exercises._by_hand(*case)),
        "tensor": lambda *case: torch.tensor(exercises._by_hand(*case), dtype=torch.float64),
        "autograd": lambda *case: exercises._slope("theta", *case),
        "difference": lambda *case: _difference(*case),
        "float32": lambda *case: torch.tensor(exercises._by_hand(*case)),
        "0-d array": lambda *case: np.array(exercises._by_hand(*case)),
    },
}


@pytest.mark.parametrize(("exercise", "way"), [(e, w) for e, ways in RIGHT.items() for w in ways])
def test_right_answers_are_accepted_however_written(exercise, way):
    assert getattr(exercises, exercise).check(RIGHT[exercise][way]).outcome == "passed"


@pytest.mark.parametrize(
    "answer",
    [
        ("W_Q", "convolution", "W_K"),
        ["w_q", "Convolution", "w_k"],
        "W_Q, convolution, W_K",
        "W_Q convolution W_K",
        {"A": "W_Q", "B": "convolution", "C": "W_K"},
        {"a": " W_Q", "b": "convolution ", "c": "W_K"},
        np.array(["W_Q", "convolution", "W_K"]),
        iter(("W_Q", "convolution", "W_K")),
    ],
    ids=range(8),
)
def test_the_three_names_are_accepted_however_written(answer):
    assert exercises.DETECTIVE.check(lambda: answer).outcome == "passed"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (..., "todo"),
        (("W_Q", ..., "W_K"), "todo"),
        (None, "nothing"),
        (3, "shape"),
        ((), "shape"),
        (("W_Q", "W_K"), "shape"),
        ("W_Q", "shape"),
        (("W_Q", "conv", "W_K"), "unknown"),
        (("W_Q", 2, "W_K"), "unknown"),
        ({"A": "W_Q"}, "unknown"),
        (("W_K", "convolution", "W_Q"), "A is not W_K"),
        (("gates", "convolution", "W_K"), "A is not gates"),
        (("W_Q", "W_V", "W_K"), "B is not W_V"),
        (("W_Q", "W_K", "W_K"), "B is not W_K"),
        (("W_Q", "convolution", "W_V"), "C is not W_V"),
        (("W_Q", "convolution", "M_0"), "C is not M_0"),
        (("W_Q", "convolution", "convolution"), "C is not convolution"),
    ],
    ids=range(17),
)
def test_wrong_names_are_told_why(answer, outcome):
    verdict = exercises.DETECTIVE.check(lambda: answer)
    assert verdict.outcome == outcome
    assert verdict.english
    assert verdict.japanese


def test_an_error_in_the_function_is_reported():
    assert exercises.DETECTIVE.check(lambda: 1 / 0).outcome == "error"
