"""How round diffraction rings are, sector by sector: for showing what an ellipse was fitted to."""

from dataclasses import dataclass
from math import pi

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.ring_profile import GRID_PX, ring_profiles

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

LARGEST = 0.05
"""Departures from a circle that are looked for, as a part of the radius."""
SECTORS = 12
INWARD, OUTWARD = 0.8, 1.12
"""What is looked at, in radii of the innermost and the outermost circle: the rings, and some background."""
_TRIED = np.linspace(-LARGEST, LARGEST, 41)
_BLURS_PX = np.linspace(0.2, 2.4, 12)
"""Blurs of the rings that are tried: from a sharp disk to small grains."""


@dataclass(frozen=True)
class SectorRadii:
    """Radius of all rings together in each sector, against the circles that were given."""

    azimuth_deg: Array
    """Middle of each sector, from the detector's x towards its y, (n,)."""
    departure: Array
    """Radius over that of the circles, less 1; NaN where a sector shows no ring, (n,)."""
    uncertainty: Array
    """Standard errors by what the fit of a sector leaves, every pixel counted as independent, (n,)."""


def sector_radii(
    pattern: npt.NDArray[np.floating],
    bad: Mask,
    centre_px: tuple[float, float],
    radii_px: npt.NDArray[np.floating],
    disk_radius_px: float,
) -> SectorRadii:
    """Stretch the rings of each sector until they lie on its profile; their heights are free, as grains are few.

    Parameters
    ----------
    pattern : ndarray, shape (det_y, det_x)
        Mean counts.
    bad : ndarray of bool, shape (det_y, det_x)
        Pixels left out.
    centre_px : tuple of float
        (y, x) of the rings.
    radii_px : ndarray, shape (rings,)
        Of the fitted circles [px].
    disk_radius_px : float
        Of the central disk, which is the width of a ring [px].

    Returns
    -------
    SectorRadii
        NaN for a sector without a ring.
    """
    rows, columns = np.indices(pattern.shape)
    y, x = rows - centre_px[0], columns - centre_px[1]
    radius, azimuth = np.hypot(y, x), np.degrees(np.arctan2(y, x)) % 360
    inside = ~bad & (radius > INWARD * radii_px.min()) & (radius < OUTWARD * radii_px.max())
    which = (azimuth * SECTORS / 360).astype(np.intp)
    blur = _blur(pattern[inside], radius[inside], radii_px, disk_radius_px)
    found = [
        _departure(pattern[use], radius[use], radii_px, disk_radius_px, blur)
        for use in (inside & (which == sector) for sector in range(SECTORS))
    ]
    middle = (np.arange(SECTORS) + 0.5) * 360 / SECTORS
    return SectorRadii(middle, np.array([each[0] for each in found]), np.array([each[1] for each in found]))


def ellipse_departure(azimuth_deg: npt.NDArray[np.floating], ellipticity: float, angle_deg: float) -> Array:
    """The same of an ellipse of equal area, to first order in (long axis)/(short axis) - 1."""
    departure: Array = ellipticity / 2 * np.cos(2 * pi / 180 * (azimuth_deg - angle_deg))
    return departure


def _design(radius: Array, radii_px: npt.NDArray[np.floating], disk_radius_px: float, blur_px: float) -> Array:
    grid = np.arange(0.0, float(radius.max()) + 2 * GRID_PX, GRID_PX)
    table = ring_profiles(grid, np.asarray(radii_px, np.float64), disk_radius_px, blur_px, GRID_PX)
    rings = [np.interp(radius, grid, ring) for ring in table]
    return np.stack([*rings, np.ones(len(radius)), radius**-2], axis=1)


def _left(counts: Array, design: Array) -> float:
    return float(((counts - design @ np.linalg.lstsq(design, counts, rcond=None)[0]) ** 2).sum())


def _blur(counts: Array, radius: Array, radii_px: npt.NDArray[np.floating], disk_radius_px: float) -> float:
    left = [_left(counts, _design(radius, radii_px, disk_radius_px, float(blur))) for blur in _BLURS_PX]
    return float(_BLURS_PX[int(np.argmin(left))])


def _departure(
    counts: Array, at: Array, radii_px: npt.NDArray[np.floating], disk_radius_px: float, blur_px: float
) -> tuple[float, float]:
    terms = len(radii_px) + 3
    if len(counts) <= terms:
        return np.nan, np.nan
    left = np.array([_left(counts, _design(at, radii_px * (1 + part), disk_radius_px, blur_px)) for part in _TRIED])
    best = int(np.argmin(left))
    if best in (0, len(left) - 1):
        return np.nan, np.nan
    a, b, c = left[best - 1 : best + 2]
    step, curvature = float(_TRIED[1] - _TRIED[0]), float(a - 2 * b + c)
    if not curvature > 0:
        return np.nan, np.nan
    # Sum of squares S = S0 + k d²: the variance of d is (S0 / freedom) / k, k half the second derivative.
    error = np.sqrt(b / (len(counts) - terms) / (curvature / 2 / step**2))
    return float(_TRIED[best] + step * (a - c) / (2 * curvature)), float(error)
