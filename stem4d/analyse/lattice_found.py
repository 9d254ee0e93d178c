"""The two shortest vectors of the lattice on which the Bragg disks of a mean pattern lie."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from stem4d.analyse.method import NotPossible
from stem4d.calibrate.pixels import fill_bad_pixels

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

STANDS_OUT = 8.0
"""Standard errors by which a disk's counts must exceed what lies around it."""
FAINTEST = 0.05
"""Of the brightest disk beside the direct one: between disks there are faint maxima too."""
MOST_PEAKS = 60
NEAR = 0.12
"""Distance to a node, as a part of the shorter vector, within which a peak belongs to it."""
MUST_INDEX = 0.75
"""Part of the peaks that must lie on the lattice."""
LEAST_SINE = 0.3
"""Of the angle between the two vectors."""


def find_lattice(summed: Array, bad: Mask, origin_px: tuple[float, float], radius_px: float) -> Array:
    """Rows g1, g2 (y, x) [px], by length.

    Parameters
    ----------
    summed : ndarray, shape (det_y, det_x)
        Sum of patterns on one origin [counts].
    bad : ndarray of bool, shape (det_y, det_x)
    origin_px : (float, float)
        Of the direct beam.
    radius_px : float
        Of a disk.

    Raises
    ------
    NotPossible
        Where no two directions have disks in opposite pairs, or most disks lie off the lattice they span.
    """
    pattern = fill_bad_pixels(summed, bad)
    inside, around = _disk(radius_px), _disk(1.6 * radius_px + 1)
    edge = (around.shape[0] - inside.shape[0]) // 2
    around[edge : edge + inside.shape[0], edge : edge + inside.shape[1]] -= inside
    around = np.maximum(around, 0.0)
    counts = ndimage.convolve(pattern, inside, mode="nearest")
    level = ndimage.convolve(pattern, around, mode="nearest") * (inside.sum() / around.sum())
    excess = (counts - level) / np.sqrt(np.maximum(level, 1.0))
    side = 2 * int(np.ceil(1.2 * radius_px)) + 1
    top = (excess == ndimage.maximum_filter(excess, side)) & (excess > STANDS_OUT)
    at = np.argwhere(top).astype(np.float64)
    height = (counts - level)[top]
    at = np.array([_refined(counts - level, one) for one in at]).reshape(-1, 2) - origin_px
    length = np.hypot(at[:, 0], at[:, 1])
    away = length > 1.5 * radius_px
    clear = away & (height > FAINTEST * height[away].max(initial=0.0))
    peaks = at[clear][np.argsort(-height[clear])[:MOST_PEAKS]]
    paired = [one for one in peaks if np.hypot(*(peaks + one).T).min() < max(1.5, 0.3 * radius_px)]
    if len(paired) < 4:
        raise NotPossible(
            f"{len(peaks)} disks stand out beside the direct beam, {len(paired)} of them in opposite pairs: there is "
            "no lattice to be found; give g1_mrad and g2_mrad"
        )
    ordered = sorted(paired, key=lambda one: float(np.hypot(*one)))
    first = ordered[0]
    others = [one for one in ordered if _sine(first, one) > LEAST_SINE]
    if not others:
        raise NotPossible("all disks lie on one line: there is one vector of a lattice, not two; give g1_mrad, g2_mrad")
    basis = np.array([first, others[0]])
    for _ in range(3):
        index = np.rint(peaks @ np.linalg.inv(basis))
        fits = np.hypot(*(peaks - index @ basis).T) < NEAR * np.hypot(*first)
        if np.linalg.matrix_rank(index[fits]) < 2:
            break
        basis = np.linalg.lstsq(index[fits], peaks[fits], rcond=None)[0]
    if fits.mean() < MUST_INDEX:
        raise NotPossible(
            f"only {fits.mean():.0%} of {len(peaks)} disks lie on one lattice: several crystals, or none; give g1_mrad "
            "and g2_mrad"
        )
    return basis


def _sine(one: Array, other: Array) -> float:
    """Of the angle between two vectors, without its sign."""
    return abs(float(one[0] * other[1] - one[1] * other[0])) / float(np.hypot(*one) * np.hypot(*other))


def _disk(radius: float) -> Array:
    reach = int(np.ceil(radius))
    y, x = np.ogrid[-reach : reach + 1, -reach : reach + 1]
    return (np.hypot(y, x) <= radius).astype(np.float64)


def _refined(image: Array, at: Array) -> Array:
    """The top of a parabola along each axis."""
    place = at.copy()
    y, x = int(at[0]), int(at[1])
    for axis, (before, after) in enumerate((((y - 1, x), (y + 1, x)), ((y, x - 1), (y, x + 1)))):
        if all(0 <= i < n for one in (before, after) for i, n in zip(one, image.shape, strict=True)):
            bend = image[before] - 2 * image[y, x] + image[after]
            if bend < 0:
                place[axis] += np.clip(0.5 * (image[before] - image[after]) / bend, -0.5, 0.5)
    return place
