"""Calibrations by themselves: which are valid, which are measured, and the page that shows how each came out."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from db.calibrations import Standing
from db.engine import writer
from db.results import add_quality
from flows.report import write_calibrations
from flows.run import as_calls
from stem4d.errors import NightbeamError
from stem4d.model import canonical_json
from stem4d.plan import Plan
from tasks.calibrations.kinds import KINDS, kinds_for
from tasks.calibrations.measure import Recorded, measure
from tasks.calibrations.standing import keys, may_use, standings, usable
from tasks.lab import Lab
from tasks.prepare import prepare
from tasks.record import close_run, not_hiding, open_run


@dataclass(frozen=True)
class Line:
    """How one kind stands for a plan's settings."""

    kind: str
    standing: Standing
    mode_key: str
    obstacle: str
    """Why it cannot be measured on this instrument as its file stands; empty where it can."""

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        kind, record = KINDS[self.kind], self.standing.calibration
        facts: dict[str, Any] = {
            "kind": self.kind,
            "state": self.standing.state,
            "why": self.standing.why,
            "needs": kind.needs,
            "obstacle": self.obstacle,
            "unit": kind.unit,
            "mode_key": self.mode_key,
        }
        names = ("id", "value", "uncertainty", "residual", "verdict", "measured_at", "valid_until")
        return facts | {name: _plain(getattr(record, name)) if record else None for name in names}


@dataclass(frozen=True)
class Result:
    """What measuring came to."""

    run: str
    recorded: tuple[Recorded, ...]
    report: Path | None
    complete: bool
    """Whether every kind that was asked for may be used now."""


def listed(opened: Lab, plan: Plan, named: Iterable[str] = ()) -> tuple[Line, ...]:
    """The kinds that were named, or those that the plan's analyses need, as they stand."""
    wanted = tuple(named) or kinds_for(plan)
    found, of_kind = standings(opened, plan, wanted), keys(opened, plan)
    return tuple(Line(kind, found[kind], of_kind[kind], _obstacle(opened, kind)) for kind in wanted)


def to_measure(opened: Lab, lines: Iterable[Line], named: Iterable[str]) -> tuple[str, ...]:
    """Every kind that was named; without names those that may not be used as they stand."""
    return tuple(named) or tuple(line.kind for line in lines if not may_use(opened, line.standing))


def calibrate_kinds(opened: Lab, plan: Plan, wanted: tuple[str, ...]) -> Result:
    """Measure kinds in a run of their own: recorded, judged, and drawn on a page."""
    run = as_calls(open_run, opened.file.name, canonical_json(plan), None, [], True)
    try:
        as_calls(prepare, opened.file.name, run)
        recorded = measure(opened, run, plan, wanted, usable(opened, standings(opened, plan)))
        _judge(opened, run, recorded)
    except BaseException as error:
        # A device that fails, a bug or Ctrl+C: close the run in the database with nothing in between.
        state = "failed" if isinstance(error, Exception) else "stopped"
        reason = str(error) if isinstance(error, NightbeamError) else f"{type(error).__name__}: {error}".rstrip(": ")
        with not_hiding(opened, run):
            as_calls(close_run, opened.file.name, run, state, reason, None)
        raise
    lacking = [one.measured for one in recorded if one.measured.kind in wanted and not one.measured.usable]
    reason = "; ".join(f"{one.kind}: {one.reason}" for one in lacking)
    as_calls(close_run, opened.file.name, run, "marked" if lacking else "done", reason, None)
    return Result(run, recorded, write_calibrations(opened, run), not lacking)


def _obstacle(opened: Lab, kind: str) -> str:
    # A scale may be transferred where there is no reference, so for that kind its absence is no obstacle yet.
    if KINDS[kind].needs != "reference_specimen" or kind == "mrad_per_pixel" or opened.file.facts.reference_areas:
        return ""
    return "not measurable: the instrument file names no reference specimen"


def _judge(opened: Lab, run: str, recorded: tuple[Recorded, ...]) -> None:
    """A line of the run's quality for each, so that the run's verdict is that of its worst."""
    with writer(opened.engine) as session:
        for one in recorded:
            kind, measured = KINDS[one.measured.kind], one.measured
            add_quality(
                session,
                run_id=opened.runs[run].id,
                stage="final",
                metric=f"calibration.{kind.name}",
                verdict=measured.verdict,
                message=measured.reason or f"{kind.title} was measured: {kind.how}.",
                value=measured.residual,
            )


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value
