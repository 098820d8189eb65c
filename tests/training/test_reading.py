"""Training on stretches with the state carried: every row reads its own in order, begins anew where it begins, and an
interrupted training goes on to the same result."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from titans import TitansConfig, training
from titans.model import TitansLM
from titans.tasks import Recall
from titans.training import Reading, Trained, train

TASK = Recall(pairs=2, keys=4, values=4, noise=4)
CONFIG = TitansConfig(vocab_size=12, dim=8, layers=2, heads=1, segment_len=4, chunk_size=8, memory_depth=1)
READING = Reading(CONFIG, TASK, between=(8, 8), steps=12, rows=3, warm_up=2, pieces=(1, 3))


class Counting(Recall):
    """Tokens that tell where in their stretch they stand, modulo 12."""

    def sample(self, rows, between, random):
        tokens = torch.arange(between).remainder(12).expand(rows, -1)
        return super().sample(rows, between, random)._replace(tokens=tokens, labels=tokens)


def test_rows_read_their_stretches_piece_by_piece():
    """A piece of 8 begins with token 0, 8 or 16 - 12: the first, second or third of its stretch."""
    run = replace(READING, task=Counting(2, 4, 4, 4))
    places = [(run.batch(0, step).tokens[:, 0] // 4).tolist() for step in range(60)]
    for row in zip(*places, strict=True):
        for one, after in pairwise(row):
            assert after in ((0, 2) if one == 0 else (1,) if one == 2 else (0,))
    assert any(len(set(step)) > 1 for step in places)  # rows are not all at one place


def test_each_number_of_pieces_gets_as_many_steps():
    run = replace(READING, pieces=(1, 2, 4, 8), steps=1)
    steps = Counter(run._stretch(0, row, step)[1] for row in range(8) for step in range(500))
    assert max(steps.values()) < 1.6 * min(steps.values())


@pytest.mark.parametrize("options", [{}, {"sliding": True}, {"variant": "mag"}, {"variant": "lmm"}], ids=str)
def test_a_row_that_begins_anew_knows_nothing_and_the_others_go_on(options):
    model = TitansLM(replace(CONFIG, **options))
    tokens = torch.randint(12, (3, 16), generator=torch.Generator().manual_seed(0))
    trained = Trained(model, state=model(tokens[:, :8]).state)
    step = next(step for step in range(1, 60) if 0 < len(set(begins(step))) == 2)
    trained.steps = step
    found = model(tokens[:, 8:], READING.state(trained, 0)).logits
    carried, fresh = model(tokens[:, 8:], trained.state).logits, model(tokens[:, 8:]).logits
    for row, new in enumerate(begins(step)):
        torch.testing.assert_close(found[row], (fresh if new else carried)[row])
        assert not torch.allclose(found[row], (carried if new else fresh)[row])


def begins(step: int) -> list[bool]:
    return [READING._stretch(0, row, step)[0] == step for row in range(3)]


def test_what_was_carried_has_no_gradient_to_the_piece_before():
    model = TitansLM(CONFIG)
    trained = Trained(model, state=model(torch.zeros(3, 8, dtype=torch.long)).state, steps=1)
    state = READING.state(trained, 0)
    reached = [tensor.requires_grad for tensor in state.tensors().values()]
    assert any(reached)  # to M_0, of rows that begin
    fresh = torch.tensor(begins(1))
    loss = sum(tensor[~fresh].sum() for tensor in state.tensors().values() if tensor.requires_grad)
    loss.backward()
    assert all(p.grad is None or not p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("at", [1, 4, 7])
def test_interrupted_it_goes_on_to_the_same_result(tmp_path, monkeypatch, at):
    whole, step, path = train(READING, progress=False), training._step, tmp_path / "unfinished"

    def pressed(run, seed, trained, optimizer):
        if trained.steps == at:
            raise KeyboardInterrupt
        step(run, seed, trained, optimizer)

    monkeypatch.setattr(training, "_step", pressed)
    with pytest.raises(KeyboardInterrupt):
        train(READING, path=path, progress=False)
    monkeypatch.undo()
    resumed = train(READING, path=path, progress=False)
    assert resumed.history == whole.history
    pairs = zip(resumed.model.parameters(), whole.model.parameters(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("changes", [{"between": (8, 16)}, {"between": (4, 4)}, {"between": (12, 12)}])
def test_pieces_are_whole_segments_and_chunks(changes):
    with pytest.raises(ValueError, match="between must be one number, twice, and a multiple of 8"):
        replace(READING, **changes)


def test_pieces_must_be_numbers():
    with pytest.raises(ValueError, match="pieces must be at least one number"):
        replace(READING, pieces=())
    with pytest.raises(ValueError, match="pieces"):
        replace(READING, pieces=(0,))
