"""The simulated instrument: its parts around one state."""

from devices.simulator.parts import (
    SimulatedColumn,
    SimulatedDetector,
    SimulatedGate,
    SimulatedScan,
    SimulatedStage,
    SimulatedValves,
)
from devices.simulator.state import State
from stem4d.errors import BadInput


class SimulatedInstrument:
    """A microscope with a hidden truth; implements `devices.protocols.Instrument`."""

    def __init__(self, name: str, state: State) -> None:
        self._name, self._state = name, state
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
        if not seconds >= 0:
            raise BadInput(field="pause", value=seconds, limit="must not be negative", unit="s")
        self._state.pass_time(seconds)

    def now_s(self) -> float:
        """Simulated time [s]."""
        return self._state.now_s()

    def close(self) -> None:
        """End the session, beam blanked; again does nothing."""
        self._state.end()
