"""The level behind a pixel's largest count: the largest of many Poisson counts lies above their mean."""

from math import log

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
        The λ with frames x P(X >= largest) = ln 2, where P(X >= k) is the regularised incomplete gamma function of k
        and λ.
    """
    counts = np.asarray(largest, np.float64)
    found: npt.NDArray[np.float64] = gammaincinv(np.maximum(counts, 1.0), min(log(2) / max(frames, 1.0), 1.0))
    return np.where(counts > 0, found, 0.0)
