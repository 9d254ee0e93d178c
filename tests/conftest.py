"""What tests of several packages share."""

import os
from pathlib import Path

import pytest

RECORDED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def recorded_data() -> Path:
    """Folder of the recorded data sets; skips without it, fails where ``NIGHTBEAM_REQUIRE`` names ``recorded``."""
    if not (RECORDED / "recorded_merlin_6bit").is_dir():
        message = "no recorded data: put them into ../shared/data beside the checkout (NIGHTBEAM_REQUIRE=recorded)"
        if "recorded" in os.environ.get("NIGHTBEAM_REQUIRE", "").split(","):
            pytest.fail(message)
        pytest.skip(message)
    return RECORDED
