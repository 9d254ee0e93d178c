"""The calibrations of a run as its page lists them: what each said, what it was used for, which are missing or gone."""

from collections.abc import Iterable, Sequence
from typing import Any

from web.report.measured_words import title_of
from web.report.parts import short
from web.report.tables import Cell, Table, chip
from web.report.text import listed, time_utc
from web.report.values import CalibrationUsed, Withdrawn

_MAIN = {
    "centre": ("centre_px", "radius_px"),
    "descan": ("diffraction_shift_mrad", "descan_mrad_per_nm", "range_after_px"),
    "current": ("current_pa", "true_over_commanded"),
    "mrad_per_pixel": ("mrad_per_pixel",),
    "ellipticity": ("ellipticity", "ellipse_angle_deg"),
    "convergence_semi_angle": ("convergence_semi_angle_mrad",),
    "scan_step": ("step_y_nm", "step_x_nm", "nominal_step_nm"),
    "defocus": ("defocus_nm", "astigmatism_nm", "astigmatism_angle_deg"),
    "drift": ("drift_nm_per_min",),
}
"""Figures that a list has room for; the page of the calibrations has all."""


def calibrations(items: Iterable[CalibrationUsed]) -> Table:
    """What stood for the run's settings, and what of it the run took."""
    rows = tuple(
        (
            Cell(title_of(i.kind) + (f" ({i.role})" if i.role and i.role != i.kind else "")),
            Cell(chip=chip(i.verdict)),
            Cell(short(main_figures(i.kind, i.value), i.uncertainty, i.unit)),
            Cell(i.used_for),
            Cell(time_utc(i.measured_at)),
            Cell(i.standing),
        )
        for i in items
    )
    return Table(
        "Calibrations that stood for this run",
        ("Kind", "Verdict", "Value", "Used for", "Measured", "Standing"),
        rows,
    )


def withdrawn(items: Iterable[Withdrawn]) -> Table:
    """What the run's data contradicted."""
    rows = tuple((Cell(title_of(i.kind)), Cell(str(i.number)), Cell(i.reason)) for i in items)
    return Table("Withdrawn by this run: no run uses them any more", ("Kind", "Number", "Why"), rows)


def main_figures(kind: str, value: Any) -> Any:
    """The figures of a calibration that a list has room for."""
    wanted = _MAIN.get(kind)
    if wanted is None or not isinstance(value, dict):
        return value
    return {name: value[name] for name in wanted if name in value} or value


def lacking_words(kinds: Sequence[str]) -> str:
    """Which calibrations are missing and what to type; empty where none is."""
    if not kinds:
        return ""
    names = listed(title_of(kind).lower() for kind in kinds)
    return f"Missing calibrations: {names}. To measure: nightbeam calibrate {' '.join(kinds)} --plan PLAN -i INSTRUMENT"
