"""Lesson 05: what it says of chunks, their gradients and their limits is so."""

import pytest
import torch

from tests.lessons.labs import check_words
from titans.lesson.kit.host import speak
from titans.lesson.lesson_05 import lab, pictures, trials


@pytest.mark.parametrize("seed", range(5))
def test_the_surprise_of_chunks_of_16_is_smaller_by_its_yardstick_alone(seed):
    one, sixteen = (trials.read_passage(size, seed=seed) for size in (1, 16))
    assert (sixteen.stale < one.stale).all()
    assert sixteen.left[-1] > one.left[-1]
    assert (one.blocks - sixteen.stale).abs().max() < 0.04


def test_the_library_is_as_surprised_as_the_trial():
    """The trial writes the update out; the memory of the library must measure the same."""
    from titans.chunked import chunked_scan
    from titans.lesson.kit.draws import random_pairs
    from titans.memory import DeepMemory
    from titans.scan import Gates

    k, v = (part.double()[None, None] for part in random_pairs(32, 32))
    memory = DeepMemory(32, depth=1).double()
    gates = Gates(*(torch.full((1, 1, 32), gate, dtype=torch.float64) for gate in (0.25, 0.0, 0.0)))
    _, state = chunked_scan(memory, memory.initial_state(1), k, k, v, gates, 16)
    left = (2 * (k[0, 0] @ state.weights[0][0, 0].mT - v[0, 0])).norm(dim=1).mean()
    assert left.item() == pytest.approx(float(trials.read_passage(16, readings=1).left[0]), rel=1e-9)


@pytest.mark.parametrize("count", [1, 5, 16, 40])
@pytest.mark.parametrize("dim", [4, 16])
def test_a_chunk_explodes_beyond_the_step_that_its_keys_give(count, dim):
    k = trials.random_keys(count, dim)
    limit = 1 / float(torch.linalg.eigvalsh(k.mT @ k)[-1])
    assert trials.grown(k, 0.97 * limit, 1000) < 1
    assert trials.grown(k, 1.03 * limit, 1000) > 1e3


def test_a_bound_on_surprise_keeps_it_finite_and_does_not_cure_it():
    k = trials.random_keys(64, 16)
    limit = 1 / float(torch.linalg.eigvalsh(k.mT @ k)[-1])
    assert 1 < trials.grown(k, 1.2 * limit, 1000, bound=40.0) < 100
    assert trials.grown(k, 1.2 * limit, 1000) > 1e100
    assert trials.grown(k, 0.9 * limit, 200, bound=40.0) < 1e-6


def test_what_a_memory_holds_most_of_moves_back_with_momentum():
    def most(eta: float, alpha: float) -> int:
        return int(lab.mask(1.0, eta, alpha)[12].argmax())

    assert (most(0.5, 0.1), most(0.0, 0.1)) == (10, 12)
    shares = lab.mask(1.0, 0.9, 0.1)[12]
    assert shares[3].item() == pytest.approx(shares[4].item(), rel=1e-12)
    assert shares.max().item() == pytest.approx(shares[3].item())
    assert torch.allclose(
        lab.mask(1.0, 0.5, 1.0)[12], 0.5 ** (12 - torch.arange(16).double()) * (torch.arange(16) < 13)
    )


def test_gradients_of_a_chunk_stand_in_one_row_of_g():
    assert lab.same_chunk(4)[12].tolist() == [i == 12 for i in range(16)]
    assert lab.same_chunk(16)[12].tolist() == [i <= 12 for i in range(16)]


def test_large_chunks_break_down_first():
    """At 0.35 a chunk of 64, at 0.4 one of 32; chunks up to 8 hardly change."""
    small, large = trials.passage_left(8, 0.35), trials.passage_left(64, 0.35)
    assert large > 1.5 * small
    assert trials.passage_left(32, 0.4) > 2 * trials.passage_left(8, 0.4)
    assert trials.passage_left(8, 0.4) < 1.05 * trials.passage_left(1, 0.4)
    assert 1.005 < trials.passage_left(32, 0.25) / trials.passage_left(1, 0.25) < 1.035


@pytest.mark.parametrize(("chunk_size", "theta"), [(1, 0.25), (8, 0.4), (32, 0.4), (64, 0.35)])
def test_draws_read_side_by_side_leave_what_they_leave_one_by_one(chunk_size, theta):
    one_by_one = [float(trials.read_passage(chunk_size, theta, 3, seed=seed).left[-1]) for seed in range(5)]
    assert trials.passage_left(chunk_size, theta) == pytest.approx(sum(one_by_one) / 5, rel=1e-5)


def test_chunks_of_1_bring_back_what_is_lost_nearby_and_not_what_is_lost_far_off():
    """Stale gradients are the first loss of the model of 64; at 1,024 tokens it is lost where nothing is stale."""
    shares = trials.crossed_chunks(rows=16)
    near = slice(1, 3)
    assert trials.DISTANCES[near] == (116, 180)
    assert min(shares[64, 1][near]) > 0.85 > 0.6 > max(shares[64, 64][near])
    assert max(shares[64, read][-1] for read in (1, 16, 64)) < 0.4
    assert shares[16, 64][-1] > 0.8


def test_far_off_it_is_how_much_noise_writes_and_not_how_long():
    """Little writing with long momentum recalls all; short momentum that writes as much nothing, in chunks of 1 too."""

    def shorter_as_much(gates):
        eta = gates.eta.clamp(max=0.9)
        return gates._replace(eta=eta, theta=gates.theta * (1 - eta) / (1 - gates.eta))

    def little(gates):
        return gates._replace(theta=gates.theta.minimum(0.1 * (1 - gates.eta)))

    for read in (1, 64):
        right = [trials.after_noise(edit, read, rows=8) for edit in (trials.as_trained, shorter_as_much, little)]
        assert max(right[:2]) < 0.45
        assert right[2] > 0.9
    assert trials.after_noise(lambda gates: gates._replace(alpha=0 * gates.alpha), rows=8) < 0.45
    assert trials.written_in_all(64) > 20 * trials.written_in_all(16)


def test_the_card_says_what_the_lesson_says():
    right = {name: run["right"] for name, run in trials.chunks_card()["runs"].items()}
    assert min(right[f"chunk {size}"]["56"]["worst"] for size in (1, 16, 64)) > 0.98
    assert min(right[f"chunk {size}"]["4096"]["worst"] for size in (1, 16)) > 0.98
    assert max(right["chunk 64"]["1024"]["each"]) < 0.5
    assert right["chunk 64, trained longer"]["1024"]["worst"] > 0.9
    assert right["chunk 64, trained longer"]["4096"]["median"] < 0.8
    assert right["chunk 16, trained longer"]["4096"]["worst"] > 0.95


def test_masks_and_tables_speak_both_languages():
    check_words(lambda: pictures.masks({"D": lab.mask(1.0, 0.0, 0.1), "D H": lab.mask(1.0, 0.5, 0.1)}))
    card, tables = trials.chunks_card(), []
    for language in ("en", "ja"):
        speak(language)
        tables.append(trials.chunks_table(card).splitlines())
    english, japanese = ([row.split() for row in table] for table in tables)
    assert [row[1:] for row in english] == [row[1:] for row in japanese]
    assert [row[0] for row in japanese[1:]] == ["チャンク"] * 3
