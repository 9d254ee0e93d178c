"""Drift between passes: recovered within its error, honest on lattices and single passes, no false alarm."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from quality_world import Truth, one, plan_for, recording
from test_calibrate_shift import scenes

from stem4d.errors import BadInput
from stem4d.maps import RunMaps
from stem4d.quality.drift import check_drift
from stem4d.quality.judge import verdict_by_analysis
from stem4d.quality.regions import Subject, subject_of_plan
from stem4d.verdict import Verdict

SCAN = (40, 40)
STEP_NM = 0.1
PLAIN = recording(0)
PASSES_S = (0.0, 30.0)


def _pass(scene: np.ndarray, rng: np.random.Generator, counts: float = 400.0, contrast: float = 0.1) -> RunMaps:
    """A pass whose bright-field image and deflections show a scene, with counting noise and a descan ramp."""
    bright = rng.poisson(counts * np.maximum(1 + contrast * scene, 0.05)).astype(np.uint64)
    noise = 10.0 / (2 * np.sqrt(counts))
    pull = np.gradient(scene)
    ramp = np.linspace(-2, 2, scene.shape[1])[None, :]
    com = [23.5 + 0.5 * each + ramp + rng.normal(0, noise, scene.shape) for each in pull]
    return replace(
        PLAIN,
        recorded=np.ones(scene.shape, bool),
        total=bright + rng.poisson(counts, scene.shape).astype(np.uint64),
        com_y_px=com[0].astype(np.float32),
        com_x_px=com[1].astype(np.float32),
        virtual={"disk": bright},
    )


def _subject(limit: float | None, **over: Any) -> Subject:
    changes = {"scan__shape": SCAN, **({"quality__max_drift_nm_per_min": limit} if limit is not None else {}), **over}
    return subject_of_plan(plan_for(Truth(), **changes), PLAIN)


def _two(rate_nm_per_min: tuple[float, float], seed: int, **more: float) -> list[RunMaps]:
    rng = np.random.default_rng(seed)
    shift = tuple(each * (PASSES_S[1] - PASSES_S[0]) / 60 / STEP_NM for each in rate_nm_per_min)
    return [_pass(scene, rng, **more) for scene in scenes(SCAN, (shift[0], shift[1]), rng)]


@pytest.mark.parametrize("more", [{}, {"contrast": 0.0}, {"counts": 100.0, "contrast": 0.1}])
def test_rates_are_recovered_within_their_errors(more: dict[str, float]) -> None:
    pulls = []
    rng = np.random.default_rng(1)
    for seed in range(8):
        truth = rng.uniform(-1, 1, 2)
        found = one(check_drift(_two(tuple(truth), seed, **more), PASSES_S, _subject(0.5)), "drift.rate")
        assert found.value is not None, found.message
        assert found.uncertainty is not None
        assert found.value == pytest.approx(np.hypot(*truth), abs=max(5 * found.uncertainty, 1e-3))
        pulls.append((found.value - np.hypot(*truth)) / found.uncertainty)
    assert np.std(pulls) < 2.0


def test_drift_beyond_a_stated_limit_fails_and_within_passes() -> None:
    for seed in range(4):
        assert one(check_drift(_two((0.8, -0.6), seed), PASSES_S, _subject(0.5)), "drift.rate").verdict is Verdict.FAIL
        assert one(check_drift(_two((0.1, 0.05), seed), PASSES_S, _subject(0.5)), "drift.rate").verdict is Verdict.PASS


def test_rule_limits_are_used_where_the_plan_states_none() -> None:
    results = check_drift(_two((0.0, 0.0), 3), PASSES_S, _subject(None))
    found = one(results, "drift.rate", "com")
    # 40 rows of 40 x 100 us are a pass of 0.16 s: 1 % of 4 nm in it are 15 nm/min; a tenth of a step in a line of
    # 4 ms are 150 nm/min.
    assert found.limit == pytest.approx(15.0, rel=1e-3)
    assert found.verdict is Verdict.PASS


def test_several_passes_tell_a_rate_better_than_two() -> None:
    rng = np.random.default_rng(5)
    whole = scenes(SCAN, (1.0, -0.5), rng)
    passes = [_pass(scene, rng) for scene in (whole[0], whole[1])]
    two = one(check_drift(passes, (0.0, 60.0), _subject(0.5)), "drift.rate")
    again = [*passes, _pass(whole[1], rng)]
    three = one(check_drift(again, (0.0, 60.0, 60.1), _subject(0.5)), "drift.rate")
    assert three.uncertainty is not None
    assert two.uncertainty is not None
    assert three.uncertainty < two.uncertainty


def test_one_pass_is_never_a_pass() -> None:
    found = one(check_drift([PLAIN], [0.0], _subject(0.5)), "drift.rate")
    assert found.verdict is Verdict.NOT_MEASURABLE
    assert found.analysis is None
    assert verdict_by_analysis([found]) == {}


def test_a_flat_specimen_is_not_measurable() -> None:
    rng = np.random.default_rng(0)
    flat = [_pass(np.zeros(SCAN), rng) for _ in range(2)]
    found = one(check_drift(flat, PASSES_S, _subject(0.5)), "drift.rate")
    assert found.verdict is Verdict.NOT_MEASURABLE


def test_a_lattice_gives_a_lower_bound_and_no_verdict() -> None:
    rng = np.random.default_rng(0)
    y, x = np.indices(SCAN)
    lattice = [np.cos(2 * np.pi * (y - d) / 5) + np.cos(2 * np.pi * x / 5) for d in (0.0, 1.0)]
    found = one(check_drift([_pass(each, rng) for each in lattice], PASSES_S, _subject(0.5)), "drift.rate")
    assert found.verdict is Verdict.NOT_MEASURABLE
    assert "repeats" in found.message


def test_a_standing_specimen_raises_no_alarm() -> None:
    verdicts = [
        one(check_drift(_two((0.0, 0.0), 100 + seed), PASSES_S, _subject(0.5)), "drift.rate").verdict
        for seed in range(15)
    ]
    assert set(verdicts) == {Verdict.PASS}


@pytest.mark.parametrize("starts", [(0.0,), (5.0, 5.0), (5.0, 1.0)])
def test_starts_that_make_no_sense_are_named(starts: tuple[float, ...]) -> None:
    with pytest.raises(BadInput):
        check_drift([PLAIN, PLAIN], starts, _subject(0.5))
