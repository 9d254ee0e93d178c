"""Values on a pedestal are told from counted electrons, whatever the specimen does."""

import numpy as np
import pytest
from quality_world import Truth, frames_of, maps_of, one

from stem4d.calibrate.disk import find_disk
from stem4d.quality.counting import pedestal
from stem4d.quality.file import FileKnowledge, judge_file
from stem4d.verdict import Verdict

TRUTH = Truth(scan=(16, 16))
NONE_BAD = np.zeros(TRUTH.detector, np.bool_)


@pytest.mark.parametrize("background", [0.02, 2.5, 40.0])
@pytest.mark.parametrize("contrast", [0.0, 0.5])
def test_counted_electrons_stand_on_nothing(background: float, contrast: float) -> None:
    scene = 1 + contrast * np.sin(np.arange(256).reshape(16, 16))
    for seed in range(20):
        frames = frames_of(Truth(scan=(16, 16), background=background), seed, scene)
        assert pedestal(maps_of(frames, None), NONE_BAD) is None


@pytest.mark.parametrize(("level", "noise"), [(3.0, 0.3), (8.0, 1.0), (100.0, 5.0)])
def test_a_pedestal_is_found_with_its_level(level: float, noise: float) -> None:
    rng = np.random.default_rng(1)
    frames = frames_of(TRUTH, 1)
    frames = frames + np.rint(rng.normal(level, noise, frames.shape)).astype(np.int64)
    found = pedestal(maps_of(frames, None), NONE_BAD)
    assert found is not None
    # The beam leaves up to 0.02 in a pixel, rounding as much; a quarter is chosen by means over 256 frames.
    assert found.level == pytest.approx(level, abs=0.05 + 1.5 * noise / 16)


def test_electrons_on_a_pedestal_are_not_measurable() -> None:
    maps = maps_of(frames_of(TRUTH, 1) + 8, None)
    results = judge_file(maps, find_disk(maps.mean_pattern), None, FileKnowledge())
    found = one(results, "dose.electrons")
    assert found.verdict is Verdict.NOT_MEASURABLE
    assert "hold about 8 each" in found.message


def test_one_frame_or_few_pixels_tell_nothing() -> None:
    maps = maps_of(frames_of(Truth(scan=(1, 1)), 1) + 8, None)
    assert pedestal(maps, NONE_BAD) is None
    maps = maps_of(frames_of(TRUTH, 1) + 8, None)
    bad = np.ones(TRUTH.detector, np.bool_)
    bad[:10, :10] = False
    assert pedestal(maps, bad) is None
