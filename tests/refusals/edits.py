"""Edits of the facts in a state's file, as someone without this library could make them, drawn from a seed."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from titans.state import State

VALUES: list[Any] = [
    *(None, True, False, -1, 0, 1, 2, 3, 4, 99, 10**30, -(10**30), 1.5, -0.5, float("inf"), float("nan"), "", "x"),
    *([], {}, [[]], [None], {"tensor": "x"}, {"tensor": []}, {"tensor": None}, {"state": "MemoryState"}),
    *({"state": "MemoryState", "parts": {}}, {"state": "Unheard", "parts": {}}, {"state": [], "parts": {}}),
    *({"state": "Seen", "parts": {"keys": [], "values": []}}, {"state": "Seen", "parts": []}),
]
# In the place of a string: what no copy of a structure could hold.
TEXTS = ["[" * 100_000 + "]" * 100_000, '{"tensor":' * 5000 + "1" + "}" * 5000, "[" * 900 + "]" * 900, "9" * 5000, "["]
PLACE = "in this place"


def parts_of(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the texts of a file."""
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata())  # noqa: SIM118


def nodes(facts: Any) -> list[tuple[Any, Any]]:
    """Every place in a structure, as what holds it and its key there."""
    keys = facts.keys() if isinstance(facts, dict) else range(len(facts)) if isinstance(facts, list) else ()
    return [found for key in keys for found in ((facts, key), *nodes(facts[key]))]


def edited(facts: Any, tensors: list[str], generator: random.Random) -> str:
    """The facts with one edit, or a few, as text."""
    whole, text = [copy.deepcopy(facts)], None
    for _ in range(generator.choice([1, 1, 1, 2, 5])):
        holder, key = generator.choice(nodes(whole))
        other, other_key = generator.choice(nodes(whole))
        edit = generator.choice(["value", "value", "delete", "again", "swap", "key", "tensor", "kind", "wrap", "text"])
        if edit == "value":
            holder[key] = copy.deepcopy(generator.choice(VALUES))
        elif edit == "delete" and holder is not whole:
            del holder[key]
        elif edit == "again" and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        elif edit == "swap":
            one, two = copy.deepcopy(holder[key]), copy.deepcopy(other[other_key])
            holder[key], other[other_key] = two, one
        elif edit == "key" and isinstance(holder, dict):
            holder[generator.choice(["x", "weights", "tensor", "state", "parts", "seen"])] = holder.pop(key)
        elif edit == "tensor":
            holder[key] = {"tensor": generator.choice(tensors)}
        elif edit == "kind" and isinstance(holder, dict) and "state" in holder:
            holder["state"] = generator.choice(sorted(State.kinds))
        elif edit == "wrap":
            holder[key] = [holder[key]]
        elif edit == "text":
            holder[key], text = PLACE, generator.choice(TEXTS)
    return json.dumps(whole[0]).replace(f'"{PLACE}"', text or '""', 1)


def attempt(call: Callable[[], Any]) -> tuple[Any, Exception | None]:
    """What a call gives, or the error that it ends with."""
    try:
        return call(), None
    except Exception as error:
        return None, error


def survivors(
    path: Path, state: State, edits: int, seed: int, load: Callable[[Path], Any], go_on: Callable[[Any], State]
) -> int:
    """How many edits of a state's file still load and are gone on from. All others are refused by
    `load`, by a ValueError that names the file, or by `go_on`, by a ValueError or TypeError."""
    state.save(path)
    tensors, texts = parts_of(path)
    generator, same = random.Random(seed), 0
    for _ in range(edits):
        while (facts := edited(json.loads(texts["facts"]), sorted(tensors), generator)) == texts["facts"]:
            pass
        save_file(tensors, path, metadata={"format": texts["format"], "facts": facts})
        loaded, error = attempt(lambda: load(path))
        if error is not None:
            assert type(error) is ValueError, facts
            assert str(path) in str(error), facts
            continue
        after, error = attempt(lambda loaded=loaded: go_on(loaded))
        assert error is None or type(error) in (ValueError, TypeError), facts
        assert error is not None or type(after) is type(state), facts
        same += error is None
    return same
