"""Where a target is, by a survey laid over its thumbnail, and what brings the field there: beam shift or stage."""

from dataclasses import dataclass
from math import cos, hypot, nan, radians, sin, sqrt

import numpy as np

from stem4d.approach import StagePose
from stem4d.calibrate.shift import Shift
from stem4d.errors import BadInput
from stem4d.maps import RunMaps
from stem4d.model import Range
from stem4d.quality.drift_seen import shift_between
from stem4d.quality.grade import grade
from stem4d.verdict import Verdict

Vector = tuple[float, float]
HALF_STEP = 0.5
"""Of the plan's steps, within which a field is in place."""


@dataclass(frozen=True)
class Found:
    """Where the target lies from the middle of the field."""

    off_nm: Vector
    """(y, x) along the scan's axes; NaN where it was not found."""
    uncertainty_nm: float
    """Standard error of the distance."""
    correlation: float
    """Of the survey with the thumbnail where they match, up to 1: the confidence."""
    ok: bool
    reason: str
    """Why ``ok`` is false; empty otherwise."""

    @property
    def distance_nm(self) -> float:
        """From the middle of the field."""
        return hypot(*self.off_nm)


def find(thumbnail: RunMaps, survey: RunMaps, step_nm: float) -> Found:
    """Lay a survey over the thumbnail of its raster.

    ``ok`` is false where no place stands out: another target, one that lies too far off, or one that repeats itself.
    """
    if thumbnail.scan_shape != survey.scan_shape:
        raise BadInput(field="survey", value=survey.scan_shape, limit=f"must be of the raster {thumbnail.scan_shape}")
    return found_by(shift_between(thumbnail, survey), step_nm)


def found_by(shift: Shift, step_nm: float) -> Found:
    """A shift in steps as a place in nm."""
    if not shift.ok:
        return Found((nan, nan), nan, shift.peak, False, shift.reason)
    y, x = (step_nm * each for each in shift.shift_px)
    along = np.array([y, x]) / hypot(y, x) if hypot(y, x) > 0 else np.full(2, sqrt(0.5))
    error = step_nm * sqrt(float(along @ shift.covariance_px2 @ along))
    return Found((y, x), error, shift.peak, True, "")


def judged(found: Found, plan_step_nm: float) -> tuple[Verdict, float]:
    """Whether the field is in place, within half a step of the plan; and that limit [nm]."""
    limit = HALF_STEP * plan_step_nm
    return grade(found.distance_nm, found.uncertainty_nm, hard=limit)[0], limit


def beam_shift_for(
    now_nm: Vector, found: Found, allowed: Range | None, beside_nm: Vector = (0.0, 0.0)
) -> Vector | None:
    """The beam shift that puts the field over the target; None where the coils do not reach, and the stage has to.

    Parameters
    ----------
    now_nm : tuple of float
        Beam shift of the survey (y, x) [nm].
    found : Found
        Where the target was in it.
    allowed : Range, optional
        What the coils can do along each axis [nm]; without it nothing.
    beside_nm : tuple of float
        From the target to its focus area (y, x) [nm]: the coils have to reach there too.
    """
    wanted = now_nm[0] + found.off_nm[0], now_nm[1] + found.off_nm[1]
    places = (*wanted, wanted[0] + beside_nm[0], wanted[1] + beside_nm[1])
    return wanted if allowed is not None and all(allowed.holds(each) for each in places) else None


def pose_for(pose: StagePose, wanted_nm: Vector, stage_rotation_deg: float) -> StagePose:
    """The pose that does what a beam shift would: the specimen goes the other way.

    Parameters
    ----------
    pose : StagePose
        Of the survey.
    wanted_nm : tuple of float
        The beam shift that would put the field over the target, (y, x) along the scan's axes [nm].
    stage_rotation_deg : float
        Angle of the scan's axes to the stage's, from x towards y.
    """
    along_y, along_x = along_stage(wanted_nm, stage_rotation_deg)
    return pose.model_copy(update={"y_um": pose.y_um - along_y * 1e-3, "x_um": pose.x_um - along_x * 1e-3})


def along_stage(vector: Vector, stage_rotation_deg: float) -> Vector:
    """A vector (y, x) along the scan's axes, along those of the stage."""
    angle = radians(stage_rotation_deg)
    y, x = vector
    return cos(angle) * y + sin(angle) * x, cos(angle) * x - sin(angle) * y
