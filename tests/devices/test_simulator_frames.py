"""What the simulated detector records: counts, beam on and off, descan, drift, bad pixels, pace."""

import gc
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from devices.simulator.instrument import SimulatedInstrument
from devices.simulator.settings import Truth
from devices.simulator.source import FRAMES_TOGETHER, PACED_BATCH_S
from devices.simulator.state import State
from stem4d.dose import electrons
from tests.devices.simulator_world import (
    AREA,
    DELTA_MRAD,
    Clock,
    centres_px,
    column,
    exposed_frames,
    instrument_file,
    lease,
    opened,
    prepared,
    raster,
    received,
    run,
)


def test_total_counts_are_current_times_time(tmp_path: Path) -> None:
    frames = exposed_frames(opened(tmp_path), scan=raster((20, 20)))
    expected = electrons(50.0, 100.0) * len(frames)
    # Four sigma of Poisson, and the single precision of the patterns.
    assert frames.sum() == pytest.approx(expected, abs=4 * np.sqrt(expected) + 1e-6 * expected)
    # The spread of single frames is Poisson's too: its own relative error is sqrt(2/400).
    assert frames.sum((1, 2)).var() / frames.sum((1, 2)).mean() == pytest.approx(1, abs=4 * np.sqrt(2 / 400))


@pytest.mark.parametrize(("commanded", "ratio"), [(29.0, 1.0), (30.0, 2.5), (60.0, 3.0)])
def test_the_current_table_may_be_wrong(tmp_path: Path, commanded: float, ratio: float) -> None:
    table = [{"above_pa": 30.0, "ratio": 2.5}, {"above_pa": 50.0, "ratio": 3.0}]
    instrument = opened(tmp_path, current_ratio_above_pa=table)
    frames = exposed_frames(instrument, column=column(probe_current_pa=commanded))
    assert frames.sum() == pytest.approx(ratio * electrons(commanded, 100.0) * 24, rel=0.005)
    readings = {reading.name: reading.value for reading in instrument.column.snapshot()}
    assert readings["probe_current_pa"] == commanded


def test_pattern_centres_follow_the_documented_formula_and_calibration_undoes_them(tmp_path: Path) -> None:
    error, off = np.array([[3.0, 0.8], [-1.2, 2.0]]), np.array([2.0, -3.0])
    instrument = opened(tmp_path, descan_error_mrad_per_nm=error.tolist(), misalignment_mrad=off.tolist())
    scan = raster((16, 16))
    positions = (np.indices((16, 16)).reshape(2, -1).T - 7.5) * 0.1
    current = {"probe_current_pa": 100.0}
    centres = centres_px(exposed_frames(instrument, scan=scan, column=column(**current))) * DELTA_MRAD
    design = np.column_stack([positions, np.ones(len(positions))])
    fit = np.linalg.lstsq(design, centres, rcond=None)[0].T
    # Centres are known to 10 mrad / (2 sqrt(6e4)) = 0.02 mrad each; slopes to that over 16 x 0.46 nm: 0.003; 5 sigma.
    np.testing.assert_allclose(fit[:, :2], error, atol=0.015)
    np.testing.assert_allclose(fit[:, 2], off, atol=0.01)
    correction = tuple(tuple(row) for row in (-fit[:, :2]).tolist())
    corrected = column(**current, descan_mrad_per_nm=correction, diffraction_shift_mrad=tuple((-fit[:, 2]).tolist()))
    again = centres_px(exposed_frames(instrument, scan=scan, column=corrected)) * DELTA_MRAD
    assert np.abs(np.linalg.lstsq(design, again, rcond=None)[0]).max() < 0.02


def test_scan_rotation_turns_the_picture(tmp_path: Path) -> None:
    area = {**AREA, "specimen": "random", "spacing_a": 6.0, "modulation": 0.0}
    scan = raster((12, 12), step_nm=0.08)
    pictures = []
    for rotation, hidden in ((0.0, 0.0), (90.0, 0.0), (0.0, 90.0)):
        instrument = opened(tmp_path / f"{rotation}{hidden}", areas={"sample": area}, scan_detector_rotation_deg=hidden)
        turned = scan.model_copy(update={"rotation_deg": rotation})
        pictures.append(dark_field(exposed_frames(instrument, position="sample", scan=turned)).reshape(12, 12))
    # x turned towards y: the picture's x runs along the specimen's y, its y against the specimen's x.
    expected = pictures[0].T[::-1]
    assert np.corrcoef(pictures[1].ravel(), expected.ravel())[0, 1] > 0.95
    # The hidden rotation is the same turn, with the same seed and run: the same frames.
    np.testing.assert_array_equal(pictures[1], pictures[2])


def dark_field(frames: np.ndarray) -> np.ndarray:
    y, x = np.indices(frames.shape[1:]) - 15.5
    return frames[:, np.hypot(y, x) > 7].sum(1).astype(float)


def test_features_move_with_the_drift_from_when_it_starts(tmp_path: Path) -> None:
    area = {**AREA, "specimen": "random", "spacing_a": 6.0, "modulation": 0.0}
    drifting = {**area, "drift_nm_per_min": [6.0, -3.0], "drift_starts_s": 2.0}
    instrument = opened(tmp_path, areas={"sample": drifting})
    scan = raster((20, 20), step_nm=0.08, dwell_time_us=50.0, flyback_us=0.0)
    pictures = []
    for until_s in (0.0, 1.5, 4.0):
        instrument.pause(max(0.0, until_s - instrument.now_s()))
        pictures.append(dark_field(exposed_frames(instrument, position="sample", scan=scan)).reshape(20, 20))
    assert shift_px(pictures[0], pictures[1]) == (0, 0)
    # 2 s at (0.1, -0.05) nm/s over 0.08 nm: (2.5, -1.25) px, which the peak of a correlation gives to a pixel.
    moved = shift_px(pictures[0], pictures[2])
    assert moved[0] in (2, 3)
    assert moved[1] in (-1, -2)


def shift_px(first: np.ndarray, second: np.ndarray) -> tuple[int, int]:
    spectra = [np.fft.fft2(picture - picture.mean()) for picture in (first, second)]
    peak = np.unravel_index(np.argmax(np.fft.ifft2(spectra[1] * spectra[0].conj()).real), first.shape)
    return tuple((int(at) + size // 2) % size - size // 2 for at, size in zip(peak, first.shape, strict=True))


def test_bad_pixels_and_clipping(tmp_path: Path) -> None:
    instrument = opened(tmp_path, hot_pixels=[[3, 4]], dead_pixels=[[15, 15]])
    frames = exposed_frames(instrument, bit_depth=6)
    assert frames.dtype == np.uint8
    assert (frames[:, 3, 4] == 63).all()
    assert (frames[:, 15, 15] == 0).all()
    # 3.1e4 electrons on 79 pixels: the disk is far beyond 63.
    assert (frames[:, 13, 13] == 63).all()


def test_frames_come_again_out_of_the_same_seed_and_differ_from_run_to_run(tmp_path: Path) -> None:
    first, second, other = (opened(tmp_path / name, seed=seed) for name, seed in (("a", 9), ("b", 9), ("c", 10)))
    frames = exposed_frames(first)
    np.testing.assert_array_equal(frames, exposed_frames(second))
    assert (frames != exposed_frames(other)).any()
    assert (frames != exposed_frames(first)).any()


def test_frames_do_not_depend_on_the_size_of_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    instrument = opened(tmp_path)
    source = prepared(instrument, position="sample")
    run(instrument, source)
    usual = received(source)
    for together in (1, 7, 1000):
        monkeypatch.setattr("devices.simulator.source.FRAMES_TOGETHER", together)
        np.testing.assert_array_equal(received(source), usual)


@pytest.mark.parametrize(("shape", "lengths"), [((5, 20), [60, 40]), ((2, 100), [64, 36, 64, 36]), ((3, 64), [64] * 3)])
def test_batches_are_whole_rows_or_at_most_64_frames(
    tmp_path: Path, shape: tuple[int, int], lengths: list[int]
) -> None:
    instrument = opened(tmp_path)
    source = prepared(instrument, scan=raster(shape))
    run(instrument, source)
    with source.open() as frames:
        assert [len(batch.frames) for batch in frames.batches()] == lengths


def test_without_beam_the_frames_come_dark(tmp_path: Path) -> None:
    instrument = opened(tmp_path)
    source = prepared(instrument)
    instrument.detector.arm()
    instrument.scan.start()
    instrument.scan.wait()
    frames = received(source)
    assert len(frames) == 24
    assert frames.sum() == 0


def test_a_blank_during_the_scan_darkens_what_comes_after_it(tmp_path: Path) -> None:
    instrument = opened(tmp_path)
    source = prepared(instrument, scan=raster((8, 20)))
    instrument.detector.arm()
    instrument.gate.unblank(lease())
    instrument.scan.start()
    with source.open() as frames:
        coming = frames.batches()
        assert next(coming).frames.sum((1, 2)).min() > 0
        instrument.gate.blank()
        rest = np.concatenate([batch.frames for batch in coming])
    assert len(rest) == 100
    assert rest.sum() == 0
    # The beam was on for as long as there were lit frames: 60 of 100 us, in rows of 20 with 50 us in between.
    assert instrument.now_s() >= 60 * 100e-6 + 2 * 50e-6


@pytest.mark.parametrize("stop", ["scan", "detector"])
def test_a_stop_ends_the_frames(tmp_path: Path, stop: str) -> None:
    instrument = opened(tmp_path)
    source = prepared(instrument, scan=raster((8, 20)))
    instrument.detector.arm()
    instrument.gate.unblank(lease())
    instrument.scan.start()
    with source.open() as frames:
        coming = frames.batches()
        assert len(next(coming).frames) == 60
        getattr(instrument, stop).ensure_stopped()
        instrument.gate.blank()
        assert list(coming) == []


def test_stopping_after_the_scan_loses_nothing(tmp_path: Path) -> None:
    instrument = opened(tmp_path)
    source = prepared(instrument)
    run(instrument, source)
    instrument.scan.ensure_stopped()
    instrument.detector.ensure_stopped()
    assert len(received(source)) == 24


def test_an_accelerated_wait_does_not_end_the_beam_before_the_scan(tmp_path: Path) -> None:
    instrument = opened(tmp_path)
    source = prepared(instrument)
    run(instrument, source)
    assert received(source).sum((1, 2)).min() > 0


def test_memory_does_not_grow_with_the_scan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # How two threads' passing needs meet is chance.
    monkeypatch.setattr("devices.simulator.scene.THREADS", 1)
    peaks, frames_bytes = [], []
    for name, shape in (("small", (2, 64)), ("large", (16, 64))):
        instrument = opened(tmp_path / name)
        source = prepared(instrument, position="sample", scan=raster(shape, step_nm=0.05))
        run(instrument, source)
        given = 0
        with source.open() as frames:
            gc.collect()
            tracemalloc.start()
            for batch in frames.batches():
                assert len(batch.frames) <= FRAMES_TOGETHER
                given += batch.frames.nbytes
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        frames_bytes.append(given)
    # Whoever kept frames would keep those that the larger scan has more. What other tests left in the process (garbage,
    # threads) moves the peak by some 75 kB, a twenty-fifth of them.
    assert peaks[1] - peaks[0] < 0.1 * (frames_bytes[1] - frames_bytes[0])


def test_real_time_brings_the_same_frames(tmp_path: Path) -> None:
    accelerated, real = opened(tmp_path / "a"), opened(tmp_path / "r", speed="real")
    np.testing.assert_array_equal(exposed_frames(accelerated), exposed_frames(real))


class Paced(Truth):
    """The truth with the highest rate at which frames are handed over."""

    frames_per_s: float | None = None


@pytest.mark.parametrize("rate", [100.0, 2000.0])
def test_frames_are_handed_over_no_faster_than_asked(tmp_path: Path, rate: float) -> None:
    clock, file = Clock(), instrument_file()
    truth = Paced.model_validate_json(f'{{"seed": 9, "frames_per_s": {rate}}}')
    instrument = SimulatedInstrument("paced", State(file.facts, truth, tmp_path, clock, clock.sleep))
    source = prepared(instrument, scan=raster((8, 32)))
    run(instrument, source)
    handed = []
    with source.open() as frames:
        for batch in frames.batches():
            handed.append((clock.now_s - 1000.0, batch.first + len(batch.frames)))
    for after_s, count in handed:
        assert after_s == pytest.approx(count / rate)
    assert handed[-1][1] == 256
    assert max(np.diff([count for _, count in handed])) <= max(1, rate * PACED_BATCH_S)
    # Simulated time is not paced: the dwell is what the dose goes with.
    assert instrument.now_s() == pytest.approx(8 * (32 * 100 + 50) * 1e-6)


def test_a_source_says_what_will_come(tmp_path: Path) -> None:
    source = prepared(opened(tmp_path), bit_depth=6)
    assert (source.frames, source.detector_shape, source.dtype) == (24, (32, 32), "uint8")
