"""Orientations of simulated patterns against their truth, of other crystals, and what is refused."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from analyse_world import InMemory
from orientation_world import ALUMINIUM, GOLD, MRAD_PER_PX, SIDE, SILICON, TITANIUM, given, patterns, random_rotations

from stem4d.analyse.geometry import angles_per_px
from stem4d.analyse.method import Given, NotPossible, Outcome
from stem4d.analyse.orientation.crystal import read_crystal, reflections
from stem4d.analyse.orientation.directions import (
    about_beam,
    bunge_deg,
    misorientation_deg,
    onto_beam,
    reduced,
    zone,
)
from stem4d.analyse.orientation.method import ORIENTATION, OrientationOptions
from stem4d.errors import BadInput

Truth = np.ndarray


def mapped(
    data: np.ndarray, known: Given, recorded: np.ndarray | None = None, **options: object
) -> tuple[dict, Outcome]:
    """The method over a scan in two parts."""
    rows = InMemory(data, recorded)
    chosen = OrientationOptions(**{"crystal_cif": GOLD} | options)
    prepared = ORIENTATION.prepare(known, chosen, rows)
    half = data.shape[0] // 2
    parts = [ORIENTATION.part(known, chosen, rows, prepared, *each) for each in ((0, half), (half, data.shape[0]))]
    joined = {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}
    return joined | {"turns": prepared["turns"]}, ORIENTATION.finish(known, chosen, prepared, joined)


def picture(outcome: Outcome, name: str) -> np.ndarray:
    """Values of a picture."""
    return next(one.values for one in outcome.pictures if one.name == name)


@cache
def gold(electrons: float = 1e5, number: int = 96) -> tuple[np.ndarray, Truth]:
    """A scan of gold in random orientations."""
    truth = random_rotations(number, 5)
    return patterns(GOLD, truth, electrons).reshape(8, number // 8, SIDE, SIDE), truth


def errors(found: np.ndarray, truth: Truth, turns: np.ndarray) -> np.ndarray:
    """Small rotations (n, 3) [rad] about the laboratory's axes from the truth to what was found."""
    near = np.einsum("nji,njk,mki->nm", found, truth, turns).argmax(1)
    between = found @ np.swapaxes(truth @ turns[near], -1, -2)
    return np.stack([between[:, i, j] - between[:, j, i] for i, j in ((2, 1), (0, 2), (1, 0))], axis=1) / 2


@pytest.mark.slow
def test_orientations_are_found_within_the_step_and_their_errors_are_right() -> None:
    frames, truth = gold()
    found, outcome = mapped(frames, given())
    assert outcome.verdict == "good", outcome.reason
    indexed = np.isfinite(picture(outcome, "misorientation")).reshape(-1)
    # Of random orientations three in four have spots of more than one layer, which the half turn takes.
    assert indexed.mean() > 0.6
    rotation = found["rotation"].reshape(-1, 3, 3)[indexed]
    off = misorientation_deg(rotation, truth[indexed], found["turns"])
    # Far within the step of 2 deg: the spread of intensities tells tilts to hundredths.
    assert np.median(off) < 0.1
    assert off.max() < 2.0
    stated = found["figures"].reshape(-1, found["figures"].shape[-1])[indexed]
    sigma = stated[:, 3:6] * np.sqrt(np.maximum(stated[:, 6:7], 1)) ** np.array([1, 1, 0])
    pulls = errors(rotation, truth[indexed], found["turns"]) / sigma
    known = np.isfinite(pulls).all(1)
    # The width that holds 68 % of some 70 deviates is known to 10 %; a few climbs end beside the top.
    assert np.percentile(np.abs(pulls[known]), 68, axis=0) == pytest.approx(1.0, abs=0.35)


@pytest.mark.slow
def test_rotation_mirror_descan_and_an_ellipse_are_taken_off() -> None:
    truth = random_rotations(32, 6)
    angles = {"scan_rotation_deg": 30.0, "mirrored": True, "ellipticity": 0.03, "ellipse_angle_deg": 20.0}
    plain = replace(given(), **angles)
    origin = (SIDE - 1) / 2 + np.random.default_rng(0).uniform(-4, 4, (32, 2))
    frames = patterns(GOLD, truth, 1e5, to_px=np.linalg.inv(angles_per_px(plain)), origin_px=origin)
    known = replace(plain, origin_px=origin.T.reshape(2, 4, 8))
    found, outcome = mapped(frames.reshape(4, 8, SIDE, SIDE), known)
    indexed = np.isfinite(picture(outcome, "misorientation")).reshape(-1)
    assert indexed.mean() > 0.5
    off = misorientation_deg(found["rotation"].reshape(-1, 3, 3)[indexed], truth[indexed], found["turns"])
    assert off.max() < 2.0


@pytest.mark.slow
@pytest.mark.parametrize("cif", [SILICON, TITANIUM])
def test_another_crystal_is_called_so(cif: str) -> None:
    _, outcome = mapped(gold()[0], given(), crystal_cif=cif)
    assert outcome.verdict == "doubtful"
    assert "not this crystal's" in outcome.reason
    assert outcome.figures["indexed_share"] < 0.2


@pytest.mark.slow
def test_missing_frames_and_bad_pixels_leave_the_rest() -> None:
    frames, truth = gold()
    broken = frames.astype(np.float32)
    broken[0, 0, 3, 4] = np.nan
    broken[0, 1] = np.nan
    bad = np.zeros((SIDE, SIDE), bool)
    bad[20:22] = bad[60, 60] = True
    broken[..., 60, 60] = 60000
    recorded = np.ones(frames.shape[:2], bool)
    recorded[7, 6:] = False
    found, outcome = mapped(broken, given(bad_pixels=bad), recorded)
    assert outcome.figures["positions"] == frames.shape[0] * frames.shape[1] - 7
    score = picture(outcome, "score")
    assert np.isnan(score[0, 1])
    assert np.isfinite(score[0, 0])
    assert np.isnan(score[7, 6:]).all()
    indexed = np.isfinite(picture(outcome, "misorientation")).reshape(-1)
    off = misorientation_deg(found["rotation"].reshape(-1, 3, 3)[indexed], truth[indexed], found["turns"])
    assert np.mean(off > 2) < 0.05


@pytest.mark.slow
def test_vacuum_and_amorphous_films_have_no_orientation() -> None:
    nothing = np.zeros((2, 4, SIDE, SIDE), np.uint16)
    with pytest.raises(NotPossible, match="no crystal"):
        mapped(nothing, given())
    y, x = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2
    smooth = np.random.default_rng(0).poisson(20 * np.exp(-np.hypot(y, x) / 12), (4, 4, SIDE, SIDE)).astype(np.uint16)
    _, outcome = mapped(smooth, given())
    assert outcome.verdict == "doubtful"
    assert outcome.figures["indexed_share"] == 0


def test_an_unknown_rotation_is_doubtful_and_a_detector_too_small_not_possible() -> None:
    _, outcome = mapped(gold()[0][:2], given(scan_rotation_deg=None))
    assert outcome.verdict == "doubtful"
    assert "rotation is not known" in outcome.reason
    small = given(origin_px=np.array([5.5, 5.5]), bad_pixels=np.zeros((12, 12), bool))
    with pytest.raises(NotPossible, match="no room for spots"):
        mapped(np.zeros((1, 4, 12, 12), np.uint16), small)


@pytest.mark.parametrize(
    ("cif", "what"),
    [
        ("not a CIF", "must be the text of a CIF"),
        ("data_x\n_cell_length_a 4\n", "must have atoms"),
        (GOLD.replace("4.0786", "0"), "cell"),
        (GOLD.replace("Au0 Au", "Qq0 Qq"), "chemical symbol"),
        ("data_x\n_tag 1\n", "_cell_length_a"),
    ],
)
def test_a_cif_that_says_too_little_is_refused(cif: str, what: str) -> None:
    with pytest.raises(BadInput, match=what):
        read_crystal(cif)


@pytest.mark.slow
def test_a_thin_plate_is_matched_as_one() -> None:
    truth = random_rotations(48, 7)
    frames = patterns(GOLD, truth, 1e5, thickness_a=30.0).reshape(4, 12, SIDE, SIDE)
    found, outcome = mapped(frames, replace(given(), thickness_nm=3.0), shape="plate")
    indexed = np.isfinite(picture(outcome, "misorientation")).reshape(-1)
    assert indexed.mean() > 0.5
    off = misorientation_deg(found["rotation"].reshape(-1, 3, 3), truth, found["turns"])[indexed]
    assert np.median(off) < 0.1
    # Side lobes of the shape are tops of their own: one in fifty climbs ends on one.
    assert np.mean(off > 2) < 0.05
    _, taken_for_gaussian = mapped(frames, given(), excitation_per_a=0.05)
    assert taken_for_gaussian.verdict == "doubtful"


@pytest.mark.slow
def test_reference_patterns_of_aluminium_lie_along_001_and_turn_as_they_were_turned(recorded_data: Path) -> None:
    with np.load(recorded_data / "reference_abtem" / "e_strain_Al001.npz") as data:
        frames, delta, theta = data["counts"], float(data["mrad_per_px"]), np.degrees(data["theta_rad"])
    side = frames.shape[-1]
    known = Given(200.0, 1.8, delta, (1.0, 1.0), np.full(2, side // 2), np.zeros((side, side), bool), 0.0)
    _, outcome = mapped(frames, known, crystal_cif=ALUMINIUM, excitation_per_a=0.0125)
    assert outcome.verdict == "good", outcome.reason
    beam = np.stack([picture(outcome, f"beam_{axis}") for axis in "xyz"])
    assert np.isfinite(beam).mean() > 0.9
    tilt = np.degrees(np.arccos(np.clip(np.nanmax(np.abs(beam), axis=0), -1, 1)))
    # Four equal spots: a multislice simulation of 4 nm differs from kinematic by less than counting.
    assert np.mean(tilt) < 0.2
    turn = (picture(outcome, "in_plane") + 45) % 90 - 45
    # Their angles run from axis 0 towards axis 1, ours from x (axis 1) towards y. Disks are not evenly bright: the
    # estimators of the strains have slopes of 0.9 to 1 too.
    slope, _ = np.polyfit(theta.reshape(-1), turn.reshape(-1), 1)
    assert slope == pytest.approx(-0.95, abs=0.12)
    assert np.corrcoef(theta.reshape(-1), turn.reshape(-1))[0, 1] < -0.95


def test_a_plate_needs_its_thickness() -> None:
    with pytest.raises(BadInput, match="thickness_nm"):
        mapped(gold()[0][:2], given(), shape="plate")


def test_structure_factors_follow_the_extinctions() -> None:
    silicon = reflections(read_crystal(SILICON), 0.1, 1.0)
    odd = silicon.index % 2
    same = (odd == odd[:, :1]).all(1)
    even = (odd == 0).all(1)
    assert same.all()
    assert (silicon.index[even].sum(1) % 4 == 0).all()
    titanium = reflections(read_crystal(TITANIUM), 0.1, 0.7)
    h, k, l = titanium.index.T  # noqa: E741
    # 6_3 with atoms on the threefold axes: h - k a multiple of 3 takes l even.
    assert not np.any(((h - k) % 3 == 0) & (l % 2 == 1))


@pytest.mark.parametrize(("cif", "order"), [(GOLD, 24), (TITANIUM, 12)])
def test_the_zone_holds_each_direction_once(cif: str, order: int) -> None:
    turns = read_crystal(cif).turns
    assert len(turns) == order
    directions = zone(turns, 2.0)
    whole = 4 * np.pi / (np.sqrt(3) / 2 * np.radians(2.0) ** 2)
    assert len(directions) == pytest.approx(whole / order, rel=0.05)
    everywhere = np.einsum("mij,nj->mni", turns, directions).reshape(-1, 3)
    drawn = random_rotations(200, 3)[:, 2]
    nearest = np.degrees(np.arccos(np.clip((drawn @ everywhere.T).max(1), -1, 1)))
    # A point is at most 1/sqrt(3) steps from the nearest of an even grid, half as much again at the zone's border.
    assert nearest.max() < 1.5 * 2.0 / np.sqrt(3) * 1.2


def test_rotations_keep_their_conventions() -> None:
    drawn = random_rotations(50, 4)
    onto = onto_beam(drawn[:, 2])
    np.testing.assert_allclose(np.einsum("nij,nj->ni", onto, drawn[:, 2]), np.tile([0.0, 0, 1], (50, 1)), atol=1e-9)
    turns = read_crystal(GOLD).turns
    np.testing.assert_allclose(misorientation_deg(drawn, reduced(drawn, turns), turns), 0, atol=1e-5)
    turned = about_beam(np.radians(np.full(50, 10.0))) @ drawn
    np.testing.assert_allclose(misorientation_deg(drawn, turned, turns), 10.0, atol=1e-6)
    first, tilt, second = np.radians(bunge_deg(drawn)).T

    def z(a: np.ndarray) -> np.ndarray:
        return np.swapaxes(about_beam(a), -1, -2)

    cos, sin, one, no = np.cos(tilt), np.sin(tilt), np.ones(50), np.zeros(50)
    x = np.stack([one, no, no, no, cos, sin, no, -sin, cos], axis=1).reshape(-1, 3, 3)
    np.testing.assert_allclose(z(second) @ x @ z(first), np.swapaxes(drawn, -1, -2), atol=1e-9)


@pytest.mark.slow
def test_a_wrong_scale_is_seen_in_the_places_of_the_disks() -> None:
    _, outcome = mapped(gold()[0], replace(given(), mrad_per_pixel=MRAD_PER_PX * 1.06))
    assert outcome.verdict == "doubtful"
