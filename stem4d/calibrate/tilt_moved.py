"""How far the disk moves over a scan of tilted images: descan that was left in."""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.angles import TiltImages

Array = npt.NDArray[np.float64]

BLOCKS = 6
"""Parts of the scan along each axis, of which each has one centre: within them deflections by atoms are alike."""
FULL = 0.5
"""Part of a block's positions that must have counts."""
FEWEST = 9
"""Blocks."""


@dataclass(frozen=True)
class Moved:
    """Slope of the disk's place against the position: rows (y, x) of the detector, columns of the scan [px/step]."""

    slope: Array
    covariance: Array
    """(2, 2) of (y, x) of the scan, for each row: (2, 2, 2)."""

    @property
    def sigmas(self) -> float:
        """Of the row that moves most surely."""
        pairs = zip(self.slope, self.covariance, strict=True)
        return sqrt(max(float(row @ np.linalg.solve(part, row)) for row, part in pairs))


def moved_disk(images: TiltImages) -> Moved | None:
    """Fit a plane to the mean centres of mass of blocks of the scan; None where too few were recorded.

    A specimen deflects beams by the gradient of its phase, which over a field comes to little: what is left of it in
    the blocks is the error of the plane.
    """
    edges = [np.linspace(0, n, min(BLOCKS, n) + 1).astype(int) for n in images.recorded.shape]
    known = np.isfinite(images.centre_px[0])
    places, centres = [], []
    for top, bottom in zip(edges[0][:-1], edges[0][1:], strict=True):
        for left, right in zip(edges[1][:-1], edges[1][1:], strict=True):
            seen = known[top:bottom, left:right]
            if seen.mean() >= FULL:
                y, x = np.nonzero(seen)
                places.append((1.0, top + y.mean(), left + x.mean()))
                centres.append(images.centre_px[:, top:bottom, left:right][:, seen].mean(axis=1, dtype=np.float64))
    if len(places) < FEWEST:
        return None
    at = np.array(places)
    at[:, 1:] -= at[:, 1:].mean(axis=0)
    inverse = np.linalg.pinv(at.T @ at)
    values = np.array(centres)
    plane = inverse @ at.T @ values
    variance = np.maximum(((values - at @ plane) ** 2).sum(axis=0) / (len(at) - 3), 1e-12)
    return Moved(plane[1:].T, variance[:, None, None] * inverse[1:, 1:])
