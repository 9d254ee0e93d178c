"""What a person is asked: whether a night begins, and whether a remedy is worth its dose. Nothing where nobody asks."""

from collections import defaultdict
from collections.abc import Sequence

from flows.approval import Decision, Question, ask_person
from stem4d.plan import Plan
from stem4d.predict import predict
from tasks.lab import Lab

ALLOWED = Decision("go_on", "")


def before_night(opened: Lab, title: str, plans: Sequence[Plan]) -> Decision:
    """Whether a night with these targets begins."""
    policy = opened.approval
    if policy is None or "night" not in policy.before:
        return ALLOWED
    seen = [(plan.sample, predict(plan)) for plan in plans]
    areas: dict[tuple[str, str], float] = defaultdict(float)
    for sample, one in seen:
        areas[sample.name, sample.area] += one.total_fluence_e_per_a2
    specimens = ", ".join(dict.fromkeys(sample.name for sample, _one in seen))
    question = Question(
        before="night",
        asked=f"{title}: {len(plans)} target{'s' * (len(plans) != 1)} on {specimens}, on {opened.file.name}.",
        suggestion="Begin the night",
        dose_cost_e_per_a2=max(areas.values()),
        time_cost_s=sum(one.total_time_s for _sample, one in seen),
    )
    return ask_person(opened, question, policy)


def before_remedy(opened: Lab, run: str, reason: str, remedy: str, plan_json: str) -> Decision:
    """Whether the next attempt at a target is made, by a plan that a remedy has changed."""
    policy = opened.approval
    if policy is None or "remedy" not in policy.before:
        return ALLOWED
    plan = Plan.model_validate_json(plan_json)
    predicted, where = predict(plan), f"area {plan.sample.area} of {plan.sample.name}"
    question = Question(
        before="remedy",
        asked=f"{plan.title or plan.name}, {run} on {where}: {reason.rstrip('; ')}.",
        suggestion=f"Once more: {remedy}",
        dose_cost_e_per_a2=predicted.total_fluence_e_per_a2,
        time_cost_s=predicted.total_time_s,
        run=run,
    )
    return ask_person(opened, question, policy)
