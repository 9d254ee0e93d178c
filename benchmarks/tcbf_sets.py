"""Scans with known phase, defocus and rotation for the bench of tilt-corrected bright field."""

from dataclasses import dataclass, replace

import numpy as np
from scipy import fft, ndimage

from stem4d import optics
from stem4d.analyse.method import Array, Given
from stem4d.simulate.patterns import Illumination, Prepared, isotropic, patterns, prepare
from stem4d.simulate.probe import Aberrations
from stem4d.simulate.scanning import turn
from stem4d.simulate.specimen import Specimen

TOGETHER = 256


@dataclass(frozen=True)
class Known:
    """A scan without noise, and what is true of it."""

    fractions: Array
    """(scan_y, scan_x, det_y, det_x) of the beam."""
    given: Given
    """With the true defocus and rotation."""
    phase_rad: Array
    """(scan_y, scan_x), of periods that aperture and scan let through."""

    def counts(self, electrons: float, seed: int) -> Array:
        """Poisson's."""
        drawn = np.random.default_rng(seed).poisson(self.fractions * electrons)
        return drawn.astype(np.uint16)


def parallax(seed: int = 1) -> Known:
    """The reference's set: random atoms, 64 x 64 positions at 2 Å, 80 nm of defocus, 593 pixels in the disk.

    The phase that the aperture lets through is 0.06 rad rms: on half of it py4DSTEM finds no defocus.
    """
    return _atomic(Specimen("random", seed, spacing_a=4.0, atom_phase_rad=1.5), Aberrations(80.0), 0.0)


def fresh_atoms(seed: int) -> Known:
    """As `parallax`, with hidden defocus, astigmatism and rotation."""
    rng = np.random.default_rng(7000 + seed)
    specimen = Specimen(
        "random", int(rng.integers(1e6)), spacing_a=rng.uniform(3, 5), atom_phase_rad=rng.uniform(0.2, 0.5)
    )
    seen = Aberrations(rng.uniform(55, 100), rng.uniform(0, 6), rng.uniform(0, 180))
    return _atomic(specimen, seen, float(rng.uniform(-180, 180)))


def fresh_globules(seed: int) -> Known:
    """Scans coarse against the probe, of globules in ice."""
    rng = np.random.default_rng(9000 + seed)
    specimen = Specimen(
        "biological", int(rng.integers(1e6)), rms_rad=rng.uniform(0.035, 0.07), globule_nm=rng.uniform(3, 8)
    )
    seen = Aberrations(rng.uniform(700, 2400), rng.uniform(0, 80), rng.uniform(0, 180))
    light = Illumination(300.0, 4.0, seen, (112, 112), isotropic(0.08))
    return _made(specimen, light, (40, 40), float(rng.uniform(1.6, 2.4)), float(rng.uniform(-180, 180)))


def _atomic(specimen: Specimen, seen: Aberrations, rotation_deg: float) -> Known:
    return _made(specimen, Illumination(300.0, 11.0, seen, (64, 64), isotropic(0.8)), (64, 64), 0.2, rotation_deg)


def _made(specimen: Specimen, light: Illumination, scan: tuple[int, int], step_nm: float, rotation_deg: float) -> Known:
    y, x = (np.arange(n) - (n - 1) / 2 for n in scan)
    at = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2) * step_nm @ turn(rotation_deg).T
    bench = prepare(light, specimen, region_nm=at, keep_phase=True)
    still = np.zeros((TOGETHER, 2))
    seen = [
        patterns(bench, at[n : n + TOGETHER], still[: len(at[n : n + TOGETHER])]) for n in range(0, len(at), TOGETHER)
    ]
    size = light.detector_shape
    given = Given(
        beam_energy_kev=light.beam_energy_kev,
        convergence_semi_angle_mrad=light.convergence_semi_angle_mrad,
        mrad_per_pixel=light.mrad_per_pixel,
        scan_step_nm=(step_nm, step_nm),
        origin_px=np.array([(n - 1) / 2 for n in size]),
        bad_pixels=np.zeros(size, bool),
        scan_rotation_deg=rotation_deg,
        defocus_nm=light.aberrations.defocus_nm,
        uncertainty={"scan_rotation_deg": 3.0},
    )
    return Known(np.concatenate(seen).reshape(*scan, *size), given, _phase(bench, light, at, step_nm).reshape(scan))


def _phase(bench: Prepared, light: Illumination, at_nm: Array, step_nm: float) -> Array:
    assert bench.phase is not None
    assert bench.layout is not None
    phase = np.asarray(bench.phase, np.float64).reshape(bench.layout.shape)
    limit = min(2e-3 * light.convergence_semi_angle_mrad / optics.wavelength_a(light.beam_energy_kev), 0.05 / step_nm)
    ky, kx = (fft.fftfreq(n, size) for n, size in zip(phase.shape, bench.layout.view.pixel_a, strict=True))
    smooth = fft.ifft2(fft.fft2(phase) * (np.hypot(ky[:, None], kx[None, :]) < limit)).real
    places = 10 * at_nm @ np.array(bench.layout.to_px).T - bench.layout.origin
    sampled: Array = ndimage.map_coordinates(smooth, places.T, order=3, mode="grid-wrap")
    return sampled


def told(known: Known, part: float, off_deg: float) -> Given:
    """What a session would know: a nominal defocus off by a part, a rotation by an angle."""
    given = known.given
    assert given.defocus_nm is not None
    assert given.scan_rotation_deg is not None
    return replace(given, defocus_nm=given.defocus_nm * (1 + part), scan_rotation_deg=given.scan_rotation_deg + off_deg)
