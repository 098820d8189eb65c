"""The second player of lesson 09: the memory inside a trained MAC, recorded while it is told facts and hears noise."""

from __future__ import annotations

import copy
from functools import lru_cache
from itertools import product

import numpy as np
import torch
from torch import Tensor

from titans.blocks import MAC
from titans.checkpoints import load_checkpoint
from titans.lesson.kit.live import LivePicture
from titans.lesson.kit.player import Run, Scales, Story, memory_player
from titans.memory import Gates
from titans.model import TitansLM
from titans.neural_memory import NeuralMemory
from titans.state import MemoryState
from titans.tasks import Recall

CHECKPOINT, SEED = "recall-live/mac", 3
NOISE = (36, 24)  # tokens between the facts and their repetition, and between that and the questions
FREEZES = {"never": None, "from the start": 0, "right after the facts": 12, "4 tokens later": 16}


def memory_of(model: TitansLM) -> NeuralMemory:
    """The memory layer of a MAC of one block."""
    (block,) = model.layers()
    assert isinstance(block.mixer, MAC)
    return block.mixer.memory


def stream(rows: int = 1, seed: int = SEED) -> tuple[Tensor, Tensor, Tensor]:
    """Facts, noise, the same facts, noise, questions: tokens [rows, 96]; keys and values as told [rows, 6]."""
    task, random = Recall(), torch.Generator().manual_seed(seed)
    told = task.tell(rows, random)
    noise = [task.pass_time(rows, tokens, random) for tokens in NOISE]
    tokens = torch.cat((told.tokens, noise[0], told.tokens, noise[1], told.asked.tokens), dim=1)
    return tokens, told.tokens[:, ::2], told.tokens[:, 1::2]


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


def frozen(model: TitansLM) -> TitansLM:
    """A copy whose memory is read and never written: theta, eta and alpha are 0."""
    model = copy.deepcopy(model)
    memory = memory_of(model)
    memory.max_step, memory.momentum, memory.forgetting = 0.0, False, False
    return model


Switches = tuple[bool, bool, int | None]


@lru_cache(maxsize=2)
@torch.no_grad()
def record(checkpoint: str = CHECKPOINT) -> dict[Switches, Run]:
    """The stream read under every setting of the switches, a row of a batch each, all six keys asked at each token."""
    model, _, _ = load_checkpoint(checkpoint)
    memory, settings = memory_of(model), list(product((False, True), (False, True), FREEZES.values()))
    watched, plain, now = Watched(memory), memory.gates, 0

    def switched(x: Tensor) -> Gates:
        off = torch.tensor([[f is not None and now >= f, m, g] for m, g, f in settings])  # frozen, no eta, no alpha
        off = off.repeat_interleave(len(x) // len(settings), dim=0)[:, :, None, None, None]
        theta, eta, alpha = plain(x)
        return Gates(theta * ~off[:, 0], eta * ~(off[:, 0] | off[:, 1]), alpha * ~(off[:, 0] | off[:, 2]))

    memory.gates = switched  # type: ignore[method-assign]
    tokens, keys, values = stream()
    everyone = torch.arange(len(settings)).repeat_interleave(keys.shape[1])
    asked = keys.repeat(len(settings), 1).reshape(-1, 1)
    state, columns = model.initial_state(len(settings)), []
    for now in range(tokens.shape[1]):
        state = model(tokens[:, now : now + 1].repeat(len(settings), 1), state).state
        surprise, past = watched.surprise()[:, 0], watched.state.momentum[0]
        after = state.layers[0].memory
        assert after is not None
        write = after.momentum[0] - switched(watched.x).eta[:, :, 0, :, None] * past
        chances = model(asked, state.select(everyone)).logits[:, 0].softmax(-1)[:, values[0]]
        columns.append((after.weights[0][:, 0], after.momentum[0][:, 0], write[:, 0], surprise, chances))
    series = [torch.stack(column, dim=1).half() for column in zip(*columns, strict=True)]
    series[-1] = series[-1].unflatten(0, (len(settings), keys.shape[1])).transpose(1, 2)
    arrays = [s.numpy() for s in series]
    return {setting: Run(*(array[row] for array in arrays)) for row, setting in enumerate(settings)}


def story() -> Story:
    """The stream in words."""
    tokens, keys, _ = stream()
    facts, count = 2 * keys.shape[1], tokens.shape[1]
    task, again = Recall(), facts + NOISE[0]
    names = [
        f"k{n}" if n < task.keys else f"v{n - task.keys}" if n < task.keys + task.values else "noise"
        for n in tokens[0].tolist()
    ]
    told = np.full((count, keys.shape[1]), -1)
    for pair in range(keys.shape[1]):
        told[2 * pair + 1 :, pair] = pair
    stretches = {
        "facts": (0, facts),
        "noise": (facts, again),
        "the same facts": (again, again + facts),
        "noise ": (again + facts, count - facts),
        "questions": (count - facts, count),
    }
    chosen = [names[2 * pair + 1] for pair in range(keys.shape[1])]
    return Story(names, stretches, [names[2 * pair] for pair in range(keys.shape[1])], chosen, told, FREEZES)


def mac_player() -> LivePicture:
    """The player of the trained model."""
    runs, words = record(), story()
    last = words.probes[-1]
    return memory_player(
        words,
        lambda no_momentum, no_forgetting, freeze: runs[no_momentum, no_forgetting, freeze],
        Scales(memory=0.3, momentum=0.06, write=0.03, surprise=8.5, answer=(-0.05, 1.08)),
        states=(
            {"token": 11, "probe": last, "no_momentum": True, "no_forgetting": False, "freeze": "never"},
            {
                "token": 47,
                "probe": last,
                "no_momentum": False,
                "no_forgetting": False,
                "freeze": "right after the facts",
            },
            {"token": 95, "probe": last, "no_momentum": False, "no_forgetting": False, "freeze": "4 tokens later"},
        ),
        alt="Memory player of the trained MAC in three moments below one another, the memory as it is on the left and "
        "another run on the right: heat maps of 64 by 64 weights, momentum and last write, the surprise at each of 96 "
        "tokens, and the chance of the right value for the last pair. At token 11, the moment it is told, the answer "
        "is not there yet on the left and there without momentum on the right. At token 47 the memory that was frozen "
        "right after the facts does not know the last pair, the other does. At the end a memory frozen four tokens "
        "later knows it too. Surprise is as high at the second telling as at the first.",
        alt_ja="学習済みの MAC のメモリプレーヤーの3つの時点を上から順に示した図。"
        "左がそのままのメモリ、右がもう1つの実行です。"
        "64×64の重み、モーメンタム、最後の書き込みのヒートマップと、96トークンの驚き、最後のペアの正しい値の確率が並びます。"
        "最後のペアが伝えられた瞬間のトークン11では、左にはまだ答えがなく、モーメンタムなしの右にはあります。"
        "トークン47では、事実の直後に凍結したメモリは最後のペアを知りませんが、左は知っています。"
        "最後の時点では、4トークン後に凍結したメモリも知っています。驚きは、2回目に伝えられたときも、1回目と同じくらい大きくなります。",
        answer="chance",
    )
