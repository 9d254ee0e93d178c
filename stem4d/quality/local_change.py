"""Changes of single places between two passes, held against what changed all over the field."""

from math import sqrt

import numpy as np
import numpy.typing as npt

from stem4d.quality.pass_images import TRUSTED, Overlay, quiet_spread

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

SURFACE_ORDER = 4
"""What a surface of this order can follow is no local change: bends of a third of the field and more."""
NO_SAY = 6.0
"""Places that differ by so many standard deviations have no say in what changed all over the field. Fewer would leave
places out by chance, more would let a bubble bend the surface."""
ROUNDS = 6
"""Rounds of the fit with Huber's weights, and again of Tukey's: the spread then stands to a per cent."""
FEWEST_PLACES = 50


def local_changes(last: Overlay) -> Array | None:
    """Change of every place between the first pass and a later one.

    Parameters
    ----------
    last : Overlay
        The later pass over the first.

    Returns
    -------
    ndarray, shape (scan_y, scan_x) or None
        In standard deviations, the largest of all images; 0 where not seen. None where too little was seen of both.

    Notes
    -----
    The noise is that of the field's own differences; where an image is steep, what an error of place makes of it is
    added: scan noise moves features, and that is no change of the specimen. Whole rows and columns may change.
    """
    seen = last.seen
    if seen.sum() < FEWEST_PLACES or not last.left:
        return None
    most = np.zeros(seen.shape)
    for rest, image, slope in zip(last.left, last.first, last.slope, strict=True):
        steep = seen & (slope > np.median(slope[seen]))
        flat = seen & ~steep
        off = _unexplained(_polished(rest, seen), image, seen)
        noise = quiet_spread(off[flat]) if flat.any() else 0.0
        size = float(np.median(slope[steep])) if steep.any() else 0.0
        place = sqrt(max(quiet_spread(off[steep]) ** 2 - noise**2, 0.0)) / size if size > 0 else 0.0
        sigma = np.hypot(max(noise, 1e-12), place * slope)
        most = np.maximum(most, np.where(seen, np.abs(off) / sigma, 0.0))
    return most


def _polished(rest: Array, seen: Mask) -> Array:
    """Less the median of each row and then of each column: what goes on along the scan is not local (Tukey 1977)."""
    off = np.where(seen, rest, np.nan)
    for axis in (1, 0):
        some = seen.any(axis=axis, keepdims=True)
        off = off - np.nanmedian(np.where(some, off, 0.0), axis=axis, keepdims=True)
    return np.where(seen, off, 0.0)


def _unexplained(off: Array, image: Array, seen: Mask) -> Array:
    """Less what changed all over the field: a smooth surface, and a contrast that goes evenly across it.

    A layer that grew is smooth, and it turns the pattern by its slope: a detector then sees the same features with
    another contrast, and on one side of the field more than on the other. Both hide a bubble where they stay in.
    Weights are Huber's and then Tukey's, who leaves out what is far off, so that a bubble bends neither.
    """
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in seen.shape), indexing="ij")
    surface = [y**i * x**j for i in range(SURFACE_ORDER + 1) for j in range(SURFACE_ORDER + 1 - i)]
    columns = np.stack([each[seen] for each in (*surface, image, y * image, x * image)], axis=1)
    columns /= np.maximum(np.abs(columns).max(axis=0), 1e-12)
    values = off[seen]
    rest, weight = values, np.ones(len(values))
    for which in range(2 * ROUNDS):
        # By the few normal equations: a large scan has many places.
        weighed = columns * weight[:, None]
        rest = values - columns @ np.linalg.lstsq(weighed.T @ columns, weighed.T @ values, rcond=None)[0]
        away = np.abs(rest) / max(quiet_spread(rest), 1e-12)
        huber = which < ROUNDS - 1
        weight = np.minimum(1.0, TRUSTED / np.maximum(away, 1e-12)) if huber else _tukey(away / NO_SAY)
    found = np.zeros(seen.shape)
    found[seen] = rest
    return found


def _tukey(away: Array) -> Array:
    """Tukey's biweight."""
    return np.asarray(np.maximum(1 - away**2, 0.0) ** 2)
