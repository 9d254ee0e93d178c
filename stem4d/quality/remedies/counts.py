"""How much less beam does not clip, how much is needed all the same, and which change of the plan gives that."""

from collections.abc import Sequence
from math import ceil, floor, log10, sqrt

import numpy as np

from stem4d.calibrate.pixels import Mask
from stem4d.dose import SPECIMEN_CREST, centre_of_mass_noise_mrad
from stem4d.plan import CentreOfMass, Plan
from stem4d.predict import predict
from stem4d.quality.clipping import true_mean
from stem4d.quality.regions import Subject
from stem4d.quality.remedies.remedy import NoRemedy, Remedy, Setting, Situation
from stem4d.rules.limits import LIMITS
from stem4d.verdict import QualityResult

ROOM = 0.9
"""Part of full scale that the brightest pixel and five sigma of it may reach after the remedy."""
BLIND_FACTOR = 4.0
"""Where half of the region or more was always clipped its true level is unknown: taken as so many full scales."""
AT_LEAST_FACTOR = 2.0
"""Where some pixels were always clipped they held at least full scale: taken as so many of them."""
LEAST_CUT = 0.5
"""The beam is at least halved: what clipped although it should have fitted was brighter than its mean tells."""
MOST_PASSES = 16
"""A pass is split into so many at most: beyond it what is left of each is a matter of the detector's noise (habit)."""
DRIFT_ROOM = 1.25
"""A pass is made so much shorter than its drift demands: the next rate is not known better."""


def reduce_dwell(now: Situation, causes: Sequence[QualityResult]) -> Remedy | NoRemedy:
    """A shorter dwell, down to the shortest of the instrument, where enough electrons are left."""
    aimed, how = _factor(now, causes)
    exposure, shortest = now.plan.exposure, now.shortest_dwell_us
    dead = exposure.dwell_time_us - exposure.live_time_us
    dwell = rounded_down(exposure.live_time_us * aimed + dead)
    if dwell <= dead or dwell < shortest:
        return NoRemedy(
            f"a dwell of {dwell:g} µs would not clip, and {max(shortest, dead):g} µs is the shortest that the "
            "instrument has"
        )
    factor = (dwell - dead) / exposure.live_time_us
    change = Setting(field="exposure.dwell_time_us", before=exposure.dwell_time_us, after=dwell, unit="us")
    return _fewer(now, causes, "reduce_dwell", change, factor, how)


def reduce_current(now: Situation, causes: Sequence[QualityResult]) -> Remedy | NoRemedy:
    """A lower current, down to the instrument's lowest: what a count rate needs, and where no shorter dwell is left."""
    aimed, how = _factor(now, causes)
    before, facts = now.plan.optics.probe_current_pa, now.means.facts
    current = rounded_down(before * aimed)
    if facts is not None and current < facts.probe_current_pa.lowest:
        lowest = facts.probe_current_pa.lowest
        return NoRemedy(f"a current of {current:g} pA would not clip, and {lowest:g} pA is the lowest")
    change = Setting(field="optics.probe_current_pa", before=before, after=current, unit="pA")
    return _fewer(now, causes, "reduce_current", change, current / before, how)


def split_passes(now: Situation, causes: Sequence[QualityResult]) -> Remedy | NoRemedy:
    """The same dose in more and shorter passes: each clips less and drifts less."""
    if causes[0].metric.startswith("drift."):
        if now.plan.quality.max_drift_nm_per_min is not None:
            return NoRemedy("the plan limits the rate itself, which shorter passes do not change")
        value, limit = causes[0].value, causes[0].limit
        if not value or not limit:
            return NoRemedy("how much shorter a pass has to be is not known")
        parts = ceil(DRIFT_ROOM * value / limit)
        how = f"{value:.3g} nm/min are {value / limit:.2g} times what one pass bears"
    else:
        aimed, how = _factor(now, causes)
        parts = ceil(1 / aimed)
    exposure = now.plan.exposure
    parts = max(parts, 2)
    passes = exposure.passes * parts
    dead = exposure.dwell_time_us - exposure.live_time_us
    dwell = float(f"{exposure.live_time_us / parts + dead:.6g}")
    if parts > MOST_PASSES or passes > 1000:
        return NoRemedy(f"it would take {passes} passes; {MOST_PASSES} for each is the most that is done unasked")
    if dwell < now.shortest_dwell_us:
        return NoRemedy(f"passes of {dwell:g} µs would do, and {now.shortest_dwell_us:g} µs is the shortest dwell")
    before = max(predict(now.plan).electrons_per_pattern, now.counted)
    if short := too_few(now.plan, before / parts):
        return NoRemedy(f"a pass of {dwell:g} µs leaves {before / parts:.3g} electrons a pattern: {short}")
    wanted = LIMITS["pass_fluence"].wanted
    if (fluence := predict(now.plan).local_fluence_e_per_a2 / parts) < wanted:
        return NoRemedy(f"a pass of {fluence:.3g} e/Å² is too faint to be registered; it takes {wanted:g} e/Å²")
    return Remedy(
        action="split_passes",
        cause=causes[0].metric,
        changes=(
            Setting(field="exposure.passes", before=exposure.passes, after=passes),
            Setting(field="exposure.dwell_time_us", before=exposure.dwell_time_us, after=dwell, unit="us"),
        ),
        reason=how,
        cost=f"{parts} times the frames, {before / parts:.4g} electrons in a pattern of one pass",
    )


def fewer_for(now: Situation, factor: float) -> Setting | NoRemedy:
    """The dwell that gives this part of the electrons, where it is possible and enough."""
    exposure = now.plan.exposure
    dead = exposure.dwell_time_us - exposure.live_time_us
    dwell = rounded_down(exposure.live_time_us * factor + dead)
    if dwell <= dead or dwell < now.shortest_dwell_us:
        return NoRemedy(f"it takes a dwell of {dwell:g} µs, and {now.shortest_dwell_us:g} µs is the shortest")
    # Counts are what the beam gives, which may be more than was planned; the plan's own electrons count then.
    if short := too_few(now.plan, predict(now.plan).electrons_per_pattern * now.booked_ratio * factor):
        return NoRemedy(f"a dwell of {dwell:g} µs is too short: {short}")
    return Setting(field="exposure.dwell_time_us", before=exposure.dwell_time_us, after=dwell, unit="us")


def too_few(plan: Plan, electrons: float) -> str:
    """What needs more electrons in a pattern than these, or nothing."""
    for asked in plan.analyses:
        limit = LIMITS.get(f"electrons_per_pattern/{asked.kind}")
        if limit is not None and electrons < limit.wanted:
            return f"{asked.kind} wants {limit.wanted:g}"
        if isinstance(asked, CentreOfMass) and asked.smallest_deflection_mrad is not None:
            noise = centre_of_mass_noise_mrad(plan.optics.convergence_semi_angle_mrad, electrons)
            if noise > asked.smallest_deflection_mrad:
                return f"noise of {noise:.2g} mrad hides deflections of {asked.smallest_deflection_mrad:g} mrad"
    return ""


def rounded_down(value: float) -> float:
    """Three figures, never more."""
    scale = 10.0 ** (2 - floor(log10(value)))
    return float(f"{floor(value * scale) / scale:.3g}")


def _fewer(
    now: Situation, causes: Sequence[QualityResult], action: str, change: Setting, factor: float, how: str
) -> Remedy | NoRemedy:
    """A change that leaves this part of the electrons, where that is enough."""
    before = max(predict(now.plan).electrons_per_pattern, now.counted)
    if short := too_few(now.plan, before * factor):
        return NoRemedy(
            f"{change} would not clip, and leaves {before * factor:.3g} electrons a pattern: {short}; "
            "a longer camera length spreads the disk over more pixels instead"
        )
    return Remedy.model_validate(
        {
            "action": action,
            "cause": causes[0].metric,
            "changes": (change,),
            "reason": how,
            "cost": f"{before:.4g} electrons a pattern become {before * factor:.4g}, "
            f"noise grows {1 / sqrt(factor):.2g} times",
        }
    )


def _factor(now: Situation, causes: Sequence[QualityResult]) -> tuple[float, str]:
    """Part of the beam that fits, and how that is known."""
    by_rate = [one for one in causes if _of_rate(one) and one.value and one.limit]
    if by_rate:
        worst = max(by_rate, key=lambda one: (one.value or 0.0) / (one.limit or 1.0))
        assert worst.value is not None
        assert worst.limit is not None
        how = f"{worst.value:.3g} {worst.unit} are more than {worst.limit:.3g} {worst.unit}"
        return min(ROOM * worst.limit / worst.value, LEAST_CUT), how
    subject = now.subject
    region = np.zeros(subject.shape, dtype=bool)
    for one in causes:
        region |= _region(one, subject)
    full_scale = subject.full_scale or now.plan.detector.full_scale
    peak, how = _peak(now, region, full_scale)
    # The largest mean that with five sigma on top still fits.
    aim = (sqrt(ROOM * full_scale + 6.25) - 2.5) ** 2
    return min(aim / peak, LEAST_CUT), f"{how}; full scale is {full_scale}"


def _of_rate(one: QualityResult) -> bool:
    return one.metric == "saturation.rate"


def _region(one: QualityResult, subject: Subject) -> Mask:
    if one.metric == "saturation.disk":
        return subject.disk()
    if one.metric == "saturation.bragg":
        return subject.beyond_disk()
    looked = [wanted for wanted in subject.wanted if wanted.name == one.analysis]
    return subject.region(looked[0].inner_px, looked[0].outer_px) if looked else subject.region(0.0, np.inf)


def _peak(now: Situation, region: Mask, full_scale: int) -> tuple[float, str]:
    """Brightest mean counts of a region if the counter were deep enough, and how they are known."""
    rate = true_mean(now.maps.mean_pattern[region], full_scale)
    known = rate[np.isfinite(rate)]
    clear = now.maps.max_pattern[region] < full_scale
    if known.size <= rate.size / 2:
        planned = SPECIMEN_CREST * predict(now.plan).electrons_per_disk_pixel
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
