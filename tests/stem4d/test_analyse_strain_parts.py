"""Filters, lattices and tensors of the strain analysis, each alone against what is known exactly."""

import numpy as np
import pytest
from scipy.special import erfc

from stem4d.analyse.lattice import find_lattice, reduced, repeats
from stem4d.analyse.method import NotPossible
from stem4d.analyse.strain.template import (
    BACKGROUND,
    HEIGHT,
    PHASES,
    STEP_X,
    STEP_Y,
    disk_template,
    phase_offset,
)
from stem4d.analyse.strain.tensor import polar, stated_lattice, tensors
from stem4d.calibrate.crystals import hexagonal


def disk(side: int, centre: tuple[float, float], radius: float, blur: float) -> np.ndarray:
    within = (np.arange(9) + 0.5) / 9 - 0.5
    at = np.arange(side)[:, None] - side // 2 + within
    y, x = (at.ravel() - each for each in centre)
    values = 0.5 * erfc((np.hypot(y[:, None], x[None, :]) - radius) / (np.sqrt(2) * blur))
    return values.reshape(side, 9, side, 9).mean(axis=(1, 3))


@pytest.mark.parametrize("neighbours", [None, np.array([[0.0, 12.0], [3.0, -12.0]])])
def test_filters_tell_a_disks_place_height_and_background(neighbours: np.ndarray | None) -> None:
    blur = 0.5
    width = np.sqrt(blur**2 + 1 / 12)
    template = disk_template(6.0, width, 3.0, 0.05, 100.0, neighbours_px=neighbours)
    side = template.filters.shape[-1]
    for phase in (0, 11, 37, PHASES**2 - 1):
        offset = phase_offset(phase // PHASES), phase_offset(phase % PHASES)
        for off in (0.0, 0.05):
            window = 7.0 * disk(side, (offset[0] + off, offset[1] - off), 6.0, blur) + 0.4
            found = (template.filters[phase] * window).sum(axis=(1, 2))
            assert found[HEIGHT] == pytest.approx(7.0, rel=0.02)
            assert found[BACKGROUND] == pytest.approx(0.4, abs=0.05)
            # The step is linear: 3 % of it is its second order.
            assert found[STEP_Y] / found[HEIGHT] == pytest.approx(off, abs=3e-3)
            assert found[STEP_X] / found[HEIGHT] == pytest.approx(-off, abs=3e-3)


def test_light_that_slopes_does_not_move_a_bright_disk() -> None:
    """What is allowed for where electrons are many is noise where they are few."""
    shifts = []
    for electrons in (1e6, 0.1):
        template = disk_template(6.0, 0.6, 3.0, 0.05, electrons)
        side, middle = template.filters.shape[-1], PHASES // 2
        at = np.arange(side) - side // 2 - phase_offset(middle)
        window = disk(side, (phase_offset(middle),) * 2, 6.0, 0.53) * (1 + 0.2 * at[:, None] / 6.0)
        found = (template.filters[middle * PHASES + middle] * window).sum(axis=(1, 2))
        shifts.append(abs(float(found[STEP_Y] / found[HEIGHT])))
    assert shifts[0] < 0.005
    assert shifts[1] > 0.05


def test_neighbours_that_leave_no_outline_are_refused() -> None:
    around = 5.0 * np.array([(h, k) for h in (-1, 0, 1) for k in (-1, 0, 1) if h or k])
    with pytest.raises(NotPossible, match="no outline"):
        disk_template(6.0, 0.5, 3.0, 0.05, 1.0, neighbours_px=around)


@pytest.mark.parametrize(
    "vectors", [[[20.0, 3.0], [-2.0, 17.0]], [[0.0, 16.0], [13.86, 8.0]], [[12.0, 0.0], [5.0, 30.0]]]
)
def test_a_lattice_is_found_whatever_disks_are_missing(vectors: list[list[float]]) -> None:
    rng = np.random.default_rng(2)
    truth = reduced(np.array(vectors).T)
    index = np.array([(h, k) for h in range(-3, 4) for k in range(-2, 3) if h or k])
    index = index[rng.random(len(index)) > 0.3]
    offsets = index @ truth.T + rng.normal(0, 0.3, (len(index), 2))
    found = find_lattice(offsets, rng.uniform(1, 3, len(index)))
    assert found is not None
    # The same lattice, whichever of its shortest vectors noise makes the shorter.
    steps = np.rint(np.linalg.inv(truth) @ found[0])
    assert abs(np.linalg.det(steps)) == pytest.approx(1.0)
    np.testing.assert_allclose(found[0], truth @ steps, atol=0.3)


def test_places_at_random_are_no_lattice() -> None:
    rng = np.random.default_rng(3)
    assert find_lattice(rng.uniform(-60, 60, (30, 2)), np.ones(30)) is None
    assert find_lattice(np.array([[0.0, 20.0], [0.0, -20.0], [0.0, 40.0]]), np.ones(3)) is None
    assert find_lattice(np.zeros((0, 2)), np.zeros(0)) is None


def test_a_pattern_repeats_at_its_lattice_between_pixels() -> None:
    y, x = np.indices((96, 96))
    pattern = sum(
        np.clip(5.5 - np.hypot(y - 47 - 10.3 * h, x - 47 - 10.3 * k), 0, 1) for h in range(-3, 4) for k in range(-3, 4)
    )
    found = find_lattice(*repeats(np.asarray(pattern), 5.0))
    assert found is not None
    np.testing.assert_allclose(np.hypot(*found[0]), 10.3, atol=0.1)


def test_the_polar_decomposition_is_undone() -> None:
    angle, stretch = 0.3, np.array([[1.08, -0.04], [-0.04, 0.93]])
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    np.testing.assert_allclose(polar(turn @ stretch), (0.08, -0.07, -0.04, angle), atol=1e-12)


def test_errors_of_strain_are_those_of_vectors_drawn_at_random() -> None:
    rng = np.random.default_rng(4)
    scan = 0.2 * np.array([[0.8, 0.6], [-0.6, 0.8]])
    reference = np.array([[2.0, 15.0], [17.0, -3.0]])
    spread = np.array([[[0.04, 0.01], [0.01, 0.02]], [[0.03, -0.01], [-0.01, 0.05]]])
    drawn = np.stack([rng.multivariate_normal(reference[axis], spread[axis], 20000) for axis in (0, 1)], axis=1)
    covariance = np.tile([[each[0, 0], each[0, 1], each[1, 1]] for each in spread], (len(drawn), 1, 1))
    found = tensors(drawn, covariance, scan @ reference, scan)
    for values, sigma in (
        (found.exx, found.exx_sigma),
        (found.eyy, found.eyy_sigma),
        (found.exy, found.exy_sigma),
        (found.rotation_rad, found.rotation_sigma_rad),
    ):
        # 20000 draws know a spread to 0.5 %; strain of a percent adds as much again.
        assert values.std() / sigma[0] == pytest.approx(1.0, abs=0.03)


def test_a_stated_lattice_is_turned_and_chosen_as_the_one_found() -> None:
    lattice = hexagonal(0.3)
    mrad = 100 * 0.0250793 * lattice.reciprocal().T
    angle = 0.7
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    stretched = np.linalg.inv(turn @ np.array([[1.02, 0.005], [0.005, 0.99]])).T @ mrad
    other_choice = stretched @ np.array([[1.0, 1.0], [0.0, 1.0]])
    chosen = stated_lattice(other_choice, lattice, 200.0)
    found = polar(np.linalg.inv(other_choice @ np.linalg.inv(chosen)).T)
    assert np.abs(found[:3]).max() < 0.025
    assert abs(found[3]) < 1e-9
