"""Whatever was recorded, every check gives a verdict with a reason: no crash, no figure that is not finite."""

from dataclasses import replace
from math import isfinite
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from quality_world import COM, Truth, maps_of, plan_for
from test_quality_rate import facts

from stem4d.calibrate.disk import find_disk
from stem4d.maps import RunMaps
from stem4d.quality.file import FileKnowledge, judge_file
from stem4d.quality.judge import judge
from stem4d.verdict import QualityResult, Verdict

SCANS = st.tuples(st.integers(1, 9), st.integers(1, 9))
LEVELS = st.sampled_from([0.0, 1e-4, 0.3, 5.0, 300.0, 1e5])
DEPTHS = st.sampled_from([1, 6, 8, 12, 16])


@st.composite
def recordings(draw: st.DrawFn) -> tuple[RunMaps, int, np.ndarray]:
    """Noise, a disk, or nothing; of any depth, wrapped or clipped; with holes, NaN centres and any mask."""
    scan, bits = draw(SCANS), draw(DEPTHS)
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    mean = np.full((24, 24), draw(LEVELS))
    mean[6:18, 6:18] += draw(LEVELS)
    counts = random.poisson(mean, (*scan, 24, 24))
    counts = counts % 2**bits if draw(st.booleans()) else np.minimum(counts, 2**bits - 1)
    full_scale = draw(st.sampled_from([2**bits - 1, None]))
    mask = random.random((24, 24)) < draw(st.sampled_from([0.0, 0.05, 1.0]))
    maps = maps_of(counts, full_scale, mask)
    there = random.random(scan) < draw(st.sampled_from([0.0, 0.5, 1.0]))
    gone = np.where(there, 1, 0)
    maps = replace(
        maps,
        recorded=there,
        total=maps.total * gone.astype(np.uint64),
        maximum=maps.maximum * gone.astype(np.uint32),
        saturated_px=maps.saturated_px * gone.astype(np.uint32),
        invalid_px=random.integers(0, 2, scan).astype(np.uint32) * gone.astype(np.uint32),
        com_y_px=np.where(there, maps.com_y_px, np.nan).astype(np.float32),
        com_x_px=np.where(there, maps.com_x_px, np.nan).astype(np.float32),
    )
    if not there.any():
        maps = replace(maps, sum_pattern=np.zeros_like(maps.sum_pattern), max_pattern=np.zeros_like(maps.max_pattern))
    if draw(st.booleans()):
        maps = replace(maps, virtual={"disk": maps.total, "beyond_disk": maps.total // np.uint64(7)})
    if draw(st.booleans()):
        maps = replace(maps, came_twice=random.random(scan) < 0.3, corrupt=~there & (random.random(scan) < 0.3))
    return maps, bits, mask


def told(results: tuple[QualityResult, ...]) -> None:
    """Every result has a reason, and figures that can be written down."""
    for each in results:
        assert each.message
        for figure in (each.value, each.limit, each.uncertainty):
            assert figure is None or isfinite(figure)


@given(recordings(), st.booleans(), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_a_run_always_gets_its_verdicts(made: tuple[RunMaps, int, np.ndarray], known: bool, passes: int) -> None:
    maps, bits, mask = made
    truth = Truth(scan=maps.scan_shape, detector=(24, 24), radius=6.0)
    plan = plan_for(truth, (COM, {"kind": "ptychography", "target_d_a": 3.0}), detector__bit_depth=bits)
    detector = facts(1e6, wraps_at_bits=bits) if known else None
    starts = [100.0 * index for index in range(passes)]
    results = judge(plan, [maps] * passes, starts, bad_pixels=mask, detector=detector)
    told(results)
    verdicts: dict[str, Any] = {each.metric: each.verdict for each in results if each.analysis is None}
    if maps.frames == 0:
        assert verdicts["frames.missing"] is Verdict.FAIL
        assert Verdict.PASS not in {verdicts[one] for one in verdicts if one.startswith(("beam.", "dose.", "pixels."))}
    if mask.all():
        assert verdicts["pixels.dead"] is Verdict.NOT_MEASURABLE
        assert not any(
            each.verdict is Verdict.PASS and each.metric in ("saturation.disk", "saturation.rate") for each in results
        )


@given(recordings())
@settings(max_examples=30, deadline=None)
def test_a_file_always_gets_its_verdicts(made: tuple[RunMaps, int, np.ndarray]) -> None:
    maps, _bits, mask = made
    results = judge_file(maps, find_disk(maps.sum_pattern, mask), mask, FileKnowledge())
    told(results)
    if maps.full_scale is None:
        saturation = [each for each in results if each.metric in ("saturation.disk", "saturation.mask")]
        assert all(each.verdict is Verdict.NOT_MEASURABLE for each in saturation)
