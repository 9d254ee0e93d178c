"""What must hold for any plan: no rule raises, better never judges worse, and the advice that is given works."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_plans import ANALYSIS_OF, documents, known, span
from rules_world import ANALYSES, calibrations, findings, instrument, plan

from stem4d.detector import RoiRate
from stem4d.instrument import Spot
from stem4d.plan import Plan
from stem4d.rules import apply_change, check
from stem4d.rules.registry import Context, Key, ask_all
from stem4d.verdict import Verdict

RANK = {verdict: rank for rank, verdict in enumerate(Verdict)}
FACTS = instrument(
    brightness_a_per_m2_sr=2e13,
    expected_drift_nm_per_min=1.0,
    write_rate_mb_per_s=200.0,
    aligned_semi_angle_mrad=20.0,
    spots=(
        Spot(name="5", largest_current_pa=20.0, brightness_a_per_m2_sr=2e13),
        Spot(name="3", largest_current_pa=200.0, brightness_a_per_m2_sr=1e13),
    ),
    detector_noise_e_per_px=0.05,
    detector_max_total_count_rate_hz=1e9,
    detector_threshold_kev=50.0,
    detector_roi_rates=(RoiRate(shape=(96, 96), merged=2, max_frame_rate_hz=120e3),),
)
"""An instrument that states everything, so that every rule is asked."""
SLOW_IS_FINE = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])


def verdicts(checked: Plan, *given_: Any) -> dict[Key, Verdict]:
    return {answer.key: answer.judged.verdict for answer in ask_all(Context(checked, *given_))}


def failing(judged: dict[Key, Verdict]) -> set[Key]:
    return {key for key, verdict in judged.items() if verdict is Verdict.FAIL}


def any_check(plain: dict[str, Any], everything: bool, known_values: dict[str, tuple[float, float]]) -> None:
    for number, analysis in enumerate(plain["analyses"]):
        for order, detector in enumerate(analysis.get("detectors", [])):
            detector["name"] = f"d{number}-{order}"  # Two of one name would be refused.
    checked = Plan.model_validate_json(json.dumps(plain))
    given_ = (FACTS, calibrations(**known_values), 10**11) if everything else ()
    result, before = check(checked, *given_), verdicts(checked, *given_)
    assert result.verdict is max((each.verdict for each in result.findings), key=RANK.__getitem__)
    for finding in result.findings:
        assert finding.message
        if finding.verdict in (Verdict.WARN, Verdict.FAIL) and finding.margin is not None:
            assert finding.margin < 0
        if finding.change is not None:
            # The advice works: applied, the same rule judges better, and nothing fails that did not fail before.
            after = verdicts(apply_change(checked, finding.change), *given_)
            key = (finding.rule, finding.analysis, finding.quantity)
            assert RANK[after.get(key, Verdict.PASS)] < RANK[finding.verdict]
            assert failing(after) <= failing(before)


@SLOW_IS_FINE
@given(documents, st.booleans(), known)
def test_any_valid_plan_is_judged(
    plain: dict[str, Any], everything: bool, known_values: dict[str, tuple[float, float]]
) -> None:
    any_check(plain, everything, known_values)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(deadline=None, max_examples=10_000, suppress_health_check=[HealthCheck.too_slow])
@given(documents, st.booleans(), known)
def test_ten_thousand_valid_plans_are_judged(
    plain: dict[str, Any], everything: bool, known_values: dict[str, tuple[float, float]]
) -> None:
    any_check(plain, everything, known_values)


MONOTONE = [
    # Plan, rule, path, range, and whether more is better.
    ("case_b", "probe_overlap", "scan.step_nm", (0.1, 50), False),
    ("case_b", "probe_overlap", "optics.defocus_nm", (1, 5000), True),
    ("ptychography", "window", "optics.camera_length_mm", (10, 2000), True),
    ("ptychography", "window", "optics.defocus_nm", (1, 500), False),
    ("ptychography", "recorded_angle", "optics.camera_length_mm", (10, 2000), False),
    ("ptychography", "recorded_angle", "analyses.0.target_d_a", (0.1, 10), True),
    ("case_a", "recorded_angle", "detector.pattern_offset_px.0", (0.1, 200), False),
    ("com_dpc", "pattern_centred", "detector.pattern_offset_px.1", (0.1, 200), False),
    ("com_dpc", "disk_on_detector", "optics.camera_length_mm", (10, 2000), False),
    ("com_dpc", "com_noise", "optics.probe_current_pa", (0.01, 1000), True),
    ("com_dpc", "counter_full_scale", "optics.probe_current_pa", (1, 1e6), False),
    ("com_dpc", "counter_full_scale", "detector.bit_depth", (1, 32), True),
    ("case_b", "fluence_budget", "exposure.dwell_time_us", (0.1, 1e4), False),
    ("case_b", "fluence_budget", "sample.fluence_budget_e_per_a2", (0.1, 1e4), True),
    ("case_b", "optimum_exposure", "optics.probe_current_pa", (0.1, 1000), False),
    ("case_b", "dose_limited_period", "sample.imaging.repeats", (1, 1e6), True),
    ("strain", "strain_noise", "exposure.dwell_time_us", (0.1, 1e5), True),
    ("strain", "disks_apart", "optics.convergence_semi_angle_mrad", (0.1, 50), False),
    ("tcbf", "aperture_resolution", "optics.convergence_semi_angle_mrad", (0.1, 50), True),
    ("tcbf", "defocus_blur", "optics.defocus_nm", (1, 1e5), False),
    ("virtual_bf_df", "depth_of_field", "sample.thickness_nm", (0.1, 1000), False),
    ("case_a", "areal_oversampling", "scan.step_nm", (0.01, 1), False),
    ("case_a", "ronchigram_magnification", "optics.defocus_nm", (1, 500), False),
    ("case_a", "defocus_unit", "optics.defocus_nm", (1, 1e5), False),
    ("ptychography", "single_slice", "sample.thickness_nm", (0.1, 1000), False),
    ("virtual_bf_df", "highest_angle", "optics.camera_length_mm", (10, 2000), False),
    ("case_b", "scan_time", "exposure.dwell_time_us", (0.1, 1e5), False),
    ("case_b", "scan_time", "exposure.time_available_min", (1e-4, 10), True),
    ("case_b", "current_unit", "optics.probe_current_pa", (1, 1e6), False),
    ("case_b", "step_unit", "scan.step_nm", (0.1, 1e4), False),
    ("case_b", "frame_rate", "exposure.dwell_time_us", (1, 1000), True),
    ("case_b", "total_rate", "optics.probe_current_pa", (0.1, 1000), False),
    ("case_b", "noise_floor", "optics.probe_current_pa", (0.1, 1000), True),
    ("case_b", "spot", "optics.probe_current_pa", (0.1, 1000), False),
    ("virtual_bf_df", "drift_of_field", "exposure.dwell_time_us", (1, 1e6), False),
    ("virtual_bf_df", "write_rate", "exposure.dwell_time_us", (1, 1e4), True),
    ("strain", "bragg_count_rate", "optics.probe_current_pa", (0.1, 1e4), False),
    ("strain", "threshold", "optics.beam_energy_kev", (30, 300), True),
]


@pytest.mark.parametrize(("name", "rule", "path", "between", "more_is_better"), MONOTONE)
@settings(deadline=None, max_examples=10)
@given(data=st.data())
def test_better_is_never_judged_worse(
    data: st.DataObject, name: str, rule: str, path: str, between: tuple[float, float], more_is_better: bool
) -> None:
    values = st.integers(*between) if path.endswith("bit_depth") else span(*between)
    low, high = sorted((data.draw(values), data.draw(values)))
    worse, better = (low, high) if more_is_better else (high, low)
    start: dict[str, Any] = {"detector.pattern_offset_px": [0.0, 0.0]}
    start |= {"analyses.0.highest_angle_mrad": 70.0} if rule == "highest_angle" else {}
    start |= {"exposure.time_available_min": 0.1} if rule == "scan_time" else {}
    plans = (plan(name, start | {path: value}) for value in (worse, better))
    judged = [findings(each, rule, instrument=FACTS)[0].verdict for each in plans]
    assert RANK[judged[1]] <= RANK[judged[0]]


@pytest.mark.parametrize("name", ANALYSES)
def test_random_plans_use_every_field_of_an_analysis(name: str) -> None:
    shipped = plan(name).analyses[0]
    assert {"kind", *ANALYSIS_OF[shipped.kind]} == set(type(shipped).model_fields)
