"""How far a target lies from the eucentric plane, by surveys at two tilts, and what brings it there."""

from dataclasses import dataclass
from math import hypot, radians, sin

from stem4d.approach import StagePose
from stem4d.calibrate.place import HALF_STEP, Found, along_stage
from stem4d.errors import BadInput
from stem4d.quality.grade import grade
from stem4d.verdict import Verdict


@dataclass(frozen=True)
class Height:
    """Above the eucentric plane, towards the source."""

    height_nm: float
    uncertainty_nm: float
    """Standard error: of both registrations, and by how much the stage did not come back."""


def height_nm(moved_y_nm: float, from_alpha_deg: float, to_alpha_deg: float) -> float:
    """Height by how far the image moved along the stage's y between two tilts: Δy / (sin α2 - sin α1)."""
    return moved_y_nm / _apart(from_alpha_deg, to_alpha_deg)


def height_of(
    tilted: Found, back: Found, stage_rotation_deg: float, from_alpha_deg: float, to_alpha_deg: float
) -> Height:
    """Height by three surveys: before tilting, tilted, and after tilting back.

    Parameters
    ----------
    tilted, back : Found
        Where the second and the third one lie from the first; both were found.
    stage_rotation_deg : float
        Angle of the scan's axes to the stage's, from x towards y.
    from_alpha_deg, to_alpha_deg : float
        Tilts of the first and the second survey [deg].
    """
    moved, returned = (along_stage(one.off_nm, stage_rotation_deg)[0] for one in (tilted, back))
    # Drift that goes on evenly has moved the tilted survey half as far as the last one; moves that end elsewhere each
    # time show in the last one, too, and then that half is the error.
    error = hypot(tilted.uncertainty_nm, 0.5 * back.uncertainty_nm, 0.5 * returned)
    apart = _apart(from_alpha_deg, to_alpha_deg)
    return Height((moved - 0.5 * returned) / apart, error / abs(apart))


def limit_nm(plan_step_nm: float, tilt_deg: float) -> float:
    """Height at which a tilt by so much moves the target by half a step of the plan [nm]."""
    return HALF_STEP * plan_step_nm / sin(radians(tilt_deg))


def judged(height: Height, limit: float) -> Verdict:
    """Pass only where the target surely lies within the limit."""
    return grade(abs(height.height_nm), height.uncertainty_nm, hard=limit)[0]


def brought(pose: StagePose, height: Height) -> StagePose:
    """The pose that puts the target into the eucentric plane."""
    return pose.model_copy(update={"z_um": pose.z_um - 1e-3 * height.height_nm})


def _apart(from_alpha_deg: float, to_alpha_deg: float) -> float:
    apart = sin(radians(to_alpha_deg)) - sin(radians(from_alpha_deg))
    if apart == 0:
        raise BadInput(field="alpha_deg", value=to_alpha_deg, limit="must differ between the two tilts", unit="deg")
    return apart
