"""What detectors lose and add: dead time, wrapping, noisy pixels, response, and an integrating one's gain and dark."""

import numpy as np
import pytest

from stem4d.simulate.counts import Counter, noise_keys, record
from stem4d.simulate.integrating import Integrator, integrate, uneven

SHAPE = (48, 48)
NONE = np.zeros(SHAPE, np.bool_)
FRAMES = 60


def keys(frames: int = FRAMES, run: int = 1) -> np.ndarray:
    return noise_keys(3, run, np.zeros(frames, np.int64), np.arange(frames))


def even(frames: int = FRAMES) -> np.ndarray:
    return np.full((frames, *SHAPE), 1e-3, np.float32)


def events_counted(electrons: float, blind: float, *, paralysable: bool, windows: int = 20000) -> np.ndarray:
    """Counts of windows that ``electrons`` arrive in, one event after the other; ``blind`` is rate times dead time."""
    arrivals = np.random.default_rng(8).exponential(1.0, int(electrons * (windows + 1))).cumsum()
    if paralysable:
        counted = arrivals[1:][np.diff(arrivals) > blind]
    else:
        free, kept = 0.0, []
        for at in arrivals.tolist():
            if at >= free:
                kept.append(at)
                free = at + blind
        counted = np.array(kept)
    # The last window may not be full.
    return np.bincount((counted / electrons).astype(int))[: windows - 100]


@pytest.mark.parametrize("paralysable", [False, True])
@pytest.mark.parametrize(("electrons", "blind"), [(4.0, 0.2), (11.0, 0.1), (14.0, 0.4), (40.0, 0.4)])
def test_dead_time_takes_and_narrows_as_events_do(electrons: float, blind: float, paralysable: bool) -> None:
    """Below and above the mean of 12, where counts are drawn in another way."""
    counter = Counter(
        16, NONE, NONE, dead_time_us=100 * blind / electrons, paralysable=paralysable, exposure_time_us=100.0
    )
    frames = record(even(), electrons * 1e3, keys(), counter).astype(float)
    events = events_counted(electrons, blind, paralysable=paralysable)
    factor = np.exp(-blind) if paralysable else 1 / (1 + blind)
    # 1.4e5 pixels of 4 counts know the mean to 1.4e-3; four sigma.
    assert frames.mean() == pytest.approx(electrons * factor, rel=5e-3)
    assert frames.mean() == pytest.approx(events.mean(), rel=1e-2)
    # 2e4 windows know a variance to 1 %, four sigma; that of a short exposure is larger by up to 2 % of itself. Without
    # narrowing it would be larger by 20 % to 100 %.
    assert frames.var() == pytest.approx(events.var(), rel=0.06)


def test_a_dead_time_that_takes_nothing_leaves_counts_as_they_are() -> None:
    counter = Counter(16, NONE, NONE, dead_time_us=1e-3, exposure_time_us=100.0)
    frames = record(even(), 2e5, keys(), counter).astype(float)
    # Rate times dead time is 2e-3; 1.4e5 pixels know the variance to 4e-3, four sigma.
    assert frames.var() / frames.mean() == pytest.approx(1, rel=0.016)


def test_a_counter_that_wraps_begins_again() -> None:
    frames = record(even(), 3e5, keys(), Counter(8, NONE, NONE, wraps=True))
    assert frames.dtype == np.uint8
    # 300 wraps to 44; 17 is a sigma.
    assert np.median(frames) == pytest.approx(300 - 256, abs=3)
    assert record(even(), 3e5, keys(), Counter(8, NONE, NONE)).mean() > 250


def test_noisy_pixels_vary_more_than_they_count() -> None:
    noisy = NONE.copy()
    noisy[5, 7] = noisy[30, 2] = True
    frames = record(even(400), 1e5, keys(400), Counter(16, NONE, NONE, noisy=noisy, noise_counts=30.0)).astype(float)
    # A variance of 100 + 900 over 400 frames, known to 7 %; four sigma.
    np.testing.assert_allclose(frames[:, noisy].var(0), 1000, rtol=0.28)
    assert np.median(frames.var(0)) == pytest.approx(100, rel=0.05)


def test_every_frame_may_have_electrons_of_its_own() -> None:
    electrons = np.where(np.arange(FRAMES) < 20, 0.0, 1e5)
    frames = record(even(), electrons, keys(), Counter(16, NONE, NONE))
    assert frames[:20].sum() == 0
    assert frames[20:].mean() == pytest.approx(100, rel=0.005)


def test_response_scales_what_is_counted() -> None:
    response = uneven(SHAPE, 0.9, 0.05, seed=2)
    frames = record(even(400), 1e5, keys(400), Counter(16, NONE, NONE, response=response)).astype(float)
    # 4e4 counts a pixel: 0.5 %.
    np.testing.assert_allclose(frames.mean(0) / 100, response, rtol=0.025)


def test_an_integrating_detector_has_gain_dark_and_read_noise() -> None:
    hot = NONE.copy()
    hot[1, 1] = True
    detector = Integrator(16, hot, NONE, 12.0, uneven(SHAPE, 200.0, 15.0, 4), 5.0, uneven(SHAPE, 1.0, 0.03, 5))
    dark = integrate(even(200), 0.0, keys(200), detector).astype(float)
    lit = integrate(even(200), 5e4, keys(200, run=2), detector).astype(float)
    good = ~hot
    # 200 frames of a spread of 5 counts and rounding's 0.29: the mean to 0.36, 5 sigma; the spread to 5 %, all pixels.
    np.testing.assert_allclose(dark.mean(0)[good], detector.dark_counts[good], atol=1.9)
    assert np.sqrt(dark.var(0)[good].mean()) == pytest.approx(np.hypot(5.0, 0.29), rel=0.01)
    gained = lit.mean(0) - dark.mean(0)
    assert gained[good].mean() == pytest.approx(50 * 12, rel=0.005)
    # Photon transfer: the variance that the beam adds, over the mean it adds, is the gain. 4.6e5 values: 0.3 %.
    assert (lit.var(0) - dark.var(0))[good].mean() / gained[good].mean() == pytest.approx(12, rel=0.015)
    assert (lit[:, 1, 1] == 65535).all()
