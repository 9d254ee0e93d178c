"""Tilted images in Fourier space, and the coarse search for the defocus, turn and handedness that align them."""

from dataclasses import dataclass
from math import ceil, pi, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy import fft

from stem4d.calibrate.angles import TiltImages
from stem4d.calibrate.tilt_model import ROTATION, Geometry, shifts_nm, without_common

Array = npt.NDArray[np.float64]
Waves = npt.NDArray[np.complexfloating[Any, Any]]
Mask = npt.NDArray[np.bool_]

MOST_PX = 96
"""Of larger fields the middle is used: it is exact enough."""
MOST_FREQUENCIES = 400
"""The strongest that are fitted; the rest of a large field adds time and little else."""
TAPER = 0.2
"""Part of the field over which the images fade at each border."""
LONGEST_WAVES = 1.5
"""Waves over the field below which a coefficient belongs to drift of the beam and to the window."""
SEARCHED = 0.5
"""How far from the nominal defocus is searched, as a part of it."""
COARSE_IMAGES = 48
COARSE_FREQUENCIES = 150
"""Images and frequencies that the coarse search looks at."""
ROUGH_IMAGES = 64
ROUGH_FREQUENCIES = 200
"""Those by which the candidates are refined."""
COARSE_STEP = 0.7
"""Step of the coarse search, as the movement of the outermost image [scan steps]."""
CANDIDATES = 4
"""Maxima of each handedness that are refined."""


@dataclass(frozen=True)
class Stack:
    """Contrast of the images over the part of the field that is used, and where their frequencies lie."""

    contrast: Array
    """(T, y, x): counts over the image's mean and the frame's total, minus 1."""
    dark_field: Array
    """(y, x) contrast of the dark field, 0 without one."""
    chosen: Mask
    """(y, x) frequencies that are fitted: one of each pair."""
    step_nm: float


def stack(images: TiltImages, step_nm: float, highest_per_nm: float, most: int | None = MOST_FREQUENCIES) -> Stack:
    """Normalise the images and choose the frequencies up to ``highest_per_nm``, or only so many, the strongest."""
    cut = tuple(slice((n - min(n, MOST_PX)) // 2, (n + min(n, MOST_PX)) // 2) for n in images.recorded.shape)
    counts = images.images[:, cut[0], cut[1]].astype(np.float64)
    total = counts.sum(axis=0)
    seen = images.recorded[cut] & (total > 0)
    mean = counts[:, seen].mean(axis=1)
    beam = np.where(seen, total / total[seen].mean(), 1.0)
    contrast = np.where(seen, counts / (mean[:, None, None] * beam) - 1, 0.0)
    dark = images.dark_field[cut].astype(np.float64)
    level = float(dark[seen].mean())
    dark = np.where(seen, dark / level / beam - 1, 0.0) if level > 0 else np.zeros(dark.shape)
    ky, kx = np.meshgrid(*(fft.fftfreq(n) for n in seen.shape), indexing="ij")
    waves = np.hypot(ky * seen.shape[0], kx * seen.shape[1])
    # One of each pair of conjugates; Nyquist's frequency has no direction.
    half = ((ky > 0) | ((ky == 0) & (kx > 0))) & (np.abs(ky) < 0.499) & (np.abs(kx) < 0.499)
    half &= (waves > LONGEST_WAVES) & (np.hypot(ky, kx) < highest_per_nm * step_nm)
    made = Stack(contrast, dark, half, step_nm)
    if most is not None and half.sum() > most:
        power = (np.abs(spectra(made, np.zeros((len(contrast), 2)), np.sqrt(mean))[0]) ** 2).sum(axis=0)
        weakest = np.nonzero(half.ravel())[0][np.argsort(power)[:-most]]
        half.ravel()[weakest] = False
    return made


def lighter(made: Stack, geometry: Geometry) -> tuple[Stack, Geometry]:
    """Fewer images and only the strongest frequencies: enough to tell the candidates apart."""
    every = np.unique(np.linspace(0, len(made.contrast) - 1, ROUGH_IMAGES).astype(int))
    power = (np.abs(spectra(made, np.zeros((len(made.contrast), 2)), geometry.weights)[0]) ** 2).sum(axis=0)
    chosen = made.chosen.copy()
    chosen.ravel()[np.nonzero(made.chosen.ravel())[0][np.argsort(power)[:-ROUGH_FREQUENCIES]]] = False
    less = Stack(made.contrast[every], made.dark_field, chosen, made.step_nm)
    at = (geometry.angles[every], frequencies(less), geometry.alpha, geometry.soft, geometry.wavelength_nm)
    return less, Geometry(*at, geometry.weights[every])


def frequencies(made: Stack) -> Waves:
    """Chosen frequencies x + iy in the scan frame [1/nm]."""
    ky, kx = np.meshgrid(*(fft.fftfreq(n, made.step_nm) for n in made.chosen.shape), indexing="ij")
    found: Waves = kx[made.chosen] + 1j * ky[made.chosen]
    return found


def spectra(made: Stack, shifts: Array, weights: Array) -> tuple[Waves, float, float]:
    """Coefficients (T, K) of the images under windows that move with them, weighted.

    Also the noise power of a coefficient if the counts are Poisson's, and by how much the windows make neighbouring
    coefficients share it. A window that stood still would pull all shifts towards none.
    """
    shape = made.chosen.shape
    by = shifts / made.step_nm
    reach = np.abs(by).max(axis=0)
    rows, columns = (_fading(shape[axis], by[:, axis], float(reach[axis])) for axis in (0, 1))
    window = rows[:, :, None] * columns[:, None, :]
    mean = (made.contrast * window).sum((1, 2)) / window.sum((1, 2))
    values = fft.fft2((made.contrast - mean[:, None, None]) * window)[:, made.chosen]
    energy = float((window**2).sum((1, 2)).mean())
    spread = window[0].size * float((window**4).sum((1, 2)).mean()) / energy**2
    return without_common((values * weights[:, None]).astype(np.complex64), weights), energy, spread


def dark_spectrum(made: Stack, reach_px: Array) -> Waves:
    """Coefficients (K,) of the dark field under the window of an image that is not moved."""
    still = [_fading(n, np.zeros(1), float(reach))[0] for n, reach in zip(made.chosen.shape, reach_px, strict=True)]
    window = np.outer(*still)
    mean = float((made.dark_field * window).sum() / window.sum())
    found: Waves = fft.fft2((made.dark_field - mean) * window)[made.chosen]
    return found


def _fading(number: int, by: Array, reach: float) -> Array:
    """Tukey's windows (T, number), moved by fractions of a sample within a field that is ``reach`` larger."""
    at = (np.arange(number)[None, :] - by[:, None] + 0.5 - reach) / (number - 2 * reach)
    near = np.clip(np.minimum(at, 1 - at), 0.0, 1.0)
    fading: Array = np.where(near < TAPER, np.sin(pi * near / (2 * TAPER)) ** 2, 1.0)
    return fading


def search(
    data: Waves, geometry: Geometry, nominal_defocus_nm: float, step_nm: float
) -> tuple[list[tuple[float, Array]], float]:
    """Best starts (likelihood, first-order values) for one handedness, and the median likelihood over the grid."""
    small, seen = thinned(geometry, data, COARSE_IMAGES, COARSE_FREQUENCIES)
    reach = abs(nominal_defocus_nm) * float(np.abs(geometry.angles).max()) / step_nm
    turns = np.arange(0.0, 2 * pi, 2 * pi / max(24, ceil(2 * pi * reach / COARSE_STEP)))
    parts = np.linspace(1 - SEARCHED, 1 + SEARCHED, max(9, ceil(2 * SEARCHED * reach / COARSE_STEP)))
    like = np.empty((len(parts), len(turns)))
    unit = shifts_nm(small, np.array([-nominal_defocus_nm, 0.0, 0.0, 0.0]))
    kx, ky = small.frequencies.real[None, :], small.frequencies.imag[None, :]
    least = 1e-6 * float((small.weights**2).sum())
    for j, turn in enumerate(turns):
        c, s = np.cos(turn), np.sin(turn)
        phase = -2 * pi * (ky * (unit[:, :1] * c - unit[:, 1:] * s) + kx * (unit[:, :1] * s + unit[:, 1:] * c))
        like[:, j] = _likelihoods(phase, parts[0], parts[1] - parts[0], len(parts), small.weights, seen, least)
    starts = []
    left = like.copy()
    for _ in range(CANDIDATES):
        i, j = (int(each) for each in np.unravel_index(int(np.argmax(left)), left.shape))
        values = np.zeros(4)
        values[0], values[ROTATION] = -nominal_defocus_nm * parts[i], turns[j]
        starts.append((float(like[i, j]), values))
        near = np.minimum(np.abs(np.arange(len(turns)) - j), len(turns) - np.abs(np.arange(len(turns)) - j)) <= 1
        left[np.ix_(np.abs(np.arange(len(parts)) - i) <= 1, near)] = -1.0
    return starts, float(np.median(like))


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _likelihoods(phase: Any, first: float, step: float, number: int, weights: Any, seen: Any, least: float) -> Any:
    """Likelihood of ``number`` multiples of the phases (T, K), from ``first`` on by ``step``.

    Without their common part images have their norm less that part's; the data (T, K) have none already.
    """
    images, frequencies_ = phase.shape
    energy = 0.0
    for t in range(images):
        energy += weights[t] ** 2
    like = np.zeros(number)
    common, product = np.empty(number, np.complex128), np.empty(number, np.complex128)
    for k in range(frequencies_):
        common[:] = 0
        product[:] = 0
        for t in range(images):
            wave = weights[t] * np.exp(1j * first * phase[t, k])
            turn = np.exp(1j * step * phase[t, k])
            for i in range(number):
                common[i] += weights[t] * wave
                product[i] += np.conj(wave) * seen[t, k]
                wave *= turn
        for i in range(number):
            norm = max(energy - abs(common[i]) ** 2 / energy, least)
            like[i] += abs(product[i]) ** 2 / norm
    return like


def thinned(geometry: Geometry, data: Waves, images: int, most: int) -> tuple[Geometry, Waves]:
    """Geometry and coefficients of evenly chosen images and of the strongest frequencies."""
    power = (np.abs(data) ** 2).sum(axis=0)
    strongest = np.argsort(power)[-most:]
    every = np.unique(np.linspace(0, len(data) - 1, images).astype(int))
    small = Geometry(
        geometry.angles[every],
        geometry.frequencies[strongest],
        geometry.alpha,
        geometry.soft,
        geometry.wavelength_nm,
        geometry.weights[every],
    )
    return small, without_common(data[np.ix_(every, strongest)].astype(np.complex64), small.weights)


def reach_px(geometry: Geometry, values: Array, step_nm: float) -> Array:
    """Largest shift of an image along (y, x) [scan steps]."""
    found: Array = np.abs(shifts_nm(geometry, values)).max(axis=0) / step_nm
    return found


def significance(power: Array, noise: Array, share: Array, freedom: int, spread: float) -> float:
    """Sigmas by which explained power (K,) exceeds what ``freedom`` complex numbers explain of noise alone.

    ``share`` weights each frequency, by its signal over signal and noise.
    """
    error = sqrt(freedom * spread * float((share**2).sum()))
    return float((share * (power - freedom * noise) / noise).sum()) / error if error > 0 else 0.0
