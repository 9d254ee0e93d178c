"""Rules 12 to 16 and 18 at their limits, with hand-computed figures."""

from typing import Any

import pytest
from rules_world import FAIL, PASS, WARN, Table, findings, flat, found, instrument, plan

from stem4d.rules import check
from stem4d.rules.limits import RESERVE_BYTES
from stem4d.verdict import Verdict
from storage.settings import Settings

AT_THE_LIMIT: Table = [
    # Half of 2.0 Å, 1.6 Å, 6.0 Å upsampled by 4; half of 4 nm and 10 nm.
    ("virtual_bf_df", "scan_step", "scan.step_nm", [(0.1, PASS), (0.1001, WARN)]),
    ("com_dpc", "scan_step", "scan.step_nm", [(0.08, PASS), (0.0801, WARN)]),
    ("tcbf", "scan_step", "scan.step_nm", [(1.2, PASS), (1.201, WARN)]),
    ("strain", "scan_step", "scan.step_nm", [(2.0, PASS), (2.001, WARN)]),
    ("orientation", "scan_step", "scan.step_nm", [(5.0, PASS), (5.001, WARN)]),
    # 0.51 λ/α = 0.63952 Å.
    ("virtual_bf_df", "step_within_probe", "scan.step_nm", [(0.0639, PASS), (0.0640, WARN)]),
    # D = sqrt(120² + 6.0047²) = 120.150 Å: 60 % at 48.060 Å, 40 % at 72.090 Å.
    ("case_b", "probe_overlap", "scan.step_nm", [(4.805, PASS), (4.807, WARN), (7.208, WARN), (7.210, FAIL)]),
    # D = sqrt(80² + 6.0047²) = 80.225 Å, a third is 26.742 Å.
    ("tcbf", "step_within_patch", "scan.step_nm", [(2.674, PASS), (2.675, WARN)]),
    # λ/α² = 62.698 Å at 200 kV and 20 mrad.
    ("virtual_bf_df", "depth_of_field", "sample.thickness_nm", [(6.26, PASS), (6.27, WARN)]),
    # With 5 nm of thickness, 1.2698 nm are left for the height.
    ("virtual_bf_df", "depth_of_field", "sample.height_variation_nm", [(1.26, PASS), (1.28, WARN)]),
    # 5.2 x 0.25²/0.0417572 = 7.7831 Å, three times 23.349 Å.
    (
        "ptychography",
        "single_slice",
        "sample.thickness_nm",
        [(0.778, PASS), (0.779, WARN), (2.334, WARN), (2.335, FAIL)],
    ),
]


@pytest.mark.parametrize(("name", "rule", "path", "value", "verdict"), flat(AT_THE_LIMIT))
def test_at_the_limit(name: str, rule: str, path: str, value: Any, verdict: Verdict) -> None:
    assert found(plan(name, {path: value}), rule).verdict is verdict


@pytest.mark.parametrize(
    ("name", "rule", "nm_per_min", "verdict"),
    [
        # A pass of 512² x 33.3 µs = 8.7294 s over 25.6 nm: 1 % at 1.7596 nm/min, 5 % at 8.7979 nm/min.
        ("virtual_bf_df", "drift_of_field", 1.759, PASS),
        ("virtual_bf_df", "drift_of_field", 1.760, WARN),
        ("virtual_bf_df", "drift_of_field", 8.797, WARN),
        ("virtual_bf_df", "drift_of_field", 8.799, FAIL),
        # A pass of 2.18235 s over 51.2 nm: 10 % at 140.77 nm/min, no hard limit.
        ("ptychography", "drift_of_field", 140.7, PASS),
        ("ptychography", "drift_of_field", 140.8, WARN),
        ("ptychography", "drift_of_field", 1e4, WARN),
        # A line of 17.0496 ms, a tenth of 0.05 nm: 17.596 nm/min.
        ("virtual_bf_df", "drift_in_line", 17.59, PASS),
        ("virtual_bf_df", "drift_in_line", 17.60, WARN),
        # 40 s, half of 4 nm: 3 nm/min.
        ("strain", "drift_of_feature", 3.0, PASS),
        ("strain", "drift_of_feature", 3.001, WARN),
    ],
)
def test_expected_drift(name: str, rule: str, nm_per_min: float, verdict: Verdict) -> None:
    facts = instrument(expected_drift_nm_per_min=nm_per_min)
    for passes in (1, 4):  # A fractionated scan counts one pass.
        assert found(plan(name, {"exposure.passes": passes}), rule, instrument=facts).verdict is verdict


@pytest.mark.parametrize(
    ("required", "verdicts"),
    [
        ([256.0, 256.0], [PASS, PASS]),
        ([256.1, 256.0], [FAIL, PASS]),
        ([255.9, 256.1], [PASS, FAIL]),
    ],
)
def test_field_of_view(required: list[float], verdicts: list[Verdict]) -> None:
    asked = findings(plan("case_b", {"scan.required_field_nm": required}), "field_of_view")
    assert [each.verdict for each in asked] == verdicts


def test_field_of_view_is_mended_by_positions() -> None:
    _, along_x = findings(plan("case_b", {"scan.required_field_nm": [256, 300]}), "field_of_view")
    assert along_x.change is not None
    assert (along_x.change.field, along_x.change.value) == ("scan.shape[1]", 150.0)


def test_field_of_view_is_not_judged_unasked() -> None:
    assert findings(plan("case_b", {"scan.required_field_nm": None}), "field_of_view") == []


def test_multislice_takes_thickness_but_not_for_nothing() -> None:
    thick = check(plan("case_a", {"sample.thickness_nm": 50}))
    rules = {each.rule: each.verdict for each in thick.findings}
    assert "single_slice" not in rules
    assert rules["depth_of_field"] is WARN


@pytest.mark.parametrize(
    ("free_bytes", "verdict"),
    [
        # 512² frames of 192² px of 2 bytes = 19 327 352 832 bytes, and 2 GB in reserve.
        (21_327_352_832, PASS),
        (21_327_352_000, FAIL),
        (0, FAIL),
    ],
)
def test_disk_space(free_bytes: int, verdict: Verdict) -> None:
    assert found(plan("virtual_bf_df"), "disk_space", free_bytes=free_bytes).verdict is verdict


def test_the_reserve_is_the_one_that_an_acquisition_keeps() -> None:
    # 512² frames of 192² px of 2 bytes: 19 327 352 832 bytes. No share of the disk is kept beside it.
    asked, size = plan("virtual_bf_df"), 19_327_352_832
    for reserve, free, verdict in (
        (0, size, PASS),
        (0, size - 1000, FAIL),
        (int(5e11), int(5e11) + size, PASS),
        (int(5e11), int(5e11) + size - 1000, FAIL),
    ):
        one = found(asked, "disk_space", free_bytes=free, reserve_bytes=reserve)
        assert one.verdict is verdict, (reserve, free)
    assert "519 GB are free, of which disk_reserve_gb keeps 500 GB" in one.message
    assert "lower the setting disk_reserve_gb" in one.remedy


def test_the_reserve_where_none_is_said_is_that_of_the_settings() -> None:
    assert Settings.model_fields["disk_reserve_gb"].default * 1e9 == RESERVE_BYTES.value
