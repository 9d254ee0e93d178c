"""Hot and dead pixels of a detector, found in the mean and maximum pattern of any scan.

A pixel is judged against its 24 neighbours: optics cannot make a feature that is sharp on one pixel and absent on
all but two of those around it, so edges of disks, Bragg disks and shot noise are left alone whatever the specimen.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from stem4d.errors import BadInput

Pattern = npt.NDArray[np.generic]
Mask = npt.NDArray[np.bool_]

NOISE_SIGMAS = 6.0
"""Shot noise a pixel must exceed; 1e6 pixels give one false alarm in 1e3 patterns at 6 sigma."""
SPREAD_FACTOR = 3.0
"""How far beyond its neighbours' own spread a pixel must lie: a spot 1.5 px wide at half maximum stays below this."""
HOT_FACTOR = 2.0
"""A hot pixel counts at least this many times more than its neighbours; less is a matter of gain."""
DEAD_FACTOR = 0.1
"""A dead pixel counts less than this part of its neighbours."""
DEAD_NEEDS_COUNTS = 60.0
"""Counts the neighbours must have before a missing count means anything."""
LARGEST_DEAD_CLUSTER = 3
"""Dead pixels that touch; more are a feature of the pattern, or belong into the detector's own mask."""
STUCK_NEEDS_FRAMES = 20
"""A pixel that counts and never varies over so many frames is stuck."""

_RING = np.ones((5, 5), dtype=bool)
_RING[2, 2] = False


@dataclass(frozen=True)
class BadPixels:
    """Pixels to leave out, each a mask (det_y, det_x)."""

    hot: Mask
    dead: Mask
    dead_known: Mask
    """Where the illumination was strong and even enough for a dead pixel to have shown."""

    @property
    def mask(self) -> Mask:
        """All pixels to leave out."""
        return self.hot | self.dead


def find_bad_pixels(
    mean_pattern: Pattern, frames: int, max_pattern: Pattern | None = None, gaps: Mask | None = None
) -> BadPixels:
    """Find hot and dead pixels.

    Parameters
    ----------
    mean_pattern : ndarray, shape (det_y, det_x)
        Mean counts per pixel and frame; more frames make it sharper.
    frames : int
        Frames in the mean: what its shot noise is worked out from.
    max_pattern : ndarray, shape (det_y, det_x), optional
        Largest counts per pixel. With it a single event (a cosmic ray) is not taken for a hot pixel, and a pixel
        stuck below its neighbours' brightest counts is found.
    gaps : ndarray of bool, shape (det_y, det_x), optional
        Pixels that the detector's own mask leaves out: gaps between modules, clusters. They are neither judged nor
        asked about their neighbours.

    Returns
    -------
    BadPixels
        Hot and dead pixels are found alone and in touching pairs or threes; larger clusters belong into the
        detector's own mask. Without ``gaps``.

    Raises
    ------
    BadInput
        If the patterns are not two-dimensional and equal in shape, or ``frames`` is less than one.
    """
    _check(mean_pattern, frames, max_pattern, gaps)
    mean = np.asarray(mean_pattern, dtype=np.float64)
    blind = ~np.isfinite(mean)
    mean = np.where(blind, 0.0, mean)
    out = blind if gaps is None else blind | gaps.astype(bool)
    if max_pattern is None:
        hot = _outstanding(mean, frames, out)
    else:
        highest = np.asarray(max_pattern, dtype=np.float64)
        hot = _outstanding(_without_brightest(mean, highest, frames), max(frames - 1, 1), out)
        hot |= _stuck(mean, highest, frames, out)
    dead, known = _dead(mean, frames, hot | out)
    # Those found first would stand for the neighbours of others.
    more, known_then = _dead(mean, frames, hot | out | dead)
    judged = np.ones(mean.shape, bool) if gaps is None else ~gaps.astype(bool)
    return BadPixels(
        hot=(hot | blind) & judged, dead=(dead | more) & judged, dead_known=(known | known_then) & judged & ~blind
    )


def fill_bad_pixels(pattern: Pattern, bad_pixels: Mask | None) -> npt.NDArray[np.float64]:
    """A copy of a pattern with its bad pixels replaced by the mean of the good ones around them, for display and fits.

    Pixels without a good neighbour within 2 px become zero.
    """
    filled = np.array(pattern, dtype=np.float64)
    bad = ~np.isfinite(filled)
    if bad_pixels is not None:
        bad |= bad_pixels
    if not bad.any():
        return filled
    filled[bad] = 0.0
    weight = ndimage.uniform_filter((~bad).astype(np.float64), 5, mode="constant")
    around = ndimage.uniform_filter(filled, 5, mode="constant")
    # The running sums of the filter leave rounding errors of 1e-16 where there is nothing.
    seen = weight > 0.5 / 25
    filled[bad & seen] = around[bad & seen] / weight[bad & seen]
    return filled


def _check(mean_pattern: Pattern, frames: int, max_pattern: Pattern | None, mask: Mask | None) -> None:
    if mean_pattern.ndim != 2:
        raise BadInput(field="mean_pattern", value=mean_pattern.shape, limit="must have the shape (det_y, det_x)")
    if max_pattern is not None and max_pattern.shape != mean_pattern.shape:
        raise BadInput(
            field="max_pattern", value=max_pattern.shape, limit=f"must have the mean's shape {mean_pattern.shape}"
        )
    if mask is not None and mask.shape != mean_pattern.shape:
        raise BadInput(field="mask", value=mask.shape, limit=f"must have the mean's shape {mean_pattern.shape}")
    if frames < 1:
        raise BadInput(field="frames", value=frames, limit="must be at least 1")


def _without_brightest(
    mean: npt.NDArray[np.float64], highest: npt.NDArray[np.float64], frames: int
) -> npt.NDArray[np.float64]:
    """Mean of all frames but each pixel's brightest, so that one event does not count."""
    if frames < 4:
        return mean
    return np.maximum(mean * frames - highest, 0.0) / (frames - 1)


def neighbour_range(
    values: npt.NDArray[np.float64], out: Mask | None = None
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Third smallest and third largest of the 24 neighbours: two bad ones among them change neither.

    Pixels in ``out`` are nobody's neighbours.
    """
    lowest, highest = (values, values) if out is None else (np.where(out, each, values) for each in (np.inf, -np.inf))
    low = ndimage.rank_filter(lowest, 2, footprint=_RING, mode="constant", cval=np.inf)
    high = ndimage.rank_filter(highest, -3, footprint=_RING, mode="constant", cval=-np.inf)
    # A detector too small for three neighbours gives infinities: nothing can be said there.
    return np.where(np.isfinite(low), low, 0.0), np.where(np.isfinite(high), high, np.inf)


def _outstanding(mean: npt.NDArray[np.float64], frames: int, out: Mask) -> Mask:
    low, high = neighbour_range(mean, out)
    noise = np.sqrt(np.maximum(high, 1 / frames) / frames)
    beyond = high + SPREAD_FACTOR * (high - low) + NOISE_SIGMAS * noise
    found: Mask = (mean > beyond) & (mean > HOT_FACTOR * high) & ~out
    return found


def _stuck(mean: npt.NDArray[np.float64], highest: npt.NDArray[np.float64], frames: int, out: Mask) -> Mask:
    if frames < STUCK_NEEDS_FRAMES:
        return np.zeros(mean.shape, dtype=bool)
    low, high = neighbour_range(mean, out)
    noise = np.sqrt(np.maximum(high, 1 / frames) / frames)
    constant = (mean >= 1) & (mean > highest * (1 - 0.5 / frames))
    found: Mask = constant & (mean > high + (high - low) + NOISE_SIGMAS * noise) & ~out
    return found


def _dead(mean: npt.NDArray[np.float64], frames: int, out: Mask) -> tuple[Mask, Mask]:
    """Dark pixels among lit ones, alone or up to three that touch, and where one would have been seen."""
    low, _ = neighbour_range(mean, out)
    bright = (low * frames > DEAD_NEEDS_COUNTS) & ~out
    dark = bright & (mean < DEAD_FACTOR * low)
    lit = np.where(out | dark, np.inf, mean)
    # The tip of the dark wedge between two overlapping disks has a dim pixel next to it; a dead pixel has none.
    nearest = ndimage.minimum_filter(lit, footprint=_RING[1:4, 1:4], mode="constant", cval=np.inf)
    known = bright & (nearest > 0.5 * low)
    labels, number = ndimage.label(dark, structure=np.ones((3, 3)))
    if number:
        at = np.arange(1, number + 1)
        whole = (ndimage.sum_labels(dark, labels, at) <= LARGEST_DEAD_CLUSTER) & (
            ndimage.minimum(known, labels, at).astype(bool)
        )
        dark &= np.concatenate([[False], whole])[labels]
    return dark, known
