"""What patterns say against what is known of them is told whatever is made of them; what agrees is passed over."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from analyse_world import InMemory
from quality_world import disk, maps_of

from stem4d.analyse.method import Given, Outcome
from stem4d.analyse.methods import FROM_MAPS
from stem4d.analyse.seen import doubts_of, look, with_doubts

SIDE, RADIUS_PX, SCAN = 48, 9.0, (6, 7)


def given(**more: object) -> Given:
    known = Given(200.0, 18.0, 2.0, (0.5, 0.5), np.array([23.2, 24.1]), np.zeros((SIDE, SIDE), bool), 0.0)
    return replace(known, **more)


def frames(descan_px: float = 0.0, seed: int = 0) -> np.ndarray:
    """A disk of 20 electrons a pixel, that moves along x by ``descan_px`` over the scan."""
    rng = np.random.default_rng(seed)
    made = np.empty((*SCAN, SIDE, SIDE), np.uint16)
    for y, x in np.ndindex(SCAN):
        shape = disk((SIDE, SIDE), (23.2, 24.1 + descan_px * (x / 6 - 0.5)), RADIUS_PX)
        made[y, x] = rng.poisson(20 * shape + 0.05)
    return made


def told(known: Given, data: np.ndarray) -> str:
    return "; ".join(doubts_of(known, look(known, InMemory(data))))


@pytest.mark.parametrize("descan_px", [0.0, 6.0])
def test_what_agrees_is_passed_over(descan_px: float) -> None:
    origin = np.zeros((2, *SCAN))
    origin[0], origin[1] = 23.2, 24.1 + descan_px * (np.arange(7) / 6 - 0.5)
    assert told(given(origin_px=origin), frames(descan_px)) == ""


def test_positions_whose_origin_is_not_known_lie_where_the_pattern_lies_on_the_whole() -> None:
    origin = np.full((2, *SCAN), np.nan)
    origin[:, 1:] = np.array([23.2, 24.1])[:, None, None]
    assert told(given(origin_px=origin), frames()) == ""


@pytest.mark.parametrize("factor", [0.5, 0.9, 1.1, 2.0])
@pytest.mark.parametrize("name", ["convergence_semi_angle_mrad", "mrad_per_pixel"])
def test_an_angle_that_is_not_the_disks_is_told(name: str, factor: float) -> None:
    known = given()
    assert "one of these angles is wrong" in told(replace(known, **{name: factor * getattr(known, name)}), frames())


@pytest.mark.parametrize("factor", [1.0, 2.0])
def test_maps_of_a_pass_are_held_against_the_angles(factor: float) -> None:
    maps = maps_of(frames().astype(np.int64), None)
    (outcome,) = FROM_MAPS["com"](given(convergence_semi_angle_mrad=18.0 * factor), maps, None).values()
    assert ("one of these angles is wrong" in outcome.reason) == (factor == 2.0)


@pytest.mark.parametrize("value", [30, 3000])
def test_a_hot_pixel_is_told_with_its_place_until_it_is_left_out(value: int) -> None:
    data = frames()
    data[:, :, 5, 40] = value
    assert "1 pixel(s) stand out in all frames" in told(given(), data)
    assert "(5, 40)" in told(given(), data)
    bad = np.zeros((SIDE, SIDE), bool)
    bad[5, 40] = True
    assert told(given(bad_pixels=bad), data) == ""


@pytest.mark.parametrize(("off_px", "doubted"), [(1.0, False), (4.0, True), (12.0, True)])
def test_a_disk_that_lies_elsewhere_is_told(off_px: float, doubted: bool) -> None:
    origin = np.array([23.2 - off_px, 24.1])
    assert ("from the centre that was said, at (23.2, 24.1)" in told(given(origin_px=origin), frames())) == doubted


def test_a_small_disk_of_few_electrons_is_not_held_to_five_per_cent() -> None:
    known = given(convergence_semi_angle_mrad=6.0)
    mean = disk((SIDE, SIDE), (23.2, 24.1), 3.0) / (np.pi * 9.0) * 20 + 0.0002
    rng = np.random.default_rng(0)
    # 120 electrons in all: the radius is known to some 5 %.
    alarms = [told(known, rng.poisson(mean, (2, 3, SIDE, SIDE)).astype(np.uint8)) for _ in range(20)]
    assert sum(map(bool, alarms)) <= 1, alarms


def test_one_pixel_far_below_zero_is_told() -> None:
    data = frames().astype(np.float64)
    data[:, :, 4, 7] = -150.0
    assert "below zero come to 3%" in told(given(), data)


def test_a_cosmic_ray_is_no_hot_pixel() -> None:
    data = frames()
    data[0, 3, 5, 40] = 60000
    assert told(given(), data) == ""


def test_too_high_a_dark_level_is_told_and_readout_noise_is_not() -> None:
    rng = np.random.default_rng(4)
    noisy = frames() + rng.normal(0.0, 0.5, (*SCAN, SIDE, SIDE))
    assert told(given(), noisy) == ""
    # 0.45 of each of 1600 pixels in blocks clear of the disk, beside 20 of each of its 254.
    assert "below zero come to 14%" in told(given(), noisy - 0.5)


def test_counts_per_electron_are_no_hot_pixels() -> None:
    """The noise of 20 electrons at 50 counts each is 50 times what as many counts would have."""
    assert told(given(counts_per_electron=50.0), frames().astype(np.float64) * 50.0) == ""


def test_patterns_without_a_disk_say_nothing_of_it() -> None:
    data = np.random.default_rng(1).poisson(0.5, (*SCAN, SIDE, SIDE)).astype(np.uint16)
    assert told(given(), data) == ""


@pytest.mark.parametrize("name", ["d_MoS2_infocus", "d_MoS2_defocus150A", "e_strain_Al001", "f_defocus_bio"])
def test_the_reference_simulations_agree_with_their_angles(recorded_data: Path, name: str) -> None:
    with np.load(recorded_data / "reference_abtem" / f"{name}.npz") as file:
        data, alpha, delta = file["counts"], float(file["semiangle_mrad"]), float(file["mrad_per_px"])
    side = data.shape[2]
    known = Given(80.0, alpha, delta, (0.5, 0.5), np.full(2, side / 2), np.zeros((side, side), bool))
    assert told(known, data) == ""
    assert "one of these angles is wrong" in told(replace(known, convergence_semi_angle_mrad=2 * alpha), data)


def test_a_doubt_makes_good_doubtful_and_leaves_what_is_not_possible() -> None:
    good = Outcome("good", "strain 1e-3.", {})
    assert with_doubts(good, []) is good
    assert with_doubts(good, ["a", "b"]) == Outcome("doubtful", "strain 1e-3; a; b", {})
    never = Outcome("not_possible", "no lattice", {})
    assert with_doubts(never, ["a"]) is never
