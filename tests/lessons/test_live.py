"""Live pictures and still ones: what they are made of, what they say, and what is shown where no kernel moves them."""

from __future__ import annotations

import io
import sys
import threading

import ipywidgets as widgets
import numpy as np
import pytest
import torch
from IPython.core.interactiveshell import InteractiveShell
from matplotlib.image import imread

from tests.lessons.labs import LABS
from titans.lesson.kit import live
from titans.lesson.kit.figures import DPI, SHARP, WIDTH, Picture, chart, quick_png
from titans.lesson.kit.host import say, session, speak
from titans.lesson.kit.live import Drawing, LivePicture, choice, count, play_button


class Dot(Drawing):
    def __init__(self):
        self.figure, axes = chart(2, "x", "y", (0.1, 0.2, 0.9, 0.9))
        (self.dot,) = axes.plot([0], [0], "o")
        self.words = axes.text(0, 0.5, "")
        axes.set(xlim=(0, 9), ylim=(-1, 1))
        self.moving, self.threads = [self.dot, self.words], []

    def draw(self, x, side):
        self.threads.append(torch.get_num_threads())
        self.dot.set_xdata([x])
        self.words.set_text(f"{side} & $x$ = {x}")


@pytest.fixture
def dot():
    return moving_dot()


def moving_dot():
    controls = {"x": count("x", 0, 0, 9), "side": choice("side", ("left", "right"))}
    rows = (("x", play_button(controls["x"])), ("side",))
    states = ({"x": 1}, {"x": 2})
    return LivePicture(Dot(), controls, rows, states, "A dot.", "点。", "At 1 and 2.", "1と2にあります。")


def in_session(monkeypatch, path):
    monkeypatch.setenv("JPY_SESSION_NAME", path)


def test_a_callback_in_a_thread_of_its_own_draws_with_one_thread(dot, monkeypatch):
    """A thread that JupyterLab starts for a slider knows nothing of what a cell has set."""

    def move():
        torch.set_num_threads(4)  # what a machine with four cores gives a new thread
        dot.controls["x"].value = 3

    thread = threading.Thread(target=move)
    thread.start()
    thread.join()
    assert dot.draw.__self__.threads[-1] == 1


def test_a_live_picture_says_what_it_shows_now(dot):
    dot.controls["x"].value = 3
    assert 'alt="A dot. left &amp; x = 3"' in dot.image.value
    dot.controls["side"].value = "right"
    assert "right &amp; x = 3" in dot.image.value


def test_a_live_picture_has_two_pixels_for_each_of_the_page(dot):
    assert imread(io.BytesIO(dot.png)).shape[:2] == (SHARP * 2 * DPI, SHARP * WIDTH * DPI)
    assert f'width="{WIDTH * DPI}" height="{2 * DPI}"' in dot.image.value


def test_a_quick_png_holds_the_same_pixels(dot):
    pixels = dot.pixels(SHARP)
    assert np.array_equal(np.round(255 * imread(io.BytesIO(quick_png(pixels)))), pixels)


@pytest.mark.parametrize(("language", "words"), [("en", "hello"), ("ja", "今日は")])
def test_a_lesson_speaks_the_language_that_it_is_started_in(language, words):
    speak(language)
    assert say("hello", "今日は") == words


def test_another_language_is_refused_by_name():
    with pytest.raises(ValueError, match="language must be one of"):
        speak("fr")


def test_colab_is_no_session(monkeypatch):
    in_session(monkeypatch, "/content/00.ipynb")
    assert session() == "/content/00.ipynb"
    monkeypatch.setitem(sys.modules, "google.colab", object())
    assert session() is None


def shown(thing, monkeypatch):
    """What a cell with this as its last line displays beside its result, and the result: bundles of data."""
    shell, displayed = InteractiveShell.instance(), []
    monkeypatch.setattr(live, "display", lambda data, raw: displayed.append(data))
    result, _ = shell.display_formatter.format(thing)
    return displayed, result


def test_elsewhere_a_live_picture_is_one_output_that_falls_back_on_its_strip(dot, monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    displayed, result = shown(dot, monkeypatch)
    assert displayed == []
    assert result.keys() == {"text/plain", "image/png", live.WIDGET_VIEW}


def test_in_jupyterlab_a_live_picture_leaves_behind_what_to_run(monkeypatch):
    speak("ja")
    dot = moving_dot()
    in_session(monkeypatch, "/x/ja/00.ipynb")
    (view, stored), result = shown(dot, monkeypatch)
    assert result == {}
    assert view.keys() == {"text/plain", live.WIDGET_VIEW}
    assert live.RUN[1] in stored["text/html"]
    assert live.RUN[0] not in stored["text/html"]
    assert 'alt="点。1と2にあります。"' in stored["text/html"]


def test_a_live_picture_whose_kernel_is_gone_says_so(dot):
    notes = [child.value for child in dot.view.children if isinstance(child, widgets.HTML)]
    assert [live.AGAIN[0] in note for note in notes] == [True, False]


def picture():
    figure, axes = chart(2, "x", "y", (0.1, 0.2, 0.9, 0.9))
    axes.plot([0, 1], [0, 1])
    return Picture(figure, alt="A <line>.", alt_ja="直線。")


def test_in_jupyterlab_a_picture_is_an_element_that_says_what_it_shows(monkeypatch):
    in_session(monkeypatch, "/x/en/00.ipynb")
    data, metadata = picture()._repr_mimebundle_()
    assert 'alt="A &lt;line&gt;." width="900" height="200"' in data["text/html"]
    assert data["image/png"]
    assert metadata == {"image/png": {"alt": "A <line>."}}


def test_elsewhere_a_picture_is_one_png(monkeypatch):
    """Both would make a committed notebook three times as large, and GitHub may show nothing of the element."""
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    data, _ = picture()._repr_mimebundle_()
    assert data.keys() == {"text/plain", "image/png"}


@pytest.mark.parametrize("make", LABS)
def test_no_control_loses_its_keys_to_the_notebook(make):
    """On a closed list "b" inserts a cell, and an arrow key goes to the next one."""
    lab = make()
    assert not any(isinstance(control, (widgets.Dropdown, widgets.Select)) for control in lab.controls.values())
