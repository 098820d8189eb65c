"""TitansMACForCausalLM in training: Trainer, several processes, checkpointing, mixed precision."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys

import pytest
import torch
from transformers import AutoModelForCausalLM

from tests.huggingface.models import make_model, no_warnings_of_transformers, random_ids
from tests.huggingface.training import PLAIN, make_start, make_trainer
from tests.paths import ROOT
from tests.proofs.proofs import assert_same
from titans import TitansLM
from titans.training import parameter_groups

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def logged():
    with no_warnings_of_transformers() as found:
        yield found


def losses_of(trainer) -> list[float]:
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


# ---- Trainer ---------------------------------------------------------------------------------------------------------


def test_trainer_learns_evaluates_saves_and_goes_on(tmp_path, capsys):
    """Stopped after half of its steps and resumed from its checkpoint, a training ends where an unbroken one ends."""
    whole = make_trainer(tmp_path, make_start(), max_steps=6)
    whole.train()
    assert losses_of(whole)[-1] < losses_of(whole)[0] - 0.3
    assert whole.evaluate()["eval_loss"] < losses_of(whole)[0]
    predicted = whole.predict(whole.eval_dataset)
    assert predicted.predictions.shape == (6, 12, 20)  # logits alone: a state is no prediction

    saving = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3}
    half = make_trainer(tmp_path / "run", make_start(), **saving)
    half.train()
    resumed = make_trainer(tmp_path / "run", make_start(), **saving)
    resumed.train(resume_from_checkpoint=str(tmp_path / "run" / "checkpoint-3"))
    assert_same(dict(resumed.model.state_dict()), dict(whole.model.state_dict()), 1e-5)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "checkpoint-6")
    assert_same(dict(loaded.state_dict()), dict(half.model.state_dict()), 0)
    capsys.readouterr()  # Trainer prints what it logs


def test_gradients_of_several_small_batches_are_those_of_a_large_one(tmp_path, capsys):
    """Labels are counted over all the calls of a step, of which some have more than others."""
    found = []
    for options in ({}, {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4}):
        trainer = make_trainer(tmp_path, make_start().double(), max_steps=2, **options, **PLAIN)
        trainer.train()
        found.append(dict(trainer.model.state_dict()))
    assert_same(*found, 1e-6)  # the loss is in single precision
    capsys.readouterr()


# Every kind of parameter, by the end of its name, and whether weight decay draws it to zero.
DECAYED = (
    *("embedding.weight", "head.weight", "ffn.W_1.weight", "attention.W_Q.weight", "memory.W_K.weight"),
    *("memory.to_gates.weight", "memory.conv.weight", "mixer.conv.weight", "memory.memory.weights.0"),
    *("memory.memory.weights.1", "mixer.persistent", "mixer.memory_queries"),
)
SPARED = (
    *("norm_mixer.weight", "norm_ffn.weight", "mixer.norm.weight", "norm_written.weight", "memory.norm.weight"),
    *("norm_attention.weight", "norm_memory.weight", "model.norm.weight", "to_gates.bias"),
)


@pytest.mark.parametrize(
    "options", [{}, {"tie_word_embeddings": True}, {"neural_mem_gate_attn_output": False}], ids=str
)
def test_weight_decay_reaches_no_scale_of_a_norm_and_no_bias(tmp_path, options):
    """Nor does that of titans.training, which groups parameters as Trainer does."""
    model = make_start(num_longterm_mem_tokens=2, **options)
    optimizer = make_trainer(tmp_path, model, weight_decay=0.1).create_optimizer()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed, spared = ([names[id(parameter)] for parameter in group["params"]] for group in optimizer.param_groups)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0]
    kinds = {"norm_attention.weight", "norm_memory.weight"} if "neural_mem_gate_attn_output" in options else set()
    kinds |= {"head.weight"} if "tie_word_embeddings" in options else set()
    for found, wanted in ((decayed, DECAYED), (spared, SPARED)):
        assert [kind for kind in wanted if kind not in kinds and not any(name.endswith(kind) for name in found)] == []
    assert [name for name in decayed if "norm" in name or "bias" in name] == []
    norms = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.RMSNorm)}
    assert {names[one] for one in norms} == {name for name in spared if not name.endswith("bias")}
    own = [[names[id(one)] for one in group["params"]] for group in parameter_groups(model, 0.1)]
    assert own == [decayed, spared]


def test_a_model_of_transformers_has_the_names_and_the_norms_of_a_plain_one():
    """Its norms are of another kind, and compute the same."""
    model = make_start()
    plain = TitansLM(model.config.to_titans())
    plain.load_state_dict(model.model.state_dict())
    assert list(model.model.state_dict()) == list(plain.state_dict())
    norms = [module for module in model.modules() if isinstance(module, torch.nn.RMSNorm)]
    assert len(norms) == sum(isinstance(module, torch.nn.RMSNorm) for module in plain.modules())
    for norm in (norms[0], copy.deepcopy(norms[0]), pickle.loads(pickle.dumps(norms[0]))):
        x = torch.randn(3, *norm.normalized_shape)
        want = torch.nn.functional.rms_norm(x, norm.normalized_shape, norm.weight, norm.eps)
        assert isinstance(norm, torch.nn.LayerNorm)
        assert torch.equal(norm(x), want)
        assert list(norm.state_dict()) == ["weight"]


def test_labels_that_trainer_smooths_are_those_of_the_next_token(tmp_path):
    model = make_start().eval()
    trainer = make_trainer(tmp_path, model, label_smoothing_factor=0.25)
    batch = trainer.data_collator(trainer.eval_dataset)
    chances = model(batch["input_ids"]).logits[:, :-1].log_softmax(-1)
    target = batch["labels"][:, 1:]
    counted = target != -100
    right = chances.gather(2, target.clamp(min=0)[..., None])[..., 0]
    want = -(0.75 * right + 0.25 * chances.mean(-1))[counted].mean()
    assert_same({"loss": trainer.compute_loss(model, batch)}, {"loss": want}, 1e-5)


@pytest.mark.parametrize("options", [{"bf16": True}, {"activation_checkpointing": True}], ids=str)
def test_trainer_learns_in_mixed_precision_and_with_checkpoints(tmp_path, options, capsys):
    plain, trainer = (make_trainer(tmp_path, make_start(), **more) for more in ({}, options))
    plain.train()
    trainer.train()
    assert_same({"losses": torch.tensor(losses_of(trainer))}, {"losses": torch.tensor(losses_of(plain))}, 0.02)
    assert all(weight.dtype == torch.float32 and weight.isfinite().all() for weight in trainer.model.parameters())
    capsys.readouterr()


def test_trainer_learns_a_model_of_bfloat16(tmp_path, capsys):
    trainer = make_trainer(tmp_path, make_start().to(torch.bfloat16), max_steps=6)
    trainer.train()
    assert losses_of(trainer)[-1] < losses_of(trainer)[0] - 0.2
    assert {weight.dtype for weight in trainer.model.parameters()} == {torch.bfloat16}
    capsys.readouterr()


def test_two_processes_under_torchrun_train_as_one(tmp_path, capsys):
    """gloo on the CPU: both end with one model, that of a single process with the same batches."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    done = subprocess.run(
        [*launch, "tests/huggingface/training.py", str(tmp_path)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr.lower()
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert one["world"] == 2
    assert_same(one["model"], other["model"], 0)
    single = make_trainer(tmp_path, make_start().double(), **PLAIN)
    single.train()
    assert_same(one["model"], dict(single.model.state_dict()), 1e-6)
    assert_same({"losses": torch.tensor(one["losses"])}, {"losses": torch.tensor(losses_of(single))}, 1e-5)
    capsys.readouterr()


# ---- Checkpointing ---------------------------------------------------------------------------------------------------


def gradients(model, ids, cuts=None, mask=None):
    """Of the sum of squared logits, over one call or, through the state, over several."""
    model.zero_grad()
    cache, logits = None, []
    for part in ids.split(cuts or ids.shape[1], dim=1):
        output = model(part, past_key_values=cache, attention_mask=mask)
        cache = output.past_key_values
        logits.append(output.logits)
    torch.cat(logits, dim=1).square().sum().backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters()}


@pytest.mark.parametrize("options", [None, {"use_reentrant": False}, {"use_reentrant": True}], ids=str)
@pytest.mark.parametrize("cuts", [None, [4, 9]], ids=["one call", "two calls"])
def test_checkpointing_changes_no_gradient(options, cuts):
    """Neither that of M_0, which reaches a block through its state, nor what flows through a carried state."""
    model, ids = make_model(dropout=0.2).double().train(), random_ids(2, 13)
    torch.manual_seed(7)
    want = gradients(model, ids, cuts)
    model.activation_checkpointing_enable(options)
    assert model.is_activation_checkpointing
    torch.manual_seed(7)
    assert_same(gradients(model, ids, cuts), want)
    model.activation_checkpointing_disable()
    assert not model.is_activation_checkpointing


def test_checkpointing_changes_no_gradient_of_padded_rows():
    model, ids = make_model().double().train(), random_ids(3, 9)
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1, 1], [1] * 9, [1, 1, 1, 1, 1, 1, 1, 0, 0]])
    want = gradients(model, ids, mask=mask)
    model.activation_checkpointing_enable()
    assert_same(gradients(model, ids, mask=mask), want)


@pytest.mark.parametrize(("every", "twice"), [(1, [0, 1, 2, 3]), (2, [0, 2]), (3, [0, 3])])
def test_checkpointed_layers_compute_again_in_the_backward_pass(every, twice):
    model, calls = make_model(depth=4).train(), [0] * 4
    for place, block in enumerate(model.model.blocks):
        block.ffn.register_forward_pre_hook(lambda *_, place=place: calls.__setitem__(place, calls[place] + 1))
    model.activation_checkpointing_enable(every_n_layers=every)
    model(random_ids(1, 9)).logits.sum().backward()
    assert calls == [2 if place in twice else 1 for place in range(4)]


def test_checkpointing_has_its_older_name_too():
    model = make_model()
    with pytest.warns(FutureWarning, match="activation_checkpointing_enable"):
        model.gradient_checkpointing_enable()
    assert model.is_activation_checkpointing
    assert all(block.gradient_checkpointing for block in model.model.blocks)


def test_checkpointing_keeps_less():
    """What autograd saves over a forward pass."""
    model, ids, kept = make_model(depth=4, d_model=32).train(), random_ids(2, 40), []
    for _ in range(2):
        sizes: dict[int, int] = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, sizes=sizes: sizes.setdefault(tensor.data_ptr(), tensor.numel()) and tensor, lambda x: x
        ):
            model(ids, use_cache=False)
        kept.append(sum(sizes.values()))
        model.activation_checkpointing_enable()
    assert kept[1] < kept[0] / 3
