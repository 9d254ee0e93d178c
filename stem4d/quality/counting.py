"""Whether values can be electrons that were counted one by one: a pedestal, or a scale, is steadier than those are."""

from dataclasses import dataclass

import numpy as np
from scipy.special import pdtr

from stem4d.calibrate.pixels import Mask
from stem4d.maps import RunMaps

DIMMEST = 0.25
"""Part of the pixels that is looked at: those that least of the beam reaches."""
FEWEST_PIXELS = 50
LEAST_MEAN = 2.0
"""Counts of a pixel in a frame below which its highest says little."""
UNLIKELY = 0.01
"""Chance below which the median pixel's highest value must lie: by 50 pixels that count it does so never."""


@dataclass(frozen=True)
class Pedestal:
    """Values that stand on something that is no electrons."""

    level: float
    """Median of the dimmest pixels' means."""
    pixels: int
    """How many tell it."""


def pedestal(maps: RunMaps, bad_pixels: Mask) -> Pedestal | None:
    """What the dimmest pixels stand on, where their highest values are too low for counted electrons; None elsewhere.

    Of N frames with m electrons each on average, the highest is at most h with a chance of P(h; m)^N, P being the
    Poisson distribution. A specimen only makes high values likelier.
    """
    good = ~bad_pixels if maps.full_scale is None else ~bad_pixels & (maps.max_pattern < maps.full_scale)
    if maps.frames < 2 or good.sum() * DIMMEST < FEWEST_PIXELS:
        return None
    mean = maps.mean_pattern[good]
    dim = mean <= np.quantile(mean, DIMMEST)
    level = float(np.median(mean[dim]))
    if level < LEAST_MEAN:
        return None
    chance = pdtr(maps.max_pattern[good][dim].astype(np.float64), mean[dim]) ** maps.frames
    return Pedestal(level, int(dim.sum())) if float(np.median(chance)) < UNLIKELY else None
