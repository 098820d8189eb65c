"""A real JupyterLab in a real Chromium, for the browser test and for screenshots."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tests.paths import NOTEBOOKS

if TYPE_CHECKING:  # playwright is not everywhere that these tests are
    from playwright.sync_api import Browser, Locator, Page

START_SECONDS, CELLS_SECONDS = 60, 180
SETTINGS = {
    # All cells exist in the page, also those that are not on the screen.
    "notebook-extension/tracker": '{"windowingMode": "none"}',
    "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
}
PLACES = {
    "JUPYTER_CONFIG_DIR": "config",
    "JUPYTER_DATA_DIR": "data",
    "JUPYTER_RUNTIME_DIR": "runtime",
    "JUPYTERLAB_SETTINGS_DIR": "settings",
    "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    "IPYTHONDIR": "ipython",
}
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def why_no_browser() -> str | None:
    """What is missing for a browser run, if anything."""
    if chromium_path() is None:
        return "no Chromium or Chrome on the PATH"
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "playwright is not installed: pip install playwright"
    return None


def chromium_path() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for path in map(shutil.which, names) if path), None)


@contextmanager
def jupyterlab(notebooks: Path = NOTEBOOKS) -> Iterator[str]:
    """Serve a copy of notebooks/en and notebooks/ja; yields an address with {} for a notebook's path."""
    with TemporaryDirectory() as folder:
        root = Path(folder) / "notebooks"
        for language in ("en", "ja"):
            shutil.copytree(notebooks / language, root / language)
        port, token = free_port(), secrets.token_hex(16)
        options = (
            f"--no-browser --allow-root --expose-app-in-browser --ip=127.0.0.1 --port={port} "
            f"--ServerApp.port_retries=0 --IdentityProvider.token={token} --ServerApp.root_dir={root}"
        ).split()
        with server([sys.executable, "-m", "jupyterlab", *options], Path(folder), port, token):
            yield f"http://127.0.0.1:{port}/doc/tree/{{}}?token={token}"


@contextmanager
def server(command: list[str], folder: Path, port: int, token: str) -> Iterator[None]:
    """A Jupyter server that keeps everything in this folder, from when it answers on."""
    for name, text in SETTINGS.items():
        path = folder / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    environment = os.environ | {variable: str(folder / name) for variable, name in PLACES.items()}
    environment.pop("MPLBACKEND", None)  # the notebook's own is meant
    with (folder / "log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, env=environment, cwd=folder, stdout=log, stderr=log)
        try:
            wait_for_server(f"http://127.0.0.1:{port}/api?token={token}", process, folder / "log")
            yield
        finally:
            process.terminate()  # ends its kernels too
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for_server(address: str, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"JupyterLab did not start within {START_SECONDS} s:\n{log.read_text(encoding='utf-8')}")


@contextmanager
def chromium() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=CHROMIUM_OPTIONS)
        try:
            yield browser
        finally:
            browser.close()


def run_all_cells(page: Page, address: str) -> None:
    """Open a notebook, wait until its kernel is ready, and run every cell.

    Raises where not every code cell was run: the command itself is content with those before the first error.
    """
    page.goto(address)
    status = page.locator("#jp-main-statusbar").filter(has_text="| Idle")
    status.wait_for(timeout=START_SECONDS * 1000)
    page.evaluate("() => jupyterapp.commands.execute('notebook:run-all-cells')")
    status.wait_for(timeout=CELLS_SECONDS * 1000)
    prompts = page.locator(".jp-CodeCell .jp-InputPrompt").all_inner_texts()
    if prompts != [f"[{number}]:" for number in range(1, len(prompts) + 1)]:
        raise RuntimeError(f"{address}: not every cell was run, but {', '.join(prompts)}")


def sliders(page: Page) -> list[tuple[Locator, list[tuple[str, Locator]]]]:
    """Every live picture of an open notebook, and the sliders that belong to it, with their labels."""
    found = []
    for view in page.locator(".titans-live").all():
        picture = view.locator(".widget-html:has(img)")
        rows = view.locator(".widget-slider").filter(has=page.get_by_role("slider")).all()
        labels = [row.locator(".widget-label").inner_text() for row in rows]
        found.append((picture, list(zip(labels, (row.get_by_role("slider") for row in rows), strict=True))))
    return found


def close_notebook(page: Page) -> None:
    """Shut its kernel down, so that the next notebook has the machine to itself."""
    page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    page.close()
