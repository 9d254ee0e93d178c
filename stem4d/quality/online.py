"""Whether an exposure that is going on is worth going on with: asked after its first row, and again as it comes.

Every figure here is cheap, because the acquisition waits for the answer; the disk is looked for only on suspicion.
"""

from math import sqrt

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.disk import find_disk
from stem4d.calibrate.pixels import Mask, find_bad_pixels
from stem4d.plan import Plan
from stem4d.predict import predict
from stem4d.quality.clipping import clipped_share
from stem4d.quality.regions import (
    CLEAR_OF_DISK,
    EDGE_PX,
    NEEDS_WHOLE_DISK,
    USES_BRAGG_DISKS,
    PatternGeometry,
    Wanted,
    mask_for,
    planned_geometry,
    wanted_of,
)

LEAST_BEAM = 0.01
"""Part of the planned counts below which there is no beam: no specimen scatters 99 % beyond a detector."""
LEAST_EXPECTED = 1000.0
"""Planned electrons so far below which nothing is said about the beam."""
BRIGHTER = 1.5
"""The disk's place holds this many times the counts per pixel of the rest, or the pattern is looked for."""
DARK_PART, DARK = 0.3, 0.2
"""So much of the disk's place below this part of its bright level: the pattern is looked for."""
COUNTS_TO_SEE = 5.0
"""Mean counts per pixel of the disk's place from which on its evenness can be judged."""
CUT = 0.1
"""Part of the radius that may lie over the detector's edge before the exposure is stopped."""
SURE_SIGMAS = 3.0
FEWEST_CLIPPED = 3
"""Fewer clipped pixels stop nothing: they may be hot ones that no mask knows."""

Pattern = npt.NDArray[np.unsignedinteger]


def stop_reason(
    sum_pattern: Pattern,
    max_pattern: Pattern,
    frames_done: int,
    plan: Plan,
    geometry: PatternGeometry | None = None,
    bad_pixels: Mask | None = None,
) -> str | None:
    """Why the exposure should stop, or None.

    Parameters
    ----------
    sum_pattern, max_pattern : ndarray, shape (det_y, det_x)
        Of the frames so far.
    frames_done : int
        Frames so far; nothing is decided before a whole row of the plan's scan.
    plan : Plan
        What is wanted.
    geometry : PatternGeometry, optional
        The calibrated disk; the plan's where absent.
    bad_pixels : ndarray of bool, shape (det_y, det_x), optional
        Pixels that are left out.

    Raises
    ------
    BadInput
        If the mask does not fit the patterns.
    """
    bad = mask_for(sum_pattern.shape, bad_pixels)
    if frames_done < plan.scan.shape[1]:
        return None
    there = geometry or planned_geometry(plan)
    counts = np.where(bad, 0, sum_pattern).astype(np.float64)
    expected = predict(plan).electrons_per_pattern * frames_done
    if expected >= LEAST_EXPECTED and counts.sum() < LEAST_BEAM * expected:
        return (
            f"no beam: {counts.sum() / frames_done:.3g} counts a pattern after {frames_done} frames, "
            f"{expected / frames_done:.4g} were planned"
        )
    alpha = plan.optics.convergence_semi_angle_mrad
    wanted = wanted_of(plan.analyses, alpha, there.mrad_per_pixel or plan.mrad_per_pixel)
    return _off_detector(counts, bad, there, wanted) or _saturated(
        counts / frames_done, max_pattern, frames_done, plan, there, bad, wanted
    )


def _off_detector(
    counts: npt.NDArray[np.float64], bad: Mask, there: PatternGeometry, wanted: tuple[Wanted, ...]
) -> str | None:
    needing = [one.name for one in wanted if one.kind in NEEDS_WHOLE_DISK or (one.kind == "virtual" and one.uses_disk)]
    place = there.ring(counts.shape, 0.0, there.radius_px) & ~bad
    rest = there.ring(counts.shape, CLEAR_OF_DISK * there.radius_px + EDGE_PX, np.inf) & ~bad
    if not needing or not place.any() or not rest.any():
        return None
    inside, outside = float(counts[place].mean()), float(counts[rest].mean())
    if counts[place].sum() + counts[rest].sum() < LEAST_EXPECTED:
        return None
    empty = inside < BRIGHTER * outside
    dark = counts[place] < DARK * np.quantile(counts[place], 0.9)
    uneven = inside >= COUNTS_TO_SEE and float(dark.mean()) > DARK_PART
    if not empty and not uneven:
        return None
    disk = find_disk(counts, bad, there.radius_px, clipped_too=True)
    who = ", ".join(needing)
    if disk.ok:
        found = PatternGeometry(disk.centre_px, disk.radius_px)
        margin = found.usable_px(counts.shape) - disk.radius_px
        if margin >= -max(CUT * disk.radius_px, 1.0):
            return None
        return f"the detector's edge cuts {-margin:.0f} px off the bright-field disk, which {who} cannot use"
    if not empty:
        return None
    return (
        f"no bright-field disk: its place holds {inside:.3g} counts a pixel, the rest of the detector {outside:.3g}; "
        f"the pattern is off the detector, or only background is left ({who})"
    )


def _saturated(
    mean: npt.NDArray[np.float64],
    max_pattern: Pattern,
    frames_done: int,
    plan: Plan,
    there: PatternGeometry,
    bad: Mask,
    wanted: tuple[Wanted, ...],
) -> str | None:
    full_scale = plan.detector.full_scale
    if not ((max_pattern >= full_scale) & ~bad).any():
        return None
    good = ~bad & ~find_bad_pixels(mean, frames_done, max_pattern).hot
    ever = (max_pattern >= full_scale) & good
    share = np.maximum(clipped_share(mean, full_scale), 1 / frames_done)
    for one in wanted:
        inner, outer, place = _place(one, there)
        look = there.ring(mean.shape, inner, outer) & good
        clipped = look & ever
        readings = float(share[clipped].sum()) * frames_done
        allowed = plan.quality.max_saturated_fraction * int(look.sum()) * frames_done
        if clipped.sum() >= FEWEST_CLIPPED and readings - SURE_SIGMAS * sqrt(readings) > allowed:
            return (
                f"saturation: {int(clipped.sum())} of {int(look.sum())} pixels of {place} reached full scale "
                f"({full_scale}) within {frames_done} frames, which {one.name} cannot use"
            )
    return None


def _place(wanted: Wanted, there: PatternGeometry) -> tuple[float, float, str]:
    """Annulus where clipping spoils an analysis, and its name."""
    if wanted.kind == "virtual":
        return wanted.inner_px, wanted.outer_px, "this virtual detector"
    if wanted.kind in USES_BRAGG_DISKS:
        return CLEAR_OF_DISK * there.radius_px + EDGE_PX, float("inf"), "the pattern beyond the direct beam"
    return 0.0, float(np.nextafter(there.radius_px, np.inf)), "the bright-field disk"
