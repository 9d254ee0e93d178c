"""Looks at the machine: room and speed of its disk, and its clock."""

import ctypes
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta

from db.clock import utc_now
from db.engine import reader
from db.lease import database_now
from flows.examine.line import Line
from stem4d.errors import NightbeamError
from storage.settings import Settings

SLOW_FSYNC_MS = 50.0
"""A commit that takes this long on the disk is felt in every stage."""
PROBE_BYTES = 64 * 2**20
SLOW_WRITE_MB_PER_S = 100.0
"""A detector of 192 x 192 pixels at 2000 frames/s sends more than this."""
MOST_SKEW = timedelta(seconds=2)
"""Between this clock and the database's: leases and the order of events are told by it."""
_UNSYNCHRONISED = 5


def disk(settings: Settings) -> Iterator[Line]:
    """Room, the time that a commit takes, and the rate at which frames can be written."""
    try:
        settings.data_folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=settings.data_folder) as probe:
            taken = sorted(_fsync_ms(probe.fileno()) for _ in range(9))
            rate = _written_mb_per_s(probe.fileno())
    except OSError as error:
        yield Line("data folder", False, f"{settings.data_folder}: {error.strerror}", "Set NIGHTBEAM_HOME elsewhere")
        return
    free_gb = shutil.disk_usage(settings.data_folder).free / 1e9
    needed = settings.disk_reserve_gb
    yield Line("free disk", free_gb > needed, f"{free_gb:.1f} GB", f"At least {needed:g} GB are kept free; make room")
    median = taken[len(taken) // 2]
    yield Line("fsync of 4 kB", median < SLOW_FSYNC_MS, f"{median:.2f} ms, longest {taken[-1]:.2f} ms", "A slow disk")
    found = f"{rate:.0f} MB/s, {PROBE_BYTES >> 20} MiB flushed"
    fix = "Compressed frames may still fit; a faster disk for NIGHTBEAM_HOME is safer"
    yield Line("writing", rate > SLOW_WRITE_MB_PER_S, found, fix)


def _fsync_ms(handle: int) -> float:
    os.write(handle, b"\0" * 4096)
    started = time.perf_counter()
    os.fsync(handle)
    return (time.perf_counter() - started) * 1e3


def _written_mb_per_s(handle: int) -> float:
    block = os.urandom(2**20)  # a disk that compresses is not flattered
    started = time.perf_counter()
    for _ in range(PROBE_BYTES >> 20):
        os.write(handle, block)
    os.fsync(handle)
    return PROBE_BYTES / 1e6 / (time.perf_counter() - started)


def clock(settings: Settings) -> Iterator[Line]:
    """This machine's clock beside the database's, and whether the kernel takes it for synchronised."""
    from tasks.outbox import open_database

    kept = "synchronised" if _synchronised() else "not known to be synchronised (ntp, chrony)"
    try:
        engine = open_database(settings)
    except NightbeamError:
        yield Line("clock", True, f"{kept}; the database's could not be asked")
        return
    try:
        with suppress(NightbeamError), reader(engine) as session:
            skew = abs(utc_now() - database_now(session))
            found = f"{skew.total_seconds():.2f} s from the database's; {kept}"
            yield Line("clock", skew < MOST_SKEW, found, "Let both machines keep their time by ntp or chrony")
    finally:
        engine.dispose()


def _synchronised() -> bool:
    """What the kernel says of its clock; a container asks its host's."""
    buffer = ctypes.create_string_buffer(512)  # larger than any `struct timex`; all zero it changes nothing
    return ctypes.CDLL(None, use_errno=True).ntp_adjtime(buffer) not in (_UNSYNCHRONISED, -1)
