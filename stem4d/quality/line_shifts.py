"""How single rows and columns of a scan lie against where they should: by a lattice's own waves, or by another pass."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from stem4d.calibrate.hum import FEWEST_ROWS, SMOOTHED_PX, RowShifts, row_shifts
from stem4d.calibrate.shift import register, white_noise
from stem4d.calibrate.step_peaks import Peak, find_peaks
from stem4d.maps import RunMaps
from stem4d.quality.drift_seen import PLAIN_ORDER, images_of

Array = npt.NDArray[np.float64]

MOST_POSITIONS = 256
"""Of a larger scan the first columns and the middle rows are looked at: so many tell enough."""
LOWEST_CYCLES = 4.0
"""Waves with fewer periods over the field are not told from the specimen's own large features."""
PARALLEL = 0.2
"""Sine of the angle between two waves above which they fix a place in both directions."""
RESOLVED = 0.7
"""Elements of the field's resolution by which a wave may lie off the sum of others and still be one."""
HIGHEST_ORDER = 3
ROUNDS = 4
LARGEST_MOVE = 1.0
"""Steps by which one round moves a row at most: beyond a feature's width the linear fit goes astray."""
WORSE = 1.05
"""Part of what the waves leave of an image above which shifted rows leave more: by chance they do not."""
LEAST_EXPLAINED = 0.3
"""Part of an image's contrast beyond noise that a lattice's waves must make, or no lattice fills the field."""


@dataclass(frozen=True)
class LineShifts:
    """Shifts of rows and columns [steps], where they were measured."""

    by: Literal["lattice", "passes"]
    """``passes``: one pass against the other, so both passes' errors together, and nothing that both have in common."""
    rows: RowShifts
    columns: RowShifts
    """Of the transposed image: ``along_y`` is along the scan's x."""
    drift_x_px: float = 0.0
    """Of the second pass against the first."""


def line_shifts(passes: Sequence[RunMaps]) -> tuple[LineShifts | None, str]:
    """Where rows and columns lie: by a lattice in the first pass, else by the first two passes; or None and why."""
    first = passes[0]
    if min(first.scan_shape) < FEWEST_ROWS:
        return None, f"it takes {FEWEST_ROWS} rows and columns"
    by_lattice = _by_lattice(first)
    if by_lattice is not None:
        return by_lattice, ""
    if len(passes) < 2:
        return None, "one pass without a lattice cannot tell; a second pass of the area can"
    return _by_passes(first, passes[1])


def _window(shape: tuple[int, int]) -> tuple[slice, slice]:
    spare = max(shape[0] - MOST_POSITIONS, 0) // 2
    return slice(spare, shape[0] - spare), slice(0, MOST_POSITIONS)


def _clearest(images: Sequence[Array], seen: npt.NDArray[np.bool_]) -> int:
    """The image that shows most over its own noise."""
    noise = [white_noise(image, seen) for image in images]
    return int(
        np.argmax([image[seen].std() / each if each > 0 else 0.0 for image, each in zip(images, noise, strict=True)])
    )


def _by_lattice(maps: RunMaps) -> LineShifts | None:
    window = _window(maps.scan_shape)
    seen = maps.recorded[window]
    if not seen.all():
        return None
    images = [image[window] for image in images_of(maps, PLAIN_ORDER)]
    image = images[_clearest(images, seen)]
    if not image.std() > 0:
        return None
    waves = _lattice(find_peaks([image], seen, LOWEST_CYCLES / min(image.shape)), image.shape)
    if len(waves) < 2:
        return None
    amplitudes = _fitted(image, waves)
    beyond_noise = max(float(image.var()) - white_noise(image, seen) ** 2, 0.0)
    if not float(_drawn(image.shape, waves, amplitudes).var()) > LEAST_EXPLAINED * beyond_noise:
        return None
    rows = _against(image, waves, amplitudes)
    columns = _against(image.T, waves[:, ::-1], amplitudes)
    return None if rows is None or columns is None else LineShifts("lattice", rows, columns)


def _lattice(peaks: Sequence[Peak], shape: tuple[int, ...]) -> Array:
    """The waves (n, 2) that are sums of the two strongest along different directions; empty where there are none.

    Others are satellites: hum in the scan makes them beside every wave, and a model that held them would follow it.
    """
    at = np.array([peak.at for peak in peaks]).reshape(-1, 2)
    for second in range(1, len(at)):
        basis = np.stack([at[0], at[second]], axis=1)
        if abs(float(np.linalg.det(basis))) > PARALLEL * float(np.hypot(*at[0]) * np.hypot(*at[second])):
            orders = np.rint(np.linalg.solve(basis, at.T))
            off = np.abs(at.T - basis @ orders) * np.array(shape)[:, None]
            near = (off < RESOLVED).all(axis=0) & (np.abs(orders) <= HIGHEST_ORDER).all(axis=0)
            return np.asarray(at[near], dtype=np.float64)
    return at[:0]


def _fitted(image: Array, waves: Array) -> Array:
    """Mean, cosines and sines of the waves that fit an image best."""
    y, x = np.indices(image.shape)
    turns = 2 * np.pi * (waves[:, 0, None] * y.ravel() + waves[:, 1, None] * x.ravel())
    design = np.concatenate([np.ones((1, image.size)), np.cos(turns), np.sin(turns)]).T
    return np.asarray(np.linalg.lstsq(design, image.ravel(), rcond=None)[0], dtype=np.float64)


def _drawn(shape: tuple[int, ...], waves: Array, amplitudes: Array, moved: Array | None = None) -> Array:
    """The waves as an image, each row moved by (y, x) of ``moved`` (2, rows)."""
    y, x = np.indices(shape).astype(np.float64)
    if moved is not None:
        y, x = y - moved[0][:, None], x - moved[1][:, None]
    cosines, sines = np.split(amplitudes[1:], 2)
    drawn = np.full(shape, amplitudes[0])
    for (ky, kx), cosine, sine in zip(waves, cosines, sines, strict=True):
        turn = 2 * np.pi * (ky * y + kx * x)
        drawn += cosine * np.cos(turn) + sine * np.sin(turn)
    return np.asarray(drawn)


def _against(image: Array, waves: Array, amplitudes: Array) -> RowShifts | None:
    """Where the rows of an image lie against its waves: the linear fit again and again about what it found.

    None where it went astray: a crystal of few positions a period, or one that the waves do not describe, has slopes
    that lead away from its places, and rows at these fit worse than where they were.
    """
    seen = np.ones(image.shape, dtype=bool)
    moved, found = np.zeros((2, image.shape[0])), None
    for _ in range(ROUNDS):
        found = row_shifts(_drawn(image.shape, waves, amplitudes, moved), image, seen, (0.0, 0.0), noiseless=True)
        if len(found.rows) < FEWEST_ROWS:
            return None
        rows = found.rows.astype(int)
        moved[:, rows] += np.clip([found.along_y, found.along_x], -LARGEST_MOVE, LARGEST_MOVE)
    assert found is not None
    before, after = (image - _drawn(image.shape, waves, amplitudes, each) for each in (None, moved))
    if after.var() > WORSE * before.var():
        return None
    return replace(found, along_y=moved[0][rows], along_x=moved[1][rows])


def _by_passes(first: RunMaps, second: RunMaps) -> tuple[LineShifts | None, str]:
    one, other = (images_of(maps, PLAIN_ORDER) for maps in (first, second))
    shift = register(one, other, first.recorded, second.recorded)
    if not shift.ok:
        return None, shift.reason
    if not second.recorded.all():
        return None, "frames are missing in the second pass"
    window = _window(first.scan_shape)
    seen = first.recorded[window]
    one, other = ([image[window] for image in images] for images in (one, other))
    which = _clearest(one, seen)
    found = _both(one[which], other[which], seen, shift.shift_px)
    return (found, "") if found is not None else (None, "too few rows or columns are common to both passes")


def _both(
    first: Array,
    second: Array,
    seen: npt.NDArray[np.bool_],
    shift: tuple[float, float],
) -> LineShifts | None:
    gains = _gains(first, second, shift)
    rows = _scaled(row_shifts(first, second, seen, shift), gains)
    columns = _scaled(row_shifts(first.T, second.T, seen.T, shift[::-1]), gains[::-1])
    if min(len(rows.rows), len(columns.rows)) < FEWEST_ROWS:
        return None
    return LineShifts("passes", rows, columns, shift[1])


def _gains(first: Array, second: Array, shift: tuple[float, float]) -> tuple[float, float]:
    """By how much blurred slopes make shifts along (y, x) too large, by those of the other image with its own noise."""
    moved = ndimage.shift(second, (-shift[0], -shift[1]), order=3, mode="nearest")
    blurred = [np.gradient(ndimage.gaussian_filter(image, SMOOTHED_PX)) for image in (first, moved)]
    plain = np.gradient(moved)
    gains = [
        float((blurred[0][axis] * plain[axis]).sum() / (blurred[0][axis] * blurred[1][axis]).sum()) for axis in (0, 1)
    ]
    return max(gains[0], 1.0), max(gains[1], 1.0)


def _scaled(shifts: RowShifts, gains: tuple[float, float]) -> RowShifts:
    return RowShifts(
        shifts.rows,
        shifts.along_y / gains[0],
        shifts.error_y / gains[0],
        shifts.along_x / gains[1],
        shifts.error_x / gains[1],
    )
