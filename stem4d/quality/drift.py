"""Drift of the specimen, as a rate with its error, between passes and within one, against rule 16.

Within one pass drift cannot be told from shear or a wrong step: without a second pass or a reference scan the verdict
is "not measurable".
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from stem4d.errors import BadInput
from stem4d.maps import RunMaps
from stem4d.plan import Plan, Strain
from stem4d.predict import predict
from stem4d.quality.drift_seen import DriftSeen, Scans, drift_seen, drift_within
from stem4d.quality.grade import grade, result
from stem4d.quality.regions import Subject, Wanted
from stem4d.rules.limits import LIMITS
from stem4d.verdict import QualityResult, Verdict

ALARMS = (Verdict.WARN, Verdict.FAIL)
CURE = " Wait until the stage has settled, or split the dose into shorter passes and register them."
DISTRUST = 0.5
"""Part of itself by which a rate may be wrong whose fit does not hold: it still tells twice the limit."""


@dataclass(frozen=True)
class Limits:
    """Soft and hard limit of the rate [nm/min], and where they come from."""

    soft: float | None
    hard: float | None
    why: str


def check_drift(
    passes: Sequence[RunMaps],
    started_s: Sequence[float],
    subject: Subject,
    references: Scans | None = None,
) -> tuple[QualityResult, ...]:
    """Judge drift, for every wanted analysis where its limit comes from the rules.

    ``drift.rate`` is the rate between the passes, or between the reference scans of a single pass; ``drift.in_pass``
    how many steps that makes during one pass, from the reference scans where there are some; ``drift.jump`` a step of
    the stage between two passes.

    Parameters
    ----------
    passes : sequence of RunMaps
        The passes over one area, in order.
    started_s : sequence of float
        When each began, on any clock [s].
    subject : Subject
        What is wanted and known; its step turns positions into nm.
    references : Scans, optional
        Fast scans of the same area, on the same clock, best one before the passes and one after them. A single one
        has to have the raster of the passes: the two halves of the first pass are then held against it.

    Raises
    ------
    BadInput
        If there is not one start for each scan, or they do not rise.
    """
    _check_starts("started_s", started_s, len(passes))
    if references is not None:
        _check_starts("references.started_s", references.started_s, len(references.maps))
    step_nm = subject.known.scan_step_nm
    if step_nm is None:
        return _unknown(subject, "the scan step is not known")
    line_s = predict(subject.plan).line_time_s if subject.plan is not None else 0.0
    between = drift_between(passes, started_s, subject)
    around = _by_references(passes, references, step_nm, line_s)
    seen = between if between is not None and (between.ok or around is None) else around
    if seen is None:
        why = "one pass cannot tell drift from shear or a wrong step; a second pass or a reference scan can"
        return _unknown(subject, why)
    named = subject.wanted if subject.plan is not None and subject.policy.max_drift_nm_per_min is None else (None,)
    results = [_rate(seen, subject, each) for each in named]
    results.extend(_jump(seen, step_nm))
    if subject.plan is not None:
        results.extend(_in_pass(around or seen, around is not None, subject, subject.plan, each) for each in named)
    return tuple(results)


def drift_between(passes: Sequence[RunMaps], started_s: Sequence[float], subject: Subject) -> DriftSeen | None:
    """The drift from pass to pass; None of one pass, or where nobody knows the step."""
    step_nm = subject.known.scan_step_nm
    if len(passes) < 2 or step_nm is None:
        return None
    line_s = predict(subject.plan).line_time_s if subject.plan is not None else 0.0
    return drift_seen(Scans(tuple(passes), tuple(started_s), step_nm, line_s))


def _check_starts(field: str, starts: Sequence[float], number: int) -> None:
    if len(starts) != number or any(b <= a for a, b in pairwise(starts)):
        limit = f"must be {number} rising times, one a pass"
        raise BadInput(field=field, value=list(starts), limit=limit, unit="s")


def _by_references(
    passes: Sequence[RunMaps], references: Scans | None, step_nm: float, line_s: float
) -> DriftSeen | None:
    if references is None or not references.maps:
        return None
    if len(references.maps) > 1:
        return drift_seen(references)
    fast = references.maps[0]
    if fast.scan_shape != passes[0].scan_shape or references.step_nm != step_nm or not line_s > 0:
        return None
    return drift_within(passes[0], fast, step_nm, line_s)


def _rate(seen: DriftSeen, subject: Subject, wanted: Wanted | None) -> QualityResult:
    limits = _limits(subject, wanted)
    name = wanted.name if wanted is not None else None
    speed, error = seen.speed_nm_per_min, seen.speed_uncertainty_nm_per_min
    verdict, limit = _graded(seen, limits)
    if seen.ok:
        step_nm = subject.known.scan_step_nm or float("nan")
        y, x = seen.moved_nm
        text = f"The specimen drifts {speed:.3g} ± {error:.2g} nm/min ({y:+.3g} nm in y, {x:+.3g} nm in x, or "
        text += f"{y / step_nm:+.2f} and {x / step_nm:+.2f} steps, between the first scan and the last registered)."
    else:
        text = f"Drift is not known: {seen.reason}."
        if verdict in ALARMS:
            text = f"The specimen moves faster than it may, and how fast is not known: {seen.reason}."
    text += f" Limit: {limits.why}." if limit is not None else ""
    if seen.ok and limit is None:
        text += " What that means without a plan is for you to say."
    if verdict in ALARMS:
        text += CURE
    value = speed if seen.ok else seen.least_nm_per_min
    return result(
        "drift.rate",
        name,
        verdict,
        text,
        value=value,
        limit=limit,
        unit="nm/min",
        uncertainty=error if seen.ok else None,
    )


def _graded(seen: DriftSeen, limits: Limits) -> tuple[Verdict, float | None]:
    """A rate that does not hold passes nothing; far beyond the limit it is an alarm all the same."""
    if seen.ok:
        return grade(seen.speed_nm_per_min, seen.speed_uncertainty_nm_per_min, soft=limits.soft, hard=limits.hard)
    speed = seen.speed_nm_per_min * (1 - DISTRUST)
    if seen.least_nm_per_min is not None:
        speed = seen.least_nm_per_min
    verdict, limit = grade(speed, 0.0, soft=limits.soft, hard=limits.hard)
    return (Verdict.WARN if verdict in ALARMS else Verdict.NOT_MEASURABLE), limit


def _jump(seen: DriftSeen, step_nm: float) -> Iterator[QualityResult]:
    if seen.jump is None:
        return
    steps = [each / step_nm for each in seen.jump.jump_nm]
    size = float(sum(each**2 for each in steps)) ** 0.5
    error = max(seen.jump.uncertainty_nm) / step_nm
    text = f"The stage jumped by {steps[0]:+.1f} (y) and {steps[1]:+.1f} (x) steps after pass {seen.jump.after + 1}."
    text += " The rate leaves that out; register the passes before they are added up."
    yield result("drift.jump", None, Verdict.WARN, text, value=size, unit="steps", uncertainty=error)


def _in_pass(seen: DriftSeen, referred: bool, subject: Subject, plan: Plan, wanted: Wanted | None) -> QualityResult:
    limits, minutes = _limits(subject, wanted), predict(plan).pass_time_s / 60
    name = wanted.name if wanted is not None else None
    steps = minutes / plan.scan.step_nm
    soft, hard = (None if one is None else one * steps for one in (limits.soft, limits.hard))
    verdict, limit = _graded(seen, limits)
    if limit is not None:
        limit *= steps
    if not seen.ok:
        text = f"Drift during a pass is not known: {seen.reason}."
        return result("drift.in_pass", name, verdict, text, limit=limit, unit="steps")
    value, error = seen.speed_nm_per_min * steps, seen.speed_uncertainty_nm_per_min * steps
    verdict, limit = grade(value, error, soft=soft, hard=hard)
    how = "by the reference scans" if referred else "if it went on as between the passes"
    text = f"The specimen moves by {value:.2f} ± {error:.2f} steps during a pass, {how}: the image is sheared by that."
    if limit is not None:
        text += f" Limit: {limits.why}."
    return result("drift.in_pass", name, verdict, text, value=value, limit=limit, unit="steps", uncertainty=error)


def _limits(subject: Subject, wanted: Wanted | None) -> Limits:
    stated = subject.policy.max_drift_nm_per_min
    if stated is not None:
        return Limits(None, stated, "stated in the plan's quality policy")
    if subject.plan is None or wanted is None:
        return Limits(None, None, "")
    return _limits_of_rule(subject.plan, wanted)


def _limits_of_rule(plan: Plan, wanted: Wanted) -> Limits:
    predicted = predict(plan)
    pass_min, line_min = predicted.pass_time_s / 60, predicted.line_time_s / 60
    if isinstance(wanted.asked, Strain):
        part = LIMITS["drift_of_feature"].wanted
        why = f"{part:g} of the smallest feature in one pass"
        return Limits(part * wanted.asked.smallest_feature_nm / pass_min, None, why)
    of_field = LIMITS.get(f"drift_of_field/{wanted.kind}") or LIMITS["drift_of_field"]
    field_nm = plan.scan.field_nm[0]
    in_line = LIMITS["drift_in_line"].wanted * plan.scan.step_nm / line_min
    soft = min(in_line, of_field.wanted / 100 * field_nm / pass_min)
    hard = of_field.hard / 100 * field_nm / pass_min if of_field.hard is not None else None
    return Limits(soft, hard, f"{of_field.wanted:g} % of the field in one pass, a tenth of a step in one line")


def _unknown(subject: Subject, reason: str) -> tuple[QualityResult, ...]:
    text = f"Drift is not known: {reason}."
    limit = subject.policy.max_drift_nm_per_min
    return (result("drift.rate", None, Verdict.NOT_MEASURABLE, text, limit=limit, unit="nm/min"),)
