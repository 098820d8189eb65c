"""Looking into a model while it reads, asking what it knows, and copies of it with a part switched off."""

from copy import deepcopy

import torch
from torch import Tensor, nn

from titans.blocks import MAC
from titans.model import ModelState, TitansLM
from titans.neural_memory import NeuralMemory
from titans.state import MemoryState


def memory_of(model: TitansLM) -> NeuralMemory:
    """The memory layer of a MAC of one block."""
    (block,) = model.layers()
    assert isinstance(block.mixer, MAC)
    return block.mixer.memory


class Watched:
    """What a memory layer was given in its last call, and from it the surprise and the gates of those tokens."""

    def __init__(self, memory: NeuralMemory) -> None:
        self.memory, self.x, self.state = memory, torch.empty(0), memory.initial_state(1)
        self.learn, memory.learn = memory.learn, self._keep  # type: ignore[method-assign]

    def _keep(self, x: Tensor, state: MemoryState) -> tuple[Tensor, MemoryState]:
        self.x, self.state = x, state
        return self.learn(x, state)

    def surprise(self) -> Tensor:
        """|u_t|, the norm of the gradient, of tokens of one chunk: [rows, tokens]."""
        assert self.state.recent is not None
        _, k, v, _ = self.memory.project(self.x, self.state.recent)
        inputs, errors = self.memory.memory.errors(self.state.chunk_weights, k, v)
        squares = sum(a.square().sum(-1) * e.square().sum(-1) for a, e in zip(inputs, errors, strict=True))
        return torch.as_tensor(squares).sqrt()[:, 0]


@torch.no_grad()
def share_known(model: TitansLM, state: ModelState, keys: Tensor, values: Tensor) -> list[float]:
    """The share of rows that answer right, for each pair; keys and values [rows, pairs]. Asking changes no state."""
    rows, pairs = keys.shape
    each = state.select(torch.arange(rows).repeat_interleave(pairs))
    said = model(keys.reshape(-1, 1), each).logits[:, 0].argmax(-1).reshape(rows, pairs)
    return (said == values).double().mean(0).tolist()


def frozen(model: TitansLM) -> TitansLM:
    """A copy whose memory is read and never written: theta, eta and alpha are 0."""
    model = deepcopy(model)
    memory = memory_of(model)
    memory.max_step, memory.momentum, memory.forgetting = 0.0, False, False
    return model


def never_written(model: TitansLM) -> TitansLM:
    """A copy in which the gates of every memory are 0, step size and forgetting: each memory stays M_0."""
    model = deepcopy(model)
    for layer in model.modules():
        if isinstance(layer, NeuralMemory):
            nn.init.zeros_(layer.to_gates.weight)
            nn.init.constant_(layer.to_gates.bias, -200.0)  # sigmoid(-200) is 0 in float32
    return model


def without_h(model: TitansLM) -> TitansLM:
    """A copy of a MAC in which the retrieved tokens are zero vectors."""
    model = deepcopy(model)
    for module in model.modules():
        if isinstance(module, MAC):
            nn.init.zeros_(module.norm.weight)
    return model
