"""The counts of a scan's bright-field angles, rows by rows: one compiled look at every pixel."""

from math import floor
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from stem4d import optics
from stem4d.analyse.method import Array, Given, Parts, Rows
from stem4d.analyse.usable import MOST_LOST
from stem4d.calibrate.angles import AngleGroups, group_angles
from stem4d.errors import BadInput

MOST_SMEAR = 0.5
"""Pixels of the picture that one group of angles may be smeared over by the defocus."""
FEWEST_ACROSS = 16
"""Groups along the disk's diameter that are kept whatever the smear."""
DARK, NEAR, NOWHERE = -2, -3, -1
"""Labels of pixels that belong to no group: dark field, between, nothing."""


def angle_groups(given: Given, detector_shape: tuple[int, int], pixel_nm: float, defocus_nm: float) -> AngleGroups:
    """Groups of bright-field pixels about the mean origin, as large as the picture's pixels allow.

    Raises
    ------
    BadInput
        Where the disk is not on the detector, or too small there.
    """
    radius = optics.disk_radius_px(given.convergence_semi_angle_mrad, given.mrad_per_pixel)
    smear = abs(defocus_nm) * given.mrad_per_pixel * 1e-3 / pixel_nm
    side = max(1, min(floor(MOST_SMEAR / smear), floor(2 * radius / FEWEST_ACROSS)))
    centre = given.origin_px.reshape(2, -1).mean(axis=1)
    return group_angles(detector_shape, (float(centre[0]), float(centre[1])), radius, given.bad_pixels, side)


def counts_type(given: Given, pixel: np.dtype[Any], groups: AngleGroups) -> np.dtype[Any]:
    """The smallest type that holds every sum of a group's pixels; what may be negative has no full scale below."""
    if pixel.kind != "u":
        return np.dtype(np.float32)
    highest = min(given.full_scale or np.iinfo(pixel).max, np.iinfo(pixel).max)
    number = int(np.diff(np.append(groups.first, len(groups.pixels))).max())
    return np.min_scalar_type(number * int(highest))


def gathered(given: Given, rows: Rows, groups: AngleGroups, first: int, stop: int) -> Parts:
    """Counts (rows, scan_x, groups) and what the fit's judges ask for, of rows first to stop - 1.

    Raises
    ------
    BadInput
        If descan moves the disk off the detector.
    """
    width = rows.scan_shape[1]
    positions = (stop - first) * width
    number = np.diff(np.append(groups.first, len(groups.pixels)))
    labels, offsets = _labels(groups, number)
    origin = given.origin_at(rows.scan_shape)
    apart = np.rint(origin - origin.mean(axis=(1, 2), keepdims=True)).astype(np.int64)
    moved = apart[:, first:stop].reshape(2, positions).T.copy()
    _check_on_detector(groups, moved)
    counts = np.zeros((positions, len(number)), counts_type(given, rows.dtype, groups))
    others = np.zeros((positions, 4))  # dark field, saturated pixels, centre y, x
    recorded = np.zeros(positions, bool)
    full = np.inf if given.full_scale is None else float(given.full_scale)
    for at, frames in rows.read(first, stop):
        here = at - first * width
        native = np.ascontiguousarray(frames, frames.dtype.newbyteorder("="))
        sums = np.zeros((len(here), len(number)))
        seen = np.zeros(len(here), bool)
        more = np.zeros((len(here), 4))
        _sum(native, labels, offsets, number, moved[here], full, sums, more, seen)
        counts[here], others[here], recorded[here] = sums, more, seen
    grid = (stop - first, width)
    return {
        "counts": counts.reshape(*grid, -1),
        "dark_field": others[:, 0].astype(np.float32).reshape(grid),
        "saturated": others[:, 1].astype(np.uint32).reshape(grid),
        "centre_px": others[:, 2:].astype(np.float32).reshape(*grid, 2),
        "recorded": recorded.reshape(grid),
    }


def _labels(groups: AngleGroups, number: Array) -> tuple[Array, Array]:
    """Group of each pixel of the detector, and its place (y, x) from the disk's centre where it is near."""
    labels = np.full(groups.detector_shape, NOWHERE, np.int32)
    offsets = np.zeros((2, *groups.detector_shape))
    labels.reshape(-1)[groups.dark] = DARK
    near = np.zeros(groups.detector_shape, bool)
    near.reshape(-1)[groups.near] = True
    offsets.reshape(2, -1)[:, groups.near] = groups.near_px
    labels[near & (labels == NOWHERE)] = NEAR
    labels.reshape(-1)[groups.pixels] = np.repeat(np.arange(len(number)), number)
    return labels, np.concatenate([offsets, near[None].astype(np.float64)])


def _check_on_detector(groups: AngleGroups, moved: npt.NDArray[np.int64]) -> None:
    y, x = np.divmod(groups.pixels, groups.detector_shape[1])
    for pixel, by, size in zip((y, x), moved.T, groups.detector_shape, strict=True):
        if pixel.min() + by.min() < 0 or pixel.max() + by.max() >= size:
            limit = "must leave the bright-field disk on the detector at every position"
            raise BadInput(field="origin_px", value=(int(by.min()), int(by.max())), limit=limit, unit="px")


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _sum(
    frames: Any, labels: Any, offsets: Any, number: Any, moved: Any, full: float, sums: Any, more: Any, seen: Any
) -> None:
    """Sums of the groups of each frame; a pixel without a number, or with one that the counter cannot show, is taken as
    the mean of the frame's others."""
    rows, columns = labels.shape
    lost = np.zeros(len(number), np.int64)
    pixels = number.sum()
    for n in range(len(frames)):
        lost[:] = 0
        away, disk, mass, my, mx = 0, 0.0, 0.0, 0.0, 0.0
        for y in range(rows):
            v = y + moved[n, 0]
            if v < 0 or v >= rows:
                continue
            for x in range(columns):
                group = labels[y, x]
                u = x + moved[n, 1]
                if group == NOWHERE or u < 0 or u >= columns:
                    continue
                value = float(frames[n, v, u])
                if not np.isfinite(value) or value > full:
                    if group >= 0:
                        lost[group] += 1
                        away += 1
                    continue
                if group >= 0:
                    sums[n, group] += value
                    disk += value
                    if value == full:
                        more[n, 1] += 1
                elif group == DARK:
                    more[n, 0] += value
                if offsets[2, y, x] > 0:
                    mass += value
                    my += value * offsets[0, y, x]
                    mx += value * offsets[1, y, x]
        seen[n] = away <= MOST_LOST * pixels
        if not seen[n]:
            sums[n] = 0
            more[n] = 0
        elif away > 0:
            for group in range(len(number)):
                sums[n, group] += lost[group] * disk / (pixels - away)
        more[n, 2] = my / mass if mass > 0 else np.nan
        more[n, 3] = mx / mass if mass > 0 else np.nan
