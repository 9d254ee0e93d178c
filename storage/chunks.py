"""Reads frames of our own files chunk by chunk, each held to its checksum: wrong bytes never pass as good."""

import zlib
from collections.abc import Iterator
from concurrent.futures import Executor
from typing import NamedTuple

import h5py
import numpy as np
import numpy.typing as npt

from stem4d.errors import BadInput
from storage import layout
from storage.codec import Array, Codec
from storage.ledger import checksum, checksums_of_chunks

PIECE_FRAMES = 32
"""Frames that one thread unpacks in one go."""
_OTHER = "another checksum than in the ledger"


class _Piece(NamedTuple):
    """Frames for one thread: where they come from, their chunks as far as they are of use, and their checksums."""

    data: h5py.Dataset
    first: int
    frames: Array
    chunks: list[bytes] | None
    checksums: npt.NDArray[np.uint32]
    of_chunks: bool


def read_checked(
    file: h5py.File, name: str, first: int, frames: Array, as_written: bool, codec: Codec | None, pool: Executor
) -> None:
    """Fill ``frames`` (n, det_y, det_x) from the positions from ``first`` on.

    ``as_written``: each frame is a chunk, packed by the filter it was written with. Without a ``codec`` HDF5 unpacks.

    Raises
    ------
    BadInput
        A frame cannot be unpacked or does not match its checksum; says at which position.
    """
    data, checksums = file[layout.FRAMES], file[layout.LEDGER_CHECKSUM][first : first + len(frames)]
    of_chunks = checksums_of_chunks(file)
    tasks = []
    for start in range(0, len(frames), PIECE_FRAMES):
        part = frames[start : start + PIECE_FRAMES]
        chunks = list(_chunks(data, first + start, len(part))) if as_written and (codec or of_chunks) else None
        piece = _Piece(data, first + start, part, chunks, checksums[start : start + PIECE_FRAMES], of_chunks)
        tasks.append(pool.submit(_check, piece, codec))
    for start, task in zip(range(0, len(frames), PIECE_FRAMES), tasks, strict=True):
        wrong = task.result()
        if wrong is not None:
            index, why = wrong
            raise changed(name, first + start + index, why)


def changed(name: str, position: int, why: str = _OTHER) -> BadInput:
    """The error for a frame that is not what was written."""
    return BadInput(
        field=f"{name}: position {position}",
        value=why,
        limit="the frame has changed since it was written",
        remedy="Copy the file again from its source",
    )


def _chunks(data: h5py.Dataset, first: int, count: int) -> Iterator[bytes]:
    for position in range(first, first + count):
        y, x = divmod(position, data.shape[1])
        mask, chunk = data.id.read_direct_chunk((y, x, 0, 0))
        yield b"" if mask else chunk  # a mask means that the filter was left out, which we never do


def _check(piece: _Piece, codec: Codec | None) -> tuple[int, str] | None:
    """Unpack and compare; the first frame that is wrong, and why."""
    chunks, of_chunks = piece.chunks, piece.of_chunks
    for index, (frame, expected) in enumerate(zip(piece.frames, piece.checksums, strict=True)):
        # Before anything unpacks it: HDF5's filter trusts the lengths in a chunk.
        if chunks and of_chunks and zlib.crc32(chunks[index]) != int(expected):
            return index, _OTHER
        if chunks and codec:
            try:
                codec.unpack(chunks[index : index + 1], frame[None])
            except ValueError as error:
                return index, str(error)
        else:
            piece.data.read_direct(frame, np.s_[divmod(piece.first + index, piece.data.shape[1])])
        # Chunks that somebody has packed anew cannot be held to the checksums of the old ones.
        if not of_chunks and checksum(frame) != int(expected):
            return index, _OTHER
    return None
