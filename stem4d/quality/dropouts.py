"""Stretches of a scan in which the current fell: found in the totals along time, against the rows above and below."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from scipy.stats import norm, theilslopes

from stem4d.calibrate.robust import spread_of

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

DROP_PART = 0.1
"""A dropout loses at least this part of the current: less is flicker (habit)."""
CHANCE = 0.01
"""Chance that noise alone makes a stretch anywhere in a pass, at any length."""
NEAREST_ROWS = 2
"""Rows above and below that tell what the specimen does there, for dropouts shorter than a row."""
WIDEST_ROWS = 16
"""The same for dropouts of several rows: they are found up to this length, if no more than a quarter of the scan."""
LONGEST_ROWS = 8
FEWEST_ROWS, MOST_ROWS = 6, 200
"""Rows that a steady change is taken from."""
LEAST_TREND = 0.1
"""A line that falls further than that is none."""
MOST_DROPOUTS = 200
"""Stretches after which the beam is not steady anywhere."""


@dataclass(frozen=True)
class Dropouts:
    """What was found in one pass."""

    affected: Mask
    """(scan_y, scan_x) positions without their current."""
    lost: Mask
    """Those of them that had less than half of it."""
    stretches: tuple[tuple[int, int, float], ...]
    """First position, end, and part of the current that flowed, in order of time."""
    smallest_part: float
    """Loss [part of the current] from which on a single frame would be seen; a stretch of n frames about sqrt(n) less,
    but none below `DROP_PART`."""


def find_dropouts(total: npt.NDArray[np.number], recorded: Mask) -> Dropouts:
    """Find dropouts of the beam in the totals of a scan over any specimen.

    A change of the current is a common factor of all positions from one moment to another, along the fast axis and on
    into the next row. What the specimen does there is taken from the same columns of the rows about it; features of
    the specimen that fill whole rows, or single positions that nothing around them resembles, cannot be told from it.

    Parameters
    ----------
    total : ndarray, shape (scan_y, scan_x)
        Counts of each frame.
    recorded : ndarray of bool, shape (scan_y, scan_x)
        Positions that have a frame.
    """
    counts = np.where(recorded, total, np.nan).astype(np.float64)
    level = float(np.nanmedian(counts)) if recorded.any() else 0.0
    nothing = np.zeros(recorded.shape, np.bool_)
    if recorded.sum() < 3 or not level > 0:
        return Dropouts(nothing, nothing, (), float("nan"))
    counts /= _trend(counts)
    found = np.ones(counts.size)
    smallest = np.inf
    for rows in dict.fromkeys((min(NEAREST_ROWS, counts.shape[0] // 2), min(WIDEST_ROWS, counts.shape[0] // 2))):
        usual = _usual(counts, rows)
        with np.errstate(invalid="ignore", divide="ignore"):
            part = (counts / usual).ravel()
        seen = np.isfinite(part)
        if seen.sum() < 3:
            continue
        shot = float(1 / np.sqrt(level))
        spread = max(spread_of(part[seen] - np.median(part[seen])), shot)
        smallest = min(smallest, _sure_sigmas(int(seen.sum()), counts.shape[1]) * spread)
        for first, end, level in _stretches(part[seen], spread, counts.shape[1]):
            where = np.flatnonzero(seen)[first:end]
            found[where] = np.minimum(found[where], level)
    grid = found.reshape(counts.shape)
    edges = np.flatnonzero(np.diff(found < 1, prepend=False, append=False)).reshape(-1, 2)
    stretches = tuple((int(a), int(b), float(found[a:b].mean())) for a, b in edges)
    return Dropouts((grid < 1) & recorded, (grid < 0.5) & recorded, stretches, smallest)


def _lengths(positions: int, columns: int) -> list[int]:
    longest = max(min(LONGEST_ROWS * columns, positions // 4), 1)
    return [1 << power for power in range(longest.bit_length())]


def _sure_sigmas(positions: int, columns: int) -> float:
    """Standard errors of a box's mean that noise does not lose, by how many boxes there are."""
    return float(norm.isf(CHANCE / (positions * len(_lengths(positions, columns)))))


def _trend(counts: Array) -> Array:
    """A steady change from row to row (scan_y, 1) [part of the middle]; a dropout of some rows does not turn it."""
    levels = _median(counts, 1)
    rows = np.flatnonzero(levels > 0)
    if len(rows) < FEWEST_ROWS:
        return np.ones((len(counts), 1))
    some = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_ROWS)).astype(np.intp)]
    slope, middle, *_ = theilslopes(levels[some], some)
    line = middle + slope * np.arange(len(counts))
    return np.maximum(line / np.median(line), LEAST_TREND)[:, None]


def _usual(counts: Array, rows: int) -> Array:
    """Counts that each position would have by the same columns about it, its own row left out where there are others.

    The median over the rows; in a scan of one row, over the row.
    """
    if rows == 0:
        return np.full(counts.shape, _median(counts, None))
    height = counts.shape[0]
    usual = np.empty(counts.shape)
    for y in range(height):
        low = min(max(y - rows, 0), max(height - 2 * rows - 1, 0))
        about = np.arange(low, min(low + 2 * rows + 1, height))
        usual[y] = _median(counts[about[about != y]], 0)
    return np.where(usual > 0, usual, np.nan)


def _median(values: Array, axis: int | None) -> Array:
    if not np.isnan(values).any():
        return np.asarray(np.median(values, axis=axis))
    empty = ~np.isfinite(values).any(axis=axis, keepdims=axis is not None)
    filled = np.where(empty & np.isnan(values), 0.0, values)
    return np.asarray(np.nanmedian(filled, axis=axis))


def _stretches(part: Array, spread: float, columns: int) -> Iterator[tuple[int, int, float]]:
    """First, end and level of each stretch that lost current, the surest first; ``part`` is over time."""
    left = part.copy()
    for _ in range(MOST_DROPOUTS):
        best = _surest(left, spread, columns)
        if best is None:
            return
        first, end = _trimmed(left, *best)
        level = float(part[first:end].mean())
        yield first, end, min(level, 1 - 1e-9)
        left[first:end] = 1.0


def _surest(part: Array, spread: float, columns: int) -> tuple[int, int] | None:
    """The box that lost the most standard errors, over lengths that double; None where none lost enough."""
    total = np.concatenate([[0.0], np.cumsum(part - 1)])
    best, found = _sure_sigmas(len(part), columns), None
    for length in _lengths(len(part), columns):
        mean = (total[length:] - total[:-length]) / length
        # What the specimen does is not independent from one position to the next: its boxes scatter more than noise.
        error = max(spread / sqrt(length), spread_of(mean - np.median(mean)))
        at = int(mean.argmin())
        if mean[at] < -DROP_PART and -mean[at] / error > best:
            best, found = float(-mean[at] / error), (at, at + length)
    return found


def _trimmed(part: Array, first: int, end: int) -> tuple[int, int]:
    """The stretch about a box that stands out most: its ends moved by up to its own length."""
    length = end - first
    low, high = max(first - length, 0), min(end + length, len(part))
    total = np.concatenate([[0.0], np.cumsum(part[low:high] - 1)])
    steps = max(1, length // 64)
    starts = np.arange(0, end - low, steps)
    ends = np.arange(first - low + 1, high - low + 1, steps)
    size = ends[None, :] - starts[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        score = np.where(size > 0, (total[starts][:, None] - total[ends][None, :]) / np.sqrt(np.maximum(size, 1)), 0.0)
    a, b = np.unravel_index(int(score.argmax()), score.shape)
    return low + int(starts[a]), low + int(ends[b])
