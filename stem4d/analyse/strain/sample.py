"""A sample of a scan's frames: their bad pixels, how their origin moves, and their mean with that movement removed."""

from dataclasses import dataclass, replace
from math import hypot, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt

from stem4d.analyse.method import Given, NotPossible, Rows
from stem4d.calibrate.centres import disk_centres
from stem4d.calibrate.descan import descan_plane, fit_descan
from stem4d.calibrate.disk import DiskFit, find_disk
from stem4d.calibrate.pixels import find_bad_pixels
from stem4d.optics import disk_radius_px

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

MOST_FRAMES, MOST_BYTES, MOST_ROWS = 2048, 2**28, 64
"""Looked at: as many as tell a lattice from noise, no more than memory holds."""
ROUNDING_VARIANCE = 1 / 12
"""What frames moved by whole pixels add to the blur of their mean [px²]."""
USUAL_BLUR_PX = 0.5
"""Of an outline that could not be fitted."""
RADIUS_TOLERANCE = 0.2
"""A fitted radius further off the calibrated one, as a part of it, is not of the undeflected disk."""


@dataclass(frozen=True, eq=False)
class Sample:
    """What the sampled frames tell."""

    frames: int
    bad_pixels: Mask
    """(det_y, det_x): those known before and those found."""
    origin_px: Array
    """(2, scan_y, scan_x): where the undeflected disk is expected at every position."""
    origin_sigma_px: float
    """Error of it that all positions share, where it was fitted or stated; 0 where it is not known."""
    mean: Array
    """(det_y, det_x) mean counts of a frame, moved so that the undeflected disk lies at ``centre_px``."""
    good: Mask
    """(det_y, det_x) where at least half of the frames had a good pixel."""
    centre_px: tuple[float, float]
    disk: DiskFit
    """The undeflected disk of the mean; of the calibrated radius where none could be fitted."""
    highest: float
    """Largest count of a good pixel."""


def look(given: Given, rows: Rows) -> Sample:
    """Look at a sample of the frames.

    Raises
    ------
    NotPossible
        Where there is no frame, no count, or the origin is off the detector.
    """
    frames, positions = _read(rows)
    if frames.dtype.kind == "f":
        frames[:, given.bad_pixels] = 0
        usable = np.isfinite(frames.sum(axis=(1, 2), dtype=np.float64))
        if not usable.any():
            raise NotPossible("every frame looked at holds pixels that are no numbers: mask them as bad pixels")
        frames, positions = frames[usable], positions[usable]
    mean, highest = frames.mean(axis=0, dtype=np.float64), frames.max(axis=0)
    found = find_bad_pixels(mean, len(frames), highest, gaps=given.bad_pixels)
    bad = given.bad_pixels | found.mask
    if bad.all() or not mean[~bad].max() > 0:
        raise NotPossible("no counts on any good pixel")
    origin, sigma = _origin(given, rows.scan_shape, frames, positions, mean, bad)
    row, column = positions // rows.scan_shape[1], positions % rows.scan_shape[1]
    moved, good = _aligned(frames, bad, origin[:, row, column])
    centre = ((mean.shape[0] - 1) // 2, (mean.shape[1] - 1) // 2)
    centre_px = (float(centre[0]), float(centre[1]))
    return Sample(
        frames=len(frames),
        bad_pixels=bad,
        origin_px=origin,
        origin_sigma_px=sigma,
        mean=moved,
        good=good,
        centre_px=centre_px,
        disk=_disk(given, moved, good, centre_px),
        highest=float(highest[~bad].max()),
    )


def _read(rows: Rows) -> tuple[npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Frames of rows spread evenly over the scan, each thinned out evenly, and their positions."""
    held = np.flatnonzero(rows.recorded.any(axis=1))
    if not held.size:
        raise NotPossible("no frame was recorded")
    frame_bytes = int(np.prod(rows.detector_shape)) * rows.dtype.itemsize
    most = max(min(MOST_FRAMES, MOST_BYTES // frame_bytes), 1)
    chosen = held[np.unique(np.linspace(0, len(held) - 1, min(len(held), MOST_ROWS, most)).astype(np.int64))]
    each = max(most // len(chosen), 1)
    frames, positions = [], []
    for row in chosen:
        wanted = np.flatnonzero(rows.recorded[row])
        wanted = row * rows.scan_shape[1] + wanted[np.unique(np.linspace(0, len(wanted) - 1, each).astype(np.int64))]
        for at, batch in rows.read(int(row), int(row) + 1):
            keep = np.isin(at, wanted)
            frames.append(np.array(batch[keep]))
            positions.append(np.asarray(at)[keep])
    return np.concatenate(frames), np.concatenate(positions)


def _origin(
    given: Given,
    scan_shape: tuple[int, int],
    frames: npt.NDArray[Any],
    positions: npt.NDArray[np.int64],
    mean: Array,
    bad: Mask,
) -> tuple[Array, float]:
    """The expected origin everywhere: as mapped, or a plane through the centres of the sampled frames, or one."""
    stated = given.uncertainty.get("origin_px", 0.0)
    known = np.array(given.origin_at(scan_shape), dtype=np.float64)
    if given.origin_px.ndim > 1:
        known = np.where(np.isfinite(known), known, np.nanmean(known, axis=(1, 2), keepdims=True))
        return known, stated
    radius = disk_radius_px(given.convergence_semi_angle_mrad, given.mrad_per_pixel)
    blurred = find_disk(mean, bad)
    centre = np.asarray(given.origin_px, dtype=np.float64)
    # Another disk may be as bright.
    if blurred.ok and hypot(*(np.array(blurred.centre_px) - centre)) < 1.5 * radius:
        centre = np.array(blurred.centre_px)
    # Where the pattern moves, the mean is too soft for a disk to be fitted, but each frame is sharp.
    sharp = DiskFit(
        (float(centre[0]), float(centre[1])), radius, (0.1, 0.1), 0.1, USUAL_BLUR_PX, 0.0, ok=True, reason=""
    )
    centres = disk_centres(frames, sharp, bad, given.counts_per_electron)
    found = np.full((2, *scan_shape), np.nan)
    found[:, positions // scan_shape[1], positions % scan_shape[1]] = centres.centre_px.T
    plane = fit_descan(found[0], found[1], np.isfinite(found).all(axis=0), 1.0)
    if not np.isfinite(plane.offset_px).all():
        return np.broadcast_to(centre.reshape(2, 1, 1), known.shape).copy(), stated
    seen = max(int(np.isfinite(centres.centre_px).all(axis=1).sum()), 1)
    return descan_plane(plane, scan_shape, 1.0), hypot(stated, plane.residual_rms_px / sqrt(seen))


def _aligned(frames: npt.NDArray[Any], bad: Mask, origin: Array) -> tuple[Array, Mask]:
    """Mean of frames moved by whole pixels so that their origins fall on one, and where it is well known."""
    shape = bad.shape
    total, weight = np.zeros(shape), np.zeros(shape)
    good = (~bad).astype(np.float64)
    for frame, at in zip(frames, origin.T, strict=True):
        here, there = [], []
        for size, place in zip(shape, at, strict=True):
            by = (size - 1) // 2 - round(float(place))
            here.append(slice(max(-by, 0), min(size - by, size)))
            there.append(slice(max(by, 0), min(size + by, size)))
        if any(part.stop <= part.start for part in here):
            raise NotPossible("the origin lies off the detector")
        total[there[0], there[1]] += np.where(bad[here[0], here[1]], 0, frame[here[0], here[1]])
        weight[there[0], there[1]] += good[here[0], here[1]]
    return total / np.maximum(weight, 1), weight > 0.5 * len(frames)


def _disk(given: Given, mean: Array, good: Mask, centre: tuple[float, float]) -> DiskFit:
    """The undeflected disk of the aligned mean, its blur freed of the moves by whole pixels."""
    radius = disk_radius_px(given.convergence_semi_angle_mrad, given.mrad_per_pixel)
    fitted = find_disk(mean, ~good, radius_hint_px=radius)
    away = hypot(fitted.centre_px[0] - centre[0], fitted.centre_px[1] - centre[1])
    if fitted.ok and away < radius and abs(fitted.radius_px / radius - 1) < RADIUS_TOLERANCE:
        width = sqrt(max(fitted.edge_width_px**2 - ROUNDING_VARIANCE, ROUNDING_VARIANCE))
        return replace(fitted, edge_width_px=width)
    return DiskFit(centre, radius, (0.0, 0.0), 0.0, USUAL_BLUR_PX, 0.0, ok=True, reason="")
