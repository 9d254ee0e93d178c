"""Where one Bragg disk lies: the bright-field disk's outline fitted to it, whatever its light does within."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt
from scipy.special import erfc

Array = npt.NDArray[np.float64]

ROUNDS = 12
FURTHEST = 0.7
"""A position may move by this part of the disk's radius plus 1 px from where it was first seen."""


@dataclass(frozen=True)
class Spot:
    """A Bragg disk; errors from the scatter about the fit."""

    at: tuple[float, float]
    """(y, x) [px]"""
    uncertainty: tuple[float, float]


def place_spot(
    counts: Array,
    good: npt.NDArray[np.bool_],
    start: tuple[float, float],
    radius_px: float,
    edge_width_px: float,
) -> Spot | None:
    """Fit a disk of known radius and blur, with light that may slope within it, on a sloping background.

    Parameters
    ----------
    counts, good : ndarray, shape (det_y, det_x)
        Counts, and the pixels that count.
    start : (float, float)
        Where the disk was seen (y, x) [px].
    radius_px, edge_width_px : float
        Of the bright-field disk [px].

    Returns
    -------
    Spot or None
        None where the fit runs away.
    """
    reach = radius_px * 1.4 + 3
    rows, columns = (
        slice(max(int(at - reach), 0), min(int(at + reach) + 2, size))
        for at, size in zip(start, counts.shape, strict=True)
    )
    grid = np.indices(counts[rows, columns].shape, dtype=np.float64)
    y, x = grid[0] + rows.start, grid[1] + columns.start
    use = good[rows, columns] & (np.hypot(y - start[0], x - start[1]) < reach)
    y, x, values = y[use], x[use], counts[rows, columns][use]
    if len(values) < 30:
        return None
    width = max(edge_width_px, 0.3)
    at = np.array(start)
    weight = 1 / np.sqrt(np.maximum(values.mean(), 1e-300)) * np.ones_like(values)
    covariance = np.full((2, 2), np.inf)
    for turn in range(ROUNDS):
        design, moved = _model(y, x, at, radius_px, width)
        weighted = design * weight[:, None]
        amplitudes = np.linalg.lstsq(weighted, values * weight, rcond=None)[0]
        model = design @ amplitudes
        columns_ = np.concatenate([weighted, (moved @ amplitudes[3:]).T * weight[:, None]], axis=1)
        residuals = (values - model) * weight
        normal = np.linalg.pinv(columns_.T @ columns_)
        step = (normal @ columns_.T @ residuals)[-2:]
        at = at + np.clip(step, -1.0, 1.0)
        if np.hypot(*(at - start)) > FURTHEST * radius_px + 1.0:
            return None
        # Noise as the first fits foresee it; then no more changes, so that the rounds can end.
        if turn < 4:
            weight = 1 / np.sqrt(np.maximum(model, 0.05 * max(float(model.max()), 1e-300)))
        elif np.abs(step).max() < 1e-4:
            break
        scored = columns_ * residuals[:, None]
        covariance = (normal @ (scored.T @ scored) @ normal)[-2:, -2:] * len(y) / max(len(y) - 8, 1)
    if not np.isfinite(covariance).all() or amplitudes[3] <= 0:
        return None
    return Spot((float(at[0]), float(at[1])), (sqrt(float(covariance[0, 0])), sqrt(float(covariance[1, 1]))))


def _model(y: Array, x: Array, at: Array, radius: float, width: float) -> tuple[Array, Array]:
    """Linear terms (n, 6), background first, and the derivative (2, n, 3) of the disk's by its place."""
    dy, dx = y - at[0], x - at[1]
    distance = np.maximum(np.hypot(dy, dx), 1e-9)
    u = (distance - radius) / (sqrt(2) * width)
    height = 0.5 * erfc(u)
    slope = np.exp(-(u**2)) / (sqrt(2 * np.pi) * width)
    # The light's slope is tied to the window, not to the disk: only the outline moves.
    inner = np.stack([np.ones_like(y), (y - y.mean()) / radius, (x - x.mean()) / radius], axis=1)
    design = np.concatenate([inner, inner * height[:, None]], axis=1)
    moved = np.stack([inner * (slope * part / distance)[:, None] for part in (dy, dx)])
    return design, moved
