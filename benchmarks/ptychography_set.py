"""The set that ptychography is timed on: a phase object of random atoms, seen by a defocused probe, with its truth."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

from stem4d import optics
from stem4d.scattering import potential_v_a3
from stem4d.simulate.probe import Aberrations, spectrum

ENERGY_KEV, ALPHA_MRAD, DEFOCUS_NM = 80.0, 21.4, 15.0
DETECTOR, MRAD_PER_PIXEL = 96, 1.0
SCAN, STEP_A, FLUENCE_E_PER_A2 = 48, 1.6, 1e4
FINER = 2
"""Pixels of the simulation to one of the reconstruction: scattering to twice the detector's angle is there."""
ATOMS_PER_A2, ELEMENT, THERMAL_B_A2 = 0.3, "Mo", 12.0


@dataclass(frozen=True)
class Made:
    """Counts (scan_y, scan_x, det_y, det_x), zero beam at n // 2, and the phase [rad] on the fine grid."""

    counts: npt.NDArray[np.uint16]
    phase: npt.NDArray[np.float64]
    pixel_a: float
    """Of the fine grid."""
    first_a: float
    """Position (y and x) of the first probe from pixel (0, 0)."""


def make(scan: int = SCAN, seed: int = 5, defocus_nm: float = DEFOCUS_NM) -> Made:
    """The set, the same for the same numbers; smaller with a smaller scan."""
    rng = np.random.default_rng(seed)
    window_a = optics.window_a(ENERGY_KEV, MRAD_PER_PIXEL)
    size, pixel_a = DETECTOR * FINER, window_a / (DETECTOR * FINER)
    first_a = window_a / 2
    pixels = scipy.fft.next_fast_len(int(np.ceil((2 * first_a + scan * STEP_A) / pixel_a)) + 2)
    phase = _phase(rng, pixels, pixel_a)
    transmission = np.exp(1j * phase).astype(np.complex64)
    k = scipy.fft.fftfreq(size, pixel_a)
    angle = 1e3 * optics.wavelength_a(ENERGY_KEV) * k
    wave = spectrum(angle[:, None], angle[None, :], ENERGY_KEV, ALPHA_MRAD, Aberrations(defocus_nm=defocus_nm))
    wave /= np.sqrt(np.sum(np.abs(wave) ** 2))
    electrons = FLUENCE_E_PER_A2 * STEP_A**2
    counts = np.empty((scan, scan, DETECTOR, DETECTOR), np.uint16)
    inside = slice(size // 2 - DETECTOR // 2, size // 2 + DETECTOR // 2)
    for row in range(scan):
        for column in range(scan):
            at = first_a / pixel_a + np.array([row, column]) * (STEP_A / pixel_a)
            corner = np.rint(at).astype(int) - size // 2
            ramp_y, ramp_x = (np.exp(-2j * np.pi * scipy.fft.fftfreq(size) * (at[a] - corner[a])) for a in (0, 1))
            probe = scipy.fft.ifft2(wave * ramp_y[:, None] * ramp_x[None, :])
            seen = scipy.fft.fft2(probe * transmission[corner[0] : corner[0] + size, corner[1] : corner[1] + size])
            pattern = scipy.fft.fftshift(np.abs(seen) ** 2)[inside, inside]
            counts[row, column] = rng.poisson(electrons * pattern)
    return Made(counts, phase, pixel_a, first_a)


def _phase(rng: np.random.Generator, pixels: int, pixel_a: float) -> Any:
    side = pixels * pixel_a
    number = int(ATOMS_PER_A2 * side**2)
    places = rng.uniform(0, side, (number, 2))
    k = scipy.fft.fftfreq(pixels, pixel_a)
    k2 = np.hypot(k[:, None], k[None, :])
    wave = np.exp(-2j * np.pi * k[:, None] * places[None, :, 0]) @ np.exp(-2j * np.pi * places[:, 1:] * k[None, :])
    volume = potential_v_a3(ELEMENT, k2, THERMAL_B_A2) * wave / pixel_a**2
    sigma = optics.interaction_rad_per_v_a(ENERGY_KEV)
    return sigma * scipy.fft.ifft2(volume).real
