"""Whether another package has its files in this one's place, and what to do then.

PyPI has several that install a top-level `titans` too. Whichever is installed later overwrites files
of the other, and whichever is removed takes them along.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

OURS = "titans-step-by-step"
CARRIED = Path(__file__).with_name("carried")  # in the copy that a lesson's single file brings, in a folder of its own


def others() -> list[str]:
    """Names of other installed packages that have a titans/__init__.py: of those with titans in
    their name, so that few files are read. A copy in a folder of its own has none of theirs among it."""
    if CARRIED.exists():
        return []
    found = set()
    for folder in map(Path, sys.path):
        with suppress(OSError):
            for record in folder.glob("*[Tt]itans*.dist-info/RECORD"):
                files = record.read_text(encoding="utf-8", errors="replace").splitlines()
                name = record.parent.name.split("-")[0].replace("_", "-")
                if name != OURS and any(file.startswith("titans/__init__.py,") for file in files):
                    found.add(name)
    return sorted(found)


def advice(names: list[str]) -> str:
    """What to do where these packages are, or an unknown one."""
    return (
        f"another package that is called titans too ({', '.join(names) or 'unknown'}) has its files among this "
        f"library's, or had: `pip uninstall {' '.join(names) or 'titans'}`, and then, in the folder of this library's "
        "repository, `pip install --force-reinstall --no-deps -e .`"
    )


@contextmanager
def whole() -> Iterator[None]:
    """Around the library's own imports: where one of them fails, or may after the next installation,
    it is told what to do."""
    try:
        yield
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "titans":
            raise
        raise ImportError(f"titans is not whole ({error}): {advice(others())}", name=error.name) from error
    if names := others():
        warnings.warn(advice(names), stacklevel=3)
