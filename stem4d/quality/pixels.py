"""Pixels: whether the mask still holds, as new hot ones pass for beam and new dead ones pull at every centre."""

import numpy as np
import numpy.typing as npt

from stem4d.calibrate.pixels import BadPixels, Mask, find_bad_pixels
from stem4d.maps import RunMaps
from stem4d.quality.grade import result
from stem4d.quality.peaks import steady_peak
from stem4d.quality.regions import Subject
from stem4d.verdict import QualityResult, Verdict

METRIC = "pixels.mask"
DEAD = "pixels.dead"
STEADY = 0.5
"""Mean over the level that explains the largest count, from which on a pixel counted in all frames; what a beam does
once in a scan stays below."""
LEAST_SHARE = 1e-5
"""Part of a pattern's counts below which a pixel does no harm: over 100 px it pulls at a centre of mass by 0.001 px.
Speckle at the detector's edge, whose other half nobody sees, stays below."""
ENOUGH_LIT = 0.5
"""Part of the disk's pixels that must have been lit enough for the absence of dead ones to mean anything."""
LISTED = 5
"""Pixels that a message names."""


def new_hot_pixels(maps: RunMaps, bad_pixels: Mask) -> Mask:
    """Good pixels (det_y, det_x) that stand far above all their neighbours in all frames, at full scale or below it.

    A disk that is clipped has neighbours at full scale, and its pixels are none of these.
    """
    if maps.frames == 0:
        return np.zeros(bad_pixels.shape, np.bool_)
    return hot_pixels(maps.mean_pattern, maps.frames, maps.max_pattern, bad_pixels)


def hot_pixels(mean: npt.NDArray[np.number], frames: int, highest: npt.NDArray[np.number], bad_pixels: Mask) -> Mask:
    """The same by mean and largest counts (det_y, det_x) of at least one frame."""
    hot = find_bad_pixels(mean, frames, highest, gaps=bad_pixels).hot
    steady = mean >= STEADY * np.maximum(steady_peak(highest, frames), 1 / frames)
    matters = mean >= LEAST_SHARE * mean.sum()
    found: Mask = hot & steady & matters
    return found


def check_pixels(maps: RunMaps, new: Mask) -> QualityResult:
    """Judge the mask: the value is the number of hot pixels that are not in it.

    Dose, saturation and centring leave them out; maps of the centre of mass, and so descan and drift, still hold them.
    """
    number = int(new.sum())
    if number == 0:
        verdict = Verdict.PASS if maps.frames else Verdict.NOT_MEASURABLE
        text = "No hot pixel beside those of the mask." if maps.frames else "No frame was recorded."
        return result(METRIC, None, verdict, text, value=0.0 if maps.frames else None, limit=0.0, unit="px")
    clipped = int((maps.max_pattern[new] >= maps.full_scale).sum()) if maps.full_scale is not None else 0
    full = f", {clipped} of them at full scale ({maps.full_scale})" if clipped else ""
    text = (
        f"The pixel mask no longer holds: {number} new hot pixel(s) in all frames{full}, at (y, x) "
        f"{places(new)}. Dose, saturation and centring are judged without them; maps of the centre of mass hold them "
        "still. Measure pixel_mask again."
    )
    return result(METRIC, None, Verdict.WARN, text, value=float(number), limit=0.0, unit="px")


def found_now(maps: RunMaps, subject: Subject) -> BadPixels:
    """Bad pixels that the mean of a recording shows beside those that are left out."""
    return find_bad_pixels(maps.mean_pattern, maps.frames, maps.max_pattern, gaps=subject.bad_pixels)


def check_dead_pixels(maps: RunMaps, subject: Subject) -> QualityResult:
    """Judge the mask: the value is the number of dead pixels that are not in it.

    A dead pixel shows where its neighbours are lit; how many pixels were is told. The mean of the whole recording is
    taken, so that a pixel which died on the way still counts something and is not seen.
    """
    if maps.frames == 0:
        return result(DEAD, None, Verdict.NOT_MEASURABLE, "No frame was recorded.", unit="px")
    found = found_now(maps, subject)
    number, lit = int(found.dead.sum()), int((found.dead_known & ~found.dead).sum())
    good = int((~subject.bad_pixels).sum())
    disk = subject.disk()
    share = float((found.dead_known | found.dead)[disk].mean()) if disk.any() else 0.0
    text = f"{lit} of {good} pixels had light enough to tell, {share:.0%} of the disk's."
    if number:
        verdict = Verdict.WARN
        text = f"{number} dead pixel(s) are not in the mask, at (y, x) {places(found.dead)}; {text}"
        text += " They pull at every centre: measure pixel_mask again in vacuum, or mask them in analysis."
    elif share < ENOUGH_LIT:
        verdict, text = Verdict.NOT_MEASURABLE, f"Whether pixels are dead is not known: {text}"
    else:
        verdict, text = Verdict.PASS, f"No dead pixel beside those of the mask: {text}"
    value = None if verdict is Verdict.NOT_MEASURABLE else float(number)
    return result(DEAD, None, verdict, text, value=value, limit=0.0, unit="px", uncertainty=0.0)


def places(mask: Mask) -> str:
    """The first few of a mask's pixels (y, x)."""
    number = int(mask.sum())
    more = f" and {number - LISTED} more" if number > LISTED else ""
    return f"{', '.join(f'({y}, {x})' for y, x in np.argwhere(mask)[:LISTED])}{more}"
