"""Remedies: the change mends what failed, keeps what is needed, and is refused where the dose does not allow it."""

from dataclasses import replace
from typing import Any

import pytest
from quality_world import COM, Truth, frames_of, maps_of, plan_for, recording
from remedies_world import SATURATED, among, drifting, facts, failing, proposed

from stem4d.predict import predict
from stem4d.quality.judge import judge
from stem4d.quality.remedies.remedy import NoRemedy, Remedy, changed
from stem4d.verdict import Verdict

PTYCHOGRAPHY = {"kind": "ptychography", "target_d_a": 2.0}
FULL_SCALE = 63


@pytest.mark.parametrize("per_pixel", [50, 70, 100, 300, 700])
def test_a_shorter_dwell_cures_saturation(per_pixel: float) -> None:
    """The exposure is made again with the new dwell, on the same beam, and passes; or again after that."""
    truth = Truth(electrons=per_pixel * 314.0, full_scale=FULL_SCALE, background=0.0)
    plan = plan_for(truth)
    for attempt in range(3):
        factor = plan.exposure.dwell_time_us / 100.0
        maps = recording(attempt, **vars(truth) | {"electrons": truth.electrons * factor})
        results = judge(plan, (maps,), (0.0,))
        if not any(each.verdict is Verdict.FAIL for each in results):
            break
        remedy = among(results, plan, maps)
        assert isinstance(remedy, Remedy), remedy
        assert remedy.action == "reduce_dwell"
        shorter = changed(plan, remedy)
        assert shorter.exposure.dwell_time_us < plan.exposure.dwell_time_us
        plan = shorter
    assert attempt == 1  # one remedy was enough
    # And it did not throw the dose away: within a factor of 10 of what would just fit.
    assert plan.exposure.dwell_time_us * per_pixel / 100 > FULL_SCALE / 10


def test_the_cost_is_told() -> None:
    remedy = proposed(Truth(electrons=60000, full_scale=63), plan_for(Truth(electrons=60000, full_scale=63)), 5e5)
    assert isinstance(remedy, Remedy)
    assert remedy.cause == "saturation.disk"
    (change,) = remedy.changes
    assert (change.field, change.unit) == ("exposure.dwell_time_us", "us")
    assert "electrons a pattern become" in remedy.cost
    assert "of the 5e+05 e/Å²" in remedy.cost
    after = predict(changed(plan_for(Truth(electrons=60000, full_scale=63)), remedy))
    # The counts are clipped: nothing speaks of a brighter beam.
    assert remedy.fluence_e_per_a2 == pytest.approx(after.total_fluence_e_per_a2)
    assert remedy.seconds == pytest.approx(after.total_time_s)


def test_dead_time_stays_when_the_dwell_changes() -> None:
    truth = Truth(electrons=60000, full_scale=63)
    plan = plan_for(truth, exposure__exposure_time_us=98.0)
    remedy = proposed(truth, plan)
    assert isinstance(remedy, Remedy)
    mended = changed(plan, remedy)
    assert mended.exposure.dwell_time_us - mended.exposure.live_time_us == pytest.approx(2.0)
    assert mended.exposure.live_time_us < 0.5 * plan.exposure.live_time_us


def test_too_few_electrons_after_the_remedy_are_refused() -> None:
    # A counter of one bit: 100 electrons over 314 pixels clip now and then, and fewer are no ptychography.
    truth = Truth(electrons=150, full_scale=1, background=0.0)
    found = proposed(truth, plan_for(truth, (PTYCHOGRAPHY,)))
    assert isinstance(found, NoRemedy)
    assert "ptychography wants 100" in found.reason


def test_noise_above_the_smallest_deflection_is_refused() -> None:
    truth = Truth(electrons=60000, full_scale=63)
    found = proposed(truth, plan_for(truth, (COM | {"smallest_deflection_mrad": 0.06},)))
    assert isinstance(found, NoRemedy)
    assert "noise" in found.reason


def test_an_area_without_fluence_left_is_not_exposed_again() -> None:
    truth = Truth(electrons=60000, full_scale=63)
    plan = plan_for(truth)
    allowed = proposed(truth, plan)
    assert isinstance(allowed, Remedy)
    needed = predict(changed(plan, allowed)).total_fluence_e_per_a2
    found = proposed(truth, plan, 0.9 * needed)
    assert isinstance(found, NoRemedy)
    assert "left" in found.reason
    assert isinstance(proposed(truth, plan, 1.02 * needed), Remedy)


def test_a_dwell_below_the_instruments_shortest_is_refused() -> None:
    truth = Truth(electrons=60000, full_scale=63)
    found = proposed(truth, plan_for(truth, quality__remedies=["reduce_dwell"]), facts=facts(dwell_us=50.0))
    assert isinstance(found, NoRemedy)
    assert "shortest" in found.reason


def test_the_policy_decides_what_may_be_done() -> None:
    truth = Truth(electrons=60000, full_scale=63)
    found = proposed(truth, plan_for(truth, quality__remedies=["recentre"]))
    assert isinstance(found, NoRemedy)
    assert "policy" in found.reason


@pytest.mark.parametrize(
    ("fault", "over", "action"),
    [
        ({"offset": (17.0, 0.0)}, {}, "recentre"),
        ({"descan": ((0.3, 0.0), (0.0, 0.0))}, {"quality__max_descan_px": 1.0}, "correct_descan"),
    ],
)
def test_alignment_is_mended_by_calibrating_again(fault: dict[str, Any], over: dict[str, Any], action: str) -> None:
    truth = Truth(**fault)
    plan = plan_for(Truth(), **over)
    found = proposed(truth, plan)
    assert isinstance(found, Remedy)
    assert found.action == action
    assert found.withdraws == ("centre", "descan")
    assert changed(plan, found) == plan


@pytest.mark.parametrize("metric", ["frames.missing", "dose.fluence", "dose.electrons", "dose.noise"])
def test_what_no_change_of_the_plan_mends_says_why(metric: str) -> None:
    truth = Truth()
    found = among((failing(metric),), plan_for(truth), maps_of(frames_of(truth, 0), 4095))
    assert isinstance(found, NoRemedy)
    assert len(found.reason) > 20


def test_a_spent_area_is_not_exposed_whatever_else_failed() -> None:
    truth = Truth(electrons=60000, full_scale=63)
    maps = recording(0, **vars(truth))
    results = (failing("saturation.disk"), failing("dose.fluence"))
    assert isinstance(among(results, plan_for(truth), maps), NoRemedy)


def test_nothing_failed_nothing_is_done() -> None:
    assert isinstance(proposed(Truth(), plan_for(Truth())), NoRemedy)


def test_a_lower_current_mends_what_no_shorter_dwell_can() -> None:
    plan = plan_for(SATURATED)
    found = proposed(SATURATED, plan, facts=facts(dwell_us=50.0))
    assert isinstance(found, Remedy)
    assert found.action == "reduce_current"
    lower = changed(plan, found)
    assert lower.exposure == plan.exposure
    truth = replace(SATURATED, electrons=60000 * lower.optics.probe_current_pa / plan.optics.probe_current_pa)
    again = judge(lower, (recording(1, **vars(truth)),), (0.0,))
    assert not [one for one in again if one.verdict is Verdict.FAIL]


def test_the_frame_rate_of_the_detector_bounds_the_dwell() -> None:
    plan = plan_for(SATURATED, quality__remedies=["reduce_dwell"])
    assert isinstance(proposed(SATURATED, plan, facts=facts(frame_rate_hz=1e6)), Remedy)
    found = proposed(SATURATED, plan, facts=facts(frame_rate_hz=2e4))
    assert isinstance(found, NoRemedy)
    assert "50 µs is the shortest" in found.reason


def test_a_current_below_the_instruments_lowest_is_refused() -> None:
    plan = plan_for(SATURATED, quality__remedies=["reduce_current"])
    found = proposed(SATURATED, plan, facts=facts(current_pa=0.9 * plan.optics.probe_current_pa))
    assert isinstance(found, NoRemedy)
    assert "lowest" in found.reason


@pytest.mark.parametrize("order", [["reduce_current", "reduce_dwell"], ["split_passes", "reduce_dwell"]])
def test_the_order_of_the_policy_is_the_order_of_preference(order: list[str]) -> None:
    bright = replace(SATURATED, electrons=20000)
    found = proposed(bright, plan_for(bright, quality__remedies=order))
    assert isinstance(found, Remedy)
    assert found.action == order[0]


def test_splitting_keeps_the_dose_and_cures_saturation() -> None:
    bright = replace(SATURATED, electrons=20000)
    plan = plan_for(bright, quality__remedies=["split_passes"])
    found = proposed(bright, plan)
    assert isinstance(found, Remedy)
    split = changed(plan, found)
    parts = split.exposure.passes
    assert parts > 1
    assert predict(split).total_fluence_e_per_a2 == pytest.approx(predict(plan).total_fluence_e_per_a2, rel=1e-4)
    truth = replace(bright, electrons=20000 / parts)
    passes = tuple(recording(number, **vars(truth)) for number in range(parts))
    again = judge(split, passes, tuple(range(parts)))
    assert not [one for one in again if one.verdict is Verdict.FAIL]


def test_splitting_makes_a_pass_short_enough_for_its_drift_and_does_nothing_about_a_stated_rate() -> None:
    truth, maps = Truth(), recording(0, **vars(Truth()))
    plan = plan_for(truth, ({"kind": "virtual", "detectors": [{"name": "d", "inner_mrad": 12, "outer_mrad": 20}]},))
    found = among((drifting(10.0, 4.0),), plan, maps)
    assert isinstance(found, Remedy)
    assert found.action == "split_passes"
    # Limits are parts of the field in a pass: a pass of a quarter bears four times the rate, with room.
    assert predict(changed(plan, found)).pass_time_s * 10.0 < predict(plan).pass_time_s * 4.0
    stated = plan_for(truth, quality__max_drift_nm_per_min=4.0)
    refused = among((drifting(10.0, 4.0),), stated, maps)
    assert isinstance(refused, NoRemedy)
    assert "the rate itself" in refused.reason
    assert "settle would mend it, and the plan's policy does not allow that" in refused.reason


def test_waiting_takes_the_limit_that_failed_and_the_dose_of_its_reference_scans() -> None:
    truth, maps = Truth(), recording(0, **vars(Truth()))
    plan = plan_for(truth, quality__remedies=["settle"], quality__max_drift_nm_per_min=4.0)
    found = among((drifting(10.0, 4.0),), plan, maps)
    assert isinstance(found, Remedy)
    assert (found.action, found.changes) == ("settle", ())
    assert found.wait is not None
    assert found.wait.below_nm_per_min == 4.0
    # At the rate that failed, two reference scans still share most of their field.
    assert found.wait.baseline_s * 10.0 / 60 < 0.25 * plan.scan.field_nm[0]
    own = predict(plan).total_fluence_e_per_a2
    assert own < found.fluence_e_per_a2 < 2 * own
    for means, says in (
        ({"left": 0.99 * found.fluence_e_per_a2 / 1.01}, "e/Å² left"),
        ({"seconds_left": 20.0}, "20 s are left"),
        ({"seconds_left": 30.0}, "for mending 30 s are left"),
    ):
        refused = among((drifting(10.0, 4.0),), plan, maps, **means)
        assert isinstance(refused, NoRemedy)
        assert says in refused.reason
