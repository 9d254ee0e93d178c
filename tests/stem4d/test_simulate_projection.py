"""Patterns under any projection, any slices and any source, against plain sums in the specimen's own frame."""

from dataclasses import replace
from math import log, pi, sqrt

import gemmi
import numpy as np
import pytest

from stem4d import optics
from stem4d.scattering import POTENTIAL_V_A2
from stem4d.simulate.aperture import polynomial
from stem4d.simulate.atoms import atoms
from stem4d.simulate.multislice import band_limit
from stem4d.simulate.patterns import Illumination, isotropic, patterns, prepare
from stem4d.simulate.probe import Aberrations, chi_rad
from stem4d.simulate.specimen import Specimen
from stem4d.simulate.transmission import FILM_B_A2, LARGEST_TILE

SKEWED = ((1.9, 0.25), (-0.1, -2.2))
"""Mirrored, elliptic by 15 % and turned [mrad/px]: no symmetry hides a transposed or inverted matrix."""
ABERRATIONS = Aberrations(
    3.0, 2.0, 25.0, 0.01, 150.0, 40.0, 120.0, -70.0, star_um=2.0, star_angle_deg=10.0, fourfold_astigmatism_um=3.0,
    fourfold_astigmatism_angle_deg=33.0,
)  # fmt: skip
FILM = Specimen("amorphous", seed=11, thickness_nm=0.5)
VACUUM = Specimen("vacuum")
LIGHT = Illumination(80.0, 14.0, ABERRATIONS, (32, 36), SKEWED)


def angles(setup: Illumination, offsets: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Angles (y, x, 2) [mrad] of pixels that lie so far from the pattern's centre."""
    return np.stack(np.meshgrid(*offsets, indexing="ij"), -1) @ np.array(setup.projection_mrad_per_px).T


def turned(phase: np.ndarray) -> np.ndarray:
    """exp(i phase); numpy's complex exponential is twenty times slower."""
    return np.cos(phase) + 1j * np.sin(phase)


def aperture(setup: Illumination, offsets: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Part of each pixel inside the aperture, by 21 x 21 points."""
    part = 0.0
    for y in (np.arange(21) - 10) / 21:
        for x in (np.arange(21) - 10) / 21:
            angle = np.linalg.norm(angles(setup, (offsets[0] + y, offsets[1] + x)), axis=-1)
            part = part + (angle <= setup.convergence_semi_angle_mrad) / 441
    return np.asarray(part)


def test_chi_is_a_polynomial() -> None:
    y, x = np.random.default_rng(3).uniform(-30, 30, (2, 500))
    coefficients = np.array(polynomial(80.0, ABERRATIONS))
    found = np.polynomial.polynomial.polyval2d(y, x, coefficients)
    np.testing.assert_allclose(found, chi_rad(y, x, 80.0, ABERRATIONS), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shift", [(0.0, 0.0), (3.3, -5.45)])
def test_vacuum_is_the_part_of_every_pixel_inside_the_aperture(shift: tuple[float, float]) -> None:
    found = patterns(prepare(LIGHT, VACUUM, 6), np.zeros((1, 2)), np.array([shift]))[0]
    offsets = tuple(np.arange(n) - (n - 1) / 2 - s for n, s in zip(LIGHT.detector_shape, shift, strict=True))
    part = aperture(LIGHT, (offsets[0], offsets[1]))
    # 441 points know a cut pixel to a per cent; a straight edge lacks its curvature, 1/(24 R) at a radius of 6 px.
    np.testing.assert_allclose(found * part.sum(), part, atol=0.03)
    assert found.sum() == pytest.approx(1, abs=1e-5)


def test_a_skewed_detector_sees_what_plain_sums_give() -> None:
    shift = (2.3, -1.45)
    at_nm = np.array([[0.73, -0.41]])
    region = np.array([[-0.2, -1.0], [1.0, 0.9]])
    found = patterns(prepare(LIGHT, FILM, 3, region), at_nm, np.array([shift]))[0]
    # The window is a parallelogram in the specimen: its points are those of a square in u = Pᵀ r / δ.
    p = np.array(SKEWED) / LIGHT.mrad_per_pixel
    points = 96
    u = (np.arange(points) - points // 2) * LIGHT.window_a / points
    r = np.stack(np.meshgrid(u, u, indexing="ij"), -1).reshape(-1, 2) @ np.linalg.inv(p) + at_nm * 10
    # Atoms in real space: a Gaussian exp(-b k²/4) is (4π/b) exp(-4π² r²/b) there.
    table = gemmi.Element("C").c4322
    low, high = r.min(0) - 4, r.max(0) + 4
    distance = np.linspace(0, 6, 6001)
    profile = np.zeros(6001)
    for a, b in zip(table.a, table.b, strict=True):
        wide = b + FILM_B_A2
        profile += POTENTIAL_V_A2 * a * 4 * pi / wide * np.exp(-4 * pi**2 * distance**2 / wide)
    phase = np.zeros(len(r))
    for group in atoms(FILM, ((low[0], high[0]), (low[1], high[1]))):
        away = np.hypot(r[:, None, 0] - group.y_a, r[:, None, 1] - group.x_a)
        phase += np.interp(away, distance, profile, right=0).sum(1)
    phase *= optics.interaction_rad_per_v_a(80)
    wavelength = optics.wavelength_a(80)
    inside = tuple(np.arange(n) - (n - 1) / 2 - s for n, s in zip(LIGHT.detector_shape, shift, strict=True))
    theta = angles(LIGHT, (inside[0], inside[1])).reshape(-1, 2)
    # The soft edge of the aperture has a test of its own.
    amplitude = np.sqrt(patterns(prepare(LIGHT, VACUUM, 3), at_nm, np.array([shift]))[0].ravel())
    lit = amplitude > 0
    chi = chi_rad(theta[lit, 0], theta[lit, 1], 80.0, ABERRATIONS)
    waves = turned(2 * pi * (r - at_nm * 10) @ (theta[lit].T * 1e-3 / wavelength))
    exit_wave = waves @ (amplitude[lit] * np.exp(-1j * chi)) * turned(phase)
    seen = turned(-2 * pi * (theta * 1e-3 / wavelength) @ r.T) @ exit_wave / points**2
    expected = (np.abs(seen) ** 2).reshape(LIGHT.detector_shape)
    # Frequencies beyond the 2.3 per Å of the sums' points, and the spreading of atoms.
    assert np.abs(found - expected).max() < 2e-3 * expected.max()
    without = amplitude.reshape(LIGHT.detector_shape) ** 2
    assert np.abs(without - expected).max() > 0.05 * expected.max()


@pytest.mark.parametrize("shift", [(0.0, 0.0), (1.37, -2.45)])
def test_slices_are_those_of_a_plain_multislice(shift: tuple[float, float]) -> None:
    setup = replace(LIGHT, detector_shape=(24, 28), convergence_semi_angle_mrad=12.0)
    gold = Specimen("crystal", material="Au", thickness_nm=8.0, angle_deg=13.0, slices=5)
    bench = prepare(setup, gold, 3, np.array([[-0.5, -0.5], [0.5, 0.5]]))
    assert bench.tile is not None
    at_nm = np.array([[0.13, -0.21]])
    found = patterns(bench, at_nm, np.array([shift]))[0]
    view = setup.view(bench.wave_shape)
    place = (view.to_px @ at_nm[0] * 10) - bench.tile.origin
    (corner_y, corner_x), m = np.rint(place).astype(int) - np.array(view.pixels) // 2, view.pixels
    middle = np.array(shift) + (np.array(setup.detector_shape) - 1) / 2
    off = middle - np.rint(middle)
    index = [np.fft.fftfreq(n, 1 / n) for n in m]
    offsets = (index[0] - off[0], index[1] - off[1])
    theta = angles(setup, offsets)
    chi = chi_rad(theta[..., 0], theta[..., 1], 80.0, ABERRATIONS)
    rows, columns = (np.arange(n) - round(c) for n, c in zip(setup.detector_shape, middle, strict=True))
    wave = np.zeros(m, np.complex128)
    wave[np.ix_(rows % m[0], columns % m[1])] = np.sqrt(
        patterns(prepare(setup, VACUUM, 3), at_nm, np.array([shift]))[0]
    )
    wave *= np.exp(-1j * chi)
    start = place - np.rint(place) + np.array(m) // 2
    wave = wave * np.exp(-2j * pi * (index[0][:, None] * start[0] / m[0] + index[1] * start[1] / m[1]))
    k2 = np.sum(theta**2, axis=-1) * 1e-6 / optics.wavelength_a(80) ** 2
    through = np.exp(-1j * pi * optics.wavelength_a(80) * 16.0 * k2) * band_limit(m, view.pixel_a)
    for t in bench.tile.values:
        window = t[corner_y : corner_y + m[0], corner_x : corner_x + m[1]]
        wave = np.fft.fft2(np.fft.ifft2(wave) * window) * through
    expected = (np.abs(wave) ** 2)[np.ix_(rows % m[0], columns % m[1])]
    # Single precision through five slices.
    assert np.abs(found - expected).max() < 2e-5 * expected.max()
    # Propagation matters: the same atoms in one plane give another pattern.
    flat = patterns(prepare(setup, replace(gold, slices=1), 3, np.zeros((1, 2))), at_nm, np.array([shift]))[0]
    assert np.abs(flat - expected).sum() > 0.1


def test_a_source_is_a_gaussian_of_its_width() -> None:
    # A weak object: a pixel inside the disk changes with position as a sum of waves of one lattice, and the source
    # takes exp(-2π²σ²g²) off those of period 1/g.
    setup = Illumination(200.0, 12.0, Aberrations(5.0), (48, 48), isotropic(1.0))
    lattice = Specimen("square", spacing_a=4.0, atom_phase_rad=0.02)
    steps = np.arange(16) / 16 * 0.4
    at = np.stack(np.meshgrid(steps, steps, indexing="ij"), -1).reshape(-1, 2)
    found = []
    for fwhm_a in (0.0, 0.7):
        frames = patterns(prepare(replace(setup, source_fwhm_a=fwhm_a), lattice), at, np.zeros((256, 2)))
        assert frames.sum((1, 2)) == pytest.approx(1, abs=1e-3)
        picture = frames[:, 20:23, 20:23].sum((1, 2)).reshape(16, 16)
        found.append(np.abs(np.fft.fft2(picture)))
    sigma_a = 0.7 / sqrt(8 * log(2))
    for y, x in ((1, 1), (2, 0), (0, 2)):
        damped = np.exp(-2 * pi**2 * sigma_a**2 * (y * y + x * x) / 16.0)
        # Seven points are exact to the fifth degree: 3 % at 1.3 rad of 2πσg.
        assert found[1][y, x] / found[0][y, x] == pytest.approx(damped, rel=0.03)


def test_patterns_do_not_depend_on_the_region_or_their_company() -> None:
    setup = replace(LIGHT, detector_shape=(48, 48))
    at = np.array([[0.3, -0.2], [1.1, 2.0], [-2.0, 1.5]])
    # Shifts so far apart that their disks do not fit on one wave.
    shifts = np.array([[40.0, -38.0], [-40.0, 38.0], [0.3, 0.2]])
    small = prepare(setup, replace(FILM, thickness_nm=1.0), 40, at)
    large = prepare(setup, replace(FILM, thickness_nm=1.0), 40, np.array([[-9.0, -3.0], [4.0, 5.0]]))
    assert small.tile is not None
    assert large.tile is not None
    assert small.tile.shape != large.tile.shape
    together = patterns(small, at, shifts)
    alone = np.concatenate([patterns(large, at[i : i + 1], shifts[i : i + 1]) for i in range(3)])
    # Atoms are spread on another fine grid: the spline's aliasing.
    np.testing.assert_allclose(together, alone, atol=2e-4 * together.max())


def test_repeats_where_no_tile_holds_the_region() -> None:
    bench = prepare(LIGHT, replace(FILM, thickness_nm=0.3), 0, np.array([[0.0, 0.0], [900.0, 900.0]]))
    assert bench.layout is not None
    assert bench.layout.repeats
    assert max(bench.layout.shape) <= LARGEST_TILE
    period = np.linalg.solve(np.array(bench.layout.to_px), np.array(bench.layout.shape)) / 10
    frames = patterns(bench, np.array([[1.0, 2.0], [1.0, 2.0] + 3 * period]), np.zeros((2, 2)))
    np.testing.assert_allclose(frames[1], frames[0], atol=1e-5 * frames.max())
