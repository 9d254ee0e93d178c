"""Dose: electrons that were counted against those planned, and what the specimen took (rules 7 and 8)."""

from collections.abc import Iterator, Sequence
from math import sqrt

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.pixels import Mask
from stem4d.dose import BUDGET_TOLERANCE, centre_of_mass_noise_mrad
from stem4d.maps import RunMaps
from stem4d.plan import CentreOfMass
from stem4d.predict import predict
from stem4d.quality.grade import grade, result
from stem4d.quality.regions import Subject, Wanted
from stem4d.rules.limits import LIMITS
from stem4d.verdict import QualityResult, Verdict

LEAST_OF_PLANNED = 0.5
"""Part of the planned electrons that must be counted: thick specimens scatter up to half beyond a detector (habit)."""
NOISE_FAILS = 1.5
"""Noise over the smallest deflection from which on a run fails; up to it counts lost in the specimen are borne."""
MOST_OF_PLANNED = 1.1
"""Counts above this part of the planned ones mean that the beam was brighter than it was set (habit)."""


def check_dose(
    passes: Sequence[RunMaps], subject: Subject, not_counted: Mask | None = None
) -> tuple[QualityResult, ...]:
    """Judge electrons per pattern and, where a plan states a budget, the fluence of all passes.

    One count is taken for one electron. Where pixels were clipped or electrons missed the detector the counts are a
    lower bound, and the fluence with them. ``not_counted`` are pixels that the totals hold and no electron made.
    """
    totals = np.concatenate([_totals(maps, not_counted) for maps in passes])
    if totals.size == 0:
        text = "Dose is not known: no frame was recorded."
        return (result("dose.electrons", None, Verdict.NOT_MEASURABLE, text, unit="e/pattern"),)
    measured, error = float(totals.mean()), float(totals.std() / sqrt(totals.size))
    clipped = _clipped(passes, subject)
    bound = " It is a lower bound: part of the pattern was clipped." if clipped else ""
    results = [*_against_plan(measured, error, clipped, bound, len(passes), subject)]
    for wanted in subject.wanted:
        results.extend(_enough(measured, error, bound, subject, wanted))
    return tuple(results)


def _totals(maps: RunMaps, not_counted: Mask | None) -> npt.NDArray[np.float64]:
    """Counts of each recorded frame; steady pixels that are to be left out count their mean in each."""
    beside = 0.0 if not_counted is None else float(maps.mean_pattern[not_counted].sum())
    totals: npt.NDArray[np.float64] = np.maximum(maps.total[maps.recorded].astype(np.float64) - beside, 0.0)
    return totals


def _clipped(passes: Sequence[RunMaps], subject: Subject) -> bool:
    if subject.full_scale is None:
        return False
    return any(
        bool(((maps.max_pattern >= subject.full_scale) & ~subject.bad_pixels).any()) for maps in passes if maps.frames
    )


def _against_plan(
    measured: float, error: float, clipped: bool, bound: str, passes: int, subject: Subject
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
    part = measured / planned.electrons_per_pattern
    text = f"{measured:.4g} electrons a pattern, {part:.0%} of the {planned.electrons_per_pattern:.4g} planned.{bound}"
    verdict = Verdict.PASS
    if part > MOST_OF_PLANNED:
        verdict, text = Verdict.WARN, f"{text} The beam is brighter than it was set: measure the probe current."
    elif part < LEAST_OF_PLANNED and not clipped:
        verdict = Verdict.WARN
        text += " Where are the others: beam partly blanked, aperture off, or scattered beyond the detector?"
    yield result(
        "dose.electrons",
        None,
        verdict,
        text,
        value=measured,
        limit=planned.electrons_per_pattern,
        unit="e/pattern",
        uncertainty=error,
    )
    # Counts below plan do not mean less dose: clipped and scattered electrons went through the specimen too.
    fluence = planned.local_fluence_e_per_a2 * max(part, 1.0) * passes
    budget = subject.plan.sample.fluence_budget_e_per_a2
    source = "the counts" if part > 1 else "the planned current, which the counts do not exceed"
    text = f"{fluence:.4g} e/Å² were given by {source}; the budget is {budget:g} e/Å².{bound}"
    verdict = Verdict.FAIL if fluence > budget * (1 + BUDGET_TOLERANCE) else Verdict.PASS
    error = fluence * error / measured
    yield result("dose.fluence", None, verdict, text, value=fluence, limit=budget, unit="e/Å²", uncertainty=error)


def _enough(measured: float, error: float, bound: str, subject: Subject, wanted: Wanted) -> Iterator[QualityResult]:
    """Enough electrons in a pattern for what is wanted; a clipped pattern that has enough has enough."""
    limit = LIMITS.get(f"electrons_per_pattern/{wanted.kind}")
    if limit is not None:
        verdict = Verdict.PASS if measured >= limit.wanted else Verdict.WARN
        text = f"{measured:.4g} electrons a pattern; this analysis wants {limit.wanted:g} ({limit.source}).{bound}"
        if verdict is Verdict.WARN:
            text += " Use a longer dwell, or sum neighbouring patterns."
        yield result(
            "dose.signal",
            wanted.name,
            verdict,
            text,
            value=measured,
            limit=limit.wanted,
            unit="e/pattern",
            uncertainty=error,
        )
    alpha = subject.known.convergence_semi_angle_mrad
    smallest = wanted.asked.smallest_deflection_mrad if isinstance(wanted.asked, CentreOfMass) else None
    if smallest is not None and alpha is not None and measured > 0:
        noise = centre_of_mass_noise_mrad(alpha, measured)
        verdict, limit_mrad = grade(noise, 0.0, soft=smallest, hard=NOISE_FAILS * smallest)
        text = f"Counting noise of the centre of mass is {noise:.3g} mrad; deflections of {smallest:g} mrad are wanted."
        if verdict is not Verdict.PASS:
            text += f" It takes {(noise / smallest) ** 2:.1f} times the electrons."
        yield result("dose.noise", wanted.name, verdict, text, value=noise, limit=limit_mrad, unit="mrad")
