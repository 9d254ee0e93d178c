"""What tilted bright-field images of a thin specimen look like to its frequencies, and how well that fits.

In the specimen frame, a coefficient q = λk of the image of angle θ is (Rodenburg, McCallum and Nellist,
Ultramicroscopy 48 (1993), any thin specimen)

    u A(θ - q) exp(i(χ(θ) - χ(θ - q))) + v A(θ + q) exp(i(χ(θ + q) - χ(θ)))

with u and v the coefficients of q and -q in the transmission function: iφ and -iφ for a weak phase φ. For small q
both are the shift of the image by -(λ/2π) ∇χ(θ) of tilt-corrected bright field. To let u and v free allows for any
contrast, and for the rays of which one partner has missed the aperture, which a plain shift gets wrong.
"""

from dataclasses import dataclass
from math import pi
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Reals = npt.NDArray[np.floating[Any]]
Waves = npt.NDArray[np.complexfloating[Any, Any]]
Singles = npt.NDArray[np.float32]

PARAMETERS = ("c10_nm", "c12a_nm", "c12b_nm", "rotation_rad", "c21a_nm", "c21b_nm", "c23a_nm", "c23b_nm", "c30_nm")
"""a and b are the parts C cos mφ and C sin mφ of an aberration of m-fold symmetry. The first 4, 8 or all are fitted."""
ROTATION = 3
EDGE = 1.0
"""Widths of a group of pixels by which a ray must miss the aperture's edge to count: half a diagonal, and an error of
centre and radius."""


@dataclass(frozen=True)
class Geometry:
    """Directions of the images and frequencies that are looked at."""

    angles: Waves
    """(T,) x + iy in the specimen frame, for the handedness at hand [rad]."""
    frequencies: Waves
    """(K,) x + iy in the scan frame [1/nm]."""
    alpha: float
    """Convergence semi-angle [rad]."""
    soft: float
    """Width of a group of pixels, over which an aperture's edge is smeared [rad]."""
    wavelength_nm: float
    weights: Array
    """(T,) square roots of the images' mean counts."""


@dataclass(frozen=True)
class Projection:
    """Least squares of u and v at every frequency."""

    sides: tuple[Waves, Waves]
    """(T, K) the two terms of the model for u = v = 1, weighted; their parts that all images share left in."""
    u: Waves
    v: Waves
    left: Waves
    """(T, K) what they leave."""
    power: Array
    """(K,) what they explain."""
    clear: Singles
    """(T, K) 1 where both rays pass well inside or outside of the aperture, 0 where its edge cuts one of them."""


def directions(angles_px: Reals, mrad_per_px: Reals, mirrored: bool) -> Waves:
    """Where pixels lie in the specimen frame, x + iy [rad]: the ellipse is the projector's, the mirror the detector's.

    Parameters
    ----------
    angles_px : ndarray, shape (T, 2)
        (y, x) from the disk's centre [px].
    mrad_per_px : ndarray, shape (2, 2)
        δE of docs/conventions.md [mrad].
    mirrored : bool
        Whether the detector shows y the other way round.
    """
    y, x = mrad_per_px @ angles_px.T * 1e-3
    z: Waves = x + 1j * (-y if mirrored else y)
    return z


def basis(z: Waves, number: int) -> list[Array | None]:
    """λ/(2π) ∂χ/∂C [rad^n] of the coefficients at angles z = x + iy; None for the rotation."""
    square, second = z.real**2 + z.imag**2, z * z
    parts: list[Array | None] = [square / 2, second.real / 2, second.imag / 2, None]
    if number > 4:
        third = second * z
        parts += [square * z.real / 3, square * z.imag / 3, third.real / 3, third.imag / 3]
    if number > 8:
        parts.append(square**2 / 4)
    return parts


def path_nm(z: Waves, values: Reals) -> Array:
    """λ/(2π) χ at angles z [nm]."""
    parts = zip(basis(z, len(values)), values, strict=True)
    total: Array = np.sum([part * value for part, value in parts if part is not None], axis=0)
    return total


def slope_nm(z: Waves, values: Reals) -> Waves:
    """λ/(2π) ∇χ as x + iy at angles z [nm]."""
    twofold = values[1] + 1j * values[2]
    slope = values[0] * z + twofold * z.conj()
    if len(values) > 4:
        coma, threefold = values[4] + 1j * values[5], values[6] + 1j * values[7]
        slope = slope + (2 * z * (coma.conjugate() * z).real + np.abs(z) ** 2 * coma) / 3 + threefold * z.conj() ** 2
    if len(values) > 8:
        slope = slope + values[8] * np.abs(z) ** 2 * z
    found: Waves = slope
    return found


def shifts_nm(geometry: Geometry, values: Array) -> Array:
    """Shift (T, 2) as (y, x) of each image in the scan frame, -(λ/2π) ∇χ turned back [nm]."""
    moved = -slope_nm(geometry.angles, values) * np.exp(-1j * values[ROTATION])
    return np.stack([moved.imag, moved.real], axis=1)


def without_common(values: Waves, weights: Array, clear: Singles | None = None) -> Waves:
    """Columns (T, K) less their part along the weights: what changes all images alike is the beam and no tilt.

    ``clear`` (T, K) is 1 where an image counts for a frequency and 0 elsewhere.
    """
    unit = (weights / np.sqrt(float((weights**2).sum()))).astype(np.float32)[:, None]
    if clear is None:
        # A product of BLAS would start threads for a fraction of a millisecond of work: far slower on a busy machine.
        common = np.einsum("t,tk->k", unit[:, 0].astype(values.dtype), values)[None, :]
        left: Waves = values - unit * common
        return left
    unit = unit * clear
    values = values * clear
    common = (unit * values).sum(axis=0) / np.maximum((unit**2).sum(axis=0), 1e-9)
    found: Waves = values - unit * common[None, :]
    return found


def project(geometry: Geometry, values: Array, data: Waves) -> Projection:
    """Explain the images' coefficients (T, K) by the model, wherever no ray meets the aperture's edge."""
    one, other, clear = _sides(geometry, values)
    return _explained((one, other), geometry.weights, clear, data)


def derivatives(geometry: Geometry, values: Array, found: Projection) -> list[Waves]:
    """Change of the model (T, K) with each parameter, less what a change of u and v would do as well."""
    one, other = found.sides[0] * found.u, found.sides[1] * found.v
    z, q = geometry.angles[:, None], _turned(geometry, values[ROTATION])
    scale = np.complex64(2j * pi / geometry.wavelength_nm)
    here, low, high = (basis(each, len(values)) for each in (z, z - q, z + q))
    changes = []
    for at, below, above in zip(here, low, high, strict=True):
        if at is None or below is None or above is None:
            # q turns by iq for a radian: the path at z - q changes by minus the slope there along iq.
            falls, rises = ((slope_nm(each, values).conj() * (1j * q)).real for each in (z - q, z + q))
        else:
            falls, rises = at - below, above - at
        change = scale * (falls.astype(np.float32) * one + rises.astype(np.float32) * other)
        changes.append(_explained(found.sides, geometry.weights, found.clear, change).left)
    return changes


def sides_of(geometry: Geometry, found: Projection) -> tuple[Array, Array, Waves]:
    """Powers (K,) of the two terms of the model over the images that count, and their overlap."""
    one, other = (without_common(each, geometry.weights, found.clear) for each in found.sides)
    return _overlaps(one, other)


def _overlaps(one: Waves, other: Waves) -> tuple[Array, Array, Waves]:
    aa, bb = (np.asarray(np.sum(each.real**2 + each.imag**2, axis=0, dtype=np.float64)) for each in (one, other))
    # A frequency that no image carries, or whose two sides look alike, must not divide by zero.
    ridge = 1e-5 * float((aa + bb).max())
    return aa + ridge, bb + ridge, _dot(one, other)


def _explained(sides: tuple[Waves, Waves], weights: Array, clear: Singles, data: Waves) -> Projection:
    one, other, data = (without_common(each, weights, clear) for each in (*sides, data))
    aa, bb, ab = _overlaps(one, other)
    a, b = _dot(one, data), _dot(other, data)
    determinant = aa * bb - np.abs(ab) ** 2
    u = ((bb * a - ab * b) / determinant).astype(np.complex64)
    v = ((aa * b - ab.conj() * a) / determinant).astype(np.complex64)
    return Projection(sides, u, v, data - u * one - v * other, (a.conj() * u + b.conj() * v).real, clear)


def _dot(one: Waves, other: Waves) -> Waves:
    """Sum over the images of conj(one) other, (K,)."""
    found: Waves = np.einsum("tk,tk->k", one.conj(), other, dtype=np.complex128, casting="same_kind")
    return found


def _turned(geometry: Geometry, rotation: float) -> Waves:
    """λ times the frequencies in the specimen frame, (1, K)."""
    turned: Waves = (geometry.wavelength_nm * geometry.frequencies * np.exp(1j * rotation))[None, :]
    return turned


def _sides(geometry: Geometry, values: Array) -> tuple[Waves, Waves, Singles]:
    z, q = geometry.angles[:, None], _turned(geometry, values[ROTATION])
    here = path_nm(z, values)
    clear = np.ones(np.broadcast_shapes(z.shape, q.shape), np.float32)
    terms = []
    for side, sign in ((z - q, 1), (z + q, -1)):
        within = geometry.alpha - np.abs(side)
        clear[np.abs(within) < EDGE * geometry.soft] = 0
        # Single precision is exact to 1e-5 rad for the few dozen waves that χ comes to, and four times as fast.
        phase = ((2 * pi * sign / geometry.wavelength_nm) * (here - path_nm(side, values))).astype(np.float32)
        terms.append(unit_waves(phase) * ((within > 0) * geometry.weights[:, None]).astype(np.float32))
    return terms[0], terms[1], clear


def unit_waves(phase: npt.NDArray[np.float32]) -> Waves:
    """exp(i phase) in single precision."""
    wave = np.empty(phase.shape, np.complex64)
    np.cos(phase, out=wave.real)
    np.sin(phase, out=wave.imag)
    return wave
