"""Says in one line that the tests of this folder did not run over PostgreSQL."""

import os

import pytest

from db.migrations import status
from tests.postgres import MISSING, POSSIBLE


def test_the_tests_here_also_run_over_postgresql(request: pytest.FixtureRequest) -> None:
    if not POSSIBLE and "postgres" in os.environ.get("NIGHTBEAM_REQUIRE", "").split(","):
        pytest.fail(f"NIGHTBEAM_REQUIRE asks for postgres. {MISSING}")
    if not POSSIBLE:
        pytest.skip(MISSING)
    # Raises where no server answers.
    assert status(request.getfixturevalue("postgres_server")).needed
