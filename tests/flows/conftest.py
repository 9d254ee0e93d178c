"""One Prefect API server for every test that needs a real one: starting it takes seconds."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.api import PrefectApi, client_of, start


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The NIGHTBEAM_HOME of the session's server."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def prefect_api(prefect_home: Path) -> Iterator[PrefectApi]:
    """A real server, this process its client, heartbeats off: each would cost a flow a second at its end."""
    with start(prefect_home) as server, client_of(server):
        from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            yield server.ready(within_s=110)  # a busy machine; the limit of a test is 120 s
