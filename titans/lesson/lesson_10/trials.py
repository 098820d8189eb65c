"""What lesson 10 measures: compressors on the same files, what the memory brings and where, what it holds."""

import lzma
import random
import re
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

from titans.corpus import Text, as_bytes, bits
from titans.lesson.kit.cards import columns, space
from titans.lesson.kit.host import say
from titans.model import ModelState, TitansLM
from titans.observe import closed

PIECE = 1024  # bytes that are read at once
WORD = re.compile(rb"[A-Za-z_][A-Za-z_0-9]{3,}")  # a name of four letters or more

ROWS = {
    "mac": "MAC",
    "mac, single pieces": "MAC、1区間ずつ",
    "attention": "アテンション",
    "attention, as long": "アテンション、同じ時間",
    "window of 512": "512のウィンドウ",
}  # runs of the recipe, in Japanese


# ---- Without a model -------------------------------------------------------------------------------------------------


def held_out(tokens: int) -> Tensor:
    """The first bytes of every held-out file of the standard library that has so many: [files, tokens]."""
    return torch.stack(list(Text().long_files(tokens).values()))


def counted(files: Tensor) -> dict[str, float]:
    """Bits a byte without a network: all bytes alike, by how often each occurs in what is trained on, by the byte
    before it, and as two compressors make of each file."""
    trained = torch.cat(list(Text().part("train").values())).long()
    pairs = torch.bincount(trained[:-1] * 256 + trained[1:], minlength=256**2).view(256, 256).double() + 0.01
    alone = (pairs.sum(0) / pairs.sum()).log2()
    after = (pairs / pairs.sum(1, keepdim=True)).log2()
    read = files.long()
    packed = {name: sum(len(pack(bytes(row.tolist()))) for row in files) for name, pack in PACKERS.items()}
    return {
        "256 bytes, all alike": 8.0,
        "how often each byte occurs": -float(alone[read].mean()),
        "after the byte before it": -float(after[read[:, :-1], read[:, 1:]].mean()),
    } | {name: 8 * size / files.numel() for name, size in packed.items()}


RAW: list[dict[str, int]] = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "zlib": lambda data: zlib.compress(data, 9),
    "xz": lambda data: lzma.compress(data, format=lzma.FORMAT_RAW, filters=RAW),
}


# ---- By place --------------------------------------------------------------------------------------------------------


def table(card: dict[str, Any], kind: str = "bits") -> str:
    """Bits a byte of the recipe's runs, by place: the median of the seeds and, in brackets, the worst.

    kind: "bits", or "anew", with a state that begins anew every 512 bytes, which not every run has.
    """
    names = {run: say(run, ROWS[run]) for run, found in card["runs"].items() if kind in found}
    ends = list(card["runs"]["mac"][kind])
    width = max(map(columns, names.values()))
    head = "".join(f"{f'–{int(end):,}':>14}" for end in ends)
    lines = [" " * width + head]
    for run, name in names.items():
        found = card["runs"][run][kind]
        cells = (f"{found[end]['median']:.2f} ({found[end]['worst']:.2f})" for end in ends)
        lines.append(name + space(name, width) + "".join(f"{cell:>14}" for cell in cells))
    return "\n".join(lines)


# ---- The share of the memory -----------------------------------------------------------------------------------------


@torch.no_grad()
def read(model: TitansLM, files: Tensor, state: ModelState | None = None) -> ModelState:
    """The state after some bytes."""
    for part in files.long().split(PIECE, dim=1):
        state = model(part, state).state
    assert state is not None
    return state


def borders(files: Tensor, before: int, after: int) -> tuple[Tensor, Tensor]:
    """What stands before and behind several places of each file, [rows, before] and [rows, after]; rows of one file
    stand apart, those of one place together."""
    places = range(2048, files.shape[1] - after + 1, 2048)
    rows = [(files[:, place - before : place], files[:, place : place + after]) for place in places]
    first, second = (torch.cat(parts) for parts in zip(*rows, strict=True))
    return first, second


@torch.no_grad()
def memory_cases(model: TitansLM, files: Tensor, before: int = 512, after: int = 512) -> dict[str, Tensor]:
    """Bits of the bytes behind some borders of segments, [rows, after - 1]: where the memory there is as it is after
    `before` bytes, where it begins anew, where it is another file's, and where it is never written."""
    context, rest = borders(files, before, after)
    state, never = read(model, context), closed(model)
    return {
        "as it is": bits(model, rest, state),
        "begun anew": bits(model, rest),
        "another file's": bits(model, rest, state.select(torch.arange(len(context)).roll(1))),
        "never written": bits(never, rest, read(never, context)),
    }


@torch.no_grad()
def span(model: TitansLM, files: Tensor, lengths: tuple[int, ...], after: int = 64) -> dict[int, float]:
    """Bits a byte in the first segment behind a border, by how many bytes were read before it."""
    found = {}
    for before in lengths:
        context, rest = borders(files, before, after)
        found[before] = float(bits(model, rest, read(model, context) if before else None).mean())
    return found


@torch.no_grad()
def by_content(model: TitansLM, files: Tensor, kept: int, before: int = 512, after: int = 64) -> dict[str, float]:
    """Bits a byte in the first segment behind a border, by what was read before it; the last `kept` bytes of that are
    as they are."""
    context, rest = borders(files, before, after)
    found = {}
    for name, changed in what_was_read(context).items():
        what = torch.cat((changed[:, : before - kept], context[:, before - kept :]), dim=1)
        found[name] = float(bits(model, rest, read(model, what)).mean())
    return found


def what_was_read(context: Tensor, seed: int = 0) -> dict[str, Tensor]:
    """The same bytes as they are, and changed in one respect; of the same size all."""
    return {
        "as they are": context,
        "lines shuffled": _each(context, lambda data: shuffled(data, seed)),
        "names renamed": _each(context, lambda data: renamed(data, seed)),
        "another file": context.roll(1, dims=0),
    }


def _each(files: Tensor, change: Callable[[bytes], bytes]) -> Tensor:
    return torch.stack([as_bytes(change(bytes(row.tolist()))) for row in files])


def shuffled(data: bytes, seed: int) -> bytes:
    """The lines in another order."""
    lines = data.split(b"\n")
    random.Random(seed).shuffle(lines)
    return b"\n".join(lines)


def renamed(data: bytes, seed: int) -> bytes:
    """Every name of four letters or more replaced by another as long from the files that are trained on, the same one
    wherever it stands."""
    pick, names = random.Random(seed), {}

    def other(found: re.Match[bytes]) -> bytes:
        name = found.group()
        if name not in names:
            names[name] = pick.choice(_names().get(len(name), [name]))
        return names[name]

    return WORD.sub(other, data)


@cache
def _names() -> dict[int, list[bytes]]:
    """All names of four letters or more in the files that are trained on, by their length."""
    found: dict[int, set[bytes]] = {}
    for file in Text().part("train").values():
        for name in WORD.findall(bytes(file.tolist())):
            found.setdefault(len(name), set()).add(name)
    return {length: sorted(names) for length, names in found.items()}


def names_read_before(files: Tensor, lengths: tuple[int, ...], after: int = 64) -> dict[int, float]:
    """The share of the names of four letters or more in the first segment behind a border that stand in the last so
    many bytes before it too."""
    found = {}
    for before in lengths:
        pairs = zip(*(part.tolist() for part in borders(files, before, after)), strict=True)
        known = [(set(WORD.findall(bytes(old))), WORD.findall(bytes(new))) for old, new in pairs]
        found[before] = sum(name in old for old, new in known for name in new) / sum(len(new) for _, new in known)
    return found


# ---- Through Hugging Face --------------------------------------------------------------------------------------------


def for_hugging_face(model: TitansLM) -> Any:
    """The same model as a `TitansMACForCausalLM`; without transformers None, and what is missing is printed."""
    try:
        from titans import TitansMACConfig, TitansMACForCausalLM
    except ImportError as error:
        print(error)
        return None
    c = model.config
    config = TitansMACConfig(
        num_tokens=c.vocab_size,
        d_model=c.dim,
        depth=c.layers,
        num_heads=c.heads,
        segment_len=c.segment_len,
        neural_memory_segment_len=c.chunk_size,
        num_memory_layers=c.memory_depth,
        neural_memory_layers=c.memory_layers,
        num_longterm_mem_tokens=c.memory_tokens,
        persistent_size=c.persistent_tokens,
    )
    other = TitansMACForCausalLM(config)
    other.model.load_state_dict(model.state_dict())
    return other.eval()
