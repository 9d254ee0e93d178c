"""What tests of several packages share."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from multiprocessing import forkserver
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

if TYPE_CHECKING:
    from tests.postgres import Server

# Before numpy is loaded, and for children too. The processes of xdist fill the cores: a second thread of linear algebra
# in each burns twice the time for the same answer.
for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_threads, "1")

# A shell starts background jobs with Ctrl+C ignored, and every child of the tests would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A first call compiles; how long an example takes is a matter for `make bench`.
settings.register_profile("nightbeam", deadline=None)
settings.load_profile("nightbeam")

RECORDED = Path(__file__).parents[2] / "shared" / "data"


SHARED = {
    "test_night.py": "night",
    "test_cli.py": "night",
    "test_cli_analyse.py": "night",
    "test_api.py": "prefect",
    "test_prefect_versions.py": "prefect",
    "test_prefect_run.py": "prefect",
    "test_deployed.py": "prefect",
    "test_reconcile.py": "prefect",
    "test_examine.py": "prefect",
    "test_prefect_night.py": "prefect",
    "test_approval.py": "prefect",
    "test_submit.py": "prefect",
    "test_emitted.py": "prefect",
    # Kernels that are compiled for the first test that calls them.
    "test_analyse_strain.py": "strain",
    "test_analyse_strain_hostile.py": "strain",
}
"""Files that share something costly, and so run in one process; every other file has a group of its own."""

LONGEST = ("test_interrupted.py", "test_night.py", "test_cli.py", "test_ledger.py", "test_prefect_run.py")
"""Begun first, or one worker would be left with them at the end; xdist itself begins with the most tests."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests that take longest first; those that want the small night may wait for it on a busy machine."""
    for item in items:
        if "small_night" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(400))
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


class ByCostlyFixture(LoadFileScheduling):  # type: ignore[misc]
    """Gives each file, or each set of files that share a costly fixture, to one worker.

    ``--dist loadgroup`` would do it with marks, but writes them into a test's name, which pytest 9.2 no longer lets it.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return SHARED.get(Path(file).name, file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByCostlyFixture:
    """Who gives out the tests where several processes run them."""
    return ByCostlyFixture(config, log)


@pytest.fixture(scope="session", autouse=True)
def watchdogs_in_threads() -> Iterator[None]:
    """Watchdogs of this process run within it; `real_watchdogs` undoes that, and commands in children do not know."""
    from devices import guard
    from tests.kennel_world import spawn_thread

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guard, "spawn", spawn_thread)
        yield


@pytest.fixture
def real_watchdogs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Watchdogs are processes, as in a run."""
    from devices import guard, kennel

    monkeypatch.setattr(guard, "spawn", kennel.spawn)


@pytest.fixture(scope="session")
def own_postgres() -> Iterator["Server"]:
    """A PostgreSQL server that tests may end and start again; who ends it starts it. Skips where there is none."""
    from tests.postgres import MISSING, OWN, Server

    if not OWN:
        pytest.skip(MISSING)
    server = Server()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def recorded_data() -> Path:
    """Folder of the recorded data sets; skips without it, fails where ``NIGHTBEAM_REQUIRE`` names ``recorded``."""
    if not (RECORDED / "recorded_merlin_6bit").is_dir():
        message = "no recorded data: put them into ../shared/data beside the checkout (NIGHTBEAM_REQUIRE=recorded)"
        if "recorded" in os.environ.get("NIGHTBEAM_REQUIRE", "").split(","):
            pytest.fail(message)
        pytest.skip(message)
    return RECORDED


@pytest.fixture(scope="session")
def warm_server() -> Iterator[int]:
    """The process, by its number, that such workers are forked from: it has imported all they need."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["tests.warm"])
    forkserver.ensure_running()
    running: Any = forkserver._forkserver
    yield running._forkserver_pid
    running._stop()


@pytest.fixture
def warm_workers(warm_server: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are forked, in the place of 2 s of start for each.

    What runs in them, what they are told and how they are followed is as in a run; they differ in who their parent is.
    """
    from devices import worker

    forked = SimpleNamespace(get_context=lambda _: multiprocessing.get_context("forkserver"))
    monkeypatch.setattr(worker, "multiprocessing", forked)
    # A worker ends where its parent is another than this one says.
    monkeypatch.setattr(worker, "os", SimpleNamespace(getpid=lambda: warm_server))
