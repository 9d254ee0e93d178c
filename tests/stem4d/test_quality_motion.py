"""Movement of the pattern and of the specimen: accuracy, honest errors, reference scans, and what nobody can tell."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from quality_world import COM, Truth, one, plan_for, recording
from scan_world import film, maps_of_scene

from stem4d.errors import BadInput
from stem4d.maps import RunMaps
from stem4d.quality.centring import check_centring
from stem4d.quality.descan import check_descan
from stem4d.quality.drift import check_drift
from stem4d.quality.drift_seen import Scans
from stem4d.quality.judge import judge
from stem4d.quality.movement import movement_of
from stem4d.quality.regions import Subject, subject_of_plan
from stem4d.verdict import QualityResult, Verdict

PASS, WARN, FAIL, UNKNOWN = Verdict.PASS, Verdict.WARN, Verdict.FAIL, Verdict.NOT_MEASURABLE
STRAIN = {"kind": "strain", "reflection_d_a": 2.0, "target_strain": 0.01, "smallest_feature_nm": 2.0}
PLAIN = recording(0)
SHAPE = (32, 32)


def _moving(places_px: np.ndarray, rng: np.random.Generator, noise_px: float = 0.1) -> RunMaps:
    """A pass whose centres lie at the places (2, scan_y, scan_x), with counting noise."""
    com = (places_px + rng.normal(0, noise_px, places_px.shape)).astype(np.float32)
    shape = places_px.shape[1:]
    return replace(
        maps_of_scene(np.zeros(shape), rng, 1000.0),
        com_y_px=com[0],
        com_x_px=com[1],
        sum_pattern=PLAIN.sum_pattern,
        max_pattern=PLAIN.max_pattern,
    )


def _surface(slope: np.ndarray, curve: np.ndarray) -> np.ndarray:
    at = np.linspace(-1, 1, SHAPE[0])
    y, x = np.meshgrid(at, at, indexing="ij")
    return np.asarray(23.5 + np.tensordot(slope, [y, x], 1) + np.tensordot(curve, [y * y, y * x, x * x], 1))


def _range_px(places: np.ndarray) -> float:
    flat = places.reshape(2, -1)
    return float(max(np.hypot(*(flat - flat[:, [k]])).max() for k in range(flat.shape[1])))


@pytest.mark.parametrize("bent", [0.0, 0.5])
def test_descan_is_known_to_a_fiftieth_of_a_pixel_and_its_error_holds(bent: float) -> None:
    rng = np.random.default_rng(1)
    off, pulls = [], []
    for _ in range(30):
        true = _surface(rng.normal(0, 0.5, (2, 2)), bent * rng.normal(size=(2, 3)))
        moved = movement_of(_moving(true, rng))
        assert moved.ok, moved.reason
        error = moved.places_px - true
        off.append(np.sqrt(np.mean((error - error.mean(axis=(1, 2), keepdims=True)) ** 2)))
        pulls.append((moved.range_px - _range_px(true)) / moved.range_uncertainty_px)
    assert max(off) < 0.02
    # Thirty: of honest errors 21 lie within one sigma, give or take 2.6; none beyond 3.5.
    assert np.mean(np.abs(pulls) < 1) > 0.5
    assert np.max(np.abs(pulls)) < 3.5


def test_a_curve_moves_the_pattern_though_no_plane_says_so() -> None:
    rng = np.random.default_rng(2)
    true = _surface(np.zeros((2, 2)), np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]]))
    results = check_descan(_moving(true, rng), _subject({"kind": "ptychography", "target_d_a": 2.0}))
    found = one(results, "descan.range")
    assert found.value == pytest.approx(1.0, abs=0.05)
    assert found.verdict is WARN
    assert "along a curve" in found.message
    # The surface takes it off.
    assert one(results, "descan.residual").verdict is PASS


def test_what_no_surface_describes_is_no_alarm_and_no_pass() -> None:
    rng = np.random.default_rng(3)
    wave = 0.5 * np.sin(np.linspace(0, 4 * np.pi, SHAPE[0]))[:, None] * np.ones(SHAPE)
    results = check_descan(_moving(np.stack([23.5 + wave, 23.5 + 0 * wave]), rng), _subject(COM))
    found = one(results, "descan.residual")
    assert found.verdict is UNKNOWN
    # A sine of amplitude 0.5 has 0.35 rms, half of it over two axes; a surface takes a little of it.
    assert found.value == pytest.approx(0.25, abs=0.08)


@pytest.mark.parametrize(("origin", "verdict"), [("fixed", FAIL), ("per_pattern", PASS)])
def test_the_strain_that_descan_fakes(origin: str, verdict: Verdict) -> None:
    rng = np.random.default_rng(4)
    true = _surface(np.array([[0.25, 0.0], [0.0, 0.0]]), np.zeros((2, 3)))
    found = one(check_descan(_moving(true, rng), _subject(STRAIN | {"origin": origin})), "descan.strain")
    # 0.5 px over 9.84 px: λ/d of 2 Å at 300 kV is 9.84 mrad, at 1 mrad a pixel.
    assert found.value == pytest.approx(0.5 / 9.84, rel=0.05)
    assert found.verdict is verdict


def _subject(*analyses: dict[str, Any], **over: Any) -> Subject:
    return subject_of_plan(plan_for(Truth(), analyses, **{"scan__shape": SHAPE, **over}), PLAIN)


@pytest.mark.parametrize(("off_px", "verdict"), [(0.9, PASS), (1.2, WARN), (1.5, WARN)])
def test_the_offset_is_weighed_with_its_error(off_px: float, verdict: Verdict) -> None:
    truth = Truth(offset=(off_px, 0.0))
    maps = recording(1, **vars(truth))
    subject = subject_of_plan(plan_for(truth), maps)
    found = one(check_centring(maps, subject), "centring.offset")
    assert found.verdict is verdict
    assert found.uncertainty is not None
    assert found.value == pytest.approx(off_px, abs=4 * found.uncertainty)
    vague = replace(subject, fit=replace(subject.fit, centre_uncertainty_px=(0.5, 0.5)))
    assert one(check_centring(maps, vague), "centring.offset").verdict in (UNKNOWN, WARN)


STEP_NM = 0.1
LINE_S, FLYBACK_US, DWELL_US = 0.32, 0.0, 1e4
"""32 positions of 10 ms: a pass takes 10.24 s."""


def _drifting(rate_px_per_s: tuple[float, float], starts: list[float], line_s: list[float], seed: int) -> list[RunMaps]:
    """Scans of a film that drifts on while they last."""
    rng = np.random.default_rng(seed)
    scene = film(rng)
    y, x = np.indices(SHAPE).astype(float)
    made = []
    for start, line in zip(starts, line_s, strict=True):
        at_s = start + (y + x / SHAPE[1]) * line
        made.append(maps_of_scene(scene(y - rate_px_per_s[0] * at_s, x - rate_px_per_s[1] * at_s), rng, 1000.0))
    return made


def _slow(limit: float | None = None) -> Subject:
    over: dict[str, Any] = {} if limit is None else {"quality__max_drift_nm_per_min": limit}
    return _subject(COM, exposure__dwell_time_us=DWELL_US, **over)


def _in_pass(results: tuple[QualityResult, ...]) -> QualityResult:
    return one(results, "drift.in_pass")


@pytest.mark.parametrize("rate", [(0.02, 0.01), (0.1, -0.05), (-0.06, 0.0)])
def test_reference_scans_before_and_after_tell_the_drift_within_one_pass(rate: tuple[float, float]) -> None:
    for seed in range(4):
        before, slow, after = _drifting(rate, [0.0, 2.0, 14.0], [0.01, LINE_S, 0.01], seed)
        results = check_drift([slow], [2.0], _slow(1.0), Scans((before, after), (0.0, 14.0), STEP_NM, 0.01))
        true = np.hypot(*rate)
        found = one(results, "drift.rate")
        # Within 5 % or 0.1 px over the 14 s between them.
        assert found.value == pytest.approx(true * STEP_NM * 60, abs=max(0.05 * true, 0.1 / 14) * STEP_NM * 60)
        steps = _in_pass(results)
        assert steps.value == pytest.approx(true * 32 * LINE_S, abs=max(0.05 * true * 32 * LINE_S, 0.1))
        assert steps.verdict is found.verdict is PASS


def test_one_fast_scan_of_the_same_raster_tells_it_too() -> None:
    errors, pulls = [], []
    for seed in range(6):
        rate = np.random.default_rng(seed).uniform(-0.15, 0.15, 2)
        fast, slow = _drifting((float(rate[0]), float(rate[1])), [0.0, 2.0], [0.005, LINE_S], seed)
        results = check_drift([slow], [2.0], _slow(1.0), Scans((fast,), (0.0,), STEP_NM, 0.005))
        found = _in_pass(results)
        assert found.value is not None
        assert found.uncertainty is not None
        errors.append(found.value - np.hypot(*rate) * 32 * LINE_S)
        pulls.append(errors[-1] / found.uncertainty)
    # Two halves of 16 rows, each known to a tenth of a step, against each other.
    assert np.max(np.abs(errors)) < 0.5
    assert np.sqrt(np.mean(np.square(pulls))) < 2.5


def test_a_single_reference_of_another_raster_tells_nothing() -> None:
    fast, slow = _drifting((0.1, 0.0), [0.0, 2.0], [0.005, LINE_S], 0)
    other = Scans((fast,), (0.0,), 0.2, 0.005)
    assert one(check_drift([slow], [2.0], _slow(1.0), other), "drift.rate").verdict is UNKNOWN


def test_passes_that_show_the_specimen_and_nothing_in_common_raise_an_alarm() -> None:
    for seed in range(4):
        away = _drifting((4.0, 3.0), [0.0, 60.0], [0.001, 0.001], seed)
        found = one(check_drift(away, [0.0, 60.0], _slow(0.5)), "drift.rate")
        assert found.verdict is WARN, found.message
        # 0.3 of 32 steps in a minute.
        assert found.value == pytest.approx(0.96, rel=0.05)
        assert found.uncertainty is None


def test_a_flickering_beam_over_nothing_is_no_specimen() -> None:
    rng = np.random.default_rng(5)
    for _ in range(5):
        flicker = [1 + 0.3 * rng.normal(size=(SHAPE[0], 1)) * np.ones(SHAPE) for _ in range(2)]
        made = [maps_of_scene(each, rng, 200.0) for each in flicker]
        assert one(check_drift(made, [0.0, 60.0], _slow(0.01)), "drift.rate").verdict is UNKNOWN


def test_a_moving_disk_does_not_hold_the_drift_back() -> None:
    """A disk that moves over the field draws a picture of its own, which stands still."""
    for seed in range(4):
        made = _drifting((0.05, 0.03), [0.0, 60.0], [0.001, 0.001], seed)
        rng = np.random.default_rng(seed)
        y, x = np.meshgrid(np.linspace(-1, 1, 32), np.linspace(-1, 1, 32), indexing="ij")
        ghost = 1 - 0.12 * np.hypot(y - 0.2, x) ** 3
        moving = []
        for each in made:
            disk = (each.virtual["disk"] * ghost).astype(np.uint64)
            com = (23.5 + 2 * y + rng.normal(0, 0.1, SHAPE)).astype(np.float32)
            moving.append(replace(each, virtual={"disk": disk}, com_y_px=com, total=disk))
        found = one(check_drift(moving, [0.0, 60.0], _slow(0.1)), "drift.rate")
        # Known to 5 %, which is more than 0.1 px over the minute.
        assert found.value == pytest.approx(np.hypot(0.05, 0.03) * STEP_NM * 60, rel=0.05)


def test_a_jump_between_passes_is_told_and_left_out_of_the_rate() -> None:
    rng = np.random.default_rng(6)
    scene = film(rng)
    y, x = np.indices((48, 48)).astype(float)
    places = [(0.2 * k + (4.0 if k > 3 else 0.0), 0.1 * k) for k in range(7)]
    made = [maps_of_scene(scene(y - dy, x - dx), rng, 1000.0) for dy, dx in places]
    results = check_drift(made, [60.0 * k for k in range(7)], _slow(0.5))
    jump = one(results, "drift.jump")
    assert jump.verdict is WARN
    assert jump.value == pytest.approx(4.0, abs=0.3)
    assert one(results, "drift.rate").value == pytest.approx(np.hypot(0.2, 0.1) * STEP_NM, abs=0.01)


def test_starts_of_the_references_that_make_no_sense_are_named() -> None:
    with pytest.raises(BadInput, match="references"):
        check_drift([PLAIN], [0.0], _slow(), Scans((PLAIN, PLAIN), (3.0, 1.0), STEP_NM))


@st.composite
def _broken(draw: st.DrawFn) -> list[RunMaps]:
    """One to three passes of any small raster, with gaps, empty frames or nothing that makes sense in their maps."""
    shape = draw(st.tuples(st.integers(1, 14), st.integers(1, 14)))
    rng = np.random.default_rng(draw(st.integers(0, 1000)))
    made = []
    for _ in range(draw(st.integers(1, 3))):
        one_pass = maps_of_scene(rng.normal(size=shape), rng, draw(st.sampled_from([0.0, 0.2, 50.0])))
        seen = rng.random(shape) < draw(st.sampled_from([0.0, 0.5, 1.0]))
        com = np.where(seen, one_pass.com_y_px, np.nan).astype(np.float32)
        if draw(st.booleans()):
            com = np.full(shape, draw(st.sampled_from([np.nan, 0.0, 1e6])), np.float32)
        made.append(replace(one_pass, recorded=seen, com_y_px=com))
    return made


@hypothesis_settings(max_examples=60)
@given(_broken())
def test_whatever_was_recorded_gets_a_verdict_with_a_reason(made: list[RunMaps]) -> None:
    plan = plan_for(Truth(detector=(32, 32)), (COM, STRAIN), scan__shape=made[0].scan_shape)
    results = judge(plan, made, [60.0 * k for k in range(len(made))])
    assert all(each.message for each in results)
    if not any(each.recorded.any() for each in made):
        moving = [each for each in results if each.metric.split(".")[0] in ("drift", "descan", "centring", "scan")]
        assert moving
        assert {each.verdict for each in moving} == {UNKNOWN}
