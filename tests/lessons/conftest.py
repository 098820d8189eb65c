"""Every picture that a test of the lessons draws is looked at: can it be read?"""

import pytest

from tests.lessons.legible import problems
from titans.lesson.kit.figures import Picture


@pytest.fixture(autouse=True)
def legible_pictures(monkeypatch):
    draw = Picture.__init__

    def checked(picture, figure, *args, **named):
        assert list(problems(figure)) == []
        draw(picture, figure, *args, **named)

    monkeypatch.setattr(Picture, "__init__", checked)
