"""Rules 1 to 4 at their limits, with hand-computed figures."""

from typing import Any

import pytest
from rules_world import FAIL, PASS, WARN, Table, document, flat, found, plan

from stem4d.plan import Plan
from stem4d.rules import check
from stem4d.verdict import Verdict


def disk(outer_mrad: float) -> list[dict[str, Any]]:
    return [{"name": "bf", "inner_mrad": 0, "outer_mrad": outer_mrad}]


# Wavelengths: 80 kV 0.0417572 Å, 200 kV 0.0250793 Å, 300 kV 0.0196875 Å.
AT_THE_LIMIT: Table = [
    # θmax = 96 x 100/124 = 77.419 mrad, 2 % allowed: 78.968 mrad.
    ("virtual_bf_df", "collection_angle", "analyses.0.detectors", [(disk(77.4), PASS), (disk(78.96), PASS)]),
    ("virtual_bf_df", "collection_angle", "analyses.0.detectors", [(disk(78.98), FAIL)]),
    # Disk radius 62.5 px of 96: a margin of 2 px is left at an offset of 31.5 px.
    ("com_dpc", "disk_on_detector", "detector.pattern_offset_px", [([0, 31.5], PASS), ([31.6, 0], FAIL)]),
    # 5 % and 20 % of 96 px.
    ("com_dpc", "pattern_centred", "detector.pattern_offset_px", [([4.8, 0], PASS), ([-4.81, 0], WARN)]),
    ("com_dpc", "pattern_centred", "detector.pattern_offset_px", [([0, -19.2], WARN), ([0, 19.21], FAIL)]),
    # λ/(2 x 20 mrad) = 0.62698 Å, 2 % allowed: 0.61469 Å.
    ("virtual_bf_df", "aperture_resolution", "analyses.0.target_d_a", [(0.627, PASS), (0.615, PASS), (0.614, FAIL)]),
    # λ/(2 x 25 mrad) = 0.83514 Å, 2 % allowed: 0.81877 Å.
    ("com_dpc", "aperture_resolution", "analyses.0.target_d_a", [(0.819, PASS), (0.818, FAIL)]),
    # λ/(2 x 4 mrad) = 2.46094 Å: soft for d/2 with 2 %, d = 4.8254 Å; hard for d with 2 %, 2.4127 Å.
    ("tcbf", "aperture_resolution", "analyses.0.target_d_a", [(4.83, PASS), (4.82, WARN), (2.42, WARN), (2.41, FAIL)]),
    # 0.51 λ/α = 0.63952 Å.
    ("virtual_bf_df", "probe_size", "analyses.0.target_d_a", [(0.64, PASS), (0.639, WARN)]),
    # With 5 nm of defocus: sqrt(0.63952² + 2.0²) = 2.0998 Å.
    ("virtual_bf_df", "probe_size", "optics.defocus_nm", [(4.7, PASS), (-4.7, PASS), (5.0, WARN), (-5.0, WARN)]),
    # θmax = 96 x 100/111 = 86.486 mrad carries 0.24141 Å; 2 % allowed: d/2 = 0.23668 Å.
    ("ptychography", "recorded_angle", "analyses.0.target_d_a", [(0.483, PASS), (0.474, PASS), (0.473, FAIL)]),
    # λ/d + 2 mrad within 24 mrad and 2 %: d = 1.11563 Å.
    ("strain", "reflections_recorded", "analyses.0.reflection_d_a", [(1.116, PASS), (1.115, FAIL)]),
    # λ/d + 1 mrad within 32 mrad and 2 %: d = 0.79263 Å.
    ("orientation", "reflections_recorded", "analyses.0.reflection_d_a", [(0.793, PASS), (0.792, FAIL)]),
    # 2 x 0.61 λ/(2 mrad) = 15.298 Å.
    ("strain", "probe_in_feature", "analyses.0.smallest_feature_nm", [(1.53, PASS), (1.529, FAIL)]),
    # Window 46.350 Å; twice the probe at 53.86 nm, once at 108.15 nm of defocus.
    ("ptychography", "window", "optics.defocus_nm", [(53.8, PASS), (-53.8, PASS), (53.9, WARN)]),
    ("ptychography", "window", "optics.defocus_nm", [(108.1, WARN), (108.2, FAIL)]),
    # Radius α/δ of 5 px: 25/5 mrad, 4/0.8 mrad; of 4 px: 2/0.5 mrad.
    ("com_dpc", "disk_sampling", "detector.mrad_per_pixel", [(5.0, PASS), (5.01, WARN)]),
    ("tcbf", "disk_sampling", "detector.mrad_per_pixel", [(0.8, PASS), (0.801, WARN)]),
    ("strain", "disk_sampling", "detector.mrad_per_pixel", [(0.5, PASS), (0.501, WARN)]),
    # 0.08 mrad x 37 500 Å = 3.0 Å = d/2.
    ("tcbf", "defocus_blur", "optics.defocus_nm", [(3750.0, PASS), (3751.0, WARN), (-3751.0, WARN)]),
    # λ/1.92 Å = 13.0621 mrad.
    ("strain", "disks_apart", "optics.convergence_semi_angle_mrad", [(6.53, PASS), (6.54, WARN)]),
    # (λ/d - 2 mrad)/0.33333 mrad = 2 px at d = 9.4047 Å.
    ("orientation", "reflections_apart", "analyses.0.neighbour_d_a", [(9.40, PASS), (9.41, WARN), (20.0, WARN)]),
]


@pytest.mark.parametrize(("name", "rule", "path", "value", "verdict"), flat(AT_THE_LIMIT))
def test_at_the_limit(name: str, rule: str, path: str, value: Any, verdict: Verdict) -> None:
    assert found(plan(name, {path: value}), rule).verdict is verdict


@pytest.mark.parametrize(
    ("name", "rule", "value", "limit"),
    [
        ("com_dpc", "disk_on_detector", 33.5, 2.0),
        ("tcbf", "aperture_resolution", 2.46094, 3.0),
        ("ptychography", "recorded_angle", 0.241410, 0.25),
        ("strain", "reflections_recorded", 15.0621, 24.0),
        ("orientation", "probe_in_feature", 30.5967, 100.0),
        ("ptychography", "window", 2.68159, 2.0),
        ("tcbf", "defocus_blur", 0.8, 3.0),
        ("orientation", "reflections_apart", 14.8416, 2.0),
    ],
)
def test_figures(name: str, rule: str, value: float, limit: float) -> None:
    finding = found(plan(name), rule)
    # Hand-computed to five figures.
    assert finding.value == pytest.approx(value, rel=2e-5)
    assert finding.limit == pytest.approx(limit, rel=1e-9)
    inside = limit - value if value < limit else value - limit
    assert finding.margin == pytest.approx(inside / limit, abs=1e-4)


def test_dark_field_does_not_ask_for_the_disk() -> None:
    only_dark = plan("virtual_bf_df", {"analyses.0.detectors": [{"name": "adf", "inner_mrad": 45, "outer_mrad": 50}]})
    asked = {each.rule for each in check(only_dark).findings}
    assert not asked & {"disk_on_detector", "pattern_centred", "counter_full_scale"}
    assert "collection_angle" in asked


def test_each_virtual_detector_is_judged_by_itself() -> None:
    wide = plan("virtual_bf_df", {"analyses.0.detectors.2.outer_mrad": 100})
    verdicts = {each.quantity: each.verdict for each in check(wide).findings if each.rule == "collection_angle"}
    assert verdicts == {"outer angle of bf": PASS, "outer angle of abf": PASS, "outer angle of adf": FAIL}


def test_nothing_is_asked_without_a_target() -> None:
    no_target = plan("virtual_bf_df", {"analyses.0.target_d_a": None})
    asked = {each.rule for each in check(no_target).findings}
    assert not asked & {"aperture_resolution", "probe_size", "dose_limited_period", "scan_step"}


def test_accepted_overlap_of_disks_is_not_held_against_the_plan() -> None:
    document_ = {"optics.convergence_semi_angle_mrad": 8.0, "analyses.0.accept_disk_overlap": True}
    assert "disks_apart" not in {each.rule for each in check(plan("strain", document_)).findings}


def test_pattern_off_the_detector_is_no_arithmetic_accident() -> None:
    gone = check(plan("ptychography", {"detector.pattern_offset_px": [96.0, 0.0]}))
    recorded = next(each for each in gone.findings if each.rule == "recorded_angle")
    assert recorded.verdict is FAIL
    assert "nothing is recorded" in recorded.message


def test_second_analysis_of_a_kind_has_its_own_label() -> None:
    analyses = document("strain")["analyses"] * 2
    twice: Plan = plan("strain", {"analyses": analyses})
    labels = {each.analysis for each in check(twice).findings if each.rule == "disk_sampling"}
    assert labels == {"strain", "strain-2"}
