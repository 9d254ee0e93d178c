"""The disk as it is when it stands still: radius and blur of its edge from frames laid onto each other.

A scan's mean pattern is blurred by the disk's movement, which is no Gaussian and draws a curved edge in. A model that
is softer than the edge of the frames leaves residuals in rings; pixels sample the rings unevenly, so that centres of
frames come out off by a few thousandths of a pixel, by where in a pixel they are. Over a scan that looks like descan.
"""

from dataclasses import dataclass, replace
from math import exp, log, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import least_squares

from stem4d.calibrate.centres import BACKGROUND, NARROWEST_PX, Centres
from stem4d.calibrate.disk import DiskFit
from stem4d.calibrate.edge import PIXEL_VARIANCE, SHARPEST_PX, pixel_edge
from stem4d.errors import BadInput

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

REACH_PX, REACH = 3.0, 2.5
"""Half the width of the ring that is looked at: so many pixels, and so many blurs of the mean pattern's edge."""
PER_PX = 16
"""Bins of distance a pixel."""
NORMALS = 9
"""Bins of the edge's direction between an axis and a diagonal."""
FEWEST_FRAMES = 2


@dataclass(frozen=True)
class _Profile:
    """Counts by distance from the edge and direction of its normal; every bin with pixels in it."""

    beyond: Array
    along: Array
    across: Array
    mean: Array
    number: Array


def still_disk(disk: DiskFit, centres: Centres, frames: npt.NDArray[Any], bad_pixels: Mask | None = None) -> DiskFit:
    """The disk of a scan's mean pattern without what its own movement makes of it.

    Used for a second pass of `disk_centres`.

    Parameters
    ----------
    disk : DiskFit
        The disk of the mean pattern.
    centres : Centres
        Centres of the frames by `disk_centres` with that disk.
    frames : ndarray, shape (n, det_y, det_x)
        The same frames; some from all over the scan are enough.
    bad_pixels : ndarray of bool, shape (det_y, det_x), optional
        Pixels to leave out.

    Returns
    -------
    DiskFit
        With the radius and blur of still frames and the mean of their centres; ``disk`` itself where fewer than two
        frames have a centre.

    Raises
    ------
    BadInput
        If there are not as many frames as centres.
    """
    if frames.ndim != 3 or len(frames) != len(centres.centre_px):
        limit = f"must be {len(centres.centre_px)} frames, one a centre"
        raise BadInput(field="frames", value=frames.shape, limit=limit)
    known = np.flatnonzero(np.isfinite(centres.centre_px).all(axis=1))
    if len(known) < FEWEST_FRAMES:
        return disk
    good = np.ones(frames.shape[1:], bool) if bad_pixels is None else ~bad_pixels
    reach = max(REACH_PX, REACH * disk.edge_width_px)
    profile = _profile(frames[known], centres.centre_px[known], good, disk.radius_px, reach)
    radius, blur = _edge(profile, disk, reach)
    error = float(np.median(centres.uncertainty_px[known]))
    # The centres' own errors have blurred the profile. A model much narrower than they are would hold on to single
    # counts.
    variance = max(blur**2 - error**2, 0.0) + PIXEL_VARIANCE
    width = sqrt(max(variance, max(NARROWEST_PX, 2 * error) ** 2))
    middle = centres.centre_px[known].mean(axis=0)
    return replace(
        disk,
        centre_px=(float(middle[0]), float(middle[1])),
        radius_px=radius,
        edge_width_px=min(width, disk.edge_width_px),
    )


def _profile(frames: npt.NDArray[Any], centres: Array, good: Mask, radius: float, reach: float) -> _Profile:
    bins = int(2 * reach * PER_PX) + 1
    sums = np.zeros((5, NORMALS * bins))
    for frame, centre in zip(frames, centres, strict=True):
        rows, columns = (slice(max(int(c - radius - reach), 0), max(int(c + radius + reach) + 2, 0)) for c in centre)
        dy = np.abs(np.arange(good.shape[0])[rows, None] - centre[0])
        dx = np.abs(np.arange(good.shape[1])[None, columns] - centre[1])
        distance = np.hypot(dy, dx)
        beyond = distance - radius
        use = good[rows, columns] & (np.abs(beyond) < reach) & (distance > 0)
        near, far = (np.broadcast_to(each(dy, dx), use.shape)[use] for each in (np.minimum, np.maximum))
        turn = np.rint(near / far * (NORMALS - 1)).astype(int)
        at = turn * bins + ((beyond[use] + reach) * PER_PX).astype(int)
        values = (np.ones(len(at)), beyond[use], far / distance[use], near / distance[use], frame[rows, columns][use])
        for total, value in zip(sums, values, strict=True):
            total += np.bincount(at, weights=value, minlength=NORMALS * bins)
    seen = sums[0] > 0
    beyond, along, across, mean = (each[seen] / sums[0][seen] for each in sums[1:])
    return _Profile(beyond, along, across, mean, sums[0][seen])


def _edge(profile: _Profile, disk: DiskFit, reach: float) -> tuple[float, float]:
    """Radius and blur beside that of the pixels, by least squares with the weights of counts."""
    top = float(np.quantile(profile.mean, 0.9))
    weight = np.sqrt(profile.number / np.maximum(profile.mean, BACKGROUND * max(top, 1e-300)))

    def left(trial: Array) -> Array:
        blur = exp(min(max(float(trial[1]), log(SHARPEST_PX)), log(reach)))
        edge = pixel_edge(profile.beyond - trial[0], profile.along, profile.across, blur)[0]
        design = np.stack([edge, np.ones_like(edge)], axis=1) * weight[:, None]
        levels = np.linalg.lstsq(design, profile.mean * weight, rcond=None)[0]
        return np.asarray(design @ levels - profile.mean * weight)

    found = least_squares(
        left, [0.0, log(max(0.5 * disk.edge_width_px, NARROWEST_PX))], method="lm", xtol=1e-6, ftol=1e-6, max_nfev=60
    ).x
    if not abs(found[0]) < reach / 2:
        return disk.radius_px, sqrt(max(disk.edge_width_px**2 - PIXEL_VARIANCE, SHARPEST_PX**2))
    radius = disk.radius_px + float(found[0])
    # Across the normal pixels average too, which draws a curved edge in.
    return radius + PIXEL_VARIANCE / (2 * radius), exp(min(max(float(found[1]), log(SHARPEST_PX)), log(reach)))
