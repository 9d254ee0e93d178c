"""Values that are no counts (floats, below zero, NaN): what can be used of them, and how much one electron is."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.pixels import Mask
from stem4d.maps import RunMaps

MOSTLY_INVALID = 0.5
"""A pixel without a number in more than this part of the frames is left out like a bad one."""
MOST_LOST = 0.01
"""Part of the light that may fall on a frame's pixels without a number; beyond it the frame is left out. Its total and
its centre of mass, by a part of the disk's radius, are wrong by no more than that."""
LIT_PART = 0.5
"""Part of the bright level above which a pixel tells how much an electron is."""
FEWEST_PAIRS = 8
"""Pairs of frames, and lit pixels, from which on the scatter is a measure of an electron."""

Array = npt.NDArray[np.float64]
Values = npt.NDArray[np.generic]


@dataclass
class Survey:
    """What a first reading finds, batch by batch; positions count along the scan."""

    scan_shape: tuple[int, int]
    detector_shape: tuple[int, int]
    lowest: float = np.inf
    highest: float = -np.inf
    whole: bool = True
    frames: int = 0
    empty: int = 0
    """Frames without a single number."""
    below_zero: int = 0
    pairs: int = 0
    invalid_by_frame: npt.NDArray[np.uint32] = field(init=False)
    invalid_by_pixel: npt.NDArray[np.int64] = field(init=False)
    """Times that a pixel held no number (NaN or infinite)."""
    largest: Array = field(init=False)
    _sums: Array = field(init=False)
    _seen: npt.NDArray[np.int64] = field(init=False)
    _scatter: Array = field(init=False)
    _compared: npt.NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        """Nothing read yet."""
        self.invalid_by_frame = np.zeros(self.scan_shape[0] * self.scan_shape[1], np.uint32)
        self.invalid_by_pixel = np.zeros(self.detector_shape, np.int64)
        self.largest, self._sums, self._scatter = np.zeros((3, *self.detector_shape))
        self._seen, self._compared = np.zeros((2, *self.detector_shape), np.int64)

    def add(self, first: int, frames: Values) -> None:
        """Take in frames (n, det_y, det_x) of the positions from ``first`` on."""
        values = frames.astype(np.float64)
        valid = np.isfinite(values)
        values[~valid] = 0.0
        lost = (~valid).sum((1, 2))
        self.frames += len(values)
        self.empty += int((lost == valid[0].size).sum())
        self.invalid_by_frame[first : first + len(values)] = lost
        self.invalid_by_pixel += (~valid).sum(0)
        self._sums += values.sum(0)
        self._seen += valid.sum(0)
        if valid.any():
            self.lowest = min(self.lowest, float(values[valid].min()))
            self.highest = max(self.highest, float(values[valid].max()))
            self.whole = self.whole and bool((values == np.rint(values)).all())
            self.below_zero += int((values < 0).sum())
            self.largest = np.maximum(self.largest, values.max(0))
        # Pairs that follow each other: the specimen changes least between them. None is used twice.
        even = len(values) // 2 * 2
        both = valid[0:even:2] & valid[1:even:2]
        self._scatter += np.where(both, (values[1:even:2] - values[0:even:2]) ** 2 / 2, 0.0).sum(0)
        self._compared += both.sum(0)
        self.pairs += even // 2

    @property
    def invalid(self) -> int:
        """Values that are no numbers."""
        return int(self.invalid_by_pixel.sum())

    @property
    def counts(self) -> bool:
        """Whether all of it is counts: whole numbers from 0 to below 2^32."""
        return self.invalid == 0 and self.whole and self.lowest >= 0 and self.highest < 2**32

    @property
    def left_out(self) -> Mask:
        """Pixels (det_y, det_x) that held no number in most of the frames that held any."""
        mostly: Mask = self.invalid_by_pixel - self.empty > MOSTLY_INVALID * (self.frames - self.empty)
        return mostly

    @property
    def mean(self) -> Array:
        """Mean of each pixel's numbers, (det_y, det_x); 0 where it has none."""
        return self._sums / np.maximum(self._seen, 1)

    def electron(self) -> float | None:
        """About what one electron adds, or less, by the values' own scatter; None where too little light tells.

        Photon transfer: the variance of one pixel's values over their mean is what one electron adds. It is taken from
        frames that follow each other, and holds what the specimen changed between them and the readout noise, so that
        it is an upper bound but for the scatter of the median, about 1/sqrt(pairs) over the root of the lit pixels.
        """
        if self.pairs < FEWEST_PAIRS:
            return None
        mean, good = self.mean, (self._compared >= FEWEST_PAIRS) & ~self.left_out
        if not good.any():
            return None
        lit = good & (mean > LIT_PART * np.quantile(mean[good], 0.99)) & (mean > 0)
        if lit.sum() < FEWEST_PAIRS:
            return None
        ratio = float(np.median(self._scatter[lit] / self._compared[lit] / mean[lit]))
        return ratio if ratio > 0 else None


@dataclass(frozen=True)
class Reading:
    """How values are read: without what is no number, in electrons or what stands for them."""

    survey: Survey
    unit: float
    """Value of one electron."""
    bad: Mask
    """Pixels that are left out, (det_y, det_x)."""
    full_scale: int | None
    """In values."""
    region: Mask | None = None
    """Where the centre of mass is taken; everywhere where absent."""


class ValueMaps:
    """The maps of one pass over such values, filled batch by batch, rounded to whole electrons at the end."""

    def __init__(self, reading: Reading) -> None:
        survey = reading.survey
        positions = survey.scan_shape[0] * survey.scan_shape[1]
        self._reading, self._bad = reading, reading.bad | survey.left_out
        light = np.where(self._bad, 0.0, np.maximum(survey.mean, 0.0))
        # Without any light every pixel is as good as any other.
        self._light = light if light.any() else (~self._bad).astype(np.float64)
        self._unusable, self._recorded = np.zeros((2, positions), np.bool_)
        self._total, self._maximum = np.zeros((2, positions))
        self._com = np.full((2, positions), np.nan, np.float32)
        self._saturated, self._invalid = np.zeros((2, positions), np.uint32)
        self._sums, self._largest = np.zeros((2, *survey.detector_shape))
        self._seen = np.zeros(survey.detector_shape, np.int64)

    def add(self, first: int, frames: Values) -> None:
        """Take in frames (n, det_y, det_x) of the positions from ``first`` on."""
        values, there = frames.astype(np.float64), slice(first, first + len(frames))
        valid = np.isfinite(values)
        lost = (~valid & ~self._bad) @ np.ones(values.shape[2]) @ np.ones(values.shape[1])
        dark = (np.where(valid, 0.0, self._light)).sum((1, 2)) / max(float(self._light.sum()), 1e-300)
        used = dark <= MOST_LOST if not self._bad.all() else np.zeros(len(values), np.bool_)
        full = self._reading.full_scale
        if full is not None:
            self._saturated[there] = np.where(used, (valid & ~self._bad & (values >= full)).sum((1, 2)), 0)
        values = np.where(valid & ~self._bad, values / self._reading.unit, 0.0)
        self._recorded[there], self._unusable[there], self._invalid[there] = used, ~used, lost
        self._total[there] = np.where(used, values.sum((1, 2)), 0.0)
        self._maximum[there] = np.where(used, values.max((1, 2)), 0.0)
        self._com[:, there] = np.where(used, _centres(values, self._reading.region), np.nan)
        self._sums += values[used].sum(0)
        self._seen += (valid & ~self._bad)[used].sum(0)
        self._largest = np.maximum(self._largest, values[used].max(0, initial=0.0))

    def finished(self) -> RunMaps:
        """All figures; sums below zero, which only noise makes, are 0."""
        shape, frames = self._reading.survey.scan_shape, int(self._recorded.sum())
        mean = self._sums / np.maximum(self._seen, 1)
        full = self._reading.full_scale
        return RunMaps(
            recorded=self._recorded.reshape(shape),
            total=_whole(self._total).reshape(shape),
            com_y_px=self._com[0].reshape(shape),
            com_x_px=self._com[1].reshape(shape),
            maximum=_whole(self._maximum).astype(np.uint32).reshape(shape),
            saturated_px=self._saturated.reshape(shape),
            invalid_px=self._invalid.reshape(shape),
            sum_pattern=_whole(mean * frames),
            max_pattern=_whole(self._largest, np.floor).astype(np.uint32),
            full_scale=None if full is None else max(int(full / self._reading.unit), 1),
            unusable=self._unusable.reshape(shape),
        )


def _centres(values: Array, region: Mask | None) -> Array:
    """Centres of mass (2, n) in pixel-centre indices; NaN without light, or where noise takes them off the detector."""
    weights = values if region is None else np.where(region, values, 0.0)
    height, width = values.shape[1:]
    with np.errstate(invalid="ignore", divide="ignore"):
        counts = weights.sum((1, 2))
        found = np.stack([weights.sum(2) @ np.arange(height), weights.sum(1) @ np.arange(width)]) / counts
    ends = np.array([[height], [width]]) - 1
    inside = (counts > 0) & ((found >= 0) & (found <= ends)).all(0)
    centres: Array = np.where(inside, found, np.nan)
    return centres


def _whole(values: Array, how: np.ufunc = np.rint) -> npt.NDArray[np.uint64]:
    whole: npt.NDArray[np.uint64] = np.clip(how(values), 0, 2**63).astype(np.uint64)
    return whole
