"""Each remedy on the simulator: fault in, verdict, remedy, verdict again, within the dose; or refused by it."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.night import run_night
from flows.queue import Queued
from stem4d.night import Night, Target, TargetState
from stem4d.plan import Plan
from stem4d.predict import predict
from tests.flows.night_world import small
from tests.flows.remedy_world import faulty_lab, mended, told
from web.report.attempts import attempts_lines

SPARE_GRAIN = """
[settings.areas.grain-5]
specimen = "square"
seed = 15
spacing_a = 4.08
atom_phase_rad = 2.4
modulation = 0.2
"""
SETTLES_AT_S = 40.0
SETTLING = f"""
[[settings.schedule]]
at_s = {SETTLES_AT_S}
knob = "areas.edge-3.drift_nm_per_min"
value = [0.3, -0.2]
"""
DROPOUT = """
[settings.beam]
dropouts = [{ at_s = 50.0, seconds = 1.0e6, part = 0.0 }]
"""
MOVED_AT_S = 20.0
MOVED = f"""
[[settings.schedule]]
at_s = {MOVED_AT_S}
knob = "descan_error_mrad_per_nm"
value = [[1.6, 0.15], [-0.2, 0.1]]
"""
SHIFTED = f"""
[[settings.schedule]]
at_s = {MOVED_AT_S}
knob = "misalignment_mrad"
value = [12.0, -9.0]
"""


class NoPage:
    """Stands where the stage of the report stands: pages are drawn and looked at elsewhere."""

    @staticmethod
    def fn(*_arguments: object) -> None:
        """Write none."""


@pytest.fixture(autouse=True)
def without_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of runs cost more than the runs do."""
    monkeypatch.setattr("flows.run.report_run", NoPage)
    monkeypatch.setattr("flows.night.write_night", NoPage.fn)


def saturating(*changes: str) -> Plan:
    """A beam three times as bright as it says, into a counter of 8 bits."""
    return small("3_saturating.yaml", 16, *changes)


def drifting(*changes: str) -> Plan:
    """Two passes over an area that drifts by 15 nm/min, where 5 are allowed."""
    return small("5_drifting.yaml", 40, *changes)


def test_a_lower_current_mends_saturation_within_the_dose(tmp_path: Path) -> None:
    plan = saturating("quality.remedies=[reduce_current]")
    with faulty_lab(tmp_path) as opened:
        done = mended(opened, plan)
    assert done.outcome.state is TargetState.MENDED, done.outcome.reason
    assert set(done.actions()) == {"reduce_current"}
    first, last = done.runs[0], done.runs[-1]
    assert first["state"] == "stopped"
    assert last["plan"]["document"]["optics"]["probe_current_pa"] < 90
    assert last["plan"]["document"]["exposure"] == first["plan"]["document"]["exposure"]
    assert "fail" in done.verdicts("saturation.disk")[0]
    story = last["attempts"]
    assert [one["run"] for one in story] == list(done.outcome.runs)
    assert "saturation.disk" in {one["metric"] for one in story[0]["seen"]}
    assert story[-1]["seen"] == []
    assert sum(one["fluence_e_per_a2"] for one in story) == pytest.approx(done.delivered()["grain-2"])
    assert all(one["seconds"] > 0 for one in story)
    said = "\n".join(attempts_lines(story))
    assert "tried next: reduce current, optics, probe current 90" in said.replace("\u00a0", " ")
    assert done.verdicts("saturation.disk")[-1] == {"pass"}
    assert last["parent"] == done.runs[-2]["name"]
    assert done.delivered()["grain-2"] <= plan.sample.fluence_budget_e_per_a2


def test_a_spent_area_sends_the_mended_plan_to_the_spare_one(tmp_path: Path) -> None:
    """The budget bears the first attempt with its bright beam and not a second one."""
    planned = predict(saturating()).total_fluence_e_per_a2
    budget = f"sample.fluence_budget_e_per_a2={3.2 * planned}"
    with faulty_lab(tmp_path, SPARE_GRAIN) as opened:
        done = mended(opened, saturating(budget, "sample.spare_areas=[grain-5]"))
    assert done.outcome.state is TargetState.MENDED, done.outcome.reason
    assert [run["area"]["name"] for run in done.runs] == ["grain-2", "grain-5"]
    assert done.runs[0]["remedies"][0]["to_value"]["sample.area"] == "grain-5"
    assert done.runs[1]["verdict"] != "fail"
    assert all(given <= 3.2 * planned * 1.01 for given in done.delivered().values())


def test_without_a_spare_area_a_spent_one_is_not_exposed_again(tmp_path: Path) -> None:
    planned = predict(saturating()).total_fluence_e_per_a2
    with faulty_lab(tmp_path) as opened:
        done = mended(opened, saturating(f"sample.fluence_budget_e_per_a2={3.2 * planned}"))
    assert done.outcome.state is TargetState.MARKED
    assert "e/Å² left" in done.outcome.reason
    assert len(done.runs) == 1
    assert done.delivered()["grain-2"] <= 3.2 * planned * 1.01


def test_waiting_until_the_drift_has_settled_mends_it_within_the_dose(tmp_path: Path) -> None:
    plan = drifting("quality.remedies=[settle]")
    with faulty_lab(tmp_path, SETTLING) as opened:
        done = mended(opened, plan)
    assert done.outcome.state is TargetState.MENDED, done.outcome.reason
    assert done.actions() == ["settle"]
    assert done.verdicts("drift.rate") == [{"fail"}, {"pass"}]
    second = done.runs[1]
    waits = [one for one in second["events"] if one["kind"] == "settling"]
    assert waits[-1]["data"]["waited_s"] > SETTLES_AT_S - 10
    assert waits[-1]["data"]["speed_nm_per_min"] == pytest.approx(0.36, abs=0.5)
    # Reference scans are booked on the area like every exposure, and cost less than the passes do.
    scans = [one["delivered_e_per_a2"] for one in second["exposures"] if one["area"] == "edge-3"]
    assert len(scans) > plan.exposure.passes
    assert min(scans) < 0.2 * max(scans)
    assert done.delivered()["edge-3"] <= plan.sample.fluence_budget_e_per_a2


def test_a_drift_that_does_not_settle_costs_reference_scans_only(tmp_path: Path) -> None:
    plan = drifting("quality.remedies=[settle]")
    with faulty_lab(tmp_path) as opened:
        done = mended(opened, plan)
    assert done.outcome.state is TargetState.MARKED
    assert "settle" in done.outcome.reason
    assert [one["purpose"] for one in done.runs[1]["datasets"] if one["purpose"] == "acquisition"] == []


def test_the_time_for_mending_bounds_the_wait(tmp_path: Path) -> None:
    plan = drifting("quality.remedies=[settle]", "quality.max_mending_min=0.8")
    with faulty_lab(tmp_path) as opened:
        done = mended(opened, plan)
        spent_s = opened.instrument.now_s()
    assert done.outcome.state is TargetState.MARKED
    assert "has not settled within" in done.outcome.reason
    assert spent_s < 60


def test_no_dose_for_reference_scans_and_another_exposure_means_no_waiting(tmp_path: Path) -> None:
    planned = predict(drifting()).total_fluence_e_per_a2
    plan = drifting("quality.remedies=[settle]", f"sample.fluence_budget_e_per_a2={1.9 * planned}")
    with faulty_lab(tmp_path, SETTLING) as opened:
        done = mended(opened, plan)
    assert done.outcome.state is TargetState.MARKED
    assert "e/Å² left" in done.outcome.reason
    assert len(done.runs) == 1


def test_following_the_specimen_mends_a_steady_drift_within_the_dose(tmp_path: Path) -> None:
    plan = drifting("quality.remedies=[track]")
    with faulty_lab(tmp_path) as opened:
        done = mended(opened, plan)
    assert done.outcome.state is TargetState.MENDED, done.outcome.reason
    assert done.actions() == ["track"]
    assert done.verdicts("drift.rate") == [{"fail"}, {"pass"}]
    (rate,) = (one for one in done.runs[1]["quality"] if one["metric"] == "drift.rate" and one["stage"] == "final")
    # Of 15 nm/min; the reference scans know the rate to a twentieth of a step of 0.06 nm over 2 s.
    assert rate["value"] < 0.5
    scans = [one["purpose"] for one in done.runs[1]["exposures"] if one["area"] == "edge-3"]
    assert sorted(scans) == ["acquisition"] * 2 + ["calibration"] * 3
    assert done.delivered()["edge-3"] <= plan.sample.fluence_budget_e_per_a2


def test_no_dose_for_reference_scans_means_no_following(tmp_path: Path) -> None:
    planned = predict(drifting()).total_fluence_e_per_a2
    plan = drifting("quality.remedies=[track]", f"sample.fluence_budget_e_per_a2={2.05 * planned}")
    with faulty_lab(tmp_path) as opened:
        done = mended(opened, plan)
    assert done.outcome.state is TargetState.MARKED
    assert "track would mend it, but exposing again takes" in done.outcome.reason
    assert len(done.runs) == 1


def _night(*plans: tuple[str, Plan]) -> tuple[Night, tuple[Queued, ...]]:
    targets = tuple(Target(name=name, plan=f"{name}.yaml") for name, _plan in plans)
    night = Night(format_version=1, name="faults", instrument="instrument.toml", targets=targets)
    return night, tuple(Queued(one, plan) for one, (_name, plan) in zip(targets, plans, strict=True))


def test_a_beam_that_is_gone_ends_the_night_where_the_plan_says_so(tmp_path: Path) -> None:
    lost = small("5_drifting.yaml", 16, "exposure.pause_between_passes_s=100.0", "quality.remedies=[end_night, skip]")
    night, queued = _night(("lost", lost), ("never", small("1_overview.yaml", 16)))
    with faulty_lab(tmp_path, DROPOUT) as opened:
        result = run_night(opened, night, queued, with_prefect=False)
        first = told(opened, result.outcomes[0][1])
    (_, ended), (_, never) = result.outcomes
    assert (ended.state, ended.ends_night) == (TargetState.MARKED, True)
    assert "no beam" in ended.reason
    assert (never.state, never.runs) == (TargetState.SKIPPED, ())
    assert "lost ended the night" in never.reason
    assert first.runs[0]["remedies"][0]["outcome"] == "the night was ended"
    assert "ended the night" in result.reason


def test_a_target_that_nothing_mends_is_left_and_the_night_goes_on(tmp_path: Path) -> None:
    night, queued = _night(("left", drifting("quality.remedies=[skip]")), ("goes_on", small("1_overview.yaml", 16)))
    with faulty_lab(tmp_path) as opened:
        result = run_night(opened, night, queued, with_prefect=False)
        left = told(opened, result.outcomes[0][1])
    assert [outcome.state for _target, outcome in result.outcomes] == [TargetState.SKIPPED, TargetState.DONE]
    assert left.actions() == ["skip"]
    assert left.runs[0]["analyses"] == []
    assert left.runs[0]["state"] == "marked"


def flake(*changes: str) -> Plan:
    """A plan whose pattern may move by half a pixel."""
    return small("2_ptychography.yaml", 24, *changes)


def test_descan_that_changed_withdraws_its_calibration_marks_the_data_and_is_measured_again(tmp_path: Path) -> None:
    with faulty_lab(tmp_path, MOVED) as opened:
        before = mended(opened, flake())
        opened.instrument.pause(MOVED_AT_S)
        done = mended(opened, flake())
    assert before.outcome.state is TargetState.DONE, before.outcome.reason
    assert done.outcome.state is TargetState.MENDED, done.outcome.reason
    assert done.actions() == ["correct_descan"]
    assert done.verdicts("descan.range") == [{"fail"}, {"pass"}]
    old, new = (run["calibrations"] for run in done.runs)
    (number,) = {one["id"] for one in old if one["role"] == "descan"}
    assert number not in {one["id"] for one in new}
    told = affected(tmp_path, number)
    assert [one["run"] for one in told["datasets"]] == [before.runs[0]["name"], done.runs[0]["name"]]
    assert [one["own_verdict"] for one in told["datasets"]] == ["pass", "fail"]
    assert told["withdrawn"]["by"] == done.runs[0]["name"]


def test_a_descan_that_nothing_may_mend_withdraws_its_calibration_all_the_same(tmp_path: Path) -> None:
    with faulty_lab(tmp_path, MOVED) as opened:
        mended(opened, flake())
        opened.instrument.pause(MOVED_AT_S)
        done = mended(opened, flake("quality.remedies=[reduce_dwell]"))
    assert done.outcome.state is TargetState.MARKED
    assert "correct_descan would mend it, and the plan's policy does not allow that" in done.outcome.reason
    assert [one["kind"] for one in done.runs[0]["withdrawn"]] == ["descan"]


def test_a_pattern_that_moved_off_the_middle_is_brought_back(tmp_path: Path) -> None:
    with faulty_lab(tmp_path, SHIFTED) as opened:
        mended(opened, small("1_overview.yaml", 24))
        opened.instrument.pause(MOVED_AT_S)
        done = mended(opened, small("1_overview.yaml", 24))
    assert done.outcome.state is TargetState.MENDED, done.outcome.reason
    assert done.actions() == ["recentre"]


def test_passes_that_would_fail_too_are_not_exposed(tmp_path: Path) -> None:
    """Drift shows after the second of four passes."""
    plan = drifting("exposure.passes=4", "sample.fluence_budget_e_per_a2=8e5")
    with faulty_lab(tmp_path) as opened:
        done = mended(opened, plan)
    (run,) = done.runs
    assert done.outcome.state is TargetState.MARKED
    assert "drifts" in done.outcome.reason
    assert [one["complete"] for one in run["datasets"] if one["purpose"] == "acquisition"] == [True, True]
    assert {one["metric"] for one in run["quality"] if one["stage"] == "online"} == {"drift.rate"}
    # What is there is whole, and is analysed.
    assert run["analyses"]
    assert any(
        one["message"].startswith("after pass 2 of 4") for one in run["events"] if one["kind"] == "stopped early"
    )


def test_a_plan_that_does_not_stop_early_exposes_all_its_passes(tmp_path: Path) -> None:
    plan = drifting("exposure.passes=3", "sample.fluence_budget_e_per_a2=8e5", "quality.stop_early=false")
    with faulty_lab(tmp_path) as opened:
        (run,) = mended(opened, plan).runs
    assert len([one for one in run["datasets"] if one["purpose"] == "acquisition"]) == 3


def affected(home: Path, number: int) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["affected", str(number), "--json"], env={"NIGHTBEAM_HOME": str(home)})
    assert done.exit_code == 0, done.output
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_an_unknown_calibration_is_refused_in_one_line(tmp_path: Path) -> None:
    with faulty_lab(tmp_path):
        pass
    done = CliRunner().invoke(app, ["affected", "7"], env={"NIGHTBEAM_HOME": str(tmp_path)})
    assert done.exit_code == 2
    assert "calibration: got 7; there is none of this number" in done.output
