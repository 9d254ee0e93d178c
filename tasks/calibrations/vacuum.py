"""Bad pixels, disk, descan and current from vacuum scans over the plan's own field: corrected, and measured again."""

from dataclasses import replace
from math import hypot

import numpy as np

from db.vocabulary import Verdict
from devices.protocols import ColumnSetting, ScanRequest
from stem4d.calibrate.correction import Correction, correction_for, offset_from_middle_px
from stem4d.calibrate.descan_surface import DescanSurface
from tasks.calibrated import Calibrated, uncalibrated
from tasks.calibrations.bench import Bench
from tasks.calibrations.exposed import VACUUM_ELECTRONS
from tasks.calibrations.measured import Measured, clean, not_measurable, of_fit
from tasks.calibrations.seen import Seen, look

GRID = 16
"""Vacuum positions along each axis: 256 frames place a plane to a sixteenth of one frame's error."""
SIGMAS = 4.0
"""Errors by which movement and offset must exceed what they may be: by chance in one of ten thousand nights."""
LEFT_PART = 0.05
"""Part of movement and offset that a correction may leave: a camera length is named to 3 %, an ellipse is 1 or 2."""
LOSS_AT_RATE = 0.1
"""Part of the counts lost at the rate that the facts of a detector state."""


def measure(bench: Bench) -> tuple[Measured, ...]:
    """All four kinds, from a scan before correction and one after."""
    raw = uncalibrated(bench.plan).model_copy(update={"mrad_per_pixel": bench.geometry.mrad_per_pixel})
    first = _look(bench, "vacuum-before", raw)
    if not first.usable:
        return _given_up(bench, first)
    assert first.descan is not None
    plan = bench.plan
    correction = correction_for(first.disk.centre_px, first.descan, plan.detector.shape, raw.mrad_per_pixel)
    corrected = raw.model_copy(update={"bad_pixels": first.bad, "column": _with(raw.column, correction)})
    left = _look(bench, "vacuum-after", corrected)
    if not left.usable:
        return _given_up(bench, first, left)
    assert left.descan is not None
    off = hypot(*offset_from_middle_px(first.disk.centre_px, plan.detector.shape))
    bench.opened.tell(
        "calibrated",
        f"{len(left.bad)} bad pixels; disk {off:.2f} px off centre and moving by {first.descan.range_px:.2f} px over "
        f"the field: corrected to {left.descan.range_px:.2f} px; {_current_said(left)}",
        bench.run,
        offset_px=off,
        descan_before_px=first.descan.range_px,
        descan_after_px=left.descan.range_px,
        current_ratio=_ratio(left),
    )
    return (_mask(first, left), _centre(left), _descan(corrected, first, left), _current(bench, left))


def _look(bench: Bench, name: str, geometry: Calibrated) -> Seen:
    """One scan without specimen over the plan's field, and what its patterns say."""
    return look(bench, bench.scan(name, bench.vacuum, _raster(bench), geometry), geometry)


def _raster(bench: Bench) -> ScanRequest:
    """A coarse raster over the plan's field, long enough at each position to place the disk."""
    field = bench.plan.scan.field_nm
    step_nm = max(field) / GRID
    shape = (max(2, round(field[0] / step_nm)), max(2, round(field[1] / step_nm)))
    request = bench.request(shape, electrons_per_pattern=VACUUM_ELECTRONS)
    return request.model_copy(update={"step_nm": step_nm})


def _with(column: ColumnSetting, correction: Correction) -> ColumnSetting:
    (yy, yx), (xy, xx) = correction.descan_mrad_per_nm.tolist()
    settings = {
        "diffraction_shift_mrad": tuple(float(shift) for shift in correction.diffraction_shift_mrad),
        "descan_mrad_per_nm": ((yy, yx), (xy, xx)),
    }
    return column.model_copy(update=settings)


def _mask(*scans: Seen) -> Measured:
    """Every pixel that any of the scans found; each scan shows pixels that the disk did not reach in the other."""
    bad = sorted({pixel for seen in scans for pixel in seen.bad})
    evidence = tuple(seen.scanned.dataset_id for seen in scans)
    lost = next((seen for seen in scans if not seen.disk.ok), None)
    if lost is None:
        return Measured("pixel_mask", "pass", {"bad_pixels": [list(pixel) for pixel in bad]}, evidence=evidence)
    reason = f"without a disk dead pixels inside it were not looked for: {lost.disk.reason}"
    return Measured("pixel_mask", "warn", {"bad_pixels": [list(pixel) for pixel in bad]}, None, None, reason, evidence)


def _centre(seen: Seen) -> Measured:
    return of_fit(
        "centre",
        seen.disk,
        ("centre_px", "radius_px", "edge_width_px"),
        errors={"edge_width_px": "no_error"},
        evidence=(seen.scanned.dataset_id,),
    )


def _descan(corrected: Calibrated, first: Seen, left: Seen) -> Measured:
    assert first.descan is not None
    assert left.descan is not None
    assert left.surface is not None
    scale = corrected.mrad_per_pixel
    offset_error = hypot(*first.disk.centre_uncertainty_px) / np.sqrt(2) * scale
    plan, surface = left.scanned.plan, left.surface
    curved_px = _curvature_px(surface, plan.scan.field_nm)
    verdict, reason = _kept_promise(first, left)
    return Measured(
        kind="descan",
        verdict=verdict,
        reason=reason,
        value={
            "diffraction_shift_mrad": list(corrected.column.diffraction_shift_mrad),
            "descan_mrad_per_nm": [list(row) for row in corrected.column.descan_mrad_per_nm],
            "range_before_px": first.descan.range_px,
            "range_after_px": left.descan.range_px,
            "curved": surface.curved,
            "curved_chance": clean(surface.curved_chance),
            "curved_range_px": clean(curved_px),
            "beyond_model_px": clean(surface.beyond_model_px),
        },
        uncertainty={
            "diffraction_shift_mrad": float(offset_error),
            "descan_mrad_per_nm": clean(first.descan.slope_uncertainty_px_per_nm * scale),
            "range_before_px": first.descan.range_uncertainty_px,
            "range_after_px": left.descan.range_uncertainty_px,
            "plane_px": _plane_error_px(first, plan.scan.field_nm),
        },
        residual=left.descan.residual_rms_px,
        evidence=(first.scanned.dataset_id, left.scanned.dataset_id),
    )


def _curvature_px(surface: DescanSurface, field_nm: tuple[float, float]) -> float:
    """Range over the field of the movement that is no plane [px]: what no linear correction takes away."""
    y, x = (np.linspace(-0.5, 0.5, GRID) * length for length in field_nm)
    terms = np.stack(np.broadcast_arrays(y[:, None] ** 2, y[:, None] * x, x**2 + 0 * y[:, None]))
    return float(hypot(*np.ptp(np.tensordot(surface.quadratic_px_per_nm2, terms, axes=1), axis=(1, 2))))


def _plane_error_px(seen: Seen, field_nm: tuple[float, float]) -> float:
    """Rms over the field of the error of the plane that was corrected, its slopes and its offset [px]."""
    assert seen.descan is not None
    # The standard deviation of a position over a field of length L is L / sqrt(12).
    slopes = (seen.descan.slope_uncertainty_px_per_nm**2 * np.array(field_nm) ** 2 / 12).sum()
    return float(np.sqrt(slopes + np.square(seen.disk.centre_uncertainty_px).sum()))


def _kept_promise(first: Seen, left: Seen) -> tuple[Verdict, str]:
    """What the second scan says of the correction: it must not make things worse, and should leave next to nothing."""
    assert first.descan is not None
    assert left.descan is not None
    before, after = first.descan, left.descan
    error = hypot(before.range_uncertainty_px, after.range_uncertainty_px)
    moved = f"the disk moved by {before.range_px:.2f} px over the field, and by {after.range_px:.2f} px once corrected"
    if after.range_px > before.range_px + SIGMAS * error:
        return "fail", f"{moved}: the correction made it worse"
    if after.range_px > LEFT_PART * before.range_px + SIGMAS * error:
        return "warn", f"{moved}, more than {LEFT_PART:.0%} of it"
    shape = left.scanned.plan.detector.shape
    was, now = (hypot(*offset_from_middle_px(seen.disk.centre_px, shape)) for seen in (first, left))
    error = hypot(*first.disk.centre_uncertainty_px, *left.disk.centre_uncertainty_px)
    if now > LEFT_PART * was + SIGMAS * error:
        return "warn", f"the disk stood {was:.2f} px off the middle, and {now:.2f} px once corrected"
    return "pass", ""


def _ratio(seen: Seen) -> float | None:
    if seen.current is None or not seen.current.ok:
        return None
    return seen.current.current_pa / seen.scanned.plan.optics.probe_current_pa


def _current_said(seen: Seen) -> str:
    ratio = _ratio(seen)
    return "the current is not known" if ratio is None else f"the current is {ratio:.3g} times what it was set to"


def _current(bench: Bench, seen: Seen) -> Measured:
    assert seen.current is not None
    fit, commanded = seen.current, seen.scanned.plan.optics.probe_current_pa
    error_pa = hypot(fit.current_uncertainty_pa, fit.current_pa * _unknown_loss(bench, seen))
    return of_fit(
        "current",
        fit,
        ("current_pa",),
        evidence=(seen.scanned.dataset_id,),
        also_uncertain={"current_pa": error_pa, "true_over_commanded": error_pa / commanded},
        true_over_commanded=clean(fit.current_pa / commanded),
        hidden_part=clean(fit.hidden_part),
        loss_part=clean(fit.loss_part),
        drift_part=clean(fit.stability.drift_part) if fit.stability else None,
    )


def _unknown_loss(bench: Bench, seen: Seen) -> float:
    """Part of the counts that may be lost to the rate by what the facts say, where no dead time was measured."""
    facts = bench.detector_facts
    assert seen.current is not None
    if facts is None or facts.integrates or seen.current.loss_part > 0:
        return 0.0
    rate_hz = seen.current.electrons_per_frame / (np.pi * seen.disk.radius_px**2 * seen.scanned.exposure_s)
    return float(LOSS_AT_RATE * rate_hz / facts.max_count_rate_per_px_hz)


def _given_up(bench: Bench, *scans: Seen) -> tuple[Measured, ...]:
    """What is left where no disk or no plane can be fitted in the last of the scans."""
    seen = scans[-1]
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
    current = _current(bench, seen) if seen.disk.ok else not_measurable("current", failed)
    return (_mask(*scans), centre, descan, current)
