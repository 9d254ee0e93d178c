"""What a calibration of the angular scale gives, and the geometry of its ellipse.

Detector pixels go to angles by angle (y, x) = δ M E (pixel - centre), E symmetric with determinant 1, so that a
circle in angle is an ellipse on the detector, its long axis at ``ellipse_angle_deg`` from x towards y. The ellipse is
written as the two components (η cos 2φ, η sin 2φ), η = ln(long axis / short axis): they have no singularity at a
circle, and their errors are those of a plain fit.
"""

from dataclasses import dataclass, field
from math import atan2, cosh, degrees, exp, hypot, log, nan, sinh, sqrt

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.disk import DiskFit
from stem4d.calibrate.pixels import fill_bad_pixels, neighbour_range
from stem4d.errors import BadInput

Array = npt.NDArray[np.float64]

NOMINAL_TOLERANCE = 0.03
"""How far the scale may come out from its nominal value unless told otherwise, as a part of it: camera lengths are
named to a few percent, and at 6 % the spots of silicon pass for those of gold: half of that keeps them apart."""
SEARCHED = 0.15
"""How far from the nominal scale it is looked for, so that a wrong one is found and refused, not missed."""
MAX_ELLIPTICITY = 0.1
"""Projectors are elliptic by 0.5 to 3 %; more is a wrong index or a strained crystal."""
SMALLEST_DISK_PX = 1.5


@dataclass(frozen=True)
class ScaleFit:
    """Angle per pixel and elliptic distortion; NaN where they were not found."""

    mrad_per_pixel: float
    """Of the geometric mean of the axes: sqrt|det P|."""
    mrad_per_pixel_uncertainty: float
    ellipticity: float
    """Long over short axis of what is a circle in angle, less 1."""
    ellipticity_uncertainty: float
    ellipse_angle_deg: float
    """Direction of the long axis on the detector, from x towards y, in (-90, 90]."""
    ellipse_angle_uncertainty_deg: float
    ellipse_vector: tuple[float, float]
    """η cos 2φ and η sin 2φ with η = ln(1 + ellipticity): what to average or to compare."""
    ellipse_vector_uncertainty: tuple[float, float]
    centre_px: tuple[float, float]
    """(y, x), in pixel-centre indices."""
    centre_uncertainty_px: tuple[float, float]
    residual: float
    """What the fit leaves: of rings, rms of the radial profile over the highest ring; of spots, rms distance [px]."""
    agreement: float
    """Chi of rings among each other or of spots about the lattice, square root of chi square per degree of freedom."""
    rotation_deg: float
    """Of the crystal's first axis from detector x towards y, modulo 90 degrees, in [-45, 45); NaN for rings."""
    reflections: tuple[str, ...]
    """Rings or spots that were used, as indices."""
    drawing: dict[str, Array] = field(repr=False)
    """To draw the fit on the data. Rings: ``radius_px``, ``profile``, ``model``, ``background`` (equal lengths),
    ``ring_radius_px``, ``ring_departure`` and ``ring_departure_uncertainty`` (relative, of each ring used). Spots:
    ``found_px``, ``predicted_px`` (n, 2), ``index`` (n, 2), ``uncertainty_px`` (n, 2)."""
    ok: bool
    reason: str
    """Why ``ok`` is false; empty otherwise."""


def no_scale(reason: str) -> ScaleFit:
    """Nothing was found."""
    two = (nan, nan)
    return ScaleFit(nan, nan, nan, nan, nan, nan, two, two, two, two, nan, nan, nan, (), {}, ok=False, reason=reason)


def ellipse_of(vector: Array, covariance: Array) -> tuple[float, float, float, float]:
    """Ellipticity, its error, direction of the long axis [deg] and its error, from the ellipse's two components."""
    eta = hypot(*vector)
    along = vector / eta if eta > 0 else np.array([1.0, 0.0])
    across = np.array([-along[1], along[0]])
    spread = sqrt(max(float(along @ covariance @ along), 0.0)), sqrt(max(float(across @ covariance @ across), 0.0))
    # A direction is known no worse than evenly spread over half a turn.
    turn = min(0.5 * spread[1] / max(eta, 1e-12), 180 / sqrt(12) * np.pi / 180)
    return exp(eta) - 1, exp(eta) * spread[0], degrees(0.5 * atan2(vector[1], vector[0])), degrees(turn)


def circle_matrix(vector: Array) -> Array:
    """E (2, 2) on (y, x): maps the ellipse on the detector to a circle of its geometric mean radius."""
    eta = hypot(*vector)
    c, s = (vector / eta) if eta > 0 else (1.0, 0.0)
    return np.array([[1.0, 0.0], [0.0, 1.0]]) * cosh(eta / 2) - np.array([[-c, s], [s, c]]) * sinh(eta / 2)


def ellipse_vector(ellipticity: float, angle_deg: float) -> Array:
    """The two components of an ellipse."""
    eta, twice = log(1 + ellipticity), 2 * np.radians(angle_deg)
    return eta * np.array([np.cos(twice), np.sin(twice)])


def check_scale_input(
    mean_pattern: npt.NDArray[np.generic],
    beam_energy_kev: float,
    nominal_mrad_per_pixel: float,
    bad_pixels: npt.NDArray[np.bool_] | None,
    nominal_tolerance: float,
) -> None:
    """Refuse what cannot be meant.

    Raises
    ------
    BadInput
        If a figure is not positive, or a shape does not fit.
    """
    if mean_pattern.ndim != 2 or min(mean_pattern.shape) < 16:
        raise BadInput(
            field="mean_pattern", value=mean_pattern.shape, limit="must be (det_y, det_x), each at least 16", unit="px"
        )
    if bad_pixels is not None and bad_pixels.shape != mean_pattern.shape:
        raise BadInput(field="bad_pixels", value=bad_pixels.shape, limit=f"must have the shape {mean_pattern.shape}")
    for name, value, unit in (
        ("beam_energy_kev", beam_energy_kev, "keV"),
        ("nominal_mrad_per_pixel", nominal_mrad_per_pixel, "mrad"),
    ):
        if not np.isfinite(value) or value <= 0:
            raise BadInput(field=name, value=value, limit="must be positive", unit=unit)
    if not 0 < nominal_tolerance < SEARCHED:
        raise BadInput(
            field="nominal_tolerance", value=nominal_tolerance, limit=f"must lie between 0 and {SEARCHED}, a fraction"
        )


def good_counts(
    pattern: npt.NDArray[np.generic], bad_pixels: npt.NDArray[np.bool_] | None
) -> tuple[Array, npt.NDArray[np.bool_]]:
    """Counts with bad pixels filled in, and which pixels are good; single spikes that no mask knows of are bad too."""
    counts = np.asarray(pattern, dtype=np.float64)
    bad = ~np.isfinite(counts) if bad_pixels is None else ~np.isfinite(counts) | bad_pixels
    filled = fill_bad_pixels(np.where(bad, 0.0, counts), bad)
    if not (filled > 0).any():
        return filled, ~bad
    _, high = neighbour_range(filled)
    quantum = float(filled[filled > 0].min())
    bad = bad | (filled > np.maximum(2 * high, 3 * quantum) + 4 * np.sqrt(quantum * np.maximum(filled, 0.0)))
    return fill_bad_pixels(filled, bad), ~bad


def unfit_disk(disk: DiskFit) -> str:
    """Why a disk cannot serve as the template of rings and spots; empty where it can."""
    if not disk.ok:
        return f"no bright-field disk to start from: {disk.reason}"
    if not disk.radius_px >= SMALLEST_DISK_PX:
        return f"the bright-field disk of {disk.radius_px:.1f} px is too small"
    return ""


def implausible(scale: float, nominal: float, ellipticity: float, tolerance: float) -> list[str]:
    """Why a fitted scale or ellipse is not believed."""
    reasons = []
    if not abs(scale / nominal - 1) <= tolerance:
        reasons.append(
            f"{scale:.4g} mrad per pixel is {scale / nominal - 1:+.1%} off the nominal {nominal:.4g}, more than"
            f" {tolerance:.1%}: another crystal, or another camera length"
        )
    if not ellipticity <= MAX_ELLIPTICITY:
        reasons.append(f"an ellipse of {ellipticity:.0%} is no projector's: another crystal or a strained one")
    return reasons
