"""The radial profile of one ring of a powder: a circle as wide as the disk, blurred, with the inward tail of thin grains.

A ring of radius R and no width, convolved with a disk of radius r, is at the distance ρ from the centre as high as
the part of the circle R that lies within r of a point there: arccos((ρ² + R² - r²) / 2ρR) / π. Grain size, pixels and
the source blur it further by a Gaussian.

A grain that is thin along the beam, t, draws its reflections out to rods of sinc²(π t z) along it. The plane of the
detector cuts a rod of length z at sqrt(R² - z²): light only ever moves inwards, and most for the inner rings, where
z²/2R is more of R. The tail is long, because sinc² falls with z² only, and is not a shift of the whole ring.
"""

from dataclasses import dataclass
from functools import cache
from math import exp, sqrt

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Array = npt.NDArray[np.float64]

GRID_PX = 0.1
"""Spacing of the tables of ring profiles; they are blurred by three times as much at least."""
NARROWEST_PX = 0.29
"""Blur of a pixel, 1/sqrt(12)."""
WIDTH_SIGMA = 0.376
"""Standard deviation of the Gaussian that is as wide at half its height as sinc²(π w k), times w."""
SMALLEST_GRAIN_PX = 0.05
"""Blur of grains so large that nothing is seen of their size."""
THICKNESS_SPREAD = 0.25
"""Standard deviation of grains' thickness over their mean: boundaries are oblique. It blurs all lobes but the first."""
ROD_TABLE = 12.0
"""Rods are tabulated up to this π t z; lobes have gone by then."""
ROD_REACH = 0.4
"""Rods are followed inwards by this part of a ring's radius: what light lies further in varies slowly."""


@dataclass(frozen=True)
class Powder:
    """What is known of the rings before they are fitted."""

    mrad: Array
    """Angles of the rings [mrad]."""
    fall_per_mrad: Array
    """By how much the atoms' scattering falls there, -d ln I / dθ [1/mrad]."""
    disk_radius_px: float


def ring_profiles(rho: Array, radii: Array, disk_radius: float, blur: float, spacing: float) -> Array:
    """Heights of rings of large grains over an even grid of distances, shape (rings, distances)."""
    safe = np.maximum(rho, 1e-6)[None, :]
    radius = radii[:, None]
    cosine = (safe**2 + radius**2 - disk_radius**2) / (2 * safe * radius)
    sharp = np.arccos(np.clip(cosine, -1.0, 1.0)) / np.pi
    # About unit height in the middle, where the arc is 2r of a circumference 2πR: amplitudes then read as counts.
    blurred: Array = ndimage.gaussian_filter1d(sharp * np.pi * radius / disk_radius, blur / spacing, axis=1)
    return blurred


@cache
def _rod_table() -> tuple[Array, Array, Array]:
    x = np.linspace(0.0, ROD_TABLE, 2401)
    middle = (x[1:] + x[:-1]) / 2
    height = (1 - np.cos(2 * middle) * np.exp(-2 * (THICKNESS_SPREAD * middle) ** 2)) / (2 * middle**2)
    step = x[1] - x[0]
    light, moment = (np.append(0.0, np.cumsum(each) * step) for each in (height, height * middle**2))
    return x, light, moment


def _rod_integrals(x: Array) -> tuple[Array, Array]:
    """Integrals from 0 to x = π t z of a rod's height h and of h x².

    h is sinc² (sin²x / x²) averaged over thicknesses (1 - cos(2x) exp(-2 s²x²)) / 2x²; its lobes end in 1/2x².
    """
    at, light, moment = _rod_table()
    beyond = np.maximum(x, ROD_TABLE)
    return (
        np.interp(x, at, light) + (1 / ROD_TABLE - 1 / beyond) / 2,
        np.interp(x, at, moment) + (beyond - ROD_TABLE) / 2,
    )


def rod_weights(radius: float, rod: float, fall: float, spacing: float) -> Array:
    """Light of a ring by how far inside its radius it lies, in steps of ``spacing``; its sum is 1.

    Parameters
    ----------
    radius, rod : float
        Of the ring, and 1/t [px].
    fall : float
        By how much the atoms' scattering falls outwards [1/px].
    spacing : float
        [px]
    """
    distance = np.arange(0.0, ROD_REACH * radius, spacing)
    x = np.pi * np.sqrt(2 * radius * distance - distance**2) / rod
    # Light within a step, and where in the step it lies.
    light, moment = (np.diff(each) for each in _rod_integrals(x))
    moment *= (rod / np.pi) ** 2 / (2 * radius)
    outer = np.clip(moment / np.maximum(light, 1e-300) - distance[:-1], 0.0, spacing) / spacing
    weights = np.append(light * (1 - outer), 0.0) + np.append(0.0, light * outer)
    weights *= np.exp(fall * distance)
    return np.asarray(weights / weights.sum())


def grain_blur_px(blur: float) -> float:
    """What of a blur is due to the width of grains [px]."""
    return sqrt(max(blur**2 - NARROWEST_PX**2, SMALLEST_GRAIN_PX**2))


def powder_profiles(grid: Array, powder: Powder, px_per_mrad: float, blur: float, slimness: float) -> Array:
    """Heights of the rings of small grains over distances `GRID_PX` apart, shape (rings, distances).

    ``slimness`` is the width of grains over their thickness: rods are longer than grains' blur is wide by as much.
    """
    radii, fall = powder.mrad * px_per_mrad, powder.fall_per_mrad / px_per_mrad
    grain = grain_blur_px(blur)
    # A blur in two dimensions pulls a ring's height inwards by its variance / 2R, which a radial one does not; that of
    # grains comes before the atoms' scattering, which weights it.
    pull = blur**2 / (2 * np.maximum(grid, 1.0))
    rows = []
    for row, radius, each in zip(
        ring_profiles(grid, radii, powder.disk_radius_px, blur, GRID_PX), radii, fall, strict=True
    ):
        weights = rod_weights(float(radius), slimness * grain / WIDTH_SIGMA, float(each), GRID_PX)
        inwards = np.convolve(row[::-1], weights)[: len(row)][::-1]
        rows.append(np.interp(grid + pull + grain**2 * each, grid, inwards))
    return np.array(rows)
