"""What is costly and shared: one night on the simulator, and one Prefect API server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.api import PrefectApi, client_of, start
from tests.flows.night_world import NightOnDisk, run_small_night


@pytest.fixture(scope="session")
def small_night(tmp_path_factory: pytest.TempPathFactory) -> NightOnDisk:
    """The demo's night with small scans, run once."""
    home = tmp_path_factory.mktemp("night")
    return NightOnDisk(home, run_small_night(home))


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
