"""How steady the beam was during a scan: drift, slow changes, dropouts and the noise left, from each frame's counts."""

from dataclasses import dataclass
from math import nan, sqrt

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.special import chdtri

from stem4d.calibrate.descan import robust_fit
from stem4d.calibrate.robust import spread_of
from stem4d.errors import BadInput

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

FEWEST_FRAMES = 8
WINDOW = 31
"""Frames whose median a frame is held against to see whether the beam was missing."""
DROP_PART = 0.1
"""A dropout loses at least this part of the counts ..."""
DROP_SIGMAS = 6.0
"""... and so many sigma of the frame to frame scatter."""
BLOCKS = 16
"""Stretches of the scan whose means show slow changes."""
CHANCE = 0.01
"""Chance that noise alone is taken for slow changes. Without it every other steady beam would seem to wander: the root
of a variance's excess is never negative, and on average half of the block means' own error."""


@dataclass(frozen=True)
class Stability:
    """The beam over one scan; parts are of the mean counts. NaN where nothing is known."""

    mean_counts: float
    """Mean counts of a frame without the dropouts."""
    mean_uncertainty: float
    """Standard error of the mean [counts], enlarged by slow changes that a mean does not average away."""
    drift_part: float
    """Change from the first to the last frame, of a straight line."""
    drift_uncertainty: float
    slow_part: float
    """Standard deviation of block means beyond what the frames' own scatter explains: drift and wandering. 0 where it
    explains them all (chi squared, by chance 1 in 100)."""
    noise_part: float
    """Scatter from one frame to the next."""
    excess_part: float
    """Scatter from one frame to the next beyond shot noise; 0 where there is none."""
    dropouts: Mask
    """(n,) frames in which the beam was missing in part or whole, in order of time."""


def stability(totals: npt.NDArray[np.number], counts_per_electron: float = 1.0) -> Stability:
    """Judge the counts of each frame of a vacuum scan.

    Parameters
    ----------
    totals : ndarray, any shape
        Counts of each frame, in order of time when flattened; NaN where there is none.
    counts_per_electron : float
        For the shot noise.

    Raises
    ------
    BadInput
        If there are fewer than 8 frames or ``counts_per_electron`` is not positive.
    """
    if not counts_per_electron > 0:
        raise BadInput(field="counts_per_electron", value=counts_per_electron, limit="must be positive")
    counts = np.asarray(totals, dtype=np.float64).ravel()
    seen = np.isfinite(counts)
    if seen.sum() < FEWEST_FRAMES:
        raise BadInput(field="totals", value=int(seen.sum()), limit=f"must be at least {FEWEST_FRAMES} frames")
    dropouts = np.zeros(len(counts), bool)
    dropouts[seen] = _dropouts(counts[seen])
    kept = counts[seen & ~dropouts]
    number = len(kept)
    mean = float(kept.mean()) if number else 0.0
    if number < FEWEST_FRAMES or mean <= 0:
        return Stability(mean, nan, nan, nan, nan, nan, nan, dropouts)
    noise = _noise(kept)
    shot = sqrt(counts_per_electron * mean)
    time = np.linspace(-0.5, 0.5, number)
    line, covariance, _, _ = robust_fit(np.stack([np.ones(number), time], axis=1), kept)
    blocks = np.array([block.mean() for block in np.array_split(kept, min(BLOCKS, number // 2))])
    # Blocks of noise alone vary by noise² blocks / number.
    slow = _beyond(float(blocks.var(ddof=1)), noise**2 * len(blocks) / number, len(blocks) - 1)
    return Stability(
        mean_counts=mean,
        mean_uncertainty=sqrt(max(noise, shot) ** 2 / number + slow**2 / len(blocks)),
        drift_part=float(line[1]) / mean,
        drift_uncertainty=sqrt(float(covariance[1, 1])) / mean,
        slow_part=slow / mean,
        noise_part=noise / mean,
        excess_part=sqrt(max(noise**2 - shot**2, 0.0)) / mean,
        dropouts=dropouts,
    )


def _beyond(variance: float, expected: float, freedom: int) -> float:
    """Standard deviation of what varies beyond noise; 0 where the variance could be noise alone."""
    significant = variance * freedom > expected * float(chdtri(freedom, CHANCE))
    return sqrt(variance - expected) if significant else 0.0


def _dropouts(counts: Array) -> Mask:
    usual = ndimage.median_filter(counts, min(WINDOW, len(counts)), mode="nearest")
    # A long dropout fills the window: the brightest half of the scan says what the beam was.
    usual = np.maximum(usual, 0.7 * float(np.quantile(counts, 0.75)))
    lost = usual - counts
    out: Mask = (lost > DROP_PART * usual) & (lost > DROP_SIGMAS * _noise(counts))
    return out


def _noise(counts: Array) -> float:
    """Standard deviation from successive differences: slow changes do not count, nor do few large steps."""
    step = np.diff(counts)
    return spread_of(step - np.median(step)) / sqrt(2)
