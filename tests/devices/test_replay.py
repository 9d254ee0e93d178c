"""A recording behind the protocols: its frames, its settings, and what it is not."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from devices.protocols import Instrument
from devices.replay import open_instrument
from stem4d.errors import BadInput, DeviceFault, DoseRefused, LimitViolation
from storage.spec import FileSpec
from storage.write import FrameWriter
from tests.devices.server_world import entries
from tests.devices.simulator_world import Clock, column, exposure, instrument_file, lease, raster

METADATA = {"beam_energy_kev": 80.0, "probe_current_pa": 12.5, "dwell_time_us": 200.0, "title": "a scan", "run": 7}


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(3).poisson(5, (24, 32, 32)).astype(np.uint16)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory, frames: np.ndarray) -> Path:
    spec = FileSpec(
        tmp_path_factory.mktemp("data") / "scan.h5", (4, 6), (32, 32), "uint16", 0.05, 2.0, 4095, METADATA,
        reserve_bytes=0,
    )  # fmt: skip
    with FrameWriter(spec) as writer:
        writer.write(0, frames)
        writer.finish({})
    return spec.path


@pytest.fixture
def replay(tmp_path: Path, recording: Path) -> Instrument:
    return open_instrument(instrument_file("replay", file=str(recording)), tmp_path, Clock())


def test_the_recorded_frames_come_through_the_protocols(replay: Instrument, frames: np.ndarray) -> None:
    assert isinstance(replay, Instrument)
    replay.stage.go_to("anywhere")
    scan = replay.scan.prepare(raster())
    replay.detector.prepare(exposure(raster()))
    spec = pickle.loads(pickle.dumps(replay.detector.source()))
    assert (spec.frames, spec.detector_shape, spec.dtype) == (24, (32, 32), "uint16")
    with spec.open() as source:
        replay.detector.arm()
        replay.gate.unblank(lease())
        assert replay.gate.is_blanked() is False
        replay.scan.start()
        replay.scan.wait()
        replay.gate.blank()
        batches = list(source.batches())
    np.testing.assert_array_equal(np.concatenate([batch.frames for batch in batches]), frames)
    assert batches[0].first == 0
    assert replay.now_s() == pytest.approx(scan.duration_s)
    assert replay.gate.is_blanked() is True
    assert replay.stage.position() == "anywhere"


def test_settings_read_back_as_recorded(replay: Instrument) -> None:
    asked = column(descan_mrad_per_nm=((1.0, 0.0), (0.0, 1.0)))
    read = replay.column.prepare(asked)
    assert (read.optics.beam_energy_kev, read.optics.probe_current_pa) == (80.0, 12.5)
    assert read.optics.camera_length_mm == asked.optics.camera_length_mm
    assert read.descan_mrad_per_nm == ((0.0, 0.0), (0.0, 0.0))
    assert replay.scan.prepare(raster()) == raster(step_nm=0.05, dwell_time_us=200.0)


def test_readings_are_the_files_and_say_so(replay: Instrument, recording: Path) -> None:
    readings = {reading.name: reading for reading in replay.column.snapshot()}
    assert {name: readings[name].value for name in METADATA} == METADATA
    assert readings["probe_current_pa"].unit == "pA"
    assert {reading.source for reading in readings.values()} == {"cached"}
    assert readings["run"].read_at.timestamp() == pytest.approx(recording.stat().st_mtime)


def test_what_was_not_recorded_is_refused(replay: Instrument) -> None:
    with pytest.raises(LimitViolation, match=r"scan shape = \(6, 4\).*scan\.h5 holds 4 x 6"):
        replay.scan.prepare(raster((6, 4)))
    for changes, message in (
        ({"detector": "slit", "shape": (32, 24)}, r"shape = \(32, 24\).*\(32, 32\)"),
        ({"frames": 23}, "frames = 23.*24"),
        ({"bit_depth": 6}, "full scale = 63.*4095"),
        ({"detector": "other"}, "one of cam, slit"),
    ):
        with pytest.raises(LimitViolation, match=message):
            replay.detector.prepare(exposure(raster(), **changes))


@pytest.mark.parametrize("moved", [{"offset_nm": (1.0, 0.0)}, {"follow_nm_per_min": (0.0, 2.0)}])
def test_a_recorded_field_cannot_be_moved(replay: Instrument, moved: dict[str, tuple[float, float]]) -> None:
    with pytest.raises(LimitViolation, match="cannot be moved"):
        replay.scan.prepare(raster().model_copy(update=moved))


def test_out_of_turn_is_a_fault(replay: Instrument) -> None:
    for step in (replay.detector.source, replay.detector.arm, replay.scan.start, replay.scan.wait):
        with pytest.raises(DeviceFault):
            step()
    replay.scan.ensure_stopped()
    replay.detector.ensure_stopped()
    replay.detector.prepare(exposure(raster()))
    replay.detector.source()
    replay.detector.arm()
    with pytest.raises(DeviceFault, match="no raster is prepared"):
        replay.scan.start()


def test_leases_count_here_too(replay: Instrument) -> None:
    replay.gate.unblank(lease(token=4))
    replay.gate.blank()
    for stale in (lease(token=3), lease(token=4, lasts_s=0)):
        with pytest.raises(DoseRefused):
            replay.gate.unblank(stale)
    assert replay.gate.is_blanked() is True


def test_what_was_asked_of_it_is_in_the_log(tmp_path: Path, replay: Instrument) -> None:
    replay.stage.go_to("grain-2")
    replay.gate.unblank(lease())
    replay.pause(2.0)
    replay.gate.blank()
    replay.valves.close()
    replay.close()
    noted = [(entry["event"], entry["simulated_s"]) for entry in entries(tmp_path)]
    assert noted == [("stage", 0.0), ("unblank", 0.0), ("blank", 2.0), ("valves", 2.0), ("blank", 2.0)]
    with pytest.raises(BadInput):
        replay.pause(float("nan"))


def test_foreign_recordings_play_too(tmp_path: Path, recorded_data: Path) -> None:
    path = recorded_data / "recorded_merlin_6bit" / "001_4x2_6bit.mib"
    facts = instrument_file("replay", file=str(path)).model_copy()
    instrument = open_instrument(facts, tmp_path, Clock())
    with pytest.raises(LimitViolation, match="holds"):
        instrument.scan.prepare(raster((5, 5)))
    with pytest.raises(LimitViolation, match=r"recorded with \(256, 256\)"):
        instrument.detector.prepare(exposure(raster()))


def test_bad_files_are_refused_by_name(tmp_path: Path, recording: Path, frames: np.ndarray) -> None:
    with pytest.raises(BadInput, match="no such file"):
        open_instrument(instrument_file("replay", file=str(tmp_path / "absent.h5")), tmp_path)
    with pytest.raises(BadInput, match="settings"):
        open_instrument(instrument_file("replay", path=str(recording)), tmp_path)
    spec = FileSpec(tmp_path / "half.h5", (4, 6), (32, 32), "uint16", None, None, 4095, {}, reserve_bytes=0)
    with FrameWriter(spec) as writer:
        writer.write(0, frames[:10])
        receipt = writer.abandon("test")
    with pytest.raises(BadInput, match=r"10 frames.*all 24 positions"):
        open_instrument(instrument_file("replay", file=str(receipt.path)), tmp_path)
