"""Pages of nothing but the live memory of notebooks/site, for its test and the commands beside it."""

from __future__ import annotations

from pathlib import Path

from tests.paths import NOTEBOOKS

SITE = NOTEBOOKS / "site"
SCRIPTS = ("memory.js", "words.js", "explainer.js")
FILES = ("explainer.css", *SCRIPTS)
HEIGHTS = {390: 844, 800: 1000, 1440: 900}  # of a window that is so wide


def write_page(
    path: Path, lesson: str = "", language: str = "en", theme: str = "light", inside: str = "", width: int = 1100
) -> str:
    """A page with the front page's player, or with that of a lesson ("01"); its file:// address.

    theme: what Furo writes into body[data-theme]. inside: what the site puts where the player will be, for print.
    width: the most that the page's column takes, as a site's would.
    """
    kind = "small" if lesson else "front"
    paper = "#131416" if theme == "dark" else "#fff"
    scripts = "\n".join(f'<script defer src="{(SITE / name).as_uri()}"></script>' for name in SCRIPTS)
    path.write_text(
        f"""<!doctype html>
<html lang="{language}"><head><meta charset="utf-8"><title>The memory</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="{(SITE / "explainer.css").as_uri()}">
{scripts}
<style>body {{ margin: 0 auto; padding: 8px; max-width: {width}px; background: {paper} }}</style></head>
<body data-theme="{theme}"><main><h1 hidden>The memory</h1>
<div class="titans-explainer" data-lang="{language}" data-kind="{kind}" data-lesson="{lesson}">{inside}</div>
<p id="after">.</p></main></body></html>""",
        encoding="utf-8",
    )
    return path.as_uri()
