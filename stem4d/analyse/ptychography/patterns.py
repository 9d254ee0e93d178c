"""Frames cut to a square, in the order of the FFT and the smallest type, with what is not known marked."""

from typing import Any

import numpy as np
import numpy.typing as npt

from stem4d.analyse.method import Given, Parts, Rows
from stem4d.analyse.usable import MOST_LOST


def stored_as(dtype: np.dtype[Any], full_scale: int | None) -> np.dtype[Any]:
    """The smallest type that holds all counts and one value more, which marks pixels that are not known."""
    if dtype.kind == "u" and dtype.itemsize <= 2:
        top = int(np.iinfo(dtype).max) if full_scale is None else full_scale
        return np.dtype(np.uint8 if top < 255 else np.uint16)
    return np.dtype(np.float32)


def mark_of(dtype: np.dtype[Any]) -> float:
    """The value that marks a pixel that is not known."""
    return float(np.iinfo(dtype).max) if dtype.kind == "u" else -1.0


def cut(given: Given, rows: Rows, corner_px: npt.NDArray[np.int64], size: int, first: int, stop: int) -> Parts:
    """Patterns of rows first to stop - 1.

    Parameters
    ----------
    given : Given
        Bad pixels and full scale.
    rows : Rows
        Frames.
    corner_px : int array (scan_y, scan_x, 2)
        First pixel of each frame's square.
    size : int
        Its side N.
    first, stop : int
        Rows.

    Returns
    -------
    Parts
        ``patterns`` (rows, scan_x, N, N); ``usable`` (rows, scan_x), False where no frame is or too few numbers;
        ``saturated`` (rows, scan_x), part of the counts that stand in pixels at full scale. Pixels at full scale, bad
        or without a number hold the mark.
    """
    width = rows.scan_shape[1]
    dtype = stored_as(rows.dtype, given.full_scale)
    mark = mark_of(dtype)
    # 65535 may be a count: it shares the mark, and is then a pixel that is not known.
    patterns = np.full(((stop - first) * width, size, size), mark, dtype)
    usable, saturated = np.zeros(len(patterns), bool), np.zeros(len(patterns))
    corners = corner_px.reshape(-1, 2)
    half = size // 2
    # Half the square along each axis changes sides: the zero beam comes to the first pixel.
    swaps = [
        (a, b, c, d) for a, c in ((0, half), (half, size)) for b, d in ((0, half), (half, size))
    ]  # fmt: skip
    for positions, frames in rows.read(first, stop):
        for position, frame in zip(positions.tolist(), frames, strict=True):
            y, x = corners[position]
            window = slice(y, y + size), slice(x, x + size)
            values, lost = frame[window], given.bad_pixels[window]
            good = int((~lost).sum())
            if values.dtype.kind == "f":
                numbers = np.isfinite(values)
                if (~numbers & ~lost).sum() > MOST_LOST * good:
                    continue
                values, lost = np.where(numbers, np.maximum(values, 0), 0), lost | ~numbers
            elif values.dtype.kind == "i":
                values = np.maximum(values, 0)
            if given.full_scale is not None:
                full = ~lost & (values >= given.full_scale)
                if full.any():
                    saturated[position - first * width] = values[full].sum() / max(float(values[~lost].sum()), 1.0)
                    lost = lost | full
            at = position - first * width
            usable[at] = good > 0
            cropped = np.where(lost, dtype.type(mark), values.astype(dtype))
            for top, left, bottom, right in swaps:
                to_y, to_x = (top + half) % size, (left + half) % size
                patterns[at, to_y : to_y + half, to_x : to_x + half] = cropped[top:bottom, left:right]
    grid = (stop - first, width)
    return {
        "patterns": patterns.reshape(*grid, size, size),
        "usable": usable.reshape(grid),
        "saturated": saturated.reshape(grid),
    }
