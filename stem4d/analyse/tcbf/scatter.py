"""Counts of every angle entered where their rays met the specimen, on a grid finer than the scan's."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from stem4d.analyse.method import Array

LEAST_DENSITY = 0.25
"""Part of the usual density of rays below which a pixel says nothing."""


@dataclass(frozen=True)
class Entered:
    """Sums on the fine grid, for both halves of the angles: (2, y, x)."""

    weighted: Array
    """Of electrons."""
    density: Array
    """Of the electrons expected there without a specimen."""
    variance: Array

    def halves(self) -> tuple[Array, Array]:
        """The image of each half, relative to its mean; NaN where rays are few."""
        one, other = (_relative(a, b) for a, b in zip(self.weighted, self.density, strict=True))
        return one, other

    def image(self) -> tuple[Array, Array]:
        """The image of all angles and its standard deviation by counting."""
        density = self.density.sum(axis=0)
        image = _relative(self.weighted.sum(axis=0), density)
        sigma: Array = np.sqrt(self.variance.sum(axis=0)) / np.where(density > 0, density, np.nan)
        return image, np.where(np.isfinite(image), sigma, np.nan)


def enter(
    counts: Array,
    recorded: npt.NDArray[np.bool_],
    shifts_steps: Array,
    half: npt.NDArray[np.int64],
    upsampling: float,
    counts_per_electron: float,
) -> Entered:
    """Enter counts at position minus shift, shared among the four pixels around.

    Parameters
    ----------
    counts : ndarray, shape (scan_y, scan_x, groups)
        Of each position and angle.
    recorded : ndarray of bool, shape (scan_y, scan_x)
        Which positions hold a frame.
    shifts_steps : ndarray, shape (groups, 2)
        Where a feature appears in each image, (y, x) [scan steps].
    half : ndarray of 0 and 1, shape (groups,)
        Half that an angle belongs to.
    upsampling : float
        Pixels per scan step.
    counts_per_electron : float
        Gain.
    """
    size = tuple(max(1, round(n * upsampling)) for n in recorded.shape)
    sums = np.zeros((3, 2, *size))
    mean = np.zeros(counts.shape[2])
    for row in range(len(counts)):
        mean += counts[row][recorded[row]].sum(axis=0, dtype=np.float64)
    mean /= recorded.sum() * counts_per_electron
    _enter(counts, recorded, shifts_steps, half, upsampling, 1 / counts_per_electron, mean, sums)
    return Entered(sums[0], sums[1], sums[2])


def _relative(weighted: Array, density: Array) -> Array:
    enough = density > LEAST_DENSITY * np.median(density)
    relative: Array = np.where(enough, weighted / np.where(enough, density, 1.0), np.nan)
    return relative


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _enter(
    counts: Any, recorded: Any, shifts: Any, half: Any, upsampling: float, electrons: float, mean: Any, sums: Any
) -> None:
    rows, columns, groups = counts.shape
    height, width = sums.shape[2:]
    for y in range(rows):
        for x in range(columns):
            if not recorded[y, x]:
                continue
            for t in range(groups):
                v = (y - shifts[t, 0] + 0.5) * upsampling - 0.5
                u = (x - shifts[t, 1] + 0.5) * upsampling - 0.5
                top, left = int(np.floor(v)), int(np.floor(u))
                value, h = counts[y, x, t] * electrons, half[t]
                for i in range(top, top + 2):
                    if i < 0 or i >= height:
                        continue
                    for j in range(left, left + 2):
                        if j < 0 or j >= width:
                            continue
                        w = (1 - abs(v - i)) * (1 - abs(u - j))
                        sums[0, h, i, j] += w * value
                        sums[1, h, i, j] += w * mean[t]
                        sums[2, h, i, j] += w * w * abs(value)
