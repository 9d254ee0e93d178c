"""The lattice of Bragg disks in a mean pattern: two vectors that put nearly all of its disks on their multiples."""

from math import hypot

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Array = npt.NDArray[np.float64]

CANDIDATES = 12
"""Strongest disks whose places, and differences of places, are tried as vectors, the shortest 3 x as many."""
NEAR, NEAR_PX = 0.12, 1.0
"""Distance to a node, as a part of the shorter vector and at least so many pixels, at which a disk belongs to it."""
MUST_INDEX = 0.7
"""Part of the light of the disks that must lie on the lattice: less is several crystals, or none."""
AS_GOOD = 0.93
"""A lattice that holds this part of what the best one holds is preferred where its cell is larger."""
NARROWEST_DEG = 25.0
"""Between two vectors."""
SMALLEST_CELL_PX2 = 9.0
"""Area of a cell; less is two vectors in a line."""
REPEATS = 0.15
"""Least correlation of a pattern's outlines with themselves at a vector of its lattice."""
HIGHEST = 12
"""Largest multiple that is looked for."""


def find_lattice(offsets: Array, heights: Array) -> tuple[Array, float] | None:
    """The lattice of disks.

    Parameters
    ----------
    offsets : ndarray, shape (n, 2)
        Places of disks from the undeflected one (y, x) [px].
    heights : ndarray, shape (n,)
        Their light.

    Returns
    -------
    (ndarray, float) or None
        g1 and g2 as columns (2, 2) [px], the two shortest vectors, as ``reduced`` orders them; and the part of the
        light that lies on it. None where no lattice holds `MUST_INDEX` of the light.
    """
    if len(offsets) < 2:
        return None
    tried = _candidates(offsets, heights)
    light = np.minimum(heights, np.sort(heights)[-min(3, len(heights))])
    scored = []
    for i in range(len(tried)):
        for j in range(i + 1, len(tried)):
            if abs(np.linalg.det(np.stack([tried[i], tried[j]]))) < SMALLEST_CELL_PX2:
                continue
            matrix = reduced(np.stack([tried[i], tried[j]], axis=1))
            lengths = np.hypot(*matrix)
            if abs(np.linalg.det(matrix)) < np.sin(np.radians(NARROWEST_DEG)) * lengths.prod():
                continue
            scored.append((_held(offsets, light, matrix), abs(float(np.linalg.det(matrix))), i, j))
    if not scored:
        return None
    best = max(score for score, *_ in scored)
    _, _, i, j = max((one for one in scored if one[0] >= AS_GOOD * best), key=lambda one: (round(one[1], 3), one[0]))
    matrix = reduced(np.stack([tried[i], tried[j]], axis=1))
    for _ in range(4):
        index, near = _nearest(offsets, matrix)
        if np.linalg.matrix_rank(index[near]) < 2:
            return None
        root = np.sqrt(light[near])[:, None]
        matrix = np.linalg.lstsq(index[near] * root, offsets[near] * root, rcond=None)[0].T
    matrix = reduced(matrix)
    share = float(light[_nearest(offsets, matrix)[1]].sum() / light.sum())
    return (matrix, share) if share >= MUST_INDEX else None


def repeats(counts: Array, radius_px: float) -> tuple[Array, Array]:
    """Displacements (n, 2) [px] at which a pattern repeats, and how well (n,): peaks of its outlines' correlation.

    For disks that touch or overlap. The root levels their brightness, the Laplacian leaves their outlines.
    """
    outlines = ndimage.gaussian_laplace(np.sqrt(np.maximum(counts, 0)), 1.0)
    outlines[[0, 1, -2, -1], :] = outlines[:, [0, 1, -2, -1]] = 0
    padded = tuple(2 * size for size in counts.shape)
    spectrum = np.abs(np.fft.rfft2(outlines, padded)) ** 2
    correlation = np.fft.fftshift(np.fft.irfft2(spectrum, padded))
    # Fewer pixels meet the further the pattern is displaced.
    meet = [1 - np.abs(np.arange(-size, size)) / size for size in counts.shape]
    correlation /= correlation.max() * np.maximum(meet[0][:, None] * meet[1][None, :], 0.2)
    reach = 2 * max(round(0.6 * radius_px), 1) + 1
    top = (correlation == ndimage.maximum_filter(correlation, reach)) & (correlation > REPEATS)
    at = np.argwhere(top) - np.array(counts.shape)
    far = (np.hypot(*at.T) > radius_px) & (np.abs(at) < 0.75 * np.array(counts.shape)).all(axis=1)
    at = at[far] + np.array(counts.shape)
    return _between_pixels(correlation, at) - np.array(counts.shape), correlation[tuple(at.T)]


def _between_pixels(image: Array, at: npt.NDArray[np.int64]) -> Array:
    """Tops of peaks (n, 2), by the parabola through each and its neighbours along either axis."""
    tops = at.astype(np.float64)
    for axis in (0, 1):
        step = np.eye(2, dtype=np.int64)[axis]
        below, here, above = (image[tuple((at + each * step).T)] for each in (-1, 0, 1))
        tops[:, axis] += (above - below) / np.maximum(2 * (2 * here - above - below), 1e-12)
    return tops


def reduced(matrix: Array) -> Array:
    """The same lattice by its two shortest vectors, g1 the shorter (Lagrange and Gauss).

    g1 points to x >= 0, and turning it from x towards y by less than half a turn leads to g2.
    """
    a, b = matrix[:, 0].copy(), matrix[:, 1].copy()
    for _ in range(64):
        if hypot(*b) < hypot(*a):
            a, b = b, a
        turns = round(float(a @ b / (a @ a)))
        if turns == 0:
            break
        b = b - turns * a
    if a[1] < 0 or (a[1] == 0 and a[0] < 0):
        a = -a
    if a[1] * b[0] - a[0] * b[1] < 0:
        b = -b
    return np.stack([a, b], axis=1)


def nodes(matrix: Array, shape: tuple[int, int], centre: tuple[float, float], margin: float) -> Array:
    """Multiples (n, 2) whose nodes lie on a detector, ``margin`` px from its edge, the origin first."""
    steps = np.arange(-HIGHEST, HIGHEST + 1)
    index = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2).astype(np.float64)
    at = index @ matrix.T + np.array(centre)
    inside = ((at >= margin) & (at <= np.array(shape) - 1 - margin)).all(axis=1)
    index = index[inside]
    ordered: Array = index[np.lexsort((index[:, 1], index[:, 0], np.hypot(*(index @ matrix.T).T).round(3)))]
    return ordered


def _candidates(offsets: Array, heights: Array) -> Array:
    strongest = offsets[np.argsort(heights)[::-1][:CANDIDATES]]
    pairs = (strongest[:, None] - strongest[None]).reshape(-1, 2)
    both = np.concatenate([strongest, pairs])
    both = both[np.hypot(*both.T) > NEAR_PX * 3]
    both = np.where((both[:, 1:] < 0) | ((both[:, 1:] == 0) & (both[:, :1] < 0)), -both, both)
    both = both[np.argsort(np.hypot(*both.T))]
    kept: list[Array] = []
    for one in both:
        if all(hypot(*(one - other)) > 1.5 * NEAR_PX for other in kept):
            kept.append(one)
        if len(kept) == 3 * CANDIDATES:
            break
    return np.array(kept).reshape(-1, 2)


def _nearest(offsets: Array, matrix: Array) -> tuple[Array, npt.NDArray[np.bool_]]:
    index: Array = np.asarray(np.rint(offsets @ np.linalg.inv(matrix).T), dtype=np.float64)
    within = max(NEAR * float(np.hypot(*matrix).min()), NEAR_PX)
    return index, np.hypot(*(offsets - index @ matrix.T).T) < within


def _held(offsets: Array, light: Array, matrix: Array) -> float:
    """Light on the nodes, less what would lie there by chance."""
    index, near = _nearest(offsets, matrix)
    near = near & index.any(axis=1)
    within = max(NEAR * float(np.hypot(*matrix).min()), NEAR_PX)
    chance = np.pi * within**2 / abs(float(np.linalg.det(matrix)))
    return float(light[near].sum() / light.sum()) - min(chance, 1.0)
