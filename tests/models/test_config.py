"""The configuration: defaults that work, no field that nothing reads, and a signature that tells models apart."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, asdict, fields, replace

import pytest
import torch

from titans import TitansConfig, TitansLM
from titans.config import VARIANTS


@pytest.mark.parametrize("variant", VARIANTS)
def test_defaults_work(variant):
    torch.manual_seed(0)
    tokens = torch.randint(256, (2, 40))
    logits, loss, _ = TitansLM(TitansConfig(variant))(tokens, labels=tokens)
    assert logits.shape == (2, 40, 256)
    assert loss.isfinite()


def test_the_default_is_mac():
    assert TitansConfig() == TitansConfig(variant="mac")


# Each field with another value, and the variant that reads it.
CHANGES = {
    "variant": ("mac", "mal"),
    "vocab_size": ("mac", 257),
    "dim": ("mac", 32),
    "layers": ("mac", 1),
    "heads": ("mac", 4),
    "dim_head": ("mac", 8),
    "ffn_expansion": ("mac", 3.0),
    "segment_len": ("mac", 7),
    "window": ("mag", 7),
    "sliding": ("mac", True),
    "chunk_size": ("mac", 7),
    "memory_heads": ("mac", 2),
    "memory_depth": ("mac", 1),
    "memory_expansion": ("mac", 2),
    "memory_residual": ("mac", True),
    "memory_layers": ("mac", (2,)),
    "memory_gate": ("mac", False),
    "persistent_tokens": ("mac", 3),
    "memory_tokens": ("mac", 2),
    "conv_width": ("mac", 3),
    "max_step": ("mac", 0.1),
    "momentum": ("mac", False),
    "forgetting": ("mac", False),
    "forget_layers": ("mac", "all"),
    "dropout": ("mac", 0.5),
}


def outcome(config: TitansConfig) -> torch.Tensor:
    torch.manual_seed(0)
    model = TitansLM(config)
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
        return model(torch.arange(40)[None] % 256).logits


def test_every_field_is_read():
    assert CHANGES.keys() == {field.name for field in fields(TitansConfig)}
    for name, (variant, value) in CHANGES.items():
        config = TitansConfig(variant, dim=24)
        before, after = outcome(config), outcome(replace(config, **{name: value}))
        assert before.shape != after.shape or (before - after).abs().max() > 1e-4, f"nothing reads {name}"
        assert replace(config, **{name: value}).signature != config.signature


def test_every_field_is_explained():
    for field in fields(TitansConfig):
        assert field.name in TitansConfig.__doc__, field.name


def test_heads_share_dim_unless_they_are_given_a_size():
    assert TitansConfig(dim=48, heads=4).head_size == 12
    assert TitansConfig(dim=48, heads=5, dim_head=6).head_size == 6  # heads need not divide dim then


def test_a_changed_copy_divides_dim_anew():
    assert replace(TitansConfig(dim=64, heads=2), heads=4) == TitansConfig(dim=64, heads=4)
    assert replace(TitansConfig(dim=64, heads=2), dim=128).head_size == 64


def test_one_model_has_one_signature():
    assert TitansConfig(dim=64, heads=2, dim_head=32).signature == TitansConfig(dim=64, heads=2).signature
    assert TitansConfig(ffn_expansion=2, max_step=1).signature == TitansConfig().signature


def test_a_configuration_is_a_value():
    config = TitansConfig("mag", dim=32)
    assert TitansConfig(**asdict(config)) == config
    assert hash(TitansConfig("mag", dim=32)) == hash(config)
    with pytest.raises(FrozenInstanceError):
        config.dim = 64
