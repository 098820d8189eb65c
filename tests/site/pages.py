"""Pages of the built site as a test looks at them: what they name, what they link to, what they say."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

UNSEEN = ("script", "style", "pre", "code", "annotation", "title")  # whose text is not prose


@dataclass
class Page(HTMLParser):
    """One page."""

    path: Path
    ids: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)  # of <a>
    loaded: list[str] = field(default_factory=list)  # scripts, styles, pictures
    pictures: list[dict[str, str | None]] = field(default_factory=list)
    formulas: set[str] = field(default_factory=set)  # in TeX, without blanks
    prose: str = ""

    def __post_init__(self) -> None:
        super().__init__()
        self.within: list[str] = []
        self.feed(self.path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag in ("script", "img") and "src" in given:
            self.loaded.append(given["src"])
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(given["href"])
        if tag == "img":
            self.pictures.append(given)
        if tag in UNSEEN:
            self.within.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.within and self.within[-1] == tag:
            self.within.pop()

    def handle_data(self, data: str) -> None:
        if "annotation" in self.within:
            self.formulas.add("".join(data.split()))
        elif not self.within:
            self.prose += data

    __hash__ = object.__hash__


@cache
def read(path: Path) -> Page:
    return Page(path)


def dead(page: Page, site: Path) -> list[str]:
    """What a page links to or loads, within the site, that is not there."""
    return [target for target in {*page.links, *page.loaded} if inside(target) and not there(target, page, site)]


def inside(target: str) -> bool:
    return not urlsplit(target).scheme


def there(target: str, page: Page, site: Path) -> bool:
    parts = urlsplit(target)
    path = (page.path.parent / unquote(parts.path)).resolve() if parts.path else page.path
    if not path.is_file() or not path.is_relative_to(site):
        return False
    return not parts.fragment or path.suffix != ".html" or unquote(parts.fragment) in read(path).ids


def raw_mathematics(prose: str) -> list[str]:
    """Signs of a formula that was left as it was written."""
    return re.findall(r"\$[^\s$][^$\n]{0,40}\$|\\\(|\\\[|\\(?:frac|alpha|theta|eta|sum|mathrm)\b", prose)
