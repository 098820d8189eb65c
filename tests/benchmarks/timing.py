"""Timing side by side, and running what may need too much memory in a process of its own."""

from __future__ import annotations

import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import torch

from .machine import BUSY, Others, wait_until_quiet

OUT_OF_MEMORY = "out of memory"
KEEP_FREED = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**34)}


class Timing(NamedTuple):
    """Median seconds of each side, and whether too many turns were disturbed by other processes to leave them out."""

    seconds: list[float]
    busy: bool


def side_by_side(repeats: int, *sides: Callable[[], object]) -> Timing:
    """Time sides in turns, so that whatever slows the machine down slows all of them.

    A turn in which other processes used the machine is left out and repeated, as long as fewer than half of them are.
    """
    for side in sides:
        _warm_up(side)
    quiet: list[list[float]] = []
    disturbed: list[list[float]] = []
    while len(quiet) < repeats and len(disturbed) <= 2 * repeats:
        others = Others()
        turn = [_seconds(side) for side in sides]
        if (others.share() or 0) < BUSY:
            quiet.append(turn)
        else:
            disturbed.append(turn)
            wait_until_quiet(patience=10)
    busy = len(quiet) < repeats
    turns = quiet + disturbed if busy else quiet
    return Timing([statistics.median(times) for times in zip(*turns, strict=True)], busy)


def _warm_up(side: Callable[[], object], most: int = 4) -> None:
    """Run until a run is no longer much faster than the one before: memory that is touched first comes slowly."""
    before, now = float("inf"), _seconds(side)
    while now < 0.8 * before and most > 1:
        before, now, most = now, _seconds(side), most - 1


def _seconds(side: Callable[[], object], at_least: float = 0.05) -> float:
    """Mean seconds of a run, over as many as fill the time that a look at the machine's clock of work needs."""
    began, runs = time.perf_counter(), 0
    while runs == 0 or time.perf_counter() - began < at_least:
        side()
        runs += 1
        _finish()
    return (time.perf_counter() - began) / runs


def _finish() -> None:
    """Wait for what a GPU still has to do."""
    if torch.get_default_device().type == "cuda":
        torch.cuda.synchronize()


def in_own_process(
    function: Callable[..., Any], *args: Any, memory: int | None = None, keep_freed: bool = False
) -> Any:
    """function(*args) in a fresh process that may use `memory` bytes at most; OUT_OF_MEMORY if that is too little.

    keep_freed: freed memory stays with the process (glibc), so that no time goes into asking the system for it again.
    Raises RuntimeError with the child's message when it fails otherwise.
    """
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, memory, function, args))
    environment = dict(os.environ)
    os.environ.update(KEEP_FREED if keep_freed else {})
    process.start()
    os.environ.clear()
    os.environ.update(environment)
    sender.close()
    try:
        kind, answer = receiver.recv()
    except EOFError:  # ended without an answer: the kernel or a failed allocation in a thread has stopped it
        kind, answer = "memory", None
    process.join()
    if kind == "error":
        raise RuntimeError(answer)
    return OUT_OF_MEMORY if kind == "memory" else answer


def _answer(sender: Connection, memory: int | None, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    if memory is not None:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    try:
        sender.send(("answer", function(*args)))
    except Exception as error:
        sender.send(("memory", None) if _is_out_of_memory(error) else ("error", f"{type(error).__name__}: {error}"))


def fits_in_memory(run: Callable[[], object]) -> bool:
    """Whether a run gets the memory that it asks for."""
    try:
        run()
    except Exception as error:
        if _is_out_of_memory(error):
            return False
        raise
    return True


def _is_out_of_memory(error: Exception) -> bool:
    """PyTorch raises a RuntimeError where Python raises a MemoryError."""
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error) or "bad_alloc" in str(error)


def available_memory() -> int:
    """Bytes that new processes can use now."""
    with open("/proc/meminfo", encoding="utf-8") as file:
        facts = dict(line.split(":", 1) for line in file)
    return int(facts["MemAvailable"].split()[0]) * 1024
