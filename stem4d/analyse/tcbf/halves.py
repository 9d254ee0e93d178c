"""How alike the images of two halves of the angles are, ring by ring of frequency, and the resolution that tells."""

from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from stem4d.analyse.method import Array
from stem4d.analyse.ring_correlation import FIXED, correlation_by_ring

RING = 2
"""Width of a ring, in units of one over the shorter side."""
CHANCE = 3.0
"""Sigmas of a ring without signal that a correlation must exceed too."""
FEWEST = 8
"""Pixels along an axis."""


@dataclass(frozen=True)
class Likeness:
    """Of two halves."""

    correlation: float
    """Over the whole picture."""
    sigmas: float
    """That correlation over what chance makes."""
    ring_per_nm: Array
    """Middles of the rings."""
    rings: Array
    """Correlation in each."""
    resolution_nm: float
    """Period of the finest ring that both halves know; NaN if none."""
    noise: float
    """Standard deviation of half the difference: noise of the whole."""


def likeness(one: Array, other: Array, pixel_nm: float) -> Likeness | None:
    """Compare images; None where too little of them is known in common."""
    known = np.isfinite(one) & np.isfinite(other)
    rows, columns = _known_box(known)
    a, b = one[rows, columns], other[rows, columns]
    if min(a.shape) < FEWEST:
        return None
    a, b = (np.where(np.isfinite(each), each, np.nanmean(each)) for each in (a, b))
    noise = float(np.std((a - b) / 2))
    width = RING / (min(a.shape) * pixel_nm)
    number = round(min(a.shape) / 2 / RING) + 1
    rings, count = correlation_by_ring(a, b, RING, number)
    # Conjugate pairs and the window leave a third as many independent coefficients.
    chance = CHANCE / np.sqrt(np.maximum(count / 3, 1.0))
    above = np.flatnonzero((rings > np.maximum(FIXED, chance)) & (np.arange(number) > 0))
    correlation = float(np.corrcoef(a.ravel(), b.ravel())[0, 1])
    return Likeness(
        correlation,
        correlation * sqrt(a.size / 2),
        np.arange(number) * width,
        rings,
        1 / float(above[-1] * width) if len(above) else nan,
        noise,
    )


def signal_over_noise(found: Likeness, k_per_nm: Array) -> Array:
    """Of the whole image at frequencies: twice that of a half, c/(1 - c), smoothed over rings."""
    smooth = np.clip(ndimage.uniform_filter1d(found.rings[1:], 3, mode="nearest"), 0.0, 0.999)
    ratio: Array = np.interp(k_per_nm, found.ring_per_nm[1:], 2 * smooth / (1 - smooth))
    return ratio


def _known_box(known: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns of which more than half is known."""
    found = []
    for axis in (1, 0):
        full = np.flatnonzero(known.mean(axis=axis) > 0.5)
        found.append(slice(int(full[0]), int(full[-1]) + 1) if len(full) else slice(0, 0))
    return found[0], found[1]
