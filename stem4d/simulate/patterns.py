"""Diffraction patterns of a phase object: window of the transmission times probe, transformed, squared.

Single-slice model. Every pattern may have its own probe position and its own shift on the detector, both to a
fraction of a pixel: the probe's spectrum is evaluated at the angles that the shifted detector pixels see, so a disk
keeps its shape wherever it lands.
"""

from dataclasses import dataclass
from math import ceil, floor
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

from stem4d import optics
from stem4d.errors import BadInput
from stem4d.simulate.probe import Aberrations, diameter_a, spectrum
from stem4d.simulate.specimen import Specimen, Tile, tile

Floats = npt.NDArray[np.floating[Any]]
Singles = npt.NDArray[np.float32]

TOGETHER = 4
"""Patterns transformed together: the waves stay in cache."""
LARGEST_GRID = 3.0
"""Most wave pixels per detector pixel along a side; a shift that needs more has taken the beam off the detector."""


@dataclass(frozen=True)
class Illumination:
    """How patterns are made and seen."""

    beam_energy_kev: float
    convergence_semi_angle_mrad: float
    aberrations: Aberrations
    detector_shape: tuple[int, int]
    mrad_per_pixel: float


@dataclass(frozen=True)
class Bench:
    """An illumination and a specimen made ready for patterns; ``tile`` is None for vacuum."""

    illumination: Illumination
    wave_shape: tuple[int, int]
    tile: Tile | None

    @property
    def window_a(self) -> float:
        """Real-space window of a pattern [Å], λ/δ."""
        return optics.window_a(self.illumination.beam_energy_kev, self.illumination.mrad_per_pixel)


def wave_pixels(detector_pixels: int, radius_px: float, shift_px: float) -> int:
    """Wave pixels along one axis: about 1.5 times the detector's, and enough to keep wrapped scattering off it.

    Parameters
    ----------
    detector_pixels : int
        Detector pixels N along the axis.
    radius_px, shift_px : float
        Radius R of the bright-field disk and largest shift s of the pattern [px].

    Returns
    -------
    int
        An even M, at least N + 2R + s where that is within 1.25 N to 1.5 N, and never below N + R + s: the specimen
        may then scatter by M - N/2 - R - s >= N/2 pixels without reaching the detector from the far side.
    """
    usual = min(max(detector_pixels + 2 * radius_px + shift_px, 1.25 * detector_pixels), 1.5 * detector_pixels)
    needed = max(usual, detector_pixels + radius_px + shift_px, 2 * radius_px + 4)
    return 2 * int(scipy.fft.next_fast_len(ceil(needed / 2)))


def wave_shape(illumination: Illumination, largest_shift_mrad: float) -> tuple[int, int]:
    """Pixels (y, x) of a wave that holds an illumination's probe and pattern.

    Parameters
    ----------
    illumination : Illumination
        Optics and detector.
    largest_shift_mrad : float
        Largest shift of the pattern along an axis that will be asked for [mrad].

    Raises
    ------
    BadInput
        Where the window λ/δ is smaller than the probe, or where the disk and the largest angle that the shifted
        detector sees lie beyond the band limit of the largest wave (`LARGEST_GRID`).
    """
    delta, alpha = illumination.mrad_per_pixel, illumination.convergence_semi_angle_mrad
    window = optics.window_a(illumination.beam_energy_kev, delta)
    needed = diameter_a(illumination.beam_energy_kev, alpha, illumination.aberrations)
    if needed > window:
        raise BadInput(
            field="optics.defocus_nm",
            value=illumination.aberrations.defocus_nm,
            limit=f"the probe is {needed:.4g} Å across with all its aberrations and must fit in the window of "
            f"{window:.4g} Å that {delta:.4g} mrad per pixel leaves",
            unit="nm",
            remedy="Use less defocus, a smaller convergence angle or a longer camera length",
        )
    radius, shift = alpha / delta, largest_shift_mrad / delta
    waves = [wave_pixels(pixels, radius, shift) for pixels in illumination.detector_shape]
    for pixels, detector_pixels in zip(waves, illumination.detector_shape, strict=True):
        if pixels > LARGEST_GRID * detector_pixels:
            band = LARGEST_GRID * detector_pixels / 2 * delta
            raise BadInput(
                field="pattern shift",
                value=largest_shift_mrad,
                limit=f"must stay within {2 * detector_pixels * delta - alpha:.4g}, so that disk and detector lie "
                f"inside the band limit {band:.4g} of the largest simulated wave",
                unit="mrad",
                remedy="Bring the pattern back onto the detector, or scan a smaller field",
            )
    return waves[0], waves[1]


def prepare(illumination: Illumination, specimen: Specimen, largest_shift_mrad: float = 0.0) -> Bench:
    """Make an illumination and a specimen ready for patterns; raises as `wave_shape` and `tile` do.

    Parameters
    ----------
    illumination : Illumination
        Optics and detector.
    specimen : Specimen
        What the probe meets.
    largest_shift_mrad : float
        Largest shift of the pattern along an axis that will be asked for [mrad].
    """
    waves = wave_shape(illumination, largest_shift_mrad)
    if specimen.kind == "vacuum":
        return Bench(illumination, waves, None)
    window = optics.window_a(illumination.beam_energy_kev, illumination.mrad_per_pixel)
    reach = (illumination.convergence_semi_angle_mrad + largest_shift_mrad) / illumination.mrad_per_pixel
    # What scatters further than this would come back from the far side of the wave onto the detector.
    limit = min(
        min(pixels / 2, pixels - detector_pixels / 2 - reach)
        for pixels, detector_pixels in zip(waves, illumination.detector_shape, strict=True)
    )
    pixel_a = (window / waves[0], window / waves[1])
    return Bench(illumination, waves, tile(specimen, illumination.beam_energy_kev, pixel_a, waves, limit / window))


def patterns(bench: Bench, positions_nm: Floats, shifts_mrad: Floats) -> Singles:
    """Noise-free patterns.

    Parameters
    ----------
    bench : Bench
        From `prepare`.
    positions_nm : float array (n, 2)
        Probe positions (y, x) on the specimen from the field's centre, along the detector's axes [nm].
    shifts_mrad : float array (n, 2)
        Where the undeflected beam lands, (y, x) from the middle of the detector, index (N-1)/2 [mrad].

    Returns
    -------
    float32 array (n, det_y, det_x)
        Fraction of the incident beam in each pixel. The pattern is bent towards atoms. What is scattered or shifted
        beyond the detector is missing from the sum, which is 1 for vacuum.
    """
    light = bench.illumination
    result = np.empty((len(positions_nm), *light.detector_shape), np.float32)
    for first in range(0, len(positions_nm), TOGETHER):
        part = slice(first, first + TOGETHER)
        _together(bench, positions_nm[part] * 10, shifts_mrad[part] / light.mrad_per_pixel, result[part])
    return result


def _together(bench: Bench, positions_a: Floats, shifts_px: Floats, out: Singles) -> None:
    """A few patterns in one go; see `patterns`. Spectrum index i is detector pixel i, modulo the wave's pixels."""
    light = bench.illumination
    middles = shifts_px + (np.array(light.detector_shape) - 1) / 2
    radius = light.convergence_semi_angle_mrad / light.mrad_per_pixel + 1
    index = [
        np.arange(floor(middles[:, axis].min() - radius), ceil(middles[:, axis].max() + radius) + 1) for axis in (0, 1)
    ]
    angle_y, angle_x = ((index[axis] - middles[:, axis, None]) * light.mrad_per_pixel for axis in (0, 1))
    probe = spectrum(
        angle_y.astype(np.float32)[:, :, None],
        angle_x.astype(np.float32)[:, None, :],
        light.beam_energy_kev,
        light.convergence_semi_angle_mrad,
        light.aberrations,
        light.mrad_per_pixel,
    )
    probe /= np.sqrt(np.sum(probe.real**2 + probe.imag**2, axis=(1, 2)))[:, None, None]
    if bench.tile is None:
        _place(probe.real**2 + probe.imag**2, index[0], index[1], out)
        return
    waves = bench.wave_shape
    corners = np.empty(positions_a.shape, np.int64)
    for axis, pixels in enumerate(waves):
        at = positions_a[:, axis] * (pixels / bench.window_a)
        whole = np.rint(at)
        corners[:, axis] = (whole.astype(np.int64) - pixels // 2) % bench.tile.shape[axis]
        ramp = np.exp(-2j * np.pi / pixels * np.outer(at - whole + pixels // 2, index[axis])).astype(np.complex64)
        probe *= ramp[:, :, None] if axis == 0 else ramp[:, None, :]
    wave = _to_real_space(probe, index[0], index[1], waves)
    for one, (y, x) in zip(wave, corners, strict=True):
        one *= bench.tile.values[y : y + waves[0], x : x + waves[1]]
    wave = scipy.fft.fft(wave, axis=1, overwrite_x=True)[:, : out.shape[1]]
    wave = scipy.fft.fft(wave, axis=2, overwrite_x=True)[:, :, : out.shape[2]]
    np.multiply(wave.real, wave.real, out=out)
    out += wave.imag * wave.imag


def _to_real_space(
    probe: npt.NDArray[np.complexfloating[Any, Any]],
    index_y: npt.NDArray[np.int64],
    index_x: npt.NDArray[np.int64],
    shape: tuple[int, int],
) -> npt.NDArray[np.complex64]:
    """Inverse transform of spectra that are zero outside a box; rows outside it are never transformed along x."""
    rows = np.zeros((len(probe), len(index_y), shape[1]), np.complex64)
    rows[:, :, index_x % shape[1]] = probe
    wave = np.zeros((len(probe), *shape), np.complex64)
    wave[:, index_y % shape[0]] = scipy.fft.ifft(rows, axis=2, overwrite_x=True)
    transformed: npt.NDArray[np.complex64] = scipy.fft.ifft(wave, axis=1, overwrite_x=True)
    return transformed


def _place(intensity: Floats, index_y: npt.NDArray[np.int64], index_x: npt.NDArray[np.int64], out: Singles) -> None:
    """Put a box of intensities on the detector; what falls outside is lost."""
    out[:] = 0
    inside_y = (index_y >= 0) & (index_y < out.shape[1])
    inside_x = (index_x >= 0) & (index_x < out.shape[2])
    if inside_y.any() and inside_x.any():
        rows, columns = index_y[inside_y], index_x[inside_x]
        out[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = intensity[:, inside_y][:, :, inside_x]
