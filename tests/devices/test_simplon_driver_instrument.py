"""A SIMPLON detector beside the simulated microscope: from the settings to frames in a file, and what goes wrong."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from devices.acquire import AcquisitionJob, acquire
from devices.protocols import BeamFound, BeamWitness, Detector, Instrument
from devices.safety import SafeLevel, make_safe
from devices.simplon.instrument import SimplonInstrument, SimplonSettings, open_instrument
from devices.simplon.messages import Image, PackedFrame, encode
from devices.simulator.instrument import open_here
from stem4d.accumulate import AccumulatorSpec
from stem4d.errors import BadInput, DeviceFault
from stem4d.instrument import InstrumentFile
from storage.documents import validate
from storage.read import open_frames
from storage.spec import FileSpec
from tests.devices.simplon_content import image_content
from tests.devices.simplon_world import FakeUnit, Sender, end, rest_of, start, status
from tests.devices.simulator_world import AREA, Clock, column, exposure, instrument_file, lease, raster
from tests.packing import bitshuffle

SCAN = raster((4, 6))
FRAMES = np.random.default_rng(4).poisson(3.0, (24, 32, 32)).astype(np.uint16)


def settings_of(**changes: Any) -> dict[str, Any]:
    """Settings of a detector at ``dcu`` beside the simulator."""
    beside = {"driver": "simulator", "settings": {"seed": 9, "areas": {"sample": AREA}}, "detector_too": True}
    return {"host": "dcu", "trigger": "software", "column": beside} | changes


def file_of(**changes: Any) -> InstrumentFile:
    """An instrument file with detectors of 8, 12 and 16 bit."""
    file = instrument_file("simplon", **settings_of(**changes))
    document = file.model_dump(mode="json")
    for detector in document["facts"]["detectors"]:
        detector["bit_depths"] = [8, 12, 16]
    return InstrumentFile.model_validate(document, strict=False)


def unit_of() -> FakeUnit:
    """A detector of 32 x 32."""
    unit = FakeUnit()
    unit.values["detector"] |= {"x_pixels_in_detector": 32, "y_pixels_in_detector": 32}
    return unit


def beside(unit: FakeUnit, home: Path, sender: Sender, **changes: Any) -> SimplonInstrument:
    """The instrument, its parts within this process."""
    file = file_of(stream_port=sender.port, **changes)
    settings = validate(file.settings, SimplonSettings, "settings")
    rest = rest_of(unit)
    rest.host = "127.0.0.1"
    clock = Clock()
    simulated = open_here(instrument_file().model_copy(update={"facts": file.facts}), home, clock, clock.sleep)
    return SimplonInstrument(file, settings, rest, simulated)


def sends(unit: FakeUnit, sender: Sender) -> Callable[[httpx.Request], httpx.Response]:
    """What a trigger does: the frames, out of order, and the end before the last."""
    codec = bitshuffle()
    chunks = codec.pack(FRAMES)

    def message(number: int) -> bytes:
        frame = PackedFrame((32, 32), np.dtype("<u2"), "bslz4", chunks[number])
        return encode(image_content(Image(1, "OURS", number, {"threshold_1": frame}, 0.0, 1e-4), ""))

    def triggered(_request: httpx.Request) -> httpx.Response:
        token = unit.values["stream"]["header_appendix"]
        facts = {"number_of_images": 24, "image_size_x": 32, "image_size_y": 32}
        order = [1, 0, *range(3, 24), 2]
        sender.send(start(token=token, **facts), *(message(n) for n in order[:-1]), end(), message(order[-1]))
        unit.state = "idle"
        return httpx.Response(200)

    return triggered


def prepare(instrument: Instrument) -> None:
    """Everything but source and beam."""
    instrument.stage.go_to("sample")
    instrument.column.prepare(column())
    instrument.scan.prepare(SCAN)
    instrument.detector.prepare(exposure(SCAN, bit_depth=16))


def job_of(instrument: Instrument, path: Path) -> AcquisitionJob:
    """An acquisition of the prepared exposure."""
    return AcquisitionJob(
        source=instrument.detector.source(),
        file=FileSpec(
            path=path,
            scan_shape=SCAN.shape,
            detector_shape=(32, 32),
            dtype="uint16",
            scan_step_nm=0.1,
            mrad_per_pixel=1.0,
            full_scale=65535,
            reserve_bytes=0,
        ),
        accumulator=AccumulatorSpec(detector_shape=(32, 32), dtype="uint16", detectors=(), full_scale=65535),
    )


def test_a_scan_triggers_the_detector_and_its_frames_are_in_the_file(tmp_path: Path) -> None:
    unit = unit_of()
    with Sender() as sender:
        instrument = beside(unit, tmp_path, sender)
        assert isinstance(instrument, Instrument)
        unit.script["command/trigger"] = [sends(unit, sender)]
        prepare(instrument)

        def on_listening() -> None:
            instrument.detector.arm()
            instrument.gate.unblank(lease())
            instrument.scan.start()

        result = acquire(job_of(instrument, tmp_path / "pass1.h5"), on_listening, lambda _progress: None)
        instrument.scan.wait()
        instrument.gate.blank()
        instrument.detector.ensure_stopped()
        instrument.close()
    assert (result.frames.ok, result.frames.missing, result.stopped) == (24, 0, "")
    assert result.total_counts == FRAMES.sum()
    with open_frames(result.receipt.path) as frames:
        np.testing.assert_array_equal(np.concatenate([batch for _first, batch in frames.batches()]), FRAMES)
    commands = [call for call in unit.calls if "command" in call]
    assert commands == ["PUT detector command/arm", "PUT detector command/trigger"]


def test_a_trigger_that_is_refused_is_raised_by_the_scans_start(tmp_path: Path) -> None:
    unit = unit_of()
    with Sender() as sender:
        instrument = beside(unit, tmp_path, sender)
        prepare(instrument)
        instrument.detector.source()
        instrument.detector.arm()
        unit.script["command/trigger"] = [status(400, "not in this mode")]
        instrument.gate.unblank(lease())
        with pytest.raises(DeviceFault, match=r"command/trigger .*answered 400: 'not in this mode'"):
            instrument.scan.start()
        instrument.close()


def test_a_trigger_that_fails_late_is_raised_by_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("devices.simplon.instrument.REFUSAL_S", 0.0)
    unit, go_on = unit_of(), threading.Event()

    def late(_request: httpx.Request) -> httpx.Response:
        assert go_on.wait(30)
        return httpx.Response(500, text="board 3")

    with Sender() as sender:
        instrument = beside(unit, tmp_path, sender)
        prepare(instrument)
        instrument.detector.source()
        instrument.detector.arm()
        unit.script["command/trigger"] = [late]
        instrument.gate.unblank(lease())
        instrument.scan.start()
        go_on.set()
        with pytest.raises(DeviceFault, match="answered 500: 'board 3'"):
            instrument.scan.wait()
        instrument.close()


@pytest.mark.parametrize("error", [None, RuntimeError("board 3")])
def test_a_trigger_that_fails_unheard_is_told_when_the_scan_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    monkeypatch.setattr("devices.simplon.instrument.REFUSAL_S", 0.0)
    unit, go_on = unit_of(), threading.Event()

    def late(_request: httpx.Request) -> httpx.Response:
        assert go_on.wait(30)
        if error is not None:
            raise error
        return httpx.Response(500, text="board 3")

    with Sender() as sender:
        instrument = beside(unit, tmp_path, sender)
        prepare(instrument)
        instrument.detector.source()
        instrument.detector.arm()
        unit.script["command/trigger"] = [late]
        instrument.gate.unblank(lease())
        instrument.scan.start()
        go_on.set()
        (triggering,) = (thread for thread in threading.enumerate() if thread.name == "simplon-trigger")
        triggering.join(30)
        report = make_safe(instrument, SafeLevel.PARK, "no frame came")
        again = make_safe(instrument, SafeLevel.PARK, "once more")
        instrument.close()
    (told,) = (step for step in report.steps if step.error)
    assert told.name == "stop the scan"
    assert "the scan is stopped; the detector's trigger had failed: " in told.error
    assert "board 3" in told.error
    assert again.safe


def test_a_refused_trigger_is_told_once(tmp_path: Path) -> None:
    unit = unit_of()
    with Sender() as sender:
        instrument = beside(unit, tmp_path, sender)
        prepare(instrument)
        instrument.detector.source()
        instrument.detector.arm()
        unit.script["command/trigger"] = [status(400, "not in this mode")]
        instrument.gate.unblank(lease())
        with pytest.raises(DeviceFault, match="not in this mode"):
            instrument.scan.start()
        instrument.scan.ensure_stopped()
        instrument.close()


def test_a_beam_that_the_other_driver_found_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beam = BeamFound("sample", "2026-11-27T01:00:00+00:00")
    with Sender() as sender:
        instrument = beside(unit_of(), tmp_path, sender)
        assert isinstance(instrument, BeamWitness)
        # The simulator within this process tells nothing.
        assert instrument.found is None
        monkeypatch.setattr(instrument._other, "found", beam, raising=False)
        assert instrument.found == beam
        instrument.close()


def test_with_an_external_trigger_the_scan_is_the_other_drivers_own(tmp_path: Path) -> None:
    unit = unit_of()
    with Sender() as sender:
        instrument = beside(unit, tmp_path, sender, trigger="external")
        prepare(instrument)
        instrument.detector.source()
        instrument.detector.arm()
        instrument.gate.unblank(lease())
        instrument.scan.start()
        instrument.scan.wait()
        instrument.close()
    assert (unit.values["detector"]["trigger_mode"], unit.values["detector"]["ntrigger"]) == ("exts", 24)
    assert "PUT detector command/trigger" not in unit.calls


def test_closing_blanks_and_works_when_the_detector_is_gone(tmp_path: Path) -> None:
    unit = unit_of()
    with Sender() as sender:
        instrument = beside(unit, tmp_path, sender)
        instrument.gate.unblank(lease())
        assert instrument.gate.is_blanked() is False
        unit.script["status/state"] = [httpx.ConnectError("gone")] * 100
        with pytest.raises(DeviceFault, match="gone"):
            instrument.detector.ensure_stopped()
        instrument.close()
    assert instrument.gate.is_blanked() is True


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"host": "dcu/../x"}, "settings: host"),
        ({"detector": "ela"}, "settings.detector: got 'ela'; one of cam, slit"),
        ({"trigger": "manual"}, "settings: trigger"),
        ({"column": {"driver": "simplon"}}, "settings.column.driver: got 'simplon'"),
        ({"column": {"driver": "nobodys"}}, "driver: got 'nobodys'; known drivers are"),
    ],
)
def test_settings_that_are_wrong_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        open_instrument(file_of(**changes), tmp_path)


def test_both_detectors_are_detectors(tmp_path: Path) -> None:
    with Sender() as sender:
        instrument = beside(unit_of(), tmp_path, sender)
        parts: list[Detector] = [instrument.detector, instrument.simplon]
        assert [part.facts.name for part in parts] == ["cam", "cam"]
        instrument.close()
