"""A target that lies elsewhere, out of focus and astigmatic, is found, placed and focused; a wrong one refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.run import run_plan
from stem4d.calibrate.refocus import limit_nm
from stem4d.night import TargetState
from tests.flows.approach_flow import PLACE_UM, STEP_NM, displaced, lab_of, plan_of, thumbnail_of, truly
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
