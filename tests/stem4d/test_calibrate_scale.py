"""Angle per pixel and ellipse of a known crystal against truth, and no figure where the crystal is another."""

import numpy as np
import pytest
from lattice_world import disk_of, ring_pattern, spot_pattern, with_bad_pixels

from stem4d.calibrate.disk import DiskFit
from stem4d.calibrate.rings import fit_rings
from stem4d.calibrate.scale import transferred_scale
from stem4d.calibrate.scale_fit import ScaleFit, circle_matrix, ellipse_of, ellipse_vector
from stem4d.calibrate.spots import fit_spots
from stem4d.errors import BadInput
from stem4d.lattice_constants import ALUMINIUM_A, GOLD_A

SMALL = (128, 128)
SCALE = 0.36
# What a run asks for: scale within 0.2 %, ellipticity within 0.003.
SCALE_LIMIT, ELLIPSE_LIMIT = 2e-3, 3e-3


def _right(fit: ScaleFit, scale: float, ellipticity: float, angle_deg: float) -> None:
    assert fit.ok, fit.reason
    assert fit.mrad_per_pixel == pytest.approx(scale, rel=SCALE_LIMIT)
    assert fit.ellipticity == pytest.approx(ellipticity, abs=ELLIPSE_LIMIT)
    # 0.003 of an ellipse of 0.02 turns it by 4 degrees.
    assert abs((fit.ellipse_angle_deg - angle_deg + 90) % 180 - 90) < 4.5


def test_ellipse_and_matrix_agree_with_the_convention() -> None:
    vector = ellipse_vector(0.02, 30.0)
    ellipticity, _, angle, _ = ellipse_of(vector, np.zeros((2, 2)))
    assert (ellipticity, angle) == pytest.approx((0.02, 30.0))
    matrix = circle_matrix(vector)
    assert np.linalg.det(matrix) == pytest.approx(1.0)
    along = np.array([np.sin(np.radians(30)), np.cos(np.radians(30))])
    across = np.array([np.cos(np.radians(30)), -np.sin(np.radians(30))])
    # A long axis and a short one on the detector are one radius in angle.
    assert np.linalg.norm(matrix @ along * 1.02) == pytest.approx(np.linalg.norm(matrix @ across))


@pytest.mark.parametrize(("crystal", "broken"), [("gold", True), ("strontium titanate", False)])
def test_rings_give_scale_and_ellipse_with_bad_pixels_too(crystal: str, broken: bool) -> None:
    rng = np.random.default_rng(11)
    pattern = ring_pattern(
        rng, crystal, shape=SMALL, mrad_per_pixel=SCALE, ellipticity=0.02, angle_deg=-35.0, centre=(65.1, 61.7)
    )
    bad = None
    if broken:
        pattern, bad = with_bad_pixels(rng, pattern)
    fit = fit_rings(pattern, crystal, 200.0, SCALE * 1.02, disk_of(pattern, bad), bad)
    _right(fit, SCALE, 0.02, -35.0)
    # Five standard errors of 0.02 px.
    assert np.abs(np.array(fit.centre_px) - (65.1, 61.7)).max() < 0.1
    assert len(fit.reflections) >= 3
    assert fit.drawing["profile"].shape == fit.drawing["model"].shape == fit.drawing["radius_px"].shape
    assert len(fit.drawing["ring_radius_px"]) == len(fit.reflections)


@pytest.mark.parametrize("crystal", ["gold", "aluminium", "silicon", "strontium titanate"])
def test_spots_give_scale_ellipse_and_rotation(crystal: str) -> None:
    rng = np.random.default_rng(12)
    pattern = spot_pattern(
        rng, crystal, ellipticity=0.02, angle_deg=50.0, centre=(93.2, 97.9), rotation_deg=-20.0, dose=3e6
    )
    pattern, bad = with_bad_pixels(rng, pattern)
    fit = fit_spots(pattern, crystal, 200.0, 0.26 * 0.98, disk_of(pattern, bad), bad)
    _right(fit, 0.26, 0.02, 50.0)
    # The rotation of the lattice itself, within ten standard errors.
    assert fit.rotation_deg == pytest.approx(-20.0, abs=0.05)
    assert np.abs(np.array(fit.centre_px) - (93.2, 97.9)).max() < 0.05
    assert fit.drawing["found_px"].shape == fit.drawing["predicted_px"].shape


@pytest.mark.parametrize(
    ("true", "claimed"), [("silicon", "gold"), ("gold", "strontium titanate"), ("strontium titanate", "aluminium")]
)
def test_spots_of_another_crystal_are_refused(true: str, claimed: str) -> None:
    pattern = spot_pattern(np.random.default_rng(5), true, semi_angle_mrad=1.0)
    fit = fit_spots(pattern, claimed, 200.0, 0.26, disk_of(pattern))
    assert not fit.ok
    assert fit.reason


@pytest.mark.parametrize(("true", "claimed"), [("silicon", "gold"), ("gold", "strontium titanate")])
def test_rings_of_another_crystal_are_refused(true: str, claimed: str) -> None:
    pattern = ring_pattern(np.random.default_rng(5), true, shape=SMALL, mrad_per_pixel=SCALE)
    fit = fit_rings(pattern, claimed, 200.0, SCALE, disk_of(pattern))
    assert not fit.ok
    assert fit.reason


def test_equal_ratios_are_told_apart_by_the_nominal_scale_alone() -> None:
    pattern = spot_pattern(np.random.default_rng(5), "gold", semi_angle_mrad=1.0)
    disk = disk_of(pattern)
    blind = fit_spots(pattern, "aluminium", 200.0, 0.26, disk)
    assert blind.ok
    assert blind.mrad_per_pixel / 0.26 == pytest.approx(GOLD_A / ALUMINIUM_A, rel=5e-4)
    sure = fit_spots(pattern, "aluminium", 200.0, 0.26, disk, nominal_tolerance=0.004)
    assert not sure.ok
    assert "nominal" in sure.reason


@pytest.mark.parametrize("fit", [fit_rings, fit_spots])
def test_vacuum_noise_and_a_missing_disk_are_refused(fit) -> None:
    rng = np.random.default_rng(2)
    vacuum = ring_pattern(rng, shape=SMALL, mrad_per_pixel=SCALE, grains=1, dose=1e3)
    vacuum = rng.poisson(
        np.where(np.hypot(*(np.indices(SMALL) - 63.5)) < 3, 1e4, 0.0) + 20 / (1 + np.hypot(*(np.indices(SMALL) - 63.5)))
    ).astype(float)
    refused = fit(vacuum, "gold", 200.0, SCALE, disk_of(vacuum))
    assert not refused.ok
    assert np.isnan(refused.mrad_per_pixel)
    none = DiskFit((np.nan, np.nan), np.nan, (np.nan, np.nan), np.nan, np.nan, np.nan, ok=False, reason="no counts")
    assert "no counts" in fit(vacuum, "gold", 200.0, SCALE, none).reason
    with pytest.raises(BadInput, match="nominal_mrad_per_pixel"):
        fit(vacuum, "gold", 200.0, 0.0, none)
    with pytest.raises(BadInput, match="bad_pixels"):
        fit(vacuum, "gold", 200.0, SCALE, none, np.zeros((3, 3), dtype=bool))


def test_reflections_that_overlap_the_disk_or_leave_the_detector_do_not_count() -> None:
    # 6 mrad disks cover 111 and 200 of gold at 10.6 and 12.3 mrad.
    wide = ring_pattern(np.random.default_rng(3), shape=SMALL, mrad_per_pixel=0.3, semi_angle_mrad=6.0)
    assert not fit_rings(wide, "gold", 200.0, 0.3, disk_of(wide)).ok
    # The detector ends at 9 mrad.
    near = spot_pattern(np.random.default_rng(3), "gold", shape=SMALL, mrad_per_pixel=0.14, semi_angle_mrad=0.6)
    assert not fit_spots(near, "gold", 200.0, 0.14, disk_of(near)).ok


def test_transfer_adds_the_errors_of_radius_and_angle() -> None:
    disk = DiskFit((63.0, 63.0), 40.0, (0.01, 0.01), 0.02, 0.5, 0.01, ok=True, reason="")
    found = transferred_scale(disk, 10.0, 0.05)
    assert found.ok
    assert found.mrad_per_pixel == pytest.approx(0.25)
    # 0.5 % of the angle and 0.07 % of the radius: within the 0.7 % that a transferred scale may be off.
    assert found.mrad_per_pixel_uncertainty / 0.25 == pytest.approx(np.hypot(0.005, np.hypot(0.02, 0.02) / 40))
    assert not transferred_scale(disk, 10.0, 0.5).ok
    with pytest.raises(BadInput, match="convergence"):
        transferred_scale(disk, 0.0, 0.1)


def _coverage(kind: str, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Errors and their standard errors of scale, ellipticity and the ellipse's components over random truths."""
    rng = np.random.default_rng(2024)
    errors, sigmas = [], []
    for _ in range(number):
        scale, ellipticity, angle = rng.uniform(0.33, 0.45), rng.uniform(0.005, 0.03), rng.uniform(-90, 90)
        truth = {"mrad_per_pixel": scale, "ellipticity": ellipticity, "angle_deg": angle}
        truth |= {"shape": SMALL, "centre": 63.5 + rng.uniform(-4, 4, 2), "semi_angle_mrad": rng.uniform(0.9, 2.0)}
        if kind == "rings":
            pattern = ring_pattern(rng, "gold", dose=1e8, **truth)
        else:
            pattern = spot_pattern(rng, "gold", dose=1e6, rotation_deg=rng.uniform(-45, 45), **truth)
        pattern, bad = with_bad_pixels(rng, pattern)
        fit_one = fit_rings if kind == "rings" else fit_spots
        fit = fit_one(pattern, "gold", 200.0, scale * rng.uniform(0.975, 1.025), disk_of(pattern, bad), bad)
        assert fit.ok, fit.reason
        off = np.array(fit.ellipse_vector) - ellipse_vector(ellipticity, angle)
        errors.append([fit.mrad_per_pixel / scale - 1, fit.ellipticity - ellipticity, *off])
        sigmas.append(
            [fit.mrad_per_pixel_uncertainty / scale, fit.ellipticity_uncertainty, *fit.ellipse_vector_uncertainty]
        )
    return np.array(errors), np.array(sigmas)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["rings", "spots"])
def test_errors_over_random_truths(kind: str) -> None:
    """Rings at 1e8 electrons in the mean pattern, spots at 1e6; with bad pixels."""
    errors, sigmas = _coverage(kind, 60)
    assert np.abs(errors[:, 0]).max() < SCALE_LIMIT
    assert np.abs(errors[:, 1]).max() < ELLIPSE_LIMIT
    covered = (np.abs(errors) < sigmas)[:, [0, 2, 3]].mean()
    print(kind, "bias", errors.mean(0), "rms", np.sqrt((errors**2).mean(0)), "coverage", covered)
    assert 0.60 < covered < 0.76
