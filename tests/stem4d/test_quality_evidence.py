"""Evidence is the data that a figure was taken from: what is marked is true, and what is drawn was judged."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from quality_world import COM, Truth, frames_of, maps_of, one, plan_for, recording, without_frames
from test_quality_bad_input import recordings
from test_quality_drift import _pass, _two
from test_quality_rate import facts

from stem4d.maps import RunMaps
from stem4d.plan import Plan
from stem4d.quality.drift import drift_between
from stem4d.quality.evidence.beam import MOST_DRAWN
from stem4d.quality.evidence.collect import GROUPS, evidence_of_run
from stem4d.quality.evidence.values import Case, Curves, Image, Panel, verdict_of
from stem4d.quality.grade import result
from stem4d.quality.judge import judge, subject_of_run
from stem4d.verdict import QualityResult, Verdict

PTYCHOGRAPHY = {"kind": "ptychography", "target_d_a": 3.0}


def told(
    passes: Sequence[RunMaps], plan: Plan | None = None, **more: Any
) -> tuple[tuple[QualityResult, ...], list[Panel]]:
    """What passes a minute apart were judged by, and all pictures of it."""
    plan = plan or plan_for(Truth(scan=passes[0].scan_shape), (COM, PTYCHOGRAPHY))
    starts = [60.0 * index for index in range(len(passes))]
    results = judge(plan, passes, starts, **more)
    found = evidence_of_run(plan, passes, starts, results, **more)
    return results, [panel for group in found for panel in group.panels]


def image(panels: Sequence[Panel], title: str) -> Image:
    """The only image whose title begins so."""
    (found,) = [panel for panel in panels if isinstance(panel, Image) and panel.title.startswith(title)]
    return found


def curves(panels: Sequence[Panel], title: str) -> Curves:
    """The only curves whose title begins so."""
    (found,) = [panel for panel in panels if isinstance(panel, Curves) and panel.title.startswith(title)]
    return found


def marked(panel: Image, name: str) -> set[tuple[int, ...]]:
    """The places (y, x) with a mark whose name begins so; empty where there is none."""
    masks = [each.mask for each in panel.marks if each.name.startswith(name)]
    return {tuple(place) for mask in masks for place in np.argwhere(mask).tolist()}


def scanned(maps: RunMaps) -> RunMaps:
    """A pass of the drift's world with all its maps over the same scan."""
    nothing = np.zeros(maps.total.shape, np.uint32)
    return replace(maps, maximum=nothing, saturated_px=nothing, invalid_px=nothing)


def test_clipped_pixels_are_marked_and_no_other() -> None:
    frames = frames_of(Truth(), 3)
    clipped = {(20, 21), (23, 30), (40, 2)}
    for at, place in enumerate(sorted(clipped)):
        frames[at, 2 * at, place[0], place[1]] = 4095
    frames[:, :, 5, 6] = frames[:, :, 7, 7] = 4095
    bad = np.zeros((48, 48), bool)
    bad[5, 6] = True
    results, panels = told([maps_of(frames, 4095, bad)], bad_pixels=bad)
    found = image(panels, "Largest count of each pixel")
    # One of the steady pixels is in the mask, and the other is hot: both are left out of what is judged.
    assert marked(found, "at full scale (4095)") == clipped
    assert np.isnan(found.values[5, 6])
    assert np.isnan(found.values[7, 7])
    assert one(results, "saturation.anywhere").value == pytest.approx(len(clipped) / (48 * 48 - 2))
    assert found.circles[0].radius_px == pytest.approx(10, abs=0.2)
    over_scan = image(panels, "Pixels at full scale in each frame")
    assert {tuple(at) for at in np.argwhere(over_scan.values > 0).tolist()} == {(0, 0), (1, 2), (2, 4)}
    assert np.nansum(over_scan.values) == 3


def test_faulty_pixels_are_marked_by_what_they_are() -> None:
    frames = frames_of(Truth(), 4)
    frames[:, :, 7, 8] = 500
    frames[:, :, 24, 25] = 0
    bad = np.zeros((48, 48), bool)
    bad[3, 3] = True
    _, panels = told([maps_of(frames, 4095, bad)], bad_pixels=bad)
    found = image(panels, "Mean pattern and faulty")
    assert marked(found, "new hot pixel") == {(7, 8)}
    assert marked(found, "new dead pixel") == {(24, 25)}
    assert marked(found, "masked") == {(3, 3)}


def test_dropouts_are_marked_at_the_frames_that_dropped() -> None:
    truth = Truth(scan=(24, 24), detector=(24, 24), radius=6.0)
    dark = np.ones(truth.scan)
    dark.ravel()[100:107] = 0.2
    passes = [recording(seed, scene, **truth.__dict__) for seed, scene in ((1, None), (2, dark))]
    _, panels = told(passes, plan_for(truth))
    found = curves(panels, "Counts of each frame")
    assert [(span.first, span.last) for span in found.spans] == [(576 + 100, 576 + 106)]
    assert np.array_equal(found.series[0].y, np.concatenate([each.total.ravel() for each in passes]))
    where = image(panels, "Counts of each position")
    assert where.title.endswith("pass\u00a02 of 2")
    assert marked(where, "beam dropped out") == {tuple(at) for at in np.argwhere(dark < 1).tolist()}


def test_of_many_frames_a_single_dark_one_still_shows() -> None:
    scan = (100, 100)
    counts = np.random.default_rng(5).poisson(1000, scan).astype(np.uint64)
    counts[40, 50] = 30
    small = recording(1, scan=(2, 2))
    maps = replace(
        small,
        recorded=np.ones(scan, bool),
        total=counts,
        com_y_px=np.full(scan, 23.5, np.float32),
        com_x_px=np.full(scan, 23.5, np.float32),
        maximum=np.full(scan, 30, np.uint32),
        saturated_px=np.zeros(scan, np.uint32),
        invalid_px=np.zeros(scan, np.uint32),
    )
    _, panels = told([maps])
    found = curves(panels, "Counts of each frame")
    assert all(len(series.x) <= MOST_DRAWN for series in found.series)
    lowest = found.series[1]
    assert np.nanmin(lowest.y) == 30
    assert abs(float(lowest.x[np.nanargmin(lowest.y)]) - 4050) <= 1
    assert [(span.first, span.last) for span in found.spans] == [(4050, 4050)]


def test_frames_are_marked_by_what_the_ledger_says() -> None:
    maps = recording(1, missing=5)
    twice = np.zeros(maps.scan_shape, bool)
    twice[2, 3] = True
    corrupt = np.zeros(maps.scan_shape, bool)
    corrupt[11, 11] = True
    whole = replace(recording(2), came_twice=np.zeros_like(twice), corrupt=np.zeros_like(twice))
    results, panels = told([replace(maps, came_twice=twice, corrupt=corrupt), whole])
    found = image(panels, "Frames that are missing or wrong")
    assert found.title.endswith("pass\u00a01 of 2")
    assert marked(found, "missing") == {(11, x) for x in range(7, 12)}
    assert marked(found, "came twice") == {(2, 3)}
    assert marked(found, "damaged") == {(11, 11)}
    assert one(results, "frames.missing").value == pytest.approx(5 / 288)


def test_a_whole_ledger_needs_no_picture() -> None:
    _, panels = told([recording(1)])
    assert not [panel for panel in panels if "frames.missing" in panel.metrics]


def test_descan_is_drawn_as_the_pattern_moved() -> None:
    slopes = ((0.10, 0.0), (0.0, -0.05))
    results, panels = told([recording(6, descan=slopes)], plan_for(Truth(), quality__max_descan_px=0.8))
    found = curves(panels, "Movement of the pattern")
    model, _, limit = found.series
    # Eleven steps from the first position to the last; centres of mass follow the disk to a few per cent.
    assert np.ptp(model.y) == pytest.approx(1.10, rel=0.05)
    assert np.ptp(model.x) == pytest.approx(0.55, rel=0.05)
    value = one(results, "descan.range").value
    furthest = max(np.hypot(model.x - x, model.y - y).max() for x, y in zip(model.x, model.y, strict=True))
    assert furthest == pytest.approx(value, rel=1e-3)
    assert np.ptp(limit.y) == pytest.approx(0.8, rel=1e-3)
    down = image(panels, "Position of the disk along y").values
    assert np.polyfit(np.arange(12), down.mean(axis=1), 1)[0] == pytest.approx(0.10, rel=0.05)
    left = image(panels, "What the plane leaves along y").values
    assert abs(np.polyfit(np.arange(12), left.mean(axis=1), 1)[0]) < 0.01


def test_limits_far_beyond_the_movement_are_told_and_not_drawn() -> None:
    _, panels = told([recording(6)], plan_for(Truth(), quality__max_descan_px=9.0))
    found = curves(panels, "Movement of the pattern")
    assert [series.role for series in found.series] == ["line", "points"]
    assert "limit for com: 9 px lies far beyond" in found.note


def test_drift_is_drawn_with_the_course_that_was_judged() -> None:
    plan = plan_for(Truth(), scan__shape=(40, 40), quality__max_drift_nm_per_min=0.5)
    passes = [scanned(each) for each in _two((0.8, -0.6), 2)]
    results, panels = told(passes, plan)
    found = curves(panels, "Place of the specimen")
    # The passes are half a minute's drift apart, and here a minute.
    y, x = (next(s for s in found.series if s.name == f"place along {axis}") for axis in "yx")
    assert (y.y[-1], x.y[-1]) == pytest.approx((0.4, -0.3), abs=0.01)
    course = next(s for s in found.series if s.name == "fitted course along y")
    subject, _ = subject_of_run(plan, passes[0], None, None, None)
    seen = drift_between(passes, (0.0, 60.0), subject)
    assert seen is not None
    assert np.diff(course.y)[0] / np.diff(course.x)[0] == pytest.approx(seen.rate_nm_per_min[0], rel=1e-3)
    limit = next(s for s in found.series if s.role == "limit")
    assert np.diff(limit.y)[0] / np.diff(limit.x)[0] == pytest.approx(one(results, "drift.rate").limit)


def test_the_course_leaves_what_the_fit_leaves() -> None:
    plan = plan_for(Truth(), scan__shape=(40, 40))
    passes = [*_two((0.8, -0.6), 2), _two((0.1, 0.3), 2)[1]]
    subject, _ = subject_of_run(plan, passes[0], None, None, None)
    seen = drift_between(passes, (0.0, 60.0, 120.0), subject)
    assert seen is not None
    assert seen.fit is not None
    left = (seen.fit.places_nm - seen.fit.course_nm) / plan.scan.step_nm
    assert np.sqrt(np.mean(left**2)) == pytest.approx(seen.fit.residual_px)
    # The course is straight, which the places are not; lines of 4 ms bend it by nothing.
    bends = [np.abs(np.diff(each, 2, axis=0)).max() for each in (seen.fit.places_nm, seen.fit.course_nm)]
    assert bends[0] > 0.05
    assert bends[1] < 1e-3 * bends[0]


def _fading(passes: int, kept: float) -> list[RunMaps]:
    """Passes whose counts beyond the disk fall by a factor from one to the next."""
    made = []
    for index in range(passes):
        truth = Truth(scan=(16, 16), background=0.4 * kept**index)
        made.append(maps_of(frames_of(truth, 20 + index), truth.full_scale))
    return made


def test_shares_fall_on_the_decay_that_was_judged() -> None:
    plan = plan_for(Truth(scan=(16, 16)), exposure__passes=3)
    passes = _fading(3, 0.7)
    results, panels = told(passes, plan)
    found = curves(panels, "Share of counts beyond")
    shares, decay = found.series
    # The share of a background that falls to 0.7; the disk's counts hardly change the sum.
    assert shares.y[1:] / shares.y[:-1] == pytest.approx(0.7, rel=0.15)
    assert shares.error is not None
    at = np.interp(shares.x, decay.x, decay.y)
    assert np.abs(at - shares.y).max() < 4 * shares.error.max()
    lost = one(results, "damage.decay").value
    assert 1 - at[-1] / at[0] == pytest.approx(lost, abs=2e-3)
    assert found.levels[0].value == pytest.approx(0.9 * at[0], rel=1e-2)


def test_fine_detail_fades_along_the_decay_that_was_judged() -> None:
    rng = np.random.default_rng(11)
    scene = rng.normal(size=(40, 40))
    plan = plan_for(Truth(), scan__shape=(40, 40), exposure__passes=3)
    passes = [scanned(_pass(scene * kept, rng, 4000.0, 0.2)) for kept in (1.0, 0.8, 0.64)]
    results, panels = told(passes, plan)
    power, decay = curves(panels, "Power of fine detail").series
    lost = one(results, "damage.detail").value
    assert decay.y[0] == 1
    assert 1 - decay.y[-1] == pytest.approx(lost, abs=1e-6)
    # Two points fix the two parameters of the decay.
    assert np.interp(power.x, decay.x, decay.y) == pytest.approx(power.y, rel=1e-3)


def test_dose_is_drawn_row_by_row_against_the_plan() -> None:
    scene = np.ones((12, 12))
    scene[4] = 0.5
    maps = recording(7, scene)
    results, panels = told([maps])
    found = curves(panels, "Electrons in a pattern")
    assert found.series[0].y == pytest.approx(maps.total.mean(axis=1))
    assert found.levels[0].name == "planned"
    assert found.levels[0].value == pytest.approx(one(results, "dose.electrons").limit)


def test_probes_overlap_as_they_were_judged_to() -> None:
    results, panels = told([recording(8)])
    found = curves(panels, "Probe at nine")
    circle, at = found.series
    diameter, step = np.ptp(circle.x[:73]), float(np.diff(np.unique(at.x))[0])
    assert 100 * (1 - step / diameter) == pytest.approx(one(results, "sampling.overlap").value, abs=0.2)


def test_limits_are_those_of_what_was_measured() -> None:
    maps = recording(1)
    plan = plan_for(Truth())
    subject, _ = subject_of_run(plan, maps, None, None, None)
    results = tuple(
        result("descan.range", name, verdict, "told", limit=limit)
        for name, verdict, limit in (
            ("com", Verdict.PASS, 1.0),
            ("dpc", Verdict.WARN, 0.5),
            ("strain", Verdict.PASS, 1.0),
            ("tcbf", Verdict.NOT_MEASURABLE, 0.1),
            ("orientation", Verdict.PASS, None),
        )
    )
    case = Case((maps,), (0.0,), maps, subject, results)
    assert case.limits("descan.range") == [("dpc", 0.5), ("com, strain", 1.0)]
    assert [each.name for each in case.levels("descan.range")] == ["limit for dpc", "limit for com, strain"]


def test_what_was_not_measured_has_no_picture() -> None:
    results, panels = told([recording(9, full_scale=None)])
    assert one(results, "drift.rate").verdict is Verdict.NOT_MEASURABLE
    assert not [panel for panel in panels if "drift.rate" in panel.metrics]
    assert not [panel for panel in panels if "damage.decay" in panel.metrics]
    assert all(verdict_of(panel, results) is not None for panel in panels)


def sound(panels: Sequence[Panel], results: Sequence[QualityResult]) -> None:
    """Every picture stands for something that was measured, and its arrays fit together."""
    for panel in panels:
        assert verdict_of(panel, results) not in (None, Verdict.NOT_MEASURABLE)
        if isinstance(panel, Image):
            assert all(each.mask.shape == panel.values.shape and each.mask.any() for each in panel.marks)
            assert all(np.isfinite(each.radius_px) for each in panel.circles)
        else:
            assert panel.series
            assert all(each.x.shape == each.y.shape and each.y.ndim == 1 for each in panel.series)
            assert all(np.isfinite(each.value) for each in panel.levels)


@given(recordings())
@settings(max_examples=40, deadline=None)
def test_whatever_was_recorded_there_is_evidence_or_none(made: tuple[RunMaps, int, np.ndarray]) -> None:
    maps, bits, mask = made
    truth = Truth(scan=maps.scan_shape, detector=(24, 24), radius=6.0)
    plan = plan_for(truth, (COM, PTYCHOGRAPHY), detector__bit_depth=bits)
    for passes in ([maps], [maps, maps]):
        results, panels = told(passes, plan, bad_pixels=mask, detector=facts(1e6))
        sound(panels, results)


BAD: dict[str, list[RunMaps]] = {
    "one row": [recording(1, scan=(1, 12))],
    "one column": [recording(1, scan=(12, 1))],
    "one pattern": [recording(1, scan=(1, 1))],
    "empty beam": [recording(1, electrons=0.0, background=0.0)],
    "noise alone": [recording(1, electrons=0.0, background=0.5)],
    "missing frames": [recording(1, missing=70)],
    "no frame": [without_frames(recording(1))],
    "a pass without a frame": [recording(1), without_frames(recording(1))],
    "a pass of noise": [recording(1), recording(2, electrons=0.0)],
    "unknown full scale": [recording(1, full_scale=None)],
    "all clipped": [recording(1, electrons=5e6)],
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_makes_fewer_pictures_and_no_crash(kind: str) -> None:
    results, panels = told(BAD[kind])
    sound(panels, results)


def test_every_metric_that_a_healthy_run_has_belongs_to_a_group() -> None:
    results, _ = told(_fading(3, 1.0))
    beginnings = tuple(beginning for names, _ in GROUPS.values() for beginning in names)
    assert [each.metric for each in results if not each.metric.startswith(beginnings)] == []
