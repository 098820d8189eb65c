"""Every picture and lab of every lesson can be read: words of 8 points or more that stand out, marks that can be seen.

Pictures that are handed what was measured are looked at wherever a test draws them (conftest.py).
"""

from __future__ import annotations

import pytest
from matplotlib.colors import to_rgb

from tests.lessons.labs import LABS, PICTURES, check_words
from tests.lessons.legible import MARKS, WHITE, contrast, problems
from titans.lesson.kit import figures
from titans.lesson.kit.figures import new_figure, tidy


@pytest.mark.parametrize("draw", [*PICTURES, *LABS])
def test_a_picture_speaks_both_languages_and_can_be_read(draw):
    check_words(draw)  # a picture is looked at by conftest.py too


@pytest.mark.parametrize("make", LABS)
def test_a_lab_can_be_read_in_every_state(make):
    lab = make()
    for artist in lab.moving:
        artist.set_animated(False)
    for state in lab.states:
        lab.draw(**{**lab.values(), **state})
        assert list(problems(lab.figure)) == []


def test_the_rooms_are_looked_into():
    assert len(LABS) >= 7
    assert len(PICTURES) >= 6


def test_colours_of_the_course_stand_out_on_white():
    for colour, _, _ in (*figures.CYCLE, (figures.GREY, "", "")):
        assert contrast(to_rgb(colour), WHITE) >= MARKS


def faint_line(axes):
    axes.plot([0, 1], [0, 1], color="0.8", label="faint")


FAULTS = {
    "a small label": (lambda axes: axes.set_title("small", fontsize=7), ["'small': 7 pt"]),
    "grey words": (lambda axes: axes.text(0.5, 0.5, "pale", color="0.6", fontsize=9), ["'pale': contrast 2.85"]),
    "words on a dark bar": (
        lambda axes: [axes.bar([0], [1], width=2, color="black"), axes.text(0, 0.5, "black", fontsize=9)],
        ["'black': contrast 1.00"],
    ),
    "a faint line": (faint_line, ["line 'faint': contrast 1.61"]),
    "nothing": (lambda axes: axes.plot([0, 1], [0, 1], color="black"), []),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_cannot_be_read_is_found(name):
    figure = new_figure(3)
    axes = tidy(figure.add_subplot(), "", "x", "y")
    fault, found = FAULTS[name]
    fault(axes)
    assert list(problems(figure)) == found
