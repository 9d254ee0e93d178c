"""The record of which position holds a frame, with its checksum: what the ledger says is what was acquired."""

import zlib
from collections.abc import Iterator

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
        self._state, self._checksum = file[layout.LEDGER_STATE], file[layout.LEDGER_CHECKSUM]
        self._recorded = np.zeros(self._state.shape[0], np.bool_)
        self._waiting: list[tuple[int, list[int]]] = []
        self.acknowledged = 0
        """Frames that survive the death of this process."""

    @property
    def waiting(self) -> int:
        """Frames written and not yet acknowledged."""
        return sum(len(checksums) for _, checksums in self._waiting)

    def holds_any(self, first: int, count: int) -> bool:
        """Whether one of these positions has been written."""
        return bool(self._recorded[first : first + count].any())

    def add(self, first: int, checksums: list[int]) -> None:
        """Note frames that have been handed to HDF5."""
        self._recorded[first : first + len(checksums)] = True
        self._waiting.append((first, checksums))

    def commit(self) -> None:
        """Write what is waiting. Call it after the frames were flushed, never before."""
        for first, checksums in self._waiting:
            self._checksum[first : first + len(checksums)] = checksums
            self._state[first : first + len(checksums)] = layout.OK
        self._checksum.flush()
        self._state.flush()
        self.acknowledged += self.waiting
        self._waiting.clear()


def recorded_positions(file: h5py.File) -> npt.NDArray[np.bool_]:
    """Which positions hold a frame, (positions,) in scan order."""
    states: npt.NDArray[np.uint8] = file[layout.LEDGER_STATE][:]
    return np.equal(states, layout.OK)


def damaged(file: h5py.File, positions: npt.NDArray[np.intp]) -> Iterator[int]:
    """Those of the given positions whose frame does not match its checksum."""
    frames, checksums = file[layout.FRAMES], file[layout.LEDGER_CHECKSUM]
    for position in positions:
        y, x = divmod(int(position), frames.shape[1])
        if checksum(frames[y, x]) != int(checksums[position]):
            yield int(position)
