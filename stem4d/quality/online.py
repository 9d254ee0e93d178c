"""Whether an exposure that is going on is worth going on with: asked after its first frames, and again as it comes.

Every figure here is cheap, because the acquisition waits for the answer; the disk is looked for only on suspicion.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.disk import find_disk
from stem4d.calibrate.pixels import Mask, find_bad_pixels
from stem4d.catalogue import CATALOGUE
from stem4d.detector import DetectorFacts
from stem4d.plan import Plan
from stem4d.predict import predict
from stem4d.quality.clipping import clipped_share
from stem4d.quality.online_signal import beam_lost, too_fast
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

FIRST_PART, FEWEST_FRAMES = 0.025, 16
"""Nothing is decided before a whole row, or this part of the scan where that is less; never before so few frames."""
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


@dataclass(frozen=True)
class _Asked:
    """What the patterns of an exposure are held against."""

    plan: Plan
    there: PatternGeometry
    """Where the disk should be."""
    bad: Mask
    wanted: tuple[Wanted, ...]
    facts: DetectorFacts | None


def stop_reason(
    sum_pattern: Pattern,
    max_pattern: Pattern,
    frames_done: int,
    plan: Plan,
    geometry: PatternGeometry | None = None,
    bad_pixels: Mask | None = None,
    before: tuple[Pattern, int] | None = None,
    detector: DetectorFacts | None = None,
) -> str | None:
    """Why the exposure should stop, or None.

    Parameters
    ----------
    sum_pattern, max_pattern : ndarray, shape (det_y, det_x)
        Of the frames so far.
    frames_done : int
        Frames so far; nothing is decided before there are ``enough_frames``.
    plan : Plan
        What is wanted.
    geometry : PatternGeometry, optional
        The calibrated disk; the plan's where absent.
    bad_pixels : ndarray of bool, shape (det_y, det_x), optional
        Pixels that are left out.
    before : (ndarray, int), optional
        Sum pattern and frames at an earlier moment: what has come since is judged by itself too, once it is
        ``enough_frames``. A beam that is lost in the middle would otherwise hide behind what came before.
    detector : DetectorFacts, optional
        What is known of the plan's detector; the catalogue's where absent.

    Raises
    ------
    BadInput
        If the mask does not fit the patterns.
    """
    bad = mask_for(sum_pattern.shape, bad_pixels)
    if frames_done < enough_frames(plan):
        return None
    there = geometry or planned_geometry(plan)
    asked = _Asked(
        plan=plan,
        there=there,
        bad=bad,
        wanted=wanted_of(
            plan.analyses, plan.optics.convergence_semi_angle_mrad, there.mrad_per_pixel or plan.mrad_per_pixel
        ),
        facts=detector if detector is not None else CATALOGUE.get(plan.detector.name),
    )
    counts = np.where(bad, 0, sum_pattern).astype(np.float64)
    if before is not None and frames_done - before[1] >= enough_frames(plan):
        recent, frames = counts - np.where(bad, 0, before[0]), frames_done - before[1]
        reason = _no_beam(recent, frames, plan) or _off_detector(recent, asked)
        if reason is None and before[1] >= enough_frames(plan):
            earlier = float(counts.sum() - recent.sum()) / before[1]
            reason = beam_lost(float(recent.sum()), frames, earlier, plan, asked.facts, asked.wanted)
        if reason is not None:
            return f"since frame {before[1]}: {reason}"
    return (
        _no_beam(counts, frames_done, plan)
        or _off_detector(counts, asked)
        or _saturated(counts / frames_done, max_pattern, frames_done, asked)
        or _too_fast(counts / frames_done, max_pattern, frames_done, asked)
    )


def watch(
    plan: Plan,
    geometry: PatternGeometry | None = None,
    bad_pixels: Mask | None = None,
    detector: DetectorFacts | None = None,
) -> Callable[[Pattern, Pattern, int], str | None]:
    """``stop_reason`` for one exposure, to be called with its sum pattern, maximum pattern and frames as they grow.

    It remembers an earlier moment, so that a beam lost late is noticed after ``enough_frames`` without it.
    """
    moments: list[tuple[Pattern, int]] = []

    def ask(sum_pattern: Pattern, max_pattern: Pattern, frames_done: int) -> str | None:
        while len(moments) > 1 and frames_done - moments[1][1] >= enough_frames(plan):
            moments.pop(0)
        before = moments[0] if moments else None
        moments.append((sum_pattern.copy(), frames_done))
        return stop_reason(sum_pattern, max_pattern, frames_done, plan, geometry, bad_pixels, before, detector)

    return ask


def enough_frames(plan: Plan) -> int:
    """Frames from which on a plan's exposure is judged: a row, or FIRST_PART of the scan where that is less."""
    return min(plan.scan.shape[1], max(round(FIRST_PART * plan.scan.frames), FEWEST_FRAMES))


def _no_beam(counts: npt.NDArray[np.float64], frames: int, plan: Plan) -> str | None:
    expected = predict(plan).electrons_per_pattern * frames
    if expected < LEAST_EXPECTED or counts.sum() >= LEAST_BEAM * expected:
        return None
    return (
        f"no beam: {counts.sum() / frames:.3g} counts a pattern over {frames} frames, "
        f"{expected / frames:.4g} were planned"
    )


def _off_detector(counts: npt.NDArray[np.float64], asked: _Asked) -> str | None:
    there, bad = asked.there, asked.bad
    needing = [
        one.name for one in asked.wanted if one.kind in NEEDS_WHOLE_DISK or (one.kind == "virtual" and one.uses_disk)
    ]
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


def _saturated(mean: npt.NDArray[np.float64], max_pattern: Pattern, frames_done: int, asked: _Asked) -> str | None:
    plan, there, bad = asked.plan, asked.there, asked.bad
    full_scale = plan.detector.full_scale
    if not ((max_pattern >= full_scale) & ~bad).any():
        return None
    good = ~bad & ~find_bad_pixels(mean, frames_done, max_pattern).hot
    ever = (max_pattern >= full_scale) & good
    share = np.maximum(clipped_share(mean, full_scale), 1 / frames_done)
    for one in asked.wanted:
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


def _too_fast(mean: npt.NDArray[np.float64], max_pattern: Pattern, frames_done: int, asked: _Asked) -> str | None:
    if asked.facts is None:
        return None
    named = ((one, *_place(one, asked.there)) for one in asked.wanted)
    places = tuple(
        (one, asked.there.ring(mean.shape, inner, outer) & ~asked.bad, place) for one, inner, outer, place in named
    )
    return too_fast(mean, max_pattern, frames_done, asked.plan, asked.facts, places)


def _place(wanted: Wanted, there: PatternGeometry) -> tuple[float, float, str]:
    """Annulus where clipping spoils an analysis, and its name."""
    if wanted.kind == "virtual":
        return wanted.inner_px, wanted.outer_px, "this virtual detector"
    if wanted.kind in USES_BRAGG_DISKS:
        return CLEAR_OF_DISK * there.radius_px + EDGE_PX, float("inf"), "the pattern beyond the direct beam"
    return 0.0, float(np.nextafter(there.radius_px, np.inf)), "the bright-field disk"
