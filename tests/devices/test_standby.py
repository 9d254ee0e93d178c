"""The acquisition process that is started before its exposure: used once, replaced where it died, gone at the end."""

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from devices.standby import Standby
from devices.worker import acquire_in_child
from tests.devices.source_world import KnownFrames
from tests.devices.test_acquire import go_on, job, nothing

warm = pytest.mark.usefixtures("warm_workers")


@warm
def test_what_waits_receives_one_exposure_and_is_not_started_twice(tmp_path: Path) -> None:
    pids: list[int] = []
    standby = Standby(pids.append)
    standby.begin()
    standby.begin()
    assert len(pids) == 1
    result = acquire_in_child(
        job(tmp_path, KnownFrames((4, 7))), nothing, go_on, on_started=pids.append, worker=standby.take()
    )
    assert result.frames_received == 28
    assert len(pids) == 1
    assert not psutil.pid_exists(pids[0])
    assert standby.take() is None


@warm
def test_one_that_died_while_it_waited_is_replaced(tmp_path: Path) -> None:
    pids: list[int] = []
    standby = Standby(pids.append)
    standby.begin()
    _killed(pids[0])
    result = acquire_in_child(
        job(tmp_path, KnownFrames((4, 7))), nothing, go_on, on_started=pids.append, worker=standby.take()
    )
    assert result.frames_received == 28
    assert len(pids) == 2
    standby.begin()
    _killed(pids[2])
    standby.begin()
    assert len(pids) == 4
    standby.end()
    assert not any(map(psutil.pid_exists, pids))


def test_one_that_waits_ends_with_its_session_and_is_not_hurt_by_ctrl_c() -> None:
    pids: list[int] = []
    standby = Standby(pids.append)
    standby.begin()
    os.kill(pids[0], signal.SIGINT)
    waiting = standby.take()
    assert waiting is not None
    assert waiting.lives
    waiting.end()
    assert waiting.exit_code() == 0
    standby.end()


def _killed(pid: int) -> None:
    """Kill it, and leave it to its parent to be told so."""
    child = psutil.Process(pid)
    child.kill()
    deadline = time.monotonic() + 10
    with suppress(psutil.NoSuchProcess):  # the parent was faster
        while child.status() != psutil.STATUS_ZOMBIE:
            assert time.monotonic() < deadline
            time.sleep(0.01)
