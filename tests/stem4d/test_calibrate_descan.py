"""Descan planes against known slopes, and the correction that undoes them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from stem4d.calibrate.correction import Correction, correction_for
from stem4d.calibrate.descan import DescanFit, descan_plane, fit_descan
from stem4d.errors import BadInput

STEP_NM = 0.5
SLOPE = np.array([[0.03, 0.005], [-0.002, 0.025]])


def _com(
    shape: tuple[int, int], noise: float, seed: int, slope: np.ndarray = SLOPE, specimen: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    y, x = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * STEP_NM for n in shape), indexing="ij")
    com = []
    for row in slope:
        scene = ndimage.gaussian_filter(rng.normal(0, 1, shape), 3) * 10 * specimen if specimen else 0.0
        com.append(20 + row[0] * y + row[1] * x + rng.normal(0, noise, shape) + scene)
    return com[0], com[1]


def _fit(shape: tuple[int, int], noise: float, seed: int, **more: object) -> DescanFit:
    return fit_descan(*_com(shape, noise, seed, **more), np.ones(shape, bool), STEP_NM)  # type: ignore[arg-type]


@pytest.mark.parametrize(("shape", "specimen"), [((32, 32), 0.0), ((4, 64), 0.0), ((64, 64), 0.1)])
def test_slopes_are_recovered_within_their_errors(shape: tuple[int, int], specimen: float) -> None:
    pulls, off = [], []
    for seed in range(40):
        fit = _fit(shape, 0.1, seed, specimen=specimen)
        assert fit.ok, fit.reason
        pulls.append((fit.slope_px_per_nm - SLOPE) / fit.slope_uncertainty_px_per_nm)
        off.append(fit.offset_px)
    # 160 deviates; a specimen whose features are a quarter of a block is not quite independent from block to block.
    assert 0.75 < np.std(pulls) < (1.6 if specimen else 1.25)
    assert np.abs(np.mean(off, axis=0) - 20).max() < 0.03


def test_error_is_the_scatter_over_the_root_of_the_positions() -> None:
    fit = _fit((32, 32), 0.2, 3)
    # For a plane over a square field of n positions a slope's error is sigma sqrt(12/n)/L.
    expected = 0.2 * np.sqrt(12 / 32**2) / (32 * STEP_NM)
    assert fit.slope_uncertainty_px_per_nm == pytest.approx(np.full((2, 2), expected), rel=0.25)
    assert fit.residual_rms_px == pytest.approx(0.2, rel=0.1)


def test_range_is_the_longest_way_between_two_corners() -> None:
    fit = _fit((32, 16), 1e-6, 0)
    reach = np.array([31, 15]) * STEP_NM
    assert fit.range_px == pytest.approx(max(np.hypot(*(SLOPE @ (reach * (s, 1)))) for s in (1, -1)), rel=1e-3)


def test_a_fifth_of_outliers_and_missing_positions_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    com_y, com_x = _com((32, 32), 0.1, 1)
    wild = rng.random((32, 32)) < 0.2
    com_y[wild] += rng.normal(0, 20, wild.sum())
    com_x[2, :] = np.nan
    recorded = np.ones((32, 32), bool)
    recorded[20:23] = False
    fit = fit_descan(com_y, com_x, recorded, STEP_NM)
    assert fit.ok
    assert np.abs(fit.slope_px_per_nm - SLOPE).max() < 5 * fit.slope_uncertainty_px_per_nm.max()


def test_the_range_covers_what_was_recorded_and_no_more() -> None:
    recorded = np.zeros((48, 48), bool)
    recorded[:3] = True
    fit = fit_descan(*_com((48, 48), 0.1, 0), recorded, STEP_NM)
    seen = np.array([2, 47]) * STEP_NM
    assert fit.ok
    assert fit.range_px == pytest.approx(max(np.hypot(*(SLOPE @ (seen * (s, 1)))) for s in (1, -1)), abs=0.2)
    assert fit.range_uncertainty_px < 0.1


def test_one_row_knows_one_slope_and_says_so() -> None:
    fit = _fit((1, 32), 0.01, 0)
    assert not fit.ok
    assert "scan y" in fit.reason
    assert np.isnan(fit.slope_px_per_nm[:, 0]).all()
    assert fit.slope_px_per_nm[:, 1] == pytest.approx(SLOPE[:, 1], abs=2e-3)


def test_without_centres_of_mass_there_is_no_plane() -> None:
    nothing = np.full((8, 8), np.nan)
    fit = fit_descan(nothing, nothing, np.ones((8, 8), bool), STEP_NM)
    assert not fit.ok
    assert np.isnan(fit.range_px)


def test_positions_on_one_line_determine_no_plane() -> None:
    recorded = np.eye(8, dtype=bool)
    fit = fit_descan(*_com((8, 8), 0.1, 0), recorded, STEP_NM)
    assert not fit.ok


def test_bad_input_is_named() -> None:
    maps = np.zeros((4, 4))
    with pytest.raises(BadInput):
        fit_descan(maps, maps[:3], np.ones((4, 4), bool), STEP_NM)
    with pytest.raises(BadInput):
        fit_descan(maps, maps, np.ones((4, 4), bool), 0.0)


@settings(max_examples=25, deadline=None)
@given(
    slopes=st.lists(st.floats(-0.05, 0.05), min_size=4, max_size=4),
    offset=st.tuples(st.floats(-5, 5), st.floats(-5, 5)),
    present=st.floats(-0.1, 0.1),
)
def test_the_correction_makes_the_pattern_stand_still_in_the_middle(
    slopes: list[float], offset: tuple[float, float], present: float
) -> None:
    delta, shape = 0.4, (64, 48)
    error = np.array(slopes).reshape(2, 2) * delta
    now = Correction((0.3, -0.2), np.full((2, 2), present))
    misalignment = np.array(offset) * delta

    def centre_mrad(correction: Correction, position_nm: np.ndarray) -> np.ndarray:
        """The convention in words of the module: misalignment + shift + (error + correction) @ position."""
        still = misalignment + np.array(correction.diffraction_shift_mrad)
        return np.asarray(still + (error + correction.descan_mrad_per_nm) @ position_nm)

    middle = np.array([31.5, 23.5])
    y, x = np.meshgrid(*((np.arange(n) - (n - 1) / 2) * STEP_NM for n in (12, 10)), indexing="ij")
    com = np.array(
        [
            [middle + centre_mrad(now, np.array(p)) / delta for p in zip(*row, strict=True)]
            for row in zip(y, x, strict=True)
        ]
    )
    fit = fit_descan(com[..., 0], com[..., 1], np.ones((12, 10), bool), STEP_NM)
    assert descan_plane(fit, (12, 10), STEP_NM) == pytest.approx(np.moveaxis(com, -1, 0), abs=1e-6)
    set_next = correction_for(fit.offset_px, fit, shape, delta, now)
    for position in (np.zeros(2), np.array([3.0, -2.0])):
        assert centre_mrad(set_next, position) == pytest.approx(np.zeros(2), abs=1e-6)


def test_an_unknown_centre_or_slope_is_not_corrected() -> None:
    fit = _fit((1, 32), 0.01, 0)
    with pytest.raises(BadInput):
        correction_for((20.0, 20.0), fit, (64, 64), 0.5)
    with pytest.raises(BadInput):
        correction_for((float("nan"), 20.0), None, (64, 64), 0.5)
