"""All checks together: healthy runs pass, each fault is seen, and odd recordings get a verdict and never a crash."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from quality_world import COM, Truth, disk, frames_of, maps_of, one, plan_for, recording, without_frames

from stem4d.calibrate.disk import find_disk
from stem4d.errors import BadInput
from stem4d.maps import RunMaps
from stem4d.quality.file import FileKnowledge, judge_file
from stem4d.quality.judge import joined, judge, verdict_by_analysis
from stem4d.verdict import QualityResult, Verdict

PTYCHOGRAPHY = {"kind": "ptychography", "target_d_a": 2.0}
STRAIN = {"kind": "strain", "reflection_d_a": 1.8, "target_strain": 0.05, "smallest_feature_nm": 2.0}
VIRTUAL = {
    "kind": "virtual",
    "detectors": [
        {"name": "bf", "inner_mrad": 0, "outer_mrad": 8.0},
        {"name": "adf", "inner_mrad": 14.0, "outer_mrad": 19.0},
    ],
}
EVERYTHING: tuple[dict[str, Any], ...] = (COM, PTYCHOGRAPHY, STRAIN, VIRTUAL)
KINDS = (
    "virtual bright_field",
    "virtual dark_field",
    "com",
    "dpc",
    "strain",
    "orientation",
    "tcbf",
    "ptychography",
)


def _judged(truth: Truth, seed: int = 0, maps: RunMaps | None = None, **over: Any) -> tuple[QualityResult, ...]:
    recorded = maps if maps is not None else recording(seed, **vars(truth))
    return judge(plan_for(truth, EVERYTHING, **over), (recorded,), (0.0,))


def _inspected(maps: RunMaps, known: FileKnowledge | None = None) -> tuple[QualityResult, ...]:
    return judge_file(maps, find_disk(maps.sum_pattern), None, known or FileKnowledge())


@pytest.mark.parametrize("block", range(8))
def test_healthy_runs_raise_no_alarm(block: int) -> None:
    """200 runs: dim and bright, a little off centre, on specimens that scatter; 25 a block."""
    for seed in range(25 * block, 25 * block + 25):
        rng = np.random.default_rng(seed)
        truth = Truth(
            scan=(9, 9),
            detector=(40, 40),
            electrons=float(10 ** rng.uniform(2.9, 4.5)),
            offset=(float(rng.uniform(-0.9, 0.9)), float(rng.uniform(-0.9, 0.9))),
            radius=float(rng.uniform(5.5, 7.5)),
            full_scale=4095,
        )
        scene = 1 - 0.2 * rng.random(truth.scan)
        results = _judged(truth, seed, recording(seed, scene, **vars(truth)))
        bad = [each for each in results if each.verdict not in (Verdict.PASS, Verdict.NOT_MEASURABLE)]
        assert not bad, (seed, [(each.metric, each.analysis, each.message) for each in bad])
        unknown = {each.metric for each in results if each.verdict is Verdict.NOT_MEASURABLE}
        # 80 electrons a position at the least: with noise of 0.2 px a plane over 81 positions has 0.1 px. Rows of nine
        # positions that differ by 6 % know a row's factor to 2 %.
        told = {"drift.rate", "descan.range", "descan.residual", "beam.drift", "beam.flicker"}
        # One pass of 9 x 9 positions shows neither drift nor the scan engine.
        scan = {"scan.jitter", "scan.hum", "scan.flyback", "scan.distortion"}
        # Nobody said at which rate this detector loses counts, nor kept a ledger; dim frames may be alike by chance.
        between = {"damage.decay", "contamination.growth"}
        assert unknown <= told | scan | between | {"saturation.rate", "frames.ledger", "frames.repeated"}


@pytest.mark.parametrize(
    ("fault", "metric", "verdicts"),
    [
        ({"electrons": 60000.0, "full_scale": 63}, "saturation.disk", {"com": "fail", "virtual adf": "pass"}),
        ({"offset": (17.0, 0.0)}, "centring.margin", {"com": "fail", "ptychography": "fail"}),
        ({"descan": ((0.3, 0.0), (0.0, 0.3))}, "descan.range", {"ptychography": "warn"}),
        ({"missing": 40}, "frames.missing", {"com": "fail", "virtual adf": "fail"}),
    ],
)
def test_each_fault_is_seen_where_it_matters(fault: dict[str, Any], metric: str, verdicts: dict[str, str]) -> None:
    results = _judged(Truth(**fault))
    assert any(each.metric == metric and each.verdict in (Verdict.FAIL, Verdict.WARN) for each in results)
    found = verdict_by_analysis(results)
    assert {name: found[name].value for name in verdicts} == verdicts


def test_a_beam_brighter_than_planned_is_seen() -> None:
    results = judge(plan_for(Truth(), EVERYTHING), (recording(0, electrons=4000.0),), (0.0,))
    assert one(results, "dose.electrons").verdict is Verdict.WARN


def test_passes_are_judged_together() -> None:
    good, clipped = recording(0), recording(1, electrons=2e6, full_scale=4095)
    results = judge(plan_for(Truth(), (COM,)), (good, clipped), (0.0, 60.0))
    assert one(results, "saturation.disk").verdict is Verdict.FAIL
    whole = joined((good, clipped))
    assert whole.frames == 288
    assert np.array_equal(whole.sum_pattern, good.sum_pattern + clipped.sum_pattern)
    assert np.array_equal(whole.max_pattern, np.maximum(good.max_pattern, clipped.max_pattern))
    assert one(results, "saturation.per_frame").value == np.r_[good.saturated_px, clipped.saturated_px].mean()


def test_the_pass_that_moves_most_is_judged() -> None:
    moving = recording(1, descan=((0.2, 0.0), (0.0, 0.0)))
    results = judge(plan_for(Truth(), (PTYCHOGRAPHY,)), (recording(0), moving), (0.0, 60.0))
    assert one(results, "descan.range").value == pytest.approx(2.2, abs=0.3)


def test_passes_of_different_shape_or_none_are_named() -> None:
    with pytest.raises(BadInput):
        judge(plan_for(Truth()), (), ())
    with pytest.raises(BadInput):
        judge(plan_for(Truth()), (recording(0), recording(0, scan=(6, 12))), (0.0, 1.0))


def _nan_com(maps: RunMaps) -> RunMaps:
    return replace(maps, com_y_px=np.full_like(maps.com_y_px, np.nan), com_x_px=np.full_like(maps.com_x_px, np.nan))


ODD: dict[str, Callable[[], RunMaps]] = {
    "one pattern": lambda: recording(0, scan=(1, 1)),
    "one row": lambda: recording(0, scan=(1, 30)),
    "one column": lambda: recording(0, scan=(30, 1)),
    "empty beam": lambda: recording(0, electrons=1e-9, background=0.0),
    "noise only": lambda: recording(0, electrons=1e-9, background=0.5),
    "one electron": lambda: recording(0, electrons=1e-4, background=0.0),
    "centres of mass are nan": lambda: _nan_com(recording(0)),
    "unknown full scale": lambda: recording(0, full_scale=None),
    "nothing recorded": lambda: without_frames(recording(0)),
    "all but one frame missing": lambda: recording(0, missing=143),
    "everything clipped": lambda: maps_of(np.full((4, 4, 32, 32), 63), 63),
    "smallest detector": lambda: recording(0, detector=(8, 8), radius=2.5),
    "disk larger than the detector": lambda: recording(0, radius=60.0, electrons=30000),
    "one bit": lambda: recording(0, electrons=60, full_scale=1),
}


@pytest.mark.parametrize("odd", ODD)
def test_odd_recordings_get_a_verdict_for_each_analysis(odd: str) -> None:
    maps = ODD[odd]()
    results = _inspected(maps)
    assert set(verdict_by_analysis(results)) == set(KINDS)
    assert all(each.message for each in results)
    plan = plan_for(Truth(scan=maps.scan_shape, detector=maps.sum_pattern.shape[:2]), EVERYTHING)
    assert judge(plan, (maps,), (0.0,))


@pytest.mark.parametrize(
    "odd", ["empty beam", "noise only", "nothing recorded", "everything clipped", "unknown full scale", "one electron"]
)
def test_odd_recordings_never_pass_silently(odd: str) -> None:
    found = verdict_by_analysis(_inspected(ODD[odd]()))
    assert Verdict.PASS not in {found[kind] for kind in KINDS}


def test_a_mask_that_covers_the_disk_never_passes() -> None:
    truth = Truth()
    bad = disk(truth.detector, truth.centre, 12.0) > 0.1
    maps = maps_of(frames_of(truth, 0), 4095, bad)
    results = judge_file(maps, find_disk(maps.sum_pattern, bad), bad, FileKnowledge())
    assert Verdict.PASS not in verdict_by_analysis(results).values()


def test_a_file_with_a_clipped_disk_is_good_for_dark_field_alone() -> None:
    """What a recorded 6-bit set shows: the direct beam clipped in every frame, a few Bragg spots near it too."""
    truth = Truth(detector=(64, 64), full_scale=63)
    rng = np.random.default_rng(0)
    pattern = disk(truth.detector, truth.centre, 10) * 200 + disk(truth.detector, (31.5, 47.0), 2) * 90 + 0.3
    frames = np.minimum(rng.poisson(pattern, (2, 4, *truth.detector)), 63)
    maps = maps_of(frames, 63)
    results = _inspected(maps)
    found = verdict_by_analysis(results)
    for kind in ("com", "dpc", "tcbf", "ptychography", "virtual bright_field"):
        assert found[kind] is Verdict.FAIL
    dark = one(results, "saturation.mask", "virtual dark_field")
    assert dark.verdict is Verdict.WARN
    clear = int(dark.message.split("From ")[1].split(" px")[0])
    y, x = np.indices(truth.detector)
    fit = find_disk(maps.sum_pattern)
    away = np.hypot(y - fit.centre_px[0], x - fit.centre_px[1]) >= clear
    assert not (frames == 63).any((0, 1))[away].any()


def test_a_healthy_file_passes_with_all_that_is_known_and_says_what_is_not() -> None:
    known = FileKnowledge(1.0, 0.1, 300.0, 10.0)
    maps = recording(0)
    verdicts = verdict_by_analysis(_inspected(maps, known))
    # Nobody can tell the probe's overlap from the frames.
    assert verdicts.pop("ptychography") is Verdict.NOT_MEASURABLE
    assert set(verdicts.values()) == {Verdict.PASS}
    partly = _inspected(maps, FileKnowledge(beam_energy_kev=300.0, convergence_semi_angle_mrad=10.0))
    told = one(partly, "knowledge")
    assert told.verdict is Verdict.NOT_MEASURABLE
    assert "the angle per pixel" in told.message
    # The disk of 10 px stands in for the missing angle per pixel: 24 px are 24 mrad.
    assert "24.0 mrad" in one(partly, "centring.offset", "com").message


def test_angles_that_contradict_the_disk_are_told() -> None:
    results = _inspected(recording(0), FileKnowledge(mrad_per_pixel=0.5, convergence_semi_angle_mrad=10.0))
    assert one(results, "scale.disk_radius").verdict is Verdict.WARN


def test_the_verdict_of_an_analysis_is_its_worst() -> None:
    def made(metric: str, analysis: str | None, verdict: Verdict) -> QualityResult:
        return QualityResult(
            metric=metric, analysis=analysis, verdict=verdict, value=None, limit=None, unit="", message="m"
        )

    results = (
        made("a", "com", Verdict.PASS),
        made("b", "com", Verdict.WARN),
        made("a", "strain", Verdict.PASS),
        made("drift.rate", None, Verdict.NOT_MEASURABLE),
    )
    assert verdict_by_analysis(results) == {"com": Verdict.WARN, "strain": Verdict.PASS}
    all_fail = verdict_by_analysis((*results, made("frames.missing", None, Verdict.FAIL)))
    assert set(all_fail.values()) == {Verdict.FAIL}
