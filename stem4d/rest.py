"""What becomes of a target that was broken off: the whole again, the rest of its passes elsewhere, or nothing."""

from collections.abc import Mapping
from dataclasses import dataclass

from stem4d.dose import BUDGET_TOLERANCE
from stem4d.plan import Plan
from stem4d.predict import predict


@dataclass(frozen=True)
class Rest:
    """What is to be run, and why that; no plan where nothing is."""

    plan: Plan | None
    reason: str
    whole: bool = False
    """Whether every pass that was wanted is there already."""


def rest_of(
    plan: Plan,
    passes_done: int,
    *,
    lit: bool,
    left_e_per_a2: float,
    spare_left_e_per_a2: Mapping[str, float],
    survey: str | None = None,
    current_ratio: float = 1.0,
) -> Rest:
    """What of a plan is still to be done.

    Parameters
    ----------
    plan : Plan
        Of the run that was broken off.
    passes_done : int
        How many of its passes were recorded whole.
    lit : bool
        Whether its area received anything, or may have.
    left_e_per_a2 : float
        What its area may still receive [e/Å²].
    spare_left_e_per_a2 : mapping
        The same of its spare areas.
    survey : str, optional
        The last survey of the field before it was exposed: its approach finds the same field again by that, within half
        a step, or leaves it. None where there is none.
    current_ratio : float
        True over commanded current, as far as it is known.
    """
    total = plan.exposure.passes
    if not lit:
        return Rest(plan, "nothing had been exposed yet")
    if passes_done >= total:
        return Rest(None, f"all {total} passes had been recorded before", whole=True)
    missing = total - passes_done
    rest = _with(plan, passes=missing)
    needs = predict(rest).total_fluence_e_per_a2 * max(1.0, current_ratio)
    which = f"pass {passes_done + 1}" if missing == 1 else f"passes {passes_done + 1} to {total}"
    allowance = plan.sample.fluence_budget_e_per_a2 * BUDGET_TOLERANCE
    if survey is None or plan.approach is None:
        why = f"nothing finds the field on {plan.sample.area} again within half a step"
    elif needs > left_e_per_a2 + allowance:
        why = f"{plan.sample.area} has {left_e_per_a2:.4g} e/Å² left, and {which} of {total} need {needs:.4g}"
    else:
        approach = plan.approach.model_copy(update={"thumbnail": survey})
        words = "on the same field, where its survey finds it again within half a step"
        return Rest(rest.model_copy(update={"approach": approach}), f"{which} of {total} {words}")
    for area in plan.sample.spare_areas:
        if needs <= spare_left_e_per_a2.get(area, 0.0) + allowance:
            return Rest(_with(rest, area=area), f"{which} of {total} on spare area {area}, as {why}")
    spares = "none of its spare areas has the dose left" if plan.sample.spare_areas else "it has no spare area"
    return Rest(None, f"{which} of {total} not exposed: {why}, and {spares}")


def _with(plan: Plan, *, passes: int | None = None, area: str | None = None) -> Plan:
    if passes is not None:
        plan = plan.model_copy(update={"exposure": plan.exposure.model_copy(update={"passes": passes})})
    if area is not None:
        spares = tuple(one for one in plan.sample.spare_areas if one != area)
        sample = plan.sample.model_copy(update={"area": area, "spare_areas": spares})
        plan = plan.model_copy(update={"sample": sample})
    return plan
