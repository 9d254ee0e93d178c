"""Focusing by tilted bright-field images: which scans to take, what to correct by each, and when it is good enough.

A scan at a known underfocus tells defocus and twofold astigmatism at once (`tilt.fit_tilts`). A far one takes in large
errors, a near one is exact; what is left after the correction is measured again.
"""

from dataclasses import dataclass
from math import cos, hypot, isfinite, radians, sin

from stem4d import optics
from stem4d.calibrate.focus_scans import FocusScan
from stem4d.calibrate.tilt import TiltFit
from stem4d.errors import BadInput
from stem4d.quality.grade import grade
from stem4d.verdict import Verdict

QUARTER = 0.25
"""Part of the depth of field within which a probe is in focus (habit)."""


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
