"""What patterns say against what is known of them: the disk's size, pixels that stand out, numbers below zero."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from stem4d import optics
from stem4d.analyse.frame_pass import FollowingPass, Looked, sampled_rows
from stem4d.analyse.method import Given, Outcome, Rows
from stem4d.calibrate.disk import SMALLEST_SIDE_PX, DiskFit, find_disk
from stem4d.quality.file import RADIUS_TOLERANCE
from stem4d.quality.pixels import hot_pixels, places

Array = npt.NDArray[np.float64]

SMALLEST_DISK_PX = 2.0
"""Radius below which a disk is as sharp as a hot pixel."""
SURE_RADIUS = 4.0
"""Of its standard errors by which a radius must differ: few electrons know it badly."""
MOST_OF_IT = 0.5
"""Part of the counts within a disk of another size than was expected, for it to be the direct beam."""
FARTHEST_OFF, FARTHEST_OFF_PX = 0.25, 1.0
"""Of the radius, and at least in pixels, by which the disk may lie off its centre."""
OVER_READOUT = 8.0
"""Of the usual differences between neighbours that a hot pixel has to exceed: none of 1e6 does by chance."""
BLOCK_PX = 8
SURE = 5.0
"""Sigmas by which a block of pixels has to lie below zero."""
MOST_BELOW = 0.01
"""Part of all counts that may stand below zero."""


def look(given: Given, rows: Rows) -> Looked:
    """Up to eight rows, spread over the scan; NotPossible where no frame was recorded."""
    return FollowingPass(given, rows, lambda _: ()).look(sampled_rows(rows).tolist())


def doubts_of(given: Given, seen: Looked) -> list[str]:
    """What is wrong with patterns, or with what is known of them, whatever is made of them."""
    doubts = [disk_doubt(given, seen.aligned), _hot(given, seen), _below(given, seen)]
    return [one for one in doubts if one]


def with_doubts(outcome: Outcome, doubts: Sequence[str]) -> Outcome:
    """An outcome that is no better than the patterns it was made from."""
    if not doubts or outcome.verdict == "not_possible":
        return outcome
    return replace(outcome, verdict="doubtful", reason="; ".join([outcome.reason.rstrip("."), *doubts]))


def disk_doubt(given: Given, pattern: npt.NDArray[np.number]) -> str:
    """Whether the disk is another than the angles say; empty where none is seen."""
    if min(pattern.shape) < SMALLEST_SIDE_PX:
        return ""
    expected = optics.disk_radius_px(given.convergence_semi_angle_mrad, given.mrad_per_pixel)
    found = find_disk(pattern, given.bad_pixels, expected, clipped_too=True, oval_too=True)
    if not found.ok:
        # Beyond a third of the radius that was expected nothing is found that one expects.
        found = find_disk(pattern, given.bad_pixels, clipped_too=True, oval_too=True)
        if found.ok and _share_within(pattern, found) < MOST_OF_IT:
            # Structure within a disk that scattering has washed out tells nothing of the angles.
            return ""
    if not found.ok:
        return ""
    if doubt := _elsewhere(given, found, expected):
        return doubt
    allowed = max(RADIUS_TOLERANCE * expected, SURE_RADIUS * found.radius_uncertainty_px)
    if abs(found.radius_px - expected) <= allowed:
        return ""
    return (
        f"the disk's radius is {found.radius_px:.3g} px, where {given.convergence_semi_angle_mrad:.4g} mrad at "
        f"{given.mrad_per_pixel:.4g} mrad/px make {expected:.3g} px: one of these angles is wrong"
    )


def _share_within(pattern: npt.NDArray[np.number], found: DiskFit) -> float:
    """Part of all counts that lie in a disk."""
    y, x = np.indices(pattern.shape)
    near = np.hypot(y - found.centre_px[0], x - found.centre_px[1]) <= found.radius_px
    return float(pattern[near].sum()) / max(float(pattern.sum()), 1e-300)


def _elsewhere(given: Given, found: DiskFit, expected_px: float) -> str:
    """Whether the disk lies where it was said to; fields move it by less than that."""
    origin = np.nanmean(given.origin_px.reshape(2, -1), axis=1)
    off = float(np.hypot(found.centre_px[0] - origin[0], found.centre_px[1] - origin[1]))
    if off <= max(FARTHEST_OFF * expected_px, FARTHEST_OFF_PX):
        return ""
    return (
        f"the disk lies {off:.3g} px from the centre that was said, at ({found.centre_px[0]:.1f}, "
        f"{found.centre_px[1]:.1f}) and not at ({origin[0]:.1f}, {origin[1]:.1f}): angles are from the wrong place"
    )


def _hot(given: Given, seen: Looked) -> str:
    """Pixels that stand out in all frames and are not left out."""
    radius = optics.disk_radius_px(given.convergence_semi_angle_mrad, given.mrad_per_pixel)
    if radius < SMALLEST_DISK_PX or not seen.frames:
        return ""
    scale = 1 / given.counts_per_electron
    hot = hot_pixels(np.maximum(seen.mean, 0.0) * scale, seen.frames, seen.highest * scale, given.bad_pixels)
    # What integrates has noise where there are no electrons: hot is what stands out of that, too.
    hot &= _over_neighbours(given, seen) > OVER_READOUT
    if not hot.any():
        return ""
    return (
        f"{int(hot.sum())} pixel(s) stand out in all frames and are not left out, at (y, x) {places(hot)}: they pull "
        "at centres and add to sums; measure pixel_mask, or say bad_pixels"
    )


def _over_neighbours(given: Given, seen: Looked) -> Array:
    """What pixels have over their neighbours, in the usual differences between neighbours; 0 where bad."""
    over = np.where(given.bad_pixels, 0.0, seen.mean - ndimage.median_filter(seen.mean, 5))
    usual = 1.4826 * float(np.median(np.abs(over[~given.bad_pixels])))
    return over / max(usual, 1e-300)


def _below(given: Given, seen: Looked) -> str:
    """Whether more lies below zero than readout noise puts there."""
    if seen.mean.min() >= 0:
        return ""
    good = np.where(given.bad_pixels, 0.0, seen.mean)
    sizes = [n // BLOCK_PX * BLOCK_PX for n in good.shape]
    blocks = good[: sizes[0], : sizes[1]].reshape(sizes[0] // BLOCK_PX, BLOCK_PX, sizes[1] // BLOCK_PX, BLOCK_PX)
    sums, scatter = blocks.sum(axis=(1, 3)), blocks.std(axis=(1, 3)) * BLOCK_PX
    alone = (good < 0) & (_over_neighbours(given, seen) < -OVER_READOUT)
    below = max(-float(sums[sums < -SURE * scatter].sum()), -float(good[alone].sum()))
    part = below / max(float(good[good > 0].sum()), 1e-300)
    if part <= MOST_BELOW:
        return ""
    return f"numbers below zero come to {part:.0%} of those above it: too high a dark level was taken off"
