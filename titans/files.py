"""Tensors as files: safetensors with texts beside them, written whole or not at all, and with a
checksum that is compared when they are read."""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

CHECKSUM = "sha256"  # its name among the texts


def write(path: str | Path, tensors: dict[str, Tensor], texts: dict[str, str]) -> None:
    """Write contiguous tensors and texts. An old file is replaced at the end, or stays as it was."""
    path = Path(path).resolve()  # where a link leads, so that it goes on leading there
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(path.name + ".unfinished")
    try:
        unfinished.touch()
        mode = (path if path.exists() else unfinished).stat().st_mode
        save_file(tensors, unfinished, metadata=texts | {CHECKSUM: checksum(tensors, texts)})
        unfinished.chmod(mode)  # safetensors makes files that nobody else may read
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def read(path: str | Path, device: str | torch.device = "cpu") -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and texts of a safetensors file, whoever wrote it. Raises ValueError where it is none."""
    try:
        with safe_open(path, framework="pt") as file:
            # Copies: what is read would lie in the file itself, which may be written anew.
            tensors = {name: file.get_tensor(name).to(device, copy=True) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except SafetensorError as error:
        raise ValueError(f"path must be a whole safetensors file, {path} is not: {error}") from error


def check_whole(path: str | Path, tensors: dict[str, Tensor], texts: dict[str, str]) -> None:
    """Raise ValueError where something has changed since `write`; files from before have no checksum."""
    if texts.get(CHECKSUM, written := checksum(tensors, texts)) != written:
        raise ValueError(
            f"path must be a file as it was written, {path} has changed since: its content does not have the "
            f"checksum that stands in it; it is damaged, or was edited"
        )


def checksum(tensors: dict[str, Tensor], texts: dict[str, str]) -> str:
    """Of all texts but the checksum itself, and of the name, dtype, shape and bytes of every tensor."""
    digest = hashlib.sha256(json.dumps(sorted((k, v) for k, v in texts.items() if k != CHECKSUM)).encode())
    for name in sorted(tensors):
        tensor = tensors[name].cpu().contiguous()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        if size := tensor.numel() * tensor.element_size():
            digest.update((ctypes.c_char * size).from_address(tensor.data_ptr()))
    return digest.hexdigest()
