"""Findings of one check whose remedies pull one setting both ways: each says so of the other."""

from collections.abc import Sequence

from stem4d.plan import Plan
from stem4d.rules.advice import setting
from stem4d.verdict import Finding


def with_conflicts(plan: Plan, findings: Sequence[Finding]) -> tuple[Finding, ...]:
    """The findings, with what contradicts them added to their remedies.

    What one change makes worse elsewhere is said with the change itself, in stem4d/rules/advice.py.
    """
    moves = [(each, _way(plan, each)) for each in findings if each.change is not None]
    return tuple(_told(each, moves, plan) for each in findings)


def _way(plan: Plan, finding: Finding) -> float:
    return finding.change.value - setting(plan, finding.change.field) if finding.change is not None else 0.0


def _told(finding: Finding, moves: Sequence[tuple[Finding, float]], plan: Plan) -> Finding:
    if finding.change is None:
        return finding
    mine, field = _way(plan, finding), finding.change.field
    against = [
        each.quantity
        for each, way in moves
        if each.change is not None and each.change.field == field and way * mine < 0
    ]
    if not against:
        return finding
    named = ", ".join(dict.fromkeys(against))
    text = f"{finding.remedy} It conflicts with what mends {named}, which takes {field} the other way."
    return finding.model_copy(update={"remedy": text})
