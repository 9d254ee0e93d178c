"""The counting rate: the peak behind the largest count, what is put back, and what is never a pass."""

from typing import Any

import numpy as np
import pytest
from quality_world import COM, Truth, frames_of, maps_of, one, plan_for, recording

from stem4d.catalogue import CATALOGUE
from stem4d.detector import DetectorFacts
from stem4d.maps import RunMaps
from stem4d.quality.judge import judge
from stem4d.quality.peaks import steady_peak
from stem4d.verdict import QualityResult, Verdict

PASS, WARN, FAIL, UNKNOWN = Verdict.PASS, Verdict.WARN, Verdict.FAIL, Verdict.NOT_MEASURABLE
TRUTH = Truth(electrons=30000.0, full_scale=65535)
RATE_HZ = 30000 / (np.pi * 10**2) / 100e-6
"""Of the disk's pixels: 95 counts in 100 us."""
STRAIN = {"kind": "strain", "reflection_d_a": 1.8, "target_strain": 0.05, "smallest_feature_nm": 2.0}


def facts(limit_hz: float, **more: Any) -> DetectorFacts:
    return DetectorFacts(
        name="camera",
        shape=(48, 48),
        pixel_pitch_um=100.0,
        bit_depths=(12,),
        max_frame_rate_hz=1e6,
        max_count_rate_per_px_hz=limit_hz,
        **more,
    )


def judged(
    limit_hz: float | None, truth: Truth = TRUTH, maps: RunMaps | None = None, analysis: dict[str, object] = COM
) -> tuple[QualityResult, ...]:
    plan = plan_for(truth, (analysis,), detector__bit_depth=16)
    known = None if limit_hz is None else facts(limit_hz)
    return judge(plan, (maps or recording(1, **vars(truth)),), (0.0,), detector=known)


@pytest.mark.parametrize("mean", [0.1, 1.0, 10.0, 300.0])
@pytest.mark.parametrize("frames", [50, 1000])
def test_the_level_behind_the_largest_count_of_steady_light(mean: float, frames: int) -> None:
    largest = np.random.default_rng(3).poisson(mean, (frames, 400)).max(axis=0)
    found = steady_peak(largest, frames)
    # The largest of so many scatters by less than half a standard deviation of the counts: the median of 400 by less
    # than a twentieth of it. Whole counts of a dim pixel stand for a range, up to a standard deviation more.
    assert np.median(found) == pytest.approx(mean, abs=0.05 * np.sqrt(mean) + 0.3 * min(1.0, mean) + 0.1)


def test_the_level_behind_nothing_is_nothing() -> None:
    assert list(steady_peak(np.array([0, 0]), 10)) == [0.0, 0.0]
    # One frame: the count itself, to the half count between a mean and a median.
    assert steady_peak(np.array([100]), 1)[0] == pytest.approx(100, abs=1)


@pytest.mark.parametrize(("over", "verdict"), [(0.5, PASS), (1.0, WARN), (2.0, FAIL)])
def test_the_rate_of_the_brightest_pixels_is_held_against_the_detectors(over: float, verdict: Verdict) -> None:
    found = one(judged(RATE_HZ / over), "saturation.rate", "com")
    assert found.verdict is verdict, found.message
    assert found.value is not None
    assert found.uncertainty is not None
    # What is not known of a specimen's bright frames is the error, and this light was steady.
    assert abs(found.value - RATE_HZ) < 2.5 * found.uncertainty
    assert found.uncertainty < 0.07 * RATE_HZ


def test_light_that_is_bright_in_some_frames_counts_as_bright() -> None:
    scene = np.full(TRUTH.scan, 0.5)
    scene[::2, ::2] = 2.0
    maps = maps_of(frames_of(TRUTH, 1, scene), 65535)
    found = one(judged(1.5 * RATE_HZ, maps=maps), "saturation.rate", "com")
    # Its mean is below the limit, a quarter of its frames beyond it.
    assert maps.mean_pattern[24, 24] / 100e-6 < 1.2 * RATE_HZ
    assert found.verdict is FAIL


def test_the_direct_beam_of_strain_only_warns() -> None:
    results = [each for each in judged(RATE_HZ / 3, analysis=STRAIN) if each.metric == "saturation.rate"]
    assert [each.verdict for each in results] == [PASS, WARN]


def test_a_clipped_rate_is_a_lower_bound_and_no_pass() -> None:
    truth = Truth(electrons=30000.0, full_scale=63)
    maps = recording(1, **vars(truth))
    plan = plan_for(truth, (COM,))
    found = one(judge(plan, (maps,), (0.0,), detector=facts(10 * RATE_HZ)), "saturation.rate", "com")
    assert found.verdict is UNKNOWN
    assert "lower bound" in found.message


def test_an_unknown_detector_is_no_pass_and_the_catalogue_is_asked() -> None:
    assert one(judged(None), "saturation.rate").verdict is UNKNOWN
    plan = plan_for(TRUTH, (COM,), detector__name="merlin-256", detector__bit_depth=12)
    found = one(judge(plan, (recording(1, **vars(TRUTH)),), (0.0,)), "saturation.rate", "com")
    limit = CATALOGUE["merlin-256"].max_count_rate_per_px_hz
    assert (found.limit, found.verdict) == (limit, PASS if limit / 1.2 > RATE_HZ else found.verdict)
    assert "not verified" in found.message


def test_what_the_rate_cost_is_put_back_into_the_dose() -> None:
    limit_hz = RATE_HZ / 2
    lost = 1 / (1 + RATE_HZ * 0.1 / limit_hz)
    seen = Truth(electrons=TRUTH.electrons * lost, full_scale=65535, background=0.0)
    found = one(judged(limit_hz, maps=recording(1, **vars(seen))), "dose.electrons")
    # The disk's blurred edge counts more slowly and loses less: within a hundredth.
    assert found.value == pytest.approx(TRUTH.electrons, rel=0.01)
    assert "put back" in found.message
    plain = one(judged(None, maps=recording(1, **vars(seen))), "dose.electrons")
    assert plain.value == pytest.approx(TRUTH.electrons * lost, rel=0.01)
