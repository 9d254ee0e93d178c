"""Rules 5, 17 and 19 to 23: what the instrument has and what its calibrations allow."""

from typing import Any

import pytest
from rules_world import ANALYSES, FAIL, PASS, UNKNOWN, WARN, calibrations, findings, found, instrument, plan

from stem4d.model import Range
from stem4d.rules import check
from stem4d.verdict import Verdict


@pytest.mark.parametrize("name", [*ANALYSES, "case_a", "case_b"])
def test_every_shipped_plan_fits_the_instrument(name: str) -> None:
    failed = [
        each for each in check(plan(name), instrument()).findings if each.rule in RULE_19 and each.verdict is FAIL
    ]
    assert failed == []


RULE_19 = {
    "beam_energy",
    "aperture",
    "camera_length",
    "detector",
    "frame_rate",
    "dead_time",
    "column_range",
    "scan_range",
}


@pytest.mark.parametrize(
    ("rule", "path", "value", "verdict"),
    [
        # 0.1 % of 200 kV.
        ("beam_energy", "optics.beam_energy_kev", 200.2, PASS),
        ("beam_energy", "optics.beam_energy_kev", 200.3, FAIL),
        # 2 % of 20 mrad.
        ("aperture", "optics.convergence_semi_angle_mrad", 20.4, PASS),
        ("aperture", "optics.convergence_semi_angle_mrad", 19.59, FAIL),
        # 1 % of 124 mm.
        ("camera_length", "optics.camera_length_mm", 125.24, PASS),
        ("camera_length", "optics.camera_length_mm", 125.25, FAIL),
        # 30 100 frames a second.
        ("frame_rate", "exposure.dwell_time_us", 33.23, PASS),
        ("frame_rate", "exposure.dwell_time_us", 33.22, FAIL),
        # 0.1 µs of 33.3 µs are dead.
        ("dead_time", "exposure.exposure_time_us", 33.2, PASS),
        ("dead_time", "exposure.exposure_time_us", 33.21, FAIL),
        ("detector", "detector.bit_depth", 12, PASS),
        ("detector", "detector.bit_depth", 8, FAIL),
        ("detector", "detector.shape", [96, 192], PASS),
        ("detector", "detector.shape", [96, 193], FAIL),
        ("detector", "detector.pixel_pitch_um", 100.9, PASS),
        ("detector", "detector.pixel_pitch_um", 101.1, FAIL),
        ("detector", "detector.pixel_pitch_um", 150, FAIL),
        ("detector", "detector.pixel_pitch_um", 50, FAIL),
        # Binned by 2, the array has 96 pixels left.
        ("detector", "detector.pixel_pitch_um", 200, FAIL),
        ("detector", "detector.name", "arnia", FAIL),
        ("defocus_range", "optics.defocus_nm", -4000.0, PASS),
        ("defocus_range", "optics.defocus_nm", -4001.0, FAIL),
        ("defocus_range", "optics.defocus_nm", 4001.0, FAIL),
        ("current_range", "optics.probe_current_pa", 0.1, PASS),
        ("current_range", "optics.probe_current_pa", 0.099, FAIL),
        ("current_range", "optics.probe_current_pa", 1001.0, FAIL),
        ("dwell_range", "exposure.dwell_time_us", 1e5, PASS),
        ("dwell_range", "exposure.dwell_time_us", 100_001.0, FAIL),
        ("dwell_range", "exposure.dwell_time_us", 9.9, FAIL),
        # 512 positions over 5000 nm.
        ("scan_range", "scan.step_nm", 9.765, PASS),
        ("scan_range", "scan.step_nm", 9.766, FAIL),
    ],
)
def test_settings_exist(rule: str, path: str, value: Any, verdict: Verdict) -> None:
    assert found(plan("virtual_bf_df", {path: value}), rule, instrument=instrument()).verdict is verdict


def test_binned_detector_is_known() -> None:
    binned = plan("virtual_bf_df", {"detector.pixel_pitch_um": 200, "detector.shape": [96, 96]})
    assert found(binned, "detector", instrument=instrument()).verdict is PASS


def test_unknown_detector_offers_the_close_name_and_stops_there() -> None:
    result = check(plan("virtual_bf_df", {"detector.name": "Arina"}), instrument())
    message = next(each.message for each in result.findings if each.rule == "detector")
    assert "There is no detector Arina; the instrument has arina" in message
    assert not {"frame_rate", "count_rate", "damage_rate"} & {each.rule for each in result.findings}


def test_nearest_setting_is_offered_and_an_aperture_takes_a_person() -> None:
    length = found(plan("virtual_bf_df", {"optics.camera_length_mm": 122}), "camera_length", instrument=instrument())
    assert length.change is not None
    assert (length.change.value, length.change.needs_person) == (124.0, False)
    assert "centre, mrad_per_pixel, ellipticity, rotation, descan" in length.remedy
    alpha = found(
        plan("virtual_bf_df", {"optics.convergence_semi_angle_mrad": 19}), "aperture", instrument=instrument()
    )
    assert alpha.change is not None
    assert (alpha.change.value, alpha.change.needs_person) == (20.0, True)
    assert "person" in alpha.remedy


def test_changes_stay_within_what_the_instrument_has() -> None:
    # Too long a camera length for 75 mrad: of those listed, 111 mm is the longest that is short enough.
    wide = plan("virtual_bf_df", {"optics.camera_length_mm": 188.6, "analyses.0.detectors.2.outer_mrad": 80})
    (outer,) = [each for each in findings(wide, "collection_angle", instrument=instrument()) if each.verdict is FAIL]
    assert outer.change is not None
    assert outer.change.value == 111.0
    none_shorter = instrument(camera_lengths_mm=(188.6, 400.0))
    (stuck,) = [each for each in findings(wide, "collection_angle", instrument=none_shorter) if each.verdict is FAIL]
    assert stuck.change is None


def test_deeper_counter_is_offered_where_there_is_one() -> None:
    shallow = plan("case_a", {"detector.bit_depth": 1})
    change = found(shallow, "counter_full_scale", instrument=instrument()).change
    assert change is not None
    # 9.61 counts: 6 bit hold 63.
    assert (change.field, change.value) == ("detector.bit_depth", 6.0)


def test_empty_range_of_lists_is_a_finding_not_a_crash() -> None:
    bare = instrument(apertures=(), defocus_nm=Range(lowest=0, highest=0))
    assert found(plan("case_b"), "aperture", instrument=bare).verdict is FAIL


@pytest.mark.parametrize(
    ("name", "rule", "known", "verdict"),
    [
        # 2 % in general, 1 % and 2 % for ptychography.
        ("com_dpc", "angle_scale", {"mrad_per_pixel": (0.4, 0.008)}, PASS),
        ("com_dpc", "angle_scale", {"mrad_per_pixel": (0.4, 0.00801)}, WARN),
        ("ptychography", "angle_scale", {"mrad_per_pixel": (0.9, 0.009)}, PASS),
        ("ptychography", "angle_scale", {"mrad_per_pixel": (0.9, 0.0181)}, FAIL),
        # 2 % of strain known to 5 % is 1e-3.
        ("strain", "strain_scale", {"mrad_per_pixel": (0.25, 0.0125)}, PASS),
        ("strain", "strain_scale", {"mrad_per_pixel": (0.25, 0.0126)}, WARN),
        ("com_dpc", "step_scale", {"scan_step": (0.02, 0.0004)}, PASS),
        ("com_dpc", "step_scale", {"scan_step": (0.02, 0.000401)}, WARN),
        # Ptychography with affine refinement: 1 % and 5 %.
        ("ptychography", "step_scale", {"scan_step": (0.2, 0.002)}, PASS),
        ("ptychography", "step_scale", {"scan_step": (0.2, 0.01)}, WARN),
        ("ptychography", "step_scale", {"scan_step": (0.2, 0.0101)}, FAIL),
        # Without it: 1 % and 2 %.
        ("case_a", "step_scale", {"scan_step": (0.033, 0.00033)}, PASS),
        ("case_a", "step_scale", {"scan_step": (0.033, 0.00066)}, WARN),
        ("case_a", "step_scale", {"scan_step": (0.033, 0.00067)}, FAIL),
        # Aligned for another aperture, by 2 %.
        ("com_dpc", "realignment", {"convergence_semi_angle": (24.6, 0.1)}, PASS),
        ("com_dpc", "realignment", {"convergence_semi_angle": (20.0, 0.1)}, FAIL),
        # 0.3 x 0.3 mrad/0.4 mrad = 0.225 px.
        ("com_dpc", "descan_residual", {"descan": (0.225, 0.01)}, PASS),
        ("com_dpc", "descan_residual", {"descan": (0.226, 0.01)}, WARN),
        # Half of 8 px.
        ("strain", "descan_residual", {"descan": (4.0, 0.1)}, PASS),
        ("strain", "descan_residual", {"descan": (4.01, 0.1)}, WARN),
        ("ptychography", "descan_residual", {"descan": (0.5, 0.1)}, PASS),
        ("ptychography", "descan_residual", {"descan": (0.51, 0.1)}, WARN),
        # 20 % of 40 nm are less than the depth of field of 9.118 nm.
        ("ptychography", "defocus_known", {"defocus": (40, 9.11)}, PASS),
        ("ptychography", "defocus_known", {"defocus": (40, 9.12)}, FAIL),
        # 20 % of 1000 nm.
        ("tcbf", "defocus_known", {"defocus": (1000, 200)}, PASS),
        ("tcbf", "defocus_known", {"defocus": (1000, 201)}, WARN),
    ],
)
def test_calibrations(name: str, rule: str, known: dict[str, tuple[float, float]], verdict: Verdict) -> None:
    assert found(plan(name), rule, calibrations=calibrations(**known)).verdict is verdict


@pytest.mark.parametrize(
    ("uncertainty", "verdict"),
    # 1e-3 in quadrature: sqrt(1e-6 - 36e-8) = 8e-4 of 0.25 mrad is 2e-4.
    [(2.0e-4, PASS), (2.01e-4, FAIL)],
)
def test_absolute_strain_adds_the_ellipse(uncertainty: float, verdict: Verdict) -> None:
    known = calibrations(mrad_per_pixel=(0.25, uncertainty), ellipticity=(0.01, 6e-4))
    absolute = plan("strain", {"analyses.0.reference": "absolute"})
    assert found(absolute, "strain_scale", calibrations=known).verdict is verdict


@pytest.mark.parametrize(
    ("residual", "verdict"),
    # Half of 1e-3 of 52.2484 px = 0.026124 px.
    [(0.0261, PASS), (0.0262, FAIL)],
)
def test_fixed_origin_of_strain_is_held_to_the_target(residual: float, verdict: Verdict) -> None:
    fixed = plan("strain", {"analyses.0.origin": "fixed"})
    assert found(fixed, "descan_residual", calibrations=calibrations(descan=(residual, 0))).verdict is verdict


@pytest.mark.parametrize(("residual", "verdict"), [(4.9, PASS), (5.1, WARN)])
def test_disk_stays_within_its_mask(residual: float, verdict: Verdict) -> None:
    # The masks' nearest edge is 2 mrad from the disk's: 2.48 px to either side, 4.96 px peak to peak.
    masks = [{"name": "bf", "inner_mrad": 0, "outer_mrad": 22}, {"name": "adf", "inner_mrad": 45, "outer_mrad": 75}]
    checked = plan("virtual_bf_df", {"analyses.0.detectors": masks})
    assert found(checked, "descan_residual", calibrations=calibrations(descan=(residual, 0))).verdict is verdict


def test_missing_calibrations_are_one_line_that_says_what_they_take() -> None:
    finding = found(plan("ptychography"), "calibrations_present", calibrations=calibrations(rotation=(3, 0.1)))
    assert finding.verdict is UNKNOWN
    assert finding.remedy == (
        "Measure centre (in vacuum), mrad_per_pixel (on a reference specimen), descan (in vacuum), "
        "defocus (on the plan's own area, out of its budget), scan_step (on a reference specimen): "
        "nightbeam calibrate centre mrad_per_pixel descan defocus scan_step --plan PLAN -i INSTRUMENT."
    )


def test_all_calibrations_known_is_a_pass() -> None:
    known = calibrations(centre=(0, 0), mrad_per_pixel=(0.25, 1e-4), rotation=(0, 0), descan=(0, 0), scan_step=(1.5, 0))
    result = check(plan("strain"), instrument(), known, 10**12)
    assert {each.rule for each in result.findings if each.verdict is not PASS} == set()
    assert result.verdict is PASS


def test_what_is_not_given_is_said_once() -> None:
    for name in (*ANALYSES, "case_a", "case_b"):
        result = check(plan(name))
        said = [each for each in result.findings if each.rule.startswith("not_checked")]
        imaging = ["not_checked.imaging"] * (name == "case_a")
        # Strain and orientation have no dose-limited period to ask for.
        assert [each.rule for each in said] == [
            "not_checked.instrument",
            "not_checked.calibrations",
            *imaging,
            "not_checked.free_bytes",
        ]
        assert {each.verdict for each in said} == {UNKNOWN}
        assert result.verdict is not PASS
