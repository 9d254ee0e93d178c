"""What the model of the bright-field disk knows: levels behind masked pixels, and dead pixels up to the disk's edge."""

from math import sqrt

import numpy as np
import numpy.typing as npt
from scipy import ndimage
from scipy.special import erfc

from stem4d.calibrate.disk import DiskFit
from stem4d.calibrate.edge import PIXEL_VARIANCE, SHARPEST_PX, pixel_edge
from stem4d.errors import BadInput

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

LEAST_LIT = 0.01
"""Part of the scan for which the disk must have covered a pixel before its silence means anything."""
EDGE_REACH = 4.0
"""Blurs from an edge at which it has ended."""
AROUND = 2
"""Pixels each way in which others as far out are looked for."""
AS_FAR = 10.0
"""A pixel is as far out where the disk was to cover it at most this many times as long."""
CONFIRMED = 0.5
"""Part of what was foreseen that those must have counted: less, and the disk was not there."""
WINDOW = 7
"""Pixels a side of the area whose good pixels say how far the pattern differs from the model around a bad one."""
INSIDE = 0.3
"""Part of the disk's level above which a pixel is judged against the model: below, a wrong radius would count."""
DEAD_FACTOR = 0.1
"""A dead pixel counts less than this part of the model."""
NEEDS_COUNTS = 60.0
"""Counts the model must foresee before a missing count means anything."""


def disk_profile(shape: tuple[int, int], centre: tuple[float, float], radius: float, width: float) -> Array:
    """A disk of height one with a blurred edge, (det_y, det_x)."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    profile: Array = 0.5 * erfc((np.hypot(y - centre[0], x - centre[1]) - radius) / (sqrt(2) * max(width, 1e-3)))
    return profile


def expected_pattern(pattern: npt.NDArray[np.number], bad: Mask, disk: DiskFit) -> Array:
    """Disk and background fitted to the good pixels, scaled by how far those around each pixel differ from them.

    The scaling follows a disk whose level changes slowly; where no good pixel is near (a gap between modules), the
    plain model stands.

    Parameters
    ----------
    pattern : ndarray, shape (det_y, det_x)
        Counts.
    bad : ndarray of bool, shape (det_y, det_x)
        Pixels that say nothing.
    disk : DiskFit
        A disk that was found.

    Raises
    ------
    BadInput
        If there is no disk, or the mask does not fit.
    """
    _check(pattern, bad, disk)
    profile = disk_profile((pattern.shape[0], pattern.shape[1]), disk.centre_px, disk.radius_px, disk.edge_width_px)
    good = ~bad
    counts = np.where(good, pattern, 0.0).astype(np.float64)
    inside, outside = good & (profile > 0.9), good & (profile < 0.01)
    low = float(counts[outside].mean()) if outside.any() else 0.0
    high = float(counts[inside].mean()) if inside.any() else float(counts[good].max(initial=0.0))
    model = low + max(high - low, 0.0) * profile
    seen = ndimage.uniform_filter(counts, WINDOW, mode="constant")
    foreseen = ndimage.uniform_filter(np.where(good, model, 0.0), WINDOW, mode="constant")
    near = ndimage.uniform_filter(good.astype(np.float64), WINDOW, mode="constant") > 0.5 / WINDOW**2
    scale = np.where(near & (foreseen > 1e-12 * max(high, 1e-300)), seen / np.maximum(foreseen, 1e-300), 1.0)
    expected: Array = model * np.maximum(scale, 0.0)
    return expected


def find_dead_in_disk(
    mean_pattern: npt.NDArray[np.number], frames: int, disk: DiskFit, bad: Mask | None = None
) -> tuple[Mask, Mask]:
    """Dead pixels of a vacuum pattern up to the disk's edge, where comparison with neighbours says nothing.

    Parameters
    ----------
    mean_pattern : ndarray, shape (det_y, det_x)
        Mean counts per pixel and frame, in vacuum: a Bragg disk's shadow would be taken for dead pixels.
    frames : int
        Frames in the mean.
    disk : DiskFit
        The disk of this pattern.
    bad : ndarray of bool, shape (det_y, det_x), optional
        Pixels known to be bad, and gaps.

    Returns
    -------
    dead, known : ndarray of bool, shape (det_y, det_x)
        Dead pixels, and where a dead one would have been found.

    Raises
    ------
    BadInput
        If there is no disk, or the mask does not fit.
    """
    out = np.zeros(mean_pattern.shape, bool) if bad is None else bad.astype(bool)
    left = out.copy()
    for _ in range(2):
        expected = expected_pattern(mean_pattern, left, disk)
        profile = disk_profile(
            (mean_pattern.shape[0], mean_pattern.shape[1]), disk.centre_px, disk.radius_px, disk.edge_width_px
        )
        known = (expected * frames > NEEDS_COUNTS) & (profile > INSIDE) & ~out
        dead = known & (mean_pattern < DEAD_FACTOR * expected)
        left = out | dead
    return dead, known


def find_dead_at_edge(
    mean_pattern: npt.NDArray[np.number],
    frames: int,
    disk: DiskFit,
    centres_px: Array,
    bad: Mask | None = None,
) -> tuple[Mask, Mask]:
    """Dead pixels where the disk's edge passed: what each pixel should have counted follows from the disk's places.

    Comparison with neighbours and with one fitted disk says nothing there, and an edge with dead pixels pulls every
    centre.

    Parameters
    ----------
    mean_pattern : ndarray, shape (det_y, det_x)
        Mean counts per pixel and frame, in vacuum.
    frames : int
        Frames in the mean.
    disk : DiskFit
        The disk without the blur of its movement: `stem4d.calibrate.still.still_disk`.
    centres_px : ndarray, shape (n, 2)
        Places (y, x) of the disk in frames picked evenly from the scan; some 50 are enough.
    bad : ndarray of bool, shape (det_y, det_x), optional
        Pixels known to be bad, and gaps.

    Returns
    -------
    dead, known : ndarray of bool, shape (det_y, det_x)
        Dead pixels, and where a dead one would have been found.

    Raises
    ------
    BadInput
        If there is no disk, or the mask does not fit.
    """
    out = np.zeros(mean_pattern.shape, bool) if bad is None else bad.astype(bool)
    _check(mean_pattern, out, disk)
    shape = (mean_pattern.shape[0], mean_pattern.shape[1])
    places = centres_px[np.isfinite(centres_px).all(axis=1)]
    if not len(places):
        return np.zeros(shape, bool), np.zeros(shape, bool)
    lit = np.mean([_sharp_profile(shape, (y, x), disk) for y, x in places], axis=0)
    sure = (lit > INSIDE) & ~out
    level = float(np.median(mean_pattern[sure] / lit[sure])) if sure.any() else 0.0
    # A pixel that the disk lit for a small part of the scan only says as much as that part is known.
    known = (level * lit * frames > NEEDS_COUNTS) & (lit > LEAST_LIT) & ~out
    known &= _confirmed(np.where(out, 0.0, mean_pattern), np.where(out, 0.0, level * lit), lit, frames)
    return known & (mean_pattern < DEAD_FACTOR * level * lit), known


def _sharp_profile(shape: tuple[int, int], centre: tuple[float, float], disk: DiskFit) -> Array:
    """A disk of height one, its edge averaged over pixels: where a still disk ends, a pixel's box has no tails."""
    dy, dx = np.ogrid[: shape[0], : shape[1]]
    dy, dx = dy - centre[0], dx - centre[1]
    distance = np.hypot(dy, dx)
    beyond = distance - disk.radius_px
    profile: Array = (beyond < 0).astype(np.float64)
    near = np.abs(beyond) < EDGE_REACH * disk.edge_width_px + 1
    safe = np.maximum(distance[near], 1e-9)
    normal_x, normal_y = (np.broadcast_to(each, shape)[near] / safe for each in (dx, dy))
    blur = sqrt(max(disk.edge_width_px**2 - PIXEL_VARIANCE, SHARPEST_PX**2))
    profile[near] = pixel_edge(beyond[near], normal_x, normal_y, blur)[0]
    return profile


def _confirmed(counts: Array, foreseen: Array, lit: Array, frames: int) -> Mask:
    """Whether pixels around one, as far out as it or further, were lit: where none was, the disk is not what it is said
    to be there, and a pixel's silence says nothing."""
    seen, due = np.zeros(lit.shape), np.zeros(lit.shape)
    for dy in range(-AROUND, AROUND + 1):
        for dx in range(-AROUND, AROUND + 1):
            if dy or dx:
                there, light, hoped = (_moved(each, dy, dx) for each in (counts, lit, foreseen))
                beyond = light <= AS_FAR * lit
                seen, due = seen + beyond * there, due + beyond * hoped
    confirmed: Mask = (due * frames > NEEDS_COUNTS) & (seen > CONFIRMED * due)
    return confirmed


def _moved(values: Array, dy: int, dx: int) -> Array:
    """The values of the pixel (dy, dx) further on; 0 beyond the detector."""
    padded = np.pad(values, AROUND)
    rows, columns = values.shape
    return padded[AROUND + dy : AROUND + dy + rows, AROUND + dx : AROUND + dx + columns]


def _check(pattern: npt.NDArray[np.number], bad: Mask, disk: DiskFit) -> None:
    if not disk.ok:
        raise BadInput(field="disk", value=disk.reason, limit="must have been found")
    if pattern.ndim != 2 or bad.shape != pattern.shape:
        raise BadInput(field="bad", value=bad.shape, limit=f"must have the pattern's shape {pattern.shape}")
