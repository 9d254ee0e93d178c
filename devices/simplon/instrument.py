"""An instrument whose detector is a SIMPLON one, while column, stage, scan, gate and valves are another driver's."""

import threading
from pathlib import Path
from typing import Literal

from pydantic import Field

from devices.beside import AccompaniedDetector, ColumnDriver, Host, InstrumentBeside, Port, detector_of, open_other
from devices.protocols import Instrument, ScanGenerator, ScanRequest
from devices.simplon.configure import Trigger
from devices.simplon.driver import SimplonDetector
from devices.simplon.rest import Simplon
from stem4d.errors import DeviceFault
from stem4d.instrument import InstrumentFile
from stem4d.model import Name, Positive, Strict
from storage.documents import validate

REFUSAL_S = 0.5
"""How long the start of a scan waits for the trigger's answer: a refusal comes at once."""


class SimplonSettings(Strict):
    """The ``settings`` table of an instrument file."""

    host: Host
    rest_port: Port = 80
    stream_port: Port = 31001
    detector: Name | None = None
    """Which of the file's detectors it is; the first where absent."""
    channel: str = Field(default="", max_length=100)
    """The threshold channel to record; the first of each image where empty."""
    trigger: Literal["software", "external"]
    """``software``: the start of the scan triggers the detector; ``external``: the scan engine's signal does."""
    pulses: Literal["position", "scan"] = "position"
    """What the scan engine's signal marks, with an external trigger: every position, or the scan's start."""
    first_frame_timeout_s: Positive = 30.0
    gap_timeout_s: Positive = 5.0
    """Longest silence between frames, besides their own time; longer than a flyback."""
    column: ColumnDriver


class _Triggering:
    """One trigger under way; some detectors answer it at the end of their frames only."""

    def __init__(self, detector: SimplonDetector) -> None:
        self._detector = detector
        self._fault: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="simplon-trigger", daemon=True)
        self._thread.start()

    def answered(self, within_s: float | None = None) -> None:
        """Wait for the answer, which has a time-out of its own, or for a while [s]; raises what became of it."""
        self._thread.join(within_s)
        if self._fault is not None:
            raise self._fault

    def _run(self) -> None:
        try:
            self._detector.trigger()
        except Exception as error:  # noqa: BLE001 - whatever it is, whoever waits for the answer has to hear of it
            self._fault = error


class TriggeredScan:
    """Another driver's scan, whose start triggers the detector: it is armed, the beam is on, the probe moves."""

    def __init__(self, scan: ScanGenerator, detector: SimplonDetector) -> None:
        self._scan, self._detector = scan, detector
        self._triggering: _Triggering | None = None

    def prepare(self, request: ScanRequest) -> ScanRequest:
        """Load a raster and return what was resolved."""
        return self._scan.prepare(request)

    def start(self) -> None:
        """Start the prepared raster, then trigger; a refusal is raised at once, what comes later by `wait`."""
        self._scan.start()
        triggering = _Triggering(self._detector)
        triggering.answered(REFUSAL_S)
        self._triggering = triggering

    def wait(self) -> None:
        """Return when the raster has ended and the trigger is answered."""
        self._scan.wait()
        if self._triggering is not None:
            triggering, self._triggering = self._triggering, None
            triggering.answered()

    def ensure_stopped(self) -> None:
        """Stop scanning; the detector is stopped by itself, and its answer is not waited for.

        Raises
        ------
        DeviceFault
            The trigger has failed meanwhile, which is why frames did not come; the scan is stopped.
        """
        triggering, self._triggering = self._triggering, None
        self._scan.ensure_stopped()
        if triggering is not None:
            try:
                triggering.answered(0.0)
            except Exception as error:
                raise DeviceFault(f"the scan is stopped; the detector's trigger had failed: {error}") from error


class SimplonInstrument(InstrumentBeside):
    """The microscope with its SIMPLON detector."""

    def __init__(self, file: InstrumentFile, settings: SimplonSettings, rest: Simplon, other: Instrument) -> None:
        by: Trigger = "software" if settings.trigger == "software" else settings.pulses
        self.simplon = SimplonDetector(
            rest,
            detector_of(file, settings.detector),
            by,
            settings.stream_port,
            settings.channel,
            settings.first_frame_timeout_s,
            settings.gap_timeout_s,
        )
        detector = AccompaniedDetector(self.simplon, other) if settings.column.detector_too else self.simplon
        scan: ScanGenerator = TriggeredScan(other.scan, self.simplon) if by == "software" else other.scan
        super().__init__(file.name, detector, scan, other, rest.close)


def open_instrument(file: InstrumentFile, home: Path) -> Instrument:
    """Open the microscope of the other driver and set the detector beside it, which is asked when it is prepared.

    Raises
    ------
    BadInput
        For settings that are wrong.
    DeviceFault
        From the other driver.
    """
    settings = validate(file.settings, SimplonSettings, "settings")
    detector_of(file, settings.detector)
    other = open_other(file, home, settings.column)
    return SimplonInstrument(file, settings, Simplon(settings.host, settings.rest_port), other)
