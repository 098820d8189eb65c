"""Live pictures: controls, and a figure that follows them, in JupyterLab and Colab, with core
ipywidgets only."""

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as widgets
import numpy as np
import torch
from IPython.display import display
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from titans.lesson.kit.figures import DPI, SHARP, img, mimebundle, png, quick_png, strip
from titans.lesson.kit.host import say, session

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
# In the picture: what to do when the kernel that moved it is gone.
LOST_STYLE = (
    """<style>.titans-lost { display: none } .jupyter-widgets-disconnected .titans-lost { display: block }</style>"""
)
# After the picture, for a notebook that is opened again: shown where no live picture stands before it, in its place.
STORED_STYLE = """<style>
.jp-OutputArea-child:has(.titans-live) + .jp-OutputArea-child:has(.titans-stored) { display: none }
.jp-OutputArea-child:not(:has(.titans-live)):has(+ .jp-OutputArea-child .titans-stored) { display: none }
</style>"""
AGAIN = (
    "Nothing moves this picture any more: its kernel is gone. Run this lesson's first cells, then this one.",
    "この図を動かすカーネルは、もう動いていません。レッスンの最初のセルを実行してから、このセルを実行してください。",
)
RUN = (
    "A stored picture. To move it, run this lesson's first cells, then this one.",
    "保存された図です。動かすには、レッスンの最初のセルを実行してから、このセルを実行してください。",
)
# Names for those who hear a page, which ipywidgets leaves out; and plain keys belong to the control that has the
# focus, not to the notebook around it (where "b" would insert a cell, and ArrowDown go to the next one).
PLAYS = "['play or pause', 'stop', 'repeat']", "['再生・一時停止', '停止', 'くり返し']"
READY = """
const view = this.closest('.titans-live')
for (const row of view.querySelectorAll('.widget-slider')) {
    const handle = row.querySelector('[role=slider]'), readout = row.querySelector('.widget-readout')
    handle.setAttribute('aria-label', row.querySelector('.widget-label').textContent)
    if (readout) handle.setAttribute('aria-valuetext', readout.textContent)
}
for (const play of view.querySelectorAll('.widget-play'))
    PLAYS.forEach((name, n) => play.children[n]?.setAttribute('aria-label', name))
for (const button of view.querySelectorAll('.widget-toggle-button'))
    button.setAttribute('aria-pressed', button.classList.contains('mod-active'))
window.titansKeys ||= window.addEventListener('keydown', event => {
    if (event.target.closest?.('.titans-live'))
        event.target.toggleAttribute('data-lm-suppress-shortcuts', !(event.ctrlKey || event.metaKey || event.shiftKey))
}, true) || true
"""


class Drawing:
    """What a lab derives its own drawing from: a figure with all its artists, and how they follow
    the controls."""

    figure: Figure
    moving: Sequence[Artist]  # all that `draw` changes, from back to front
    draw: Callable[..., None]  # draw(**values) updates them; an error in it reaches whoever moved the control


class LivePicture:
    """A drawing that is updated whenever a control moves, and a few states of it where no kernel
    runs.

    drawing: what moves of it is drawn on top of what stands still, which is many times faster than
        the whole figure.
    controls: widgets by the name under which `drawing.draw` takes their values.
    rows: the controls' arrangement, as rows of names; others (a Play button) may be handed in as
        widgets.
    states: what a committed notebook shows, one dictionary of values a picture, drawn by the same
        function.
    shows, shows_ja: what stands where in the picture, in words.
    alt, alt_ja: what the states show.
    """

    def __init__(
        self,
        drawing: Drawing,
        controls: Mapping[str, widgets.Widget],
        rows: Sequence[Sequence[str | widgets.Widget]],
        states: Sequence[Mapping[str, Any]],
        shows: str,
        shows_ja: str,
        alt: str,
        alt_ja: str,
    ) -> None:
        self.figure, self.draw, self.controls = drawing.figure, drawing.draw, dict(controls)
        self.shows, self.alt = say(shows, shows_ja), say(f"{shows} {alt}", f"{shows_ja}{alt_ja}")
        self.states = [dict(state) for state in states]
        self.moving, self.backgrounds = list(drawing.moving), dict[int, Any]()
        for artist in self.moving:
            artist.set_animated(True)  # a drawing of the whole figure leaves these out
        self.image = widgets.HTML()
        lost = widgets.HTML(f'{LOST_STYLE}<b class="titans-lost" role="status">{say(*AGAIN)}</b>')
        self.view = widgets.VBox([lost, *map(self._row, rows), self.image])
        self.view.add_class("titans-live")
        for control in self.controls.values():
            control.observe(self._changed, names="value")
        self._show()

    def _row(self, items: Sequence[str | widgets.Widget]) -> widgets.HBox:
        children = [self.controls[item] if isinstance(item, str) else item for item in items]
        return widgets.HBox(children, layout=widgets.Layout(flex_flow="row wrap"))

    def values(self) -> dict[str, Any]:
        """What the controls say now."""
        return {name: control.value for name, control in self.controls.items()}

    def _changed(self, change: object) -> None:
        # JupyterLab calls this in a thread of its own, and a number of threads is each thread's own.
        torch.set_num_threads(1)
        self._show()

    def _show(self) -> None:
        self.draw(**self.values())
        self.png = quick_png(self.pixels(SHARP))
        words = [artist.get_text() for artist in self.moving if isinstance(artist, Text) and artist.get_visible()]
        alt = f"{self.shows} {'; '.join(filter(str.strip, words))}".replace("$", "")
        ready = html.escape(READY.replace("PLAYS", say(*PLAYS)))
        self.image.value = img(self.png, alt, SHARP, f'decoding="sync" onload="{ready}"')

    def pixels(self, scale: int = 1) -> np.ndarray:
        """The figure as it is now: [height, width, 3] bytes; scale: pixels for one of a page."""
        canvas = self.figure.canvas
        assert isinstance(canvas, FigureCanvasAgg)
        if self.figure.dpi != scale * DPI:
            self.figure.set_dpi(scale * DPI)
        if scale not in self.backgrounds:
            canvas.draw()
            self.backgrounds[scale] = canvas.copy_from_bbox(self.figure.bbox)
        canvas.restore_region(self.backgrounds[scale])
        for artist in self.moving:
            artist.draw(canvas.get_renderer())
        return np.asarray(canvas.buffer_rgba())[..., :3]

    def strip(self) -> bytes:
        """The PNG of all `states`, below one another; the live figure is left as it was."""
        images = []
        for state in self.states:
            self.draw(**{**self.values(), **state})
            images.append(self.pixels().copy())
        self.draw(**self.values())
        return png(strip(images))

    def __repr__(self) -> str:
        return say(f"Live picture with {', '.join(self.controls)}: {self.alt}", f"動かせる図：{self.alt}")

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple[dict, dict]:
        data, metadata = mimebundle(self.strip(), repr(self), self.alt)
        return {**data, WIDGET_VIEW: self._view()}, metadata

    def _view(self) -> dict[str, Any]:
        return {"version_major": 2, "version_minor": 0, "model_id": self.view.model_id}

    def _ipython_display_(self) -> None:
        """In JupyterLab: the live picture, and what takes its place when the saved notebook is opened again."""
        if session() is None:
            raise NotImplementedError  # which IPython takes for: show the bundle
        note = f'{STORED_STYLE}<p class="titans-stored"><b>{say(*RUN)}</b></p>'
        stored = note + img(self.strip(), self.alt)
        display({WIDGET_VIEW: self._view(), "text/plain": repr(self)}, raw=True)
        display({"text/html": stored, "text/plain": say(*RUN)}, raw=True)


def slider(name: str, value: float, low: float, high: float, step: float) -> widgets.FloatSlider:
    """A slider with its name before it and its value behind it."""
    return widgets.FloatSlider(
        value=value, min=low, max=high, step=step, description=name, layout=widgets.Layout(width="290px")
    )


def count(name: str, value: int, low: int, high: int, step: int = 1) -> widgets.IntSlider:
    """A slider over whole numbers."""
    return widgets.IntSlider(
        value=value, min=low, max=high, step=step, description=name, layout=widgets.Layout(width="290px")
    )


def choice(name: str, options: Sequence[str], value: str | None = None) -> widgets.ToggleButtons:
    """A few buttons of which one is pressed, the first unless another is named."""
    buttons = widgets.ToggleButtons(options=options, value=value or options[0], description=name)
    buttons.layout.width = "auto"
    buttons.add_class("widget-inline-hbox")  # its name before it, as that of a slider
    buttons.style.button_width = "auto"
    return buttons


def notches(name: str, options: Sequence[Any], value: Any, width: int = 290) -> widgets.SelectionSlider:
    """A slider over anything that can be put in order, words too; width in pixels."""
    return widgets.SelectionSlider(
        options=options, value=value, description=name, layout=widgets.Layout(width=f"{width}px")
    )


def switch(name: str) -> widgets.Checkbox:
    """A box to tick."""
    return widgets.Checkbox(value=False, description=name, indent=False, layout=widgets.Layout(width="140px"))


def play_button(control: widgets.IntSlider) -> widgets.Play:
    """A Play button that moves `control` in the browser."""
    play = widgets.Play(min=control.min, max=control.max, step=control.step, interval=200)
    widgets.jslink((play, "value"), (control, "value"))
    play.value = control.value
    return play
