"""Small models behind the Hugging Face interface, for the tests of it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers.utils.logging import disable_progress_bar

from tests.proofs.model_proofs import memories
from titans.huggingface import TitansMACConfig, TitansMACForCausalLM

disable_progress_bar()
SMALL = {
    "num_tokens": 49,
    "d_model": 16,
    "depth": 2,
    "num_heads": 2,
    "segment_len": 5,
    "neural_memory_segment_len": 3,
    "persistent_size": 2,
    "num_longterm_mem_tokens": 2,
}


def make_config(**options) -> TitansMACConfig:
    return TitansMACConfig(**(SMALL | options))


def make_model(seed: int = 0, **options) -> TitansMACForCausalLM:
    """A small model in evaluation, as training could leave it: no tensor is zero, every gate depends on its token."""
    torch.manual_seed(seed)
    return stir(TitansMACForCausalLM(make_config(**options))).eval()


def stir(model: TitansMACForCausalLM) -> TitansMACForCausalLM:
    with torch.no_grad():
        model.get_input_embeddings().weight.normal_()
        for layer in memories(model):
            for weight in (*layer.memory.weights, layer.to_gates.weight):
                weight.normal_(0, weight.shape[-1] ** -0.5)
        for weight in model.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return model


def random_ids(batch: int, tokens: int, seed: int = 1, num_tokens: int = 49) -> Tensor:
    return torch.randint(num_tokens, (batch, tokens), generator=torch.Generator().manual_seed(seed))


@contextmanager
def no_warnings_of_transformers() -> Iterator[list[str]]:
    """Fails where transformers logs a warning; what is expected is taken out of the list that this gives."""
    found: list[str] = []

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    handler = Handler(logging.WARNING)
    logging.getLogger("transformers").addHandler(handler)
    try:
        yield found
        assert found == []
    finally:
        logging.getLogger("transformers").removeHandler(handler)
