"""What is wrong with a page of the site in a browser without a network; of every page:

    python -m tests.site.every_page [--folder _site]

opens each in Chromium with everything unfolded and asks axe-core for serious violations, in light and dark; looks for
failed requests, errors of the console and text that is wider than a phone. Takes minutes; the tests look at some pages.
Exits with 1 where something is wrong.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from axe_playwright_python.sync_playwright import Axe

from tests.paths import ROOT
from tests.tools.jupyter import chromium

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

SERIOUS = ("serious", "critical")
PHONE = {"width": 390, "height": 800}
AXE = Axe()


@contextmanager
def offline(browser: Browser) -> Iterator[tuple[Page, list[str]]]:
    """A page without a network, and what goes wrong on it, gathered as it happens."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, offline=True)
    page, wrong = context.new_page(), list[str]()
    page.on("requestfailed", lambda request: wrong.append(f"not loaded: {request.url}"))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("request", lambda request: wrong.append(request.url) if request.url.startswith("http") else None)
    yield page, wrong
    context.close()


def problems(page: Page, file: Path) -> list[str]:
    """Open a page: axe's serious violations, in light and dark, and how many pixels it is wider than a phone."""
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 900})
    page.goto(file.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    found = violations(AXE.run(page, options={"preload": False}))
    page.emulate_media(color_scheme="dark")
    found += violations(AXE.run(page, options={"runOnly": ["color-contrast"], "preload": False}))
    page.set_viewport_size(PHONE)
    wider = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    return found + ([f"{wider} px wider than a phone"] if wider > 0 else [])


def violations(results: Any) -> list[str]:
    """What is serious in axe's report."""
    return [
        f"{each['id']}: {[node['html'][:120] for node in each['nodes'][:3]]}"
        for each in results.response["violations"]
        if each["impact"] in SERIOUS
    ]


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.site.every_page", description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / "_site", help="the site (default: _site)")
    folder, bad = parser.parse_args().folder.resolve(), 0
    files = sorted(folder.glob("??/**/*.html"))
    if not files:
        parser.error(f"no pages in {folder}: python notebooks/build.py --site")
    with chromium() as browser, offline(browser) as (page, wrong):
        for number, file in enumerate(files, 1):
            start = time.monotonic()
            found = problems(page, file) + wrong
            wrong.clear()
            bad += bool(found)
            print(
                f"{number}/{len(files)} {file.relative_to(folder)} {time.monotonic() - start:.1f} s", *found, sep="\n  "
            )
    print(f"{len(files)} pages, {bad} of them with something wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
