"""What lesson 10 measures: compressors on the same files, what the memory brings and where, what it holds."""

import keyword
import lzma
import random
import re
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from titans.blocks import ContextState
from titans.corpus import Text, as_bytes, bits
from titans.lesson.kit.cards import columns, space
from titans.lesson.kit.host import say
from titans.lesson.kit.watching import memory_of
from titans.model import TitansLM
from titans.neural_memory import LayerState
from titans.observe import closed, observed
from titans.text_measures import borders, forgotten, read, with_memories

WORD = re.compile(rb"[A-Za-z_][A-Za-z_0-9]{3,}")  # a name of four letters or more
OWN = frozenset(("self", *keyword.kwlist))  # words that are Python's own, not a file's

ROWS = {
    "mac": "MAC",
    "mac, single pieces": "MAC、1区間ずつ",
    "attention": "アテンション",
    "attention, as long": "アテンション、同じ時間",
    "window of 512": "512のウィンドウ",
}  # runs of the recipe, in Japanese


# ---- Without a model -------------------------------------------------------------------------------------------------


def held_out(tokens: int) -> Tensor:
    """The first bytes of every held-out file of the standard library that has so many, but for tables of characters:
    [files, tokens]."""
    found = Text().long_files(tokens)
    return torch.stack([file for name, file in found.items() if not name.startswith("encodings/")])


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

    kind: "bits"; or what only MAC has: "anew", with a state that begins anew every 512 bytes, "halved", where what is
        written since M_0 is halved as often, and "reach", by how many bytes the memory has read before a border.
    """
    names = {run: say(run, ROWS[run]) for run, found in card["runs"].items() if kind in found}
    ends = list(card["runs"]["mac"][kind])
    width = max(map(columns, names.values()))
    sign = "" if kind == "reach" else "–"
    head = "".join(f"{f'{sign}{int(end):,}':>14}" for end in ends)
    lines = [" " * width + head]
    for run, name in names.items():
        found = card["runs"][run][kind]
        cells = (f"{found[end]['median']:.2f} ({found[end]['worst']:.2f})" for end in ends)
        lines.append(name + space(name, width) + "".join(f"{cell:>14}" for cell in cells))
    return "\n".join(lines)


# ---- The share of the memory -----------------------------------------------------------------------------------------


@torch.no_grad()
def memory_cases(model: TitansLM, files: Tensor, before: int = 512, after: int = 512) -> dict[str, Tensor]:
    """Bits of the bytes behind some borders of segments, [rows, after - 1]: where the memory there is as it is after
    `before` bytes, where it has read nothing, where it is another file's, and where it is never written.

    Convolutions and attention are as they are in the first three.
    """
    context, rest = borders(files, before, after)
    state, never = read(model, context), closed(model)
    others = state.select(torch.arange(len(context)).roll(1))

    def of_another(memory: LayerState, layer: int) -> LayerState:
        other = others.layers[layer]
        assert isinstance(other, ContextState)
        return replace(other.memory, recent=memory.recent)

    return {
        "as it is": bits(model, rest, state),
        "begun anew": bits(model, rest, forgotten(model, state)),
        "another file's": bits(model, rest, with_memories(state, of_another)),
        "never written": bits(never, rest, read(never, context)),
    }


@torch.no_grad()
def by_content(model: TitansLM, files: Tensor, kept: int, before: int = 512, after: int = 64) -> dict[str, float]:
    """Bits a byte in the first segment behind a border, by what was read before it; the last `kept` bytes of that are
    as they are. 4 are what the convolutions see."""
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
    """Every name of four letters or more, but for Python's own words, replaced by another as long from the files that
    are trained on, the same one wherever it stands."""
    pick, names = random.Random(seed), {}

    def other(found: re.Match[bytes]) -> bytes:
        name = found.group()
        if name not in names:
            names[name] = name if name.decode() in OWN else pick.choice(_names().get(len(name), [name]))
        return names[name]

    return WORD.sub(other, data)


@cache
def _names() -> dict[int, list[bytes]]:
    """All names of four letters or more in the files that are trained on, by their length."""
    found: dict[int, set[bytes]] = {}
    for file in Text().part("train").values():
        for name in WORD.findall(bytes(file.tolist())):
            if name.decode() not in OWN:
                found.setdefault(len(name), set()).add(name)
    return {length: sorted(names) for length, names in found.items()}


def names_read_before(files: Tensor, lengths: tuple[int, ...], after: int = 64) -> dict[int, tuple[float, float]]:
    """The share of the names of four letters or more in the first segment behind a border that stand in the last so
    many bytes before it too; and in as many bytes of another file."""
    found = {}
    for before in lengths:
        old, new = borders(files, before, after)
        shares = []
        for context in (old, old.roll(1, dims=0)):
            pairs = zip(context.tolist(), new.tolist(), strict=True)
            known = [(set(WORD.findall(bytes(a))), WORD.findall(bytes(b))) for a, b in pairs]
            shares.append(sum(name in a for a, b in known for name in b) / sum(len(b) for _, b in known))
        found[before] = (shares[0], shares[1])
    return found


# ---- Surprise --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def bits_and_surprise(model: TitansLM, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """What each byte costs, and the memory's surprise at it: [rows, bytes - 1] both, the first left out."""
    with observed(memory_of(model)) as calls:
        costs = bits(model, tokens, piece=tokens.shape[1])
    return costs, torch.cat([call.surprise() for call in calls], dim=2).mean(1)[:, 1:]


def in_words(model: TitansLM, files: Tensor) -> dict[str, tuple[float, float]]:
    """Bits and surprise, on average, of the first bytes of words, of those inside words, and of all others."""
    rows, _ = borders(files, 512, 64)
    costs, surprise = bits_and_surprise(model, rows)
    word = torch.tensor([[chr(byte).isalnum() or byte == ord("_") for byte in row] for row in rows.tolist()])
    before, now = word[:, :-1], word[:, 1:]
    kinds = {"a word's first": now & ~before, "inside a word": now & before, "all else": ~now}
    return {name: (float(costs[where].mean()), float(surprise[where].mean())) for name, where in kinds.items()}


@torch.no_grad()
def read_twice(model: TitansLM, files: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
    """Bits and surprise of a passage of 128 bytes, on average, [rows] each: at its first reading; at a second one after
    192 other bytes; and there where another file's passage was read first.

    All begin where a segment does.
    """
    part = {name: files[:, first : first + size].long() for name, first, size in PARTS_OF_TWICE}
    other = part["passage"].roll(1, dims=0)
    between = part["between"], part["passage"]
    texts = {
        "first": (part["beginning"], part["passage"]),
        "second": (part["beginning"], part["passage"], *between),
        "after another": (part["beginning"], other, *between),
    }
    found = {}
    for name, parts in texts.items():
        costs, surprise = bits_and_surprise(model, torch.cat(parts, dim=1))
        found[name] = costs[:, -128:].mean(1), surprise[:, -128:].mean(1)
    return found


PARTS_OF_TWICE = (("beginning", 1984, 64), ("passage", 2048, 128), ("between", 4096, 192))


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
