"""Ptychography against known objects: geometry, gaps, modes, positions, and what has to be doubted or refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stem4d.analyse.method import NotPossible
from stem4d.analyse.ptychography.engine import Effort, Problem, State, misfits, reconstruct
from stem4d.analyse.ptychography.fourier_ring import aligned, ends_at, ring_correlation
from stem4d.analyse.ptychography.method import PTYCHOGRAPHY, begin
from stem4d.analyse.ptychography.options import PtychographyOptions
from stem4d.analyse.ptychography.outcome import Found, outcome
from stem4d.plan import Ptychography
from tests.stem4d.analyse_world import InMemory
from tests.stem4d.ptychography_world import (
    SCAN,
    SIDE,
    analysed,
    counted,
    exact,
    known,
    likeness,
    picture,
    plain_patterns,
    raster_a,
    true_phase,
)


@pytest.mark.slow
def test_phase_of_a_known_object_is_found_to_its_scale() -> None:
    found = analysed(known(), counted(plain_patterns()))
    correlation, slope = likeness(picture(found, "phase"), true_phase(found))
    assert found.verdict == "good", found.reason
    # 12 x 12 positions leave the field's edges less seen than its middle; noise alone leaves 0.99.
    assert correlation > 0.97
    assert slope == pytest.approx(1, abs=0.1)
    assert found.figures["misfit_ratio"] == pytest.approx(1, abs=0.1)
    assert found.figures["frc_0143_half_period_a"] == found.figures["frc_0143_full_period_a"] / 2


def test_molybdenum_disulfide_of_another_simulator(recorded_data: Path) -> None:
    folder = recorded_data / "reference_abtem"
    with np.load(folder / "d_MoS2_defocus150A.npz") as file:
        counts, delta = file["counts"][::2, ::2], float(file["mrad_per_px"])
    with np.load(folder / "d_MoS2_truth.npz") as file:
        truth = file["projected_potential_VA"].astype(float) * float(file["sigma_per_V_A"])
    given = known(
        convergence_semi_angle_mrad=21.4,
        mrad_per_pixel=delta,
        origin_px=np.array([48.0, 48.0]),
        bad_pixels=np.zeros((96, 96), bool),
        defocus_nm=15.0,
        thickness_nm=0.319,
    )
    found = analysed(given, counts, iterations=10, half_data=False)
    seen = next(each for each in found.pictures if each.name == "phase")
    # The truth at the reconstruction's frequencies, read off by its own Fourier series.
    k = np.fft.fftfreq(len(truth), 30 / len(truth))
    places = [7.25 + np.arange(n) * 10 * seen.pixel_nm[0] for n in seen.values.shape]
    waves = [np.exp(2j * np.pi * np.outer(at, k)) / len(truth) for at in places]
    limit = np.hypot(k[:, None], k[None, :]) < 1 / (20 * seen.pixel_nm[0])
    expected = (waves[0] @ (np.fft.fft2(truth) * limit) @ waves[1].T).real
    correlation, slope = likeness(seen.values, expected)
    assert found.verdict == "good", found.reason
    # 0.98 and 0.98 with all 1024 positions and 20 iterations; a quarter of the data here.
    assert correlation > 0.95
    assert slope == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize(("rotation_deg", "mirrored"), [(30.0, False), (-75.0, True)])
def test_turned_and_mirrored_scans_come_out_in_the_scans_frame(rotation_deg: float, mirrored: bool) -> None:
    given = known(scan_rotation_deg=rotation_deg, mirrored=mirrored, ellipticity=0.02, ellipse_angle_deg=20.0)
    data = counted(exact(given, raster_a()))
    found = analysed(given, data, iterations=10, half_data=False)
    assert likeness(picture(found, "phase"), true_phase(found))[0] > 0.95
    wrong = analysed(replace(given, mirrored=not mirrored), data, iterations=10, half_data=False)
    assert wrong.verdict == "doubtful"


def test_steps_that_differ_along_the_axes() -> None:
    given = known(scan_step_nm=(0.08, 0.12))
    found = analysed(given, counted(exact(given, raster_a(step_nm=(0.08, 0.12)))), iterations=10, half_data=False)
    assert likeness(picture(found, "phase"), true_phase(found))[0] > 0.95


@pytest.mark.parametrize("defocus_nm", [3.0, 20.0, -10.0])
def test_a_wrong_defocus_is_doubtful(defocus_nm: float) -> None:
    found = analysed(known(defocus_nm=defocus_nm), counted(plain_patterns()))
    assert found.verdict == "doubtful"
    assert "misfit" in found.reason


@pytest.mark.parametrize(
    ("changed", "electrons"),
    [({"mirrored": True}, 3e3), ({"scan_rotation_deg": 20.0}, 1e3), ({"defocus_nm": -10.0}, 1e3)],
)
def test_wrong_geometry_is_doubtful_where_noise_hides_the_misfit(changed: dict[str, object], electrons: float) -> None:
    data = counted(plain_patterns(), electrons)
    right, wrong = analysed(known(), data), analysed(known(**changed), data)
    assert right.verdict == "good", right.reason
    assert wrong.verdict == "doubtful"
    assert "each half explains" in wrong.reason
    assert wrong.figures["unseen_explained"] < right.figures["unseen_explained"] - 0.25


def test_a_wrong_rotation_and_an_unknown_one_are_doubtful() -> None:
    data = counted(plain_patterns())
    assert "misfit" in analysed(known(scan_rotation_deg=25.0), data, half_data=False).reason
    assert "rotation" in analysed(known(scan_rotation_deg=None), data, iterations=2, half_data=False).reason


def test_a_thick_specimen_is_doubtful_and_a_thicker_one_refused() -> None:
    data = counted(plain_patterns())
    # h = 0.435 Å at 48 mrad: T = 5.2 h²/λ = 23.6 Å.
    doubted = analysed(known(thickness_nm=4.0), data, iterations=2, half_data=False)
    assert doubted.verdict == "doubtful"
    assert "23.6 Å" in doubted.reason
    with pytest.raises(NotPossible, match=r"Too thick: 80 Å.*multislice"):
        analysed(known(thickness_nm=8.0), data)
    # A coarser target is carried by a thicker slice.
    assert "thicker" not in analysed(known(thickness_nm=8.0), data, target_d_a=2.0, iterations=2).reason
    with pytest.raises(NotPossible, match="multislice engine"):
        analysed(known(), data, model="multislice", slice_thickness_nm=0.5)


def test_missing_frames_bad_pixels_and_pixels_without_a_number() -> None:
    rng = np.random.default_rng(5)
    data = counted(plain_patterns()).astype(np.float32)
    recorded = np.ones((SCAN, SCAN), bool)
    recorded[3, 4] = recorded[0, 0] = recorded[9, 2] = False
    data[~recorded] = 1e6
    bad = rng.random((SIDE, SIDE)) < 0.02
    data[:, :, bad] = 5e4
    data[5, 5, 10, 10] = np.nan
    data[6, 6] = np.nan
    found = analysed(known(bad_pixels=bad), data, recorded, iterations=15)
    assert found.verdict == "good", found.reason
    assert found.figures["patterns"] == SCAN**2 - 4
    assert np.isnan(picture(found, "misfit")[[0, 3, 6, 9], [0, 4, 6, 2]]).all()
    assert likeness(picture(found, "phase"), true_phase(found))[0] > 0.95


def test_bad_pixels_are_not_taken_for_dark_ones() -> None:
    data, bad = counted(plain_patterns()), np.zeros((SIDE, SIDE), bool)
    bad[14:16, 10:22] = True
    data[:, :, bad] = 0
    masked = analysed(known(bad_pixels=bad), data, iterations=10, half_data=False)
    assert likeness(picture(masked, "phase"), true_phase(masked))[0] > 0.93
    assert analysed(known(), data, iterations=10, half_data=False).verdict == "doubtful"


def test_full_scale_is_not_a_count() -> None:
    data = counted(plain_patterns())
    top = int(np.percentile(data[data > 20], 70))
    found = analysed(known(full_scale=top), np.minimum(data, top), iterations=5, half_data=False)
    assert found.verdict == "doubtful"
    assert "full scale" in found.reason


@pytest.mark.parametrize("scan", [(1, SCAN), (SCAN, 2)])
def test_a_single_row_overlaps_in_one_direction_only(scan: tuple[int, int]) -> None:
    with pytest.raises(NotPossible, match="one direction"):
        analysed(known(), counted(plain_patterns())[: scan[0], : scan[1]])


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"defocus_nm": None}, "defocus"),
        ({"origin_px": np.array([4.0, 16.0])}, "around the origin"),
        ({"convergence_semi_angle_mrad": 60.0}, "less than the disk"),
    ],
)
def test_what_cannot_be_begun_is_refused_with_the_reason(changed: dict[str, object], words: str) -> None:
    with pytest.raises(NotPossible, match=words):
        analysed(known(**changed), counted(plain_patterns()))


def test_frames_without_electrons_are_refused() -> None:
    with pytest.raises(NotPossible, match="no electrons"):
        analysed(known(), np.zeros((SCAN, SCAN, SIDE, SIDE), np.uint16))


def test_a_moving_origin_is_followed_by_whole_pixels_and_their_rest() -> None:
    rng = np.random.default_rng(2)
    away = rng.uniform(-1.4, 1.4, (2, SCAN, SCAN))
    origin = SIDE / 2 + away
    data = counted(exact(known(), raster_a(), away_px=away.reshape(2, -1).T))
    found = analysed(known(origin_px=origin), data, iterations=15, half_data=False)
    assert found.figures["detector_used_px"] < SIDE
    assert found.figures["misfit_ratio"] < 1.1
    assert likeness(picture(found, "phase"), true_phase(found))[0] > 0.95
    assert analysed(known(), data, iterations=15, half_data=False).verdict == "doubtful"


@pytest.mark.slow
def test_two_modes_describe_a_source_of_finite_size() -> None:
    at, blur_a = raster_a(), 0.6
    blurred = sum(
        weight * exact(known(), at, np.array([0.0, shift])) for shift, weight in ((-blur_a, 0.5), (blur_a, 0.5))
    )
    data = counted(blurred)
    one, two = (analysed(known(), data, probe_modes=number, half_data=False) for number in (1, 2))
    assert two.figures["misfit_ratio"] < one.figures["misfit_ratio"] - 0.01
    # The true share is 0.47: shares stay near where they begin, which the reason says.
    assert 0.03 < two.figures["probe_mode_2_share"] < 0.5
    assert "shares of the modes" in two.reason
    assert two.figures["probe_mode_1_share"] + two.figures["probe_mode_2_share"] == pytest.approx(1)
    truth = true_phase(two)
    assert likeness(picture(two, "phase"), truth)[0] > likeness(picture(one, "phase"), truth)[0]


@pytest.mark.slow
def test_positions_that_jitter_are_found() -> None:
    jitter = np.random.default_rng(4).normal(0, 0.15, (SCAN**2, 2))
    data = counted(exact(known(), raster_a() + jitter), 1e5)
    fixed = analysed(known(), data, iterations=30, half_data=False)
    found = analysed(known(), data, iterations=30, position_refinement=True, half_data=False)
    moved = 10 * np.stack([picture(found, f"moved_{axis}").ravel() for axis in "yx"], axis=1)
    left = (moved - moved.mean(0)) - (jitter - jitter.mean(0))
    # A common shift and, weakly, a common stretch of positions and object are not told by the data.
    assert left.std() < 0.5 * jitter.std()
    assert found.figures["position_rms_a"] == pytest.approx(0.15 * np.sqrt(2), rel=0.3)
    assert found.figures["misfit_ratio"] < fixed.figures["misfit_ratio"] - 0.1


@pytest.mark.slow
def test_an_affine_error_of_the_scan_is_found() -> None:
    data = counted(exact(known(scan_rotation_deg=0.0), raster_a()), 1e5)
    given = known(scan_step_nm=(0.1, 0.106))
    plain, found = (analysed(given, data, iterations=30, affine_refinement=on, half_data=False) for on in (False, True))
    assert found.figures["misfit_ratio"] < plain.figures["misfit_ratio"]
    moved = picture(found, "moved_x")
    slope = np.polyfit(np.arange(SCAN) * 0.106, moved.mean(0), 1)[0]
    assert slope == pytest.approx(0.1 / 0.106 - 1, abs=0.02)


@pytest.mark.parametrize(
    ("errors", "words"),
    [
        ([3.0, 1.2, 1.05, 1.09], "diverges"),
        ([3.0, 2.9, 2.85, 2.84], "stagnated"),
        ([1.04, 1.03, 1.9, 40.0], "diverges"),
        ([9.0, 4.0, 2.0, 1.05], "still falling"),
    ],
)
def test_a_reconstruction_that_diverges_or_stagnates_is_never_good(errors: list[float], words: str) -> None:
    given, options, rows = known(), PtychographyOptions(), InMemory(counted(plain_patterns()))
    prepared = PTYCHOGRAPHY.prepare(given, options, rows)
    parts = PTYCHOGRAPHY.part(given, options, rows, prepared, 0, SCAN)
    problem, start = begin(given, options, prepared, parts)
    state = replace(reconstruct(problem, start, Effort(10, 32)), errors=errors)
    found = Found(SIDE, parts["usable"], 0.0, problem, start, state, misfits(problem, state), None)
    told = outcome(given, options, found)
    assert told.verdict == "doubtful"
    assert words in told.reason


def test_numbers_that_grow_without_bound_are_not_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    def wild(problem: Problem, start: State, effort: Effort) -> State:
        return State(start.image * np.nan, start.probe, start.positions_px, [1.0, np.inf])

    monkeypatch.setattr("stem4d.analyse.ptychography.method.reconstruct", wild)
    with pytest.raises(NotPossible, match="diverged"):
        analysed(known(), counted(plain_patterns()))


def test_ring_correlation_ends_where_the_signal_does() -> None:
    rng, pixel_a, limit_per_a = np.random.default_rng(0), 0.4, 0.5
    k = np.hypot(*np.meshgrid(*[np.fft.fftfreq(160, pixel_a)] * 2))
    signal = np.fft.ifft2(np.fft.fft2(rng.normal(size=(160, 160))) * (k < limit_per_a))
    noisy = [signal + 0.1 * (rng.normal(size=k.shape) + 1j * rng.normal(size=k.shape)) for _ in range(2)]
    rings = ring_correlation(noisy[0], noisy[1], pixel_a)
    for threshold in (0.143, rings.half_bit):
        end = ends_at(rings, threshold)
        assert end.reached
        # Rings of 1/64 per Å: one leaks through the window, one is averaged over, and 0.143 lies low on that slope.
        assert 1 / end.full_period_a == pytest.approx(limit_per_a, abs=0.05)
    assert not ends_at(ring_correlation(signal, signal, pixel_a), 0.143).reached


def test_halves_that_are_shifted_come_together() -> None:
    image = np.exp(1j * true_phase(analysed(known(), counted(plain_patterns()), iterations=2, half_data=False)))
    shape = image.shape
    ramp = [np.exp(-2j * np.pi * np.fft.fftfreq(n) * by) for n, by in zip(shape, (0.4, -0.7), strict=True)]
    moved = np.fft.ifft2(np.fft.fft2(image) * ramp[0][:, None] * ramp[1])
    inner = slice(3, -3)
    before, after = (np.abs(each - image)[inner, inner].std() for each in (moved, aligned(image, moved)))
    assert after < 0.3 * before


def test_a_plans_words_are_options() -> None:
    of_the_run = {"kind", "reconstruct", "max_reconstruction_min"}
    assert set(Ptychography.model_fields) - of_the_run <= set(PtychographyOptions.model_fields)


def test_the_same_input_gives_the_same_output() -> None:
    data = counted(plain_patterns())
    one, other = (analysed(known(), data, iterations=3) for _ in range(2))
    assert one.figures == other.figures
    assert np.array_equal(picture(one, "phase"), picture(other, "phase"))


def test_too_few_electrons_are_never_good() -> None:
    found = analysed(known(), counted(plain_patterns(), 60))
    assert found.verdict == "doubtful"


def test_patterns_are_kept_in_the_smallest_type() -> None:
    data = counted(plain_patterns())
    given, options = known(full_scale=63), PtychographyOptions()
    rows = InMemory(np.minimum(data, 63).astype(np.uint16))
    prepared = PTYCHOGRAPHY.prepare(given, options, rows)
    kept = PTYCHOGRAPHY.part(given, options, rows, prepared, 0, 2)
    assert kept["patterns"].dtype == np.uint8
    assert kept["patterns"].shape == (2, SCAN, SIDE, SIDE)


def test_uncertainty_of_the_phase_is_what_noise_makes_of_it() -> None:
    found = [analysed(known(), counted(plain_patterns(), seed=seed), iterations=10) for seed in (3, 4)]
    inner = slice(6, -6)
    one, other = (picture(each, "phase")[inner, inner] for each in found)
    sigma = found[0].pictures[0].uncertainty
    assert sigma is not None
    normal = (one - other - (one - other).mean()) / (np.sqrt(2) * sigma[inner, inner])
    # The halves have fewer iterations and less overlap than the whole: their difference is not exactly its noise.
    assert 0.5 < normal.std() < 1.5
