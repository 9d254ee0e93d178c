"""Bare numba kernels: each frame's disks and the lattice through them. They trust their input; see fit.py.

A frame is fitted in rounds. Each disk is read by the filters of the place where the lattice predicts it, which gives
its height and its step from there with their variances; weighted least squares through all steps moves the lattice.
Frames are independent of each other and of how many there are.
"""

from math import sqrt
from typing import Any

import numpy as np
from numba import njit

COARSE_ROUNDS, FINE_ROUNDS, SETTLE_ROUNDS = 8, 8, 3
"""At most, with the soft template and with the sharp one; and of weighting anew without reading anew."""
CAUGHT_PX = 1.0
"""A round of the soft template that moves no disk further is its last."""
DONE_PX, DONE_PART = 2e-3, 0.2
"""A round of the sharp one that moves no disk by more than DONE_PX, or no vector by more than DONE_PART of its error,
is the last."""
NEARLY_PX, NEARLY_PART = 0.2, 1.0
"""Good enough after the last that is allowed: disks near the border of two filters go to and fro between them."""
SEEN = 3.0
"""Standard errors that a disk's height must exceed to count."""
HUBER = 4.0
"""Residuals beyond so many standard errors, or scatters where that is more, are weighed down."""
MOST_LOST = 0.3
"""Part of a disk's information that may lie on bad pixels."""
FILLS = 4
"""Rounds in which bad pixels are filled with what the good ones say of the disk."""
FASTMATH = {"reassoc", "contract", "nsz"}
"""Sums may be taken in any order, so that they are vectors; a NaN stays one."""


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def fit_frames(
    frames: Any,
    origins: Any,
    start: Any,
    index: Any,
    coarse: Any,
    coarse_noise: Any,
    fine: Any,
    fine_noise: Any,
    bad: Any,
    bad_before: Any,
    gain: Any,
    origin_weight: Any,
    lattice: Any,
    covariance: Any,
    figures: Any,
    disks: Any,
) -> None:
    """Lattice and disks of frames.

    frames (n, det_y, det_x); origins (n, 2) [px]; start (2, 2) the lattice's vectors as columns [px]; index (m, 2)
    float; coarse, fine: filters of templates, and noise of theirs; bad (det_y, det_x) bool, bad_before its running sum
    (det_y + 1, det_x + 1); gain counts per electron; origin_weight 1/variance of the origins, 0 where they are free.
    Written: lattice (n, 2, 3), by axis (y, x) the origin and both vectors, NaN where there is none; covariance
    (n, 2, 6), by axis upper triangles; figures (n, 3): disks used, chi square, degrees of freedom; disks (n, m, 5):
    place y, x, variances of them, height, NaN where a disk was not seen.
    """
    number = index.shape[0]
    read = np.zeros((number, 7))
    window = np.zeros(fine.shape[2:], np.float32)
    found = np.zeros(5)
    furthest = 0.0
    for m in range(number):
        furthest = max(furthest, abs(index[m, 0]) + abs(index[m, 1]))
    for n in range(frames.shape[0]):
        now = np.zeros((2, 3))
        for axis in range(2):
            now[axis, 0] = origins[n, axis]
            now[axis, 1], now[axis, 2] = start[axis, 0], start[axis, 1]
        scatter, step, error, fitted, turn, sharp = 1.0, np.inf, 0.0, True, 0, False
        while fitted:
            filters, noise = (fine, fine_noise) if sharp else (coarse, coarse_noise)
            for m in range(number):
                _read(frames[n], now, index[m], filters, noise, bad, bad_before, gain, window, found, read[m])
            step, error, fitted = _improve(read, index, now, origins[n], origin_weight, scatter, covariance[n])
            turn += 1
            if not sharp:
                if step * furthest < CAUGHT_PX or turn == COARSE_ROUNDS:
                    sharp, turn = True, 0
                continue
            scatter = max(_scatter(read, index, now), 1.0)
            if step * furthest < DONE_PX or step < DONE_PART * error or turn == FINE_ROUNDS:
                break
        if not fitted or not (step * furthest < NEARLY_PX or step < NEARLY_PART * error):
            continue
        for _ in range(SETTLE_ROUNDS):
            _improve(read, index, now, origins[n], origin_weight, scatter, covariance[n])
            scatter = max(_scatter(read, index, now), 1.0)
        used, chi = 0, 0.0
        for m in range(number):
            if not read[m, 6] > 0:
                continue
            used += 1
            for axis in range(2):
                left = read[m, axis] - now[axis, 0] - index[m, 0] * now[axis, 1] - index[m, 1] * now[axis, 2]
                chi += left * left / read[m, 2 + axis]
            for each in range(5):
                disks[n, m, each] = read[m, each]
        lattice[n] = now
        figures[n, 0], figures[n, 1] = used, chi
        figures[n, 2] = 2 * used - (6 if origin_weight == 0 else 4)


@njit(cache=True)  # type: ignore[untyped-decorator]
def _read(
    frame: Any,
    now: Any,
    hk: Any,
    filters: Any,
    noise: Any,
    bad: Any,
    bad_before: Any,
    gain: Any,
    window: Any,
    found: Any,
    out: Any,
) -> None:
    """One disk: place (y, x), variances, height, height's error, and whether it counts (1) or not (0)."""
    phases = int(sqrt(filters.shape[0]) + 0.5)
    side = filters.shape[2]
    reach = side // 2
    out[6] = 0.0
    y = now[0, 0] + hk[0] * now[0, 1] + hk[1] * now[0, 2]
    x = now[1, 0] + hk[0] * now[1, 1] + hk[1] * now[1, 2]
    if not (reach <= y + 0.5 < frame.shape[0] - reach and reach <= x + 0.5 < frame.shape[1] - reach):
        return
    row, column = int(y + 0.5), int(x + 0.5)
    phase_y = min(int((y - row + 0.5) * phases), phases - 1)
    phase_x = min(int((x - column + 0.5) * phases), phases - 1)
    phase = phase_y * phases + phase_x
    top, left = row - reach, column - reach
    masked = (
        bad_before[top + side, left + side]
        - bad_before[top, left + side]
        - bad_before[top + side, left]
        + bad_before[top, left]
    )
    kept = 1.0
    if masked == 0:
        _dots(frame, top, left, filters[phase], found)
    else:
        kept = _filled_dots(frame, bad, top, left, filters[phase], window, found)
        if not kept > 1 - MOST_LOST:
            return
    height, background = found[0], max(found[1], 0.0)
    error = gain * (max(height, 0.0) * noise[phase, 0, 0] + background * noise[phase, 0, 1]) / kept
    if not (height > 0 and height * height > SEEN * SEEN * error):
        return
    # Counts of a frame that came out as just these would not make a smaller error than a few electrons do.
    furthest = 0.5 * reach
    step_y = min(max(found[2] / (height * kept), -furthest), furthest)
    step_x = min(max(found[3] / (height * kept), -furthest), furthest)
    out[0] = row + (phase_y + 0.5) / phases - 0.5 + step_y
    out[1] = column + (phase_x + 0.5) / phases - 0.5 + step_x
    for axis in range(2):
        counting = height * noise[phase, 1 + axis, 0] + background * noise[phase, 1 + axis, 1]
        # The square of a height that carries an error is too large by the error's square.
        out[2 + axis] = gain * counting / ((height * height - error) * kept)
    out[4], out[5], out[6] = height, sqrt(error), 1.0


@njit(cache=True, fastmath=FASTMATH)  # type: ignore[untyped-decorator]
def _dots(frame: Any, top: Any, left: Any, filters: Any, found: Any) -> None:
    """Height, background, and steps times height, of a window without bad pixels."""
    a, b, c, d = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
    side = filters.shape[1]
    for j in range(side):
        # One row after the other, each contiguous: that is what LLVM makes vectors of.
        pixels = frame[top + j, left : left + side]
        heights, backgrounds, steps_y, steps_x = filters[0, j], filters[1, j], filters[2, j], filters[3, j]
        for k in range(side):
            value = np.float32(pixels[k])
            a += value * heights[k]
            b += value * backgrounds[k]
            c += value * steps_y[k]
            d += value * steps_x[k]
    found[0], found[1], found[2], found[3] = a, b, c, d


@njit(cache=True)  # type: ignore[untyped-decorator]
def _filled_dots(frame: Any, bad: Any, top: Any, left: Any, filters: Any, window: Any, found: Any) -> Any:
    """The same where some are bad; returns the part of the information that is on good ones.

    Bad pixels are filled with the disk that the others make (expectation maximisation): they then say nothing.
    """
    lost, whole, seen, total = 0.0, 0.0, 0, 0.0
    side = filters.shape[1]
    for j in range(side):
        for k in range(side):
            information = filters[4, j, k] * (filters[2, j, k] ** 2 + filters[3, j, k] ** 2)
            whole += information
            if bad[top + j, left + k]:
                lost += information
            else:
                window[j, k] = frame[top + j, left + k]
                seen += 1
                total += window[j, k]
    if lost > MOST_LOST * whole:
        return 0.0
    level = total / seen
    for fill in range(FILLS + 1):
        for j in range(side):
            for k in range(side):
                if bad[top + j, left + k]:
                    window[j, k] = level if fill == 0 else found[0] * filters[4, j, k] + found[1]
        _dots(window, 0, 0, filters, found)
    return 1 - lost / whole


@njit(cache=True)  # type: ignore[untyped-decorator]
def _improve(read: Any, index: Any, now: Any, origin: Any, origin_weight: Any, scatter: Any, covariance: Any) -> Any:
    """Weighted least squares through the disks, in place; returns the largest change, an error, and if it was one."""
    largest, error = 0.0, 0.0
    fresh = np.zeros((2, 3))
    for axis in range(2):
        a, b, c, d, e, f = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
        r0, r1, r2 = 0.0, 0.0, 0.0
        for m in range(read.shape[0]):
            if not read[m, 6] > 0:
                continue
            h, k = index[m, 0], index[m, 1]
            left = read[m, axis] - now[axis, 0] - h * now[axis, 1] - k * now[axis, 2]
            weight = 1 / read[m, 2 + axis]
            pull = abs(left) * sqrt(weight) / (HUBER * scatter)
            if pull > 1:
                weight /= pull
            a += weight
            b += weight * h
            c += weight * k
            d += weight * h * h
            e += weight * h * k
            f += weight * k * k
            r0 += weight * left
            r1 += weight * left * h
            r2 += weight * left * k
        a += origin_weight
        r0 += origin_weight * (origin[axis] - now[axis, 0])
        # Inverse of the symmetric matrix [[a, b, c], [b, d, e], [c, e, f]] by its cofactors.
        aa, ab, ac = d * f - e * e, c * e - b * f, b * e - c * d
        determinant = a * aa + b * ab + c * ac
        if not determinant > 1e-9 * a * d * f:
            return largest, error, False
        bb, bc, cc = a * f - c * c, b * c - a * e, a * d - b * b
        covariance[axis, 0], covariance[axis, 1], covariance[axis, 2] = aa, ab, ac
        covariance[axis, 3], covariance[axis, 4], covariance[axis, 5] = bb, bc, cc
        for each in range(6):
            covariance[axis, each] /= determinant
        step0 = (aa * r0 + ab * r1 + ac * r2) / determinant
        step1 = (ab * r0 + bb * r1 + bc * r2) / determinant
        step2 = (ac * r0 + bc * r1 + cc * r2) / determinant
        fresh[axis, 0] = now[axis, 0] + step0
        fresh[axis, 1] = now[axis, 1] + step1
        fresh[axis, 2] = now[axis, 2] + step2
        largest = max(largest, abs(step0), abs(step1), abs(step2))
        smallest = sqrt(min(covariance[axis, 3], covariance[axis, 5]))
        error = smallest if axis == 0 else min(error, smallest)
    now[:] = fresh
    return largest, error, True


@njit(cache=True)  # type: ignore[untyped-decorator]
def _scatter(read: Any, index: Any, now: Any) -> Any:
    """Rms of the residuals over their errors, each at most HUBER."""
    number, total = 0, 0.0
    for m in range(read.shape[0]):
        if not read[m, 6] > 0:
            continue
        for axis in range(2):
            left = read[m, axis] - now[axis, 0] - index[m, 0] * now[axis, 1] - index[m, 1] * now[axis, 2]
            total += min(left * left / read[m, 2 + axis], 4 * HUBER * HUBER)
            number += 1
    return sqrt(total / number) if number else 1.0
