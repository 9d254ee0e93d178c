"""Calibrations that are still good: for which mode each holds, and those the database has for a plan's mode."""

from typing import Any

from db.calibrations import CalibrationRecord, current_calibration
from db.clock import utc_now
from db.engine import reader
from stem4d.plan import Plan
from tasks.calibrated import Calibrated, uncalibrated
from tasks.lab import Lab

KINDS = ("pixel_mask", "disk", "descan", "current")


def mode_keys(plan: Plan) -> dict[str, str]:
    """What each kind of calibration depends on; a calibration holds for its own key and for no other."""
    optics = plan.optics
    detector = f"{plan.detector.name} {plan.detector.shape[0]}x{plan.detector.shape[1]}"
    mode = f"{optics.beam_energy_kev:g} kV, {optics.convergence_semi_angle_mrad:g} mrad, {optics.camera_length_mm:g} mm"
    field = f"field {plan.scan.field_nm[0]:g} x {plan.scan.field_nm[1]:g} nm, rotation {plan.scan.rotation_deg:g} deg"
    return {
        "pixel_mask": f"{detector}, {optics.beam_energy_kev:g} kV",
        "disk": f"{mode}, {detector}",
        "current": f"{optics.beam_energy_kev:g} kV, {optics.convergence_semi_angle_mrad:g} mrad, "
        f"{optics.probe_current_pa:g} pA",
        "descan": f"{mode}, {detector}, {field}, dwell {plan.exposure.dwell_time_us:g} us",
    }


def find_known(opened: Lab, plan: Plan) -> Calibrated | None:
    """All calibrations that a plan needs, or None where one is missing, too old, or not to be trusted."""
    now = utc_now()
    keys = mode_keys(plan)
    found: dict[str, CalibrationRecord] = {}
    with reader(opened.engine) as session:
        for kind in KINDS:
            one = current_calibration(session, kind=kind, mode_key=keys[kind], instrument=opened.file.name, now=now)
            if one is None or (opened.calibrate_always and one.measured_at < opened.opened_at):
                return None
            found[kind] = one
    return _together(plan, found)


def _together(plan: Plan, found: dict[str, CalibrationRecord]) -> Calibrated:
    mask, disk, descan, current = (_value(found[kind]) for kind in KINDS)
    raw = uncalibrated(plan)
    column = raw.column.model_copy(
        update={
            "diffraction_shift_mrad": tuple(descan["diffraction_shift_mrad"]),
            "descan_mrad_per_nm": tuple(tuple(row) for row in descan["descan_mrad_per_nm"]),
        }
    )
    return raw.model_copy(
        update={
            "column": column,
            "centre_px": tuple(disk["centre_px"]),
            "disk_radius_px": disk["radius_px"],
            "bad_pixels": tuple((y, x) for y, x in mask["bad_pixels"]),
            "descan_range_px": descan["range_after_px"],
            "current_ratio": current["true_over_commanded"],
            "calibration_ids": {kind: record.id for kind, record in found.items()},
        }
    )


def _value(record: CalibrationRecord) -> Any:
    return record.value
