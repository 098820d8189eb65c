"""Where keys are told twice: which value a model answers, and which part lets the newest win."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch

from titans.lesson.kit.interventions import held, without_momentum
from titans.lesson.kit.watching import each_pair, memory_of
from titans.model import TitansLM
from titans.tasks import Recall, RetoldRecall

RETOLD = RetoldRecall()
NO_FORGETTING = {"alpha": 0.0}
WITHOUT: dict[str, dict[str, Any]] = {
    "as trained": {},
    "no correction (one chunk)": {"chunk_size": 256},
    "no momentum in the noise": {"in_noise": {"eta": 0.0}},
    "no forgetting": {"in_told": NO_FORGETTING, "in_noise": NO_FORGETTING},
}  # what `newest_and_old` is asked to switch off after training


def newest_and_old(
    model: TitansLM,
    noise: int = 36,
    in_noise: Mapping[str, float] | None = None,
    in_told: Mapping[str, float] | None = None,
    erased: bool = False,
    chunk_size: int | None = None,
    task: Recall = RETOLD,
    rows: int = 64,
) -> tuple[float, float]:
    """The shares of answers that are the value told last, and the one told before it, each question asked by itself.

    in_noise, in_told: gates that are held at a number while the noise passes, or while pairs are told. erased: S is set
    to zero once all is told, after one token more (which writes the last pair). chunk_size: another one than the model
    was trained with.
    """
    model, random = deepcopy(model), torch.Generator().manual_seed(1)
    memory_of(model).chunk_size = chunk_size or memory_of(model).chunk_size
    told, passing = task.tell(rows, random).tokens, task.pass_time(rows, noise, random)
    pairs = task.pairs
    with torch.no_grad():
        with held(model, **(in_told or {})):
            state = model(torch.cat((told, passing[:, :1]), dim=1)).state
        state = without_momentum(state) if erased else state
        with held(model, **(in_noise or {})):
            state = model(passing[:, 1:], state).state if noise > 1 else state
        keys, newest = told[:, -2 * pairs :: 2], told[:, 1 - 2 * pairs :: 2]
        said = model(keys.reshape(-1, 1), each_pair(state, pairs)).logits[:, 0].argmax(-1).view_as(keys)
    same_key = (keys[:, :, None] == told[:, None, : 2 * pairs : 2]).float().argmax(-1)
    old = told[:, 1 : 2 * pairs : 2].gather(1, same_key)
    return tuple(float((said == value).float().mean()) for value in (newest, old))  # type: ignore[return-value]
