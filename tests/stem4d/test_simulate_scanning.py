"""The scan engine's errors, each by a known amount, and specimen and beam that wander."""

from dataclasses import replace

import numpy as np
import pytest

from stem4d.simulate.scanning import Raster, ScanErrors, commanded_nm, times_s, true_nm
from stem4d.simulate.wander import Drift, Dropout, Emission, Slip, current_part, displacement_nm

RASTER = Raster((40, 50), step_nm=0.2, dwell_time_us=100.0, flyback_us=1000.0)
ALL = np.arange(2000)


def positions(errors: ScanErrors, frames: np.ndarray = ALL, start_s: float = 0.0, run: int = 1) -> np.ndarray:
    return true_nm(RASTER, errors, frames, start_s, seed=7, run=run)


def test_without_errors_the_probe_goes_where_it_is_told() -> None:
    np.testing.assert_array_equal(positions(ScanErrors()), commanded_nm(RASTER, ALL))
    assert commanded_nm(RASTER, ALL)[0].tolist() == [-19.5 * 0.2, -24.5 * 0.2]


def test_times_count_dwell_and_flyback() -> None:
    # Row 2, column 3: two rows of 50 x 100 us and 1 ms each, and three dwells.
    assert times_s(RASTER, np.array([103]))[0] == pytest.approx((2 * 6000 + 300) * 1e-6)


def test_rotation_turns_x_towards_y() -> None:
    turned = positions(ScanErrors(rotation_deg=90.0))
    # x (0, 1) becomes y (1, 0); y becomes -x. Exact but for rounding.
    np.testing.assert_allclose(turned, commanded_nm(RASTER, ALL)[:, ::-1] * [1, -1], atol=1e-12)


def test_step_ratio_and_shear_are_an_affine_map() -> None:
    found = np.linalg.lstsq(commanded_nm(RASTER, ALL), positions(ScanErrors(step_ratio=(1.02, 0.97), shear=0.01)))[0].T
    np.testing.assert_allclose(found, [[1.02, 0], [0.01 * 1.02, 0.97]], atol=1e-12)


def test_barrel_grows_with_the_cube() -> None:
    off = positions(ScanErrors(barrel_per_um2=2.0)) - commanded_nm(RASTER, ALL)
    r2 = (commanded_nm(RASTER, ALL) ** 2).sum(1, keepdims=True)
    np.testing.assert_allclose(off, 2e-6 * r2 * commanded_nm(RASTER, ALL), rtol=1e-9)


def test_the_probe_lags_where_a_line_begins() -> None:
    off = (positions(ScanErrors(flyback_nm=0.5, flyback_settle_us=200.0)) - commanded_nm(RASTER, ALL)).reshape(
        40, 50, 2
    )
    np.testing.assert_allclose(off[:, :, 1], np.broadcast_to(-0.5 * np.exp(-np.arange(50) / 2), (40, 50)), atol=1e-12)
    assert not off[:, :, 0].any()


def test_hum_is_one_line_of_the_asked_strength() -> None:
    # Sampled in time, the mains' period is 20 ms: 2000 positions take 240 ms, 12 whole periods.
    off = (positions(ScanErrors(hum_a_rms=0.3)) - commanded_nm(RASTER, ALL))[:, 0] * 10
    turns = 2 * np.pi * 50 * times_s(RASTER, ALL)
    waves = np.stack([np.sin(turns), np.cos(turns)], axis=1)
    left = off - waves @ np.linalg.lstsq(waves, off)[0]
    assert np.abs(left).max() < 1e-9
    # Rows pause at one phase after the other: the mean square over positions is that of the time, to a few percent.
    assert off.std() == pytest.approx(0.3, rel=0.05)


def test_jitter_is_white_and_belongs_to_run_and_row() -> None:
    errors = ScanErrors(jitter_a_rms=0.5)
    off = (positions(errors) - commanded_nm(RASTER, ALL)) * 10
    # 4000 numbers: the standard deviation is known to 0.5 / sqrt(8000); five sigma.
    assert off.std() == pytest.approx(0.5, abs=5 * 0.5 / np.sqrt(8000))
    assert abs(np.corrcoef(off[1:, 0], off[:-1, 0])[0, 1]) < 4 / np.sqrt(2000)
    np.testing.assert_array_equal(positions(errors, ALL[137:300]), positions(errors)[137:300])
    assert (positions(errors, run=2) != positions(errors)).all()


def test_errors_do_not_depend_on_each_other_being_there() -> None:
    plain = ScanErrors(rotation_deg=11.0, shear=0.02)
    both = replace(plain, hum_a_rms=0.2)
    assert (positions(both) != positions(plain)).any()
    np.testing.assert_allclose(positions(both).mean(0), positions(plain).mean(0), atol=0.02)


def test_drift_accelerates_and_jumps() -> None:
    drift = Drift((6.0, -3.0), starts_s=60.0, nm_per_min2=(2.0, 0.0), jumps=(Slip(200.0, (1.0, 5.0)),))
    moved = displacement_nm(drift, np.array([0.0, 60.0, 180.0, 240.0]))
    np.testing.assert_allclose(moved, [[0, 0], [0, 0], [12 + 4, -6], [18 + 9 + 1, -9 + 5]])


def test_the_current_tires_and_drops_out() -> None:
    emission = Emission(drift_per_h=-0.1, dropouts=(Dropout(100.0, 50.0, 0.2),))
    np.testing.assert_allclose(
        current_part(emission, np.array([0.0, 120.0, 150.0, 3600.0])),
        [1.0, (1 - 0.1 * 120 / 3600) * 0.2, 1 - 0.1 * 150 / 3600, 0.9],
    )
    assert current_part(Emission(drift_per_h=-10.0), np.array([3600.0]))[0] == 0


def test_a_beam_shift_moves_the_whole_field_and_goes_on_with_time() -> None:
    frames = np.arange(40 * 50)
    moved = replace(RASTER, offset_nm=(1.5, -0.5), follow_nm_per_min=(6.0, -12.0))
    shift = true_nm(moved, ScanErrors(), frames, 0.0, 0, 0) - true_nm(RASTER, ScanErrors(), frames, 0.0, 0, 0)
    minutes = times_s(RASTER, frames) / 60
    np.testing.assert_allclose(shift, np.stack([1.5 + 6 * minutes, -0.5 - 12 * minutes], axis=1), atol=1e-12)
    # With the scan turned by 90 degrees from x towards y, a shift along x is one along y of the specimen.
    turned = true_nm(replace(RASTER, offset_nm=(0.0, 1.0)), ScanErrors(rotation_deg=90.0), frames[:1], 0.0, 0, 0)
    middle = true_nm(RASTER, ScanErrors(rotation_deg=90.0), frames[:1], 0.0, 0, 0)
    np.testing.assert_allclose(turned - middle, [[1.0, 0.0]], atol=1e-12)
