"""An instrument whose detector is a SIMPLON one, while column, stage, scan, gate and valves are another driver's."""

import threading
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from devices import registry
from devices.protocols import BeamFound, BeamWitness, ExposureRequest, Instrument, ScanGenerator, ScanRequest
from devices.simplon.configure import Trigger
from devices.simplon.driver import SimplonDetector
from devices.simplon.rest import Simplon
from devices.simplon.stream import SimplonStream
from stem4d.detector import DetectorFacts
from stem4d.errors import BadInput, DeviceFault
from stem4d.instrument import InstrumentFile
from stem4d.model import Name, Positive, Strict
from storage.documents import validate

DRIVER = "simplon"
REFUSAL_S = 0.5
"""How long the start of a scan waits for the trigger's answer: a refusal comes at once."""

Port = Annotated[int, Field(ge=1, le=65535)]


class ColumnDriver(Strict):
    """Whose the rest of the microscope is."""

    driver: Name
    settings: dict[str, Any] = Field(default_factory=dict)
    """As that driver's own instrument file has them."""
    detector_too: bool = False
    """Whether that driver's detector is prepared, armed and stopped along; the simulator's scan will not start else."""


class SimplonSettings(Strict):
    """The ``settings`` table of an instrument file."""

    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$", max_length=253)]
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


class AccompaniedDetector:
    """The detector, and the other driver's own one prepared, armed and stopped along with it; its frames are left."""

    def __init__(self, detector: SimplonDetector, other: Instrument) -> None:
        self._detector, self._other = detector, other.detector

    @property
    def facts(self) -> DetectorFacts:
        """What the SIMPLON detector is."""
        return self._detector.facts

    def prepare(self, request: ExposureRequest) -> ExposureRequest:
        """Configure both."""
        self._other.prepare(request)
        return self._detector.prepare(request)

    def source(self) -> SimplonStream:
        """The SIMPLON detector's."""
        self._other.source()
        return self._detector.source()

    def arm(self) -> None:
        """Arm both, the one that counts first."""
        self._detector.arm()
        self._other.arm()

    def ensure_stopped(self) -> None:
        """Stop both, whatever becomes of the first."""
        try:
            self._detector.ensure_stopped()
        finally:
            self._other.ensure_stopped()


class SimplonInstrument:
    """Implements `devices.protocols.Instrument`."""

    def __init__(self, file: InstrumentFile, settings: SimplonSettings, rest: Simplon, other: Instrument) -> None:
        self._name, self._rest, self._other = file.name, rest, other
        by: Trigger = "software" if settings.trigger == "software" else settings.pulses
        self.simplon = SimplonDetector(
            rest,
            detector_of(file, settings),
            by,
            settings.stream_port,
            settings.channel,
            settings.first_frame_timeout_s,
            settings.gap_timeout_s,
        )
        self.detector = AccompaniedDetector(self.simplon, other) if settings.column.detector_too else self.simplon
        self.scan: ScanGenerator = TriggeredScan(other.scan, self.simplon) if by == "software" else other.scan
        self.column, self.stage, self.gate, self.valves = other.column, other.stage, other.gate, other.valves

    @property
    def name(self) -> str:
        """As its file has it."""
        return self._name

    @property
    def found(self) -> BeamFound | None:
        """The beam as the other driver found it, if that can tell."""
        return self._other.found if isinstance(self._other, BeamWitness) else None

    def pause(self, seconds: float) -> None:
        """Let the other driver's time pass."""
        self._other.pause(seconds)

    def now_s(self) -> float:
        """The other driver's clock [s]."""
        return self._other.now_s()

    def close(self) -> None:
        """Let go, beam blanked first."""
        try:
            self._other.close()
        finally:
            self._rest.close()


def detector_of(file: InstrumentFile, settings: SimplonSettings) -> DetectorFacts:
    """The detector of the file that the settings name; raises `BadInput`."""
    known = {facts.name: facts for facts in file.facts.all_detectors}
    name = settings.detector or next(iter(known))
    if name not in known:
        raise BadInput(field="settings.detector", value=name, limit="one of " + ", ".join(known))
    return known[name]


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
    if settings.column.driver == DRIVER:
        raise BadInput(field="settings.column.driver", value=DRIVER, limit="has to be a driver that has a column")
    detector_of(file, settings)
    beside = file.model_copy(update={"driver": settings.column.driver, "settings": settings.column.settings})
    other = registry.open_instrument(beside, home)
    return SimplonInstrument(file, settings, Simplon(settings.host, settings.rest_port), other)
