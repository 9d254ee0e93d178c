"""Whether a scan that was promised to be in vacuum was: what its mean and its brightest pattern say against it."""

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from stem4d.calibrate.disk import DiskFit
from stem4d.calibrate.pixels import fill_bad_pixels
from stem4d.calibrate.robust import spread_of
from stem4d.errors import BadInput

Mask = npt.NDArray[np.bool_]

MOST_BEYOND = 0.02
"""Part of the counts that may lie beyond the disk: tails of the point spread and of the aperture give up to 1 %."""
UNEVEN = 0.25
"""Departure from the disk's usual level that no condenser makes: a disk in vacuum is even to a few percent."""
MOST_UNEVEN = 0.03
"""Part of the disk that may depart by so much."""
NOISE_SIGMAS = 2.0
"""Noise of a pixel, of which a median over nine leaves 0.4."""
FEWEST_FULL = 2
"""Good pixels of the disk at full scale that make it saturated: a single one may be hot and not masked."""


def not_vacuum(
    mean_pattern: npt.NDArray[np.number],
    disk: DiskFit,
    bad_pixels: Mask | None = None,
    brightest: npt.NDArray[np.number] | None = None,
    full_scale: int | None = None,
) -> str:
    """Why centre, descan and current are not to be taken from a scan; empty where nothing speaks against it.

    A specimen scatters beyond the disk and makes it uneven, and so do pixels that fail and that no mask knows of. A
    thin film of a few nanometres passes: it does neither, and moves the disk by hundredths of a pixel.

    Parameters
    ----------
    mean_pattern : ndarray, shape (det_y, det_x)
        Mean counts over the scan, an integrating detector's offset taken off.
    disk : DiskFit
        The disk in it.
    bad_pixels : ndarray of bool, shape (det_y, det_x), optional
        Pixels that do not count.
    brightest : ndarray, shape (det_y, det_x), optional
        Largest count of each pixel in any frame.
    full_scale : int, optional
        Largest value of the counter. With ``brightest`` it shows a counter that was full or began again at 0.

    Raises
    ------
    BadInput
        If shapes disagree.
    """
    bad = np.zeros(mean_pattern.shape, bool) if bad_pixels is None else bad_pixels.astype(bool)
    for name, other in (("bad_pixels", bad), ("brightest", brightest)):
        if other is not None and other.shape != mean_pattern.shape:
            raise BadInput(field=name, value=other.shape, limit=f"must have the shape {mean_pattern.shape}")
    if not disk.ok:
        return f"no disk in vacuum: {disk.reason}"
    good = ~bad & np.isfinite(mean_pattern)
    counts = np.where(good, mean_pattern, 0.0).astype(np.float64)
    y, x = np.indices(counts.shape)
    distance = np.hypot(y - disk.centre_px[0], x - disk.centre_px[1])
    inside = good & (distance < disk.radius_px - 3 * disk.edge_width_px - 1)
    if brightest is not None and full_scale is not None:
        full = int((good & (distance < disk.radius_px) & (brightest >= full_scale)).sum())
        if full >= FEWEST_FULL:
            return f"{full} pixels of the disk reach full scale: saturated"
    total = float(counts.sum())
    beyond = float(counts[distance > disk.radius_px + 4 * disk.edge_width_px + 2].sum()) / total if total > 0 else 0.0
    if beyond > MOST_BEYOND:
        return f"{beyond:.0%} of the counts lie beyond the disk: no vacuum, or a background that was not taken off"
    if inside.sum() >= 9:
        # A median over neighbours lets single pixels and shot noise pass.
        filled = fill_bad_pixels(counts, ~good)
        smooth = ndimage.median_filter(filled, 3)[inside]
        noise = spread_of(filled[inside] - smooth)
        allowed = max(UNEVEN * float(np.median(smooth)), NOISE_SIGMAS * noise)
        uneven = float((np.abs(smooth - np.median(smooth)) > allowed).mean())
        if uneven > MOST_UNEVEN:
            return (
                f"{uneven:.0%} of the disk is much brighter or darker than the rest: no vacuum, or"
                " a part of the detector that fails"
            )
    return ""
