"""Scan noise: rows that jitter against each other, and the line that the mains leave in their places."""

from collections.abc import Iterator
from math import hypot, sqrt

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.hum import Line, RowShifts, strongest_line
from stem4d.calibrate.robust import spread_of
from stem4d.quality.grade import grade, result
from stem4d.quality.line_shifts import LineShifts
from stem4d.verdict import QualityResult, Verdict

Array = npt.NDArray[np.float64]

MOST_JITTER = 0.25
"""Steps rms per axis: neighbouring rows are then a third of a step apart by chance, and edges look torn (habit)."""
MOST_HUM = 0.25
"""Steps rms per axis of a line, for the same reason."""
SEEN_SIGMAS = 5.0
"""A line of so many of its errors is found (`strongest_line`); a smaller one may be there."""
PHASES = 0.5
"""Relative standard error of a line's size by two passes whose phases are not known: that of |sin| over a turn."""
WILD_STEPS = 2.0
"""Shifts beyond this are no shifts: the linear fit does not reach so far."""


def check_scan_noise(shifts: LineShifts | None, reason: str, line_time_s: float | None) -> tuple[QualityResult, ...]:
    """Judge ``scan.jitter`` and ``scan.hum``, in steps rms per axis.

    Parameters
    ----------
    shifts : LineShifts or None
        Where the rows lie.
    reason : str
        Why that is not known, where it is not.
    line_time_s : float, optional
        Time from one line to the next [s]: it makes Hz of a line's frequency.
    """
    if shifts is None:
        return tuple(
            result(metric, None, Verdict.NOT_MEASURABLE, f"{words} is not known: {reason}.", limit=limit, unit="steps")
            for metric, words, limit in (("scan.jitter", "Jitter", MOST_JITTER), ("scan.hum", "Hum", MOST_HUM))
        )
    line = strongest_line([shifts.rows])
    return (*_jitter(shifts, line), _hum(shifts, line, line_time_s))


def _jitter(shifts: LineShifts, line: Line | None) -> Iterator[QualityResult]:
    rows = shifts.rows
    excess, errors = [], []
    for shift, own in ((rows.along_y, rows.error_y), (rows.along_x, rows.error_x)):
        left = shift if line is None else _without(rows.rows, shift, line.per_row)
        found = _excess(left, own)
        if found is not None:
            excess.append(found[0])
            errors.append(found[1])
    if not excess:
        text = "Jitter is not known: too few rows could be registered."
        yield result("scan.jitter", None, Verdict.NOT_MEASURABLE, text, limit=MOST_JITTER, unit="steps")
        return
    # A difference of two passes holds the noise of both.
    passes = 2.0 if shifts.by == "passes" else 1.0
    square = float(np.mean(excess)) / passes
    spread = sqrt(sum(each**2 for each in errors)) / len(errors) / passes
    value = sqrt(max(square, 0.0))
    # Near zero the error of the square decides; its root is linear beyond.
    error = spread / (2 * max(value, 0.8 * sqrt(spread))) if spread > 0 else 0.0
    verdict, limit = grade(value, error, soft=MOST_JITTER)
    text = f"Rows lie off their places by {value:.3f} ± {error:.3f} steps rms per axis, by {_how(shifts)}."
    if verdict is Verdict.WARN:
        text += " Look for stray fields, vibration or an unsteady scan supply; a longer dwell averages it."
    yield result("scan.jitter", None, verdict, text, value=value, limit=limit, unit="steps", uncertainty=error)


def _excess(shift: Array, error: Array) -> tuple[float, float] | None:
    """Variance of a row's place beyond its error, from neighbouring rows, and the standard error of that.

    What varies slowly from row to row, as strain, distortion and drift do, falls out of the differences.
    """
    sound = (np.abs(shift - np.median(shift)) < WILD_STEPS) & (error < WILD_STEPS)
    pairs = sound[1:] & sound[:-1]
    if pairs.sum() < 4:
        return None
    each = (np.diff(shift)[pairs] ** 2 - error[1:][pairs] ** 2 - error[:-1][pairs] ** 2) / 2
    # Each row is in two differences: two thirds as many are independent.
    return float(each.mean()), float(each.std() / sqrt(pairs.sum() * 2 / 3))


def _without(rows: Array, shift: Array, per_row: float) -> Array:
    """Shifts less the sine of a frequency."""
    turn = 2 * np.pi * per_row * rows
    design = np.stack([np.cos(turn), np.sin(turn), np.ones(len(rows))], axis=1)
    near = np.abs(shift - np.median(shift)) < WILD_STEPS
    found = np.linalg.lstsq(design[near], shift[near], rcond=None)[0]
    return np.asarray(shift - design[:, :2] @ found[:2], dtype=np.float64)


def _hum(shifts: LineShifts, line: Line | None, line_time_s: float | None) -> QualityResult:
    passes = shifts.by == "passes"
    if line is None:
        error = _least_line(shifts.rows)
        text = f"No line of the mains shows in the places of the rows, by {_how(shifts)}"
        if passes:
            verdict = Verdict.NOT_MEASURABLE
            text += "; one that has the same phase in every pass does not show between them. A lattice would tell."
        elif SEEN_SIGMAS * error <= MOST_HUM:
            verdict, text = Verdict.PASS, f"{text}; one of {SEEN_SIGMAS * error:.2f} steps would."
        else:
            verdict, text = Verdict.NOT_MEASURABLE, f"{text}, but one of {MOST_HUM:g} steps would not show either."
        value = 0.0 if verdict is Verdict.PASS else None
        return result("scan.hum", None, verdict, text, value=value, limit=MOST_HUM, unit="steps", uncertainty=error)
    value, error = line.rms_px, line.uncertainty_px
    if passes:
        # Of unknown phases: passes differ by sqrt(2) of one on the average, by twice as much at most.
        value, error = value / sqrt(2), error / sqrt(2)
        surely = grade(value / sqrt(2), error, soft=MOST_HUM)[0] is Verdict.WARN
        verdict = Verdict.WARN if surely or value > MOST_HUM else Verdict.NOT_MEASURABLE
        error = hypot(error, PHASES * value)
    else:
        verdict, _ = grade(value, error, soft=MOST_HUM)
    text = f"Rows swing by {value:.3f} steps rms with a period of {1 / line.per_row:.1f} rows"
    if line_time_s:
        text += f", {line.per_row / line_time_s:.3g} Hz or what folds back to it"
    text += f", by {_how(shifts)}{', whose phases are not known' if passes else ''}."
    if verdict is Verdict.WARN:
        text += " Start lines in step with the mains, or look for the loop that picks it up."
    return result("scan.hum", None, verdict, text, value=value, limit=MOST_HUM, unit="steps", uncertainty=error)


def _least_line(rows: RowShifts) -> float:
    """Standard error of a line's rms per axis: rows that scatter more than their fits say hide it as well."""
    weights = 0.0
    for shift, error in ((rows.along_y, rows.error_y), (rows.along_x, rows.error_x)):
        floor = max(0.1 * float(np.median(error)), spread_of(shift - np.median(shift)))
        weights += float((1 / np.hypot(error, floor) ** 2).sum())
    return 1 / sqrt(weights)


def _how(shifts: LineShifts) -> str:
    return "the waves of a lattice" if shifts.by == "lattice" else "two passes against each other"
