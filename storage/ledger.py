"""The record of which position holds a frame, with its checksum: what the ledger says is what was acquired."""

import zlib
from collections.abc import Iterator, Sequence

import h5py
import numpy as np
import numpy.typing as npt

from storage import layout


def checksum(frame: npt.NDArray[np.generic]) -> int:
    """CRC-32 of a frame's uncompressed bytes in row order, little-endian as in the file."""
    little = frame.astype(frame.dtype.newbyteorder("<"), order="C", copy=False)
    return zlib.crc32(little.view(np.uint8).data)


class Ledger:
    """Collects what was written and puts it into the file once the frames themselves are there."""

    def __init__(self, file: h5py.File) -> None:
        self._file_state, self._file_checksum = file[layout.LEDGER_STATE], file[layout.LEDGER_CHECKSUM]
        self.states = np.full(self._file_state.shape[0], layout.MISSING, np.uint8)
        """(positions,) as they stand, acknowledged or not."""
        self._checksums = np.zeros(len(self.states), np.uint32)
        self._changed: list[int] = []
        self.waiting = 0
        """Frames written and not yet acknowledged."""
        self.acknowledged = 0
        """Frames that survive the death of this process."""

    def add(self, positions: Sequence[int], checksums: Sequence[int]) -> None:
        """Note frames that have been handed to HDF5."""
        there = np.asarray(positions, np.intp)
        self.states[there] = layout.OK
        self._checksums[there] = checksums
        self._changed += positions
        self.waiting += len(positions)

    def mark(self, position: int, state: int) -> None:
        """Note that a position is a duplicate or corrupt; a corrupt one that comes again, and whole, can be added."""
        self.states[position] = state
        self._changed.append(position)

    @property
    def unsaved(self) -> int:
        """Changes that are not in the file yet: frames written, and positions marked."""
        return len(self._changed)

    def commit(self) -> None:
        """Write what is waiting. Call it after the frames were flushed, never before."""
        if not self._changed:
            return
        # One stretch from the first to the last that changed: a selection of points is slow, and what lies between is
        # as it stands in the file already.
        there = slice(min(self._changed), max(self._changed) + 1)
        _write(self._file_checksum, there, self._checksums)
        _write(self._file_state, there, self.states)
        self._file_checksum.flush()
        self._file_state.flush()
        self.acknowledged += self.waiting
        self.waiting = 0
        self._changed.clear()


def _write(data: h5py.Dataset, there: slice, values: npt.NDArray[np.generic]) -> None:
    """Copy a stretch of values to the same place of a data set; h5py's own way takes ten times as long for it."""
    count = (there.stop - there.start,)
    space = data.id.get_space()
    space.select_hyperslab((there.start,), count)
    data.id.write(h5py.h5s.create_simple(count), space, np.ascontiguousarray(values[there]))


def checksums_of_chunks(file: h5py.File) -> bool:
    """Whether a file's checksums are of its chunks as stored, not of the frames in them."""
    of = file[layout.LEDGER_CHECKSUM].attrs.get(layout.CHECKSUM_OF, b"frame")
    return bool(np.asarray(of).item() == b"chunk")


def recorded_positions(file: h5py.File) -> npt.NDArray[np.bool_]:
    """Which positions hold a frame, (positions,) in scan order."""
    states: npt.NDArray[np.uint8] = file[layout.LEDGER_STATE][:]
    return np.isin(states, (layout.OK, layout.DUPLICATE))


def ledger_maps(file: h5py.File, scan_shape: tuple[int, int]) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Which positions (scan_y, scan_x) got more than one frame, and which one that could not be unpacked."""
    states: npt.NDArray[np.uint8] = file[layout.LEDGER_STATE][:].reshape(scan_shape)
    return states == layout.DUPLICATE, states == layout.CORRUPT


def damaged(file: h5py.File, positions: npt.NDArray[np.intp]) -> Iterator[int]:
    """Those of the given positions whose frame does not match its checksum."""
    frames, checksums, of_chunks = file[layout.FRAMES], file[layout.LEDGER_CHECKSUM], checksums_of_chunks(file)
    for position in positions:
        y, x = divmod(int(position), frames.shape[1])
        found = zlib.crc32(frames.id.read_direct_chunk((y, x, 0, 0))[1]) if of_chunks else checksum(frames[y, x])
        if found != int(checksums[position]):
            yield int(position)
