"""From a failing figure to a change of the plan that mends it, or the reason why none does."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, log10, sqrt

import numpy as np

from stem4d.calibrate.pixels import Mask
from stem4d.dose import BUDGET_TOLERANCE, SPECIMEN_CREST, centre_of_mass_noise_mrad
from stem4d.maps import RunMaps
from stem4d.model import Strict
from stem4d.plan import CentreOfMass, Plan
from stem4d.predict import predict
from stem4d.quality.clipping import true_mean
from stem4d.quality.regions import PatternGeometry, Subject, subject_of_plan
from stem4d.rules.advice import apply_change
from stem4d.rules.limits import LIMITS
from stem4d.verdict import Change, QualityResult, Verdict

ROOM = 0.9
"""Part of full scale that the brightest pixel and five sigma of it may reach after the remedy."""
BLIND_FACTOR = 4.0
"""Where half of the region or more was always clipped its true level is unknown: taken as so many full scales."""
AT_LEAST_FACTOR = 2.0
"""Where some pixels were always clipped they held at least full scale: taken as so many of them."""
LEAST_CUT = 0.5
"""The dwell is at least halved: what clipped although it should have fitted was brighter than its mean tells."""

NOT_MENDABLE = {
    "drift.rate": "the specimen drifts: waiting mends that, a change of the plan does not",
    "frames.missing": "frames were lost between detector and disk: that is for the machine, not for the plan",
    "dose.fluence": "the specimen has had more than its budget: no further exposure is allowed",
    "dose.electrons": "there was no beam: that is for the column, not for the plan",
    "dose.noise": "it takes more electrons, and more dose is not given without being asked",
    "centring.max_angle": "it takes a shorter camera length, which is another plan",
}


class Remedy(Strict):
    """A change that was decided on; ``field`` is empty where the plan stays and a calibration is made again."""

    action: str
    cause: str
    """The metric that failed."""
    field: str
    from_value: float | None
    to_value: float | None
    unit: str
    reason: str
    cost: str


@dataclass(frozen=True)
class NoRemedy:
    """Why nothing is done."""

    reason: str


def propose(
    results: Sequence[QualityResult],
    plan: Plan,
    maps: RunMaps,
    geometry: PatternGeometry | None,
    bad_pixels: Mask | None,
    fluence_left_e_per_a2: float,
    shortest_dwell_us: float = 0.0,
) -> Remedy | NoRemedy:
    """The remedy for the worst of what failed, if the plan's policy allows it and the area can bear it.

    Parameters
    ----------
    results : sequence of QualityResult
        What was judged.
    plan : Plan
        What was run; its policy says which remedies it allows.
    maps : RunMaps
        What was recorded.
    geometry, bad_pixels
        The calibrated disk and the pixels that are left out, or None.
    fluence_left_e_per_a2 : float
        What the area may still receive [e/Å²].
    shortest_dwell_us : float
        The detector's and the scan's shortest dwell [µs].
    """
    failed = [one for one in results if one.verdict is Verdict.FAIL]
    if not failed:
        return NoRemedy("nothing failed")
    spent = [one for one in failed if one.metric in ("dose.fluence", "dose.electrons")]
    if spent:
        return NoRemedy(NOT_MENDABLE[spent[0].metric])
    if clipped := [one for one in failed if one.metric.startswith("saturation.")]:
        found = _reduce_dwell(clipped, plan, maps, subject_of_plan(plan, maps, bad_pixels, geometry), shortest_dwell_us)
    elif any(one.metric == "descan.range" for one in failed):
        found = _recalibrate("correct_descan", "descan.range", "the pattern moves over the field")
    elif any(one.metric == "centring.margin" or _off_centre(one, plan) for one in failed):
        cause = next(one.metric for one in failed if one.metric.startswith("centring."))
        found = _recalibrate("recentre", cause, "the pattern lies off the middle of the detector")
    else:
        return NoRemedy(NOT_MENDABLE.get(failed[0].metric, f"nothing is known to mend {failed[0].metric}"))
    if isinstance(found, NoRemedy):
        return found
    if found.action not in plan.quality.remedies:
        return NoRemedy(f"{found.action} would mend it, and the plan's policy does not allow that")
    return _affordable(found, plan, maps, fluence_left_e_per_a2)


def changed(plan: Plan, remedy: Remedy) -> Plan:
    """The plan with a remedy's change in it; the dead time between dwell and exposure stays what it was.

    Raises
    ------
    ValueError
        If the changed plan is not a plan.
    """
    if remedy.to_value is None:
        return plan
    return apply_change(plan, Change(field=remedy.field, value=remedy.to_value, unit=remedy.unit))


def _off_centre(one: QualityResult, plan: Plan) -> bool:
    """Whether an angle is missing that a centred pattern would have."""
    centred = min(plan.detector.shape) / 2 * plan.mrad_per_pixel
    return one.metric == "centring.max_angle" and one.limit is not None and centred >= one.limit


def _reduce_dwell(
    clipped: Sequence[QualityResult], plan: Plan, maps: RunMaps, subject: Subject, shortest_dwell_us: float
) -> Remedy | NoRemedy:
    region = np.zeros(subject.shape, dtype=bool)
    for one in clipped:
        region |= _region(one, subject)
    full_scale = subject.full_scale or plan.detector.full_scale
    peak, how = _peak(maps, region, plan, full_scale)
    # The largest mean that with five sigma on top still fits.
    aim = (sqrt(ROOM * full_scale + 6.25) - 2.5) ** 2
    factor = min(aim / peak, LEAST_CUT)
    exposure = plan.exposure
    dead = exposure.dwell_time_us - exposure.live_time_us
    dwell = _rounded_down(exposure.live_time_us * factor + dead)
    factor = (dwell - dead) / exposure.live_time_us
    if dwell <= dead or dwell < shortest_dwell_us:
        return NoRemedy(
            f"a dwell of {dwell:g} µs would not clip, and {max(shortest_dwell_us, dead):g} µs is the shortest that "
            "the instrument has; a lower current or a longer camera length would do"
        )
    before = max(predict(plan).electrons_per_pattern, _counted(maps))
    short = _too_few(plan, before * factor)
    if short:
        return NoRemedy(
            f"a dwell of {dwell:g} µs would not clip, and leaves {before * factor:.3g} electrons a pattern: {short}; "
            "a longer camera length spreads the disk over more pixels instead"
        )
    return Remedy(
        action="reduce_dwell",
        cause=clipped[0].metric,
        field="exposure.dwell_time_us",
        from_value=exposure.dwell_time_us,
        to_value=dwell,
        unit="us",
        reason=f"{how}; full scale is {full_scale}",
        cost=f"{before:.4g} electrons a pattern become {before * factor:.4g}, noise grows {1 / sqrt(factor):.2g} times",
    )


def _region(one: QualityResult, subject: Subject) -> Mask:
    if one.metric == "saturation.disk":
        return subject.disk()
    if one.metric == "saturation.bragg":
        return subject.beyond_disk()
    looked = [wanted for wanted in subject.wanted if wanted.name == one.analysis]
    return subject.region(looked[0].inner_px, looked[0].outer_px) if looked else subject.region(0.0, np.inf)


def _peak(maps: RunMaps, region: Mask, plan: Plan, full_scale: int) -> tuple[float, str]:
    """Brightest mean counts of a region if the counter were deep enough, and how they are known."""
    rate = true_mean(maps.mean_pattern[region], full_scale)
    known = rate[np.isfinite(rate)]
    clear = maps.max_pattern[region] < full_scale
    if known.size <= rate.size / 2:
        planned = SPECIMEN_CREST * predict(plan).electrons_per_disk_pixel
        peak = max(BLIND_FACTOR * full_scale, planned)
        return peak, f"most of the region was always clipped; {peak:.4g} counts are assumed where it is brightest"
    peak = float(known.max())
    how = f"the brightest pixels held about {peak:.4g} counts"
    if clear.any():
        crest = SPECIMEN_CREST * float(np.median(rate[clear]))
        if crest > peak:
            peak, how = crest, f"{SPECIMEN_CREST:g} times the median of what was not clipped is {crest:.4g} counts"
    if known.size < rate.size and peak < AT_LEAST_FACTOR * full_scale:
        peak = AT_LEAST_FACTOR * full_scale
        how = f"some pixels were always clipped; {peak:.4g} counts are assumed for them"
    return peak, how


def _too_few(plan: Plan, electrons: float) -> str:
    """What needs more electrons than these, or nothing."""
    for asked in plan.analyses:
        limit = LIMITS.get(f"electrons_per_pattern/{asked.kind}")
        if limit is not None and electrons < limit.wanted:
            return f"{asked.kind} wants {limit.wanted:g}"
        if isinstance(asked, CentreOfMass) and asked.smallest_deflection_mrad is not None:
            noise = centre_of_mass_noise_mrad(plan.optics.convergence_semi_angle_mrad, electrons)
            if noise > asked.smallest_deflection_mrad:
                return f"noise of {noise:.2g} mrad hides deflections of {asked.smallest_deflection_mrad:g} mrad"
    return ""


def _counted(maps: RunMaps) -> float:
    return float(maps.total[maps.recorded].mean()) if maps.frames else 0.0


def _rounded_down(value: float) -> float:
    """Three figures, never longer."""
    scale = 10.0 ** (2 - floor(log10(value)))
    return float(f"{floor(value * scale) / scale:.3g}")


def _recalibrate(action: str, cause: str, what: str) -> Remedy:
    return Remedy(
        action=action,
        cause=cause,
        field="",
        from_value=None,
        to_value=None,
        unit="",
        reason=f"{what}: the calibration no longer holds and is made again before the next exposure",
        cost="a calibration in vacuum",
    )


def _affordable(remedy: Remedy, plan: Plan, maps: RunMaps, left: float) -> Remedy | NoRemedy:
    expected = predict(plan).electrons_per_pattern
    # Counts above plan mean a brighter beam, and the next exposure gets it too.
    needed = predict(changed(plan, remedy)).total_fluence_e_per_a2 * max(_counted(maps) / expected, 1.0)
    if needed > left * (1 + BUDGET_TOLERANCE):
        return NoRemedy(
            f"{remedy.action} would mend it, but exposing again takes {needed:.4g} e/Å² and the area has "
            f"{max(left, 0.0):.4g} e/Å² left"
        )
    return remedy.model_copy(update={"cost": f"{remedy.cost}; {needed:.4g} of the {left:.4g} e/Å² that are left"})
