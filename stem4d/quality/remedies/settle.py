"""Waiting until drift has settled, watched by reference scans that cost little of the area's dose."""

from collections.abc import Sequence

from stem4d.dose import electrons, local_fluence_e_per_a2
from stem4d.optics import defocused_probe_diameter_a
from stem4d.plan import Plan
from stem4d.quality.remedies.remedy import NoRemedy, Remedy, Situation, Wait
from stem4d.verdict import QualityResult

REFERENCE_ELECTRONS = 1e3
"""In a pattern of a reference scan: few, as the images are registered as wholes."""
FIRST_INTERVAL_S = 30.0
"""Before the first look: a stage that was just moved settles within minutes."""
LONGER = 1.5
"""Each wait over the one before: it settles within minutes at first, then within hours."""
MOST_LOOKS = 30
"""The last of them is after months: more than any policy has time for."""
RATE = "nm/min"
SCANS = 2
"""Reference scans that tell the rate once."""
LONGEST_BASELINE_S = 30.0
"""Between the two: 0.1 nm/min move a tenth of a step of 0.5 nm in that time."""
REACH = 0.2
"""Part of the field that the specimen may move between the two at the rate that failed: they overlap by the rest."""


def settle(now: Situation, causes: Sequence[QualityResult]) -> Remedy | NoRemedy:
    """Wait for the rate that the failing figure was held against."""
    known = [(one.limit, one.value) for one in causes if one.unit == RATE and one.limit and one.value]
    if not known:
        return NoRemedy("which drift would do is not known")
    limit, rate = min(known)
    baseline_s = min(60 * REACH * min(now.plan.scan.field_nm) / rate, LONGEST_BASELINE_S)
    if now.means.seconds_left < FIRST_INTERVAL_S:
        return NoRemedy(f"of the time for mending {max(now.means.seconds_left, 0.0):.0f} s are left")
    scan = reference_fluence_e_per_a2(now.plan, now.shortest_dwell_us)
    return Remedy(
        action="settle",
        cause=causes[0].metric,
        wait=Wait(below_nm_per_min=limit, baseline_s=baseline_s),
        reason=f"the specimen may settle below {limit:.3g} nm/min",
        cost=f"waiting, and {scan:.3g} e/Å² for each of two reference scans a look",
        fluence_e_per_a2=SCANS * scan * now.booked_ratio,
        seconds=FIRST_INTERVAL_S + baseline_s,
    )


def reference_dwell_us(plan: Plan, shortest_us: float) -> float:
    """Dwell of a reference scan: as long as its electrons need, never longer than the plan's own [µs]."""
    needed = REFERENCE_ELECTRONS / electrons(plan.optics.probe_current_pa, 1.0)
    return min(plan.exposure.dwell_time_us, max(needed, shortest_us))


def reference_fluence_e_per_a2(plan: Plan, shortest_us: float) -> float:
    """What a reference scan over the plan's own positions gives where it gives most [e/Å²]."""
    column = plan.optics
    probe_a = defocused_probe_diameter_a(
        column.beam_energy_kev, column.convergence_semi_angle_mrad, column.defocus_nm, column.spherical_aberration_mm
    )
    dwell = reference_dwell_us(plan, shortest_us)
    return local_fluence_e_per_a2(column.probe_current_pa, dwell, plan.scan.step_nm, probe_a)


def waits_s(seconds: float, baseline_s: float) -> list[float]:
    """Waits before each look that fit into so many seconds, the looks included."""
    fitting: list[float] = []
    wait, total = FIRST_INTERVAL_S, 0.0
    while total + wait + baseline_s <= seconds and len(fitting) < MOST_LOOKS:
        fitting.append(wait)
        total, wait = total + wait + baseline_s, wait * LONGER
    return fitting
