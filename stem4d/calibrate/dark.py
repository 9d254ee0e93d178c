"""Offset, read noise and relative response of an integrating detector's pixels, from dark frames and a flat."""

from dataclasses import dataclass
from itertools import pairwise
from math import nan, sqrt

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from stem4d.calibrate.robust import spread_of
from stem4d.calibrate.shift import without_surface
from stem4d.errors import BadInput

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

FEWEST_FRAMES = 4
BLOCK = 8
"""Pixels a side of the blocks over which structure is looked for."""
LIT = 0.7
"""Correlation of level and variance over blocks that shows light in the dark."""
LIT_CHANCE = 1e-6
ODD_SIGMAS = 8.0
"""Robust sigmas from which on a pixel's offset, noise or response is not like its fellows'."""
RESPONSES = (0.5, 2.0)
"""Relative responses beyond which a pixel is bad whatever the others do."""
LIT_PART = 0.5
"""A pixel counts as lit above this part of the bright level."""
EDGE_PX = 4
"""Pixels left out along the border of the lit area: the border is no smooth illumination."""
SURFACE_ORDER = 2
WORST_RESPONSE = 0.05
"""Relative noise per pixel from which on a flat makes data worse."""
UNEVEN = 0.02
"""Rms of block means of the response about 1 that says the illumination is not a smooth surface."""


@dataclass(frozen=True)
class DarkFit:
    """An integrating detector without illumination; empty maps where nothing was found."""

    offset_counts: Array
    """(det_y, det_x) mean dark level."""
    read_noise_counts: Array
    """(det_y, det_x) standard deviation of one frame."""
    bad: Mask
    """(det_y, det_x): far from its fellows in offset or noise, or without noise."""
    offset_uncertainty_counts: float
    """Standard error of a usual pixel's offset."""
    residual: float
    """Drift of the mean level from the first to the second half of the frames, in read noises of a pixel."""
    frames: int
    ok: bool
    reason: str
    """Why ``ok`` is false; empty otherwise."""


@dataclass(frozen=True)
class FlatFit:
    """Relative response of the pixels; empty maps where nothing was found."""

    response: Array
    """(det_y, det_x), 1 for a usual pixel, NaN where not known: unlit or bad."""
    response_uncertainty: float
    """Standard error of a usual pixel's response, from shot and read noise."""
    bad: Mask
    """(det_y, det_x): lit, and responding too little or too much."""
    known: Mask
    """(det_y, det_x): lit evenly enough to tell."""
    spread: float
    """Robust standard deviation of the good responses beyond their noise."""
    residual: float
    """Rms of block means of the response about 1 beyond their noise: illumination that is not smooth."""
    ok: bool
    reason: str
    """Why ``ok`` is false; empty otherwise."""


def fit_dark(frames: npt.NDArray[np.generic]) -> DarkFit:
    """Offset and read noise of each pixel, from frames with the beam blanked at the exposure that is to be used.

    Parameters
    ----------
    frames : ndarray, shape (n, det_y, det_x)
        Dark frames [counts] in order of time.

    Returns
    -------
    DarkFit
        ``ok`` false where frames are too few, do not vary (a counting detector has no dark), or were lit.

    Raises
    ------
    BadInput
        If the frames are not three-dimensional.
    """
    if frames.ndim != 3:
        raise BadInput(field="frames", value=frames.shape, limit="must have the shape (n, det_y, det_x)")
    number = len(frames)
    if number < FEWEST_FRAMES:
        return _no_dark(f"{number} frames are too few; it takes {FEWEST_FRAMES}", number)
    offset = frames.mean(axis=0, dtype=np.float64)
    squares = np.zeros(offset.shape)
    for before, now in pairwise(frames):
        squares += (now.astype(np.float64) - before.astype(np.float64)) ** 2
    variance = squares / (2 * (number - 1))
    if (variance > 0).mean() < 0.5:
        return _no_dark("the frames do not vary: a counting detector has no dark, or the readout stands still", number)
    usual = float(np.median(variance))
    # The median of a mean of n squares lies below its mean: chi squared with about 2 n / 3 degrees of freedom.
    usual /= (1 - 2 / (9 * (2 * number / 3))) ** 3
    scatter = usual * sqrt(3 / number)
    bad = _odd(offset) | (variance > usual + ODD_SIGMAS * max(scatter, _robust(variance))) | (variance <= 0)
    halves = frames[: number // 2].mean(axis=(1, 2)).mean(), frames[number - number // 2 :].mean(axis=(1, 2)).mean()
    from scipy.stats import pearsonr  # half a second that no run has to spend before its exposure

    correlation, chance = pearsonr(_block_medians(offset), _block_medians(variance))
    lit = bool(correlation > LIT and chance < LIT_CHANCE)
    return DarkFit(
        offset_counts=offset,
        read_noise_counts=np.sqrt(variance),
        bad=bad,
        offset_uncertainty_counts=sqrt(usual / number),
        residual=float(halves[1] - halves[0]) / sqrt(usual),
        frames=number,
        ok=not lit,
        reason="the noise rises with the level from place to place: the frames were lit" if lit else "",
    )


def fit_flat(
    mean_pattern: npt.NDArray[np.floating],
    frames: int,
    dark: DarkFit | None = None,
    bad_pixels: Mask | None = None,
    counts_per_electron: float = 1.0,
) -> FlatFit:
    """Relative response of the pixels under even or smoothly varying illumination.

    The illumination is a robust quadratic surface over the lit area; what a pixel deviates from it is its response.
    Only the border of the lit area and what is outside are left unknown.

    Parameters
    ----------
    mean_pattern : ndarray, shape (det_y, det_x)
        Mean counts per pixel and frame of a spread beam.
    frames : int
        Frames in the mean.
    dark : DarkFit, optional
        Offset and read noise of an integrating detector.
    bad_pixels : ndarray of bool, shape (det_y, det_x), optional
        Pixels to leave out.
    counts_per_electron : float
        For the shot noise.

    Raises
    ------
    BadInput
        If shapes disagree, or ``frames`` or ``counts_per_electron`` are not positive.
    """
    _check_flat(mean_pattern, frames, dark, bad_pixels, counts_per_electron)
    if dark is not None and not dark.ok:
        return _no_flat(f"the dark is not known: {dark.reason}")
    left_out = ~np.isfinite(mean_pattern)
    if bad_pixels is not None:
        left_out |= bad_pixels
    signal = np.where(left_out, 0.0, mean_pattern).astype(np.float64)
    read = np.zeros(signal.shape)
    if dark is not None:
        left_out |= dark.bad
        signal, read = signal - dark.offset_counts, dark.read_noise_counts**2
    known = _lit(signal, left_out)
    if known.sum() < 10 * BLOCK**2:
        return _no_flat("too little of the detector is lit evenly")
    response, good = _response(signal, known & ~left_out)
    noise = np.sqrt((counts_per_electron * np.maximum(signal, 0.0) + read) / frames) / np.maximum(signal, 1e-300)
    usual = float(np.median(noise[good]))
    # A block's mean differs from 1 by noise and by the pixels' own spread, both over the root of its pixels.
    centre = float(np.median(response[good]))
    response = response / centre
    width = _robust(response[good])
    block = _blocks(response, good)
    uneven = sqrt(max(float(np.mean((block - 1) ** 2)) - width**2 / BLOCK**2, 0.0))
    reasons = []
    if usual > WORST_RESPONSE:
        reasons.append(f"a pixel's response is known to {usual:.0%} only: more frames or a brighter beam")
    if uneven > UNEVEN:
        reasons.append(f"the illumination is not smooth: {uneven:.1%} is left in patches of {BLOCK} px")
    return FlatFit(
        response=np.where(good, response, nan),
        response_uncertainty=usual,
        bad=known & ~left_out & ~good,
        known=known & ~left_out,
        spread=sqrt(max(width**2 - usual**2, 0.0)),
        residual=uneven,
        ok=not reasons,
        reason="; ".join(reasons),
    )


def _check_flat(
    mean_pattern: npt.NDArray[np.floating], frames: int, dark: DarkFit | None, bad: Mask | None, gain: float
) -> None:
    if mean_pattern.ndim != 2:
        raise BadInput(field="mean_pattern", value=mean_pattern.shape, limit="must have the shape (det_y, det_x)")
    for name, shape in (
        ("dark", dark.offset_counts.shape if dark is not None and dark.ok else mean_pattern.shape),
        ("bad_pixels", bad.shape if bad is not None else mean_pattern.shape),
    ):
        if shape != mean_pattern.shape:
            raise BadInput(field=name, value=shape, limit=f"must have the shape {mean_pattern.shape}")
    if frames < 1:
        raise BadInput(field="frames", value=frames, limit="must be at least 1")
    if not gain > 0:
        raise BadInput(field="counts_per_electron", value=gain, limit="must be positive")


def _lit(signal: Array, left_out: Mask) -> Mask:
    """The area that is lit, without its border; a detector lit to its edge has none there."""
    smooth = ndimage.median_filter(signal, 5, mode="nearest")
    bright = smooth > LIT_PART * float(np.quantile(smooth[~left_out], 0.9)) if (~left_out).any() else left_out
    inner: Mask = ndimage.binary_erosion(bright, iterations=EDGE_PX, border_value=1)
    return inner if float(smooth.max()) > 0 else np.zeros(signal.shape, bool)


def _response(signal: Array, use: Mask) -> tuple[Array, Mask]:
    """Signal over a robust quadratic surface, and the pixels that lie with the others."""
    good = use.copy()
    response = np.ones(signal.shape)
    for _ in range(4):
        surface = signal - without_surface(signal, good, SURFACE_ORDER)
        # `without_surface` gives zero outside its mask: there the surface is unknown and filled from its neighbours.
        nearest = ndimage.distance_transform_edt(~good, return_distances=False, return_indices=True)
        surface = surface[tuple(nearest)]
        response = signal / np.maximum(surface, 1e-300)
        off = np.abs(response - np.median(response[good]))
        good = (
            use & (off < ODD_SIGMAS * _robust(response[good])) & (response > RESPONSES[0]) & (response < RESPONSES[1])
        )
        if not good.any():
            return response, use
    return response, good


def _odd(values: Array) -> Mask:
    """Values far from the median of the 25 around them."""
    off = values - ndimage.median_filter(values, 5, mode="nearest")
    odd: Mask = np.abs(off) > ODD_SIGMAS * max(_robust(off), 1e-300)
    return odd


def _robust(values: Array) -> float:
    return spread_of(values - np.median(values))


def _blocks(values: Array, good: Mask) -> Array:
    """Means over the good pixels of blocks, of those blocks that have at least half."""
    rows, columns = (n // BLOCK * BLOCK for n in values.shape)
    cut = (rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
    number = good[:rows, :columns].reshape(cut).sum(axis=(1, 3))
    total = np.where(good, values, 0.0)[:rows, :columns].reshape(cut).sum(axis=(1, 3))
    full = number >= BLOCK**2 / 2
    means: Array = total[full] / number[full]
    return means


def _block_medians(values: Array) -> Array:
    rows, columns = (n // BLOCK * BLOCK for n in values.shape)
    cut = values[:rows, :columns].reshape(rows // BLOCK, BLOCK, columns // BLOCK, BLOCK)
    return np.asarray(np.median(cut, axis=(1, 3)), dtype=np.float64).ravel()


def _no_dark(reason: str, frames: int) -> DarkFit:
    empty = np.zeros((0, 0))
    return DarkFit(empty, empty, empty.astype(bool), nan, nan, frames, ok=False, reason=reason)


def _no_flat(reason: str) -> FlatFit:
    empty = np.zeros((0, 0))
    return FlatFit(empty, nan, empty.astype(bool), empty.astype(bool), nan, nan, ok=False, reason=reason)
