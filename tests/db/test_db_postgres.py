"""Says in one line that the tests of this folder did not run over PostgreSQL."""

import os

import pytest

from db.migrations import status


def test_the_tests_here_also_run_over_postgresql() -> None:
    url = os.environ.get("NIGHTBEAM_TEST_POSTGRES_URL")
    if not url and "postgres" in os.environ.get("NIGHTBEAM_REQUIRE", "").split(","):
        pytest.fail("NIGHTBEAM_REQUIRE asks for postgres, and NIGHTBEAM_TEST_POSTGRES_URL is not set")
    if not url:
        pytest.skip("PostgreSQL: set NIGHTBEAM_TEST_POSTGRES_URL=postgresql://SUPERUSER:PASSWORD@HOST/postgres")
    # Raises where no server answers.
    assert status(url).needed
