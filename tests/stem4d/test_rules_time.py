"""Rules on time, room, what was spent, and which calibrations there are, at their limits; what nobody knows says so."""

from typing import Any

import pytest
from rules_world import FAIL, PASS, UNKNOWN, WARN, Rows, calibrations, findings, found, instrument, plan

from stem4d.detector import RoiRate
from stem4d.rules import check
from stem4d.verdict import Verdict

KNOWN = calibrations(centre=(0, 0), mrad_per_pixel=(0.25, 1e-4), rotation=(0, 0), descan=(0, 0), scan_step=(1.5, 0))

# 128 rows of 128 x 33.3 µs are 0.54559 s, 9.0931e-3 min; 192² px of 2 bytes for 512² frames are 19 327 352 832 bytes,
# and 2 GB are kept free.
AT_THE_LIMIT: Rows = [
    ("case_b", "scan_time", {"exposure.time_available_min": 0.009094}, {}, PASS),
    ("case_b", "scan_time", {"exposure.time_available_min": 0.009092}, {}, FAIL),
    # Two passes and a pause of a minute: 61.091 s, 1.018186 min.
    (
        "case_b",
        "scan_time",
        {"exposure.passes": 2, "exposure.pause_between_passes_s": 60.0, "exposure.time_available_min": 1.0182},
        {},
        PASS,
    ),
    (
        "case_b",
        "scan_time",
        {"exposure.passes": 2, "exposure.pause_between_passes_s": 60.0, "exposure.time_available_min": 1.0181},
        {},
        FAIL,
    ),
    ("virtual_bf_df", "disk_space", {}, {"free_bytes": 21_327_352_832}, PASS),
    ("virtual_bf_df", "disk_space", {}, {"free_bytes": 21_327_352_000}, FAIL),
    ("virtual_bf_df", "disk_space", {}, {"free_bytes": 0}, FAIL),
    # 30.137 of 30 e/Å² with 1 % allowed: 30.3, so 0.163 may be spent.
    ("case_b", "fluence_budget", {"sample.fluence_budget_e_per_a2": 30}, {"spent_e_per_a2": 0.162}, PASS),
    ("case_b", "fluence_budget", {"sample.fluence_budget_e_per_a2": 30}, {"spent_e_per_a2": 0.164}, FAIL),
    # 0.5 e/Å² a pass at 0.96227 pA.
    ("case_b", "pass_fluence", {"exposure.passes": 2, "optics.probe_current_pa": 0.963}, {}, PASS),
    ("case_b", "pass_fluence", {"exposure.passes": 2, "optics.probe_current_pa": 0.962}, {}, WARN),
    # 96 x 100/124 = 77.419 mrad, 2 % allowed: 78.968 mrad.
    ("virtual_bf_df", "highest_angle", {"analyses.0.highest_angle_mrad": 78.96}, {}, PASS),
    ("virtual_bf_df", "highest_angle", {"analyses.0.highest_angle_mrad": 78.98}, {}, FAIL),
    ("strain", "calibrations_present", {}, {"calibrations": KNOWN}, PASS),
    (
        "strain",
        "calibrations_present",
        {},
        {"calibrations": {kind: value for kind, value in KNOWN.items() if kind != "descan"}},
        UNKNOWN,
    ),
    ("strain", "calibrations_present", {"analyses.0.reference": "absolute"}, {"calibrations": KNOWN}, UNKNOWN),
    # 484 548 electrons a second at the crest of a pixel.
    (
        "virtual_bf_df",
        "damage_rate",
        {},
        {"instrument": instrument(detector_damage_count_rate_per_px_hz=484_600.0)},
        PASS,
    ),
    (
        "virtual_bf_df",
        "damage_rate",
        {},
        {"instrument": instrument(detector_damage_count_rate_per_px_hz=484_500.0)},
        FAIL,
    ),
    # A field of 128 x 2 nm.
    ("case_b", "field_of_view", {"scan.shape": [128, 1], "scan.required_field_nm": [256.0, 2.0]}, {}, PASS),
    ("case_b", "field_of_view", {"scan.shape": [128, 1], "scan.required_field_nm": [256.1, 2.0]}, {}, FAIL),
    # Residual descan: tilts of 0.08 mrad and 1000 nm shift by 0.8 Å a pixel, half of 6 Å are 3.75 px; a stated limit.
    ("tcbf", "descan_residual", {}, {"calibrations": calibrations(descan=(3.75, 0.0))}, PASS),
    ("tcbf", "descan_residual", {}, {"calibrations": calibrations(descan=(3.76, 0.0))}, WARN),
    (
        "tcbf",
        "descan_residual",
        {"quality": {"max_descan_px": 0.7}},
        {"calibrations": calibrations(descan=(0.7, 0.0))},
        PASS,
    ),
    (
        "tcbf",
        "descan_residual",
        {"quality": {"max_descan_px": 0.7}},
        {"calibrations": calibrations(descan=(0.71, 0.0))},
        FAIL,
    ),
    # A mask that ends at the disk's edge of 24.8 px bears a twentieth of it to either side.
    (
        "virtual_bf_df",
        "descan_residual",
        {"analyses.0.detectors": [{"name": "bf", "inner_mrad": 0, "outer_mrad": 20}]},
        {"calibrations": calibrations(descan=(2.48, 0.0))},
        PASS,
    ),
    (
        "virtual_bf_df",
        "descan_residual",
        {"analyses.0.detectors": [{"name": "bf", "inner_mrad": 0, "outer_mrad": 20}]},
        {"calibrations": calibrations(descan=(2.49, 0.0))},
        WARN,
    ),
]


@pytest.mark.parametrize(("name", "rule", "changes", "given", "verdict"), AT_THE_LIMIT)
def test_at_the_limit(name: str, rule: str, changes: dict[str, Any], given: dict[str, Any], verdict: Verdict) -> None:
    assert findings(plan(name, changes), rule, **given)[0].verdict is verdict


def test_time_is_mended_by_the_dwell_that_flyback_leaves() -> None:
    # 16384 positions of 33.3 µs and 128 x 1 ms of flyback: 0.67359 s. 0.6 s leave 0.472 s, 28.8 µs a position.
    late = plan("case_b", {"scan.flyback_us": 1000, "exposure.time_available_min": 0.01})
    seen = found(late, "scan_time")
    assert seen.change is not None
    assert (seen.change.field, seen.change.value) == ("exposure.dwell_time_us", 28.8)


def test_what_was_spent_is_told_and_left_to_another_area() -> None:
    seen = found(plan("case_b"), "fluence_budget", spent_e_per_a2=40.0)
    assert seen.verdict is FAIL
    assert seen.value == pytest.approx(70.137, rel=1e-4)
    assert "40 e/Å² of it were given to this area before" in seen.message
    assert seen.change is None
    # With 15 of 30 e/Å² spent, half of the current is left.
    half = found(plan("case_b"), "fluence_budget", spent_e_per_a2=15.0).change
    assert half is not None
    assert (half.field, half.value) == ("optics.probe_current_pa", pytest.approx(58 * 15 / 30.137, rel=0.01))


def test_an_unknown_drift_is_not_a_pass() -> None:
    unknown = instrument(expected_drift_nm_per_min=None)
    for name, rule in (("virtual_bf_df", "drift_of_field"), ("strain", "drift_of_feature")):
        seen = found(plan(name), rule, instrument=unknown)
        assert seen.verdict is UNKNOWN
        assert "expected_drift_nm_per_min" in seen.remedy
        assert not any(each.verdict is PASS for each in check(plan(name), unknown).findings if "drift" in each.rule)


@pytest.mark.parametrize(
    ("shape", "pitch_um", "dwell_us", "verdict"),
    [
        ([96, 96], 200.0, 8.34, PASS),
        ([96, 96], 200.0, 8.32, FAIL),
        # A corner of the array without merging, and more than the merged array: 30.1 kHz.
        ([96, 96], 100.0, 8.34, FAIL),
        ([192, 192], 100.0, 33.3, PASS),
    ],
)
def test_merged_frames_are_faster(shape: list[int], pitch_um: float, dwell_us: float, verdict: Verdict) -> None:
    rates = (RoiRate(shape=(96, 96), merged=2, max_frame_rate_hz=120e3),)
    changes = {"detector.shape": shape, "detector.pixel_pitch_um": pitch_um, "exposure.dwell_time_us": dwell_us}
    given = {"instrument": instrument(detector_roi_rates=rates)}
    assert found(plan("virtual_bf_df", changes), "frame_rate", **given).verdict is verdict


def test_a_detector_of_the_catalogue_is_held_to_it_without_an_instrument() -> None:
    seen = found(plan("case_a", {"detector.bit_depth": 12, "exposure.dwell_time_us": 10}), "known_detector")
    assert seen.verdict is WARN
    for words in ("counts to 8, 16 bit, not 12 bit", "needs 100000 Hz, and it does 30100 Hz", "unverified"):
        assert words in seen.message
