"""What is known of one run? Everything, as one plain document."""

import json
from typing import Any

from sqlalchemy import Select, bindparam, select
from sqlalchemy.orm import Session, aliased

from db.dose import fluence_of
from db.models import (
    AnalysisResult,
    Area,
    Base,
    Calibration,
    CalibrationWithdrawal,
    Dataset,
    DatasetLocation,
    DatasetParent,
    DeviceReading,
    DeviceSnapshot,
    DoseEntry,
    Event,
    ExposureIntent,
    InstrumentSession,
    Night,
    Plan,
    QualityResult,
    Remedy,
    Run,
    RunCalibration,
    Sample,
    SoftwareEnvironment,
    Target,
)
from db.questions.attempts import attempts_of
from db.questions.calibrations import withdrawal_facts, withdrawn_in
from db.questions.plain import columns, plain, plain_value, told
from db.questions.planning import plan_once
from db.rows import unknown
from db.vocabulary import VACUUM

_RUN_PARTS = ("plan_id", "target_id", "area_id", "environment_id", "parent_id", "session_id")
_parent = aliased(Run)
# Statements are put together once: that takes longer than to execute them.
_RUN = (
    select(Run, Plan, Area, Sample.name, SoftwareEnvironment, InstrumentSession, Target, Night.name, _parent.name)
    .join(Plan, Run.plan_id == Plan.id)
    .join(Area, Run.area_id == Area.id)
    .join(Sample, Area.sample_id == Sample.id)
    .outerjoin(SoftwareEnvironment, Run.environment_id == SoftwareEnvironment.id)
    .outerjoin(InstrumentSession, Run.session_id == InstrumentSession.id)
    .outerjoin(Target, Run.target_id == Target.id)
    .outerjoin(Night, Target.night_id == Night.id)
    .outerjoin(_parent, Run.parent_id == _parent.id)
    .where(Run.name == bindparam("name", type_=Run.name.type))
)
_CHILDREN = select(Run.name).where(Run.parent_id == bindparam("run")).order_by(Run.id)


def show_run(session: Session, *, name: str) -> dict[str, Any]:
    """Everything about a run, by its public name; raises `BadInput` if there is none."""
    plan_once(session)
    found = session.execute(_RUN, {"name": name}).one_or_none()
    if found is None:
        raise unknown(session, Run, name, "`nightbeam runs` lists them")
    run, plan, area, sample, environment, instrument_session, target, night, parent = found
    return {
        **plain(run, *_RUN_PARTS),
        "parent": parent,
        "children": list(session.scalars(_CHILDREN, {"run": run.id})),
        "attempts": attempts_of(session, run),
        "sample": sample,
        "area": {**_account(session, area), "pose": area.pose, "thumbnail": area.thumbnail},
        "night": night,
        "target": None if target is None else plain(target, "night_id", "plan_id"),
        "plan": {**plain(plan, "canonical_json"), "document": json.loads(plan.canonical_json)},
        "environment": None if environment is None else plain(environment),
        "session": None if instrument_session is None else plain(instrument_session, "id", "instrument"),
        "calibrations": _calibrations(session, run.id),
        "withdrawn": withdrawn_in(session, run.id),
        "snapshots": _snapshots(session, run.id),
        "exposures": _exposures(session, run.id),
        "accounts": _accounts(session, run.id),
        "datasets": _datasets(session, run.id),
        **{part: told(session.execute(wanted, {"run": run.id})) for part, wanted in _PARTS.items()},
    }


def _part(table: type[Base], order: str) -> Select[Any]:
    every = table.__table__.c
    return select(*columns(table, "run_id")).where(every.run_id == bindparam("run")).order_by(every[order])


_PARTS = {
    "quality": _part(QualityResult, "id"),
    "remedies": _part(Remedy, "id"),
    "analyses": _part(AnalysisResult, "id"),
    "events": _part(Event, "sequence"),
}


_CALIBRATIONS = (
    select(RunCalibration, Calibration, Run.name, CalibrationWithdrawal)
    .join(Calibration, RunCalibration.calibration_id == Calibration.id)
    .outerjoin(Run, Calibration.evidence_run_id == Run.id)
    .outerjoin(CalibrationWithdrawal, CalibrationWithdrawal.calibration_id == Calibration.id)
    .where(RunCalibration.run_id == bindparam("run"))
    .order_by(RunCalibration.id)
)


def _calibrations(session: Session, run_id: int) -> list[dict[str, Any]]:
    return [
        {
            "role": use.role,
            "accepted_stale": use.accepted_stale,
            **plain(calibration, "evidence_run_id", "curves"),
            "evidence_run": evidence,
            "withdrawn": None if gone is None else withdrawal_facts(gone),
        }
        for use, calibration, evidence, gone in session.execute(_CALIBRATIONS, {"run": run_id})
    ]


_snapshot, _reading = DeviceSnapshot.__table__.c, DeviceReading.__table__.c
_SNAPSHOTS = (
    select(_snapshot.phase, _snapshot.taken_at, *columns(DeviceReading, "snapshot_id"))
    .outerjoin(DeviceReading.__table__, _reading.snapshot_id == _snapshot.id)
    .where(_snapshot.run_id == bindparam("run"))
    .order_by(_snapshot.id, _reading.id)
)


def _snapshots(session: Session, run_id: int) -> dict[str, Any]:
    snapshots: dict[str, Any] = {}
    for one in session.execute(_SNAPSHOTS, {"run": run_id}):
        snapshot = snapshots.setdefault(one.phase, {"taken_at": plain_value(one.taken_at), "readings": []})
        # A snapshot may be empty.
        if one.id is not None:
            snapshot["readings"].append(
                {
                    "name": one.name,
                    "value": one.text if one.number is None else one.number,
                    "unit": one.unit,
                    "source": one.source,
                    "read_at": plain_value(one.read_at),
                }
            )
    return snapshots


_EXPOSURES = (
    select(ExposureIntent, DoseEntry, Area.name)
    .join(Area, ExposureIntent.area_id == Area.id)
    .outerjoin(DoseEntry, DoseEntry.intent_id == ExposureIntent.id)
    .where(ExposureIntent.run_id == bindparam("run"))
    .order_by(ExposureIntent.id)
)


def _exposures(session: Session, run_id: int) -> list[dict[str, Any]]:
    return [
        {
            "purpose": intent.purpose,
            "area": area,
            "token": intent.token,
            "opened": plain_value(intent.opened),
            "closed": plain_value(intent.closed),
            "intended_e_per_a2": intent.fluence_e_per_a2,
            "delivered_e_per_a2": None if entry is None else entry.delivered_e_per_a2,
            "electrons": None if entry is None else entry.electrons,
            "reason": None if entry is None else entry.reason,
        }
        for intent, entry, area in session.execute(_EXPOSURES, {"run": run_id})
    ]


_EXPOSED = (
    select(Area)
    .where(
        Area.id.in_(select(ExposureIntent.area_id).where(ExposureIntent.run_id == bindparam("run"))),
        Area.name != VACUUM,
    )
    .order_by(Area.id)
)


def _accounts(session: Session, run_id: int) -> list[dict[str, Any]]:
    """How the areas of specimens stand that a run exposed, focus areas included; what stands for vacuum is none."""
    return [_account(session, area) for area in session.scalars(_EXPOSED, {"run": run_id})]


def _account(session: Session, area: Area) -> dict[str, Any]:
    account = fluence_of(session, area)
    return {
        "name": area.name,
        "fluence_budget_e_per_a2": area.fluence_budget_e_per_a2,
        "delivered_e_per_a2": account.delivered_e_per_a2,
        "reserved_e_per_a2": account.reserved_e_per_a2,
        "left_e_per_a2": account.left_e_per_a2,
    }


_dataset, _location, _origin = Dataset.__table__.c, DatasetLocation.__table__.c, DatasetParent.__table__.c
_OF_RUN = _dataset.run_id == bindparam("run")
_DATASETS = select(*columns(Dataset, "run_id")).where(_OF_RUN).order_by(_dataset.id)
_LOCATIONS = (
    select(_location.dataset_id, _location.host, _location.path)
    .join(Dataset.__table__, _location.dataset_id == _dataset.id)
    .where(_OF_RUN)
    .order_by(_location.id)
)
_ORIGINS = (
    select(_origin.dataset_id, _origin.parent_id)
    .join(Dataset.__table__, _origin.dataset_id == _dataset.id)
    .where(_OF_RUN)
    .order_by(_origin.parent_id)
)


def _datasets(session: Session, run_id: int) -> list[dict[str, Any]]:
    datasets = session.execute(_DATASETS, {"run": run_id}).all()
    locations = session.execute(_LOCATIONS, {"run": run_id}).all()
    origins = session.execute(_ORIGINS, {"run": run_id}).all()
    return [
        {
            **facts,
            "scan_shape": [one.scan_y, one.scan_x],
            "detector_shape": [one.det_y, one.det_x],
            "locations": [{"host": host, "path": path} for dataset, host, path in locations if dataset == one.id],
            "parents": [parent for dataset, parent in origins if dataset == one.id],
        }
        for one, facts in zip(datasets, told(datasets, "scan_y", "scan_x", "det_y", "det_x"), strict=True)
    ]
