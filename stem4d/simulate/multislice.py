"""Waves through a thick specimen: transmit, propagate, slice by slice, many probes at a time.

Everything is band limited to two thirds of the grid's Nyquist frequency, so that no product of two waves wraps. One
thread; several processes share a scan by its rows.
"""

from dataclasses import dataclass
from math import pi
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft
from numba import njit

from stem4d import optics
from stem4d.errors import BadInput

Floats = npt.NDArray[np.floating[Any]]
Waves = npt.NDArray[np.complexfloating[Any, Any]]

CUTOFF = 2 / 3
"""Band limit over the Nyquist frequency."""
TAPER = 0.01
"""Width of the band limit's cosine edge [cycles per pixel]."""


@dataclass(frozen=True)
class Column:
    """A specimen cut into slices, on the grid of the waves.

    ``transmissions`` are exp(iσV), band limited, (slices, y, x), on the grid of the waves or on a larger one that
    waves are windows of; ``order`` says which of them each slice of the specimen is, from the entrance on;
    ``propagator`` takes a wave's transform through one slice.
    """

    transmissions: Waves
    order: tuple[int, ...]
    propagator: Waves


@dataclass(frozen=True)
class Places:
    """Where each of n waves goes through a column that is larger than they are, and how far off its axis.

    ``corners`` (n, 2) are the first pixels (y, x) of the windows. ``ramp_y`` (n, y) and ``ramp_x`` (n, x) multiply the
    propagator where a wave's grid of frequencies does not hold the optic axis: complex, in the order of the FFT.
    """

    corners: npt.NDArray[np.int64]
    ramp_y: Waves
    ramp_x: Waves


def band_limit(shape: tuple[int, int], pixel_a: tuple[float, float]) -> Floats:
    """The antialiasing aperture in the order of the FFT, (y, x), between 0 and 1.

    1 up to ``TAPER`` before the cut-off, which is ``CUTOFF`` of the coarser axis' Nyquist frequency, then a half
    period of a cosine.
    """
    coarser = max(pixel_a)
    k = _radius_per_a(shape, pixel_a)
    cut, width = CUTOFF / (2 * coarser), TAPER / coarser
    edge = 0.5 * (1 + np.cos(pi * np.clip((k - cut + width) / width, 0, 1)))
    limited: Floats = np.where(k > cut, 0.0, edge)
    return limited


def column(
    potentials_va: Floats,
    order: tuple[int, ...],
    slice_thickness_a: float,
    beam_energy_kev: float,
    pixel_a: tuple[float, float],
    dtype: npt.DTypeLike = np.complex64,
) -> Column:
    """Make a specimen of slices ready for waves.

    Parameters
    ----------
    potentials_va : float array (n, y, x)
        Projected potentials of the different slices [V Å].
    order : tuple of int
        Which of them each slice is, from the entrance on.
    slice_thickness_a : float
        Thickness of every slice [Å].
    beam_energy_kev : float
        Beam energy [keV].
    pixel_a : (float, float)
        Size of a pixel (y, x) [Å].
    dtype : complex64 or complex128
        Precision of the waves.

    Raises
    ------
    BadInput
        Where ``order`` names a slice that is not there, or a thickness is not positive.

    Notes
    -----
    t = exp(iσV), H(k) = exp(-iπ λ k² Δz), both band limited; Kirkland, Advanced Computing in Electron Microscopy.
    """
    if not order or not 0 <= min(order) <= max(order) < len(potentials_va):
        raise BadInput(field="order", value=order, limit=f"slices are 0 to {len(potentials_va) - 1}")
    if not slice_thickness_a > 0:
        raise BadInput(field="slice_thickness_a", value=slice_thickness_a, limit="must be positive", unit="Å")
    shape = (int(potentials_va.shape[1]), int(potentials_va.shape[2]))
    phase = optics.interaction_rad_per_v_a(beam_energy_kev) * np.asarray(potentials_va, dtype=np.float64)
    spectrum = scipy.fft.fft2(np.exp(1j * phase), axes=(-2, -1)) * band_limit(shape, pixel_a)
    transmissions = scipy.fft.ifft2(spectrum, axes=(-2, -1)).astype(dtype)
    k2 = _radius_per_a(shape, pixel_a) ** 2
    return Column(transmissions, order, propagator(k2, slice_thickness_a, beam_energy_kev, pixel_a).astype(dtype))


def propagator(
    k2_per_a2: Floats, slice_thickness_a: float, beam_energy_kev: float, pixel_a: tuple[float, float]
) -> Waves:
    """Through one slice of vacuum: exp(-iπ λ k² Δz), band limited, (y, x) in the order of the FFT.

    ``k2_per_a2`` are the true k², which the grid's own frequencies are not where its coordinates are skewed.
    """
    wavelength = optics.wavelength_a(beam_energy_kev)
    through: Waves = np.exp(-1j * pi * wavelength * slice_thickness_a * k2_per_a2) * band_limit(
        (k2_per_a2.shape[0], k2_per_a2.shape[1]), pixel_a
    )
    return through


def exit_waves(waves: Waves, specimen: Column, places: Places | None = None) -> Waves:
    """Send waves through a specimen.

    Parameters
    ----------
    waves : complex array (n, y, x)
        Waves at the entrance, of the specimen's precision; they are used up.
    specimen : Column
        What they go through.
    places : Places, optional
        Where; by default the column is as large as the waves.

    Returns
    -------
    complex array (n, y, x)
        Waves behind the last slice, propagated through it.
    """
    for each in specimen.order:
        waves = _propagated(waves, specimen, each, places)
    return waves


def diffraction(waves: Waves, specimen: Column, places: Places | None = None) -> Floats:
    """Diffraction patterns of waves that have gone through a specimen.

    Parameters
    ----------
    waves : complex array (n, y, x)
        Waves at the entrance, of the specimen's precision; they are used up.
    specimen : Column
        What they go through.
    places : Places, optional
        Where; by default the column is as large as the waves.

    Returns
    -------
    float array (n, y, x)
        |FFT|² behind the last slice, in the order of the FFT: fractions of a beam whose waves have the norm
        Σ|FFT|² = 1. What was scattered beyond the band limit is lost.
    """
    for each in specimen.order[:-1]:
        waves = _propagated(waves, specimen, each, places)
    # The last slice is left in reciprocal space, where its pattern is, and which no ramp changes.
    _transmit(waves, specimen.transmissions[specimen.order[-1]], places)
    spectrum = scipy.fft.fft2(waves, axes=(-2, -1), overwrite_x=True)
    _times(spectrum, specimen.propagator)
    squared: Floats = _intensity(spectrum)
    return squared


def _transmit(waves: Waves, transmission: Waves, places: Places | None) -> None:
    if places is None:
        _times(waves, transmission)
    else:
        times_windows(waves, transmission, places.corners)


def _propagated(waves: Waves, specimen: Column, number: int, places: Places | None) -> Waves:
    """Through one slice. Columns beyond the band limit are zero, and so are not transformed along y."""
    _transmit(waves, specimen.transmissions[number], places)
    rows = scipy.fft.fft(waves, axis=-1, overwrite_x=True)
    across = rows.shape[-1]
    kept = int(CUTOFF * across / 2) + 1
    for columns in (slice(0, kept), slice(across - kept + 1, across)):
        part = scipy.fft.fft(rows[:, :, columns], axis=-2)
        _times(part, specimen.propagator[:, columns])
        if places is not None:
            times_ramps(part, places.ramp_y, places.ramp_x[:, columns])
        rows[:, :, columns] = scipy.fft.ifft(part, axis=-2, overwrite_x=True)
    rows[:, :, kept : across - kept + 1] = 0
    moved: Waves = scipy.fft.ifft(rows, axis=-1, overwrite_x=True)
    return moved


def _radius_per_a(shape: tuple[int, int], pixel_a: tuple[float, float]) -> Floats:
    k_y, k_x = (scipy.fft.fftfreq(pixels, size) for pixels, size in zip(shape, pixel_a, strict=True))
    radius: Floats = np.hypot(k_y[:, None], k_x[None, :])
    return radius


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _times(waves: Any, factor: Any) -> None:
    """Multiply every wave by one array, in place: the factor stays in cache from wave to wave."""
    for row in range(factor.shape[0]):
        for wave in range(waves.shape[0]):
            for column_ in range(factor.shape[1]):
                waves[wave, row, column_] *= factor[row, column_]


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def times_windows(waves: Any, factor: Any, corners: Any) -> None:
    """Multiply every wave (n, y, x) by its own window of a larger array, in place."""
    for wave in range(waves.shape[0]):
        for row in range(waves.shape[1]):
            line = factor[corners[wave, 0] + row]
            for column_ in range(waves.shape[2]):
                waves[wave, row, column_] *= line[corners[wave, 1] + column_]


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def times_ramps(waves: Any, ramp_y: Any, ramp_x: Any) -> None:
    """Multiply every wave (n, y, x) by its own factor of y (n, y) and of x (n, x), in place."""
    for wave in range(waves.shape[0]):
        for row in range(waves.shape[1]):
            for column_ in range(waves.shape[2]):
                waves[wave, row, column_] *= ramp_y[wave, row] * ramp_x[wave, column_]


@njit(nogil=True)  # type: ignore[untyped-decorator]
def _intensity(waves: Any) -> Any:
    squared = np.empty(waves.shape, waves.real.dtype)
    for wave in range(waves.shape[0]):
        for row in range(waves.shape[1]):
            for column_ in range(waves.shape[2]):
                value = waves[wave, row, column_]
                squared[wave, row, column_] = value.real * value.real + value.imag * value.imag
    return squared
