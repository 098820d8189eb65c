"""Trained models as files: safetensors with the configuration and facts inside, written whole or
not at all."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from titans.blocks import MixerTable
from titans.config import TitansConfig
from titans.model import TitansLM

FILE_FORMAT = "titans-checkpoint-1"
SHIPPED = Path(__file__).with_name("shipped")  # what comes with the package


def save_checkpoint(
    path: str | Path,
    model: TitansLM,
    facts: dict[str, Any],
    more: dict[str, Tensor] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write the model, facts about it (whatever JSON can hold) and more tensors. An old file is
    replaced at the end.

    dtype: what the model's numbers are rounded to in the file; None keeps theirs.
    """
    path = Path(path)
    tensors = {f"model.{name}": tensor.to(dtype or tensor.dtype) for name, tensor in model.state_dict().items()}
    tensors |= {f"more.{name}": tensor for name, tensor in (more or {}).items()}
    metadata = {"format": FILE_FORMAT, "config": json.dumps(asdict(model.config)), "facts": json.dumps(facts)}
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    save_file({name: tensor.detach().contiguous() for name, tensor in tensors.items()}, unfinished, metadata=metadata)
    os.replace(unfinished, path)


def load_checkpoint(
    path: str | Path, device: str | torch.device = "cpu", mixers: MixerTable | None = None
) -> tuple[TitansLM, dict[str, Any], dict[str, Tensor]]:
    """The model, in float32, the facts and the further tensors that `save_checkpoint` wrote.

    path: a file, or the name of a checkpoint that comes with the package, such as
        "recall-live/mac".
    mixers: what the saved model was made with, see `TitansLM`.
    Raises FileNotFoundError where there is none, ValueError for a truncated or foreign file.
    """
    found = next((p for p in (Path(path), SHIPPED / f"{path}.safetensors") if p.is_file()), None)
    if found is None:
        names = (str(p.relative_to(SHIPPED).with_suffix("")) for p in SHIPPED.glob("*/*.safetensors"))
        shipped = ", ".join(sorted(names))
        raise FileNotFoundError(f"path must be a checkpoint file or one of {shipped or '(none)'}, got {path}")
    try:
        with safe_open(found, framework="pt", device=str(device)) as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except SafetensorError as error:
        raise ValueError(f"path must be a whole safetensors file, {found} is not: {error}") from error
    if metadata.get("format") != FILE_FORMAT:
        raise ValueError(f"path must be a file that save_checkpoint wrote, {found} is something else")
    try:
        model = TitansLM(_config(json.loads(metadata["config"])), mixers).to(device)
        model.load_state_dict(_part(tensors, "model."))
        return model, json.loads(metadata["facts"]), _part(tensors, "more.")
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"path must be a checkpoint of this version, {found} is not: {error}") from error


def _config(fields: dict[str, Any]) -> TitansConfig:
    """The configuration in a file. One from before D16 forgets in all layers of a memory."""
    deep = fields.get("memory_depth", 1) > 1 and fields.get("forgetting", True)
    return TitansConfig(**({"forget_layers": "all" if deep else "last"} | fields))


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
