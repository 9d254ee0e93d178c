"""Pixels: whether the mask of bad ones still holds, as new hot ones pass for beam and pull at every centre."""

import numpy as np

from stem4d.calibrate.pixels import Mask, find_bad_pixels
from stem4d.maps import RunMaps
from stem4d.quality.grade import result
from stem4d.verdict import QualityResult, Verdict

METRIC = "pixels.mask"
STEADY = 0.5
"""Mean over largest counts from which on a pixel counted in all frames; what a beam does once in a scan stays below."""
LISTED = 5
"""Pixels that a message names."""


def new_hot_pixels(maps: RunMaps, bad_pixels: Mask) -> Mask:
    """Good pixels (det_y, det_x) that stand far above all their neighbours in all frames, at full scale or below it.

    A disk that is clipped has neighbours at full scale, and its pixels are none of these.
    """
    if maps.frames == 0:
        return np.zeros(bad_pixels.shape, np.bool_)
    hot = find_bad_pixels(maps.mean_pattern, maps.frames, maps.max_pattern, gaps=bad_pixels).hot
    steady = maps.mean_pattern >= STEADY * np.maximum(maps.max_pattern, 1)
    found: Mask = hot & steady
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
    places = [f"({y}, {x})" for y, x in np.argwhere(new)[:LISTED]]
    more = f" and {number - LISTED} more" if number > LISTED else ""
    clipped = int((maps.max_pattern[new] >= maps.full_scale).sum()) if maps.full_scale is not None else 0
    full = f", {clipped} of them at full scale ({maps.full_scale})" if clipped else ""
    text = (
        f"The pixel mask no longer holds: {number} new hot pixel(s) in all frames{full}, at (y, x) {', '.join(places)}"
        f"{more}. Dose, saturation and centring are judged without them; maps of the centre of mass hold them still."
        " Measure pixel_mask again."
    )
    return result(METRIC, None, Verdict.WARN, text, value=float(number), limit=0.0, unit="px")
