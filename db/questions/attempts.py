"""What was seen, what was tried, what it cost and what came of it: all attempts of a target, in order."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Area, DoseEntry, Event, ExposureIntent, QualityResult, Remedy, Run
from db.questions.plain import plain
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
    return [_attempt(session, one) for one in _chain(session, run)]


def _chain(session: Session, run: Run) -> list[Run]:
    chain = [run]
    while chain[0].parent_id is not None:
        chain.insert(0, existing(session, Run, chain[0].parent_id))
    while (
        child := session.scalars(select(Run).filter_by(parent_id=chain[-1].id).order_by(Run.id)).first()
    ) is not None:
        chain.append(child)
    return chain


def _attempt(session: Session, run: Run) -> dict[str, Any]:
    took = session.scalars(
        select(Event).filter_by(run_id=run.id, kind=TOOK).order_by(Event.sequence.desc()).limit(1)
    ).one_or_none()
    return {
        "run": run.name,
        "attempt": run.attempt,
        "area": existing(session, Area, run.area_id).name,
        "state": run.state,
        "verdict": run.verdict,
        "exit_reason": run.exit_reason,
        "seen": _seen(session, run.id),
        "tried": [
            plain(one, "id", "run_id")
            for one in session.scalars(select(Remedy).filter_by(run_id=run.id).order_by(Remedy.id))
        ],
        "fluence_e_per_a2": _fluence(session, run.id),
        "seconds": took.data["seconds"] if took is not None and took.data else None,
    }


def _seen(session: Session, run_id: int) -> list[dict[str, Any]]:
    """What failed in the data, once where it was seen between passes and at the end."""
    rows = session.scalars(
        select(QualityResult)
        .filter_by(run_id=run_id, verdict="fail")
        .where(QualityResult.stage != "plan")
        .order_by(QualityResult.id)
    )
    seen = {(one.metric, one.analysis): one for one in rows}
    return [plain(one, "id", "run_id", "verdict") for one in seen.values()]


def _fluence(session: Session, run_id: int) -> float | None:
    given = session.scalars(
        select(DoseEntry.delivered_e_per_a2)
        .select_from(ExposureIntent)
        .join(Area, ExposureIntent.area_id == Area.id)
        .outerjoin(DoseEntry, DoseEntry.intent_id == ExposureIntent.id)
        .where(ExposureIntent.run_id == run_id, Area.name != VACUUM)
    ).all()
    return None if None in given else sum((one for one in given if one is not None), start=0.0)
