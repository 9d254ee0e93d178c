"""Strain maps against known truth: values, their stated errors, frames of reference, splits of the rows."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from benchmarks.strain_set import ROTATION_DEG, SPACING_PX, STRAIN_XX, STRAIN_XY, STRAIN_YY, StrainSet
from stem4d.analyse.method import NotPossible
from stem4d.analyse.strain.method import STRAIN, finish, part, prepare
from stem4d.analyse.strain.options import StrainOptions
from stem4d.optics import wavelength_a
from tests.stem4d.analyse_world import InMemory
from tests.stem4d.strain_world import MRAD_PER_PIXEL, analysed, given, left_half, maps, world

TRUTH = {"exx": STRAIN_XX, "eyy": STRAIN_YY, "exy": STRAIN_XY, "rotation": ROTATION_DEG}
SPACING_NM = 0.1 * wavelength_a(200.0) / (1e-3 * SPACING_PX * MRAD_PER_PIXEL)


@pytest.fixture(scope="module")
def strained() -> StrainSet:
    return world((8, 24))


def right(values: np.ndarray) -> np.ndarray:
    return values[:, values.shape[1] // 2 :]


@pytest.mark.parametrize("origin", ["per_pattern", "fixed"])
def test_strain_is_found_with_the_errors_it_states(strained: StrainSet, origin: str) -> None:
    scan = strained.frames.shape[:2]
    options = StrainOptions(reference_region=left_half(scan), origin=origin)
    _, fits, outcome = analysed(given(), options, strained.frames)
    assert outcome.verdict == "good", outcome.reason
    assert fits["disks"].min() > 40
    for name, (values, sigma) in maps(outcome).items():
        off = (right(values) - TRUTH[name]) / right(sigma)
        # 96 positions: their spread is known to 7 %, their mean to 0.1; both means carry the reference's error too.
        assert 0.78 < off.std() < 1.22, name
        assert abs(off.mean()) < 0.5, name
    assert outcome.figures["misfit"] == pytest.approx(1.0, abs=0.05)


def test_the_origin_is_found_with_the_error_it_states(strained: StrainSet) -> None:
    _, fits, _ = analysed(given(), StrainOptions(), strained.frames)
    off = fits["lattice_px"][..., 0] - np.moveaxis(strained.origin_px, 0, -1)
    pull = off / np.sqrt(fits["covariance"][..., 0])
    assert 0.85 < pull.std() < 1.15
    assert np.abs(off.mean(axis=(0, 1))).max() < 0.01


@pytest.mark.parametrize("counts", [1500.0, 60000.0])
def test_errors_follow_from_the_counts(counts: float) -> None:
    faint = world((8, 24), counts, seed=5)
    _, _, outcome = analysed(given(), StrainOptions(reference_region=left_half((8, 24))), faint.frames)
    for name, (values, sigma) in maps(outcome).items():
        off = (right(values) - TRUTH[name]) / right(sigma)
        # At 60000 counts the edge between two filters adds a little, at 1500 weak disks come and go.
        assert 0.75 < np.nanstd(off) < 1.3, name
    assert outcome.verdict == ("good" if counts > 5e4 else "doubtful")


def test_any_split_of_the_rows_gives_the_same_bytes(strained: StrainSet) -> None:
    rows, options = InMemory(strained.frames), StrainOptions()
    looked = STRAIN.prepare(given(), options, rows)
    whole = STRAIN.part(given(), options, rows, looked, 0, 8)
    for cuts in ((0, 1, 8), (0, 3, 4, 8)):
        pieces = [STRAIN.part(given(), options, rows, looked, a, b) for a, b in pairwise(cuts)]
        for name, values in whole.items():
            assert np.concatenate([piece[name] for piece in pieces]).tobytes() == values.tobytes(), name


def test_rotation_of_the_scan_and_mirror_take_the_strain_to_the_scans_frame(strained: StrainSet) -> None:
    scan = strained.frames.shape[:2]
    options = StrainOptions(reference_region=left_half(scan))
    rows = InMemory(strained.frames)
    looked = prepare(given(), options, rows)
    fits = part(given(), options, rows, looked, 0, scan[0])
    plain = maps(finish(given(), options, looked, fits))
    # A scan turned by 90 degrees: x of the scan lies along y of the detector.
    turned = maps(finish(given(scan_rotation_deg=90.0), options, looked, fits))
    np.testing.assert_allclose(turned["exx"][0], plain["eyy"][0], atol=1e-12)
    np.testing.assert_allclose(turned["eyy"][0], plain["exx"][0], atol=1e-12)
    np.testing.assert_allclose(turned["exy"][0], -plain["exy"][0], atol=1e-12)
    np.testing.assert_allclose(turned["rotation"][0], plain["rotation"][0], atol=1e-12)
    # At 45 degrees the shear is half the difference of the strains.
    diagonal = maps(finish(given(scan_rotation_deg=45.0), options, looked, fits))
    half = (plain["exx"][0] - plain["eyy"][0]) / 2
    np.testing.assert_allclose(np.abs(diagonal["exy"][0]), np.abs(half), atol=1e-9)
    mirrored = maps(finish(given(mirrored=True), options, looked, fits))
    np.testing.assert_allclose(mirrored["exx"][0], plain["exx"][0], atol=1e-12)
    np.testing.assert_allclose(mirrored["exy"][0], -plain["exy"][0], atol=1e-12)
    np.testing.assert_allclose(mirrored["rotation"][0], -plain["rotation"][0], atol=1e-12)


def test_the_shear_has_the_scans_sign(strained: StrainSet) -> None:
    """Along the scan's 45 degrees, docs/conventions.md: r shows on the detector along turn(a) r."""
    scan = strained.frames.shape[:2]
    options = StrainOptions(reference_region=left_half(scan))
    _, _, outcome = analysed(given(scan_rotation_deg=45.0), options, strained.frames)
    turn = np.array([[1.0, 1.0], [-1.0, 1.0]]) / np.sqrt(2)
    expected = turn.T @ np.array([[STRAIN_YY, STRAIN_XY], [STRAIN_XY, STRAIN_XX]]) @ turn
    found = maps(outcome)
    # 96 positions of 8e-4 each, and the reference.
    assert right(found["exy"][0]).mean() == pytest.approx(expected[0, 1], abs=4e-4)
    assert right(found["exx"][0]).mean() == pytest.approx(expected[1, 1], abs=4e-4)


def test_strain_against_a_stated_lattice_carries_the_calibrations_error(strained: StrainSet) -> None:
    options = StrainOptions(reference="absolute", lattice_a_nm=SPACING_NM)
    known = given(uncertainty={"mrad_per_pixel": 0.002 * MRAD_PER_PIXEL, "ellipticity": 1e-4})
    looked, fits, outcome = analysed(known, options, strained.frames)
    found = maps(outcome)
    assert right(found["exx"][0]).mean() == pytest.approx(STRAIN_XX, abs=3e-4)
    assert right(found["eyy"][0]).mean() == pytest.approx(STRAIN_YY, abs=3e-4)
    assert found["exx"][1].min() > 0.002
    assert found["exy"][1].max() < 0.002
    assert outcome.verdict == "doubtful"
    assert outcome.figures["spacing1_uncertainty_nm"] == pytest.approx(0.002 * SPACING_NM, rel=0.02)
    wide = given(mrad_per_pixel=1.004 * MRAD_PER_PIXEL, uncertainty=known.uncertainty)
    shrunk = maps(finish(wide, options, looked, fits))
    np.testing.assert_allclose(shrunk["exx"][0], (1 + found["exx"][0]) / 1.004 - 1, atol=1e-9)
    sure = given(uncertainty={"mrad_per_pixel": 1e-5 * MRAD_PER_PIXEL, "ellipticity": 1e-5})
    assert finish(sure, options, looked, fits).verdict == "good"
    # The stated lattice is turned as the median of those found, whose error rotation carries as in a region.
    turned = finish(sure, options, looked, fits)
    beside = finish(sure, StrainOptions(), looked, fits)
    stated = [each.figures["rotation_uncertainty_deg"] for each in (turned, beside)]
    # The two references differ by the strain.
    assert stated[0] == pytest.approx(stated[1], rel=0.01)
    assert stated[0] == pytest.approx(np.median(maps(turned)["rotation"][1]))
    with pytest.raises(NotPossible, match="another lattice"):
        finish(known, StrainOptions(reference="absolute", lattice_a_nm=0.7 * SPACING_NM), looked, fits)


def test_what_nobody_knows_of_the_scale_is_no_certainty(strained: StrainSet) -> None:
    """A scale 1 % wrong shows as 1 % of strain: without its uncertainty there is none to state, and no good result."""
    options = StrainOptions(reference="absolute", lattice_a_nm=SPACING_NM)
    wrong = given(mrad_per_pixel=1.01 * MRAD_PER_PIXEL)
    looked, fits, outcome = analysed(wrong, options, strained.frames)
    assert outcome.verdict == "doubtful"
    assert "mrad_per_pixel and ellipticity" in outcome.reason
    unknown = ("exx_uncertainty", "exy_uncertainty", "reference_uncertainty", "spacing1_uncertainty_nm")
    assert [outcome.figures[name] for name in unknown] == [None] * 4
    assert {each.name for each in outcome.pictures if each.uncertainty is None} == {"exx", "eyy", "exy", "disks"}
    # Against a region the scale cancels; a spacing needs it.
    relative = finish(wrong, StrainOptions(reference_region=left_half((8, 24))), looked, fits)
    assert relative.verdict == "good"
    assert relative.figures["spacing1_uncertainty_nm"] is None


def test_an_ellipse_of_the_projector_is_taken_out(strained: StrainSet) -> None:
    options = StrainOptions(reference="absolute", lattice_a_nm=SPACING_NM)
    sure = {"mrad_per_pixel": 1e-5, "ellipticity": 1e-5, "ellipse_angle_deg": 0.01}
    looked, fits, outcome = analysed(given(uncertainty=sure), options, strained.frames)
    round_, oval = maps(outcome), maps(finish(given(ellipticity=0.01, uncertainty=sure), options, looked, fits))
    # The long axis lies along x: angles along x are smaller by half a percent, spacings larger.
    np.testing.assert_allclose(oval["exx"][0] - round_["exx"][0], 0.005, atol=2e-4)
    np.testing.assert_allclose(oval["eyy"][0] - round_["eyy"][0], -0.005, atol=2e-4)
    relative = StrainOptions(reference_region=left_half(strained.frames.shape[:2]))
    before, after = (maps(finish(given(ellipticity=each), relative, looked, fits)) for each in (0.0, 0.01))
    np.testing.assert_allclose(after["exx"][0], before["exx"][0], atol=2e-4)


def test_without_a_scan_rotation_the_axes_are_said_to_be_the_detectors(strained: StrainSet) -> None:
    _, _, outcome = analysed(given(scan_rotation_deg=None, scan_step_nm=(2.0, 0.5)), StrainOptions(), strained.frames)
    assert outcome.figures["frame"] == "detector"
    assert "detector" in outcome.reason
    assert {picture.pixel_nm for picture in outcome.pictures} == {(2.0, 0.5)}


def test_aluminium_of_the_reference_simulation(recorded_data: Path) -> None:
    """Its first axis is our y: its exx is our eyy, and its rotation ours with the other sign."""
    with np.load(recorded_data / "reference_abtem" / "e_strain_Al001.npz") as known:
        truth = {"exx": known["eyy"], "eyy": known["exx"], "exy": known["exy"], "rotation": -known["theta_rad"]}
        scale = float(known["mrad_per_px"])
        where = given(mrad_per_pixel=scale, convergence_semi_angle_mrad=1.8, origin_px=np.array([64.0, 64.0]))
        options = StrainOptions(reflection_d_a=2.02475)
        _, _, outcome = analysed(where, options, known["counts"])
    assert outcome.verdict == "good", outcome.reason
    for name, (values, _) in maps(outcome).items():
        measured = np.radians(values) if name == "rotation" else values
        slope, offset = np.polyfit(truth[name].ravel(), measured.ravel(), 1)
        assert (measured.ravel() - slope * truth[name].ravel() - offset).std() < 1e-3
        # The levels of the data set's README; the rest is pixels of its finite window.
        low, high = (0.95, 1.08) if name in ("exx", "eyy") else (0.90, 1.0)
        assert low < slope < high, name
