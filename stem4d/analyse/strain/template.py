"""Filters that find one disk in a window of pixels: its place, its height and its background, by dot products.

The disk is modelled as light that may slope within an outline of known radius and blur, on a background that may
slope. Least squares weighted for counting noise is linear in all of it, and in a small step of the outline: its
solution is one row of numbers, a filter, for each unknown. Filters are made for places of the disk on a grid finer than
a pixel; from the nearest of them the step is small.
"""

from dataclasses import dataclass
from itertools import product
from math import ceil, pi, sqrt

import numpy as np
import numpy.typing as npt
from scipy.special import erfc

from stem4d.analyse.method import NotPossible
from stem4d.calibrate.edge import PIXEL_VARIANCE

Array = npt.NDArray[np.float64]
Singles = npt.NDArray[np.float32]

PHASES = 8
"""Places of a disk within a pixel, along each axis."""
POINTS = 7
"""Sampling points along a pixel's side, over which the outline is averaged."""
SHARPEST_PX = 0.15
"""Least blur of the outline beside the pixels' own."""
FAINTEST_BACKGROUND = 0.03
"""Background in the weights, as a part of the disk's height: what single counts outside weigh."""
USUAL_SLOPE = 0.15
"""Change of a disk's light from its middle to its outline, as a part of its height, one standard deviation."""
CLEAR_OF_NEIGHBOUR_PX = 1.0
LEAST_OUTLINE = 0.1
"""Pixels on the outline that must be clear of neighbours, as a part of its length."""
UNSEEN_BACKGROUND = 1e-3
"""Holds a background of which no pixel is seen to zero; far less than one pixel's weight."""
HEIGHT, BACKGROUND, STEP_Y, STEP_X, SHAPE = range(5)
"""Rows of a table: filters of a disk's height, background and step times height, and the disk itself."""


@dataclass(frozen=True, eq=False)
class Template:
    """Filters (PHASES², 5, side, side), and what counting noise does to what they give."""

    filters: Singles
    """By phase (y major) and unknown; STEP_Y and STEP_X give steps [px] times the height."""
    noise: Array
    """(PHASES², 3, 2): variance of height, step y and step x, for light of height 1 and for background of 1."""

    @property
    def reach(self) -> int:
        """Pixels on each side of the window's middle."""
        return int(self.filters.shape[-1] // 2)


def disk_template(
    radius_px: float,
    edge_width_px: float,
    margin_px: float,
    background: float,
    electrons_per_px: float,
    least_width_px: float = 0.0,
    neighbours_px: Array | None = None,
) -> Template:
    """Filters of a disk.

    Parameters
    ----------
    radius_px : float
        Of the disk's outline [px].
    edge_width_px : float
        Blur of the outline, the pixels' own included [px].
    margin_px : float
        How far beyond the outline pixels are looked at [px].
    background : float
        Background over the height of a usual disk: what the weights are made for.
    electrons_per_px : float
        Height of a usual disk. The more electrons, the less a slope of its light can be told from a step by chance.
    least_width_px : float
        Blur that the filters are made for where the outline is sharper; noise and steps are of the outline itself.
    neighbours_px : ndarray, shape (k, 2), optional
        Where disks lie that reach into the window, from the middle of this one (y, x) [px]: what they light is left
        out.

    Returns
    -------
    Template

    Raises
    ------
    NotPossible
        Where neighbours leave too little of the outline.

    Notes
    -----
    Pixels weigh 1/(disk + background), the inverse of their Poisson variance. With the design D = (disk, disk sloping
    along y, along x, 1, y, x, -d disk/dy, -d disk/dx) the filters are rows of (DᵀWD + P)⁻¹DᵀW. P holds the slopes to
    what disks have, `USUAL_SLOPE` of their height: leaving them free costs a third of the precision, and where
    electrons are few, noise is worse than any slope.
    """
    reach = ceil(radius_px + margin_px + 0.5)
    grid = np.arange(-reach, reach + 1, dtype=np.float64)
    widths = edge_width_px, max(edge_width_px, least_width_px)
    blur, soft = (sqrt(max(each**2 - PIXEL_VARIANCE, SHARPEST_PX**2)) for each in widths)
    side = 2 * reach + 1
    filters = np.zeros((PHASES**2, 5, side, side), np.float32)
    noise = np.zeros((PHASES**2, 3, 2))
    held = np.diag([0.0, 1, 1, 0, 1, 1, 0, 0]) / (max(electrons_per_px, 1e-6) * USUAL_SLOPE**2)
    held[3, 3] = UNSEEN_BACKGROUND
    if neighbours_px is None:
        neighbours_px = np.empty((0, 2))
    # Without neighbours the four quadrants of a pixel are mirror images, in which steps change their sign.
    places, flips = (PHASES, (False,)) if len(neighbours_px) else (PHASES // 2, (False, True))
    for phase_y, phase_x in product(range(places), repeat=2):
        y = grid[:, None] - phase_offset(phase_y) + np.zeros((1, side))
        x = grid[None, :] - phase_offset(phase_x) + np.zeros((side, 1))
        outline, along_y, along_x = _disk(y, x, radius_px, soft)
        within = np.hypot(y, x) <= radius_px + margin_px
        for away in neighbours_px:
            within &= np.hypot(y - away[0], x - away[1]) > radius_px + CLEAR_OF_NEIGHBOUR_PX
        if (within & (np.abs(np.hypot(y, x) - radius_px) < 0.7)).sum() < LEAST_OUTLINE * 2 * pi * radius_px:
            raise NotPossible("disks overlap so far that neighbours leave no outline: use a smaller convergence angle")
        weight = within / (np.clip(outline, 0, 1) + max(background, FAINTEST_BACKGROUND))
        levels = np.stack([np.ones_like(y), y / radius_px, x / radius_px])
        design = np.concatenate([outline * levels, levels, [along_y, along_x]]).reshape(8, -1)
        weighted = design * weight.ravel()
        rows = np.linalg.solve(weighted @ design.T + held, weighted).reshape(8, side, side)
        shape, *steps = _disk(y, x, radius_px, blur)
        for row, step in zip((6, 7), steps, strict=True):
            rows[row] /= (rows[row] * step).sum()
        squares = rows[[0, 6, 7]] ** 2
        counting = np.stack([(squares * shape).sum(axis=(1, 2)), squares.sum(axis=(1, 2))], axis=1)
        found = np.stack([*rows[[0, 3, 6, 7]], shape])
        for flip_y, flip_x in product(flips, repeat=2):
            mirrored = found[:, :: -1 if flip_y else 1, :: -1 if flip_x else 1].copy()
            mirrored[STEP_Y] *= -1 if flip_y else 1
            mirrored[STEP_X] *= -1 if flip_x else 1
            row = PHASES - 1 - phase_y if flip_y else phase_y
            phase = row * PHASES + (PHASES - 1 - phase_x if flip_x else phase_x)
            filters[phase], noise[phase] = mirrored, counting
    return Template(filters, noise)


def phase_offset(number: int) -> float:
    """Place of a disk from the middle of a pixel [px], of a phase along one axis."""
    return (number + 0.5) / PHASES - 0.5


def _disk(y: Array, x: Array, radius: float, blur: float) -> tuple[Array, Array, Array]:
    """A disk of height 1 averaged over pixels, and its derivatives by the place (y, x) of its middle."""
    within = (np.arange(POINTS) + 0.5) / POINTS - 0.5
    at_y, at_x = y[..., None, None] + within[:, None], x[..., None, None] + within
    distance = np.maximum(np.hypot(at_y, at_x), 1e-9)
    beyond = (distance - radius) / (sqrt(2) * blur)
    slope = np.exp(-(beyond**2)) / (sqrt(2 * np.pi) * blur) / distance
    shape: Array = 0.5 * erfc(beyond)
    return shape.mean(axis=(-1, -2)), (slope * at_y).mean(axis=(-1, -2)), (slope * at_x).mean(axis=(-1, -2))
