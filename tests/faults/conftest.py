"""Workers that start at once, for tests that need many."""

import multiprocessing
from collections.abc import Iterator
from multiprocessing import forkserver
from types import SimpleNamespace
from typing import Any

import pytest

from devices import worker


@pytest.fixture(scope="session")
def server() -> Iterator[int]:
    """The process, by its number, that such workers are forked from: it has imported all they need."""
    multiprocessing.get_context("forkserver").set_forkserver_preload(["tests.faults.warm"])
    forkserver.ensure_running()
    running: Any = forkserver._forkserver
    yield running._forkserver_pid
    running._stop()


@pytest.fixture
def warm_workers(server: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers are forked, in the place of 2 s of start for each.

    What runs in them, what they are told and how they are followed is as in a run; they differ in who their parent is.
    """
    forked = SimpleNamespace(get_context=lambda _: multiprocessing.get_context("forkserver"))
    monkeypatch.setattr(worker, "multiprocessing", forked)
    # A worker ends where its parent is another than this one says.
    monkeypatch.setattr(worker, "os", SimpleNamespace(getpid=lambda: server))
