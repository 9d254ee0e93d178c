"""The PostgreSQL of the tests: said in one line where there is none, and started from wherever the environment lies."""

import os
import subprocess
from pathlib import Path

import pytest

from db.migrations import status
from tests.postgres import MISSING, OWN, POSSIBLE, brought, copied


def test_the_tests_here_also_run_over_postgresql(request: pytest.FixtureRequest) -> None:
    if not POSSIBLE and "postgres" in os.environ.get("NIGHTBEAM_REQUIRE", "").split(","):
        pytest.fail(f"NIGHTBEAM_REQUIRE asks for postgres. {MISSING}")
    if not POSSIBLE:
        pytest.skip(MISSING)
    # Raises where no server answers.
    assert status(request.getfixturevalue("postgres_server")).needed


@pytest.mark.skipif(not OWN, reason=MISSING)
def test_programs_that_were_copied_still_find_their_libraries(tmp_path: Path) -> None:
    # As for a checkout in a folder that only root may enter, where the server runs as somebody else.
    there = copied(brought(), tmp_path)
    assert there.is_relative_to(tmp_path)
    for program in ("initdb", "postgres", "pg_isready"):
        assert "PostgreSQL" in subprocess.run([there / program, "--version"], capture_output=True, text=True).stdout
