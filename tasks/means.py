"""What a target has left for mending: the dose of its area and of its spare areas, time, attempts."""

from collections.abc import Sequence

from stem4d.plan import Plan
from stem4d.quality.remedies.remedy import Means
from tasks.lab import Lab
from tasks.record import area_key, fluence_left_e_per_a2


def means_of(opened: Lab, runs: Sequence[str], current_ratio: float) -> Means:
    """What may be used after the last of these attempts."""
    plan = opened.runs[runs[-1]].plan
    return Means(
        fluence_left_e_per_a2=fluence_left_e_per_a2(opened, runs[-1]),
        spare_left_e_per_a2=spare_left(opened, plan),
        seconds_left=mending_left_s(opened, runs),
        attempts_left=plan.quality.max_attempts - len(runs),
        current_ratio=current_ratio,
        facts=opened.file.facts,
    )


def mending_left_s(opened: Lab, runs: Sequence[str]) -> float:
    """Of the time that the policy allows for all after the first attempt, on the instrument's clock [s]."""
    allowed = 60 * opened.runs[runs[0]].plan.quality.max_mending_min
    if len(runs) < 2:
        return allowed
    return allowed - (opened.instrument.now_s() - opened.runs[runs[1]].opened_s)


def spare_left(opened: Lab, plan: Plan) -> dict[str, float]:
    """Each spare area with what it may still receive; one that was never used has the plan's budget."""
    budget = plan.sample.fluence_budget_e_per_a2
    left = {}
    for name in plan.sample.spare_areas:
        key = area_key(plan, name)
        left_there = opened.recorder.left_e_per_a2(key)
        # A budget is not changed by a plan: an area with another one is not this plan's to use. Nor is one of which
        # nothing is known while the database is away.
        if left_there is not None and opened.recorder.accounts.budget_e_per_a2(key) == budget:
            left[name] = left_there
    return left
