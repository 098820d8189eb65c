"""How long a live picture takes to follow its slider, in a real JupyterLab: from a key's press to new pixels.

    python -m tests.tools.latency [NN ...]

runs every lesson, or those whose names begin so, and presses an arrow key on every slider of every live picture. The
time ends when the browser has decoded the new picture and drawn a frame. Exits with 1 where a press took over 200 ms.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from typing import TYPE_CHECKING

from tests.paths import NOTEBOOKS
from tests.tools.jupyter import chromium, close_notebook, jupyterlab, run_all_cells, sliders, why_no_browser

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

MOST, PRESSES = 200, 16  # milliseconds; presses of a slider
ARM = """picture => {
    let pressed = null
    document.addEventListener('keydown', () => { pressed = performance.now() }, {capture: true, once: true})
    window.followed = new Promise(resolve => {
        const seen = new MutationObserver(() => {
            seen.disconnect()
            picture.querySelector('img').decode().then(() => requestAnimationFrame(() => setTimeout(() => {
                resolve(performance.now() - pressed)
            })))
        })
        seen.observe(picture, {childList: true, subtree: true})
        setTimeout(() => resolve(null), 5000)
    })
}"""


def milliseconds(page: Page, picture: Locator, slider: Locator) -> list[float]:
    """The time of each press; one that changes nothing ends it."""
    slider.scroll_into_view_if_needed()
    slider.focus()
    element, times = picture.element_handle(), []
    key = "ArrowRight"
    for _ in range(PRESSES):
        now, low, high = (slider.get_attribute(f"aria-value{name}") for name in ("now", "min", "max"))
        key = "ArrowLeft" if now == high else "ArrowRight" if now == low else key
        page.evaluate(ARM, element)
        page.keyboard.press(key)
        time = page.evaluate("() => window.followed")
        if time is None:
            break
        times.append(time)
    return times


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m tests.tools.latency", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("lessons", nargs="*", metavar="NN", help="beginnings of names; default: every lesson")
    names = tuple(parser.parse_args(arguments).lessons)
    if reason := why_no_browser():
        sys.exit(reason)
    slow = 0
    print(f"load before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores; {PRESSES} presses a slider")
    with jupyterlab() as address, chromium() as browser:
        for lesson in sorted(path for path in NOTEBOOKS.glob("en/*.ipynb") if not names or path.name.startswith(names)):
            page = browser.new_page(viewport={"width": 1280, "height": 1000})
            run_all_cells(page, address.format(f"en/{lesson.name}"))
            for number, (picture, controls) in enumerate(sliders(page), start=1):
                for label, slider in controls:
                    times = milliseconds(page, picture, slider)
                    median, worst = (statistics.median(times), max(times)) if times else (float("nan"),) * 2
                    slow += not worst <= MOST
                    figures = f"median {median:4.0f} ms, worst {worst:4.0f} ms, {len(times)} presses"
                    print(f"{lesson.stem}, picture {number}, {label:12} {figures}", flush=True)
            close_notebook(page)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
