"""Compares the chunks of one of our files with the ledger's checksums, in the order in which they lie on the disk."""

import zlib
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storage import layout
from storage.codec import Codec, bitshuffle_lz4
from storage.contents import NOWHERE, Contents
from storage.hdf5 import DAMAGE
from storage.ledger import checksum
from storage.unclosed import Unclosed

THREADS = 2
READ_BYTES = 2**20
"""Bytes that one thread reads in one go, where chunks lie side by side: they are in the cache still for the CRC."""
LARGEST_GAP_BYTES = 2**16
"""Foreign bytes between two chunks that are read along rather than skipped."""
GREATEST_GROWTH = 2
"""A chunk of more than this times its frame's bytes is none: packing adds a two-hundredth at worst."""


@dataclass(frozen=True)
class Piece:
    """Chunks that were read in one go."""

    positions: npt.NDArray[np.intp]
    intact: npt.NDArray[np.bool_]
    """Those that match their checksum."""
    there: npt.NDArray[np.bool_]
    """Those that lie within the file."""
    chunks: Sequence[memoryview]
    """Good until the next piece is asked for: their memory is used again."""
    bytes: int


def compared(view: Unclosed, contents: Contents) -> Iterator[Piece]:
    """Every recorded frame whose chunk was found, piece by piece."""
    if not contents.packed_as_written:
        yield from _unpacked(contents)
        return
    codec = bitshuffle_lz4()
    wanted = np.flatnonzero(contents.recorded & (contents.offsets != NOWHERE))
    frame_bytes = int(np.prod(contents.detector_shape)) * contents.frames.dtype.itemsize
    possible = contents.sizes[wanted] <= GREATEST_GROWTH * frame_bytes + 64
    for position in wanted[~possible]:
        yield _nothing(position)
    wanted = wanted[possible]
    wanted = wanted[np.argsort(contents.offsets[wanted], kind="stable")]
    # Fresh memory for each piece would cost more than reading into it.
    free = [np.empty(READ_BYTES, np.uint8).data for _ in range(THREADS + 1)]
    waiting: deque[tuple[Future[Piece], memoryview]] = deque()
    with ThreadPoolExecutor(THREADS, thread_name_prefix="compare") as pool:
        for positions in _side_by_side(contents, wanted):
            if not free:
                yield from _next(waiting, free)
            room = free.pop()
            waiting.append((pool.submit(_compare, view, contents, codec, positions, room), room))
        while waiting:
            yield from _next(waiting, free)


def _next(waiting: "deque[tuple[Future[Piece], memoryview]]", free: list[memoryview]) -> Iterator[Piece]:
    task, room = waiting.popleft()
    yield task.result()
    free.append(room)


def _side_by_side(contents: Contents, wanted: npt.NDArray[np.intp]) -> Iterator[npt.NDArray[np.intp]]:
    first = 0
    starts = contents.offsets[wanted]
    ends = starts + contents.sizes[wanted]
    far = np.flatnonzero(starts[1:] - ends[:-1] > LARGEST_GAP_BYTES) + 1
    for stop in [*far.tolist(), len(wanted)]:
        while first < stop:
            last = int(np.searchsorted(ends[first:stop], starts[first] + READ_BYTES, "right")) + first
            last = max(last, first + 1)
            yield wanted[first:last]
            first = last


def _compare(
    view: Unclosed, contents: Contents, codec: Codec | None, positions: npt.NDArray[np.intp], room: memoryview
) -> Piece:
    starts = contents.offsets[positions]
    ends = starts + contents.sizes[positions]
    first, length = int(starts[0]), int(ends.max() - starts[0])
    part = room[:length] if length <= len(room) else np.empty(length, np.uint8).data
    try:
        read = view.fill(part, first)
    except OSError:
        return _one_by_one(view, contents, codec, positions)
    chunks = [part[start:end] for start, end in zip((starts - first).tolist(), (ends - first).tolist(), strict=True)]
    expected = contents.checksums[positions]
    if contents.of_chunks:
        found: list[int | None] = [zlib.crc32(chunk) for chunk in chunks]
    else:
        found = [_of_frame(contents, codec, int(at), chunk) for at, chunk in zip(positions, chunks, strict=True)]
    intact = np.array([one == wanted for one, wanted in zip(found, expected.tolist(), strict=True)], np.bool_)
    there = ends - first <= read
    return Piece(positions, intact & there, there, chunks, read)


def _one_by_one(view: Unclosed, contents: Contents, codec: Codec | None, positions: npt.NDArray[np.intp]) -> Piece:
    """Chunks of which the disk does not give one or more: it is found which, and they count as damaged."""
    if len(positions) == 1:
        return _nothing(positions[0])
    pieces = [_compare(view, contents, codec, positions[at : at + 1], memoryview(b"")) for at in range(len(positions))]
    return Piece(
        positions,
        np.concatenate([piece.intact for piece in pieces]),
        np.concatenate([piece.there for piece in pieces]),
        [piece.chunks[0] for piece in pieces],
        sum(piece.bytes for piece in pieces),
    )


def _of_frame(contents: Contents, codec: Codec | None, position: int, chunk: memoryview) -> int | None:
    frame = np.empty(contents.detector_shape, contents.frames.dtype.newbyteorder("="))
    try:
        if codec is None:
            y, x = divmod(position, contents.scan_shape[1])
            contents.frames.read_direct(frame, np.s_[y, x])
        else:
            codec.unpack([bytes(chunk)], frame[None])
    except DAMAGE:
        return None
    return checksum(frame)


def _unpacked(contents: Contents) -> Iterator[Piece]:
    """Frames that somebody packed anew: only checksums of frames, not of chunks, still mean something."""
    if contents.of_chunks:
        return
    for position in np.flatnonzero(contents.recorded):
        found = _of_frame(contents, None, int(position), memoryview(b""))
        intact = found == int(contents.checksums[position])
        yield Piece(
            np.array([position]), np.array([intact]), np.array([True]), [], int(np.prod(contents.detector_shape))
        )


def _nothing(position: np.intp) -> Piece:
    return Piece(np.array([position]), np.array([False]), np.array([True]), [memoryview(b"")], 0)


def beyond_the_ledger(contents: Contents) -> npt.NDArray[np.bool_]:
    """Positions whose chunk lies there and of which the ledger says that they have no frame."""
    found: npt.NDArray[np.bool_] = (contents.offsets != NOWHERE) & ~contents.recorded
    return found


def ledger_damaged(contents: Contents) -> npt.NDArray[np.bool_]:
    """Positions whose entry no writer of ours would have written: an unknown state, or a checksum without a frame."""
    unknown: npt.NDArray[np.bool_] = contents.states > layout.CORRUPT
    alone: npt.NDArray[np.bool_] = ~contents.recorded & (contents.checksums != 0)
    return unknown | alone
