"""Real text, read byte by byte: the source of Python's standard library, which is on every machine, or files of one's
own."""

from __future__ import annotations

import math
import sysconfig
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from titans.checks import check_choice, check_integer
from titans.model import ModelState, TitansLM
from titans.tasks import Batch, Task

PARTS = ("train", "held out")
HELD_OUT = 8  # one file in so many is never trained on
SMALLEST = 6000  # bytes: shorter files of the standard library are left out
LEFT_OUT = frozenset(("site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "distutils"))
FROM_THE_START = 0.25  # share of the stretches that begin where a file does


@dataclass(frozen=True)
class Text(Task):
    """Text to be read byte by byte: every byte is predicted from those before it.

    files: UTF-8 or any other bytes; the last eighth of each is held out. None: the source of Python's standard library,
        of which a file is held out by the checksum of its name (`is_held_out`), whatever the version of Python.
    """

    files: tuple[str, ...] = ()
    vocab_size = 256

    def part(self, part: str) -> dict[str, Tensor]:
        """The bytes of every file, by its name: those that are trained on ("train"), or "held out"."""
        check_choice("part", part, PARTS)
        return _own(self.files)[part] if self.files else _python()[part]

    def sample(self, rows: int, between: int, random: torch.Generator) -> Batch:
        """Stretches of `between` bytes of files that are trained on, the longer files more often; one in four begins at
        a file's first byte, the others anywhere."""
        found = [file for file in self.part("train").values() if len(file) >= between]
        if not found:
            longest = max(map(len, self.part("train").values()))
            raise ValueError(f"between must be at most {longest}, the longest file that is trained on, got {between}")
        chosen = torch.multinomial(torch.tensor([float(len(file)) for file in found]), rows, True, generator=random)
        stretches = []
        for file in (found[place] for place in chosen):
            anywhere = int(torch.randint(len(file) - between + 1, (), generator=random))
            first = 0 if torch.rand((), generator=random) < FROM_THE_START else anywhere
            stretches.append(file[first : first + between])
        tokens = torch.stack(stretches).long()
        return Batch(tokens, tokens)

    def long_files(self, tokens: int) -> dict[str, Tensor]:
        """The first `tokens` bytes of every held-out file that has so many."""
        found = {name: file[:tokens] for name, file in self.part("held out").items() if len(file) >= tokens}
        if not found:
            longest = max(map(len, self.part("held out").values()))
            raise ValueError(f"tokens must be at most {longest}, the longest part that is held out, got {tokens}")
        return found


def is_held_out(name: str) -> bool:
    """Whether a file of the standard library is held out, by its path in it, such as "json/decoder.py"."""
    return zlib.crc32(name.encode()) % HELD_OUT == 0


@cache
def _python() -> dict[str, dict[str, Tensor]]:
    """The standard library's modules of some length, by their path in it."""
    root = Path(sysconfig.get_path("stdlib"))
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    for path in sorted(root.rglob("*.py")):
        inside = path.relative_to(root)
        if not LEFT_OUT & set(inside.parts) and path.stat().st_size >= SMALLEST:
            name = inside.as_posix()
            parts[PARTS[is_held_out(name)]][name] = as_bytes(path.read_bytes())
    if not all(parts.values()):
        raise FileNotFoundError(f"the source of Python's standard library must lie in {root}, and does not")
    return parts


@cache
def _own(files: tuple[str, ...]) -> dict[str, dict[str, Tensor]]:
    """Files of one's own, each cut in two."""
    whole = {name: as_bytes(Path(name).read_bytes()) for name in files}
    cut = {name: len(file) * (HELD_OUT - 1) // HELD_OUT for name, file in whole.items()}
    return {
        "train": {name: file[: cut[name]] for name, file in whole.items()},
        "held out": {name: file[cut[name] :] for name, file in whole.items()},
    }


def as_bytes(text: str | bytes) -> Tensor:
    """Text as a uint8 tensor of its bytes, UTF-8 where it is a str."""
    data = text.encode() if isinstance(text, str) else text
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


@torch.no_grad()
def bits(
    model: TitansLM,
    tokens: Tensor,
    state: ModelState | None = None,
    piece: int = 1024,
    edit: Callable[[ModelState], ModelState] = lambda state: state,
) -> Tensor:
    """Bits that each byte costs, -log2 of the chance that the model gave it, but for the first: [rows, tokens - 1].

    tokens: [rows, tokens], read in pieces from the state. edit: what is done to the state behind each piece.
    """
    found, last = [], None
    for part in tokens.long().split(check_integer("piece", piece), dim=1):
        output = model(part, state)
        state, logits = edit(output.state), output.logits
        before = logits[:, :-1] if last is None else torch.cat((last, logits[:, :-1]), dim=1)
        wanted = part[:, 1:] if last is None else part
        found.append(F.cross_entropy(before.mT, wanted, reduction="none") / math.log(2))
        last = logits[:, -1:]
    return torch.cat(found, dim=1)


def bits_anew(model: TitansLM, tokens: Tensor, every: int) -> Tensor:
    """As `bits`, with a state that begins anew every so many bytes; NaN for the first byte of each."""
    costs = bits(model, tokens.reshape(-1, every))
    return F.pad(costs, (1, 0), value=math.nan).view(len(tokens), -1)[:, 1:]


def by_place(costs: Tensor, ends: tuple[int, ...]) -> dict[str, float]:
    """The mean of `bits` at the places up to each end and from the end before it, but for NaN."""
    bands = {end: slice(max(start - 1, 0), end - 1) for start, end in zip((0, *ends[:-1]), ends, strict=True)}
    return {str(end): float(costs[:, band].nanmean()) for end, band in bands.items()}
