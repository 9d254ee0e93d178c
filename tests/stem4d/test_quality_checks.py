"""Centring, descan, dose and completeness against known truth."""

from typing import Any

import numpy as np
import pytest
from quality_world import COM, Truth, one, plan_for, recording, without_frames

from stem4d.quality.centring import check_centring
from stem4d.quality.descan import check_descan
from stem4d.quality.dose import check_dose
from stem4d.quality.frames import check_frames
from stem4d.quality.grade import grade
from stem4d.quality.judge import judge
from stem4d.quality.regions import subject_of_plan
from stem4d.rules import Calibrated, check
from stem4d.verdict import QualityResult, Verdict

PTYCHOGRAPHY = {"kind": "ptychography", "target_d_a": 1.0}
PASS, WARN, FAIL, UNKNOWN = Verdict.PASS, Verdict.WARN, Verdict.FAIL, Verdict.NOT_MEASURABLE


def _subject(maps: Any, truth: Truth, *analyses: dict[str, Any], **over: Any) -> Any:
    return subject_of_plan(plan_for(truth, analyses or (COM, PTYCHOGRAPHY), **over), maps)


@pytest.mark.parametrize(
    ("value", "error", "soft", "hard", "verdict"),
    [
        (0.1, 0.01, 0.5, None, PASS),
        (0.9, 0.01, 0.5, None, WARN),
        (0.9, 0.01, None, 0.5, FAIL),
        (0.9, 0.01, 0.5, 0.8, FAIL),
        (0.48, 0.05, None, 0.5, WARN),  # too near to tell
        (0.55, 0.05, None, 0.5, WARN),
        (0.1, 0.4, None, 0.5, UNKNOWN),  # the error is as large as the limit
        (2.0, 0.4, None, 0.5, FAIL),  # and still this is surely above it
        (float("nan"), 0.0, None, 0.5, UNKNOWN),
        (0.1, float("nan"), None, 0.5, UNKNOWN),
        (0.1, 0.01, None, None, UNKNOWN),
    ],
)
def test_a_figure_is_graded_with_its_error(
    value: float, error: float, soft: float | None, hard: float | None, verdict: Verdict
) -> None:
    assert grade(value, error, soft=soft, hard=hard)[0] is verdict


def test_offset_is_measured_and_its_cost_told() -> None:
    truth = Truth(offset=(4.0, -1.5))
    maps = recording(1, **vars(truth))
    results = check_centring(maps, _subject(maps, truth))
    offset = one(results, "centring.offset", "ptychography")
    # 432 000 electrons in a disk of 10 px: the edge is known to some 0.01 px.
    assert offset.value == pytest.approx(4.0, abs=0.05)
    assert offset.uncertainty is not None
    assert abs(offset.value - 4.0) < 5 * offset.uncertainty
    assert offset.verdict is WARN
    assert "half-period" in offset.message
    angle = one(results, "centring.max_angle", "ptychography")
    # Half of 48 px at 1 mrad less 4 px; 1 Å at 300 kV needs λ/d = 19.7 mrad, held to 2 %.
    assert angle.value == pytest.approx(20.0, abs=0.05)
    assert angle.limit == pytest.approx(19.69, abs=0.01)
    assert angle.verdict is PASS


def test_an_offset_that_takes_the_angle_fails_and_says_what_to_do() -> None:
    truth = Truth(offset=(7.0, 0.0))
    maps = recording(1, **vars(truth))
    angle = one(check_centring(maps, _subject(maps, truth)), "centring.max_angle")
    assert angle.verdict is FAIL
    assert "centre the pattern" in angle.message


def test_a_disk_cut_by_the_edge_fails_for_the_disk_and_not_for_the_dark_field() -> None:
    truth = Truth(offset=(0.0, 18.0))
    dark = {"kind": "virtual", "detectors": [{"name": "adf", "inner_mrad": 12.0, "outer_mrad": 23.0}]}
    maps = recording(1, **vars(truth))
    results = check_centring(maps, _subject(maps, truth, COM, dark))
    assert one(results, "centring.margin", "com").verdict is FAIL
    assert not [each for each in results if each.analysis == "virtual adf" and each.metric == "centring.margin"]
    assert one(results, "centring.max_angle", "virtual adf").verdict is FAIL


def test_without_a_disk_centring_is_not_known() -> None:
    truth = Truth(electrons=1.0, background=0.5)
    maps = recording(1, **vars(truth))
    results = check_centring(maps, _subject(maps, truth))
    assert all(each.verdict is UNKNOWN for each in results)


def _descan(truth: Truth, *analyses: dict[str, Any], **over: Any) -> tuple[QualityResult, ...]:
    maps = recording(2, **vars(truth))
    return check_descan(maps, _subject(maps, truth, *analyses, **over))


def test_descan_range_is_measured() -> None:
    truth = Truth(scan=(16, 16), descan=((0.1, 0.02), (-0.03, 0.08)), background=0.0)
    found = one(_descan(truth), "descan.range", "ptychography")
    slope, reach = np.array(truth.descan), np.array([15, 15])
    expected = max(np.hypot(*(slope @ (reach * (s, 1)))) for s in (1, -1))
    assert found.value is not None
    assert found.uncertainty is not None
    assert abs(found.value - expected) < 4 * found.uncertainty
    # Noise of one centre of mass is r/(2 sqrt(n)) = 0.09 px; a plane through 256 of them knows its range to 0.04 px.
    assert found.uncertainty < 0.06
    assert found.verdict is WARN
    assert "Calibrate" in found.message


def test_a_stated_limit_of_descan_is_hard_and_each_analysis_has_its_own_otherwise() -> None:
    truth = Truth(scan=(16, 16), descan=((0.1, 0.0), (0.0, 0.0)))
    assert one(_descan(truth, COM, quality__max_descan_px=0.5), "descan.range").verdict is FAIL
    strain = {"kind": "strain", "reflection_d_a": 1.5, "target_strain": 0.01, "smallest_feature_nm": 2.0}
    small = COM | {"smallest_deflection_mrad": 1.0}
    results = _descan(truth, strain, small, PTYCHOGRAPHY)
    limits = {each.analysis: each.limit for each in results if each.metric == "descan.range"}
    assert limits["strain"] == pytest.approx(5.0, abs=0.05)  # half the disk's radius
    assert limits["com"] == pytest.approx(0.3)  # of the smallest deflection
    assert limits["ptychography"] == 0.5
    assert one(results, "descan.range", "strain").verdict is PASS
    assert one(results, "descan.range", "com").verdict is WARN


def test_plan_and_data_are_held_to_one_limit_of_descan() -> None:
    truth = Truth(scan=(16, 16), background=0.0)
    strain = {"kind": "strain", "reflection_d_a": 1.5, "target_strain": 0.01, "smallest_feature_nm": 2.0}
    analyses = (
        COM | {"smallest_deflection_mrad": 1.0},
        COM,
        strain,
        strain | {"origin": "fixed"},
        {"kind": "orientation", "reflection_d_a": 1.5, "smallest_feature_nm": 2.0},
        {"kind": "tcbf", "target_d_a": 3.0},
        {"kind": "virtual", "detectors": [{"name": "bf", "inner_mrad": 0.0, "outer_mrad": 10.0}]},
        PTYCHOGRAPHY,
    )
    plan = plan_for(truth, analyses, optics__defocus_nm=200.0)
    maps = recording(2, **vars(truth))
    results = check_descan(maps, subject_of_plan(plan, maps))
    measured = [each.limit for each in results if each.metric == "descan.range"]
    checked = check(plan, calibrations={"descan": Calibrated(value=0.0)}).findings
    planned = [each.limit for each in checked if each.rule == "descan_residual"]
    assert len(planned) == len(analyses)
    # The data know the disk's radius to a per cent.
    assert measured == pytest.approx(planned, rel=0.01)
    assert len(set(planned)) >= 5


def test_a_pattern_that_leaves_the_detector_fails() -> None:
    truth = Truth(scan=(16, 16), radius=8.0, descan=((3.0, 0.0), (0.0, 0.0)))
    found = one(_descan(truth, COM), "descan.range")
    # It moves by 45 px over a detector of 48; the centre of mass of a cut disk sees less of it, and enough.
    assert found.verdict is FAIL


@pytest.mark.parametrize("scan", [(1, 1), (1, 24), (2, 2)])
def test_descan_of_too_few_positions_is_not_a_pass(scan: tuple[int, int]) -> None:
    truth = Truth(scan=scan)
    assert all(each.verdict is UNKNOWN for each in _descan(truth, COM))


def test_descan_without_any_counts_is_not_a_pass() -> None:
    maps = recording(2, electrons=1e-9, background=0.0)
    assert all(each.verdict is UNKNOWN for each in check_descan(maps, _subject(maps, Truth())))


def test_electrons_and_fluence_follow_from_the_counts() -> None:
    truth = Truth(background=0.0)
    maps = recording(3, **vars(truth))
    subject = _subject(maps, truth)
    results = check_dose((maps, maps), subject)
    electrons = one(results, "dose.electrons")
    assert electrons.value == maps.total.mean()
    assert electrons.verdict is PASS
    fluence = one(results, "dose.fluence")
    # 3000 electrons into the illuminated patch of two diffraction radii at focus, which is larger than the step.
    assert fluence.value == pytest.approx(2 * maps.total.mean() / 1.0, rel=1e-3)
    assert fluence.verdict is PASS


@pytest.mark.parametrize(("factor", "verdict"), [(1.0, PASS), (0.3, WARN), (1.5, WARN)])
def test_more_or_far_fewer_electrons_than_planned_warn(factor: float, verdict: Verdict) -> None:
    made = Truth(electrons=3000 * factor)
    maps = recording(3, **vars(made))
    assert one(check_dose((maps,), _subject(maps, Truth())), "dose.electrons").verdict is verdict


@pytest.mark.parametrize(("ratio", "verdict"), [(1.5, PASS), (1.0, WARN), (0.5, WARN)])
def test_electrons_are_held_against_the_current_that_was_measured(ratio: float, verdict: Verdict) -> None:
    made = Truth(electrons=3000 * 1.5)
    known = {"current_ratio": Calibrated(value=ratio, uncertainty=0.01)}
    results = judge(plan_for(Truth()), (recording(3, **vars(made)),), (0.0,), calibrations=known)
    electrons = one(results, "dose.electrons")
    assert electrons.verdict is verdict
    assert electrons.limit == pytest.approx(3000 * ratio)


def test_a_budget_that_was_passed_fails() -> None:
    maps = recording(3)
    subject = _subject(maps, Truth(), sample__fluence_budget_e_per_a2=1000.0)
    assert one(check_dose((maps,), subject), "dose.fluence").verdict is FAIL


def test_clipped_patterns_give_a_lower_bound_of_the_dose() -> None:
    truth = Truth(electrons=40000, full_scale=63)
    maps = recording(3, **vars(truth))
    results = check_dose((maps,), _subject(maps, truth))
    assert "lower bound" in one(results, "dose.electrons").message
    assert "lower bound" in one(results, "dose.fluence").message


def test_an_empty_beam_fails_and_nothing_recorded_is_not_known() -> None:
    maps = recording(3, electrons=1e-9, background=0.0)
    assert one(check_dose((maps,), _subject(maps, Truth())), "dose.electrons").verdict is FAIL
    gone = without_frames(maps)
    assert one(check_dose((gone,), _subject(gone, Truth())), "dose.electrons").verdict is UNKNOWN


def test_counting_noise_is_held_against_the_smallest_deflection() -> None:
    truth = Truth(electrons=400)
    maps = recording(3, **vars(truth))
    for smallest, verdict in ((1.0, PASS), (0.2, WARN), (0.1, FAIL)):  # noise: 10 mrad / (2 sqrt(446)) = 0.237
        subject = _subject(maps, truth, COM | {"smallest_deflection_mrad": smallest})
        found = one(check_dose((maps,), subject), "dose.noise")
        assert found.value == pytest.approx(0.237, abs=0.005)
        assert found.verdict is verdict


def test_few_electrons_warn_where_an_analysis_needs_them() -> None:
    truth = Truth(electrons=40, background=0.0)
    maps = recording(3, **vars(truth))
    assert one(check_dose((maps,), _subject(maps, truth)), "dose.signal", "ptychography").verdict is WARN


@pytest.mark.parametrize(("missing", "verdict"), [(0, PASS), (1, WARN), (12, FAIL), (60, FAIL), (144, FAIL)])
def test_missing_frames(missing: int, verdict: Verdict) -> None:
    maps = recording(4, missing=missing)
    found = one(check_frames((maps,)), "frames.missing")
    assert found.value == pytest.approx(missing / 144)
    assert found.verdict is verdict
