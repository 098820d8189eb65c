"""Trained models as files, with the configuration and facts inside."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from titans import files
from titans.blocks import MixerTable
from titans.checks import check_instance
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
    tensors = {f"model.{name}": tensor.to(dtype or tensor.dtype) for name, tensor in model.state_dict().items()}
    tensors |= {f"more.{name}": tensor for name, tensor in (more or {}).items()}
    texts = {"format": FILE_FORMAT, "config": json.dumps(asdict(model.config)), "facts": json.dumps(facts)}
    if model.mixers:
        texts["mixers"] = json.dumps(model.mixer_names)
    files.write(path, {name: tensor.detach().contiguous() for name, tensor in tensors.items()}, texts)


def load_checkpoint(
    path: str | Path, device: str | torch.device = "cpu", mixers: MixerTable | None = None
) -> tuple[TitansLM, dict[str, Any], dict[str, Tensor]]:
    """The model, in float32, the facts and the further tensors that `save_checkpoint` wrote.

    path: a file, or the name of a checkpoint that comes with the package, such as
        "recall-live/mac".
    mixers: what the saved model was made with, see `TitansLM`.
    Raises FileNotFoundError where there is none, ValueError for a file that is truncated or foreign,
    or has changed since it was written.
    """
    found = next((p for p in (Path(path), SHIPPED / f"{path}.safetensors") if p.is_file()), None)
    if found is None:
        names = (str(p.relative_to(SHIPPED).with_suffix("")) for p in SHIPPED.glob("*/*.safetensors"))
        shipped = ", ".join(sorted(names))
        raise FileNotFoundError(f"path must be a checkpoint file or one of {shipped or '(none)'}, got {path}")
    tensors, texts = files.read(found, device)
    if texts.get("format") != FILE_FORMAT:
        raise ValueError(f"path must be a file that save_checkpoint wrote, {found} is something else")
    files.check_whole(found, tensors, texts)
    weights = _part(tensors, "model.")
    try:
        config, facts = _config(json.loads(texts["config"])), json.loads(texts["facts"])
        check_instance("facts", facts, dict)
        _check_mixers(json.loads(texts.get("mixers", "[]")), mixers or {})
        _check_weights(config, weights, mixers or {})
        model = TitansLM(config, mixers).to(device)
        model.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        raise ValueError(f"path must be a checkpoint of this version, {found} is not: {error}") from error
    return model, facts, _part(tensors, "more.")


def _check_mixers(saved: list[str], mixers: MixerTable) -> None:
    """Raise ValueError where the saved model had a mixer of its own for a variant that `mixers` has none for."""
    missing = [name for name in saved if name.partition("=")[0] not in mixers]
    if missing:
        raise ValueError(f"it was made with mixers {', '.join(missing)}, and mixers has {', '.join(mixers) or 'none'}")


def _check_weights(config: TitansConfig, weights: dict[str, Tensor], mixers: MixerTable) -> None:
    """Raise ValueError unless the weights are those of this configuration, by name and shape; at a
    cost that their number bounds, whatever the configuration says."""
    deep = 0 if config.variant in (*mixers, "attention") else config.memory_depth - 1
    with_memory = config.layers if config.memory_layers is None else len(config.memory_layers)
    if config.layers + with_memory * deep > len(weights):  # each block, and each layer of a memory, has some of its own
        have = f"layers={config.layers} and memory_depth={config.memory_depth}"
        raise ValueError(f"its {len(weights)} tensors are too few for {have}")
    if mixers:
        return  # which may not be ready for the meta device
    with torch.device("meta"):
        wanted = {name: list(tensor.shape) for name, tensor in TitansLM(config).state_dict().items()}
    got = {name: list(tensor.shape) for name, tensor in weights.items()}
    wrong = sorted(name for name in wanted.keys() | got.keys() if wanted.get(name) != got.get(name))
    if wrong:
        name, more = wrong[0], f" and {len(wrong) - 1} more" if wrong[1:] else ""
        raise ValueError(f"{name}{more} must have shape {wanted.get(name)}, got {got.get(name)}")


def _config(fields: dict[str, Any]) -> TitansConfig:
    """The configuration in a file. One from before D16 forgets in all layers of a memory."""
    deep = fields.get("memory_depth", 1) > 1 and fields.get("forgetting", True)
    return TitansConfig(**({"forget_layers": "all" if deep else "last"} | fields))


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
