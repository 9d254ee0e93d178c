"""Which data and which other calibrations rest on a calibration, and what did the data say of it themselves?"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import (
    Calibration,
    CalibrationBasis,
    CalibrationWithdrawal,
    Dataset,
    DatasetLocation,
    QualityResult,
    Run,
    RunCalibration,
)
from db.questions.calibrations import described
from db.questions.plain import plain_value
from db.vocabulary import WORST_FIRST, Verdict
from stem4d.errors import BadInput

CHECKED_BY = {"descan": "descan.", "centre": "centring.", "pixel_mask": "pixels.", "current": "dose.electrons"}
"""Metrics of a run that look at what a kind of calibration says, by the beginning of their names."""
LARGEST_PAGE = 1000


def affected_by(session: Session, *, calibration_id: int, limit: int = 100, after: int = 0) -> dict[str, Any]:
    """A calibration with the data sets that were acquired, and the calibrations measured, with it, oldest first.

    Parameters
    ----------
    limit : int
        Data sets of a page, and calibrations at most.
    after : int
        `next_after` of the page before.

    Returns
    -------
    dict
        What `described` says of the calibration, and `datasets`, each with `run`, its `pass_index`, `path`, `sha256`,
        `frames`, `state` of its run, and `own_verdict`: what the run's own data said of what was calibrated, None where
        no metric looks at it; `next_after` asks for the following page and is None on the last. On the first page
        `calibrations` are those that were measured with it in force, each with `id`, `kind`, `verdict`, `measured_at`
        and `withdrawn` (True or False); `unknown` are those of which that is not recorded, and which were measured
        while it stood.

    Raises
    ------
    BadInput
        For an unknown number, or a page size beyond 1 to 1000.
    """
    if not 1 <= limit <= LARGEST_PAGE:
        raise BadInput(field="limit", value=limit, limit=f"1 to {LARGEST_PAGE} data sets a page")
    told = described(session, calibration_id=calibration_id)
    found = session.execute(
        select(Dataset.id, Dataset.run_id, Dataset.pass_index, Dataset.frames, Dataset.sha256, Run.name, Run.state)
        .join(Run, Dataset.run_id == Run.id)
        .where(
            Dataset.run_id.in_(select(RunCalibration.run_id).filter_by(calibration_id=calibration_id)),
            Dataset.purpose == "acquisition",
            Dataset.id > after,
        )
        .order_by(Dataset.id)
        .limit(limit + 1)
    ).all()
    page = found[:limit]
    paths = _first_paths(session, [one.id for one in page])
    verdicts = _own_verdicts(session, {one.run_id for one in page}, told["kind"])
    datasets = [
        {
            "id": one.id,
            "run": one.name,
            "pass_index": one.pass_index,
            "state": one.state,
            "own_verdict": verdicts.get(one.run_id),
            "frames": one.frames,
            "sha256": one.sha256,
            "path": paths.get(one.id),
        }
        for one in page
    ]
    facts = {name: value for name, value in told.items() if name not in ("curves", "rests_on")}
    resting, unknown = ([], []) if after else _calibrations(session, calibration_id, limit)
    return {
        **facts,
        "datasets": datasets,
        "next_after": page[-1].id if len(found) > limit else None,
        "calibrations": resting,
        "unknown": unknown,
    }


def _first_paths(session: Session, datasets: Sequence[int]) -> dict[int, str]:
    """One place of each data set: its first."""
    places = session.execute(
        select(DatasetLocation.dataset_id, DatasetLocation.path)
        .where(DatasetLocation.dataset_id.in_(datasets))
        .order_by(DatasetLocation.id.desc())
    )
    return dict(places.tuples().all())


def _calibrations(
    session: Session, calibration_id: int, limit: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Calibrations measured with one in force, and those that may have been: numbers rise as they are recorded."""
    one = session.get_one(Calibration, calibration_id)
    facts = (
        select(
            Calibration.id,
            Calibration.kind,
            Calibration.mode_key,
            Calibration.instrument,
            Calibration.verdict,
            Calibration.measured_at,
            Calibration.valid_until,
            Calibration.superseded_by,
            Calibration.reason,
            CalibrationWithdrawal.id.label("gone"),
        )
        .outerjoin(CalibrationWithdrawal, CalibrationWithdrawal.calibration_id == Calibration.id)
        .order_by(Calibration.id)
        .limit(limit)
    )
    resting = facts.where(
        Calibration.id.in_(select(CalibrationBasis.calibration_id).where(CalibrationBasis.basis_id == one.id))
    )
    withdrawn = session.scalars(select(CalibrationWithdrawal).filter_by(calibration_id=one.id)).one_or_none()
    unknown = facts.where(
        Calibration.instrument == one.instrument, Calibration.id > one.id, Calibration.rests_on.is_(None)
    )
    for end in (one.valid_until, withdrawn and withdrawn.withdrawn_at):
        if end is not None:
            unknown = unknown.where(Calibration.measured_at <= end)
    if one.superseded_by is not None:
        unknown = unknown.where(Calibration.id <= one.superseded_by)
    return _plain(session, resting), _plain(session, unknown)


def _plain(session: Session, wanted: Any) -> list[dict[str, Any]]:
    return [
        {
            **{name: plain_value(value) for name, value in row._mapping.items() if name != "gone"},
            "withdrawn": row.gone is not None,
        }
        for row in session.execute(wanted)
    ]


def _own_verdicts(session: Session, runs: set[int], kind: str) -> dict[int, Verdict]:
    """The worst that the final figures of runs say of what a kind calibrates."""
    metric = CHECKED_BY.get(kind)
    if metric is None:
        return {}
    judged = session.execute(
        select(QualityResult.run_id, QualityResult.verdict)
        .where(
            QualityResult.run_id.in_(runs),
            QualityResult.stage == "final",
            QualityResult.metric.startswith(metric, autoescape=True),
        )
        .distinct()
    ).all()
    known: dict[int, set[Verdict]] = {}
    for run, verdict in judged:
        known.setdefault(run, set()).add(verdict)
    return {run: next(one for one in WORST_FIRST if one in verdicts) for run, verdicts in known.items()}
