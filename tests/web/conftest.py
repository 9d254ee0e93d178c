"""What the tests of the reports share."""

import pytest
from report_world import Crystal, make_crystal


@pytest.fixture(scope="session")
def crystal() -> Crystal:
    """The same crystal for every test."""
    return make_crystal()
