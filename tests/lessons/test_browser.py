"""The lessons in a real JupyterLab: every cell runs, and every live picture follows its sliders."""

from __future__ import annotations

import os
from contextlib import contextmanager

import nbformat
import pytest

from tests.paths import NOTEBOOKS
from tests.tools.jupyter import chromium, close_notebook, jupyterlab, run_all_cells, sliders, why_no_browser

LESSONS = sorted(f"{path.parent.name}/{path.name}" for path in NOTEBOOKS.glob("??/[0-9][0-9]_*.ipynb"))
REQUIRED = os.environ.get("CI") == "true" or os.environ.get("TITANS_REQUIRE_BROWSER") == "1"
PICTURES = "[...document.querySelectorAll('img.widget-image')].map(image => image.src).join()"


@pytest.fixture(scope="module")
def address():
    if reason := why_no_browser():
        (pytest.fail if REQUIRED else pytest.skip)(f"the browser test cannot run: {reason}")
    with jupyterlab() as address:
        yield address


@pytest.fixture(scope="module")
def browser(address):
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser):
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    yield page
    close_notebook(page)


def outputs(page, kind):
    return page.locator(f".jp-OutputArea-output[data-mime-type='application/vnd.jupyter.{kind}']").all_inner_texts()


@pytest.mark.parametrize("lesson", LESSONS)
def test_every_cell_runs_and_every_live_picture_follows_a_slider(page, address, lesson):
    run_all_cells(page, address.format(lesson))
    cells = [cell for cell in nbformat.read(NOTEBOOKS / lesson, as_version=4).cells if cell.cell_type == "code"]
    meant = [cell for cell in cells if "raises-exception" in cell.metadata.get("tags", [])]
    errors = outputs(page, "error") + outputs(page, "stderr")  # a traceback may be shown as either
    assert len(errors) == len(meant), "\n".join(errors)
    prompts = page.locator(".jp-CodeCell .jp-InputPrompt").all_inner_texts()
    reached = cells.index(meant[0]) + 1 if meant else len(cells)  # "run all" stops at an error, meant or not
    assert prompts[:reached] == [f"[{number}]:" for number in range(1, reached + 1)]
    live = [output for cell in cells for output in cell.outputs if "Live picture" in str(output.get("data", ""))]
    pictures = sliders(page)
    assert len(pictures) == len(live) > 0
    for picture, controls in pictures:
        _, slider = controls[0]
        before = picture.get_attribute("src")
        press(page, slider)
        page.wait_for_function("([image, src]) => image.src !== src", arg=[picture.element_handle(), before])


@pytest.mark.parametrize("lesson", LESSONS[:1])
def test_a_slider_moved_by_key_and_by_mouse_changes_the_picture(page, address, lesson):
    run_all_cells(page, address.format(lesson))
    slider = page.get_by_role("slider").first

    with picture_changes(page):
        press(page, slider)

    with picture_changes(page):
        slider.scroll_into_view_if_needed()
        handle, track = slider.bounding_box(), slider.locator("xpath=ancestor::*[contains(@class, 'noUi-base')]")
        track = track.bounding_box()
        x, y = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
        far = 0.2 if x > track["x"] + track["width"] / 2 else 0.8
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(track["x"] + far * track["width"], y, steps=5)
        page.mouse.up()


def press(page, slider):
    """An arrow key on a slider, towards where there is room."""
    slider.focus()
    at_end = slider.get_attribute("aria-valuenow") == slider.get_attribute("aria-valuemax")
    page.keyboard.press("ArrowLeft" if at_end else "ArrowRight")


@contextmanager
def picture_changes(page):
    """A block after which a live picture is another than before it."""
    before = page.evaluate(PICTURES)
    assert before, "no live picture in this lesson"
    yield
    page.wait_for_function(f"before => {PICTURES} !== before", arg=before, timeout=10_000)
