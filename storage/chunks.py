"""Reads frames of our own files chunk by chunk, each held to its checksum: wrong bytes never pass as good."""

import zlib
from collections.abc import Iterator
from concurrent.futures import Executor

import h5py
import numpy as np

from stem4d.errors import BadInput
from storage import layout
from storage.codec import Array, Codec
from storage.ledger import checksum, checksums_of_chunks

PIECE_FRAMES = 32
"""Frames that one thread unpacks in one go."""
_OTHER = "another checksum than in the ledger"


def read_checked(file: h5py.File, name: str, first: int, frames: Array, codec: Codec | None, pool: Executor) -> None:
    """Fill ``frames`` (n, det_y, det_x) from the positions from ``first`` on.

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
        chunks = list(_chunks(data, first + start, len(part))) if codec else None
        if chunks is None:
            for index, frame in enumerate(part):
                data.read_direct(frame, np.s_[divmod(first + start + index, data.shape[1])])
        tasks.append(pool.submit(_check, codec, chunks, part, checksums[start : start + PIECE_FRAMES], of_chunks))
    for start, task in zip(range(0, len(frames), PIECE_FRAMES), tasks, strict=True):
        wrong = task.result()
        if wrong is not None:
            index, why = wrong
            raise BadInput(
                field=f"{name}: position {first + start + index}",
                value=why,
                limit="the frame has changed since it was written",
                remedy="Copy the file again from its source",
            )


def _chunks(data: h5py.Dataset, first: int, count: int) -> Iterator[bytes]:
    for position in range(first, first + count):
        y, x = divmod(position, data.shape[1])
        mask, chunk = data.id.read_direct_chunk((y, x, 0, 0))
        yield b"" if mask else chunk  # a mask means that the filter was left out, which we never do


def _check(
    codec: Codec | None, chunks: list[bytes] | None, frames: Array, expected: Array, of_chunks: bool
) -> tuple[int, str] | None:
    """Unpack and compare; the first frame that is wrong, and why."""
    for index, frame in enumerate(frames):
        if codec and chunks:
            if of_chunks and zlib.crc32(chunks[index]) != int(expected[index]):
                return index, _OTHER
            try:
                codec.unpack(chunks[index : index + 1], frame[None])
            except ValueError as error:
                return index, str(error)
        # Chunks that somebody has packed anew cannot be held to the checksums of the old ones.
        if not of_chunks and checksum(frame) != int(expected[index]):
            return index, _OTHER
    return None
