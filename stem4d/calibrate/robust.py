"""The spread of values of which some are far off."""

from typing import Any

import numpy as np
import numpy.typing as npt


def spread_of(departures: npt.NDArray[np.floating[Any]]) -> float:
    """Standard deviation of normal departures, by the median of their magnitudes: 1.4826 times it."""
    return 1.4826 * float(np.median(np.abs(departures)))
