"""Closes what a process that died left open: runs, targets and nights of an instrument that nobody else can hold."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from db.clock import Clock, utc_now
from db.models import Area, Event, ExposureIntent
from db.models.work import Night, Run, Target
from db.record import add_event, finish_night, finish_run, set_target_state
from db.rows import named
from db.vocabulary import TargetState

HOPELESS = "nothing to save"
"""Kind of the event."""
REASON = "the process that ran it ended without closing it"


@dataclass(frozen=True)
class Abandoned:
    """Names of what was closed."""

    runs: tuple[str, ...]
    nights: tuple[str, ...]
    exposing: tuple[str, datetime] | None = None
    """Area of the last exposure that one of the runs had begun and not ended, and when it was booked."""


def running(session: Session) -> tuple[tuple[str, str], ...]:
    """Name and instrument of every run that the database has as running."""
    rows = session.execute(select(Run.name, Run.instrument).filter_by(state="running").order_by(Run.id))
    return tuple((name, instrument) for name, instrument in rows)


def crashed(session: Session, *, instrument: str) -> tuple[str, ...]:
    """Names of an instrument's runs that crashed."""
    return tuple(session.scalars(select(Run.name).filter_by(instrument=instrument, state="crashed").order_by(Run.id)))


def note_hopeless(session: Session, *, run: str, file: str, why: str, clock: Clock = utc_now) -> None:
    """Record that nothing can be saved of a run's file, so that nobody tries again."""
    row = named(session, Run, run, "")
    add_event(session, kind=HOPELESS, message=f"{file}: {why}", data={"file": file}, run_id=row.id, clock=clock)


def hopeless(session: Session, *, run: str) -> frozenset[str]:
    """Files of a run that nothing can be saved of."""
    found = select(Event.data).join(Run, Run.id == Event.run_id).where(Run.name == run, Event.kind == HOPELESS)
    return frozenset(str(data["file"]) for data in session.scalars(found) if data)


def close_abandoned(session: Session, *, instrument: str, reason: str = REASON, clock: Clock = utc_now) -> Abandoned:
    """Mark every running run of an instrument as crashed, and every running night that used it.

    Only the holder of the instrument's lease may ask: whatever still runs on it then has nobody left who runs it. Open
    exposure intents stay open and count against their area in full, until `tasks.left` bounds them.
    """
    runs = session.scalars(select(Run).filter_by(instrument=instrument, state="running").order_by(Run.id)).all()
    used = select(Target.night_id).join(Run, Run.target_id == Target.id).where(Run.instrument == instrument)
    # A night may have died before its first run; one of before 0.3.0 says its instrument by its runs alone.
    its_own = or_(Night.instrument == instrument, and_(Night.instrument.is_(None), Night.id.in_(used)))
    nights = session.scalars(select(Night).where(Night.state == "running", its_own).order_by(Night.id)).all()
    begun = (
        select(Area.name, ExposureIntent.opened)
        .join(Area, Area.id == ExposureIntent.area_id)
        .where(ExposureIntent.run_id.in_([run.id for run in runs]), ExposureIntent.closed.is_(None))
        .order_by(ExposureIntent.id.desc())
        .limit(1)
    )
    exposing = session.execute(begun).one_or_none()
    for run in runs:
        finish_run(session, run_id=run.id, state="crashed", exit_reason=reason, clock=clock)
    for night in nights:
        open_targets = select(Target).where(Target.night_id == night.id, Target.state.in_(("running", "pending")))
        for target in session.scalars(open_targets.order_by(Target.position)).all():
            state: TargetState = "failed" if target.state == "running" else "skipped"
            set_target_state(session, target_id=target.id, state=state, reason=reason, broken_off=True, clock=clock)
        finish_night(session, night_id=night.id, state="crashed", exit_reason=reason, clock=clock)
    return Abandoned(
        tuple(run.name for run in runs),
        tuple(night.name for night in nights),
        (exposing.name, exposing.opened) if exposing else None,
    )
