"""Lesson 09: players move and match their strips, recordings are what the library does, checks name the mistake."""

import re
from dataclasses import replace
from operator import attrgetter

import numpy as np
import pytest
import torch

from tests.lessons.cells import exercise_cells, run
from tests.lessons.labs import check_failing_draw, check_strip, check_words
from tests.lessons.translated import is_english
from titans import DeepMemory, Gates, recurrent_scan
from titans.checkpoints import load_checkpoint
from titans.lesson.kit import exercise, watching
from titans.lesson.kit.cards import columns
from titans.lesson.kit.host import speak
from titans.lesson.kit.interventions import edited_memory, held
from titans.lesson.kit.player import right_answers
from titans.lesson.lesson_09 import bare_player, mac_player, trials
from titans.lesson.lesson_09 import exercises as exercises_09
from titans.lesson.lesson_09 import pictures as lesson_09
from titans.observe import closed, observed
from titans.tasks import Needle, Recall

PLAYERS = {"bare": bare_player.bare_player, "mac": mac_player.mac_player}


@pytest.fixture(scope="module", params=PLAYERS)
def player(request):
    return PLAYERS[request.param]()


def values_of(control):
    """What a choice may be: its options, or the second of each pair of name and value."""
    return [option if isinstance(option, str) else option[1] for option in control.options]


def other_value(control):
    """A value that the control does not have now."""
    if hasattr(control, "options"):
        return next(value for value in values_of(control)[::-1] if value != control.value)
    if isinstance(control.value, bool):
        return not control.value
    return control.max if control.value != control.max else control.min


def test_every_control_of_a_player_changes_its_picture_and_back(player):
    for name, control in player.controls.items():
        before, start = player.png, control.value
        control.value = other_value(control)
        assert player.png != before, name
        control.value = start
        assert player.png == before, name


def test_a_player_draws_every_moment_and_every_switch(player):
    values = player.values()
    for token in range(0, player.controls["token"].max + 1, 7):
        player.draw(**{**values, "token": token})
    for freeze in values_of(player.controls["freeze"]):
        for probe in player.controls["probe"].options:
            player.draw(**{**values, "freeze": freeze, "probe": probe, "no_momentum": True, "no_forgetting": True})
    player.draw(**values)


def test_a_players_strip_shows_what_its_controls_show(player):
    start = player.values()
    check_strip(player)
    for name, value in start.items():
        player.controls[name].value = value


def test_a_moved_slider_draws_the_same_pixels_as_a_fresh_player(player):
    """Only what moves is drawn anew, so nothing of an earlier picture may be left."""
    fresh = PLAYERS["bare" if len(player.controls["probe"].options) == 5 else "mac"]()
    player.controls["token"].value, start = 17, player.controls["token"].value
    player.controls["token"].value = start
    assert fresh.png == player.png


def test_a_failing_player_tells_whoever_moved_the_control(monkeypatch):
    check_failing_draw(bare_player.bare_player(), "token", 5, monkeypatch)


@pytest.mark.parametrize(
    "make",
    [
        *PLAYERS.values(),
        lesson_09.memory_at_work,
        lambda: lesson_09.told_twice(torch.ones(96)),
        lambda: lesson_09.streaming((64, 256), (1.0, 1.0), (0.0, 0.0), (100, 100)),
    ],
)
def test_every_picture_speaks_both_languages(make):
    check_words(make)


@pytest.mark.parametrize(("no_momentum", "no_forgetting"), [(False, False), (True, False), (False, True)])
def test_the_bare_player_shows_what_the_library_computes(no_momentum, no_forgetting):
    k, v = bare_player.pairs()
    k, v = k, torch.nn.functional.pad(v, (0, bare_player.FEATURES - v.shape[1]))  # square: two more rows of zeros
    values = (bare_player.THETA, 0.0 if no_momentum else bare_player.ETA, 0.0 if no_forgetting else bare_player.ALPHA)
    gates = Gates(*(torch.full((1, 1, len(k)), value, dtype=torch.float64) for value in values))
    memory = DeepMemory(bare_player.FEATURES, depth=1).double()
    arguments = (k[None, None], k[None, None], v[None, None], gates)
    _, state = recurrent_scan(memory, memory.initial_state(1), *arguments, chunk_size=1)
    seen = bare_player.record(no_momentum, no_forgetting)
    drinks = len(bare_player.DRINKS)
    torch.testing.assert_close(state.weights[0][0, 0, :drinks].detach(), torch.from_numpy(seen.memory[-1]))
    torch.testing.assert_close(state.momentum[0][0, 0, :drinks].detach(), torch.from_numpy(seen.momentum[-1]))


def test_a_frozen_bare_memory_does_not_change():
    seen = bare_player.record(frozen=4)
    assert (seen.memory[4:] == seen.memory[3]).all()
    assert not seen.write[4:].any()


def test_the_frozen_bare_memory_knows_the_oldest_pair_best():
    answers = right_answers(bare_player.story(), bare_player.record(frozen=4))[11]
    ana, _, ben, cleo, dan = answers
    assert ana > ben > cleo > dan == pytest.approx(2 * bare_player.THETA)


def test_what_the_answers_say_of_the_small_stream():
    story = bare_player.story()
    plain = bare_player.record(no_momentum=True, no_forgetting=True).surprise
    np.testing.assert_allclose(plain[[0, 4, 8]], [2, 1.2, 0.72])
    seen = bare_player.record()
    np.testing.assert_allclose([seen.surprise[4:8].mean(), seen.surprise[8:12].mean()], [0.57, 0.18], atol=0.005)
    ben, no_momentum = (right_answers(story, bare_player.record(m))[:, 2] for m in (False, True))
    assert ben[27] < 1 < ben[28]
    assert no_momentum.max() < 1
    kept = right_answers(story, bare_player.record(no_forgetting=True))[:, 2]
    assert (np.diff(kept[28:]) >= 0).all()  # without forgetting it does not come back
    assert (np.diff(ben[31:]) < 0).all()
    cleo = right_answers(story, seen)[:, 3]
    assert (round(cleo[11], 2), round(cleo[39], 2)) == (0.94, 0.55)
    written = np.abs(seen.write[18]).sum(0) > 0
    assert [*np.flatnonzero(written)] == [0, 1]


@torch.no_grad()
def test_the_recording_of_the_trained_memory_is_what_the_model_does():
    model, _, _ = load_checkpoint(mac_player.CHECKPOINT)
    tokens, _, _ = mac_player.facts_and_noise()
    seen = mac_player.recordings()[False, False, None]
    for count in (5, 40, 96):
        state = model(tokens[:, :count]).state.layers[0].memory
        torch.testing.assert_close(
            state.weights[0][0, 0], torch.from_numpy(seen.memory[count - 1]).float(), rtol=2e-3, atol=2e-3
        )


@torch.no_grad()
def test_the_recording_of_a_frozen_memory_is_what_a_frozen_model_does():
    model, _, _ = load_checkpoint(mac_player.CHECKPOINT)
    tokens, keys, values = mac_player.facts_and_noise()
    frozen = closed(model)
    state = frozen(tokens[:, 12:48], model(tokens[:, :12]).state).state
    seen = mac_player.recordings()[False, False, 12]
    memory = torch.from_numpy(seen.memory[47]).float()
    torch.testing.assert_close(state.layers[0].memory.weights[0][0, 0], memory, rtol=2e-3, atol=2e-3)
    chances = frozen(keys.T, state.select(torch.zeros(6, dtype=torch.long))).logits[:, 0].softmax(-1)
    wanted = chances.gather(1, values.T)[:, 0]
    torch.testing.assert_close(wanted, torch.from_numpy(seen.answers[47].diagonal().copy()).float(), rtol=0, atol=0.01)


def last_pair(no_momentum=False):
    return right_answers(mac_player.story(), mac_player.recordings()[no_momentum, False, None])[:, -1]


@torch.no_grad()
def test_the_player_asks_a_copy_that_does_not_write():
    model, _, _ = load_checkpoint(mac_player.CHECKPOINT)
    tokens, keys, values = mac_player.facts_and_noise()
    for no_momentum, count in ((False, 12), (False, 13), (True, 12)):
        with held(model, **({"eta": 0.0} if no_momentum else {})):
            state = model(tokens[:, :count]).state
            reads, writes = (
                float(asked(keys[:, -1:], state).logits[0, 0].softmax(-1)[values[0, -1]])
                for asked in (closed(model), model)
            )
        assert last_pair(no_momentum)[count - 1] == pytest.approx(reads, abs=0.01)
        assert writes > reads
    assert writes > 0.5 > 0.1 > reads  # the question would bind the pair itself


def test_a_memory_with_momentum_knows_the_last_pair_a_token_later():
    momentum, none = last_pair(), last_pair(no_momentum=True)
    assert max(momentum[11], none[11]) < 0.1
    assert momentum[12] < 0.5 < 0.9 < none[12]
    assert momentum[13] > 0.8


@torch.no_grad()
def test_what_momentum_buys_is_a_few_answers():
    recorded = mac_player.recordings()
    end = [right_answers(mac_player.story(), recorded[off, False, None])[-1] for off in (False, True)]
    assert end[0].min() > 0.9
    assert [*np.flatnonzero(end[1] < 0.5)] == [1]
    model, _, _ = load_checkpoint(mac_player.CHECKPOINT)
    tokens, keys, values = mac_player.facts_and_noise(rows=64)
    shares = []
    for gates in ({}, {"eta": 0.0}):
        with held(model, **gates):
            state = model(tokens[:, :48]).state
        shares.append(np.mean(watching.share_known(closed(model), state, keys, values)))
    assert 0.94 < shares[1] < 0.98 < shares[0]


@torch.no_grad()
def test_key_and_value_of_the_write_both_come_from_the_tokens_before():
    """Without the keys, or without the values, of the tokens before it the write of token 12 binds nothing."""
    model, _, _ = load_checkpoint(mac_player.CHECKPOINT)
    tokens, keys, values = mac_player.facts_and_noise(rows=64)
    told = model(tokens[:, :12]).state
    for part, limits in enumerate(((0.9, 1.0), (0.0, 0.2), (0.0, 0.2))):  # of q, k, v

        def erase(memory, part=part):
            recent = memory.recent.clone()
            recent.chunk(3, dim=-1)[part].zero_()
            return replace(memory, recent=recent)

        state = model(tokens[:, 12:16], edited_memory(told, erase)).state
        known = watching.share_known(closed(model), state, keys, values)[-1]
        assert limits[0] <= known <= limits[1]


@torch.no_grad()
def test_noise_has_closer_keys_than_facts_and_leaves_no_plateau():
    """The largest eigenvalue of 16 keys' Gram matrix is 16 if they are one key; the surprise after noise is small."""
    model, _, _ = load_checkpoint(mac_player.CHECKPOINT)
    tokens, _, _ = mac_player.facts_and_noise(rows=64)
    k = trials.written(model, tokens).k
    noise, second = (torch.linalg.eigvalsh(part @ part.mT)[:, -1].mean() for part in (k[:, 32:48], k[:, 48:64]))
    assert noise > 1.05 * second > 10
    noisy = tokens.clone()
    noisy[:, 48:60] = Recall().pass_time(64, 12, torch.Generator().manual_seed(1))
    assert trials.mean_surprise(model, noisy)[66:80].mean() < 1


@torch.no_grad()
def test_steps_of_a_chunk_go_too_far_and_the_next_chunks_go_too_far_back():
    """One key again and again: what the memory answers to it along its value, at the start of each chunk."""
    model, _, _ = load_checkpoint(mac_player.CHECKPOINT)
    seen = trials.written(model, torch.zeros(1, 96, dtype=torch.long))
    k, v = seen.k[:, 8::16], seen.v[:, 8::16]
    answers = torch.einsum("rtij,rtj->rti", seen.start[:, 8::16], k)
    along = ((answers * v).sum(-1) / v.square().sum(-1))[0]
    assert along[0].abs() < 0.2  # empty
    assert (along[1:5].sign() == torch.tensor([1.0, -1.0, 1.0, -1.0])).all()
    assert (along[2:5].abs() > 1.5 * along[1:4].abs()).all()


@torch.no_grad()
@pytest.mark.parametrize(("limited", "finite"), [(True, True), (False, False)])
def test_without_its_limit_the_memory_that_reads_one_key_for_ever_is_not_finite(limited, finite):
    model, _, _ = load_checkpoint(mac_player.CHECKPOINT)
    if not limited:
        watching.memory_of(model).max_surprise = None
    size = model(torch.zeros(1, 1024, dtype=torch.long)).state.layers[0].memory.weights[0].norm()
    assert (float(size) < 1e4) == finite


@torch.no_grad()
def test_misses_are_the_surprise_that_the_library_measures():
    model, _, _ = load_checkpoint(mac_player.CHECKPOINT)
    tokens, _, _ = mac_player.facts_and_noise(rows=4)
    seen, surprise = trials.written(model, tokens), trials.mean_surprise(model, tokens)
    for token in (3, 20, 50):
        said = trials.answer(seen.start[:, token], seen.k[:, token, None])
        assert trials.miss(said, seen.v[:, token, None]) == pytest.approx(float(surprise[token]), rel=1e-4)


def test_the_best_length_leaves_the_least():
    random = torch.Generator().manual_seed(0)
    said, v = torch.randn(2, 5, 3, 8, generator=random)
    best = (said * v).sum(-1, keepdim=True) / said.square().sum(-1, keepdim=True)
    left = trials.at_best_length(said, v)
    assert trials.miss(best * said, v) == pytest.approx(left, rel=1e-5)
    assert left < min(trials.miss(factor * best * said, v) for factor in (0.9, 1.1))


@torch.no_grad()
def test_the_first_h_changes_the_second_tellings_keys_and_not_the_memory():
    model, _, _ = load_checkpoint(mac_player.CHECKPOINT)
    tokens, _, _ = mac_player.facts_and_noise(rows=8)
    state = model(tokens[:, :48]).state
    changed = trials.with_first_h(state, model)
    assert changed.layers[0].memory is state.layers[0].memory
    assert torch.equal(changed.layers[0].segment_weights[0], model.initial_state(8).layers[0].memory.weights[0])
    keys = [trials.written(model, tokens[:, 48:64], each).k for each in (state, changed)]
    assert trials.alike(*keys) < 0.9


@torch.no_grad()
def test_a_memory_that_is_closed_keeps_its_needle_and_a_new_needle_replaces_the_old():
    model, _, _ = load_checkpoint("needle/mac-that-forgets-in-noise")
    assert trials.found_if_closed(model, Needle("noise"), 2048, rows=8) == 1
    old, new = trials.two_needles(model, Needle("noise"), 64, rows=16)
    assert old < 0.2 < 0.5 < new


@torch.no_grad()
def test_this_model_hardly_forgets_and_has_most_momentum_where_facts_are_told():
    model, _, _ = load_checkpoint(mac_player.CHECKPOINT)
    tokens, _, _ = mac_player.facts_and_noise()
    with observed(watching.memory_of(model)) as calls:
        model(tokens)
    alphas, etas = (
        torch.cat([gate(call.tokens.gates)[0, 0, :, 0] for call in calls])
        for gate in (attrgetter("alpha"), attrgetter("eta"))
    )
    assert alphas.max() < 0.01
    assert etas[:12].mean() > 0.8 > 0.7 > etas[16:48].mean()


@torch.no_grad()
def test_a_scaled_state_has_scaled_weights_and_the_rest_as_it_was():
    model, _, _ = load_checkpoint(mac_player.CHECKPOINT)
    state = model(mac_player.facts_and_noise()[0][:, :20]).state
    changed = trials.scaled(state, 3.0)
    (old,), (new,) = state.layers, changed.layers
    torch.testing.assert_close(new.memory.weights[0], 3 * old.memory.weights[0])
    torch.testing.assert_close(new.segment_weights[0], 3 * old.segment_weights[0])
    assert replace(new, memory=old.memory, segment_weights=old.segment_weights) == old
    model(mac_player.facts_and_noise()[0][:, 20:], changed)  # the model takes it


def test_the_tables_of_needles_hold_every_figure():
    assert all(len(shares) == 4 for kinds in trials.PAPER_NEEDLE.values() for shares in kinds)
    assert "99.2/98.8/99/98.4" in trials.paper_needle()
    card = trials.needle_card()
    table = trials.needle_table(card)
    assert len(table.splitlines()) == 1 + len(card["runs"])
    assert max(map(len, (*table.splitlines(), *trials.paper_needle().splitlines()))) <= 79


def test_the_tables_of_needles_speak_japanese_in_columns_of_the_same_width():
    english = [trials.needle_table(trials.needle_card()), trials.paper_needle()]
    speak("ja")
    japanese = [trials.needle_table(trials.needle_card()), trials.paper_needle()]
    for one, other in zip(english, japanese, strict=True):
        assert [*map(len, one.splitlines())] == [*map(columns, other.splitlines())]
    assert not any(is_english(line) for line in japanese[0].splitlines())


# Wrong answers, written as a reader might write them: (the mistake that the check has to name, the answer).


def from_scratch(call, pieces):
    return torch.cat([call(piece, None)[0] for piece in pieces], dim=1)


def first_state(call, pieces):
    y, state = call(pieces[0], None)
    return torch.cat([y, *(call(piece, state)[0] for piece in pieces[1:])], dim=1)


def last_piece(call, pieces):
    state = None
    for piece in pieces:
        y, state = call(piece, state)
    return y


def backwards(call, pieces):
    return call(torch.cat(list(reversed(pieces)), dim=1), None)[0]


def layer_weights(d, depth, expansion):
    return d * d if depth == 1 else 2 * expansion * d * d + (depth - 2) * (expansion * d) ** 2


WRONG = {
    "STREAM": [
        ("starts anew", from_scratch),
        ("old state", first_state),
        ("last piece only", last_piece),
        ("order", backwards),
        ("type", lambda call, pieces: call(torch.cat(pieces, dim=1), None)),
        ("error", lambda call, pieces: call(pieces)),
    ],
    "STATE_NUMBERS": [
        ("weights alone", lambda b, h, d, depth, e: b * h * layer_weights(d // h, depth, e)),
        ("no chunk start", lambda b, h, d, depth, e: 2 * b * h * layer_weights(d // h, depth, e)),
        ("heads share features", lambda b, h, d, depth, e: 3 * b * h * layer_weights(d, depth, e)),
        ("one memory for all rows", lambda b, h, d, depth, e: 3 * h * layer_weights(d // h, depth, e)),
        ("square layers", lambda b, h, d, depth, e: 3 * b * h * depth * (d // h) ** 2),
    ],
    "SLOPE": [
        ("cut", lambda theta, alpha, tokens: 2 * theta if tokens == 1 else 0.0),
        ("one too many", lambda theta, alpha, tokens: 2 * theta * (1 - alpha - 2 * theta) ** tokens),
        ("no forgetting", lambda theta, alpha, tokens: 2 * theta * (1 - 2 * theta) ** (tokens - 1)),
        ("forgetting alone", lambda theta, alpha, tokens: 2 * theta * (1 - alpha) ** (tokens - 1)),
        ("factor 2", lambda theta, alpha, tokens: theta * (1 - alpha - theta) ** (tokens - 1)),
    ],
}


@pytest.mark.parametrize(("name", "mistake", "answer"), [(n, *case) for n, cases in WRONG.items() for case in cases])
def test_a_wrong_answer_is_told_its_mistake(name, mistake, answer):
    verdict = getattr(exercises_09, name).check(answer)
    assert verdict.outcome == mistake
    assert re.search("[ぁ-ん]", verdict.japanese)


@pytest.mark.parametrize("name", WRONG)
def test_messages_of_an_exercise_differ(name):
    verdicts = [getattr(exercises_09, name).check(answer) for _, answer in WRONG[name]]
    assert len({v.english for v in verdicts}) == len({v.japanese for v in verdicts}) == len(verdicts)


@pytest.mark.parametrize("gradients", [True, False])  # the lesson switches them off
@pytest.mark.parametrize(("name", "stub", "solution"), list(exercise_cells("09")))
def test_a_stub_is_not_attempted_and_the_solution_passes(name, stub, solution, gradients):
    exercise = getattr(exercises_09, name)
    torch.set_grad_enabled(gradients)
    assert exercise.check(run(stub, exercises_09)).outcome == "todo"
    outcome = exercise.check(run(solution, exercises_09)).outcome
    torch.set_grad_enabled(True)
    assert outcome == "passed"


def test_every_exercise_stands_in_the_lesson_and_has_three_wrong_answers():
    known = {name for name, value in vars(exercises_09).items() if isinstance(value, exercise.Exercise)}
    assert {param.values[0] for param in exercise_cells("09")} == known == set(WRONG)
    assert all(len(cases) >= 3 for cases in WRONG.values())
