"""How far two reconstructions of different data agree: their Fourier ring correlation and where it ends."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft
from scipy.ndimage import uniform_filter1d

Array = npt.NDArray[np.float64]

FIXED = 0.143
"""What two halves have where the whole correlates with the truth by 0.5 (Rosenthal and Henderson, J. Mol. Biol. 333,
2003)."""
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
    shape = one.shape
    window = np.hanning(shape[0] + 2)[1:-1, None] * np.hanning(shape[1] + 2)[None, 1:-1]
    first, second = (scipy.fft.fft2((each - np.average(each, weights=window)) * window) for each in (one, other))
    k = np.hypot(scipy.fft.fftfreq(shape[0], pixel_a)[:, None], scipy.fft.fftfreq(shape[1], pixel_a)[None, :])
    width = 1 / (pixel_a * min(shape))
    ring = np.rint(k / width).astype(int)
    number = min(shape) // 2
    inside = ring < number
    which = ring[inside]

    def total(values: npt.NDArray[Any]) -> Array:
        return np.asarray(np.bincount(which, weights=values[inside], minlength=number), dtype=np.float64)

    cross, left, right = total((first * np.conj(second)).real), total(np.abs(first) ** 2), total(np.abs(second) ** 2)
    correlation = cross / np.sqrt(np.maximum(left * right, 1e-300))
    # Σw⁴/(Σw²)² is what a window makes of 1/number of independent values.
    kept = (window**2).sum() ** 2 / (window**4).sum() / window.size
    root = np.sqrt(np.maximum(np.bincount(which, minlength=number) * kept, 1))
    half_bit = (0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root)
    return Rings(np.arange(number) * width, correlation, half_bit)


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
