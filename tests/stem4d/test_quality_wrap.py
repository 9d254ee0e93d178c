"""Counters that begin again at 0: what is safe, what is suspect, and what nobody can see."""

import numpy as np
import pytest
from quality_world import COM, Truth, frames_of, maps_of, one, plan_for
from test_quality_rate import facts

from stem4d.calibrate.disk import find_disk
from stem4d.quality.file import FileKnowledge, judge_file
from stem4d.quality.judge import judge
from stem4d.verdict import QualityResult, Verdict

PASS, WARN, FAIL, UNKNOWN = Verdict.PASS, Verdict.WARN, Verdict.FAIL, Verdict.NOT_MEASURABLE
AREA = np.pi * 10**2


def judged(
    mean: float, *, wraps: bool = True, known: bool = True, scan: tuple[int, int] = (12, 12)
) -> list[QualityResult]:
    """Results for a disk of so many counts a pixel, recorded with eight bits."""
    truth = Truth(electrons=mean * AREA, full_scale=None, scan=scan)
    frames = frames_of(truth, 2)
    maps = maps_of(frames % 256 if wraps else np.minimum(frames, 255), 255)
    plan = plan_for(truth, (COM,), detector__bit_depth=8)
    detector = facts(1e9, wraps_at_bits=8 if wraps else None) if known else None
    return [each for each in judge(plan, (maps,), (0.0,), detector=detector) if each.metric == "saturation.wrap"]


# 500 counts wrap wholly, 306 nearly so, and leave less than half of the range.
@pytest.mark.parametrize(
    ("mean", "verdicts"),
    [
        (20.0, {PASS}),
        (110.0, {WARN}),
        (230.0, {FAIL}),
        (306.0, {WARN, FAIL}),
        (500.0, {WARN, FAIL}),
        (3000.0, {WARN, FAIL}),
    ],
)
def test_counts_near_the_end_of_eight_bits_are_suspect(mean: float, verdicts: set[Verdict]) -> None:
    (found,) = judged(mean)
    assert found.verdict in verdicts, found.message
    assert found.limit == pytest.approx(102)


def test_a_detector_that_stops_at_full_scale_is_not_judged_and_an_unknown_one_only_warns() -> None:
    assert judged(500.0, wraps=False) == []
    (found,) = judged(500.0, wraps=False, known=False)
    assert found.verdict is WARN


def test_few_frames_do_not_tell() -> None:
    (found,) = judged(20.0, scan=(3, 3))
    assert found.verdict is UNKNOWN


def test_a_file_of_unknown_depth_is_no_pass() -> None:
    maps = maps_of(frames_of(Truth(), 2), None)
    results = judge_file(maps, find_disk(maps.sum_pattern), None, FileKnowledge())
    assert one(results, "saturation.wrap").verdict is UNKNOWN
