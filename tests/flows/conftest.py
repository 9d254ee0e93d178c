"""What is costly and shared: one night on the simulator, and one Prefect API server."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from flows.api import PrefectApi, client_of, start
from tests.flows.night_world import NightOnDisk, run_small_night


def only_here(factory: pytest.TempPathFactory, what: str) -> None:
    """Fail where another process of the same tests has made it too: both would wait for it."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        (factory.getbasetemp().parent / f"{what}-is-made-once").mkdir()  # of all the processes of xdist


@pytest.fixture(scope="session")
def small_night(tmp_path_factory: pytest.TempPathFactory) -> NightOnDisk:
    """The demo's night with small scans, run once."""
    only_here(tmp_path_factory, "night")
    home = tmp_path_factory.mktemp("night")
    return NightOnDisk(home, run_small_night(home))


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The NIGHTBEAM_HOME of the session's server."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def prefect_api(prefect_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectApi]:
    """A real server, this process its client, heartbeats off: each would cost a flow a second at its end."""
    only_here(tmp_path_factory, "prefect")
    with start(prefect_home) as server, client_of(server):
        from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

        with temporary_settings({PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}):
            yield server.ready(within_s=110)  # a busy machine; the limit of a test is 120 s
