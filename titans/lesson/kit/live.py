"""Live pictures: controls, and a figure that follows them, in JupyterLab and Colab, with core ipywidgets only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets as widgets
import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from titans.lesson.kit.figures import mimebundle, png, strip


class LivePicture:
    """A figure redrawn whenever a control moves, and the same figure in a few states where no kernel runs.

    figure: drawn once with all its artists; `draw` only updates them.
    controls: widgets by the name under which `draw` takes their values.
    draw: called as draw(**values); an exception in it reaches whoever moved the control.
    moving: all artists that `draw` changes, from back to front. What stands still is drawn once and these on top of it,
        which is many times faster than the whole figure.
    states: what a committed notebook shows, one dictionary of values a picture, drawn by the same function.
    alt, alt_ja: what the picture shows, in words.
    rows: the controls' arrangement, as rows of names; others (a Play button) may be handed in as widgets.
    """

    def __init__(
        self,
        figure: Figure,
        controls: Mapping[str, widgets.Widget],
        draw: Callable[..., None],
        moving: Sequence[Artist],
        states: Sequence[Mapping[str, Any]],
        alt: str,
        alt_ja: str,
        rows: Sequence[Sequence[str | widgets.Widget]] | None = None,
    ) -> None:
        self.figure, self.controls, self.draw, self.alt, self.alt_ja = figure, dict(controls), draw, alt, alt_ja
        self.states = [dict(state) for state in states]
        self.moving, self.background = list(moving), None
        for artist in self.moving:
            artist.set_animated(True)  # a drawing of the whole figure leaves these out
        layout = widgets.Layout(align_self="flex-start", max_width="100%")
        self.image = widgets.Image(value=self._render(self.values()), format="png", layout=layout)
        boxes = [
            widgets.HBox(
                [self.controls[item] if isinstance(item, str) else item for item in row],
                layout=widgets.Layout(flex_flow="row wrap"),
            )
            for row in (rows if rows is not None else [list(self.controls)])
        ]
        self.view = widgets.VBox([*boxes, self.image])
        for control in self.controls.values():
            control.observe(self._changed, names="value")

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
        data["application/vnd.jupyter.widget-view+json"] = {
            "version_major": 2,
            "version_minor": 0,
            "model_id": self.view.model_id,
        }
        return data, metadata


def slider(name: str, value: float, low: float, high: float, step: float, digits: int = 2) -> widgets.FloatSlider:
    """A slider with its name before it and its value behind it."""
    return widgets.FloatSlider(
        value=value, min=low, max=high, step=step, description=name, readout_format=f".{digits}f",
        layout=widgets.Layout(width="290px"),
    )  # fmt: skip


def count(name: str, value: int, low: int, high: int, step: int = 1) -> widgets.IntSlider:
    """A slider over whole numbers."""
    return widgets.IntSlider(
        value=value, min=low, max=high, step=step, description=name, layout=widgets.Layout(width="290px")
    )


def player(control: widgets.IntSlider, milliseconds: int = 200) -> widgets.Play:
    """A Play button that moves `control` in the browser."""
    play = widgets.Play(min=control.min, max=control.max, step=control.step, interval=milliseconds)
    widgets.jslink((play, "value"), (control, "value"))
    play.value = control.value
    return play
