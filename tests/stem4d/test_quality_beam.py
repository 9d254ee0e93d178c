"""Dropouts, drift and flicker of the beam in totals of known truth, on even and on uneven specimens."""

from dataclasses import replace

import numpy as np
import pytest
from quality_world import maps_of

from stem4d.maps import RunMaps
from stem4d.quality.beam import check_beam
from stem4d.quality.dropouts import find_dropouts
from stem4d.verdict import QualityResult, Verdict

SCAN = (32, 32)
PASS, WARN, FAIL, UNKNOWN = Verdict.PASS, Verdict.WARN, Verdict.FAIL, Verdict.NOT_MEASURABLE
COUNTS = 3000.0


def specimen(seed: int, spread: float = 0.05) -> np.ndarray:
    """Part of the beam that reaches the detector: blobs of 4 positions."""
    y, x = np.indices(SCAN)
    random = np.random.default_rng(seed)
    image = sum(np.exp(-((y - at[0]) ** 2 + (x - at[1]) ** 2) / 32) for at in random.uniform(0, SCAN[0], (40, 2))) / 5
    return np.asarray(1 - spread * image)


def maps(
    current: np.ndarray | float = 1.0, seed: int = 0, scene: np.ndarray | None = None, counts: float = COUNTS
) -> RunMaps:
    """One pass of a beam whose current (frames,) is known."""
    random = np.random.default_rng(seed)
    through = specimen(seed) if scene is None else scene
    bright = random.poisson(0.95 * counts * through * np.reshape(current * np.ones(SCAN[0] * SCAN[1]), SCAN))
    dark = random.poisson(0.05 * counts * np.reshape(current * np.ones(SCAN[0] * SCAN[1]), SCAN))
    total = bright + dark
    blank = maps_of(np.zeros((*SCAN, 4, 4), np.int64), 4095)
    return replace(
        blank,
        total=total.astype(np.uint64),
        sum_pattern=np.full((4, 4), total.sum() // 16, np.uint64),
        virtual={"disk": bright.astype(np.uint64), "beyond_disk": dark.astype(np.uint64)},
    )


def dropped(first: int, frames: int, part: float) -> np.ndarray:
    current = np.ones(SCAN[0] * SCAN[1])
    current[first : first + frames] *= part
    return current


def judged(*passes: RunMaps) -> dict[str, QualityResult]:
    starts = [float(60 * index) for index in range(len(passes))]
    return {each.metric: each for each in check_beam(passes, starts, 50.0)}


# A frame, part of a row, over the end of a row, and over several rows; the last are more than 1 % without their beam.
@pytest.mark.parametrize(
    ("first", "frames", "part", "verdict"),
    [(500, 1, 0.5, WARN), (330, 9, 0.85, WARN), (500, 40, 0.8, WARN), (300, 150, 0.7, WARN), (0, 32, 0.0, FAIL)],
)
def test_a_dropout_is_found_where_it_is(first: int, frames: int, part: float, verdict: Verdict) -> None:
    made = maps(dropped(first, frames, part))
    found = judged(made)["beam.dropouts"]
    assert found.verdict is verdict, found.message
    (stretch,) = find_dropouts(made.total, made.recorded).stretches
    # Each end to two positions: a drop of 15 % is eight times the noise of a frame.
    assert (stretch[0], stretch[1]) == pytest.approx((first, first + frames), abs=2)
    # Its level to the noise of so many frames, and what two positions at the ends make of it.
    assert stretch[2] == pytest.approx(part, abs=4 * 0.02 / np.sqrt(frames) + 2 / frames * (1 - part) + 0.01)
    assert found.value == pytest.approx(frames / made.total.size, abs=4 / made.total.size)


# From the fourth row on, and from the last but one: however long it lasts, and a beam that was lost is told as lost.
@pytest.mark.parametrize("first", [100, 1000])
def test_a_beam_that_is_lost_is_seen_however_long(first: int) -> None:
    found = judged(maps(dropped(first, 1024 - first, 0.0)))["beam.dropouts"]
    assert found.verdict is FAIL
    assert found.value == pytest.approx(1 - first / 1024, abs=1e-9)


@pytest.mark.parametrize("seed", range(20))
def test_a_steady_beam_has_no_dropout_on_any_specimen(seed: int) -> None:
    found = judged(maps(1.0, seed, specimen(seed, spread=0.01 * seed)))
    assert found["beam.dropouts"].verdict is PASS, found["beam.dropouts"].message
    assert found["beam.drift"].verdict in (PASS, UNKNOWN)
    assert found["beam.flicker"].verdict in (PASS, UNKNOWN)


def test_a_particle_that_scatters_is_no_dropout() -> None:
    for place in (np.s_[8:20, 10:22], np.s_[0:5, 4:20], np.s_[28:, 28:], np.s_[10:12, 5:9], np.s_[4:30, 3:24]):
        thick = np.ones(SCAN)
        thick[place] = 0.6
        found = judged(maps(1.0, 1, thick))["beam.dropouts"]
        assert found.verdict is PASS, (place, found.message)


def test_a_band_along_the_rows_is_the_specimens_where_the_dark_field_rises() -> None:
    band = np.ones(SCAN)
    band[15:17] = 0.6
    dim = maps(1.0, 1, band)
    assert judged(dim)["beam.dropouts"].verdict is WARN
    brighter = dim.virtual["beyond_disk"].copy()
    brighter[15:17] *= 3
    scattering = replace(dim, virtual=dict(dim.virtual) | {"beyond_disk": brighter})
    found = judged(scattering)["beam.dropouts"]
    assert found.verdict is PASS
    assert "scattering only" in found.message


def test_a_slow_change_is_no_dropout_and_is_told_as_drift() -> None:
    found = judged(maps(np.linspace(1.2, 0.8, SCAN[0] * SCAN[1]), 2))
    assert found["beam.dropouts"].verdict is PASS
    assert found["beam.drift"].verdict is WARN
    # The specimen's own blobs of 5 % lie unevenly over the rows.
    assert found["beam.drift"].value == pytest.approx(0.4, abs=0.03)
    assert "Bright and dark field change together" in found["beam.drift"].message


def test_a_wedge_in_one_pass_is_not_told_from_drift() -> None:
    wedge = np.repeat(np.linspace(1.0, 0.7, SCAN[0])[:, None], SCAN[1], axis=1)
    found = judged(maps(1.0, 2, wedge))["beam.drift"]
    assert found.verdict is UNKNOWN
    assert "take two" in found.message


def test_two_passes_tell_drift_from_a_wedge() -> None:
    wedge = np.repeat(np.linspace(1.0, 0.7, SCAN[0])[:, None], SCAN[1], axis=1)
    steady = judged(maps(1.0, 2, wedge), maps(1.0, 3, wedge))["beam.drift"]
    assert steady.verdict is PASS
    # 12 % in the 60 s from start to start are 22 % in the 110 s to the end of the second pass: 1.12^(110/60).
    falling = judged(maps(1.0, 2, wedge), maps(0.88, 3, wedge))["beam.drift"]
    assert falling.verdict is WARN
    assert falling.value == pytest.approx(1 - 0.88 ** (110 / 60), abs=0.01)


def test_the_errors_of_drift_cover_the_truth() -> None:
    """In 40 runs: the change lies within 2.5 quoted errors in all but the two that chance allows (1 in 80)."""
    wrong = 0
    for seed in range(40):
        true = np.random.default_rng(seed).uniform(-0.2, 0.2)
        made = maps(np.linspace(1 - true / 2, 1 + true / 2, SCAN[0] * SCAN[1]), seed, np.ones(SCAN))
        found = judged(made)["beam.drift"]
        assert found.value is not None
        assert found.uncertainty is not None
        # 32 rows of 32 positions of 3000 counts know a line to sqrt(12/32) 0.0018/sqrt(32) x 32 / sqrt(32) = 0.2 %.
        assert 0.0005 < found.uncertainty < 0.006
        wrong += abs(found.value - abs(true)) > 2.5 * found.uncertainty
    assert wrong <= 2


def test_flicker_from_row_to_row_is_measured_between_passes() -> None:
    random = np.random.default_rng(5)
    flicker = 0.04
    passes = [
        maps(np.repeat(1 + flicker * random.standard_normal(SCAN[0]), SCAN[1]), seed, specimen(9)) for seed in (1, 2)
    ]
    found = judged(*passes)["beam.flicker"]
    assert found.verdict is WARN
    # 32 rows know a spread to 1/sqrt(2 x 31) of it, 13 %: three of these.
    assert found.value == pytest.approx(flicker, rel=0.4)
    alone = judged(passes[0])["beam.flicker"]
    assert alone.verdict is UNKNOWN
    steady = judged(maps(1.0, 1, specimen(9)), maps(1.0, 2, specimen(9)))["beam.flicker"]
    assert steady.verdict is PASS


@pytest.mark.parametrize("scan", [(1, 1), (1, 2), (2, 1), (1, 30), (3, 3)])
def test_little_data_is_no_silent_pass_and_no_crash(scan: tuple[int, int]) -> None:
    frames = np.random.default_rng(1).poisson(5.0, (*scan, 8, 8))
    found = {each.metric: each for each in check_beam([maps_of(frames, 4095)], [0.0], None)}
    assert found["beam.drift"].verdict is UNKNOWN
    assert found["beam.flicker"].verdict is UNKNOWN
    if scan[0] * scan[1] < 3:
        assert found["beam.dropouts"].verdict is UNKNOWN


def test_nothing_recorded_and_an_empty_beam_are_not_known() -> None:
    for made in (
        maps_of(np.zeros((6, 6, 8, 8), np.int64), 4095),
        maps_of(np.ones((6, 6, 8, 8), np.int64), 4095, missing=36),
    ):
        assert {each.verdict for each in check_beam([made], [0.0], 1.0)} == {UNKNOWN}


def test_clipped_totals_do_not_tell_the_current() -> None:
    made = maps(1.0, 1)
    # 3000 counts, of which a pixel at 4095 would be more than all: the share is what counts.
    clipped = replace(made, saturated_px=np.ones(SCAN, np.uint32))
    found = judged(clipped)
    assert {each.verdict for each in found.values()} == {UNKNOWN}
    assert "clipped" in found["beam.drift"].message
