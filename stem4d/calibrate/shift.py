"""How far one scan image lies from another: masked correlation for the whole pixels, phase slopes for the rest.

The coarse step is the masked normalised cross-correlation (Padfield, IEEE Trans. Image Process. 21 (2012) 2706),
which is blind to missing positions and does not favour a zero shift. The fine step maximises the cross-correlation
of the common part; its error comes from what each place adds to the slope of the correlation at the maximum (White's
sandwich, errors within a feature taken together), so it holds for shot noise on few bright atoms, for features sampled
too coarsely and for changes of the specimen alike. Several images of one scan count together, each by its own noise.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, log, nan, pi, sqrt

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from stem4d.calibrate.robust import spread_of
from stem4d.errors import BadInput

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Complex = npt.NDArray[np.complex128]

SMALLEST_PX = 8
MOST_PX = 512
"""The fine step looks at the middle of larger fields: it is exact enough there."""
MIN_OVERLAP = 0.4
"""Part of the field that two images must share: larger shifts are not looked for."""
BEYOND_CHANCE = 1.0
"""Sigmas that the peak must stand above the highest one that unrelated images give among all shifts looked at."""
RIVAL = 0.75
"""A second peak this high, as a part of the first, makes the shift ambiguous."""
TAPER = 0.5
"""Part of the common field over which the images are faded out at the borders."""
FEW_SAMPLES = 15.0
"""The error grows where the images hold few independent features; found on simulated images of 6 to 1000 of them."""
FLOOR_PX = 0.002
"""Error that stays however strong the images are: the windows and the interpolation."""
ALIKE_PX = 5
"""Distance [px] from which on errors are taken as independent: a feature's width, as scan steps are chosen."""
HIGHEST = 0.9
"""Part of the Nyquist frequency that is used: features sampled too coarsely fold back above it."""
RINGS = 24
"""Most rings of frequencies that are weighted together; in small fields a ring is two steps of frequency."""
REPEATS = 0.5
"""Correlation from which on a second peak means a specimen that repeats itself, and not noise."""
MOST_FITTED = 100_000
"""Positions, evenly spread, that a surface is fitted to."""
LARGEST_ERROR_PX = 1.0
"""A shift that is known no better is no shift."""


@dataclass(frozen=True)
class Shift:
    """Where the contents of the second image lie, relative to the first."""

    shift_px: tuple[float, float]
    """(y, x): a feature at p in the first image is at p + shift in the second."""
    covariance_px2: Array
    """(2, 2), of the shift."""
    peak: float
    """Correlation at the maximum, up to 1."""
    rival_px: tuple[float, float] | None
    """Another shift that fits nearly as well: the specimen repeats itself."""
    ok: bool
    reason: str
    """Why ``ok`` is false; empty otherwise."""
    shortest_px: float = nan
    """Length of the shortest whole shift that fits nearly as well, the best one included."""


def register(first: Sequence[Array], second: Sequence[Array], seen_first: Mask, seen_second: Mask) -> Shift:
    """Measure the shift between two scans of the same area.

    Parameters
    ----------
    first, second : sequence of ndarray, shape (scan_y, scan_x)
        Images of each scan (virtual images, total, centres of mass), in the same order. A fitted plane or
        quadratic surface should be taken off where something else than the specimen makes one.
    seen_first, seen_second : ndarray of bool, shape (scan_y, scan_x)
        Recorded positions.

    Returns
    -------
    Shift
        ``ok`` is false with a reason where the images do not determine it.

    Raises
    ------
    BadInput
        If the images differ in number or shape.
    """
    _check(first, second, seen_first, seen_second)
    shape = seen_first.shape
    if min(shape) < SMALLEST_PX:
        return _nothing(f"{shape[0]} x {shape[1]} positions are too few to register; it takes {SMALLEST_PX} each way")
    if not seen_first.any() or not seen_second.any():
        return _nothing("nothing was recorded")
    pairs = _normalised(first, second, seen_first, seen_second)
    if not pairs:
        return _nothing("the images show nothing above their noise")
    surface, overlap = _correlation(pairs, seen_first, seen_second)
    area = _shared_area(pairs)
    coarse, peak, rival, shortest, samples = _peak(surface, overlap / area)
    significance = float(np.arctanh(min(max(peak, 0.0), 0.999))) * sqrt(max(samples - 3, 0.0))
    repeats = rival is not None and peak > REPEATS
    by_chance = sqrt(2 * log(max(float((surface > -1).sum()) / area, 2.0)))
    if significance < by_chance + BEYOND_CHANCE and not repeats:
        return _nothing(f"too few features in common: correlation {peak:.2f}, {significance:.1f} sigma")
    shift, covariance = _refine(pairs, seen_first, seen_second, coarse)
    covariance = covariance * (1 + FEW_SAMPLES / max(samples - 3, 1.0)) + FLOOR_PX**2 * np.eye(2)
    error = float(np.sqrt(np.trace(covariance)))
    if not repeats and not error <= LARGEST_ERROR_PX:
        return _nothing("the images determine the shift to no better than a scan step")
    reason = "" if rival is None else f"the specimen repeats itself: a shift of {rival} px (y, x) fits as well"
    return Shift(shift, covariance, peak, rival, ok=rival is None, reason=reason, shortest_px=shortest)


def without_surface(image: npt.NDArray[np.number], seen: Mask, order: int) -> Array:
    """An image less its least-squares polynomial surface of order 0, 1 or 2; zero where it was not recorded."""
    values = np.where(seen, image, 0.0).astype(np.float64)
    if seen.sum() < 10:
        return np.zeros(values.shape)
    y, x = (np.linspace(-1, 1, n) for n in seen.shape)
    rows, columns = np.nonzero(seen)
    # So many positions fix a few coefficients: all of a large scan would take gigabytes.
    some = slice(None, None, max(len(rows) // MOST_FITTED, 1))
    powers = [(i, j) for i in range(order + 1) for j in range(order + 1 - i)]
    design = np.stack([y[rows[some]] ** i * x[columns[some]] ** j for i, j in powers], axis=-1)
    coefficients = np.zeros((order + 1, order + 1))
    found = np.linalg.lstsq(design, values[rows[some], columns[some]], rcond=None)[0]
    coefficients[tuple(np.transpose(powers))] = found
    return np.where(seen, values - np.polynomial.polynomial.polygrid2d(y, x, coefficients), 0.0)


def _check(first: Sequence[Array], second: Sequence[Array], seen_first: Mask, seen_second: Mask) -> None:
    shapes = {image.shape for image in (*first, *second, seen_first, seen_second)}
    if len(shapes) != 1 or len(first) != len(second) or seen_first.ndim != 2:
        raise BadInput(field="images", value=sorted(shapes), limit="must be pairs of one shape (scan_y, scan_x)")


def white_noise(image: Array, seen: Mask) -> float:
    """Standard deviation of the noise: what a second difference along both axes leaves (Immerkaer 1996)."""
    kernel = np.array([[1.0, -2.0, 1.0], [-2.0, 4.0, -2.0], [1.0, -2.0, 1.0]])
    inner = ndimage.binary_erosion(seen, np.ones((3, 3)), border_value=0)
    if not inner.any():
        return float(image[seen].std()) if seen.any() else 0.0
    return spread_of(ndimage.convolve(image, kernel, mode="nearest")[inner]) / 6


def _normalised(
    first: Sequence[Array], second: Sequence[Array], seen_first: Mask, seen_second: Mask
) -> list[tuple[Array, Array]]:
    """Pairs in units of their own noise, so that they add up as likelihoods do."""
    pairs = []
    for one, other in zip(first, second, strict=True):
        noises = white_noise(one, seen_first), white_noise(other, seen_second)
        spreads = float(one[seen_first].std()), float(other[seen_second].std())
        if not all(isfinite(each) and each > 0 for each in spreads):
            continue
        scales = [max(noise, 0.05 * spread) for noise, spread in zip(noises, spreads, strict=True)]
        pairs.append((np.where(seen_first, one, 0.0) / scales[0], np.where(seen_second, other, 0.0) / scales[1]))
    return pairs


def _correlation(pairs: Sequence[tuple[Array, Array]], seen_first: Mask, seen_second: Mask) -> tuple[Array, Array]:
    """Masked normalised cross-correlation of all pairs and the positions it rests on, zero shift in the middle.

    The correlation is -1 where too little overlaps.
    """
    shape = seen_first.shape
    padded = tuple(fft.next_fast_len(2 * n - 1, real=True) for n in shape)

    def spectrum(image: Array) -> Complex:
        return np.asarray(fft.rfft2(image, padded))

    def against(one: Complex, other: Complex) -> Array:
        whole = fft.irfft2(np.conj(one) * other, padded)
        rolled = np.roll(whole, (shape[0] - 1, shape[1] - 1), axis=(0, 1))
        return np.asarray(rolled[: 2 * shape[0] - 1, : 2 * shape[1] - 1])

    mask_a, mask_b = spectrum(seen_first.astype(np.float64)), spectrum(seen_second.astype(np.float64))
    number = np.maximum(np.round(against(mask_a, mask_b)), 1.0)
    above, below_a, below_b = np.zeros(number.shape), np.zeros(number.shape), np.zeros(number.shape)
    for one, other in pairs:
        a, b = spectrum(one), spectrum(other)
        mean_a, mean_b = against(a, mask_b), against(mask_a, b)
        above += against(a, b) - mean_a * mean_b / number
        below_a += against(spectrum(one**2), mask_b) - mean_a**2 / number
        below_b += against(mask_a, spectrum(other**2)) - mean_b**2 / number
    scale = np.sqrt(np.maximum(below_a, 0.0) * np.maximum(below_b, 0.0))
    usable = (number >= MIN_OVERLAP * seen_first.size) & (scale > 1e-9 * scale.max())
    return np.where(usable, above / np.where(usable, scale, 1.0), -1.0), number


def _shared_area(pairs: Sequence[tuple[Array, Array]]) -> float:
    """Positions that make one independent sample of the correlation of unrelated images (Bartlett 1946)."""
    area = 1.0
    for one, other in pairs:
        a, b = (np.abs(fft.fft2(image - image.mean())) ** 2 for image in (one, other))
        area = max(area, a.size * float((a * b).sum()) / max(float(a.sum()) * float(b.sum()), 1e-300))
    return area


def _peak(surface: Array, samples: Array) -> tuple[tuple[int, int], float, tuple[int, int] | None, float, float]:
    """Whole-pixel maximum, its height, a rival peak if there is one, the shortest shift that fits, and the independent
    samples under the maximum."""
    middle = np.array(surface.shape) // 2
    top = np.unravel_index(int(np.argmax(surface)), surface.shape)
    peak = float(surface[top])
    # The main peak ends where the correlation falls below half of it.
    lobes, _ = ndimage.label(surface > 0.5 * peak)
    others = np.where(lobes == lobes[top], -1.0, surface)
    second = np.unravel_index(int(np.argmax(others)), surface.shape)
    rival = None
    if peak > 0 and float(others[second]) > RIVAL * peak:
        rival = (int(second[0] - middle[0]), int(second[1] - middle[1]))
    fitting = np.argwhere(surface >= min(RIVAL * peak, peak)) - middle
    shortest = float(np.hypot(*fitting.T).min())
    return (int(top[0] - middle[0]), int(top[1] - middle[1])), peak, rival, shortest, float(samples[top])


def _common(image: Array, seen: Mask, lead: tuple[int, int]) -> tuple[Array, Mask]:
    """The part of an image that is shared when the other one lies ``lead`` further on; its middle if it is large."""
    window = []
    for ahead, size in zip(lead, image.shape, strict=True):
        start, stop = max(-ahead, 0), size - max(ahead, 0)
        spare = max(stop - start - MOST_PX, 0) // 2
        window.append(slice(start + spare, stop - spare))
    return image[window[0], window[1]], seen[window[0], window[1]]


def _refine(
    pairs: Sequence[tuple[Array, Array]], seen_first: Mask, seen_second: Mask, coarse: tuple[int, int]
) -> tuple[tuple[float, float], Array]:
    """Sub-pixel shift of the common part by Newton's method on the weighted cross-spectrum, and its covariance."""
    commons = [
        (*_common(one, seen_first, coarse), *_common(other, seen_second, (-coarse[0], -coarse[1])))
        for one, other in pairs
    ]
    rest, covariance = np.zeros(2), np.full((2, 2), nan)
    for _ in range(12):
        before = rest
        # The second image's window moves with its contents: a fixed one would pull the shift towards its own.
        spectra = _spectra(commons, rest)
        cross = np.sum([np.conj(a) * b for a, b in spectra], axis=0)
        power = np.sum([np.abs(a) * np.abs(b) for a, b in spectra], axis=0)
        ky, kx = (2 * pi * k for k in np.meshgrid(*(fft.fftfreq(n) for n in cross.shape), indexing="ij"))
        turned = cross * np.exp(1j * (ky * rest[0] + kx * rest[1]))
        weight = _weight(turned, power, np.hypot(ky, kx))
        rest, inverse = _climb(cross * weight, ky, kx, rest)
        covariance = inverse @ _scatter_of_score(spectra, weight, ky, kx, rest) @ inverse
        if np.abs(rest).max() > 1.5:
            return (float(coarse[0]), float(coarse[1])), np.full((2, 2), nan)
        if np.abs(rest - before).max() < 2e-3:
            break
    return (coarse[0] + float(rest[0]), coarse[1] + float(rest[1])), covariance


def _spectra(commons: Sequence[tuple[Array, Mask, Array, Mask]], rest: Array) -> list[tuple[Complex, Complex]]:
    """Transforms of the two images of every pair, faded out at the borders."""
    shape = commons[0][0].shape
    still = np.outer(*(_taper(n, 0.0) for n in shape))
    moved = np.outer(*(_taper(n, by) for n, by in zip(shape, rest, strict=True)))

    def spectrum(image: Array, window: Array) -> Complex:
        mean = float((image * window).sum()) / max(float(window.sum()), 1e-300)
        return np.asarray(fft.fft2((image - mean) * window))

    return [(spectrum(a, still * seen_a), spectrum(b, moved * seen_b)) for a, seen_a, b, seen_b in commons]


def _scatter_of_score(
    spectra: Sequence[tuple[Complex, Complex]], weight: Array, ky: Array, kx: Array, rest: Array
) -> Array:
    """Covariance (2, 2) of the gradient of the weighted cross-correlation, from what every place adds to it.

    By Parseval the gradient is the sum over places of the slope of the mean image times the difference of the two. It
    is zero at the maximum; its parts are not. Noise that sits on the bright features, features sampled too coarsely,
    and what enters at the borders all show in them, which the phases of a spectrum, taken as independent, do not.
    """
    half, back = np.sqrt(weight), np.exp(1j * (ky * rest[0] + kx * rest[1]))
    parts, say = np.zeros((2, *weight.shape)), np.zeros(weight.shape)
    for a, b in spectra:
        mean, difference = half * (a + b * back) / 2, fft.ifft2(half * (b * back - a)).real
        slopes = np.stack([fft.ifft2(1j * k * mean).real for k in (ky, kx)])
        parts += slopes * difference
        say += (slopes**2).sum(axis=0)
    parts *= weight.size
    # The fit goes along with the features that have the most say: what it leaves there is too small by that (HC3).
    followed = min(float((say * _nearby(say)).sum()) / max(float(say.sum()) ** 2, 1e-300), 0.9)
    around = np.stack([_nearby(each) for each in parts])
    return np.asarray(np.einsum("iyx,jyx->ij", parts, around)) / (1 - followed) ** 2


def _nearby(values: Array) -> Array:
    """Sum over the neighbours whose errors go together (Newey and West's weights: positive definite)."""
    window = np.bartlett(2 * ALIKE_PX + 1)[1:-1]
    once = ndimage.convolve1d(values, window, 0, mode="constant")
    return np.asarray(ndimage.convolve1d(once, window, 1, mode="constant"))


def _taper(number: int, by: float) -> Array:
    """Tukey's window over ``number`` samples, moved by a fraction of one."""
    at = (np.arange(number) - by + 0.5) / number
    near = np.clip(np.minimum(at, 1 - at), 0.0, 1.0)
    fading: Array = np.where(near < TAPER / 2, 0.5 - 0.5 * np.cos(2 * pi * near / TAPER), 1.0)
    return fading


def _weight(turned: Complex, power: Array, k: Array) -> Array:
    """Weight of each frequency ring by how far the two images agree there: S/(2S + N) with signal S and noise N.

    The maximum-likelihood weight of Hannan and Thomson (1973) for noise that is white, as shot noise is.
    """
    rings = min(RINGS, max(min(k.shape) // 2, 1))
    ring = np.minimum((k / (HIGHEST * pi) * rings).astype(int), rings).ravel()
    number = np.maximum(np.bincount(ring, minlength=rings + 1), 1)
    strength = np.bincount(ring, weights=power.ravel(), minlength=rings + 1)
    agreement = np.bincount(ring, weights=turned.real.ravel(), minlength=rings + 1) / np.maximum(strength, 1e-300)
    agreement = np.where(agreement > 2 / np.sqrt(number / 2), agreement, 0.0)
    # The corners beyond the last ring carry no sign of the shift.
    agreement[rings] = 0.0
    weights: Array = (agreement / (1 + agreement))[ring].reshape(k.shape)
    return weights


def _climb(cross: Complex, ky: Array, kx: Array, start: npt.NDArray[np.float64]) -> tuple[Array, Array]:
    """The maximum of the cross-correlation next to ``start`` and its inverse curvature there."""
    rest, inverse = start.copy(), np.full((2, 2), nan)
    for _ in range(15):
        turned = cross * np.exp(1j * (ky * rest[0] + kx * rest[1]))
        gradient = -np.array([(ky * turned.imag).sum(), (kx * turned.imag).sum()])
        curvature = _second_moments(ky, kx, turned.real)
        if np.linalg.eigvalsh(curvature).min() <= 1e-12 * abs(np.trace(curvature)):
            return rest, np.full((2, 2), nan)
        inverse = np.linalg.inv(curvature)
        step = np.clip(inverse @ gradient, -0.5, 0.5)
        rest = rest + step
        if np.abs(step).max() < 1e-4:
            break
    return rest, inverse


def _second_moments(ky: Array, kx: Array, density: Array) -> Array:
    mixed = float((ky * kx * density).sum())
    return np.array([[float((ky**2 * density).sum()), mixed], [mixed, float((kx**2 * density).sum())]])


def _nothing(reason: str) -> Shift:
    return Shift((nan, nan), np.full((2, 2), nan), nan, None, ok=False, reason=reason)
