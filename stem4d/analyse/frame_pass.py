"""A pass over frames that follows the pattern: sums and centres of mass under masks that move with the origin."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from stem4d.accumulate import Accumulator, AccumulatorSpec, PixelMask
from stem4d.accumulate_spec import PIXEL_TYPES
from stem4d.analyse.method import Given, NotPossible, Rows
from stem4d.analyse.usable import MOST_LOST

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Masks = Callable[[tuple[float, float]], Sequence[Mask]]
"""Pixels, (det_y, det_x), of each virtual detector for an origin (y, x) [px]."""

SAMPLED_ROWS = 8
"""Rows whose patterns are summed where a sum over all of them would take a pass of its own."""


@dataclass(frozen=True)
class Sums:
    """What a range of rows came to; first axis is the row. NaN where there is no frame, or none that can be used."""

    virtual: Array
    """(rows, scan_x, detectors) [counts]."""
    total: Array
    com_counts: Array
    com_px: Array
    """(rows, scan_x, 2): centre of mass (y, x) less the whole pixels that the origin lies off its mean."""
    moved_px: npt.NDArray[np.int32]
    """(rows, scan_x, 2): those."""
    saturated: Mask


@dataclass(frozen=True)
class Looked:
    """What frames of some rows add up to, each (det_y, det_x)."""

    aligned: Array
    """Their sum, every frame moved by whole pixels onto the mean origin, bad pixels left at 0."""
    mean: Array
    """As they are."""
    highest: Array
    frames: int


@dataclass
class FollowingPass:
    """Masks for every origin that occurs, and an accumulator for each; origins are rounded to whole pixels off the
    mean one."""

    given: Given
    rows: Rows
    masks: Masks
    region: Callable[[tuple[float, float]], Mask] | None = None
    _accumulators: dict[tuple[int, int], Accumulator] = field(default_factory=dict)
    _weights: dict[tuple[int, int], Array] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """The mean origin, and how far each position's is from it."""
        origin = self.given.origin_at(self.rows.scan_shape)
        self.mean_px = (float(np.nanmean(origin[0])), float(np.nanmean(origin[1])))
        # Where it is not known, the pattern is taken to lie where it lies on the whole.
        apart = np.nan_to_num(origin - np.reshape(self.mean_px, (2, 1, 1)))
        self.moved_px: npt.NDArray[np.int32] = np.rint(apart).astype(np.int32).transpose(1, 2, 0)

    def over(self, first: int, stop: int) -> Sums:
        """Rows first to stop - 1."""
        width = self.rows.scan_shape[1]
        number = len(self.masks(self.mean_px))
        shape = ((stop - first) * width,)
        virtual, com = np.full((*shape, number), np.nan), np.full((*shape, 2), np.nan)
        total, counts, saturated = np.full(shape, np.nan), np.full(shape, np.nan), np.zeros(shape, bool)
        moved = self.moved_px.reshape(-1, 2)
        for positions, frames in self.rows.read(first, stop):
            for shift, chosen in _alike(moved[positions]):
                at = positions[chosen] - first * width
                found = self._sums(frames[chosen], shift)
                virtual[at], total[at], counts[at], com[at], saturated[at] = found
        grid = (stop - first, width)
        return Sums(
            virtual=virtual.reshape(*grid, number),
            total=total.reshape(grid),
            com_counts=counts.reshape(grid),
            com_px=com.reshape(*grid, 2),
            moved_px=self.moved_px[first:stop],
            saturated=saturated.reshape(grid),
        )

    def look(self, rows: Sequence[int]) -> Looked:
        """The frames of some rows, added up; what is no number counts as 0."""
        shape = self.rows.detector_shape
        aligned, summed, highest, number = np.zeros(shape), np.zeros(shape), np.full(shape, -np.inf), 0
        moved = self.moved_px.reshape(-1, 2)
        for row in rows:
            for positions, frames in self.rows.read(row, row + 1):
                numbers = frames
                if frames.dtype.kind == "f":
                    numbers = np.nan_to_num(frames, nan=0.0, posinf=0.0, neginf=0.0)
                highest = np.maximum(highest, numbers.max(axis=0))
                number += len(numbers)
                for shift, chosen in _alike(moved[positions]):
                    here = numbers[chosen].sum(axis=0, dtype=np.float64)
                    summed += here
                    aligned += displaced(np.where(self.given.bad_pixels, 0.0, here), (-shift[0], -shift[1]))
        return Looked(aligned, summed / max(number, 1), highest, number)

    def _sums(self, frames: npt.NDArray[np.generic], shift: tuple[int, int]) -> tuple[Array, Array, Array, Array, Mask]:
        native = frames.astype(frames.dtype.newbyteorder("="), copy=False)
        move = np.array(shift, np.float64)
        if native.dtype not in PIXEL_TYPES:
            return self._plain_sums(native.astype(np.float64), shift)
        accumulator = self._accumulators.get(shift)
        if accumulator is None:
            accumulator = self._accumulators[shift] = Accumulator(self._spec(shift, native.dtype))
        found = accumulator.add(native)
        return (
            found.virtual.astype(np.float64),
            found.total.astype(np.float64),
            found.com_counts.astype(np.float64),
            found.centre_px - move,
            found.saturated_px > 0,
        )

    def _spec(self, shift: tuple[int, int], dtype: npt.DTypeLike) -> AccumulatorSpec:
        origin = self._origin(shift)
        return AccumulatorSpec(
            self.rows.detector_shape,
            dtype,
            tuple(PixelMask(f"{number}", mask) for number, mask in enumerate(self.masks(origin))),
            self.given.full_scale,
            bad_pixels=self.given.bad_pixels,
            com_region=None if self.region is None else PixelMask("region", self.region(origin)),
        )

    def _plain_sums(self, frames: Array, shift: tuple[int, int]) -> tuple[Array, Array, Array, Array, Mask]:
        """Of values that are no counts; a few pixels without a number count as 0."""
        good = ~self.given.bad_pixels
        flat = np.where(good, frames, 0.0).reshape(len(frames), -1)
        lost = ~np.isfinite(flat)
        flat = np.where(lost, 0.0, flat)
        weights = self._weights.get(shift)
        if weights is None:
            weights = self._weights[shift] = self._plain_weights(shift)
        sums = flat @ weights
        sums[lost.sum(1) > MOST_LOST * good.sum()] = np.nan
        with np.errstate(invalid="ignore", divide="ignore"):
            com = sums[:, 2:4] / sums[:, 1:2] - np.array(shift)
        full = self.given.full_scale
        saturated: Mask = np.zeros(len(flat), bool) if full is None else np.asarray((flat >= full).any(1))
        return sums[:, 4:], sums[:, 0], sums[:, 1], com, saturated

    def _plain_weights(self, shift: tuple[int, int]) -> Array:
        """(pixels, 4 + detectors): total, counts of the region, its moments, detectors."""
        origin, shape = self._origin(shift), self.rows.detector_shape
        region = np.ones(shape) if self.region is None else self.region(origin).astype(np.float64)
        y, x = np.indices(shape)
        each = [np.ones(shape), region, region * y, region * x, *self.masks(origin)]
        return np.stack([one.reshape(-1) for one in each], axis=1).astype(np.float64)

    def _origin(self, shift: tuple[int, int]) -> tuple[float, float]:
        return self.mean_px[0] + shift[0], self.mean_px[1] + shift[1]


def sampled_rows(rows: Rows) -> npt.NDArray[np.intp]:
    """Up to `SAMPLED_ROWS` rows that hold frames, spread over the scan."""
    holding = np.flatnonzero(rows.recorded.any(axis=1))
    if not holding.size:
        raise NotPossible("no frame was recorded")
    chosen: npt.NDArray[np.intp] = holding[
        np.unique(np.linspace(0, len(holding) - 1, SAMPLED_ROWS).round().astype(int))
    ]
    return chosen


def displaced(image: Array, shift: tuple[int, int]) -> Array:
    """An image moved by whole pixels (y, x), zero where nothing came from."""
    moved = np.zeros_like(image)
    to, source = [], []
    for by, size in zip(shift, image.shape, strict=True):
        by = max(-size, min(size, by))
        to.append(slice(max(by, 0), size + min(by, 0)))
        source.append(slice(max(-by, 0), size + min(-by, 0)))
    moved[tuple(to)] = image[tuple(source)]
    return moved


def _alike(moved: npt.NDArray[np.int32]) -> Iterator[tuple[tuple[int, int], npt.NDArray[np.intp] | slice]]:
    """Frames that share a displacement; a slice where it is all of them."""
    if (moved == moved[0]).all():
        yield (int(moved[0, 0]), int(moved[0, 1])), slice(None)
        return
    distinct, which = np.unique(moved, axis=0, return_inverse=True)
    for number, shift in enumerate(distinct):
        yield (int(shift[0]), int(shift[1])), np.flatnonzero(which.reshape(-1) == number)
