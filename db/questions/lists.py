"""Which nights, specimens, instruments and calibrations are there? Newest first, a page at a time."""

from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import Area, Calibration, CalibrationWithdrawal, Night, Run, Sample, Target
from db.questions.plain import plain
from db.rows import distinct
from stem4d.errors import BadInput

LARGEST_PAGE = 300


def list_nights(session: Session, *, limit: int = 50, before: int | None = None) -> dict[str, Any]:
    """Nights with how many targets ended how; `next_before` asks for the following page, None on the last.

    Raises
    ------
    BadInput
        For a page size beyond 1 to 300, as of all lists here.
    """
    wanted = select(Night).order_by(Night.id.desc()).limit(_sized(limit) + 1)
    if before is not None:
        wanted = wanted.where(Night.id < before)
    found = session.scalars(wanted).all()
    ids = [one.id for one in found[:limit]]
    counts: dict[int, dict[str, int]] = {}
    for night, state, count in session.execute(
        select(Target.night_id, Target.state, func.count())
        .where(Target.night_id.in_(ids))
        .group_by(Target.night_id, Target.state)
        .order_by(Target.night_id, Target.state)
    ):
        counts.setdefault(night, {})[state] = count
    nights = [{**plain(one, "canonical_json", "sha256"), "targets": counts.get(one.id, {})} for one in found[:limit]]
    return {"nights": nights, "next_before": ids[-1] if len(found) > limit else None}


def list_samples(session: Session, *, limit: int = 50, before: int | None = None) -> dict[str, Any]:
    """Specimens with the number of their areas."""
    wanted = select(Sample).order_by(Sample.id.desc()).limit(_sized(limit) + 1)
    if before is not None:
        wanted = wanted.where(Sample.id < before)
    found = session.scalars(wanted).all()
    ids = [one.id for one in found[:limit]]
    wanted_counts = select(Area.sample_id, func.count()).where(Area.sample_id.in_(ids)).group_by(Area.sample_id)
    counts = dict(session.execute(wanted_counts).tuples().all())
    samples = [{**plain(one), "areas": counts.get(one.id, 0)} for one in found[:limit]]
    return {"samples": samples, "next_before": ids[-1] if len(found) > limit else None}


def calibration_history(
    session: Session, *, instrument: str, kind: str, limit: int = 200, before: int | None = None
) -> dict[str, Any]:
    """Calibrations of one kind of an instrument, newest first, with when they were withdrawn if they were.

    Returns
    -------
    dict
        `calibrations`, each with its columns but curves, and `withdrawn`; `next_before` for the following page.
    """
    wanted = (
        select(Calibration, CalibrationWithdrawal.withdrawn_at)
        .outerjoin(CalibrationWithdrawal, CalibrationWithdrawal.calibration_id == Calibration.id)
        .where(Calibration.instrument == instrument, Calibration.kind == kind)
        .order_by(Calibration.id.desc())
        .limit(_sized(limit) + 1)
    )
    if before is not None:
        wanted = wanted.where(Calibration.id < before)
    found = session.execute(wanted).all()
    told = [
        {**plain(one, "curves", "rests_on"), "withdrawn": None if gone is None else gone.isoformat()}
        for one, gone in found[:limit]
    ]
    return {"calibrations": told, "next_before": told[-1]["id"] if len(found) > limit else None}


def instruments(session: Session) -> dict[str, tuple[str, ...]]:
    """Instruments that were calibrated or ran, each with the kinds of its calibrations."""
    names = sorted({*distinct(session, Run.instrument), *distinct(session, Calibration.instrument)})
    return {name: tuple(distinct(session, Calibration.kind, Calibration.instrument == name)) for name in names}


def _sized(limit: int) -> int:
    if not 1 <= limit <= LARGEST_PAGE:
        raise BadInput(field="limit", value=limit, limit=f"1 to {LARGEST_PAGE} a page")
    return limit
