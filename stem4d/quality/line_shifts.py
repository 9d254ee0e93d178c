"""How single rows and columns of a scan lie against where they should: by a lattice's own waves, or by another pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.hum import FEWEST_ROWS, RowShifts, row_shifts
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
LEAST_EXPLAINED = 0.5
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
    peaks = find_peaks([image], seen, LOWEST_CYCLES / min(image.shape))
    if not _cross(peaks):
        return None
    model = _model(image, peaks)
    beyond_noise = max(float(image.var()) - white_noise(image, seen) ** 2, 0.0)
    if not beyond_noise > 0 or float(model.var()) < LEAST_EXPLAINED * beyond_noise:
        return None
    return _both(model, image, seen, (0.0, 0.0), "lattice")


def _cross(peaks: Sequence[Peak]) -> bool:
    """Whether two waves run along different directions."""
    at = [np.array(peak.at) / np.hypot(*peak.at) for peak in peaks]
    return any(abs(float(a[0] * b[1] - a[1] * b[0])) > PARALLEL for i, a in enumerate(at) for b in at[:i])


def _model(image: Array, peaks: Sequence[Peak]) -> Array:
    """The waves with the amplitudes that fit the image best."""
    y, x = np.indices(image.shape)
    turns = [2 * np.pi * (peak.at[0] * y + peak.at[1] * x).ravel() for peak in peaks]
    design = np.stack([np.ones(image.size), *(wave(turn) for turn in turns for wave in (np.cos, np.sin))], axis=1)
    found = np.linalg.lstsq(design, image.ravel(), rcond=None)[0]
    return np.asarray((design @ found).reshape(image.shape), dtype=np.float64)


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
    found = _both(one[which], other[which], seen, shift.shift_px, "passes")
    return (found, "") if found is not None else (None, "too few rows or columns are common to both passes")


def _both(
    first: Array,
    second: Array,
    seen: npt.NDArray[np.bool_],
    shift: tuple[float, float],
    by: Literal["lattice", "passes"],
) -> LineShifts | None:
    rows = row_shifts(first, second, seen, shift)
    columns = row_shifts(first.T, second.T, seen.T, (shift[1], shift[0]))
    if min(len(rows.rows), len(columns.rows)) < FEWEST_ROWS:
        return None
    return LineShifts(by, rows, columns, shift[1])
