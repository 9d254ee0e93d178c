"""Focus and stigmator by tilted bright-field images, corrected until they hold: against the hidden truth."""

from math import cos, hypot, radians, sin

import pytest
from approach_world import ALPHA_MRAD, DELTA_MRAD, ENERGY_KEV, exposed, tilts_of, truth
from hypothesis import given
from hypothesis import strategies as st

from stem4d.calibrate.focus_scans import focus_scans
from stem4d.calibrate.refocus import FocusError, corrected, error_of, judged, limit_nm
from stem4d.errors import BadInput
from stem4d.quality.grade import PASS_SIGMAS
from stem4d.verdict import Verdict

LIMIT_NM = limit_nm(ENERGY_KEV, ALPHA_MRAD)
FAR, NEAR = focus_scans(ENERGY_KEV, ALPHA_MRAD, DELTA_MRAD, 5000.0)


def test_the_limit_is_a_quarter_of_the_depth_of_field() -> None:
    # λ/α² of 0.048661 Å and 4.6 mrad.
    assert pytest.approx(0.25 * 229.97, rel=1e-3) == LIMIT_NM
    # Case A and B of the article: 26 Å and 123 nm.
    assert limit_nm(300.0, 27.6) == pytest.approx(0.646, rel=1e-2)
    assert limit_nm(300.0, 4.0) == pytest.approx(30.8, rel=1e-2)


@pytest.mark.parametrize("rotation_deg", [0.0, pytest.param(30.0, marks=pytest.mark.slow)])
def test_eighty_nanometres_and_astigmatism_are_found_and_taken_back(rotation_deg: float) -> None:
    residual = {"defocus_nm": 80.0, "astigmatism_nm": 60.0, "astigmatism_angle_deg": 30.0}
    hidden = truth(aberrations=residual)
    correction, stigmator = 0.0, (0.0, 0.0)
    errors = []
    for run, scan in enumerate((FAR, NEAR, NEAR)):
        frames = exposed(
            hidden, (48, 48), scan.step_nm, scan.defocus_nm, 1e4, run, rotation_deg,
            focus_correction_nm=correction, stigmator_nm=stigmator,
        )  # fmt: skip
        fit = tilts_of(frames, scan, rotation_deg)
        assert fit.ok, fit.reason
        errors.append(error_of(fit, scan))
        correction, stigmator = corrected(correction, stigmator, errors[-1])
    assert judged(errors[0], LIMIT_NM)[0] is not Verdict.PASS
    assert judged(errors[-1], LIMIT_NM) == (Verdict.PASS, Verdict.PASS)
    twofold = 2 * radians(30.0)
    left = hypot(stigmator[0] + 60 * cos(twofold), stigmator[1] + 60 * sin(twofold))
    # Nearly a quarter of the limit: what the errors say of the near scan, three times over.
    assert abs(correction + 80.0) < 12.0
    assert left < 12.0


@pytest.mark.slow
def test_an_error_beyond_a_scans_reach_is_refused_not_guessed() -> None:
    hidden = truth(aberrations={"defocus_nm": 1.5 * NEAR.reach_nm})
    frames = exposed(hidden, (40, 40), NEAR.step_nm, NEAR.defocus_nm, 5e3)
    assert not tilts_of(frames, NEAR).ok


@pytest.mark.parametrize(
    ("delta", "most", "field"), [(1.2, 5000.0, "optics.camera_length_mm"), (0.33, 100.0, "optics.defocus_nm")]
)
def test_what_leaves_no_room_to_focus_is_refused(delta: float, most: float, field: str) -> None:
    with pytest.raises(BadInput, match="underfocus to focus by") as refused:
        focus_scans(ENERGY_KEV, ALPHA_MRAD, delta, most)
    assert refused.value.field == field


FIGURES = st.floats(-500, 500)


@given(off=FIGURES, along=FIGURES, across=FIGURES, now=FIGURES)
def test_a_correction_takes_back_what_was_measured(off: float, along: float, across: float, now: float) -> None:
    focus, stigmator = corrected(now, (now, -now), FocusError(off, 1.0, (along, across), 1.0))
    assert focus + off == pytest.approx(now, abs=1e-9)
    assert (stigmator[0] + along, stigmator[1] + across) == pytest.approx((now, -now), abs=1e-9)


@given(off=FIGURES, error=st.floats(0.01, 100.0), size=st.floats(0, 500))
def test_only_what_is_surely_within_the_limit_passes(off: float, error: float, size: float) -> None:
    focus, twofold = judged(FocusError(off, error, (size, 0.0), error), 50.0)
    assert (focus is Verdict.PASS) == (abs(off) + PASS_SIGMAS * error <= 50.0)
    assert (twofold is Verdict.PASS) == (size + PASS_SIGMAS * error <= 50.0)


def test_what_was_not_measured_is_not_corrected() -> None:
    with pytest.raises(BadInput, match="must be measured"):
        corrected(0.0, (0.0, 0.0), FocusError(float("nan"), 1.0, (0.0, 0.0), 1.0))
