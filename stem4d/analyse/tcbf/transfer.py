"""What tilt-corrected bright field transfers of a weak phase, and its correction.

A coefficient q = λk of the phase stands in the sum of all shifted images with 2 sin χ(q) times the part of the
aperture that a copy of it moved by q covers: both sidebands of `stem4d.calibrate.tilt_model`, each shifted by its
image's -(λ/2π) ∇χ, add up to that where χ is quadratic.
"""

from dataclasses import dataclass
from math import pi
from typing import Literal

import numpy as np
from scipy import fft

from stem4d import optics
from stem4d.analyse.method import Array
from stem4d.calibrate.tilt_model import ROTATION, path_nm

Correction = Literal["none", "flip", "wiener"]
LEAST_SIGNAL = 1e-3
"""Signal over noise that a ring is held to have at least, so that nothing is divided by it."""


@dataclass(frozen=True)
class Grid:
    """A picture's pixels."""

    shape: tuple[int, int]
    pixel_nm: float

    def frequencies(self) -> Array:
        """x + iy (y, x) [1/nm], as of a full transform."""
        ky, kx = (fft.fftfreq(n, self.pixel_nm) for n in self.shape)
        k: Array = kx[None, :] + 1j * ky[:, None]
        return k


@dataclass(frozen=True)
class Optics:
    """What the transfer depends on."""

    values: Array
    """`tilt_model.PARAMETERS` that were fitted."""
    alpha: float
    """[rad]"""
    wavelength_nm: float
    group_rad: float
    """Side of a group of angles."""


def transfer(grid: Grid, light: Optics) -> Array:
    """Transfer of a phase [per rad], (y, x)."""
    k = grid.frequencies()
    q = light.wavelength_nm * k * np.exp(1j * light.values[ROTATION])
    chi = 2 * pi / light.wavelength_nm * path_nm(q, light.values)
    overlap = [optics.area_overlap(float(one), 2 * light.alpha) for one in np.unique(np.abs(q).round(9))]
    far = np.unique(np.abs(q).round(9), return_inverse=True)[1].reshape(k.shape)
    # The smear of a group of angles by the defocus, and the sharing among four pixels.
    smear = abs(float(light.values[0])) * light.group_rad
    turned = k * np.exp(1j * light.values[ROTATION])
    lost = np.sinc(turned.real * smear) * np.sinc(turned.imag * smear)
    shared = (np.sinc(k.real * grid.pixel_nm) * np.sinc(k.imag * grid.pixel_nm)) ** 2
    found: Array = 2 * np.sin(chi) * np.array(overlap)[far] * lost * shared
    return found


def noise_shape(grid: Grid) -> Array:
    """Power of the noise at every frequency over its mean: white noise shared among four pixels at random places."""
    k = grid.frequencies() * grid.pixel_nm
    power = (2 + np.cos(2 * pi * k.real)) * (2 + np.cos(2 * pi * k.imag))
    shape: Array = power / power.mean()
    return shape


def filter_of(correction: Correction, passed: Array, signal: Array) -> Array:
    """What the spectrum is multiplied by, (y, x).

    Parameters
    ----------
    correction : {"flip", "wiener"}
        Signs alone, or division by the transfer where the signal allows it.
    passed : ndarray, shape (y, x)
        `transfer`.
    signal : ndarray, shape (y, x)
        Power of the signal over that of the noise, smooth.
    """
    if correction == "flip":
        signs: Array = np.sign(passed)
        return signs
    usual = float(np.mean(passed[passed != 0] ** 2))
    kept: Array = passed / (passed**2 + usual / np.maximum(signal, LEAST_SIGNAL))
    return kept


def corrected(image: Array, chosen: Array) -> Array:
    """An image of contrast under a filter that was made for its shape doubled by mirroring."""
    mirrored = np.pad(image, [(0, n) for n in image.shape], mode="symmetric")
    filtered: Array = fft.ifft2(fft.fft2(mirrored) * chosen).real[: image.shape[0], : image.shape[1]]
    return filtered
