"""What a run's end knows of its calibrations while the database is away, and what a plan's words come to as options."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from db.calibrations import CalibrationRecord, Standing
from db.clock import utc_now
from stem4d.analyse.methods import options_for
from stem4d.errors import BadInput
from stem4d.plan import Plan, Strain
from storage.documents import load_model
from tasks.analyse import _calibrations
from tasks.calibrated import uncalibrated
from tasks.given import given_of_run
from tasks.lab import Lab
from tasks.memory import Memory
from tests.flows.night_world import PLANS

ROTATION = CalibrationRecord(
    7, "rotation", "key", "stem", {"rotation_deg": 12.0, "mirrored": False}, {"rotation_deg": 0.1}, "deg", utc_now(),
    None, None, None, "pass",
)  # fmt: skip


def test_the_session_knows_what_the_database_cannot_be_asked_for() -> None:
    plan = load_model(PLANS / "methods" / "2_com.yaml", Plan)
    memory = Memory({("rotation", "key"): Standing("valid", ROTATION, "")}, used={"run": {"rotation": 7, "defocus": 8}})
    opened = cast(Lab, SimpleNamespace(recorder=SimpleNamespace(waiting=True), memory=memory))
    calibrated = uncalibrated(plan).model_copy(update={"calibration_ids": {"rotation": 7, "defocus": 8}})
    held, remark = _calibrations(opened, "run", calibrated)
    given = given_of_run(plan, held)
    assert (given.scan_rotation_deg, given.uncertainty["scan_rotation_deg"]) == (12.0, 0.1)
    # Nobody in this session has seen the other one.
    assert "defocus" in remark
    assert "rotation" not in remark
    memory.standings["defocus", "key"] = Standing("valid", replace(ROTATION, id=8, kind="defocus", value={}), "")
    assert _calibrations(opened, "run", calibrated)[1] == ""


def strain(**more: Any) -> Strain:
    return Strain(kind="strain", reflection_d_a=2.0, target_strain=1e-3, smallest_feature_nm=4.0, **more)


def test_a_plans_lattice_is_the_strains_reference() -> None:
    options = options_for(strain(reference="absolute", lattice_a_nm=0.286, lattice_angle_deg=90.0))
    assert options.model_dump()["lattice_a_nm"] == 0.286
    assert options_for(strain(reference_region=(0, 0, 4, 4))).model_dump()["reference_region"] == (0, 0, 4, 4)
    with pytest.raises(BadInput, match="lattice_a_nm must be stated"):
        options_for(strain(reference="absolute"))


@pytest.mark.parametrize(
    "more",
    [
        {"lattice_a_nm": 0.286},
        {"reference": "absolute", "lattice_b_nm": 0.286},
        {"reference": "absolute", "reference_region": (0, 0, 4, 4)},
        {"reference_region": (4, 0, 4, 4)},
    ],
)
def test_a_reference_that_cannot_be_meant_is_refused(more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"lattice_a_nm|reference_region"):
        strain(**more)
