"""Words for the token ids of `titans.tasks.Recall`: names, places and filler, of which lesson 00
makes its stream."""

from collections.abc import Sequence

import torch
from torch import Tensor

from titans.tasks import Recall

# A word for each token id of `Recall()`: 32 names, then 32 places, then 32 words of filler.
# ruff: noqa: SIM905 (lists of quoted words are harder to read)
NAMES = """Ada Ben Chi Dan Eva Fumi Gil Hana Ian Jun Kai Lea Mio Nia Oto Pia
    Qi Rin Sam Tom Uma Vic Wes Xia Yui Zoe Abe Bea Cleo Dev Emi Finn""".split()
PLACES = """Lima Oslo Rome Paris Cairo Tokyo Quito Delhi Seoul Milan Kyoto Dakar Accra Athens Bergen Boston
    Hanoi Lagos Leeds Lyon Madrid Manila Miami Minsk Nara Osaka Perth Porto Riga Sofia Tunis Turin""".split()
FILLER = """the of and to in it is was that for on with as at by from
    this but not or one all so out up if then now some rain tea well""".split()
VOCABULARY = [*NAMES, *PLACES, *FILLER]
TASK = Recall()
OF = {word: number for number, word in enumerate(VOCABULARY)}


def ids(words: Sequence[str]) -> Tensor:
    """Token ids of words, as one row: [1, tokens]."""
    unknown = [word for word in words if word not in OF]
    if unknown:
        raise ValueError(f"words must be in VOCABULARY, got {', '.join(unknown)}")
    return torch.tensor([[OF[word] for word in words]])


def filler(tokens: int, seed: int = 0) -> Tensor:
    """Filler words at random, [1, tokens]; a longer one begins as a shorter one does."""
    return TASK.pass_time(1, tokens, torch.Generator().manual_seed(seed))


def told_words(facts: dict[str, str]) -> list[str]:
    """Names and places in turn."""
    return [word for fact in facts.items() for word in fact]
