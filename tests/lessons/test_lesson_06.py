"""Lesson 06: its exercises name the mistake, its lab moves, and its helpers compute what they say."""

import math
import re

import pytest
import torch

from tests.lessons.cells import exercise_cells, run
from tests.lessons.labs import check_failing_draw, check_strip, check_words
from titans import TitansConfig, TitansLM
from titans.attention import Attention
from titans.checkpoints import load_checkpoint
from titans.lesson.kit import exercise
from titans.lesson.kit.watching import without_h
from titans.lesson.lesson_06 import exercises as exercises_06
from titans.lesson.lesson_06 import lab as persistent_lab
from titans.lesson.lesson_06 import pictures as lesson_06
from titans.lesson.lesson_06 import trials
from titans.tasks import Recall

# ---- The lab ---------------------------------------------------------------------------------------------------------


def test_every_control_changes_the_picture():
    lab = persistent_lab.persistent_lab()
    for control in lab.controls.values():
        before, start = lab.png, control.value
        control.value = control.max if start != control.max else control.min
        assert lab.png != before, control.description
        control.value = start
        assert lab.png == before


@pytest.mark.parametrize("corner", ["min", "max"])
def test_the_lab_draws_every_corner_of_its_controls(corner):
    lab = persistent_lab.persistent_lab()
    for control in lab.controls.values():
        control.value = getattr(control, corner)
        assert lab.png.startswith(b"\x89PNG")


def test_a_failing_picture_tells_whoever_moved_the_control(monkeypatch):
    check_failing_draw(persistent_lab.persistent_lab(), "persistent", 5, monkeypatch)


def test_the_strip_shows_what_the_controls_show():
    check_strip(persistent_lab.persistent_lab())


def test_the_labs_shares_are_softmax_over_what_a_token_may_see():
    data = persistent_lab.heads()
    shares = persistent_lab.shares(data, persistent=3, scale=0.5, window=4)
    torch.testing.assert_close(shares.sum(1), torch.ones(24, dtype=torch.float64))
    for i in (0, 2, 9, 23):
        seen = range(max(0, i - 3), i + 1)
        scores = [data.q[i] @ (0.5 * key) / 4 for key in data.persistent[:3]]
        scores += [data.q[i] @ data.k[j] / 4 for j in seen]
        want = torch.zeros(27, dtype=torch.float64)
        want[[0, 1, 2, *(3 + j for j in seen)]] = torch.stack(scores).exp()
        torch.testing.assert_close(shares[i], want / want.sum())


def test_the_labs_answers_in_the_lesson_are_right():
    def on_persistent(persistent, scale, window):
        return persistent_lab.shares(persistent_lab.heads(), persistent, scale, window)[:, :persistent].sum(1)

    assert persistent_lab.shares(persistent_lab.heads(), 0, 1.0, 24)[0, 0] == 1
    wide, narrow = on_persistent(8, 0.0, 24), on_persistent(8, 0.0, 6)
    assert wide[0] > 0.8
    assert 0.15 < wide[-1] < 0.2
    assert 0.4 < narrow[-1] < 0.6
    assert 0.015 < on_persistent(2, -1.0, 24)[-1] < 0.025


# ---- Pictures and helpers --------------------------------------------------------------------------------------------


def some_answers():
    asked = trials.questions(60, torch.Generator().manual_seed(0))
    return torch.full((60, 6 + trials.TOLD), 1 / 14), asked


PICTURES = {
    "lab": persistent_lab.persistent_lab,
    "sinks": lesson_06.sinks,
    "three kinds": lambda: lesson_06.three_kinds({n: torch.rand(3, 3) for n in (0, 1, 6)}),
    "who is asked": lambda: lesson_06.who_is_asked(*some_answers()),
    "where it goes": lambda: lesson_06.where_it_goes(
        torch.full((2, 9, 3), 1 / 3), torch.ones(9) / 3, {"told": slice(0, 4)}
    ),
}


@pytest.mark.parametrize("name", PICTURES)
def test_every_picture_speaks_both_languages(name):
    check_words(PICTURES[name])


def test_the_first_token_receives_what_the_lesson_says():
    """With equal scores column j receives the mean over queries i >= j of 1 / (i + 1 + persistent)."""
    for persistent in (0, 4):
        want = [sum(1 / (i + 1 + persistent) for i in range(max(0, j), 32)) / 32 for j in range(-persistent, 32)]
        torch.testing.assert_close(trials.received(persistent), torch.tensor(want))
        assert (trials.received(persistent, draws=500) - torch.tensor(want)).abs().max() < 0.01
    assert 0.125 < trials.received(0)[0] < 0.135
    assert 0.0005 < trials.received(0)[-1] < 0.0015
    assert trials.received(4)[4] / trials.received(0)[0] == pytest.approx(0.5, abs=0.05)


def test_questions_are_of_three_kinds_and_facts_are_the_same_everywhere():
    one, other = (trials.questions(300, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    matches = torch.einsum("rd,rtd->rt", one.q, one.keys)
    told = one.kind == 0
    torch.testing.assert_close(matches[told].max(1).values, torch.ones(100))
    torch.testing.assert_close(one.wanted[told], one.values[told][torch.arange(100), matches[told].argmax(1)])
    assert matches[~told].max() < 0.99
    assert not one.wanted[one.kind == 2].any()
    for fact in range(trials.FACTS):
        here, there = (b.q[(b.kind == 1) & (b.fact == fact)] for b in (one, other))
        torch.testing.assert_close(here, here[:1].expand_as(here))
        assert torch.equal(here[0], there[0])


@pytest.mark.parametrize("variant", ["mac", "attention"])
def test_attention_shares_are_those_that_the_model_uses(monkeypatch, variant):
    """Where only one part has values, all of them 1, the output of attention is the share of that part."""
    torch.manual_seed(0)
    model = TitansLM(TitansConfig(variant, layers=1, segment_len=5, chunk_size=5)).double()
    original, recorded = Attention.forward, []

    def forward(attention, q, streams, seen, prefix, window):
        outputs = []
        for part in range(1 + len(streams)):
            parts = (prefix, *streams)
            only = [(k, torch.full_like(v, float(n == part))) for n, (k, v) in enumerate(parts)]
            outputs.append(original(attention, q, tuple(only[1:]), seen, only[0], window)[0][..., 0].mean(0))
        recorded.append(torch.stack(outputs, dim=-1))
        return original(attention, q, streams, seen, prefix, window)

    monkeypatch.setattr(Attention, "forward", forward)
    shares = trials.attention_shares(model, torch.randint(256, (3, 13)))
    assert shares.shape == (2, 13, 3 if variant == "mac" else 2)
    torch.testing.assert_close(shares, torch.cat(recorded, dim=1).detach())
    assert not model.blocks[0].mixer.attention._forward_pre_hooks


@pytest.mark.parametrize(("persistent", "window", "layers"), [(0, 3, 1), (4, 3, 1), (2, 2, 5), (3, 5, 4)])
def test_a_change_gets_as_far_as_the_exercise_says(persistent, window, layers):
    """Persistent tokens pass nothing on; tokens in front that read would pass it on to all, from two layers on."""
    assert trials.how_far_it_gets(persistent, window, layers) == exercises_06.REACH.truth(layers, persistent, window)
    if persistent and layers > 1:
        assert trials.how_far_it_gets(persistent, window, layers, P_reads=True) == 29


def test_taking_persistent_tokens_out_leaves_everything_else():
    model = TitansLM(TitansConfig(layers=2))
    bare = trials.without_persistent(model)
    assert bare.config.persistent_tokens == 0
    for name, weight in bare.state_dict().items():
        assert weight.numel() == 0 if name.endswith("persistent") else torch.equal(weight, model.state_dict()[name])


# ---- The trained model, with other tokens in front ------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained():
    """The model of section 8 and the sequences that it reads there, told in one stretch."""
    model, _, _ = load_checkpoint("recall-live/mac")
    return model, Recall().sample(64, 36, torch.Generator().manual_seed(5)).tokens


def test_fresh_random_tokens_get_most_of_what_the_trained_ones_get(trained):
    """While pairs are told: 41 percent for the trained ones, 29 percent would be counting."""
    model, tokens = trained
    P, shares = model.blocks[0].mixer.persistent.detach(), []
    for seed in range(60):
        torch.manual_seed(seed)
        other = trials.with_persistent(model, torch.randn_like(P) * P.std())
        shares.append(float(trials.attention_shares(other, tokens[:16])[:, :12, 0].mean()))
    assert 0.32 < sum(shares) / 60 < 0.34
    assert 0.395 < float(trials.attention_shares(model, tokens)[:, :12, 0].mean()) < 0.42


def test_an_untrained_model_attends_as_if_all_scores_were_equal(trained):
    """So the lesson may call the share that equal scores give what counting gives."""
    model, tokens = trained
    torch.manual_seed(0)
    shares = trials.attention_shares(TitansLM(model.config), tokens)[:, :12, 0]
    place = torch.arange(12) + 1
    torch.testing.assert_close(shares.mean(), (4 / (4 + 2 * place)).mean(), rtol=0.03, atol=0)


def test_queries_of_the_trained_model_have_a_part_in_common(trained):
    assert all(0.15 < part < 0.3 for part in trials.common_part(*trained))
    data = persistent_lab.heads()
    lab = data.q.mean(0).square().sum() / data.q.square().sum(-1).mean()
    assert lab > max(trials.common_part(*trained))


def test_a_louder_prefix_changes_keys_and_values_of_the_persistent_tokens_alone(trained):
    model, tokens = trained
    with torch.no_grad():
        want = model(tokens[:2]).logits
        torch.testing.assert_close(trials.with_prefix(model, 1, 1)(tokens[:2]).logits, want)
        P = model.blocks[0].mixer.persistent
        twice = trials.with_persistent(model, 2 * P)(tokens[:2]).logits
        torch.testing.assert_close(trials.with_prefix(model, 2, 2)(tokens[:2]).logits, twice)
        torch.testing.assert_close(model(tokens[:2]).logits, want)  # the model itself is as it was


def test_four_zero_vectors_are_as_good_as_the_trained_tokens_where_h_is_out_of_sight(trained):
    """After long noise too; the lesson says it of 56 tokens. One is worth about half as much."""
    model, _ = trained
    kept, bare, one, four = (
        trials.right_in_one_call(trials.without_columns_of_h(each), Recall(), 1024, rows=128)
        for each in (model, *(trials.with_zero_tokens(model, n) for n in (0, 1, 4)))
    )
    assert bare + 0.015 < one < four - 0.015
    assert abs(four - kept) < 0.015


def test_out_of_sight_h_may_say_what_it_likes(trained):
    """And read in one call, a sequence's answers are those that the recipes count."""
    model, tokens = trained
    with torch.no_grad():
        one, other = (trials.without_columns_of_h(each)(tokens[:2]).logits for each in (model, without_h(model)))
        assert not torch.allclose(one, model(tokens[:2]).logits)
    torch.testing.assert_close(one, other)
    assert trials.right_in_one_call(model, Recall(), 56) > 0.98


# ---- Exercises -------------------------------------------------------------------------------------------------------


def share_of(q, ours, theirs, scale=None, squash=torch.exp, gather=torch.sum):
    scale = len(q) ** -0.5 if scale is None else scale
    Z_P, Z_x = (gather(squash(keys @ q * scale)) for keys in (ours, theirs))
    return Z_P / (Z_P + Z_x)


WRONG = {
    "SHARE": [
        ("the tokens' share", lambda q, ours, theirs: share_of(q, theirs, ours)),
        ("no scale", lambda q, ours, theirs: share_of(q, ours, theirs, scale=1)),
        ("no exponential", lambda q, ours, theirs: share_of(q, ours, theirs, squash=lambda scores: scores)),
        ("means", lambda q, ours, theirs: share_of(q, ours, theirs, gather=torch.mean)),
        ("counting", lambda q, ours, theirs: len(ours) / (len(ours) + len(theirs))),
        ("different", lambda q, ours, theirs: 0.3),
    ],
    "FEED_FORWARD": [
        ("wrong axis", lambda x, keys, values: torch.softmax(x @ keys.T, 0) @ values),
        ("no softmax", lambda x, keys, values: (x @ keys.T) @ values),
        ("another activation", lambda x, keys, values: torch.relu(x @ keys.T) @ values),
        ("scaled", lambda x, keys, values: torch.softmax(x @ keys.T / x.shape[1] ** 0.5, -1) @ values),
        ("error", lambda x, keys, values: x @ keys),
    ],
    "REACH": [
        ("one layer", lambda layers, persistent, window: window - 1),
        ("the token itself", lambda layers, persistent, window: window * layers),
        ("how many are within reach", lambda layers, persistent, window: 1 + (window - 1) * layers),
        ("persistent tokens counted", lambda layers, persistent, window: persistent + (window - 1) * layers),
        ("counted in every layer", lambda layers, persistent, window: (persistent + window - 1) * layers),
        ("they take room", lambda layers, persistent, window: (window - persistent - 1) * layers),
        ("a power", lambda layers, persistent, window: math.prod([window - 1] * layers)),
        ("one layer too few", lambda layers, persistent, window: (window - 1) * layers - window + 1),
    ],
}


@pytest.mark.parametrize(("name", "mistake", "answer"), [(n, *case) for n, cases in WRONG.items() for case in cases])
def test_a_wrong_answer_is_told_its_mistake(name, mistake, answer):
    verdict = getattr(exercises_06, name).check(answer)
    assert verdict.outcome == mistake
    assert re.search("[ぁ-ん]", verdict.japanese)


@pytest.mark.parametrize("name", WRONG)
def test_messages_of_an_exercise_differ(name):
    verdicts = [getattr(exercises_06, name).check(answer) for _, answer in WRONG[name]]
    assert len({verdict.english for verdict in verdicts}) == len(verdicts)
    assert len({verdict.japanese for verdict in verdicts}) == len(verdicts)


@pytest.mark.parametrize(("name", "stub", "solution"), list(exercise_cells("06")))
def test_a_stub_is_not_attempted_and_the_solution_passes(name, stub, solution):
    check = getattr(exercises_06, name).check
    assert check(run(stub, exercises_06)).outcome == "todo"
    assert check(run(solution, exercises_06)).outcome == "passed"


def test_every_exercise_stands_in_the_lesson_and_has_three_wrong_answers():
    known = {name for name, value in vars(exercises_06).items() if isinstance(value, exercise.Exercise)}
    assert {param.values[0] for param in exercise_cells("06")} == known == set(WRONG)
    assert all(len(cases) >= 3 for cases in WRONG.values())


def test_the_lessons_own_share_is_right():
    assert exercises_06.SHARE.check(trials.persistent_share).outcome == "passed"
