"""Whether the targets of a night fit on their areas: the dose that several of them would give one."""

from collections.abc import Iterable

from stem4d.dose import BUDGET_TOLERANCE
from stem4d.errors import BadInput, some_of
from stem4d.plan import Plan
from stem4d.predict import predict


def crowded(named: Iterable[tuple[str, Plan]]) -> tuple[BadInput, ...]:
    """A complaint of each target that fits on none of its areas beside those before it; areas that are no one's.

    Each goes to its own area, or to the first of its spare areas that bears it. One that its area does not bear alone
    is the plan check's to refuse.
    """
    given: dict[tuple[str, str], list[tuple[str, float]]] = {}
    budgets: dict[tuple[str, str], tuple[str, float]] = {}
    problems = []
    for name, plan in named:
        sample, needs = plan.sample, predict(plan).total_fluence_e_per_a2
        first, budget = budgets.setdefault((sample.name, sample.area), (name, sample.fluence_budget_e_per_a2))
        if budget != sample.fluence_budget_e_per_a2:
            problems.append(_budgets_differ(name, plan, first, budget))
            continue
        allowed = budget * (1 + BUDGET_TOLERANCE)
        places = [(sample.name, area) for area in (sample.area, *sample.spare_areas)]
        fitting = (one for one in places if sum(dose for _who, dose in given.get(one, [])) + needs <= allowed)
        there = next(fitting, None)
        if there is None and given.get(places[0]):
            problems.append(_too_much(name, plan, needs, given[places[0]]))
            continue
        given.setdefault(there or places[0], []).append((name, needs))
    return tuple(problems)


def _budgets_differ(name: str, plan: Plan, first: str, budget: float) -> BadInput:
    sample = plan.sample
    return BadInput(
        field=f"target {name}: fluence_budget_e_per_a2",
        value=sample.fluence_budget_e_per_a2,
        limit=f"area {sample.area} of {sample.name} has {budget:g} by target {first}; an area has one budget",
        unit="e/Å²",
        remedy="State the same budget in both plans, or name another area",
    )


def _too_much(name: str, plan: Plan, needs: float, before: list[tuple[str, float]]) -> BadInput:
    sample, others = plan.sample, some_of(who for who, _dose in before)
    spent = sum(dose for _who, dose in before)
    spares = ", and no spare area bears it" if sample.spare_areas else ""
    return BadInput(
        field=f"target {name}: area {sample.area}",
        value=float(f"{spent + needs:.4g}"),
        limit=f"with {others} on it that is beyond the area's budget of {sample.fluence_budget_e_per_a2:g}{spares}",
        unit="e/Å²",
        remedy="Lower the dose, give it another area, or add spare_areas",
    )
