"""Rectangles of the specimen plane by their corners: what a scan can meet, and how much more is made ready."""

import numpy as np

from stem4d.simulate.damage import Damage

Region = tuple[tuple[float, float], ...]

MARGIN = 0.05
"""Part of its size that the region made ready is larger by: what drifts between making ready and starting."""


def within(inner: Region, outer: Region) -> bool:
    """Whether a region lies within another."""
    (low_y, low_x), (high_y, high_x) = outer[0], outer[-1]
    return all(low_y <= y <= high_y and low_x <= x <= high_x for y, x in inner)


def larger(region: Region, part: float) -> Region:
    """A region with this part of its size more on every side."""
    low, high = np.array(region[0]), np.array(region[-1])
    more = part * (high - low).max()
    return tuple((float(y), float(x)) for y in (low[0] - more, high[0] + more) for x in (low[1] - more, high[1] + more))


def drawn_in(damage: Damage) -> float:
    """Part of a field's size that shrinkage draws in from beyond it."""
    return 0.0 if damage.shrinkage_per_e_per_a2 <= 0 else (1 - damage.shrinkage_limit) ** -0.5 - 1
