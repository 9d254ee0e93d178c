"""Data that carry strain badly or not at all: refused or doubted with the reason, never a silent wrong number."""

import numpy as np
import pytest
from pydantic import ValidationError

from benchmarks.strain_set import StrainSet
from stem4d.analyse.method import NotPossible
from stem4d.analyse.strain.method import finish, prepare
from stem4d.analyse.strain.options import StrainOptions
from stem4d.errors import BadInput
from tests.stem4d.analyse_world import InMemory
from tests.stem4d.strain_world import DETECTOR, analysed, given, maps, world


@pytest.fixture(scope="module")
def strained() -> StrainSet:
    return world((6, 12))


def disk_pattern(places: list[tuple[float, float]], level: float = 20.0) -> np.ndarray:
    y, x = np.indices(DETECTOR)
    pattern = np.full(DETECTOR, 0.02)
    for at_y, at_x in places:
        pattern += level * np.clip(5.5 - np.hypot(y - at_y, x - at_x), 0, 1)
    return pattern


def drawn(pattern: np.ndarray, scan: tuple[int, int] = (4, 6)) -> np.ndarray:
    return np.random.default_rng(8).poisson(pattern, (*scan, *DETECTOR)).astype(np.uint16)


def test_no_lattice_is_refused() -> None:
    for places, why in (
        ([(63.5, 63.5)], "0 Bragg disks"),
        ([(63.5, 63.5), (63.5, 90.0)], "1 Bragg disk "),
        ([(63.5, 63.5), (63.5, 37.0), (63.5, 90.0)], "no lattice"),
    ):
        with pytest.raises(NotPossible, match=why):
            analysed(given(), StrainOptions(), drawn(disk_pattern(places)))


def test_nothing_recorded_and_nothing_counted_are_refused(strained: StrainSet) -> None:
    with pytest.raises(NotPossible, match="no frame"):
        analysed(given(), StrainOptions(), strained.frames, np.zeros((6, 12), bool))
    with pytest.raises(NotPossible, match="no counts"):
        analysed(given(), StrainOptions(), np.zeros_like(strained.frames))
    rng = np.random.default_rng(1)
    with pytest.raises(NotPossible):
        analysed(given(), StrainOptions(), rng.poisson(1.0, (4, 4, *DETECTOR)).astype(np.uint16))


@pytest.mark.parametrize(("apart_px", "overlap"), [pytest.param(9.0, True, marks=pytest.mark.slow), (10.6, False)])
def test_disks_that_overlap_are_refused_or_doubted_and_those_that_touch_are_not(apart_px: float, overlap: bool) -> None:
    square = [(63.5 + apart_px * h, 63.5 + apart_px * k) for h in range(-3, 4) for k in range(-3, 4)]
    frames = drawn(disk_pattern(square))
    if overlap:
        with pytest.raises(NotPossible, match="disks overlap by"):
            analysed(given(), StrainOptions(), frames)
    looked, _, outcome = analysed(given(), StrainOptions(accept_disk_overlap=True, target_strain=0.01), frames)
    np.testing.assert_allclose(np.hypot(*looked["vectors_px"]), apart_px, atol=0.05)
    assert (outcome.verdict, "overlap" in outcome.reason) == (("doubtful", True) if overlap else ("good", False))
    assert abs(float(outcome.figures["exx_median"] or 0)) < 1e-3


def test_missing_frames_have_no_strain_and_do_not_matter_to_the_others(strained: StrainSet) -> None:
    recorded = np.ones((6, 12), bool)
    recorded[2], recorded[4, 5:] = False, False
    _, _, outcome = analysed(given(), StrainOptions(), strained.frames, recorded)
    for values, sigma in maps(outcome).values():
        assert np.isnan(values[~recorded]).all()
        assert np.isnan(sigma[~recorded]).all()
        assert np.isfinite(values[recorded]).all()
    assert outcome.figures["positions"] == recorded.sum()
    assert outcome.verdict == "good"


@pytest.mark.parametrize("scan", [(1, 24), (24, 1), (1, 1)])
def test_one_row_one_column_and_one_position(scan: tuple[int, int]) -> None:
    _, _, outcome = analysed(given(), StrainOptions(), world(scan).frames)
    assert outcome.figures["positions_fitted"] == scan[0] * scan[1]


def test_hot_pixels_gaps_and_dead_pixels_do_not_move_the_strain(strained: StrainSet) -> None:
    _, _, clean = analysed(given(), StrainOptions(), strained.frames)
    spoilt = strained.frames.copy()
    spoilt[..., 62, 66] = 4095  # unknown, in the undeflected disk
    spoilt[..., 45, 50] = 4095
    gap = np.zeros(DETECTOR, bool)
    gap[70:72] = True
    spoilt[..., 70:72, :] = 0
    _, _, outcome = analysed(given(bad_pixels=gap, full_scale=4095), StrainOptions(), spoilt)
    assert outcome.verdict == "good", outcome.reason
    for name, (values, sigma) in maps(outcome).items():
        # The same frames with fewer disks: differences stay well below the errors of either.
        off = (values - maps(clean)[name][0]) / sigma
        assert np.abs(off).max() < 3.0, name
        assert off.std() < 0.8, name
    assert 0.95 < float(outcome.figures["misfit"] or 0) < 1.1


def test_nan_of_an_integrating_detector(strained: StrainSet) -> None:
    data = strained.frames.astype(np.float32) * 30.0
    data[1, 2] = np.nan
    data[3, 3, 60:66, 60:66] = np.nan
    _, fits, outcome = analysed(given(counts_per_electron=30.0), StrainOptions(), data)
    values, sigma = maps(outcome)["exx"]
    assert np.isnan(values[1, 2])
    assert np.isfinite(values[3, 3])
    assert fits["disks"][3, 3] == np.median(fits["disks"]) - 1
    plain = maps(analysed(given(), StrainOptions(), strained.frames)[2])["exx"]
    np.testing.assert_allclose(np.nanmedian(sigma), np.median(plain[1]), rtol=0.02)
    data[..., 60, 40] = np.nan  # a dead pixel of every frame: known, and then unknown
    dead = np.zeros(DETECTOR, bool)
    dead[60, 40] = True
    masked = analysed(given(counts_per_electron=30.0, bad_pixels=dead), StrainOptions(), data)[2]
    assert masked.figures["positions_fitted"] == 71
    with pytest.raises(NotPossible, match="no numbers"):
        analysed(given(), StrainOptions(), data)
    with pytest.raises(NotPossible, match="no numbers"):
        analysed(given(), StrainOptions(), np.full((2, 2, *DETECTOR), np.nan, np.float32))


def test_slow_descan_of_many_pixels_is_followed() -> None:
    steady = world((6, 12))
    for step, origin in ((2, np.array([63.5, 63.5])), (3, None)):
        moved = np.stack([np.roll(row, step * (n - 3), axis=1) for n, row in enumerate(steady.frames)])
        true = steady.origin_px.copy()
        true[0] += step * (np.arange(6)[:, None] - 3)
        # Beyond half the lattice's spacing only a map tells which disk is which.
        origin = true if origin is None else origin
        _, fits, outcome = analysed(given(origin_px=origin), StrainOptions(), moved)
        assert outcome.figures["positions_fitted"] == 72
        off = fits["lattice_px"][..., 0] - np.moveaxis(true, 0, -1)
        assert np.abs(off).max() < 0.15


def test_doubts_are_told(strained: StrainSet) -> None:
    looked, fits, _ = analysed(given(), StrainOptions(), strained.frames)
    for options, known, why in (
        (StrainOptions(target_strain=1e-4), given(), "is known to"),
        (StrainOptions(fewest_disks=60), given(), "fewer than 60 disks"),
        (StrainOptions(reflection_d_a=3.0), given(), "no disk has the spacing"),
        (StrainOptions(), given(full_scale=5), "full scale"),
    ):
        outcome = finish(known, options, looked, fits)
        assert outcome.verdict == "doubtful"
        assert why in outcome.reason


def test_few_electrons_a_disk_are_doubted(strained: StrainSet) -> None:
    *_rest, outcome = analysed(given(electrons_per_pattern=900.0), StrainOptions(target_strain=0.1), strained.frames)
    assert outcome.verdict == "doubtful"
    assert "electrons" in outcome.reason


def test_two_crystals_are_no_lattice() -> None:
    turn = np.array([[np.cos(0.35), -np.sin(0.35)], [np.sin(0.35), np.cos(0.35)]])
    square = np.array([(18.0 * h, 18.0 * k) for h in range(-2, 3) for k in range(-2, 3)])
    both = [(63.5 + y, 63.5 + x) for y, x in (*square, *(square @ turn.T))]
    with pytest.raises(NotPossible, match="several crystals"):
        analysed(given(), StrainOptions(), drawn(disk_pattern(both)))


def test_half_a_scan_without_crystal_is_doubted(strained: StrainSet) -> None:
    data = strained.frames.copy()
    data[:, 6:] = drawn(disk_pattern([(63.5, 63.5)]), (6, 6))
    _, _, outcome = analysed(given(), StrainOptions(), data)
    assert outcome.verdict == "doubtful"
    assert "50% of the positions show fewer than 5 disks" in outcome.reason
    assert np.isnan(maps(outcome)["exx"][0][:, 6:]).all()


def test_input_that_cannot_be_meant(strained: StrainSet) -> None:
    rows = InMemory(strained.frames)
    for known, field in (
        (given(bad_pixels=np.zeros((64, 64), bool)), "bad_pixels"),
        (given(origin_px=np.array([200.0, 3.0])), "origin_px"),
        (given(origin_px=np.zeros((2, 3, 3))), "origin_px"),
        (given(origin_px=np.full(2, np.nan)), "origin_px"),
        (given(mrad_per_pixel=0.0), "mrad_per_pixel"),
        (given(counts_per_electron=float("nan")), "counts_per_electron"),
    ):
        with pytest.raises(BadInput) as told:
            prepare(known, StrainOptions(), rows)
        assert told.value.field == field
    with pytest.raises(BadInput, match="reference_region"):
        prepare(given(), StrainOptions(reference_region=(0, 0, 7, 12)), rows)
    with pytest.raises(BadInput, match="pixels that are good"):
        prepare(given(bad_pixels=np.ones(DETECTOR, bool)), StrainOptions(), rows)


@pytest.mark.parametrize(
    "options",
    [
        {"reference": "absolute"},
        {"reference": "absolute", "lattice_a_nm": 0.4, "reference_region": (0, 0, 1, 1)},
        {"reference_region": (3, 0, 3, 4)},
        {"lattice_angle_deg": 5.0},
        {"target_strain": 0.0},
        {"colour": "red"},
    ],
)
def test_options_that_cannot_be_meant(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        StrainOptions(**options)  # type: ignore[arg-type]
