"""Another area of the specimen, which the plan names as a spare one."""

from collections.abc import Sequence

from stem4d.dose import BUDGET_TOLERANCE
from stem4d.predict import predict
from stem4d.quality.remedies.counts import LEAST_CUT, fewer_for
from stem4d.quality.remedies.remedy import AREA, NoRemedy, Remedy, Setting, Situation
from stem4d.verdict import QualityResult


def spare_area(now: Situation, causes: Sequence[QualityResult]) -> Remedy | NoRemedy:
    """The first spare area that can bear the exposure; with less of it where the dose itself did the harm."""
    harmed = causes[0].metric.startswith("damage.")
    changes: list[Setting] = []
    plan_needs = predict(now.plan).total_fluence_e_per_a2 * now.booked_ratio
    bears = max(now.means.spare_left_e_per_a2.values(), default=0.0)
    factor = min(LEAST_CUT if harmed else 1.0, bears * (1 + BUDGET_TOLERANCE) / plan_needs)
    if now.plan.sample.spare_areas and factor < 1:
        less = fewer_for(now, factor) if factor > 0 else NoRemedy("no spare area has dose left")
        if isinstance(less, NoRemedy):
            return less
        changes.append(less)
    share = float(changes[0].after) / float(changes[0].before) if changes else 1.0
    moved = to_spare(now, plan_needs * share)
    if isinstance(moved, NoRemedy):
        return moved
    what = "the same dose would do the same harm" if harmed else "this one is not to be exposed again"
    return Remedy(
        action="spare_area",
        cause=causes[0].metric,
        changes=(moved, *changes),
        reason=f"{moved.after} is the next spare area; {what}",
        cost="an area of the specimen",
    )


def to_spare(now: Situation, needed_e_per_a2: float) -> Setting | NoRemedy:
    """The change to the first spare area that has so much dose left."""
    sample = now.plan.sample
    if not sample.spare_areas:
        return NoRemedy("the plan states no spare areas")
    for name in sample.spare_areas:
        if needed_e_per_a2 <= now.means.spare_left_e_per_a2.get(name, 0.0) * (1 + BUDGET_TOLERANCE):
            return Setting(field=AREA, before=sample.area, after=name)
    return NoRemedy(f"none of the spare areas ({', '.join(sample.spare_areas)}) has {needed_e_per_a2:.4g} e/Å² left")
