"""One owner of an instrument on this host: a kernel lock on a file, freed by the kernel whatever ends the owner."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from stem4d.errors import BadInput
from storage.home import refuse_folders, unusable

TRIES, TRY_EVERY_S = 10, 0.01
"""Whoever only looks (`is_owned`) has the lock for a moment, too, and is no owner."""


@contextmanager
def owned(instrument: str, folder: Path) -> Iterator[None]:
    """Hold an instrument for the length of the block.

    Raises
    ------
    BadInput
        Within 0.1 s, naming the owner, when another process holds it; for a folder that cannot be used.
    """
    path = folder / "owner.lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.touch()
    except OSError as error:
        raise unusable(error) from None
    refuse_folders(path)
    with path.open("a+", encoding="utf-8") as lock:
        if not _taken(lock):
            lock.seek(0)
            raise BadInput(
                field="instrument",
                value=instrument,
                limit=f"one owner at a time; held by {_owner(lock.read(500))}",
                remedy="Wait for that run to end, or stop it",
            )
        lock.truncate(0)
        told = json.dumps({"pid": os.getpid(), "since": datetime.now(UTC).isoformat(timespec="seconds")})
        with suppress(OSError):  # on a full disk it stays empty: it is there for messages
            os.write(lock.fileno(), told.encode())
        try:
            yield
        finally:
            lock.truncate(0)


def _taken(lock: IO[str]) -> bool:
    for tried in range(TRIES):
        if tried:
            time.sleep(TRY_EVERY_S)
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    return False


def _owner(text: str) -> str:
    """What an owner wrote of itself, in words; it may be writing it just now."""
    try:
        told = json.loads(text)
        return f"process {told['pid']} since {told['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"


def owner_pid(folder: Path) -> int | None:
    """The process that holds the instrument of a folder, as it wrote down itself; None where it did not."""
    with suppress(OSError, ValueError, TypeError, KeyError):
        return int(json.loads((folder / "owner.lock").read_text(encoding="utf-8"))["pid"])
    return None


def is_owned(folder: Path) -> bool:
    """Whether a process holds the instrument of a folder; a look, which takes nothing that others wait for."""
    try:
        with (folder / "owner.lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False
