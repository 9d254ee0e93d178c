"""What was seen, what was tried, what it cost and what came of it: all attempts of a target, in order."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, bindparam, select
from sqlalchemy.orm import Session

from db.models import Area, DoseEntry, Event, ExposureIntent, QualityResult, Remedy, Run
from db.questions.among import among
from db.questions.plain import columns, told
from db.rows import existing
from db.vocabulary import VACUUM

TOOK = "took"
"""Kind of the event that says how long a run had the instrument."""


def attempts_of(session: Session, run: Run) -> list[dict[str, Any]]:
    """Every attempt that a run is one of, the first one first.

    Returns
    -------
    list of dict
        ``run``, ``attempt``, ``area``, ``state``, ``verdict``, ``exit_reason``; ``seen``: the figures that failed, with
        their limits; ``tried``: the remedies that were chosen then, for the attempt after it; ``fluence_e_per_a2``:
        what its exposures gave specimens, reference scans included, None where one was never closed; ``seconds`` of
        the instrument's time, waiting included, None where nothing says it.
    """
    chain = _chain(session, run)
    ids = {"runs": [one.id for one in chain]}
    areas = dict(session.execute(_AREAS, ids).tuples().all())
    took = {run_id: data["seconds"] if data else None for run_id, data in session.execute(_TOOK, ids)}
    failed, tried, given = (session.execute(wanted, ids).all() for wanted in (_FAILED, _TRIED, _GIVEN))
    return [
        {
            "run": one.name,
            "attempt": one.attempt,
            "area": areas[one.id],
            "state": one.state,
            "verdict": one.verdict,
            "exit_reason": one.exit_reason,
            "seen": _seen([each for each in failed if each.run_id == one.id]),
            "tried": told([each for each in tried if each.run_id == one.id], "id", "run_id"),
            "fluence_e_per_a2": _fluence([delivered for run_id, delivered in given if run_id == one.id]),
            "seconds": took.get(one.id),
        }
        for one in chain
    ]


_FIRST_CHILD = select(Run).where(Run.parent_id == bindparam("run")).order_by(Run.id).limit(1)


def _chain(session: Session, run: Run) -> list[Run]:
    chain = [run]
    while chain[0].parent_id is not None:
        chain.insert(0, existing(session, Run, chain[0].parent_id))
    while (child := session.scalars(_FIRST_CHILD, {"run": chain[-1].id}).one_or_none()) is not None:
        chain.append(child)
    return chain


_run, _area, _event, _remedy = (table.__table__.c for table in (Run, Area, Event, Remedy))
_figure, _exposure, _entry = (table.__table__.c for table in (QualityResult, ExposureIntent, DoseEntry))
# Of all attempts at once. The last of several events of a run counts, also where it has no data.
_AREAS = select(_run.id, _area.name).join(Area.__table__, _run.area_id == _area.id).where(among(_run.id, "runs"))
_TOOK = (
    select(_event.run_id, _event.data)
    .where(among(_event.run_id, "runs"), _event.kind == TOOK)
    .order_by(_event.sequence)
)
_FAILED = (
    select(*columns(QualityResult))
    .where(among(_figure.run_id, "runs"), _figure.verdict == "fail", _figure.stage != "plan")
    .order_by(_figure.id)
)
_TRIED = select(*columns(Remedy)).where(among(_remedy.run_id, "runs")).order_by(_remedy.id)
_GIVEN = (
    select(_exposure.run_id, _entry.delivered_e_per_a2)
    .join(Area.__table__, _exposure.area_id == _area.id)
    .outerjoin(DoseEntry.__table__, _entry.intent_id == _exposure.id)
    .where(among(_exposure.run_id, "runs"), _area.name != VACUUM)
    .order_by(_exposure.id)
)


def _seen(failed: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    """What failed in the data, once where it was seen between passes and at the end."""
    seen = {(one.metric, one.analysis): one for one in failed}
    return told(seen.values(), "id", "run_id", "verdict")


def _fluence(given: Sequence[float | None]) -> float | None:
    return None if None in given else sum((one for one in given if one is not None), start=0.0)
