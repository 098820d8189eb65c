"""Every picture that a test of the lessons draws is looked at: can it be read, in the language that is spoken?"""

import pytest
from matplotlib import rcParams

from tests.lessons.legible import problems
from tests.lessons.translated import left_in_english
from titans.lesson.kit.figures import Picture
from titans.lesson.kit.host import speak


@pytest.fixture(autouse=True)
def legible_pictures(monkeypatch):
    draw = Picture.__init__

    def checked(picture, figure, *args, **named):
        assert [*problems(figure), *left_in_english(figure)] == []
        draw(picture, figure, *args, **named)

    monkeypatch.setattr(Picture, "__init__", checked)


@pytest.fixture(autouse=True)
def english():
    """What a test chose is not the next one's language."""
    family = rcParams["font.family"]
    yield
    speak("en")
    rcParams["font.family"] = family
