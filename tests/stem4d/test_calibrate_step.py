"""Scan step from a known lattice against truth, and none where the lattice is another one or is not seen."""

import numpy as np
import pytest
from lattice_world import lattice_image

from stem4d.calibrate.crystals import PlanarLattice, hexagonal, square
from stem4d.calibrate.step import StepFit, fit_step
from stem4d.errors import BadInput

SHAPE = (128, 128)
FULL = np.ones(SHAPE, dtype=bool)
# What a run asks of a step, for more than 20 periods.
STEP_LIMIT = 5e-3
STEP = 0.39 / 5


def _fit(lattice: PlanarLattice, claimed: PlanarLattice | None = None, nominal: float = STEP, **truth) -> StepFit:
    rng = np.random.default_rng(8)
    image = lattice_image(rng, lattice, **{"step_y": STEP, "step_x": STEP, **truth})
    return fit_step([image], FULL, nominal, claimed or lattice)


@pytest.mark.parametrize(
    "lattice", [square(0.3905), hexagonal(0.39), PlanarLattice(0.39, 0.45, 100.0), square(463.0)], ids=str
)
def test_step_shear_and_rotation(lattice: PlanarLattice) -> None:
    rng = np.random.default_rng(3)
    step = lattice.a_nm / 5
    image = lattice_image(
        rng,
        lattice,
        step_y=step * 1.02,
        step_x=step * 0.99,
        shear=0.015,
        rotation_deg=17.0,
        electrons=100.0,
        contrast=0.2,
        amorphous=0.05,
    )
    fit = fit_step([image], FULL, step * 1.06, lattice)
    assert fit.ok, fit.reason
    assert fit.step_y_nm == pytest.approx(step * 1.02, rel=STEP_LIMIT)
    assert fit.step_x_nm == pytest.approx(step * 0.99, rel=STEP_LIMIT)
    # Five standard errors.
    assert abs(fit.shear - 0.015) < 5 * fit.shear_uncertainty < 0.01
    turn = {90.0: 90.0, 120.0: 60.0}.get(lattice.angle_deg, 180.0)
    assert (
        abs((fit.lattice_rotation_deg - 17.0 + turn / 2) % turn - turn / 2) < 5 * fit.lattice_rotation_uncertainty_deg
    )
    assert fit.drawing["found"].shape == fit.drawing["predicted"].shape


def test_a_part_of_the_field_and_broken_positions_are_borne() -> None:
    image = lattice_image(np.random.default_rng(3), square(0.39), step_y=STEP, step_x=STEP)
    image[3, 4] = image[40, 70] = 1e6
    part = FULL.copy()
    part[70:] = False
    fit = fit_step([image, 3 * image], part, STEP * 1.05, square(0.39))
    assert fit.ok, fit.reason
    assert fit.step_nm == pytest.approx(STEP, rel=STEP_LIMIT)


def test_mirrored_oblique_lattices_are_found() -> None:
    lattice = PlanarLattice(0.39, 0.45, 100.0)
    image = lattice_image(np.random.default_rng(3), lattice, step_y=STEP, step_x=STEP)[:, ::-1]
    fit = fit_step([image], FULL, STEP, lattice)
    assert fit.ok, fit.reason
    assert fit.step_nm == pytest.approx(STEP, rel=STEP_LIMIT)


@pytest.mark.parametrize(
    ("true", "claimed"),
    [
        (hexagonal(0.39), square(0.39)),
        (square(0.39), hexagonal(0.39)),
        (PlanarLattice(0.39, 0.45, 90.0), square(0.39)),
        (PlanarLattice(0.39, 0.45, 100.0), PlanarLattice(0.39, 0.45, 90.0)),
        (hexagonal(0.318), hexagonal(0.39)),
        # The waves of (1 1) pass for those of (1 0), which are then too many.
        (square(0.39), square(0.39 / np.sqrt(2))),
    ],
    ids=str,
)
def test_other_lattices_are_refused(true: PlanarLattice, claimed: PlanarLattice) -> None:
    fit = _fit(true, claimed)
    assert not fit.ok
    assert fit.reason


@pytest.mark.parametrize(
    ("word", "truth"),
    [
        ("waves", {"contrast": 0.0}),
        ("waves", {"contrast": 0.0, "amorphous": 0.3}),
        ("periods", {"step_y": 0.02, "step_x": 0.02}),
        ("finer", {"step_y": 0.21, "step_x": 0.21}),
    ],
)
def test_no_lattice_too_little_of_it_or_too_coarse_is_refused(word: str, truth: dict[str, float]) -> None:
    fit = _fit(square(0.39), nominal=truth.get("step_y", STEP), **truth)
    assert not fit.ok
    assert word in fit.reason
    assert np.isnan(fit.step_nm)


def test_a_step_far_from_the_nominal_one_is_refused() -> None:
    assert not _fit(square(0.39), nominal=STEP * 1.25).ok
    assert not _fit(square(0.39), nominal=STEP / 1.25).ok


def test_bad_input_is_refused() -> None:
    with pytest.raises(BadInput, match="images"):
        fit_step([], FULL, STEP, square(0.39))
    with pytest.raises(BadInput, match="nominal_step_nm"):
        fit_step([np.zeros(SHAPE)], FULL, -1.0, square(0.39))


@pytest.mark.slow
def test_errors_over_random_truths() -> None:
    """64 truths, 25 to 37 periods, 100 electrons a position at a contrast of 20 % on 5 % of speckle."""
    rng = np.random.default_rng(77)
    errors, sigmas = [], []
    for number in range(64):
        lattice = [square(0.3905), hexagonal(0.318), square(463.0)][number % 3]
        step = lattice.a_nm / rng.uniform(3.5, 5.0)
        y, x = step * rng.uniform(0.97, 1.03, 2)
        shear = rng.uniform(-0.03, 0.03)
        image = lattice_image(
            rng,
            lattice,
            step_y=y,
            step_x=x,
            shear=shear,
            rotation_deg=rng.uniform(-90, 90),
            electrons=100.0,
            contrast=0.2,
            amorphous=0.05,
        )
        fit = fit_step([image], FULL, step * rng.uniform(0.92, 1.08), lattice)
        assert fit.ok, fit.reason
        errors.append([fit.step_y_nm / y - 1, fit.step_x_nm / x - 1, fit.shear - shear])
        sigmas.append([fit.step_y_uncertainty_nm / y, fit.step_x_uncertainty_nm / x, fit.shear_uncertainty])
    found, sigma = np.array(errors), np.array(sigmas)
    assert np.abs(found[:, :2]).max() < STEP_LIMIT
    print("bias", found.mean(0), "rms", np.sqrt((found**2).mean(0)), "coverage", (np.abs(found) < sigma).mean(0))
    assert 0.60 < (np.abs(found) < sigma).mean() < 0.76
