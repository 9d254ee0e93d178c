"""Workers that start at once, for tests that need many; and the table of what was injected, after the last test."""

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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests noted under ``fault``, one line each; not seen where several processes share the tests."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.getreports(outcome)]
    lines = [str(value) for report in reports for name, value in report.user_properties if name == "fault"]
    if lines:
        terminalreporter.section("faults that were injected")
    for line in lines:
        terminalreporter.write_line(line)
