"""The two cases of the article, their variants, the shipped plans, and how advice reads."""

import time
from dataclasses import replace
from typing import Any

import pytest
from rules_world import ANALYSES, FAIL, PASS, WARN, document, found, instrument, plan

from stem4d.model import Range
from stem4d.plan import Plan
from stem4d.rules import LIMITS, PlanCheck, apply_change, check
from stem4d.verdict import Change, Verdict

COM = {"kind": "com", "target_d_a": 1.0}
TCBF = {"kind": "tcbf", "target_d_a": 2.0}
DARK = {"kind": "virtual", "detectors": [{"name": "adf", "inner_mrad": 35, "outer_mrad": 50}]}
PTYCHOGRAPHY: dict[str, Any] = document("case_a")["analyses"][0]


def soft(result: PlanCheck) -> set[str]:
    return {each.rule for each in result.soft}


def test_case_a() -> None:
    result = check(plan("case_a"))
    assert result.hard == ()
    assert soft(result) == {"depth_of_field"}
    depth = found(plan("case_a"), "depth_of_field")
    assert (depth.value, depth.limit) == (pytest.approx(25.8, abs=0.05), 100.0)
    figures = result.prediction
    assert figures.max_angle_mrad == pytest.approx(50.9, abs=0.05)
    assert figures.half_period_limit_a == pytest.approx(0.19, abs=0.005)
    assert 100 * figures.linear_overlap == pytest.approx(97, abs=0.5)
    assert 100 * figures.area_overlap == pytest.approx(96.2, abs=0.05)
    assert figures.window_over_probe == pytest.approx(3.4, abs=0.05)
    # 1545 x 818 frames of 192² px and 2 bytes; 42 s at 30 kHz.
    assert figures.frames == 1_263_810
    assert figures.raw_bytes == pytest.approx(93.2e9, rel=1e-3)
    assert figures.total_time_s == pytest.approx(42.1, abs=0.05)
    assert figures.electrons_per_pattern == pytest.approx(6235, abs=1)


def test_case_b() -> None:
    result = check(plan("case_b"))
    assert result.hard == ()
    assert soft(result) == {"fluence_class", "optimum_exposure"}
    figures = result.prediction
    assert figures.max_angle_mrad == pytest.approx(6.5, abs=0.005)
    assert figures.half_period_limit_a == pytest.approx(1.51, abs=0.005)
    assert 100 * figures.linear_overlap == pytest.approx(83, abs=0.5)
    assert 100 * figures.area_overlap == pytest.approx(78.9, abs=0.05)
    assert figures.window_over_probe == pytest.approx(2.4, abs=0.05)
    assert figures.depth_of_field_a == pytest.approx(1230, abs=1)
    assert figures.total_fluence_e_per_a2 == pytest.approx(30.1, abs=0.05)
    assert figures.electrons_per_pattern == pytest.approx(12_000, rel=0.01)


def test_case_b_with_half_the_pixels_samples_the_angles_too_coarsely() -> None:
    half = {"detector.shape": [96, 96], "detector.pixel_pitch_um": 200}
    window = found(plan("case_b", half), "window")
    assert window.value == pytest.approx(1.2, abs=0.05)
    assert window.verdict is WARN


def test_case_b_at_one_kilohertz_needs_a_small_current() -> None:
    slow = plan("case_b", {"optics.probe_current_pa": 1.9, "exposure.dwell_time_us": 1000})
    # The article's reference rounds 1.922 pA to 1.9.
    assert check(slow).prediction.total_fluence_e_per_a2 == pytest.approx(30, rel=0.02)


def test_case_b_with_the_defocus_of_case_a_fails_on_overlap() -> None:
    defocused = plan("case_b", {"optics.defocus_nm": 20})
    overlap = found(defocused, "probe_overlap")
    assert overlap.verdict is FAIL
    # D = sqrt(1.6² + 6.0047²) = 6.214 Å against a step of 20 Å.
    assert overlap.value == pytest.approx(100 * (1 - 20 / 6.214), abs=0.1)
    assert overlap.change is not None
    assert overlap.change.field == "optics.defocus_nm"
    # 60 % need D = 50 Å: sqrt(50² - 6.0047²)/(2 x 4 mrad) = 620.5 nm, rounded up.
    assert overlap.change.value == 621.0
    assert "6.21 Å" in overlap.message


@pytest.mark.parametrize("offset", [[36.0, 0.0], [0.0, -36.0], [36.0, 20.0]])
def test_case_a_off_centre_loses_angle_and_resolution(offset: list[float]) -> None:
    off = plan("case_a", {"detector.pattern_offset_px": offset})
    recorded = found(off, "recorded_angle")
    assert recorded.verdict is FAIL
    assert recorded.value == pytest.approx(0.31, abs=0.005)
    assert recorded.limit == 0.2
    assert check(off).prediction.max_angle_mrad == pytest.approx(31.8, abs=0.05)
    for words in ("36 px off the middle", "31.8 of 50.9 mrad", "0.31 Å instead of 0.19 Å"):
        assert words in recorded.message
    assert "Centring the pattern is enough" in recorded.remedy
    assert found(off, "pattern_centred").verdict is FAIL


def test_clipped_disk_is_fatal_for_what_looks_into_it_and_nothing_else() -> None:
    changes = {"analyses": [COM, TCBF, PTYCHOGRAPHY, DARK], "detector.bit_depth": 1}
    clipped = check(plan("case_a", changes))
    verdicts = {each.analysis: each.verdict for each in clipped.findings if each.rule == "counter_full_scale"}
    assert verdicts == {"com": FAIL, "tcbf": FAIL, "ptychography": FAIL}
    assert not any(each.analysis == "virtual" for each in clipped.hard)
    # Mean 0.7324 at 8512.5 px, crest 3: 2.197 + 5 x 1.482 = 9.61 counts; 6 bit hold 63.
    assert found(plan("case_a", {"detector.bit_depth": 1}), "counter_full_scale").value == pytest.approx(9.61, abs=0.01)
    assert found(plan("case_a", {"detector.bit_depth": 6}), "counter_full_scale").verdict is PASS


@pytest.mark.parametrize("name", ANALYSES)
def test_shipped_plan_of_each_analysis_has_nothing_against_it(name: str) -> None:
    result = check(plan(name))
    assert result.hard == ()
    assert result.soft == ()


def test_one_shipped_plan_for_each_analysis() -> None:
    kinds = {plan(name).analyses[0].kind for name in ANALYSES}
    assert kinds == {"virtual", "com", "strain", "orientation", "tcbf", "ptychography"}


def test_result_survives_json() -> None:
    result = check(plan("case_b", {"optics.defocus_nm": 20}))
    assert PlanCheck.model_validate_json(result.model_dump_json()) == result


def test_advice_says_what_it_costs() -> None:
    # A coarse step: the remedy keeps the field with more positions, and says what time and data that takes.
    coarse = plan("com_dpc", {"scan.step_nm": 0.1, "scan.shape": [50, 50]})
    step = found(coarse, "scan_step")
    assert step.change is not None
    assert step.change.value == 0.08
    assert "63 x 63 positions" in step.remedy
    assert "scan time" in step.remedy
    assert "data" in step.remedy


def test_colliding_requirements_are_named_instead_of_a_change() -> None:
    # Twice the noise: the dwell that would mend it breaks the budget.
    poor = plan("com_dpc", {"analyses.0.smallest_deflection_mrad": 0.065, "sample.fluence_budget_e_per_a2": 2.4e5})
    noise = found(poor, "com_noise")
    assert noise.change is None
    assert "fails on: fluence of all passes" in noise.remedy


def test_remedies_that_pull_apart_say_so() -> None:
    # One bit holds too few counts and the noise asks for more of them: what mends one deepens the other.
    com = {"kind": "com", "target_d_a": 1.6, "smallest_deflection_mrad": 0.05}
    torn = plan("com_dpc", {"detector.bit_depth": 1, "analyses": [com], "sample.fluence_budget_e_per_a2": 1e9})
    assert "It conflicts with another finding, which it makes worse: counts at the disk's crest" in (
        found(torn, "com_noise").remedy
    )
    assert "shot noise of the centre of mass" in found(torn, "counter_full_scale").remedy
    # Both findings of case B in focus want more defocus: no conflict.
    together = check(plan("case_b", {"optics.defocus_nm": 20}))
    assert not any("conflicts" in each.remedy for each in together.hard)


def test_remedies_that_set_one_thing_both_ways_say_so() -> None:
    # Few electrons want a longer dwell, since no more current is to be had; the drift wants a shorter one.
    facts = instrument(
        probe_current_pa=Range(lowest=0.1, highest=0.41),
        expected_drift_nm_per_min=200.0,
        detector_max_frame_rate_hz=1e6,
    )
    result = check(plan("ptychography", {"optics.probe_current_pa": 0.4}), facts)
    remedies = {each.rule: each.remedy for each in result.soft}
    assert "conflicts with what mends drift during a pass" in remedies["electrons_per_pattern"]
    assert "takes exposure.dwell_time_us the other way" in remedies["electrons_per_pattern"]
    assert "conflicts with what mends electrons per pattern" in remedies["drift_of_field"]


def test_the_same_electrons_are_had_two_ways_and_each_costs_something_else() -> None:
    # 83 electrons: by current it costs rate and source size, by dwell time and drift.
    facts = instrument(brightness_a_per_m2_sr=2e13, expected_drift_nm_per_min=1.0)
    remedy = found(
        plan("ptychography", {"optics.probe_current_pa": 0.4}), "electrons_per_pattern", instrument=facts
    ).remedy
    first, _, second = remedy.partition("The same electrons the other way:")
    by_dwell, by_current = sorted((first, second), key=lambda text: "probe_current_pa" in text)
    assert "scan time" in by_dwell
    assert "drift during a pass" in by_dwell
    assert "rate in a disk pixel" in by_current
    assert "source size" in by_current


@pytest.mark.parametrize(
    ("name", "spacing_a", "alpha_mrad", "recorded", "apart"),
    [
        # Au 111 lies at 8.4 mrad: inside A's disk of 27.6 mrad, outside B's 6.5 mrad; apart below 4.2 mrad.
        ("case_a", 2.355, 27.6, PASS, WARN),
        ("case_a", 2.355, 4.17, PASS, PASS),
        ("case_a", 2.355, 4.19, PASS, WARN),
        ("case_b", 2.355, 4.0, FAIL, PASS),
        # SrTiO3 100 lies at 5.04 mrad: apart below 2.5 mrad.
        ("case_a", 3.905, 2.52, PASS, PASS),
        ("case_a", 3.905, 2.53, PASS, WARN),
    ],
)
def test_where_standards_do_not_reach(
    name: str, spacing_a: float, alpha_mrad: float, recorded: Verdict, apart: Verdict
) -> None:
    standard = {"kind": "strain", "reflection_d_a": spacing_a, "target_strain": 0.01, "smallest_feature_nm": 20.0}
    checked = plan(name, {"analyses": [standard], "optics.convergence_semi_angle_mrad": alpha_mrad})
    assert found(checked, "reflections_recorded").verdict is recorded
    assert found(checked, "disks_apart").verdict is apart


def test_limits_can_be_changed_by_the_caller() -> None:
    stricter = dict(LIMITS) | {"probe_overlap": replace(LIMITS["probe_overlap"], soft=90)}
    assert found(plan("case_b"), "probe_overlap", limits=stricter).verdict is WARN


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (Change(field="scan.step_nm", value=1.0), {"scan.step_nm": 1.0, "scan.shape": [256, 256]}),
        (Change(field="scan.shape[1]", value=64.0), {"scan.shape": [128, 64]}),
        (Change(field="optics.defocus_nm", value=-10.0), {"optics.defocus_nm": -10.0}),
        (Change(field="detector.bit_depth", value=12.0), {"detector.bit_depth": 12}),
        (Change(field="optics.camera_length_mm", value=2954.0), {"optics.camera_length_mm": 2954.0}),
    ],
)
def test_apply_change(change: Change, expected: dict[str, Any]) -> None:
    assert apply_change(plan("case_b"), change) == plan("case_b", expected)


def test_apply_change_takes_along_what_hangs_on_it() -> None:
    start: dict[str, Any] = {"detector.mrad_per_pixel": 0.08, "exposure.exposure_time_us": 33.0}
    longer: Plan = apply_change(plan("case_b", start), Change(field="optics.camera_length_mm", value=2954.0))
    assert longer.mrad_per_pixel == pytest.approx(0.04)
    slower = apply_change(plan("case_b", start), Change(field="exposure.dwell_time_us", value=66.6))
    # The dead time of 0.3 µs stays.
    assert slower.exposure.live_time_us == pytest.approx(66.3)


def test_check_is_quick() -> None:
    # A plan with much to mend takes longest. The best of five: the machine may be busy with others.
    worst = plan("case_b", {"optics.defocus_nm": 20, "detector.pattern_offset_px": [30, 0], "detector.bit_depth": 1})
    times = []
    for _ in range(5):
        start = time.process_time()
        check(worst)
        times.append(time.process_time() - start)
    assert min(times) < 0.05
