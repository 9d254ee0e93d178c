"""Which data and which other calibrations rest on a calibration, and what did the data say of it themselves?"""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Calibration, CalibrationWithdrawal, Dataset, DatasetLocation, QualityResult, Run, RunCalibration
from db.questions.calibrations import described
from db.questions.plain import plain
from db.vocabulary import Verdict

CHECKED_BY = {"descan": "descan.", "centre": "centring.", "pixel_mask": "pixels.", "current": "dose.electrons"}
"""Metrics of a run that look at what a kind of calibration says, by the beginning of their names."""
_NOT_TOLD = ("value", "uncertainty", "curves", "rests_on", "evidence_run_id")
_WORST_FIRST: tuple[Verdict, ...] = ("fail", "warn", "not_measurable", "pass")


def affected_by(session: Session, *, calibration_id: int) -> dict[str, Any]:
    """A calibration with every data set that was acquired, and every calibration measured, with it, oldest first.

    Returns
    -------
    dict
        What `described` says of the calibration, and `datasets`, each with `run`, its `pass_index`, `path`, `sha256`,
        `frames`, `state` of its run, and `own_verdict`: what the run's own data said of what was calibrated, None where
        no metric looks at it. `calibrations` are those that were measured with it in force, each with `id`, `kind`,
        `verdict`, `measured_at` and `withdrawn` (True or False); `unknown` are those of which that is not recorded, and
        which were measured while it stood.

    Raises
    ------
    BadInput
        For an unknown number.
    """
    told = described(session, calibration_id=calibration_id)
    rows = session.execute(
        select(Dataset, Run, DatasetLocation.path)
        .join(Run, Dataset.run_id == Run.id)
        .outerjoin(DatasetLocation, DatasetLocation.dataset_id == Dataset.id)
        .where(
            Run.id.in_(select(RunCalibration.run_id).filter_by(calibration_id=calibration_id)),
            Dataset.purpose == "acquisition",
        )
        .order_by(Dataset.id, DatasetLocation.id)
    )
    verdicts: dict[int, Verdict | None] = {}
    found: dict[int, dict[str, Any]] = {}
    for dataset, run, path in rows:
        if run.id not in verdicts:
            verdicts[run.id] = _own_verdict(session, run.id, told["kind"])
        # One line a data set: its first place.
        found.setdefault(
            dataset.id,
            {
                "id": dataset.id,
                "run": run.name,
                "pass_index": dataset.pass_index,
                "state": run.state,
                "own_verdict": verdicts[run.id],
                "frames": dataset.frames,
                "sha256": dataset.sha256,
                "path": path,
            },
        )
    facts = {name: value for name, value in told.items() if name not in ("curves", "rests_on")}
    resting, unknown = _calibrations(session, calibration_id)
    return {**facts, "datasets": list(found.values()), "calibrations": resting, "unknown": unknown}


def _calibrations(session: Session, calibration_id: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Calibrations measured with one in force, and those that may have been: numbers rise as they are recorded."""
    one = session.get_one(Calibration, calibration_id)
    later = session.execute(
        select(Calibration, CalibrationWithdrawal.id)
        .outerjoin(CalibrationWithdrawal, CalibrationWithdrawal.calibration_id == Calibration.id)
        .where(Calibration.instrument == one.instrument, Calibration.id > one.id)
        .order_by(Calibration.id)
    )
    withdrawn = session.scalars(select(CalibrationWithdrawal).filter_by(calibration_id=one.id)).one_or_none()
    ends = [at for at in (one.valid_until, withdrawn and withdrawn.withdrawn_at) if at is not None]
    resting, unknown = [], []
    for other, gone in later:
        facts = {**plain(other, *_NOT_TOLD), "withdrawn": gone is not None}
        if other.rests_on is not None:
            resting += [facts] if one.id in other.rests_on else []
        elif all(other.measured_at <= end for end in ends) and (one.superseded_by or other.id) >= other.id:
            unknown.append(facts)
    return resting, unknown


def _own_verdict(session: Session, run_id: int, kind: str) -> Verdict | None:
    metric = CHECKED_BY.get(kind)
    if metric is None:
        return None
    judged = set(
        session.scalars(
            select(QualityResult.verdict)
            .filter_by(run_id=run_id, stage="final")
            .where(QualityResult.metric.startswith(metric, autoescape=True))
        )
    )
    return next((verdict for verdict in _WORST_FIRST if verdict in judged), None)
