"""The accumulator: virtual images, centre of mass, counts and patterns of any number of frames, in one checked pass."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from stem4d import kernels
from stem4d.accumulate_spec import AccumulatorSpec, first_moment, quantities
from stem4d.accumulate_weights import pack
from stem4d.errors import BadInput
from stem4d.virtual_detectors import Annulus, PixelMask, VirtualDetector

__all__ = [
    "Accumulator",
    "AccumulatorSpec",
    "Annulus",
    "BatchResult",
    "Figures",
    "Lane",
    "PixelMask",
    "VirtualDetector",
]

BLOCK_BYTES = 8 * 2**20
BLOCK_FRAMES = (4, 256)
"""Least and most frames of a block; the least is what the kernel walks at once."""

Counts = npt.NDArray[np.uint32 | np.uint64]


@dataclass(frozen=True, eq=False)
class BatchResult:
    """Results of the n frames of one batch, in their order.

    Attributes
    ----------
    virtual : ndarray
        (n, detectors) sums over the virtual detectors [counts], in the order of the specification.
    total : ndarray
        (n,) sum over all good pixels [counts].
    com_counts : ndarray
        (n,) counts the centre of mass was taken from [counts]: the total, or those in its region.
    moment_yx : ndarray
        (n, 2) int64, exact first moments (y, x) of those counts about `AccumulatorSpec.reference_px` [counts px].
    centre_px : ndarray
        (n, 2) centre of mass (y, x) in pixel-centre indices [px]: reference_px + moment_yx / com_counts, NaN for a
        frame without counts.
    maximum : ndarray
        (n,) largest good pixel, in the dtype of the frames [counts].
    saturated_px, invalid_px : ndarray
        (n,) number of good pixels in [saturation_value, full_scale] and above full_scale. Invalid pixels are counted
        and not repaired: they are in the sums as they were read. All 0 unless `counts_saturation`.
    counts_saturation : bool
        Whether full scale was known.
    """

    virtual: Counts
    total: Counts
    com_counts: Counts
    moment_yx: npt.NDArray[np.int64]
    centre_px: npt.NDArray[np.float64]
    maximum: npt.NDArray[Any]
    saturated_px: npt.NDArray[np.uint32]
    invalid_px: npt.NDArray[np.uint32]
    counts_saturation: bool


class Accumulator:
    """One pass over batches of frames, as they come; memory does not grow with their number.

    The kernel for the dtype is compiled or loaded here (seconds, or half a second), not under the first frames.
    One accumulator belongs to one thread; the threads that share its batches are its own, or take a lane each. numba's
    parallel loops were no faster and spin between batches: 2.7 times the CPU time at 256 frames a batch.
    """

    def __init__(self, spec: AccumulatorSpec) -> None:
        self.spec = spec
        self.frames_seen = 0
        dtype, good = spec.pixel_dtype, spec.good_pixels()
        largest = int(np.iinfo(dtype).max)
        packed = pack(quantities(spec))
        known = spec.full_scale is not None
        limits = (spec.saturation_value or spec.full_scale, spec.full_scale) if known else ()
        inputs = (
            np.where(good.reshape(-1), largest, 0).astype(dtype),
            np.zeros(packed.weights.shape[1], dtype),
            np.array(limits, dtype),
            np.uint16(0 if dtype.itemsize == 1 else 0x8000),
            *packed,
        )
        self._quantities = packed.weight_sums.size
        self._counts_dtype = np.uint32 if largest * packed.weight_sums.max() < 2**32 else np.uint64
        self.lanes = tuple(Lane(kernels.block_kernel(dtype), inputs, good.size, dtype) for _ in range(spec.threads))
        """One for each thread that takes in frames at the same time as others."""
        self._helpers = ThreadPoolExecutor(max(1, spec.threads - 1), "accumulate")

    def add(self, frames: npt.NDArray[Any]) -> BatchResult:
        """Take in the next frames.

        Parameters
        ----------
        frames : ndarray
            (n, det_y, det_x) of the specification's dtype; n may be 0. Frames that are not C-contiguous are copied.

        Raises
        ------
        BadInput
            If shape or dtype are not those of the specification.
        """
        shape, dtype = self.spec.detector_shape, self.spec.pixel_dtype
        if frames.shape[1:] != shape:
            raise BadInput(field="frames.shape", value=frames.shape, limit=f"(n, {shape[0]}, {shape[1]})", unit="px")
        if frames.dtype != dtype:
            raise BadInput(field="frames.dtype", value=frames.dtype.str, limit=f"{dtype.str} ({dtype}), as specified")
        n = len(frames)
        flat = np.ascontiguousarray(frames).reshape(n, shape[0] * shape[1])
        out = self.room_for(n)
        size = _block_frames(n, flat.shape[1] * dtype.itemsize, self.spec.threads)
        starts = iter(range(0, n, size))
        helpers = [self._helpers.submit(_work, lane, flat, out, starts, size) for lane in self.lanes[1 : -(-n // size)]]
        _work(self.lanes[0], flat, out, starts, size)
        for helper in helpers:
            helper.result()
        return self.result(out)

    def room_for(self, frames: int) -> "Figures":
        """Room for the figures of some frames, to be filled by lanes."""
        return Figures(
            sums=np.empty((frames, self._quantities), np.int64),
            maxima=np.zeros(frames, self.spec.pixel_dtype),
            counts=np.zeros((frames, 2), np.uint32),
        )

    @property
    def sum_pattern(self) -> npt.NDArray[np.uint64]:
        """(det_y, det_x) sum of all frames so far [counts], 0 at bad pixels."""
        total = np.sum([lane.summed() for lane in self.lanes], axis=0, dtype=np.uint64)
        shaped: npt.NDArray[np.uint64] = total.reshape(self.spec.detector_shape) * self.spec.good_pixels()
        return shaped

    @property
    def max_pattern(self) -> npt.NDArray[Any]:
        """(det_y, det_x) largest value of each pixel so far [counts], 0 at bad pixels, in the dtype of the frames."""
        largest = np.max([lane.maximum for lane in self.lanes], axis=0)
        shaped: npt.NDArray[Any] = largest.reshape(self.spec.detector_shape) * self.spec.good_pixels()
        return shaped

    def result(self, out: "Figures") -> BatchResult:
        """What lanes found of some frames, which are then seen."""
        self.frames_seen += len(out.sums)
        first = first_moment(self.spec)
        com_counts = out.sums[:, first - 1]
        moment_yx = out.sums[:, first : first + 2]
        with np.errstate(invalid="ignore"):
            centre_px = self.spec.reference_px + moment_yx / com_counts[:, None]
        return BatchResult(
            virtual=out.sums[:, first + 2 :].astype(self._counts_dtype),
            total=out.sums[:, 0].astype(self._counts_dtype),
            com_counts=com_counts.astype(self._counts_dtype),
            moment_yx=moment_yx.copy(),
            centre_px=centre_px,
            maximum=out.maxima,
            saturated_px=out.counts[:, 0].copy(),
            invalid_px=out.counts[:, 1].copy(),
            counts_saturation=self.spec.full_scale is not None,
        )


@dataclass(frozen=True, eq=False, slots=True)
class Figures:
    """Arrays of n frames that the kernel writes, in its order."""

    sums: npt.NDArray[np.int64]
    maxima: npt.NDArray[Any]
    counts: npt.NDArray[np.uint32]

    def part(self, chosen: slice | npt.NDArray[np.intp]) -> "Figures":
        """Those of some of the frames; of a slice, to be filled."""
        return Figures(self.sums[chosen], self.maxima[chosen], self.counts[chosen])


class Lane:
    """What one thread takes in; the recent part of its sum is narrow and is emptied before it can overflow."""

    def __init__(self, kernel: Callable[..., None], inputs: tuple[Any, ...], pixels: int, dtype: np.dtype[Any]) -> None:
        self._kernel, self._inputs = kernel, inputs
        self._recent = np.zeros(pixels, kernels.pattern_dtype(dtype))
        self._earlier = np.zeros(pixels, np.uint64)
        self._holds = int(np.iinfo(self._recent.dtype).max) // int(np.iinfo(dtype).max)
        self._frames = 0
        self.maximum = np.zeros(pixels, dtype)

    def take(self, frames: npt.NDArray[Any], out: Figures) -> None:
        """Take in frames (n, pixels), C-contiguous and of the accumulator's dtype, without the interpreter's lock."""
        if self._frames + len(frames) > self._holds:
            self._earlier += self._recent
            self._recent[:] = 0
            self._frames = 0
        self._frames += len(frames)
        self._kernel(frames, *self._inputs, out.sums, out.maxima, out.counts, self._recent, self.maximum)

    def summed(self) -> npt.NDArray[np.uint64]:
        """(pixels,) sum of what it took in."""
        return self._earlier + self._recent


def _work(lane: Lane, flat: npt.NDArray[Any], out: Figures, starts: Iterator[int], size: int) -> None:
    """Take blocks until none is left: a thread that lost its core to a neighbour takes fewer."""
    for start in starts:
        part = slice(start, start + size)
        lane.take(flat[part], out.part(part))


def _block_frames(n: int, frame_bytes: int, threads: int) -> int:
    """Frames of one block: short enough that threads end together, long enough to be worth handing out."""
    least, most = BLOCK_FRAMES
    wanted = min(BLOCK_BYTES // frame_bytes, -(-n // (2 * threads)))
    return min(max(-(-wanted // least) * least, least), most)
