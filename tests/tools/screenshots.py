"""Pictures of the lessons as a reader sees them in JupyterLab, all cells run, to be looked at.

    python -m tests.tools.screenshots OUTDIR [NN ...]

writes OUTDIR/LANGUAGE_LESSON_WIDTH_NUMBER.png, from top to bottom, for both languages,
for a wide and a narrow window.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.paths import NOTEBOOKS
from tests.tools.jupyter import chromium, close_notebook, jupyterlab, run_all_cells, why_no_browser

WIDTHS, HEIGHT, OVERLAP = (1280, 800), 1600, 60


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        "python -m tests.tools.screenshots", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, metavar="OUTDIR", help="where to write the pictures")
    parser.add_argument("lessons", nargs="*", metavar="NN", help="beginnings of names; default: every lesson")
    options = parser.parse_args(arguments)
    if reason := why_no_browser():
        sys.exit(reason)
    out, names = options.out, tuple(options.lessons)
    out.mkdir(parents=True, exist_ok=True)
    lessons = sorted(path for path in NOTEBOOKS.glob("en/*.ipynb") if not names or path.name.startswith(names))
    with jupyterlab() as address, chromium() as browser:
        for lesson in lessons:
            for language in ("en", "ja"):
                for width in WIDTHS:
                    page = browser.new_page(viewport={"width": width, "height": HEIGHT})
                    run_all_cells(page, address.format(f"{language}/{lesson.name}"))
                    panel = page.locator(".jp-WindowedPanel-outer")
                    end = panel.evaluate(
                        "e => [...e.querySelectorAll('.jp-Cell')].at(-1).getBoundingClientRect().bottom"
                        " - e.getBoundingClientRect().top + e.scrollTop"
                    )
                    step = panel.evaluate("e => e.clientHeight") - OVERLAP
                    for number, top in enumerate(range(0, int(end), step), start=1):
                        panel.evaluate("(e, top) => { e.scrollTop = top }", top)
                        page.wait_for_timeout(200)  # until it is painted
                        page.screenshot(path=out / f"{language}_{lesson.stem}_{width}_{number:02}.png")
                    print(f"{language}/{lesson.name} at {width} px: {number} pictures", flush=True)
                    close_notebook(page)


if __name__ == "__main__":
    main()
