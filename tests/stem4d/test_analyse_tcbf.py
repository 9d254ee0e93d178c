"""Tilt-corrected bright field against known truth, and what must be refused or called doubtful."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from stem4d.analyse.method import Given, NotPossible, Outcome, Parts
from stem4d.analyse.tcbf.gather import angle_groups, counts_type, gathered
from stem4d.analyse.tcbf.halves import likeness
from stem4d.analyse.tcbf.method import TCBF, TcbfOptions
from stem4d.analyse.tcbf.scatter import enter
from stem4d.analyse.tcbf.transfer import Grid, Optics, transfer
from stem4d.errors import BadInput
from stem4d.simulate.probe import Aberrations
from stem4d.simulate.specimen import Specimen
from tests.stem4d.analyse_world import InMemory
from tests.stem4d.tilt_world import Scan, reference, simulate

ATOMS = Specimen("random", seed=3, spacing_a=4.0, atom_phase_rad=0.5)
LIGHT = {"alpha_mrad": 20.0, "energy_kev": 200.0, "mrad_per_pixel": 1.6, "step_nm": 0.08, "scan": (40, 40)}
ROTATION_DEG = 30.0
DEFOCUS_NM = 15.0
DEPTH_NM = 6.27
"""λ/α² at 200 kV and 20 mrad."""


def given_of(scan: Scan, **more: object) -> Given:
    size = scan.frames.shape[2:]
    known = Given(
        beam_energy_kev=scan.energy_kev,
        convergence_semi_angle_mrad=scan.alpha_mrad,
        mrad_per_pixel=scan.mrad_per_pixel,
        scan_step_nm=(scan.step_nm, scan.step_nm),
        origin_px=np.array(scan.middle_px),
        bad_pixels=np.zeros(size, bool),
        scan_rotation_deg=ROTATION_DEG + 2,
        defocus_nm=DEFOCUS_NM * 1.1,
        uncertainty={"scan_rotation_deg": 2.0},
    )
    return replace(known, **more)


def parts_of(given: Given, rows: InMemory, options: TcbfOptions, cuts: tuple[int, ...] = ()) -> tuple[Parts, Parts]:
    prepared = TCBF.prepare(given, options, rows)
    edges = [0, *cuts, rows.scan_shape[0]]
    parts = [TCBF.part(given, options, rows, prepared, a, b) for a, b in pairwise(edges)]
    return prepared, {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}


def analyse(given: Given, frames: np.ndarray, recorded: np.ndarray | None = None, **options: object) -> Outcome:
    chosen = TcbfOptions(**options)
    return TCBF.finish(given, chosen, *parts_of(given, InMemory(frames, recorded), chosen))


def picture(outcome: Outcome, name: str) -> np.ndarray:
    return next(one.values for one in outcome.pictures if one.name == name)


@pytest.fixture(scope="module")
def scan() -> Scan:
    return simulate(ATOMS, 2e4, ROTATION_DEG, False, Aberrations(DEFOCUS_NM, 1.0, 20.0), detector=48, **LIGHT)


@pytest.fixture(scope="module")
def outcome(scan: Scan) -> Outcome:
    return analyse(given_of(scan), scan.frames)


def test_a_scan_gives_back_its_defocus_and_shows_what_is_there(outcome: Outcome) -> None:
    assert outcome.verdict == "good", outcome.reason
    figures = outcome.figures
    assert figures["defocus_nm"] == pytest.approx(DEFOCUS_NM, abs=DEPTH_NM / 4)
    # Four stated errors, and a stated error that is of use.
    assert figures["defocus_nm"] == pytest.approx(DEFOCUS_NM, abs=4 * figures["defocus_uncertainty_nm"])
    assert figures["defocus_uncertainty_nm"] < DEPTH_NM / 8
    assert figures["scan_rotation_deg"] == pytest.approx(ROTATION_DEG, abs=1.0)
    assert figures["astigmatism_nm"] == pytest.approx(1.0, abs=4 * figures["astigmatism_uncertainty_nm"])
    assert figures["depth_of_field_nm"] == pytest.approx(DEPTH_NM, rel=0.01)
    # Aligned, atoms stand out that the sum of shifted images smears away.
    inner = (slice(6, -6),) * 2
    assert np.std(picture(outcome, "aligned")[inner]) > 1.3 * np.std(picture(outcome, "bright_field")[inner])
    # Halves share no electrons: their difference is counting noise and what neighbours in angle differ by.
    assert figures["noise_over_counting"] == pytest.approx(1.0, abs=0.3)


def test_rows_may_be_cut_anywhere(scan: Scan) -> None:
    given, options, rows = given_of(scan), TcbfOptions(), InMemory(scan.frames)
    whole = parts_of(given, rows, options)[1]
    cut = parts_of(given, rows, options, (1, 17, 30))[1]
    for name, values in whole.items():
        assert values.dtype == cut[name].dtype
        np.testing.assert_array_equal(values, cut[name])


def test_upsampling_makes_finer_pixels_of_the_same_field(scan: Scan, outcome: Outcome) -> None:
    fine = analyse(given_of(scan), scan.frames, upsampling=2.0, correction="wiener")
    image, coarse = picture(fine, "aligned"), picture(outcome, "aligned")
    assert image.shape == (80, 80)
    binned = np.nanmean(image.reshape(40, 2, 40, 2), axis=(1, 3))
    inner = (slice(6, -6),) * 2
    # Sharing among four fine pixels blurs less than among four coarse ones.
    assert np.corrcoef(binned[inner].ravel(), coarse[inner].ravel())[0, 1] > 0.9
    assert fine.pictures[0].pixel_nm == (0.04, 0.04)
    assert {one.name: one.unit for one in fine.pictures}["corrected"] == "rad"


def test_errors_over_their_stated_sigma_have_a_spread_of_one() -> None:
    rng = np.random.default_rng(0)
    shape, groups, mean = (20, 20), 60, 6.0
    shifts = rng.uniform(-3, 3, (groups, 2))
    halves = np.arange(groups) % 2
    pulls, between = [], []
    for _ in range(8):
        counts = rng.poisson(mean, (*shape, groups)).astype(np.uint8)
        entered = enter(counts, np.ones(shape, bool), shifts, halves, 1.5, 1.0)
        image, sigma = entered.image()
        pulls.append((image - 1) / sigma)
        one, other = entered.halves()
        between.append((one - other) / 2 / sigma)
    inner = (slice(None), slice(6, -6), slice(6, -6))
    # Of about 8 x 200 nearly independent pixels: 3 %, three times over.
    assert np.std(np.array(pulls)[inner]) == pytest.approx(1.0, abs=0.1)
    assert np.std(np.array(between)[inner]) == pytest.approx(1.0, abs=0.1)


def test_a_single_moved_point_is_entered_where_it_came_from() -> None:
    # A feature at (9, 11) that image t shows at (9, 11) + shift.
    shifts = np.array([[2.0, 0.0], [0.0, -3.0], [-1.0, 1.0]])
    counts = np.full((20, 20, 3), 10, np.uint16)
    for t, (y, x) in enumerate(shifts.astype(int)):
        counts[9 + y, 11 + x, t] = 100
    image = enter(counts, np.ones((20, 20), bool), shifts, np.array([0, 1, 0]), 1.0, 1.0).image()[0]
    assert np.unravel_index(np.nanargmax(image), image.shape) == (9, 11)
    assert image[9, 11] == pytest.approx(100 / 10.2, rel=0.01)


def test_transfer_is_the_sine_of_chi_within_twice_the_aperture() -> None:
    grid = Grid((64, 64), 0.05)
    light = Optics(np.array([-15.0, 0.0, 0.0, 0.3]), 0.02, 0.00251, 1e-6)
    found = transfer(grid, light)
    k = np.abs(grid.frequencies())
    assert not found[k * light.wavelength_nm > 0.0401].any()
    # χ = π λ k² C10, at the lowest frequency along x: k = 1/3.2 per nm.
    first = 2 * np.sin(-np.pi * 0.00251 * 15.0 / 3.2**2)
    # The overlap and the pixels take some per cent.
    assert found[0, 1] == pytest.approx(first, rel=0.03)


def test_halves_of_noise_are_not_alike() -> None:
    rng = np.random.default_rng(1)
    found = likeness(rng.normal(size=(48, 48)), rng.normal(size=(48, 48)), 0.1)
    assert found is not None
    assert abs(found.sigmas) < 4
    assert np.isnan(found.resolution_nm)
    assert likeness(np.full((48, 48), np.nan), np.ones((48, 48)), 0.1) is None


@pytest.mark.parametrize(("nominal", "words"), [(45.0, "nominal|align|settle|ran away"), (-DEFOCUS_NM, "sign")])
def test_a_wrong_nominal_defocus_makes_no_silent_number(scan: Scan, nominal: float, words: str) -> None:
    with pytest.raises(NotPossible, match=words):
        analyse(given_of(scan, defocus_nm=nominal), scan.frames)


def test_a_nominal_defocus_that_is_off_makes_doubtful(scan: Scan) -> None:
    found = analyse(given_of(scan, defocus_nm=DEFOCUS_NM * 1.45), scan.frames)
    assert found.verdict == "doubtful"
    assert "further from the nominal" in found.reason
    # An option takes the column's place.
    assert analyse(given_of(scan, defocus_nm=99.0), scan.frames, nominal_defocus_nm=14.0).verdict == "good"


def test_what_has_no_defocus_is_refused(scan: Scan) -> None:
    for nothing, words in ((0.0, "in focus"), (None, "nowhere said"), (1.0, "move")):
        with pytest.raises(NotPossible, match=words):
            analyse(given_of(scan, defocus_nm=nothing), scan.frames)


def test_a_scan_without_structure_is_refused(scan: Scan) -> None:
    empty = np.random.default_rng(3).poisson(np.broadcast_to(scan.frames.mean((0, 1)), scan.frames.shape))
    with pytest.raises(NotPossible):
        analyse(given_of(scan), empty.astype(np.uint16))


def test_a_mirrored_detector_is_told_and_taken_as_it_is(scan: Scan) -> None:
    given = given_of(scan)
    flipped = np.ascontiguousarray(scan.frames[:, :, ::-1])
    found = analyse(replace(given, mirrored=None), flipped)
    assert found.verdict == "good", found.reason
    assert found.figures["mirrored"] is True
    assert found.figures["defocus_nm"] == pytest.approx(DEFOCUS_NM, abs=DEPTH_NM / 4)
    with pytest.raises(NotPossible, match="is mirrored, other than was said"):
        analyse(given, flipped)


def test_an_unknown_rotation_leaves_the_sign_to_the_images(scan: Scan, outcome: Outcome) -> None:
    found = analyse(given_of(scan, scan_rotation_deg=None), scan.frames)
    assert found.figures["defocus_nm"] == pytest.approx(outcome.figures["defocus_nm"])
    assert found.verdict == "good", found.reason
    assert found.figures["half_turn_known"] is True
    assert found.figures["scan_rotation_deg"] == pytest.approx(ROTATION_DEG, abs=1.0)
    other = analyse(given_of(scan, scan_rotation_deg=ROTATION_DEG + 20), scan.frames)
    assert other.verdict == "doubtful"
    assert "the rotation differs by" in other.reason


def test_missing_frames_are_left_out_and_too_many_are_refused(scan: Scan) -> None:
    rng = np.random.default_rng(2)
    recorded = rng.random(scan.frames.shape[:2]) > 0.03
    found = analyse(given_of(scan), scan.frames, recorded)
    assert found.figures["positions"] == recorded.sum()
    assert found.figures["defocus_nm"] == pytest.approx(DEFOCUS_NM, abs=DEPTH_NM / 4)
    assert np.isnan(picture(found, "bright_field")).sum() == (~recorded).sum()
    with pytest.raises(NotPossible, match="were recorded"):
        analyse(given_of(scan), scan.frames, rng.random(scan.frames.shape[:2]) > 0.3)
    with pytest.raises(NotPossible, match="no position"):
        analyse(given_of(scan), scan.frames, np.zeros(scan.frames.shape[:2], bool))


def test_values_that_are_no_numbers_cost_their_pixel_or_their_frame(scan: Scan, outcome: Outcome) -> None:
    frames = scan.frames.astype(np.float32)
    frames[3, 4, 23, 23] = np.nan
    frames[10, 11] = np.nan
    found = analyse(given_of(scan), frames)
    assert found.figures["positions"] == 40 * 40 - 1
    assert found.figures["defocus_nm"] == pytest.approx(outcome.figures["defocus_nm"], abs=0.2)
    assert np.isfinite(picture(found, "aligned")).all()


def test_one_row_unequal_steps_and_a_disk_off_the_detector_are_refused(scan: Scan) -> None:
    given = given_of(scan)
    with pytest.raises(NotPossible, match="too few"):
        analyse(given, scan.frames[:1])
    with pytest.raises(NotPossible, match="steps differ"):
        analyse(replace(given, scan_step_nm=(0.08, 0.1)), scan.frames)
    moving = np.zeros((2, 40, 40))
    moving[:] = np.array(scan.middle_px)[:, None, None]
    moving[0, -1] += 15
    with pytest.raises(BadInput, match="origin_px"):
        analyse(replace(given, origin_px=moving), scan.frames)
    with pytest.raises(BadInput, match="must lie on the detector"):
        analyse(replace(given, origin_px=np.array([200.0, 200.0])), scan.frames)


def test_descan_by_whole_pixels_is_followed(scan: Scan, outcome: Outcome) -> None:
    origin = np.zeros((2, 40, 40))
    origin[:] = np.array(scan.middle_px)[:, None, None]
    frames = scan.frames.copy()
    frames[20:] = np.roll(frames[20:], 2, axis=2)
    origin[0, 20:] += 2
    found = analyse(given_of(scan, origin_px=origin), frames)
    # The mean origin is a whole pixel off the first half's: the same groups, but for the detector's border.
    assert found.figures["defocus_nm"] == pytest.approx(outcome.figures["defocus_nm"], abs=0.2)


def test_dead_and_hot_pixels_are_left_out(scan: Scan, outcome: Outcome) -> None:
    bad = np.zeros(scan.frames.shape[2:], bool)
    bad[22, 25] = bad[28, 20] = True
    frames = scan.frames.copy()
    frames[:, :, 22, 25], frames[:, :, 28, 20] = 65535, 0
    found = analyse(given_of(scan, bad_pixels=bad), frames)
    assert found.figures["defocus_nm"] == pytest.approx(outcome.figures["defocus_nm"], abs=0.3)


def test_a_low_dose_is_refused_and_a_thick_specimen_doubtful(scan: Scan) -> None:
    low = np.random.default_rng(4).binomial(scan.frames, 0.004).astype(np.uint16)
    with pytest.raises(NotPossible, match="sigma above noise; no structure or too little dose"):
        analyse(given_of(scan), low)
    thick = analyse(given_of(scan, thickness_nm=20.0), scan.frames)
    assert thick.verdict == "doubtful"
    assert "thicker than the depth of field" in thick.reason


def test_counts_are_kept_in_the_smallest_type_that_holds_them(scan: Scan) -> None:
    given = given_of(scan)
    single = angle_groups(given, (48, 48), 0.02, DEFOCUS_NM)
    assert single.width_px == 1
    assert counts_type(replace(given, full_scale=63), np.dtype(np.uint16), single) == np.uint8
    assert counts_type(given, np.dtype(np.uint16), single) == np.uint16
    assert counts_type(given, np.dtype(np.float64), single) == np.float32
    # Signed values come from a dark level taken off: noise goes below 0.
    assert counts_type(replace(given, full_scale=4095), np.dtype(np.int16), single) == np.float32
    long = replace(given, mrad_per_pixel=0.4, bad_pixels=np.zeros((160, 160), bool), origin_px=np.array([79.5, 79.5]))
    wide = angle_groups(long, (160, 160), 0.08, 1.0)
    number = int(np.diff(np.append(wide.first, len(wide.pixels))).max())
    assert number > 1
    # As many pixels as stand at 255 together need more than their own byte.
    assert counts_type(replace(long, full_scale=255), np.dtype(np.uint8), wide) == np.uint16


def test_values_beyond_the_counter_do_not_wrap(scan: Scan) -> None:
    given = given_of(scan, full_scale=63)
    single = angle_groups(given, (48, 48), 0.02, DEFOCUS_NM)
    over = np.full((1, 2, 48, 48), 7, np.uint16)
    over[0, 1, 24, 24] = 300
    found = gathered(given, InMemory(over), single, 0, 1)
    # More than 63 cannot be counted: the pixel is taken as the mean of the others.
    assert (found["counts"] == 7).all()
    assert found["recorded"].all()


@pytest.mark.slow
def test_the_biological_reference_is_in_the_focus_it_was_made_with(recorded_data: Path) -> None:
    scan = reference(recorded_data, "f_defocus_bio")
    found = analyse(given_of(scan, defocus_nm=1300.0, scan_rotation_deg=2.0), scan.frames)
    assert found.verdict == "good", found.reason
    # 1 %.
    assert found.figures["defocus_nm"] == pytest.approx(1500.0, abs=15.0)
