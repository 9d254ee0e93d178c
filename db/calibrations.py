"""Calibrations: recorded, superseded by better ones, found again, tied to the runs that used them."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import or_, select
from sqlalchemy.orm import Session

from db.models import Calibration, RunCalibration
from db.rows import added, find_or_add
from db.vocabulary import JsonValue, Verdict

_USABLE = ("pass", "warn")


@dataclass(frozen=True)
class CalibrationRecord:
    """A calibration as it stands in the database."""

    id: int
    kind: str
    mode_key: str
    instrument: str
    value: JsonValue
    uncertainty: JsonValue
    unit: str
    measured_at: datetime
    valid_until: datetime | None
    superseded_by: int | None
    evidence_run_id: int | None
    verdict: Verdict


def add_calibration(
    session: Session,
    *,
    kind: str,
    mode_key: str,
    instrument: str,
    value: JsonValue,
    unit: str,
    measured_at: datetime,
    verdict: Verdict,
    uncertainty: JsonValue = None,
    valid_until: datetime | None = None,
    evidence_run_id: int | None = None,
) -> int:
    """Record a calibration; a usable one supersedes those of its kind, mode and instrument measured before it.

    One with the verdict fail or not_measurable is kept as evidence and supersedes nothing. One measured before the
    present one (found later in old data, say) is itself superseded from the start.
    """
    new = added(
        session,
        Calibration(
            kind=kind,
            mode_key=mode_key,
            instrument=instrument,
            value=value,
            uncertainty=uncertainty,
            unit=unit,
            measured_at=measured_at,
            valid_until=valid_until,
            evidence_run_id=evidence_run_id,
            verdict=verdict,
        ),
    )
    if verdict not in _USABLE:
        return new.id
    standing = select(Calibration).filter_by(kind=kind, mode_key=mode_key, instrument=instrument, superseded_by=None)
    for other in session.scalars(standing.where(Calibration.verdict.in_(_USABLE), Calibration.id != new.id)):
        if other.measured_at <= measured_at:
            other.superseded_by = new.id
        else:
            new.superseded_by = other.id
    session.flush()
    return new.id


def current_calibration(
    session: Session, *, kind: str, mode_key: str, instrument: str, now: datetime
) -> CalibrationRecord | None:
    """The usable calibration that is not superseded and still valid at `now`, or None."""
    found = session.scalars(
        select(Calibration)
        .filter_by(kind=kind, mode_key=mode_key, instrument=instrument, superseded_by=None)
        .where(Calibration.verdict.in_(_USABLE))
        .where(or_(Calibration.valid_until.is_(None), Calibration.valid_until > now))
        .order_by(Calibration.measured_at.desc(), Calibration.id.desc())
        .limit(1)
    ).one_or_none()
    return None if found is None else _record(found)


def use_calibration(session: Session, *, run_id: int, calibration_id: int, role: str) -> int:
    """Tie a calibration to a run that uses it; the same again changes nothing."""
    key = {"run_id": run_id, "calibration_id": calibration_id, "role": role}
    return find_or_add(session, RunCalibration, key, {}).id


def _record(row: Calibration) -> CalibrationRecord:
    return CalibrationRecord(
        id=row.id,
        kind=row.kind,
        mode_key=row.mode_key,
        instrument=row.instrument,
        value=row.value,
        uncertainty=row.uncertainty,
        unit=row.unit,
        measured_at=row.measured_at,
        valid_until=row.valid_until,
        superseded_by=row.superseded_by,
        evidence_run_id=row.evidence_run_id,
        verdict=row.verdict,
    )
