"""How far two reconstructions of different data agree: their Fourier ring correlation and where it ends."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy.ndimage import uniform_filter1d

from stem4d.analyse.ring_correlation import correlation_by_ring, edge_window

Array = npt.NDArray[np.float64]

SMOOTHED_RINGS = 3


@dataclass(frozen=True)
class Rings:
    """Correlation over spatial frequency."""

    k_per_a: Array
    correlation: Array
    half_bit: Array
    """Threshold of each ring."""


@dataclass(frozen=True)
class Ends:
    """Where a correlation falls below a threshold; a period is twice its half-period."""

    full_period_a: float
    reached: bool
    """False where it holds to the highest frequency: the period is then the data's limit, not the noise's."""


def ring_correlation(one: npt.NDArray[Any], other: npt.NDArray[Any], pixel_a: float) -> Rings:
    """Correlation of two complex images (y, x) of one field, ring by ring up to the Nyquist frequency.

    The half-bit threshold is (0.2071 + 1.9102/√n)/(1.2071 + 0.9102/√n), n the independent frequencies of a ring (van
    Heel and Schatz, J. Struct. Biol. 151, 2005); the window against the edges' cross leaves part of them.
    """
    number = min(one.shape) // 2
    correlation, count = correlation_by_ring(one, other, 1, number)
    window = edge_window(one.shape)
    # Σw⁴/(Σw²)² is what a window makes of 1/number of independent values.
    kept = (window**2).sum() ** 2 / (window**4).sum() / window.size
    root = np.sqrt(np.maximum(count * kept, 1))
    half_bit = (0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root)
    return Rings(np.arange(number) / (pixel_a * min(one.shape)), correlation, half_bit)


def ends_at(rings: Rings, threshold: Array | float) -> Ends:
    """The first frequency at which the correlation, smoothed over three rings, is below a threshold."""
    curve = uniform_filter1d(rings.correlation, SMOOTHED_RINGS, mode="nearest")
    margin = (curve - threshold)[1:]
    k = rings.k_per_a[1:]
    below = np.flatnonzero(margin < 0)
    if not below.size:
        return Ends(1 / float(k[-1]), False)
    at = int(below[0])
    if at == 0:
        return Ends(1 / float(k[0]), True)
    part = margin[at - 1] / (margin[at - 1] - margin[at])
    return Ends(1 / float(k[at - 1] + part * (k[at] - k[at - 1])), True)


def aligned(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """``other`` moved by fractions of a pixel onto ``one``: objects and probes may shift together."""
    cross = scipy.fft.fft2(one - one.mean()) * np.conj(scipy.fft.fft2(other - other.mean()))
    peak = np.abs(scipy.fft.ifft2(cross))
    at = np.array(np.unravel_index(int(np.argmax(peak)), peak.shape))
    shift = []
    for axis in (0, 1):
        line = [float(np.take(np.roll(peak, step, axis), at[axis], axis)[at[1 - axis]]) for step in (1, 0, -1)]
        bend = line[0] - 2 * line[1] + line[2]
        size = peak.shape[axis]
        whole = (at[axis] + size // 2) % size - size // 2
        shift.append(whole + (0.5 * (line[0] - line[2]) / bend if bend < 0 else 0.0))
    ky, kx = (scipy.fft.fftfreq(n) for n in other.shape)
    ramp = np.exp(-2j * np.pi * (ky[:, None] * shift[0] + kx[None, :] * shift[1]))
    return np.asarray(scipy.fft.ifft2(scipy.fft.fft2(other) * ramp))
