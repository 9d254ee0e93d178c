"""Remedies: the change mends what failed, keeps what is needed, and is refused where the dose does not allow it."""

from typing import Any

import pytest
from quality_world import COM, Truth, frames_of, maps_of, plan_for, recording

from stem4d.plan import Plan
from stem4d.predict import predict
from stem4d.quality.judge import judge
from stem4d.quality.remedy import NoRemedy, Remedy, changed, propose
from stem4d.verdict import QualityResult, Verdict

PTYCHOGRAPHY = {"kind": "ptychography", "target_d_a": 2.0}
PLENTY = 1e9
FULL_SCALE = 63


def _propose(truth: Truth, plan: Plan, left: float = PLENTY, **more: float) -> Remedy | NoRemedy:
    maps = recording(0, **vars(truth))
    return propose(judge(plan, (maps,), (0.0,)), plan, maps, None, None, left, **more)


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
        remedy = propose(results, plan, maps, None, None, PLENTY)
        assert isinstance(remedy, Remedy), remedy
        assert remedy.action == "reduce_dwell"
        assert remedy.to_value is not None
        assert remedy.to_value < plan.exposure.dwell_time_us
        plan = changed(plan, remedy)
    assert attempt == 1  # one remedy was enough
    # And it did not throw the dose away: within a factor of 10 of what would just fit.
    assert plan.exposure.dwell_time_us * per_pixel / 100 > FULL_SCALE / 10


def test_the_cost_is_told() -> None:
    remedy = _propose(Truth(electrons=60000, full_scale=63), plan_for(Truth(electrons=60000, full_scale=63)), 5e5)
    assert isinstance(remedy, Remedy)
    assert remedy.cause == "saturation.disk"
    assert remedy.field == "exposure.dwell_time_us"
    assert remedy.unit == "us"
    assert "electrons a pattern become" in remedy.cost
    assert "of the 5e+05 e/Å²" in remedy.cost


def test_dead_time_stays_when_the_dwell_changes() -> None:
    truth = Truth(electrons=60000, full_scale=63)
    plan = plan_for(truth, exposure__exposure_time_us=98.0)
    remedy = _propose(truth, plan)
    assert isinstance(remedy, Remedy)
    mended = changed(plan, remedy)
    assert mended.exposure.dwell_time_us - mended.exposure.live_time_us == pytest.approx(2.0)
    assert mended.exposure.live_time_us < 0.5 * plan.exposure.live_time_us


def test_too_few_electrons_after_the_remedy_are_refused() -> None:
    # A counter of one bit: 100 electrons over 314 pixels clip now and then, and fewer are no ptychography.
    truth = Truth(electrons=150, full_scale=1, background=0.0)
    found = _propose(truth, plan_for(truth, (PTYCHOGRAPHY,)))
    assert isinstance(found, NoRemedy)
    assert "ptychography wants 100" in found.reason


def test_noise_above_the_smallest_deflection_is_refused() -> None:
    truth = Truth(electrons=60000, full_scale=63)
    found = _propose(truth, plan_for(truth, (COM | {"smallest_deflection_mrad": 0.06},)))
    assert isinstance(found, NoRemedy)
    assert "noise" in found.reason


def test_an_area_without_fluence_left_is_not_exposed_again() -> None:
    truth = Truth(electrons=60000, full_scale=63)
    plan = plan_for(truth)
    allowed = _propose(truth, plan)
    assert isinstance(allowed, Remedy)
    needed = predict(changed(plan, allowed)).total_fluence_e_per_a2
    found = _propose(truth, plan, 0.9 * needed)
    assert isinstance(found, NoRemedy)
    assert "left" in found.reason
    assert isinstance(_propose(truth, plan, 1.02 * needed), Remedy)


def test_a_dwell_below_the_instruments_shortest_is_refused() -> None:
    truth = Truth(electrons=60000, full_scale=63)
    found = _propose(truth, plan_for(truth), shortest_dwell_us=50.0)
    assert isinstance(found, NoRemedy)
    assert "shortest" in found.reason


def test_the_policy_decides_what_may_be_done() -> None:
    truth = Truth(electrons=60000, full_scale=63)
    found = _propose(truth, plan_for(truth, quality__remedies=["recentre"]))
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
    found = _propose(truth, plan)
    assert isinstance(found, Remedy)
    assert found.action == action
    assert found.field == ""
    assert changed(plan, found) == plan


def _failing(metric: str) -> QualityResult:
    return QualityResult(
        metric=metric, analysis="com", verdict=Verdict.FAIL, value=1.0, limit=0.5, unit="", message="failed"
    )


@pytest.mark.parametrize("metric", ["drift.rate", "frames.missing", "dose.fluence", "dose.electrons", "dose.noise"])
def test_what_no_change_of_the_plan_mends_says_why(metric: str) -> None:
    truth = Truth()
    found = propose((_failing(metric),), plan_for(truth), maps_of(frames_of(truth, 0), 4095), None, None, PLENTY)
    assert isinstance(found, NoRemedy)
    assert len(found.reason) > 20


def test_a_spent_area_is_not_exposed_whatever_else_failed() -> None:
    truth = Truth(electrons=60000, full_scale=63)
    maps = recording(0, **vars(truth))
    results = (_failing("saturation.disk"), _failing("dose.fluence"))
    assert isinstance(propose(results, plan_for(truth), maps, None, None, PLENTY), NoRemedy)


def test_nothing_failed_nothing_is_done() -> None:
    assert isinstance(_propose(Truth(), plan_for(Truth())), NoRemedy)
