"""Calibrations by themselves: which are valid, which are measured, and the page that shows how each came out."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from db.operations import AddQuality, Figure
from flows.by_prefect import as_calls
from flows.report import write_calibrations
from flows.standing import Line, lines_of
from flows.status import single_run
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
    return lines_of(opened.file, plan, standings(opened, plan, wanted), keys(opened, plan))


def to_measure(opened: Lab, lines: Iterable[Line], named: Iterable[str]) -> tuple[str, ...]:
    """Every kind that was named; without names those that may not be used as they stand. None that does not apply."""
    named = set(named)
    return tuple(
        line.kind
        for line in lines
        if not line.inapplicable and (line.kind in named if named else not may_use(opened, line.standing))
    )


def calibrate_kinds(opened: Lab, plan: Plan, wanted: tuple[str, ...]) -> Result:
    """Measure kinds in a run of their own: recorded, judged, and drawn on a page."""
    with single_run(opened, plan=plan.name, stage="calibrate"):
        return _calibrate_kinds(opened, plan, wanted)


def _calibrate_kinds(opened: Lab, plan: Plan, wanted: tuple[str, ...]) -> Result:
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


def _judge(opened: Lab, run: str, recorded: tuple[Recorded, ...]) -> None:
    """A line of the run's quality for each, so that the run's verdict is that of its worst."""
    figures = []
    for one in recorded:
        kind, measured = KINDS[one.measured.kind], one.measured
        message = measured.reason or f"{kind.title} was measured: {kind.how}."
        metric = f"calibration.{kind.name}"
        figures.append(Figure(metric=metric, verdict=measured.verdict, message=message, value=measured.residual))
    opened.recorder.record(AddQuality(run=run, stage="final", figures=tuple(figures)))
