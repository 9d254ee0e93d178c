"""Processes by what stays true of them: a number that is given out again, and the moment that it began."""

import os
import signal
import socket
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from stem4d.model import sha256_of


@dataclass(frozen=True)
class ProcessMark:
    """One process of one host, which no other process at any other time is."""

    host: str
    pid: int
    began: str
    """When it began, in ticks since a boot and in a space of process numbers that are named with it; empty where the
    system does not tell."""


def this_process() -> ProcessMark:
    """The mark of this process."""
    return mark_of(os.getpid())


def mark_of(pid: int) -> ProcessMark:
    """The mark of a process of this host; without its beginning where there is none of that number."""
    ticks = _ticks(pid)
    return ProcessMark(socket.gethostname(), pid, f"{_space()}:{ticks}" if ticks else "")


def lives(mark: ProcessMark) -> bool | None:
    """Whether a process is there; None where that cannot be told from here.

    Not from another host, nor from another space of process numbers on the same one (a container).
    """
    if mark.host != socket.gethostname() or not mark.began:
        return None
    space, _, ticks = mark.began.rpartition(":")
    boot, here = space.partition(".")[0], _space()
    if boot != here.partition(".")[0]:
        return False  # the host was started anew since
    return _ticks(mark.pid) == ticks if space == here else None


def end(mark: ProcessMark, how: signal.Signals = signal.SIGKILL) -> bool:
    """Kill a process, or ask it to end, if it is that one and no later one of its number; whether it was there."""
    if not lives(mark):
        return False
    with suppress(ProcessLookupError, PermissionError):
        # By a descriptor: the number cannot become another process's between the look and the signal.
        descriptor = os.pidfd_open(mark.pid)
        try:
            if lives(mark):
                signal.pidfd_send_signal(descriptor, how)
                return True
        finally:
            os.close(descriptor)
    return False


def children_of(pid: int) -> list[ProcessMark]:
    """The processes that one of this host started and that live."""
    numbers = [int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit()]
    return [mark_of(one) for one in numbers if (stat := _stat(one)) and stat[1] == str(pid)]


def _space() -> str:
    """This boot of this host, and the space that its process numbers are of."""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{sha256_of(boot)[:12]}.{os.readlink('/proc/self/ns/pid').strip('pid:[]')}"
    return ""


def _ticks(pid: int) -> str:
    """When it began; empty where there is no such process."""
    stat = _stat(pid)
    return stat[19] if stat else ""


def _stat(pid: int) -> list[str]:
    """``/proc/PID/stat`` from its third field; empty where there is no such process, or one that has ended and
    lingers."""
    with suppress(OSError):
        # The name of the program stands in brackets and may hold anything.
        fields = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        return [] if fields[0] in ("Z", "X") else fields
    return []
