"""An instrument that plays a recorded dataset through the same protocols as a microscope.

It answers with what the file says, so a caller that compares notices what the recording was not. Blanker, stage and
valves do nothing but keep their state and note it in the column's log.
"""

import time
from collections.abc import Callable
from pathlib import Path

from devices.column_log import ColumnLog
from devices.protocols import Instrument, WatchedBy
from devices.replay.parts import (
    ReplayClock,
    ReplayColumn,
    ReplayDetector,
    ReplayGate,
    ReplayScan,
    ReplayStage,
    ReplayValves,
)
from devices.replay.recording import Recording, read_recording
from stem4d.errors import BadInput
from stem4d.instrument import InstrumentFile
from stem4d.model import Strict
from storage.documents import validate


class ReplaySettings(Strict):
    """The ``settings`` table of a replay's instrument file."""

    file: str
    """The recording; relative to the working directory."""


class ReplayInstrument:
    """A recording behind the protocols of a microscope."""

    watched_by: WatchedBy = "nobody needed"

    def __init__(
        self, file: InstrumentFile, recording: Recording, log: ColumnLog, monotonic: Callable[[], float]
    ) -> None:
        self._name = file.name
        self._clock = ReplayClock(log)
        self.column = ReplayColumn(recording)
        self.stage = ReplayStage(self._clock)
        self.detector = ReplayDetector(recording, file.facts.all_detectors)
        self.scan = ReplayScan(recording, self.detector, self._clock)
        self.gate = ReplayGate(self._clock, monotonic)
        self.valves = ReplayValves(self._clock)

    @property
    def name(self) -> str:
        """As its file has it."""
        return self._name

    def pause(self, seconds: float) -> None:
        """Let the recording's time pass."""
        if not seconds >= 0:
            raise BadInput(field="pause", value=seconds, limit="must not be negative", unit="s")
        self._clock.now_s += seconds

    def now_s(self) -> float:
        """Time of the recording's scans and of pauses [s]."""
        return self._clock.now_s

    def close(self) -> None:
        """Let go, blanked."""
        self.gate.blank()

    def leave(self) -> None:
        """There is no connection."""


def open_instrument(file: InstrumentFile, home: Path, monotonic: Callable[[], float] = time.monotonic) -> Instrument:
    """Open the recording that an instrument file's ``settings.file`` names.

    Raises
    ------
    BadInput
        For settings that are not just ``file``, a file that cannot be read, or one that misses positions.
    """
    recording = read_recording(Path(validate(file.settings, ReplaySettings, "settings").file))
    return ReplayInstrument(file, recording, ColumnLog(home / "instruments" / file.name), monotonic)
