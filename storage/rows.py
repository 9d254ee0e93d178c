"""The frames of an open file by rows of the scan, as analyses read them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.frames import BATCH_BYTES, Frames

KEPT_BYTES = 2 * BATCH_BYTES
"""Of single rows that are kept: what looks at a few of them is followed by what looks at the same."""


class FrameRows:
    """See ``stem4d.analyse.method.Rows``. Holds one batch of frames at a time, and a few single rows."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self.scan_shape = frames.scan_shape
        self.detector_shape = frames.detector_shape
        self.dtype: np.dtype[Any] = frames.dtype
        self.recorded = frames.recorded
        self._kept: dict[int, tuple[npt.NDArray[np.int64], npt.NDArray[Any]]] = {}
        self._room = KEPT_BYTES

    def read(self, first: int, stop: int) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[Any]]]:
        """Recorded frames of rows first to stop - 1: positions (flat) and (n, det_y, det_x)."""
        columns = self.scan_shape[1]
        if first in self._kept and stop == first + 1:
            yield self._kept[first]
            return
        for at, frames in self._frames.batches(BATCH_BYTES, first * columns, stop * columns):
            positions = np.arange(at, at + len(frames), dtype=np.int64)
            if stop == first + 1 and len(frames) == columns and frames.nbytes <= self._room:
                self._room -= frames.nbytes
                self._kept[first] = positions, frames
            yield positions, frames
