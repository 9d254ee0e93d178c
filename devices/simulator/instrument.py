"""The simulated instrument: its parts around one state, in the process that holds the state."""

import time
from collections.abc import Callable
from pathlib import Path

from devices.simulator.parts import (
    WAIT_S,
    SimulatedColumn,
    SimulatedDetector,
    SimulatedGate,
    SimulatedScan,
    SimulatedStage,
    SimulatedValves,
)
from devices.simulator.settings import Truth, read_settings
from devices.simulator.state import State
from stem4d.errors import BadInput
from stem4d.instrument import InstrumentFile

LONGEST_PAUSE_S = 366 * 86400.0
"""Beyond a year the clock of a simulation means nothing, and far beyond it loses its microseconds."""


class SimulatedInstrument:
    """A microscope with a hidden truth; implements `devices.protocols.Instrument`. Several may share a state."""

    def __init__(self, name: str, state: State) -> None:
        self._name, self._state = name, state
        self._ended = False
        self.column = SimulatedColumn(state)
        self.stage = SimulatedStage(state)
        self.scan = SimulatedScan(state)
        self.detector = SimulatedDetector(state)
        self.gate = SimulatedGate(state)
        self.valves = SimulatedValves(state)

    @property
    def name(self) -> str:
        """As its file has it."""
        return self._name

    def pause(self, seconds: float) -> None:
        """Let simulated time pass."""
        while seconds := self.pause_a_while(seconds):
            pass

    def pause_a_while(self, seconds: float) -> float:
        """A part of `pause`; gives what is left of it [s]."""
        if not 0 <= seconds <= LONGEST_PAUSE_S:
            raise BadInput(field="pause", value=seconds, limit=f"0 to {LONGEST_PAUSE_S:g}", unit="s")
        return self._state.pass_time(seconds, at_most_s=WAIT_S)

    def now_s(self) -> float:
        """Simulated time [s]."""
        return self._state.now_s()

    def close(self) -> None:
        """End the session, beam blanked; again does nothing."""
        if not self._ended:
            self._state.end()
            self._ended = True


def read_truth(file: InstrumentFile) -> Truth:
    """The hidden truth of an instrument file; raises `BadInput` for settings that are wrong."""
    return read_settings(file.settings, tuple(detector.shape for detector in file.facts.all_detectors))


def open_here(
    file: InstrumentFile,
    home: Path,
    monotonic: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> SimulatedInstrument:
    """The instrument of a file within this process and on clocks of the caller's, for tests; no server may run."""
    state = State(file.facts, read_truth(file), home / "instruments" / file.name, monotonic, sleep)
    state.begin()
    return SimulatedInstrument(file.name, state)
