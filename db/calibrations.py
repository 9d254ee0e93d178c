"""Calibrations: recorded, superseded by better ones, withdrawn where found wrong, judged for use, tied to runs."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import or_, select
from sqlalchemy.orm import Session, aliased

from db.clock import Clock, utc_now
from db.models import (
    Calibration,
    CalibrationBasis,
    CalibrationEvidence,
    CalibrationWithdrawal,
    Dataset,
    Event,
    Night,
    RunCalibration,
)
from db.record import add_event
from db.rows import add_new, add_or_find, added, existing
from db.vocabulary import USABLE, JsonValue, Verdict
from stem4d.errors import BadInput

SPOILED = "calibrations spoiled"
"""Kind of an event of a night whose data name, as ``kinds`` and ``what``, what does not hold any more and why."""
CLOCK_TOLERANCE = timedelta(minutes=2)
"""How far one may have been measured ahead of the present: the clocks of two hosts, or one set back a little."""


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
    residual: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Standing:
    """How the newest usable calibration of one kind and mode stands at a moment.

    ``expired`` may be used by a run that is told to accept it; ``withdrawn`` and ``future`` (measured by a clock that
    was wrong) never. ``failed`` is one that was tried and never succeeded. ``distrusted`` is a valid one that this
    session is told to leave alone: the database itself never says so.
    """

    state: Literal["valid", "expired", "withdrawn", "future", "distrusted", "failed", "missing"]
    calibration: CalibrationRecord | None
    why: str
    """Why it is not valid; empty where it is."""


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
    residual: float | None = None,
    reason: str = "",
    curves: JsonValue = None,
    valid_until: datetime | None = None,
    evidence_run_id: int | None = None,
    evidence: Iterable[int] = (),
    rests_on: Iterable[int] | None = None,
) -> int:
    """Record a calibration; a usable one supersedes those of its kind, mode and instrument recorded before it.

    The order is that of recording and not of ``measured_at``, since one wrong clock would otherwise set fresh ones
    aside until its date has come. One with the verdict fail or not_measurable is kept as evidence and supersedes
    nothing. ``evidence`` are ids of datasets, ``rests_on`` those of the calibrations that it was measured with.
    """
    new = added(
        session,
        Calibration(
            kind=kind,
            mode_key=mode_key,
            instrument=instrument,
            value=value,
            uncertainty=uncertainty,
            residual=residual,
            reason=reason or None,
            curves=curves,
            unit=unit,
            measured_at=measured_at,
            valid_until=valid_until,
            evidence_run_id=evidence_run_id,
            verdict=verdict,
            rests_on=None if rests_on is None else sorted(set(rests_on)),
        ),
    )
    for dataset_id in evidence:
        add_or_find(session, CalibrationEvidence, {"calibration_id": new.id, "dataset_id": dataset_id}, {})
    for basis_id in new.rests_on or ():
        session.add(CalibrationBasis(calibration_id=new.id, basis_id=basis_id))
    session.flush()
    if verdict not in USABLE:
        return new.id
    standing = select(Calibration).filter_by(kind=kind, mode_key=mode_key, instrument=instrument, superseded_by=None)
    for other in session.scalars(standing.where(Calibration.verdict.in_(USABLE), Calibration.id != new.id)):
        other.superseded_by = new.id
    session.flush()
    return new.id


def standing_calibration(session: Session, *, kind: str, mode_key: str, instrument: str, now: datetime) -> Standing:
    """The last recorded usable calibration of a kind in a mode, and whether it may be used at ``now``.

    One that was measured after ``now`` supersedes nothing: it stands only where there is no other.
    """
    newer, latest = aliased(Calibration), now + CLOCK_TOLERANCE
    found = session.scalars(
        select(Calibration)
        .filter_by(kind=kind, mode_key=mode_key, instrument=instrument)
        .outerjoin(newer, Calibration.superseded_by == newer.id)
        .where(Calibration.verdict.in_(USABLE), or_(newer.id.is_(None), newer.measured_at > latest))
        .order_by(Calibration.measured_at > latest, Calibration.id.desc())
        .limit(1)
    ).one_or_none()
    failed = _failed_since(session, kind, mode_key, instrument, found)
    if found is None:
        return failed or Standing("missing", None, "it was never measured for these settings")
    record, since = _record(found), f"; since then it {failed.why}" if failed else ""
    withdrawn = session.scalars(select(CalibrationWithdrawal).filter_by(calibration_id=found.id)).one_or_none()
    if withdrawn is not None:
        at = f"{withdrawn.withdrawn_at:%Y-%m-%d %H:%M} UTC"
        why = f"withdrawn {at} by {withdrawn.withdrawn_by}: {withdrawn.reason}{since}"
        return Standing("withdrawn", record, why)
    if found.measured_at > latest:
        at = f"{found.measured_at:%Y-%m-%d %H:%M} UTC"
        why = f"it was measured in the future, {at}: the clock was wrong; measure it again{since}"
        return Standing("future", record, why)
    if found.valid_until is not None and found.valid_until <= now:
        return Standing("expired", record, f"it was valid until {found.valid_until:%Y-%m-%d %H:%M} UTC{since}")
    if spoiled := _spoiled(session, found):
        return Standing("expired", record, f"{spoiled}{since}")
    return Standing("valid", record, "")


def spoiled_by(what: str, at: datetime) -> str:
    """Why a calibration has expired that an event of the instrument has spoiled."""
    return f"{what} at {at:%Y-%m-%d %H:%M} UTC spoiled it"


def _spoiled(session: Session, found: Calibration) -> str:
    """Which event on the instrument since its measurement does not leave a calibration as it was; empty for none."""
    since = session.execute(
        select(Event.time, Event.data)
        .join(Night, Event.night_id == Night.id)
        .where(Event.kind == SPOILED, Event.time >= found.measured_at, Night.instrument == found.instrument)
        .order_by(Event.time)
    )
    for at, data in since:
        if found.kind in data["kinds"].split():
            return spoiled_by(data["what"], at)
    return ""


def _failed_since(
    session: Session, kind: str, mode_key: str, instrument: str, usable: Calibration | None
) -> Standing | None:
    """The newest attempt, where it came to nothing; None where the usable one is newer, or nothing was tried."""
    last = session.scalars(
        select(Calibration)
        .filter_by(kind=kind, mode_key=mode_key, instrument=instrument)
        .where(Calibration.verdict.not_in(USABLE))
        .order_by(Calibration.id.desc())
        .limit(1)
    ).one_or_none()
    if last is None or (usable is not None and usable.id > last.id):
        return None
    at, reason = f"{last.measured_at:%Y-%m-%d %H:%M} UTC", last.reason or "no reason was recorded"
    if last.verdict == "fail":
        return Standing("failed", None, f"failed at {at}: {reason}")
    return Standing("missing", None, f"could not be measured at {at}: {reason}")


def invalidate(
    session: Session,
    calibration_id: int,
    reason: str,
    by_run: int | None = None,
    *,
    by: str = "",
    clock: Clock = utc_now,
) -> bool:
    """Withdraw a calibration that was found to be wrong, and mark the data that were acquired with it.

    Again changes nothing, the first reason stands: false is given then. The mark of data is an event of their run.

    Parameters
    ----------
    calibration_id : int
        Which.
    reason : str
        Why; it must not be empty.
    by_run : int, optional
        Id of the run whose data contradicted it.
    by : str
        Who, where no run did it; needed then.

    Raises
    ------
    BadInput
        For an unknown calibration, or nobody and no reason named.
    """
    calibration = existing(session, Calibration, calibration_id)
    if not reason.strip() or (by_run is None and not by):
        raise BadInput(field="withdrawal", value=reason, limit="needs a reason, and a run or a person")
    who = by or f"run number {by_run}"
    if session.scalars(select(CalibrationWithdrawal).filter_by(calibration_id=calibration_id)).one_or_none():
        return False
    rest = {"by_run_id": by_run, "withdrawn_by": who, "reason": reason, "withdrawn_at": clock()}
    add_or_find(session, CalibrationWithdrawal, {"calibration_id": calibration_id}, rest)
    add_event(
        session,
        kind="calibration_withdrawn",
        message=f"{calibration.kind} number {calibration_id} was withdrawn by {who}: {reason}",
        data={"calibration_id": calibration_id},
        run_id=by_run,
        clock=clock,
    )
    _mark(session, calibration, f"withdrawn by {who}: {reason}", clock)
    return True


def _mark(session: Session, calibration: Calibration, why: str, clock: Clock) -> None:
    """An event in every run that acquired data with a calibration, with the ids of the data sets."""
    used = select(RunCalibration.run_id).filter_by(calibration_id=calibration.id)
    rows = select(Dataset.run_id, Dataset.id).where(Dataset.run_id.in_(used), Dataset.purpose == "acquisition")
    by_run: dict[int, list[int]] = {}
    for run_id, dataset_id in session.execute(rows.order_by(Dataset.id)):
        by_run.setdefault(run_id, []).append(dataset_id)
    for run_id, datasets in by_run.items():
        add_event(
            session,
            kind="data_marked",
            message=f"its data were acquired with {calibration.kind} number {calibration.id}, {why}",
            data={"calibration_id": calibration.id, "datasets": datasets},
            run_id=run_id,
            clock=clock,
        )


@dataclass(frozen=True)
class Use:
    """A calibration that a run uses, and as what.

    ``accepted_stale`` says why it was no longer valid, where the run was told to use it all the same.
    """

    calibration_id: int
    role: str
    accepted_stale: str | None = None


def use_calibrations(session: Session, *, run_id: int, uses: Iterable[Use]) -> None:
    """Tie calibrations to a run that uses them; the same again changes nothing."""
    rows = [{"run_id": run_id, **vars(one)} for one in uses]
    if rows:
        add_new(session, RunCalibration, ("run_id", "calibration_id", "role"), rows)


def use_calibration(
    session: Session, *, run_id: int, calibration_id: int, role: str, accepted_stale: str | None = None
) -> int:
    """Tie one calibration to a run; gives the number of the row."""
    key = {"run_id": run_id, "calibration_id": calibration_id, "role": role}
    return int(add_or_find(session, RunCalibration, key, {"accepted_stale": accepted_stale}).id)


def used_calibrations(session: Session, *, run_id: int) -> dict[str, int]:
    """Ids of the calibrations that a run used, by role."""
    used = session.scalars(select(RunCalibration).filter_by(run_id=run_id).order_by(RunCalibration.id))
    return {one.role: one.calibration_id for one in used}


def evidence_of(session: Session, *, calibration_id: int) -> tuple[int, ...]:
    """Ids of the datasets that a calibration was made from."""
    found = select(CalibrationEvidence.dataset_id).filter_by(calibration_id=calibration_id)
    return tuple(session.scalars(found.order_by(CalibrationEvidence.id)))


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
        residual=row.residual,
        reason=row.reason or "",
    )
