"""Sessions at servers of the simulated instrument, which are gone at the end of a test."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from devices.simulator import open_instrument
from devices.simulator.remote import RemoteInstrument
from devices.simulator.wire import Address, read_address
from stem4d.dose import DoseLease
from stem4d.errors import DeviceFault
from tests.devices.simulator_world import instrument_file

LINGER_S = 0.5


def folder_of(home: Path, name: str = "test-stem") -> Path:
    """Where an instrument's log and server file are."""
    return home / "instruments" / name


def log_of(home: Path, name: str = "test-stem") -> Path:
    """The column's own log: the witness of what the beam did."""
    return folder_of(home, name) / "column.jsonl"


def entries(home: Path, name: str = "test-stem") -> list[dict[str, Any]]:
    """What the log says so far; none where it is not there yet, and without a line that is being written."""
    with suppress(FileNotFoundError):
        whole = log_of(home, name).read_text().rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines() if line]
    return []


def blanked(home: Path, name: str = "test-stem", within_s: float = 10.0) -> bool:
    """Whether the log says that the beam was blanked, within a time."""
    deadline = time.monotonic() + within_s
    while not any(one["event"] == "blank" for one in entries(home, name)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def address_of(home: Path) -> Address:
    """Of the server that runs."""
    address = read_address(folder_of(home))
    assert address is not None
    return address


@contextmanager
def session(home: Path, linger_s: float = LINGER_S, **settings: Any) -> Iterator[RemoteInstrument]:
    """One client, who leaves without a word if the server has gone."""
    instrument = open_instrument(instrument_file(**settings), home, linger_s)
    try:
        yield instrument
    finally:
        with suppress(DeviceFault):
            instrument.close()


def ended(pid: int, within_s: float = 10.0) -> bool:
    """Whether a process is gone within a time; 10 s is what a busy machine may need."""
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        with suppress(psutil.NoSuchProcess):
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.02)
                continue
        return True
    return False


def gave_up_its_lock(folder: Path, within_s: float = 10.0) -> bool:
    """Whether no server holds an instrument's lock within a time: a dead one's threads can outlive its main one."""
    deadline = time.monotonic() + within_s
    while read_address(folder) is not None:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def now_lease(token: int = 1, lasts_s: float = 60.0) -> DoseLease:
    """A dose lease on the real clock, which server and clients share."""
    return DoseLease("sample", 100.0, token, time.monotonic() + lasts_s)
