"""What a clipped counter hides: how often a pixel stood at full scale, and how bright it was, from its mean alone."""

import numpy as np
import numpy.typing as npt
from scipy.special import pdtr, pdtrc

Array = npt.NDArray[np.float64]

_GRID = 600
_WIDTH_SIGMAS = 8.0


def clipped_share(mean: npt.NDArray[np.floating], full_scale: int) -> Array:
    """Part of its frames in which each pixel stood at full scale, for steady Poisson counts.

    Parameters
    ----------
    mean : ndarray
        Mean recorded counts, clipped at full scale.
    full_scale : int
        Largest value of the counter, K.

    Returns
    -------
    ndarray
        P(X >= K) for the X whose clipped mean E[min(X, K)] = λ P(X <= K - 2) + K P(X >= K) is the recorded one.
        Illumination that changes over the scan clips more often than this.
    """
    rate, clipped_mean = _table(full_scale)
    share: Array = np.interp(mean, clipped_mean, pdtrc(full_scale - 1, rate), left=0.0, right=1.0)
    return np.where(np.asarray(mean) >= full_scale, 1.0, share)


def true_mean(mean: npt.NDArray[np.floating], full_scale: int) -> Array:
    """Mean counts before clipping, for steady Poisson counts; infinite where every frame was clipped."""
    rate, clipped_mean = _table(full_scale)
    recorded = np.asarray(mean, dtype=np.float64)
    found = np.where(recorded < clipped_mean[0], recorded, np.interp(recorded, clipped_mean, rate))
    return np.where(recorded > clipped_mean[-1], np.inf, found)


def _table(full_scale: int) -> tuple[Array, Array]:
    """Rates about full scale and their clipped means, both rising."""
    spread = _WIDTH_SIGMAS * np.sqrt(full_scale)
    rate = np.linspace(max(full_scale - spread, 0.0), full_scale + 0.5 * spread, _GRID)
    below = pdtr(full_scale - 2, rate) if full_scale >= 2 else np.zeros(_GRID)
    return rate, rate * below + full_scale * pdtrc(full_scale - 1, rate)
