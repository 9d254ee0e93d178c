"""Counts per electron, dark and flat: recovered within their errors, refused where the frames do not carry them."""

import numpy as np
import pytest
from quality_world import disk

from stem4d.calibrate.dark import DarkFit, fit_dark, fit_flat
from stem4d.calibrate.gain import fit_gain
from stem4d.errors import BadInput

SHAPE = (64, 64)
Array = np.ndarray


def _scene(rng: np.random.Generator, level: float) -> Array:
    bright = disk(SHAPE, tuple(31.5 + rng.uniform(-3, 3, 2)), rng.uniform(15, 25)) * level
    return bright + 0.05 * level * rng.random(SHAPE)


def _current(rng: np.random.Generator, frames: int) -> Array:
    """A beam that falls by a tenth and flickers by a percent."""
    return 1 - 0.1 * np.linspace(0, 1, frames) + 0.01 * rng.normal(size=frames)


def _spoil(frames: Array, rng: np.random.Generator) -> Array:
    frames[:, rng.random(SHAPE) < 0.01] = 0
    frames[:, [5, 40], [7, 33]] = 65535
    frames[:, 20, 20] = rng.integers(0, 60000, len(frames))
    return frames


def _counting(rng: np.random.Generator, frames: int, level: float) -> Array:
    scene = _scene(rng, level)
    return _spoil(np.stack([rng.poisson(scene * part) for part in _current(rng, frames)]), rng)


def _integrating(rng: np.random.Generator, gain: float, frames: int, level: float) -> tuple[Array, DarkFit]:
    scene, offset = _scene(rng, level), rng.normal(300, 20, SHAPE)
    read, response = gain * rng.uniform(0.2, 0.5, SHAPE), rng.normal(1, 0.02, SHAPE)

    def seen(part: float) -> Array:
        return np.rint(gain * response * rng.poisson(scene * part) + offset + rng.normal(0, 1, SHAPE) * read)

    lit = np.stack([seen(part) for part in _current(rng, frames)])
    return _spoil(lit, rng), fit_dark(np.stack([seen(0.0) for _ in range(frames)]))


def _check(errors: list[float], pulls: list[float], within: float) -> None:
    assert np.sqrt(np.mean(np.square(errors))) < within
    # 20 deviates: the share within one sigma scatters by 0.1 about 0.68, the mean of the pulls by 0.22.
    assert 0.4 < np.mean(np.abs(pulls) < 1) < 0.9
    assert abs(np.mean(pulls)) < 0.75


@pytest.mark.parametrize(("frames", "level"), [(20, 10.0), (50, 100.0)])
def test_a_counting_detector_has_one_count_per_electron(frames: int, level: float) -> None:
    errors, pulls = [], []
    for seed in range(20):
        fit = fit_gain(_counting(np.random.default_rng(seed), frames, level), full_scale=65535)
        assert fit.ok, fit.reason
        errors.append(fit.counts_per_electron - 1)
        pulls.append(errors[-1] / fit.counts_per_electron_uncertainty)
    _check(errors, pulls, 0.01)


def test_gain_of_an_integrating_detector() -> None:
    errors, pulls = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        gain = rng.uniform(2, 60)
        frames, dark = _integrating(rng, gain, 40, 50.0)
        fit = fit_gain(frames, dark)
        assert fit.ok, fit.reason
        errors.append(fit.counts_per_electron / gain - 1)
        pulls.append((fit.counts_per_electron - gain) / fit.counts_per_electron_uncertainty)
    _check(errors, pulls, 0.01)


def test_gain_where_the_disk_lights_a_small_part_of_an_integrating_detector() -> None:
    """Unlit pixels vary by their read noise: half of all pixels and more must not stand for the lit ones."""
    rng = np.random.default_rng(5)
    y, x = np.indices((64, 64)) - 31.5
    scene = np.where(np.hypot(y, x) < 12, 20.0, 0.0)
    lit = np.rint(8 * rng.poisson(scene, (64, 64, 64)) + rng.normal(40, 2, (64, 64, 64)))
    fit = fit_gain(lit, fit_dark(np.rint(rng.normal(40, 2, (64, 64, 64)))))
    assert fit.ok, fit.reason
    # 450 pixels of 64 frames: 1 %.
    assert fit.counts_per_electron == pytest.approx(8, rel=0.04)


@pytest.mark.slow
@pytest.mark.parametrize(("frames", "level"), [(10, 10.0), (20, 10.0), (20, 100.0), (8, 1000.0)])
def test_the_error_of_counts_per_electron_is_honest(frames: int, level: float) -> None:
    pulls: dict[str, list[float]] = {"counting": [], "integrating": []}
    for seed in range(120):
        rng = np.random.default_rng(seed)
        gain = rng.uniform(2, 60)
        for kind, truth, fit in (
            ("counting", 1.0, fit_gain(_counting(rng, frames, level), full_scale=65535)),
            ("integrating", gain, fit_gain(*_integrating(rng, gain, frames, level))),
        ):
            assert fit.ok, fit.reason
            pulls[kind].append((fit.counts_per_electron - truth) / fit.counts_per_electron_uncertainty)
    for each in pulls.values():
        # 120 deviates: the share scatters by 4.2 %, the mean by 0.09.
        assert 0.57 < np.mean(np.abs(each) < 1) < 0.79
        assert abs(np.mean(each)) < 0.5


def _with_dead_time(rate: Array, dead_part: float, rng: np.random.Generator) -> Array:
    """Counts in one exposure of a counter that is blind for a while after each count: waiting times added up."""
    counts = np.zeros(rate.shape, int)
    time = rng.exponential(1, rate.shape) / rate
    while (time < 1).any():
        counts += time < 1
        time += dead_part + rng.exponential(1, rate.shape) / rate
    return counts


def test_dead_time_shows_in_the_variance_and_does_not_spoil_the_gain() -> None:
    errors, dead = [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        scene = _scene(rng, 40.0)
        fit = fit_gain(np.stack([_with_dead_time(scene, 0.005, rng) for _ in range(20)]))
        assert fit.ok, fit.reason
        errors.append(fit.counts_per_electron - 1)
        dead.append((fit.dead_part - 0.005) / fit.dead_part_uncertainty)
    assert np.abs(errors).max() < 0.02  # four times the quoted error; without the dead time it would be -0.25
    assert np.abs(dead).max() < 4


FRAMES = np.random.default_rng(2).poisson(_scene(np.random.default_rng(3), 100.0), (20, *SHAPE))


@pytest.mark.parametrize(
    ("frames", "full_scale", "why"),
    [
        (FRAMES[:3], None, "too few"),
        (FRAMES[[0] * 8], None, "vary"),
        (np.zeros((8, *SHAPE)), None, "vary"),
        (np.minimum(FRAMES, 63), None, "saturated"),
        (np.minimum(FRAMES, 100), None, "saturated"),
        (FRAMES, 120, "saturated"),
        (FRAMES + 50, None, "mean"),  # an offset that nobody took off
        (FRAMES // 4, None, "proportional"),  # merged into coarser steps
        (np.stack([np.roll(frame, i // 3, 0) for i, frame in enumerate(FRAMES)]), None, "mean"),  # a scene that moves
    ],
)
def test_frames_that_cannot_carry_it_are_refused(frames: Array, full_scale: int | None, why: str) -> None:
    fit = fit_gain(frames, full_scale=full_scale)
    assert not fit.ok
    assert why in fit.reason


def test_dark_offset_and_noise_are_those_of_each_pixel() -> None:
    rng = np.random.default_rng(0)
    offset, read = rng.normal(100, 3, SHAPE), rng.uniform(4, 6, SHAPE)
    frames = offset + rng.normal(0, 1, (100, *SHAPE)) * read
    frames[:, 3, 4], frames[:, 9, 9] = 4095, frames[:, 9, 9] + rng.normal(0, 80, 100)
    fit = fit_dark(frames)
    assert fit.ok, fit.reason
    assert {(int(y), int(x)) for y, x in np.argwhere(fit.bad)} == {(3, 4), (9, 9)}
    assert np.std((fit.offset_counts - offset)[~fit.bad]) == pytest.approx(fit.offset_uncertainty_counts, rel=0.05)
    # 99 differences: a standard deviation is known to 9 %.
    assert np.std((fit.read_noise_counts / read)[~fit.bad]) == pytest.approx(0.087, rel=0.1)
    assert np.mean((fit.read_noise_counts / read)[~fit.bad]) == pytest.approx(1, abs=0.01)


def test_a_lit_dark_is_refused_and_so_is_one_without_noise() -> None:
    rng = np.random.default_rng(0)
    lit = fit_dark(rng.poisson(_scene(rng, 5.0), (20, *SHAPE)) + 100 + rng.normal(0, 1, (20, *SHAPE)))
    assert not lit.ok
    assert "lit" in lit.reason
    assert not fit_dark(np.zeros((20, *SHAPE))).ok
    assert not fit_dark(np.zeros((2, *SHAPE))).ok
    assert not fit_gain(FRAMES, fit_dark(np.zeros((20, *SHAPE)))).ok


@pytest.mark.parametrize("whole", [True, False])
def test_flat_is_the_response_and_not_the_illumination(whole: bool) -> None:
    rng = np.random.default_rng(1)
    response = rng.normal(1, 0.03, SHAPE)
    response[10, 30], response[30, 31] = 0.1, 3.0
    y, x = np.indices(SHAPE) / 32 - 1
    light = 1000 * (1 + 0.2 * x - 0.15 * y**2) * (1 if whole else disk(SHAPE, (31, 30), 27.0))
    fit = fit_flat(rng.poisson(light * response * 16) / 16, 16)
    assert fit.ok, fit.reason
    assert {(int(y), int(x)) for y, x in np.argwhere(fit.bad)} == {(10, 30), (30, 31)}
    good = fit.known & ~fit.bad
    assert good.sum() > (4000 if whole else 1300)
    off = (fit.response / response)[good]
    # The surface has 6 terms: its own error adds little to a pixel's.
    assert np.std(off) == pytest.approx(fit.response_uncertainty, rel=0.15)
    assert fit.spread == pytest.approx(0.03, rel=0.15)


def test_flats_that_are_dim_dark_or_not_smooth_are_refused() -> None:
    rng = np.random.default_rng(1)
    assert "know" in fit_flat(rng.poisson(np.full(SHAPE, 5.0)).astype(float), 1).reason
    assert not fit_flat(np.zeros(SHAPE), 1).ok
    fringes = 1e4 * (1 + 0.3 * np.sin(np.arange(64) / 5))[None, :] * np.ones(SHAPE)
    assert "smooth" in fit_flat(rng.poisson(fringes).astype(float), 1).reason


def test_bad_input_is_named() -> None:
    with pytest.raises(BadInput):
        fit_gain(np.zeros((4, 4)))
    with pytest.raises(BadInput):
        fit_gain(FRAMES, bad_pixels=np.zeros((4, 4), bool))
    with pytest.raises(BadInput):
        fit_dark(np.zeros((4, 4)))
    with pytest.raises(BadInput):
        fit_flat(np.zeros((4, 4)), 0)
