"""Which runs are there? Newest first, filtered, a page at a time."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from db.models import Area, Night, Plan, Run, Sample, Target
from db.rows import named
from db.vocabulary import RunState, Verdict
from stem4d.errors import BadInput

LARGEST_PAGE = 300


@dataclass(frozen=True)
class RunRow:
    """One line of the list of runs."""

    id: int
    name: str
    sample: str
    area: str
    plan: str
    night: str | None
    target: str | None
    instrument: str
    attempt: int
    state: RunState
    verdict: Verdict | None
    exit_reason: str | None
    started: datetime
    ended: datetime | None
    calibrating: bool = False
    """It measured calibrations only."""


@dataclass(frozen=True)
class RunPage:
    """A page of runs; `next_before` asks for the following one and is None on the last."""

    runs: tuple[RunRow, ...]
    next_before: int | None


def list_runs(
    session: Session,
    *,
    sample: str | None = None,
    state: RunState | None = None,
    verdict: Verdict | None = None,
    since: datetime | None = None,
    limit: int = 50,
    before: int | None = None,
) -> RunPage:
    """Runs in the reverse order of their registration, which later runs and clock changes do not disturb.

    Raises
    ------
    BadInput
        If the sample is unknown or the page size is not 1 to 300.
    """
    if not 1 <= limit <= LARGEST_PAGE:
        raise BadInput(field="limit", value=limit, limit=f"1 to {LARGEST_PAGE} runs a page")
    wanted = (
        select(Run, Area.name, Sample.name, Plan.name, Target.name, Night.name)
        .join(Area, Run.area_id == Area.id)
        .join(Sample, Area.sample_id == Sample.id)
        .join(Plan, Run.plan_id == Plan.id)
        .outerjoin(Target, Run.target_id == Target.id)
        .outerjoin(Night, Target.night_id == Night.id)
        .order_by(Run.id.desc())
        .limit(limit + 1)
    )
    if sample is not None:
        known = named(session, Sample, sample, "`nightbeam runs` lists the samples with their runs")
        wanted = wanted.where(Run.area_id.in_(select(Area.id).filter_by(sample_id=known.id)))
    if state is not None:
        wanted = wanted.where(Run.state == state)
    if verdict is not None:
        wanted = wanted.where(Run.verdict == verdict)
    if since is not None:
        # The bound on the id ends the search at the first run since then instead of at the first run of all; `+ 0`
        # keeps SQLite from looking for the smallest id by walking through all of them.
        first = select(func.min(Run.id + 0)).where(Run.started >= since).scalar_subquery()
        wanted = wanted.where(Run.started >= since, Run.id >= first)
    if before is not None:
        wanted = wanted.where(Run.id < before)
    found = [
        RunRow(
            id=run.id,
            name=run.name,
            sample=sample_name,
            area=area_name,
            plan=plan_name,
            night=night_name,
            target=target_name,
            instrument=run.instrument,
            attempt=run.attempt,
            state=run.state,
            verdict=run.verdict,
            exit_reason=run.exit_reason,
            started=run.started,
            ended=run.ended,
            # Only of such a run nothing is predicted: see `tasks.record.open_run`.
            calibrating=run.predicted_seconds is None,
        )
        for run, area_name, sample_name, plan_name, target_name, night_name in session.execute(wanted)
    ]
    page = tuple(found[:limit])
    return RunPage(page, page[-1].id if len(found) > limit else None)
