"""Remedies of faults that begin or end with time: drift that settles, descan and centring that move, a lost beam."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.night import run_night
from stem4d.night import TargetState
from stem4d.plan import Plan
from tests.flows.night_world import small
from tests.flows.remedy_world import SETTLES_AT_S, SETTLING, drifting, faulty_lab, mended, night_of, told, without_pages

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


@pytest.fixture(autouse=True)
def pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """None are drawn."""
    without_pages(monkeypatch)


@pytest.mark.slow
def test_waiting_until_the_drift_has_settled_mends_it_within_the_dose(tmp_path: Path) -> None:
    plan = drifting("s3", "quality.remedies=[settle]")
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


@pytest.mark.slow
def test_the_time_for_mending_bounds_the_wait(tmp_path: Path) -> None:
    plan = drifting("s5", "quality.remedies=[settle]", "quality.max_mending_min=0.8")
    with faulty_lab(tmp_path) as opened:
        done = mended(opened, plan)
        spent_s = opened.instrument.now_s()
    assert done.outcome.state is TargetState.MARKED
    assert "has not settled within" in done.outcome.reason
    assert spent_s < 60


def test_a_beam_that_is_gone_ends_the_night_where_the_plan_says_so(tmp_path: Path) -> None:
    lost = small("5_drifting.yaml", 16, "exposure.pause_between_passes_s=100.0", "quality.remedies=[end_night, skip]")
    night, queued = night_of(("lost", lost), ("never", small("1_overview.yaml", 16)))
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


def flake(*changes: str) -> Plan:
    """A plan whose pattern may move by half a pixel."""
    return small("2_ptychography.yaml", 24, *changes)


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_descan_that_nothing_may_mend_withdraws_its_calibration_all_the_same(tmp_path: Path) -> None:
    with faulty_lab(tmp_path, MOVED) as opened:
        mended(opened, flake())
        opened.instrument.pause(MOVED_AT_S)
        done = mended(opened, flake("quality.remedies=[reduce_dwell]"))
    assert done.outcome.state is TargetState.MARKED
    assert "correct_descan would mend it, and the plan's policy does not allow that" in done.outcome.reason
    assert [one["kind"] for one in done.runs[0]["withdrawn"]] == ["descan"]


@pytest.mark.slow
def test_a_pattern_that_moved_off_the_middle_is_brought_back(tmp_path: Path) -> None:
    with faulty_lab(tmp_path, SHIFTED) as opened:
        mended(opened, small("1_overview.yaml", 24))
        opened.instrument.pause(MOVED_AT_S)
        done = mended(opened, small("1_overview.yaml", 24))
    assert done.outcome.state is TargetState.MENDED, done.outcome.reason
    assert done.actions() == ["recentre"]


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
