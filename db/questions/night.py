"""What happened in a night? Its targets in order, their runs, what was judged and mended, predicted and actual cost."""

import json
from typing import Any

from sqlalchemy import Select, bindparam, select
from sqlalchemy.orm import Session

from db.models import AnalysisResult, Area, Base, Event, Night, Plan, QualityResult, Remedy, Run, Sample, Target
from db.questions.plain import columns, plain, plain_rows, told
from db.questions.planning import plan_once
from db.rows import named
from stem4d.errors import BadInput

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
    plan_once(session)
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
    ran = [run for target in targets for run in target["runs"]]
    return {
        **plain(night, "canonical_json"),
        "document": json.loads(night.canonical_json),
        "targets": targets,
        "cost": cost_sums({cost: [(run[f"predicted_{cost}"], run[f"actual_{cost}"]) for run in ran] for cost in COSTS}),
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


_run, _target, _area, _sample = (table.__table__.c for table in (Run, Target, Area, Sample))
_earlier = Run.__table__.alias()
_OF_NIGHT = (
    select(_run.id).join(Target.__table__, _run.target_id == _target.id).where(_target.night_id == bindparam("night"))
)
_RUNS = (
    select(
        *columns(Run, "plan_id", "area_id", "environment_id", "parent_id", "session_id"),
        _sample.name.label("sample"),
        _area.name.label("area"),
        _earlier.c.name.label("parent"),
    )
    .join(Area.__table__, _run.area_id == _area.id)
    .join(Sample.__table__, _area.sample_id == _sample.id)
    .outerjoin(_earlier, _run.parent_id == _earlier.c.id)
    .where(_run.id.in_(_OF_NIGHT))
    .order_by(_run.id)
)


def _of_runs(table: type[Base]) -> Select[Any]:
    every = table.__table__.c
    return select(*columns(table)).where(every.run_id.in_(_OF_NIGHT)).order_by(every.id)


_EVIDENCE = {"quality": _of_runs(QualityResult), "remedies": _of_runs(Remedy), "analyses": _of_runs(AnalysisResult)}


def _runs_by_target(session: Session, night_id: int) -> dict[int, list[dict[str, Any]]]:
    # A few statements for the whole night: some for each run would take half a second for a hundred runs.
    evidence = {key: _by_run(session, wanted, night_id) for key, wanted in _EVIDENCE.items()}
    runs: dict[int, list[dict[str, Any]]] = {}
    for run in told(session.execute(_RUNS, {"night": night_id})):
        run |= {key: rows.get(run["id"], []) for key, rows in evidence.items()}
        runs.setdefault(run.pop("target_id"), []).append(run)
    return runs


def _by_run(session: Session, wanted: Select[Any], night_id: int) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for row in told(session.execute(wanted, {"night": night_id})):
        found.setdefault(row.pop("run_id"), []).append(row)
    return found


def cost_sums(pairs: dict[str, list[Pair]]) -> dict[str, dict[str, float]]:
    """Predicted and actual costs over those runs that have both: a refused one predicts, and does not spend."""
    totals = {}
    for cost, found in pairs.items():
        known = [(predicted, actual) for predicted, actual in found if predicted is not None and actual is not None]
        totals[cost] = {"predicted": sum(p for p, _ in known), "actual": sum(a for _, a in known), "runs": len(known)}
    return totals
