"""Defocus, astigmatism and rotation from tilted images: the reference, hidden truths, and what must be refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stem4d.calibrate.angles import add_frames, empty_images, group_angles
from stem4d.calibrate.cross_check import cross_check
from stem4d.calibrate.rotation import fit_rotation
from stem4d.calibrate.scale_fit import circle_matrix, ellipse_vector
from stem4d.calibrate.tilt import TiltFit, fit_tilts
from stem4d.errors import BadInput
from stem4d.simulate.probe import Aberrations
from stem4d.simulate.specimen import Specimen
from tests.stem4d.tilt_world import Scan, centre_of_mass, dark_field, reference, simulate, tilt_images, tilts

RANDOM = Specimen("random", seed=3, spacing_a=4.0, atom_phase_rad=0.6)
ABERRATED = Aberrations(15.0, 2.0, 30.0)
DEPTH_OF_FIELD_NM = 9.1
"""λ/α² at 80 kV and 21.4 mrad."""


@pytest.fixture(scope="module")
def scan() -> Scan:
    return simulate(RANDOM, 2e4, 40.0, True, ABERRATED, step_nm=0.08)


@pytest.fixture(scope="module")
def found(scan: Scan) -> TiltFit:
    return tilts(scan, 19.0)


def test_the_scan_gives_back_what_went_into_it(found: TiltFit) -> None:
    assert found.ok, found.reason
    assert found.mirrored
    assert found.half_turn_known
    # What a run asks for: a quarter of the depth of field, 2 nm, 0.5 degrees. The noise is a tenth of that.
    assert found.defocus_nm == pytest.approx(15.0, abs=DEPTH_OF_FIELD_NM / 4)
    assert found.astigmatism_nm == pytest.approx(2.0, abs=0.5)
    assert found.astigmatism_angle_deg == pytest.approx(30.0, abs=8)
    assert found.rotation_deg == pytest.approx(40.0, abs=0.5 + found.rotation_uncertainty_deg)
    assert found.defocus_nm == pytest.approx(15.0, abs=4 * found.defocus_uncertainty_nm)


@pytest.mark.parametrize("mirrored", [False, True])
def test_an_ellipse_across_the_axes_of_a_mirrored_detector_is_taken_out(mirrored: bool) -> None:
    ellipse = circle_matrix(ellipse_vector(0.06, 30.0))
    scan = simulate(RANDOM, 2e4, 40.0, mirrored, ABERRATED, step_nm=0.08, ellipse=ellipse)
    fit = fit_tilts(
        tilt_images(scan), scan.step_nm, scan.mrad_per_pixel * ellipse, scan.alpha_mrad, scan.energy_kev, 19.0
    )
    assert fit.ok, fit.reason
    assert fit.mirrored is mirrored
    # In the other order the ellipse's oblique part, 0.06 sin 60 degrees, has the other sign: 0.8 nm of astigmatism.
    twice = np.radians(2 * np.array([30.0, fit.astigmatism_angle_deg]))
    parts = np.array([2.0, fit.astigmatism_nm])[:, None] * np.stack([np.cos(twice), np.sin(twice)], axis=1)
    np.testing.assert_allclose(parts[1], parts[0], atol=4 * fit.astigmatism_uncertainty_nm)
    assert fit.astigmatism_uncertainty_nm < 0.1


def test_the_reference_monolayer_is_in_the_focus_it_was_made_with(recorded_data: Path) -> None:
    result = tilts(reference(recorded_data, "d_MoS2_defocus150A"), 20.0, trust_sign=True)
    assert result.ok, result.reason
    # Focus is counted from the box's entrance, 0.36 nm before the metal atoms.
    assert result.defocus_nm == pytest.approx(14.64, abs=0.4)
    assert result.astigmatism_nm < 0.3
    assert not result.mirrored
    assert abs(result.rotation_deg) < 0.5


def test_a_start_of_the_wrong_sign_is_refused(scan: Scan) -> None:
    wrong = tilts(scan, -15.0, mirrored=True)
    assert not wrong.ok
    assert "other sign" in wrong.reason
    # A hint decides where there is no dark field to tell.
    images = tilt_images(scan)
    images.dark_field[:] = 0
    numbers = (scan.step_nm, scan.mrad_per_pixel, scan.alpha_mrad, scan.energy_kev)
    hinted = fit_tilts(images, *numbers, -15.0, rotation_hint_deg=35.0, mirrored=True)
    assert "other sign" in hinted.reason
    assert not fit_tilts(images, *numbers, -15.0, mirrored=True).half_turn_known


def test_vacuum_and_too_little_dose_are_refused() -> None:
    empty = tilts(simulate(Specimen("vacuum"), 2e4), 15.0, mirrored=False)
    assert not empty.ok
    assert "do not align" in empty.reason or "known only" in empty.reason
    dark = tilts(simulate(replace(RANDOM, atom_phase_rad=0.2), 30, 0.0, False, ABERRATED), 15.0, mirrored=False)
    assert not dark.ok


def test_a_saturated_disk_a_wrong_place_and_a_small_or_focused_scan_are_refused(scan: Scan) -> None:
    full = np.minimum(scan.frames, 15)
    images = tilt_images(replace(scan, frames=full), full_scale=15)
    numbers = (scan.step_nm, scan.mrad_per_pixel, scan.alpha_mrad, scan.energy_kev)
    assert "saturated" in fit_tilts(images, *numbers, 15.0).reason
    good = tilt_images(scan)
    assert "too much of the field" in fit_tilts(good, *numbers, 60.0).reason
    assert "move" in fit_tilts(good, *numbers, 1.0).reason
    assert "too few" in tilts(replace(scan, frames=scan.frames[:12]), 15.0).reason
    with pytest.raises(BadInput, match="nominal_defocus_nm"):
        fit_tilts(good, *numbers, 0.0)


def test_hot_and_dead_pixels_in_the_mask_change_little(scan: Scan, found: TiltFit) -> None:
    rng = np.random.default_rng(0)
    bad = rng.random(scan.frames.shape[2:]) < 0.01
    bad[30, 31] = bad[40, 25] = True
    frames = np.where(bad, 0, scan.frames)
    frames[:, :, 30, 31] = frames[:, :, 40, 25] = 65535
    masked = tilts(replace(scan, frames=frames), 15.0, bad, mirrored=True)
    assert masked.ok, masked.reason
    # The same electrons but one in a hundred: a part of the noise.
    assert masked.defocus_nm == pytest.approx(found.defocus_nm, abs=2 * found.defocus_uncertainty_nm)


def test_both_rotations_agree_or_say_so(scan: Scan, found: TiltFit) -> None:
    seen = np.ones(scan.frames.shape[:2], bool)
    focused = simulate(RANDOM, 2e4, 40.0, True)
    deflected = fit_rotation(*centre_of_mass(focused), seen, dark_field(focused))
    both = cross_check(deflected, found)
    assert both.ok, both.reason
    assert both.rotation_deg == pytest.approx(40.0, abs=0.5)
    assert both.rotation_uncertainty_deg < min(deflected.rotation_uncertainty_deg, found.rotation_uncertainty_deg)
    assert both.half_turn_known
    # A half turn that the deflections left open is taken from the images.
    assert cross_check(replace(deflected, rotation_deg=-140.0, half_turn_known=False), found).rotation_deg > 0
    assert "other sign" in cross_check(deflected, replace(found, rotation_deg=-140.0)).reason
    assert "disagree" in cross_check(deflected, replace(found, rotation_deg=50.0)).reason
    assert "handednesses" in cross_check(deflected, replace(found, mirrored=False)).reason
    assert "deflections: dim" in cross_check(replace(deflected, ok=False, reason="dim"), found).reason


def test_groups_hold_their_pixels_and_follow_descan() -> None:
    rng = np.random.default_rng(1)
    groups = group_angles((40, 44), (19.5, 22.0), 12.0)
    # A disk of 452 pixels in groups of four, without those at the rim.
    assert 70 < len(groups.first) < 113
    assert np.hypot(*groups.angles_px.T).max() < 12.0
    # Groups of two cannot be centred on a pixel: half a pixel is left.
    np.testing.assert_allclose(groups.angles_px.mean(axis=0), 0, atol=0.51)
    frames = rng.poisson(5.0, (6, 40, 44)).astype(np.uint16)
    images = empty_images(groups, (2, 3))
    add_frames(images, frames[:4], 0)
    add_frames(images, np.roll(frames[4:], (2, -1), axis=(1, 2)), 4, moved_px=np.array([[2.2, -0.9], [2.0, -1.0]]))
    last = np.add.reduceat(frames[5].ravel()[groups.pixels], groups.first)
    np.testing.assert_array_equal(images.images[:, 1, 2], last)
    assert images.recorded.all()
    with pytest.raises(BadInput, match="moved_px"):
        add_frames(images, frames, 0, moved_px=np.full((6, 2), 15.0))


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("electrons", [2e4, 2e3])
def test_blind_recovery_over_random_truths(electrons: float) -> None:
    rng = np.random.default_rng(9)
    errors, sigmas, refused, number = [], [], [], 60
    for trial in range(number):
        defocus = rng.uniform(8, 25) * rng.choice([-1, 1])
        c12, azimuth, turn = rng.uniform(0, 3), rng.uniform(0, 180), rng.uniform(-180, 180)
        mirrored = bool(rng.integers(2))
        specimen = Specimen(
            ("random", "random", "hexagonal", "square")[trial % 4], int(rng.integers(1e6)), rng.uniform(3, 6),
            rng.uniform(0.2, 1.0), 0.4, vacancy_fraction=0.2,
        )  # fmt: skip
        lens, step = Aberrations(defocus, c12, azimuth), rng.uniform(0.05, 0.1)
        scan = simulate(specimen, electrons, turn, mirrored, lens, step_nm=step, seed=trial)
        result = tilts(scan, defocus * rng.uniform(0.7, 1.3), trust_sign=True)
        if not result.ok:
            refused.append(result.reason)
            continue
        assert result.mirrored == mirrored
        truth = [-defocus, c12 * np.cos(np.radians(2 * azimuth)), c12 * np.sin(np.radians(2 * azimuth)), turn]
        error = result.coefficients_nm[:4] * [1, 1, 1, np.degrees(1)] - truth
        error[3] = (error[3] + 180) % 360 - 180
        errors.append(error)
        sigmas.append(np.sqrt(np.diag(result.covariance)) * [1, 1, 1, np.degrees(1)])
    off = np.array(errors)
    covered = np.abs(off / np.array(sigmas)) < 1
    print(f"{electrons:g} electrons: C10, C12a, C12b [nm], rotation [deg]: bias {off.mean(0).round(3)}")
    print(f"rms {np.sqrt((off**2).mean(0)).round(3)}, median sigma {np.median(sigmas, 0).round(3)}")
    print(f"covered {covered.mean(0).round(2)}, all {covered.mean():.3f}; refused {len(refused)}: {refused}")
    # At a tenth of the dose the weakest specimens, 0.2 to 0.3 rad an atom, are refused.
    assert len(refused) <= number // (10 if electrons > 1e4 else 4)
    assert np.abs(off[:, 0]).max() < DEPTH_OF_FIELD_NM / 4
    assert np.abs(off[:, 1:3]).max() < 2.0
    # 240 figures, four to a scan, scatter by some 4 % about the 60 to 76 % that are asked for.
    assert 0.58 < covered.mean() < 0.80
