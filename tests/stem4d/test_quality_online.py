"""Stopping early: for what cannot be saved, after one row, and never for a healthy run."""

from typing import Any

import numpy as np
import pytest
from quality_world import COM, Truth, disk, frames_of, plan_for
from test_quality_rate import facts

from stem4d.errors import BadInput
from stem4d.quality.online import enough_frames, stop_reason, watch
from stem4d.quality.regions import PatternGeometry

DARK = {"kind": "virtual", "detectors": [{"name": "adf", "inner_mrad": 14.0, "outer_mrad": 23.0}]}
STRAIN = {"kind": "strain", "reflection_d_a": 1.3, "target_strain": 0.01, "smallest_feature_nm": 2.0}


def _asked(
    truth: Truth, seed: int = 0, rows: int = 1, planned: Truth | None = None, bad: Any = None, *analyses: dict[str, Any]
) -> str | None:
    frames = frames_of(truth, seed).reshape(-1, *truth.detector)[: rows * truth.scan[1]]
    plan = plan_for(planned or truth, analyses or (COM,), scan__shape=truth.scan)
    return stop_reason(frames.sum(0).astype(np.uint64), frames.max(0).astype(np.uint32), len(frames), plan, None, bad)


def test_saturation_stops_what_uses_the_disk() -> None:
    clipped = Truth(electrons=60000, full_scale=63)
    reason = _asked(clipped)
    assert reason is not None
    assert reason.startswith("saturation")
    assert "com" in reason
    assert _asked(clipped, 0, 1, None, None, DARK) is None
    assert _asked(clipped, 0, 1, None, None, STRAIN) is None


@pytest.mark.parametrize(
    ("scan", "frames"), [((32, 32), 26), ((64, 64), 64), ((8, 512), 102), ((1, 256), 16), ((4, 4), 4)]
)
def test_a_row_or_a_fortieth_of_the_scan_is_enough(scan: tuple[int, int], frames: int) -> None:
    assert enough_frames(plan_for(Truth(), scan__shape=scan)) == frames


def _watched(before: Truth, after: Truth, lost_at: int, planned: Truth) -> list[str | None]:
    """Asked after every row of a scan whose first rows follow one truth and whose others another."""
    ask = watch(plan_for(planned))
    frames = np.concatenate([frames_of(before, 1)[:lost_at], frames_of(after, 2)[lost_at:]])
    summed, most = np.zeros(planned.detector, np.uint64), np.zeros(planned.detector, np.uint32)
    told = []
    for row, here in enumerate(frames):
        summed = summed + here.sum(0).astype(np.uint64)
        most = np.maximum(most, here.max(0).astype(np.uint32))
        told.append(ask(summed, most, (row + 1) * planned.scan[1]))
    return told


@pytest.mark.parametrize("after", [Truth(electrons=1e-6, background=0.0), Truth(offset=(40.0, 0.0), background=0.3)])
def test_what_is_lost_late_is_noticed_within_a_row(after: Truth) -> None:
    told = _watched(Truth(), after, 9, Truth())
    assert told[:9] == [None] * 9
    assert told[9] is not None
    assert told[9].startswith("since frame 108: no b")


def test_a_beam_that_goes_on_is_left_alone() -> None:
    assert _watched(Truth(), Truth(electrons=2000), 6, Truth()) == [None] * 12


def test_nothing_is_decided_before_a_row() -> None:
    clipped = Truth(electrons=60000, full_scale=63)
    frames = frames_of(clipped, 0).reshape(-1, *clipped.detector)[:11]
    plan = plan_for(clipped)
    assert stop_reason(frames.sum(0).astype(np.uint64), frames.max(0).astype(np.uint32), 11, plan) is None


def test_a_lost_beam_stops() -> None:
    reason = _asked(Truth(electrons=1e-6, background=0.0), planned=Truth())
    assert reason is not None
    assert "no beam" in reason


def test_background_alone_stops() -> None:
    # 0.3 counts a pixel are 690 of 3000 planned: counts enough, and no disk in them.
    reason = _asked(Truth(electrons=1e-6, background=0.3), planned=Truth())
    assert reason is not None
    assert "no bright-field disk" in reason
    assert _asked(Truth(electrons=1e-6, background=0.3), 0, 1, Truth(), None, DARK) is None


@pytest.mark.parametrize("offset", [(22.0, 0.0), (0.0, -26.0), (40.0, 40.0)])
def test_a_pattern_off_the_detector_stops(offset: tuple[float, float]) -> None:
    assert _asked(Truth(offset=offset, background=0.3), planned=Truth()) is not None


def test_a_pattern_elsewhere_on_the_detector_goes_on() -> None:
    wide = Truth(detector=(96, 96), offset=(25.0, 20.0))
    assert _asked(wide, planned=Truth(detector=(96, 96))) is None


def test_hot_pixels_stop_nothing_masked_or_not() -> None:
    truth = Truth(hot=((23, 24), (20, 26), (4, 4), (24, 30)))
    bad = np.zeros(truth.detector, bool)
    for pixel in truth.hot:
        bad[pixel] = True
    assert _asked(truth, bad=bad) is None
    assert _asked(truth) is None


def test_a_bright_hole_in_the_first_row_stops() -> None:
    truth = Truth(electrons=6000, full_scale=63, scan=(12, 32))
    scene = np.ones(truth.scan)
    scene[0, 10:14] = 15.0
    frames = frames_of(truth, 0, scene).reshape(-1, *truth.detector)[:32]
    reason = stop_reason(frames.sum(0).astype(np.uint64), frames.max(0).astype(np.uint32), 32, plan_for(truth))
    assert reason is not None
    assert reason.startswith("saturation")


@pytest.mark.parametrize("block", range(10))
def test_healthy_runs_are_never_stopped(block: int) -> None:
    """200 healthy first rows: dim and bright, off centre, thick specimens that scatter and diffract."""
    for seed in range(20 * block, 20 * block + 20):
        rng = np.random.default_rng(seed)
        electrons = 10 ** rng.uniform(1.7, 4.5)
        truth = Truth(
            scan=(1, int(rng.choice([8, 32, 64]))),
            electrons=electrons,
            offset=(float(rng.uniform(-4, 4)), float(rng.uniform(-4, 4))),
            background=float(rng.uniform(0, 1e-4) * electrons),
            # A counter that the plan's own rule would accept: crest 3 and five sigma fit.
            full_scale=2 ** int(np.ceil(np.log2(3 * electrons / 314 + 5 * np.sqrt(3 * electrons / 314) + 2))) - 1,
        )
        pattern = disk(truth.detector, truth.centre, truth.radius) / 314 * electrons * rng.uniform(0.3, 1.0)
        y, x = np.indices(truth.detector)
        pattern *= 1 + 0.5 * np.sin(0.6 * y + rng.uniform(0, 6)) * np.cos(0.5 * x)
        for _ in range(rng.integers(0, 5)):
            angle = rng.uniform(0, 6.28)
            at = (23.5 + 16 * np.sin(angle), 23.5 + 16 * np.cos(angle))
            pattern += disk(truth.detector, at, truth.radius) / 314 * electrons * rng.uniform(0, 0.2)
        counts = rng.poisson(pattern + truth.background, (truth.scan[1], *truth.detector))
        counts = np.minimum(counts, truth.full_scale or 0)
        plan = plan_for(truth, (COM, DARK, STRAIN))
        told = stop_reason(counts.sum(0).astype(np.uint64), counts.max(0).astype(np.uint32), len(counts), plan)
        assert told is None, (seed, told)


def test_a_mask_of_another_shape_is_named() -> None:
    with pytest.raises(BadInput):
        _asked(Truth(), bad=np.zeros((4, 4), bool))


def test_a_calibrated_place_is_used() -> None:
    truth = Truth(offset=(6.0, 0.0), electrons=60000, full_scale=63)
    frames = frames_of(truth, 0).reshape(-1, *truth.detector)[:12]
    there = PatternGeometry(truth.centre, truth.radius, 1.0)
    args = frames.sum(0).astype(np.uint64), frames.max(0).astype(np.uint32), 12, plan_for(truth), there
    assert stop_reason(*args) is not None


FAINT = {"kind": "com", "target_d_a": 2.0, "smallest_deflection_mrad": 0.15}
"""Noise of 3000 electrons over 10 mrad is 0.09 mrad; 1.5 times what is wanted is that of 494."""


def _partly(level: float, *analyses: dict[str, Any], detector: Any = None) -> list[str | None]:
    """As ``_watched``, the beam at so many electrons from the tenth row on."""
    ask = watch(plan_for(Truth(), analyses), None, None, detector)
    frames = np.concatenate([frames_of(Truth(), 1)[:9], frames_of(Truth(electrons=level), 2)[9:]])
    sums = np.cumsum(frames.sum(1), axis=0).astype(np.uint64)
    most = np.maximum.accumulate(frames.max(1), axis=0).astype(np.uint32)
    return [ask(sums[row], most[row], (row + 1) * 12) for row in range(12)]


def test_a_lasting_loss_that_leaves_no_analysis_enough_stops() -> None:
    told = _partly(200, FAINT)
    assert told[:9] == [None] * 9
    assert any(one is not None and "beam is lost in part" in one for one in told[9:])


@pytest.mark.parametrize(
    ("level", "analyses"),
    [(1200, (FAINT,)), (200, (COM,)), (200, (FAINT, DARK)), (1600, (FAINT,))],
    ids=["enough is left", "nobody said what is enough", "another can use it", "half is left"],
)
def test_what_can_still_be_used_goes_on(level: float, analyses: tuple[dict[str, Any], ...]) -> None:
    assert _partly(level, *analyses) == [None] * 12


@pytest.mark.parametrize(("limit_hz", "stops"), [(0.5, True), (2.0, False)])
@pytest.mark.parametrize(("wanted", "can"), [(COM, True), (STRAIN, False)], ids=["com", "strain"])
def test_a_rate_beyond_the_detector_stops_what_needs_the_disk(
    limit_hz: float, stops: bool, wanted: dict[str, Any], can: bool
) -> None:
    """3000 electrons in 314 pixels: the limit is given in that rate."""
    plan = plan_for(Truth(), (wanted,))
    rate = 3000 / (np.pi * 100) / (plan.exposure.live_time_us * 1e-6)
    frames = frames_of(Truth(), 0).reshape(-1, 48, 48)[:12]
    sums, most = frames.sum(0).astype(np.uint64), frames.max(0).astype(np.uint32)
    for noise, whole in ((None, True), (0.1, False)):
        known = facts(limit_hz * rate).model_copy(update={"noise_e_per_px": noise})
        reason = stop_reason(sums, most, 12, plan, None, None, None, known)
        assert (reason is not None and "counting rate" in reason) is (stops and can and whole)
