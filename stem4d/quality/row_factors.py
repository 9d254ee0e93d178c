"""The factor that all positions of a row share: its slow change over a pass, and its flicker from row to row."""

from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

FEWEST_ROWS = 4


@dataclass(frozen=True)
class Factors:
    """Change and flicker as parts of the counts, with standard errors; NaN where there is too little."""

    change: float
    """From the beginning of the first row to the end of the last, of a straight line."""
    change_uncertainty: float
    flicker: float
    """Rms from a row to the next beyond what the scatter within rows explains."""
    flicker_uncertainty: float

    @property
    def line(self) -> tuple[float, float]:
        """The change and its error."""
        return self.change, self.change_uncertainty


NOTHING = Factors(nan, nan, nan, nan)


def within_pass(counts: Array, steady: Mask) -> Factors:
    """Factors of one pass, against the columns' own counts in the neighbouring row.

    Parameters
    ----------
    counts : ndarray, shape (scan_y, scan_x)
        Counts of each position.
    steady : ndarray of bool
        Positions to go by.
    """
    rows = steady.sum(axis=1) >= max(2, steady.shape[1] // 4)
    if rows.sum() < FEWEST_ROWS:
        return NOTHING
    number = np.maximum(steady.sum(axis=1), 1)
    mean = np.where(steady, counts, 0.0).sum(axis=1) / number
    level = float(mean[rows].mean())
    if not level > 0:
        return NOTHING
    change, error = _line(np.flatnonzero(rows), mean[rows] / level, len(rows))
    return Factors(change, error, *_flicker(counts[:-1], counts[1:], steady[:-1] & steady[1:], chained=True))


def between_passes(first: Array, second: Array, steady: Mask) -> Factors:
    """Factors of the second pass over the first, where the specimen is the same; its own flicker in both alike."""
    rows = steady.sum(axis=1) >= 2
    if rows.sum() < FEWEST_ROWS:
        return NOTHING
    before, after = (np.where(steady, each, 0.0).sum(axis=1)[rows] for each in (first, second))
    if not (before > 0).all() or not (after > 0).all():
        return NOTHING
    ratio = after / before
    change, error = _line(np.flatnonzero(rows), ratio / ratio.mean(), len(rows))
    return Factors(change, error, *_flicker(first, second, steady, chained=False))


def _line(rows: npt.NDArray[np.intp], levels: Array, height: int) -> tuple[float, float]:
    """Change over all rows of a straight line, with an error that knows of residuals which last over rows."""
    at = rows / height - 0.5
    design = np.stack([np.ones(len(at)), at], axis=1)
    fit, *_ = np.linalg.lstsq(design, levels, rcond=None)
    left = levels - design @ fit
    variance = float((left**2).sum()) / max(len(at) - 2, 1)
    alike = float((left[1:] * left[:-1]).sum() / max((left**2).sum(), 1e-300)) if len(at) > FEWEST_ROWS else 0.0
    lasting = (1 + max(alike, 0.0)) / (1 - min(max(alike, 0.0), 0.9))
    return float(fit[1]), sqrt(variance * lasting * float(np.linalg.inv(design.T @ design)[1, 1]))


def _flicker(first: Array, second: Array, steady: Mask, *, chained: bool) -> tuple[float, float]:
    """Rms of the factor between paired rows over root two, less what the pairs' own columns scatter, with its error."""
    steps, noise = [], []
    for one, two, on in zip(first, second, steady, strict=True):
        if on.sum() < 2 or not one[on].sum() > 0 or not two[on].sum() > 0:
            continue
        mean = (one[on].mean() + two[on].mean()) / 2
        apart = (two[on] - one[on]) / mean
        steps.append(float(apart.mean()))
        noise.append(float(apart.var(ddof=1)) / int(on.sum()))
    if len(steps) < FEWEST_ROWS - 1:
        return nan, nan
    away = np.array(steps) - float(np.median(steps))
    seen, expected = float((away**2).mean()), float(np.mean(noise))
    # Steps between neighbouring rows share a row: half as many are independent.
    independent = len(steps) / 2 if chained else len(steps)
    doubt = max(seen, expected) * sqrt(2 / independent)
    flicker = sqrt(max(seen - expected, 0.0) / 2)
    return flicker, min(doubt / (4 * flicker), sqrt(doubt / 2)) if flicker > 0 else sqrt(doubt / 2)
