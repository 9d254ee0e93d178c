"""The watchdog as a process: whoever of the two dies or hangs, the other blanks, and nobody is left."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from devices.safety_log import FILE, untold
from devices.watchdog import GONE, LATE
from tests.devices.server_world import address_of, ended, entries, folder_of
from tests.devices.simulator_world import instrument_file

ROOT = Path(__file__).parents[2]
WITHIN_S = 5.0


@contextmanager
def exposing(home: Path) -> Iterator[tuple["subprocess.Popen[str]", psutil.Process]]:
    """An owner whose beam is on, and its watchdog."""
    path = home / "instrument.json"
    path.write_text(instrument_file(speed="real").model_dump_json())
    owner = subprocess.Popen(
        [sys.executable, "-m", "tests.devices.watched_owner", str(path), str(home)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    dogs: list[psutil.Process] = []
    try:
        assert owner.stdout.readline() == "lit\n"
        dogs = [one for one in psutil.Process(owner.pid).children() if "devices.watchdog" in one.cmdline()]
        (dog,) = dogs
        yield owner, dog
    finally:
        owner.kill()
        owner.communicate()


def dark(home: Path, within_s: float) -> list[dict[str, Any]]:
    """What the column's log says after the beam went on, once it went off and the detector is idle."""
    deadline = time.monotonic() + within_s
    while True:
        told = entries(home)
        (lit,) = (number for number, one in enumerate(told) if one["event"] == "unblank")
        after = told[lit:]
        if {"blank", "stop"} <= {one["event"] for one in after}:
            return after
        assert time.monotonic() < deadline, after
        time.sleep(0.02)


def reports(home: Path) -> list[dict[str, Any]]:
    path = folder_of(home) / FILE
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_kill_9_of_the_owner_leaves_the_beam_off_a_report_and_no_process(tmp_path: Path) -> None:
    with exposing(tmp_path) as (owner, dog):
        server = address_of(tmp_path).pid
        assert os.getsid(dog.pid) == dog.pid  # Ctrl+C at a terminal does not reach it, and would not end it
        dog.send_signal(signal.SIGINT)
        dog.send_signal(signal.SIGTERM)
        owner.kill()
        killed_s = time.monotonic()
        (first, *_) = [one for one in dark(tmp_path, WITHIN_S) if one["event"] == "blank"]
        assert "by" not in first  # the simulated column blanks by itself only where nobody is left to
        assert ended(dog.pid, WITHIN_S)
        assert ended(server, WITHIN_S - (time.monotonic() - killed_s))
    (report,) = reports(tmp_path)
    assert (report["by"], report["reason"], report["beam_off"], report["safe"]) == ("watchdog", GONE, True, True)
    assert [step["name"] for step in report["steps"]] == ["blank the beam", "stop the scan", "disarm the detector"]
    (words,) = untold(folder_of(tmp_path))
    assert "the beam was off" in words


@pytest.mark.slow
def test_an_owner_that_hangs_is_taken_the_beam_and_hears_of_it(tmp_path: Path) -> None:
    with exposing(tmp_path) as (owner, dog):
        owner.send_signal(signal.SIGSTOP)
        dark(tmp_path, WITHIN_S)
        assert ended(dog.pid) or dog.status() == psutil.STATUS_ZOMBIE
        owner.send_signal(signal.SIGCONT)
        told, _ = owner.communicate(timeout=30)
    first, *rest = told.splitlines()
    assert first == f"lost: the watchdog has made the instrument safe: {LATE}"
    assert rest == ["refused", "watched again"]
    assert [one["by"] for one in reports(tmp_path)] == ["watchdog", "owner"]


@pytest.mark.parametrize("how", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)])
def test_an_owner_whose_watchdog_dies_or_hangs_blanks_and_is_refused_until_another_watches(
    tmp_path: Path, how: signal.Signals
) -> None:
    with exposing(tmp_path) as (owner, dog):
        dog.send_signal(how)
        # 2 s for one that is dead, and 2 s more until one that hangs counts as dead.
        dark(tmp_path, 2.0 if how is signal.SIGKILL else 4.5)
        told, _ = owner.communicate(timeout=30)
        assert owner.returncode == 0
        assert ended(dog.pid)
    first, *rest = told.splitlines()
    assert ("killed by signal 9" if how is signal.SIGKILL else "has said nothing for 2 s") in first
    assert rest == ["refused", "watched again"]
    assert [one["by"] for one in reports(tmp_path)] == ["owner"]
    assert untold(folder_of(tmp_path)) == ()
