"""Beam current from vacuum scans of known current, with lost counts, masked pixels, drift and dropouts."""

from typing import Any

import numpy as np
import pytest
from quality_world import disk

from stem4d.calibrate.current import CurrentFit, corrected_rate, fit_current
from stem4d.calibrate.disk import DiskFit, find_disk
from stem4d.calibrate.disk_model import find_dead_in_disk
from stem4d.calibrate.stability import stability
from stem4d.errors import BadInput
from stem4d.optics import ELEMENTARY_CHARGE_C

SHAPE = (64, 64)
EXPOSURE_S = 1e-3
FRAMES = 1024


def _scan(rng: np.random.Generator, current_pa: float, **more: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean pattern, totals and bad pixels; frames are summed as their distributions add up."""
    gain, dead_part = more.get("gain", 1.0), more.get("dead_part", 0.0)
    electrons = current_pa * 1e-12 * EXPOSURE_S / ELEMENTARY_CHARGE_C
    bright = disk(SHAPE, tuple(31.5 + rng.uniform(-3, 3, 2)), more.get("radius", 18.0))
    mean = bright / bright.sum() * electrons
    mean = mean / (1 + mean * dead_part)  # non-paralysable
    bad = rng.random(SHAPE) < 0.01
    if more.get("gap"):
        bad[30:34] = True
    bad[3, 3] = bad[31, 30] = True
    mean[bad] = 0
    steady = more.get("course", np.ones(FRAMES))
    pattern = rng.poisson(mean * steady.sum()) / FRAMES * gain
    totals = rng.poisson(mean.sum() * steady) * gain
    return pattern, totals, bad


def _fit(scan: tuple[np.ndarray, np.ndarray, np.ndarray], **more: Any) -> CurrentFit:
    pattern, totals, bad = scan
    return fit_current(pattern, totals, EXPOSURE_S, find_disk(pattern, bad), bad_pixels=bad, **more)


@pytest.mark.parametrize("loss", [0.0, 0.1, 0.25])
@pytest.mark.parametrize("gap", [False, True])
def test_current_is_recovered_within_its_error(loss: float, gap: bool) -> None:
    errors, pulls = [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        current, gain = rng.uniform(2, 30), rng.uniform(1, 50)
        per_pixel = current * 1e-12 * EXPOSURE_S / ELEMENTARY_CHARGE_C / (np.pi * 18.0**2)
        dead_part = loss / (1 - loss) / per_pixel
        fit = _fit(
            _scan(rng, current, gain=gain, dead_part=dead_part, gap=gap),
            counts_per_electron=gain * (1 + 0.01 * rng.normal()),
            counts_per_electron_uncertainty=0.01 * gain,
            # The dead time refers to counts as they are read.
            dead_time_s=dead_part * EXPOSURE_S / gain,
        )
        assert fit.ok, fit.reason
        assert fit.loss_part == pytest.approx(loss, abs=0.02)
        errors.append(fit.current_pa / current - 1)
        pulls.append((fit.current_pa - current) / fit.current_uncertainty_pa)
    # Counts per electron was given to 1 % and is all the error there should be.
    assert np.sqrt(np.mean(np.square(errors))) < 0.015
    assert 0.4 < np.std(pulls) < 1.6


def test_corrected_rate_undoes_the_loss_and_stops_at_thirty_percent() -> None:
    dead_time = 1e-6
    true = np.linspace(0, 0.42, 50) / dead_time
    assert corrected_rate(true / (1 + true * dead_time), dead_time) == pytest.approx(true, rel=1e-9)
    with pytest.raises(BadInput):
        corrected_rate(0.31 / dead_time, dead_time)
    assert float(corrected_rate(5.0, 0.0)) == 5.0


def test_too_much_loss_is_refused() -> None:
    current = 20.0
    per_pixel = current * 1e-12 * EXPOSURE_S / ELEMENTARY_CHARGE_C / (np.pi * 18.0**2)
    scan = _scan(np.random.default_rng(0), current, dead_part=0.6 / per_pixel)
    fit = _fit(scan, dead_time_s=0.6 / per_pixel * EXPOSURE_S)
    assert not fit.ok
    assert "lost" in fit.reason


def test_drift_and_dropouts_are_flagged_and_the_current_is_that_of_the_beam() -> None:
    rng = np.random.default_rng(0)
    course = 1 - 0.06 * np.linspace(-0.5, 0.5, FRAMES)
    course[100:103], course[700:760] = 0.0, 0.3
    fit = _fit(_scan(rng, 10.0, course=course))
    assert fit.ok, fit.reason
    assert fit.stability is not None
    assert set(np.flatnonzero(fit.stability.dropouts)) == {*range(100, 103), *range(700, 760)}
    assert fit.stability.drift_part == pytest.approx(-0.06, abs=0.005)
    assert fit.current_pa == pytest.approx(10.0, rel=0.01)
    # A line of 6 % has a standard deviation of 6 / sqrt(12) = 1.7 %.
    assert fit.current_uncertainty_pa / fit.current_pa == pytest.approx(0.0173, rel=0.15)


def test_a_steady_beam_has_shot_noise_and_no_drift() -> None:
    pulls, slow = [], []
    for seed in range(40):
        beam = stability(np.random.default_rng(seed).poisson(1e4, 2000))
        assert not beam.dropouts.any()
        assert beam.noise_part == pytest.approx(0.01, rel=0.15)
        pulls.append(beam.drift_part / beam.drift_uncertainty)
        slow.append(beam.slow_part)
    assert 0.75 < np.std(pulls) < 1.25
    assert max(slow) < 1e-3


def _find(pattern: np.ndarray) -> DiskFit:
    return find_disk(pattern)


def test_what_cannot_be_known_is_refused() -> None:
    rng = np.random.default_rng(0)
    even = rng.poisson(3.0, SHAPE).astype(float)
    assert "disk" in fit_current(even, np.full(20, even.sum()), EXPOSURE_S, _find(even)).reason
    cut = rng.poisson(disk(SHAPE, (10.0, 31.0), 18.0) * 100).astype(float)
    assert "beside" in fit_current(cut, np.full(20, cut.sum()), EXPOSURE_S, _find(cut)).reason
    good = rng.poisson(disk(SHAPE, (31.0, 31.0), 18.0) * 100).astype(float)
    assert "not of the same" in fit_current(good, np.full(20, 0.9 * good.sum()), EXPOSURE_S, _find(good)).reason
    gone = np.where(np.arange(40) % 2, good.sum(), 0.0)
    assert "missing" in fit_current(good, gone, EXPOSURE_S, _find(good)).reason
    masked = np.zeros(SHAPE, bool)
    masked[26:40] = True
    totals = np.full(20, good[~masked].sum())
    assert "masked" in fit_current(good, totals, EXPOSURE_S, _find(good), bad_pixels=masked).reason


def test_dead_pixels_are_found_up_to_the_edge_of_the_disk() -> None:
    missed, total, false = 0, 0, 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        bright = disk(SHAPE, tuple(31.5 + rng.uniform(-3, 3, 2)), 18.0) * 5
        dead = rng.random(SHAPE) < 0.01
        pattern = np.where(dead, 0, rng.poisson(bright * 256)) / 256
        found, known = find_dead_in_disk(pattern, 256, find_disk(pattern))
        missed += (dead & known & ~found).sum()
        total += (dead & known).sum()
        false += (found & ~dead).sum()
        assert known.sum() > 0.95 * (bright > 2.5).sum()
    assert missed <= 0.01 * total
    assert false == 0


def test_bad_input_is_named() -> None:
    good = disk(SHAPE, (31.0, 31.0), 18.0) * 100
    fit = find_disk(good)
    for wrong in ({"counts_per_electron": 0.0}, {"counts_per_electron_uncertainty": -1.0}):
        with pytest.raises(BadInput):
            fit_current(good, np.full(20, good.sum()), EXPOSURE_S, fit, **wrong)
    with pytest.raises(BadInput):
        fit_current(good, np.full(20, good.sum()), 0.0, fit)
    with pytest.raises(BadInput):
        fit_current(good, np.full(20, good.sum()), 1.0, fit, bad_pixels=np.zeros((3, 3), bool))
    with pytest.raises(BadInput):
        stability(np.zeros(3))
    with pytest.raises(BadInput):
        corrected_rate(1.0, -1.0)
