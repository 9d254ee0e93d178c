"""Frames that are missing, came twice, came damaged or were handed out again; dead pixels; dose with its errors."""

from dataclasses import replace

import numpy as np
import pytest
from quality_world import COM, Truth, frames_of, maps_of, one, plan_for, recording

from stem4d.maps import RunMaps
from stem4d.quality.dose import check_dose
from stem4d.quality.frames import check_frames
from stem4d.quality.judge import judge
from stem4d.quality.pixels import check_dead_pixels
from stem4d.quality.regions import subject_of_plan
from stem4d.verdict import Verdict

PASS, WARN, FAIL, UNKNOWN = Verdict.PASS, Verdict.WARN, Verdict.FAIL, Verdict.NOT_MEASURABLE
TRUTH = Truth(scan=(12, 12))


def with_ledger(maps: RunMaps, twice: int = 0, corrupt: int = 0) -> RunMaps:
    """The ledger of a pass in which so many of the first positions came twice, and of the last ones damaged."""
    number = np.arange(maps.recorded.size).reshape(maps.recorded.shape)
    return replace(maps, came_twice=number < twice, corrupt=number >= number.size - corrupt)


@pytest.mark.parametrize(
    ("twice", "corrupt", "verdicts"),
    [(0, 0, (PASS, PASS)), (3, 0, (WARN, PASS)), (0, 1, (PASS, WARN)), (0, 2, (PASS, FAIL)), (144, 0, (WARN, PASS))],
)
def test_the_ledger_is_judged(twice: int, corrupt: int, verdicts: tuple[Verdict, Verdict]) -> None:
    maps = with_ledger(recording(1, missing=corrupt), twice, corrupt)
    results = check_frames((maps, with_ledger(recording(2)))) if corrupt < 2 else check_frames((maps,))
    found = (one(results, "frames.duplicate"), one(results, "frames.corrupt"))
    assert tuple(each.verdict for each in found) == verdicts
    positions = 288 if corrupt < 2 else 144
    assert (found[0].value, found[1].value) == (twice / positions, corrupt / positions)


def test_data_without_a_ledger_are_no_silent_pass() -> None:
    assert one(check_frames((recording(1),)), "frames.ledger").verdict is UNKNOWN
    # One pass of two is not enough.
    results = check_frames((with_ledger(recording(1)), recording(2)))
    assert one(results, "frames.ledger").verdict is UNKNOWN


@pytest.mark.parametrize(("again", "verdict"), [(0, PASS), (1, PASS), (3, FAIL), (60, FAIL)])
def test_frames_that_are_handed_out_again_are_seen(again: int, verdict: Verdict) -> None:
    frames = frames_of(TRUTH, 5).reshape(144, *TRUTH.detector)
    frames[40 : 40 + again] = frames[39]
    results = check_frames((maps_of(frames.reshape(12, 12, *TRUTH.detector), 4095),))
    found = one(results, "frames.repeated")
    assert found.value == pytest.approx(again / 143)
    assert found.verdict is verdict


def test_dark_frames_and_full_pixels_are_alike_by_nature() -> None:
    frames = np.zeros((12, 12, 16, 16), np.int64)
    frames[:, :, 3, 3] = 4095
    assert one(check_frames((maps_of(frames, 4095),)), "frames.repeated").verdict is UNKNOWN


def dead(
    places: list[tuple[int, int]], electrons: float = 3000.0, bad: np.ndarray | None = None
) -> tuple[Verdict, float | None, str]:
    """Judgement on a disk in which these pixels count nothing."""
    truth = Truth(electrons=electrons)
    frames = frames_of(truth, 3).copy()
    for y, x in places:
        frames[:, :, y, x] = 0
    maps = maps_of(frames, 4095, bad)
    found = check_dead_pixels(maps, subject_of_plan(plan_for(truth), maps, bad))
    return found.verdict, found.value, found.message


def test_dead_pixels_in_the_disk_are_named() -> None:
    verdict, value, message = dead([(22, 25), (27, 20)])
    assert (verdict, value) == (WARN, 2.0)
    assert "(22, 25), (27, 20)" in message
    assert dead([])[:2] == (PASS, 0.0)


def test_dead_pixels_of_the_mask_are_no_news_and_dark_ones_are_not_known() -> None:
    mask = np.zeros((48, 48), np.bool_)
    mask[22, 25] = True
    assert dead([(22, 25)], bad=mask)[0] is PASS
    # Beside the disk nobody can tell; that is said.
    verdict, _, message = dead([(2, 2)])
    assert verdict is PASS
    assert "of 2304 pixels had light enough" in message
    assert dead([], electrons=20.0)[0] is UNKNOWN
    assert dead([], bad=np.ones((48, 48), np.bool_))[0] is UNKNOWN


@pytest.mark.parametrize(("part", "verdict"), [(1.05, PASS), (1.15, WARN), (0.55, PASS), (0.45, WARN)])
def test_the_dose_is_held_against_the_plan_on_both_sides(part: float, verdict: Verdict) -> None:
    maps = recording(3, electrons=3000 * part, background=0.0)
    found = one(check_dose((maps,), subject_of_plan(plan_for(Truth()), maps)), "dose.electrons")
    assert found.verdict is verdict
    assert found.uncertainty is not None
    # 144 frames of 3000 electrons: shot noise alone, 55 / 12. The scatter of 144 values is known to a sixteenth.
    assert found.uncertainty == pytest.approx(55 / 12 * np.sqrt(part), rel=0.2)


def test_errors_of_the_electrons_cover_the_truth() -> None:
    """In 200 runs the figure lies beyond 2.5 errors in 1 of 80: 7 are as many as chance makes of them (1 in 100)."""
    wrong, made = 0, recording(0, scan=(6, 6))
    subject = subject_of_plan(plan_for(Truth()), made)
    for seed in range(200):
        maps = replace(made, total=np.random.default_rng(seed).poisson(400.0, (6, 6)).astype(np.uint64))
        found = one(check_dose((maps,), subject), "dose.electrons")
        assert found.value is not None
        assert found.uncertainty is not None
        wrong += abs(found.value - 400) > 2.5 * found.uncertainty
    assert wrong <= 7


def test_few_counts_leave_the_dose_in_doubt() -> None:
    """Nine frames of 30 counts know the dose to 6 %: 95 % of the plan could be 110 %."""
    truth = Truth(scan=(3, 3), electrons=30.0, background=0.0)
    maps = recording(3, **vars(truth))
    found = one(check_dose((maps,), subject_of_plan(plan_for(truth), maps)), "dose.electrons")
    assert found.verdict is WARN


def test_a_fluence_that_the_budget_may_not_bear_is_doubtful_and_one_that_it_cannot_fails() -> None:
    def verdict(electrons: float, scan: tuple[int, int] = (12, 12)) -> Verdict:
        truth = Truth(scan=scan, electrons=electrons, background=0.0)
        maps = recording(3, **vars(truth))
        # 3000 electrons into 1 Å² are planned and may be spent.
        plan = plan_for(Truth(scan=scan), sample__fluence_budget_e_per_a2=3000.0)
        return one(check_dose((maps,), subject_of_plan(plan, maps)), "dose.fluence").verdict

    assert verdict(3000.0) is PASS
    assert verdict(2500.0) is PASS
    assert verdict(3300.0) is FAIL
    # 1.4 % of counting error in one frame: nobody knows.
    assert verdict(3000.0, (1, 1)) is WARN


def test_pixels_that_were_always_clipped_leave_the_dose_unknown() -> None:
    truth = Truth(electrons=3000.0, full_scale=3)
    maps = recording(3, **vars(truth))
    results = check_dose((maps,), subject_of_plan(plan_for(truth), maps))
    assert one(results, "dose.electrons").verdict is UNKNOWN
    assert one(results, "dose.fluence").verdict is UNKNOWN


def test_noise_of_strain_warns() -> None:
    strain = {"kind": "strain", "reflection_d_a": 1.8, "target_strain": 0.01, "smallest_feature_nm": 2.0}
    maps = recording(3)
    for target, verdict in ((0.01, WARN), (0.05, PASS)):
        subject = subject_of_plan(plan_for(Truth(), (strain | {"target_strain": target},)), maps)
        assert one(check_dose((maps,), subject), "dose.noise", "strain").verdict is verdict


def test_the_judge_holds_the_new_checks() -> None:
    metrics = {each.metric for each in judge(plan_for(TRUTH, (COM,)), (recording(1),), (0.0,))}
    assert {"pixels.dead", "saturation.rate", "beam.dropouts", "beam.drift", "beam.flicker", "frames.ledger"} <= metrics
