"""Builds the page of the calibrations that one run measured, from the database and the files they rest on."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from db.engine import reader
from db.questions.calibrations import measured_in
from db.questions.show import show_run
from stem4d.errors import NightbeamError
from stem4d.plan import Plan
from web.report.assemble import plan_of, written
from web.report.fits import drawn_fit
from web.report.render import render_calibrations
from web.report.values import CalibrationReport, CalibrationShown

if TYPE_CHECKING:
    from db.engine import Engine

Facts = dict[str, Any]


def write_calibration_report(engine: "Engine", run_name: str, folder: Path) -> Path:
    """Write the page as ``RUN-calibrations.html`` in a folder that exists; raises `BadInput` for an unknown run."""
    with reader(engine) as session:
        run = show_run(session, name=run_name)
        found = measured_in(session, run=run_name)
    plan = plan_of(run)
    mask = next((one["value"].get("bad_pixels", []) for one in found if one["kind"] == "pixel_mask"), [])
    shown = tuple(_shown(one, plan, [(y, x) for y, x in mask]) for one in found)
    page = render_calibrations(
        CalibrationReport(
            run=run["name"],
            plan=plan.title or plan.name,
            instrument=run["instrument"],
            state=run["state"],
            exit_reason=run["exit_reason"],
            started=datetime.fromisoformat(run["started"]),
            shown=shown,
        )
    )
    return written(folder / f"{run['name']}-calibrations.html", page)


def _shown(one: Facts, plan: Plan, bad: list[tuple[int, int]]) -> CalibrationShown:
    try:
        plates, missing = drawn_fit(one, plan, bad), ""
    except (NightbeamError, OSError) as error:
        plates, missing = (), f"There is no picture, as the evidence cannot be read: {error}"
    return CalibrationShown(
        number=one["id"],
        kind=one["kind"],
        verdict=one["verdict"],
        reason=one["reason"] or "",
        value=_short(one["value"]),
        uncertainty=one["uncertainty"],
        unit=one["unit"],
        residual=one["residual"],
        mode_key=one["mode_key"],
        measured_at=datetime.fromisoformat(one["measured_at"]),
        valid_until=datetime.fromisoformat(one["valid_until"]) if one["valid_until"] else None,
        standing=_standing(one),
        evidence=tuple(each["path"] or f"dataset {each['id']}" for each in one["evidence"]),
        plates=plates,
        missing_pictures=missing,
    )


def _short(value: Facts) -> Facts:
    """A list of thousands of pixels is told by its length."""
    return {name: len(each) if name == "bad_pixels" else each for name, each in value.items()}


def _standing(one: Facts) -> str:
    if one["withdrawn"] is not None:
        return f"withdrawn by {one['withdrawn']['by']}: {one['withdrawn']['reason']}"
    if one["superseded_by"] is not None:
        return f"superseded by number {one['superseded_by']}"
    return "in force" if one["verdict"] in ("pass", "warn") else "kept as evidence, never used"
