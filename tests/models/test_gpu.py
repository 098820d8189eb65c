"""On a GPU, where there is one (`pytest -m gpu`): the numbers are those of the CPU, in autocast too."""

from __future__ import annotations

import pytest
import torch

from tests.proofs.model_proofs import make_model, random_tokens, run_in_pieces, tensors_of
from tests.proofs.proofs import assert_same
from titans import NeuralMemory, TitansConfig, TitansLM
from titans.config import VARIANTS

pytestmark = pytest.mark.gpu
each_variant = pytest.mark.parametrize("variant", VARIANTS)


@each_variant
def test_logits_states_and_gradients_are_the_cpus(variant):
    here, there = make_model(variant), make_model(variant).cuda()
    tokens, found = random_tokens(here, 2, 9), []
    for model, device in ((here, "cpu"), (there, "cuda")):
        output = model(tokens.to(device), labels=tokens.to(device))
        output.loss.backward()
        gradients = {f"gradient of {name}": w.grad.cpu() for name, w in model.named_parameters() if w.numel()}
        states = {name: tensor.cpu() for name, tensor in tensors_of(output.state).items()}
        found.append({"logits": output.logits.cpu()} | states | gradients)
    assert_same(found[1], found[0], 1e-9)


@each_variant
def test_any_split_and_generation_on_the_gpu(variant):
    model = make_model(variant).cuda()
    tokens = random_tokens(model, 2, 9).cuda()
    with torch.no_grad():
        logits, _ = run_in_pieces(model, tokens, [1, 4])
        assert_same({"logits": logits.cpu()}, {"logits": model(tokens).logits.cpu()})
    assert model.generate(tokens, 4, temperature=0.8, top_k=3, seed=0)[0].shape == (2, 13)


@each_variant
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_trains_in_autocast_on_the_gpu(variant, dtype):
    torch.manual_seed(0)
    model = TitansLM(TitansConfig(variant, vocab_size=50, dim=16, layers=2)).cuda()
    tokens = torch.randint(50, (2, 40)).cuda()
    with torch.autocast("cuda", dtype):
        output = model(tokens, labels=tokens)
        output.loss.backward()
    assert all(weight.grad.isfinite().all() for weight in model.parameters() if weight.grad is not None)
    assert {tensor.dtype for tensor in tensors_of(output.state).values()} == {torch.float32}


def test_a_state_moves_to_the_cpu_and_back(tmp_path):
    layer = NeuralMemory(8).cuda()
    x = torch.randn(2, 9, 8, device="cuda")
    want, _ = layer(x)
    _, state = layer(x[:, :5])
    state.to("cpu").save(tmp_path / "state")
    rest, _ = layer(x[:, 5:], type(state).load(tmp_path / "state", "cuda"))
    torch.testing.assert_close(rest, want[:, 5:], rtol=1e-4, atol=1e-5)
