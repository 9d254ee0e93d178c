"""Hot and dead pixels: found where they are, and nothing healthy called bad."""

import numpy as np
import pytest
from quality_world import Truth, disk, frames_of

from stem4d.calibrate.pixels import fill_bad_pixels, find_bad_pixels
from stem4d.errors import BadInput

SHAPE = (64, 64)


def _frames(seed: int, number: int = 100) -> np.ndarray:
    """Frames of a vacuum disk, its centre and brightness random."""
    rng = np.random.default_rng(seed)
    pattern = disk(SHAPE, (31.5 + rng.uniform(-3, 3), 31.0), 15) * rng.uniform(1, 20) + 0.02
    return rng.poisson(pattern, (number, *SHAPE)).astype(float)


@pytest.mark.parametrize("seed", range(20))
def test_hot_pixels_are_found_at_full_scale_and_well_above_their_neighbours(seed: int) -> None:
    rng = np.random.default_rng(1000 + seed)
    frames = _frames(seed)
    level = frames.mean(0)
    hot = np.zeros(SHAPE, bool)
    hot[tuple(rng.integers(0, 64, (2, 5)))] = True
    hot[6, 50:52] = True  # two that touch
    for y, x in np.argwhere(hot):
        frames[:, y, x] = 4095 if rng.random() < 0.5 else rng.poisson(8 * level[y, x] + 5, len(frames))
    found = find_bad_pixels(frames.mean(0), len(frames), frames.max(0))
    # 8 times the neighbours is below the neighbours' spread right on the disk's edge: one miss is allowed there.
    assert (found.hot & hot).sum() >= hot.sum() - 1
    assert not (found.mask & ~hot).any()


@pytest.mark.parametrize("seed", range(10))
def test_dead_pixels_are_found_where_the_disk_lights_them(seed: int) -> None:
    frames = _frames(seed)
    rng = np.random.default_rng(seed)
    dead = [(int(y), int(x)) for y, x in 31 + rng.integers(-6, 7, (3, 2)) * (1, 1)]
    dead = [each for i, each in enumerate(dead) if all(np.hypot(each[0] - o[0], each[1] - o[1]) > 2 for o in dead[:i])]
    for y, x in dead:
        frames[:, y, x] = 0
    found = find_bad_pixels(frames.mean(0), len(frames), frames.max(0))
    assert {(int(y), int(x)) for y, x in np.argwhere(found.dead)} == set(dead)
    assert not found.dead_known[0, 0]  # in the dark nobody can tell


@pytest.mark.parametrize("radius", [2.0, 3.0, 6.0, 20.0])
@pytest.mark.parametrize("frames", [1, 4, 300])
def test_bragg_disks_their_edges_and_shot_noise_are_not_bad(radius: float, frames: int) -> None:
    rng = np.random.default_rng(int(radius * 10) + frames)
    for _ in range(15):
        pattern = np.full(SHAPE, 0.05)
        for _spot in range(8):
            pattern += disk(SHAPE, tuple(rng.uniform(5, 58, 2)), radius) * 10 ** rng.uniform(0, 3)
        pattern *= 10 ** rng.uniform(-2, 0.3)
        found = find_bad_pixels(rng.poisson(pattern * frames) / frames, frames)
        assert not found.hot.any()
        # A dark wedge between hard disks may look dead; a blur of 0.6 px leaves hardly any.
        assert found.dead.sum() <= 1


def test_one_event_is_not_a_hot_pixel() -> None:
    frames = _frames(1)
    frames[3, 5, 5] = 4000
    assert find_bad_pixels(frames.mean(0), len(frames)).hot[5, 5]
    assert not find_bad_pixels(frames.mean(0), len(frames), frames.max(0)).hot.any()


def test_a_stuck_pixel_is_found_inside_a_bright_disk() -> None:
    frames = np.minimum(_frames(2, 400) * 3, 63)
    frames[:, 31, 31] = 63
    found = find_bad_pixels(frames.mean(0), len(frames), frames.max(0))
    assert found.hot.sum() <= 1
    assert found.hot[31, 31] == (frames[:, 31, 30].mean() < 63 / 1.1)


def test_a_clipped_disk_is_not_hot() -> None:
    truth = Truth(electrons=1e6, full_scale=63)
    frames = frames_of(truth, 0).reshape(-1, *truth.detector)
    found = find_bad_pixels(frames.mean(0), len(frames), frames.max(0))
    assert not found.mask.any()


def test_nan_from_an_integrating_detector_is_bad() -> None:
    frames = _frames(3)
    mean = frames.mean(0)
    mean[4, 4] = np.nan
    assert find_bad_pixels(mean, len(frames)).hot[4, 4]


def test_filled_pixels_take_the_mean_of_good_neighbours() -> None:
    pattern = np.full((8, 8), 7.0)
    bad = np.zeros((8, 8), bool)
    pattern[3, 3], bad[3, 3] = 1e6, True
    assert np.allclose(fill_bad_pixels(pattern, bad), 7.0)
    assert np.all(fill_bad_pixels(pattern, np.ones((8, 8), bool)) == 0.0)
    assert pattern[3, 3] == 1e6


@pytest.mark.parametrize(
    ("mean", "frames", "highest"),
    [
        (np.zeros(4), 1, None),
        (np.zeros((4, 4)), 0, None),
        (np.zeros((4, 4)), 1, np.zeros((4, 5))),
    ],
)
def test_bad_input_is_named(mean: np.ndarray, frames: int, highest: np.ndarray | None) -> None:
    with pytest.raises(BadInput):
        find_bad_pixels(mean, frames, highest)
