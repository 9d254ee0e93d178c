"""A recorded file through the accumulator again: the same figures that an acquisition leaves, for any file."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from devices.map_buffers import MapBuffers
from stem4d.accumulate import Accumulator, AccumulatorSpec
from stem4d.errors import BadInput
from stem4d.maps import RunMaps
from storage.frames import Frames

COUNTS = ("uint8", "uint16", "uint32")


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
    for first, batch in frames.batches():
        there = slice(first, first + len(batch))
        buffers.put(there, accumulator.add(as_counts(batch, str(frames.path.name))))
    return replace(buffers.finished(accumulator), came_twice=frames.came_twice, corrupt=frames.corrupt)


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
