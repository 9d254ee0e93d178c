"""Diffraction patterns: windows of a specimen's transmission times probe, transformed, squared.

Every pattern may have its own probe position and its own shift on the detector, both to a fraction of a pixel: the
probe's spectrum is evaluated at the angles that the shifted detector pixels see, so a disk keeps its shape wherever
it lands. A skewed projection is not interpolated either; see `stem4d.simulate.transmission`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, log, pi, sqrt
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft
from numba import njit

from stem4d import optics
from stem4d.errors import BadInput
from stem4d.simulate.aperture import box, disk_reach_px, fill, polynomial
from stem4d.simulate.atoms import check, depth_a
from stem4d.simulate.multislice import Column, Places, diffraction, propagator, times_windows
from stem4d.simulate.probe import Aberrations, diameter_a
from stem4d.simulate.specimen import Specimen
from stem4d.simulate.transmission import Layout, Tile, View, lay_out, phase_rad, transmit

Floats = npt.NDArray[np.floating[Any]]
Singles = npt.NDArray[np.float32]
Waves = npt.NDArray[np.complex64]
Pair = tuple[tuple[float, float], tuple[float, float]]

TOGETHER = 4
"""Patterns transformed together: the waves stay in cache."""
LARGEST_GRID = 3.0
"""Most wave pixels per detector pixel along a side; a shift that needs more has taken the beam off the detector."""
SOURCE_POINTS = (
    (0.5, 0.0, 0.0),
    *((1 / 12, 2 * float(np.sin(pi / 3 * i)), 2 * float(np.cos(pi / 3 * i))) for i in range(6)),
)
"""Weights and places (y, x) in standard deviations that stand for a Gaussian source: the rule of fifth degree with
seven points (Stroud, Approximate Calculation of Multiple Integrals, 1971)."""


@dataclass(frozen=True)
class Illumination:
    """How patterns are made and seen."""

    beam_energy_kev: float
    convergence_semi_angle_mrad: float
    aberrations: Aberrations
    detector_shape: tuple[int, int]
    projection_mrad_per_px: Pair
    """P: a pixel p (y, x) from the pattern's centre sees the angle P p on the specimen."""
    source_fwhm_a: float = 0.0
    """Width of the source's image in the specimen plane, a Gaussian [Å]; 0 is a point and seven times as fast."""

    @property
    def mrad_per_pixel(self) -> float:
        """δ = sqrt|det P| [mrad]."""
        (yy, yx), (xy, xx) = self.projection_mrad_per_px
        return sqrt(abs(yy * xx - yx * xy))

    @property
    def window_a(self) -> float:
        """Real-space window of a pattern [Å], λ/δ."""
        return optics.window_a(self.beam_energy_kev, self.mrad_per_pixel)

    @property
    def reach_px(self) -> tuple[float, float]:
        """How far the disk reaches along each axis [px]."""
        return disk_reach_px(self.projection_mrad_per_px, self.convergence_semi_angle_mrad)

    def view(self, wave_shape: tuple[int, int]) -> View:
        """The grid of a wave of so many pixels."""
        (yy, yx), (xy, xx) = (np.array(self.projection_mrad_per_px) / self.mrad_per_pixel).tolist()
        return View(wave_shape, self.window_a, ((yy, yx), (xy, xx)))


def isotropic(mrad_per_pixel: float) -> Pair:
    """The projection of a detector without ellipse or mirror."""
    return ((mrad_per_pixel, 0.0), (0.0, mrad_per_pixel))


@dataclass(frozen=True)
class Prepared:
    """An illumination and a specimen made ready for patterns; ``tile`` is None for vacuum."""

    illumination: Illumination
    wave_shape: tuple[int, int]
    tile: Tile | None
    propagator: npt.NDArray[np.complex64] | None = None
    """Through one slice; None where there is one."""
    slice_thickness_a: float = 0.0
    layout: Layout | None = None
    """Where the tile lies, for who changes it; see `stem4d.simulate.damage`."""
    limit_per_a: float | None = None
    """Band limit of the tile's single slice."""
    phase: Singles | None = None
    """Of the fresh specimen's slices [rad], where it was asked for."""


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
    needed = max(usual, detector_pixels + radius_px + shift_px, 2 * radius_px + 6)
    return 2 * int(scipy.fft.next_fast_len(ceil(needed / 2)))


def thick_wave_pixels(detector_pixels: int, radius_px: float, shift_px: float) -> int:
    """Wave pixels along one axis for several slices: the shifted detector lies within the band limit, M/3."""
    needed = 3 * max(detector_pixels / 2 + shift_px + 1, radius_px + 2)
    return 2 * int(scipy.fft.next_fast_len(ceil(needed / 2)))


def wave_shape(illumination: Illumination, largest_shift_px: float, slices: int = 1) -> tuple[int, int]:
    """Pixels (y, x) of a wave that holds an illumination's probe and pattern.

    Parameters
    ----------
    illumination : Illumination
        Optics and detector.
    largest_shift_px : float
        Largest shift of the pattern along an axis that will be asked for [px].
    slices : int
        Of the specimen.

    Raises
    ------
    BadInput
        Where the window λ/δ is smaller than the probe, or where the disk and the largest angle that the shifted
        detector sees lie beyond the band limit of the largest wave (`LARGEST_GRID`).
    """
    delta, alpha = illumination.mrad_per_pixel, illumination.convergence_semi_angle_mrad
    # An ellipse stretches the probe along one axis of the window.
    stretched = float(np.linalg.norm(np.array(illumination.projection_mrad_per_px), 2)) / delta
    needed = diameter_a(illumination.beam_energy_kev, alpha, illumination.aberrations) * stretched
    if needed > illumination.window_a:
        raise BadInput(
            field="optics.defocus_nm",
            value=illumination.aberrations.defocus_nm,
            limit=f"the probe is {needed:.4g} Å across with all its aberrations and must fit in the window of "
            f"{illumination.window_a:.4g} Å that {delta:.4g} mrad per pixel leaves",
            unit="nm",
            remedy="Use less defocus, a smaller convergence angle or a longer camera length",
        )
    pixels = thick_wave_pixels if slices > 1 else wave_pixels
    waves = []
    for detector_pixels, radius in zip(illumination.detector_shape, illumination.reach_px, strict=True):
        waves.append(pixels(detector_pixels, radius, largest_shift_px))
        if waves[-1] > LARGEST_GRID * detector_pixels:
            most = detector_pixels / 2 - 1 if slices > 1 else 2 * detector_pixels - radius
            raise BadInput(
                field="pattern shift",
                value=largest_shift_px,
                limit=f"must stay within {most:.4g} ({most * delta:.4g} mrad), so that disk and detector lie inside "
                f"the band limit of the largest simulated wave",
                unit="px",
                remedy="Bring the pattern back onto the detector, or scan a smaller field",
            )
    # The band limit of several slices is a circle, and that of the shorter side would cut the longer one.
    return (max(waves), max(waves)) if slices > 1 else (waves[0], waves[1])


def prepare(
    illumination: Illumination,
    specimen: Specimen,
    largest_shift_px: float = 0.0,
    region_nm: Floats | None = None,
    keep_phase: bool = False,
) -> Prepared:
    """Make an illumination and a specimen ready for patterns.

    Parameters
    ----------
    illumination : Illumination
        Optics and detector.
    specimen : Specimen
        What the probe meets.
    largest_shift_px : float
        Largest shift of the pattern along an axis that will be asked for [px].
    region_nm : float array (n, 2), optional
        Places (y, x) whose hull holds every probe position: the corners of the scanned field, with drift [nm]. The
        tile covers it without a seam where it fits; otherwise, and elsewhere, the specimen repeats.
    keep_phase : bool
        Whether the tile's phase will be needed again, to damage it.

    Raises
    ------
    BadInput
        As `wave_shape`, `check` and `lay_out` do.
    """
    check(specimen)
    waves = wave_shape(illumination, largest_shift_px, specimen.slices)
    if specimen.kind == "vacuum":
        return Prepared(illumination, waves, None)
    view = illumination.view(waves)
    layout = lay_out(specimen, view, None if region_nm is None else 10 * np.asarray(region_nm, np.float64))
    phase = phase_rad(specimen, layout, illumination.beam_energy_kev)
    kept = phase if keep_phase else None
    if specimen.slices > 1:
        through, thickness = slice_propagator(illumination, view, depth_a(specimen) / specimen.slices)
        return Prepared(illumination, waves, transmit(phase, layout, None), through, thickness, layout, phase=kept)
    # What scatters further than this would come back from the far side of the wave onto the detector.
    limit = min(
        min(pixels / 2, pixels - detector_pixels / 2 - radius - largest_shift_px)
        for pixels, detector_pixels, radius in zip(
            waves, illumination.detector_shape, illumination.reach_px, strict=True
        )
    )
    limit /= illumination.window_a
    return Prepared(illumination, waves, transmit(phase, layout, limit), layout=layout, limit_per_a=limit, phase=kept)


def slice_propagator(
    illumination: Illumination, view: View, thickness_a: float
) -> tuple[npt.NDArray[np.complex64], float]:
    """The propagator through one slice at the true angles of a wave's grid, and the thickness [Å]."""
    q_y, q_x = (scipy.fft.fftfreq(n, size) for n, size in zip(view.pixels, view.pixel_a, strict=True))
    k2 = view.k_per_a(q_y[:, None], q_x[None, :]) ** 2
    through = propagator(k2, thickness_a, illumination.beam_energy_kev, view.pixel_a)
    return through.astype(np.complex64), thickness_a


def patterns(bench: Prepared, positions_nm: Floats, shifts_px: Floats) -> Singles:
    """Noise-free patterns.

    Parameters
    ----------
    bench : Prepared
        From `prepare`.
    positions_nm : float array (n, 2)
        Probe positions (y, x) on the specimen, in its frame, from its origin [nm].
    shifts_px : float array (n, 2)
        Where the undeflected beam lands, (y, x) from the middle of the detector, index (N-1)/2 [px].

    Returns
    -------
    float32 array (n, det_y, det_x)
        Fraction of the incident beam in each pixel. The pattern is bent towards atoms. What is scattered or shifted
        beyond the detector is missing from the sum, which is 1 for vacuum.
    """
    light = bench.illumination
    result = np.zeros((len(positions_nm), *light.detector_shape), np.float32)
    places_a = np.asarray(positions_nm, np.float64) * 10
    middles = np.asarray(shifts_px, np.float64) + (np.array(light.detector_shape) - 1) / 2
    sigma_a = light.source_fwhm_a / sqrt(8 * log(2))
    points = SOURCE_POINTS if sigma_a > 0 and bench.tile is not None else ((1.0, 0.0, 0.0),)
    room = np.empty((0 if bench.tile is None else TOGETHER, *bench.wave_shape), np.complex64)
    for part in _batches(bench, middles):
        for weight, y, x in points:
            moved = places_a[part] + sigma_a * np.array([y, x])
            if bench.tile is None:
                _vacuum(bench, middles[part], result[part])
            elif bench.propagator is None:
                _thin(bench, bench.tile, moved, middles[part], np.float32(weight), result[part], room)
            else:
                _thick(bench, bench.tile, moved, middles[part], np.float32(weight), result[part], room)
    return result


def _batches(bench: Prepared, middles: Floats) -> Iterator[slice]:
    """Patterns that go together: a few, and one where their disks lie too far apart for one box on the wave."""
    for first in range(0, len(middles), TOGETHER):
        _y, rows, _x, columns = box(bench.illumination.reach_px, middles[first : first + TOGETHER])
        fits = rows <= bench.wave_shape[0] and columns <= bench.wave_shape[1]
        for start in range(first, min(first + TOGETHER, len(middles)), TOGETHER if fits else 1):
            yield slice(start, start + (TOGETHER if fits else 1))


def _vacuum(bench: Prepared, middles: Floats, out: Singles) -> None:
    first_y, rows, first_x, columns = box(bench.illumination.reach_px, middles)
    disks = np.zeros((len(middles), rows, columns), np.complex64)
    _fill(bench, disks, (first_y, 0, columns), middles - [0, first_x], np.zeros_like(middles))
    low_y, high_y = max(first_y, 0), min(first_y + rows, out.shape[1])
    low_x, high_x = max(first_x, 0), min(first_x + columns, out.shape[2])
    if low_y < high_y and low_x < high_x:
        seen = disks[:, low_y - first_y : high_y - first_y, low_x - first_x : high_x - first_x]
        out[:, low_y:high_y, low_x:high_x] = seen.real**2 + seen.imag**2


def _fill(bench: Prepared, waves: Any, at: tuple[int, int, int], middles: Floats, ramps: Floats) -> None:
    light = bench.illumination
    chi = np.array(polynomial(light.beam_energy_kev, light.aberrations))
    projection = np.array(light.projection_mrad_per_px)
    fill(waves, *at, middles, ramps, projection, light.convergence_semi_angle_mrad, chi)


def _probes(
    bench: Prepared, tile: Tile, places_a: Floats, middles: Floats, room: Waves
) -> tuple[Waves, npt.NDArray[np.int64]]:
    """Probes in real space (n, y, x) in windows around them, and the windows' corners on the tile (n, 2).

    They lie in ``room``, which is used again and again: fresh memory costs more than setting it to zero.
    """
    waves = np.array(bench.wave_shape)
    at = places_a @ bench.illumination.view(bench.wave_shape).to_px.T - tile.origin
    whole = np.rint(at)
    corners = (whole.astype(np.int64) - waves // 2) % tile.shape
    first_y, rows, first_x, columns = box(bench.illumination.reach_px, middles)
    # Rows outside the disk are never transformed along x.
    lines = np.zeros((len(places_a), rows, waves[1]), np.complex64)
    _fill(bench, lines, (first_y, first_x, columns), middles, (at - whole + waves // 2) / waves)
    lines = scipy.fft.ifft(lines, axis=2, overwrite_x=True)
    wave = room[: len(places_a)]
    start = first_y % waves[0]
    before = min(rows, waves[0] - start)
    wave[:, rows - before : start] = 0
    wave[:, start + before :] = 0
    wave[:, start : start + before] = lines[:, :before]
    wave[:, : rows - before] = lines[:, before:]
    return scipy.fft.ifft(wave, axis=1, overwrite_x=True), corners


def _thin(
    bench: Prepared, tile: Tile, places_a: Floats, middles: Floats, weight: np.float32, out: Singles, room: Waves
) -> None:
    """Single transmission. Spectrum index i is detector pixel i, modulo the wave's pixels."""
    wave, corners = _probes(bench, tile, places_a, middles, room)
    times_windows(wave, tile.values[0], corners)
    wave = scipy.fft.fft(wave, axis=1, overwrite_x=True)[:, : out.shape[1]]
    wave = scipy.fft.fft(wave, axis=2, overwrite_x=True)
    _add_intensity(wave, weight, out)


def _thick(
    bench: Prepared, tile: Tile, places_a: Floats, middles: Floats, weight: np.float32, out: Singles, room: Waves
) -> None:
    """Multislice. Spectrum index 0 is the pixel nearest to the optic axis, where propagation is symmetric."""
    assert bench.propagator is not None
    nearest = np.rint(middles)
    off = middles - nearest
    wave, corners = _probes(bench, tile, places_a, off, room)
    # k² at index j - off is |k_j|² - 2 k_j · k_off + a constant; k_j · k_off = j · (G off).
    unit = np.array(bench.illumination.view(bench.wave_shape).unit_projection) / bench.illumination.window_a
    wavelength = optics.wavelength_a(bench.illumination.beam_energy_kev)
    slopes = 2 * pi * wavelength * bench.slice_thickness_a * off @ (unit.T @ unit)
    index = [scipy.fft.fftfreq(pixels, 1 / pixels) for pixels in bench.wave_shape]
    ramp_y, ramp_x = (np.exp(1j * np.outer(slopes[:, i], index[i])).astype(np.complex64) for i in (0, 1))
    column = Column(tile.values, tuple(range(len(tile.values))), bench.propagator)
    seen = diffraction(wave, column, Places(corners, ramp_y, ramp_x))
    for one, frame, (y, x) in zip(seen, out, nearest.astype(np.int64), strict=True):
        rows, columns = (
            (np.arange(n) - middle) % pixels
            for n, middle, pixels in zip(frame.shape, (y, x), bench.wave_shape, strict=True)
        )
        frame += weight * one[np.ix_(rows, columns)]


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def _add_intensity(waves: Any, weight: Any, out: Any) -> None:
    for wave in range(out.shape[0]):
        for row in range(out.shape[1]):
            for column in range(out.shape[2]):
                value = waves[wave, row, column]
                out[wave, row, column] += weight * (value.real * value.real + value.imag * value.imag)
