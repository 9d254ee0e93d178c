"""A microscope over temscript's remote server: its parts around one connection and the column's log."""

import time
from collections.abc import Callable
from pathlib import Path

from devices.protocols import BeamFound, Instrument, WatchedBy
from devices.temscript.absent import NoDetector, NoScan
from devices.temscript.beam import TemscriptGate, TemscriptValves
from devices.temscript.column import TemscriptColumn
from devices.temscript.log import BeamLog
from devices.temscript.rest import Temscript
from devices.temscript.settings import TemscriptSettings, read_settings
from devices.temscript.stage import TemscriptStage
from stem4d.errors import BadInput
from stem4d.instrument import InstrumentFile


class TemscriptInstrument:
    """Implements `devices.protocols.Instrument`. Several processes may have one open: nothing changes by that."""

    watched_by: WatchedBy = "another process"
    """Who besides its owner can make it safe."""

    def __init__(
        self,
        file: InstrumentFile,
        settings: TemscriptSettings,
        server: Temscript,
        log: BeamLog,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._name, self._server, self._log, self._sleep = file.name, server, log, sleep
        self._ended = False
        self.column = TemscriptColumn(server, file.facts, settings, log)
        self.stage = TemscriptStage(server, file.facts.stage, settings, log, sleep)
        self.scan = NoScan()
        self.detector = NoDetector(file.facts.all_detectors[0])
        self.gate = TemscriptGate(server, log)
        self.valves = TemscriptValves(server, log)
        on = log.standing().on
        self.found: BeamFound | None = on if on and not self.gate.is_blanked() else None
        """The beam, where a session before this one left it on."""

    @property
    def name(self) -> str:
        """As its file has it."""
        return self._name

    def pause(self, seconds: float) -> None:
        """Let real time pass."""
        if not seconds >= 0:
            raise BadInput(field="pause", value=seconds, limit="must not be negative", unit="s")
        self._sleep(seconds)

    def now_s(self) -> float:
        """The real monotonic clock [s]."""
        return self._log.monotonic()

    def close(self) -> None:
        """Let go, blanked; again does nothing."""
        if not self._ended:
            try:
                self.gate.blank()
            finally:
                self.leave()

    def leave(self) -> None:
        """Let go of the connection, and leave the microscope as it is."""
        self._ended = True
        self._server.close()


def open_instrument(
    file: InstrumentFile,
    home: Path,
    sleep: Callable[[float], None] = time.sleep,
    monotonic: Callable[[], float] = time.monotonic,
) -> Instrument:
    """Look for the server of an instrument file, and change nothing.

    Raises
    ------
    BadInput
        For settings that are wrong, and a log that cannot be read.
    DeviceFault
        No server answers there, or it is none of temscript's.
    """
    settings = read_settings(file)
    server = Temscript(settings.host, settings.port, settings.answer_timeout_s, sleep, monotonic)
    try:
        server.require_known()
        return TemscriptInstrument(file, settings, server, BeamLog(home / "instruments" / file.name, monotonic), sleep)
    except BaseException:
        server.close()
        raise
