"""What is known of one run? Everything, as one plain document."""

import json
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from db.dose import area_fluence
from db.models import (
    AnalysisResult,
    Area,
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
from db.questions.calibrations import withdrawal_facts, withdrawn_by
from db.questions.plain import plain, plain_rows, plain_value
from db.rows import existing, named
from db.vocabulary import VACUUM

_RUN_PARTS = ("plan_id", "target_id", "area_id", "environment_id", "parent_id", "session_id")


def show_run(session: Session, *, name: str) -> dict[str, Any]:
    """Everything about a run, by its public name; raises `BadInput` if there is none."""
    run = named(session, Run, name, "`nightbeam runs` lists them")
    plan = existing(session, Plan, run.plan_id)
    parent = None if run.parent_id is None else existing(session, Run, run.parent_id).name
    children = session.scalars(select(Run.name).filter_by(parent_id=run.id).order_by(Run.id)).all()
    environment = None if run.environment_id is None else existing(session, SoftwareEnvironment, run.environment_id)
    return {
        **plain(run, *_RUN_PARTS),
        "parent": parent,
        "children": list(children),
        "attempts": attempts_of(session, run),
        **_place(session, run),
        "plan": {**plain(plan, "canonical_json"), "document": json.loads(plan.canonical_json)},
        "environment": None if environment is None else plain(environment),
        "session": None if run.session_id is None else _session(existing(session, InstrumentSession, run.session_id)),
        "calibrations": _calibrations(session, run.id),
        "withdrawn": withdrawn_by(session, run=name),
        "snapshots": _snapshots(session, run.id),
        "exposures": _exposures(session, run.id),
        "accounts": _accounts(session, run.id),
        "datasets": [_dataset(session, dataset) for dataset in session.scalars(_of(Dataset, run.id))],
        "quality": plain_rows(session.scalars(_of(QualityResult, run.id)), "run_id"),
        "remedies": plain_rows(session.scalars(_of(Remedy, run.id)), "run_id"),
        "analyses": plain_rows(session.scalars(_of(AnalysisResult, run.id)), "run_id"),
        "events": plain_rows(
            session.scalars(select(Event).filter_by(run_id=run.id).order_by(Event.sequence)), "run_id"
        ),
    }


def _session(one: InstrumentSession) -> dict[str, Any]:
    return plain(one, "id", "instrument")


def _of(table: Any, run_id: int) -> Any:
    return select(table).filter_by(run_id=run_id).order_by(table.id)


def _place(session: Session, run: Run) -> dict[str, Any]:
    area = existing(session, Area, run.area_id)
    target = None if run.target_id is None else existing(session, Target, run.target_id)
    night = None if target is None else existing(session, Night, target.night_id)
    return {
        "sample": existing(session, Sample, area.sample_id).name,
        "area": {**_account(session, area), "pose": area.pose, "thumbnail": area.thumbnail},
        "night": None if night is None else night.name,
        "target": None if target is None else plain(target, "night_id", "plan_id"),
    }


def _calibrations(session: Session, run_id: int) -> list[dict[str, Any]]:
    used = session.execute(
        select(RunCalibration, Calibration, Run.name, CalibrationWithdrawal)
        .join(Calibration, RunCalibration.calibration_id == Calibration.id)
        .outerjoin(Run, Calibration.evidence_run_id == Run.id)
        .outerjoin(CalibrationWithdrawal, CalibrationWithdrawal.calibration_id == Calibration.id)
        .where(RunCalibration.run_id == run_id)
        .order_by(RunCalibration.id)
    )
    return [
        {
            "role": use.role,
            "accepted_stale": use.accepted_stale,
            **plain(calibration, "evidence_run_id", "curves"),
            "evidence_run": evidence,
            "withdrawn": None if gone is None else withdrawal_facts(gone),
        }
        for use, calibration, evidence, gone in used
    ]


def _snapshots(session: Session, run_id: int) -> dict[str, Any]:
    snapshots = {}
    for snapshot in session.scalars(_of(DeviceSnapshot, run_id)):
        readings = session.scalars(select(DeviceReading).filter_by(snapshot_id=snapshot.id).order_by(DeviceReading.id))
        snapshots[snapshot.phase] = {
            "taken_at": plain_value(snapshot.taken_at),
            "readings": [
                {
                    "name": reading.name,
                    "value": reading.text if reading.number is None else reading.number,
                    "unit": reading.unit,
                    "source": reading.source,
                    "read_at": plain_value(reading.read_at),
                }
                for reading in readings
            ],
        }
    return snapshots


def _exposures(session: Session, run_id: int) -> list[dict[str, Any]]:
    found = session.execute(
        select(ExposureIntent, DoseEntry, Area.name)
        .join(Area, ExposureIntent.area_id == Area.id)
        .outerjoin(DoseEntry, DoseEntry.intent_id == ExposureIntent.id)
        .where(ExposureIntent.run_id == run_id)
        .order_by(ExposureIntent.id)
    )
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
        for intent, entry, area in found
    ]


def _accounts(session: Session, run_id: int) -> list[dict[str, Any]]:
    """How the areas of specimens stand that a run exposed, focus areas included; what stands for vacuum is none."""
    exposed = select(ExposureIntent.area_id).filter_by(run_id=run_id)
    wanted = select(Area).where(Area.id.in_(exposed), Area.name != VACUUM).order_by(Area.id)
    return [_account(session, area) for area in session.scalars(wanted)]


def _account(session: Session, area: Area) -> dict[str, Any]:
    account = area_fluence(session, area_id=area.id)
    return {
        "name": area.name,
        "fluence_budget_e_per_a2": area.fluence_budget_e_per_a2,
        "delivered_e_per_a2": account.delivered_e_per_a2,
        "reserved_e_per_a2": account.reserved_e_per_a2,
        "left_e_per_a2": account.left_e_per_a2,
    }


def _dataset(session: Session, dataset: Dataset) -> dict[str, Any]:
    locations = session.scalars(select(DatasetLocation).filter_by(dataset_id=dataset.id).order_by(DatasetLocation.id))
    parents = session.scalars(select(DatasetParent.parent_id).filter_by(dataset_id=dataset.id))
    return {
        **plain(dataset, "run_id", "scan_y", "scan_x", "det_y", "det_x"),
        "scan_shape": [dataset.scan_y, dataset.scan_x],
        "detector_shape": [dataset.det_y, dataset.det_x],
        "locations": [{"host": location.host, "path": location.path} for location in locations],
        "parents": sorted(parents),
    }
