"""What deployed flows take up, once for each thing that asked, and what became of it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from db.clock import Clock, utc_now
from db.lease import Lives
from db.models import Launch, Night, Run
from db.resume import BY_A_PERSON
from db.rows import existing
from db.vocabulary import LaunchState, RunState
from storage.processes import ProcessMark, lives

BROKEN_OFF: tuple[LaunchState, ...] = ("lost", "terminated")
"""States of what was ended from outside, and may be taken up again."""
AGAIN = "to be begun again"
LOST = "the process that ran it ended without closing it"
Ended = Literal["done", "warned", "refused", "failed", "stopped", "terminated"]


@dataclass(frozen=True)
class Launched:
    """One start of a deployed flow, as it stands."""

    id: int
    source: str
    key: str
    flow: str
    flow_run_id: str
    attempt: int
    instrument: str | None
    name: str | None
    """The night or run that came of it."""
    process: ProcessMark
    began: datetime
    state: LaunchState
    reason: str

    @property
    def words(self) -> str:
        """For whoever asks for the same again."""
        what = f"{self.flow} {self.name}" if self.name else self.flow
        return f"{what} was started by the same {self.source} at {self.began:%Y-%m-%d %H:%M:%S} UTC: {self.state}"


def begin(
    session: Session,
    *,
    source: str,
    key: str,
    flow: str,
    flow_run_id: str,
    process: ProcessMark,
    deployment: str = "",
    lives: Lives = lives,
    clock: Clock = utc_now,
) -> tuple[Launched, bool]:
    """Take up what asked, unless it was taken up before; gives it as it stands, and whether the caller has it.

    One that was broken off, or whose process died, is taken up again. One whose process cannot be seen from here is
    somebody else's until `close_lost` has closed it there.
    """
    which = {"flow": flow, "deployment": deployment, "source": source, "key": key}
    wanted = select(Launch).filter_by(**which).with_for_update()
    row = session.scalars(wanted).one_or_none()
    if row is None:
        row = Launch(**which, attempt=0)
        _take(row, flow_run_id, process, clock)
        try:
            with session.begin_nested():
                session.add(row)
        except IntegrityError:
            # PostgreSQL: somebody else has taken it up between the look and this row.
            row = session.scalars(wanted).one()
            return _launched(row), False
        return _launched(row), True
    if row.state in BROKEN_OFF or (row.state == "running" and lives(_process(row)) is False):
        _take(row, flow_run_id, process, clock)
        session.flush()
        return _launched(row), True
    return _launched(row), False


def came_of(session: Session, *, launch: int, name: str, instrument: str) -> None:
    """Say which night or run it is, and of which instrument."""
    row = existing(session, Launch, launch)
    row.name, row.instrument = name, instrument


def end(session: Session, *, launch: int, state: Ended, reason: str = "", clock: Clock = utc_now) -> None:
    """It has ended."""
    row = existing(session, Launch, launch)
    row.state, row.reason, row.ended = state, reason, clock()


def close_lost(session: Session, *, lives: Lives = lives, clock: Clock = utc_now) -> tuple[Launched, ...]:
    """Close those whose process has died, and give those that were lost by it.

    One whose night or run has ended in the record could only not be told so: it ended as that did. What cannot be seen
    from this host is left as it is.
    """
    rows = session.scalars(select(Launch).filter_by(state="running").order_by(Launch.id).with_for_update()).all()
    gone = [row for row in rows if lives(_process(row)) is False]
    for row in gone:
        row.state, row.reason = _by_record(session, row)
        row.ended = clock()
    return tuple(_launched(row) for row in gone if row.state == "lost")


_ENDED: dict[str, LaunchState] = {
    "done": "done",
    "mended": "done",
    "marked": "warned",
    "refused": "refused",
    "failed": "failed",
}
"""How a launch ended, by the state of its night or run."""


def _by_record(session: Session, row: Launch) -> tuple[LaunchState, str]:
    found: Night | Run | None = None
    if row.name is not None:
        found = session.scalars(select(Night).filter_by(name=row.name)).one_or_none()
        found = found or session.scalars(select(Run).filter_by(name=row.name)).one_or_none()
    if found is not None and BY_A_PERSON in (found.exit_reason or ""):
        return "stopped", f"{row.name}: {found.exit_reason}"
    if found is None or found.state not in _ENDED:
        # What was ended from outside is stopped as well, and is to go on.
        return "lost", LOST
    return _ENDED[found.state], f"{row.name}: {found.exit_reason or found.state}"


def to_begin_again(session: Session, *, launch: int) -> None:
    """It was asked for again; where that came to nothing before, it counts as a beginning."""
    row = existing(session, Launch, launch)
    if row.reason == AGAIN:
        row.attempt += 1
    row.reason = AGAIN


def running(session: Session) -> tuple[Launched, ...]:
    """Those that have not ended, whether or not their process is there."""
    rows = session.scalars(select(Launch).filter_by(state="running").order_by(Launch.id))
    return tuple(_launched(row) for row in rows)


def of_flow_runs(session: Session, flow_run_ids: list[str]) -> dict[str, Launched]:
    """Those that flow runs of Prefect have taken up, by the flow run."""
    rows = session.scalars(select(Launch).where(Launch.flow_run_id.in_(flow_run_ids)))
    return {row.flow_run_id: _launched(row) for row in rows}


def runs_of_flow_runs(session: Session, flow_run_ids: list[str]) -> dict[str, tuple[str, RunState, str]]:
    """Name, state and reason of the last run that each flow run of Prefect had opened, by the flow run."""
    rows = session.scalars(select(Run).where(Run.flow_run_id.in_(flow_run_ids)).order_by(Run.id))
    return {str(row.flow_run_id): (row.name, row.state, row.exit_reason or "") for row in rows}


def _take(row: Launch, flow_run_id: str, process: ProcessMark, clock: Clock) -> None:
    row.flow_run_id, row.attempt = flow_run_id, row.attempt + 1
    row.host, row.pid, row.process_began = process.host, process.pid, process.began
    row.began, row.ended, row.state, row.reason = clock(), None, "running", None


def _process(row: Launch) -> ProcessMark:
    return ProcessMark(row.host, row.pid, row.process_began)


def _launched(row: Launch) -> Launched:
    return Launched(
        row.id,
        row.source,
        row.key,
        row.flow,
        row.flow_run_id,
        row.attempt,
        row.instrument,
        row.name,
        _process(row),
        row.began,
        row.state,
        row.reason or "",
    )
