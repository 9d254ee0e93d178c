"""A recorded file through the accumulator again: the same figures that an acquisition leaves, for any file."""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from devices.map_buffers import MapBuffers
from devices.packed_pass import PackedPass, Taking
from stem4d.accumulate import Accumulator, AccumulatorSpec
from stem4d.errors import BadInput
from stem4d.maps import RunMaps
from storage.chunks import changed
from storage.codec import bitshuffle_lz4
from storage.frames import ChunkBatch, Frames

COUNTS = ("uint8", "uint16", "uint32")
AT_ONCE = 128
"""Stored frames that are handed to the threads together."""
IN_FLIGHT = 2
"""So many times as many wait for them."""


def counts_dtype(frames: Frames) -> str:
    """The unsigned type that a file's frames are accumulated in."""
    return frames.dtype.name if frames.dtype.name in COUNTS else "uint32"


def maps_of(frames: Frames, spec: AccumulatorSpec) -> RunMaps:
    """One pass over a file, in bounded memory.

    Raises
    ------
    BadInput
        For frames that are no counts: negative, fractional, NaN, or beyond 32 bit.
    """
    accumulator = Accumulator(spec)
    buffers = MapBuffers(frames.scan_shape, spec)
    codec, stored = bitshuffle_lz4(), frames.chunks(AT_ONCE)
    if codec is not None and stored is not None and frames.dtype == spec.pixel_dtype:
        with PackedPass(accumulator, codec) as packed:
            _take_stored(stored, packed, buffers, frames.path.name)
    else:
        for first, batch in frames.batches():
            there = slice(first, first + len(batch))
            buffers.put(there, accumulator.add(as_counts(batch, str(frames.path.name))))
    return replace(buffers.finished(accumulator), came_twice=frames.came_twice, corrupt=frames.corrupt)


def _take_stored(stored: Iterator[ChunkBatch], packed: PackedPass, buffers: MapBuffers, name: str) -> None:
    """Read chunks while those read before are unpacked."""
    taking: deque[tuple[int, npt.NDArray[np.uint32], Taking]] = deque()
    while True:
        batch = next(stored, None)
        if batch is not None:
            first, chunks, checksums = batch
            taking.append((first, checksums, packed.begin(chunks)))
        if not taking:
            return
        if batch is None or len(taking) > IN_FLIGHT:
            first, checksums, begun = taking.popleft()
            taken = begun.result()
            wrong = np.flatnonzero((np.array(taken.checksums, np.uint32) != checksums) | ~taken.whole)
            if wrong.size:
                raise changed(name, first + int(wrong[0]))
            buffers.put(slice(first, first + len(checksums)), taken.figures)


def as_counts(frames: npt.NDArray[np.generic], name: str) -> npt.NDArray[np.unsignedinteger]:
    """Frames as unsigned integers, without changing a value."""
    if frames.dtype.name in COUNTS:
        return frames  # type: ignore[return-value]
    lowest, highest = frames.min(), frames.max()
    whole = frames.dtype.kind in "ui" or bool((frames == np.rint(frames)).all())
    if not (whole and lowest >= 0 and highest < 2**32):
        raise BadInput(
            field=name,
            value=f"{frames.dtype} from {lowest} to {highest}",
            limit="frames have to be counts: whole numbers from 0 to 2**32 - 1",
            remedy="Data of an integrating detector need their dark level subtracted and their gain divided out",
        )
    return frames.astype(np.uint32)
