"""Recall and false alarms of bad pixels at 1 % dead and 1e-3 hot, beside 1e-3 noisy ones, with gaps between modules."""

import numpy as np
import pytest
from quality_world import disk

from stem4d.calibrate.disk import find_disk
from stem4d.calibrate.disk_model import find_dead_in_disk
from stem4d.calibrate.pixels import find_bad_pixels
from stem4d.errors import BadInput

SHAPE = (96, 96)
FRAMES = 100


def _gaps() -> np.ndarray:
    gaps = np.zeros(SHAPE, bool)
    gaps[46:50], gaps[:, 47:49] = True, True
    return gaps


def _recording(rng: np.random.Generator) -> tuple[np.ndarray, dict[str, np.ndarray], np.ndarray]:
    """Frames, masks of what was put in, and the part of the level that each pixel sees."""
    bright = disk(SHAPE, tuple(47.5 + rng.uniform(-4, 4, 2)), rng.uniform(20, 40))
    pattern = 8 * bright + 0.05
    frames = rng.poisson(pattern, (FRAMES, *SHAPE)).astype(np.float64)
    drawn = rng.random(SHAPE)
    dead, hot, noisy = drawn < 0.01, (drawn > 0.01) & (drawn < 0.011), (drawn > 0.02) & (drawn < 0.021)
    # Counts in bursts with the same mean: a variance four times Poisson's and more, where there are counts enough.
    burst = rng.uniform(4, 20, SHAPE)
    rate, burst = (np.maximum(pattern, 2) / burst)[noisy], np.round(burst)[noisy]
    frames[:, noisy] = rng.poisson(rate, (FRAMES, len(rate))) * burst
    frames[:, hot] = np.where(rng.random(hot.sum()) < 0.5, 4095, rng.poisson(60, (FRAMES, hot.sum())))
    frames[:, dead] = 0
    frames[:, _gaps()] = 0
    masks = {"dead": dead, "hot": hot, "noisy": noisy}
    return frames, {name: mask & ~_gaps() for name, mask in masks.items()}, bright


def test_recall_and_false_alarms() -> None:
    put, found = dict.fromkeys(("dead", "hot"), 0), dict.fromkeys(("dead", "hot"), 0)
    false, lit_dead, lit_found = 0, 0, 0
    for seed in range(8):
        frames, masks, bright = _recording(np.random.default_rng(seed))
        mean, highest = frames.mean(axis=0), frames.max(axis=0)
        bad = find_bad_pixels(mean, FRAMES, highest, _gaps())
        fit = find_disk(mean, bad.mask | _gaps())
        assert fit.ok, fit.reason
        edge, _ = find_dead_in_disk(mean, FRAMES, fit, bad.mask | _gaps())
        assert not (bad.mask & _gaps()).any()
        asked = {"dead": masks["dead"] & bad.dead_known, "hot": masks["hot"]}
        for name, mask in (("dead", bad.dead), ("hot", bad.hot)):
            put[name] += int(asked[name].sum())
            found[name] += int((asked[name] & mask).sum())
        lit = masks["dead"] & (bright > 0.5)
        lit_dead, lit_found = lit_dead + int(lit.sum()), lit_found + int((lit & (bad.dead | edge)).sum())
        false += int(((bad.mask | edge) & ~masks["dead"] & ~masks["hot"] & ~masks["noisy"]).sum())
    # 1e-5 of 7e4 pixels is one.
    assert false <= 1
    assert found["hot"] >= 0.99 * put["hot"] - 1
    assert found["dead"] >= 0.99 * put["dead"]
    # With the disk's model the dead ones along its edge are found too, where neighbours say nothing.
    assert lit_found >= 0.99 * lit_dead


def test_touching_dead_pixels_are_found_and_larger_holes_are_not_called_dead() -> None:
    frames = np.random.default_rng(0).poisson(10.0, (100, 32, 32)).astype(np.float64)
    frames[:, 5, 5:8], frames[:, 20, 20], frames[:, 21, 21] = 0, 0, 0
    frames[:, 10:14, 24:28] = 0
    dead = find_bad_pixels(frames.mean(axis=0), 100, frames.max(axis=0)).dead
    assert {(int(y), int(x)) for y, x in np.argwhere(dead)} == {(5, 5), (5, 6), (5, 7), (20, 20), (21, 21)}


def test_bad_input_is_named() -> None:
    flat = np.ones((8, 8))
    with pytest.raises(BadInput):
        find_bad_pixels(flat, 10, gaps=np.zeros((3, 3), bool))
