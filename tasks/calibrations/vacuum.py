"""Bad pixels, disk, descan and current from vacuum scans over the plan's own field: corrected, and measured again."""

from dataclasses import dataclass, replace
from math import hypot

import numpy as np

from devices.protocols import ColumnSetting, ScanRequest
from stem4d.calibrate.correction import Correction, correction_for, offset_from_middle_px
from stem4d.calibrate.descan import DescanFit, fit_descan
from stem4d.calibrate.disk import DiskFit, find_disk
from stem4d.calibrate.pixels import find_bad_pixels
from stem4d.predict import predict
from tasks.calibrated import Calibrated, accumulator_spec, uncalibrated
from tasks.calibrations.bench import Bench, Scanned
from tasks.calibrations.measured import Measured, clean, not_measurable, of_fit

GRID = 16
"""Vacuum positions along each axis: 256 frames place a plane to a sixteenth of one frame's error."""
ELECTRONS_PER_PATTERN = 3e4
"""Enough for a disk's edge to 0.02 px; the dwell is made longer where the plan's gives less."""


@dataclass(frozen=True)
class _Seen:
    """What one vacuum scan says."""

    scanned: Scanned
    bad: tuple[tuple[int, int], ...]
    disk: DiskFit
    descan: DescanFit | None
    ratio: float
    """Counted over expected electrons."""
    ratio_error: float


def measure(bench: Bench) -> tuple[Measured, ...]:
    """All four kinds, from a scan before correction and one after."""
    raw = uncalibrated(bench.plan).model_copy(update={"mrad_per_pixel": bench.geometry.mrad_per_pixel})
    first = _look(bench, "vacuum-before", raw)
    if not first.disk.ok or first.descan is None or not first.descan.ok:
        return _given_up(first)
    plan = bench.plan
    correction = correction_for(first.disk.centre_px, first.descan, plan.detector.shape, raw.mrad_per_pixel)
    corrected = raw.model_copy(update={"bad_pixels": first.bad, "column": _with(raw.column, correction)})
    left = _look(bench, "vacuum-after", corrected)
    if not left.disk.ok or left.descan is None or not left.descan.ok:
        return _given_up(left)
    off = hypot(*offset_from_middle_px(first.disk.centre_px, plan.detector.shape))
    bench.opened.tell(
        "calibrated",
        f"{len(first.bad)} bad pixels; disk {off:.2f} px off centre and moving by {first.descan.range_px:.2f} px over "
        f"the field: corrected to {left.descan.range_px:.2f} px; the current is {left.ratio:.3g} times what it was set "
        "to",
        bench.run,
        offset_px=off,
        descan_before_px=first.descan.range_px,
        descan_after_px=left.descan.range_px,
        current_ratio=left.ratio,
    )
    return (_mask(first), _centre(left), _descan(corrected, first, left), _current(left))


def _look(bench: Bench, name: str, geometry: Calibrated) -> _Seen:
    """One scan without specimen over the plan's field, and what its patterns say."""
    scan = _raster(bench)
    scanned = bench.scan(name, bench.vacuum, scan, geometry)
    first = scanned.maps()
    hot = find_bad_pixels(first.mean_pattern, first.frames, first.max_pattern)
    bad = tuple(sorted({*geometry.bad_pixels, *((int(y), int(x)) for y, x in zip(*hot.mask.nonzero(), strict=True))}))
    mask = geometry.model_copy(update={"bad_pixels": bad}).bad_pixel_mask(bench.plan.detector.shape)
    expected = predict(scanned.plan).electrons_per_pattern
    disk = find_disk(first.mean_pattern, mask)
    if not disk.ok:
        return _Seen(scanned, bad, disk, None, float(first.total.mean()) / expected, 0.0)
    found = geometry.model_copy(update={"bad_pixels": bad, "centre_px": disk.centre_px})
    maps = scanned.maps(accumulator_spec(scanned.plan, found, bench.opened.settings.accumulator_threads))
    ratio = float(maps.total.mean()) / expected
    return _Seen(
        scanned=scanned,
        bad=bad,
        disk=disk,
        descan=fit_descan(maps.com_y_px, maps.com_x_px, maps.recorded, scan.step_nm),
        ratio=ratio,
        ratio_error=float(maps.total.std() / np.sqrt(maps.frames) / expected),
    )


def _raster(bench: Bench) -> ScanRequest:
    """A coarse raster over the plan's field, long enough at each position to place the disk."""
    field = bench.plan.scan.field_nm
    step_nm = max(field) / GRID
    shape = (max(2, round(field[0] / step_nm)), max(2, round(field[1] / step_nm)))
    request = bench.request(shape, electrons_per_pattern=ELECTRONS_PER_PATTERN)
    return request.model_copy(update={"step_nm": step_nm})


def _with(column: ColumnSetting, correction: Correction) -> ColumnSetting:
    (yy, yx), (xy, xx) = correction.descan_mrad_per_nm.tolist()
    settings = {
        "diffraction_shift_mrad": tuple(float(shift) for shift in correction.diffraction_shift_mrad),
        "descan_mrad_per_nm": ((yy, yx), (xy, xx)),
    }
    return column.model_copy(update=settings)


def _mask(seen: _Seen) -> Measured:
    value = {"bad_pixels": [list(pixel) for pixel in seen.bad]}
    return Measured("pixel_mask", "pass", value, evidence=(seen.scanned.dataset_id,))


def _centre(seen: _Seen) -> Measured:
    return of_fit(
        "centre",
        seen.disk,
        ("centre_px", "radius_px", "edge_width_px"),
        errors={"edge_width_px": "no_error"},
        evidence=(seen.scanned.dataset_id,),
    )


def _descan(corrected: Calibrated, first: _Seen, left: _Seen) -> Measured:
    assert first.descan is not None
    assert left.descan is not None
    scale = corrected.mrad_per_pixel
    offset_error = hypot(*first.disk.centre_uncertainty_px) / np.sqrt(2) * scale
    return Measured(
        kind="descan",
        verdict="pass",
        value={
            "diffraction_shift_mrad": list(corrected.column.diffraction_shift_mrad),
            "descan_mrad_per_nm": [list(row) for row in corrected.column.descan_mrad_per_nm],
            "range_before_px": first.descan.range_px,
            "range_after_px": left.descan.range_px,
        },
        uncertainty={
            "diffraction_shift_mrad": float(offset_error),
            "descan_mrad_per_nm": clean(first.descan.slope_uncertainty_px_per_nm * scale),
            "range_before_px": first.descan.range_uncertainty_px,
            "range_after_px": left.descan.range_uncertainty_px,
        },
        residual=left.descan.residual_rms_px,
        evidence=(first.scanned.dataset_id, left.scanned.dataset_id),
    )


def _current(seen: _Seen) -> Measured:
    return Measured(
        "current",
        "pass",
        {
            "true_over_commanded": seen.ratio,
            "current_pa": seen.ratio * seen.scanned.plan.optics.probe_current_pa,
        },
        {"true_over_commanded": seen.ratio_error},
        evidence=(seen.scanned.dataset_id,),
    )


def _given_up(seen: _Seen) -> tuple[Measured, ...]:
    """What is left where no disk or no plane can be fitted."""
    failed = f"no bright-field disk in the vacuum scan: {seen.disk.reason}"
    centre = of_fit("centre", seen.disk, ("centre_px", "radius_px"), evidence=(seen.scanned.dataset_id,))
    if not seen.disk.ok:
        centre = replace(centre, reason=failed)
        descan = not_measurable("descan", failed)
    else:
        assert seen.descan is not None
        failed = f"the disk's movement over the vacuum scan could not be fitted: {seen.descan.reason}"
        value = {"range_before_px": clean(seen.descan.range_px)}
        evidence = (seen.scanned.dataset_id,)
        descan = Measured("descan", "fail", value, reason=failed, evidence=evidence)
    # Without a disk the current may be that of no beam: what was counted then says nothing.
    return (_mask(seen), centre, descan, _current(seen) if seen.disk.ok else not_measurable("current", failed))
