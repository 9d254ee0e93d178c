"""Stretches of a scan in which the current fell: found in the totals along time, against the rows above and below."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from stem4d.calibrate.robust import spread_of

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

DROP_PART = 0.1
"""A dropout loses at least this part of the current: less is flicker (habit)."""
CHANCE = 0.01
"""Chance that noise alone makes a stretch anywhere in a pass, at any length."""
ROWS_NEAR = 3
"""Rows to each side that tell what the specimen does, for dropouts of up to a row."""
ROWS_ABOUT = (7, 17)
"""The same for dropouts of several rows, which fill rows."""
LONGEST_ROWS = 8
"""Longest dropout that is found, less than half of the widest."""
FILLS = 0.7
"""Part of a row's columns that a dropout of several rows darkens; the specimen's features leave more of them alone."""
FEWEST_ROWS, MOST_ROWS = 6, 200
"""Rows that a steady change is taken from."""
LEAST_TREND = 0.1
"""A line that falls further than that is none."""
BRIGHT, BRIGHT_COUNTS, GONE = 0.99, 50.0, 0.1
"""A frame with less than a tenth of what the brightest hundredth has is without its beam, however long that lasts: no
specimen scatters nine tenths off a detector. That takes some counts."""
FEWEST_COLUMNS = 4
FINEST = 1000
"""Steps in which the ends of a stretch are looked for."""
MOST_ROUNDS = 20
"""Times that what overlapped is looked at again."""


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
    if recorded.sum() < 3 or not np.nansum(counts) > 0:
        return Dropouts(nothing, nothing, (), float("nan"))
    found, smallest = np.ones(counts.size), float("nan")
    bright = float(np.nanquantile(counts, BRIGHT))
    if bright >= BRIGHT_COUNTS:
        gone = np.flatnonzero(counts.ravel() < GONE * bright)
        found[gone] = np.minimum(counts.ravel()[gone] / bright, 1 - 1e-9)
    if level > GONE * bright:
        smallest = _look(counts / _trend(counts), found, 1 / sqrt(level))
    grid = found.reshape(counts.shape)
    edges = np.flatnonzero(np.diff(found < 1, prepend=False, append=False)).reshape(-1, 2)
    stretches = tuple((int(a), int(b), float(found[a:b].mean())) for a, b in edges)
    return Dropouts((grid < 1) & recorded, (grid < 0.5) & recorded, stretches, smallest)


def _look(counts: Array, found: Array, shot: float) -> float:
    """Put the levels of stretches below their surroundings into ``found``; gives the loss of one frame that shows."""
    columns = counts.shape[1]
    near, spread = _parts(counts, ROWS_NEAR, shot)
    where = np.flatnonzero(np.isfinite(near))
    if len(where) < 3:
        return float("nan")
    for first, end in _stretches(near[where], spread, columns):
        inside = where[first:end]
        if not _goes_on_below(near, inside, columns):
            _note(found, near, inside)
    for rows in dict.fromkeys(min(rows, (counts.shape[0] - 1) // 2) for rows in ROWS_ABOUT):
        if rows > ROWS_NEAR:
            wide, _ = _parts(counts, rows, shot)
            for first, end in _row_stretches(wide.reshape(counts.shape)):
                inside = np.arange(first, end)
                _note(found, wide, inside[np.isfinite(wide[inside])])
    return _sure_sigmas(len(where), columns) * spread


def _goes_on_below(part: Array, inside: npt.NDArray[np.intp], columns: int) -> bool:
    """Whether a stretch of part of a row is found again in a row beside it, and not between: a small particle."""
    half = (1 + float(part[inside].mean())) / 2
    first, end = int(inside[0]), int(inside[-1]) + 1
    for shift in (-columns, columns):
        again = inside + shift
        between = np.arange(end, first + columns) if shift > 0 else np.arange(end - columns, first)
        if not len(between) or again[0] < 0 or again[-1] >= len(part) or between[0] < 0 or between[-1] >= len(part):
            continue
        here, apart = part[again], part[between]
        here, apart = here[np.isfinite(here)], apart[np.isfinite(apart)]
        if len(here) and len(apart) and here.mean() < half < apart.mean():
            return True
    return False


def _note(found: Array, part: Array, inside: npt.NDArray[np.intp]) -> None:
    """Keep the level of a stretch, where nothing lower is kept."""
    flowed = min(float(part[inside].mean()), 1 - 1e-9)
    found[inside] = np.minimum(found[inside], max(flowed, 0.0))


def _parts(counts: Array, rows: int, shot: float) -> tuple[Array, float]:
    """Counts over those that the rows about a position promise, over time, and their spread."""
    with np.errstate(invalid="ignore", divide="ignore"):
        part = (counts / _usual(counts, rows)).ravel()
    seen = part[np.isfinite(part)]
    if not len(seen) or not np.median(seen) > 0:
        return np.full(part.shape, np.nan), shot
    # The lower of two medians lies low by itself.
    part /= np.median(seen)
    return part, max(spread_of(seen / np.median(seen) - 1), shot)


def _lengths(positions: int, columns: int) -> list[int]:
    """Lengths of the boxes that are looked at: up to a row, which longer ones fill."""
    longest = max(min(columns, positions // 4), 1)
    return [1 << power for power in range(longest.bit_length())]


def _row_stretches(part: Array) -> Iterator[tuple[int, int]]:
    """First position and end of dropouts that fill rows, from the columns' upper part: it falls only if most do."""
    height, columns = part.shape
    if columns < FEWEST_COLUMNS or height < FEWEST_ROWS:
        return
    upper = np.array([np.quantile(row[np.isfinite(row)], FILLS) if np.isfinite(row).any() else np.nan for row in part])
    rows = np.flatnonzero(np.isfinite(upper))
    level = upper[rows] / np.median(upper[rows])
    spread = max(spread_of(level - 1), 1e-6)
    flat = np.where(np.isfinite(part), part, 1.0).ravel()
    sure = _rarely_lost(CHANCE / len(rows), len(rows))
    low = np.zeros(height, np.bool_)
    low[rows] = (level < 1 - DROP_PART) & (1 - level > sure * spread)
    for top, bottom in np.flatnonzero(np.diff(low, prepend=False, append=False)).reshape(-1, 2):
        if bottom - top <= LONGEST_ROWS:
            # It begins and ends within the rows beside those that it fills.
            yield _trimmed(flat, int(top) * columns, int(bottom) * columns, columns)


def _sure_sigmas(positions: int, columns: int) -> float:
    """Standard errors of a box's mean that noise does not lose, by how many boxes there are."""
    return _rarely_lost(CHANCE / (positions * len(_lengths(positions, columns))), positions)


def _rarely_lost(chance: float, number: int) -> float:
    """Errors by which noise lies low with this chance, where the error is known from so many values.

    A median of magnitudes knows the spread of n values about as well as a standard deviation does that of n/3.
    """
    return float(-stdtrit(max(number / 3, 1), chance))


def _trend(counts: Array) -> Array:
    """A steady change from row to row (scan_y, 1) [part of the middle]; a dropout of some rows does not turn it."""
    levels = _median(counts, 1)
    rows = np.flatnonzero(levels > 0)
    if len(rows) < FEWEST_ROWS:
        return np.ones((len(counts), 1))
    from scipy.stats import theilslopes  # half a second that no run has to spend before its exposure

    some = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_ROWS)).astype(np.intp)]
    slope, middle, *_ = theilslopes(levels[some], some)
    line = middle + slope * np.arange(len(counts))
    part: Array = np.maximum(line / np.median(line), LEAST_TREND)
    return part[:, None]


def _usual(counts: Array, rows: int) -> Array:
    """Counts that each position would have by the same columns of the rows about it.

    The lower of the medians above and below: where a feature of the specimen begins or ends, one of them is it. At the
    border of the scan, of the nearer and the farther rows: the lower of two lies low, and is to do so everywhere. In
    a scan of one or two rows, the median over everything.
    """
    height = counts.shape[0]
    rows = min(rows, (height - 1) // 2)
    if rows == 0:
        return np.full(counts.shape, _median(counts, None))
    usual = np.empty(counts.shape)
    for y in range(height):
        first = min(max(y - rows, 0), height - 2 * rows - 1)
        about = np.arange(first, first + 2 * rows + 1)
        about = about[about != y]
        sides = (_median(counts[about[:rows]], 0), _median(counts[about[rows:]], 0))
        usual[y] = np.fmin(*(np.where(side > 0, side, np.nan) for side in sides))
    return usual


def _median(values: Array, axis: int | None) -> Array:
    if not np.isnan(values).any():
        return np.asarray(np.median(values, axis=axis))
    empty = ~np.isfinite(values).any(axis=axis, keepdims=axis is not None)
    filled = np.where(empty & np.isnan(values), 0.0, values)
    return np.asarray(np.nanmedian(filled, axis=axis))


def _stretches(part: Array, spread: float, columns: int) -> Iterator[tuple[int, int]]:
    """First and end of each stretch that lost current, the surest first; ``part`` is over time."""
    left = part.copy()
    for _ in range(MOST_ROUNDS):
        boxes = _sure_boxes(left, spread, columns)
        if not boxes:
            return
        taken = np.zeros(len(left), np.bool_)
        for _, first, end in boxes:
            # What overlaps a surer one is looked at again without it.
            if not taken[max(2 * first - end, 0) : 2 * end - first].any():
                stretch = _trimmed(left, first, end, end - first)
                yield stretch
                left[slice(*stretch)] = 1.0
                taken[slice(*stretch)] = True
                taken[first:end] = True


def _sure_boxes(part: Array, spread: float, columns: int) -> list[tuple[float, int, int]]:
    """Boxes that lost more than noise does, over lengths that double: certainty, first, end, the surest first."""
    total = np.concatenate([[0.0], np.cumsum(part - 1)])
    sure, found = _sure_sigmas(len(part), columns), []
    for length in _lengths(len(part), columns):
        mean = (total[length:] - total[:-length]) / length
        # What the specimen does is not independent from one position to the next: its boxes scatter more than noise.
        error = max(spread / sqrt(length), spread_of(mean - np.median(mean)))
        low = np.flatnonzero((mean < -DROP_PART) & (mean < -sure * error))
        for group in np.split(low, np.flatnonzero(np.diff(low) > length) + 1) if len(low) else ():
            at = int(group[mean[group].argmin()])
            found.append((float(-mean[at] / error), at, at + length))
    return sorted(found, reverse=True)


def _trimmed(part: Array, first: int, end: int, reach: int) -> tuple[int, int]:
    """The stretch about a box that stands out most: its ends moved by up to ``reach``."""
    low, high = max(first - reach, 0), min(end + reach, len(part))
    total = np.concatenate([[0.0], np.cumsum(part[low:high] - 1)])
    step = max(1, (high - low) // FINEST)
    starts, ends = np.arange(0, end - low, step), np.arange(first - low + 1, high - low + 1, step)
    size = ends[None, :] - starts[:, None]
    lost = (total[starts][:, None] - total[ends][None, :]) / np.sqrt(np.maximum(size, 1))
    a, b = np.unravel_index(int(np.where(size > 0, lost, 0.0).argmax()), lost.shape)
    return low + int(starts[a]), low + int(ends[b])
