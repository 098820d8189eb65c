"""Whether a picture can be read: the size of its words, and how far words and marks stand out from what is behind."""

from collections.abc import Iterator

import numpy as np
from matplotlib.colors import to_rgb, to_rgba
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.text import Text

SMALLEST, WORDS, MARKS = 8, 4.5, 3  # points; contrast of words and of marks
WHITE = (1.0, 1.0, 1.0)


def luminance(colour) -> float:
    """How bright a colour of three shares is, as WCAG has it."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one, other) -> float:
    dark, bright = sorted((luminance(one), luminance(other)))
    return (bright + 0.05) / (dark + 0.05)


def over(colour, behind) -> tuple[float, ...]:
    """What is seen of a colour that may be transparent."""
    *rgb, alpha = to_rgba(colour)
    return tuple(alpha * c + (1 - alpha) * b for c, b in zip(rgb, behind, strict=True))


def shown_words(figure: Figure) -> list[Text]:
    words = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    hidden = {id(text) for axes in figure.axes if not axes.get_visible() or not axes.axison for text in ticks(axes)}
    return [text for text in words if id(text) not in hidden]


def ticks(axes) -> list[Text]:
    return [text for axis in (axes.xaxis, axes.yaxis) for text in axis.findobj(Text)]


def problems(figure: Figure) -> Iterator[str]:
    """What cannot be read in a figure as it is now, a line each."""
    yield from words_that_hide(figure)
    for axes in figure.axes:
        if axes.images or not axes.axison:
            continue  # what lies on a map of colours is looked at by people
        behind = to_rgb(axes.get_facecolor())
        for name, colour in marks(axes):
            if (found := contrast(over(colour, behind), behind)) < MARKS:
                yield f"{name}: contrast {found:.2f}"


def marks(axes) -> Iterator[tuple[str, object]]:
    """Every line, point and bar that is to be seen, with its colour."""
    for line in axes.lines:
        if line.get_visible() and len(line.get_xdata()):
            yield f"line {line.get_label()!r}", to_rgba(line.get_color(), line.get_alpha())
    for points in axes.collections:
        for colour in points.get_facecolor()[:1]:
            yield f"points {points.get_label()!r}", colour
    for bars in axes.containers:
        if isinstance(bars, BarContainer):
            for bar in bars:
                yield f"bars {bars.get_label()!r}", bar.get_facecolor()


def words_that_hide(figure: Figure) -> Iterator[str]:
    texts = shown_words(figure)
    colours = [to_rgba(text.get_color(), text.get_alpha()) for text in texts]
    figure.canvas.draw()
    for text in texts:
        text.set_visible(False)
    figure.canvas.draw()
    page = np.asarray(figure.canvas.buffer_rgba())[..., :3] / 255
    for text, colour in zip(texts, colours, strict=True):
        text.set_visible(True)
        name = f"{text.get_text()!r}"
        if text.get_fontsize() < SMALLEST:
            yield f"{name}: {text.get_fontsize():g} pt"
        box = text.get_window_extent()
        columns, rows = (np.clip([box.x0, box.x1], 0, page.shape[1]), np.clip([box.y0, box.y1], 0, page.shape[0]))
        (left, right), (low, high) = columns.astype(int), rows.astype(int)
        under = page[page.shape[0] - high : page.shape[0] - low, left:right].reshape(-1, 3)
        if len(under):
            behind = np.median(under, axis=0)
            if (found := contrast(over(colour, behind), behind)) < WORDS:
                yield f"{name}: contrast {found:.2f}"
