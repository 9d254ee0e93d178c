"""The aberrated probe in reciprocal space: aperture, aberration function, and the room the probe needs.

Sign convention, that of the reference simulations: C10 = -defocus (underfocus positive, crossover after the
specimen), spectrum A exp(-iχ), forward transform exp(-2πi k·r). Arrays are (y, x), so an azimuth is measured from
x towards y: φ = atan2(y, x).
"""

from dataclasses import dataclass
from math import cos, pi, radians, sin, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from stem4d import optics

Floats = npt.NDArray[np.floating[Any]]
Waves = npt.NDArray[np.complexfloating[Any, Any]]


@dataclass(frozen=True)
class Aberrations:
    """Aberrations to third order; azimuths from x towards y."""

    defocus_nm: float = 0.0
    """Underfocus positive."""
    astigmatism_nm: float = 0.0
    """C12, twofold."""
    astigmatism_angle_deg: float = 0.0
    """φ12."""
    spherical_aberration_mm: float = 0.0
    """C30."""
    coma_nm: float = 0.0
    """C21, axial."""
    coma_angle_deg: float = 0.0
    """φ21."""
    threefold_astigmatism_nm: float = 0.0
    """C23."""
    threefold_astigmatism_angle_deg: float = 0.0
    """φ23."""
    star_um: float = 0.0
    """C32."""
    star_angle_deg: float = 0.0
    """φ32."""
    fourfold_astigmatism_um: float = 0.0
    """C34."""
    fourfold_astigmatism_angle_deg: float = 0.0
    """φ34."""


def chi_rad(angle_y_mrad: Floats, angle_x_mrad: Floats, beam_energy_kev: float, aberrations: Aberrations) -> Floats:
    """Aberration function χ.

    Parameters
    ----------
    angle_y_mrad, angle_x_mrad : float arrays that broadcast to (..., y, x)
        Angle to the optic axis [mrad].
    beam_energy_kev : float
        Beam energy [keV].
    aberrations : Aberrations
        Coefficients.

    Returns
    -------
    float array (..., y, x)
        χ = (2π/λ) [α²/2 (C10 + C12 cos 2(φ - φ12)) + α³/3 (C21 cos(φ - φ21) + C23 cos 3(φ - φ23))
        + α⁴/4 (C30 + C32 cos 2(φ - φ32) + C34 cos 4(φ - φ34))] [rad], in the precision of the angles.

    Notes
    -----
    Krivanek, Dellby and Lupini, Ultramicroscopy 78 (1999) for the coefficients' names.
    """
    # Phase per mrad² and mrad⁴: Å of coefficient over Å of wavelength, mrad to rad.
    scale = 2 * pi / optics.wavelength_a(beam_energy_kev)
    second = scale / 2 * 1e-6
    focus = second * -10 * aberrations.defocus_nm
    twofold = second * 10 * aberrations.astigmatism_nm
    along = twofold * cos(2 * radians(aberrations.astigmatism_angle_deg))
    across = 2 * twofold * sin(2 * radians(aberrations.astigmatism_angle_deg))
    fourth = scale / 4 * 1e-12 * 1e7 * aberrations.spherical_aberration_mm
    y2, x2 = angle_y_mrad * angle_y_mrad, angle_x_mrad * angle_x_mrad
    chi = (focus - along) * y2 + (focus + along) * x2
    if across:
        chi = chi + across * (angle_y_mrad * angle_x_mrad)
    if fourth:
        chi = chi + fourth * (y2 + x2) ** 2
    for coefficient_a, angle_deg, order, fold in third_order(aberrations):
        # α^order cos(fold (φ - φ0)): the angle as a complex number to the power of the fold, turned, times the rest.
        turned = (angle_x_mrad + 1j * angle_y_mrad) ** fold * np.exp(-1j * fold * radians(angle_deg))
        left = (y2 + x2) ** ((order - fold) // 2)
        weight = scale / order * 1e-3**order * coefficient_a
        chi = chi + (weight * (left * turned.real)).astype(chi.dtype)
    return chi


def third_order(aberrations: Aberrations) -> list[tuple[float, float, int, int]]:
    """Those of coma's order and beyond that are there: coefficient [Å], azimuth [deg], power of α, fold."""
    terms = (
        (10 * aberrations.coma_nm, aberrations.coma_angle_deg, 3, 1),
        (10 * aberrations.threefold_astigmatism_nm, aberrations.threefold_astigmatism_angle_deg, 3, 3),
        (1e4 * aberrations.star_um, aberrations.star_angle_deg, 4, 2),
        (1e4 * aberrations.fourfold_astigmatism_um, aberrations.fourfold_astigmatism_angle_deg, 4, 4),
    )
    return [term for term in terms if term[0] != 0]


def spectrum(
    angle_y_mrad: Floats,
    angle_x_mrad: Floats,
    beam_energy_kev: float,
    convergence_semi_angle_mrad: float,
    aberrations: Aberrations,
    pixel_mrad: float = 0.0,
) -> Waves:
    """Probe in reciprocal space, A exp(-iχ), at the given angles; not normalised.

    Parameters
    ----------
    angle_y_mrad, angle_x_mrad : float arrays that broadcast to (..., y, x)
        Angle to the optic axis [mrad].
    beam_energy_kev, convergence_semi_angle_mrad : float
        Beam energy [keV] and aperture [mrad].
    aberrations : Aberrations
        Coefficients of χ.
    pixel_mrad : float
        Angle that a pixel covers [mrad]: |A|² is then the part of the pixel that lies inside the aperture. 0 is a
        hard edge, in or out by the pixel's centre.

    Returns
    -------
    complex array (..., y, x)
        Of single precision where the angles are.
    """
    angle = np.sqrt(angle_y_mrad * angle_y_mrad + angle_x_mrad * angle_x_mrad)
    amplitude = (angle <= convergence_semi_angle_mrad).astype(angle.dtype)
    if pixel_mrad > 0:
        # Half a pixel's diagonal is as far as the edge can be from a pixel that it cuts.
        cut = np.abs(angle - convergence_semi_angle_mrad) < 0.7072 * pixel_mrad
        y, x = (np.broadcast_to(part, angle.shape)[cut] for part in (angle_y_mrad, angle_x_mrad))
        amplitude[cut] = np.sqrt(_part_inside(y, x, convergence_semi_angle_mrad, pixel_mrad))
    chi = chi_rad(angle_y_mrad, angle_x_mrad, beam_energy_kev, aberrations)
    wave = np.empty(angle.shape, np.result_type(angle.dtype, np.complex64))
    np.multiply(amplitude, np.cos(chi), out=wave.real)
    np.multiply(amplitude, -np.sin(chi), out=wave.imag)
    return wave


def _part_inside(y: Floats, x: Floats, radius: float, pixel: float) -> Floats:
    """Part of square pixels at (y, x) that a disc covers, its edge taken as straight within a pixel.

    A straight edge at distance d and azimuth φ covers what the sum of two uniform variables of widths |cos φ| and
    |sin φ| leaves below d.
    """
    distance = np.hypot(y, x)
    d = (radius - distance) / pixel
    along, across = np.abs(x) / distance, np.abs(y) / distance
    wide, narrow = np.maximum(along, across), np.maximum(np.minimum(along, across), 1e-6)
    t = np.abs(d)
    corner = np.maximum((wide + narrow) / 2 - t, 0)
    half = np.where(t <= (wide - narrow) / 2, t / wide, 0.5 - corner * corner / (2 * wide * narrow))
    part: Floats = 0.5 + np.copysign(half, d)
    return part


def diameter_a(beam_energy_kev: float, convergence_semi_angle_mrad: float, aberrations: Aberrations) -> float:
    """Real-space room that the probe needs [Å]: twice the largest ray displacement plus the Rayleigh diameter.

    The displacement of a ray is (λ/2π) |dχ/dα|. The same bound keeps the phase step of χ between neighbouring
    pixels of a wave sampled at 1/diameter below π.
    """
    displaced = max(
        optics.largest_displacement_a(convergence_semi_angle_mrad, focus_nm, aberrations.spherical_aberration_mm)
        for focus_nm in (
            aberrations.defocus_nm - aberrations.astigmatism_nm,
            aberrations.defocus_nm + aberrations.astigmatism_nm,
        )
    )
    # A term C α^n cos(m φ)/n displaces a ray by at most C α^(n-1) sqrt(1 + (m/n)²).
    displaced += sum(
        abs(coefficient) * (convergence_semi_angle_mrad * 1e-3) ** (order - 1) * sqrt(1 + (fold / order) ** 2)
        for coefficient, _angle, order, fold in third_order(aberrations)
    )
    return 2 * displaced + 2 * optics.rayleigh_radius_a(beam_energy_kev, convergence_semi_angle_mrad)
