"""Turns what a page shows into tables of words: every number with its unit, every verdict as a word."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from storage.units import unit_of
from web.report.text import NOT_MEASURED, byte_size, clock_utc, duration, number, quantity, time_utc
from web.report.values import (
    AnalysisOutcome,
    Cost,
    DataFile,
    DoseAccount,
    Exposure,
    Parameter,
    RemedyTaken,
    RunReport,
    StoryLine,
    TargetLine,
)

WORDS = {
    "not_measurable": "not measurable",
    "not_possible": "not possible",
    "warn": "warning",
}
TONES = {
    **dict.fromkeys(("pass", "good", "done"), "good"),
    **dict.fromkeys(("warn", "marked", "doubtful", "stopped"), "doubtful"),
    **dict.fromkeys(("fail", "failed", "not_possible", "crashed"), "bad"),
    "mended": "mended",
}
SIGNS = {"good": "✓", "doubtful": "!", "bad": "✕", "mended": "↻", "neutral": "–"}
EMPTY = "–"


STATES = {
    "marked": "Marked: the run finished and all it took is kept, but at least one result must not be used as it is.",
    "refused": "Refused: the plan cannot work, so the specimen was not exposed.",
    "stopped": "Stopped: it was ended before it was done, by somebody or because its data failed already.",
    "crashed": "Crashed: the program ended without closing the run.",
}
"""States of a run that a word alone does not tell."""


@dataclass(frozen=True)
class Chip:
    """A verdict or state: a word first, a sign and a colour to find it by."""

    word: str
    tone: str
    sign: str


@dataclass(frozen=True)
class Cell:
    """One cell: text, or a chip, or links; figures are set to the right."""

    text: str = ""
    chip: Chip | None = None
    links: tuple[tuple[str, str | None], ...] = ()
    figure: bool = False
    code: bool = False


@dataclass(frozen=True)
class Table:
    """A table with its caption; the first column names the row."""

    caption: str
    headers: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


def chip(verdict: str | None) -> Chip:
    """The chip of a verdict or state."""
    if verdict is None:
        return Chip("not judged", "neutral", SIGNS["neutral"])
    tone = TONES.get(verdict, "neutral")
    return Chip(WORDS.get(verdict, verdict.replace("_", " ")), tone, SIGNS[tone])


def plain(value: Any, unit: str = "") -> str:
    """Any JSON value in words, numbers with their unit; ``None`` was not measured. Names in it carry their own unit."""
    if value is None:
        return NOT_MEASURED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return quantity(value, unit)
    if isinstance(value, dict):
        return "; ".join(named(str(key), part) for key, part in value.items())
    if _is_list(value):
        rows = [", ".join(plain(part) for part in row) for row in value if _is_list(row)]
        if rows and len(rows) == len(value):
            return f"[{'; '.join(rows)}]{_tail(unit)}"
        said = ", ".join(plain(part) for part in value)
        return f"({said}){_tail(unit)}" if unit else said
    return str(value)


def named(name: str, value: Any) -> str:
    """A value with its vocabulary name: ``dwell_time_us`` 50 is "dwell time 50 µs"."""
    label, unit = label_and_unit(name)
    return f"{label} {plain(value, unit)}"


def label_and_unit(name: str) -> tuple[str, str]:
    """A vocabulary name in words, and the unit its suffix carries."""
    if name == "mrad_per_pixel":
        return "angle per pixel", "mrad/px"
    unit = unit_of(name)
    suffix = next((tail for tail in reversed(_tails(name)) if unit and unit_of(f"x_{tail}") == unit), "")
    label = name.removesuffix(f"_{suffix}") if suffix else name
    if label.endswith("_per"):
        label, above = label_and_unit(label.removesuffix("_per"))
        unit = f"{above}/{unit}"
    return label.replace("_", " ").replace(".", ": "), unit


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _tails(name: str) -> list[str]:
    words = name.split("_")
    return ["_".join(words[start:]) for start in range(1, len(words))]


def _tail(unit: str) -> str:
    return quantity(1, unit)[1:]


def identity(report: RunReport) -> Table:
    """Which run, of what, where and when."""
    rows = [
        ("Run", report.run),
        ("Plan", report.plan),
        ("Plan hash", report.plan_sha256),
        ("Sample, area", f"{report.sample}, {report.area}"),
        ("Instrument", report.instrument),
        ("Attempt", f"{report.attempt}, after run {report.parent}" if report.parent else str(report.attempt)),
        *([("Night", report.night)] if report.night else []),
        ("Began", time_utc(report.started)),
        ("Ended", time_utc(report.ended) if report.ended else "has not ended"),
        *report.software,
    ]
    return Table("Identity", ("Item", "Value"), tuple((Cell(name), Cell(value)) for name, value in rows))


def analyses(items: Iterable[AnalysisOutcome]) -> Table:
    """What each analysis can do with the data."""
    rows = tuple(
        (
            Cell(item.method),
            Cell(chip=chip(item.verdict)),
            Cell(item.reason),
            Cell("; ".join(named(name, value) for name, value in item.summary) or EMPTY),
        )
        for item in items
    )
    return Table("Analyses", ("Analysis", "Verdict", "Reason", "Result"), rows)


def remedies(items: Iterable[RemedyTaken]) -> Table:
    """What was mended."""
    rows = tuple(
        (Cell(metric(i.cause)), Cell(i.action.replace("_", " ")), Cell(_or_dash(i.before)), Cell(_or_dash(i.after)),
         Cell(i.cost), Cell(i.outcome))
        for i in items
    )  # fmt: skip
    return Table("What was mended", ("Cause", "Action", "From", "To", "Cost", "Outcome"), rows)


def _or_dash(value: Any) -> str:
    # A remedy without values changes none: measuring a calibration again, for one.
    return EMPTY if value is None else plain(value)


def dose(accounts: Iterable[DoseAccount], by: str) -> Table:
    """Fluence by specimen area [e/Å²]."""
    rows = tuple(
        (
            Cell(f"{a.sample}, {a.area}"),
            *(
                Cell(number(value), figure=True)
                for value in (
                    a.intended_e_per_a2,
                    a.delivered_e_per_a2,
                    a.others_e_per_a2,
                    a.reserved_e_per_a2,
                    a.budget_e_per_a2,
                    a.remaining_e_per_a2,
                )
            ),
        )
        for a in accounts
    )
    headers = (
        "Sample, area",
        f"Intended by {by}",
        f"Delivered by {by}",
        "By other exposures",
        "Reserved",
        "Budget",
        "Remaining",
    )
    return Table("Fluence by area [e⁻/Å²]", headers, rows)


def exposures(items: Iterable[Exposure]) -> Table:
    """Every exposure of a run, calibration and focus included."""
    rows = tuple(
        (
            Cell(item.purpose),
            Cell(item.area),
            Cell(time_utc(item.opened)),
            Cell(number(item.intended_e_per_a2), figure=True),
            Cell(number(item.delivered_e_per_a2), figure=True),
            Cell(number(item.electrons), figure=True),
            Cell(item.reason or EMPTY),
        )
        for item in items
    )
    return Table(
        "Exposures by this run, in vacuum too; fluence in e⁻/Å²",
        ("Purpose", "Area", "Opened", "Intended", "Delivered", "Electrons", "Remark"),
        rows,
    )


def costs(predicted: Cost, actual: Cost) -> Table:
    """Predicted against actual time, bytes and dose of a run."""
    fluences = predicted.fluence_e_per_a2, actual.fluence_e_per_a2
    return _costs([*_time_and_data(predicted, actual), _compared("Fluence", *fluences, _fluence)])


def night_costs(predicted: Cost, actual: Cost) -> Table:
    """Predicted against actual time and bytes of a night; fluences of different areas have no sum."""
    return _costs(_time_and_data(predicted, actual))


def _costs(rows: list[tuple[Cell, ...]]) -> Table:
    return Table("Predicted and actual", ("Quantity", "Predicted", "Actual", "Actual / predicted"), tuple(rows))


def _time_and_data(predicted: Cost, actual: Cost) -> list[tuple[Cell, ...]]:
    return [
        _compared("Time of the scan", predicted.seconds, actual.seconds, duration),
        _compared("Data", predicted.size_bytes, actual.size_bytes, byte_size),
    ]


def _fluence(value: float | None) -> str:
    return quantity(value, "e/A2")


def _compared(name: str, predicted: Any, actual: Any, said: Any) -> tuple[Cell, ...]:
    ratio = number(actual / predicted, 3) if predicted and actual is not None else EMPTY
    return Cell(name), Cell(said(predicted), figure=True), Cell(said(actual), figure=True), Cell(ratio, figure=True)


def files(items: Iterable[DataFile]) -> Table:
    """The data on disk."""
    rows = tuple(
        (
            Cell(i.path, code=True),
            Cell(byte_size(i.size_bytes), figure=True),
            Cell(f"{i.shape[0]} × {i.shape[1]}; {i.shape[2]} × {i.shape[3]}; {i.dtype}"),
            Cell("complete" if i.complete else "incomplete"),
            Cell(i.sha256, code=True),
        )
        for i in items
    )
    return Table("Files", ("File", "Size", "Scan y, x; detector y, x", "Frames", "SHA-256"), rows)


def story(lines: Sequence[StoryLine]) -> tuple[Table, ...]:
    """The events in their order, one table a day."""
    whose = ("Target",) if any(line.target for line in lines) else ()
    days = groupby(lines, key=lambda line: time_utc(line.time)[:10])
    return tuple(
        Table(
            f"{day}, times in UTC",
            ("Time", *whose, "What", "Message"),
            tuple(
                (
                    Cell(clock_utc(line.time)),
                    *(Cell(line.target or EMPTY) for _ in whose),
                    Cell(line.kind.replace("_", " ")),
                    Cell(line.message),
                )
                for line in group
            ),
        )
        for day, group in days
    )


def parameters(items: Iterable[Parameter]) -> tuple[Table, ...]:
    """The plan, one table a section."""
    return tuple(
        Table(
            section.capitalize(),
            ("Parameter", "Value"),
            tuple((Cell(p.name), Cell(plain(p.value, p.unit))) for p in group),
        )
        for section, group in groupby(items, key=lambda item: item.section)
    )


def targets(lines: Iterable[TargetLine]) -> Table:
    """The targets of a night and how each ended."""
    rows = tuple(
        (
            Cell(f"{line.position + 1}. {line.name}"),
            Cell(chip=chip(line.state)),
            Cell(_outcome(line)),
            Cell(_pair(line.predicted.seconds, line.actual.seconds, duration)),
            Cell(_pair(line.predicted.size_bytes, line.actual.size_bytes, byte_size)),
            Cell(_pair(line.predicted.fluence_e_per_a2, line.actual.fluence_e_per_a2, number)),
            Cell(links=tuple((link.run, link.page) for link in line.runs)) if line.runs else Cell("no run"),
        )
        for line in lines
    )
    headers = ("Target", "Ended", "Why", "Time", "Data", "Fluence [e⁻/Å²]", "Runs")
    return Table("Targets; predicted → actual", headers, rows)


def worth(one: AnalysisOutcome) -> str:
    """An analysis and its verdict in words."""
    return f"{one.method} {one.verdict.replace('_', ' ')}"


def _outcome(line: TargetLine) -> str:
    parts = [line.reason or "", *line.mended]
    # Its reason names those that are not good.
    parts += [words for one in line.analyses if (words := worth(one)) not in (line.reason or "")]
    if line.expected and line.expected != line.state:
        parts.append(f"expected to end as {line.expected}")
    return "; ".join(part.rstrip(".") for part in parts if part) or EMPTY


def _pair(predicted: Any, actual: Any, said: Any) -> str:
    if predicted is None and actual is None:
        return EMPTY
    # It may break after the arrow, never within a figure.
    return f"{said(predicted)}\u00a0→ {said(actual)}".replace("not measured", "not\u00a0measured")


def metric(name: str) -> str:
    """A dotted metric in words."""
    return name.replace("_", " ").replace(".", " ")
