"""Builds the page of the calibrations that one run measured, from the database and the files they rest on."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from db.clock import Clock, utc_now
from db.engine import reader
from db.questions.calibrations import measured_in, pixel_masks
from db.questions.show import show_run
from stem4d.calibrate.correction import offset_from_middle_px
from stem4d.errors import NightbeamError
from stem4d.mode import nominal_mrad_per_pixel
from stem4d.plan import Plan
from web.report.assemble import plan_of, written
from web.report.fits import drawn_fit
from web.report.parts import standing_words
from web.report.render import render_calibrations
from web.report.values import CalibrationReport, CalibrationShown

if TYPE_CHECKING:
    from db.engine import Engine

Facts = dict[str, Any]


def write_calibration_report(engine: "Engine", run_name: str, folder: Path, clock: Clock = utc_now) -> Path:
    """Write the page as ``RUN-calibrations.html`` in a folder that exists; raises `BadInput` for an unknown run."""
    with reader(engine) as session:
        run = show_run(session, name=run_name)
        found = measured_in(session, run=run_name)
        masks = pixel_masks(session, instrument=run["instrument"])
    plan = plan_of(run)
    own = next((one["value"]["bad_pixels"] for one in found if one["kind"] == "pixel_mask" and one["value"]), None)
    at = max((one["measured_at"] for one in found), default="")
    mask = standing_mask(masks, plan, at) if own is None else [(y, x) for y, x in own]
    centre = next((one for one in found if one["kind"] == "centre"), None)
    now = clock()
    shown = tuple(_shown(one, plan, mask, centre, now) for one in found)
    page = render_calibrations(
        CalibrationReport(
            run=run["name"],
            plan=plan.title or plan.name,
            instrument=run["instrument"],
            state=run["state"],
            exit_reason=run["exit_reason"],
            started=datetime.fromisoformat(run["started"]),
            written=now,
            shown=shown,
        )
    )
    return written(folder / f"{run['name']}-calibrations.html", page)


def standing_mask(masks: list[Facts], plan: Plan, at: str) -> list[tuple[int, int]]:
    """The bad pixels as they were known at a moment: of the newest mask of the plan's detector and beam energy.

    Parameters
    ----------
    masks : list of dict
        As ``db.questions.calibrations.pixel_masks`` gives them, oldest first.
    at : str
        The moment (ISO 8601, UTC); one that was withdrawn before does not count.
    """
    detector = plan.detector
    wanted = {
        f"detector={detector.name}",
        f"detector_shape={detector.shape}",
        f"beam_energy_kev={plan.optics.beam_energy_kev:g}",
    }
    known = [
        one
        for one in masks
        if one["measured_at"] <= at
        and wanted <= set(one["mode_key"].split("; "))
        and (one["withdrawn"] is None or one["withdrawn"]["at"] > at)
    ]
    return [(y, x) for y, x in known[-1]["value"]["bad_pixels"]] if known else []


def _nominal(one: Facts, plan: Plan) -> dict[str, float]:
    """What the plan has of a calibration's values, by their names."""
    optics, value = plan.optics, one["value"]
    nominal = {
        "radius_px": plan.disk_radius_px,
        "mrad_per_pixel": nominal_mrad_per_pixel(plan),
        "convergence_semi_angle_mrad": optics.convergence_semi_angle_mrad,
        "current_pa": optics.probe_current_pa,
        "defocus_nm": optics.defocus_nm,
    }
    if "nominal_step_nm" in value:
        nominal |= dict.fromkeys(("step_y_nm", "step_x_nm"), value["nominal_step_nm"])
    return {name: figure for name, figure in nominal.items() if name in value}


def _off_middle(one: Facts, plan: Plan, centre: Facts | None) -> tuple[float, float] | None:
    """Where the disk lies after correction, for the kinds that are about that."""
    if one["kind"] not in ("centre", "descan") or centre is None or centre["value"].get("centre_px") is None:
        return None
    y, x = centre["value"]["centre_px"]
    return offset_from_middle_px((y, x), plan.detector.shape)


def _shown(one: Facts, plan: Plan, bad: list[tuple[int, int]], centre: Facts | None, now: datetime) -> CalibrationShown:
    try:
        plates, missing = drawn_fit(one, plan, bad), ""
    except (NightbeamError, OSError) as error:
        plates, missing = (), f"There is no picture, as the evidence cannot be read: {error}"
    return CalibrationShown(
        number=one["id"],
        kind=one["kind"],
        verdict=one["verdict"],
        reason=one["reason"] or "",
        value=one["value"],
        uncertainty=one["uncertainty"],
        unit=one["unit"],
        residual=one["residual"],
        mode_key=one["mode_key"],
        measured_at=datetime.fromisoformat(one["measured_at"]),
        valid_until=datetime.fromisoformat(one["valid_until"]) if one["valid_until"] else None,
        standing=standing_words(one, now),
        evidence=tuple(each["path"] or f"dataset {each['id']}" for each in one["evidence"]),
        nominal=_nominal(one, plan),
        off_middle_px=_off_middle(one, plan, centre),
        plates=plates,
        missing_pictures=missing,
    )
