"""What a beam shift does to the pattern: where it stands, and how it moves over the scan; both are taken back."""

from math import hypot

import numpy as np

from stem4d.calibrate.descan import DescanFit, fit_descan
from stem4d.maps import RunMaps
from stem4d.quality.grade import grade
from stem4d.verdict import Verdict
from tasks.approach_scans import Way

PATTERN_PX = 0.5
"""Movement of the pattern by the beam shift that is left alone, from where it stood and over the plan's field."""


def straightened(way: Way, before: RunMaps, after: RunMaps, step_nm: float) -> tuple[Way, bool]:
    """Take back what the beam shift did to the pattern, as surveys of one target without and with it show it.

    What the specimen does to the centres of mass is in both, and cancels as far as they show the same of it. The step
    is the commanded one, as that of the coils that correct it.

    Returns
    -------
    Way
        With the settings that take back what was much.
    bool
        Whether anything was.
    """
    way, moved = _recentred(way, before, after)
    way, turned = _descanned(way, before, after, step_nm)
    return way, moved or turned


def _recentred(way: Way, before: RunMaps, after: RunMaps) -> tuple[Way, bool]:
    off = _centre_px(after) - _centre_px(before)
    much = bool(hypot(*off) > PATTERN_PX)
    text = f"With the beam shift the pattern stands ({off[0]:+.2f}, {off[1]:+.2f}) px (y, x) from where it stood"
    way.record(
        "pattern",
        Verdict.WARN if much else Verdict.PASS,
        f"{text}{'; it is taken back' if much else ''}.",
        value=float(hypot(*off)),
        limit=PATTERN_PX,
        unit="px",
    )
    if not much:
        return way, False
    now = way.column.diffraction_shift_mrad
    back = tuple(float(each - way.calibrated.mrad_per_pixel * by) for each, by in zip(now, off, strict=True))
    return way.with_column(diffraction_shift_mrad=back), True


def _centre_px(maps: RunMaps) -> np.ndarray:
    """Mean centre of mass of a scan (y, x)."""
    return np.array([np.nanmean(maps.com_y_px), np.nanmean(maps.com_x_px)])


def _descanned(way: Way, before: RunMaps, after: RunMaps, step_nm: float) -> tuple[Way, bool]:
    fits = [_slopes(one, step_nm) for one in (before, after)]
    if not all(fit.ok for fit in fits):
        reason = next(fit.reason for fit in fits if not fit.ok)
        text = f"What the beam shift did to the descan is not known: {reason}."
        way.record("descan", Verdict.NOT_MEASURABLE, text, limit=PATTERN_PX, unit="px")
        return way, False
    changed = fits[1].slope_px_per_nm - fits[0].slope_px_per_nm
    variance = sum(fit.slope_uncertainty_px_per_nm**2 for fit in fits)
    field_nm = way.plan.scan.step_nm * (np.array(way.plan.scan.shape) - 1.0)
    diagonals = [field_nm * np.array([1.0, sign]) for sign in (1.0, -1.0)]
    longest = max(diagonals, key=lambda one: hypot(*(changed @ one)))
    moved_px = hypot(*(changed @ longest))
    error_px = float(np.sqrt((variance @ longest**2).max()))
    verdict, _ = grade(moved_px, error_px, soft=PATTERN_PX)
    much = verdict is Verdict.WARN and moved_px > PATTERN_PX
    text = f"With the beam shift the pattern moves {moved_px:.2f} ± {error_px:.2f} px more over the plan's field"
    figures = {"value": moved_px, "limit": PATTERN_PX, "unit": "px", "uncertainty": error_px}
    way.record("descan", verdict, f"{text}{'; it is taken back' if much else ''}.", **figures)
    if not much:
        return way, False
    matrix = np.array(way.column.descan_mrad_per_nm) - way.calibrated.mrad_per_pixel * changed
    return way.with_column(descan_mrad_per_nm=tuple(tuple(float(each) for each in row) for row in matrix)), True


def _slopes(maps: RunMaps, step_nm: float) -> DescanFit:
    return fit_descan(maps.com_y_px, maps.com_x_px, maps.recorded, step_nm)
