"""Random numbers that depend on a seed and a place alone, so that any part of a specimen can be made on its own."""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating[Any]]


def uniform(seed: int, channel: int, *cells: npt.NDArray[np.int64]) -> Floats:
    """Numbers in [0, 1) that depend on seed, cell and channel alone (SplitMix64's finaliser, applied per word)."""
    state = np.full(cells[0].shape, seed % 2**64, np.uint64)
    with np.errstate(over="ignore"):
        for word in (*cells, np.full(cells[0].shape, channel, np.int64)):
            state = (state ^ word.astype(np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)) * 2.0**-53
