"""What tests of several packages share."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# A first call compiles; how long an example takes is a matter for `make bench`.
settings.register_profile("nightbeam", deadline=None)
settings.load_profile("nightbeam")

RECORDED = Path(__file__).parents[2] / "shared" / "data"


SHARED = {
    "test_night.py": "night",
    "test_cli.py": "night",
    "test_api.py": "prefect",
    "test_prefect_versions.py": "prefect",
    "test_prefect_run.py": "prefect",
}
"""Files that share something costly, and so run in one process; every other file has a group of its own."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each file, or each set of files that share a costly fixture, to one worker."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(SHARED.get(item.path.name, str(item.path))))


@pytest.fixture(scope="session")
def recorded_data() -> Path:
    """Folder of the recorded data sets; skips without it, fails where ``NIGHTBEAM_REQUIRE`` names ``recorded``."""
    if not (RECORDED / "recorded_merlin_6bit").is_dir():
        message = "no recorded data: put them into ../shared/data beside the checkout (NIGHTBEAM_REQUIRE=recorded)"
        if "recorded" in os.environ.get("NIGHTBEAM_REQUIRE", "").split(","):
            pytest.fail(message)
        pytest.skip(message)
    return RECORDED
