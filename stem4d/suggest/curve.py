"""The trade-off: for targets finer and coarser than the goal's, the least fluence and time that carry them."""

from math import inf

from pydantic import ValidationError

from stem4d.goal import Goal
from stem4d.plan import Analysis
from stem4d.suggest.answer import TradePoint
from stem4d.suggest.search import Search, with_goal

FACTORS = (0.5, 0.63, 0.8, 1.0, 1.25, 1.6, 2.0, 3.0, 4.5)
"""Targets of the curve over the goal's; below 1 is finer."""
_SCALED = (("target_d_a", "Å"), ("target_strain", "strain"), ("smallest_feature_nm", "nm"))
"""What of an analysis is varied, the first that it has."""


def trade_off(search: Search) -> tuple[TradePoint, ...]:
    """The curve of a goal, from fine to coarse; empty where no analysis states a target."""
    varied = next((found for each in search.goal.analyses if (found := _target(each)) is not None), None)
    if varied is None:
        return ()
    name, unit, asked = varied
    points: list[TradePoint] = []
    for factor in FACTORS:
        point = _point(search, name, unit, asked, factor)
        # What carries a finer target carries this one: the grid of settings must not make a coarser one dearer.
        finer = min((each for each in points if each.feasible), key=_fluence, default=None)
        if finer is not None and (not point.feasible or _fluence(finer) < _fluence(point)):
            point = finer.model_copy(update={"target": point.target, "relaxed_by": factor})
        points.append(point)
    return tuple(points)


def _fluence(point: TradePoint) -> float:
    return inf if point.fluence_e_per_a2 is None else point.fluence_e_per_a2


def _target(analysis: Analysis) -> tuple[str, str, float] | None:
    for name, unit in _SCALED:
        value = getattr(analysis, name, None)
        if value is not None:
            return name, unit, value
    return None


def _point(search: Search, name: str, unit: str, asked: float, factor: float) -> TradePoint:
    goal = _scaled(search.goal, name, factor)
    best = None if goal is None else with_goal(search, goal).best(coarse=True)
    fine = best is not None and not best.failing
    return TradePoint(
        target=asked * factor,
        unit=unit,
        relaxed_by=factor,
        fluence_e_per_a2=best.predicted.total_fluence_e_per_a2 if best is not None and fine else None,
        time_s=best.predicted.total_time_s if best is not None and fine else None,
        raw_bytes=best.predicted.raw_bytes if best is not None and fine else None,
        feasible=fine,
        limited_by="" if fine else best.failing[0] if best is not None else "no setting of the instrument",
    )


def _scaled(goal: Goal, name: str, factor: float) -> Goal | None:
    """The goal with this target of every analysis that has it scaled, and the least dose asked for."""
    document = goal.model_dump() | {"dose": "as_needed"}
    for analysis in document["analyses"]:
        if analysis.get(name) is not None:
            analysis[name] *= factor
    try:
        return Goal.model_validate(document)
    except ValidationError:
        return None  # Beyond the bounds of the vocabulary.
