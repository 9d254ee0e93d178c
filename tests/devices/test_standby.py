"""The acquisition process that is started before its exposure: used once, replaced where it died, gone at the end."""

import os
import signal
import time
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
    psutil.Process(pids[0]).kill()
    waiting = standby.take()
    assert waiting is not None
    waiting.exit_code()  # told by the one who forked it, a moment later
    assert not waiting.lives
    result = acquire_in_child(
        job(tmp_path, KnownFrames((4, 7))), nothing, go_on, on_started=pids.append, worker=waiting
    )
    assert result.frames_received == 28
    assert len(pids) == 2
    standby.begin()
    psutil.Process(pids[2]).kill()
    give_up = time.monotonic() + 10
    while len(pids) < 4:
        assert time.monotonic() < give_up
        standby.begin()
    standby.end()
    assert not any(map(psutil.pid_exists, pids))


def test_one_that_waits_is_not_hurt_by_ctrl_c(tmp_path: Path) -> None:
    """Ctrl+C at the terminal reaches it before it can say that it does not care."""
    pids: list[int] = []
    standby = Standby(pids.append)
    standby.begin()
    os.kill(pids[0], signal.SIGINT)
    result = acquire_in_child(
        job(tmp_path, KnownFrames((4, 7))), nothing, go_on, on_started=pids.append, worker=standby.take()
    )
    assert (result.frames_received, len(pids)) == (28, 1)


@warm
def test_one_that_waits_ends_with_its_session() -> None:
    pids: list[int] = []
    standby = Standby(pids.append)
    standby.begin()
    standby.end()
    assert not psutil.pid_exists(pids[0])
    standby.end()
