"""Counts per electron by photon transfer: the variance of repeated frames against their mean, pixel by pixel.

Differences of successive frames carry the variance, so slow changes of the current do not enter; the part of a
difference that all pixels share is taken off, so fast ones do not either. For Poisson electrons the variance expected
given a pixel's own mean is exactly proportional to it (the frames are then multinomial), so pixels may be chosen and
ordered by their noisy means without a bias. (Janesick, Photon Transfer, SPIE Press 2007, chapters 4 and 5.)
"""

from dataclasses import dataclass
from math import isfinite, nan, sqrt

import numpy as np
import numpy.typing as npt
from scipy.special import gammaincinv

from stem4d.calibrate.dark import DarkFit
from stem4d.errors import BadInput

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

FEWEST_FRAMES = 4
FEWEST_PIXELS = 50
LEAST_ELECTRONS = 3.0
"""Electrons a pixel must have seen in all frames together: below, it says nothing and is far from a gamma variable."""
OVER_READ_NOISE = 15.0
"""Signal over the read noise of the mean, below which a pixel is left out: its squared inverse is what is lost."""
ODD_PIXEL = 1e-5
"""Chance by which a healthy pixel is left out on either side: what a cut there takes off the mean is below 1e-4."""
MOST_ODD = 0.1
"""Part of the pixels that may not follow the line before it means nothing; a quarter of a percent is usual."""
HEADROOM_SIGMAS = 6.0
"""A pixel whose mean comes closer to full scale loses variance there."""
MOST_CLIPPED = 0.5
"""Part of the counts that may lie in pixels near full scale, which are left out."""
BINS = 10
BENT_SIGMAS = 4.0
"""Deviation of a bin from the line, root mean square in its own errors, that shows the wrong model."""
BENT_PART = 0.02
"""Deviations smaller than this part of the variance are borne: they move the result by less."""
WORST = 0.1
"""A relative uncertainty above this is no result."""
DEAD_TIME_SIGMAS = 3.0
"""Significance from which on the lack of variance at high rates is fitted."""
NOISY = 4.0
"""Variance over what the line gives, and over the usual one, beyond which a pixel is noisy on its own."""
ROUNDS = 6


@dataclass(frozen=True)
class GainFit:
    """Counts per electron; NaN where nothing was found."""

    counts_per_electron: float
    """At low rates. About 1 for a counting detector."""
    counts_per_electron_uncertainty: float
    dead_part: float
    """Dead time over exposure that the variance shows, variance = g m (1 - m dead_part)²; 0 where not significant."""
    dead_part_uncertainty: float
    residual: float
    """Rms deviation of binned variances from the line, as a part of the variance."""
    pixels: int
    """Pixels the fit rests on."""
    ok: bool
    reason: str
    """Why ``ok`` is false; empty otherwise."""


@dataclass(frozen=True)
class _Points:
    """Of each usable pixel: signal and variance [counts, counts²], read variance, and the frames behind them."""

    signal: Array
    variance: Array
    read: Array
    frames: int


def fit_gain(
    frames: npt.NDArray[np.generic],
    dark: DarkFit | None = None,
    bad_pixels: Mask | None = None,
    full_scale: int | None = None,
) -> GainFit:
    """Counts per electron from repeated frames of one scene.

    Parameters
    ----------
    frames : ndarray, shape (n, det_y, det_x)
        Frames [counts] of the same scene, in order of time. Pixels of many different means make it sharper, and are
        what shows dead time and offsets.
    dark : DarkFit, optional
        Offset and read noise of an integrating detector at the same exposure. Without it the detector is taken for
        a counting one, without offset and read noise.
    bad_pixels : ndarray of bool, shape (det_y, det_x), optional
        Pixels to leave out. Others that do not follow the line are left out too.
    full_scale : int, optional
        Largest value of the counter [counts].

    Returns
    -------
    GainFit
        ``ok`` false with a reason where frames are too few, do not vary, are clipped or saturated, or where the
        variance is not proportional to the mean (an offset that was not taken off, a scene that moves).

    Raises
    ------
    BadInput
        If shapes disagree.
    """
    _check(frames, dark, bad_pixels)
    if len(frames) < FEWEST_FRAMES:
        return _nothing(f"{len(frames)} frames are too few; it takes {FEWEST_FRAMES}")
    if dark is not None and not dark.ok:
        return _nothing(f"the dark is not known: {dark.reason}")
    bad = np.zeros(frames.shape[1:], bool) if bad_pixels is None else bad_pixels.astype(bool)
    offset = dark.offset_counts if dark is not None else np.zeros(bad.shape)
    read = dark.read_noise_counts**2 if dark is not None else np.zeros(bad.shape)
    if dark is not None:
        bad = bad | dark.bad
    # Pixels that stand still would make the part that all share noisy, and have nothing to say.
    still = (frames == frames[0]).all(axis=0) & ~bad
    if ((still & (frames[0] > offset)).sum()) > MOST_ODD * max(int((~bad).sum()), 1):
        return _nothing("the lit pixels do not vary from one frame to the next: saturated, or not frames of a detector")
    bad = bad | still
    signal, variance, highest = _moments(frames, offset, bad)
    # Noisy pixels are no part of what all pixels share: the noise of a few would go into the variance of all others.
    noisy = _noisy(signal, variance, bad)
    if noisy.any():
        bad = bad | noisy
        signal, variance, highest = _moments(frames, offset, bad)
    use = ~bad & np.isfinite(variance)
    if use.sum() < FEWEST_PIXELS:
        return _nothing("the frames do not vary from one to the next")
    clipped = _clipped(frames, signal + offset, variance, highest, use, full_scale)
    # One noisy pixel far above all others must not stand for all.
    light = np.clip(signal, 0.0, max(float(np.quantile(signal[use], 0.99)), 1e-300))
    lost = float(light[use & clipped].sum()) / max(float(light[use].sum()), 1e-300)
    if lost > MOST_CLIPPED:
        return _nothing(f"{lost:.0%} of the counts lie in pixels at or near full scale: saturated")
    use &= ~clipped
    # A first figure says how many electrons a pixel saw; an integrating detector's unlit pixels vary too, and saw none.
    clear = use & (signal > OVER_READ_NOISE * np.sqrt(read / len(frames)))
    bright = clear & (signal > np.median(signal[clear])) if clear.any() else clear
    if bright.sum() < FEWEST_PIXELS:
        return _nothing("no pixels are lit well enough: the frames show no shot noise")
    rough = float(np.median((variance - read)[bright])) / float(np.median(signal[bright]))
    # An error of the signal that is not shot noise would flatten the line.
    lit = clear & (signal * len(frames) > LEAST_ELECTRONS * max(rough, 1e-300))
    if not isfinite(rough) or rough <= 0 or lit.sum() < FEWEST_PIXELS:
        return _nothing("no pixels are lit well enough: the frames show no shot noise")
    points = _Points(signal[lit], variance[lit], read[lit], len(frames))
    return _fit(points, rough, counting=dark is None)


def _check(frames: npt.NDArray[np.generic], dark: DarkFit | None, bad_pixels: Mask | None) -> None:
    if frames.ndim != 3:
        raise BadInput(field="frames", value=frames.shape, limit="must have the shape (n, det_y, det_x)")
    shape = frames.shape[1:]
    if bad_pixels is not None and bad_pixels.shape != shape:
        raise BadInput(field="bad_pixels", value=bad_pixels.shape, limit=f"must have the shape {shape}")
    if dark is not None and dark.ok and dark.offset_counts.shape != shape:
        raise BadInput(field="dark", value=dark.offset_counts.shape, limit=f"must have the shape {shape}")


def _moments(frames: npt.NDArray[np.generic], offset: Array, bad: Mask) -> tuple[Array, Array, Array]:
    """Signal, variance from successive differences free of what all pixels share, and maximum, pixel by pixel."""
    number = len(frames)
    signal = frames.mean(axis=0, dtype=np.float64) - offset
    highest = frames.max(axis=0).astype(np.float64)
    # A noisy pixel far above all others must not stand for all.
    usual = signal < 3 * np.quantile(signal[~bad], 0.99) if not bad.all() else bad
    part = np.where(bad | ~usual, 0.0, np.maximum(signal, 0.0))
    total = max(float(part.sum()), 1e-300)
    squares = np.zeros(bad.shape)
    before = frames[0].astype(np.float64)
    for frame in frames[1:]:
        now = frame.astype(np.float64)
        step = now - before
        squares += (step - part * (float(step[part > 0].sum()) / total)) ** 2
        before = now
    # Taking the common part off takes signal/total of a Poisson pixel's variance with it.
    return signal, squares / (2 * (number - 1)) / np.maximum(1 - part / total, 1e-3), highest


def _noisy(signal: Array, variance: Array, bad: Mask) -> Mask:
    """Pixels whose variance is far above that of others, and over their signal far above that of lit ones."""
    lit, varies = ~bad & (signal > 0), ~bad & (variance > 0)
    if not lit.any() or not varies.any():
        return np.zeros(bad.shape, bool)
    ratio = np.where(lit, variance / np.where(lit, signal, 1.0), 0.0)
    bright = lit & (signal >= 0.5 * np.quantile(signal[lit], 0.9))
    noisy: Mask = varies & (variance > NOISY * float(np.median(variance[varies])))
    return noisy & (ratio > NOISY * float(np.median(ratio[bright])))


def _clipped(
    frames: npt.NDArray[np.generic], mean: Array, variance: Array, highest: Array, use: Mask, full_scale: int | None
) -> Mask:
    """Pixels that reach full scale or come too near to it; full scale is looked for where it is not known."""
    top = float(full_scale) if full_scale is not None else _top(frames, highest, use)
    near: Mask = (highest >= top) | (mean + HEADROOM_SIGMAS * np.sqrt(np.maximum(variance, 0.0)) >= top)
    return near


def _top(frames: npt.NDArray[np.generic], highest: Array, use: Mask) -> float:
    """A value at which the frames end abruptly, infinite where they do not."""
    top = float(highest[use].max())
    values = frames[:, use].astype(np.float64)
    at = int((values == top).sum())
    below = int(((values < top) & (values >= top - max(2.0, 0.002 * top))).sum())
    # The tail of a Poisson distribution thins out towards its largest value; a clipped one ends in a heap.
    return top if at > 20 and at > below else np.inf


def _fit(points: _Points, rough: float, *, counting: bool) -> GainFit:
    keep = np.ones(len(points.signal), bool)
    gain, dead = rough, 0.0
    errors = np.full((2, 2), nan)
    with_dead_time = False
    for round_ in range(ROUNDS):
        keep = _follows(points, gain, dead)
        if keep.mean() < 1 - MOST_ODD and round_ > 1:
            return _nothing(f"the variance of {1 - keep.mean():.0%} of the pixels does not follow their mean")
        if keep.sum() < FEWEST_PIXELS:
            return _nothing("the variance does not follow the mean")
        gain, dead, errors = _step(points, keep, gain, dead, with_dead_time)
        if counting and round_ == ROUNDS // 2 - 1:
            _, tried, tried_errors = _step(points, keep, gain, 0.0, True)
            with_dead_time = tried > DEAD_TIME_SIGMAS * sqrt(tried_errors[1, 1])
    error = sqrt(errors[0, 0])
    residual, bent = _residual(points, keep, gain, dead)
    reasons = []
    if not gain > 0 or not error < WORST * gain:
        reasons.append(f"known to {error / max(abs(gain), 1e-300):.0%} only: too few frames or electrons")
    if bent > BENT_SIGMAS and residual > BENT_PART:
        reasons.append(
            f"the variance is not proportional to the mean (off by {residual:.0%}): an offset, dead time, or a scene "
            "that moved"
        )
    return GainFit(
        counts_per_electron=gain,
        counts_per_electron_uncertainty=error,
        dead_part=dead,
        dead_part_uncertainty=sqrt(errors[1, 1]) if with_dead_time else nan,
        residual=residual,
        pixels=int(keep.sum()),
        ok=not reasons,
        reason="; ".join(reasons),
    )


def _expected(points: _Points, gain: float, dead: float) -> Array:
    """Variance (Müller, Nucl. Instr. Meth. 112 (1973) 47): g m (1 - m d)² for dead time, plus the read variance."""
    expected: Array = gain * np.maximum(points.signal, 0.0) * (1 - points.signal * dead) ** 2 + points.read
    return expected


def _spread(points: _Points, expected: Array, gain: float) -> Array:
    """Variance of the variances: of a mean squared successive difference (von Neumann 1941), and Poisson's kurtosis."""
    n = points.frames
    spread: Array = expected**2 * (3 * n - 4) / (n - 1) ** 2 + gain**2 * expected / (2 * (n - 1))
    return spread


def _follows(points: _Points, gain: float, dead: float) -> Mask:
    """Pixels whose variance is a likely draw of a gamma distribution about the expected one."""
    expected = np.maximum(_expected(points, gain, dead), 1e-300)
    shape = expected**2 / _spread(points, expected, gain)
    # One quantile for groups of like shape: the inverse is slow.
    steps = np.exp(np.round(np.log(shape) * 10) / 10)
    each, where = np.unique(steps, return_inverse=True)
    low, high = (gammaincinv(each, chance)[where] / steps for chance in (ODD_PIXEL, 1 - ODD_PIXEL))
    ratio = points.variance / expected
    kept: Mask = (ratio >= low) & (ratio <= high)
    return kept


def _step(points: _Points, keep: Mask, gain: float, dead: float, with_dead_time: bool) -> tuple[float, float, Array]:
    """One weighted Gauss-Newton step for gain (and dead time), and the covariance (White's sandwich)."""
    signal = points.signal[keep]
    expected = _expected(points, gain, dead)[keep]
    weight = 1 / np.maximum(_spread(points, _expected(points, gain, dead), gain)[keep], 1e-300)
    live = 1 - signal * dead
    columns = [signal * live**2]
    if with_dead_time:
        columns.append(-2 * gain * signal**2 * live)
    design = np.stack(columns, axis=1)
    left = points.variance[keep] - expected
    inverse = np.linalg.pinv((design * weight[:, None]).T @ design)
    step = inverse @ (design.T @ (weight * left))
    scored = design * (weight * (left - design @ step))[:, None]
    found = inverse @ (scored.T @ scored) @ inverse
    covariance = np.zeros((2, 2))
    covariance[: len(columns), : len(columns)] = found
    return gain + float(step[0]), (dead + float(step[1])) if with_dead_time else 0.0, covariance


def _residual(points: _Points, keep: Mask, gain: float, dead: float) -> tuple[float, float]:
    """Rms deviation of bins of like signal from the line: as a part of the variance, and in the bins' errors."""
    order = np.argsort(points.signal[keep])
    expected = _expected(points, gain, dead)[keep][order]
    spread = _spread(points, _expected(points, gain, dead), gain)[keep][order]
    measured = points.variance[keep][order]
    parts, sigmas = [], []
    for bin_ in np.array_split(np.arange(len(order)), BINS):
        level = float(expected[bin_].mean())
        off = float(measured[bin_].mean()) - level
        parts.append(off / max(level, 1e-300))
        sigmas.append(off * len(bin_) / sqrt(max(float(spread[bin_].sum()), 1e-300)))
    return float(np.sqrt(np.mean(np.square(parts)))), float(np.sqrt(np.mean(np.square(sigmas))))


def _nothing(reason: str) -> GainFit:
    return GainFit(nan, nan, nan, nan, nan, 0, ok=False, reason=reason)
