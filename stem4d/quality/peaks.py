"""The level behind a pixel's largest count: the largest of many Poisson counts lies above their mean."""

from math import expm1, log

import numpy as np
import numpy.typing as npt
from scipy.special import gammaincinv


def steady_peak(largest: npt.NDArray[np.number], frames: float) -> npt.NDArray[np.float64]:
    """Mean of the Poisson counts whose largest of so many frames is, half of the time, at least this one.

    Parameters
    ----------
    largest : ndarray
        Largest counts, 0 where there were none.
    frames : float
        Of how many frames they are the largest.

    Returns
    -------
    ndarray
        The λ of which the largest of so many counts lies above k + 1/2 half of the time, P(X >= k + 1/2) = 1 -
        2^(-1/frames), where P(X >= k) is the regularised incomplete gamma function of k and λ, also between whole k.
    """
    counts = np.asarray(largest, np.float64)
    chance = -expm1(-log(2) / max(frames, 1.0))
    found: npt.NDArray[np.float64] = gammaincinv(np.maximum(counts, 1.0) + 0.5, chance)
    return np.where(counts > 0, found, 0.0)
