"""What a list of runs is filtered by: readings, dose, analyses; each fast where few runs match, and where most do."""

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from difflib import get_close_matches
from math import isfinite
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, exists, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from db.models import AnalysisResult, DeviceReading, DeviceSnapshot, Run, RunCalibration
from db.questions.among import among
from db.rows import distinct
from db.vocabulary import AnalysisVerdict, words
from stem4d.errors import BadInput

FEW = 3000
"""So many matching runs are looked up at once; of more, the newest are soon found by looking at one after another."""
LONGEST = 200
"""Characters of a filter."""
_COMPARED: dict[str, Callable[[Any, Any], Any]] = {
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}


@dataclass(frozen=True)
class ReadingFilter:
    """A reading of the instrument before a run, compared with a number or a text."""

    name: str
    comparison: str
    value: float | str


def reading_filter(asked: str) -> ReadingFilter:
    """What ``defocus_nm>=200`` asks for; a value that is no number is compared as text, by ``=`` and ``!=`` alone.

    Raises
    ------
    BadInput
        For anything else.
    """
    limit = f"must read NAME, one of = != < <= > >=, and a value, of at most {LONGEST} characters"
    found = (
        re.fullmatch(r"([A-Za-z][A-Za-z0-9_.]*)\s*(!=|<=|>=|=|<|>)(.+)", asked.strip())
        if len(asked) <= LONGEST
        else None
    )
    if found is None or not found[3].strip():
        raise BadInput(field="reading", value=asked[:50], limit=limit, remedy="For example 'defocus_nm>=200'")
    name, comparison, value = (part.strip() for part in found.groups())
    try:
        number = float(value)
    except ValueError:
        if comparison not in ("=", "!="):
            limit = "a text is compared by = and != only"
            raise BadInput(field=f"reading {name}", value=value, limit=limit, remedy="Give a number") from None
        return ReadingFilter(name, comparison, value)
    if not isfinite(number):
        raise BadInput(field=f"reading {name}", value=value, limit="must be a finite number")
    return ReadingFilter(name, comparison, number)


def with_readings(session: Session, wanted: Select[Any], filters: Sequence[ReadingFilter]) -> Select[Any]:
    """Runs with such readings; raises `BadInput` with the closest names for one that no run has."""
    for one in filters:
        refuse_unknown(session, "reading", one.name, DeviceReading.name)
        column = DeviceReading.text if isinstance(one.value, str) else DeviceReading.number
        holds = (DeviceReading.name == one.name, _COMPARED[one.comparison](column, one.value))
        each = exists().where(
            DeviceSnapshot.run_id == Run.id,
            DeviceSnapshot.phase == "before",
            DeviceReading.snapshot_id == DeviceSnapshot.id,
            *holds,
        )
        found = select(DeviceReading.snapshot_id).where(*holds)
        wanted = wanted.where(_narrowed(session, found, each, _runs_of))
    return wanted


def with_analysis(session: Session, wanted: Select[Any], asked: str) -> Select[Any]:
    """Runs with an analysis, ``com``, or with one of a verdict, ``com:doubtful``."""
    method, _, verdict = asked.partition(":")
    refuse_unknown(session, "analysis", method, AnalysisResult.method)
    holds = [AnalysisResult.method == method]
    if verdict:
        if verdict not in words(AnalysisVerdict):
            limit = f"its verdict is one of {', '.join(words(AnalysisVerdict))}"
            raise BadInput(field="analysis", value=asked, limit=limit, remedy="For example 'com:doubtful'")
        holds.append(AnalysisResult.verdict == verdict)
    few = select(AnalysisResult.run_id).where(*holds)
    each = exists().where(AnalysisResult.run_id == Run.id, *holds)
    return wanted.where(_narrowed(session, few, each))


def with_dose(
    session: Session, wanted: Select[Any], *, below: float | None = None, above: float | None = None
) -> Select[Any]:
    """Runs that gave their area less, or more, than so much fluence [e/Å²]."""
    for limit, compared in ((below, operator.lt), (above, operator.gt)):
        if limit is None:
            continue
        if not isfinite(limit):
            raise BadInput(field="dose", value=limit, limit="must be a finite number", unit="e/Å²")
        holds: ColumnElement[bool] = compared(Run.actual_fluence_e_per_a2, limit)
        few = select(Run.id).where(holds)
        wanted = wanted.where(_narrowed(session, few, holds))
    return wanted


def with_time(
    session: Session, wanted: Select[Any], *, since: datetime | None, until: datetime | None, before: int | None
) -> Select[Any]:
    """Runs that started since a time, or before one; ``before`` is where the page begins that is asked for."""
    holds = [] if since is None else [Run.started >= since]
    holds += [] if until is None else [Run.started < until]
    if not holds:
        return wanted
    each = and_(*holds)
    # What is older than the page is counted in the index alone, and not looked at run by run behind the last match.
    few = select(Run.id).where(*holds) if before is None else select(Run.id).where(*holds, Run.id < before)
    if until is not None and before is None:
        # The newest of them may be far from the newest run of all; `+ 0` keeps SQLite from looking for the largest id
        # by walking through all of them.
        each = and_(each, Run.id <= select(func.max(Run.id + 0)).where(*holds).scalar_subquery())
    return wanted.where(_narrowed(session, few, each))


def with_stale(wanted: Select[Any]) -> Select[Any]:
    """Runs that were told to use a calibration that was no longer valid."""
    stale = select(RunCalibration.run_id).where(RunCalibration.accepted_stale.is_not(None))
    return wanted.where(Run.id.in_(stale))


def _narrowed(
    session: Session,
    few: Select[Any],
    each: ColumnElement[bool],
    runs_of: Callable[[Select[Any]], Select[Any]] = lambda few: few,
) -> ColumnElement[bool]:
    """The condition by a list of runs where few match, else one that looks at each."""
    if (session.scalar(select(func.count()).select_from(few.limit(FEW + 1).subquery())) or 0) > FEW:
        return each
    return among(Run.id, runs_of(few))


def _runs_of(snapshots: Select[Any]) -> Select[Any]:
    # Listed first, for both would join by reading one of the tables as a whole: what databases know of names and
    # numbers says nothing of them together.
    return select(DeviceSnapshot.run_id).where(DeviceSnapshot.phase == "before", among(DeviceSnapshot.id, snapshots))


def refuse_unknown(session: Session, field: str, name: str, column: InstrumentedAttribute[str]) -> None:
    """Raise `BadInput` with the closest names for one that no row has; there are few names among many rows."""
    if session.scalars(select(column).where(column == name).limit(1)).one_or_none() is not None:
        return
    close = ", ".join(get_close_matches(name, distinct(session, column), n=3, cutoff=0.0))
    limit = f"no run has such a one; the closest are {close}" if close else "no run has any yet"
    raise BadInput(field=field, value=name, limit=limit)
