"""Which remedy is chosen: bounded by time, attempts and dose, on a spare area where that is allowed, given up last."""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from quality_world import Truth, plan_for, recording
from remedies_world import SATURATED, among, drifting, failing, proposed, with_spares

from stem4d.plan import Action
from stem4d.predict import predict
from stem4d.quality.remedies.choose import ACTIONS, LAST, TABLE
from stem4d.quality.remedies.recalibrate import contradicted
from stem4d.quality.remedies.remedy import NoRemedy, Remedy, changed
from stem4d.quality.remedies.settle import waits_s
from stem4d.verdict import Verdict


def test_time_bounds_every_remedy() -> None:
    needs = predict(plan_for(SATURATED)).total_time_s
    assert isinstance(proposed(SATURATED, plan_for(SATURATED), seconds_left=needs), Remedy)
    found = proposed(SATURATED, plan_for(SATURATED), seconds_left=0.01 * needs)
    assert isinstance(found, NoRemedy)
    assert "min for mending" in found.reason


def test_attempts_bound_every_remedy() -> None:
    found = proposed(SATURATED, plan_for(SATURATED), attempts_left=0)
    assert isinstance(found, NoRemedy)
    assert "all 3 attempts" in found.reason


def test_too_many_passes_are_not_made_unasked() -> None:
    found = proposed(SATURATED, plan_for(SATURATED, quality__remedies=["split_passes"]))
    assert isinstance(found, NoRemedy)
    assert "it would take" in found.reason


def test_where_the_area_is_spent_the_change_is_made_on_the_first_spare_one_that_can_bear_it() -> None:
    plan = with_spares(plan_for(SATURATED), "area-2", "area-3")
    found = proposed(SATURATED, plan, 0.0, spare_left_e_per_a2={"area-2": 1.0, "area-3": 1e6})
    assert isinstance(found, Remedy)
    moved = changed(plan, found)
    assert (found.action, moved.sample.area, moved.sample.spare_areas) == ("reduce_dwell", "area-3", ("area-2",))
    assert moved.exposure.dwell_time_us < plan.exposure.dwell_time_us
    neither = proposed(SATURATED, plan, 0.0, spare_left_e_per_a2={"area-2": 1.0, "area-3": 1.0})
    assert isinstance(neither, NoRemedy)
    assert "none of the spare areas" in neither.reason
    here_only = plan.model_copy(update={"quality": plan.quality.model_copy(update={"remedies": ("reduce_dwell",)})})
    stays = proposed(SATURATED, here_only, 0.0, spare_left_e_per_a2={"area-3": 1e6})
    assert isinstance(stays, NoRemedy)


@pytest.mark.parametrize(("metric", "less"), [("damage.high_angle", True), ("contamination.rate", False)])
def test_a_spoilt_area_is_left_for_a_spare_one_with_less_dose_where_dose_did_the_harm(metric: str, less: bool) -> None:
    truth = Truth()
    plan = with_spares(plan_for(truth), "area-2")
    found = among((failing(metric),), plan, recording(0, **vars(truth)), spare_left_e_per_a2={"area-2": 1e6})
    assert isinstance(found, Remedy)
    moved = changed(plan, found)
    assert (found.action, moved.sample.area, moved.sample.spare_areas) == ("spare_area", "area-2", ())
    assert (moved.exposure.dwell_time_us < plan.exposure.dwell_time_us) is less
    nowhere = among((failing(metric),), plan_for(truth), recording(0, **vars(truth)))
    assert isinstance(nowhere, NoRemedy)
    assert "no spare areas" in nowhere.reason


def test_a_beam_that_overran_the_budget_goes_on_elsewhere_only_within_the_budget() -> None:
    """The beam is three times what it says: the spare area's dwell is cut to what its budget bears of it."""
    truth = Truth(electrons=3000)
    plan = with_spares(plan_for(truth), "area-2")
    budget = 1.5 * predict(plan).total_fluence_e_per_a2
    found = among(
        (failing("dose.fluence"),),
        plan,
        recording(0, **vars(replace(truth, electrons=9000))),
        0.0,
        spare_left_e_per_a2={"area-2": budget},
        current_ratio=3.0,
    )
    assert isinstance(found, Remedy)
    assert 3 * predict(changed(plan, found)).total_fluence_e_per_a2 <= 1.02 * budget


def test_bad_pixels_replace_the_mask() -> None:
    truth = Truth()
    for metric, kinds in (("pixels.mask", ("pixel_mask",)), ("pixels.dead", ("pixel_mask",))):
        found = among((failing(metric),), plan_for(truth), recording(0, **vars(truth)))
        assert isinstance(found, Remedy)
        assert (found.action, found.withdraws) == ("replace_calibration", kinds)


def test_following_costs_its_reference_scans_and_is_tried_once() -> None:
    truth, maps = Truth(), recording(0, **vars(Truth()))
    plan = plan_for(truth, quality__remedies=["track"], quality__max_drift_nm_per_min=4.0, exposure__passes=2)
    found = among((drifting(10.0, 4.0),), plan, maps)
    assert isinstance(found, Remedy)
    follows = changed(plan, found)
    assert follows.exposure.track_drift
    assert found.words == "track (exposure.track_drift False to True)"
    own = predict(plan).total_fluence_e_per_a2
    assert found.fluence_e_per_a2 > own
    again = among((drifting(10.0, 4.0),), follows, maps)
    assert isinstance(again, NoRemedy)
    assert "already" in again.reason
    jump = among((failing("drift.jump"),), plan, maps)
    assert isinstance(jump, NoRemedy)
    assert "no steady drift" in jump.reason


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
    found = among((failing(metric),), plan, recording(0, **vars(SATURATED)))
    assert isinstance(found, Remedy)
    assert found.action == action


def test_a_target_is_left_when_its_attempts_are_used_up_too() -> None:
    plan = plan_for(SATURATED, quality__remedies=["reduce_dwell", "skip"])
    found = proposed(SATURATED, plan, attempts_left=0)
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


def test_the_documentation_has_every_action_with_its_cost() -> None:
    page = (Path(__file__).parents[2] / "docs" / "remedies.md").read_text()
    table = page.split("## What may be done")[1].split("\n## ")[0]
    rows = [line.split("`")[1] for line in table.splitlines() if line.startswith("| `")]
    assert sorted(rows) == sorted(ACTIONS)


@pytest.mark.parametrize(
    ("metric", "verdict", "value", "limit", "kinds"),
    [
        ("descan.range", Verdict.FAIL, 1.5, 0.5, ("descan",)),
        # What the calibration itself says is left is no news.
        ("descan.range", Verdict.FAIL, 0.9, 0.5, ()),
        ("descan.range", Verdict.WARN, 1.5, 0.5, ()),
        ("pixels.mask", Verdict.WARN, 2.0, None, ("pixel_mask",)),
        ("pixels.mask", Verdict.PASS, 0.0, None, ()),
        ("dose.electrons", Verdict.WARN, 40.0, 100.0, ()),
        ("dose.electrons", Verdict.WARN, 130.0, 100.0, ("current",)),
        ("saturation.disk", Verdict.FAIL, 1.0, 0.1, ()),
    ],
)
def test_figures_contradict_their_calibrations(
    metric: str, verdict: Verdict, value: float, limit: float | None, kinds: tuple[str, ...]
) -> None:
    one = failing(metric).model_copy(update={"verdict": verdict, "value": value, "limit": limit, "uncertainty": 0.02})
    assert contradicted(one, descan_range_px=0.9) == kinds
