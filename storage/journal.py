"""A journal of records in a file whose room is taken beforehand, so that a full disk still takes them."""

import errno
import os
import re
import zlib
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from stem4d.errors import BadInput
from storage.disk import DiskFull, free_bytes, sync
from storage.home import unusable

RESERVED_BYTES = 4 << 20
"""Some 6,000 records of an ordinary run."""
URGENT_BYTES = 256 << 10
"""Of what is reserved, kept for urgent records: exposures, and the end of what was begun."""
GROWS_BYTES = 1 << 20

_FIRST_RECORD = 512  # the header has the first sector of a disk to itself: it is written whole or not at all
_HEADER = re.compile(rb"nightbeam journal 1 ([0-9a-f]{16}) ([0-9a-f]{16}) ([0-9a-f]{8})\n")
_RECORD = re.compile(rb"([0-9a-f]{16}) ([0-9a-f]{8}) ([0-9a-f]{8}) ")
_RECORD_OVERHEAD = 36


@dataclass(frozen=True)
class Entry:
    """A record that waits: its number, which only grows, its text, and where the next one begins."""

    number: int
    text: str
    end: int


class Journal:
    """One writer's journal. A record is there once `append` has returned, whatever ends the process then.

    Each record is a line: number, length and CRC-32 in hexadecimal, then a text without line breaks. The header says
    which number is the first that still waits, and where: lines of before stay until they are written over, and their
    lower numbers tell them from those that wait.

    Parameters
    ----------
    path : Path
        The file, made with its folder where missing.
    reserved_bytes, urgent_bytes : int
        Taken from the disk now; and the part of it that only urgent records may have once the disk is full.

    Raises
    ------
    DiskFull
        Where the disk has no room for it.
    BadInput
        For a path that cannot be used.
    """

    def __init__(self, path: Path, reserved_bytes: int = RESERVED_BYTES, urgent_bytes: int = URGENT_BYTES) -> None:
        self.path, self._urgent = path, urgent_bytes
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise unusable(error) from None
        try:
            self._room = os.fstat(self._file).st_size
            if self._room < reserved_bytes:
                self._grow(reserved_bytes - self._room)
            found, first, start = _scan(_content(self._file))
            self.damaged = found.damaged
            """Records that were there and cannot be read."""
            self._numbers = deque(entry.number for entry in found.entries)
            self._next = found.entries[-1].number + 1 if found.entries else first
            self._end = found.entries[-1].end if found.entries else start
            self._write_header(first, start)
            sync(path.parent)
        except BaseException:
            os.close(self._file)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; what waits is there for whoever opens it next."""
        os.close(self._file)

    @property
    def waiting(self) -> int:
        """How many records were appended and not taken off."""
        return len(self._numbers)

    def append(self, text: str, *, urgent: bool = False) -> None:
        """Add a record and have the disk acknowledge it.

        Raises
        ------
        DiskFull
            Where the disk is full, and what was reserved too. Nothing was added.
        """
        content = text.encode("ascii")
        if b"\n" in content:
            raise ValueError("a record is one line")
        line = b"%016x %08x %08x %s\n" % (self._next, len(content), _sum(self._next, content), content)
        self._make_room(self._end + len(line), urgent)
        try:
            _write(self._file, line, self._end)
            os.fdatasync(self._file)
        except OSError as error:
            raise unusable(error) from None
        self._end += len(line)
        self._numbers.append(self._next)
        self._next += 1

    def entries(self) -> Iterator[Entry]:
        """What waits, in the order in which it was appended."""
        yield from _scan(_content(self._file))[0].entries

    def take_off(self, last: Entry) -> None:
        """Forget the records up to this one: they are somewhere else now."""
        while self._numbers and self._numbers[0] <= last.number:
            self._numbers.popleft()
        if self._numbers:
            self._write_header(last.number + 1, last.end)
        else:
            self._end = _FIRST_RECORD
            self._write_header(self._next, self._end)

    def _make_room(self, end: int, urgent: bool) -> None:
        if end + (0 if urgent else self._urgent) <= self._room:
            return
        try:
            self._grow(max(GROWS_BYTES, end + self._urgent - self._room))
        except DiskFull:
            if not urgent or end > self._room:
                raise

    def _grow(self, by: int) -> None:
        try:
            os.posix_fallocate(self._file, self._room, by)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise unusable(error) from None
            raise DiskFull(self.path.parent, by, free_bytes(self.path.parent), os.strerror(error.errno)) from None
        self._room += by

    def _write_header(self, first: int, start: int) -> None:
        sum_ = zlib.crc32(b"%016x %016x" % (first, start))
        _write(self._file, b"nightbeam journal 1 %016x %016x %08x\n" % (first, start, sum_), 0)
        os.fdatasync(self._file)


def waiting_in(path: Path) -> int:
    """How many records wait in a journal, which another process may be writing; 0 where there is none."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise unusable(error) from None
    try:
        return len(_scan(_content(file))[0].entries)
    finally:
        os.close(file)


@dataclass(frozen=True)
class _Found:
    entries: tuple[Entry, ...]
    damaged: int


def _scan(data: bytes) -> tuple[_Found, int, int]:
    """What waits in a file, the first number that may, and where it begins."""
    data = data.rstrip(b"\0")  # room for what is still to come, megabytes of it
    header = _HEADER.match(data)
    if header and zlib.crc32(b"%s %s" % header.group(1, 2)) == int(header[3], 16):
        first, start = int(header[1], 16), int(header[2], 16)
    elif not data.strip(b"\0"):
        first, start = 1, _FIRST_RECORD
    elif header or data[:1] == b"\0" or data.startswith(b"nightbeam journal 1"):
        # Which were taken off is lost with the header. To hand one out again does no harm: it has a key of its own.
        first, start = 0, _FIRST_RECORD
    else:
        limit, remedy = "is no journal of nightbeam's", "Move it away"
        raise BadInput(field="journal", value=ascii(data[:20]), limit=limit, remedy=remedy)
    entries: list[Entry] = []
    expected, damaged = first, 0
    head = _RECORD.search(data, start)
    while head is not None:
        entry = _entry(data, head)
        if entry is None or entry.number < expected:
            # A line cut by the end of its writer, an old one, or a damaged one: only what follows tells.
            head = _RECORD.search(data, head.start() + 1)
            continue
        damaged += entry.number - expected if entries or first else 0
        entries.append(entry)
        expected, head = entry.number + 1, _RECORD.search(data, entry.end)
    return _Found(tuple(entries), damaged), first or 1, start


def _entry(data: bytes, head: re.Match[bytes]) -> Entry | None:
    number, length = int(head[1], 16), int(head[2], 16)
    content = data[head.end() : head.end() + length]
    if len(content) < length or data[head.end() + length : head.end() + length + 1] != b"\n":
        return None
    if _sum(number, content) != int(head[3], 16):
        return None
    return Entry(number, content.decode("ascii"), head.start() + _RECORD_OVERHEAD + length)


def _sum(number: int, content: bytes) -> int:
    return zlib.crc32(b"%016x %s" % (number, content))


def _content(file: int) -> bytes:
    size, parts, at = os.fstat(file).st_size, [], 0
    while at < size and (part := os.pread(file, size - at, at)):
        parts.append(part)
        at += len(part)
    return b"".join(parts)


def _write(file: int, data: bytes, at: int) -> None:
    while data:
        written = os.pwrite(file, data, at)
        data, at = data[written:], at + written
