"""Every lab and picture of a lesson, and what they hold."""

import inspect
import re
from importlib import import_module
from itertools import combinations

import numpy as np
import pytest

from tests.lessons.translated import controls_in_english, left_in_english
from tests.paths import ROOT
from titans.lesson.kit import figures
from titans.lesson.kit.figures import Picture
from titans.lesson.kit.host import speak
from titans.lesson.kit.live import LivePicture

TALLEST = 1_060  # pixels
ROOMS = sorted((ROOT / "titans" / "lesson").glob("lesson_*/*.py"))
MODULES = [import_module(f"titans.lesson.{path.parent.name}.{path.stem}") for path in ROOMS if path.stem != "__init__"]


def drawers(kind):
    """Every function of a room that draws one of this kind, and needs nothing for it."""
    for module in MODULES:
        for name, function in vars(module).items():
            if inspect.isfunction(function) and function.__module__ == module.__name__:
                signature = inspect.signature(function, eval_str=True)
                if signature.return_annotation is kind and not signature.parameters:
                    yield pytest.param(function, id=f"{module.__name__.split('.')[-2]}-{name}")


LABS, PICTURES = list(drawers(LivePicture)), list(drawers(Picture))


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


def check_words(make) -> None:
    """A picture, and the controls of a lab, say what they show, in English and in Japanese to the last label."""
    for language, enough in (("en", 60), ("ja", 20)):
        speak(language)
        picture = make()
        data, metadata = picture._repr_mimebundle_()
        assert data["image/png"]
        assert len(metadata["image/png"]["alt"]) > enough
        assert bool(re.search("[ぁ-ん]", metadata["image/png"]["alt"])) == (language == "ja")
        if language == "ja" and isinstance(picture, LivePicture):
            assert list(controls_in_english(picture.view)) == []
            for state in picture.states:
                picture.draw(**{**picture.values(), **state})
                assert left_in_english(picture.figure) == []


def check_failing_draw(lab, control: str, value: object, monkeypatch) -> None:
    """An error while drawing reaches whoever moved the control."""

    def broken(**values):
        raise RuntimeError("broken")

    monkeypatch.setattr(lab, "draw", broken)
    with pytest.raises(RuntimeError, match="broken"):
        lab.controls[control].value = value
