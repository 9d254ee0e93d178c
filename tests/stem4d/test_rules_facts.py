"""Rules on what instrument files and the catalogue state of detectors, spots and disks, and on slips of units."""

from typing import Any

import pytest
from pydantic import ValidationError
from rules_world import FAIL, PASS, UNKNOWN, WARN, Table, calibrations, findings, flat, found, instrument, plan

from stem4d.catalogue import CATALOGUE
from stem4d.detector import DepthRate
from stem4d.instrument import InstrumentFacts, Spot
from stem4d.model import Range
from stem4d.rules import check
from stem4d.verdict import Verdict

SPOTS = (
    Spot(name="5", largest_current_pa=20.0, brightness_a_per_m2_sr=2e13),
    Spot(name="3", largest_current_pa=100.0, brightness_a_per_m2_sr=1e13),
)
CHIP = {"detector_max_total_count_rate_hz": 4e7}
SLOW_16 = (DepthRate(bit_depth=16, max_frame_rate_hz=10_000.0),)


@pytest.mark.parametrize(
    ("name", "rule", "given", "path", "value", "verdict"),
    [
        ("virtual_bf_df", "spot", {"spots": SPOTS}, "optics.probe_current_pa", 100.0, PASS),
        ("virtual_bf_df", "spot", {"spots": SPOTS}, "optics.probe_current_pa", 100.1, FAIL),
        # 2 % of the aligned 20 mrad.
        *(
            ("virtual_bf_df", "realignment", {"aligned_semi_angle_mrad": 20.0},
             "optics.convergence_semi_angle_mrad", angle, verdict)
            for angle, verdict in ((20.4, PASS), (20.5, FAIL), (19.6, PASS), (19.5, FAIL))
        ),
        # 10 kHz at 16 bit, 30.1 kHz at 12 bit.
        ("virtual_bf_df", "frame_rate", {"detector_depth_rates": SLOW_16}, "exposure.dwell_time_us", 100.0, PASS),
        ("virtual_bf_df", "frame_rate", {"detector_depth_rates": SLOW_16}, "exposure.dwell_time_us", 99.9, FAIL),
        ("virtual_bf_df", "frame_rate", {"detector_depth_rates": SLOW_16}, "detector.bit_depth", 12, PASS),
        *(
            ("virtual_bf_df", "detector_energy", {"detector_beam_energies_kev": Range(lowest=low, highest=high)},
             "optics.beam_energy_kev", 200.0, verdict)
            for low, high, verdict in ((30.0, 200.0, PASS), (30.0, 199.9, FAIL), (200.1, 300.0, FAIL))
        ),
        # Events of 1 pA: 6.2415e6 a second; half of 200 keV.
        ("virtual_bf_df", "total_rate", CHIP, "optics.probe_current_pa", 6.4, PASS),
        ("virtual_bf_df", "total_rate", CHIP, "optics.probe_current_pa", 6.41, FAIL),
        ("virtual_bf_df", "threshold", {"detector_threshold_kev": 100.0}, "optics.beam_energy_kev", 200.0, PASS),
        ("virtual_bf_df", "threshold", {"detector_threshold_kev": 100.1}, "optics.beam_energy_kev", 200.0, WARN),
        ("virtual_bf_df", "threshold", {"detector_threshold_kev": 200.1}, "optics.beam_energy_kev", 200.0, FAIL),
        ("case_a", "stage_position", {"areas": ("lamella-1", "hole")}, "sample.area", "hole", PASS),
        ("case_a", "stage_position", {"areas": ("lamella-1", "hole")}, "sample.area", "lamela-1", FAIL),
        ("case_a", "stage_position", {"areas": ("lamella-1", "hole")}, "sample.spare_areas", ["hole"], PASS),
        ("case_a", "stage_position", {"areas": ("lamella-1", "hole")}, "sample.spare_areas", ["whole"], FAIL),
        # 3.12075e8/201.06 x 3 x 0.3 = 1.39692e6 in a Bragg disk at 50 pA.
        ("strain", "bragg_count_rate", {"detector_max_count_rate_per_px_hz": 1.397e6}, "scan.step_nm", 1.5, PASS),
        ("strain", "bragg_count_rate", {"detector_max_count_rate_per_px_hz": 1.396e6}, "scan.step_nm", 1.5, FAIL),
        # 0.02 x 10392.1 e in the dark field of π(75² - 45²)/0.80645² = 17390 px, root 131.87: 1.5761 e a pixel.
        ("virtual_bf_df", "noise_floor", {"detector_noise_e_per_px": 1.576}, "optics.probe_current_pa", 50, PASS),
        ("virtual_bf_df", "noise_floor", {"detector_noise_e_per_px": 1.577}, "optics.probe_current_pa", 50, FAIL),
        # 6235.3 e on π 52.0535² px: 0.73249 e in a pixel of the disk.
        ("case_a", "noise_floor", {"detector_noise_e_per_px": 0.732}, "optics.probe_current_pa", 30, PASS),
        ("case_a", "noise_floor", {"detector_noise_e_per_px": 0.733}, "optics.probe_current_pa", 30, FAIL),
    ],
)  # fmt: skip
def test_facts_decide(name: str, rule: str, given: dict[str, Any], path: str, value: Any, verdict: Verdict) -> None:
    assert found(plan(name, {path: value}), rule, instrument=instrument(**given)).verdict is verdict


def test_a_new_convergence_angle_takes_a_person() -> None:
    seen = found(plan("case_a"), "realignment", instrument=instrument(aligned_semi_angle_mrad=21.4))
    assert seen.change is not None
    assert seen.change.needs_person
    assert "Unattended, nobody can realign the condenser" in seen.remedy
    assert findings(plan("case_a"), "realignment", instrument=instrument()) == []


def test_current_costs_source_size_by_its_spot() -> None:
    # 2/(π 0.02) sqrt(I/B): 20 pA of spot 5 give 0.32 Å, 100 pA of spot 3 1.01 Å.
    for current, size in ((20.0, "0.32 Å"), (100.0, "1.01 Å")):
        facts = instrument(spots=SPOTS, brightness_a_per_m2_sr=5e13)
        seen = found(plan("virtual_bf_df", {"optics.probe_current_pa": current}), "source_size", instrument=facts)
        assert f"The source adds {size} at" in seen.message


@pytest.mark.parametrize(
    ("rule", "times", "verdict"),
    [
        ("write_rate", 2.001, PASS),
        ("write_rate", 1.999, WARN),
        ("write_rate", 1.001, WARN),
        ("write_rate", 0.999, FAIL),
    ],
)
def test_the_disk_has_to_take_the_frames(rule: str, times: float, verdict: Verdict) -> None:
    checked = plan("virtual_bf_df")
    figures = check(checked).prediction
    needed = figures.compressed_bytes / figures.pass_time_s / 1e6
    facts = instrument(write_rate_mb_per_s=needed * times)
    seen = found(checked, rule, instrument=facts)
    assert seen.verdict is verdict
    assert ("exposure.dwell_time_us" in seen.remedy) == (verdict is not PASS)


AT_THE_LIMIT: Table = [
    # R = 0.95 x 11.0743/2 = 5.2603 Å: 80 = π (R/s)² at 1.0424 Å.
    ("case_a", "areal_oversampling", "scan.step_nm", [(0.1042, PASS), (0.1043, WARN)]),
    # 52.0535 px over 4.5 px/Å are R = 11.567 Å, D = 24.352 Å, 440.9 Å of defocus.
    ("case_a", "ronchigram_magnification", "optics.defocus_nm", [(44.0, PASS), (44.2, WARN)]),
    # 5 x 50.985 nm / (2 x 27.6 mrad) = 4618.2 nm of defocus.
    ("case_a", "defocus_unit", "optics.defocus_nm", [(4618.0, PASS), (4619.0, WARN), (-4619.0, WARN)]),
    # 96 px of 100 µm reach 600 mrad at 16 mm.
    ("case_a", "camera_length_unit", "optics.camera_length_mm", [(16.0, PASS), (15.9, WARN)]),
    ("case_a", "known_detector", "detector.name", [("arina", PASS), ("arnia", UNKNOWN), ("quadro", WARN)]),
]


@pytest.mark.parametrize(("name", "rule", "path", "value", "verdict"), flat(AT_THE_LIMIT))
def test_at_the_limit(name: str, rule: str, path: str, value: Any, verdict: Verdict) -> None:
    assert found(plan(name, {path: value}), rule).verdict is verdict


@pytest.mark.parametrize(
    ("rule", "path", "value", "quantity", "verdict"),
    [
        ("current_unit", "optics.probe_current_pa", 0.1, "small probe current", PASS),
        ("current_unit", "optics.probe_current_pa", 0.099, "small probe current", WARN),
        ("current_unit", "optics.probe_current_pa", 2e4, "large probe current", PASS),
        ("current_unit", "optics.probe_current_pa", 20_001.0, "large probe current", WARN),
        # D = sqrt(120² + 6.0047²) = 120.15 Å: 1201.5 nm and 0.012015 nm.
        ("step_unit", "scan.step_nm", 1201.0, "large step against the probe", PASS),
        ("step_unit", "scan.step_nm", 1202.0, "large step against the probe", WARN),
        ("step_unit", "scan.step_nm", 0.01202, "small step against the probe", PASS),
        ("step_unit", "scan.step_nm", 0.01201, "small step against the probe", WARN),
    ],
)
def test_out_of_proportion(rule: str, path: str, value: float, quantity: str, verdict: Verdict) -> None:
    seen = {each.quantity: each.verdict for each in findings(plan("case_b", {path: value}), rule)}
    assert seen[quantity] is verdict


def test_a_small_current_that_makes_full_patterns_is_no_slip() -> None:
    # 0.05 pA for 1 ms are 312 electrons.
    slow = plan("case_b", {"optics.probe_current_pa": 0.05, "exposure.dwell_time_us": 1000})
    assert {each.quantity for each in findings(slow, "current_unit")} == {"large probe current"}


@pytest.mark.parametrize(("length_mm", "verdict"), [(749.0, PASS), (751.0, WARN), (83.4, PASS), (83.3, WARN)])
def test_a_camera_length_agrees_with_a_stated_angle(length_mm: float, verdict: Verdict) -> None:
    # Stated 0.4 mrad, nominal 100 µm over the length: 3 times at 83.33 mm and at 750 mm.
    stated = plan("com_dpc", {"detector.mrad_per_pixel": 0.4, "optics.camera_length_mm": length_mm})
    assert findings(stated, "camera_length_unit")[1].verdict is verdict


def test_a_mistaken_unit_shows_its_arithmetic() -> None:
    slip = plan("case_a", {"optics.convergence_semi_angle_mrad": 30.0, "optics.defocus_nm": 20_000.0})
    seen = found(slip, "defocus_unit")
    assert "2 x 30 mrad x 20000 nm is 1200 nm, on a field of 510 Å" in seen.message
    assert "Is defocus_nm in nm?" in seen.remedy


@pytest.mark.parametrize("step_nm", [2.0, 20.0, 2000.0])
def test_a_micrometre_of_spread_is_a_slip_on_any_field(step_nm: float) -> None:
    # 2 x 30 mrad x 20 000 nm = 1.2 µm; fields of 256 nm, 2.56 µm and 256 µm.
    slip = {"optics.convergence_semi_angle_mrad": 30.0, "optics.defocus_nm": 20_000.0, "scan.step_nm": step_nm}
    assert found(plan("case_b", slip), "defocus_unit").verdict is WARN


def test_a_detector_that_is_not_in_the_catalogue_is_told_with_the_closest() -> None:
    seen = found(plan("case_a", {"detector.name": "arnia"}), "known_detector")
    assert "arnia is not in the catalogue; the closest are arina" in seen.message
    assert findings(plan("case_a", {"detector.name": "arnia"}), "known_detector", instrument=instrument()) == []


@pytest.mark.parametrize(("kind", "known", "verdict"), [
    ("scan_step_x", (1.0, 0.02), PASS), ("scan_step_x", (1.0, 0.021), WARN),
    ("scan_step_y", (1.0, 0.021), WARN), ("scan_shear", (0.0, 0.02), PASS), ("scan_shear", (0.0, 0.021), WARN),
])  # fmt: skip
def test_step_is_calibrated_along_each_axis(kind: str, known: tuple[float, float], verdict: Verdict) -> None:
    assert found(plan("com_dpc"), "step_scale", calibrations=calibrations(**{kind: known})).verdict is verdict


def test_an_instrument_may_name_detectors_of_the_catalogue() -> None:
    facts = instrument().model_dump() | {"detectors": (), "catalogue_detectors": ("merlin-256", "arina")}
    named = InstrumentFacts.model_validate(facts)
    assert [each.name for each in named.all_detectors] == ["merlin-256", "arina"]
    merlin = {"detector.name": "merlin-256", "detector.shape": [256, 256], "detector.pixel_pitch_um": 55.0}
    slow = found(plan("virtual_bf_df", merlin | {"detector.bit_depth": 24}), "frame_rate", instrument=named)
    assert slow.limit == 600.0
    assert "unverified" in slow.message


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"catalogue_detectors": ("arnia",)}, "there is no arnia in the catalogue; arina"),
        ({"catalogue_detectors": ("arina",)}, "different names"),
        ({"detectors": ()}, "needs a detector"),
    ],
)
def test_detectors_of_an_instrument_are_known_and_differ(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        InstrumentFacts.model_validate(instrument().model_dump() | changes)


def test_what_is_from_memory_is_not_called_verified() -> None:
    assert all(not each.verified and each.source for each in CATALOGUE.values())


def test_a_counter_that_wraps_says_so() -> None:
    facts = instrument(detector_wraps_at_bits=12)
    checked = plan("virtual_bf_df", {"detector.bit_depth": 12})
    assert "wraps without a sign" in findings(checked, "counter_full_scale", instrument=facts)[0].message
    assert "wraps" not in findings(checked, "counter_full_scale", instrument=instrument())[0].message
