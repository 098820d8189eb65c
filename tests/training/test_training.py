"""Training is repeatable, can be interrupted anywhere, and learns; checkpoints are whole or refused."""

import json
import os
import signal
import sys
import threading
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
import tqdm.notebook
from safetensors.torch import save_file

from titans import TitansConfig, TitansLM, training
from titans.checkpoints import load_checkpoint, save_checkpoint
from titans.config import VARIANTS
from titans.tasks import Recall
from titans.training import WEIGHT_DECAY, Run, parameter_groups, share_right, train

TASK = Recall(pairs=2, keys=4, values=4, noise=4)
CONFIG = TitansConfig(vocab_size=12, dim=8, layers=1, heads=1, segment_len=4, chunk_size=4, memory_depth=1)
RUN = Run(CONFIG, TASK, between=(4, 8), steps=12, rows=4, warm_up=2)


def same(one: TitansLM, other: TitansLM) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True))


def test_the_same_run_and_seed_give_the_same_model_bit_for_bit():
    one, again, other = (train(RUN, seed, progress=False) for seed in (0, 0, 1))
    assert same(one.model, again.model)
    assert one.history == again.history
    assert not same(one.model, other.model)


@pytest.mark.skipif(sys.platform == "win32", reason="a signal ends a process there")
@pytest.mark.parametrize("at", [1, 5, 11])
def test_interrupted_by_hand_it_goes_on_to_the_same_result(tmp_path, monkeypatch, at):
    whole = train(RUN, progress=False)
    step, path = training._step, tmp_path / "unfinished"

    def pressed(run, seed, trained, optimizer):
        if trained.steps == at - 1:
            os.kill(os.getpid(), signal.SIGINT)  # in the middle of a step: it is finished first
        step(run, seed, trained, optimizer)

    monkeypatch.setattr(training, "_step", pressed)
    with pytest.raises(KeyboardInterrupt):
        train(RUN, path=path, progress=False)
    monkeypatch.undo()
    assert load_checkpoint(path)[1]["steps"] == at
    resumed = train(RUN, path=path, progress=False)
    assert same(resumed.model, whole.model)
    assert resumed.history == whole.history
    assert not path.exists()


def test_killed_it_goes_on_from_the_last_hundred_steps(tmp_path, monkeypatch):
    run, path = replace(RUN, steps=103), tmp_path / "unfinished"
    whole, step = train(run, progress=False), training._step

    def killed(run, seed, trained, optimizer):
        if trained.steps == 102:
            raise MemoryError
        step(run, seed, trained, optimizer)

    monkeypatch.setattr(training, "_step", killed)
    with pytest.raises(MemoryError):
        train(run, path=path, progress=False)
    monkeypatch.undo()
    assert load_checkpoint(path)[1]["steps"] == 100
    assert same(train(run, path=path, progress=False).model, whole.model)


@pytest.mark.parametrize("variant", VARIANTS)
def test_weight_decay_reaches_no_scale_of_a_norm_and_no_bias(variant):
    """In training, where gradients are zero, those stay and all else shrinks."""
    torch.manual_seed(0)
    model = TitansLM(replace(CONFIG, variant=variant))
    for parameter in model.parameters():
        torch.nn.init.constant_(parameter, 1.0)
        parameter.grad = torch.zeros_like(parameter)
    torch.optim.AdamW(parameter_groups(model), lr=1.0).step()
    for name, parameter in model.named_parameters():
        spared = name.endswith("bias") or "norm" in name
        assert torch.all(parameter == (1.0 if spared else 1 - WEIGHT_DECAY)), name
    assert sum(len(group["params"]) for group in parameter_groups(model)) == len(list(model.parameters()))


def test_training_uses_these_groups(monkeypatch):
    used = []
    monkeypatch.setattr(training, "_step", lambda run, seed, trained, optimizer: used.append(optimizer) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train(RUN, progress=False)
    assert [group["weight_decay"] for group in used[0].param_groups] == [WEIGHT_DECAY, 0]


def test_an_unfinished_training_keeps_what_belongs_to_each_parameter_in_the_models_order(tmp_path):
    """Whatever groups an optimizer has: so files from before there were two go on."""
    one, other = (training.Trained(TitansLM(CONFIG)) for _ in range(2))
    whole = torch.optim.AdamW(one.model.parameters())
    for place, parameter in enumerate(one.model.parameters()):
        parameter.grad = torch.full_like(parameter, float(place))
    whole.step()
    training._keep(tmp_path / "unfinished", RUN, 0, one, whole)
    halves = torch.optim.AdamW(parameter_groups(other.model))
    training._resume(tmp_path / "unfinished", RUN, 0, other, halves)
    for mine, theirs in zip(other.model.parameters(), one.model.parameters(), strict=True):
        for name, value in whole.state[theirs].items():
            assert torch.equal(halves.state[mine][name], value)


def test_training_in_a_thread_works_too():
    found = []
    thread = threading.Thread(target=lambda: found.append(train(RUN, progress=False)))
    thread.start()
    thread.join()
    assert same(found[0].model, train(RUN, progress=False).model)


def test_the_unfinished_training_of_another_run_or_seed_is_refused_and_kept(tmp_path):
    path = tmp_path / "unfinished"
    optimizer = torch.optim.AdamW((model := TitansLM(CONFIG)).parameters())
    training._keep(path, RUN, 0, training.Trained(model), optimizer)
    before = path.read_bytes()
    for run, seed in ((RUN, 1), (replace(RUN, rows=5), 0)):
        with pytest.raises(ValueError, match="path must hold this training"):
            train(run, seed, path=path, progress=False)
    assert path.read_bytes() == before


def test_training_lowers_the_loss_and_ends_when_the_goal_is_reached():
    run = replace(RUN, steps=200, rows=16, learning_rate=1e-2, goal=0.3, check_every=10)
    trained = train(run, progress=False)
    losses = [loss for _, loss, _ in trained.history]
    assert sum(losses[-5:]) < sum(losses[:5])
    assert trained.steps < 200
    assert trained.steps % 10 == 0
    shares = [share for _, _, share in trained.history if share is not None]
    assert len(shares) == trained.steps // 10
    assert max(shares[:-1], default=0) < 0.3 <= shares[-1]


@pytest.mark.parametrize("kind", [tqdm.std.tqdm, tqdm.notebook.tqdm])
def test_a_goal_that_is_reached_leaves_a_full_bar(kind, monkeypatch):
    bars = []
    monkeypatch.setattr(training, "tqdm", lambda **options: bars.append(kind(**options)) or bars[0])
    trained = train(replace(RUN, steps=200, check_every=10, goal=0.01))
    assert bars[0].n == bars[0].total == trained.steps == 10
    if kind is tqdm.notebook.tqdm:
        shown = bars[0].container.children[1]
        assert (shown.value, shown.max, shown.bar_style) == (10, 10, "success")


def test_the_rate_warms_up_and_falls_to_a_tenth():
    run = replace(RUN, steps=100, warm_up=10, learning_rate=1.0)
    rates = [run.rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(1 / 11, rel=1e-3)
    assert max(rates) == pytest.approx(1, rel=0.05)
    assert rates[-1] == pytest.approx(0.1, rel=0.01)
    assert all(late < early for early, late in pairwise(rates[11:]))


def test_share_right_counts_what_an_oracle_and_a_guesser_get_right():
    class Oracle(TitansLM):
        def forward(self, tokens, state=None, labels=None):
            output = super().forward(tokens, state, labels)
            right = torch.nn.functional.one_hot(tokens.roll(-1, 1), self.config.vocab_size).float()
            return output._replace(logits=right if self.knows else -right)

    oracle = Oracle(CONFIG)
    for oracle.knows, share in ((True, 1.0), (False, 0.0)):
        assert share_right(oracle, TASK, 10, rows=8) == share


def test_share_right_does_not_depend_on_how_the_stream_is_cut():
    class Steady(Recall):
        def pass_time(self, rows, tokens, random):
            return torch.full((rows, tokens), 9)

    model, task = train(replace(RUN, steps=60, rows=16, learning_rate=1e-2), progress=False).model, Steady(2, 4, 4, 4)
    shares = {share_right(model, task, 20, rows=32, piece=piece) for piece in (1, 7, 20, 64)}
    assert len(shares) == 1
    assert 0 < shares.pop() < 1


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"steps": 0}, ValueError, "steps must be at least 1, got 0"),
        ({"rows": 1.5}, TypeError, "rows must be an integer"),
        ({"learning_rate": 0}, ValueError, "learning_rate must be finite and greater than 0"),
        ({"clip": -1}, ValueError, "clip must be finite and greater than 0"),
        ({"goal": 1.5}, ValueError, r"goal must be in \(0, 1\], got 1.5"),
        ({"between": (9, 8)}, ValueError, r"between must be two numbers, 0 <= from <= to, got \(9, 8\)"),
        ({"task": Recall()}, ValueError, "config.vocab_size must be at least the task's 96, got 12"),
    ],
)
def test_a_run_refuses_what_cannot_be_trained(changes, error, message):
    with pytest.raises(error, match=message):
        replace(RUN, **changes)


# ---- Checkpoints -----------------------------------------------------------------------------------------------------


def test_a_checkpoint_gives_back_model_facts_and_tensors(tmp_path):
    model, more = TitansLM(CONFIG), {"x": torch.arange(3)}
    save_checkpoint(tmp_path / "new" / "model", model, {"steps": 3}, more)
    loaded, facts, tensors = load_checkpoint(tmp_path / "new" / "model")
    assert same(loaded, model)
    assert loaded.config == CONFIG
    assert facts == {"steps": 3}
    assert torch.equal(tensors["x"], more["x"])
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["model"]


def test_a_rounded_checkpoint_is_half_as_large_and_read_in_float32(tmp_path):
    model = TitansLM(CONFIG)
    for name, dtype in (("whole", None), ("half", torch.float16)):
        save_checkpoint(tmp_path / name, model, {}, dtype=dtype)
    loaded, _, _ = load_checkpoint(tmp_path / "half")
    for name, tensor in loaded.state_dict().items():
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, model.state_dict()[name].half().float())
    assert (tmp_path / "half").stat().st_size < (tmp_path / "whole").stat().st_size


def test_a_broken_write_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path, model = tmp_path / "model", TitansLM(CONFIG)
    save_checkpoint(path, model, {"old": True})
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, TitansLM(CONFIG), {"old": False})
    assert load_checkpoint(path)[1] == {"old": True}
    assert list(tmp_path.iterdir()) == [path]


def test_load_checkpoint_refuses_what_is_missing_truncated_or_foreign(tmp_path):
    path = tmp_path / "model"
    with pytest.raises(FileNotFoundError, match=r"path must be a checkpoint file or one of .*recall-live/mac"):
        load_checkpoint(path)
    save_checkpoint(path, TitansLM(CONFIG), {})
    whole = path.read_bytes()
    for size in (len(whole) - 1, len(whole) // 2, 3, 0):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="path must be a whole safetensors file"):
            load_checkpoint(path)
    save_file({"x": torch.ones(1)}, path)
    with pytest.raises(ValueError, match="path must be a file that save_checkpoint wrote"):
        load_checkpoint(path)
    good = {"format": "titans-checkpoint-1", "config": json.dumps({"dim": 8, "heads": 1}), "facts": "{}"}
    for changes in ({}, {"config": '{"unheard": 1}'}, {"config": "{"}, {"facts": "{"}):
        save_file({"model.x": torch.ones(1)}, path, metadata=good | changes)
        with pytest.raises(ValueError, match="path must be a checkpoint of this version"):
            load_checkpoint(path)
