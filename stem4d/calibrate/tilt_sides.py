"""Whether the sidebands of tilted images have the aberrations that their shifts say, or the scan is distorted.

A scan whose positions are r' = A r shows a specimen sheared or stretched, and shifts images by A H θ instead of H θ, H
the matrix of defocus and astigmatism. Shifts alone take A for a rotation and astigmatism. The phase that the
aberrations put between the sidebands at k goes with A H A^T instead, so that u and v, found with what the shifts say,
have phases that differ by 2πλ k δH k. Their product tells: for an undistorted scan -u v* is real, but for the
contrast that atoms have from more than one scattering, which knows no direction.
"""

from dataclasses import dataclass
from math import pi, sqrt

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.tilt_model import ROTATION, Geometry, Projection, sides_of

Array = npt.NDArray[np.float64]

SCATTER = 0.15
"""Variance of the sidebands' phase [rad²] at a frequency of mean strength that strong phase makes. Chosen, not
measured: an error of 0.4 rad."""
ROUNDS = 30
FEWEST = 12
"""Frequencies below which nothing is said."""
LEAST_APART = 1e-5
"""Smallest part of their product that the determinant of two sides may be."""
LEAST_SLOPE = 0.2
"""Part of its largest curvature that a frequency keeps in a step: far from the solution it would be negative."""


@dataclass(frozen=True)
class Distortion:
    """Twofold astigmatism that the sidebands have beyond that of the shifts."""

    size_nm: float
    uncertainty_nm: float
    chi_square: float
    """Of two degrees of freedom."""


NONE = Distortion(0.0, 0.0, 0.0)
"""Nothing is said: too few frequencies carry both sidebands, or their phases settle nowhere."""


def distortion(geometry: Geometry, values: Array, found: Projection, noise: Array, spread: float) -> Distortion:
    """Compare the sidebands of every frequency.

    Parameters
    ----------
    geometry : Geometry
        Of the handedness that was found.
    values : ndarray, shape (parameters,)
        Those that were found.
    found : Projection
        With the sidebands u and v at ``values``.
    noise : ndarray, shape (K,)
        Noise power of a coefficient.
    spread : float
        By how much neighbouring frequencies share what they hold.

    Returns
    -------
    Distortion
        `NONE` where it cannot be said.
    """
    u, v = (each.astype(np.complex128) for each in (found.u, found.v))
    carried = (np.abs(u) > 0) & (np.abs(v) > 0)
    if carried.sum() < FEWEST:
        return NONE
    u, v = np.where(carried, u, 1.0), np.where(carried, v, 1.0)
    one, other, both = sides_of(geometry, found)
    # Single precision leaves two sides that are alike a determinant of 0 or less.
    determinant = np.maximum(one * other - np.abs(both) ** 2, LEAST_APART * one * other)
    # Noise of u and v is correlated where the two sides look alike.
    shared = -noise * both / determinant
    product = -(u * v.conj() - shared)
    size = np.maximum(np.abs(product), 1e-300)
    error = noise / determinant * (other / np.abs(u) ** 2 + one / np.abs(v) ** 2) / 2
    error = np.maximum(error - (shared / (u * v.conj())).real, 0.0)
    weight = np.where(carried, 1 / (error + SCATTER * size[carried].mean() / size), 0.0)
    k = geometry.frequencies * np.exp(1j * values[ROTATION])
    wave = 2 * pi * geometry.wavelength_nm
    # What knows no direction, in value and in slope, is the specimen's; the other two are the scan's.
    columns = np.stack([np.ones(len(k)), wave * np.abs(k) ** 2, wave * (k * k).real, wave * (k * k).imag])
    phases = product / size
    fitted = np.zeros(4)
    fitted[0] = float(np.angle((weight * phases).sum()))
    for _ in range(ROUNDS):
        left = phases * np.exp(-1j * (fitted @ columns))
        slope = weight * np.maximum(left.real, LEAST_SLOPE)
        fitted = fitted + np.linalg.solve((columns * slope) @ columns.T, (columns * weight) @ left.imag)
    left = phases * np.exp(-1j * (fitted @ columns))
    curvature = (columns * (weight * left.real)) @ columns.T
    if np.linalg.eigvalsh(curvature)[0] <= 0:
        return NONE
    inverse = np.linalg.inv(curvature)
    scores = columns * weight * left.imag
    part = (inverse @ (scores @ scores.T) @ inverse * spread)[2:, 2:]
    found_nm = fitted[2:]
    size_nm = float(np.hypot(*found_nm))
    along = found_nm / max(size_nm, 1e-300)
    return Distortion(size_nm, sqrt(float(along @ part @ along)), float(found_nm @ np.linalg.solve(part, found_nm)))
