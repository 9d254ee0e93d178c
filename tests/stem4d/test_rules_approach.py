"""What a plan says of the way to its target, against the instrument: limits with field, figure and unit."""

from typing import Any

import pytest
from pydantic import ValidationError
from rules_world import FAIL, PASS, document, findings, plan

from stem4d.instrument import InstrumentFacts, StageFacts
from stem4d.model import Range
from stem4d.plan import Plan
from stem4d.rules import check

STAGE = StageFacts(
    x_um=Range(lowest=-900, highest=900),
    y_um=Range(lowest=-800, highest=800),
    z_um=Range(lowest=-300, highest=300),
    alpha_deg=Range(lowest=-60, highest=60),
    backlash_um=2.0,
)


def facts(**changes: Any) -> InstrumentFacts:
    """An instrument that can do all of it, with changes."""
    known = {
        "beam_energies_kev": [300.0],
        "apertures": [{"name": "C2", "convergence_semi_angle_mrad": 27.6}],
        "camera_lengths_mm": [188.6],
        "defocus_nm": {"lowest": -5000.0, "highest": 5000.0},
        "probe_current_pa": {"lowest": 0.1, "highest": 500.0},
        "dwell_time_us": {"lowest": 1.0, "highest": 1e6},
        "max_field_nm": 2000.0,
        "catalogue_detectors": ["arina"],
        "stage": STAGE.model_dump(),
        "beam_shift_nm": {"lowest": -3000.0, "highest": 2000.0},
        "stigmator_nm": {"lowest": -200.0, "highest": 200.0},
        **changes,
    }
    return InstrumentFacts.model_validate(known, strict=False)


def approached(**approach: Any) -> Plan:
    """Case A with an approach."""
    return plan("case_a", {"approach": approach})


POSE = {"x_um": 12.0, "y_um": -30.0}
FOCUS = {"name": "beside", "offset_nm": [0.0, 400.0], "fluence_budget_e_per_a2": 1e6}


@pytest.mark.parametrize(
    ("rule", "axis", "value", "verdict", "told"),
    [
        ("stage_pose", "x_um", 900.0, PASS, "900 um"),
        ("stage_pose", "x_um", 900.5, FAIL, "900 um"),
        # Two micrometres are kept free below, for removing the backlash.
        ("stage_pose", "y_um", -798.0, PASS, "-798 um"),
        ("stage_pose", "y_um", -799.0, FAIL, "-798 um"),
        ("stage_pose", "z_um", -300.0, PASS, ""),
        ("stage_pose", "z_um", -301.0, FAIL, "-300 um"),
        ("stage_tilt", "alpha_deg", 61.0, FAIL, "60 deg"),
        ("stage_tilt", "beta_deg", 0.0, PASS, ""),
        ("stage_tilt", "beta_deg", 5.0, FAIL, "without it"),
    ],
)
def test_a_pose_out_of_reach_is_refused(rule: str, axis: str, value: float, verdict: Any, told: str) -> None:
    found = findings(approached(pose={**POSE, axis: value}), rule, instrument=facts())
    (one,) = (each for each in found if f"pose.{axis}" in each.quantity)
    assert one.verdict is verdict
    assert one.value == value
    assert told in one.message
    if verdict is FAIL:
        assert f"approach.pose.{axis}" in one.message.lower()
        assert one.remedy


@pytest.mark.parametrize(
    ("rule", "asked"), [("stage_pose", {"pose": POSE}), ("eucentric_tilt", {"eucentric_tilt_deg": 5.0})]
)
def test_a_pose_needs_a_stage_that_is_stated(rule: str, asked: dict[str, Any]) -> None:
    found = findings(approached(**asked), rule, instrument=facts(stage=None))
    assert [one.verdict for one in found] == [FAIL]
    assert "facts.stage" in found[0].remedy


@pytest.mark.parametrize(
    ("rule", "alpha_deg", "verdict"),
    [("eucentric_tilt", 0.0, PASS), ("eucentric_tilt", 50.0, PASS), ("eucentric_tilt", 50.5, FAIL)],
)
def test_the_tilt_for_the_height_is_within_reach(rule: str, alpha_deg: float, verdict: Any) -> None:
    asked = approached(pose={**POSE, "alpha_deg": alpha_deg}, eucentric_tilt_deg=10.0)
    (one,) = findings(asked, rule, instrument=facts())
    assert one.verdict is verdict
    assert one.value == alpha_deg + 10.0
    assert "60 deg" in one.message


@pytest.mark.parametrize(
    ("rule", "offset", "verdict"),
    [
        # Case A scans 51 x 27 nm with a probe of 11.0 Å: 103.1 nm at least.
        ("focus_area_apart", (0.0, 103.0), FAIL),
        ("focus_area_apart", (0.0, 104.0), PASS),
        ("focus_area_apart", (80.0, -80.0), PASS),
        # The coils go farther one way than the other: what they do both ways counts.
        ("focus_area_reach", (0.0, 1999.0), PASS),
        ("focus_area_reach", (-2001.0, 0.0), FAIL),
    ],
)
def test_a_focus_area_is_within_reach_and_leaves_the_target_alone(
    rule: str, offset: tuple[float, float], verdict: Any
) -> None:
    (found,) = findings(approached(focus_area={**FOCUS, "offset_nm": list(offset)}), rule, instrument=facts())
    assert found.verdict is verdict
    assert found.unit == "nm"
    assert bool(found.remedy) == (verdict is FAIL)


@pytest.mark.parametrize(
    ("rule", "missing", "verdict"),
    [
        ("focus_area_reach", "beam_shift_nm", FAIL),
        ("stigmator", "stigmator_nm", FAIL),
        ("stigmator", "stage", PASS),
    ],
)
def test_focusing_needs_coils_that_are_stated(rule: str, missing: str, verdict: Any) -> None:
    (found,) = findings(approached(focus_area=FOCUS), rule, instrument=facts(**{missing: None}))
    assert found.verdict is verdict
    assert (f"facts.{missing}" in found.remedy) == (verdict is FAIL)


@pytest.mark.parametrize(
    ("rule", "name", "verdict"),
    [
        ("vacuum_position", "hole-2", PASS),
        ("vacuum_position", "vacuum", PASS),
        ("vacuum_position", "hole-3", FAIL),
    ],
)
def test_a_vacuum_position_has_to_be_stored(rule: str, name: str, verdict: Any) -> None:
    (found,) = findings(approached(vacuum_area=name), rule, instrument=facts(areas=["hole-2", "lamella-1"]))
    assert found.verdict is verdict


@pytest.mark.parametrize(
    ("rule", "share", "verdict"), [("focus_area_budget", 0.99, FAIL), ("focus_area_budget", 1.01, PASS)]
)
def test_a_focus_area_bears_the_scans_that_are_made_there(rule: str, share: float, verdict: Any) -> None:
    one = approached(focus_area=FOCUS)
    # 27.6 mrad at 300 kV: λ/α is 0.0713 nm, so the near scan's step 0.0357 nm; the depth of field is 2.58 nm, and the
    # far scan's step 8 of them times 27.6e-3 over 4.
    survey = 4 * 2e3 / (10 * one.scan.step_nm) ** 2
    focus = 1e4 / 0.357**2 + 1e4 / (10 * 8 * 2.58 * 27.6e-3 / 4) ** 2
    changed = {**FOCUS, "fluence_budget_e_per_a2": share * (survey + focus)}
    (found,) = findings(approached(focus_area=changed), rule, instrument=facts())
    assert found.verdict is verdict
    assert found.limit == pytest.approx(survey + focus, rel=0.01)


def test_a_plan_without_an_approach_is_asked_nothing_of_it() -> None:
    ours = {"stage_pose", "stage_tilt", "focus_area_reach", "focus_area_apart", "stigmator", "vacuum_position"}
    ours.add("focus_area_budget")
    assert not ours & {one.rule for one in check(plan("case_a"), instrument=facts()).findings}


def test_the_focus_area_is_no_area_that_is_exposed() -> None:
    area = document("case_a")["sample"]["area"]
    with pytest.raises(ValidationError, match=r"focus_area\.name must not be"):
        approached(focus_area={**FOCUS, "name": area})


def test_an_empty_approach_is_refused() -> None:
    with pytest.raises(ValidationError, match="needs a pose"):
        approached()
