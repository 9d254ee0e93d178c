"""Plane waves in scan images: their frequencies to a part of a spectral element, with errors from the noise around."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi, sqrt

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from stem4d.calibrate.robust import spread_of

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

STANDS_OUT = 25.0
"""Power over the mean of its surroundings. The power of speckle is spread exponentially: among 1e5 elements the highest
is 12 times the mean, so amorphous films do not reach this."""
CUT_OFF = 8.0
"""Robust standard deviations beyond which an image is cut off."""
MOST_PEAKS = 24
PADDED = 2
NEWTON = 12


@dataclass(frozen=True)
class Peak:
    """A wave; half of them are given, the others being their opposites."""

    at: tuple[float, float]
    """Frequency (y, x) [cycles per index]."""
    uncertainty: tuple[float, float]
    power: float
    """Over the mean power around it."""


def find_peaks(images: Sequence[npt.NDArray[np.floating]], recorded: Mask, lowest: float) -> list[Peak]:
    """Waves above a frequency that stand out of the spectrum around them, the strongest first.

    The images' spectra are added, each over its own noise; since they may show the same speckle, what must stand out
    does not get less with their number.
    """
    window, flat = _window(recorded)
    ready = [each for image in images if (each := _prepared(image, recorded, window)) is not None]
    if not ready:
        return []
    shape = tuple(fft.next_fast_len(PADDED * n) for n in recorded.shape)
    ky, kx = np.meshgrid(*(fft.fftfreq(n) for n in shape), indexing="ij")
    width = [max(size // 8, 6) for size in recorded.shape]
    ratio, around = np.zeros(shape), []
    for image in ready:
        power = np.abs(fft.fft2(image, shape)) ** 2
        # Mean of an exponential from its median, which a peak in the box does not move.
        step = tuple(slice(None, None, PADDED) for _ in range(2))
        coarse: Array = ndimage.median_filter(power[step], size=width, mode="wrap") / np.log(2)
        level = np.kron(coarse, np.ones((PADDED, PADDED)))[: shape[0], : shape[1]]
        level = np.maximum(level, 1e-12 * float(power.max()) + 1e-300)
        around.append(level)
        ratio += power / level / len(ready)
    high = (np.hypot(ky, kx) > lowest) & ((ky > 0) | ((ky == 0) & (kx > 0)))
    top = (ratio == ndimage.maximum_filter(ratio, size=3 * PADDED + 1, mode="wrap")) & high & (ratio > STANDS_OUT)
    found = np.argwhere(top)
    order = np.argsort(ratio[top])[::-1][:MOST_PEAKS]
    peaks = []
    for row, column in found[order]:
        levels = [float(level[row, column]) for level in around]
        peak = _refine(ready, window, flat, (float(ky[row, column]), float(kx[row, column])), levels)
        if peak is not None:
            peaks.append(Peak(*peak, float(ratio[row, column])))
    return peaks


def _window(recorded: Mask) -> tuple[Array, tuple[Array, Array]]:
    """Hann's window over the recorded rectangle, and index coordinates from its middle."""
    rows, columns = np.nonzero(recorded)
    sides = []
    for at, number in ((rows, recorded.shape[0]), (columns, recorded.shape[1])):
        low, high = (int(at.min()), int(at.max())) if len(at) else (0, number - 1)
        index = (np.arange(number) - low + 0.5) / (high - low + 1)
        sides.append(np.where((index > 0) & (index < 1), np.sin(pi * np.clip(index, 0, 1)) ** 2, 0.0))
    window = np.outer(*sides) * recorded
    total = max(float(window.sum()), 1e-300)
    y, x = np.arange(recorded.shape[0], dtype=np.float64), np.arange(recorded.shape[1], dtype=np.float64)
    middle = float((window.sum(axis=1) * y).sum()) / total, float((window.sum(axis=0) * x).sum()) / total
    return window, (y - middle[0], x - middle[1])


def _prepared(image: npt.NDArray[np.floating], recorded: Mask, window: Array) -> Array | None:
    """The windowed image less a plane; None where it does not vary."""
    values = np.where(recorded & np.isfinite(image), image, np.nan).astype(np.float64)
    use = np.isfinite(values)
    if use.sum() < 64:
        return None
    # What a few broken positions would spread over the spectrum is cut off before it can hide the lattice.
    middle = float(np.median(values[use]))
    usual = CUT_OFF * spread_of(values[use] - middle)
    if usual > 0:
        values[use] = np.clip(values[use], middle - usual, middle + usual)
    grid = np.indices(values.shape, dtype=np.float64)
    y, x = grid[0], grid[1]
    design = np.stack([np.ones(use.sum()), y[use] / values.shape[0], x[use] / values.shape[1]], axis=1)
    plane = design @ np.linalg.lstsq(design, values[use], rcond=None)[0]
    left = np.zeros(values.shape)
    left[use] = values[use] - plane
    spread = float(left[use].std())
    if not spread > 1e-12 * max(float(np.abs(values[use]).max()), 1e-300):
        return None
    return np.asarray(left / spread * window)


def _refine(
    images: Sequence[Array], window: Array, index: tuple[Array, Array], start: tuple[float, float], levels: list[float]
) -> tuple[tuple[float, float], tuple[float, float]] | None:
    """The maximum of the summed power near a start, and its standard errors.

    A wave a exp(2πi k n) in noise of variance N per position, seen through a window w, has its maximum off by a
    variance (N/2) Σ w² n² / (2π |a| Σ w n²)² along each axis (first order in the noise).
    """
    y, x = index
    k = np.array(start)
    moments = [
        (float((window * each).sum()), float((window**2 * each).sum()))
        for each in (np.ones_like(window), (y**2)[:, None], (x**2)[None, :])
    ]
    for _ in range(NEWTON):
        gradient, curvature, strength = np.zeros(2), np.zeros((2, 2)), 0.0
        for image, level in zip(images, levels, strict=True):
            wave_y, wave_x = np.exp(-2j * pi * k[0] * y), np.exp(-2j * pi * k[1] * x)
            rows = image @ np.stack([wave_x, wave_x * x, wave_x * x * x], axis=1)
            f = np.stack([wave_y, wave_y * y, wave_y * y * y]) @ rows
            c = -2j * pi
            first = np.array([c * f[1, 0], c * f[0, 1]])
            second = np.array([[c * c * f[2, 0], c * c * f[1, 1]], [c * c * f[1, 1], c * c * f[0, 2]]])
            gradient += 2 * (np.conj(f[0, 0]) * first).real / level
            curvature += 2 * ((np.conj(first)[:, None] * first[None]) + np.conj(f[0, 0]) * second).real / level
            strength += float(np.abs(f[0, 0]) ** 2) / level
        if not np.linalg.eigvalsh(curvature).max() < 0:
            return None
        step = -np.linalg.solve(curvature, gradient)
        k = k + np.clip(step, -0.5 / len(y), 0.5 / len(y))
        if np.abs(step).max() < 1e-8:
            break
    if np.abs((k - start) * (len(y), len(x))).max() > 1.5:
        return None
    # Signal |a| Σw over noise sqrt(N Σw²): |a|²/N. Images of one scan may share their noise: the best one counts.
    best = max(float(np.abs(_at(image, index, k)) ** 2) / level for image, level in zip(images, levels, strict=True))
    ratio = best * moments[0][1] / moments[0][0] ** 2
    errors = [sqrt(0.5 * squares / max(ratio, 1e-300)) / (2 * pi * plain) for plain, squares in moments[1:]]
    return (float(k[0]), float(k[1])), (errors[0], errors[1])


def _at(image: Array, index: tuple[Array, Array], k: Array) -> complex:
    y, x = index
    return complex(np.exp(-2j * pi * k[0] * y) @ image @ np.exp(-2j * pi * k[1] * x))
