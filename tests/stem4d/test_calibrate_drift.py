"""Drift from series of scans: recovered within its errors; jumps are reported."""

from collections.abc import Callable

import numpy as np
import pytest

from stem4d.calibrate.drift import DriftFit, fit_drift
from stem4d.errors import BadInput

STEP_NM = 0.2
BETWEEN_S = 30.0
PER_MIN = 60 / BETWEEN_S * STEP_NM
"""A px from scan to scan in nm/min."""
Array = np.ndarray


def _object(rng: np.random.Generator) -> Callable[[Array, Array], Array]:
    """A random object of plane waves: it can be seen anywhere without interpolation."""
    waves, phases = rng.normal(0, 1 / 1.5, (100, 2)), rng.uniform(0, 2 * np.pi, 100)
    return lambda y, x: np.asarray(
        sum(np.cos(a * y + b * x + p) for (a, b), p in zip(waves, phases, strict=True)) / np.sqrt(50)
    )


def _series(rng: np.random.Generator, places: Array, counts: float = 1000, line_part: float = 0.0) -> list[Array]:
    """Scans with the object at each place (y, x) [px]; within a scan it moves on, as between scans."""
    scene, scans = _object(rng), []
    y, x = np.indices((48, 48)).astype(float)
    for k, place in enumerate(places):
        rate = np.gradient(places, axis=0)[k]
        moved = [place[axis] + rate[axis] * line_part * y for axis in (0, 1)]
        scans.append(rng.poisson(counts * np.maximum(1 + 0.2 * scene(y - moved[0], x - moved[1]), 0)))
    return scans


def _fit(scans: list[Array], line_s: float = 0.0) -> DriftFit:
    return fit_drift(scans, np.arange(len(scans)) * BETWEEN_S, STEP_NM, line_time_s=line_s)


@pytest.mark.parametrize("number", [2, 5])
def test_steady_drift_is_known_to_a_tenth_of_a_pixel_over_the_series(number: int) -> None:
    rng = np.random.default_rng(0)
    off, pulls = [], []
    for _ in range(8):
        rate = rng.uniform(-1, 1, 2)
        fit = _fit(_series(rng, np.arange(number)[:, None] * rate))
        assert fit.ok, fit.reason
        assert fit.jump is None
        assert fit.acceleration_nm_per_min2 == (0.0, 0.0)
        error = np.array(fit.rate_nm_per_min) - rate * PER_MIN
        off.append(error / PER_MIN * (number - 1))
        pulls.append(error / fit.rate_uncertainty_nm_per_min)
    assert np.abs(off).max() < 0.1
    # 16 deviates; strong images are better than the floor that the registration quotes.
    assert 0.2 < np.std(pulls) < 1.6


def test_acceleration_is_told_from_a_steady_rate_and_from_a_jump() -> None:
    rng = np.random.default_rng(1)
    k = np.arange(8)[:, None]
    bent = _fit(_series(rng, k * (0.5, -0.8) + 0.5 * k**2 * (0.1, 0.06)))
    assert bent.ok, bent.reason
    assert bent.jump is None
    assert np.array(bent.acceleration_nm_per_min2) / (PER_MIN * 60 / BETWEEN_S) == pytest.approx((0.1, 0.06), abs=0.01)
    # In the middle of the series, 3.5 scans on.
    assert np.array(bent.rate_nm_per_min) / PER_MIN == pytest.approx((0.85, -0.59), abs=0.02)


def test_a_jump_is_reported_and_not_averaged_into_the_rate() -> None:
    rng = np.random.default_rng(2)
    k = np.arange(8)[:, None]
    jumped = _fit(_series(rng, k * (0.3, -0.4) + np.where(k > 4, 1, 0) * (3.0, -2.0)))
    assert jumped.ok, jumped.reason
    assert jumped.jump is not None
    assert jumped.jump.after == 4
    assert np.array(jumped.jump.jump_nm) / STEP_NM == pytest.approx((3.0, -2.0), abs=0.08)
    assert np.array(jumped.rate_nm_per_min) / PER_MIN == pytest.approx((0.3, -0.4), abs=0.02)


def test_the_time_of_a_line_is_allowed_for() -> None:
    rng = np.random.default_rng(3)
    rate = np.array([2.0, 1.0])
    # A scan of 48 lines takes a third of the time from scan to scan: what moves down is seen later each time.
    scans = _series(rng, np.arange(4)[:, None] * rate, line_part=1 / 3 / 48)
    known, neglected = _fit(scans, BETWEEN_S / 3 / 48), _fit(scans)
    assert np.array(known.rate_nm_per_min) / PER_MIN == pytest.approx(rate, abs=0.01)
    assert neglected.rate_nm_per_min[0] / PER_MIN > 2.02


def test_series_that_do_not_hang_together_are_refused() -> None:
    rng = np.random.default_rng(4)
    assert not _fit([rng.poisson(1000, (48, 48)) for _ in range(3)]).ok
    lattice = 1000 * (1 + 0.3 * np.cos(np.arange(48) * 2 * np.pi / 5))
    scans = [rng.poisson(lattice[:, None] * lattice[None, :] / 1000) for _ in range(3)]
    assert "repeats" in _fit(scans).reason
    erratic = _fit(_series(rng, np.cumsum(rng.normal(0, 2, (8, 2)), axis=0)))
    assert not erratic.ok
    assert "scatter" in erratic.reason


def test_one_lost_scan_does_not_break_the_chain() -> None:
    rng = np.random.default_rng(5)
    scans = _series(rng, np.arange(6)[:, None] * (0.5, 0.5))
    scans[2] = rng.poisson(1000, (48, 48))
    fit = _fit(scans)
    assert fit.ok, fit.reason
    assert np.isnan(fit.places_nm[2]).all()
    assert np.array(fit.rate_nm_per_min) / PER_MIN == pytest.approx((0.5, 0.5), abs=0.02)


@pytest.mark.slow
def test_the_error_of_the_drift_is_honest() -> None:
    rng = np.random.default_rng(6)
    pulls, off = [], []
    for _ in range(40):
        rate = rng.uniform(-1, 1, 2)
        fit = _fit(_series(rng, np.arange(6)[:, None] * rate, counts=100))
        assert fit.ok, fit.reason
        error = np.array(fit.rate_nm_per_min) - rate * PER_MIN
        pulls.append(error / fit.rate_uncertainty_nm_per_min)
        off.append(error / PER_MIN * 5)
    assert np.sqrt(np.mean(np.square(off))) < 0.05
    assert 0.56 < np.mean(np.abs(pulls) < 1) < 0.82  # 80 deviates scatter by 5 %


def test_bad_input_is_named() -> None:
    scans = [np.ones((16, 16))] * 3
    for times, step, line in (([0, 1], 1.0, 0.0), ([0, 2, 1], 1.0, 0.0), ([0, 1, 2], 0.0, 0.0), ([0, 1, 2], 1.0, -1.0)):
        with pytest.raises(BadInput):
            fit_drift(scans, times, step, line_time_s=line)
    with pytest.raises(BadInput):
        fit_drift(scans[:1], [0.0], 1.0)
    with pytest.raises(BadInput):
        fit_drift(scans, [0, 1, 2], 1.0, recorded=[np.ones((16, 16), bool)])
