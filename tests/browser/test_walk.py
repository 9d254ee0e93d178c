"""A person's way through the record in a real browser: night, run, compare, lineage, calibration, affected."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.db.mended_world import FIRST, SECOND
from tests.flows.serving import Serving, serving
from tests.web.view_world import filled

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def server(browser: "Browser", tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    home = tmp_path_factory.mktemp("walk")
    filled(home)
    with serving(home) as running:
        yield running


def test_from_a_night_to_all_that_a_calibration_affects(browser: "Browser", server: Serving) -> None:
    from tests.browser.browsing import faults, page_of, too_wide_px

    with page_of(browser, server.url) as page:
        page.goto("/")
        page.get_by_role("link", name="n20261122-204139-0001").first.click()
        page.get_by_role("heading", name="Targets").wait_for()
        page.get_by_role("link", name=SECOND, exact=True).click()
        page.get_by_role("heading", name="Pictures").wait_for()
        page.get_by_role("link", name="compare", exact=True).click()
        page.get_by_role("heading", name="Two runs compared").wait_for()
        assert FIRST in page.inner_text("main")
        assert faults(page) == []
        page.get_by_role("link", name=SECOND, exact=True).click()
        page.get_by_role("link", name="Lineage with links").click()
        page.get_by_role("heading", name="Lineage").wait_for()
        page.get_by_role("table").get_by_role("link", name="descan").first.click()
        page.get_by_role("heading", name="What rests on it").wait_for()
        # What rests on the calibration leads back to the run that used it.
        page.locator("#affected").get_by_role("link", name=SECOND).click()
        page.get_by_role("heading", name="Pictures").wait_for()
        page.set_viewport_size({"width": 390, "height": 844})
        assert too_wide_px(page) == 0
        assert faults(page) == []
