"""The second player of lesson 09: the memory inside a trained MAC, recorded while it is told facts
and hears noise."""

from collections.abc import Sequence
from functools import cache
from itertools import product

import numpy as np
import torch
from torch import Tensor

from titans.checkpoints import load_checkpoint
from titans.lesson.kit.host import say
from titans.lesson.kit.live import LivePicture
from titans.lesson.kit.player import Look, Recording, Story, in_turn, memory_player
from titans.lesson.kit.watching import memory_of
from titans.observe import closed, edited_gates, observed
from titans.scan import Gates
from titans.tasks import Recall

CHECKPOINT, SEED = "recall-live/mac", 5
NOISE = (36, 24)  # tokens between the facts and their repetition, and between that and the questions
FREEZES = {
    "never": (None, "しない"),
    "from the start": (0, "最初"),
    "right after the facts": (12, "事実の直後"),
    "4 tokens later": (16, "事実の4トークン後"),
}


def facts_and_noise(rows: int = 1, seed: int = SEED) -> tuple[Tensor, Tensor, Tensor]:
    """Facts, noise, the same facts, noise, questions: tokens [rows, 96]; keys and values as told
    [rows, 6]."""
    task, random = Recall(), torch.Generator().manual_seed(seed)
    told = task.tell(rows, random)
    noise = [task.pass_time(rows, tokens, random) for tokens in NOISE]
    tokens = torch.cat((told.tokens, noise[0], told.tokens, noise[1], told.asked.tokens), dim=1)
    return tokens, told.tokens[:, ::2], told.tokens[:, 1::2]


Switches = tuple[bool, bool, int | None]  # no momentum, no forgetting, frozen from this token on


class SwitchedGates:
    """An edit of gates, whose rows obey switches of their own; `now` is the token that is read."""

    def __init__(self, settings: Sequence[Switches]) -> None:
        self.settings, self.now = settings, 0

    def __call__(self, gates: Gates) -> Gates:
        off = [[frozen is not None and self.now >= frozen, *two] for *two, frozen in self.settings]
        each = len(gates.theta) // len(self.settings)
        frozen, momentum, forgetting = torch.tensor(off).repeat_interleave(each, dim=0).T[..., None, None, None]
        theta, eta, alpha = gates
        return Gates(theta * ~frozen, eta * ~(frozen | momentum), alpha * ~(frozen | forgetting))


@cache
@torch.no_grad()
def recordings() -> dict[Switches, Recording]:
    """The stream read under every setting of the switches, a row of a batch each; all six keys asked
    at each token, of a copy that does not write (a question is a token, and would write before it
    reads, D2)."""
    model, _, _ = load_checkpoint(CHECKPOINT)
    reader = closed(model)
    settings = list(product((False, True), (False, True), (token for token, _ in FREEZES.values())))
    memory, switches = memory_of(model), SwitchedGates(settings)
    tokens, keys, values = facts_and_noise()
    everyone = torch.arange(len(settings)).repeat_interleave(keys.shape[1])
    asked = keys.repeat(len(settings), 1).reshape(-1, 1)
    state, columns = model.initial_state(len(settings)), []
    for switches.now, token in enumerate(tokens.T):
        with edited_gates(memory, switches), observed(memory) as calls:
            state = model(token[None].repeat(len(settings), 1), state).state
        chances = reader(asked, state.select(everyone)).logits[:, 0].softmax(-1)[:, values[0]]
        (call,) = calls
        ((M,), (S,), (past,)) = call.after.weights, call.after.momentum, call.before.momentum
        write = S - call.tokens.gates.eta[:, :, 0, :, None] * past
        chances = chances.unflatten(0, (len(settings), keys.shape[1]))
        columns.append((M[:, 0], S[:, 0], write[:, 0], call.surprise()[:, 0, 0], chances))
    series = [torch.stack(column, dim=1).half().numpy() for column in zip(*columns, strict=True)]
    return {setting: Recording(*(array[row] for array in series)) for row, setting in enumerate(settings)}


def story() -> Story:
    """The stream in words."""
    tokens, keys, _ = facts_and_noise()
    task, pairs = Recall(), keys.shape[1]
    names = [
        f"k{n}" if n < task.keys else f"v{n - task.keys}" if n < task.keys + task.values else say("noise", "雑音")
        for n in tokens[0].tolist()
    ]
    told = np.full((len(names), pairs), -1)
    for pair in range(pairs):
        told[2 * pair + 1 :, pair] = pair
    facts, (noise, more) = 2 * pairs, NOISE
    parts = {
        say("facts", "事実"): facts,
        say("noise", "雑音"): noise,
        say("the same facts", "同じ事実"): facts,
        say("noise ", "雑音 "): more,
        say("questions", "質問"): facts,
    }
    return Story(names, in_turn(parts), names[0:facts:2], names[1:facts:2], told, FREEZES)


def mac_player() -> LivePicture:
    """The player of the trained model."""
    seen, words = recordings(), story()
    states = [
        {"token": token, "probe": words.probes[-1], "no_momentum": off, "no_forgetting": False, "freeze": freeze}
        for token, off, freeze in (
            (47, False, "right after the facts"),
            (95, False, "4 tokens later"),
        )
    ]
    name = say("chance", "確率")
    look = Look(memory=0.2, momentum=0.02, write=0.01, surprise=10.5, answer=(-0.05, 1.08), answer_name=name)
    return memory_player(
        words,
        lambda *switches: seen[switches],
        look,
        states=states,
        alt="Two moments, one below the other, the last pair asked for. At token 47 the memory that was frozen right "
        "after the facts does not know it, the other does. At the end a memory frozen four tokens later knows it too. "
        "Surprise is as high at the second telling as at the first, and highest in the noise after that.",
        alt_ja="最後のペアについてたずねた2つの時点を上下に並べた図。トークン47では、事実の直後に凍結したメモリは最後のペアを知りませんが、"
        "もう一方は知っています。最後の時点では、4トークン後に凍結したメモリも知っています。驚きは、事実が2回目に伝えられたときも"
        "1回目と同じくらいで、その後の雑音でいちばん大きくなります。",
    )
