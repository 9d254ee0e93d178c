"""The simulated instrument: a driver whose hidden truth calibration and quality have to find."""

import time
from collections.abc import Callable
from pathlib import Path

from devices.protocols import Instrument
from devices.simulator.instrument import SimulatedInstrument
from devices.simulator.settings import read_settings
from devices.simulator.state import State
from stem4d.instrument import InstrumentFile


def open_instrument(
    file: InstrumentFile,
    home: Path,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Instrument:
    """Open the simulated instrument of a file; its log lies in ``home/instruments/NAME``."""
    truth = read_settings(file.settings, tuple(detector.shape for detector in file.facts.all_detectors))
    folder = home / "instruments" / file.name
    return SimulatedInstrument(file.name, State(file.facts, truth, folder, monotonic, sleep))
