"""From a data set's calibrations to what the iteration needs: crop, positions, starting probe."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

from stem4d import optics
from stem4d.analyse.geometry import angles_per_px
from stem4d.analyse.method import Given, NotPossible
from stem4d.simulate.probe import Aberrations, spectrum

Floats = npt.NDArray[np.floating[Any]]
Waves = npt.NDArray[np.complex64]

SMALLEST_PX = 16
"""Side of a square around the origin below which no reconstruction is begun."""
ROOM_PX = 1.5
"""Beyond the aperture where the refined probe may still have a spectrum: its edge is known to about a pixel."""


@dataclass(frozen=True)
class Crop:
    """The square that is cut out of every frame, its pixel N // 2 as near as whole pixels come to the origin."""

    size: int
    corner_px: npt.NDArray[np.int64]
    """(scan_y, scan_x, 2)."""
    off_px: Floats
    """(scan_y, scan_x, 2): origin less pixel N // 2 of the square."""


def crop_of(given: Given, scan_shape: tuple[int, int], detector_shape: tuple[int, int]) -> Crop:
    """The largest square, of a size that transforms fast, that stays on the detector at every position.

    Raises
    ------
    NotPossible
        Where the origin lies too near the edge, or the square does not hold the disk.
    """
    origin = np.moveaxis(np.asarray(given.origin_at(scan_shape), dtype=np.float64), 0, -1)
    if not np.isfinite(origin).all():
        raise NotPossible("The origin of some patterns is not known.")
    lowest, highest = origin.min((0, 1)), origin.max((0, 1))
    sides = np.array(detector_shape)
    # A square begins at 0 or later and its zero beam may lie half a pixel off its middle.
    most = int(np.floor(min((2 * lowest + 1).min(), (2 * (sides - highest) + 1).min(), sides.min())))
    size = next((n for n in range(most - most % 2, 0, -2) if scipy.fft.next_fast_len(n) == n), 0)
    if size < SMALLEST_PX:
        raise NotPossible(f"Only {max(size, 0)} px around the origin lie on the detector; {SMALLEST_PX} are needed.")
    reach = (size / 2 - 1) * given.mrad_per_pixel
    if reach < given.convergence_semi_angle_mrad:
        raise NotPossible(
            f"The detector holds {reach:.3g} mrad around the origin, less than the disk's "
            f"{given.convergence_semi_angle_mrad:g} mrad: a shorter camera length or a centred pattern is needed."
        )
    corner = np.clip(np.rint(origin - size // 2), 0, sides - size).astype(np.int64)
    return Crop(size, corner, origin - size // 2 - corner)


def pixel_a(given: Given, size: int) -> float:
    """Pixel of the reconstruction [Å]: λ/(N δ)."""
    return optics.window_a(given.beam_energy_kev, given.mrad_per_pixel) / size


def to_object_px(given: Given, size: int) -> Floats:
    """Matrix (2, 2) on (y, x): pixels of the object of a displacement in the scan's frame [Å].

    A pattern's pixel p has the frequency k = A p/λ, so that k·r = p·(Aᵀ r)/λ; the transform's kernel has p·u/N.
    """
    matrix: Floats = size * 1e-3 * angles_per_px(given).T / optics.wavelength_a(given.beam_energy_kev)
    return matrix


MOST_OBJECT_PX = 1e8
"""Some 6 GB with both halves and what is worked out beside them."""


def positions_px(given: Given, size: int, scan_shape: tuple[int, int], margin: int) -> tuple[Floats, tuple[int, int]]:
    """Middles of all windows in the object (scan_y * scan_x, 2), and the object's shape.

    The object has the detector's orientation, so that patterns need no turning.
    """
    y, x = np.indices(scan_shape).reshape(2, -1)
    step_a = 10 * np.array(given.scan_step_nm)
    at = np.stack([y, x], axis=1) * step_a @ to_object_px(given, size).T
    at += margin + size // 2 - np.floor(at.min(0))
    needed = np.ceil(at.max(0)).astype(int) + size - size // 2 + margin + 1
    if needed.prod() > MOST_OBJECT_PX:
        across = " x ".join(f"{each:.3g}" for each in needed)
        raise NotPossible(
            f"The object would have {across} pixels, over {MOST_OBJECT_PX:.0e}: the steps are too wide for what a"
            " pattern shows of the specimen. Are scan_step_nm and mrad_per_pixel right?"
        )
    return at, (int(needed[0]), int(needed[1]))


def aperture(given: Given, size: int) -> tuple[Waves, npt.NDArray[np.bool_]]:
    """Starting probe (N, N), its middle at pixel N // 2 and Σ |P|² = 1, and where its spectrum may lie, as the FFT
    orders it."""
    index = scipy.fft.fftfreq(size) * size
    angle = np.einsum("ij,jyx->iyx", angles_per_px(given), np.stack(np.meshgrid(index, index, indexing="ij")))
    alpha, delta = given.convergence_semi_angle_mrad, given.mrad_per_pixel
    wave = spectrum(
        angle[0], angle[1], given.beam_energy_kev, alpha, Aberrations(defocus_nm=given.defocus_nm or 0.0), delta
    )
    probe = scipy.fft.fftshift(scipy.fft.ifft2(wave))
    probe /= np.sqrt(np.sum(np.abs(probe) ** 2))
    return probe.astype(np.complex64), np.hypot(angle[0], angle[1]) <= alpha + ROOM_PX * delta


def defocus_change_nm(given: Given, start: Waves, probe: Waves) -> float:
    """Defocus [nm] that a refined probe (N, N) has more than its start: the curvature of the phase between their
    spectra, fitted to its slopes, which do not wrap.

    P = A exp(-iχ), χ = -(π/λ) α² Δf.
    """
    size = len(start)
    between = scipy.fft.fftshift(scipy.fft.fft2(probe) * np.conj(scipy.fft.fft2(start)))
    index = np.arange(size) - size // 2
    per_px2 = np.pi * (given.mrad_per_pixel * 1e-3) ** 2 / optics.wavelength_a(given.beam_energy_kev)
    above = below = 0.0
    for axis in (0, 1):
        turned = np.moveaxis(between, axis, 0)
        steps = turned[1:] * np.conj(turned[:-1])
        weight = np.abs(steps)
        middle = (index[1:] + index[:-1])[:, None] * np.ones((1, size))
        slope = np.angle(steps)
        mean_at, mean = np.average(middle, weights=weight), np.average(slope, weights=weight)
        above += float((weight * (middle - mean_at) * (slope - mean)).sum())
        below += float((weight * (middle - mean_at) ** 2).sum())
    return above / below / per_px2 / 10
