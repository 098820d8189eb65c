"""A lesson in one host of notebooks: all its cells run, and a slider moved.

    python -m tests.tools.hosts {lab,notebook,classic,colab} [NN] [--python PATH] [--ja] [--picture FILE]

starts the JupyterLab, Notebook 7 or classic Notebook 6.5 that PATH has installed (default: this Python) in a real
Chromium, and says with which versions, in how many seconds, and whether the picture followed. `colab` stands for
Colab's kernel alone: no Jupyter server around it, google.colab imported, the slider moved in the kernel.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import nbformat
from nbclient import NotebookClient

from tests.paths import NOTEBOOKS
from tests.tools.jupyter import (
    CELLS_SECONDS,
    START_SECONDS,
    chromium,
    free_port,
    server,
    why_no_browser,
)

if TYPE_CHECKING:  # playwright is not everywhere that these tests are
    from playwright.sync_api import Locator, Page

PACKAGES = [
    "jupyterlab",
    "notebook",
    "nbclassic",
    "ipywidgets",
    "jupyterlab_widgets",
    "ipykernel",
    "matplotlib",
    "torch",
]
VERSIONS = f"""
import importlib.metadata as metadata, platform
found = ["Python " + platform.python_version()]
for name in {PACKAGES}:
    try:
        found.append(name + " " + metadata.version(name))
    except metadata.PackageNotFoundError:
        pass
print(", ".join(found))
"""
# Per host: its module, what its server needs beside the address, the page of a notebook, and what to ask that page.
MODERN = {
    "ready": "() => window.jupyterapp?.shell?.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'",
    "run": "() => jupyterapp.commands.execute('notebook:run-all-cells')",
    "done": "() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'",
    "prompts": ".jp-CodeCell .jp-InputPrompt",
    "errors": ".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.error'],"
    " .jp-OutputArea-output[data-mime-type='application/vnd.jupyter.stderr']",
    "options": "--expose-app-in-browser --allow-root --IdentityProvider.token={token} --ServerApp.root_dir={root}"
    " --ServerApp.port_retries=0",
}
HOSTS = {
    "lab": MODERN | {"module": "jupyterlab", "page": "doc/tree"},
    "notebook": MODERN | {"module": "notebook", "page": "notebooks"},
    "classic": {
        "module": "notebook",
        "page": "notebooks",
        "ready": "() => window.Jupyter?.notebook?.kernel?.is_connected() && !Jupyter.notebook.kernel_busy",
        "run": "() => Jupyter.notebook.execute_all_cells()",
        "done": "() => !Jupyter.notebook.kernel_busy && "
        " ![...document.querySelectorAll('.input_prompt')].some(prompt => prompt.innerText.includes('*'))",
        "prompts": ".code_cell .input_prompt",
        "errors": ".output_error, .output_stderr",
        "options": "--allow-root --NotebookApp.token={token} --NotebookApp.notebook_dir={root}"
        " --NotebookApp.port_retries=0",
    },
}
MOVE = """
import gc
from titans.lesson.kit.live import LivePicture
for picture in [one for one in gc.get_objects() if issubclass(type(one), LivePicture)]:
    control, before = next(one for one in picture.controls.values() if hasattr(one, "max")), picture.image.value
    control.value = control.min if control.value == control.max else control.max
    print("followed" if picture.image.value != before else "stayed")
"""  # in a kernel alone, where no browser moves a slider
SLIDER = "[role=slider], .ui-slider-handle"  # the second: ipywidgets 7
PICTURES = "() => [...document.querySelectorAll('.titans-live img')].map(image => image.src).join()"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        "python -m tests.tools.hosts", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("host", choices=[*HOSTS, "colab"])
    parser.add_argument("lesson", nargs="?", default="03", metavar="NN", help="beginning of its name; default: 03")
    parser.add_argument("--python", default=sys.executable, metavar="PATH", help="whose Jupyter; default: this one's")
    parser.add_argument("--ja", action="store_true", help="the Japanese notebook")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="where to write a picture of the moved slider")
    options = parser.parse_args(arguments)
    if options.host != "colab" and (reason := why_no_browser()):
        sys.exit(reason)
    print(subprocess.check_output([options.python, "-c", VERSIONS], encoding="utf-8").strip(), flush=True)
    (notebook,) = (NOTEBOOKS / ("ja" if options.ja else "en")).glob(f"{options.lesson}*.ipynb")
    if options.host == "colab":
        faults = simulate(options.python, notebook)
    else:
        with serve(options.host, options.python, notebook) as address, chromium() as browser:
            page = browser.new_page(viewport={"width": 1280, "height": 1000})
            faults = visit(page, options.host, address, options.picture)
    for fault in faults:
        print(f"fault: {fault}")
    sys.exit(bool(faults))


@contextmanager
def serve(name: str, python: str, notebook: Path) -> Iterator[str]:
    """Start a host on a copy of a notebook, in a folder with the language's name; yields its address."""
    host = HOSTS[name]
    with TemporaryDirectory() as folder:
        root = Path(folder) / "notebooks"
        (root / notebook.parent.name).mkdir(parents=True)
        shutil.copy(notebook, root / notebook.parent.name)
        port, token = free_port(), secrets.token_hex(16)
        chosen = host["options"].format(token=token, root=root).split()
        command = [python, "-m", host["module"], "--no-browser", "--ip=127.0.0.1", f"--port={port}", *chosen]
        with server(command, Path(folder), port, token):
            path = f"{notebook.parent.name}/{notebook.name}"
            yield f"http://127.0.0.1:{port}/{host['page']}/{path}?token={token}"


def visit(page: Page, name: str, address: str, picture: Path | None) -> list[str]:
    """Run all cells, move the first slider; prints what came out and returns what went wrong."""
    faults = run_cells(page, name, address)
    live, stored = page.locator(".titans-live"), page.locator(".titans-stored")
    shown = sum(place.is_visible() for place in stored.all())
    print(f"{live.count()} live pictures, {shown} stored ones shown")
    if shown:
        faults.append(f"{shown} stored pictures stand beside the live ones")
    slider = live.locator(SLIDER).first
    if slider.count():
        faults += move(page, slider)
    else:
        faults.append("no slider")
    if picture:
        live.first.scroll_into_view_if_needed()
        page.screenshot(path=picture)
    return faults


def run_cells(page: Page, name: str, address: str) -> list[str]:
    """Open a notebook and run all its cells; what went wrong."""
    host, began = HOSTS[name], time.monotonic()
    page.goto(address)
    page.wait_for_function(host["ready"], timeout=START_SECONDS * 1000)
    opened = time.monotonic()
    page.evaluate(host["run"])
    page.wait_for_timeout(1000)  # until the kernel is busy
    page.wait_for_function(host["done"], timeout=CELLS_SECONDS * 1000)
    ran = time.monotonic()
    prompts = page.locator(host["prompts"]).all_inner_texts()
    unrun = [text for text in prompts if not any(letter.isdigit() for letter in text)]
    errors = page.locator(host["errors"]).all_inner_texts()
    print(f"{name}: opened in {opened - began:.0f} s, {len(prompts)} code cells in {ran - opened:.0f} s")
    faults = [f"an error or warning in a cell: {text[:200]}" for text in errors]
    return faults + ([f"{len(unrun)} of {len(prompts)} code cells were not run"] if unrun or not prompts else [])


def move(page: Page, slider: Locator) -> list[str]:
    """Move a slider by mouse and by keys; where no picture followed."""
    for _ in range(10):  # until the picture is there, and stands still
        before = page.evaluate(PICTURES)
        page.wait_for_timeout(1000)
        if before and page.evaluate(PICTURES) == before:
            break
    else:
        return ["no picture, or one that changes by itself"]
    faults = []
    for how, act in (("mouse", drag), ("keys", press)):
        act(page, slider)
        moved = time.monotonic()
        try:
            page.wait_for_function(f"before => ({PICTURES})() !== before", arg=before, timeout=10_000)
            print(f"slider moved by {how}: the picture followed in {time.monotonic() - moved:.1f} s")
        except Exception as error:
            if "Timeout" not in type(error).__name__:
                raise
            faults.append(f"slider moved by {how}: the picture stayed the same")
        page.wait_for_timeout(1000)  # until the last of several pictures is there
        before = page.evaluate(PICTURES)
    return faults


def drag(page: Page, slider: Locator) -> None:
    """Pull a slider's handle to the right."""
    slider.scroll_into_view_if_needed()
    box = slider.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 30, y, steps=5)
    page.mouse.up()


def press(page: Page, slider: Locator) -> None:
    """Press an arrow key on it."""
    slider.focus()
    page.keyboard.press("ArrowLeft")


def simulate(python: str, notebook: Path) -> list[str]:
    """Run all cells in a kernel like Colab's, and move every picture's first slider there."""
    lesson = nbformat.read(notebook, as_version=4)
    lesson.cells.append(nbformat.v4.new_code_cell(MOVE))
    with TemporaryDirectory() as folder:
        texts = {
            "kernels/host/kernel.json": json.dumps(
                {
                    "argv": [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
                    "display_name": "host",
                    "language": "python",
                }
            ),
            "modules/google/colab/__init__.py": "",
            "ipython/profile_default/startup/colab.py": "import google.colab",
        }
        for name, text in texts.items():
            path = Path(folder) / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        modules = os.pathsep.join(filter(None, (f"{folder}/modules", os.environ.get("PYTHONPATH"))))
        os.environ |= {"JUPYTER_DATA_DIR": folder, "IPYTHONDIR": f"{folder}/ipython", "PYTHONPATH": modules}
        os.environ.pop("JPY_SESSION_NAME", None)
        began = time.monotonic()
        client = NotebookClient(lesson, timeout=CELLS_SECONDS, kernel_name="host", allow_errors=True)
        client.execute(cwd=folder)
    cells = [cell for cell in lesson.cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    print(f"{len(cells) - 1} code cells in {time.monotonic() - began:.0f} s")
    moved = "".join(output.text for output in cells[-1].outputs if output.get("name") == "stdout").split()
    print(f"first sliders moved: their pictures {', '.join(moved)}")
    faults = [f"an error in a cell: {output.ename}: {output.evalue}" for output in outputs if "ename" in output]
    faults += [f"a warning in a cell: {output.text[:300]}" for output in outputs if output.get("name") == "stderr"]
    return faults + (["a picture that does not follow, or none"] if set(moved) != {"followed"} else [])


if __name__ == "__main__":
    main()
