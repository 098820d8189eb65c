"""The first player of lesson 09: a matrix memory hears who drinks what. Small enough to read every
number of it."""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from titans.lesson.kit.host import say
from titans.lesson.kit.live import LivePicture
from titans.lesson.kit.matrix_memory import trace
from titans.lesson.kit.player import Look, Recording, Story, in_turn, memory_player

PEOPLE, DRINKS = ("Ana", "Anna", "Ben", "Cleo", "Dan"), ("tea", "coffee", "milk", "juice", "cola")
COLUMNS = ("Ana", "Anna′", "Ben", "Cleo", "Dan", "·", "·")  # a feature for each person, two for small talk
FEATURES = len(COLUMNS)
PASSAGE = (("Ana", "tea"), ("Ben", "coffee"), ("Cleo", "milk"), ("Dan", "juice"))
SMALL_TALK = ("", "")
PARTS = {
    ("reading 1", "1回目の読み"): PASSAGE,
    ("reading 2", "2回目の読み"): PASSAGE,
    ("reading 3", "3回目の読み"): PASSAGE,
    ("small talk", "雑談"): (SMALL_TALK,) * 6,
    ("Anna", "Anna"): (("Anna", "cola"),) * 2,
    ("small talk ", "雑談 "): (SMALL_TALK,) * 6,
    ("Ben", "Ben"): (("Ben", "tea"),) * 2,
    ("small talk  ", "雑談  "): (SMALL_TALK,) * 12,
}  # name in both languages: who and what
SCRIPT = [said for part in PARTS.values() for said in part]
FREEZES = {
    "never": (None, "しない"),
    "from the start": (0, "最初"),
    "after reading 1": (4, "1回目の読みの後"),
    "after reading 3": (12, "3回目の読みの後"),
    "before Anna": (18, "Anna の前"),
    "after Anna": (20, "Anna の後"),
    "after Ben's change": (28, "Ben の変更の後"),
}
THETA, ETA, ALPHA = 0.2, 0.5, 0.02


def keys() -> Tensor:
    """Unit keys of PEOPLE [people, features]: each a feature of its own, but Anna, who sounds like
    Ana (0.6 of it)."""
    k = torch.eye(len(PEOPLE), FEATURES, dtype=torch.float64)
    k[1, :2] = torch.tensor([0.6, 0.8], dtype=torch.float64)
    return k


def pairs() -> tuple[Tensor, Tensor]:
    """Keys [tokens, features] and values [tokens, drinks] of SCRIPT; small talk is random, with
    keys of its own."""
    random = torch.Generator().manual_seed(0)
    k, v = torch.zeros(len(SCRIPT), FEATURES).double(), torch.zeros(len(SCRIPT), len(DRINKS)).double()
    for token, (person, drink) in enumerate(SCRIPT):
        if drink:
            k[token], v[token, DRINKS.index(drink)] = keys()[PEOPLE.index(person)], 1.0
        else:
            k[token, -2:] = torch.nn.functional.normalize(torch.randn(2, generator=random).double(), dim=0)
            v[token] = 0.2 * torch.randn(len(DRINKS), generator=random).double()
    return k, v


def story() -> Story:
    """The stream in words."""
    told = np.full((len(SCRIPT), len(PEOPLE)), -1)
    for token, (person, drink) in enumerate(SCRIPT):
        if drink:
            told[token:, PEOPLE.index(person)] = DRINKS.index(drink)
    names = [f"{person} → {drink}" if drink else say("small talk", "雑談") for person, drink in SCRIPT]
    stretches = in_turn({say(*name): len(part) for name, part in PARTS.items()})
    return Story(names, stretches, PEOPLE, DRINKS, told, FREEZES, COLUMNS)


@lru_cache(maxsize=64)
def record(no_momentum: bool = False, no_forgetting: bool = False, frozen: int | None = None) -> Recording:
    """The stream read from an empty memory; from token `frozen` on all gates are 0."""
    k, v = pairs()
    written = torch.arange(len(SCRIPT)) < (len(SCRIPT) if frozen is None else frozen)
    theta, eta, alpha = THETA, 0.0 if no_momentum else ETA, 0.0 if no_forgetting else ALPHA
    seen = trace(k, v, *(gate * written.double() for gate in (theta, eta, alpha)))
    answers = keys() @ seen.memory.mT
    return Recording(*(series.numpy() for series in (*seen, answers)))


def bare_player() -> LivePicture:
    """The player of the small stream."""
    name = say("answer", "答え")
    look = Look(memory=1.0, momentum=0.5, write=0.5, surprise=2.9, answer=(-0.45, 1.4), answer_name=name)
    return memory_player(
        story(),
        record,
        look,
        states=(
            {"token": 19, "probe": "Ana", "no_momentum": False, "no_forgetting": False, "freeze": "before Anna"},
            {"token": 39, "probe": "Ben", "no_momentum": False, "no_forgetting": True, "freeze": "never"},
        ),
        alt="Two moments, one below the other. First: Anna's cola has spoiled the answer for Ana on the left, while "
        "the frozen one on the right still answers tea. Second: at the end, without forgetting on the right; Ben's "
        "answer is tea in both, weaker on the left.",
        alt_ja="2つの時点を上下に並べた図。上では、左のメモリは Anna の cola のために Ana についての答えが"
        "崩れていますが、凍結した右のメモリは、まだ tea と答えます。"
        "下は最後の時点で、右は忘却なしです。Ben についての答えはどちらも tea ですが、左のほうが弱くなっています。",
    )
