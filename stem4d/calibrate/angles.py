"""The bright-field disk cut into groups of pixels, and the virtual image of each, gathered batch by batch."""

from dataclasses import dataclass
from math import pi, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from stem4d.errors import BadInput

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

MOST_GROUPS = 200
"""About how many groups the disk is cut into: more gain nothing, since the shifts vary smoothly."""
WITHIN = 0.95
"""Part of the radius within which a group must lie: the rim's counts depend on where exactly the edge is."""
DARK_FROM = 1.15
"""Radii from which on the pixels make the dark field."""
CENTRE_WITHIN = 1.3
"""Radii within which a pattern's centre of mass is taken: room for a disk that descan moves."""
MIN_PIXELS = 0.5
"""Part of a group's pixels that must be good."""


@dataclass(frozen=True)
class AngleGroups:
    """Square groups of pixels of the bright-field disk, each one direction of a tilted bright field."""

    detector_shape: tuple[int, int]
    pixels: npt.NDArray[np.intp]
    """Flat indices of the grouped pixels, group after group."""
    first: npt.NDArray[np.intp]
    """Where each group begins among them."""
    angles_px: Array
    """(groups, 2): mean (y, x) of each group's pixels, from the centre of the disk [px]."""
    width_px: float
    """Side of a group."""
    dark: npt.NDArray[np.intp]
    """Flat indices of the dark field's pixels."""
    near: npt.NDArray[np.intp]
    """Flat indices of the good pixels of the disk and around it."""
    near_px: Array
    """(2, near): their (y, x) from the centre of the disk [px]."""


@dataclass(frozen=True)
class TiltImages:
    """Virtual images of a scan; the arrays are filled by `add_frames`."""

    groups: AngleGroups
    images: npt.NDArray[np.float32]
    """(groups, scan_y, scan_x) counts."""
    dark_field: npt.NDArray[np.float32]
    """(scan_y, scan_x) counts beyond the disk; 0 where the detector ends before."""
    recorded: Mask
    """(scan_y, scan_x)"""
    saturated: npt.NDArray[np.uint32]
    """(scan_y, scan_x): grouped pixels that stood at full scale."""
    centre_px: npt.NDArray[np.float32]
    """(2, scan_y, scan_x): centre of mass (y, x) of disk and surroundings, from where the disk was said to be; NaN
    without counts."""


def group_angles(
    detector_shape: tuple[int, int],
    centre_px: tuple[float, float],
    radius_px: float,
    bad_pixels: Mask | None = None,
    side_px: int | None = None,
) -> AngleGroups:
    """Cut the disk into squares of equal size.

    Parameters
    ----------
    detector_shape : (int, int)
        (det_y, det_x).
    centre_px : (float, float)
        Centre (y, x) of the undeflected disk, in pixel-centre indices.
    radius_px : float
        Radius of the disk [px].
    bad_pixels : ndarray of bool, shape (det_y, det_x), optional
        Pixels to leave out.
    side_px : int, optional
        Side of a square; what makes about `MOST_GROUPS` of them if absent.

    Raises
    ------
    BadInput
        Where the disk leaves fewer than a dozen groups on the detector, or the mask does not fit.
    """
    if bad_pixels is not None and bad_pixels.shape != detector_shape:
        raise BadInput(field="bad_pixels", value=bad_pixels.shape, limit=f"must have the shape {detector_shape}")
    side = side_px or max(1, round(radius_px * sqrt(pi / MOST_GROUPS)))
    y, x = (np.arange(n) - at for n, at in zip(detector_shape, centre_px, strict=True))
    offset_y, offset_x = (each.ravel() for each in np.meshgrid(y, x, indexing="ij"))
    good = np.ones(offset_y.shape, bool) if bad_pixels is None else ~bad_pixels.ravel()
    # A group of an odd side is centred on the disk, one of an even side has a corner there.
    cell_y, cell_x = (np.floor(each / side + (side % 2) / 2).astype(np.int64) for each in (offset_y, offset_x))
    middle = (1 - side % 2) / 2
    far = np.hypot(*((np.abs(each + middle) + 0.5) * side for each in (cell_y, cell_x)))
    use = good & (far <= WITHIN * radius_px + 0.5 * side * (side == 1))
    # The factor only keeps pairs apart.
    label = cell_y[use] * 100_003 + cell_x[use]
    group, number = np.unique(label, return_inverse=True, return_counts=True)[1:]
    full = number >= MIN_PIXELS * side**2
    if full.sum() < 12:
        limit = "the bright-field disk must hold at least 12 groups of pixels"
        raise BadInput(field="radius_px", value=radius_px, limit=limit, unit="px", remedy="Use a longer camera length")
    order = np.argsort(group, kind="stable")
    order = order[full[group[order]]]
    number = number[full]
    first = np.concatenate([[0], np.cumsum(number)[:-1]])
    kept = np.nonzero(use)[0][order]
    angles = np.stack([np.add.reduceat(each[kept], first) / number for each in (offset_y, offset_x)], axis=1)
    dark = np.nonzero(good & (np.hypot(offset_y, offset_x) > DARK_FROM * radius_px + 1))[0]
    near = np.nonzero(good & (np.hypot(offset_y, offset_x) <= CENTRE_WITHIN * radius_px))[0]
    near_px = np.stack([offset_y[near], offset_x[near]])
    return AngleGroups(detector_shape, kept, first, angles, float(side), dark, near, near_px)


def empty_images(groups: AngleGroups, scan_shape: tuple[int, int]) -> TiltImages:
    """Images of a scan of which nothing has come in yet."""
    return TiltImages(
        groups,
        np.zeros((len(groups.first), *scan_shape), np.float32),
        np.zeros(scan_shape, np.float32),
        np.zeros(scan_shape, bool),
        np.zeros(scan_shape, np.uint32),
        np.full((2, *scan_shape), np.nan, np.float32),
    )


def add_frames(
    images: TiltImages,
    frames: npt.NDArray[np.number[Any]],
    first: int,
    full_scale: int | None = None,
    moved_px: Array | None = None,
) -> None:
    """Enter a batch of frames, positions ``first`` onwards along the fast axis.

    Parameters
    ----------
    images : TiltImages
        Where they go.
    frames : ndarray, shape (n, det_y, det_x)
        Counts.
    first : int
        Number of the first frame's position, row by row.
    full_scale : int, optional
        Largest value of the detector's counter: pixels of the disk that stand there are counted.
    moved_px : ndarray, shape (n, 2), optional
        How far (y, x) descan has moved each pattern [px]; taken back to the nearest pixel.

    Raises
    ------
    BadInput
        Where the frames do not fit the detector or the scan, or descan moves the disk off the detector.
    """
    rows, columns = images.groups.detector_shape
    positions = images.recorded.size
    if frames.shape[1:] != (rows, columns) or not 0 <= first <= positions - len(frames):
        raise BadInput(
            field="frames", value=(first, frames.shape), limit=f"must be ({rows}, {columns}) within {positions}"
        )
    flat = frames.reshape(len(frames), -1)
    whole = np.zeros((len(frames), 2), np.intp) if moved_px is None else np.rint(moved_px).astype(np.intp)
    for step in np.unique(whole, axis=0):
        here = np.nonzero((whole == step).all(axis=1))[0]
        at = np.divmod(images.groups.pixels, columns)
        moved = [part + by for part, by in zip(at, step, strict=True)]
        if any(part.min() < 0 or part.max() >= size for part, size in zip(moved, (rows, columns), strict=True)):
            raise BadInput(field="moved_px", value=tuple(step), limit="must leave the disk on the detector", unit="px")
        values = flat[np.ix_(here, moved[0] * columns + moved[1])]
        target = first + here
        sums = np.add.reduceat(values, images.groups.first, axis=1, dtype=np.float64)
        images.images.reshape(len(sums[0]), -1)[:, target] = sums.T
        images.centre_px.reshape(2, -1)[:, target] = _centres(images.groups, flat[here], step)
        if full_scale is not None:
            images.saturated.reshape(-1)[target] = (values >= full_scale).sum(axis=1)
    target_all = slice(first, first + len(frames))
    # The dark field is a picture, not a measurement: descan is left in.
    if len(images.groups.dark):
        images.dark_field.reshape(-1)[target_all] = flat[:, images.groups.dark].sum(axis=1, dtype=np.float64)
    images.recorded.reshape(-1)[target_all] = True


def _centres(groups: AngleGroups, flat: npt.NDArray[np.number[Any]], step: npt.NDArray[np.intp]) -> Array:
    """Centres of mass (2, n) of patterns (n, pixels) whose disks lie ``step`` off."""
    rows, columns = groups.detector_shape
    y, x = (part + by for part, by in zip(np.divmod(groups.near, columns), step, strict=True))
    on = (y >= 0) & (y < rows) & (x >= 0) & (x < columns)
    values = flat[:, (y * columns + x)[on]]
    total = np.asarray(values.sum(axis=1, dtype=np.float64))
    with np.errstate(invalid="ignore"):
        found: Array = (groups.near_px[:, on] @ values.T).astype(np.float64) / np.where(total > 0, total, np.nan)
    return found
