"""What counting does to a centre of mass, and what the region it is taken over: spread, response, offset."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.pixels import fill_bad_pixels

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Region:
    """What the mean pattern tells of the centres of mass taken over a region; matrices act on (y, x)."""

    spread_px2: Array
    """Covariance (2, 2) of where the electrons of one pattern land; over n of them it is that of the centre of mass."""
    response: Array
    """(2, 2): how far the centre of mass goes when the pattern does; less than 1 where the region cuts it."""
    offset_px: Array
    """(2,) that the bad pixels move it by."""
    middle_px: Array
    """(2,) of the region itself."""
    mismatch_px: float
    """From the mean of the centres of mass to that of the mean pattern: they were taken over different regions."""

    @property
    def least_response(self) -> float:
        """Of the pattern's movement along the direction in which the centre of mass follows worst."""
        return float(np.linalg.svd(self.response, compute_uv=False).min())

    @property
    def least_spread_px2(self) -> float:
        """Variance along the direction in which the electrons of a pattern spread least."""
        return float(np.linalg.eigvalsh((self.spread_px2 + self.spread_px2.T) / 2).min())


def region_of(sum_pattern: npt.NDArray[np.number], com_px: Array, counts: Array, bad: Mask, region: Mask) -> Region:
    """Spread, response and offset from the sum of all patterns and the map of centres.

    Parameters
    ----------
    sum_pattern : ndarray, shape (det_y, det_x)
        Of all frames [counts].
    com_px : ndarray, shape (2, n)
        Centres of mass (y, x) of the frames [px].
    counts : ndarray, shape (n,)
        That they were taken from.
    bad, region : ndarray of bool, shape (det_y, det_x)
        Pixels left out; pixels that the centre was taken over.

    Notes
    -----
    The variance within a pattern is that of the sum less that between the patterns (law of total variance), whatever
    moved them. The response is that to a shift s: I(p - s) under the weights of the region, to first order.
    """
    used = region & ~bad
    places: Array = np.indices(used.shape).astype(np.float64)
    whole = fill_bad_pixels(sum_pattern, bad)
    seen = whole * used
    mean, total = _centre(seen, places)
    away = places - mean[:, None, None]
    spread = np.einsum("ayx,byx,yx->ab", away, away, seen) / total
    of_maps = np.average(com_px, axis=1, weights=counts)
    apart = com_px - of_maps[:, None]
    between = (apart * counts) @ apart.T / counts.sum()
    slopes = np.stack([np.asarray(np.gradient(whole, axis=axis)) for axis in (0, 1)])
    response = -np.einsum("ayx,byx->ab", away * used, slopes) / total
    return Region(
        spread_px2=spread - between,
        response=response,
        offset_px=mean - _centre(whole * region, places)[0],
        middle_px=_centre(region.astype(np.float64), places)[0],
        mismatch_px=float(np.hypot(*(of_maps - mean))),
    )


def _centre(weight: Array, places: Array) -> tuple[Array, float]:
    total = float(weight.sum())
    return np.array([float((weight * one).sum()) / total for one in places]), total
