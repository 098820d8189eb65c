"""The result cards of recipes, and tables whose columns fit in Japanese too."""

import json
from typing import Any
from unicodedata import east_asian_width

from titans.checkpoints import SHIPPED


def card(recipe: str) -> dict[str, Any]:
    """What came of every run and seed of a shipped recipe."""
    return json.loads((SHIPPED / recipe / "card.json").read_text(encoding="utf-8"))


def columns(text: str) -> int:
    """How wide a text is: a Japanese letter takes two columns."""
    return sum(1 + (east_asian_width(letter) in "WF") for letter in text)


def space(text: str, width: int) -> str:
    """What fills a text up to so many columns."""
    return " " * (width - columns(text))
