"""What a frame of the live memory costs, in a real Chromium: its script, its styles and its layout.

    python -m tests.site.frame_time [--window 390]

plays the front page's stream and drags a gate at each frame, which computes the whole stream anew; then the same on a
stream that the reader made as long as it may be. The time of a frame is that of all its callbacks and of the style and
layout that they ask for; "busy" is what the browser's main thread had to do altogether, painting included, a frame.
Exits with 1 where the median is above 8 ms.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tests.site.explainer_page import HEIGHTS, write_page
from tests.tools.jupyter import chromium, why_no_browser

if TYPE_CHECKING:
    from playwright.sync_api import CDPSession

MOST, FRAMES = 8.0, 240  # milliseconds in the median; frames that are measured
MEASURE = """frames => new Promise(resolve => {
    const player = document.querySelector('.titans-explainer').player
    const times = [], ask = window.requestAnimationFrame.bind(window)
    let spent = 0
    window.requestAnimationFrame = callback => ask(now => {
        const start = performance.now()
        callback(now)
        spent += performance.now() - start
    })
    const each = () => {
        const start = performance.now()
        player.setGate('theta', 0.2 + 0.15 * Math.sin(times.length / 20))
        if (!player.playing) player.run(player.reading.tokens.length)
        document.body.offsetHeight
        times.push(spent + performance.now() - start)
        spent = 0
        if (times.length < frames) ask(each)
        else { window.requestAnimationFrame = ask; resolve(times) }
    }
    player.seek(0)
    player.stepMs = 150
    ask(each)
})"""
LENGTHEN = """() => {
    const player = document.querySelector('.titans-explainer').player
    while (player.reading.hasRoom(4)) player.say(['~', 'Emi:tea', 'Ana:milk', 'Ben:cola!'])
}"""


def busy_seconds(client: CDPSession) -> float:
    """Of the browser's main thread up to now."""
    metrics = {metric["name"]: metric["value"] for metric in client.send("Performance.getMetrics")["metrics"]}
    return metrics["TaskDuration"]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        "python -m tests.site.frame_time", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--window", type=int, choices=sorted(HEIGHTS), default=1440, help="width in pixels")
    window = parser.parse_args(arguments).window
    if reason := why_no_browser():
        sys.exit(reason)
    print(f"load before: {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores; {FRAMES} frames, {window} px wide")
    slow = 0
    with TemporaryDirectory() as folder, chromium() as browser:
        page = browser.new_page(viewport={"width": window, "height": HEIGHTS[window]})
        page.goto(write_page(Path(folder) / "page.html"))
        page.locator(".tx").wait_for()
        client = page.context.new_cdp_session(page)
        client.send("Performance.enable")
        for name, prepare in (("a day of facts", "() => 0"), ("the longest stream", LENGTHEN)):
            page.evaluate(prepare)
            before = busy_seconds(client)
            times = page.evaluate(MEASURE, FRAMES)
            busy = 1000 * (busy_seconds(client) - before) / FRAMES
            median, high = statistics.median(times), statistics.quantiles(times, n=20)[-1]
            slow += median > MOST
            print(f"{name:20} median {median:4.1f} ms, 95 % below {high:4.1f} ms, busy {busy:4.1f} ms a frame")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
