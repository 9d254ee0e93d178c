"""Patterns against brute force, the reference simulations, and the signs of docs/conventions.md."""

from dataclasses import replace
from math import pi
from pathlib import Path

import numpy as np
import pytest
import scipy.fft
from hypothesis import given, settings
from hypothesis import strategies as st

from stem4d import optics
from stem4d.errors import BadInput
from stem4d.simulate.patterns import TOGETHER, Illumination, Prepared, isotropic, patterns, prepare, wave_pixels
from stem4d.simulate.probe import Aberrations, spectrum
from stem4d.simulate.specimen import Specimen
from stem4d.simulate.transmission import Tile

LATTICE = Specimen("square", spacing_a=3.9, atom_phase_rad=1.2)
VACUUM = Specimen("vacuum")


def light(mrad_per_pixel: float = 0.94, **changes: object) -> Illumination:
    return replace(Illumination(200.0, 21.4, Aberrations(), (128, 128), isotropic(mrad_per_pixel)), **changes)


def angles_mrad(illumination: Illumination) -> tuple[np.ndarray, np.ndarray]:
    ny, nx = illumination.detector_shape
    delta = illumination.mrad_per_pixel
    return (np.arange(ny) - (ny - 1) / 2)[:, None] * delta, (np.arange(nx) - (nx - 1) / 2)[None, :] * delta


def centre_of_mass_mrad(frames: np.ndarray, illumination: Illumination) -> np.ndarray:
    y, x = angles_mrad(illumination)
    total = frames.sum((1, 2), dtype=np.float64)
    return np.stack([(frames * y).sum((1, 2)) / total, (frames * x).sum((1, 2)) / total], axis=1)


def raster_nm(shape: tuple[int, int], step_nm: float) -> np.ndarray:
    y, x = np.indices(shape)
    return np.stack([y.ravel(), x.ravel()], axis=1) * step_nm


@pytest.mark.parametrize("shape", [(64, 64), (65, 64), (51, 77)])
def test_the_undeflected_disk_is_in_the_middle_and_holds_the_beam(shape: tuple[int, int]) -> None:
    setup = light(detector_shape=shape, mrad_per_pixel=1.1)
    frames = patterns(prepare(setup, VACUUM), np.zeros((1, 2)), np.zeros((1, 2)))
    assert frames.sum() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(centre_of_mass_mrad(frames, setup), 0, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(y=st.floats(-6, 6), x=st.floats(-6, 6))
def test_the_disk_lands_where_it_is_shifted_to(y: float, x: float) -> None:
    setup = light()
    frames = patterns(prepare(setup, VACUUM, 6.0), np.zeros((1, 2)), np.array([[y, x]]))
    # Errors of the rim's pixels, 1/(24 R) each, average out around a disk of 23 px: 4e-4 px was the largest of 300.
    np.testing.assert_allclose(centre_of_mass_mrad(frames, setup)[0] / setup.mrad_per_pixel, [y, x], atol=1e-3)


def test_a_disk_half_off_the_detector_loses_half_of_the_beam() -> None:
    setup = light()
    frames = patterns(prepare(setup, VACUUM, 64), np.zeros((1, 2)), np.array([[64.0, 0.0]]))
    assert frames.sum() == pytest.approx(0.5, abs=1e-3)
    assert frames[0, :20].sum() == 0


@pytest.mark.parametrize("shift_px", [0.0, 7.3, -7.3])
def test_patterns_are_those_of_brute_force(shift_px: float) -> None:
    setup = light(
        detector_shape=(32, 40), mrad_per_pixel=1.9, aberrations=Aberrations(4.0, 2.0, 25.0), beam_energy_kev=80.0
    )
    bench = prepare(setup, LATTICE, 8)
    position_nm, shift = np.array([[0.1234, -0.0567]]), np.array([[shift_px, -0.4]])
    found = patterns(bench, position_nm, shift)[0]
    # Plain sums in double precision: ψ(r) from the spectrum at the shifted angles, times t, to the detector's angles.
    assert bench.tile is not None
    waves = bench.wave_shape
    window_a = setup.window_a
    corner = [round(float(position_nm[0, i]) * 10 * waves[i] / window_a) - waves[i] // 2 for i in (0, 1)]
    on_tile = [(np.arange(waves[i]) + corner[i] - bench.tile.origin[i]) % bench.tile.shape[i] for i in (0, 1)]
    t = bench.tile.values[0][np.ix_(*on_tile)]
    # Ten pixels more on every side: the disk may reach beyond the detector.
    sizes = setup.detector_shape
    k = [(np.arange(-10, sizes[i] + 10) - (sizes[i] - 1) / 2 - shift[0, i]) / window_a for i in (0, 1)]
    probe = spectrum(
        k[0][:, None] * optics.wavelength_a(80) * 1e3, k[1][None, :] * optics.wavelength_a(80) * 1e3,
        80, 21.4, setup.aberrations, 1.9,
    )  # fmt: skip
    probe = probe / np.sqrt(np.sum(np.abs(probe) ** 2))
    r = [(np.arange(waves[i]) + corner[i]) * window_a / waves[i] for i in (0, 1)]
    into = [np.exp(2j * pi * np.outer(r[i] - position_nm[0, i] * 10, k[i])) for i in (0, 1)]
    out = [np.exp(-2j * pi * np.outer(k[i][10:-10], r[i])) / waves[i] for i in (0, 1)]
    exit_wave = into[0] @ probe @ into[1].T * t
    expected = np.abs(out[0] @ exit_wave @ out[1].T) ** 2
    # Single precision through two transforms of a window of 60 pixels.
    np.testing.assert_allclose(found, expected, atol=2e-6 * expected.max())


def test_a_specimen_without_contrast_is_vacuum() -> None:
    setup = light(aberrations=Aberrations(10.0))
    nothing = replace(LATTICE, atom_phase_rad=1e-7)
    at, shifts = raster_nm((2, 3), 0.37), np.linspace(-2, 2, 12).reshape(6, 2)
    found = patterns(prepare(setup, nothing, 2.0), at, shifts)
    expected = patterns(prepare(setup, VACUUM, 2.0), at, shifts)
    # Single precision through two transforms.
    np.testing.assert_allclose(found, expected, atol=5e-6 * expected.max())


@pytest.fixture(scope="module")
def lattice_bench() -> Prepared:
    return prepare(light(detector_shape=(64, 64), mrad_per_pixel=1.6), LATTICE)


@settings(max_examples=20, deadline=None)
@given(y=st.floats(-30, 30), x=st.floats(-30, 30))
def test_a_lattice_repeats_after_its_spacing(lattice_bench: Prepared, y: float, x: float) -> None:
    at = np.array([[y, x], [y + 0.39, x], [y, x - 0.39], [y + 7 * 0.39, x + 11 * 0.39]])
    frames = patterns(lattice_bench, at, np.zeros((4, 2)))
    # One cell is no whole number of pixels: this holds only if fractions of a pixel do. The lattice is strained by up
    # to 1e-4 to fit the tile (0.004 Å over eleven cells, a hundredth of the probe), plus single precision.
    np.testing.assert_allclose(frames[1:], np.broadcast_to(frames[0], frames[1:].shape), atol=0.02 * frames.max())


def test_patterns_are_the_same_to_the_last_bit_however_a_batch_is_cut(lattice_bench: Prepared) -> None:
    random = np.random.default_rng(2)
    places, shifts = random.uniform(-5, 5, (11, 2)), random.uniform(-3, 3, (11, 2))
    whole = patterns(lattice_bench, places, shifts)
    for cut in (TOGETHER, 2 * TOGETHER):
        parts = [patterns(lattice_bench, places[part], shifts[part]) for part in (slice(cut), slice(cut, None))]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_nothing_comes_back_from_the_far_side() -> None:
    narrow = light(detector_shape=(64, 64), mrad_per_pixel=1.6)
    wide = replace(narrow, detector_shape=(192, 192))
    at, shifts = raster_nm((3, 3), 0.07), np.zeros((9, 2))
    small = patterns(prepare(narrow, LATTICE), at, shifts)
    large = patterns(prepare(wide, LATTICE), at, shifts)[:, 64:128, 64:128]
    y, x = angles_mrad(narrow)
    outer = np.hypot(y, x) > 30
    # The wide simulation has no band limit that the narrow detector could notice. Aliased scattering would add to the
    # dark field; what is missing at its rim by the narrow band limit is a few per cent of it.
    assert small[:, outer].sum() == pytest.approx(large[:, outer].sum(), rel=0.05)
    assert np.abs(small - large).sum() / 9 < 3e-3


def test_centre_of_mass_points_to_atoms_as_the_gradient_predicts() -> None:
    setup = light(detector_shape=(128, 128), mrad_per_pixel=1.2)
    bench = prepare(setup, replace(LATTICE, atom_phase_rad=0.6))
    assert bench.tile is not None
    steps = 24
    at = raster_nm((steps, steps), 0.39 / steps)
    com = centre_of_mass_mrad(patterns(bench, at, np.zeros((len(at), 2))), setup)
    # λ/2π ∇φ, averaged over the probe's intensity: both on one period of the tile.
    phase = np.angle(bench.tile.values[0, : bench.tile.shape[0], : bench.tile.shape[1]].astype(np.complex128))
    phase = np.roll(phase, bench.tile.origin, (0, 1))
    pixel_a = [setup.window_a / pixels for pixels in bench.wave_shape]
    k = [np.fft.fftfreq(phase.shape[i], pixel_a[i]) for i in (0, 1)]
    angle = [optics.wavelength_a(200) * 1e3 * axis for axis in k]
    probe = np.abs(scipy.fft.ifft2(spectrum(angle[0][:, None], angle[1][None, :], 200, 21.4, Aberrations()))) ** 2
    blurred = scipy.fft.fft2(phase) * scipy.fft.fft2(probe / probe.sum()).conj()
    predicted = []
    for gradient in (2j * pi * k[0][:, None] * blurred, 2j * pi * k[1][None, :] * blurred):
        wave = [np.exp(2j * pi * np.outer(at[:steps, 1] * 10, axis)) for axis in k]
        field = (wave[0] @ gradient @ wave[1].T).real / phase.size
        predicted.append(field.ravel() * optics.wavelength_a(200) / (2 * pi) * 1e3)
    for axis in (0, 1):
        assert np.corrcoef(com[:, axis], predicted[axis])[0, 1] > 0.999
        # Single scattering beyond the detector (77 mrad) is lost and lowers the slope by a few per cent.
        assert np.polyfit(predicted[axis], com[:, axis], 1)[0] == pytest.approx(1, abs=0.04)
    # In words: a little below an atom, the pattern moves up towards it.
    below = patterns(bench, np.array([[0.03, 0.0]]), np.zeros((1, 2)))
    assert centre_of_mass_mrad(below, setup)[0, 0] < -0.5


@pytest.mark.parametrize(
    ("name", "defocus_nm", "alike", "slope"), [("infocus", 0.0, 0.9995, 0.03), ("defocus150A", 15.0, 0.995, 0.08)]
)
def test_centre_of_mass_and_dark_field_of_mos2_are_those_of_the_reference(
    recorded_data: Path, name: str, defocus_nm: float, alike: float, slope: float
) -> None:
    folder = recorded_data / "reference_abtem"
    with np.load(folder / "d_MoS2_truth.npz") as truth, np.load(folder / f"d_MoS2_{name}.npz") as data:
        sigma_v = truth["projected_potential_VA"] * float(truth["sigma_per_V_A"])
        start_a, step_a, com, adf = data["start_A"], float(data["step_A"]), data["exact_com_mrad"], data["exact_adf"]
        delta, depth_nm = float(data["mrad_per_px"]), float(truth["W_xyz"][2]) / 10
    # The reference's focus is at the entrance of the box, the metal atoms lie deeper and so nearer to the crossover.
    setup = Illumination(80.0, 21.4, Aberrations(defocus_nm - depth_nm), (96, 96), isotropic(delta))
    pixels = 256
    bench = Prepared(
        setup, (pixels, pixels),
        Tile(np.pad(np.exp(1j * sigma_v), (0, pixels), mode="wrap").astype(np.complex64)[None], (pixels, pixels)),
    )  # fmt: skip
    com, adf = com[:, ::2, ::2], adf[::2, ::2]
    at = raster_nm((16, 16), 2 * step_a / 10) + start_a / 10
    frames = patterns(bench, at, np.zeros((len(at), 2)))
    found = centre_of_mass_mrad(frames, setup).T.reshape(2, 16, 16)
    # The reference is multislice, and against a single slice it finds 0.9997 and 1.009 itself, in focus. Defocused,
    # its planes of sulphur lie a tenth of the defocus away from the metal's; the wrong sign gives 0.985.
    for axis in (0, 1):
        assert np.corrcoef(found[axis].ravel(), com[axis].ravel())[0, 1] > alike
        assert np.polyfit(com[axis].ravel(), found[axis].ravel(), 1)[0] == pytest.approx(1, abs=slope)
    y, x = angles_mrad(setup)
    ring = (np.hypot(y, x) > 35) & (np.hypot(y, x) < 66)
    assert np.corrcoef(frames[:, ring].sum(1), adf.ravel())[0, 1] > 0.99


@pytest.mark.parametrize("defocus_nm", [12.0, -12.0])
def test_underfocus_moves_the_picture_of_a_pixel_with_its_angle(defocus_nm: float) -> None:
    setup = light(detector_shape=(48, 48), mrad_per_pixel=1.0, aberrations=Aberrations(defocus_nm))
    bench = prepare(setup, Specimen("random", seed=4, spacing_a=5.0, atom_phase_rad=0.3))
    steps, step_nm = 40, 0.05
    frames = patterns(bench, raster_nm((steps, steps), step_nm), np.zeros((steps**2, 2)))
    y, x = angles_mrad(setup)
    pictures = []
    for angle in (-10.0, 10.0):
        there = np.hypot(y - angle, x) < 3
        picture = frames[:, there].sum(1).reshape(steps, steps)
        pictures.append(np.fft.fft2(picture - picture.mean()))
    peak = np.fft.ifft2(pictures[1] * pictures[0].conj()).real
    moved = (np.unravel_index(np.argmax(peak), peak.shape)[0] + steps // 2) % steps - steps // 2
    # I_θ(r) = I_aligned(r + C10 θ): features of the picture at angle θ lie at +defocus θ. 20 mrad apart: 0.24 nm.
    assert moved * step_nm == pytest.approx(defocus_nm * 0.020, abs=0.06)


def test_a_probe_larger_than_the_window_is_refused_with_both_sizes() -> None:
    with pytest.raises(BadInput, match=r"optics.defocus_nm.*Å across.*window of 26\.68 Å"):
        prepare(light(aberrations=Aberrations(70.0)), VACUUM)


def test_a_pattern_beyond_the_band_limit_is_refused_with_the_limit() -> None:
    with pytest.raises(BadInput, match=r"pattern shift: got 300 px; must stay within 233\.2 \(219\.2 mrad\)"):
        prepare(light(), VACUUM, 300)


@given(pixels=st.integers(16, 512), radius=st.floats(0.5, 200), shift=st.floats(0, 100))
def test_wave_grids_hold_the_disk_and_keep_wrapped_scattering_off(pixels: int, radius: float, shift: float) -> None:
    wave = wave_pixels(pixels, radius, shift)
    assert wave % 2 == 0
    assert wave >= 1.25 * pixels
    assert wave - pixels / 2 - radius - shift >= pixels / 2
    assert wave > 2 * radius
