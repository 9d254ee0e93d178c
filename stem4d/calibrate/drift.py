"""Drift of the specimen from repeated fast scans: a rate, an acceleration where one shows, and jumps of the stage.

Every scan is registered against every other, so that each has a place with an error of its own; the first scan's noise
is then not shared by all. Places are held against a straight course, one that accelerates, and one with a jump.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from math import isfinite, nan, sqrt

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.hum import TORN, line_of_hum, rows_torn
from stem4d.calibrate.shift import Shift, register, white_noise, without_surface
from stem4d.errors import BadInput

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

MOST_PAIRS = 45
"""Pairs beyond this, all of ten scans, are only those of scans near each other: they say little more."""
JUMP_GAIN = 30.0
"""Fall of chi squared (2 degrees of freedom and the choice of a moment) that makes a jump: by chance 1 in 1e5."""
JUMP_PX = 0.3
"""Smallest jump that is called one."""
BEND_GAIN = 14.0
"""Fall of chi squared (2 degrees of freedom) that makes an acceleration: by chance 1 in 1e3."""
PRIOR_FREEDOM = 4.0
"""Degrees of freedom that the errors of the registration count for when the scatter about the course corrects them."""
LARGEST_MISFIT = 3.0
"""Scatter about the course, in errors, beyond which it is none of the courses that are known."""
LARGEST_IN_LINE = 0.3
"""Drift during a line as a part of the step, beyond which the images are too sheared to be registered as rigid."""

SHOWS = 0.5
"""Contrast beyond the noise of a scan that could not be registered, over that of the others, from which on it shows
something: the beam was there, and the place is another one."""


@dataclass(frozen=True)
class Jump:
    """A step of the stage between two scans."""

    after: int
    """Index of the last scan before it."""
    jump_nm: tuple[float, float]
    """(y, x), beyond what the drift did meanwhile."""
    uncertainty_nm: tuple[float, float]


@dataclass(frozen=True)
class DriftFit:
    """How the specimen moves over the field, (y, x); NaN where nothing was found."""

    rate_nm_per_min: tuple[float, float]
    """In the middle of the series."""
    rate_uncertainty_nm_per_min: tuple[float, float]
    acceleration_nm_per_min2: tuple[float, float]
    """0 where none is significant."""
    acceleration_uncertainty_nm_per_min2: tuple[float, float]
    """NaN where the course is straight."""
    places_nm: Array
    """(n, 2) place of the specimen in each scan, relative to the first; NaN where it was not registered."""
    course_nm: Array
    """(n, 2) the same by the fitted course."""
    jump: Jump | None
    """A step that is not part of the rate."""
    residual_px: float
    """Rms of the places about the course, in scan steps."""
    ok: bool
    reason: str
    """Why ``ok`` is false; empty otherwise."""


@dataclass(frozen=True)
class _Course:
    """Weighted least squares of one model: coefficients (terms, 2), their covariance, chi squared, residuals."""

    coefficients: Array
    covariance: Array
    chi2: float
    left: Array


def fit_drift(
    images: Sequence[npt.NDArray[np.number]] | Sequence[Sequence[npt.NDArray[np.number]]],
    times_s: Sequence[float],
    step_nm: float,
    recorded: Sequence[Mask] | None = None,
    line_time_s: float = 0.0,
) -> DriftFit:
    """Fit the drift to a series of scans of one area.

    Parameters
    ----------
    images : sequence of ndarray, shape (scan_y, scan_x), or sequence of sequences of these
        One image, or several that count together, of each scan.
    times_s : sequence of float
        When each scan began, on any clock [s]; the scans take equally long.
    step_nm : float
        Scan step [nm].
    recorded : sequence of ndarray of bool, shape (scan_y, scan_x), optional
        Positions of each scan that count; all where absent.
    line_time_s : float
        Time from one line to the next [s]: a feature that moved by a line is seen that much later. 0 neglects it.

    Returns
    -------
    DriftFit
        ``ok`` false with a reason where fewer than two scans can be registered in one chain, their places follow
        no known course, some scans show another place, or rows are moved against each other as hum moves them.

    Raises
    ------
    BadInput
        If the series is shorter than two, times do not rise, or the step is not positive.
    """
    series = [_as_list(each) for each in images]
    _check(series, times_s, step_nm, recorded, line_time_s)
    seen = list(recorded) if recorded is not None else [np.ones(each[0].shape, bool) for each in series]
    flat = [[without_surface(image, mask, 0) for image in each] for each, mask in zip(series, seen, strict=True)]
    number = len(flat)
    pairs = sorted(combinations(range(number), 2), key=lambda pair: pair[1] - pair[0])[: max(MOST_PAIRS, number - 1)]
    shifts = {(a, b): register(flat[a], flat[b], seen[a], seen[b]) for a, b in pairs}
    good = {pair: shift for pair, shift in shifts.items() if shift.ok}
    placed = _connected(number, list(good))
    if len(placed) < 2:
        reasons = [shift.reason for shift in shifts.values() if shift.reason]
        return _nothing(number, f"no two scans can be registered: {reasons[0]}")
    lost = [k for k in range(number) if k not in placed]
    places = _places(good, placed)
    times = np.array([times_s[k] - times_s[0] for k in placed]) / 60 + places[:, 0] * line_time_s / 60
    fit = _assemble(places, _variances(good, placed), times, placed, number, step_nm)
    in_line = abs(fit.rate_nm_per_min[0]) * line_time_s / 60 / step_nm
    reasons = [fit.reason] if fit.reason else []
    if len(lost) > number / 2:
        reasons.append(f"scans {lost} could not be registered with the others")
    elsewhere = _elsewhere(flat, seen, lost, placed)
    if elsewhere and not reasons:
        reasons.append(f"scans {elsewhere} show another place: the stage jumped out of the field, or it changed")
    reasons += _hum(flat, seen, good)
    if in_line > LARGEST_IN_LINE:
        reasons.append(f"the specimen moves by {in_line:.1f} steps in a line: the scans are too slow")
    return DriftFit(**{**fit.__dict__, "ok": not reasons, "reason": "; ".join(reasons)})


def _elsewhere(flat: list[list[Array]], seen: list[Mask], lost: list[int], placed: list[int]) -> list[int]:
    """Scans that show as much as those that were registered, and yet have nothing in common with them."""

    def shown(k: int) -> float:
        return max(float(image[seen[k]].var()) - white_noise(image, seen[k]) ** 2 for image in flat[k])

    usual = float(np.median([shown(k) for k in placed]))
    return [k for k in lost if seen[k].any() and shown(k) > SHOWS * usual]


def _hum(flat: list[list[Array]], seen: list[Mask], good: dict[tuple[int, int], Shift]) -> list[str]:
    """What speaks against the scan engine, in words."""
    whole = all(mask.all() for mask in seen)
    # All images of a scan together: deflections along y fade from row to row, those along x from column to column.
    alike = [image / image.std() for images in flat for image in images if image.std() > 0]
    torn = rows_torn(alike) if whole and alike else 1.0
    if torn < TORN:
        return [f"neighbouring rows share {torn:.0%} of what neighbouring columns do: hum or jitter tears the scan"]
    # Images of one scan share their noise: only the one that shows most has the errors that the test of a line takes.
    clearest = int(
        np.argmax(
            [
                min(_contrast(one, mask) for one, mask in zip(kind, seen, strict=True))
                for kind in zip(*flat, strict=True)
            ]
        )
    )
    near = [
        (flat[a][clearest], flat[b][clearest], seen[a], shift.shift_px)
        for (a, b), shift in good.items()
        if b - a <= 2 and seen[b].all()
    ]
    line = line_of_hum(near)
    return [] if line is None else [f"rows shift against each other every {1 / line:.1f} rows: hum in the scan"]


def _contrast(image: Array, seen: Mask) -> float:
    """Variance over that of the noise; 0 where an image is even."""
    noise = white_noise(image, seen)
    return float(image[seen].var()) / noise**2 if noise > 0 else 0.0


def _as_list(each: npt.NDArray[np.number] | Sequence[npt.NDArray[np.number]]) -> list[npt.NDArray[np.number]]:
    return [each] if isinstance(each, np.ndarray) else list(each)


def _check(
    series: list[list[npt.NDArray[np.number]]],
    times_s: Sequence[float],
    step_nm: float,
    recorded: Sequence[Mask] | None,
    line_time_s: float,
) -> None:
    if len(series) < 2 or any(not each for each in series):
        raise BadInput(field="images", value=len(series), limit="must be at least two scans")
    if len(times_s) != len(series) or not (np.diff(times_s) > 0).all():
        limit = f"must be {len(series)} rising times, one a scan"
        raise BadInput(field="times_s", value=list(times_s), limit=limit, unit="s")
    if recorded is not None and len(recorded) != len(series):
        raise BadInput(field="recorded", value=len(recorded), limit=f"must be {len(series)} masks, one a scan")
    if not step_nm > 0 or not isfinite(step_nm):
        raise BadInput(field="step_nm", value=step_nm, limit="must be positive", unit="nm")
    if not line_time_s >= 0:
        raise BadInput(field="line_time_s", value=line_time_s, limit="must not be negative", unit="s")


def _connected(number: int, pairs: list[tuple[int, int]]) -> list[int]:
    """The largest set of scans that are registered with each other, by way of others."""
    group = list(range(number))
    for a, b in pairs:
        old, new = group[b], group[a]
        group = [new if each == old else each for each in group]
    best = max(set(group), key=lambda each: (group.count(each), -each))
    return [k for k in range(number) if group[k] == best]


def _places(good: dict[tuple[int, int], Shift], placed: list[int]) -> Array:
    """Place of each scan relative to the first of them, by least squares over all pairs [px], (n, 2)."""
    index = {k: i for i, k in enumerate(placed)}
    size = 2 * len(placed)
    normal, right = np.zeros((size, size)), np.zeros(size)
    for (a, b), shift in good.items():
        if a not in index or b not in index:
            continue
        weight = np.linalg.inv(shift.covariance_px2)
        i, j = 2 * index[a], 2 * index[b]
        moved = weight @ np.array(shift.shift_px)
        for row, column, sign in ((i, i, 1), (j, j, 1), (i, j, -1), (j, i, -1)):
            normal[row : row + 2, column : column + 2] += sign * weight
        right[j : j + 2] += moved
        right[i : i + 2] -= moved
    found = np.zeros(size)
    found[2:] = np.linalg.solve(normal[2:, 2:], right[2:])
    return found.reshape(-1, 2)


def _variances(good: dict[tuple[int, int], Shift], placed: list[int]) -> Array:
    """Variance of each scan's own place [px²], (n, 2): half of what its pairs have, which is both scans' together."""
    variances = np.zeros((len(placed), 2))
    for i, k in enumerate(placed):
        mine = [np.diag(shift.covariance_px2) for pair, shift in good.items() if k in pair]
        variances[i] = np.median(mine, axis=0) / 2
    return variances


def _fit(design: Array, places: Array, variances: Array) -> _Course:
    coefficients, covariance = np.zeros((design.shape[1], 2)), np.zeros((2, design.shape[1], design.shape[1]))
    left = np.zeros(places.shape)
    for axis in (0, 1):
        weight = 1 / variances[:, axis]
        covariance[axis] = np.linalg.inv((design * weight[:, None]).T @ design)
        coefficients[:, axis] = covariance[axis] @ (design.T @ (weight * places[:, axis]))
        left[:, axis] = places[:, axis] - design @ coefficients[:, axis]
    return _Course(coefficients, covariance, float((left**2 / variances).sum()), left)


def _best(places: Array, variances: Array, times: Array) -> tuple[_Course, str, int]:
    """The simplest course that will do: straight, accelerated or with a jump after a place; times from the middle."""
    number = len(times)
    straight = np.stack([np.ones(number), times], axis=1)
    first = _fit(straight, places, variances)
    if number < 4:
        return first, "straight", -1
    half = max(float(np.abs(times).max()), 1e-300)
    bent = _fit(np.column_stack([straight, (times / half) ** 2]), places, variances)
    jumps = [
        (_fit(np.column_stack([straight, np.arange(number) > k]), places, variances), k)
        for k in range(number - 1)
        # One scan alone on a side has no rate to be held against: its step would be whatever it takes.
        if number > 4 or 0 < k < number - 2
    ]
    jumped, after = min(jumps, key=lambda each: each[0].chi2)
    size = float(np.hypot(*jumped.coefficients[2]))
    if first.chi2 - jumped.chi2 > JUMP_GAIN and size > JUMP_PX and jumped.chi2 < bent.chi2:
        return jumped, "jump", after
    if first.chi2 - bent.chi2 > BEND_GAIN:
        return bent, "bent", -1
    return first, "straight", -1


def _assemble(
    places: Array, variances: Array, times: Array, placed: list[int], number: int, step_nm: float
) -> DriftFit:
    middle = float(times.mean())
    course, kind, after = _best(places, variances, times - middle)
    freedom = places.size - course.coefficients.size
    # The registration's own errors are a little too careful or too bold; the scatter about the course says by how much.
    misfit = (PRIOR_FREEDOM + course.chi2) / (PRIOR_FREEDOM + freedom)
    errors = np.sqrt(misfit * np.stack([np.diag(each) for each in course.covariance])) * step_nm
    found = course.coefficients * step_nm
    half = max(float(np.abs(times - middle).max()), 1e-300)
    acceleration, acceleration_error = (0.0, 0.0), (nan, nan)
    if kind == "bent":
        acceleration = (2 * float(found[2, 0]) / half**2, 2 * float(found[2, 1]) / half**2)
        acceleration_error = (2 * float(errors[0, 2]) / half**2, 2 * float(errors[1, 2]) / half**2)
    jump = None
    if kind == "jump":
        step = (float(found[2, 0]), float(found[2, 1]))
        jump = Jump(placed[after], step, (float(errors[0, 2]), float(errors[1, 2])))
    everywhere, fitted = np.full((2, number, 2), nan)
    everywhere[placed], fitted[placed] = places * step_nm, (places - course.left) * step_nm
    off = sqrt(course.chi2 / freedom) if freedom > 0 else 0.0
    return DriftFit(
        rate_nm_per_min=(float(found[1, 0]), float(found[1, 1])),
        rate_uncertainty_nm_per_min=(float(errors[0, 1]), float(errors[1, 1])),
        acceleration_nm_per_min2=acceleration,
        acceleration_uncertainty_nm_per_min2=acceleration_error,
        places_nm=everywhere,
        course_nm=fitted,
        jump=jump,
        residual_px=float(np.sqrt(np.mean(course.left**2))),
        ok=off <= LARGEST_MISFIT,
        reason="" if off <= LARGEST_MISFIT else f"the places scatter by {off:.1f} times their errors about any course",
    )


def _nothing(number: int, reason: str) -> DriftFit:
    unknown = (nan, nan)
    empty = np.full((number, 2), nan)
    return DriftFit(unknown, unknown, unknown, unknown, empty, empty, None, nan, ok=False, reason=reason)
