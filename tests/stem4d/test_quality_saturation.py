"""Saturation by place: figures exact against plain numpy, and the verdict each analysis should get."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from quality_world import COM, Truth, disk, frames_of, maps_of, one, plan_for, recording, without_frames
from scipy.stats import poisson

from stem4d.calibrate.disk import find_disk
from stem4d.quality.clipping import clipped_share, true_mean
from stem4d.quality.file import FileKnowledge, judge_file
from stem4d.quality.regions import PatternGeometry, subject_of_plan
from stem4d.quality.saturation import check_saturation
from stem4d.verdict import QualityResult, Verdict

PTYCHOGRAPHY = {"kind": "ptychography", "target_d_a": 2.0}
TCBF = {"kind": "tcbf", "target_d_a": 2.0}
STRAIN = {"kind": "strain", "reflection_d_a": 1.3, "target_strain": 0.01, "smallest_feature_nm": 2.0}
ORIENTATION = {"kind": "orientation", "reflection_d_a": 1.3, "smallest_feature_nm": 2.0}
VIRTUAL = {
    "kind": "virtual",
    "detectors": [
        {"name": "bf", "inner_mrad": 0, "outer_mrad": 9.0},
        {"name": "adf", "inner_mrad": 13.0, "outer_mrad": 22.0},
    ],
}
EVERYTHING: tuple[dict[str, Any], ...] = (COM, TCBF, PTYCHOGRAPHY, STRAIN, ORIENTATION, VIRTUAL)
CLIPPED = Truth(electrons=40000, full_scale=63)
"""127 electrons a pixel where 63 fit."""


def _checked(maps: Any, truth: Truth, bad: Any = None, analyses: Any = EVERYTHING) -> tuple[QualityResult, ...]:
    plan = plan_for(truth, analyses)
    return check_saturation(maps, subject_of_plan(plan, maps, bad))


def test_figures_are_those_of_plain_numpy() -> None:
    truth = Truth(electrons=17000, full_scale=63, hot=((3, 4), (24, 20)))
    bad = np.zeros(truth.detector, bool)
    bad[3, 4] = bad[24, 20] = True
    frames = frames_of(truth, 1)
    maps = maps_of(frames, 63, bad)
    results = _checked(maps, truth, bad)
    subject = subject_of_plan(plan_for(truth), maps, bad)
    assert subject.geometry is not None
    y, x = np.indices(truth.detector)
    radius = np.hypot(y - subject.geometry.centre_px[0], x - subject.geometry.centre_px[1])
    reached = (frames == 63).any((0, 1)) & ~bad
    inside = (radius <= subject.geometry.radius_px) & ~bad
    assert one(results, "saturation.disk", "com").value == (reached & inside).sum() / inside.sum()
    ring = (radius >= 13.0) & (radius < 22.0) & ~bad
    assert one(results, "saturation.mask", "virtual adf").value == (reached & ring).sum() / ring.sum()
    assert one(results, "saturation.anywhere").value == reached.sum() / (~bad).sum()
    assert one(results, "saturation.per_frame").value == ((frames == 63) & ~bad).sum((2, 3)).mean()


def test_a_clipped_disk_is_fatal_where_the_disk_is_used_and_only_there() -> None:
    results = _checked(recording(**vars(CLIPPED)), CLIPPED)
    verdicts = {each.analysis: each.verdict for each in results if each.metric != "saturation.disk"}
    for kind in ("com", "tcbf", "ptychography"):
        found = one(results, "saturation.disk", kind)
        assert found.verdict is Verdict.FAIL
        assert "shorten the dwell" in found.message
    assert verdicts["virtual bf"] is Verdict.FAIL
    assert verdicts["virtual adf"] is Verdict.PASS
    for kind in ("strain", "orientation"):
        assert one(results, "saturation.bragg", kind).verdict is Verdict.PASS
        beam = one(results, "saturation.disk", kind)
        assert beam.verdict is Verdict.WARN
        assert "Friedel" in beam.message


def test_clipped_bragg_disks_are_fatal_for_strain() -> None:
    truth = Truth(electrons=2000, full_scale=63)
    rng = np.random.default_rng(0)
    pattern = disk(truth.detector, truth.centre, 10) * 6 + disk(truth.detector, (24, 42), 4) * 200 + 0.02
    frames = np.minimum(rng.poisson(pattern, (*truth.scan, *truth.detector)), 63)
    results = _checked(maps_of(frames, 63), truth)
    assert one(results, "saturation.bragg", "strain").verdict is Verdict.FAIL
    assert one(results, "saturation.disk", "com").verdict is Verdict.PASS


def test_a_single_clipped_reading_warns_and_does_not_fail() -> None:
    truth = Truth()
    frames = frames_of(truth, 0)
    frames[4, 4, 23, 23] = 4095
    found = one(_checked(maps_of(frames, 4095), truth), "saturation.disk", "com")
    # One of 144 x 316 readings: 2e-5, below the limit of 1e-4; one of 316 pixels: 3e-3, above it.
    assert found.verdict is Verdict.WARN
    assert "rare" in found.message


def test_frames_in_a_hole_that_clip_as_a_whole_fail_even_if_they_are_few() -> None:
    truth = Truth(electrons=4000, full_scale=63)
    scene = np.ones(truth.scan)
    scene[0, :3] = 12.0
    found = one(_checked(recording(0, scene, **vars(truth)), truth), "saturation.disk", "ptychography")
    assert found.verdict is Verdict.FAIL


def test_two_hot_pixels_ruin_nothing_once_masked() -> None:
    truth = Truth(hot=((23, 25), (5, 40)))
    bad = np.zeros(truth.detector, bool)
    bad[23, 25] = bad[5, 40] = True
    for seen_by_accumulator in (True, False):
        maps = maps_of(frames_of(truth, 2), 4095, bad if seen_by_accumulator else None)
        results = _checked(maps, truth, bad)
        assert all(each.verdict is Verdict.PASS for each in results), [r.message for r in results]


@pytest.mark.parametrize("seed", range(10))
def test_healthy_recordings_pass(seed: int) -> None:
    truth = Truth(offset=(seed / 5 - 1, 0.3), electrons=10 ** (2 + seed / 4))
    assert all(each.verdict is Verdict.PASS for each in _checked(recording(seed, **vars(truth)), truth))


def test_unknown_full_scale_is_not_a_pass() -> None:
    maps = recording(full_scale=None)
    results = judge_file(maps, find_disk(maps.sum_pattern), None, FileKnowledge())
    told = [each for each in results if each.metric.startswith("saturation.") and each.analysis is not None]
    assert len(told) == 8
    assert all(each.verdict is Verdict.NOT_MEASURABLE and "bit depth" in each.message for each in told)


def test_nothing_recorded_is_not_a_pass() -> None:
    results = _checked(without_frames(recording()), Truth())
    assert all(each.verdict is Verdict.NOT_MEASURABLE for each in results)


def test_a_mask_that_covers_the_disk_is_not_a_pass() -> None:
    truth = Truth()
    bad = disk(truth.detector, truth.centre, 12.0) > 0.1
    results = _checked(maps_of(frames_of(truth, 0), 4095, bad), truth, bad)
    found = one(results, "saturation.disk", "com")
    assert found.verdict is Verdict.NOT_MEASURABLE
    assert "masked" in found.message


def test_the_calibrated_disk_stands_in_and_says_so() -> None:
    truth = Truth(electrons=1.0, background=0.5)
    maps = recording(**vars(truth))
    plan = plan_for(truth)
    subject = subject_of_plan(plan, maps, None, PatternGeometry((20.0, 21.0), 9.0, 1.0))
    assert not subject.fit.ok
    assert subject.geometry == PatternGeometry((20.0, 21.0), 9.0, 1.0)
    assert "as calibrated" in one(check_saturation(maps, subject), "saturation.disk").message


@pytest.mark.parametrize("full_scale", [1, 63, 255, 4095, 65535, 2**24 - 1])
@given(relative=st.floats(-4, 3))
@settings(max_examples=20, deadline=None)
def test_share_and_level_follow_from_the_clipped_mean(full_scale: int, relative: float) -> None:
    """A rate is recovered from the mean of its clipped Poisson counts, and with it how often they clip."""
    rate = max(full_scale + relative * np.sqrt(full_scale), 0.05 * full_scale)
    k = np.arange(max(int(rate - 12 * np.sqrt(rate)) - 20, 0), full_scale)
    mean = float((poisson.pmf(k, rate) * k).sum()) + full_scale * float(poisson.sf(full_scale - 1, rate))
    # The table is 600 points over 12 sigma: 2 % of a sigma; the slope of the share is at most 0.4 per sigma.
    assert clipped_share(np.array(mean), full_scale) == pytest.approx(poisson.sf(full_scale - 1, rate), abs=0.01)
    if relative < 2.5:  # further up the mean saturates and says nothing of the rate
        assert true_mean(np.array(mean), full_scale) == pytest.approx(rate, abs=0.05 * np.sqrt(full_scale))


def test_a_pixel_that_is_always_clipped_has_no_known_level() -> None:
    assert np.isinf(true_mean(np.array(63.0), 63))
    assert clipped_share(np.array(63.0), 63) == 1.0
    assert true_mean(np.array(3.0), 63) == 3.0
    assert clipped_share(np.array(3.0), 63) < 1e-50
