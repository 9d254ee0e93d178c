"""The compiled part of the matching: disk sums, polar pattern, and every template at every azimuth."""

from math import sqrt
from typing import Any

import numpy as np
from numba import njit

DETECTED = 2.0
"""Counting noise of the background by which a sample must exceed it to count as a spot."""


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def disk_sums(frame: Any, good: Any, half_widths: Any, scale: Any) -> Any:
    """Sums over a disk about every pixel, over its good pixels, times the disk's area; -1 where half of it is missing.

    ``half_widths`` are those of the disk's rows, from the top; ``scale`` turns counts into electrons.
    """
    rows, columns = frame.shape
    reach = half_widths.size // 2
    area = 0
    for k in range(half_widths.size):
        area += 2 * half_widths[k] + 1
    running = np.zeros((rows, columns + 1), np.float32)
    seen = np.zeros((rows, columns + 1), np.int32)
    for y in range(rows):
        for x in range(columns):
            value = np.float32(0.0)
            if good[y, x]:
                value = np.float32(frame[y, x])
            running[y, x + 1] = running[y, x] + value
            seen[y, x + 1] = seen[y, x] + good[y, x]
    sums = np.empty((rows, columns), np.float32)
    total = np.zeros(columns, np.float32)
    number = np.zeros(columns, np.int32)
    for y in range(rows):
        total[:] = 0.0
        number[:] = 0
        for k in range(-reach, reach + 1):
            at = y + k
            if at < 0 or at >= rows:
                continue
            half = half_widths[k + reach]
            for x in range(columns):
                left, right = max(x - half, 0), min(x + half + 1, columns)
                total[x] += running[at, right] - running[at, left]
                number[x] += seen[at, right] - seen[at, left]
        for x in range(columns):
            if 2 * number[x] < area:
                sums[y, x] = -1.0
            else:
                sums[y, x] = max(total[x], np.float32(0.0)) * (area / number[x] * scale)
    return sums


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def sampled(sums: Any, y: Any, x: Any) -> Any:
    """Between four pixels; -1 where one of them is missing."""
    row, column = int(np.floor(y)), int(np.floor(x))
    if row < 0 or column < 0 or row + 1 >= sums.shape[0] or column + 1 >= sums.shape[1]:
        return -1.0
    a, b, c, d = sums[row, column], sums[row, column + 1], sums[row + 1, column], sums[row + 1, column + 1]
    if a < 0 or b < 0 or c < 0 or d < 0:
        return -1.0
    v, u = y - row, x - column
    return (1 - v) * ((1 - u) * a + u * b) + v * ((1 - u) * c + u * d)


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def amplitude(value: Any, level: Any) -> Any:
    """Root of what stands above the background by more than its noise; 0 where nothing does, or nothing is known."""
    if value < 0:
        return 0.0
    above = value - level - DETECTED * sqrt(level + 1.0)
    return sqrt(above) if above > 0 else 0.0


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def middle(values: Any, count: Any) -> Any:
    """The upper median of the first numbers, which are put into another order (Hoare's selection); numba's own takes
    seconds to compile."""
    low, high, wanted = 0, count - 1, count // 2
    while low < high:
        pivot = values[wanted]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if j < wanted:
            low = i
        if wanted < i:
            high = j
    return values[wanted]


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def polar(sums: Any, origin_y: Any, origin_x: Any, offsets: Any, levels: Any, out: Any) -> None:
    """Amplitudes on the polar grid, twice round: ``out`` (radii, 2 azimuths); ``levels`` (radii,) the background."""
    rings, azimuths = offsets.shape[0], offsets.shape[1]
    ring = np.empty(azimuths, np.float32)
    known = np.empty(azimuths, np.float32)
    for r in range(rings):
        count = 0
        for k in range(azimuths):
            ring[k] = sampled(sums, origin_y + offsets[r, k, 0], origin_x + offsets[r, k, 1])
            if ring[k] >= 0:
                known[count] = ring[k]
                count += 1
        levels[r] = middle(known, count) if count > 0 else 0.0
        for k in range(azimuths):
            value = amplitude(ring[k], levels[r])
            out[r, k] = value
            out[r, k + azimuths] = value


@njit(nogil=True, cache=True, fastmath=True)  # type: ignore[untyped-decorator]
def match(pattern: Any, first: Any, ring: Any, azimuth: Any, weight: Any, best: Any, turn: Any) -> None:
    """Of every template its highest correlation over the azimuth, and at which turn (bins, from x towards y).

    The correlation over the azimuth is added up spot by spot: a template of forty spots takes fewer operations so than
    by Fourier transforms of all its circles.
    """
    azimuths = pattern.shape[1] // 2
    row = np.empty(azimuths, np.float32)
    for t in range(first.size - 1):
        row[:] = 0.0
        for k in range(first[t], first[t + 1]):
            w = weight[k]
            line = pattern[ring[k], azimuth[k] : azimuth[k] + azimuths]
            for a in range(azimuths):
                row[a] += w * line[a]
        top = 0
        for a in range(1, azimuths):
            if row[a] > row[top]:
                top = a
        best[t] = row[top]
        turn[t] = top
