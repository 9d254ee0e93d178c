"""The stage that finds where the disk is, which pixels are bad and how the pattern moves, and corrects it.

Everything is measured on a vacuum scan over the plan's own field; then the correction is set and measured again.
"""

from datetime import timedelta
from math import hypot
from typing import Any

from db.calibrations import add_calibration, use_calibration
from db.clock import utc_now
from db.engine import writer
from devices.acquire import Progress
from devices.passes import maps_of
from devices.protocols import ColumnSetting, ScanRequest
from stem4d.calibrate.correction import Correction, correction_for, offset_from_middle_px
from stem4d.calibrate.descan import DescanFit, fit_descan
from stem4d.calibrate.disk import DiskFit, find_disk
from stem4d.calibrate.pixels import find_bad_pixels
from stem4d.dose import electrons
from stem4d.errors import DeviceFault
from stem4d.plan import Plan
from stem4d.predict import predict
from storage.read import open_frames
from tasks.calibrated import Calibrated, accumulator_spec, uncalibrated
from tasks.expose import Pass, expose_once
from tasks.files import file_metadata
from tasks.known import find_known, mode_keys
from tasks.lab import Lab, lab
from tasks.record import VACUUM, vacuum_area
from tasks.stage import stage

GRID = 16
"""Vacuum positions along each axis: 256 frames place a plane to a sixteenth of one frame's error."""
ELECTRONS_PER_PATTERN = 3e4
"""Enough for a disk's edge to 0.02 px; the dwell is made longer where the plan's gives less."""
LIFETIME = timedelta(hours=12)


@stage("calibrate")
def calibrate(instrument: str, run: str) -> str:
    """Calibrate what is stale and correct the column; gives ``Calibrated`` as JSON."""
    opened = lab(instrument)
    plan = opened.runs[run].plan
    known = find_known(opened, plan)
    if known is None:
        known = _measure_all(opened, run, plan)
    else:
        opened.tell("calibrated", "calibrations of this mode are fresh and are used again", run)
    with writer(opened.engine) as session:
        for role, calibration_id in known.calibration_ids.items():
            use_calibration(session, run_id=opened.runs[run].id, calibration_id=calibration_id, role=role)
    return known.model_dump_json()


def _measure_all(opened: Lab, run: str, plan: Plan) -> Calibrated:
    raw = uncalibrated(plan)
    bad, disk, descan, _ratio = _vacuum_scan(opened, run, plan, raw, "vacuum-before")
    correction = correction_for(disk.centre_px, descan, plan.detector.shape, plan.mrad_per_pixel)
    corrected = raw.model_copy(update={"bad_pixels": bad, "column": _with(raw.column, correction)})
    _bad, left, residual, ratio = _vacuum_scan(opened, run, plan, corrected, "vacuum-after")
    off = hypot(*offset_from_middle_px(disk.centre_px, plan.detector.shape))
    opened.tell(
        "calibrated",
        f"{len(bad)} bad pixels; disk {off:.2f} px off centre and moving by {descan.range_px:.2f} px over the field: "
        f"corrected to {residual.range_px:.2f} px; the current is {ratio:.3g} times what it was set to",
        run,
        offset_px=off,
        descan_before_px=descan.range_px,
        descan_after_px=residual.range_px,
        current_ratio=ratio,
    )
    measured = Calibrated(
        column=corrected.column,
        centre_px=left.centre_px,
        disk_radius_px=left.radius_px,
        mrad_per_pixel=plan.mrad_per_pixel,
        bad_pixels=bad,
        descan_range_px=residual.range_px,
        current_ratio=ratio,
        calibration_ids={},
    )
    return measured.model_copy(update={"calibration_ids": _record(opened, run, plan, measured, left, descan, residual)})


def _vacuum_scan(
    opened: Lab, run: str, plan: Plan, geometry: Calibrated, name: str
) -> tuple[tuple[tuple[int, int], ...], DiskFit, DescanFit, float]:
    """One scan without specimen over the plan's field, and what its patterns say.

    Raises
    ------
    DeviceFault
        Where no disk or no plane can be fitted: a run without a known centre is not worth its dose.
    """
    scan = _vacuum_request(plan)
    deepest = plan.detector.model_copy(update={"bit_depth": _deepest(opened, plan)})
    dwelling = plan.exposure.model_copy(update={"dwell_time_us": scan.dwell_time_us, "exposure_time_us": None})
    raster = plan.scan.model_copy(update={"shape": scan.shape, "step_nm": scan.step_nm})
    there = plan.model_copy(update={"detector": deepest, "exposure": dwelling, "scan": raster})
    threads = opened.settings.accumulator_threads
    one = Pass(
        plan=there,
        column=geometry.column,
        scan=scan,
        accumulator=accumulator_spec(there, geometry, threads, com_everywhere=True),
        area=VACUUM,
        area_id=vacuum_area(opened, plan),
        purpose="calibration",
        current_ratio=geometry.current_ratio,
        path=opened.data_folder(run) / f"{name}.h5",
        metadata=file_metadata(there, run, "calibration"),
    )

    def on_progress(progress: Progress) -> None:
        opened.on_progress(name, progress)

    done = expose_once(opened, run, one, on_progress)
    with open_frames(done.result.receipt.path) as frames:
        first = maps_of(frames, one.accumulator)
        hot = find_bad_pixels(first.mean_pattern, first.frames, first.max_pattern)
        bad = tuple(
            sorted({*geometry.bad_pixels, *((int(y), int(x)) for y, x in zip(*hot.mask.nonzero(), strict=True))})
        )
        mask = geometry.model_copy(update={"bad_pixels": bad}).bad_pixel_mask(plan.detector.shape)
        disk = find_disk(first.mean_pattern, mask)
        if not disk.ok:
            raise DeviceFault(f"no bright-field disk in the vacuum scan: {disk.reason}")
        found = geometry.model_copy(update={"bad_pixels": bad, "centre_px": disk.centre_px})
        maps = maps_of(frames, accumulator_spec(there, found, threads))
    descan = fit_descan(maps.com_y_px, maps.com_x_px, maps.recorded, scan.step_nm)
    if not descan.ok:
        raise DeviceFault(f"the disk's movement over the vacuum scan could not be fitted: {descan.reason}")
    ratio = float(maps.total.mean()) / predict(there).electrons_per_pattern
    return bad, disk, descan, ratio


def _vacuum_request(plan: Plan) -> ScanRequest:
    """A coarse raster over the plan's field, long enough at each position to place the disk."""
    step_nm = max(plan.scan.field_nm) / GRID
    shape = (max(2, round(plan.scan.field_nm[0] / step_nm)), max(2, round(plan.scan.field_nm[1] / step_nm)))
    needed_us = ELECTRONS_PER_PATTERN / electrons(plan.optics.probe_current_pa, 1.0)
    return ScanRequest(
        shape=shape,
        step_nm=step_nm,
        rotation_deg=plan.scan.rotation_deg,
        dwell_time_us=max(plan.exposure.dwell_time_us, needed_us),
        flyback_us=plan.scan.flyback_us,
        flyback_blanked=plan.scan.flyback_blanked,
    )


def _deepest(opened: Lab, plan: Plan) -> int:
    """The deepest counter the detector has: a clipped disk would be a clipped calibration."""
    known = [facts for facts in opened.file.facts.all_detectors if facts.name == plan.detector.name]
    return max(known[0].bit_depths) if known else plan.detector.bit_depth


def _with(column: ColumnSetting, correction: Correction) -> ColumnSetting:
    (yy, yx), (xy, xx) = correction.descan_mrad_per_nm.tolist()
    settings = {
        "diffraction_shift_mrad": tuple(float(shift) for shift in correction.diffraction_shift_mrad),
        "descan_mrad_per_nm": ((yy, yx), (xy, xx)),
    }
    return column.model_copy(update=settings)


def _record(
    opened: Lab, run: str, plan: Plan, measured: Calibrated, disk: DiskFit, before: DescanFit, residual: DescanFit
) -> dict[str, int]:
    now = utc_now()
    values: dict[str, tuple[dict[str, Any], dict[str, Any] | None, str]] = {
        "pixel_mask": ({"bad_pixels": [list(pixel) for pixel in measured.bad_pixels]}, None, "px"),
        "disk": (
            {"centre_px": list(disk.centre_px), "radius_px": disk.radius_px},
            {"centre_px": list(disk.centre_uncertainty_px), "radius_px": disk.radius_uncertainty_px},
            "px",
        ),
        "descan": (
            {
                "diffraction_shift_mrad": list(measured.column.diffraction_shift_mrad),
                "descan_mrad_per_nm": [list(row) for row in measured.column.descan_mrad_per_nm],
                "range_before_px": before.range_px,
                "range_after_px": residual.range_px,
            },
            {"residual_rms_px": residual.residual_rms_px},
            "mrad, mrad/nm, px",
        ),
    }
    values["current"] = ({"true_over_commanded": measured.current_ratio}, None, "")
    keys = mode_keys(plan)
    ids = {}
    with writer(opened.engine) as session:
        for kind, (value, uncertainty, unit) in values.items():
            ids[kind] = add_calibration(
                session,
                kind=kind,
                mode_key=keys[kind],
                instrument=opened.file.name,
                value=value,
                uncertainty=uncertainty,
                unit=unit,
                measured_at=now,
                valid_until=now + LIFETIME,
                evidence_run_id=opened.runs[run].id,
                verdict="pass",
            )
    return ids
