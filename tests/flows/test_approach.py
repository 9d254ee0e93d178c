"""A target that lies elsewhere, out of focus and astigmatic, is found, placed and focused; a wrong one refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from db.engine import reader
from db.questions.show import show_run
from devices.protocols import ColumnSetting
from flows.approach import is_wanted
from flows.run import run_plan
from stem4d.calibrate.refocus import limit_nm
from stem4d.model import canonical_json
from stem4d.night import TargetState
from tasks.approach import put_in_place
from tasks.calibrated import Calibrated, uncalibrated
from tasks.prepare import prepare
from tasks.record import open_run
from tests.devices.server_world import entries
from tests.flows.approach_flow import PLACE_UM, STEP_NM, displaced, lab_of, plan_of, stands, thumbnail_of, truly
from tests.flows.remedy_world import told, without_pages

POSE = {"x_um": PLACE_UM[0], "y_um": PLACE_UM[1]}
FOCUS = {"name": "beside", "offset_nm": [0.0, 700.0], "fluence_budget_e_per_a2": 4000.0}


def asked(thumbnail: Path) -> dict[str, Any]:
    """An approach with all of its parts."""
    return {"pose": POSE, "thumbnail": str(thumbnail), "focus_area": FOCUS, "max_drift_nm_per_min": 5.0}


@pytest.mark.slow
def test_a_target_is_found_and_focused_within_its_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_pages(monkeypatch)
    thumbnail = thumbnail_of(tmp_path / "before", "target")
    home = tmp_path / "night"
    with lab_of(home, displaced()) as opened:
        plan = plan_of(**asked(thumbnail))
        done = told(opened, run_plan(opened, plan, with_prefect=False))
    assert done.outcome.state is TargetState.DONE, done.outcome.reason
    off_nm, defocus_nm, twofold_nm = truly(home)
    assert np.hypot(*off_nm) < STEP_NM / 2
    quarter = limit_nm(60.0, 4.6)
    assert abs(defocus_nm) < quarter
    assert np.hypot(*twofold_nm) < quarter
    given = done.delivered()
    assert given["target"] <= plan.sample.fluence_budget_e_per_a2
    assert given["beside"] <= FOCUS["fluence_budget_e_per_a2"]
    (run,) = done.runs
    last = {one["metric"]: one for one in run["quality"] if one["metric"].startswith("approach.")}
    assert {"approach.stage", "approach.drift", "approach.place", "approach.focus", "approach.astigmatism"} <= set(last)
    assert {one["verdict"] for one in last.values()} == {"pass"}
    assert all(one["limit_value"] is not None for one in last.values())
    assert {one["purpose"] for one in run["exposures"]} == {"calibration", "survey", "focus", "acquisition"}


@pytest.mark.slow
def test_a_target_that_lies_too_high_is_brought_to_the_eucentric_height(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_pages(monkeypatch)
    height_nm, tilt_deg = 300.0, 20.0
    thumbnail = thumbnail_of(tmp_path / "before", "target")
    home = tmp_path / "night"
    text = displaced("").replace("displaced_nm", f"height_nm = {height_nm}\ndisplaced_nm")
    plan = plan_of(pose=POSE, thumbnail=str(thumbnail), eucentric_tilt_deg=tilt_deg)
    # Up to nine surveys at two tilts, and four to put the field in place, of 0.5 e/Å² each.
    sample = plan.sample.model_copy(update={"fluence_budget_e_per_a2": 10.0})
    plan = plan.model_copy(update={"sample": sample})
    with lab_of(home, text) as opened:
        done = told(opened, run_plan(opened, plan, with_prefect=False))
    assert done.outcome.state is TargetState.DONE, done.outcome.reason
    (run,) = done.runs
    last = [one for one in run["quality"] if one["metric"] == "approach.height"][-1]
    assert last["verdict"] == "pass"
    pose = stands(home)
    assert pose.alpha_deg == 0.0
    left_nm = height_nm + 1e3 * (pose.z_um - PLACE_UM[2])
    assert abs(left_nm) < last["limit_value"]
    assert abs(abs(left_nm) - last["value"]) < 4 * last["uncertainty"]


@pytest.mark.slow
def test_a_wrong_thumbnail_ends_the_target_before_it_is_exposed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_pages(monkeypatch)
    thumbnail = thumbnail_of(tmp_path / "before", "other")
    with lab_of(tmp_path / "night", displaced()) as opened:
        done = told(opened, run_plan(opened, plan_of(**asked(thumbnail)), with_prefect=False))
    assert done.outcome.state is TargetState.SKIPPED
    assert not done.outcome.ends_night
    assert "does not show the target of thumbnail" in done.outcome.reason
    (run,) = done.runs
    assert "acquisition" not in {one["purpose"] for one in run["exposures"]}
    # One survey, of the 0.3 e/Å² that its spots get.
    assert done.delivered()["target"] < 0.5


@pytest.mark.slow
@pytest.mark.parametrize(("approached", "changed", "times"), [(True, True, 1), (True, False, 0), (False, True, 0)])
def test_lenses_are_normalised_after_a_change(tmp_path: Path, approached: bool, changed: bool, times: int) -> None:
    lengths = f"camera_lengths_mm = [{100 / 0.33!r}"
    text = displaced("").replace(lengths, f"normalisation_wait_s = 20.0\n{lengths}, 400.0")
    plan = plan_of(**({"vacuum_area": "vacuum"} if approached else {}))
    with lab_of(tmp_path, text) as opened:
        before = plan.optics.model_copy(update={"camera_length_mm": 400.0} if changed else {})
        opened.instrument.column.prepare(ColumnSetting(optics=before))
        run = open_run.fn(opened.file.name, canonical_json(plan), None, [])
        began_s = opened.instrument.now_s()
        prepare.fn(opened.file.name, run)
        assert opened.instrument.now_s() - began_s == pytest.approx(20.0 * times)
    assert [one["event"] for one in entries(tmp_path, "approach-stem")].count("normalise") == times


@pytest.mark.slow
def test_a_spare_area_is_not_approached_as_the_first_one_was(tmp_path: Path) -> None:
    with lab_of(tmp_path, displaced("")) as opened:
        runs: list[str] = []
        for area in ("target", "other"):
            plan = plan_of(area, pose=POSE)
            runs.append(open_run.fn(opened.file.name, canonical_json(plan), None, runs))
        assert is_wanted(opened, runs[:1])
        assert not is_wanted(opened, runs)


@pytest.mark.slow
def test_what_the_beam_shift_does_to_the_descan_is_taken_back(tmp_path: Path) -> None:
    thumbnail = thumbnail_of(tmp_path / "before", "target")
    home = tmp_path / "night"
    # Some 290 nm along y change the slope along y by 2 * 290 * 3e-6 = 2e-3 mrad/nm: 1 px over the plan's field.
    quadratic = [[3e-6, 0.0, 0.0], [0.0, 0.0, 0.0]]
    text = displaced(f"\n[settings.projector]\ndescan_quadratic_mrad_per_nm2 = {quadratic}\n")
    with lab_of(home, text) as opened:
        plan = plan_of(**asked(thumbnail))
        run = open_run.fn(opened.file.name, canonical_json(plan), None, [])
        before = uncalibrated(plan)
        done = put_in_place.fn(opened.file.name, run, before.model_dump_json())
        assert done["reason"] == ""
        after = Calibrated.model_validate_json(done["calibrated"]).column
        with reader(opened.engine) as session:
            figures = [one for one in show_run(session, name=run)["quality"] if one["metric"] == "approach.descan"]
    assert [one["verdict"] for one in figures] == ["warn", "pass"]
    assert figures[0]["value"] == pytest.approx(6e-6 * after.beam_shift_nm[0] * 23 * STEP_NM / 0.33, rel=0.1)
    ((along_y, _), (_, _)) = after.descan_mrad_per_nm
    # Centres of mass follow a disk of 14 of 16 px, before a specimen, to some per cent.
    assert along_y == pytest.approx(-6e-6 * after.beam_shift_nm[0], rel=0.1)


@pytest.mark.slow
def test_what_a_person_asks_ends_an_approach_before_its_next_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_pages(monkeypatch)
    thumbnail = thumbnail_of(tmp_path / "before", "target")
    # It never drifts slowly enough: without an order it would be watched until its time is over.
    asked_for = {**asked(thumbnail), "max_drift_nm_per_min": 1e-6, "max_settling_min": 600.0}
    with lab_of(tmp_path / "night", displaced()) as opened:
        scans: list[str] = []

        def between() -> str:
            scans.append("look")
            return "skipped by a person" if len(scans) > 4 else ""

        opened.between = between
        done = told(opened, run_plan(opened, plan_of(**asked_for), with_prefect=False))
    assert done.outcome.state is TargetState.SKIPPED
    assert done.outcome.broken_off
    assert done.outcome.reason.startswith("skipped by a person")
    assert len(scans) == 5
