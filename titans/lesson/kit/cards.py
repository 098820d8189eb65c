"""The result cards of recipes, and tables whose columns fit in Japanese too."""

import json
from typing import Any
from unicodedata import east_asian_width

from titans.checkpoints import SHIPPED


def card(recipe: str) -> dict[str, Any]:
    """What came of every run and seed of a shipped recipe."""
    return json.loads((SHIPPED / recipe / "card.json").read_text(encoding="utf-8"))


def space(text: str, columns: int) -> str:
    """What fills a text up to a number of columns, of which a Japanese letter takes two."""
    return " " * (columns - sum(1 + (east_asian_width(letter) in "WF") for letter in text))
