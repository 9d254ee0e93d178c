"""A Merlin beside the simulated microscope: from the settings to frames in a file, and what goes wrong."""

from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from devices.acquire import AcquisitionJob, AcquisitionResult, Progress, acquire
from devices.intake import FrameCounts
from devices.merlin.control import Merlin
from devices.merlin.instrument import MerlinInstrument, MerlinSettings, open_instrument
from devices.protocols import Instrument, ScanRequest
from devices.simulator.instrument import open_here
from devices.worker import acquire_in_child
from stem4d.accumulate import AccumulatorSpec
from stem4d.detector import full_scale
from stem4d.errors import BadInput, DeviceFault
from stem4d.instrument import InstrumentFile
from storage.documents import validate
from storage.read import open_frames
from storage.spec import FileSpec
from tests.devices.merlin_emulator import MerlinEmulator
from tests.devices.simulator_world import AREA, Clock, column, exposure, instrument_file, lease, raster

SCAN = raster((4, 6))
LARGER = raster((20, 20))
Acquire = Callable[[AcquisitionJob, Callable[[], None], Callable[[Progress], str | None]], AcquisitionResult]


def settings_of(**changes: Any) -> dict[str, Any]:
    """Settings of a detector on this machine beside the simulator."""
    beside = {"driver": "simulator", "settings": {"seed": 9, "areas": {"sample": AREA}}, "detector_too": True}
    return {"host": "127.0.0.1", "trigger": "software", "column": beside} | changes


def file_of(bit_depths: tuple[int, ...] = (6, 12), **changes: Any) -> InstrumentFile:
    """An instrument file with detectors of these depths."""
    document = instrument_file("merlin", **settings_of(**changes)).model_dump(mode="json")
    for detector in document["facts"]["detectors"]:
        detector["bit_depths"] = bit_depths
    return InstrumentFile.model_validate(document, strict=False)


def beside(emulator: MerlinEmulator, home: Path, **changes: Any) -> MerlinInstrument:
    """The instrument, the microscope within this process."""
    ports = {"control_port": emulator.control_port, "data_port": emulator.data_port}
    file = file_of(**ports, **{"gap_timeout_s": 5.0, **changes})
    settings = validate(file.settings, MerlinSettings, "settings")
    clock = Clock()
    simulated = open_here(instrument_file().model_copy(update={"facts": file.facts}), home, clock, clock.sleep)
    return MerlinInstrument(
        file, settings, home, simulated, Merlin(settings.host, settings.control_port, sleep=clock.sleep)
    )


def acquired(
    instrument: MerlinInstrument,
    emulator: MerlinEmulator,
    path: Path,
    scan: ScanRequest = SCAN,
    bit_depth: int = 12,
    by: Acquire = acquire,
) -> AcquisitionResult:
    """One scan into a file; without a software trigger, the emulator gets its pulses."""
    instrument.stage.go_to("sample")
    instrument.column.prepare(column())
    instrument.scan.prepare(scan)
    instrument.detector.prepare(exposure(scan, bit_depth=bit_depth))
    source = instrument.detector.source()
    pulses = {"position": source.frames, "scan": 1, "software": 0}[instrument.merlin.trigger_by]
    pulsing = Thread(target=emulator.pulse, args=(pulses,))
    facts = {"detector_shape": (32, 32), "dtype": source.dtype, "full_scale": full_scale(bit_depth)}
    file = FileSpec(path=path, scan_shape=scan.shape, scan_step_nm=0.1, mrad_per_pixel=1.0, reserve_bytes=0, **facts)
    job = AcquisitionJob(source=source, file=file, accumulator=AccumulatorSpec(detectors=(), **facts))

    def on_listening() -> None:
        instrument.detector.arm()
        instrument.gate.unblank(lease())
        instrument.scan.start()
        pulsing.start()

    try:
        result = by(job, on_listening, lambda _progress: None)
        instrument.scan.wait()
    finally:
        pulsing.join()
        instrument.gate.blank()
        instrument.detector.ensure_stopped()
        instrument.close()
    return result


@pytest.mark.parametrize(
    "trigger", [{"trigger": "software"}, {"trigger": "external"}, {"trigger": "external", "pulses": "scan"}]
)
@pytest.mark.parametrize("depth", [1, 6, 12, 24])
def test_the_counts_of_a_scan_are_in_the_file(tmp_path: Path, depth: int, trigger: dict[str, str]) -> None:
    with MerlinEmulator((32, 32)) as emulator:
        instrument = beside(emulator, tmp_path, bit_depths=(1, 6, 12, 24), **trigger)
        assert isinstance(instrument, Instrument)
        result = acquired(instrument, emulator, tmp_path / "pass1.h5", bit_depth=depth)
        expected = emulator.frames
    assert result.frames == FrameCounts(ok=24, missing=0)
    assert (result.total_counts, result.dtype, result.stopped) == (expected.sum(), expected.dtype.name, "")
    with open_frames(result.receipt.path) as frames:
        np.testing.assert_array_equal(np.concatenate([batch for _first, batch in frames.batches()]), expected)
    assert (tmp_path / "instruments" / "test-stem" / "merlin_header.txt").read_bytes().startswith(b"HDR,")


def test_the_acquisition_process_receives_it_all(tmp_path: Path) -> None:
    with MerlinEmulator((32, 32)) as emulator:
        instrument = beside(emulator, tmp_path)
        result = acquired(instrument, emulator, tmp_path / "pass1.h5", LARGER, by=acquire_in_child)
        assert result.total_counts == emulator.frames.sum()
    assert result.frames == FrameCounts(ok=400, missing=0)


def test_what_became_of_each_position_is_told(tmp_path: Path) -> None:
    def tamper(number: int, block: bytes) -> list[bytes]:
        return {5: [], 17: [block, block], 100: [block[:-9]], 200: []}.get(number, [block])

    with MerlinEmulator((32, 32), tamper=tamper) as emulator:
        result = acquired(beside(emulator, tmp_path), emulator, tmp_path / "pass1.h5", LARGER)
        lost = [4, 99, 199]
        expected = int(emulator.frames.sum()) - int(emulator.frames[lost].sum())
        cut = emulator.block(100)[15:-9]
    assert result.frames == FrameCounts(ok=396, missing=2, duplicate=1, corrupt=1)
    assert result.total_counts == expected
    assert [(path.name, path.read_bytes()) for path in tmp_path.glob("*.corrupt/*")] == [("000000099.bin", cut)]


def test_a_lost_connection_leaves_what_came(tmp_path: Path) -> None:
    def tamper(number: int, block: bytes) -> list[bytes]:
        if number == 300:
            raise ConnectionAbortedError
        return [block]

    with (
        MerlinEmulator((32, 32), tamper=tamper) as emulator,
        pytest.raises(DeviceFault, match=r"the detector sent 299 of 400 frames\. What came is kept in"),
    ):
        acquired(beside(emulator, tmp_path), emulator, tmp_path / "pass1.h5", LARGER)
    assert emulator.values["DETECTORSTATUS"] == "0"
    assert "CMD,STOPACQUISITION" in emulator.asked


def test_closing_blanks_and_works_when_the_detector_is_gone(tmp_path: Path) -> None:
    with MerlinEmulator((32, 32)) as emulator:
        instrument = beside(emulator, tmp_path)
    with pytest.raises(DeviceFault, match="cannot be said to have stopped"):
        instrument.detector.ensure_stopped()
    instrument.close()
    assert instrument.gate.is_blanked()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"host": "merlin/../x"}, "settings: host"),
        ({"detector": "ela"}, "settings.detector: got 'ela'; one of cam, slit"),
        ({"trigger": "manual"}, "settings: trigger"),
        ({"pulses": "row"}, "settings: pulses"),
        ({"column": {"driver": "merlin"}}, "settings.column.driver: got 'merlin'"),
        ({"column": {"driver": "nobodys"}}, "driver: got 'nobodys'; known drivers are"),
        (
            {"bit_depths": (8, 12)},
            r"facts.detectors.cam.bit_depths: got \(8, 12\); a Merlin counts with 1, 6, 12, 24 bit",
        ),
    ],
)
def test_settings_that_are_wrong_are_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        open_instrument(file_of(**changes), tmp_path)
