"""The rows of the table: what is compared, at which sizes, and the ratio that is wanted."""

from __future__ import annotations

import resource
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from titans import ModelState, NeuralMemory, recurrent_scan

from . import models, sides
from .timing import available_memory, fits_in_memory, in_own_process, side_by_side

Result = dict[str, Any]


@dataclass(frozen=True)
class Row:
    """One comparison. The ratio is the other side over ours where it should be large, ours over the other's else."""

    name: str  # what --rows selects by its beginning, and what the table explains
    measure: Callable[[Row, int], Result]
    sizes: sides.Sizes
    target: float
    at_least: bool = True  # the ratio should be at least the target; False: at most
    theirs: bool = False  # needs titans-pytorch
    quick: bool = True  # also measured by --quick

    def met(self, ratio: float) -> bool:
        return ratio >= self.target if self.at_least else ratio <= self.target


def compare(row: Row, repeats: int, ours: sides.Run, other: sides.Run, units: tuple[int, int] = (1, 1)) -> Result:
    """Seconds of both sides, each for one of its `units` (tokens, steps), and their ratio."""
    (mine, its), busy = side_by_side(repeats, ours, other)
    mine, its = mine / units[0], its / units[1]
    return {"ours": mine, "other": its, "ratio": its / mine if row.at_least else mine / its, "busy": busy}


def compare_layers(row: Row, repeats: int, ours: nn.Module, other: nn.Module) -> Result:
    """Forward and backward of two layers on the row's sizes. Without its time where the other needs too much memory."""
    batch, tokens, dim = (row.sizes[name] for name in ("batch", "tokens", "dim"))
    mine, its = (sides.train_step(layer, batch, tokens, dim) for layer in (ours, other))
    if not fits_in_memory(its):
        (seconds,), busy = side_by_side(repeats, mine)
        return {"ours": seconds, "other": None, "ratio": None, "busy": busy}
    return compare(row, repeats, mine, its)


def our_layer(row: Row) -> NeuralMemory:
    return NeuralMemory(row.sizes["dim"], chunk_size=row.sizes["chunk"])


def same_function_scan(row: Row, repeats: int) -> Result:
    """Their layer per token, and the same layer with our scan in place of theirs: first equality, then time."""
    dim, chunk = row.sizes["dim"], row.sizes["chunk"]
    differences = {}
    for dtype, bound in ((torch.float32, 1e-4), (torch.float64, 1e-8)):
        theirs = sides.their_layer(dim, 1, chunk, extras=False).to(dtype)
        x = torch.randn(1, 4 * chunk, dim, dtype=dtype)
        found = sides.difference(theirs, sides.SameFunction(theirs, dim, chunk).to(dtype), x)
        if found > bound:
            raise ValueError(f"the two layers differ by {found:.1e} in {dtype}: this is not the same function")
        differences[str(dtype).removeprefix("torch.")] = found
    theirs = sides.their_layer(dim, 1, chunk, extras=False)
    result = compare_layers(row, repeats, sides.SameFunction(theirs, dim, chunk), theirs)
    return result | {"relative_difference": differences}


def same_function_layer(row: Row, repeats: int) -> Result:
    """Their layer per token, and our whole layer, which has convolutions, gates per memory layer and D12 besides."""
    theirs = sides.their_layer(row.sizes["dim"], 1, row.sizes["chunk"], extras=False)
    return compare_layers(row, repeats, our_layer(row), theirs)


def defaults(row: Row, repeats: int) -> Result:
    """Their layer with every gradient taken at the first weights, one write a chunk."""
    return compare_layers(row, repeats, our_layer(row), sides.their_layer(row.sizes["dim"], row.sizes["chunk"], None))


def coarse(row: Row, repeats: int) -> Result:
    """Their layer with one write a chunk, weights moving from chunk to chunk."""
    dim, chunk = row.sizes["dim"], row.sizes["chunk"]
    return compare_layers(row, repeats, our_layer(row), sides.their_layer(dim, chunk, chunk))


def over_floor(row: Row, repeats: int) -> Result:
    """Our scan over its matrix products alone."""
    return compare(row, repeats, sides.ScanInputs(row.sizes).train_step, sides.floor(**row.sizes))


def over_floor_limited(row: Row, repeats: int) -> Result:
    """The same with D12 on, as in the layer."""
    scan = sides.ScanInputs(row.sizes, max_surprise=10 * row.sizes["dim"] ** 0.5)
    return compare(row, repeats, scan.train_step, sides.floor(**row.sizes))


def layer_over_floor(row: Row, repeats: int) -> Result:
    """The whole layer over its own matrix products alone."""
    step = sides.train_step(our_layer(row), *(row.sizes[name] for name in ("batch", "tokens", "dim")))
    return compare(row, repeats, step, sides.products_alone(step))


def model_over_floor(row: Row, repeats: int) -> Result:
    """A training step of a model over its own matrix products alone."""
    step = models.our_training(row.sizes)
    return compare(row, repeats, step, sides.products_alone(step))


def closed_form(row: Row, repeats: int) -> Result:
    """The closed form against the scan token by token."""
    recurrent = sides.ScanInputs(row.sizes, scan=recurrent_scan)
    return compare(row, repeats, sides.ScanInputs(row.sizes).train_step, recurrent.train_step)


def long_forward(row: Row, repeats: int) -> Result:
    """Time per token of the layer without gradients, many tokens over few."""
    layer, lengths = our_layer(row), (row.sizes["tokens"], row.sizes["few"])
    xs = [torch.randn(row.sizes["batch"], tokens, row.sizes["dim"]) for tokens in lengths]
    with torch.no_grad():
        return compare(row, repeats, lambda: layer(xs[0]), lambda: layer(xs[1]), lengths)


def long_training(row: Row, repeats: int) -> Result:
    """Time per token of the layer forward and backward, many tokens over few."""
    layer, lengths = our_layer(row), (row.sizes["tokens"], row.sizes["few"])
    many, few = (sides.train_step(layer, row.sizes["batch"], tokens, row.sizes["dim"]) for tokens in lengths)
    return compare(row, repeats, many, few, lengths)


def generation(row: Row, repeats: int) -> Result:
    """Time of a step of one token after a long context over that after a short one."""
    layer, steps = our_layer(row), 4 * row.sizes["chunk"]
    x = torch.randn(row.sizes["batch"], row.sizes["few"], row.sizes["dim"])
    with torch.no_grad():
        late, early = (sides.stream(layer, row.sizes[tokens], x) for tokens in ("tokens", "few"))
        many, few = (sides.token_steps(layer, x[:, :steps], state) for state in (late, early))
        return compare(row, 4 * repeats, many, few, (steps, steps))


def streaming_memory(row: Row, repeats: int) -> Result:
    """Peak memory of a process that streams many tokens over that of one that streams few, in MB."""
    many, few = (in_own_process(_peak_of_stream, row, row.sizes[tokens]) for tokens in ("tokens", "few"))
    return {"ours": many, "other": few, "ratio": many / few, "unit": "MB", "busy": False}


def _peak_of_stream(row: Row, tokens: int) -> float:
    with torch.no_grad():
        x = torch.randn(row.sizes["batch"], min(row.sizes["few"], 1000), row.sizes["dim"])
        sides.stream(our_layer(row), tokens, x)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


LONG_CALL = 100.0  # MB that one call without gradients may take beyond its input and output


def long_call_memory(row: Row, repeats: int) -> Result:
    """Extra memory of one call of the layer without gradients over what it may take, in MB."""
    extra = in_own_process(sides.extra_of_layer, row.sizes)
    return {"ours": extra, "other": LONG_CALL, "ratio": extra / LONG_CALL, "unit": "MB", "busy": False}


def long_scan_memory(row: Row, repeats: int) -> Result:
    """The same of one bare scan."""
    extra = in_own_process(sides.extra_of_scan, row.sizes)
    return {"ours": extra, "other": LONG_CALL, "ratio": extra / LONG_CALL, "unit": "MB", "busy": False}


def model_training(row: Row, repeats: int) -> Result:
    """A training step of a model against theirs of like sizes."""
    ours, theirs = models.our_training(row.sizes), models.their_training(row.sizes)
    return compare(row, repeats, ours, theirs)


def packed_training(row: Row, repeats: int) -> Result:
    """A training step of documents of random lengths packed into rows over that of as many tokens in equal rows."""
    packed = models.our_training(row.sizes, *models.packed_documents(row.sizes))
    return compare(row, repeats, packed, models.our_training(row.sizes))


def model_generation(row: Row, repeats: int) -> Result:
    """A token generated after a long context, from our state and from their cache."""
    model, theirs, steps = models.our_model(row.sizes), models.their_model(row.sizes), 16
    with torch.no_grad():
        tokens = models.tokens_of(row.sizes)
        ours = models.our_generation(model, model(tokens).state, steps)
        return compare(row, repeats, ours, models.their_generation(theirs, tokens, steps), (steps, steps))


def model_compiled_generation(row: Row, repeats: int) -> Result:
    """The same with our model compiled, which asks for a C++ compiler and a minute before the first token."""
    model, theirs, steps = models.our_model(row.sizes), models.their_model(row.sizes), 4 * row.sizes["chunk"]
    with torch.no_grad():
        tokens = models.tokens_of(row.sizes)
        state = model(tokens).state
        ours = models.our_generation(models.compiled(model), state, steps)
        ours()  # borders of chunks and segments are compiled by themselves
        return compare(row, repeats, ours, models.their_generation(theirs, tokens, steps), (steps, steps))


def model_default_generation(row: Row, repeats: int) -> Result:
    """A token generated after a long context, from our state and by theirs without a cache, its default."""
    model, theirs, steps = models.our_model(row.sizes), models.their_model(row.sizes), 16
    with torch.no_grad():
        tokens = models.tokens_of(row.sizes)
        ours = models.our_generation(model, model(tokens).state, steps)
        return compare(row, repeats, ours, models.their_default_generation(theirs, tokens), (steps, 1))


def model_users(row: Row, repeats: int) -> Result:
    """A step of one token for users at different places of segment and chunk, over that of as many at one place."""
    model, steps = models.our_model(row.sizes), 2 * row.sizes["chunk"]
    with torch.no_grad():
        tokens = models.tokens_of(row.sizes)
        together = model(tokens).state
        apart = ModelState.join([model(text[None, : len(text) - user]).state for user, text in enumerate(tokens)])
        many, one = (models.our_generation(model, state, steps) for state in (apart, together))
        return compare(row, 2 * repeats, many, one, (steps, steps))


def model_length(row: Row, repeats: int) -> Result:
    """Time per token of a model that reads, many tokens over few."""
    model, lengths = models.our_model(row.sizes), (row.sizes["tokens"], row.sizes["few"])
    with torch.no_grad():
        many, few = (models.tokens_of(row.sizes, name) for name in ("tokens", "few"))
        return compare(row, repeats, lambda: model(many), lambda: model(few), lengths)


def model_late_generation(row: Row, repeats: int) -> Result:
    """Time of a generated token after a long context over that after a short one."""
    model, steps = models.our_model(row.sizes), 4 * row.sizes["chunk"]
    piece = models.tokens_of(row.sizes, "few")
    with torch.no_grad():
        late, early = (models.stream(model, row.sizes[tokens], piece) for tokens in ("tokens", "few"))
        many, few = (models.our_generation(model, state, steps) for state in (late, early))
        return compare(row, 2 * repeats, many, few, (steps, steps))


def model_streaming_memory(row: Row, repeats: int) -> Result:
    """Peak memory of a process whose model streams many tokens over that of one that streams few, in MB."""
    many, few = (in_own_process(_peak_of_model_stream, row, row.sizes[tokens]) for tokens in ("tokens", "few"))
    return {"ours": many, "other": few, "ratio": many / few, "unit": "MB", "busy": False}


def _peak_of_model_stream(row: Row, tokens: int) -> float:
    with torch.no_grad():
        models.stream(models.our_model(row.sizes), tokens, models.tokens_of({**row.sizes, "tokens": 1000}))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def run(row: Row, repeats: int, keep_freed: bool = False, device: str = "cpu") -> Result | str:
    """Measure one row in a process of its own; OUT_OF_MEMORY where even that does not help."""
    memory = memory_limit() if row.theirs and device == "cpu" else None  # a GPU's driver reserves more addresses
    return in_own_process(_measure, row, repeats, device, memory=memory, keep_freed=keep_freed)


def memory_limit() -> int:
    """Bytes that a row with titans-pytorch may use: not what the rest of the machine needs."""
    return int(0.7 * available_memory())


def _measure(row: Row, repeats: int, device: str) -> Result:
    torch.set_default_device(device)
    torch.manual_seed(0)
    return row.measure(row, repeats)


def _sizes(batch: int, tokens: int, dim: int, chunk: int, **more: int) -> sides.Sizes:
    return {"batch": batch, "tokens": tokens, "dim": dim, "chunk": chunk} | more


SMALL, LARGE = _sizes(1, 1024, 64, 16), _sizes(4, 256, 128, 64)  # at 1024 tokens theirs needs over 23 GB for LARGE

ROWS = [
    Row("same function: scan", same_function_scan, SMALL, 5, theirs=True),
    Row("same function: layer", same_function_layer, SMALL, 5, theirs=True),
    Row("same function: scan", same_function_scan, LARGE, 20, theirs=True),
    Row("same function: layer", same_function_layer, LARGE, 20, theirs=True),
    *(
        Row("defaults", defaults, _sizes(batch, tokens, dim, 64), 2, theirs=True, quick=tokens == 1024 and dim == 128)
        for dim in (128, 384)
        for batch in (1, 4)
        for tokens in (1024, 4096)
    ),
    Row("coarse", coarse, SMALL, 2, theirs=True),
    Row("coarse", coarse, _sizes(1, 1024, 128, 64), 2, theirs=True),
    Row("coarse", coarse, _sizes(1, 4096, 128, 64), 2, theirs=True, quick=False),
    Row("coarse", coarse, _sizes(4, 1024, 128, 64), 2, theirs=True, quick=False),
    Row("coarse", coarse, _sizes(1, 1024, 384, 64), 2, theirs=True, quick=False),
    Row("floor", over_floor, _sizes(4, 1024, 384, 64), 1.3, at_least=False),
    Row("floor, D12", over_floor_limited, _sizes(4, 1024, 384, 64), 1.3, at_least=False, quick=False),
    *(
        Row("floor: layer", layer_over_floor, _sizes(batch, tokens, dim, 64), 1.3, at_least=False, quick=tokens == 1024)
        for batch, tokens, dim in ((1, 1024, 128), (1, 4096, 128), (4, 1024, 128), (1, 1024, 384))
    ),
    Row("floor: model", model_over_floor, _sizes(1, 1024, 128, 16), 1.3, at_least=False),
    Row("floor: model", model_over_floor, _sizes(4, 1024, 128, 16), 1.3, at_least=False, quick=False),
    Row("closed form", closed_form, _sizes(1, 256, 64, 16), 1),
    Row("length: forward", long_forward, _sizes(1, 65536, 64, 16, few=1024), 1.2, at_least=False),
    Row("length: training", long_training, _sizes(1, 16384, 64, 16, few=1024), 1.2, at_least=False, quick=False),
    Row("length: generation", generation, _sizes(1, 100_000, 64, 16, few=1000), 1.1, at_least=False),
    Row("length: memory", streaming_memory, _sizes(1, 100_000, 64, 16, few=10_000), 1.1, at_least=False),
    *(
        Row(name, measure, _sizes(1, 100_000, 64, chunk), 1, at_least=False)
        for name, measure in (("long call: scan", long_scan_memory), ("long call: layer", long_call_memory))
        for chunk in (16, 1024)
    ),
    Row("model: training", model_training, _sizes(1, 1024, 128, 16), 2, theirs=True),
    Row("model: training", model_training, _sizes(4, 1024, 128, 16), 2, theirs=True, quick=False),
    Row("packed", packed_training, _sizes(64, 264, 64, 16), 1.5, at_least=False),
    Row("packed", packed_training, _sizes(64, 264, 128, 16), 1.5, at_least=False, quick=False),
    Row("model: generation", model_generation, _sizes(1, 4096, 128, 16), 3, theirs=True),
    Row(
        "model: generation, compiled", model_compiled_generation, _sizes(1, 4096, 128, 16), 5, theirs=True, quick=False
    ),
    Row("model: default generation", model_default_generation, _sizes(1, 4096, 128, 16), 5, theirs=True),
    Row("model: users", model_users, _sizes(16, 64, 128, 16), 3, at_least=False),
    Row("model: length", model_length, _sizes(1, 65536, 64, 16, few=1024), 1.2, at_least=False),
    Row("model: late generation", model_late_generation, _sizes(1, 100_000, 64, 16, few=1000), 1.1, at_least=False),
    Row("model: memory", model_streaming_memory, _sizes(1, 100_000, 64, 16, few=10_000), 1.2, at_least=False),
]
