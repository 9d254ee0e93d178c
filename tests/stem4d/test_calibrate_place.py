"""A survey laid over the thumbnail of its target: found to a fraction of a step, or refused; how to get there."""

from math import hypot
from types import MappingProxyType

import numpy as np
import pytest
from approach_world import exposed, maps_of, truth
from hypothesis import given
from hypothesis import strategies as st

from stem4d.approach import StagePose
from stem4d.calibrate.place import Found, beam_shift_for, find, judged, pose_for
from stem4d.errors import BadInput
from stem4d.maps import RunMaps
from stem4d.model import Range
from stem4d.simulate.scanning import turn
from stem4d.verdict import Verdict

RASTER = MappingProxyType({"shape": (40, 40), "step_nm": 14.0, "defocus_nm": 1000.0, "electrons": 2000.0})
STEP_NM = 14.0


@pytest.fixture(scope="module")
def thumbnail() -> RunMaps:
    """The target as it was when it was chosen."""
    return maps_of(exposed(truth(), run=7, **RASTER))


@pytest.mark.parametrize("displaced", [(290.0, 76.0), (-4.0, 7.0)])
def test_a_displaced_target_is_found(thumbnail: RunMaps, displaced: tuple[float, float]) -> None:
    survey = maps_of(exposed(truth({"displaced_nm": displaced}), run=8, **RASTER))
    found = find(thumbnail, survey, STEP_NM)
    assert found.ok, found.reason
    # Four standard errors, and the 0.4 nm by which a survey of another field is the same specimen elsewhere sampled.
    assert hypot(found.off_nm[0] - displaced[0], found.off_nm[1] - displaced[1]) < 4 * found.uncertainty_nm + 0.4
    assert found.correlation > 0.3


@pytest.mark.slow
def test_the_beam_shift_that_is_found_puts_the_field_in_place(thumbnail: RunMaps) -> None:
    hidden = truth({"displaced_nm": (290.0, 76.0)})
    found = find(thumbnail, maps_of(exposed(hidden, run=8, **RASTER)), STEP_NM)
    shift = beam_shift_for((0.0, 0.0), found, Range(lowest=-500, highest=500))
    assert shift is not None
    there = find(thumbnail, maps_of(exposed(hidden, run=9, beam_shift_nm=shift, **RASTER)), STEP_NM)
    assert judged(there, 8.0) == (Verdict.PASS, 4.0)
    assert hypot(shift[0] - 290.0, shift[1] - 76.0) < 4.0


def test_the_wrong_thumbnail_is_refused(thumbnail: RunMaps) -> None:
    found = find(thumbnail, maps_of(exposed(truth({"seed": 8}), run=8, **RASTER)), STEP_NM)
    assert not found.ok
    assert "too few features in common" in found.reason


@pytest.mark.slow
def test_a_target_out_of_the_survey_is_refused(thumbnail: RunMaps) -> None:
    found = find(thumbnail, maps_of(exposed(truth({"displaced_nm": (2000.0, 0.0)}), run=3, **RASTER)), STEP_NM)
    assert not found.ok
    assert np.isnan(found.distance_nm)


def test_another_raster_is_refused(thumbnail: RunMaps) -> None:
    with pytest.raises(BadInput, match="must be of the raster"):
        find(thumbnail, maps_of(exposed(truth(), (20, 40), 14.0, 1000.0, 100.0)), STEP_NM)


SHIFTS = st.tuples(st.floats(-900, 900), st.floats(-900, 900))


@given(now=SHIFTS, off=SHIFTS, beside=SHIFTS)
def test_coils_are_asked_for_what_they_can_do(
    now: tuple[float, float], off: tuple[float, float], beside: tuple[float, float]
) -> None:
    allowed = Range(lowest=-400, highest=600)
    wanted = beam_shift_for(now, Found(off, 1.0, 0.9, True, ""), allowed, beside)
    ends = [now[i] + off[i] + extra for i in (0, 1) for extra in (0.0, beside[i])]
    assert (wanted is None) == any(not -400 <= end <= 600 for end in ends)
    assert wanted is None or wanted == (now[0] + off[0], now[1] + off[1])
    assert beam_shift_for(now, Found(off, 1.0, 0.9, True, ""), None) is None


@given(wanted=SHIFTS, angle=st.floats(-180, 180))
def test_the_stage_does_what_the_beam_shift_would(wanted: tuple[float, float], angle: float) -> None:
    before = StagePose(x_um=3.0, y_um=-2.0, z_um=1.0, alpha_deg=5.0)
    after = pose_for(before, wanted, angle)
    # The simulator turns shifts along the scan's axes into the specimen's, and the stage carries the specimen.
    moved = np.array([after.y_um - before.y_um, after.x_um - before.x_um]) * 1e3
    np.testing.assert_allclose(moved, -turn(angle) @ np.array(wanted), atol=1e-6)
    assert (after.z_um, after.alpha_deg) == (1.0, 5.0)
