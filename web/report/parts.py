"""One calibration as the page of calibrations shows it: its figures with their errors, verdict, what it holds for."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import hypot
from typing import Any

from db.vocabulary import USABLE
from web.report.measured_words import (
    NOT_IN_ERRORS,
    RESIDUALS,
    Words,
    settings_in_words,
    title_of,
    unit_for,
    words_of,
)
from web.report.tables import EMPTY, Cell, Chip, Table, chip, plain
from web.report.text import number, places, quantity, time_utc
from web.report.values import CalibrationShown, Plate

VERDICTS = {
    "pass": "the fit is sound, and its errors are within the limits of the kind",
    "warn": "the fit is sound, but an error exceeds the limit of the kind",
    "fail": "the fit is not sound",
}


@dataclass(frozen=True)
class Part:
    """A section of the page."""

    anchor: str
    title: str
    chip: Chip
    figures: Table
    facts: Table
    plates: tuple[Plate, ...]
    missing: str


@dataclass(frozen=True)
class Line:
    """A figure of a calibration in words."""

    label: str
    said: str
    nominal: str = ""
    meaning: str = ""
    long: bool = False
    """Whether what is said needs the room that a page has for meanings."""


def calibration_part(one: CalibrationShown) -> Part:
    """The section of one calibration."""
    title = title_of(one.kind)
    facts = [
        ("Why", one.reason or VERDICTS.get(one.verdict, EMPTY)),
        *([("Not in the errors", NOT_IN_ERRORS[one.kind])] if one.kind in NOT_IN_ERRORS and one.value else []),
        ("Stood, when this page was written", one.standing),
        ("Holds for", settings_in_words(one.mode_key)),
        ("Measured", time_utc(one.measured_at)),
        ("Valid until", time_utc(one.valid_until) if one.valid_until else "it is superseded or withdrawn"),
        ("Rests on", "; ".join(one.evidence) or EMPTY),
        ("Number", str(one.number)),
    ]
    figures = tuple(
        (
            Cell(line.label),
            Cell(EMPTY if line.long else line.said, figure=True),
            Cell(line.nominal or EMPTY, figure=True),
            Cell(line.said if line.long else line.meaning),
        )
        for line in figure_lines(one)
    )
    return Part(
        anchor=f"calibration-{one.number}",
        title=title,
        chip=chip(one.verdict),
        figures=Table(f"{title}: figures", ("Figure", "Measured", "Nominal", "What it is"), figures),
        facts=Table(title, ("Item", "Value"), tuple((Cell(name), Cell(said)) for name, said in facts)),
        plates=tuple(Plate("Data and fit", plate.pictures, plate.note) for plate in one.plates),
        missing=one.missing_pictures,
    )


def figure_lines(one: CalibrationShown) -> Iterator[Line]:
    """Every figure of a calibration, one a line, and what its fit leaves."""
    values = one.value if isinstance(one.value, dict) else {}
    yield from value_lines(values, one.uncertainty, one.nominal)
    if one.off_middle_px is not None:
        y, x = one.off_middle_px
        yield Line(
            "Disk off the detector's middle",
            f"{number(hypot(y, x), 2)}\u00a0px",
            meaning=f"after correction: {number(y, 2)} px along the detector's y, {number(x, 2)} px along its x",
        )
    left = RESIDUALS.get(one.kind)
    if one.residual is not None and values:
        if left is None:
            yield Line("Residual of the fit", number(one.residual, 2))
        else:
            times, unit = (100, "%") if left.percent else (1, left.unit)
            said = quantity(float(f"{one.residual * times:.2g}"), unit)
            yield Line(left.label, said, meaning=left.good)


def standing_words(one: Mapping[str, Any], now: datetime) -> str:
    """How a calibration stands at a moment, as ``db.questions.calibrations.measured_in`` tells of it."""
    if one["withdrawn"] is not None:
        gone = one["withdrawn"]
        return f"withdrawn by {gone['by']} at {time_utc(datetime.fromisoformat(gone['at']))}: {gone['reason']}"
    if one["superseded_by"] is not None:
        return f"superseded by number {one['superseded_by']}"
    if one["verdict"] not in USABLE:
        return "kept as evidence, never used"
    if one["valid_until"] is None:
        return "in force"
    until = datetime.fromisoformat(one["valid_until"])
    return f"{'expired, it was' if until <= now else 'in force,'} valid until {time_utc(until)}"


def value_lines(
    value: Mapping[str, Any], uncertainty: Any, nominal: Mapping[str, float] | None = None
) -> Iterator[Line]:
    """The figures of a calibration's value with their errors, one a line."""
    errors = uncertainty if isinstance(uncertainty, dict) else {}
    for name, each in value.items():
        if name == "bad_pixels" and isinstance(each, list | tuple):
            yield from _pixels(each)
        else:
            yield from _lines(name, each, errors.get(name), (nominal or {}).get(name))


def short(value: Any, uncertainty: Any, unit: str) -> str:
    """The figures of a calibration's value in one run of words; of bad pixels where they are, as far as they go."""
    if not isinstance(value, dict):
        return plain(value, unit)
    if not value:
        return EMPTY
    return "; ".join(f"{line.label} {line.said}" for line in value_lines(value, uncertainty))


def _pixels(pixels: Any) -> Iterator[Line]:
    yield Line("Bad pixels", number(len(pixels)), meaning=words_of("bad_pixels").meaning)
    if pixels:
        yield Line("Where", f"(y, x) on the detector: {places(pixels)}", long=True)


def _lines(name: str, value: Any, error: Any, nominal: float | None) -> Iterator[Line]:
    words, values, errors = words_of(name), _flat(value), _flat(error)
    if not isinstance(value, list | tuple) or name == "of":
        said = ", ".join(str(each) for each in values) if name == "of" else _said(value, error, name, words)
        yield Line(words.label, said, _nominal(value, nominal, unit_for(name)), words.meaning)
        return
    for index, each in enumerate(values):
        own = errors[index] if len(errors) == len(values) else errors[0] if errors else None
        which = words.parts[index] if index < len(words.parts) else f"{index + 1} of {len(values)}"
        yield Line(f"{words.label}, {which}", _said(each, own, name, words), meaning="" if index else words.meaning)


def _said(value: Any, error: Any, name: str, words: Words) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        times = 100 if words.percent else 1
        own = error * times if isinstance(error, int | float) and not isinstance(error, bool) else None
        if own is None and isinstance(value, float):
            # Nothing says how well it is known: four digits are more than enough.
            value = float(f"{value:.4g}")
        return quantity(value * times, "%" if words.percent else unit_for(name), own)
    return EMPTY if value is None else str(value)


def _nominal(value: Any, nominal: float | None, unit: str) -> str:
    if nominal is None or not isinstance(value, int | float):
        return ""
    difference = f" ({100 * (value / nominal - 1):+.2g}\u00a0%)".replace("-", "−") if nominal else ""
    return f"{quantity(nominal, unit)}{difference}"


def _flat(value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [part for each in value for part in _flat(each)]
    return [] if value is None else [value]
