"""Tables of what was to be done and what was: specimens, plans, nights, targets, runs, events."""

from datetime import datetime

from sqlalchemy import CheckConstraint, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from db.models.base import (
    AreaId,
    Base,
    Bytes,
    EnvironmentId,
    Id,
    Json,
    NightId,
    PlanId,
    RunId,
    SampleId,
    SessionId,
    Sha256,
    TargetId,
)
from db.vocabulary import NightState, RunState, TargetState, Verdict, is_one_of


class Sample(Base):
    """A specimen, by the name its owner gave it."""

    __tablename__ = "sample"

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(unique=True)
    registered: Mapped[datetime]


class Area(Base):
    """A part of a specimen with a fluence budget of its own."""

    __tablename__ = "area"

    id: Mapped[Id]
    sample_id: Mapped[SampleId]
    name: Mapped[str]
    fluence_budget_e_per_a2: Mapped[float]
    registered: Mapped[datetime]
    # As the last plan that said so has them: where it lies on the stage, and a survey of it.
    pose: Mapped[Json | None]
    thumbnail: Mapped[str | None]

    __table_args__ = (
        UniqueConstraint("sample_id", "name"),
        CheckConstraint("fluence_budget_e_per_a2 > 0", name="budget"),
    )


class Plan(Base):
    """A plan in its canonical JSON, one row for each content."""

    __tablename__ = "plan"

    id: Mapped[Id]
    sha256: Mapped[Sha256] = mapped_column(unique=True)
    name: Mapped[str]
    # Text, not a JSON column: the hash is over these very characters.
    canonical_json: Mapped[str]
    registered: Mapped[datetime]

    __table_args__ = (CheckConstraint("length(sha256) = 64", name="sha256"),)


class SoftwareEnvironment(Base):
    """What computed a run: interpreter, packages, code revision, drivers."""

    __tablename__ = "software_environment"

    id: Mapped[Id]
    sha256: Mapped[Sha256] = mapped_column(unique=True)
    python: Mapped[str]
    packages: Mapped[Json]
    code_revision: Mapped[str]
    # Release of each driver by its name; None where that was not yet recorded.
    drivers: Mapped[Json | None]

    __table_args__ = (CheckConstraint("length(sha256) = 64", name="sha256"),)


class Night(Base):
    """One execution of a night file."""

    __tablename__ = "night"

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(unique=True)
    sha256: Mapped[Sha256] = mapped_column(index=True)
    canonical_json: Mapped[str]
    state: Mapped[NightState]
    exit_reason: Mapped[str | None]
    started: Mapped[datetime]
    ended: Mapped[datetime | None]
    # None for nights of before 0.3.0: those say it by their runs alone.
    instrument: Mapped[str | None]

    __table_args__ = (
        CheckConstraint("length(sha256) = 64", name="sha256"),
        CheckConstraint(is_one_of("state", NightState), name="state"),
        CheckConstraint("(state = 'running') = (ended IS NULL)", name="ended"),
    )


class Target(Base):
    """One entry of a night, in its place."""

    __tablename__ = "target"

    id: Mapped[Id]
    night_id: Mapped[NightId]
    position: Mapped[int]
    name: Mapped[str]
    plan_id: Mapped[PlanId | None]
    state: Mapped[TargetState]
    expected_state: Mapped[TargetState | None]
    reason: Mapped[str | None]
    # True where the night ended before this target did: the same night may go on with it.
    broken_off: Mapped[bool | None]
    # With what it takes beside its beam: overheads, calibrations, further attempts.
    predicted_seconds: Mapped[float | None]
    actual_seconds: Mapped[float | None]
    priority: Mapped[int | None]
    # Of the lease of the instrument: which session took it up, the last one that did.
    owner_token: Mapped[Bytes | None]

    __table_args__ = (
        UniqueConstraint("night_id", "position"),
        Index(None, "state"),
        CheckConstraint("position >= 0", name="position"),
        CheckConstraint(is_one_of("state", TargetState), name="state"),
        CheckConstraint(is_one_of("expected_state", TargetState), name="expected_state"),
    )


class Run(Base):
    """One attempt at one plan on one area."""

    __tablename__ = "run"

    id: Mapped[Id]
    name: Mapped[str] = mapped_column(unique=True)
    plan_id: Mapped[PlanId]
    target_id: Mapped[TargetId | None]
    area_id: Mapped[AreaId]
    environment_id: Mapped[EnvironmentId | None]
    instrument: Mapped[str]
    attempt: Mapped[int]
    parent_id: Mapped[RunId | None]
    state: Mapped[RunState]
    exit_reason: Mapped[str | None]
    # The worst final quality verdict, kept here so that a list of runs can be filtered by it.
    verdict: Mapped[Verdict | None]
    started: Mapped[datetime]
    ended: Mapped[datetime | None]
    predicted_seconds: Mapped[float | None]
    predicted_bytes: Mapped[Bytes | None]
    predicted_fluence_e_per_a2: Mapped[float | None]
    actual_seconds: Mapped[float | None]
    actual_bytes: Mapped[Bytes | None]
    actual_fluence_e_per_a2: Mapped[float | None]
    flow_run_id: Mapped[str | None]
    session_id: Mapped[SessionId | None]

    __table_args__ = (
        # The id in second place lets a filtered list come out newest first without sorting.
        Index(None, "area_id", "id"),
        Index(None, "state", "id"),
        Index(None, "verdict", "id"),
        Index(None, "started", "id"),
        Index(None, "instrument", "id"),
        Index(None, "actual_fluence_e_per_a2"),
        Index(None, "plan_id"),
        Index(None, "target_id"),
        Index(None, "parent_id"),
        Index(None, "environment_id", "id"),
        Index(None, "session_id", "id"),
        Index(None, "flow_run_id"),
        CheckConstraint("attempt >= 1", name="attempt"),
        CheckConstraint(is_one_of("state", RunState), name="state"),
        CheckConstraint(is_one_of("verdict", Verdict), name="verdict"),
        CheckConstraint("(state = 'running') = (ended IS NULL)", name="ended"),
    )


class Event(Base):
    """Something that happened, in the order of its sequence number, which no clock can disturb."""

    __tablename__ = "event"

    sequence: Mapped[Id]
    time: Mapped[datetime]
    night_id: Mapped[NightId | None]
    target_id: Mapped[TargetId | None]
    run_id: Mapped[RunId | None]
    kind: Mapped[str]
    message: Mapped[str]
    data: Mapped[Json | None]

    __table_args__ = (
        # Of a night most events belong to its runs: those that do not are asked for alone.
        Index(None, "night_id", "run_id"),
        Index(None, "target_id"),
        Index(None, "run_id"),
        Index(None, "kind", "time"),
    )
