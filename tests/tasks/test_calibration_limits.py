"""Warnings where a calibration says too little, rotation against defocus, lattices that contradict, the page."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stem4d.calibrate.limits import LIMITS
from stem4d.calibrate.rotation import RotationFit
from stem4d.calibrate.step import StepFit
from stem4d.calibrate.tilt import TiltFit
from stem4d.instrument import InstrumentFile
from stem4d.plan import Plan
from storage.documents import load_model
from tasks.calibrations.agree import agreed
from tasks.calibrations.applies import does_not_apply
from tasks.calibrations.document import table
from tasks.calibrations.kinds import KINDS
from tasks.calibrations.limits import judged
from tasks.calibrations.measured import Measured
from tasks.calibrations.step import _only_one
from tasks.calibrations.words import HELP, refused, told

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return load_model(ROOT / "plans" / "calibrate" / "reference.yaml", Plan)


@pytest.mark.parametrize(
    ("kind", "value", "error", "warned"),
    [
        ("rotation", {"rotation_deg": 3.0}, {"rotation_deg": 0.4}, False),
        ("rotation", {"rotation_deg": 3.0}, {"rotation_deg": 0.6}, True),
        ("mrad_per_pixel", {"mrad_per_pixel": 1.0, "source": "reference"}, {"mrad_per_pixel": 0.003}, True),
        ("mrad_per_pixel", {"mrad_per_pixel": 1.0, "source": "transfer"}, {"mrad_per_pixel": 0.003}, False),
        ("centre", {"centre_px": [60.0, 60.0]}, {"centre_px": [0.01, 0.03]}, True),
        ("scan_step", {"step_y_nm": 1.0, "step_x_nm": 1.0}, {"step_y_nm": 0.001, "step_x_nm": 0.006}, True),
        # 17 mrad at 200 kV: 8.7 nm deep, a quarter of which is 2.2 nm, whatever 1 % of 14 nm is.
        ("defocus", {"defocus_nm": 14.0, "astigmatism_nm": 1.0}, {"defocus_nm": 1.5, "astigmatism_nm": 1.0}, False),
        ("defocus", {"defocus_nm": 14.0, "astigmatism_nm": 1.0}, {"defocus_nm": 5.0, "astigmatism_nm": 1.0}, True),
        ("current", {"true_over_commanded": 1.0}, None, True),
        ("pixel_mask", {"bad_pixels": []}, None, False),
    ],
)
def test_a_sound_fit_that_says_too_little_warns_with_the_figure(
    kind: str, value: dict, error: dict | None, warned: bool, plan: Plan
) -> None:
    one = judged(Measured(kind, "pass", value, error), plan)
    assert (one.verdict == "warn") is warned
    assert bool(one.reason) is warned
    assert one.usable


def test_a_refused_fit_stays_refused(plan: Plan) -> None:
    refused = Measured("rotation", "fail", {"rotation_deg": None}, {"rotation_deg": None}, reason="no curl")
    assert judged(refused, plan) == refused


def rotation(angle: float, half_turn_known: bool = True) -> Measured:
    fit = RotationFit(angle, 0.3, False, True, 20.0, half_turn_known, 9.0, 0.3, True, "")
    value = {"rotation_deg": angle, "mirrored": False, "half_turn_known": half_turn_known}
    return Measured("rotation", "pass", value, {"rotation_deg": 0.3}, evidence=(1,), fit=fit)


def defocus(angle: float, half_turn_known: bool = False) -> Measured:
    fit = TiltFit(
        14.0, 0.1, 0.0, 0.1, 0.0, 50.0, angle, 0.4, False, True, 20.0, half_turn_known, 1.0,
        np.zeros(9), np.eye(4), 9.0, 100.0, 1.0, ok=True, reason="",
    )  # fmt: skip
    return Measured("defocus", "pass", {"defocus_nm": 14.0, "half_turn_known": half_turn_known}, evidence=(2,), fit=fit)


def test_rotation_and_defocus_that_agree_are_one_figure() -> None:
    lie, focus = agreed([rotation(7.0), defocus(7.5)])
    assert lie.value["rotation_deg"] == pytest.approx((7.0 / 0.09 + 7.5 / 0.16) / (1 / 0.09 + 1 / 0.16))
    assert lie.value["half_turn_known"] is focus.value["half_turn_known"] is True
    assert lie.evidence == (1, 2)
    assert lie.verdict == focus.verdict == "pass"


@pytest.mark.parametrize(("angle", "said"), [(12.0, "disagree"), (-173.0, "half a turn")])
def test_rotation_and_defocus_that_disagree_both_fail(angle: float, said: str) -> None:
    for one in agreed([rotation(7.0), defocus(angle)]):
        assert one.verdict == "fail"
        assert said in one.reason


def test_a_half_turn_that_nobody_knows_warns_of_the_rotation_and_fails_the_defocus() -> None:
    lie, focus = agreed([rotation(7.0, half_turn_known=False), defocus(7.2)])
    assert lie.value["half_turn_known"] is focus.value["half_turn_known"] is False
    assert (lie.verdict, focus.verdict) == ("warn", "fail")
    assert "half a turn" in lie.reason
    assert "sign is open" in focus.reason
    # Alone too: no consumer reads the flag, all heed the verdict.
    assert agreed([defocus(7.2)])[0].verdict == "fail"
    assert agreed([rotation(7.0, half_turn_known=False)])[0].verdict == "warn"
    assert agreed([defocus(7.2, half_turn_known=True)])[0].verdict == "pass"


def test_one_of_both_alone_or_beside_a_refused_one_stands_as_it_is() -> None:
    assert agreed([rotation(7.0)]) == (rotation(7.0),)
    bad = defocus(7.0)
    bad = replace(bad, verdict="fail", fit=replace(bad.fit, ok=False, reason="too faint"))
    assert agreed([rotation(3.0), bad])[0].value["rotation_deg"] == 3.0


def imprecise(angle: float, *, half_turn_known: bool = True, mirrored_known: bool = True) -> Measured:
    """Deflections that know the angle to 2.9 degrees, and are refused for that alone."""
    one = rotation(angle, half_turn_known)
    fit = replace(
        one.fit, rotation_uncertainty_deg=2.9, mirrored_known=mirrored_known, imprecise=True,
        ok=False, reason="known only to 2.9 degrees",
    )  # fmt: skip
    return replace(one, verdict="fail", reason=fit.reason, uncertainty={"rotation_deg": 2.9}, fit=fit)


def test_the_rotation_of_the_images_stands_where_the_deflections_are_only_imprecise() -> None:
    lie, focus = agreed([imprecise(6.05), defocus(7.36)])
    assert (lie.verdict, lie.reason, focus.verdict) == ("pass", "", "pass")
    # Both by their weight: 0.4 degrees against 2.9.
    assert lie.value["rotation_deg"] == pytest.approx((6.05 / 2.9**2 + 7.36 / 0.4**2) / (1 / 2.9**2 + 1 / 0.4**2))
    assert lie.uncertainty == {"rotation_deg": pytest.approx(0.4, rel=0.02)}
    assert lie.value["half_turn_known"] is True
    assert lie.evidence == (1, 2)


def test_imprecise_deflections_that_contradict_the_images_still_do() -> None:
    # Four sigma of 2.95 degrees are 11.8.
    for one in agreed([imprecise(6.05), defocus(19.0)]):
        assert one.verdict == "fail"
        assert "disagree" in one.reason


def test_deflections_that_leave_the_handedness_open_leave_all_to_the_images() -> None:
    lie, _focus = agreed([imprecise(-60.0, mirrored_known=False), defocus(7.36, half_turn_known=True)])
    assert (lie.verdict, lie.value["rotation_deg"], lie.value["half_turn_known"]) == ("pass", 7.36, True)
    both = [imprecise(-60.0, mirrored_known=False), defocus(7.36)]
    assert [one.verdict for one in agreed(both)] == ["fail", "fail"]  # nobody knows the sign


def test_a_rotation_refused_for_another_reason_is_not_mended_by_the_images() -> None:
    sheared = imprecise(6.05)
    sheared = replace(sheared, fit=replace(sheared.fit, imprecise=False, reason="the scan is sheared"))
    assert [one.verdict for one in agreed([sheared, defocus(7.36, half_turn_known=True)])] == ["fail", "pass"]


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [
        ({"rotation_deg": 7.36}, {"rotation_deg": 0.16}, "rotation: 7.36 ± 0.16 deg, pass"),
        ({"rotation_deg": None}, None, "rotation: pass"),
    ],
)
def test_a_line_says_value_error_unit_and_verdict(value: dict, error: dict | None, said: str) -> None:
    assert told(Measured("rotation", "pass", value, error)) == said


def test_every_kind_that_a_gate_can_refuse_says_what_helps() -> None:
    assert set(KINDS) - set(HELP) == {"pixel_mask", "dark_flat", "convergence_semi_angle"}
    assert "`defocus`" in refused("rotation", "known only to 2.9 degrees")


def test_a_counting_detector_has_no_dark_level(plan: Plan) -> None:
    facts = load_model(ROOT / "plans" / "instruments" / "calibration.toml", InstrumentFile).facts
    assert does_not_apply("dark_flat", facts, plan) == "does not apply to a counting detector"
    assert does_not_apply("rotation", facts, plan) == ""
    integrating = facts.detectors[0].model_copy(update={"noise_e_per_px": 0.1})
    assert does_not_apply("dark_flat", facts.model_copy(update={"detectors": (integrating,)}), plan) == ""


def fitted(step_nm: float, residual: float, ok: bool = True) -> StepFit:
    return StepFit(
        step_nm, 0.0, step_nm, 0.0, step_nm, 0.0, 0.0, 0.0, 0.0, 0.0, 12.0, residual, (), {}, ok, "" if ok else "no"
    )


def test_of_the_lattices_of_a_crystal_the_one_that_fits_is_kept_and_two_steps_are_refused() -> None:
    assert _only_one({0.39: fitted(0.04, 0.1, ok=False), 0.28: fitted(0.041, 0.2)})[0] == 0.28
    assert _only_one({0.39: fitted(0.04, 0.1), 0.28: fitted(0.0401, 0.2)})[1].ok
    _period, refused = _only_one({0.39: fitted(0.04, 0.1), 0.28: fitted(0.05, 0.2)})
    assert not refused.ok
    assert "different steps" in refused.reason
    assert not _only_one({0.39: fitted(0.04, 0.1, ok=False)})[1].ok


def test_the_page_of_calibrations_holds_every_kind_as_it_is() -> None:
    assert table() in (ROOT / "docs" / "calibrations.md").read_text(), "put tasks.calibrations.document.table() there"
    assert set(LIMITS) == set(KINDS) - {"pixel_mask", "dark_flat"}
