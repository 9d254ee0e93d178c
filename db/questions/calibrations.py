"""Which calibrations did a run measure, how do they stand now, and on which files do they rest?"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import bindparam, select
from sqlalchemy.orm import Session

from db.models import (
    Calibration,
    CalibrationEvidence,
    CalibrationWithdrawal,
    Dataset,
    DatasetLocation,
    DeviceReading,
    DeviceSnapshot,
    Run,
    RunCalibration,
)
from db.questions.plain import plain, plain_value
from db.rows import named
from db.vocabulary import USABLE
from stem4d.errors import BadInput


def measured_in(session: Session, *, run: str) -> list[dict[str, Any]]:
    """Every calibration that a run measured, in order, with its evidence; raises `BadInput` for an unknown run."""
    row = named(session, Run, run, "`nightbeam runs` lists them")
    found = session.scalars(select(Calibration).filter_by(evidence_run_id=row.id).order_by(Calibration.id))
    return [
        {
            **plain(one, "evidence_run_id"),
            "withdrawn": _withdrawal(session, one.id),
            "evidence": _evidence(session, one.id),
        }
        for one in found
    ]


def evidence_files(session: Session, *, calibration_id: int) -> list[str]:
    """Where the files lie that a calibration was made from, as far as is known."""
    return [one["path"] for one in _evidence(session, calibration_id) if one["path"]]


def withdrawn_by(session: Session, *, run: str) -> list[dict[str, Any]]:
    """Every calibration that a run withdrew, in order, with its reason; raises `BadInput` for an unknown run."""
    return withdrawn_in(session, named(session, Run, run, "`nightbeam runs` lists them").id)


_WITHDRAWN = (
    select(CalibrationWithdrawal, Calibration)
    .join(Calibration, CalibrationWithdrawal.calibration_id == Calibration.id)
    .where(CalibrationWithdrawal.by_run_id == bindparam("run"))
    .order_by(CalibrationWithdrawal.id)
)


def withdrawn_in(session: Session, run_id: int) -> list[dict[str, Any]]:
    """As `withdrawn_by`, of a run by its number."""
    return [
        {**plain(one, "evidence_run_id", "curves"), "at": plain_value(each.withdrawn_at), "reason": each.reason}
        for each, one in session.execute(_WITHDRAWN, {"run": run_id})
    ]


def pixel_masks(session: Session, *, instrument: str) -> list[dict[str, Any]]:
    """Every usable mask of bad pixels of an instrument, oldest first, with when it was withdrawn if it was."""
    found = session.scalars(
        select(Calibration)
        .filter_by(instrument=instrument, kind="pixel_mask")
        .where(Calibration.verdict.in_(USABLE))
        .order_by(Calibration.measured_at, Calibration.id)
    )
    return [{**plain(one, "evidence_run_id", "curves"), "withdrawn": _withdrawal(session, one.id)} for one in found]


def told_by_column(session: Session, *, instrument: str, names: Iterable[str]) -> dict[str, float | str]:
    """Some settings of an instrument as its column last reported them in a run."""
    last = (
        select(DeviceSnapshot.id)
        .join(Run, DeviceSnapshot.run_id == Run.id)
        .where(Run.instrument == instrument)
        .order_by(DeviceSnapshot.taken_at.desc(), DeviceSnapshot.id.desc())
        .limit(1)
        .scalar_subquery()
    )
    rows = session.scalars(select(DeviceReading).where(DeviceReading.snapshot_id == last))
    wanted = set(names)
    told = ((one.name, one.text if one.number is None else one.number) for one in rows if one.name in wanted)
    return {name: value for name, value in told if value is not None}


def described(session: Session, *, calibration_id: int) -> dict[str, Any]:
    """One calibration with its withdrawal and the run that measured it; raises `BadInput` for an unknown number."""
    one = session.get(Calibration, calibration_id) if abs(calibration_id) < 2**63 else None
    if one is None:
        raise BadInput(
            field="calibration",
            value=calibration_id,
            limit="there is none of this number",
            remedy="`nightbeam calibrate --list --plan PLAN` shows the numbers",
        )
    measured_in = session.scalars(select(Run.name).where(Run.id == one.evidence_run_id)).one_or_none()
    return {**plain(one, "evidence_run_id"), "withdrawn": _withdrawal(session, one.id), "evidence_run": measured_in}


def used_by(session: Session, *, calibration_id: int) -> list[str]:
    """Names of all runs that used a calibration, in their order."""
    users = select(RunCalibration.run_id).where(RunCalibration.calibration_id == calibration_id)
    return list(session.scalars(select(Run.name).where(Run.id.in_(users)).order_by(Run.id)))


def _withdrawal(session: Session, calibration_id: int) -> dict[str, Any] | None:
    one = session.scalars(select(CalibrationWithdrawal).filter_by(calibration_id=calibration_id)).one_or_none()
    return None if one is None else withdrawal_facts(one)


def withdrawal_facts(one: CalibrationWithdrawal) -> dict[str, Any]:
    """Who withdrew a calibration, when and why."""
    return {"by": one.withdrawn_by, "at": plain_value(one.withdrawn_at), "reason": one.reason}


def _evidence(session: Session, calibration_id: int) -> list[dict[str, Any]]:
    rows = session.execute(
        select(Dataset, DatasetLocation.path)
        .join(CalibrationEvidence, CalibrationEvidence.dataset_id == Dataset.id)
        .outerjoin(DatasetLocation, DatasetLocation.dataset_id == Dataset.id)
        .where(CalibrationEvidence.calibration_id == calibration_id)
        .order_by(CalibrationEvidence.id, DatasetLocation.id)
    )
    # One line a dataset: its first place.
    found: dict[int, dict[str, Any]] = {}
    for dataset, path in rows:
        found.setdefault(dataset.id, {"id": dataset.id, "sha256": dataset.sha256, "path": path})
    return list(found.values())
