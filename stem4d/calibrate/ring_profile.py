"""The radial profile of one ring of a powder: a circle as wide as the disk, spread by the shape of small grains.

A ring of radius R and no width, convolved with a disk of radius r, is at the distance ρ from the centre as high as
the part of the circle R that lies within r of a point there: arccos((ρ² + R² - r²) / 2ρR) / π.

A grain of width w across the beam and thickness t along it spreads a reflection by sinc²(π w k) in the plane of the
detector and draws it out to a rod of sinc²(π t z) along the beam. The detector cuts a rod of length z at
sqrt(R² - z²): that moves light only inwards, and most on the inner rings, where z²/2R is more of R. Both have tails
that fall with the square of the distance alone, so that neither is a Gaussian nor a shift of the whole ring.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Array = npt.NDArray[np.float64]

GRID_PX = 0.1
"""Spacing of the tables of ring profiles; they are blurred by three times as much at least."""
NARROWEST_PX = 0.29
"""Blur of a pixel, 1/sqrt(12)."""
LEAST_WIDTH_PX = 0.1
"""Spread by grains so large that nothing is seen of their size."""
SIZE_SPREAD = 0.25
"""Standard deviation of grains' sizes over their mean: boundaries are oblique. It blurs all lobes but the first."""
TABLE = 12.0
"""Shapes are tabulated up to this π w k; lobes have gone by then."""
REACH = 0.4
"""Tails are followed by this part of a ring's radius: what light lies further away varies slowly."""


@dataclass(frozen=True)
class Powder:
    """What is known of the rings before they are fitted."""

    mrad: Array
    """Angles of the rings [mrad]."""
    fall_per_mrad: Array
    """By how much the atoms' scattering falls there, -d ln I / dθ [1/mrad]."""
    disk_radius_px: float
    blur_px: float
    """Of the disk's edge: of the source and of pixels."""


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
def _table() -> tuple[Array, Array, Array]:
    x = np.linspace(0.0, TABLE, 2401)
    middle = (x[1:] + x[:-1]) / 2
    height = (1 - np.cos(2 * middle) * np.exp(-2 * (SIZE_SPREAD * middle) ** 2)) / (2 * middle**2)
    light, moment = (np.append(0.0, np.cumsum(each) * x[1]) for each in (height, height * middle**2))
    return x, light, moment


def _integrals(x: Array) -> tuple[Array, Array]:
    """Integrals from 0 to x = π w k >= 0 of a shape's height h and of h x².

    h is sinc² (sin²x / x²) averaged over sizes, (1 - cos(2x) exp(-2 s²x²)) / 2x²; its lobes end in 1/2x².
    """
    at, light, moment = _table()
    beyond = np.maximum(x, TABLE)
    return np.interp(x, at, light) + (1 / TABLE - 1 / beyond) / 2, np.interp(x, at, moment) + (beyond - TABLE) / 2


def grain_weights(radius: float, width: float, rod: float, fall: float, spacing: float) -> tuple[Array, int]:
    """Light of a ring by how far inside its radius grains put it, in steps of ``spacing``; its sum is 1.

    Parameters
    ----------
    radius, width, rod : float
        Of the ring, 1/w and 1/t [px].
    fall : float
        By how much the atoms' scattering falls outwards [1/px].
    spacing : float
        [px]

    Returns
    -------
    (float array (n,), int)
        Weights, and which of them is that of the radius itself; later ones lie further in.
    """
    steps = int(REACH * radius / spacing)
    inside = spacing * np.arange(steps + 1)
    light, moment = (np.diff(each) for each in _integrals(np.pi * np.sqrt(2 * radius * inside - inside**2) / rod))
    moment *= (rod / np.pi) ** 2 / (2 * radius)
    further = np.clip(moment / light - inside[:-1], 0.0, spacing) / spacing
    rods = np.append(light * (1 - further), 0.0) + np.append(0.0, light * further)
    edges = np.asarray(np.pi * spacing * (np.arange(steps + 1) + 0.5) / width, dtype=np.float64)
    half = np.diff(_integrals(edges)[0], prepend=0.0)
    plane = np.concatenate([half[:0:-1], [2 * half[0]], half[1:]])
    weights = np.convolve(rods, plane)
    distance = spacing * (np.arange(len(weights)) - steps)
    # A circle is spread over ever longer ones outwards, as sqrt(R/k).
    weights *= np.exp(fall * distance) / np.sqrt(1 - distance / radius)
    return weights / weights.sum(), steps


def powder_profiles(grid: Array, powder: Powder, px_per_mrad: float, width: float, slimness: float) -> Array:
    """Heights of the rings of small grains over distances `GRID_PX` apart, shape (rings, distances).

    ``width`` is 1/w [px], and ``slimness`` w/t: rods are longer than reflections are wide by as much.
    """
    radii, fall = powder.mrad * px_per_mrad, powder.fall_per_mrad / px_per_mrad
    rows = []
    sharp = ring_profiles(grid, radii, powder.disk_radius_px, powder.blur_px, GRID_PX)
    for row, radius, each in zip(sharp, radii, fall, strict=True):
        weights, first = grain_weights(float(radius), width, width * slimness, float(each), GRID_PX)
        rows.append(np.convolve(row[::-1], weights)[first : first + len(row)][::-1])
    return np.array(rows)
