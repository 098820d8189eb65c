"""A few steps of transformers' Trainer; as a program, what one of several processes does, for `torchrun`.

The program trains as `torchrun` tells it and writes the model of each process:

    python tests/huggingface/training.py FOLDER
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import torch
from transformers import Trainer, TrainingArguments
from transformers.utils.logging import disable_progress_bar

from titans.huggingface import TitansMACConfig, TitansMACForCausalLM

disable_progress_bar()
# Steps that are the gradients themselves: AdamW forgets their size, and makes noise of those that are nearly zero.
PLAIN = {"optim": "sgd", "max_grad_norm": 0.0, "learning_rate": 1e-3}


def make_data(rows: int = 16, tokens: int = 12) -> list[dict[str, list[int]]]:
    """Rows of whole numbers that count up, with labels; the first labels of each are not counted, in some rows most."""
    data = []
    for row in range(rows):
        ids, skipped = [(3 * row + place) % 20 for place in range(tokens)], 2 + 7 * (row % 4 < 2)
        data.append({"input_ids": ids, "attention_mask": [1] * tokens, "labels": [-100] * skipped + ids[skipped:]})
    return data


def make_start(**options) -> TitansMACForCausalLM:
    torch.manual_seed(0)
    sizes = {"num_tokens": 20, "d_model": 16, "depth": 2, "num_heads": 2, "segment_len": 5}
    return TitansMACForCausalLM(TitansMACConfig(**(sizes | options)))


def make_trainer(folder: Path, model: TitansMACForCausalLM, **options) -> Trainer:
    """On the CPU, quiet, data in their order."""
    chosen = {
        "use_cpu": True,
        "max_steps": 4,
        "per_device_train_batch_size": 4,
        "learning_rate": 1e-2,
        "train_sampling_strategy": "sequential",
        "report_to": "none",
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
    }
    arguments = TrainingArguments(output_dir=str(folder), **(chosen | options))
    return Trainer(model, arguments, train_dataset=make_data(), eval_dataset=make_data(6))


def train_in_a_group(folder: Path) -> None:
    several = {"ddp_backend": "gloo", "ddp_find_unused_parameters": False}  # there are none: that would be an error
    trainer = make_trainer(folder, make_start().double(), per_device_train_batch_size=2, **several, **PLAIN)
    trainer.train()
    rank = torch.distributed.get_rank()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    facts = {"model": trainer.model.state_dict(), "losses": losses, "world": torch.distributed.get_world_size()}
    torch.save(facts, folder / f"{rank}.pt")


def main() -> None:
    train_in_a_group(Path(sys.argv[1]))
    gc.collect()  # the model goes before the group that it holds: torch can deadlock the other way round
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
