"""Dose: electrons that were counted against those planned, and what the specimen took (rules 7 and 8)."""

from collections.abc import Iterator, Sequence
from math import hypot, inf, isfinite, sqrt

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.pixels import Mask
from stem4d.dose import BUDGET_TOLERANCE
from stem4d.maps import RunMaps
from stem4d.plan import Plan
from stem4d.predict import predict
from stem4d.quality.clipping import true_mean
from stem4d.quality.grade import DOUBT_SIGMAS, grade, grade_least, result
from stem4d.quality.rate import counts_put_back
from stem4d.quality.regions import Subject
from stem4d.quality.signal import check_signal
from stem4d.verdict import QualityResult, Verdict

LEAST_OF_PLANNED = 0.5
"""Part of the planned electrons that must be counted: thick specimens scatter up to half beyond a detector (habit)."""
MOST_OF_PLANNED = 1.1
"""Counts above this part of the planned ones mean that the beam was brighter than it was set (habit)."""

FEWEST_CLIPPED = 3
"""Fewer pixels that were clipped in all frames hide nothing: they may be hot ones that no mask knows."""


def check_dose(
    passes: Sequence[RunMaps], subject: Subject, not_counted: Mask | None = None
) -> tuple[QualityResult, ...]:
    """Judge electrons per pattern and, where a plan states a budget, the fluence of all passes.

    One count is taken for one electron. What the detector's counting rate cost is put back where its facts are known.
    Where pixels were clipped or electrons missed the detector the counts are a lower bound, and the fluence with them.
    ``not_counted`` are pixels that the totals hold and no electron made.
    """
    totals = np.concatenate([_totals(maps, not_counted) for maps in passes])
    if totals.size == 0:
        text = "Dose is not known: no frame was recorded."
        return (result("dose.electrons", None, Verdict.NOT_MEASURABLE, text, unit="e/pattern"),)
    counted = float(totals.mean())
    # A specimen spreads the totals further than shot noise does, and a single frame has no spread at all.
    error = max(float(totals.std()), sqrt(max(counted, 1.0))) / sqrt(totals.size)
    factor, factor_error = counts_put_back(passes, subject)
    clipped = _clipped_part(passes, subject)
    measured = counted * factor
    # What clipping took follows from steady counts, which a specimen's are not: it took up to twice as much.
    error = hypot(error * factor, counted * factor_error, measured * clipped if isfinite(clipped) else 0.0)
    bound = " It is a lower bound: part of the pattern was clipped." if clipped else ""
    if factor > 1.001:
        bound += f" {factor - 1:.1%} of that was lost to the counting rate and is put back."
    return (
        *_against_plan(measured, error, clipped, bound, len(passes), subject),
        *check_signal(measured, error, bound, subject),
    )


def _totals(maps: RunMaps, not_counted: Mask | None) -> npt.NDArray[np.float64]:
    """Counts of each recorded frame; steady pixels that are to be left out count their mean in each."""
    beside = 0.0 if not_counted is None else float(maps.mean_pattern[not_counted].sum())
    totals: npt.NDArray[np.float64] = np.maximum(maps.total[maps.recorded].astype(np.float64) - beside, 0.0)
    return totals


def _clipped_part(passes: Sequence[RunMaps], subject: Subject) -> float:
    """Counts that clipping took, as a part of those that are left; infinite where pixels were always clipped."""
    full, frames = subject.full_scale, sum(maps.frames for maps in passes)
    largest = np.max([maps.max_pattern for maps in passes], axis=0)
    if full is None or not ((largest >= full) & ~subject.bad_pixels).any():
        return 0.0
    whole: npt.NDArray[np.float64] = np.stack([maps.sum_pattern for maps in passes]).sum(axis=0, dtype=np.float64)
    mean = whole[~subject.bad_pixels] / frames
    true = true_mean(mean, full)
    known = np.isfinite(true)
    if (~known).sum() >= FEWEST_CLIPPED:
        return inf
    # Single frames that were clipped hide less than their mean tells; never nothing.
    return max(float((true - mean)[known].sum()) / float(mean.sum()), 1e-6)


def _against_plan(
    measured: float, error: float, clipped: float, bound: str, passes: int, subject: Subject
) -> Iterator[QualityResult]:
    if measured == 0:
        text = "Not one electron was counted: the beam was blanked, lost, or missed the detector."
        yield result("dose.electrons", None, Verdict.FAIL, text, value=0.0, unit="e/pattern")
        return
    if subject.plan is None:
        text = f"{measured:.4g} counts a pattern, which are electrons if the detector counts single ones.{bound}"
        yield result("dose.electrons", None, Verdict.PASS, text, value=measured, unit="e/pattern", uncertainty=error)
        return
    planned = predict(subject.plan)
    expected = planned.electrons_per_pattern
    part, part_error = measured / expected, error / expected
    known = isfinite(clipped)
    likely = part * (1 + clipped) if known else part
    text = f"{measured:.4g} electrons a pattern, {part:.0%} of the {expected:.4g} expected.{bound}"
    verdict, _ = grade(likely, part_error, soft=MOST_OF_PLANNED)
    if verdict is Verdict.PASS and not known:
        verdict = Verdict.NOT_MEASURABLE
        text += " How many electrons there were is not known: pixels were clipped in all frames."
    elif verdict is Verdict.PASS and likely < sqrt(LEAST_OF_PLANNED * MOST_OF_PLANNED):
        verdict, _ = grade_least(likely, part_error, soft=LEAST_OF_PLANNED)
        if verdict is Verdict.WARN:
            text += " Where are the others: beam partly blanked, aperture off, or scattered beyond the detector?"
    elif verdict is Verdict.WARN:
        text += " The beam is brighter than it was set or measured: measure the probe current."
    yield result(
        "dose.electrons",
        None,
        verdict,
        text,
        value=measured,
        limit=expected,
        unit="e/pattern",
        uncertainty=error,
    )
    yield _fluence(likely, part_error, known, bound, passes, subject.plan)


def _fluence(part: float, part_error: float, known: bool, bound: str, passes: int, plan: Plan) -> QualityResult:
    """Counts below plan do not mean less dose: clipped and scattered electrons went through the specimen too.

    Nor do counts above it that their error explains mean more of it, where they are known as well as the current is.
    """
    planned_e_per_a2 = predict(plan).local_fluence_e_per_a2 * passes
    budget = plan.sample.fluence_budget_e_per_a2
    limit, doubt = budget * (1 + BUDGET_TOLERANCE) / planned_e_per_a2, DOUBT_SIGMAS * part_error
    more = part - doubt > 1
    given = max(part, 1.0) if more or part_error > BUDGET_TOLERANCE else 1.0
    if max(part - doubt, 1.0) > limit:
        verdict = Verdict.FAIL
    elif (more or part_error > BUDGET_TOLERANCE) and part + doubt > limit:
        verdict = Verdict.WARN
    else:
        verdict = Verdict.PASS if known else Verdict.NOT_MEASURABLE
    fluence, error = planned_e_per_a2 * given, planned_e_per_a2 * part_error
    source = "the counts" if given > 1 else "the probe current, which the counts do not exceed"
    text = f"{fluence:.4g} ± {error:.2g} e/Å² were given by {source}; the budget is {budget:g} e/Å².{bound}"
    if verdict is Verdict.NOT_MEASURABLE:
        text = f"At least {text} How much more is not known."
    return result("dose.fluence", None, verdict, text, value=fluence, limit=budget, unit="e/Å²", uncertainty=error)
