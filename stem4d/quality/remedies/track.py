"""Following the specimen: the scanned field moves with it, as reference scans between the passes tell."""

from collections.abc import Sequence

from stem4d.quality.remedies.remedy import TRACK, NoRemedy, Remedy, Setting, Situation
from stem4d.quality.remedies.settle import reference_fluence_e_per_a2
from stem4d.verdict import QualityResult

LEAST_BASELINE_S = 2.0
"""Between the two reference scans that begin; as long as a pass where that is longer, so that the error of the rate
comes to no more over a pass than the registration's own, a twentieth of a step."""


def track(now: Situation, causes: Sequence[QualityResult]) -> Remedy | NoRemedy:
    """Move the field with the specimen, during each pass and from one to the next."""
    if now.plan.exposure.track_drift:
        return NoRemedy("the field followed the specimen already")
    if not any(one.metric in ("drift.rate", "drift.in_pass") for one in causes):
        return NoRemedy(f"{causes[0].metric} is no steady drift that could be followed")
    scans = now.plan.exposure.passes + 1
    scan = reference_fluence_e_per_a2(now.plan, now.shortest_dwell_us)
    baseline_s = baseline_s_of(now.pass_time_s)
    return Remedy(
        action="track",
        cause=causes[0].metric,
        changes=(Setting(field=TRACK, before=False, after=True),),
        reason="the field is moved with the specimen, at the rate that reference scans show",
        cost=f"{scans} reference scans of {scan:.3g} e/Å²",
        fluence_e_per_a2=scans * scan * now.booked_ratio,
        seconds=baseline_s,
    )


def baseline_s_of(pass_time_s: float) -> float:
    """Time between the two reference scans before the first pass [s]."""
    return max(LEAST_BASELINE_S, pass_time_s)
