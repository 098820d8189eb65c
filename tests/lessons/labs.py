"""What every lab and player of a lesson holds."""

from itertools import combinations

import numpy as np
import pytest

from titans.lesson.kit import figures

TALLEST = 1_060  # pixels


def check_strip(lab) -> None:
    """The strip shows what the controls show in two or three states, each another picture, on a page's height."""
    assert 2 <= len(lab.states) <= 3
    images = []
    for state in lab.states:
        for control, value in state.items():
            lab.controls[control].value = value
        images.append(lab.pixels().copy())
    assert figures.strip(images).shape[0] <= TALLEST
    assert figures.png(figures.strip(images)) == lab.strip()
    assert not any(np.array_equal(one, other) for one, other in combinations(images, 2))


def check_failing_draw(lab, control: str, value: object, monkeypatch) -> None:
    """An error while drawing reaches whoever moved the control."""

    def broken(**values):
        raise RuntimeError("broken")

    monkeypatch.setattr(lab, "draw", broken)
    with pytest.raises(RuntimeError, match="broken"):
        lab.controls[control].value = value
