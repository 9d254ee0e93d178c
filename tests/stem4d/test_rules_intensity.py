"""Rules 6 to 11 at their limits, with hand-computed figures."""

from typing import Any

import pytest
from rules_world import FAIL, PASS, UNKNOWN, WARN, Table, calibrations, flat, found, instrument, plan

from stem4d.rules import check
from stem4d.verdict import Verdict

COM = {"kind": "com", "target_d_a": 1.0}

# One pA µs is 6.24151 electrons. Full scale 63 holds a crest of 33.892 + 5 sigma, a mean of 11.297 at crest 3.
AT_THE_LIMIT: Table = [
    # 33.3 µs on a disk of π 24.8² px: mean 5.3784 at 50 pA, 11.297 at 105.02 pA.
    ("virtual_bf_df", "counter_full_scale", "optics.probe_current_pa", [(105.0, PASS), (105.1, FAIL)]),
    # 1 ms on a disk of π 8² px: mean 31.042 per pA.
    ("strain", "counter_full_scale", "optics.probe_current_pa", [(0.3639, PASS), (0.3640, WARN)]),
    # The brightest Bragg disk has 0.3 of that.
    ("strain", "bragg_full_scale", "optics.probe_current_pa", [(1.213, PASS), (1.2132, FAIL)]),
    # 25 mrad/(2 sqrt(9362.3)) = 0.129187 mrad.
    ("com_dpc", "com_noise", "analyses.0.smallest_deflection_mrad", [(0.1292, PASS), (0.1291, FAIL)]),
    # 8 px/2/sqrt(6241.5) over 52.248 px x sqrt(8) = 3.4261e-4.
    ("strain", "strain_noise", "analyses.0.target_strain", [(3.43e-4, PASS), (3.42e-4, FAIL)]),
    # 3/(0.1 sqrt(30.137 x 1e4)) = 0.054648 Å, with one particle 5.4648 Å.
    ("case_b", "dose_limited_period", "sample.imaging.repeats", [(3.24, PASS), (3.23, WARN), (1.0, WARN)]),
    # I t/e = 100 at 0.48114 pA and 33.3 µs; 500 at 0.16022 pA and 500 µs.
    ("ptychography", "electrons_per_pattern", "optics.probe_current_pa", [(0.4812, PASS), (0.4811, WARN)]),
    ("tcbf", "electrons_per_pattern", "optics.probe_current_pa", [(0.4812, PASS), (0.4811, WARN)]),
    ("orientation", "electrons_per_pattern", "optics.probe_current_pa", [(0.1603, PASS), (0.1602, WARN)]),
    # 58 pA x 33.3 µs on 400 Å² = 30.137 e/Å², 1 % allowed: 29.839 e/Å².
    ("case_b", "fluence_budget", "sample.fluence_budget_e_per_a2", [(30.2, PASS), (29.84, PASS), (29.83, FAIL)]),
    # 25 e/Å² at 48.113 pA.
    ("case_b", "fluence_class", "optics.probe_current_pa", [(48.11, PASS), (48.12, WARN)]),
    # 2.5 (0.245 x 3.04^1.665 + 2.81) = 10.9252 e/Å² at 21.026 pA.
    ("case_b", "optimum_exposure", "optics.probe_current_pa", [(21.02, PASS), (21.03, WARN)]),
    # 90 % of 33.3 µs.
    ("case_b", "recorded_share", "exposure.exposure_time_us", [(29.97, PASS), (29.96, WARN)]),
]


@pytest.mark.parametrize(("name", "rule", "path", "value", "verdict"), flat(AT_THE_LIMIT))
def test_at_the_limit(name: str, rule: str, path: str, value: Any, verdict: Verdict) -> None:
    six_bit = {"detector.bit_depth": 6} if "full_scale" in rule else {}
    assert found(plan(name, six_bit | {path: value}), rule).verdict is verdict


@pytest.mark.parametrize(
    ("sensitivity", "inside_pa", "outside_pa"),
    [
        # 50 pA on 0.25 Å² for 33.3 µs is 41 568 e/Å², 831.37 e/Å² for each pA: half the upper figure of the class.
        ("mof_cof", 0.0601, 0.0602),  # 50 e/Å²
        ("organic_crystal", 0.0601, 0.0602),
        ("perovskite_zeolite", 0.6014, 0.6015),  # 500 e/Å²
        ("battery_oxide", 6.014, 6.015),  # 5e3 e/Å²
        ("robust", 6014.0, 6015.0),  # 5e6 e/Å²
        ("vitrified", 0.03007, 0.03008),  # 25 e/Å²
    ],
)
def test_classes(sensitivity: str, inside_pa: float, outside_pa: float) -> None:
    for current, verdict in ((inside_pa, PASS), (outside_pa, WARN)):
        changes = {"sample.sensitivity": sensitivity, "optics.probe_current_pa": current}
        assert found(plan("virtual_bf_df", changes), "fluence_class").verdict is verdict


@pytest.mark.parametrize(("target", "verdict"), [(4.75, PASS), (4.74, WARN), (2.372, WARN), (2.371, FAIL), (1.0, FAIL)])
def test_dose_limited_period_of_a_mof(target: float, verdict: Verdict) -> None:
    # SNR 3, contrast 0.2, no averaging, 10 e/Å²: 3/(0.2 sqrt(10)) = 4.7434 Å.
    mof = {
        "sample.sensitivity": "mof_cof",
        "sample.fluence_budget_e_per_a2": 10,
        "sample.imaging": {"contrast": 0.2, "signal_to_noise": 3, "repeats": 1, "detective_quantum_efficiency": 1},
        "scan.step_nm": 0.2,
        "optics.probe_current_pa": 10 * 4 / (33.3 * 6.241509),
        "analyses.0.target_d_a": target,
    }
    finding = found(plan("ptychography", mof), "dose_limited_period")
    assert finding.value == pytest.approx(4.7434, rel=1e-4)
    assert finding.verdict is verdict
    if verdict is FAIL:
        # More dose would be needed, and the budget forbids it: the finding says so and proposes nothing.
        assert finding.change is None
        assert "4.74 Å" in finding.message
        assert "fluence of all passes" in finding.remedy


def test_dead_time_costs_recorded_dose_only() -> None:
    half = plan("case_b", {"exposure.exposure_time_us": 33.3 / 4})
    # A quarter of the dose is recorded: the period grows twofold, the fluence on the specimen stays.
    assert found(half, "dose_limited_period").value == pytest.approx(2 * 0.054648, rel=1e-4)
    assert found(half, "fluence_budget").value == pytest.approx(30.137, rel=1e-4)


def test_dose_limited_period_needs_the_imaging_figures() -> None:
    two_analyses = plan("virtual_bf_df", {"sample.imaging": None, "analyses": [COM, COM]})
    finding = found(two_analyses, "not_checked.imaging")
    assert finding.verdict is UNKNOWN
    assert "sample.imaging" in finding.remedy
    assert "(rule 7)" in finding.message


def test_recorded_share_matters_to_small_budgets_only() -> None:
    changes = {"exposure.exposure_time_us": 10.0, "sample.fluence_budget_e_per_a2": 1000}
    assert "recorded_share" not in {each.rule for each in check(plan("case_b", changes)).findings}


@pytest.mark.parametrize(("current", "verdict"), [(0.963, PASS), (0.962, WARN)])
def test_each_pass_can_be_registered(current: float, verdict: Verdict) -> None:
    # 0.5 e/Å² a pass at 0.96227 pA.
    passes = plan("case_b", {"exposure.passes": 2, "optics.probe_current_pa": current})
    assert found(passes, "pass_fluence").verdict is verdict


def test_fractionation_frees_from_the_optimum_but_not_from_the_budget() -> None:
    third = {"exposure.passes": 3, "optics.probe_current_pa": 58 / 3}
    assert found(plan("case_b", third), "optimum_exposure").verdict is PASS
    assert found(plan("case_b", third), "fluence_budget").value == pytest.approx(30.137, rel=1e-4)
    assert found(plan("case_b", {"exposure.passes": 3}), "fluence_budget").verdict is FAIL


def test_unblanked_flyback_counts() -> None:
    # 0.5 ms on a row of 128 x 33.3 µs adds 11.73 %.
    flyback = {"scan.flyback_us": 500, "scan.flyback_blanked": False}
    finding = found(plan("case_b", flyback), "fluence_budget")
    assert finding.value == pytest.approx(30.137 * 1.11730, rel=1e-4)
    assert finding.verdict is FAIL
    assert "flyback" in finding.remedy


def test_step_wider_than_the_probe_counts_the_spots() -> None:
    # In focus the probe is 6.21 Å wide with 20 nm defocus: 30.26 Å² of 400 Å², 13.2 times the average.
    finding = found(plan("case_b", {"optics.defocus_nm": 20}), "fluence_budget")
    assert finding.value == pytest.approx(30.137 * 13.2, rel=2e-3)
    assert finding.change is not None
    assert finding.change.field == "optics.defocus_nm"


@pytest.mark.parametrize(
    ("name", "rule", "limit", "verdict"),
    [
        # 50 pA: 161 516 electrons a second and pixel, crest 3.
        ("virtual_bf_df", "count_rate", 484_600.0, PASS),
        ("virtual_bf_df", "count_rate", 484_500.0, FAIL),
        # 3.12075e8/201.06 x 3 = 4.6564e6.
        ("strain", "count_rate", 4.657e6, PASS),
        ("strain", "count_rate", 4.656e6, WARN),
    ],
)
def test_count_rate(name: str, rule: str, limit: float, verdict: Verdict) -> None:
    facts = instrument(detector_max_count_rate_per_px_hz=limit)
    assert found(plan(name), rule, instrument=facts).verdict is verdict


@pytest.mark.parametrize(("limit", "verdict"), [(484_600.0, PASS), (484_500.0, FAIL)])
def test_damage_rate_concerns_the_whole_plan(limit: float, verdict: Verdict) -> None:
    facts = instrument(detector_damage_count_rate_per_px_hz=limit)
    finding = found(plan("virtual_bf_df"), "damage_rate", instrument=facts)
    assert (finding.verdict, finding.analysis) == (verdict, None)


def test_unverified_figures_of_a_detector_say_so() -> None:
    for verified in (True, False):
        finding = found(plan("strain"), "count_rate", instrument=instrument(detector_verified=verified))
        assert ("unverified" in finding.message) is not verified


def test_measured_crest_replaces_the_assumed_one() -> None:
    # Mean 5.3784, crest 1: 5.3784 + 5 sqrt(5.3784) = 16.974.
    finding = found(plan("virtual_bf_df"), "counter_full_scale", calibrations=calibrations(crest=(1.0, 0.1)))
    assert finding.value == pytest.approx(16.974, rel=1e-4)


@pytest.mark.parametrize("rule", ["count_rate", "total_rate", "fluence_budget"])
def test_rates_and_doses_follow_the_current_that_was_measured(rule: str) -> None:
    facts = instrument(detector_max_total_count_rate_hz=1e9)
    as_planned = found(plan("strain"), rule, instrument=facts)
    brighter = found(plan("strain"), rule, instrument=facts, calibrations=calibrations(current_ratio=(3.0, 0.03)))
    assert brighter.value == pytest.approx(3 * as_planned.value, rel=1e-9)


def test_the_range_of_the_column_is_for_what_is_commanded() -> None:
    known = calibrations(current_ratio=(3.0, 0.03))
    for calibrated in (None, known):
        one = found(plan("strain"), "current_range", instrument=instrument(), calibrations=calibrated)
        assert one.value == plan("strain").optics.probe_current_pa


@pytest.mark.parametrize(("rule", "target", "verdict"), [("source_size", 0.814, PASS), ("source_size", 0.813, WARN)])
def test_source_size_of_an_image(rule: str, target: float, verdict: Verdict) -> None:
    # Source 0.50329 Å at 50 pA and 2e13 A/m²/sr, diffraction 0.63952 Å: 0.81381 Å.
    facts = instrument(brightness_a_per_m2_sr=2e13)
    finding = found(plan("virtual_bf_df", {"analyses.0.target_d_a": target}), rule, instrument=facts)
    assert finding.verdict is verdict


@pytest.mark.parametrize(("current", "verdict"), [(223.8, PASS), (223.9, WARN)])
def test_source_size_of_a_coherent_probe(current: float, verdict: Verdict) -> None:
    # Source 0.99515 Å = 0.51 λ/α at 223.81 pA.
    facts = instrument(brightness_a_per_m2_sr=2e13)
    changes: dict[str, Any] = {"optics.probe_current_pa": current}
    assert found(plan("ptychography", changes), "source_size", instrument=facts).verdict is verdict
    many_modes = plan("ptychography", changes | {"analyses.0.probe_modes": 3})
    assert "source_size" not in {each.rule for each in check(many_modes, facts).findings}
