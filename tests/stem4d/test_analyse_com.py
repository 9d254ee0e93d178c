"""Deflections, fields and phase against the reference simulation and analytic hills, and what makes them doubtful."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from analyse_world import InMemory, picture, run
from deflected_world import ALPHA_MRAD, MRAD_PER_PX, SIDE, STEP_NM, Deflecting, deflecting, given
from quality_world import disk, maps_of
from scipy.interpolate import RectBivariateSpline

from stem4d import optics
from stem4d.analyse.com import fields, grid
from stem4d.analyse.com.method import COM
from stem4d.analyse.com.outcome import ComOptions, com_outcome
from stem4d.analyse.method import Given, NotPossible
from stem4d.errors import BadInput
from stem4d.maps import RunMaps
from stem4d.virtual_detectors import Annulus


@cache
def lying(rotation: float = 35.0, mirrored: bool = True) -> tuple[Deflecting, RunMaps]:
    """Descanned, turned, mirrored, elliptic."""
    known = given(
        descan_px=3.0, scan_rotation_deg=rotation, mirrored=mirrored, ellipticity=0.04, ellipse_angle_deg=70.0
    )
    made = deflecting(known)
    return made, maps_of(made.frames.astype(np.int64), None)


def test_the_reference_simulation_is_recovered(recorded_data: Path) -> None:
    folder = recorded_data / "reference_abtem"
    with np.load(folder / "d_MoS2_infocus.npz") as data, np.load(folder / "d_MoS2_truth.npz") as truth:
        maps = maps_of(data["counts"].astype(np.int64), None)
        exact, start, delta = data["exact_com_mrad"], float(data["start_A"][0]), float(data["mrad_per_px"])
        phase, extent = truth["projected_potential_VA"] * float(truth["sigma_per_V_A"]), float(truth["extent_A"][0])
    # Its axis 0 is taken for y throughout: scan and detector share their axes.
    known = Given(80.0, 21.4, delta, (0.04, 0.04), np.array([48.0, 48.0]), np.zeros((96, 96), bool), 0.0)
    outcome = com_outcome(known, maps)
    assert outcome.verdict == "good", outcome.reason
    for name, true in zip(("deflection_y", "deflection_x"), exact, strict=True):
        found = picture(outcome, name)
        slope = np.polyfit(true.reshape(-1), found.values.reshape(-1), 1)[0]
        # Noise 0.08 of 0.7 mrad in 1024 positions: 0.4 % of the slope, and as much of the correlation.
        assert slope == pytest.approx(1.0, abs=0.015)
        pulls = (found.values - true) / found.uncertainty
        assert pulls.std() == pytest.approx(1.0, abs=0.08)
    pixels = phase.shape[0]
    k = np.fft.fftfreq(pixels, extent / pixels)
    aperture = np.hypot(k[:, None], k[None, :]) * optics.wavelength_a(80.0) <= 21.4e-3
    probe = np.abs(np.fft.ifft2(aperture)) ** 2
    seen = np.fft.ifft2(np.fft.fft2(phase) * np.fft.fft2(probe / probe.sum()).conj()).real
    at = start + np.arange(32) * 0.4
    true = RectBivariateSpline(*([np.arange(pixels) * extent / pixels] * 2), seen)(at, at)
    integrated = picture(outcome, "phase")
    error = integrated.values - (true - true.mean())
    assert np.polyfit(true.reshape(-1), integrated.values.reshape(-1), 1)[0] == pytest.approx(1.0, abs=0.02)
    # Beside the noise of 0.0043 rad, deflections are a gradient to 0.4 %, and the phase is 0.05 rad.
    assert error.std() < 1.4 * float(np.mean(integrated.uncertainty))


def test_turn_mirror_ellipse_descan_and_steps_are_taken_off() -> None:
    made, maps = lying()
    outcome = com_outcome(made.given, maps)
    assert outcome.verdict == "good", outcome.reason
    for name, true in (("deflection_y", made.y_mrad), ("deflection_x", made.x_mrad)):
        found = picture(outcome, name)
        pulls = (found.values - true) / found.uncertainty
        # 672 deviates: their spread is known to 3 %.
        assert pulls.std() == pytest.approx(1.0, abs=0.1)
        assert abs(pulls.mean()) < 0.15
    # α/2 sqrt(n), a little more for the blurred edge.
    assert outcome.figures["noise_y_mrad"] == pytest.approx(ALPHA_MRAD / 2 / np.sqrt(4000), rel=0.05)
    assert abs(outcome.figures["rotation_left_deg"]) < 4 * outcome.figures["rotation_left_uncertainty_deg"]


def test_the_phase_and_its_noise_are_right() -> None:
    pulls = []
    for seed in range(6):
        made = deflecting(given(), seed=seed)
        found = picture(com_outcome(made.given, maps_of(made.frames.astype(np.int64), None)), "phase")
        pulls.append((found.values - made.phase_rad) / found.uncertainty)
    # Low frequencies, of which a field has few, hold most of the power: six fields know the spread to 15 %.
    assert np.std(pulls) == pytest.approx(1.0, abs=0.3)


def test_the_integral_is_exact_and_does_not_wrap() -> None:
    step, shape = (0.05, 0.08), (40, 50)
    y, x = np.meshgrid(*(np.arange(n) * s for n, s in zip(shape, step, strict=True)), indexing="ij")
    true = np.sin(6 * y + 5 * x) + 3 * x + 2 * y * x
    slopes = 6 * np.cos(6 * y + 5 * x) + 2 * x, 5 * np.cos(6 * y + 5 * x) + 3 + 2 * y
    values, _ = grid.integrated(*slopes, step, (0.0, 0.0))
    # The fifth order of a spline of 0.4 rad a step.
    np.testing.assert_allclose(values, true - true.mean(), atol=1e-3)
    assert np.abs(grid.curl_of(*slopes, grid.slopes(shape, step), (1.0, 1.0)).values[4:-4, 4:-4]).max() < 0.01
    rng = np.random.default_rng(0)
    drawn = [grid.integrated(rng.normal(0, 1, shape), rng.normal(0, 2, shape), step, (1.0, 2.0))[0] for _ in range(100)]
    stated = grid.integrated(*slopes, step, (1.0, 2.0))[1]
    # 100 draws know each spread to 7 %; the splines' ends are left out of the formula.
    assert np.mean(np.std(drawn, axis=0) / stated) == pytest.approx(1.0, abs=0.05)


def test_what_turns_x_towards_y_has_a_positive_curl() -> None:
    """docs/conventions.md: v = ω (-y, x) on (x, y) has 2ω, v = (x, y) a divergence of 2."""
    step = (0.5, 0.25)
    y, x = np.meshgrid(*(np.arange(6) * one for one in step), indexing="ij")
    axes = grid.slopes(y.shape, step)
    np.testing.assert_allclose(grid.curl_of(1.5 * x, -1.5 * y, axes, (1.0, 1.0)).values, 3.0, atol=1e-9)
    np.testing.assert_allclose(grid.divergence_of(y, x, axes, (1.0, 1.0)).values, 2.0, atol=1e-9)


@pytest.mark.parametrize("wrong", [8.0, -20.0])
def test_a_wrong_rotation_leaves_curl_and_is_told(wrong: float) -> None:
    made, maps = lying()
    outcome = com_outcome(replace(made.given, scan_rotation_deg=35.0 + wrong), maps)
    assert outcome.verdict == "doubtful"
    assert "rotation looks off" in outcome.reason
    assert outcome.figures["rotation_left_deg"] == pytest.approx(-wrong, abs=2.0)


def test_the_wrong_handedness_is_doubtful() -> None:
    made, maps = lying()
    outcome = com_outcome(replace(made.given, mirrored=False), maps)
    assert outcome.verdict == "doubtful"
    assert "curl" in outcome.reason


def test_an_unknown_rotation_is_found_or_left_open() -> None:
    made = deflecting(given(scan_step_nm=(0.2, 0.2), scan_rotation_deg=25.0, mirrored=True), electrons=20000)
    maps = maps_of(made.frames.astype(np.int64), None)
    square = replace(made.given, scan_rotation_deg=None, mirrored=None)
    outcome = com_outcome(square, maps)
    assert "found in these deflections but for half a turn" in outcome.reason
    assert outcome.figures["mirrored"] is True
    # Its own error is 0.5 deg; with the other handedness no angle is without curl.
    assert (outcome.figures["scan_rotation_deg"] - 25.0 + 90) % 180 - 90 == pytest.approx(0.0, abs=2.0)
    for name, true in (("deflection_y", made.y_mrad), ("deflection_x", made.x_mrad)):
        assert abs(np.corrcoef(true.reshape(-1), picture(outcome, name).values.reshape(-1))[0, 1]) > 0.99
    assert com_outcome(replace(square, mirrored=False), maps).figures["scan_rotation_deg"] is None
    outcome = com_outcome(replace(square, scan_step_nm=STEP_NM), maps)  # fitted with equal steps alone
    assert outcome.verdict == "doubtful"
    assert "rotation is not known" in outcome.reason
    assert {one.name for one in outcome.pictures} == {"deflection_y", "deflection_x", "deflection", "direction"}


def test_fields_have_their_units_and_signs() -> None:
    # p v/e = E (E + 2mc²)/(E + mc²) = 343.7 kV at 200 kV, and h/(eλ) = 1649 T µm.
    assert fields.projected_field_v_per_mrad(200.0) == pytest.approx(-343.7, rel=1e-3)
    assert fields.projected_induction_t_nm_per_mrad(200.0) == pytest.approx(1649.0, rel=1e-3)
    made, maps = lying()
    electric = com_outcome(made.given, maps)
    field, bent = picture(electric, "electric_field_y"), picture(electric, "deflection_y")
    assert field.unit == "V"
    np.testing.assert_allclose(field.values, -343.7 * bent.values, rtol=1e-3)
    thick = com_outcome(replace(made.given, thickness_nm=10.0), maps)
    assert picture(thick, "electric_field_y").unit == "V/nm"
    np.testing.assert_allclose(picture(thick, "electric_field_y").values, field.values / 10)
    potential, phase = picture(electric, "potential"), picture(electric, "phase")
    np.testing.assert_allclose(potential.values * 10 * optics.interaction_rad_per_v_a(200.0), phase.values, rtol=1e-9)
    magnetic = com_outcome(made.given, maps, ComOptions(field="magnetic"))
    across = picture(magnetic, "magnetic_induction_x")
    assert across.unit == "T nm"
    np.testing.assert_allclose(across.values, -1649.0 * bent.values, rtol=1e-3)
    assert not any(one.name == "potential" for one in magnetic.pictures)
    thick = com_outcome(replace(made.given, thickness_nm=5.0), maps, ComOptions(field="magnetic"))
    assert picture(thick, across.name).unit == "T"


def test_uncertainties_of_scale_and_origin_are_passed_on() -> None:
    made, maps = lying()
    known = replace(made.given, uncertainty={"mrad_per_pixel": 0.02, "origin_px": 0.01})
    figures = com_outcome(known, maps).figures
    assert figures["deflection_relative_uncertainty"] == pytest.approx(0.02)
    # 0.01 px of 1 mrad over 24 rows of 0.3 nm: 2π θ L/λ.
    assert figures["phase_ramp_uncertainty_rad"] == pytest.approx(2 * np.pi * 1e-5 * 7.2 / 0.00250793, rel=1e-4)


def test_a_region_that_cuts_the_disk_is_corrected_and_doubtful() -> None:
    made = deflecting(given(), height_rad=3.0)
    region = Annulus("region", (15.7, 15.2), 0.0, 8.0)
    kept = made.frames * region.weights((SIDE, SIDE))
    maps = replace(maps_of(kept.astype(np.int64), None), sum_pattern=made.frames.sum((0, 1)).astype(np.uint64))
    outcome = com_outcome(made.given, maps, com_region=region)
    assert outcome.verdict == "doubtful"
    assert outcome.figures["com_response"] < 0.9
    found = picture(outcome, "deflection_x")
    plain = picture(com_outcome(made.given, maps_of(made.frames.astype(np.int64), None)), "deflection_x")
    # Its noise grows as its response falls.
    assert np.mean(found.uncertainty) > np.mean(plain.uncertainty)
    slope = np.polyfit(made.x_mrad.reshape(-1), found.values.reshape(-1), 1)[0]
    # First order: deflections of up to 1 px beside an edge of 2 px.
    assert slope == pytest.approx(1.0, abs=0.2)
    with pytest.raises(NotPossible, match="cuts the disk"):
        com_outcome(made.given, maps, com_region=Annulus("region", (15.7, 15.2), 0.0, 6.0))


def test_electrons_beside_the_region_do_not_make_its_centre_surer() -> None:
    made = deflecting(given(), height_rad=3.0)
    region = Annulus("region", (15.7, 15.2), 0.0, 14.0)
    inside = region.weights((SIDE, SIDE)).astype(bool)
    beside = made.frames + np.where(inside, 0, 20).astype(np.uint16)
    # What an acquisition leaves: the total of all pixels, and a centre that was taken over the region.
    maps = replace(
        maps_of((beside * inside).astype(np.int64), None),
        total=beside.sum((2, 3)).astype(np.uint64),
        sum_pattern=beside.sum((0, 1)).astype(np.uint64),
    )
    counted = com_outcome(made.given, maps, com_region=region, com_counts=(beside * inside).sum((2, 3)))
    outcome = com_outcome(made.given, maps, com_region=region)
    # Of 4000 electrons that change by a root of them from position to position, the rms noise follows to a percent.
    for name in ("noise_y_mrad", "noise_x_mrad"):
        assert outcome.figures[name] == pytest.approx(counted.figures[name], rel=0.01)


def test_bad_pixels_in_the_disk_do_not_move_it() -> None:
    bad = np.zeros((SIDE, SIDE), bool)
    bad[18:21, 17:20] = True
    made = deflecting(given(bad_pixels=bad), height_rad=3.0)
    outcome = com_outcome(made.given, maps_of(made.frames.astype(np.int64), None, bad))
    found = picture(outcome, "deflection_y")
    # 9 of 200 pixels, 4 px off the middle, would move the centre by 0.17 px.
    assert np.mean(found.values - made.y_mrad) == pytest.approx(0.0, abs=0.03)


def test_missing_positions_are_filled_and_masked() -> None:
    made, maps = lying()
    recorded = np.ones(maps.scan_shape, bool)
    recorded[5, 3:20] = recorded[15:18, 10:13] = False
    outcome = com_outcome(made.given, replace(maps, recorded=recorded))
    phase = picture(outcome, "phase")
    assert np.isnan(phase.values[~recorded]).all()
    apart = phase.values - made.phase_rad
    assert np.nanstd(apart) < 0.15 * made.phase_rad.std()
    recorded[:12] = False
    outcome = com_outcome(made.given, replace(maps, recorded=recorded))
    assert outcome.verdict == "doubtful"
    assert "not integrated" in outcome.reason


@pytest.mark.parametrize("rows", [1, 3])
def test_few_rows_give_deflections_and_no_phase(rows: int) -> None:
    known = given()
    made = deflecting(known, (rows, 28))
    outcome = com_outcome(known, maps_of(made.frames.astype(np.int64), None))
    assert outcome.verdict == "doubtful"
    assert "too few" in outcome.reason
    assert picture(outcome, "electric_field_x").values.shape == (rows, 28)


def test_one_wild_pixel_does_not_make_all_centres_surer() -> None:
    made = deflecting(given(), height_rad=3.0)
    frames = made.frames.astype(np.uint32)
    frames[3, 4, 2, 29] = 2_000_000_000
    plain, wild = (com_outcome(made.given, maps_of(one.astype(np.int64), None)) for one in (made.frames, frames))
    assert "outshine" in wild.reason
    assert "outshine" not in plain.reason
    # The disk's rms radius along an axis is half its radius; the blurred edge adds a little to the plain one.
    assert wild.figures["noise_y_mrad"] == pytest.approx(plain.figures["noise_y_mrad"], rel=0.05)


def test_a_disk_that_fills_the_detector_has_centres_all_the_same() -> None:
    wide = given(convergence_semi_angle_mrad=14.0)
    rng = np.random.default_rng(0)
    frames = rng.poisson(6.0 * disk((SIDE, SIDE), (15.7, 15.2), 14.0), (24, 28, SIDE, SIDE)).astype(np.uint16)
    assert run(COM, wide, ComOptions(), InMemory(frames)).figures["positions"] == 24 * 28


@pytest.mark.parametrize("turn_deg", [0.0, 180.0])
def test_deflections_that_point_away_from_atoms_are_half_a_turn_off(recorded_data: Path, turn_deg: float) -> None:
    with np.load(recorded_data / "reference_abtem" / "d_MoS2_infocus.npz") as data:
        frames, delta = data["counts"], float(data["mrad_per_px"])
    known = Given(80.0, 21.4, delta, (0.04, 0.04), np.array([48.0, 48.0]), np.zeros((96, 96), bool), turn_deg)
    outcome = run(COM, known, ComOptions(), InMemory(frames))
    assert ("half a turn off" in outcome.reason) == (turn_deg == 180.0), outcome.reason
    assert outcome.verdict == ("doubtful" if turn_deg else "good")
    # Measured steps always differ a little.
    unlike = run(COM, replace(known, scan_step_nm=(0.04, 0.0404)), ComOptions(), InMemory(frames))
    assert ("half a turn off" in unlike.reason) == (turn_deg == 180.0)
    # What a field of induction does has no such sign.
    assert "half a turn" not in run(COM, known, ComOptions(field="magnetic"), InMemory(frames)).reason


def test_what_carries_nothing_is_refused_or_doubtful() -> None:
    made, maps = lying()
    with pytest.raises(NotPossible, match="no position"):
        com_outcome(made.given, replace(maps, recorded=np.zeros(maps.scan_shape, bool)))
    full = replace(maps, saturated_px=np.ones(maps.scan_shape, np.uint32))
    assert "full scale" in com_outcome(made.given, full).reason
    flat = deflecting(given(), height_rad=0.0)
    outcome = com_outcome(flat.given, maps_of(flat.frames.astype(np.int64), None))
    assert outcome.verdict == "doubtful"
    assert "do not exceed their counting noise" in outcome.reason
    elsewhere = replace(maps, com_y_px=maps.com_y_px + np.float32(0.3))
    assert "another region" in com_outcome(made.given, elsewhere).reason
    with pytest.raises(BadInput):
        com_outcome(replace(made.given, bad_pixels=np.zeros((3, 3), bool)), maps)
    with pytest.raises(BadInput):
        com_outcome(replace(made.given, mrad_per_pixel=0.0), maps)


@pytest.mark.parametrize("kind", [np.uint16, ">u2", np.float32])
def test_a_pass_over_frames_gives_what_the_maps_give(kind: str) -> None:
    made, maps = lying()
    of_maps = com_outcome(made.given, maps)
    of_frames = run(COM, made.given, ComOptions(), InMemory(made.frames.astype(kind)))
    assert of_frames.verdict == "good", of_frames.reason
    for name in ("deflection_y", "phase"):
        one, other = picture(of_maps, name), picture(of_frames, name)
        # The response comes from the patterns of a third of the rows.
        np.testing.assert_allclose(one.values, other.values, atol=0.01 * np.abs(one.values).max())
        np.testing.assert_allclose(one.uncertainty, other.uncertainty, rtol=0.05)


def test_a_pass_over_a_scan_that_was_broken_off() -> None:
    made, _ = lying()
    recorded = np.zeros(made.frames.shape[:2], bool)
    with pytest.raises(NotPossible, match="no frame"):
        run(COM, made.given, ComOptions(), InMemory(made.frames, recorded))
    recorded[4:9] = True
    outcome = run(COM, made.given, ComOptions(), InMemory(made.frames, recorded))
    assert outcome.figures["positions"] == 5 * 28
    assert "not integrated" in outcome.reason


def test_a_region_follows_the_descan_and_frames_without_numbers_are_left_out() -> None:
    made, _ = lying()
    frames = made.frames.astype(np.float32)
    frames[2, 3] = np.nan
    frames[4, 4, 0, 0] = np.nan
    outcome = run(COM, made.given, ComOptions(region_outer_mrad=11.0), InMemory(frames))
    found = picture(outcome, "deflection_x")
    assert np.isnan(found.values[2, 3])
    assert np.isfinite(found.values[4, 4])
    known = np.isfinite(found.values)
    assert np.polyfit(made.x_mrad[known], found.values[known], 1)[0] == pytest.approx(1.0, abs=0.03)
    with pytest.raises(BadInput, match="convergence"):
        run(COM, made.given, ComOptions(region_outer_mrad=4.0 * MRAD_PER_PX), InMemory(frames))
