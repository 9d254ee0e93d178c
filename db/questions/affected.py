"""Which data rest on a calibration, and what did they say of it themselves?"""

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.models import Dataset, DatasetLocation, QualityResult, Run, RunCalibration
from db.questions.calibrations import described
from db.vocabulary import Verdict

CHECKED_BY = {"descan": "descan.", "centre": "centring.", "pixel_mask": "pixels.", "current": "dose.electrons"}
"""Metrics of a run that look at what a kind of calibration says, by the beginning of their names."""
_WORST_FIRST: tuple[Verdict, ...] = ("fail", "warn", "not_measurable", "pass")


def affected_by(session: Session, *, calibration_id: int) -> dict[str, Any]:
    """A calibration with every data set that was acquired with it, oldest first.

    Returns
    -------
    dict
        What `described` says of the calibration, and `datasets`, each with `run`, its `pass_index`, `path`, `sha256`,
        `frames`, `state` of its run, and `own_verdict`: what the run's own data said of what was calibrated, None where
        no metric looks at it.

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
    return {**{name: value for name, value in told.items() if name != "curves"}, "datasets": list(found.values())}


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
