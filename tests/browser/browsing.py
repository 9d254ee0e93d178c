"""What is looked at on every page: what a browser complains of, what axe finds, width, and a picture to look at."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page

DESK, PHONE = (1280, 900), (390, 844)
PICTURES = Path(os.environ.get("NIGHTBEAM_SCREENSHOTS", Path(__file__).parents[2] / "screenshots"))
"""Kept out of git: for people to look at."""
SERIOUS = ("serious", "critical")


@contextmanager
def page_of(
    browser: Browser, url: str, size: tuple[int, int] = DESK, *, scripts: bool = True, dark: bool = False
) -> Iterator[Page]:
    """A window of its own; ends with an error where the browser complained of a page, as of its scripts."""
    complaints: list[str] = []
    with browser.new_context(
        base_url=url,
        viewport={"width": size[0], "height": size[1]},
        java_script_enabled=scripts,
        color_scheme="dark" if dark else "light",
    ) as context:
        page = context.new_page()
        page.on("console", lambda one: complaints.append(one.text) if one.type in ("error", "warning") else None)
        page.on("pageerror", lambda one: complaints.append(str(one)))
        page.on("requestfailed", lambda one: complaints.append(f"{one.url}: {one.failure}"))
        yield page
        # Leaving a page breaks off what it still loads.
        assert [one for one in complaints if "ERR_ABORTED" not in one] == []


def faults(page: Page) -> list[str]:
    """What axe finds serious or critical on a page."""
    from axe_playwright_python.sync_playwright import Axe

    found: list[dict[str, Any]] = Axe().run(page).response["violations"]
    return [
        f"{one['id']} ({one['impact']}): {one['help']}: {[node['html'][:200] for node in one['nodes'][:3]]}"
        for one in found
        if one["impact"] in SERIOUS
    ]


def too_wide_px(page: Page) -> int:
    """How far a page reaches beyond its window [px]."""
    wide: int = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return wide


def shot(page: Page, name: str) -> None:
    """A picture of the whole page, with what is loaded only when it is looked at."""
    PICTURES.mkdir(exist_ok=True)
    page.evaluate(
        """async () => {
            const all = [...document.images];
            all.forEach(one => { one.loading = "eager"; });
            await Promise.all(all.map(one => one.decode().catch(() => null)));
        }"""
    )
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True)
