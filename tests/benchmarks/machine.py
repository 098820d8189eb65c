"""The machine that is measured on, and whether anything else is running there."""

from __future__ import annotations

import os
import platform
import resource
import time
from pathlib import Path

import torch

BUSY = 0.1  # share of all cores that others may use before a measurement is called disturbed


def facts(device: str = "cpu") -> dict[str, str | int]:
    """What a reader must know to compare figures with their own."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count() or 1,
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "os": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "date": time.strftime("%Y-%m-%d"),
    } | ({"gpu": torch.cuda.get_device_name(device)} if device != "cpu" else {})


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    widest = "AVX-512" if any("avx512f" in line for line in lines) else "AVX2" if "avx2" in " ".join(lines) else ""
    return " ".join(filter(None, (models[0] if models else platform.machine(), widest)))


class Others:
    """The share of the machine's cores that other processes use, from `start` until asked; None where unknown."""

    def __init__(self) -> None:
        self.wall, self.used, self.own = time.monotonic(), _used_by_all(), _used_by_us()

    def share(self) -> float | None:
        used = _used_by_all()
        if used is None or self.used is None:
            return None
        others = (used - self.used) - (_used_by_us() - self.own)
        return max(0.0, others / ((time.monotonic() - self.wall) * (os.cpu_count() or 1)))


def _used_by_all() -> float | None:
    """Seconds of processor time spent by everybody since the machine started (Linux)."""
    try:
        user, nice, system, _, _, irq, softirq, steal = map(
            int, Path("/proc/stat").read_text(encoding="utf-8").split()[1:9]
        )
    except OSError:
        return None
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")


def _used_by_us() -> float:
    """Seconds of processor time spent by this process and by those of its children that have ended."""
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def wait_until_quiet(patience: float, look: float = 1.0) -> bool:
    """Wait, `patience` seconds at most, until others use less than BUSY of the cores. False: they still do."""
    end = time.monotonic() + patience
    while True:
        others = Others()
        time.sleep(look)
        share = others.share()
        if share is None or share < BUSY:
            return True
        if time.monotonic() > end:
            return False


def multiply_speed(size: int = 512, seconds: float = 0.3) -> float:
    """GFLOP/s of a plain float32 matrix product: the machine's speed in one figure."""
    a, out = torch.randn(size, size), torch.empty(size, size)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        torch.mm(a, a, out=out)
        best = min(best, time.perf_counter() - began)
    return 2 * size**3 / best / 1e9
