"""Descan with curvature: a quadratic surface through the disk's centres, used only where the data show one."""

from dataclasses import dataclass
from math import isfinite, nan, sqrt

import numpy as np
import numpy.typing as npt
from scipy.special import chdtrc

from stem4d.calibrate.descan import MIN_KEPT, correlation, robust_fit
from stem4d.errors import BadInput

Array = npt.NDArray[np.float64]

FEWEST_POSITIONS = 12
"""Twice the coefficients of a quadratic surface along each axis of the detector."""
CURVED_CHANCE = 1e-3
"""The surface is used where noise alone would look as curved in fewer cases than this."""
BLOCKS = 8
"""The field is cut into BLOCKS x BLOCKS to see what no surface describes."""


@dataclass(frozen=True)
class DescanSurface:
    """Movement of the pattern over the scan, with r the position [nm] from the middle of the field, all as (y, x).

    centre [px] = offset + slope @ r + quadratic @ (r_y², r_y r_x, r_x²), the last only where ``curved``.
    """

    offset_px: tuple[float, float]
    """Centre (y, x) in the middle of the field, in pixel-centre indices."""
    slope_px_per_nm: Array
    """(2, 2): rows are the detector's (y, x), columns the scan's (y, x)."""
    quadratic_px_per_nm2: Array
    """(2, 3): rows are the detector's (y, x), columns r_y², r_y r_x, r_x². As measured, significant or not."""
    offset_uncertainty_px: tuple[float, float]
    slope_uncertainty_px_per_nm: Array
    quadratic_uncertainty_px_per_nm2: Array
    curved: bool
    """Whether the six quadratic coefficients together are significant: offset and slope are then those of the surface,
    else those of the plane."""
    curved_chance: float
    """Chance by which noise alone would give coefficients as large."""
    residual_rms_px: float
    """Robust scatter of one position about the model, rms over both axes: shot noise and what is left."""
    beyond_model_px: float
    """Rms of means over an eighth of the field each way that the scatter does not explain: what no such surface is."""
    ok: bool
    reason: str
    """Why ``ok`` is false; empty otherwise."""


def fit_descan_surface(
    centre_y_px: npt.NDArray[np.floating],
    centre_x_px: npt.NDArray[np.floating],
    recorded: npt.NDArray[np.bool_],
    step_nm: float,
) -> DescanSurface:
    """Fit plane and quadratic surface to the centres of a vacuum scan, robustly, and take the simpler that will do.

    Errors are enlarged where neighbouring residuals go together, as in `stem4d.calibrate.descan.fit_descan`.

    Parameters
    ----------
    centre_y_px, centre_x_px : ndarray, shape (scan_y, scan_x)
        Centres [px], best from `stem4d.calibrate.centres.disk_centres`; NaN where there is none.
    recorded : ndarray of bool, shape (scan_y, scan_x)
        Positions that count.
    step_nm : float
        Scan step [nm].

    Returns
    -------
    DescanSurface
        ``ok`` false with a reason where the positions do not determine a quadratic surface, or half of them do not
        agree with one.

    Raises
    ------
    BadInput
        If the maps differ in shape or the step is not positive.
    """
    if not centre_y_px.shape == centre_x_px.shape == recorded.shape or centre_y_px.ndim != 2:
        limit = "must be three maps (scan_y, scan_x) of one shape"
        raise BadInput(field="centre maps", value=centre_y_px.shape, limit=limit)
    if not step_nm > 0 or not isfinite(step_nm):
        raise BadInput(field="step_nm", value=step_nm, limit="must be positive", unit="nm")
    centres = np.stack([centre_y_px, centre_x_px]).astype(np.float64)
    use = recorded & np.isfinite(centres).all(axis=0)
    rows, columns = np.nonzero(use)
    shape = recorded.shape
    y, x = ((at - (number - 1) / 2) * step_nm for at, number in zip((rows, columns), shape, strict=True))
    # Positions in half fields keep the normal equations well conditioned.
    half = max(float(np.abs(y).max(initial=0)), float(np.abs(x).max(initial=0)), step_nm)
    u, v = y / half, x / half
    design = np.stack([np.ones(len(u)), u, v, u**2, u * v, v**2], axis=1)
    if len(rows) < FEWEST_POSITIONS or np.linalg.matrix_rank(design) < 6:
        return _nothing(f"{len(rows)} positions as they lie do not determine a quadratic surface")
    values = centres[:, use]
    full = [_one(design, component, rows, columns, shape) for component in values]
    chance = float(chdtrc(6, sum(_wald(found, covariance) for found, covariance, _, _ in full)))
    curved = chance < CURVED_CHANCE
    used = full if curved else [_one(design[:, :3], component, rows, columns, shape) for component in values]
    left = np.stack([values[i] - design[:, : len(used[i][0])] @ used[i][0] for i in (0, 1)])
    kept = min(float((weight > 0).mean()) for _, _, _, weight in used)
    scale = np.array([half, half])
    scale2 = np.full(3, half**2)
    slope_error, quadratic_error = (
        np.stack([np.sqrt(np.diag(c)[part]) for _, c, _, _ in fits])
        for fits, part in ((used, slice(1, 3)), (full, slice(3, 6)))
    )
    return DescanSurface(
        offset_px=(float(used[0][0][0]), float(used[1][0][0])),
        slope_px_per_nm=np.stack([found[1:3] for found, _, _, _ in used]) / scale,
        quadratic_px_per_nm2=np.stack([found[3:6] for found, _, _, _ in full]) / scale2,
        offset_uncertainty_px=(sqrt(float(used[0][1][0, 0])), sqrt(float(used[1][1][0, 0]))),
        slope_uncertainty_px_per_nm=slope_error / scale,
        quadratic_uncertainty_px_per_nm2=quadratic_error / scale2,
        curved=curved,
        curved_chance=chance,
        residual_rms_px=sqrt((used[0][2] ** 2 + used[1][2] ** 2) / 2),
        beyond_model_px=sqrt(float(np.mean([_beyond(left[i], used[i][3] > 0, rows, columns, shape) for i in (0, 1)]))),
        ok=kept >= MIN_KEPT,
        reason="" if kept >= MIN_KEPT else f"only {kept:.0%} of the positions agree with a surface",
    )


def descan_surface(fit: DescanSurface, scan_shape: tuple[int, int], step_nm: float) -> Array:
    """The fitted centre at every position, (2, scan_y, scan_x) as (y, x) [px]."""
    y, x = np.meshgrid(*((np.arange(number) - (number - 1) / 2) * step_nm for number in scan_shape), indexing="ij")
    terms = np.stack([np.ones(scan_shape), y, x, y**2, y * x, x**2])
    quadratic = fit.quadratic_px_per_nm2 if fit.curved else np.zeros((2, 3))
    coefficients = np.concatenate([np.array(fit.offset_px)[:, None], fit.slope_px_per_nm, quadratic], axis=1)
    surface: Array = np.tensordot(coefficients, terms, axes=1)
    return surface


def _one(
    design: Array, values: Array, rows: npt.NDArray[np.intp], columns: npt.NDArray[np.intp], shape: tuple[int, ...]
) -> tuple[Array, Array, float, Array]:
    """Coefficients, covariance enlarged for correlated residuals, scatter and weights."""
    found, covariance, sigma, weight = robust_fit(design, values)
    inflation = correlation(values - design @ found, weight > 0, rows, columns, shape)
    return found, covariance * inflation, sigma, weight


def _wald(found: Array, covariance: Array) -> float:
    """Size of the quadratic coefficients in their own errors, squared: chi squared with 3 degrees of freedom."""
    quadratic = found[3:6]
    return float(quadratic @ np.linalg.pinv(covariance[3:6, 3:6]) @ quadratic)


def _beyond(
    left: Array,
    kept: npt.NDArray[np.bool_],
    rows: npt.NDArray[np.intp],
    columns: npt.NDArray[np.intp],
    shape: tuple[int, ...],
) -> float:
    """Mean square of block means of the residuals, less what independent noise gives [px²]."""
    if not kept.any():
        return 0.0
    block = ((rows * BLOCKS // shape[0]) * BLOCKS + columns * BLOCKS // shape[1])[kept]
    number = np.bincount(block, minlength=BLOCKS**2)
    mean = np.bincount(block, weights=left[kept], minlength=BLOCKS**2)[number > 1] / number[number > 1]
    noise = float(np.var(left[kept])) / number[number > 1]
    return max(float(np.mean(mean**2 - noise)), 0.0) if len(mean) else 0.0


def _nothing(reason: str) -> DescanSurface:
    slopes, quadratics = np.full((2, 2), nan), np.full((2, 3), nan)
    return DescanSurface(
        offset_px=(nan, nan),
        slope_px_per_nm=slopes,
        quadratic_px_per_nm2=quadratics,
        offset_uncertainty_px=(nan, nan),
        slope_uncertainty_px_per_nm=slopes.copy(),
        quadratic_uncertainty_px_per_nm2=quadratics.copy(),
        curved=False,
        curved_chance=nan,
        residual_rms_px=nan,
        beyond_model_px=nan,
        ok=False,
        reason=reason,
    )
