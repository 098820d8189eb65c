"""The live memory as a moving picture, for places where no script runs.

    python -m tests.site.record notebooks/memory_at_work.webp
    python -m tests.site.record notebooks/memory_at_work_ja.webp --language ja

plays the front page's stream once, in a real Chromium whose clock stands still between the frames, so that every run
sees the same moments; controls are left out. A token is a few frames of movement and one that is held.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL.Image import Image, Resampling
from PIL.Image import open as read_picture

from tests.site.explainer_page import write_page
from tests.tools.jupyter import chromium, why_no_browser

MOVING, FRAME_MS, HELD_MS, END_MS = 5, 85, 900, 3000  # frames a token that move; for how long each stands; the last
WIDTH, SAVED, MOST = 1060, 880, 2_000_000  # pixels of the page and of the picture; bytes
CLOCK = """() => {
    let now = 0, waiting = []
    performance.now = () => now
    window.requestAnimationFrame = callback => waiting.push(callback)
    window.later = milliseconds => {
        now += milliseconds
        const callbacks = waiting
        waiting = []
        for (const callback of callbacks) callback(now)
    }
}"""
ONLY = """.tx-scenes, .tx-transport, .tx-gates, .tx-events, .tx-scrub { display: none !important }
.tx { border: 0 !important; border-radius: 0 !important; box-shadow: none !important } body { padding: 0 !important }
.titans-explainer { margin: 0 !important } .tx-told { min-height: 0 !important } .tx-ask { flex: 1 }
.tx-body { grid-template-rows: auto !important } .tx-matrix .tx-table { flex: 1 !important }
.tx-do { grid-row: auto !important }
.tx-time { grid-column: 1 / -1 !important; order: 3 !important } .tx-curves { height: 180px; flex: none !important }"""


def frames(language: str) -> tuple[list[Image], list[int]]:
    """The pictures, and for how many milliseconds each stands."""
    pictures, durations = [], []
    with TemporaryDirectory() as folder, chromium() as browser:
        page = browser.new_page(viewport={"width": WIDTH, "height": 700})
        page.add_init_script(f"({CLOCK})()")
        page.goto(write_page(Path(folder) / "page.html", language=language, width=WIDTH))
        page.add_style_tag(content=ONLY)
        player = "document.querySelector('.titans-explainer').player"
        page.evaluate(f"{player}.size = null, {player}.seek(0), {player}.changed(true)")

        def take(milliseconds: int) -> None:
            png = page.locator(".tx").screenshot(animations="disabled")
            picture = read_picture(io.BytesIO(png)).convert("RGB")
            size = (SAVED, round(picture.height * SAVED / picture.width))
            pictures.append(picture.resize(size, Resampling.LANCZOS))
            durations.append(milliseconds)

        take(HELD_MS)
        for token in range(1, page.evaluate(f"{player}.reading.tokens.length") + 1):
            page.evaluate(f"token => {player}.seek(token)", token)
            for _ in range(MOVING):
                page.evaluate("milliseconds => later(milliseconds)", FRAME_MS)
                take(FRAME_MS)
            page.evaluate("() => { for (let i = 0; i < 40; i++) later(60) }")
            take(HELD_MS)
        durations[-1] = END_MS
    return pictures, durations


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m tests.site.record", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="the .webp to write")
    parser.add_argument("--language", choices=("en", "ja"), default="en")
    chosen = parser.parse_args(arguments)
    if reason := why_no_browser():
        sys.exit(reason)
    (first, *others), durations = frames(chosen.language)
    first.save(chosen.file, save_all=True, append_images=others, duration=durations, loop=0, quality=55, method=4)
    size = chosen.file.stat().st_size
    print(f"{chosen.file}: {len(durations)} frames, {sum(durations) / 1000:.0f} s, {first.size}, {size / 1e6:.2f} MB")
    return 1 if size > MOST else 0


if __name__ == "__main__":
    sys.exit(main())
