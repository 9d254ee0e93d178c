"""An emulated detector beside the simulated microscope: it counts what the scan lights, and nothing where none runs."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from devices.simplon.emulator.frames import Packed
from devices.simplon.emulator.hardware import Hardware
from devices.simplon.emulator.microscope import Microscope, mounted
from devices.simplon.emulator.settings import Settings
from devices.simulator.onlooker import exposure_under_way
from devices.simulator.remote import RemoteInstrument
from stem4d.errors import BadInput, DeviceFault
from tests.devices.emulator_world import pixels_of
from tests.devices.server_world import folder_of, now_lease, session
from tests.devices.simulator_world import AREA, instrument_file, prepared_anywhere, raster, received

SCAN = raster((4, 6))
FRAMES = 24


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def instrument(home: Path) -> Iterator[RemoteInstrument]:
    with session(home) as opened:
        yield opened


def config(rows: int = 32, columns: int = 32) -> dict[str, Any]:
    """Of a detector as it is after power-up: 16 bit, bitshuffle and LZ4."""
    return Settings(Hardware(y_px=rows, x_px=columns)).values["detector"]


def pixels(packed: Packed) -> np.ndarray:
    return np.asarray(pixels_of(packed.frame))


def test_frames_are_those_that_the_scan_lights(home: Path, instrument: RemoteInstrument) -> None:
    folder, said = folder_of(home), list[str]()
    source = prepared_anywhere(instrument, "sample", scan=SCAN)
    instrument.detector.arm()
    instrument.gate.unblank(now_lease())
    assert exposure_under_way(folder) is None, "the scan has not started"
    instrument.scan.start()
    assert exposure_under_way(folder) == source
    lit = Microscope(folder, (32, 32), said.append).of(config())
    got = [lit.frame(number) for number in range(FRAMES + 2)]
    stray = lit.stray(3)
    lit.close()
    instrument.scan.wait()
    instrument.gate.blank()
    assert exposure_under_way(folder) is None, "the scan has ended"
    # Any receiver of a run gets the same frames, to the last count.
    truth = received(source)
    assert truth.sum() > 0
    np.testing.assert_array_equal([pixels(each) for each in got[:FRAMES]], truth)
    assert [each.total for each in got[:FRAMES]] == truth.sum((1, 2)).tolist()
    assert [each.total for each in (*got[FRAMES:], stray)] == [0, 0, 0]
    (line,) = said
    assert f"of test-stem: {FRAMES} frames" in line


def test_a_position_that_is_passed_over_does_not_come_back(home: Path, instrument: RemoteInstrument) -> None:
    source = prepared_anywhere(instrument, "sample", scan=SCAN)
    instrument.detector.arm()
    instrument.gate.unblank(now_lease())
    instrument.scan.start()
    lit = Microscope(folder_of(home), (32, 32), print).of(config())
    got = {number: lit.frame(number).total for number in (2, 11, 5)}
    lit.close()
    instrument.scan.wait()
    instrument.gate.blank()
    truth = received(source).sum((1, 2))
    assert got == {2: truth[2], 11: truth[11], 5: 0}


def test_without_a_microscope_nothing_is_counted(tmp_path: Path) -> None:
    said = list[str]()
    lit = Microscope(folder_of(tmp_path), (32, 32), said.append).of(config())
    assert [lit.frame(number).total for number in range(3)] == [0, 0, 0]
    (line,) = said
    assert "this series is dark" in line
    assert str(tmp_path) in line


def test_another_detectors_frames_are_refused(home: Path, instrument: RemoteInstrument) -> None:
    prepared_anywhere(instrument, "sample", scan=SCAN)
    instrument.detector.arm()
    instrument.scan.start()
    with pytest.raises(DeviceFault, match=r"lights a detector of 32 x 32 pixels \(y, x\); this one has 16 x 16"):
        Microscope(folder_of(home), (16, 16), print).of(config(16, 16)).frame(0)
    instrument.scan.wait()


def simplon(**column: Any) -> dict[str, Any]:
    beside = {"driver": "simulator", "settings": {"areas": {"sample": AREA}}, "detector_too": True} | column
    return {"host": "127.0.0.1", "trigger": "software", "column": beside}


def test_the_detector_is_what_the_instrument_file_says(tmp_path: Path) -> None:
    file = instrument_file("simplon", detector="slit", **simplon())
    microscope, made = mounted(file, tmp_path, print)
    assert (made.y_px, made.x_px, made.rate_16_bit_hz) == (32, 24, 2e4)
    assert made.pixel_size_m == pytest.approx(100e-6)
    assert (microscope.shape, microscope.folder) == ((32, 24), folder_of(tmp_path))


@pytest.mark.parametrize(
    ("driver", "column", "field"),
    [
        ("simulator", None, "driver"),
        ("simplon", {"driver": "replay"}, "settings.column"),
        ("simplon", {"detector_too": False}, "settings.column"),
    ],
)
def test_a_file_whose_column_cannot_light_it_is_refused(
    tmp_path: Path, driver: str, column: dict[str, Any] | None, field: str
) -> None:
    file = instrument_file(driver, **({} if column is None else simplon(**column)))
    with pytest.raises(BadInput) as refused:
        mounted(file, tmp_path, print)
    assert refused.value.field == field
