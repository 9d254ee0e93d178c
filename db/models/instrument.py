"""Tables of the instrument's part in a run: exposures and dose, calibrations, settings."""

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import AreaId, Base, Bytes, CalibrationId, DatasetId, Id, IntentId, Json, RunId, SnapshotId
from db.vocabulary import Phase, Purpose, Source, Verdict, is_one_of

_STALE = "accepted_stale IS NOT NULL"
_OLD = "rests_on IS NULL"


class ExposureIntent(Base):
    """An exposure that may begin, committed before the beam is unblanked."""

    __tablename__ = "exposure_intent"

    id: Mapped[Id]
    run_id: Mapped[RunId]
    area_id: Mapped[AreaId]
    purpose: Mapped[Purpose]
    token: Mapped[str] = mapped_column(unique=True)
    fluence_e_per_a2: Mapped[float]
    opened: Mapped[datetime]
    closed: Mapped[datetime | None]
    # Of the lease of the instrument: which session's log of the beam tells of this exposure.
    owner_token: Mapped[Bytes | None]

    __table_args__ = (
        Index(None, "run_id"),
        Index(None, "area_id", "closed"),
        CheckConstraint(is_one_of("purpose", Purpose), name="purpose"),
        CheckConstraint("fluence_e_per_a2 >= 0", name="fluence"),
    )


class DoseEntry(Base):
    """What an exposure delivered."""

    __tablename__ = "dose_entry"

    id: Mapped[Id]
    intent_id: Mapped[IntentId] = mapped_column(unique=True)
    area_id: Mapped[AreaId]
    intended_e_per_a2: Mapped[float]
    delivered_e_per_a2: Mapped[float]
    electrons: Mapped[float | None]
    reason: Mapped[str | None]
    recorded: Mapped[datetime]

    __table_args__ = (
        Index(None, "area_id"),
        CheckConstraint("intended_e_per_a2 >= 0", name="intended"),
        CheckConstraint("delivered_e_per_a2 >= 0", name="delivered"),
        CheckConstraint("electrons >= 0", name="electrons"),
        CheckConstraint("delivered_e_per_a2 >= intended_e_per_a2 OR reason IS NOT NULL", name="reason"),
    )


class Calibration(Base):
    """A measured property of an instrument in one mode, and until when it may be used."""

    __tablename__ = "calibration"

    id: Mapped[Id]
    kind: Mapped[str]
    mode_key: Mapped[str]
    instrument: Mapped[str]
    value: Mapped[Json]
    uncertainty: Mapped[Json | None]
    unit: Mapped[str]
    measured_at: Mapped[datetime]
    valid_until: Mapped[datetime | None]
    superseded_by: Mapped[int | None] = mapped_column(ForeignKey("calibration.id"))
    evidence_run_id: Mapped[RunId | None]
    verdict: Mapped[Verdict]
    residual: Mapped[float | None]
    reason: Mapped[str | None]
    # What a report draws of the fit where no picture of the evidence says it: lines of figures.
    curves: Mapped[Json | None]
    # Ids of the calibrations that were in force when it was measured; absent where that was not yet recorded.
    rests_on: Mapped[Json | None]

    __table_args__ = (
        Index(None, "instrument", "kind", "mode_key", "measured_at"),
        Index(None, "superseded_by"),
        Index(None, "evidence_run_id"),
        Index("ix_calibration_unrecorded", "instrument", sqlite_where=text(_OLD), postgresql_where=text(_OLD)),
        CheckConstraint(is_one_of("verdict", Verdict), name="verdict"),
        CheckConstraint("valid_until > measured_at", name="validity"),
    )


class RunCalibration(Base):
    """A calibration that a run used, and as what."""

    __tablename__ = "run_calibration"

    id: Mapped[Id]
    run_id: Mapped[RunId]
    calibration_id: Mapped[CalibrationId]
    role: Mapped[str]
    # Why it was no longer valid, where the run had been told to use it all the same.
    accepted_stale: Mapped[str | None]

    __table_args__ = (
        UniqueConstraint("run_id", "role", "calibration_id"),
        Index(None, "calibration_id"),
        Index(None, "run_id", sqlite_where=text(_STALE), postgresql_where=text(_STALE)),
    )


class CalibrationEvidence(Base):
    """A recording that a calibration was made from."""

    __tablename__ = "calibration_evidence"

    id: Mapped[Id]
    calibration_id: Mapped[CalibrationId]
    dataset_id: Mapped[DatasetId]

    __table_args__ = (UniqueConstraint("calibration_id", "dataset_id"), Index(None, "dataset_id"))


class CalibrationBasis(Base):
    """A calibration that was in force when another was measured: a row for each that `rests_on` of that one lists."""

    __tablename__ = "calibration_basis"

    id: Mapped[Id]
    calibration_id: Mapped[CalibrationId]
    basis_id: Mapped[int] = mapped_column(ForeignKey("calibration.id"))

    __table_args__ = (UniqueConstraint("calibration_id", "basis_id"), Index(None, "basis_id"))


class CalibrationWithdrawal(Base):
    """A calibration found to be wrong: by whom or by which run, when and why. Once is enough."""

    __tablename__ = "calibration_withdrawal"

    id: Mapped[Id]
    calibration_id: Mapped[int] = mapped_column(ForeignKey("calibration.id"), unique=True)
    by_run_id: Mapped[RunId | None]
    withdrawn_by: Mapped[str]
    reason: Mapped[str]
    withdrawn_at: Mapped[datetime]

    __table_args__ = (Index(None, "by_run_id"), CheckConstraint("length(reason) > 0", name="reason"))


class DeviceSnapshot(Base):
    """All settings of the instrument at one moment of a run."""

    __tablename__ = "device_snapshot"

    id: Mapped[Id]
    run_id: Mapped[RunId]
    phase: Mapped[Phase]
    taken_at: Mapped[datetime]

    __table_args__ = (UniqueConstraint("run_id", "phase"), CheckConstraint(is_one_of("phase", Phase), name="phase"))


class DeviceReading(Base):
    """One setting in a snapshot: a number or a text."""

    __tablename__ = "reading"

    id: Mapped[Id]
    snapshot_id: Mapped[SnapshotId]
    name: Mapped[str]
    number: Mapped[float | None]
    text: Mapped[str | None]
    unit: Mapped[str]
    source: Mapped[Source]
    read_at: Mapped[datetime]

    __table_args__ = (
        UniqueConstraint("snapshot_id", "name"),
        Index(None, "name", "number"),
        Index(None, "name", "text"),
        CheckConstraint(is_one_of("source", Source), name="source"),
        CheckConstraint("(number IS NULL) <> (text IS NULL)", name="value"),
    )
