"""Overlap and sampling by calibrated values: worked figures, errors against replicates, and what a plan asked for."""

from typing import Any

import numpy as np
import pytest
from quality_world import Truth, one, plan_for, recording

from stem4d import optics
from stem4d.calibrate.disk import find_disk
from stem4d.quality.file import FileKnowledge, judge_file
from stem4d.quality.regions import subject_of_plan
from stem4d.quality.sampling import Probe, check_sampling
from stem4d.rules.registry import Calibrated
from stem4d.verdict import QualityResult, Verdict

PTYCHOGRAPHY = {"kind": "ptychography", "target_d_a": 2.0}
TILTED = {"kind": "tcbf", "target_d_a": 4.0}
MAPS = recording(0)


def _checked(
    calibrations: dict[str, Calibrated] | None, *analyses: dict[str, Any], **over: Any
) -> tuple[QualityResult, ...]:
    plan = plan_for(Truth(), analyses or (PTYCHOGRAPHY,), **over)
    return check_sampling(subject_of_plan(plan, MAPS), calibrations)


def _well_known(**values: float) -> dict[str, Calibrated]:
    return {name: Calibrated(value=value, uncertainty=0.005 * abs(value)) for name, value in values.items()}


def test_overlap_and_window_follow_from_the_calibrated_figures() -> None:
    known = _well_known(
        scan_step_y=0.3, scan_step_x=0.31, defocus=20.0, mrad_per_pixel=1.02, convergence_semi_angle=10.2
    )
    results = _checked(known, optics__defocus_nm=25.0)
    width = optics.defocused_probe_diameter_a(300.0, 10.2, 20.0)
    overlap = one(results, "sampling.overlap")
    # The longer of the two steps.
    assert overlap.value == pytest.approx(100 * (1 - 3.1 / width))
    assert one(results, "sampling.window").value == pytest.approx(optics.wavelength_a(300.0) / 1.02e-3 / width)


def test_the_error_is_that_of_replicates() -> None:
    known = _well_known(scan_step_y=0.3, scan_step_x=0.3, defocus=20.0, mrad_per_pixel=1.0, convergence_semi_angle=10.0)
    found = one(_checked(known), "sampling.overlap")
    rng = np.random.default_rng(0)
    tried = []
    for _ in range(4000):
        step, focus, delta, alpha = (
            Calibrated(value=known[name].value * rng.normal(1, 0.005))
            for name in ("scan_step_y", "defocus", "mrad_per_pixel", "convergence_semi_angle")
        )
        tried.append(Probe(300.0, step, focus, alpha, delta).overlap_percent)
    # 4000 replicates give a standard deviation to 1.1 %.
    assert found.uncertainty == pytest.approx(np.std(tried), rel=0.05)


@pytest.mark.parametrize(
    ("defocus", "verdict"),
    # At 10 mrad and 0.3 nm: 40 nm give a probe of 8.4 Å and 64 %; 20 nm 4.7 Å and 36 %; 30 nm 6.5 Å and 54 %.
    [(40.0, Verdict.PASS), (30.0, Verdict.WARN), (20.0, Verdict.FAIL)],
)
def test_what_came_out_worse_than_planned_is_an_alarm(defocus: float, verdict: Verdict) -> None:
    known = _well_known(scan_step_y=0.3, scan_step_x=0.3, defocus=defocus, mrad_per_pixel=1.0)
    found = one(_checked(known, scan__step_nm=0.3, optics__defocus_nm=60.0), "sampling.overlap")
    assert found.verdict is verdict, found.message


def test_what_the_plan_asked_for_is_no_alarm_of_the_data() -> None:
    found = one(_checked(None, scan__step_nm=0.3, optics__defocus_nm=20.0), "sampling.overlap")
    assert found.verdict is Verdict.PASS
    assert "which its check has told" in found.message


def test_tilted_images_want_three_steps_to_a_patch() -> None:
    known = _well_known(scan_step_y=0.3, scan_step_x=0.3, defocus=20.0, mrad_per_pixel=1.0)
    found = one(_checked(known, TILTED, scan__step_nm=0.1, optics__defocus_nm=40.0), "sampling.step")
    assert found.verdict is Verdict.WARN
    assert found.limit == pytest.approx(3.0)


def test_a_file_that_says_everything_is_judged_and_one_that_does_not_says_what_is_missing() -> None:
    everything = FileKnowledge(1.0, 0.3, 300.0, 10.0, 60.0)
    found = one(judge_file(MAPS, find_disk(MAPS.sum_pattern), None, everything), "sampling.overlap")
    assert found.verdict is Verdict.PASS
    in_focus = one(
        judge_file(MAPS, find_disk(MAPS.sum_pattern), None, FileKnowledge(1.0, 0.3, 300.0, 10.0, 0.0)),
        "sampling.overlap",
    )
    assert in_focus.verdict is Verdict.NOT_MEASURABLE
    assert "too little" in in_focus.message
    nothing = one(judge_file(MAPS, find_disk(MAPS.sum_pattern), None, FileKnowledge()), "sampling.overlap")
    assert nothing.verdict is Verdict.NOT_MEASURABLE
    for name in ("the scan step", "the defocus", "the angle per pixel", "the beam energy"):
        assert name in nothing.message
