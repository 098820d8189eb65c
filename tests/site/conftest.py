"""The site, built once for all tests of this room, by the command that README names."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from tests.paths import ROOT
from tests.site.every_page import offline
from tests.tools.jupyter import chromium, why_no_browser

REQUIRED = os.environ.get("CI") == "true" or os.environ.get("TITANS_REQUIRE_BROWSER") == "1"
SECONDS = 180


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """The folder of the site, which was built without a word of warning and in three minutes at most."""
    folder, start = tmp_path_factory.mktemp("site") / "pages", time.monotonic()
    command = [sys.executable, "notebooks/build.py", "--site", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "")
    assert "pages" in done.stdout
    assert time.monotonic() - start < SECONDS
    return folder


@pytest.fixture(scope="session")
def browser():
    if reason := why_no_browser():
        (pytest.fail if REQUIRED else pytest.skip)(f"the browser test cannot run: {reason}")
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser):
    """A page without a network, whose failures and errors are collected in `page.wrong`."""
    with offline(browser) as (page, wrong):
        page.wrong = wrong
        yield page
