"""What happened in a night? Its targets in order, their runs, what was judged and mended, predicted and actual cost."""

import json
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session, aliased

from db.models import AnalysisResult, Area, Event, Night, Plan, QualityResult, Remedy, Run, Sample, Target
from db.questions.plain import plain, plain_rows
from db.rows import named
from stem4d.errors import BadInput

_EVIDENCE: dict[str, Any] = {"quality": QualityResult, "remedies": Remedy, "analyses": AnalysisResult}
COSTS = ("seconds", "bytes", "fluence_e_per_a2")
Pair = tuple[float | None, float | None]
"""Predicted and actual."""


def night_story(session: Session, *, name: str | None = None) -> dict[str, Any]:
    """The night with this public name, the latest without one; raises `BadInput` if there is none.

    Returns
    -------
    dict
        Columns of the night, its `document`, `targets` in their order (each with `as_expected`, its plan's name and its
        `runs` with quality, remedies and analyses), `cost` (predicted and actual sums over runs that have both) and
        `events` that belong to no run.
    """
    night = night_row(session, name=name)
    runs = _runs_by_target(session, night.id)
    targets = [
        {
            **plain(target, "night_id", "plan_id"),
            "plan": plan_name,
            "as_expected": None if target.expected_state is None else target.state == target.expected_state,
            "runs": runs.get(target.id, []),
        }
        for target, plan_name in session.execute(
            select(Target, Plan.name)
            .outerjoin(Plan, Target.plan_id == Plan.id)
            .where(Target.night_id == night.id)
            .order_by(Target.position)
        )
    ]
    told = [run for target in targets for run in target["runs"]]
    return {
        **plain(night, "canonical_json"),
        "document": json.loads(night.canonical_json),
        "targets": targets,
        "cost": cost_sums(
            {cost: [(run[f"predicted_{cost}"], run[f"actual_{cost}"]) for run in told] for cost in COSTS}
        ),
        "events": plain_rows(
            session.scalars(select(Event).filter_by(night_id=night.id, run_id=None).order_by(Event.sequence)), "run_id"
        ),
    }


def night_row(session: Session, *, name: str | None) -> Night:
    """The row of a night, of the latest without a name; raises `BadInput` if there is none."""
    return _latest(session) if name is None else named(session, Night, name, "`nightbeam nights` lists them")


def _latest(session: Session) -> Night:
    night = session.scalars(select(Night).order_by(Night.id.desc()).limit(1)).one_or_none()
    if night is None:
        raise BadInput(field="night", value="the latest", limit="no night has been run here yet")
    return night


def _runs_by_target(session: Session, night_id: int) -> dict[int, list[dict[str, Any]]]:
    # A few statements for the whole night: some for each run would take half a second for a hundred runs.
    of_night = select(Run.id).join(Target, Run.target_id == Target.id).where(Target.night_id == night_id)
    evidence = {key: _by_run(session, table, of_night) for key, table in _EVIDENCE.items()}
    parent = aliased(Run)
    told: dict[int, list[dict[str, Any]]] = {}
    for run, area, sample, parent_name in session.execute(
        select(Run, Area.name, Sample.name, parent.name)
        .join(Area, Run.area_id == Area.id)
        .join(Sample, Area.sample_id == Sample.id)
        .outerjoin(parent, Run.parent_id == parent.id)
        .where(Run.id.in_(of_night))
        .order_by(Run.id)
    ):
        told.setdefault(run.target_id, []).append(
            {
                **plain(run, "plan_id", "target_id", "area_id", "environment_id", "parent_id", "session_id"),
                "sample": sample,
                "area": area,
                "parent": parent_name,
                **{key: rows.get(run.id, []) for key, rows in evidence.items()},
            }
        )
    return told


def _by_run(session: Session, table: Any, runs: Select[tuple[int]]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for row in session.scalars(select(table).where(table.run_id.in_(runs)).order_by(table.id)):
        found.setdefault(row.run_id, []).append(plain(row, "run_id"))
    return found


def cost_sums(pairs: dict[str, list[Pair]]) -> dict[str, dict[str, float]]:
    """Predicted and actual costs over those runs that have both: a refused one predicts, and does not spend."""
    totals = {}
    for cost, found in pairs.items():
        known = [(predicted, actual) for predicted, actual in found if predicted is not None and actual is not None]
        totals[cost] = {"predicted": sum(p for p, _ in known), "actual": sum(a for _, a in known), "runs": len(known)}
    return totals
