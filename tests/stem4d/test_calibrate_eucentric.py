"""The height over the eucentric plane, from tilts of a stage whose truth is known."""

from math import cos, radians, sin

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from devices.simulator.stage import StageMotion, StageTruth, displacement_nm
from stem4d.approach import StagePose
from stem4d.calibrate.eucentric import Height, brought, height_nm, height_of, judged, limit_nm
from stem4d.calibrate.place import Found
from stem4d.errors import BadInput
from stem4d.verdict import Verdict


def lies(height: float, alpha: float) -> np.ndarray:
    """Where a target lies (y, x) along the stage's axes."""
    motion = StageMotion(StagePose(x_um=0.0, y_um=0.0, alpha_deg=alpha))
    return displacement_nm(motion, StageTruth(), (0.0, 0.0, 0.0), (7.0, 3.0), height, np.zeros(1))[0]


def found(vector: np.ndarray, turned_deg: float, uncertainty_nm: float = 1.0) -> Found:
    """A vector along the stage's axes as a survey at a scan rotation has it."""
    angle = radians(turned_deg)
    y, x = vector
    return Found((cos(angle) * y - sin(angle) * x, cos(angle) * x + sin(angle) * y), uncertainty_nm, 0.9, True, "")


@given(height=st.floats(-2000, 2000), first=st.floats(-30, 30), apart=st.floats(1, 30))
def test_two_tilts_tell_the_height(height: float, first: float, apart: float) -> None:
    moved = lies(height, first + apart)[0] - lies(height, first)[0]
    assert height_nm(moved, first, first + apart) == pytest.approx(height, abs=1e-6)
    assert sin(radians(first)) * height + 7.0 == pytest.approx(lies(height, first)[0], abs=1e-9)


def test_one_tilt_twice_tells_no_height() -> None:
    with pytest.raises(BadInput, match="must differ"):
        height_nm(1.0, 5.0, 5.0)


@given(
    height=st.floats(-2000, 2000),
    turned=st.floats(-180, 180),
    drift=st.tuples(st.floats(-20, 20), st.floats(-20, 20)),
    tilt=st.floats(1, 30),
)
def test_even_drift_between_the_surveys_does_not_count(
    height: float, turned: float, drift: tuple[float, float], tilt: float
) -> None:
    drifted = np.array(drift)
    there = found(lies(height, tilt) - lies(height, 0.0) + drifted, turned)
    found_height = height_of(there, found(2 * drifted, turned), turned, 0.0, tilt)
    assert found_height.height_nm == pytest.approx(height, abs=1e-6)


def test_a_stage_that_does_not_come_back_is_told_by_the_error() -> None:
    # Both surveys are known to 1 nm; 60 nm that the stage did not come back by are half an error of 30 nm.
    there, back = found(np.array([100.0, 0.0]), 0.0), found(np.array([60.0, 0.0]), 0.0)
    error = height_of(there, back, 0.0, 0.0, 10.0).uncertainty_nm
    assert error == pytest.approx(np.hypot(30.0, np.hypot(1.0, 0.5)) / sin(radians(10.0)))


def test_the_height_is_taken_out_and_judged_by_what_a_tilt_would_move() -> None:
    limit = limit_nm(8.0, 10.0)
    assert limit * sin(radians(10.0)) == pytest.approx(4.0)
    assert judged(Height(900.0, 20.0), limit) is Verdict.FAIL
    assert judged(Height(-0.3 * limit, 0.05 * limit), limit) is Verdict.PASS
    pose = brought(StagePose(x_um=1.0, y_um=2.0, z_um=0.5, alpha_deg=3.0), Height(900.0, 20.0))
    assert (pose.x_um, pose.y_um, pose.alpha_deg) == (1.0, 2.0, 3.0)
    assert pose.z_um == pytest.approx(-0.4)
