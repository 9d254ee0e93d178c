"""How fast something fades with fluence: exponential decay of shares of counts, and of what passes have in common."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, inf, isfinite, nan, sqrt

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Values = npt.NDArray[np.float64 | np.complex128]

FEWEST_COUNTS = 100.0
"""Counts that a share needs in each pass: the logarithm of fewer is skewed, and its error with it."""
GROUPS = 24
"""Groups of the jackknife: its error is then known to a seventh, whatever the number of places."""


@dataclass(frozen=True)
class Fading:
    """An exponential decay over the passes of a run."""

    rate: float
    """Per pass: the part that is left falls by exp(-rate) from one to the next; negative where it grows."""
    rate_uncertainty: float
    passes: float
    """From the middle of the first pass to the middle of the last, in doses of one pass."""
    unexposed: float = nan
    """The share, or the power, that the decay has before any dose."""

    @property
    def lost(self) -> float:
        """Part of what the first pass had that the last one lacks."""
        return 1 - exp(min(-self.rate * self.passes, 50.0))

    @property
    def lost_uncertainty(self) -> float:
        """Standard error of ``lost``."""
        return (1 - self.lost) * self.passes * self.rate_uncertainty


def fit_shares(counts: Array, totals: Array, moments: Array, gain: float = 1.0, extra: float = 0.0) -> Fading | None:
    """Decay of the share that a region of the pattern has in all counts.

    Parameters
    ----------
    counts, totals : ndarray, shape (passes,)
        In the region and in the whole pattern [counts]. A change of the current is in both.
    moments : ndarray, shape (passes,)
        Doses that the specimen had by the middle of each pass, in doses of one pass.
    gain : float
        Counts that one electron makes.
    extra : float
        Standard error of a share, as a part of it, that comes on top of counting: another part of the specimen.

    Returns
    -------
    Fading or None
        None where a pass has fewer than FEWEST_COUNTS. The error is that of counting, or the passes' scatter about
        the decay where that is larger (Birge's ratio).
    """
    if not ((counts >= FEWEST_COUNTS) & (totals > 0)).all():
        return None
    share = counts / totals
    variance = gain * np.maximum(1 - share, 0.0) / counts + extra**2
    slope, error, start = _line(np.log(share), np.maximum(variance, 1e-18), moments)
    return Fading(-slope, error, float(moments[-1] - moments[0]), exp(min(start, 50.0)))


def fit_common(passes: Sequence[Values], moments: Array) -> Fading | None:
    """Decay of the power that neighbouring passes have in common, which holds no noise.

    Parameters
    ----------
    passes : sequence of ndarray, shape (values,), real or complex
        Values of a pattern or of a spectrum, one pass each, their mean taken off; at least three passes.
    moments : ndarray, shape (passes,)
        Doses by the middle of each pass.

    Returns
    -------
    Fading or None
        Of the power, which is what intensities are: None where two passes have nothing in common that is surely above
        zero. The error is the jackknife's over groups of values.
    """
    if len(passes) < 3 or passes[0].size < 2 * GROUPS:
        return None
    together = power_in_common(passes)
    middles = (moments[:-1] + moments[1:]) / 2
    group = np.arange(together.shape[1]) % GROUPS
    parts = np.stack([together[:, group == which].sum(axis=1) for which in range(GROUPS)])
    whole = parts.sum(axis=0)
    # Three standard errors of the sum: below them its logarithm means nothing.
    if not (whole > 3 * parts.std(axis=0, ddof=1) * sqrt(GROUPS)).all():
        return None
    even = np.ones(len(middles))
    slope, _, start = _line(np.log(whole), even, middles)
    without = whole - parts
    if not (without > 0).all():
        return None
    slopes = np.array([_line(np.log(each), even, middles)[0] for each in without])
    error = sqrt((GROUPS - 1) / GROUPS * float(((slopes - slopes.mean()) ** 2).sum()))
    return Fading(-slope, error, float(moments[-1] - moments[0]), exp(min(start, 500.0)))


def power_in_common(passes: Sequence[Values]) -> Array:
    """Products of the values that neighbouring passes have of the same thing, (passes - 1, values); free of noise."""
    return np.stack([(one * np.conj(two)).real for one, two in pairwise(passes)])


def critical_fluence(fading: Fading, pass_e_per_a2: float, sigmas: float) -> tuple[float | None, float | None, float]:
    """Fluence at which 1/e is left, its standard error, and what it surely exceeds, so many sigmas [e/Å²].

    The first two are None where no decay is surely there.
    """
    surely = fading.rate + sigmas * fading.rate_uncertainty
    bound = pass_e_per_a2 / surely if surely > 0 else inf
    if not fading.rate > sigmas * fading.rate_uncertainty:
        return None, None, bound
    value = pass_e_per_a2 / fading.rate
    return value, value * fading.rate_uncertainty / fading.rate, bound


def _line(values: Array, variance: Array, at: Array) -> tuple[float, float, float]:
    """Slope of a weighted line, its standard error, by the scatter where that is larger, and the value at 0."""
    weight = 1 / variance
    middle = float((weight * at).sum() / weight.sum())
    spread = float((weight * (at - middle) ** 2).sum())
    if not spread > 0:
        return 0.0, inf, float(values.mean())
    slope = float((weight * (at - middle) * values).sum()) / spread
    level = float((weight * values).sum() / weight.sum())
    rest = values - level - slope * (at - middle)
    free = len(values) - 2
    birge = sqrt(float((weight * rest**2).sum()) / free) if free > 0 else 1.0
    error = max(birge, 1.0) / sqrt(spread)
    return slope, error if isfinite(error) else inf, level - slope * middle
