"""Tools that bring parameters only when their module is called: offload, several devices, sharding, quantisation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from accelerate import cpu_offload, disk_offload
from torch import nn

from tests.proofs.model_proofs import make_model, random_tokens, run_in_pieces, tensors_of
from tests.proofs.proofs import assert_same
from titans import NeuralMemory, TitansConfig, TitansLM
from titans.config import VARIANTS

each_variant = pytest.mark.parametrize("variant", VARIANTS)
MEMORY_TOKENS = {"mac": {"memory_tokens": 2}}


def offloaded(model: TitansLM, where: str, folder: Path) -> TitansLM:
    """The model with all parameters elsewhere, each brought when its module is called."""
    if where == "cpu":
        cpu_offload(model, execution_device="cpu")
    else:
        disk_offload(model, folder, execution_device="cpu")
    assert all(weight.is_meta for weight in model.parameters())
    return model


@each_variant
@pytest.mark.parametrize("where", ["cpu", "disk"])
def test_an_offloaded_model_reads_streams_and_generates_as_ever(variant, where, tmp_path):
    options = MEMORY_TOKENS.get(variant, {})
    model, twin = make_model(variant, **options), make_model(variant, **options)
    tokens = random_tokens(model, 2, 9)
    offloaded(model, where, tmp_path)
    with torch.no_grad():
        want, got = twin(tokens, labels=tokens), model(tokens, labels=tokens)
        assert_same({"logits": got.logits, "loss": got.loss}, {"logits": want.logits, "loss": want.loss}, 1e-12)
        logits, state = run_in_pieces(model, tokens, [1, 4])
    assert_same({"logits": logits}, {"logits": want.logits})
    assert_same(tensors_of(state), tensors_of(want.state))
    assert torch.equal(model.generate(tokens, 4)[0], twin.generate(tokens, 4)[0])


def test_a_state_cannot_be_begun_where_parameters_are_elsewhere_and_the_error_says_what_to_do():
    for module in (NeuralMemory(8), make_model("mac"), make_model("lmm")):
        cpu_offload(module, execution_device="cpu")
        with pytest.raises(RuntimeError, match="parameters, which are elsewhere or quantised: call without a state"):
            module.initial_state(2)


def test_a_layer_alone_can_be_offloaded():
    torch.manual_seed(0)
    layer = NeuralMemory(8, heads=2)
    x = torch.randn(2, 7, 8)
    want, _ = layer(x)
    cpu_offload(layer, execution_device="cpu")
    with torch.no_grad():
        first, state = layer(x[:, :3])
        rest, _ = layer(x[:, 3:], state)
    torch.testing.assert_close(torch.cat((first, rest), dim=1), want)


@each_variant
def test_each_layer_begins_its_state_on_its_own_device(variant):
    """The second layer on another device, here one without data: x moves to it, and so does the state that it makes."""
    model = TitansLM(TitansConfig(variant, vocab_size=7, dim=8, layers=2, **MEMORY_TOKENS.get(variant, {})))
    second = model.blocks[1]
    second.to("meta")
    second.register_forward_pre_hook(lambda module, args: (args[0].to("meta"), *args[1:]))
    model.norm.to("meta")
    model.head.to("meta")
    state = None
    for _ in range(2):
        logits, _, state = model(torch.randint(7, (2, 5)), state)
    assert logits.is_meta
    devices = [{tensor.device.type for tensor in layer.tensors().values()} for layer in state.layers]
    assert devices == [{"cpu"}, {"meta"}]


@pytest.mark.filterwarnings("ignore")  # torch's own is deprecated, and says so
@each_variant
def test_dynamic_quantisation_works_as_for_any_model(variant):
    """Linear layers become int8; the answers stay near."""
    torch.manual_seed(0)
    model = TitansLM(TitansConfig(variant, vocab_size=50, dim=16, layers=2)).eval()
    tokens = torch.randint(50, (2, 12))
    with torch.no_grad():
        want = model(tokens).logits
        small = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
        assert any(
            not isinstance(module, nn.Linear) and "Linear" in type(module).__name__ for module in small.modules()
        )
        got, _ = run_in_pieces(small, tokens, [5])
        assert small.generate(tokens, 3)[0].shape == (2, 15)
    assert (got - want).abs().max() < 0.2 * want.abs().max()


def test_fully_shard_on_each_block_trains_as_one():
    """Two processes under gloo, every block sharded and then the whole: losses and weights are those of one process."""
    program = Path(__file__).with_name("sharded.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(program)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("trained as one") == 2
