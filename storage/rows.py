"""The frames of an open file by rows of the scan, as analyses read them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.frames import BATCH_BYTES, Frames


class FrameRows:
    """See ``stem4d.analyse.method.Rows``. Holds one batch of frames at a time."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self.scan_shape = frames.scan_shape
        self.detector_shape = frames.detector_shape
        self.dtype: np.dtype[Any] = frames.dtype
        self.recorded = frames.recorded

    def read(self, first: int, stop: int) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[Any]]]:
        """Recorded frames of rows first to stop - 1: positions (flat) and (n, det_y, det_x)."""
        columns = self.scan_shape[1]
        for at, frames in self._frames.batches(BATCH_BYTES, first * columns, stop * columns):
            yield np.arange(at, at + len(frames), dtype=np.int64), frames
