"""Pictures for the lessons: one style, colours that colour-blind readers can tell apart, alt text
in two languages."""

import base64
import html
import io
import struct
import zlib
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image
from torch import Tensor

from titans.lesson.kit.host import say, session

# Okabe and Ito's colours, darker where they would be faint on white (at least 3 : 1, blue, red and grey 4.5 : 1 for
# words too); always used together with a marker, a line style or a label.
BLUE, ORANGE, GREEN, PINK, SKY, RED, BLACK, GREY = (
    "#0072B2", "#C67F00", "#009E73", "#C2639A", "#3A94CC", "#B84400", "#000000", "#6E6E6E",
)  # fmt: skip
FRAME = "#D55E00"  # seen on the dark and on the bright end of `share_map`
CYCLE = ((BLUE, "o", "-"), (ORANGE, "s", "--"), (GREEN, "^", "-."), (PINK, "D", ":"), (SKY, "v", "-"), (RED, "X", "--"))
WEIGHTS = "RdBu_r"  # a diverging map, centred at 0: blue is negative, red positive
WIDTH, DPI = 9, 100  # of every figure, in inches, and pixels an inch
SHARP = 2  # pixels of a screen for one of a page, at most: where a page can show them, pictures have as many

Curves = Mapping[str, Sequence[Any]]  # name -> (values in x, values in y)
Stretches = Mapping[str, tuple[int, int]]  # name -> first token and the one after the last


def new_figure(height: float) -> Figure:
    """An empty figure as wide as a lesson, its layout fitted once by whoever fills it."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def chart(height: float, x: str, y: str, edges: tuple[float, float, float, float]) -> tuple[Figure, Axes]:
    """A figure with one pair of tidy axes; edges: where they end, (left, bottom, right, top)."""
    figure = new_figure(height)
    axes = tidy(figure.add_subplot(), "", x, y)
    figure.subplots_adjust(*edges)
    return figure, axes


def tidy(axes: Axes, title: str = "", x: str = "", y: str = "") -> Axes:
    """Title and axis labels, no box, a light grid."""
    axes.set_title(title, fontsize=10, loc="left")
    axes.set_xlabel(x, fontsize=9)
    axes.set_ylabel(y, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25, linewidth=0.6)
    return axes


def plot_curves(axes: Axes, curves: Curves, markersize: float = 4, linewidth: float = 1.5) -> None:
    """Named curves, each with a colour, a marker and a line style of its own from CYCLE."""
    for (name, (x, y)), (colour, marker, line) in zip(curves.items(), CYCLE, strict=False):
        axes.plot(
            x, y, color=colour, marker=marker, linestyle=line, linewidth=linewidth, markersize=markersize, label=name
        )


def legend_outside(axes: Axes, size: float = 9) -> None:
    """The names of the curves to the right of the axes."""
    axes.legend(frameon=False, fontsize=size, loc="center left", bbox_to_anchor=(1.01, 0.5))


def shade(axes: Axes, stretches: Stretches, greys: Sequence[str] = ("0.9", "0.97")) -> None:
    """Stretches of tokens in greys by turns, behind everything."""
    for (start, end), grey in zip(stretches.values(), cycle(greys), strict=False):
        axes.axvspan(start - 0.5, end - 0.5, color=grey, zorder=0, linewidth=0)


def name_stretches(axes: Axes, stretches: Stretches, shift: float = -0.4, y: float = 1.04, size: float = 8) -> None:
    """The name of each stretch above its first token, moved by `shift`; y: 1 is the axes' upper end."""
    for name, (start, _) in stretches.items():
        axes.text(start + shift, y, name, transform=axes.get_xaxis_transform(), fontsize=size)


def heatmap(axes: Axes, matrix: Tensor | np.ndarray, title: str = "", limit: float = 1.0) -> AxesImage:
    """A matrix of weights, red for positive and blue for negative; `limit`: where the colours end."""
    values = np.asarray(matrix.detach() if isinstance(matrix, Tensor) else matrix)
    image = axes.imshow(values, cmap=WEIGHTS, vmin=-limit, vmax=limit, interpolation="nearest", aspect="equal")
    axes.set_title(title, fontsize=10)
    axes.set_xticks([])
    axes.set_yticks([])
    return image


def share_map(axes: Axes, shares: Tensor) -> AxesImage:
    """A table of shares or chances, dark for 0 and bright for 1."""
    return axes.imshow(shares.numpy(), cmap="cividis", vmin=0, vmax=1, aspect="auto", interpolation="nearest")


def pixels(figure: Figure, scale: int = 1) -> np.ndarray:
    """The figure as drawn now: [height, width, 3] bytes; scale: pixels for one of a page."""
    canvas = figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    figure.set_dpi(scale * DPI)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def png(image: np.ndarray, compress: int = 9) -> bytes:
    """PNG bytes of [height, width, 3] bytes."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="png", compress_level=compress)
    return buffer.getvalue()


def quick_png(image: np.ndarray) -> bytes:
    """The same a little larger and in a third of the time: every row as what it adds to the one above."""
    height, width, _ = image.shape
    rows = np.full((height, 1 + 3 * width), 2, dtype=np.uint8)  # 2: the filter "up", named before each row
    flat = image.reshape(height, -1)
    rows[0, 1:] = flat[0]
    np.subtract(flat[1:], flat[:-1], out=rows[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits each of red, green and blue
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), 1)), (b"IEND", b""))
    chunks = (struct.pack(">I", len(d)) + name + d + struct.pack(">I", zlib.crc32(name + d)) for name, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def strip(images: Sequence[np.ndarray], gap: int = 12) -> np.ndarray:
    """Pictures of one size below one another, with a grey line between them."""
    bar = np.full((gap, images[0].shape[1], 3), 255, dtype=np.uint8)
    bar[gap // 2] = 160
    parts = [part for image in images for part in (image, bar)]
    return np.concatenate(parts[:-1])


def img(image: bytes, alt: str, scale: int = 1, more: str = "") -> str:
    """A PNG as an HTML element that says what it shows, framed, for a page that may be dark; more: its attributes."""
    source = base64.b64encode(image).decode()
    width, height = (side // scale for side in struct.unpack(">II", image[16:24]))  # as its header says
    style = "max-width: 100%; height: auto; border: 1px solid #bbb; box-sizing: border-box"
    return (
        f'<img alt="{html.escape(alt)}" width="{width}" height="{height}" style="{style}" {more} '
        f'src="data:image/png;base64,{source}">'
    )


def mimebundle(image: bytes, text: str, alt: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What a notebook stores for a picture: the text for a terminal, the PNG, and its alt text."""
    data = {"text/plain": text, "image/png": base64.b64encode(image).decode()}
    return data, {"image/png": {"alt": alt}}


class Picture:
    """A finished figure that a notebook shows: Picture(figure, alt="...", alt_ja="...") as a cell's
    last line."""

    def __init__(self, figure: Figure, alt: str, alt_ja: str) -> None:
        self.image, self.alt = pixels(figure), say(alt, alt_ja)
        self.sharp = pixels(figure, SHARP) if session() else None

    def __repr__(self) -> str:
        return say(f"Picture: {self.alt}", f"図：{self.alt}")

    def _repr_mimebundle_(self, include: object = None, exclude: object = None) -> tuple[dict, dict]:
        data, metadata = mimebundle(png(self.image), repr(self), self.alt)
        if self.sharp is not None:  # JupyterLab reads out no alt text of image/png
            data["text/html"] = img(png(self.sharp, compress=6), self.alt, SHARP)
        return data, metadata
