"""A night in the order in which it is read in the morning: what needs a person, what was got, what was not and why."""

from collections.abc import Iterable, Iterator
from typing import Any

from stem4d.night import BY_A_PERSON, NOT_NEEDED
from web.report.tables import Cell, Table, targets, worth
from web.report.text import NOT_MEASURED, duration
from web.report.values import NightReport, TargetLine

GOT = ("done", "mended", "marked")
"""Ends of a target of which there are data."""
LOOK_AT = ("safety", "not closed", "not parked", "report failed")
"""Kinds of events that are for a person."""
MOST_EVENTS = 10


def needs(report: NightReport) -> tuple[str, ...]:
    """What needs a person, the most pressing first; empty where nothing does."""
    return tuple(_needs(report))


def _needs(report: NightReport) -> Iterator[str]:
    events = [one for one in report.story if one.kind in LOOK_AT]
    for one in events[:MOST_EVENTS]:
        yield f"{one.kind}: {one.message}"
    if len(events) > MOST_EVENTS:
        yield f"{len(events) - MOST_EVENTS} more such events stand in the story"
    if report.state in ("failed", "crashed", "stopped"):
        why = f": {report.exit_reason}" if report.exit_reason else ""
        yield f"The night was broken off ({report.state}){why}"
    waiting = [line.name for line in report.targets if line.waits]
    if waiting:
        yield f"{_names(waiting)} can still be had: the same command goes on with the night"
    for line in report.targets:
        if line.state == "failed" and not line.waits:
            yield f"{line.name} failed: {line.reason or 'no reason was recorded'}"
        elif line.expected and line.expected != line.state:
            yield f"{line.name} ended as {line.state}, and was expected to end as {line.expected}"
        elif line.state == "marked" and not line.expected:
            yield f"{line.name} is marked, look before its data are used: {line.reason or 'no reason was recorded'}"
        elif _lost(line):
            yield f"{line.name} was {line.state}: {line.reason or 'no reason was recorded'}"
        elif line.state in GOT and not line.expected:
            yield from (f"{line.name}, {worth(one)}: {one.reason}" for one in line.analyses if one.verdict != "good")


def _lost(line: TargetLine) -> bool:
    """Whether it was refused, or given up after it had begun: what there was no time for needs nobody."""
    unwanted = (line.reason or "").startswith((BY_A_PERSON, NOT_NEEDED))
    begun = line.state == "refused" or (line.state == "skipped" and bool(line.runs))
    return begun and not (unwanted or line.expected or line.waits)


def _names(names: list[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def got(report: NightReport) -> Table:
    """Targets of which there are data."""
    return targets(line for line in report.targets if _has_data(line))


def _has_data(line: TargetLine) -> bool:
    """Whether there are data: also whole rows of a target that was broken off are some."""
    return line.state in GOT or line.has_data


def not_got(report: NightReport) -> Table:
    """Targets of which there are none, and why."""
    return targets(line for line in report.targets if not _has_data(line))


def times(lines: Iterable[TargetLine]) -> Table:
    """What each target took of the night, beside what was predicted of it."""
    timed = [line for line in lines if line.night_predicted_s is not None and line.night_took_s is not None]
    rows = [_time_row(line.name, line.night_predicted_s, line.night_took_s) for line in timed]
    if len(timed) > 1:
        sums = (sum(getattr(line, name) for line in timed) for name in ("night_predicted_s", "night_took_s"))
        rows.append(_time_row("All of these", *sums))
    headers = ("Target", "Predicted", "Took", "Took / predicted")
    return Table("Time of each target, with what it takes beside its beam", headers, tuple(rows))


def _time_row(name: str, predicted_s: Any, took_s: Any) -> tuple[Cell, ...]:
    ratio = f"{took_s / predicted_s:.2g}" if predicted_s else NOT_MEASURED
    figures = (Cell(words, figure=True) for words in (duration(predicted_s), duration(took_s), ratio))
    return (Cell(name), *figures)
