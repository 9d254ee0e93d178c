"""Signs of a scan that is not where it says: rows torn from each other, and rows that shift along a line of hum.

Hum whose phase is the same in every scan stands still while the specimen drifts. It pulls every registration towards no
shift at all, alike for all pairs, so that neither the errors of the pairs nor the scatter about the course tell of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.special import chdtri

from stem4d.calibrate.robust import spread_of

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Moved = tuple[Array, Array, Mask, tuple[float, float]]
"""Two images, where both were recorded as far as the first one's frame goes, and the shift of the second [px]."""

TORN = 0.65
"""Covariance of neighbouring rows over that of neighbouring columns, below which rows are torn from each other."""
SURE = 2.0
"""Standard errors that the two covariances must differ by, and that of the columns from 0."""
ALIKE_ROWS = 3
"""Rows that a feature is taken to be wide, for those errors."""
CHANCE = 1e-4
"""Chance that a line of hum is found where there is none."""
SMALLEST_LINE_PX = 0.1
"""Amplitude of a line that matters: errors of the interpolation of a sharp specimen are smaller."""
LEAST_SHARED = 0.4
"""Part of a row that two scans must share."""
FEWEST_ROWS = 12
SMOOTHED_PX = 0.7
"""Blur of the mean image whose slopes say how far a row has shifted: the noise must not make them."""
WILDEST = 5.0
"""Errors, or times the usual size of the shifts where that is more, beyond which a row's shift does not count: a
linear fit does not reach so far."""


def rows_torn(images: Sequence[Array]) -> float:
    """Covariance of neighbouring rows as a part of that of neighbouring columns, over all scans; 1 where unsure.

    White noise adds to neither. Stripes along the rows that the step does not resolve look the same.

    Parameters
    ----------
    images : sequence of ndarray, shape (scan_y, scan_x)
        Scans of one area, their mean taken off.
    """
    size = min(min(image.shape) for image in images) - 1
    down = np.mean([(image[1:] * image[:-1])[:size].mean(axis=1) for image in images], axis=0)
    along = np.mean([(image[:, 1:] * image[:, :-1])[:size].mean(axis=1) for image in images], axis=0)
    root = np.sqrt(size / ALIKE_ROWS)
    if not along.mean() > SURE * along.std() / root or not (along - down).mean() > SURE * (along - down).std() / root:
        return 1.0
    return float(down.mean() / along.mean())


@dataclass(frozen=True)
class RowShifts:
    """Shifts of single rows beyond what is common to all [px], with their errors."""

    rows: Array
    along_y: Array
    error_y: Array
    along_x: Array
    error_x: Array


@dataclass(frozen=True)
class Line:
    """A sine in the shifts of rows."""

    per_row: float
    """Frequency [1/row], up to a half: what is faster folds back."""
    rms_px: float
    """Of the sine, rms per axis."""
    uncertainty_px: float


def line_of_hum(pairs: Sequence[Moved]) -> float | None:
    """Frequency [1/row] at which the rows of registered pairs shift against each other; None where there is none.

    Each row has a shift of its own by a linear fit; see `strongest_line`.
    """
    found = [each for pair in pairs if len((each := row_shifts(*pair)).rows) >= FEWEST_ROWS]
    line = strongest_line(found)
    return None if line is None else line.per_row


def strongest_line(series: Sequence[RowShifts]) -> Line | None:
    """The sine that stands out of the shifts of rows; None where none does.

    The power of sines, added up over the series, is held against its median over the frequencies, so that errors of the
    shifts that are wrongly known do not count.
    """
    if not series:
        return None
    number = int(max(each.rows.max() for each in series)) + 1
    frequencies = np.arange(1, number) / (2 * number)
    axes = [
        (each.rows, shift, error)
        for each in series
        for shift, error in ((each.along_y, each.error_y), (each.along_x, each.error_x))
    ]
    parts = [_power(*each, frequencies) for each in axes]
    power, weight = np.sum([falls for falls, _, _ in parts], axis=0), sum(each for _, each, _ in parts)
    freedom = 4 * len(series)
    most = chdtri(freedom, CHANCE / len(frequencies)) / chdtri(freedom, 0.5)
    top = float(power.max())
    # A sine of amplitude a makes chi squared fall by half a² times the weights.
    large = 2 * top > SMALLEST_LINE_PX**2 * weight
    if not large or top <= most * float(np.median(power)):
        return None
    # Between two frequencies a sine shows up to a fifth less.
    close = frequencies[np.argmax(power)] + np.linspace(-1, 1, 21) / (2 * number)
    close = close[(close > 0) & (close <= 0.5)]
    fine = np.sum([_power(*each, close)[0] for each in axes], axis=0)
    # Noise has its part in the power: two degrees of freedom an axis.
    rms = np.sqrt(max(float(fine.max()) - freedom, 0.0) / weight)
    left = sum(whole for _, _, whole in parts) - float(fine.max())
    spread = max(left, 0.0) / max(sum(len(rows) for rows, _, _ in axes) - freedom, 1)
    return Line(float(close[np.argmax(fine)]), float(rms), float(np.sqrt(spread / weight)))


def row_shifts(
    first: Array, second: Array, seen: Mask, shift: tuple[float, float], *, noiseless: bool = False
) -> RowShifts:
    """Shift of each row of the second image beyond the common one, by a linear fit: good to about a feature's width.

    A first image without noise gives the slopes by itself; else they are those of the blurred mean of both.
    """
    back = (-shift[0], -shift[1])
    moved = ndimage.shift(second, back, order=3, mode="nearest")
    shared = (ndimage.shift(np.ones(second.shape), back, order=1, mode="constant") > 0.999) & seen
    mean = first if noiseless else ndimage.gaussian_filter((first + moved) / 2, SMOOTHED_PX)
    slopes = np.gradient(mean)
    found = []
    for y in np.flatnonzero(shared.mean(axis=1) >= LEAST_SHARED):
        on = shared[y]
        design = np.stack([slopes[0][y, on], slopes[1][y, on], np.ones(on.sum()), mean[y, on]], axis=1)
        inverse = np.linalg.pinv(design.T @ design)
        difference = (moved - first)[y, on]
        fit = inverse @ design.T @ difference
        followed = np.einsum("ij,jk,ik->i", design, inverse, design)
        # White's errors, enlarged for what the fit follows (HC3).
        left = (difference - design @ fit) / np.maximum(1 - followed, 0.2)
        spread = inverse @ (design.T * left**2) @ design @ inverse
        if spread[0, 0] > 0 and spread[1, 1] > 0:
            found.append((y, -fit[0], np.sqrt(spread[0, 0]), -fit[1], np.sqrt(spread[1, 1])))
    at, dy, ey, dx, ex = np.array(found, dtype=np.float64).reshape(-1, 5).T
    return RowShifts(at, dy, ey, dx, ex)


def _power(at: Array, shift: Array, error: Array, frequencies: Array) -> tuple[Array, float, float]:
    """Fall of chi squared (2 degrees of freedom) by a sine at each frequency, the weights added up, and chi squared."""
    error = np.hypot(error, 0.1 * np.median(error))
    off = shift - np.median(shift)
    pull = off / error
    scale = max(spread_of(pull - np.median(pull)), 0.5)
    weight = (np.abs(pull) < WILDEST * max(scale, 1.0)) / (error * scale) ** 2
    off = off - (weight * off).sum() / weight.sum()
    falls = []
    for each in frequencies:
        turn = 2 * pi * each * at
        design = np.stack([np.cos(turn), np.sin(turn), np.ones(len(at))], axis=1)
        normal = (design * weight[:, None]).T @ design + 1e-9 * weight.sum() * np.eye(3)
        right = design.T @ (weight * off)
        falls.append(float(right @ np.linalg.solve(normal, right)))
    return np.array(falls), float(weight.sum()), float((weight * off**2).sum())
