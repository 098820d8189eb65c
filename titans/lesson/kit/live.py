"""Live pictures: controls, and a figure that follows them, in JupyterLab and Colab, with core
ipywidgets only."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as widgets
import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from titans.lesson.kit.figures import mimebundle, png, strip


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
    alt, alt_ja: what the picture shows, in words.
    """

    def __init__(
        self,
        drawing: Drawing,
        controls: Mapping[str, widgets.Widget],
        rows: Sequence[Sequence[str | widgets.Widget]],
        states: Sequence[Mapping[str, Any]],
        alt: str,
        alt_ja: str,
    ) -> None:
        self.figure, self.draw, self.controls = drawing.figure, drawing.draw, dict(controls)
        self.alt, self.alt_ja = alt, alt_ja
        self.states = [dict(state) for state in states]
        self.moving, self.background = list(drawing.moving), None
        for artist in self.moving:
            artist.set_animated(True)  # a drawing of the whole figure leaves these out
        layout = widgets.Layout(align_self="flex-start", max_width="100%")
        self.image = widgets.Image(value=self._render(self.values()), format="png", layout=layout)
        self.view = widgets.VBox([*map(self._row, rows), self.image])
        for control in self.controls.values():
            control.observe(self._changed, names="value")

    def _row(self, items: Sequence[str | widgets.Widget]) -> widgets.HBox:
        children = [self.controls[item] if isinstance(item, str) else item for item in items]
        return widgets.HBox(children, layout=widgets.Layout(flex_flow="row wrap"))

    def values(self) -> dict[str, Any]:
        """What the controls say now."""
        return {name: control.value for name, control in self.controls.items()}

    def _changed(self, change: object) -> None:
        self.image.value = self._render(self.values())

    def pixels(self) -> np.ndarray:
        """The figure as it is now: [height, width, 3] bytes."""
        canvas = self.figure.canvas
        assert isinstance(canvas, FigureCanvasAgg)
        if self.background is None:
            canvas.draw()
            self.background = canvas.copy_from_bbox(self.figure.bbox)
        canvas.restore_region(self.background)
        for artist in self.moving:
            artist.draw(canvas.get_renderer())
        return np.asarray(canvas.buffer_rgba())[..., :3]

    def _render(self, values: Mapping[str, Any]) -> bytes:
        self.draw(**values)
        return png(self.pixels(), compress=1)

    def strip(self) -> bytes:
        """The PNG of all `states`, below one another; the live figure is left as it was."""
        images = []
        for state in self.states:
            self.draw(**{**self.values(), **state})
            images.append(self.pixels().copy())
        self.draw(**self.values())
        return png(strip(images))

    def __repr__(self) -> str:
        return f"Live picture with {', '.join(self.controls)}: {self.alt}"

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple[dict, dict]:
        data, metadata = mimebundle(self.strip(), repr(self), self.alt, self.alt_ja)
        view = {"version_major": 2, "version_minor": 0, "model_id": self.view.model_id}
        return {**data, "application/vnd.jupyter.widget-view+json": view}, metadata


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


def choice(name: str, options: Sequence[str], width: int, value: str | None = None) -> widgets.Dropdown:
    """A list to choose from, its first entry chosen unless another is named; width in pixels."""
    return widgets.Dropdown(
        options=options, value=value or options[0], description=name, layout=widgets.Layout(width=f"{width}px")
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
