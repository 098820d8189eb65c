"""Whether a picture or a lab speaks Japanese, where Japanese is spoken: every word, in letters that the font has."""

from __future__ import annotations

import re
from collections.abc import Iterator

import ipywidgets as widgets
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

from tests.lessons.legible import shown_words
from titans.lesson.kit.host import say
from titans.lesson.lesson_00.words import FILLER, VOCABULARY
from titans.lesson.lesson_09 import bare_player

# What stays in Latin letters in Japanese: names of models and functions, and the names that a stream tells.
NAMES = {"MAC", "MAG", "MAL", "LMM", "SiLU", "ReLU", "softmax", "sigmoid", "Titans"}
NAMES |= {"Adam", "Muon", "Huber"}
NAMES |= {*VOCABULARY} - {*FILLER}
NAMES |= {*bare_player.PEOPLE, *bare_player.DRINKS}


def left_in_english(figure: Figure) -> list[str]:
    """Words of a figure that are still English, and letters that no font has, where Japanese is spoken."""
    words = [text.get_text() for text in shown_words(figure)]
    return [*filter(is_english, words), *letters_without_glyph(words)] if say("en", "ja") == "ja" else []


def is_english(words: str) -> bool:
    """Whether there is a word of three Latin letters or more beside formulas, code and names; a word of filler by
    itself is a token."""
    if words in FILLER:
        return False
    plain = re.sub(r"\$[^$]*\$|`[^`]*`", " ", words)
    return any(word not in NAMES for word in re.findall(r"[A-Za-z]{3,}", plain))


def letters_without_glyph(words: list[str]) -> Iterator[str]:
    """Letters that neither of the fonts has; beside a formula only the first counts."""
    fonts = [
        get_font(findfont(FontProperties(family=family))).get_charmap() for family in ("IPAexGothic", "DejaVu Sans")
    ]
    for text in words:
        plain = re.sub(r"\$[^$]*\$", "", text)
        known = fonts[:1] if "$" in text else fonts
        for letter in plain:
            if not letter.isspace() and not any(ord(letter) in font for font in known):
                yield f"{text!r}: no glyph for {letter!r}"


def controls_in_english(view: widgets.Widget) -> Iterator[str]:
    """Names, buttons and readouts of controls that are still English."""
    for child in getattr(view, "children", ()):
        yield from controls_in_english(child)
    options = getattr(view, "_options_labels", ())
    for words in (getattr(view, "description", ""), getattr(view, "tooltip", "") or "", *options):
        if is_english(words):
            yield words
