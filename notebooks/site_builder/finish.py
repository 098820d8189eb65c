"""What is put into the pages after Sphinx: the switch of language, downloads, sizes of pictures, the theme's words."""

from __future__ import annotations

import html
import re
import struct
from functools import partial
from pathlib import Path

from site_builder.links import Places
from site_builder.words import FOUND, LANGUAGES, OTHER, SAY, THEME_JA

ARTICLE = '<article role="main"'
CREDIT = re.compile(r'<div class="left-details">.*?(?=<div class="right-details">)', re.DOTALL)
MARK = ".nojekyll"  # tells a site, and GitHub Pages that folders which begin with "_" are part of it
GREEK = {"alpha": "α", "eta": "η", "theta": "θ"}  # of formulas in headings, which search results show as text
EXPLAINER = "titans-explainer"
PLAYER_FILES = ("explainer.css", "memory.js", "words.js", "explainer.js")  # what a page loads that has one
# The parameters of a signature over several lines, a list of terms without terms to those who listen.
PARAMETERS = re.compile(r"<dl>\n((?:<dd><em class=\"sig-param\">.*</dd>\n|<dd><span.*</dd>\n)+)</dl>")


def finish(folder: Path, places: Places) -> None:
    """Finish every page of one language."""
    for page in folder.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        text = CREDIT.sub("", text)
        text = re.sub(r'<img [^>]*src="[^"]+\.png"[^>]*>', partial(sized, folder=page.parent), text)
        text = text.replace('class="caption" role="heading"', 'class="caption" role="heading" aria-level="2"')
        text = PARAMETERS.sub(unlisted, text)
        if places.language == "ja":
            for theirs, ours in THEME_JA.items():
                text = text.replace(theirs, ours)
        text = text.replace(ARTICLE, tools(page.relative_to(folder), places) + ARTICLE, 1)
        page.write_text(with_explainer(text, page.relative_to(folder)), encoding="utf-8")
    index = folder / "searchindex.js"
    text = re.sub(r"\\\\(alpha|eta|theta)\b", lambda found: GREEK[found[1]], index.read_text(encoding="utf-8"))
    index.write_text(text, encoding="utf-8")
    if places.language == "ja":
        said = folder / "_static" / "translations.js"
        text = re.sub(r'"Search finished, found one page[^"]*": \[\s*""\s*\]', FOUND, said.read_text(encoding="utf-8"))
        said.write_text(text, encoding="utf-8")


def unlisted(found: re.Match[str]) -> str:
    lines = found[1].replace("<dd>", '<span class="parameter">').replace("</dd>", "</span>")
    return f'<span class="parameters">\n{lines}</span>'


def sized(found: re.Match[str], folder: Path) -> str:
    """A picture with its width and height, so that nothing moves when it comes."""
    image = found[0]
    path = folder / re.search(r'src="([^"]+)"', image)[1]  # type: ignore[index]
    width, height = struct.unpack(">II", path.read_bytes()[16:24])
    return f'<img width="{width}" height="{height}" {image[5:]}'


def tools(page: Path, places: Places) -> str:
    """Links above a page: the same page in the other language, and of a lesson, what can be had of it."""
    say, other, up = SAY[places.language], OTHER[places.language], "../" * (len(page.parts) - 1)
    address = f"{up}../{other}/{page.as_posix()}"
    links = [f'<a class="language" lang="{other}" hreflang="{other}" href="{address}">{say["language"]}</a>']
    if page.parts[0] == "lessons" and page.stem in places.lessons:
        place = places.repository.removeprefix("https://github.com/")
        if place != places.repository:
            colab = f"https://colab.research.google.com/github/{place}/blob/main/notebooks/{places.language}"
            links.append(f'<a href="{colab}/{page.stem}.ipynb">{say["colab"]}</a>')
        links.append(f'<a download href="{up}files/{page.stem}.ipynb">{say["download"]}</a>')
        links.append(f'<a download href="{up}files/{page.stem}_single.ipynb">{say["single"]}</a>')
    return f'<nav class="page-tools" aria-label="{say["tools"]}">{" ".join(links)}</nav>\n'


def with_explainer(text: str, page: Path) -> str:
    """A page with the explainer's style and scripts, if it has a place for one."""
    if f'class="{EXPLAINER}"' not in text:
        return text
    static = "../" * (len(page.parts) - 1) + "_static"
    style, script = '<link rel="stylesheet" href="{}">', '<script defer src="{}"></script>'
    tags = [(style if name.endswith(".css") else script).format(f"{static}/{name}") for name in PLAYER_FILES]
    return text.replace("</head>", "\n".join([*tags, "</head>"]), 1)


ENTRANCE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ font: 1.5rem/1.6 system-ui, sans-serif; margin: 20vh auto; width: fit-content }}
</style>
<script>location.replace((navigator.language.startsWith("ja") ? "ja" : "en") + "/index.html");</script>
</head>
<body><main>{links}</main></body>
</html>
"""


def entrance(target: Path) -> None:
    """The page at the top: it leads to the language that the browser asks for, or lets choose."""
    titles = {each: html.escape(SAY[each]["title"]) for each in LANGUAGES}
    links = "".join(f'<p><a lang="{each}" href="{each}/index.html">{title}</a></p>' for each, title in titles.items())
    page = ENTRANCE.format(title=" · ".join(titles.values()), links=links)
    (target / "index.html").write_text(page, encoding="utf-8")
    (target / MARK).touch()
