"""The compiled part of the refinement: score of any orientation, the climb to its top, in-plane angle, tilt errors."""

from math import cos, exp, pi, sin, sqrt
from typing import Any

import numpy as np
from numba import njit

from stem4d.analyse.orientation.matching import amplitude, sampled

LEAST_TILT_RAD = 5e-4
"""Step at which the climb ends."""
FAINT = 1e-3
"""Of the strongest reflection: spots below are not predicted."""
LOBES = 3.0
"""Of a plate's shape that count."""
UNSURE_PX = 0.02
"""Of a disk's centre, however many electrons: the edges of windows cut pixels."""
UNEVEN = 0.03
"""Part of a spot's intensity that its sum is uncertain by: places between pixels, disks that are not evenly bright."""


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def level_at(levels: Any, radius: Any, inner: Any, spacing: Any) -> Any:
    """Background between the circles it was measured on."""
    place = (radius - inner) / spacing
    at = min(max(int(place), 0), levels.size - 2)
    part = min(max(place - at, 0.0), 1.0)
    return levels[at] + part * (levels[at + 1] - levels[at])


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def shape(excitation: Any, wide: Any, thickness: Any) -> Any:
    """Intensity at an excitation error [1/Å]: exp(-(s/w)²), or sinc²(πts) of a plate of a thickness [Å] above 0."""
    if thickness <= 0:
        return exp(-((excitation / wide) ** 2))
    phase = pi * thickness * excitation
    return (sin(phase) / phase) ** 2 if abs(phase) > 1e-6 else 1.0


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def predicted(rotation: Any, g: Any, strength: Any, optics: Any, spots: Any) -> Any:
    """Spots of an orientation into ``spots`` (n, 4): y, x [mrad], intensity, number; how many there are.

    ``optics``: wavelength [Å], width of the excitation [1/Å], smallest and largest angle [mrad], width for templates,
    thickness [Å] or 0.
    """
    wavelength, wide, inner, outer, thickness = optics[0], optics[1], optics[2], optics[3], optics[5]
    reach = 3.0 * wide if thickness <= 0 else LOBES / thickness
    count = 0
    for k in range(g.shape[0]):
        z = rotation[2, 0] * g[k, 0] + rotation[2, 1] * g[k, 1] + rotation[2, 2] * g[k, 2]
        if abs(z) > 0.2:
            continue
        square = g[k, 0] ** 2 + g[k, 1] ** 2 + g[k, 2] ** 2
        excitation = z + wavelength * square / 2
        if abs(excitation) > reach:
            continue
        intensity = strength[k] * shape(excitation, wide, thickness)
        if intensity < FAINT:
            continue
        x = (rotation[0, 0] * g[k, 0] + rotation[0, 1] * g[k, 1] + rotation[0, 2] * g[k, 2]) * wavelength * 1e3
        y = (rotation[1, 0] * g[k, 0] + rotation[1, 1] * g[k, 1] + rotation[1, 2] * g[k, 2]) * wavelength * 1e3
        size = sqrt(x * x + y * y)
        if size < inner or size > outer:
            continue
        spots[count, 0], spots[count, 1], spots[count, 2], spots[count, 3] = y, x, intensity, k
        count += 1
    return count


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def score_of(
    rotation: Any, g: Any, strength: Any, optics: Any, sums: Any, origin: Any, to_px: Any, levels: Any, spacing: Any,
    spots: Any,
) -> Any:  # fmt: skip
    """Correlation of the roots of predicted intensities with the pattern's amplitudes, over the norm of the former."""
    count = predicted(rotation, g, strength, optics, spots)
    product, norm = 0.0, 0.0
    for k in range(count):
        y, x = spots[k, 0], spots[k, 1]
        value = sampled(
            sums, origin[0] + to_px[0, 0] * y + to_px[0, 1] * x, origin[1] + to_px[1, 0] * y + to_px[1, 1] * x
        )
        if value < 0:
            continue
        product += sqrt(spots[k, 2]) * amplitude(value, level_at(levels, sqrt(y * y + x * x), optics[2], spacing))
        norm += spots[k, 2]
    return product / sqrt(norm) if norm > 0 else 0.0


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def turned(rotation: Any, about_x: Any, about_y: Any, about_z: Any) -> Any:
    """A rotation followed by a small one about the laboratory's axes, exactly orthogonal."""
    angle = sqrt(about_x * about_x + about_y * about_y + about_z * about_z)
    if angle == 0.0:
        return rotation.copy()
    x, y, z = about_x / angle, about_y / angle, about_z / angle
    c, s = cos(angle), sin(angle)
    turn = np.array(
        [
            [c + x * x * (1 - c), x * y * (1 - c) - z * s, x * z * (1 - c) + y * s],
            [y * x * (1 - c) + z * s, c + y * y * (1 - c), y * z * (1 - c) - x * s],
            [z * x * (1 - c) - y * s, z * y * (1 - c) + x * s, c + z * z * (1 - c)],
        ]
    )
    product = np.empty((3, 3))
    for i in range(3):
        for j in range(3):
            product[i, j] = turn[i, 0] * rotation[0, j] + turn[i, 1] * rotation[1, j] + turn[i, 2] * rotation[2, j]
    return product


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def climb(
    rotation: Any, step: Any, g: Any, strength: Any, optics: Any, sums: Any, origin: Any, to_px: Any, levels: Any,
    spacing: Any, spots: Any,
) -> Any:  # fmt: skip
    """The highest score near an orientation, by steps about each axis that are halved; rotation and score."""
    here = rotation.copy()
    top = score_of(here, g, strength, optics, sums, origin, to_px, levels, spacing, spots)
    while step > LEAST_TILT_RAD:
        moved = True
        rounds = 0
        while moved and rounds < 4:
            moved = False
            rounds += 1
            for axis in range(3):
                for sign in (-1.0, 1.0):
                    by = sign * step
                    trial = turned(here, by * (axis == 0), by * (axis == 1), by * (axis == 2))
                    value = score_of(trial, g, strength, optics, sums, origin, to_px, levels, spacing, spots)
                    if value > top:
                        here, top, moved = trial, value, True
        step /= 2
    return here, top


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def in_plane(
    rotation: Any, frame: Any, good: Any, scale: Any, radius: Any, g: Any, strength: Any, optics: Any, origin: Any,
    to_px: Any, levels: Any, spacing: Any, spots: Any,
) -> Any:  # fmt: skip
    """Turn [rad] that brings the predicted spots onto the disks' centres of mass, its counting error, spots used, and
    how far the disks lie from their places along the radius [px], rms beyond counting.

    The centre of n electrons of a disk of radius r among b of background in a window of radius w has the variance
    (n r² + b w²)/(4 n²) along each axis.
    """
    count = predicted(rotation, g, strength, optics, spots)
    window = radius + 1.5
    area = pi * window * window
    top, below, used = 0.0, 0.0, 0
    square = 0.0
    for k in range(count):
        y, x = spots[k, 0], spots[k, 1]
        py = origin[0] + to_px[0, 0] * y + to_px[0, 1] * x
        px = origin[1] + to_px[1, 0] * y + to_px[1, 1] * x
        # Along the turn from x towards y, on the detector [px per rad].
        ty, tx = to_px[0, 0] * x - to_px[0, 1] * y, to_px[1, 0] * x - to_px[1, 1] * y
        length = sqrt(ty * ty + tx * tx)
        if length == 0.0:
            continue
        total, moment, across, inside, whole = 0.0, 0.0, 0.0, 0, True
        for row in range(int(np.ceil(py - window)), int(np.floor(py + window)) + 1):
            for column in range(int(np.ceil(px - window)), int(np.floor(px + window)) + 1):
                dy, dx = row - py, column - px
                if dy * dy + dx * dx > window * window:
                    continue
                if row < 0 or column < 0 or row >= frame.shape[0] or column >= frame.shape[1] or not good[row, column]:
                    whole = False
                    continue
                value = float(frame[row, column]) * scale
                total += value
                along = (dy * ty + dx * tx) / length
                moment += value * along
                across += value * (dx * ty - dy * tx) / length
                inside += 1
        if not whole or inside == 0:
            continue
        ground = level_at(levels, sqrt(y * y + x * x), optics[2], spacing) / (pi * radius * radius) * area
        above = total - ground
        if above < 3.0 * sqrt(total + 1.0):
            continue
        variance = (above * radius * radius + max(ground, 0.0) * window * window) / (4 * above * above) + UNSURE_PX**2
        top += moment / above * length / variance
        below += length * length / variance
        square += (across / above) ** 2 - variance
        used += 1
    if used == 0:
        return 0.0, np.nan, 0, np.nan
    return top / below, 1 / sqrt(below), used, sqrt(max(square / used, 0.0))


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def tilt_errors(
    rotation: Any, g: Any, strength: Any, optics: Any, sums: Any, origin: Any, to_px: Any, levels: Any, spacing: Any,
    spots: Any,
) -> Any:  # fmt: skip
    """One step of least squares for the tilt about x and y from all intensities, its covariance, and χ² per freedom.

    Model c I(tilt) above the measured background, each sum with the variance of its expected electrons. Returns
    (about_x, about_y, variance_x, variance_y, chi square per freedom); NaN where fewer than four spots say anything.
    """
    wide, wavelength, thickness = optics[1], optics[0], optics[5]
    small = 1e-3 * wide if thickness <= 0 else 1e-3 / thickness
    count = predicted(rotation, g, strength, optics, spots)
    # c from the sums themselves, then three normal equations: ln c, tilt x, tilt y.
    seen, expected = 0.0, 0.0
    for k in range(count):
        y, x = spots[k, 0], spots[k, 1]
        value = sampled(
            sums, origin[0] + to_px[0, 0] * y + to_px[0, 1] * x, origin[1] + to_px[1, 0] * y + to_px[1, 1] * x
        )
        if value >= 0:
            seen += value - level_at(levels, sqrt(y * y + x * x), optics[2], spacing)
            expected += spots[k, 2]
    nothing = (0.0, 0.0, np.nan, np.nan, np.nan)
    if count < 4 or seen <= 0 or expected <= 0:
        return nothing
    c = seen / expected
    normal, right = np.zeros((3, 3)), np.zeros(3)
    square, used = 0.0, 0
    slope = np.empty(3)
    for k in range(count):
        y, x, number = spots[k, 0], spots[k, 1], int(spots[k, 3])
        value = sampled(
            sums, origin[0] + to_px[0, 0] * y + to_px[0, 1] * x, origin[1] + to_px[1, 0] * y + to_px[1, 1] * x
        )
        if value < 0:
            continue
        level = level_at(levels, sqrt(y * y + x * x), optics[2], spacing)
        model = c * spots[k, 2]
        gx, gy = x / (wavelength * 1e3), y / (wavelength * 1e3)
        z = rotation[2, 0] * g[number, 0] + rotation[2, 1] * g[number, 1] + rotation[2, 2] * g[number, 2]
        length2 = g[number, 0] ** 2 + g[number, 1] ** 2 + g[number, 2] ** 2
        excitation = z + wavelength * length2 / 2
        # A turn about x moves z by gy, one about y by -gx.
        strong = strength[number] * shape(excitation + small, wide, thickness)
        by_z = c * (strong - strength[number] * shape(excitation - small, wide, thickness)) / (2 * small)
        slope[0], slope[1], slope[2] = model, by_z * gy, -by_z * gx
        variance = model + level + 1.0 + (UNEVEN * model) ** 2
        departure = value - level - model
        square += departure * departure / variance
        used += 1
        for i in range(3):
            right[i] += slope[i] * departure / variance
            for j in range(3):
                normal[i, j] += slope[i] * slope[j] / variance
    # ln c is eliminated; what is left is two by two.
    a = normal[1, 1] - normal[0, 1] ** 2 / normal[0, 0]
    b = normal[1, 2] - normal[0, 1] * normal[0, 2] / normal[0, 0]
    d = normal[2, 2] - normal[0, 2] ** 2 / normal[0, 0]
    determinant = a * d - b * b
    if used < 4 or determinant <= 1e-9 * (a + d) ** 2:
        return nothing
    first = right[1] - right[0] * normal[0, 1] / normal[0, 0]
    second = right[2] - right[0] * normal[0, 2] / normal[0, 0]
    about_x, about_y = (d * first - b * second) / determinant, (a * second - b * first) / determinant
    return about_x, about_y, d / determinant, a / determinant, square / max(used - 3, 1)
