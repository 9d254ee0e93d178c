"""From fractions of the beam to counts: Poisson noise, counter depth, hot and dead pixels, all out of a seed.

A pixel's noise depends on (seed, run, row, column, pixel) alone, so a repeated or resumed row gives identical frames
however it is cut into batches.
"""

from dataclasses import dataclass
from math import ceil, exp, floor, lgamma, log, log1p, sqrt
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from stem4d.detector import container_bytes, full_scale
from stem4d.errors import BadInput

Mask = npt.NDArray[np.bool_]
Floats32 = npt.NDArray[np.float32]
Frames = npt.NDArray[np.unsignedinteger[Any]]

SMALL_MEAN = 12.0
"""Below this mean a Poisson count is drawn by summing probabilities up to one uniform number; above, by rejection."""
LARGEST_MEAN = 1e9
"""Largest mean that is drawn [electrons per pixel]: every counter is full long before."""
LARGEST_COUNT = 2**31 - 1
"""What a counter that wraps is drawn up to before it is cut to its depth."""
LOSS_NARROWS = 0.02
"""Rate times dead time up to which counts are drawn as Poisson's: their spread is then narrower by less than 2 %."""
_STEP = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Counter:
    """A counting detector: its depth, its bad pixels, and what it loses at high rates. Masks are (det_y, det_x)."""

    bit_depth: int
    hot: Mask
    """These stand at full scale."""
    dead: Mask
    """These stand at 0, hot or not; gaps between chips are dead too."""
    noisy: Mask | None = None
    """These add ``noise_counts`` of spread of their own."""
    noise_counts: float = 0.0
    dead_time_us: float = 0.0
    """Time after an event in which a pixel counts no other [µs]."""
    paralysable: bool = False
    """Whether an event within the dead time begins it anew."""
    exposure_time_us: float = 1.0
    """What the counts of a frame are collected in [µs]; the dead time is held against it."""
    wraps: bool = False
    """Whether a full counter begins again at 0 instead of standing."""
    response: Floats32 | None = None
    """Part of the electrons that each pixel counts; None for all."""

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger[Any]]:
        """Unsigned integer that holds the counter."""
        return np.dtype(f"uint{8 * container_bytes(self.bit_depth)}")


def scattered_pixels(shape: tuple[int, int], fraction: float, seed: int) -> Mask:
    """A mask (det_y, det_x) with the nearest whole number of pixels to a fraction, drawn without repeats."""
    pixels = shape[0] * shape[1]
    mask = np.zeros(pixels, np.bool_)
    mask[np.random.default_rng(seed).choice(pixels, round(fraction * pixels), replace=False)] = True
    return mask.reshape(shape)


def noise_keys(
    seed: int, run: int, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint64]:
    """One 64-bit key a frame (n,) out of (seed, run, row, column)."""
    words = np.empty((len(rows), 4), np.uint64)
    words[:, 0], words[:, 1], words[:, 2], words[:, 3] = seed, run, rows, columns
    return np.asarray(_fold(words))


def record(
    fractions: npt.NDArray[np.float32],
    electrons: float | npt.NDArray[np.float64],
    keys: npt.NDArray[np.uint64],
    counter: Counter,
) -> Frames:
    """Count electrons.

    Parameters
    ----------
    fractions : float32 array (n, det_y, det_x)
        Part of the beam in each pixel.
    electrons : float or float array (n,)
        Mean electrons a pattern receives; 0 for a blanked beam.
    keys : uint64 array (n,)
        From `noise_keys`.
    counter : Counter
        Depth, bad pixels and losses.

    Returns
    -------
    unsigned integer array (n, det_y, det_x)
        Poisson counts of what the dead time leaves, standing at full scale (or beginning again) where they exceed it.

    Raises
    ------
    BadInput
        Where shapes disagree, the electrons are negative or more than `LARGEST_MEAN`, or so is a pixel's mean, or it
        is no finite number: rejection would never end.

    Notes
    -----
    A rate n loses a part by the dead time τ: n/(1 + nτ), or n exp(-nτ) where it is paralysable (Knoll, Radiation
    Detection and Measurement). Beyond `LOSS_NARROWS` the variance is less than Poisson's, by 1/(1 + nτ)², or by
    1 - 2 nτ exp(-nτ) where it is paralysable (Müller, Nucl. Instr. Meth. 112, 1973), as holds where the dead time is
    short against the exposure.
    """
    check_request(fractions, electrons, keys, counter.hot.shape)
    means = fractions if counter.response is None else fractions * counter.response
    _check_means(means, electrons)
    top = full_scale(counter.bit_depth)
    wide = LARGEST_COUNT if counter.wraps else top
    counts = np.empty(fractions.shape, np.uint32)
    per_frame = np.broadcast_to(np.asarray(electrons, np.float64), (len(keys),))
    loss = counter.dead_time_us / counter.exposure_time_us
    flat = counts.reshape(len(keys), -1)
    _draw(means.reshape(len(keys), -1), per_frame, keys, wide, loss, counter.paralysable, flat)
    if counter.noisy is not None and counter.noise_counts > 0:
        _add_noise(counts, counter.noisy, counter.noise_counts, keys, wide)
    frames = (counts & np.uint32(top) if counter.wraps else counts).astype(counter.dtype)
    frames[:, counter.hot] = top
    frames[:, counter.dead] = 0
    return frames


def check_request(
    fractions: npt.NDArray[np.float32],
    electrons: float | npt.NDArray[np.float64],
    keys: npt.NDArray[np.uint64],
    shape: tuple[int, ...],
) -> None:
    """Raise `BadInput` where shapes disagree or the electrons cannot be."""
    if fractions.ndim != 3 or fractions.shape[1:] != shape or len(keys) != len(fractions):
        limit = f"must be {len(keys)} patterns of {shape[0]} x {shape[1]}"
        raise BadInput(field="fractions", value=fractions.shape, limit=limit, unit="px")
    worst = np.asarray(electrons, np.float64)
    if not ((worst >= 0) & (worst <= LARGEST_MEAN)).all():
        raise BadInput(
            field="electrons per pattern",
            value=electrons,
            limit=f"must lie in 0 to {LARGEST_MEAN:g}",
            remedy="Use less current or a shorter exposure",
        )


def _check_means(means: npt.NDArray[np.float32], electrons: float | npt.NDArray[np.float64]) -> None:
    # The largest of numbers with a NaN among them is NaN.
    largest = float(means.max(initial=0)) * float(np.max(electrons, initial=0))
    if not largest <= LARGEST_MEAN:
        raise BadInput(
            field="electrons per pixel",
            value=largest,
            limit=f"must be finite and at most {LARGEST_MEAN:g}",
            remedy="Use less current, a shorter exposure, or smaller settings of the simulated specimen and its damage",
        )


def _add_noise(
    counts: npt.NDArray[np.uint32], noisy: Mask, spread: float, keys: npt.NDArray[np.uint64], top: int
) -> None:
    """Noise of single pixels on top of what they count, from the frame's own key; never below 0."""
    for frame, key in zip(counts, keys, strict=True):
        added = np.random.default_rng(int(key)).normal(0.0, spread, int(noisy.sum()))
        frame[noisy] = np.clip(np.rint(frame[noisy] + added), 0, top).astype(np.uint32)


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def _mixed(state: Any) -> Any:
    """SplitMix64's finaliser (Steele, Lea and Flood, 2014)."""
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def _unit(state: Any) -> Any:
    """A state as a number in [0, 1)."""
    return (_mixed(state) >> np.uint64(11)) * 2.0**-53


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _fold(words: Any) -> Any:
    keys = np.empty(words.shape[0], np.uint64)
    for i in range(words.shape[0]):
        key = np.uint64(0)
        for j in range(words.shape[1]):
            key = _mixed((key ^ words[i, j]) + np.uint64(_STEP))
        keys[i] = key
    return keys


@numba.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _draw(fractions: Any, electrons: Any, keys: Any, top: Any, loss: Any, paralysable: Any, frames: Any) -> None:
    for i in range(fractions.shape[0]):
        state = keys[i]
        for j in range(fractions.shape[1]):
            state += np.uint64(_STEP)
            mean = electrons[i] * fractions[i, j]
            lost, narrow = mean * loss, 1.0
            if lost > 0:
                left = exp(-lost) if paralysable else 1 / (1 + lost)
                mean *= left
                if lost > LOSS_NARROWS:
                    narrow = 1 - 2 * lost * left if paralysable else left * left
            if mean < SMALL_MEAN:
                uniform = _unit(state)
                count = 0
                # 1 - mean <= exp(-mean): most pixels of a dark field need no exponential.
                if uniform > 1.0 - mean and narrow < 1:
                    count = _narrow(mean, narrow, uniform, _unit(_mixed(state ^ np.uint64(0xD1B54A32D192ED03))))
                elif uniform > 1.0 - mean:
                    chance = exp(-mean)
                    total = chance
                    # 100 is more than 25 sigma above any mean that comes here; rounding could stop `total` short of 1.
                    while uniform > total and count < 100:
                        count += 1
                        chance *= mean / count
                        total += chance
            else:
                # A stream of its own for the pixel, since rejection takes an unknown number of draws.
                count = _rejected(mean, _mixed(state ^ np.uint64(0xD1B54A32D192ED03)))
                if narrow < 1:
                    # Rounded up or down by chance, so that the mean stays; that adds 1/6 to the variance.
                    spread = sqrt(max(narrow - 1 / (6 * mean), 0.0))
                    count = max(floor(mean + (count - mean) * spread + _unit(state)), 0)
            frames[i, j] = min(count, top)


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def _narrow(mean: Any, narrow: Any, uniform: Any, which: Any) -> Any:
    """A binomial count of this mean, whose variance is `narrow` times it: 1 - mean/N, one of two whole N by chance."""
    trials = ceil(mean / (1 - narrow))
    if trials - 1 >= mean and trials > 1:
        fewer, more = 1 - mean / (trials - 1), 1 - mean / trials
        if which * (more - fewer) > narrow - fewer:
            trials -= 1
    chance_of_one = mean / trials
    if chance_of_one >= 1:
        return trials
    count, chance = 0, exp(trials * log1p(-chance_of_one))
    total = chance
    while uniform > total and count < trials:
        chance *= (trials - count) / (count + 1) * chance_of_one / (1 - chance_of_one)
        count += 1
        total += chance
    return count


@numba.njit(inline="always")  # type: ignore[untyped-decorator]
def _rejected(mean: Any, state: Any) -> Any:
    """Transformed rejection with squeeze, PTRS (Hörmann, Insurance: Mathematics and Economics 12, 1993)."""
    b = 0.931 + 2.53 * sqrt(mean)
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    sure = 0.9277 - 3.6224 / (b - 2)
    log_mean = log(mean)
    while True:
        state += np.uint64(_STEP)
        u = _unit(state) - 0.5
        state += np.uint64(_STEP)
        v = _unit(state)
        edge = 0.5 - abs(u)
        if edge <= 0 or v <= 0:
            continue
        count = floor((2 * a / edge + b) * u + mean + 0.43)
        if edge >= 0.07 and v <= sure:
            return count
        if count < 0 or (edge < 0.013 and v > edge):
            continue
        if log(v) + log(inverse_alpha) - log(a / (edge * edge) + b) <= count * log_mean - mean - lgamma(count + 1):
            return count
