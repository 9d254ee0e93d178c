"""Scan distortion: how far rows and columns bend away from a straight, even raster, by the waves of a lattice."""

import numpy as np
import numpy.typing as npt
from numpy.polynomial import legendre

from stem4d.calibrate.hum import RowShifts
from stem4d.quality.grade import grade, result
from stem4d.quality.line_shifts import LineShifts
from stem4d.verdict import QualityResult, Verdict

Array = npt.NDArray[np.float64]

MOST_BENT = 1.0
"""Steps, peak to peak: positions are then within half a step of an even raster (habit)."""
SETTLED = 0.15
"""Part of a line that is left out at its beginning: what bends there is the flyback's."""
WILD_STEPS = 3.0
SHARE = 0.7
"""Part of the lines that must have been placed."""


def check_distortion(shifts: LineShifts | None, reason: str) -> tuple[QualityResult, ...]:
    """Judge ``scan.distortion``, second and third order, in steps from peak to peak.

    Steps that are uneven by a constant factor and a constant shear are left out: they take a lattice whose constants
    are known, which is the calibration ``scan_step``. A bent specimen looks like a bent scan, so there is no alarm.
    """
    if shifts is None or shifts.by != "lattice":
        why = reason or "two passes are bent alike; the waves of a lattice would tell"
        return (_unknown(f"Scan distortion is not known: {why}."),)
    found = [
        bend
        for lines, spare in ((shifts.rows, 0.0), (shifts.columns, SETTLED))
        for shift, error in ((lines.along_y, lines.error_y), (lines.along_x, lines.error_x))
        if (bend := _bend(lines, shift, error, spare)) is not None
    ]
    if len(found) < 4:
        return (_unknown("Scan distortion is not known: too few rows or columns could be placed."),)
    value, error = max(found)
    verdict, limit = grade(value, error, soft=MOST_BENT)
    text = f"Rows and columns bend by {value:.2f} ± {error:.2f} steps away from an even raster."
    if verdict is Verdict.WARN:
        verdict = Verdict.NOT_MEASURABLE
        text += " Scan distortion or a bent specimen: a reference lattice tells."
    return (result("scan.distortion", None, verdict, text, value=value, limit=limit, unit="steps", uncertainty=error),)


def _bend(lines: RowShifts, shift: Array, error: Array, spare: float) -> tuple[float, float] | None:
    """Peak to peak of the second and third order of a series, and its error; None where too few lines are sound."""
    later = lines.rows >= lines.rows.min() + spare * np.ptp(lines.rows)
    sound = later & (np.abs(shift - np.median(shift)) < WILD_STEPS) & (error < 1.0)
    if sound.sum() < max(SHARE * later.sum(), 8):
        return None
    at, values = lines.rows[sound], shift[sound]
    where = 2 * (at - at.min()) / np.ptp(at) - 1
    weight = 1 / np.hypot(error[sound], 0.1 * float(np.median(error[sound])))
    design = legendre.legvander(where, 3)
    normal = np.linalg.pinv((design * weight[:, None] ** 2).T @ design)
    fit = normal @ (design * weight[:, None] ** 2).T @ values
    # Rows that jitter scatter by more than their errors.
    misfit = float(((values - design @ fit) ** 2 * weight**2).sum()) / (len(values) - 4)
    bent = legendre.legval(np.linspace(-1, 1, 41), [0.0, 0.0, fit[2], fit[3]])
    spread = np.sqrt(np.diag(normal) * max(misfit, 1.0))
    # P2 spans 1.5 and P3 spans 2 of its coefficient.
    return float(np.ptp(bent)), float(np.hypot(1.5 * spread[2], 2 * spread[3]))


def _unknown(text: str) -> QualityResult:
    return result("scan.distortion", None, Verdict.NOT_MEASURABLE, text, limit=MOST_BENT, unit="steps")
