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

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Waves = npt.NDArray[np.complex128]

PARAMETERS = ("c10_nm", "c12a_nm", "c12b_nm", "rotation_rad", "c21a_nm", "c21b_nm", "c23a_nm", "c23b_nm", "c30_nm")
"""a and b are the parts C cos mφ and C sin mφ of an aberration of m-fold symmetry. The first 4, 8 or all are fitted."""
ROTATION = 3


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

    u: Waves
    v: Waves
    left: Waves
    """(T, K) what they leave."""
    power: Array
    """(K,) what they explain."""


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


def path_nm(z: Waves, values: Array) -> Array:
    """λ/(2π) χ at angles z [nm]."""
    parts = zip(basis(z, len(values)), values, strict=True)
    total: Array = np.sum([part * value for part, value in parts if part is not None], axis=0)
    return total


def shifts_nm(geometry: Geometry, values: Array) -> Array:
    """Shift (T, 2) as (y, x) of each image in the scan frame, -(λ/2π) ∇χ turned back [nm]."""
    z, d = geometry.angles, 1e-6
    along_x, along_y = ((path_nm(z + e, values) - path_nm(z - e, values)) / (2 * d) for e in (d, 1j * d))
    moved = -(along_x + 1j * along_y) * np.exp(-1j * values[ROTATION])
    return np.stack([moved.imag, moved.real], axis=1)


def plain(geometry: Geometry, shifts: Array) -> Waves:
    """exp(-2πi k·s) (T, K), weighted, for images that are only shifted."""
    k = geometry.frequencies
    phase = shifts[:, :1] * k.imag[None, :] + shifts[:, 1:] * k.real[None, :]
    return without_common(np.exp(-2j * pi * phase) * geometry.weights[:, None], geometry.weights)


def without_common(values: Waves, weights: Array) -> Waves:
    """Columns (T, K) less their part along the weights: what changes all images alike is the beam and no tilt."""
    unit = weights / np.sqrt(float((weights**2).sum()))
    left: Waves = values - unit[:, None] * (unit @ values)[None, :]
    return left


def project(geometry: Geometry, values: Array, data: Waves) -> Projection:
    """Explain the images' coefficients (T, K) by the model."""
    one, other = (without_common(each, geometry.weights) for each in _sides(geometry, values))
    aa, bb = (np.sum(np.abs(each) ** 2, axis=0) for each in (one, other))
    # A frequency that no image carries, or whose two sides look alike, must not divide by zero.
    ridge = 1e-6 * float((aa + bb).max())
    aa, bb, ab = aa + ridge, bb + ridge, np.sum(one.conj() * other, axis=0)
    a, b = np.sum(one.conj() * data, axis=0), np.sum(other.conj() * data, axis=0)
    determinant = aa * bb - np.abs(ab) ** 2
    u, v = (bb * a - ab * b) / determinant, (aa * b - ab.conj() * a) / determinant
    left = data - u * one - v * other
    return Projection(u, v, left, (a.conj() * u + b.conj() * v).real)


def derivatives(geometry: Geometry, values: Array, found: Projection) -> list[Waves]:
    """Change of the model (T, K) with each parameter, less what a change of u and v would do as well."""
    one, other = _sides(geometry, values)
    one, other = one * found.u, other * found.v
    z, q = geometry.angles[:, None], _turned(geometry, values[ROTATION])
    scale = 2j * pi / geometry.wavelength_nm
    here, low, high = (basis(each, len(values)) for each in (z, z - q, z + q))
    changes = []
    for at, below, above in zip(here, low, high, strict=True):
        if at is None or below is None or above is None:
            step = 1e-4
            sides = []
            for sign in (step, -step):
                beside = values.copy()
                beside[ROTATION] += sign
                turned = _sides(geometry, beside)
                sides.append(turned[0] * found.u + turned[1] * found.v)
            changes.append((sides[0] - sides[1]) / (2 * step))
        else:
            changes.append(scale * ((at - below) * one + (above - at) * other))
    return [without_common(each, geometry.weights) for each in changes]


def across(geometry: Geometry, values: Array, changes: list[Waves]) -> list[Waves]:
    """Changes less their projection on the model."""
    return [project(geometry, values, each).left for each in changes]


def _turned(geometry: Geometry, rotation: float) -> Waves:
    """λ times the frequencies in the specimen frame, (1, K)."""
    turned: Waves = (geometry.wavelength_nm * geometry.frequencies * np.exp(1j * rotation))[None, :]
    return turned


def _sides(geometry: Geometry, values: Array) -> tuple[Waves, Waves]:
    """The two terms of the model for u = v = 1, weighted, (T, K) each."""
    z, q = geometry.angles[:, None], _turned(geometry, values[ROTATION])
    here = path_nm(z, values)
    terms = []
    for side, sign in ((z - q, 1), (z + q, -1)):
        inside = np.clip((geometry.alpha - np.abs(side)) / geometry.soft + 0.5, 0.0, 1.0)
        phase = (2 * pi * sign / geometry.wavelength_nm) * (here - path_nm(side, values))
        terms.append((inside * geometry.weights[:, None]) * np.exp(1j * phase))
    return terms[0], terms[1]
