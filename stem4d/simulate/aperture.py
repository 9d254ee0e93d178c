"""The probe's spectrum on the pixels of a detector, whatever its projection, shifted by fractions of a pixel.

It is `probe.spectrum` at the angles P (index - middle), with the soft edge that the pixels' own shape makes, written
for speed: a whole scan evaluates it once or more for every frame.
"""

from functools import lru_cache
from math import ceil, cos, floor, pi, radians, sin
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from stem4d import optics
from stem4d.simulate.probe import Aberrations, third_order

Floats = npt.NDArray[np.floating[Any]]
Pair = tuple[tuple[float, float], tuple[float, float]]


@lru_cache(maxsize=64)
def disk_reach_px(projection_mrad_per_px: Pair, convergence_semi_angle_mrad: float) -> tuple[float, float]:
    """How far the disk reaches from its centre along each axis of the detector (y, x) [px].

    The disk |P p| <= α is an ellipse; it reaches α times the length of a row of P⁻¹.
    """
    y, x = convergence_semi_angle_mrad * np.linalg.norm(np.linalg.inv(np.array(projection_mrad_per_px)), axis=1)
    return float(y), float(x)


def box(reach_px: tuple[float, float], middles_px: Floats) -> tuple[int, int, int, int]:
    """Pixels that disks around middles (n, 2) touch: first row, rows, first column, columns."""
    (low_y, low_x), (high_y, high_x) = middles_px.min(axis=0), middles_px.max(axis=0)
    y, x = floor(low_y - reach_px[0] - 1), floor(low_x - reach_px[1] - 1)
    return y, ceil(high_y + reach_px[0] + 1) + 1 - y, x, ceil(high_x + reach_px[1] + 1) + 1 - x


@lru_cache(maxsize=64)
def polynomial(beam_energy_kev: float, aberrations: Aberrations) -> tuple[tuple[float, ...], ...]:
    """χ as Σ c[i][j] θ_y^i θ_x^j [rad], θ in mrad: (5, 5)."""
    total = np.zeros((5, 5))
    scale = 2 * pi / optics.wavelength_a(beam_energy_kev)
    terms = [
        (-10 * aberrations.defocus_nm, 0.0, 2, 0),
        (10 * aberrations.astigmatism_nm, aberrations.astigmatism_angle_deg, 2, 2),
        (1e7 * aberrations.spherical_aberration_mm, 0.0, 4, 0),
        *third_order(aberrations),
    ]
    for coefficient_a, angle_deg, order, fold in terms:
        # Re((x + iy)^fold e^(-i fold φ0)) (x² + y²)^((order - fold)/2), expanded; index [i][j] is the power of y, x.
        part = np.zeros((5, 5), np.complex128)
        part[0, 0] = cos(fold * radians(angle_deg)) - 1j * sin(fold * radians(angle_deg))
        for _ in range(fold):
            part = _times_power(part, 0, 1) + 1j * _times_power(part, 1, 0)
        for _ in range((order - fold) // 2):
            part = _times_power(part, 0, 2) + _times_power(part, 2, 0)
        total += scale / order * 1e-3**order * coefficient_a * part.real
    return tuple(tuple(row) for row in total.tolist())


def _times_power(part: Any, i: int, j: int) -> Any:
    moved = np.zeros_like(part)
    moved[i:, j:] = part[: 5 - i, : 5 - j]
    return moved


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def fill(
    waves: Any,
    first_y: Any,
    first_x: Any,
    columns: Any,
    middles: Any,
    ramps: Any,
    projection: Any,
    alpha: Any,
    chi: Any,
) -> None:
    """Put normalised spectra A exp(-iχ) exp(-2πi ramp · index) into a box, in place.

    Parameters
    ----------
    waves : complex64 array (n, rows, pixels)
        Zeros; row i is pixel ``first_y`` + i, and a column's index is taken modulo ``pixels``.
    first_y, first_x, columns : int
        The box, from `box`.
    middles : float array (n, 2)
        Where the optic axis is [px].
    ramps : float array (n, 2)
        Shift of the probe over the window (y, x).
    projection : float array (2, 2)
        P [mrad/px].
    alpha : float
        Aperture [mrad].
    chi : float array (5, 5)
        From `polynomial`.

    Notes
    -----
    The norm is Σ|wave|² = 1. |A|² is the part of a pixel inside the aperture, its edge taken as straight within a
    pixel: the angle changes over the pixel by g = Pᵀ θ/|θ|, so what the edge leaves is the distribution of the sum of
    two uniform variables of widths |g_y| and |g_x|. Along a row the phase is a polynomial of fourth degree, so its
    exponential follows from four running products; rounding grows to 1e-9 over 200 pixels.
    """
    pixels = waves.shape[2]
    p00, p01, p10, p11 = projection[0, 0], projection[0, 1], projection[1, 0], projection[1, 1]
    d = np.empty(5)
    run = np.empty(5, np.complex128)
    for wave in range(waves.shape[0]):
        norm = 0.0
        for row in range(waves.shape[1]):
            y = first_y + row - middles[wave, 0]
            # Columns inside: |P (y, x)|² <= (α + an edge)² is a quadratic in x.
            edge = alpha + 0.7072 * np.sqrt(p00 * p00 + p01 * p01 + p10 * p10 + p11 * p11)
            a = p01 * p01 + p11 * p11
            b = (p00 * p01 + p10 * p11) * y
            c = (p00 * p00 + p10 * p10) * y * y - edge * edge
            root = b * b - a * c
            if root <= 0:
                continue
            start = max(int(np.ceil((-b - np.sqrt(root)) / a + middles[wave, 1])) - first_x, 0)
            stop = min(int(np.floor((-b + np.sqrt(root)) / a + middles[wave, 1])) - first_x + 1, columns)
            for i in range(5):
                x = first_x + start + i - middles[wave, 1]
                ty, tx = p00 * y + p01 * x, p10 * y + p11 * x
                value = 0.0
                for power in range(4, -1, -1):
                    along = 0.0
                    for other in range(4 - power, -1, -1):
                        along = along * tx + chi[power, other]
                    value = value * ty + along
                d[i] = value + 2 * np.pi * (ramps[wave, 0] * (first_y + row) + ramps[wave, 1] * (first_x + start + i))
            for order in range(1, 5):
                for i in range(4, order - 1, -1):
                    d[i] -= d[i - 1]
            for i in range(5):
                run[i] = complex(np.cos(d[i]), -np.sin(d[i]))
            w0, w1, w2, w3, w4 = run[0], run[1], run[2], run[3], run[4]
            at = (first_x + start) % pixels
            for column in range(start, stop):
                x = first_x + column - middles[wave, 1]
                ty, tx = p00 * y + p01 * x, p10 * y + p11 * x
                angle = np.sqrt(ty * ty + tx * tx)
                part = 1.0
                if angle > 0:
                    gy, gx = abs(p00 * ty + p10 * tx) / angle, abs(p01 * ty + p11 * tx) / angle
                    wide, narrow = max(gy, gx), max(min(gy, gx), 1e-9)
                    left = alpha - angle
                    t = abs(left)
                    if 2 * t < wide + narrow:
                        half = t / wide
                        if 2 * t > wide - narrow:
                            corner = (wide + narrow) / 2 - t
                            half = 0.5 - corner * corner / (2 * wide * narrow)
                        part = 0.5 + half if left > 0 else 0.5 - half
                    elif left < 0:
                        part = 0.0
                if part > 0:
                    norm += part
                    waves[wave, row, at] = np.complex64(np.sqrt(part) * w0)
                w0 *= w1
                w1 *= w2
                w2 *= w3
                w3 *= w4
                at += 1
                if at == pixels:
                    at = 0
        scale = np.float32(1 / np.sqrt(norm))
        for row in range(waves.shape[1]):
            for column in range(pixels):
                waves[wave, row, column] *= scale
