"""Flyback: how far the first columns lie behind their places, because the scan has not settled when a line begins."""

from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np
import numpy.typing as npt

from stem4d.quality.grade import grade, result
from stem4d.quality.line_shifts import LineShifts
from stem4d.verdict import QualityResult, Verdict

Array = npt.NDArray[np.float64]

MOST_BEHIND = 0.5
"""Steps that the first column may be off: a position is then still nearest to its own place (habit)."""
WILD_STEPS = 1.5
"""Shifts beyond this are not measured by a linear fit; the tail of the settling says what they are."""
FASTEST, SLOWEST_PART = 0.5, 1 / 6
"""Times to settle that are looked for: from half a column to this part of a line. What settles more slowly is a
distortion of the whole field."""
TIMES = 24
LEAST_DRIFT_PX = 2.0
"""Columns that the second pass must lie off the first: both lag alike, and show it only where they do not coincide."""


@dataclass(frozen=True)
class Settling:
    """shift(column) = behind x exp(-column / columns), besides a constant and a slope."""

    behind_px: float
    """Of the first column."""
    uncertainty_px: float
    columns: float


def check_flyback(shifts: LineShifts | None, reason: str) -> tuple[QualityResult, ...]:
    """Judge ``scan.flyback``, the distance in steps by which the first column lies off its place."""
    if shifts is None:
        return (_unknown(reason),)
    if shifts.by == "passes" and abs(shifts.drift_x_px) < LEAST_DRIFT_PX:
        why = "both passes lag alike, and lie within two columns of each other; a lattice would tell"
        return (_unknown(why),)
    found = settling(shifts)
    if found is None:
        return (_unknown("too few columns could be placed"),)
    value, error = abs(found.behind_px), found.uncertainty_px
    verdict, limit = grade(value, error, soft=MOST_BEHIND)
    text = f"The first column lies {value:.2f} ± {error:.2f} steps off its place"
    if verdict is Verdict.WARN:
        spoilt = found.columns * log(max(value / MOST_BEHIND, 1.0))
        text += f" and settles within {found.columns:.1f} columns: leave the first {max(round(spoilt), 1)} out,"
        text += " or wait longer after the flyback."
    else:
        text += "."
    return (result("scan.flyback", None, verdict, text, value=value, limit=limit, unit="steps", uncertainty=error),)


def settling(shifts: LineShifts) -> Settling | None:
    """The exponential that fits the shifts of the columns along the line best."""
    columns = shifts.columns
    at = columns.rows - columns.rows.min()
    shift, error = columns.along_y, np.hypot(columns.error_y, 0.1 * np.median(columns.error_y))
    sound = (np.abs(shift - np.median(shift)) < WILD_STEPS) & (error < WILD_STEPS)
    if sound.sum() < 8:
        return None
    at, shift, weight = at[sound], shift[sound], 1 / error[sound]
    best: tuple[float, Settling] | None = None
    for time in np.geomspace(FASTEST, max(SLOWEST_PART * float(at.max()), 2 * FASTEST), TIMES):
        design = np.stack([np.exp(-at / time), np.ones(len(at)), at / at.max()], axis=1) * weight[:, None]
        normal = np.linalg.pinv(design.T @ design)
        fit = normal @ design.T @ (shift * weight)
        chi2 = float(((shift * weight - design @ fit) ** 2).sum())
        scale = max(chi2 / max(len(at) - 4, 1), 1.0)
        if best is None or chi2 < best[0]:
            best = chi2, Settling(float(fit[0]), sqrt(float(normal[0, 0]) * scale), float(time))
    assert best is not None
    return _of_one_pass(best[1], shifts)


def _of_one_pass(found: Settling, shifts: LineShifts) -> Settling:
    """Two passes that lie D columns apart show their difference: 1 - exp(-D / time) of what one of them has."""
    if shifts.by == "lattice":
        return found
    part = 1 - exp(-abs(shifts.drift_x_px) / found.columns)
    return Settling(found.behind_px / part, found.uncertainty_px / part, found.columns)


def _unknown(reason: str) -> QualityResult:
    text = f"The lag after the flyback is not known: {reason}."
    return result("scan.flyback", None, Verdict.NOT_MEASURABLE, text, limit=MOST_BEHIND, unit="steps")
