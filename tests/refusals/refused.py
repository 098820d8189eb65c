"""What it is to be refused, and the sizes and numbers that every size and number refuses."""

from __future__ import annotations

import pytest

NAN, INF = float("nan"), float("inf")

WRONG_SIZES = [
    (0, ValueError, "at least 1, got 0"),
    (-3, ValueError, "at least 1, got -3"),
    (2.0, TypeError, "an integer, got 2.0"),
    ("2", TypeError, "an integer, got '2'"),
    (True, TypeError, "an integer, got True"),
    (None, TypeError, "an integer, got None"),
]
WRONG_NUMBERS = [
    (0, ValueError, "finite and greater than 0, got 0"),
    (-0.5, ValueError, "finite and greater than 0, got -0.5"),
    (INF, ValueError, "finite and greater than 0, got inf"),
    (NAN, ValueError, "finite and greater than 0, got nan"),
    ("1", TypeError, "a number, got '1'"),
    (True, TypeError, "a number, got True"),
]


def refused(kind: type[Exception], call, *parts: str) -> None:
    """The call raises exactly this kind of error, and its message holds every part."""
    with pytest.raises(kind) as caught:
        call()
    assert caught.type is kind
    missing = [part for part in parts if part not in str(caught.value)]
    assert not missing, f"{missing} not in: {caught.value}"
