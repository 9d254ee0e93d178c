"""The page of what runs now beside a real run on the simulated microscope: it follows, and the run is never asked."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from db.engine import open_engine
from tests.flows.night_world import INSTRUMENT, PLANS
from tests.flows.serving import Serving, environment, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow
LONG_MS = 240_000
"""Imports, the instrument's server and calibrations come before the first frames, on a machine with other work."""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    open_engine(f"sqlite:///{tmp_path}/nightbeam.db").dispose()
    return tmp_path


@contextmanager
def a_run(home: Path) -> Iterator["subprocess.Popen[str]"]:
    """Passes enough to look at, of the demo's overview; ended as Ctrl+C does."""
    text = (PLANS / "demo" / "1_overview.yaml").read_text()
    text = text.replace("dwell_time_us: 50", "dwell_time_us: 50\n  passes: 40").replace("2.0e+5", "1.0e+7")
    plan = home / "plan.yaml"
    plan.write_text(text)
    process = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", "run", str(plan), "-i", str(INSTRUMENT), "--yes", "--no-prefect"],
        env=environment(home, NIGHTBEAM_DISK_RESERVE_GB="0"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        os.kill(process.pid, signal.SIGINT)
        told = process.communicate(timeout=120)[1]
        assert process.returncode == 130, told


def shown_px(page: "Page") -> int:
    """The width that the running image really has, 0 where it could not be loaded."""
    width: int = page.locator("img.glimpse").evaluate("async one => { await one.decode(); return one.naturalWidth; }")
    return width


def test_the_page_follows_a_run_by_itself(browser: "Browser", home: Path) -> None:
    from tests.browser.browsing import DESK, PHONE, faults, page_of, shot, too_wide_px

    with serving(home) as server, page_of(browser, server.url) as page:
        page.goto("/live")
        page.get_by_text("Nothing runs now.").wait_for()
        with a_run(home) as process:
            # Nobody reloads it from here on.
            page.get_by_text("Watched as it comes").wait_for(timeout=LONG_MS)
            assert process.poll() is None
            assert page.get_by_text("frames/s").is_visible()
            assert page.get_by_text("left", exact=False).first.is_visible()
            assert page.get_by_text("% full").is_visible()
            page.locator("img.glimpse").wait_for(timeout=LONG_MS)
            assert shown_px(page) == 64
            for size, name in ((DESK, "desk"), (PHONE, "phone")):
                page.set_viewport_size({"width": size[0], "height": size[1]})
                shot(page, f"live_running-{name}")
                assert too_wide_px(page) == 0
            assert faults(page) == []
            without_scripts(browser, server)
        page.get_by_text("Nothing runs now.").wait_for(timeout=LONG_MS)


def without_scripts(browser: "Browser", server: Serving) -> None:
    """The same by itself for a reader without scripts: the page comes again every five seconds."""
    from tests.browser.browsing import page_of

    with page_of(browser, server.url, scripts=False) as page:
        page.goto("/live")
        before = page.locator("#live .kind").inner_text()
        with page.expect_event("framenavigated", timeout=60_000):
            pass
        page.locator("#live .kind").wait_for()
        assert page.locator("#live .kind").inner_text() != before
