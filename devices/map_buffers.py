"""The per-position figures of one pass, gathered as its frames come."""

import numpy as np
import numpy.typing as npt

from stem4d.accumulate import Accumulator, AccumulatorSpec, BatchResult
from stem4d.maps import RunMaps
from storage.glimpse import Grey, small_grey

BRIGHT_FIELD = "disk"
"""The virtual detector that every acquisition with a known disk has."""


class MapBuffers:
    """Filled batch by batch: about 40 bytes a position."""

    def __init__(self, scan_shape: tuple[int, int], spec: AccumulatorSpec) -> None:
        positions = scan_shape[0] * scan_shape[1]
        self._scan_shape, self._full_scale = scan_shape, spec.full_scale
        self._recorded = np.zeros(positions, np.bool_)
        self._total = np.zeros(positions, np.uint64)
        self._com = np.full((2, positions), np.nan, np.float32)
        self._counts = np.zeros((3, positions), np.uint32)
        self._virtual = {detector.name: np.zeros(positions, np.uint64) for detector in spec.detectors}

    def put(self, there: slice | npt.NDArray[np.intp], batch: BatchResult) -> None:
        """Take the figures of the frames at these positions."""
        self._recorded[there] = True
        self._total[there] = batch.total
        self._com[:, there] = batch.centre_px.T
        self._counts[:, there] = batch.maximum, batch.saturated_px, batch.invalid_px
        for index, image in enumerate(self._virtual.values()):
            image[there] = batch.virtual[:, index]

    def glimpse(self) -> Grey:
        """The bright-field image as far as it has come, small; all counts where the disk is not known."""
        shape = self._scan_shape
        image = self._virtual.get(BRIGHT_FIELD, self._total)
        return small_grey(image.reshape(shape), self._recorded.reshape(shape))

    def finished(self, accumulator: Accumulator) -> RunMaps:
        """All figures of the pass, with the accumulator's patterns."""
        shape = self._scan_shape
        maximum, saturated, invalid = (row.reshape(shape) for row in self._counts)
        return RunMaps(
            recorded=self._recorded.reshape(shape),
            total=self._total.reshape(shape),
            com_y_px=self._com[0].reshape(shape),
            com_x_px=self._com[1].reshape(shape),
            maximum=maximum,
            saturated_px=saturated,
            invalid_px=invalid,
            sum_pattern=accumulator.sum_pattern,
            max_pattern=accumulator.max_pattern.astype(np.uint32),
            full_scale=self._full_scale,
            virtual={name: image.reshape(shape) for name, image in self._virtual.items()},
        )
