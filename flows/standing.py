"""How the kinds of calibration stand for a plan: with an open instrument, or as the database alone has it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from db.calibrations import Standing
from db.engine import reader
from db.questions.calibrations import told_by_column
from flows.recorded import recorded_database
from stem4d.instrument import InstrumentFile
from stem4d.mode import TOLD_BY_COLUMN
from stem4d.plan import Plan
from storage.settings import Settings
from tasks.calibrations.applies import does_not_apply
from tasks.calibrations.kinds import KINDS, kinds_for, mode_keys
from tasks.calibrations.recorded import recorded


@dataclass(frozen=True)
class Line:
    """How one kind stands for a plan's settings."""

    kind: str
    standing: Standing
    mode_key: str
    obstacle: str
    """Why it cannot be measured on this instrument as its file stands; empty where it can."""
    inapplicable: str = ""
    """Why the kind means nothing for the plan's detector; empty where it does."""

    @property
    def good(self) -> bool:
        """Whether nothing is wanting: it is valid, or there is nothing to measure."""
        return bool(self.inapplicable) or self.standing.state == "valid"

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        kind, record = KINDS[self.kind], self.standing.calibration
        facts: dict[str, Any] = {
            "kind": self.kind,
            "state": "does_not_apply" if self.inapplicable else self.standing.state,
            "why": self.inapplicable or self.standing.why,
            "needs": kind.needs,
            "obstacle": self.obstacle,
            "unit": kind.unit,
            "mode_key": self.mode_key,
        }
        names = ("id", "value", "uncertainty", "residual", "verdict", "measured_at", "valid_until")
        return facts | {name: _plain(getattr(record, name)) if record else None for name in names}


def lines_of(
    file: InstrumentFile, plan: Plan, found: Mapping[str, Standing], of_kind: Mapping[str, str]
) -> tuple[Line, ...]:
    """A line for each kind in ``found``; ``of_kind`` are the mode keys."""
    return tuple(
        Line(kind, one, of_kind[kind], _obstacle(file, kind), does_not_apply(kind, file.facts, plan))
        for kind, one in found.items()
    )


def looked_up(settings: Settings, file: InstrumentFile, plan: Plan, named: Iterable[str] = ()) -> tuple[Line, ...]:
    """The same from the database alone: what only the column knows is as it was last told in a run.

    Raises
    ------
    BadInput
        Where nothing was run yet.
    """
    wanted = tuple(named) or kinds_for(plan)
    with recorded_database(settings) as engine:
        with reader(engine) as session:
            told = told_by_column(session, instrument=file.name, names=TOLD_BY_COLUMN)
        of_kind = mode_keys(plan, file.facts, told)
        return lines_of(file, plan, recorded(engine, file.name, of_kind, wanted), of_kind)


def _obstacle(file: InstrumentFile, kind: str) -> str:
    # A scale may be transferred where there is no reference, so for that kind its absence is no obstacle yet.
    if KINDS[kind].needs != "reference_specimen" or kind == "mrad_per_pixel" or file.facts.reference_areas:
        return ""
    return "not measurable: the instrument file names no reference specimen"


def obstacle(file: InstrumentFile, plan: Plan, kind: str) -> str:
    """Why a kind can never be measured for a plan on an instrument as its file stands; empty where it can."""
    if why := does_not_apply(kind, file.facts, plan):
        return why
    return _obstacle(file, kind)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
