"""Which runs are there? Newest first, filtered, a page at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, get_args

from sqlalchemy import ColumnElement, Row, Select, select
from sqlalchemy.orm import Session

from db.models import Area, Night, Plan, Run, Sample, Target
from db.questions.among import among
from db.questions.fulltext import matching
from db.questions.run_filters import (
    FEW,
    ReadingFilter,
    refuse_unknown,
    with_analysis,
    with_dose,
    with_readings,
    with_stale,
    with_time,
)
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


_RUNS = (
    select(
        Run.id,
        Run.name,
        Sample.name,
        Area.name,
        Plan.name,
        Night.name,
        Target.name,
        Run.instrument,
        Run.attempt,
        Run.state,
        Run.verdict,
        Run.exit_reason,
        Run.started,
        Run.ended,
        # Only of a run that calibrates nothing is predicted: see `tasks.record.open_run`.
        Run.predicted_seconds.is_(None),
    )
    .join(Area, Run.area_id == Area.id)
    .join(Sample, Area.sample_id == Sample.id)
    .join(Plan, Run.plan_id == Plan.id)
    .outerjoin(Target, Run.target_id == Target.id)
    .outerjoin(Night, Target.night_id == Night.id)
    .order_by(Run.id.desc())
)
"""All runs, newest first, in the order of the fields of a `RunRow`."""


def list_runs(
    session: Session,
    *,
    sample: str | None = None,
    state: RunState | None = None,
    verdict: Verdict | None = None,
    instrument: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    analysis: str | None = None,
    text: str | None = None,
    readings: Sequence[ReadingFilter] = (),
    dose_below_e_per_a2: float | None = None,
    dose_above_e_per_a2: float | None = None,
    stale: bool = False,
    limit: int = 50,
    before: int | None = None,
) -> RunPage:
    """Runs in the reverse order of their registration, which later runs and clock changes do not disturb.

    Parameters
    ----------
    analysis : str, optional
        An analysis, ``com``, or one with its verdict, ``com:doubtful``.
    text : str, optional
        Words of the name or of why it ended; the last may be the beginning of one.
    readings : sequence of ReadingFilter
        Readings before the run; all have to hold.
    dose_below_e_per_a2, dose_above_e_per_a2 : float, optional
        Fluence that the run gave its area [e/Å²].
    stale : bool
        Only runs that used a calibration which was no longer valid.
    before : int, optional
        `next_before` of the page before.

    Raises
    ------
    BadInput
        If a sample or reading is unknown, another filter is none, or the page size is not 1 to 300.
    """
    if not 1 <= limit <= LARGEST_PAGE:
        raise BadInput(field="limit", value=limit, limit=f"1 to {LARGEST_PAGE} runs a page")
    wanted = _RUNS
    if sample is not None:
        known = named(session, Sample, sample, "`nightbeam runs` lists the samples with their runs")
        # Listed by their index first: thousands of whole rows would be put in order for the few that are shown.
        on_it = select(Run.id).where(Run.area_id.in_(select(Area.id).filter_by(sample_id=known.id)), *_earlier(before))
        wanted = wanted.where(among(Run.id, on_it))
    for field, word, allowed, column in (
        ("state", state, get_args(RunState), Run.state),
        ("verdict", verdict, get_args(Verdict), Run.verdict),
    ):
        if word is not None and word not in allowed:
            raise BadInput(field=field, value=word, limit=f"one of {', '.join(allowed)}")
        if word is not None:
            wanted = wanted.where(column == word)
    if instrument is not None:
        refuse_unknown(session, "instrument", instrument, Run.instrument)
        wanted = wanted.where(Run.instrument == instrument)
    wanted = with_time(session, wanted, since=since, until=until, before=before)
    if analysis is not None:
        wanted = with_analysis(session, wanted, analysis)
    if stale:
        wanted = with_stale(wanted)
    wanted = with_dose(session, wanted, below=dose_below_e_per_a2, above=dose_above_e_per_a2)
    wanted = with_readings(session, wanted, readings)
    rows = _newest(session, wanted, text=text, limit=limit + 1, before=before)
    found = [RunRow(*row) for row in rows]
    page = tuple(found[:limit])
    return RunPage(page, page[-1].id if len(found) > limit else None)


def _newest(
    session: Session, wanted: Select[Any], *, text: str | None, limit: int, before: int | None
) -> list[Row[Any]]:
    """The newest of the wanted runs; of those whose words match, first some and then thousands at a time."""
    if text is None:
        return list(session.execute(wanted.where(*_earlier(before)).limit(limit)))
    found: list[Row[Any]] = []
    looked_at = limit
    while len(found) < limit:
        ids = matching(session, "run", text, limit=looked_at, before=before)
        found += session.execute(wanted.where(among(Run.id, ids)).limit(limit - len(found)))
        if len(ids) < looked_at:
            break
        before, looked_at = ids[-1], min(8 * looked_at, FEW)
    return found


def _earlier(before: int | None) -> Sequence[ColumnElement[bool]]:
    return () if before is None else (Run.id < before,)
