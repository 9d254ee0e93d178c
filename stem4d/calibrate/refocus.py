"""Focusing by tilted bright-field images: which scans to take, what to correct by each, and when it is good enough.

A scan at a known underfocus tells defocus and twofold astigmatism at once (`tilt.fit_tilts`). A far one takes in large
errors, a near one is exact; what is left after the correction is measured again.
"""

from dataclasses import dataclass
from math import cos, hypot, isfinite, radians, sin, sqrt

from stem4d import optics
from stem4d.calibrate.tilt import TiltFit
from stem4d.errors import BadInput
from stem4d.quality.grade import grade
from stem4d.verdict import Verdict

QUARTER = 0.25
"""Part of the depth of field within which a probe is in focus (habit)."""
FAR_DEPTHS, NEAR_DEPTHS = 8.0, 2.5
"""Underfocus of the scans in depths of field: errors up to half of it are found."""
REACH_STEPS = 4.0
"""Steps that the outermost image of a far scan moves: few, so that its field is large and slopes on it are small."""
NEAR_STEP = 0.5
"""Step of a near scan over λ/α: every wave of the specimen that the aperture passes is sampled."""
FILLED = 0.65
"""Part of the window λ/δ that the defocused probe may fill: an error of half as much underfocus is to fit in, too."""


@dataclass(frozen=True)
class FocusScan:
    """One scan that tells the focus."""

    defocus_nm: float
    """Underfocus, in which what is wrong adds [nm]."""
    step_nm: float

    @property
    def reach_nm(self) -> float:
        """Largest error that it finds [nm]; see `tilt_search.SEARCHED`."""
        return 0.5 * self.defocus_nm


@dataclass(frozen=True)
class FocusError:
    """By how much defocus and astigmatism are off."""

    defocus_nm: float
    defocus_uncertainty_nm: float
    stigmator_nm: tuple[float, float]
    """C12 (cos 2φ, sin 2φ)."""
    astigmatism_uncertainty_nm: float

    @property
    def astigmatism_nm(self) -> float:
        """Size of it."""
        return hypot(*self.stigmator_nm)


def limit_nm(beam_energy_kev: float, convergence_semi_angle_mrad: float) -> float:
    """A quarter of the depth of field [nm], for defocus and for astigmatism."""
    return QUARTER * optics.depth_of_field_a(beam_energy_kev, convergence_semi_angle_mrad) / 10


def focus_scans(
    beam_energy_kev: float, convergence_semi_angle_mrad: float, mrad_per_pixel: float, most_defocus_nm: float
) -> tuple[FocusScan, FocusScan]:
    """The far scan and the near one.

    Parameters
    ----------
    beam_energy_kev, convergence_semi_angle_mrad, mrad_per_pixel : float
        Of the plan [keV], [mrad], [mrad].
    most_defocus_nm : float
        Largest underfocus that the column has room for [nm].

    Raises
    ------
    BadInput
        Where a probe of the near scan's underfocus does not fit into the window, or the column does not reach it.
    """
    alpha = convergence_semi_angle_mrad * 1e-3
    depth = optics.depth_of_field_a(beam_energy_kev, convergence_semi_angle_mrad) / 10
    wave = optics.wavelength_a(beam_energy_kev) / 10 / alpha
    window = optics.window_a(beam_energy_kev, mrad_per_pixel) / 10
    ray = 2 * optics.rayleigh_radius_a(beam_energy_kev, convergence_semi_angle_mrad) / 10
    room = sqrt(max((FILLED * window) ** 2 - ray**2, 0.0)) / (2 * alpha)
    near, most = NEAR_DEPTHS * depth, min(room, most_defocus_nm)
    if most < near:
        what = "the window λ/δ" if room < most_defocus_nm else "the range of the column"
        raise BadInput(
            field="optics.camera_length_mm" if room < most_defocus_nm else "optics.defocus_nm",
            value=most,
            limit=f"{what} leaves that much underfocus to focus by; it takes {near:.4g}",
            unit="nm",
            remedy="Use a longer camera length, or leave approach.focus_area out",
        )
    far = min(FAR_DEPTHS * depth, most)
    return FocusScan(far, max(far * alpha / REACH_STEPS, NEAR_STEP * wave)), FocusScan(near, NEAR_STEP * wave)


def error_of(fit: TiltFit, scan: FocusScan) -> FocusError:
    """What a fit says is off; the caller has seen that it is ``ok``."""
    twofold = 2 * radians(fit.astigmatism_angle_deg)
    size = fit.astigmatism_nm
    return FocusError(
        fit.defocus_nm - scan.defocus_nm,
        fit.defocus_uncertainty_nm,
        (size * cos(twofold), size * sin(twofold)),
        fit.astigmatism_uncertainty_nm,
    )


def judged(error: FocusError, limit: float) -> tuple[Verdict, Verdict]:
    """Verdicts on defocus and astigmatism: pass only where each is surely within the limit."""
    focus, _ = grade(abs(error.defocus_nm), error.defocus_uncertainty_nm, hard=limit)
    twofold, _ = grade(error.astigmatism_nm, error.astigmatism_uncertainty_nm, hard=limit)
    return focus, twofold


def corrected(
    focus_correction_nm: float, stigmator_nm: tuple[float, float], error: FocusError
) -> tuple[float, tuple[float, float]]:
    """Focus correction and stigmator that take an error back: what is set now, less what was measured."""
    if not all(isfinite(each) for each in (error.defocus_nm, *error.stigmator_nm)):
        raise BadInput(field="focus", value=error.defocus_nm, limit="must be measured before it is corrected")
    along, across = (now - off for now, off in zip(stigmator_nm, error.stigmator_nm, strict=True))
    return focus_correction_nm - error.defocus_nm, (along, across)
