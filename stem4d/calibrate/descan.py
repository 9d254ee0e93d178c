"""How the pattern moves over the scan: a robust plane through its centres, with honest errors."""

from dataclasses import dataclass
from math import hypot, isfinite, nan, sqrt

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.robust import spread_of
from stem4d.errors import BadInput

Array = npt.NDArray[np.float64]

ROUNDS = 8
TUKEY = 4.685
"""Tukey's biweight at 95 % efficiency for Gaussian noise: residuals beyond this many sigma do not count."""
FEWEST_POSITIONS = 6
MIN_KEPT = 0.5
"""Part of the positions that must agree with a plane for it to mean anything."""
CURVED_PX, CURVED_PART = 0.5, 0.75
"""A second-order part that moves the pattern by so much over the field and explains so much of the variance that a
plane leaves: the slopes are then those of the middle only, and a plane no correction."""
CORRELATED = 1.6
"""Block means that vary so much more than noise explains are correlated; 16 blocks of noise alone stay below."""
BLOCKS = 4
"""The field is cut into BLOCKS x BLOCKS to see whether residuals are correlated."""


@dataclass(frozen=True)
class DescanFit:
    """Movement of the pattern over the scan.

    pattern centre [px] = offset + slope @ (position [nm] - middle of the field), all as (y, x).
    """

    slope_px_per_nm: Array
    """(2, 2): rows are the detector's (y, x), columns the scan's (y, x). NaN along an axis of one position."""
    offset_px: tuple[float, float]
    """Centre (y, x) in the middle of the field, in the pixel-centre indices of the maps."""
    residual_rms_px: float
    """Robust scatter about the plane, rms over both axes: noise and whatever is not a plane."""
    range_px: float
    """Largest distance the fitted centre moves between two corners of the part of the field that was recorded."""
    slope_uncertainty_px_per_nm: Array
    """Standard errors of the slopes, (2, 2)."""
    range_uncertainty_px: float
    ok: bool
    reason: str
    """Why ``ok`` is false; empty otherwise."""


def fit_descan(
    com_y_px: npt.NDArray[np.floating],
    com_x_px: npt.NDArray[np.floating],
    recorded: npt.NDArray[np.bool_],
    step_nm: float,
) -> DescanFit:
    """Fit a plane to the centres of a scan's patterns: of mass, or of the disk's edge.

    Least squares with Tukey's biweight. The errors are enlarged where neighbouring residuals go together, as they
    do on a specimen: block means of the residuals then scatter more than independent noise would.

    Parameters
    ----------
    com_y_px, com_x_px : ndarray, shape (scan_y, scan_x)
        Centres [px]; NaN where there is none.
    recorded : ndarray of bool, shape (scan_y, scan_x)
        Positions that count.
    step_nm : float
        Scan step [nm].

    Returns
    -------
    DescanFit
        ``ok`` is false with a reason where a plane is not determined; what is known is still given.

    Raises
    ------
    BadInput
        If the maps differ in shape or the step is not positive.
    """
    if not com_y_px.shape == com_x_px.shape == recorded.shape or com_y_px.ndim != 2:
        raise BadInput(field="com maps", value=com_y_px.shape, limit="must be three maps (scan_y, scan_x) of one shape")
    if not step_nm > 0 or not isfinite(step_nm):
        raise BadInput(field="step_nm", value=step_nm, limit="must be positive", unit="nm")
    com = np.stack([com_y_px, com_x_px]).astype(np.float64)
    use = recorded & np.isfinite(com).all(axis=0)
    rows, columns = np.nonzero(use)
    if len(rows) < FEWEST_POSITIONS:
        have = f"only {len(rows)} have" if len(rows) else "no position has"
        return _nothing(f"{have} a centre; a plane needs {FEWEST_POSITIONS} positions")
    shape = com_y_px.shape
    middle = ((shape[0] - 1) / 2, (shape[1] - 1) / 2)
    axes = [axis for axis, at in enumerate((rows, columns)) if len(np.unique(at)) > 1]
    position = np.stack([rows - middle[0], columns - middle[1]]) * step_nm
    design = np.stack([np.ones(len(rows)), *(position[axis] for axis in axes)], axis=1)
    if len(axes) == 2 and np.linalg.matrix_rank(design) < 3:
        return _nothing("the recorded positions lie on one line")
    return _assemble(design, com[:, use], axes, rows, columns, shape, step_nm)


def descan_plane(fit: DescanFit, scan_shape: tuple[int, int], step_nm: float) -> Array:
    """The fitted centre at every position, (2, scan_y, scan_x) as (y, x) [px]; an unknown slope counts as none."""
    y, x = ((np.arange(number) - (number - 1) / 2) * step_nm for number in scan_shape)
    slope = np.nan_to_num(fit.slope_px_per_nm)
    plane: Array = np.stack(
        [fit.offset_px[each] + slope[each, 0] * y[:, None] + slope[each, 1] * x[None, :] for each in (0, 1)]
    )
    return plane


def _assemble(
    design: Array,
    com: Array,
    axes: list[int],
    rows: npt.NDArray[np.intp],
    columns: npt.NDArray[np.intp],
    shape: tuple[int, ...],
    step_nm: float,
) -> DescanFit:
    slope, error = np.full((2, 2), nan), np.full((2, 2), nan)
    offset, scatter, kept = [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]
    covariances = []
    for component in (0, 1):
        found, covariance, sigma, weight = robust_fit(design, com[component])
        inflation = correlation(com[component] - design @ found, weight > 0, rows, columns, shape)
        covariances.append(covariance * inflation)
        offset[component], scatter[component], kept[component] = float(found[0]), sigma, float((weight > 0).mean())
        slope[component, axes] = found[1:]
        error[component, axes] = np.sqrt(np.diag(covariance)[1:] * inflation)
    # Only as far as was recorded: a few rows say nothing of the rest of the field.
    lengths = np.array([float(np.ptp(at)) * step_nm for at in (rows, columns)])
    extent, extent_error = _range(slope, covariances, axes, lengths)
    reasons = [f"one position along scan {'yx'[axis]}: its slope is unknown" for axis in (0, 1) if axis not in axes]
    if min(kept) < MIN_KEPT:
        reasons.append(f"only {min(kept):.0%} of the positions agree with a plane")
    if len(axes) == 2 and (curve := _curve_px(design, com)) > CURVED_PX:
        reasons.append(f"the pattern moves along a curve: {curve:.1f} px beyond any plane; fit a surface")
    return DescanFit(
        slope_px_per_nm=slope,
        offset_px=(offset[0], offset[1]),
        residual_rms_px=sqrt((scatter[0] ** 2 + scatter[1] ** 2) / 2),
        range_px=extent,
        slope_uncertainty_px_per_nm=error,
        range_uncertainty_px=extent_error,
        ok=not reasons,
        reason="; ".join(reasons),
    )


def _curve_px(design: Array, com: Array) -> float:
    """How far the second-order part moves the pattern over the field [px]; 0 where it is not most of what is left."""
    y, x = (design[:, each] / max(float(np.abs(design[:, each]).max()), 1e-300) for each in (1, 2))
    curved = np.stack([y * y, y * x, x * x], axis=1)
    whole = np.concatenate([design, curved], axis=1)
    if len(design) < 4 * whole.shape[1]:
        return 0.0
    reach = 0.0
    for values in com:
        plane, surface = robust_fit(design, values)[0], robust_fit(whole, values)
        before, after = _scatter(values - design @ plane), _scatter(values - whole @ surface[0])
        if after**2 < (1 - CURVED_PART) * before**2:
            reach = max(reach, float(np.ptp(curved @ surface[0][3:])))
    return reach


def robust_fit(design: Array, values: Array) -> tuple[Array, Array, float, Array]:
    """Tukey's biweight: coefficients, their covariance for independent noise, the scatter, and the weights."""
    weight = np.ones(len(values))
    centred = values - np.median(values)
    found: Array = np.zeros(design.shape[1])
    sigma = _scatter(centred)
    for _ in range(ROUNDS):
        root = np.sqrt(weight)
        found = np.asarray(np.linalg.lstsq(design * root[:, None], values * root, rcond=None)[0], dtype=np.float64)
        left = values - design @ found
        sigma = _scatter(left)
        if sigma <= 1e-9:
            weight = (np.abs(left) <= 1e-6).astype(np.float64)
            break
        # About the median: outliers on one side move the first plane beyond the scatter of all the others.
        off = left - np.median(left)
        weight = np.where(np.abs(off) < TUKEY * sigma, (1 - (off / (TUKEY * sigma)) ** 2) ** 2, 0.0)
    freedom = max(float((weight > 0).sum()) / max(float((weight > 0).sum()) - design.shape[1], 1.0), 1.0)
    normal = (design * weight[:, None]).T @ design
    inverse = np.linalg.pinv(normal)
    meat = (design * (weight**2)[:, None]).T @ design
    return found, inverse @ meat @ inverse * sigma**2 * freedom, sigma, weight


def _scatter(left: Array) -> float:
    """Standard deviation from the median absolute deviation, of the values about their median."""
    return spread_of(left - np.median(left))


def correlation(
    left: Array,
    kept: npt.NDArray[np.bool_],
    rows: npt.NDArray[np.intp],
    columns: npt.NDArray[np.intp],
    shape: tuple[int, ...],
) -> float:
    """How much more block means of the residuals vary than independent noise would make them; at least 1."""
    block = (rows * BLOCKS // shape[0]) * BLOCKS + columns * BLOCKS // shape[1]
    number = np.bincount(block[kept], minlength=BLOCKS**2).astype(np.float64)
    filled = number > 0
    if filled.sum() < 5 or number[filled].mean() < 4:
        return 1.0
    variance = float(np.var(left[kept]))
    if variance <= 1e-18:
        return 1.0
    mean = np.bincount(block[kept], weights=left[kept], minlength=BLOCKS**2)[filled] / number[filled]
    # The plane has taken three degrees of freedom out of the block means.
    seen = float((mean**2 * number[filled]).sum() / max(filled.sum() - 3, 1))
    return seen / variance if seen > CORRELATED * variance else 1.0


def _range(slope: Array, covariances: list[Array], axes: list[int], lengths: Array) -> tuple[float, float]:
    """Longest diagonal of the parallelogram that the field's corners map to, and its standard error."""
    known = np.nan_to_num(slope)
    best, best_error = 0.0, 0.0
    for sign in (1.0, -1.0):
        diagonal = lengths * np.array([sign, 1.0])
        moved = known @ diagonal
        length = hypot(*moved)
        along = moved / length if length > 0 else np.full(2, sqrt(0.5))
        reach = diagonal[axes]
        variance = sum(along[each] ** 2 * float(reach @ covariances[each][1:, 1:] @ reach) for each in (0, 1))
        if length >= best:
            best, best_error = length, sqrt(float(variance))
    return best, best_error


def _nothing(reason: str) -> DescanFit:
    empty = np.full((2, 2), nan)
    return DescanFit(empty, (nan, nan), nan, nan, empty.copy(), nan, ok=False, reason=reason)
