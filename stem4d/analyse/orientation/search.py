"""One pattern from templates to an orientation: candidates, climb, the final fit, and what else came close."""

from math import cos, pi, sqrt
from typing import Any

import numpy as np
from numba import njit

from stem4d.analyse.orientation.matching import disk_sums, match, polar
from stem4d.analyse.orientation.refine import climb, in_plane, predicted, score_of, tilt_errors, turned

CANDIDATES, LOOKED_AT = 5, 150
"""Distinct orientations that are refined, and the best templates they are chosen from."""
APART_STEPS = 2.5
"""Steps of the grid by which candidates differ."""
DIFFERENT_RAD = 5 * pi / 180
"""Orientations further apart than this, or than three steps, are different ones."""
ROUNDS, ITERATIONS = 2, 8
FIGURES = 10
"""Score, best different score, score of the half turn about the zone axis, σ of the tilt about x, y and of the in-plane
angle [rad], χ² per freedom, spots, power beside the direct beam, and how far disks lie off along the radius [px]."""


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def cos_between(one: Any, other: Any, turns: Any) -> Any:
    """Cosine of the misorientation of two orientations."""
    best = -1.0
    for m in range(turns.shape[0]):
        trace = 0.0
        for i in range(3):
            for j in range(3):
                moved = 0.0
                for k in range(3):
                    moved += other[i, k] * turns[m, k, j]
                trace += one[i, j] * moved
        best = max(best, (trace - 1) / 2)
    return best


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def about_zone_axis(rotation: Any, g: Any, strength: Any, optics: Any, spots: Any) -> Any:
    """The orientation half a turn further about the zone axis of the predicted spots.

    A layer of the reciprocal lattice through its origin looks the same from both sides, and its excitation errors too:
    only spots of other layers tell the two apart. The axis is the direction with the least Σ I (g·n)², by inverse
    iteration.
    """
    count = predicted(rotation, g, strength, optics, spots)
    m = np.zeros((3, 3))
    for k in range(count):
        number = int(spots[k, 3])
        for i in range(3):
            for j in range(3):
                m[i, j] += spots[k, 2] * g[number, i] * g[number, j]
    small = 1e-9 * (m[0, 0] + m[1, 1] + m[2, 2]) + 1e-30
    for i in range(3):
        m[i, i] += small
    back = np.empty((3, 3))
    for i in range(3):
        a, b = (i + 1) % 3, (i + 2) % 3
        for j in range(3):
            c, d = (j + 1) % 3, (j + 2) % 3
            back[i, j] = m[a, c] * m[b, d] - m[a, d] * m[b, c]
    axis = rotation[2].copy()
    for _ in range(ITERATIONS):
        new = np.empty(3)
        for i in range(3):
            new[i] = back[i, 0] * axis[0] + back[i, 1] * axis[1] + back[i, 2] * axis[2]
        size = sqrt(new[0] ** 2 + new[1] ** 2 + new[2] ** 2)
        if size == 0.0:
            break
        axis = new / size
    made = np.empty((3, 3))
    for i in range(3):
        along = rotation[i, 0] * axis[0] + rotation[i, 1] * axis[1] + rotation[i, 2] * axis[2]
        for j in range(3):
            made[i, j] = 2 * along * axis[j] - rotation[i, j]
    return made


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def orient(
    frame: Any, good: Any, scale: Any, origin: Any, to_px: Any, half_widths: Any, radius: Any, offsets: Any,
    spacing: Any, cells: Any, optics: Any, step: Any, turns: Any, g: Any, strength: Any, rotations: Any, first: Any,
    ring: Any, azimuth: Any, weight: Any, figures: Any,
) -> Any:  # fmt: skip
    """Orientation (3, 3) of a frame; ``figures`` gets `FIGURES` numbers; NaN where nothing stands out.

    ``cells`` (radii,): area of a place of the polar grid over that of a disk. ``optics`` as in `refine.predicted`, the
    width for templates at its end.
    """
    azimuths = offsets.shape[1]
    sums = disk_sums(frame, good, half_widths, scale)
    levels = np.empty(offsets.shape[0])
    pattern = np.empty((offsets.shape[0], 2 * azimuths), np.float32)
    polar(sums, origin[0], origin[1], offsets, levels, pattern)
    # Of a spot the grid sees its disk blurred by the disk: that sums up to the area of a disk times its height.
    power = 0.0
    for r in range(pattern.shape[0]):
        for k in range(azimuths):
            power += pattern[r, k] * pattern[r, k] * cells[r]
    figures[:] = np.nan
    figures[8] = power
    nothing = np.full((3, 3), np.nan)
    if power <= 0:
        return nothing
    norm = sqrt(power)
    number = rotations.shape[0]
    best, turn = np.empty(number, np.float32), np.empty(number, np.int64)
    match(pattern, first, ring, azimuth, weight, best, turn)
    spots = np.empty((g.shape[0], 4))
    wide = optics.copy()
    wide[1], wide[5] = optics[4], 0.0
    other_shape = optics[5] > 0 or optics[1] != optics[4]
    chosen = np.empty((CANDIDATES + 1, 3, 3))
    scores = np.zeros(CANDIDATES + 1)
    count = 0
    near = cos(APART_STEPS * step)
    starts = np.empty((CANDIDATES, 3, 3))
    for _ in range(min(LOOKED_AT, number)):
        t = int(np.argmax(best))
        if best[t] <= 0:
            break
        best[t] = 0.0
        start = turned(rotations[t], 0.0, 0.0, turn[t] * 2 * pi / azimuths)
        fresh = True
        for other in range(count):
            if cos_between(starts[other], start, turns) > near:
                fresh = False
                break
        if not fresh:
            continue
        starts[count] = start
        chosen[count], scores[count] = climb(
            start, step / 2, g, strength, wide, sums, origin, to_px, levels, spacing, spots
        )
        if other_shape:
            chosen[count], scores[count] = climb(
                chosen[count], step / 4, g, strength, optics, sums, origin, to_px, levels, spacing, spots
            )
        count += 1
        if count == CANDIDATES:
            break
    if count == 0:
        return nothing
    top = int(np.argmax(scores[:count]))
    apart = cos(max(3 * step, DIFFERENT_RAD))
    opposite = about_zone_axis(chosen[top], g, strength, optics, spots)
    half = np.nan
    if cos_between(chosen[top], opposite, turns) < apart:
        chosen[count], scores[count] = climb(
            opposite, step / 4, g, strength, optics, sums, origin, to_px, levels, spacing, spots
        )
        if cos_between(chosen[top], chosen[count], turns) < apart:
            half = scores[count]
            if half > scores[top]:
                half = scores[top]
                top = count
    another = 0.0
    for other in range(count):
        if other != top and scores[other] > another and cos_between(chosen[top], chosen[other], turns) < apart:
            twin = about_zone_axis(chosen[other], g, strength, optics, spots)
            if cos_between(chosen[top], twin, turns) < apart:
                another = scores[other]
    found = chosen[top].copy()
    sigma_x, sigma_y, square = np.nan, np.nan, np.nan
    used, sigma, off = 0, np.nan, np.nan
    for _ in range(ROUNDS):
        by_z, sigma, used, off = in_plane(
            found, frame, good, scale, radius, g, strength, optics, origin, to_px, levels, spacing, spots
        )
        if used > 0 and abs(by_z) < step:
            found = turned(found, 0.0, 0.0, by_z)
        by_x, by_y, variance_x, variance_y, square = tilt_errors(
            found, g, strength, optics, sums, origin, to_px, levels, spacing, spots
        )
        sigma_x, sigma_y = sqrt(variance_x), sqrt(variance_y)
        size = sqrt(by_x * by_x + by_y * by_y)
        if size > 0:
            part = min(1.0, step / 2 / size)
            found = turned(found, part * by_x, part * by_y, 0.0)
    figures[0] = score_of(found, g, strength, optics, sums, origin, to_px, levels, spacing, spots) / norm
    figures[1], figures[2] = another / norm, half / norm
    figures[3], figures[4], figures[5] = sigma_x, sigma_y, sigma
    figures[6], figures[7], figures[9] = square, used, off
    return found


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def orient_frames(
    frames: Any, good: Any, scale: Any, origins: Any, to_px: Any, half_widths: Any, radius: Any, offsets: Any,
    spacing: Any, cells: Any, optics: Any, step: Any, turns: Any, g: Any, strength: Any, rotations: Any, first: Any,
    ring: Any, azimuth: Any, weight: Any, found: Any, figures: Any,
) -> None:  # fmt: skip
    """`orient` for frames (n, det_y, det_x) with their origins (n, 2)."""
    for k in range(frames.shape[0]):
        found[k] = orient(
            frames[k], good, scale, origins[k], to_px, half_widths, radius, offsets, spacing, cells, optics, step,
            turns, g, strength, rotations, first, ring, azimuth, weight, figures[k],
        )  # fmt: skip
