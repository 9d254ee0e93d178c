"""The strain set: 48 x 48 patterns of 49 disks under a known strain and descan, drawn anew each time."""

from dataclasses import dataclass
from math import erfc, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Array = npt.NDArray[np.float64]

SCAN, DETECTOR, RADIUS_PX, SPACING_PX, BLUR_PX = (48, 48), (128, 128), 5.0, 16.0, 0.35
COUNTS, BACKGROUND = 7600.0, 0.02
STRAIN_XX, STRAIN_YY, STRAIN_XY, ROTATION_DEG, DESCAN_PX = 0.01, -0.006, 0.004, 0.5, 2.0
SEED = 11


@dataclass(frozen=True, eq=False)
class StrainSet:
    """Frames and the truth. The left half of the scan is unstrained, the right half strained."""

    frames: npt.NDArray[np.uint16]
    """(scan_y, scan_x, det_y, det_x)"""
    origin_px: Array
    """(2, scan_y, scan_x)"""
    places_px: Array
    """(scan_y, scan_x, 49, 2)"""
    strained: npt.NDArray[np.bool_]
    """(scan_y, scan_x)"""
    index: npt.NDArray[np.int64]
    """(49, 2)"""
    probe: npt.NDArray[np.float64]
    """(det_y, det_x) the undeflected disk without noise."""


def deformation() -> Array:
    """F = turn(rotation) · [[1 + eyy, exy], [exy, 1 + exx]] on (y, x), the rotation from x towards y."""
    a = np.radians(ROTATION_DEG)
    turn = np.array([[np.cos(a), np.sin(a)], [-np.sin(a), np.cos(a)]])
    return np.asarray(turn @ np.array([[1 + STRAIN_YY, STRAIN_XY], [STRAIN_XY, 1 + STRAIN_XX]]))


def strain_set(scan: tuple[int, int] = SCAN, counts: float = COUNTS, seed: int = SEED) -> StrainSet:
    """Draw the set; ``counts`` per pattern on average."""
    rng = np.random.default_rng(seed)
    h, k = (each.ravel() for each in np.meshgrid(np.arange(-3, 4), np.arange(-3, 4), indexing="ij"))
    index = np.stack([h, k], axis=1)
    height = np.exp(-(h**2 + k**2) / 12.0) * (1 + 0.3 * np.cos(1.7 * h + 0.9 * k))
    height[(h == 0) & (k == 0)] = 2.0
    y, x = (np.arange(number) - (number - 1) / 2 for number in scan)
    ramp = [each / max(abs(each).max(), 0.5) * DESCAN_PX / 2 for each in (y, x)]
    middle = (np.array(DETECTOR) - 1) / 2
    origin = np.stack(
        [
            middle[0] + 0.3 + ramp[0][:, None] + 0.3 * ramp[1][None, :],
            middle[1] - 0.2 - 0.4 * ramp[0][:, None] + ramp[1][None, :],
        ]
    )
    strained = np.zeros(scan, bool)
    strained[:, scan[1] // 2 :] = True
    vectors = SPACING_PX * np.eye(2)
    places = np.empty((*scan, len(index), 2))
    for each, matrix in ((False, vectors), (True, np.linalg.inv(deformation()).T @ vectors)):
        places[strained == each] = origin[:, strained == each].T[:, None] + index @ matrix.T
    patterns = np.stack([_pattern(one, height) for one in places.reshape(-1, len(index), 2)])
    scale = (counts - BACKGROUND * np.prod(DETECTOR)) / patterns.sum(axis=(1, 2)).mean()
    frames = rng.poisson(scale * patterns + BACKGROUND).astype(np.uint16).reshape(*scan, *DETECTOR)
    probe = _pattern(middle[None], np.ones(1))
    return StrainSet(frames, origin, places, strained, index, probe)


def _pattern(places: Array, height: Array) -> Array:
    pattern = np.zeros(DETECTOR)
    _draw(places, height, pattern)
    return pattern


@njit(cache=True)  # type: ignore[untyped-decorator]
def _draw(places: Any, height: Any, pattern: Any) -> None:
    """Disks with a slightly soft edge seen by pixels: each averages 5 x 5 points."""
    reach, points = int(RADIUS_PX) + 3, 5
    for m in range(len(places)):
        row, column = round(places[m, 0]), round(places[m, 1])
        for j in range(max(row - reach, 0), min(row + reach + 1, pattern.shape[0])):
            for k in range(max(column - reach, 0), min(column + reach + 1, pattern.shape[1])):
                away = sqrt((j - places[m, 0]) ** 2 + (k - places[m, 1]) ** 2) - RADIUS_PX
                if abs(away) > 2.5:
                    pattern[j, k] += height[m] if away < 0 else 0.0
                    continue
                total = 0.0
                for a in range(points):
                    for b in range(points):
                        y = j + (a + 0.5) / points - 0.5 - places[m, 0]
                        x = k + (b + 0.5) / points - 0.5 - places[m, 1]
                        total += 0.5 * erfc((sqrt(y * y + x * x) - RADIUS_PX) / (sqrt(2) * BLUR_PX))
                pattern[j, k] += height[m] * total / points**2
