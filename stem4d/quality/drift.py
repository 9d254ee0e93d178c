"""Drift between passes: the passes' own images registered, as a rate with its error, against rule 16.

Within one pass drift cannot be told from shear or a wrong step: the verdict is then "not measurable".
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import hypot, sqrt

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.shift import Shift, register, without_surface
from stem4d.errors import BadInput
from stem4d.maps import RunMaps
from stem4d.plan import Plan, Strain
from stem4d.predict import predict
from stem4d.quality.grade import grade, result
from stem4d.quality.regions import Subject, Wanted
from stem4d.rules.limits import LIMITS
from stem4d.verdict import QualityResult, Verdict

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DriftRate:
    """Steady drift fitted to the shifts of all passes against the first."""

    rate_nm_per_min: tuple[float, float]
    """(y, x): how fast the specimen moves over the field."""
    covariance: Array
    """(2, 2) [nm²/min²]."""
    shifts_nm: tuple[tuple[float, float], ...]
    """Each later pass against the first, (y, x)."""

    @property
    def speed_nm_per_min(self) -> float:
        """Size of the rate."""
        return hypot(*self.rate_nm_per_min)

    @property
    def speed_uncertainty_nm_per_min(self) -> float:
        """Standard error of the size, along its own direction."""
        speed = self.speed_nm_per_min
        along = np.array(self.rate_nm_per_min) / speed if speed > 0 else np.full(2, sqrt(0.5))
        return sqrt(max(float(along @ self.covariance @ along), 0.0))


def check_drift(passes: Sequence[RunMaps], started_s: Sequence[float], subject: Subject) -> tuple[QualityResult, ...]:
    """Judge drift, for every wanted analysis where its limit comes from the rules.

    Parameters
    ----------
    passes : sequence of RunMaps
        The passes over one area, in order.
    started_s : sequence of float
        When each began, on any clock [s].
    subject : Subject
        What is wanted and known; its step turns positions into nm.

    Raises
    ------
    BadInput
        If there is not one start for each pass, or they do not rise.
    """
    if len(started_s) != len(passes) or any(b <= a for a, b in pairwise(started_s)):
        raise BadInput(
            field="started_s", value=list(started_s), limit=f"must be {len(passes)} rising times, one a pass", unit="s"
        )
    if len(passes) < 2:
        return _unknown(
            subject, "one pass cannot tell drift from shear or a wrong step; a second pass or a reference scan can"
        )
    if subject.known.scan_step_nm is None:
        return _unknown(subject, "the scan step is not known")
    shifts = [shift_between(passes[0], later) for later in passes[1:]]
    times_min = [(start - started_s[0]) / 60 for start in started_s[1:]]
    rate = fit_rate(shifts, times_min, subject.known.scan_step_nm)
    if rate is None:
        return _without_rate(shifts, times_min, subject)
    if subject.plan is None or subject.policy.max_drift_nm_per_min is not None:
        return (_judge(rate, subject, None),)
    return tuple(_judge(rate, subject, each) for each in subject.wanted)


def shift_between(first: RunMaps, second: RunMaps) -> Shift:
    """Where the specimen lies in the second pass, relative to the first.

    Virtual images, total counts and centres of mass count together; a quadratic surface is taken off the centres of
    mass, whose descan does not move with the specimen.
    """
    return register(_images(first), _images(second), first.recorded, second.recorded)


def fit_rate(shifts: Sequence[Shift], times_min: Sequence[float], step_nm: float) -> DriftRate | None:
    """Least-squares rate through all measured shifts; None if none was measured."""
    normal, right = np.zeros((2, 2)), np.zeros(2)
    for shift, minutes in zip(shifts, times_min, strict=True):
        if not shift.ok:
            continue
        weight = np.linalg.inv(shift.covariance_px2 * step_nm**2)
        normal += weight * minutes**2
        right += weight @ (np.array(shift.shift_px) * step_nm) * minutes
    if not normal.any():
        return None
    covariance = np.asarray(np.linalg.inv(normal), dtype=np.float64)
    rate = covariance @ right
    moved = tuple((shift.shift_px[0] * step_nm, shift.shift_px[1] * step_nm) for shift in shifts if shift.ok)
    return DriftRate((float(rate[0]), float(rate[1])), covariance, moved)


def _images(maps: RunMaps) -> list[Array]:
    seen = maps.recorded
    counts = [without_surface(image, seen, 0) for image in (*maps.virtual.values(), maps.total)]
    whole = seen & np.isfinite(maps.com_y_px) & np.isfinite(maps.com_x_px)
    return counts + [without_surface(com, whole, 2) for com in (maps.com_y_px, maps.com_x_px)]


def _judge(rate: DriftRate, subject: Subject, wanted: Wanted | None) -> QualityResult:
    speed, error = rate.speed_nm_per_min, rate.speed_uncertainty_nm_per_min
    soft, hard, why = _limits(subject, wanted)
    verdict, limit = grade(speed, error, soft=soft, hard=hard)
    last = rate.shifts_nm[-1]
    text = (
        f"The specimen drifts {speed:.3g} ± {error:.2g} nm/min "
        f"({last[0]:+.3g} nm in y, {last[1]:+.3g} nm in x between the first pass and the last that was registered)."
    )
    text += f" Limit: {why}." if limit is not None else " What that means without a plan is for you to say."
    if verdict in (Verdict.FAIL, Verdict.WARN):
        text += " Wait until the stage has settled, or split the dose into shorter passes and register them."
    name = wanted.name if wanted is not None else None
    return result("drift.rate", name, verdict, text, value=speed, limit=limit, unit="nm/min", uncertainty=error)


def _limits(subject: Subject, wanted: Wanted | None) -> tuple[float | None, float | None, str]:
    """Soft and hard limit of the rate [nm/min] and where they come from."""
    stated = subject.policy.max_drift_nm_per_min
    if stated is not None:
        return None, stated, "stated in the plan's quality policy"
    if subject.plan is None or wanted is None:
        return None, None, ""
    return _limits_of_rule(subject.plan, wanted)


def _limits_of_rule(plan: Plan, wanted: Wanted) -> tuple[float, float | None, str]:
    predicted = predict(plan)
    pass_min, line_min = predicted.pass_time_s / 60, predicted.line_time_s / 60
    if isinstance(wanted.asked, Strain):
        part = LIMITS["drift_of_feature"].wanted
        return part * wanted.asked.smallest_feature_nm / pass_min, None, f"{part:g} of the smallest feature in one pass"
    of_field = LIMITS.get(f"drift_of_field/{wanted.kind}") or LIMITS["drift_of_field"]
    field_nm = plan.scan.field_nm[0]
    in_line = LIMITS["drift_in_line"].wanted * plan.scan.step_nm / line_min
    soft = min(in_line, of_field.wanted / 100 * field_nm / pass_min)
    hard = of_field.hard / 100 * field_nm / pass_min if of_field.hard is not None else None
    return soft, hard, f"{of_field.wanted:g} % of the field in one pass, a tenth of a step in one line"


def _without_rate(shifts: Sequence[Shift], times_min: Sequence[float], subject: Subject) -> tuple[QualityResult, ...]:
    """No unambiguous shift. A repeating specimen still gives a lower bound: the shortest shift that fits."""
    assert subject.known.scan_step_nm is not None
    bounds = []
    for shift, minutes in zip(shifts, times_min, strict=True):
        if shift.rival_px is not None:
            nearest = min(hypot(*shift.shift_px), hypot(*shift.rival_px))
            bounds.append(nearest * subject.known.scan_step_nm / minutes)
    reason = shifts[-1].reason
    if not bounds:
        return _unknown(subject, reason)
    return _unknown(
        subject, f"{reason}; the shortest shift that fits would be {min(bounds):.3g} nm/min, the true one may be larger"
    )


def _unknown(subject: Subject, reason: str) -> tuple[QualityResult, ...]:
    text = f"Drift is not known: {reason}."
    limit = subject.policy.max_drift_nm_per_min
    return (result("drift.rate", None, Verdict.NOT_MEASURABLE, text, limit=limit, unit="nm/min"),)
