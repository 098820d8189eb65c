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
PICTURES = "[...document.querySelectorAll('.titans-live img')].map(image => image.src).join()"


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
    assert page.locator(".jp-CodeCell").count() == len(cells)  # every one of which was run
    errors = outputs(page, "error") + outputs(page, "stderr")  # a traceback may be shown as either
    assert errors == []
    unnamed = page.locator(".jp-OutputArea img:not([alt]), .titans-live [role=slider]:not([aria-label])")
    assert unnamed.count() == 0
    named = "Live picture" if lesson.startswith("en") else "動かせる図"
    live = [output for cell in cells for output in cell.outputs if named in str(output.get("data", ""))]
    pictures = sliders(page)
    assert len(pictures) == len(live) > 0
    for picture, controls in pictures:
        _, slider = controls[0]
        image = picture.locator("img")
        before = image.get_attribute("src")
        press(page, slider)
        page.wait_for_function(
            "([picture, src]) => picture.querySelector('img').src !== src", arg=[picture.element_handle(), before]
        )


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


@pytest.mark.parametrize("lesson", LESSONS[:1])
def test_keys_in_a_live_picture_reach_its_controls_and_not_the_notebook(page, address, lesson):
    run_all_cells(page, address.format(lesson))
    cells = page.locator(".jp-Cell").count()
    slider, button = page.locator(".titans-live").get_by_role("slider").first, page.get_by_role("button", name="off (")
    for control, keys in ((slider, ("b", "ArrowDown", "ArrowUp")), (button, ("b", "ArrowDown", "Space"))):
        control.focus()
        for key in keys:
            page.keyboard.press(key)
            assert control.evaluate("element => element === document.activeElement"), key
    assert page.locator(".jp-Cell").count() == cells
    page.locator(".widget-toggle-button.mod-active", has_text="off (").wait_for()


@pytest.mark.parametrize("lesson", LESSONS[:1])
def test_a_picture_whose_kernel_is_gone_says_what_to_run(browser, address, lesson):
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    run_all_cells(page, address.format(lesson))
    again, stored = page.locator(".titans-lost"), page.locator(".titans-stored")
    assert not again.is_visible()
    assert not stored.is_visible()
    page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.session.kernel.restart()")
    again.wait_for()
    page.evaluate("() => jupyterapp.commands.execute('docmanager:save')")
    page.locator(".jp-Notebook").wait_for()
    close_notebook(page)

    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.goto(address.format(lesson))
    page.locator(".titans-stored").wait_for()
    assert not page.get_by_text("model not found").is_visible()
    close_notebook(page)


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


def test_the_answers_to_predictions_are_folded_away_until_their_cells_are_run(page, address):
    lesson = LESSONS[1]
    cells = nbformat.read(NOTEBOOKS / lesson, as_version=4).cells
    hidden = [cell for cell in cells if cell.metadata.get("jupyter", {}).get("outputs_hidden")]
    folded = page.locator(".jp-CodeCell .jp-OutputPlaceholder")
    page.goto(address.format(lesson))
    folded.first.wait_for(timeout=60_000)
    assert folded.count() == len(hidden) > 2
    assert [
        text.strip() for text in folded.all_inner_texts() if text.strip()
    ] == []  # JupyterLab would show a first line
    run_all_cells(page, address.format(lesson))
    assert folded.count() == 0
