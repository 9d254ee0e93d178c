"""From lattices on the detector to strain and rotation in the scan's frame.

Lattice vectors of the crystal deform as a' = F a, so those of its pattern as g' = F⁻ᵀ g; F = turn(θ) D on (y, x) with
turn(θ) = [[cos θ, sin θ], [-sin θ, cos θ]], θ from x towards y, and D = [[1 + eyy, exy], [exy, 1 + exx]].
"""

from dataclasses import dataclass
from itertools import product
from math import cos, sin

import numpy as np
import numpy.typing as npt

from stem4d.analyse.method import NotPossible
from stem4d.calibrate.crystals import PlanarLattice
from stem4d.optics import wavelength_a

Array = npt.NDArray[np.float64]

OTHER_LATTICE = 0.1
"""Strain of the median lattice against a stated one, beyond which it is another lattice."""
LARGEST_STEP = 2
"""Of the whole numbers that take one choice of lattice vectors to another."""


@dataclass(frozen=True, eq=False)
class Tensors:
    """Strain at n positions and its errors from counting, each (n,)."""

    exx: Array
    eyy: Array
    exy: Array
    rotation_rad: Array
    exx_sigma: Array
    eyy_sigma: Array
    exy_sigma: Array
    rotation_sigma_rad: Array


def tensors(vectors_px: Array, covariance: Array, reference_mrad: Array, scan: Array) -> Tensors:
    """Strain of lattices against a reference.

    Parameters
    ----------
    vectors_px : ndarray, shape (n, 2, 2)
        g1 and g2 as columns, rows (y, x) of the detector [px].
    covariance : ndarray, shape (n, 2, 3)
        By axis of the detector: variance of g1, covariance, variance of g2 [px²].
    reference_mrad : ndarray, shape (2, 2)
        g1 and g2 of the reference as columns, in the scan's frame [mrad].
    scan : ndarray, shape (2, 2)
        Pixels to angles in the scan's frame [mrad], as `stem4d.analyse.geometry.angles_per_px` has it.
    """
    inverse: Array = np.asarray(np.linalg.inv(reference_mrad), dtype=np.float64)
    change = scan @ vectors_px @ inverse
    some = np.isfinite(change).all(axis=(1, 2))
    deformed = np.full(change.shape, np.nan)
    deformed[some] = np.linalg.inv(change[some]).transpose(0, 2, 1)
    eyy, exx, exy, angle = polar(deformed)
    # For small strain change = 1 - (F - 1)ᵀ: errors follow from its linear part.
    weight = {
        "eyy": _form(scan, inverse, {(0, 0): 1.0}),
        "exx": _form(scan, inverse, {(1, 1): 1.0}),
        "exy": _form(scan, inverse, {(0, 1): 0.5, (1, 0): 0.5}),
        "rotation": _form(scan, inverse, {(0, 1): 0.5, (1, 0): -0.5}),
    }
    sigma = {name: np.sqrt(_variance(form, covariance)) for name, form in weight.items()}
    return Tensors(exx, eyy, exy, angle, sigma["exx"], sigma["eyy"], sigma["exy"], sigma["rotation"])


def polar(deformation: Array) -> tuple[Array, Array, Array, Array]:
    """eyy, exx, exy and θ [rad] of F (..., 2, 2) = turn(θ) D, by the polar decomposition in two dimensions."""
    f = deformation
    angle = np.arctan2(f[..., 0, 1] - f[..., 1, 0], f[..., 0, 0] + f[..., 1, 1])
    c, s = np.cos(angle), np.sin(angle)
    eyy = c * f[..., 0, 0] - s * f[..., 1, 0] - 1
    exy = c * f[..., 0, 1] - s * f[..., 1, 1]
    exx = s * f[..., 0, 1] + c * f[..., 1, 1] - 1
    return eyy, exx, exy, angle


def stated_lattice(vectors_mrad: Array, lattice: PlanarLattice, beam_energy_kev: float) -> Array:
    """Reciprocal vectors [mrad] of an unstrained lattice, chosen and turned as those found are.

    Of all choices of two vectors the one counts that leaves the least strain; its rotation is that of what was found.

    Raises
    ------
    NotPossible
        Where no choice comes near: another lattice.
    """
    reciprocal = 100 * wavelength_a(beam_energy_kev) * lattice.reciprocal().T
    best, least = reciprocal, np.inf
    for entries in product(range(-LARGEST_STEP, LARGEST_STEP + 1), repeat=4):
        steps = np.array(entries, dtype=np.float64).reshape(2, 2)
        if abs(round(float(np.linalg.det(steps)))) != 1:
            continue
        chosen = reciprocal @ steps
        found = np.linalg.inv(vectors_mrad @ np.linalg.inv(chosen)).T
        if np.linalg.det(found) <= 0:
            continue
        eyy, exx, exy, angle = (float(each) for each in polar(found))
        size = max(abs(eyy), abs(exx), abs(exy))
        if size < least - 1e-9:
            turn = np.array([[cos(angle), sin(angle)], [-sin(angle), cos(angle)]])
            best, least = turn @ chosen, size
    if least > OTHER_LATTICE:
        raise NotPossible(
            f"the lattice found departs from the stated one by {least:.0%} at least: another lattice, another scale"
            " (mrad_per_pixel), or a lattice that is not what its disks show along this axis"
        )
    return best


def _form(scan: Array, inverse: Array, entries: dict[tuple[int, int], float]) -> Array:
    """How a sum of entries (row, column) of ``change`` depends on the vectors' entries (axis, vector), (2, 2)."""
    total = np.zeros((2, 2))
    for (row, column), factor in entries.items():
        total += factor * np.outer(scan[row], inverse[:, column])
    return total


def _variance(form: Array, covariance: Array) -> Array:
    of_axes = [
        form[axis, 0] ** 2 * covariance[:, axis, 0]
        + 2 * form[axis, 0] * form[axis, 1] * covariance[:, axis, 1]
        + form[axis, 1] ** 2 * covariance[:, axis, 2]
        for axis in (0, 1)
    ]
    return np.asarray(of_axes[0] + of_axes[1])
