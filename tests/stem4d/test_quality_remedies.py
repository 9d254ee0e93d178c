"""Remedies: the change mends what failed, keeps what is needed, and is refused where the dose does not allow it."""

from dataclasses import replace
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quality_world import COM, Truth, frames_of, maps_of, plan_for, recording

from stem4d.detector import DetectorFacts
from stem4d.instrument import InstrumentFacts
from stem4d.maps import RunMaps
from stem4d.model import Range
from stem4d.plan import Action, Plan
from stem4d.predict import predict
from stem4d.quality.judge import judge
from stem4d.quality.remedies.choose import ACTIONS, LAST, TABLE, propose
from stem4d.quality.remedies.remedy import Means, NoRemedy, Remedy, Situation, changed
from stem4d.quality.remedies.settle import waits_s
from stem4d.verdict import QualityResult, Verdict

PTYCHOGRAPHY = {"kind": "ptychography", "target_d_a": 2.0}
PLENTY = 1e9
FULL_SCALE = 63


def facts(dwell_us: float = 1.0, current_pa: float = 0.01, frame_rate_hz: float = 1e6) -> InstrumentFacts:
    """An instrument with these limits and the detector of the plans."""
    camera = DetectorFacts(
        name="camera",
        shape=(48, 48),
        pixel_pitch_um=100.0,
        bit_depths=(6, 12),
        max_frame_rate_hz=frame_rate_hz,
        max_count_rate_per_px_hz=1e7,
    )
    return InstrumentFacts(
        beam_energies_kev=(300.0,),
        apertures=(),
        camera_lengths_mm=(100.0,),
        defocus_nm=Range(lowest=-100.0, highest=100.0),
        probe_current_pa=Range(lowest=current_pa, highest=1e3),
        dwell_time_us=Range(lowest=dwell_us, highest=1e6),
        max_field_nm=1e3,
        detectors=(camera,),
    )


def _among(
    results: tuple[QualityResult, ...], plan: Plan, maps: RunMaps, left: float = PLENTY, **means: Any
) -> Remedy | NoRemedy:
    """What is proposed with so much dose left."""
    return propose(Situation(results, plan, maps, Means(left, **means)))


def _propose(truth: Truth, plan: Plan, left: float = PLENTY, **means: Any) -> Remedy | NoRemedy:
    maps = recording(0, **vars(truth))
    return _among(judge(plan, (maps,), (0.0,)), plan, maps, left, **means)


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
        remedy = _among(results, plan, maps)
        assert isinstance(remedy, Remedy), remedy
        assert remedy.action == "reduce_dwell"
        shorter = changed(plan, remedy)
        assert shorter.exposure.dwell_time_us < plan.exposure.dwell_time_us
        plan = shorter
    assert attempt == 1  # one remedy was enough
    # And it did not throw the dose away: within a factor of 10 of what would just fit.
    assert plan.exposure.dwell_time_us * per_pixel / 100 > FULL_SCALE / 10


def test_the_cost_is_told() -> None:
    remedy = _propose(Truth(electrons=60000, full_scale=63), plan_for(Truth(electrons=60000, full_scale=63)), 5e5)
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
    found = _propose(truth, plan_for(truth, quality__remedies=["reduce_dwell"]), facts=facts(dwell_us=50.0))
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
    assert found.withdraws == ("centre", "descan")
    assert changed(plan, found) == plan


def _failing(metric: str) -> QualityResult:
    return QualityResult(
        metric=metric, analysis="com", verdict=Verdict.FAIL, value=1.0, limit=0.5, unit="", message="failed"
    )


@pytest.mark.parametrize("metric", ["frames.missing", "dose.fluence", "dose.electrons", "dose.noise"])
def test_what_no_change_of_the_plan_mends_says_why(metric: str) -> None:
    truth = Truth()
    found = _among((_failing(metric),), plan_for(truth), maps_of(frames_of(truth, 0), 4095))
    assert isinstance(found, NoRemedy)
    assert len(found.reason) > 20


def test_a_spent_area_is_not_exposed_whatever_else_failed() -> None:
    truth = Truth(electrons=60000, full_scale=63)
    maps = recording(0, **vars(truth))
    results = (_failing("saturation.disk"), _failing("dose.fluence"))
    assert isinstance(_among(results, plan_for(truth), maps), NoRemedy)


def test_nothing_failed_nothing_is_done() -> None:
    assert isinstance(_propose(Truth(), plan_for(Truth())), NoRemedy)


SATURATED = Truth(electrons=60000, full_scale=63)


def test_a_lower_current_mends_what_no_shorter_dwell_can() -> None:
    plan = plan_for(SATURATED)
    found = _propose(SATURATED, plan, facts=facts(dwell_us=50.0))
    assert isinstance(found, Remedy)
    assert found.action == "reduce_current"
    lower = changed(plan, found)
    assert lower.exposure == plan.exposure
    truth = replace(SATURATED, electrons=60000 * lower.optics.probe_current_pa / plan.optics.probe_current_pa)
    again = judge(lower, (recording(1, **vars(truth)),), (0.0,))
    assert not [one for one in again if one.verdict is Verdict.FAIL]


def test_the_frame_rate_of_the_detector_bounds_the_dwell() -> None:
    plan = plan_for(SATURATED, quality__remedies=["reduce_dwell"])
    assert isinstance(_propose(SATURATED, plan, facts=facts(frame_rate_hz=1e6)), Remedy)
    found = _propose(SATURATED, plan, facts=facts(frame_rate_hz=2e4))
    assert isinstance(found, NoRemedy)
    assert "50 µs is the shortest" in found.reason


def test_a_current_below_the_instruments_lowest_is_refused() -> None:
    plan = plan_for(SATURATED, quality__remedies=["reduce_current"])
    found = _propose(SATURATED, plan, facts=facts(current_pa=0.9 * plan.optics.probe_current_pa))
    assert isinstance(found, NoRemedy)
    assert "lowest" in found.reason


@pytest.mark.parametrize("order", [["reduce_current", "reduce_dwell"], ["split_passes", "reduce_dwell"]])
def test_the_order_of_the_policy_is_the_order_of_preference(order: list[str]) -> None:
    bright = replace(SATURATED, electrons=20000)
    found = _propose(bright, plan_for(bright, quality__remedies=order))
    assert isinstance(found, Remedy)
    assert found.action == order[0]


def test_splitting_keeps_the_dose_and_cures_saturation() -> None:
    bright = replace(SATURATED, electrons=20000)
    plan = plan_for(bright, quality__remedies=["split_passes"])
    found = _propose(bright, plan)
    assert isinstance(found, Remedy)
    split = changed(plan, found)
    parts = split.exposure.passes
    assert parts > 1
    assert predict(split).total_fluence_e_per_a2 == pytest.approx(predict(plan).total_fluence_e_per_a2, rel=1e-4)
    truth = replace(bright, electrons=20000 / parts)
    passes = tuple(recording(number, **vars(truth)) for number in range(parts))
    again = judge(split, passes, tuple(range(parts)))
    assert not [one for one in again if one.verdict is Verdict.FAIL]


def _drifting(value: float, limit: float) -> QualityResult:
    return _failing("drift.rate").model_copy(update={"value": value, "limit": limit, "unit": "nm/min"})


def test_splitting_makes_a_pass_short_enough_for_its_drift_and_does_nothing_about_a_stated_rate() -> None:
    truth, maps = Truth(), recording(0, **vars(Truth()))
    plan = plan_for(truth, ({"kind": "virtual", "detectors": [{"name": "d", "inner_mrad": 12, "outer_mrad": 20}]},))
    found = _among((_drifting(10.0, 4.0),), plan, maps)
    assert isinstance(found, Remedy)
    assert found.action == "split_passes"
    # Limits are parts of the field in a pass: a pass of a quarter bears four times the rate, with room.
    assert predict(changed(plan, found)).pass_time_s * 10.0 < predict(plan).pass_time_s * 4.0
    stated = plan_for(truth, quality__max_drift_nm_per_min=4.0)
    refused = _among((_drifting(10.0, 4.0),), stated, maps)
    assert isinstance(refused, NoRemedy)
    assert "the rate itself" in refused.reason
    assert "settle would mend it, and the plan's policy does not allow that" in refused.reason


def test_waiting_takes_the_limit_that_failed_and_the_dose_of_its_reference_scans() -> None:
    truth, maps = Truth(), recording(0, **vars(Truth()))
    plan = plan_for(truth, quality__remedies=["settle"], quality__max_drift_nm_per_min=4.0)
    found = _among((_drifting(10.0, 4.0),), plan, maps)
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
        refused = _among((_drifting(10.0, 4.0),), plan, maps, **means)
        assert isinstance(refused, NoRemedy)
        assert says in refused.reason


def test_time_bounds_every_remedy() -> None:
    needs = predict(plan_for(SATURATED)).total_time_s
    assert isinstance(_propose(SATURATED, plan_for(SATURATED), seconds_left=needs), Remedy)
    found = _propose(SATURATED, plan_for(SATURATED), seconds_left=0.01 * needs)
    assert isinstance(found, NoRemedy)
    assert "min for mending" in found.reason


def test_attempts_bound_every_remedy() -> None:
    found = _propose(SATURATED, plan_for(SATURATED), attempts_left=0)
    assert isinstance(found, NoRemedy)
    assert "all 3 attempts" in found.reason


def test_too_many_passes_are_not_made_unasked() -> None:
    found = _propose(SATURATED, plan_for(SATURATED, quality__remedies=["split_passes"]))
    assert isinstance(found, NoRemedy)
    assert "it would take" in found.reason


def _spares(plan: Plan, *names: str) -> Plan:
    return plan.model_copy(update={"sample": plan.sample.model_copy(update={"spare_areas": names})})


def test_where_the_area_is_spent_the_change_is_made_on_the_first_spare_one_that_can_bear_it() -> None:
    plan = _spares(plan_for(SATURATED), "area-2", "area-3")
    found = _propose(SATURATED, plan, 0.0, spare_left_e_per_a2={"area-2": 1.0, "area-3": 1e6})
    assert isinstance(found, Remedy)
    moved = changed(plan, found)
    assert (found.action, moved.sample.area, moved.sample.spare_areas) == ("reduce_dwell", "area-3", ("area-2",))
    assert moved.exposure.dwell_time_us < plan.exposure.dwell_time_us
    neither = _propose(SATURATED, plan, 0.0, spare_left_e_per_a2={"area-2": 1.0, "area-3": 1.0})
    assert isinstance(neither, NoRemedy)
    assert "none of the spare areas" in neither.reason
    here_only = plan.model_copy(update={"quality": plan.quality.model_copy(update={"remedies": ("reduce_dwell",)})})
    stays = _propose(SATURATED, here_only, 0.0, spare_left_e_per_a2={"area-3": 1e6})
    assert isinstance(stays, NoRemedy)


@pytest.mark.parametrize(("metric", "less"), [("damage.high_angle", True), ("contamination.rate", False)])
def test_a_spoilt_area_is_left_for_a_spare_one_with_less_dose_where_dose_did_the_harm(metric: str, less: bool) -> None:
    truth = Truth()
    plan = _spares(plan_for(truth), "area-2")
    found = _among((_failing(metric),), plan, recording(0, **vars(truth)), spare_left_e_per_a2={"area-2": 1e6})
    assert isinstance(found, Remedy)
    moved = changed(plan, found)
    assert (found.action, moved.sample.area, moved.sample.spare_areas) == ("spare_area", "area-2", ())
    assert (moved.exposure.dwell_time_us < plan.exposure.dwell_time_us) is less
    nowhere = _among((_failing(metric),), plan_for(truth), recording(0, **vars(truth)))
    assert isinstance(nowhere, NoRemedy)
    assert "no spare areas" in nowhere.reason


def test_a_beam_that_overran_the_budget_goes_on_elsewhere_only_within_the_budget() -> None:
    """The beam is three times what it says: the spare area's dwell is cut to what its budget bears of it."""
    truth = Truth(electrons=3000)
    plan = _spares(plan_for(truth), "area-2")
    budget = 1.5 * predict(plan).total_fluence_e_per_a2
    found = _among(
        (_failing("dose.fluence"),),
        plan,
        recording(0, **vars(replace(truth, electrons=9000))),
        0.0,
        spare_left_e_per_a2={"area-2": budget},
        current_ratio=3.0,
    )
    assert isinstance(found, Remedy)
    assert 3 * predict(changed(plan, found)).total_fluence_e_per_a2 <= 1.02 * budget


def test_hot_pixels_and_a_wrong_current_replace_their_calibration() -> None:
    truth = Truth()
    for metric, kinds in (("pixels.mask", ("pixel_mask",)), ("beam.current", ("current",))):
        found = _among((_failing(metric),), plan_for(truth), recording(0, **vars(truth)))
        assert isinstance(found, Remedy)
        assert (found.action, found.withdraws) == ("replace_calibration", kinds)


@pytest.mark.parametrize(
    ("metric", "policy", "action"),
    [
        ("dose.electrons", ["end_night", "skip"], "end_night"),
        ("dose.electrons", ["skip"], "skip"),
        ("frames.missing", ["skip", "end_night"], "end_night"),
        ("drift.rate", ["end_night", "skip"], "skip"),
        ("saturation.disk", ["skip", "reduce_dwell"], "reduce_dwell"),
    ],
)
def test_what_is_left_is_left_last(metric: str, policy: list[str], action: str) -> None:
    plan = plan_for(SATURATED, quality__remedies=policy)
    found = _among((_failing(metric),), plan, recording(0, **vars(SATURATED)))
    assert isinstance(found, Remedy)
    assert found.action == action


def test_a_target_is_left_when_its_attempts_are_used_up_too() -> None:
    plan = plan_for(SATURATED, quality__remedies=["reduce_dwell", "skip"])
    found = _propose(SATURATED, plan, attempts_left=0)
    assert isinstance(found, Remedy)
    assert (found.action, "attempts" in found.reason) == ("skip", True)


@given(seconds=st.floats(0, 1e5))
def test_reference_scans_fit_into_the_time_there_is_and_grow_apart(seconds: float) -> None:
    waits = waits_s(seconds, 2.0)
    assert sum(waits) + 2.0 * len(waits) <= seconds
    assert waits == sorted(waits)
    assert bool(waits) is (seconds >= 32.0)


def test_every_action_of_a_policy_is_in_the_table() -> None:
    listed = {action for _metric, actions in TABLE for action in actions} | set(LAST)
    assert listed == set(ACTIONS) == set(get_args(Action))
