"""A real browser: Debian's Chromium, which `make test` installs where it can."""

import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
LACKING = [
    what
    for there, what in (
        (CHROMIUM, "chromium (apt-get install chromium)"),
        (find_spec("playwright"), "the package playwright"),
        (find_spec("axe_playwright_python"), "the package axe-playwright-python"),
    )
    if not there
]


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Chromium without a window; skips without it, fails where ``NIGHTBEAM_REQUIRE`` names ``browser``.

    For one file at a time: until it ends, playwright holds an event loop in this thread.
    """
    if LACKING:
        message = f"no browser: {', '.join(LACKING)} is not here"
        if "browser" in os.environ.get("NIGHTBEAM_REQUIRE", "").split(","):
            pytest.fail(message)
        pytest.skip(message)
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM)
        yield opened
        opened.close()
