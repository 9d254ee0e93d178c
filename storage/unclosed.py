"""Shows HDF5 a file that was never closed, or was cut short, as one that was: nothing is written to it.

A writer that dies leaves marks in the superblock that it is still at work, and the length that the file had at first.
HDF5 then refuses it, or takes it as being written to (SWMR) and waits, without end, for whatever of it is damaged. Here
the superblock is put right in memory, and what lies beyond the file's end reads as zeros, which no checksum lets pass.
"""

import io
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

SIGNATURE = b"\x89HDF\r\n\x1a\n"
_FIELDS = struct.Struct("<8sBBBBQQQQ")
"""Signature, version, sizes of offsets and of lengths, marks, base, extension, end of file, root group."""
_SIZE = _FIELDS.size + 4
ROOT = 48
"""Where the root group stands in each of our files: right behind the superblock."""
ROOT_SIGNATURE = b"OHDR"
_UNDEFINED = 2**64 - 1
_VERSIONS, _VERSION, _WIDTH = (2, 3), 3, 8
_SHOWN_BYTES = 2**50
"""Length that HDF5 is told: any place it may look for is within."""


@dataclass(frozen=True)
class Superblock:
    """What a file's first bytes say."""

    sound: bool
    """Whether they agree with their own checksum."""
    open_for_writing: bool = False
    extension: int = _UNDEFINED
    root: int = ROOT
    """Where no sound superblock says otherwise these are as in any file of ours."""
    older: bool = False
    """Of a kind that other programs write, without marks and checksum: it is shown as it is."""


class Unclosed(io.RawIOBase):
    """A file, opened for reading, as HDF5 would see it had its writer closed it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.bytes = os.fstat(self._handle).st_size
        """Bytes that are there."""
        start = os.pread(self._handle, ROOT + len(ROOT_SIGNATURE), 0)
        self.superblock = _understood(start)
        self._start = b"" if self.superblock.older else _closed(self.superblock)
        self._at = 0

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place; the end is far beyond the file's."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: _SHOWN_BYTES}[whence]
        return self._at

    def readinto(self, room: "WriteableBuffer", /) -> int:
        """Fill a buffer: the superblock as it should be, then the file, then zeros."""
        view = memoryview(room).cast("B")
        number = max(0, min(len(view), _SHOWN_BYTES - self._at))
        self.fill(view[:number], self._at)
        if self._at < _SIZE:
            part = self._start[self._at : self._at + number]
            view[: len(part)] = part
        self._at += number
        return number

    def fill(self, room: memoryview, offset: int) -> int:
        """Fill a buffer from the file itself, with zeros beyond its end; gives the bytes that were there."""
        done = 0
        while done < len(room):
            read = os.preadv(self._handle, [room[done:]], offset + done)
            if read == 0:
                break
            done += read
        room[done:] = bytes(len(room) - done)
        return done

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            os.close(self._handle)
        super().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _understood(start: bytes) -> Superblock:
    if len(start) < _SIZE:
        return Superblock(sound=False)
    signature, version, offsets, lengths, marks, base, extension, _, root = _FIELDS.unpack_from(start)
    (found,) = struct.unpack_from("<I", start, _FIELDS.size)
    if signature == SIGNATURE and version < min(_VERSIONS) and start[ROOT:] != ROOT_SIGNATURE:
        return Superblock(sound=True, older=True)
    known = (signature, offsets, lengths, base) == (SIGNATURE, _WIDTH, _WIDTH, 0) and version in _VERSIONS
    if not known or found != lookup3(start[: _FIELDS.size]):
        return Superblock(sound=False)
    return Superblock(True, bool(marks) and version == _VERSION, extension, root)


def _closed(found: Superblock) -> bytes:
    fields = _FIELDS.pack(SIGNATURE, _VERSION, _WIDTH, _WIDTH, 0, 0, found.extension, _SHOWN_BYTES, found.root)
    return fields + struct.pack("<I", lookup3(fields))


def lookup3(data: bytes) -> int:
    """Bob Jenkins's public hash ``hashlittle`` (lookup3.c, 2006) from 0, which HDF5 keeps beside its metadata.

    Examples
    --------
    >>> hex(lookup3(b"Four score and seven years ago"))
    '0x17770551'
    """
    mask = 0xFFFFFFFF
    a = b = c = 0xDEADBEEF + len(data) & mask

    def turned(value: int, bits: int) -> int:
        return (value << bits | value >> 32 - bits) & mask

    padded = data + bytes(-len(data) % 12)
    words = struct.unpack(f"<{len(padded) // 4}I", padded)
    for index in range(0, len(words), 3):
        a, b, c = a + words[index] & mask, b + words[index + 1] & mask, c + words[index + 2] & mask
        if index + 3 < len(words):
            a = a - c & mask ^ turned(c, 4)
            c = c + b & mask
            b = b - a & mask ^ turned(a, 6)
            a = a + c & mask
            c = c - b & mask ^ turned(b, 8)
            b = b + a & mask
            a = a - c & mask ^ turned(c, 16)
            c = c + b & mask
            b = b - a & mask ^ turned(a, 19)
            a = a + c & mask
            c = c - b & mask ^ turned(b, 4)
            b = b + a & mask
    if data:
        # The last mixing goes round c, a, b, c, ..., each time the one before into the next; it ends with c.
        before, this, after = b, c, a
        for bits in (14, 11, 25, 16, 4, 14, 24):
            this = (this ^ before) - turned(before, bits) & mask
            before, this, after = this, after, before
        return before
    return c
