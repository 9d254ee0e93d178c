"""One calibration as the page of calibrations shows it: its figures with their errors, its gate, what it holds for."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from storage.units import unit_of
from web.report.tables import EMPTY, Cell, Chip, Table, chip
from web.report.text import number, quantity, time_utc
from web.report.values import CalibrationShown, Plate

_TAILS = ("_mrad_per_nm", "_nm_per_min", "_mrad", "_nm", "_px", "_deg", "_pa")
"""Units at the end of a value's name, the longest first."""


@dataclass(frozen=True)
class Part:
    """A section of the page."""

    anchor: str
    title: str
    chip: Chip
    facts: Table
    plates: tuple[Plate, ...]
    missing: str


def calibration_part(one: CalibrationShown) -> Part:
    """The section of one calibration."""
    rows = [
        *_values(one),
        ("Residual of the fit", number(one.residual) if one.residual is not None else EMPTY),
        ("Why", one.reason or "the fit passed its gate"),
        ("Standing", one.standing),
        ("Holds for", one.mode_key),
        ("Measured", time_utc(one.measured_at)),
        ("Valid until", time_utc(one.valid_until) if one.valid_until else "it is superseded or withdrawn"),
        ("Rests on", "; ".join(one.evidence) or EMPTY),
        ("Number", str(one.number)),
    ]
    title = one.kind.replace("_", " ").capitalize()
    return Part(
        anchor=f"calibration-{one.number}",
        title=title,
        chip=chip(one.verdict),
        facts=Table(title, ("Item", "Value"), tuple((Cell(name), Cell(said)) for name, said in rows)),
        plates=tuple(Plate("Fit and data", plate.pictures, plate.note) for plate in one.plates),
        missing=one.missing_pictures,
    )


def _values(one: CalibrationShown) -> list[tuple[str, str]]:
    errors = one.uncertainty if isinstance(one.uncertainty, dict) else {}
    values = one.value if isinstance(one.value, dict) else {}
    return [(_named(name), _said(value, errors.get(name), _unit(name, one))) for name, value in values.items()]


def _unit(name: str, one: CalibrationShown) -> str:
    """From the value's own name where that carries one; else the kind's where that is single."""
    found = "mrad/nm" if name.endswith("_mrad_per_nm") else unit_of(name)
    return found if found else one.unit if name == one.kind and "," not in one.unit else ""


def _named(name: str) -> str:
    """A name in words, without the unit that stands beside the figure."""
    for tail in _TAILS:
        if name.endswith(tail) and name != "mrad_per_pixel":
            name = name.removesuffix(tail)
            break
    return name.replace("_", " ").capitalize()


def _said(value: Any, error: Any, unit: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return quantity(value, unit, error if isinstance(error, int | float) else None)
    if isinstance(value, list | tuple):
        errors: Sequence[Any] = error if isinstance(error, list | tuple) else [error] * len(value)
        return f"({', '.join(_said(each, e, unit) for each, e in zip(value, errors, strict=False))})"
    return EMPTY if value is None else str(value)
