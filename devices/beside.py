"""An instrument whose detector is one driver's, while column, stage, scan, gate and valves are another's."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from devices import registry
from devices.protocols import (
    BeamFound,
    BeamWitness,
    Detector,
    DetectorWitness,
    ExposureRequest,
    FrameSourceSpec,
    Instrument,
    Reading,
    ScanGenerator,
    Watchable,
    WatchedBy,
)
from stem4d.detector import DetectorFacts
from stem4d.errors import BadInput
from stem4d.instrument import InstrumentFile
from stem4d.model import Name, Strict

Port = Annotated[int, Field(ge=1, le=65535)]
Host = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]*$", max_length=253)]


class ColumnDriver(Strict):
    """Whose the rest of the microscope is."""

    driver: Name
    settings: dict[str, Any] = Field(default_factory=dict)
    """As that driver's own instrument file has them."""
    detector_too: bool = False
    """Whether that driver's detector is prepared, armed and stopped along; the simulator's scan will not start else."""


class AccompaniedDetector:
    """The detector, and the other driver's own one prepared, armed and stopped along with it; its frames are left."""

    def __init__(self, detector: Detector, other: Instrument) -> None:
        self._detector, self._other = detector, other.detector

    @property
    def facts(self) -> DetectorFacts:
        """What the detector that counts is."""
        return self._detector.facts

    def prepare(self, request: ExposureRequest) -> ExposureRequest:
        """Configure both."""
        self._other.prepare(request)
        return self._detector.prepare(request)

    def source(self) -> FrameSourceSpec:
        """That of the detector that counts."""
        self._other.source()
        return self._detector.source()

    def snapshot(self) -> tuple[Reading, ...]:
        """That of the detector that counts, if it can tell its settings."""
        return self._detector.snapshot() if isinstance(self._detector, DetectorWitness) else ()

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


class InstrumentBeside:
    """Implements `devices.protocols.Instrument`; ``release`` lets go of the detector when all is closed."""

    def __init__(
        self, name: str, detector: Detector, scan: ScanGenerator, other: Instrument, release: Callable[[], None]
    ) -> None:
        self._name, self._other, self._release = name, other, release
        self.detector, self.scan = detector, scan
        self.column, self.stage, self.gate, self.valves = other.column, other.stage, other.gate, other.valves

    @property
    def name(self) -> str:
        """As its file has it."""
        return self._name

    @property
    def found(self) -> BeamFound | None:
        """The beam as the other driver found it, if that can tell."""
        return self._other.found if isinstance(self._other, BeamWitness) else None

    @property
    def watched_by(self) -> WatchedBy:
        """Whoever can make the other driver's part safe: the beam is its."""
        return self._other.watched_by if isinstance(self._other, Watchable) else "nobody"

    def leave(self) -> None:
        """Let go of both, and leave the session as it is."""
        try:
            if isinstance(self._other, Watchable):
                self._other.leave()
        finally:
            self._release()

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
            self._release()


def detector_of(file: InstrumentFile, name: str | None) -> DetectorFacts:
    """The detector of the file that the settings name, the first where they name none; raises `BadInput`."""
    known = {facts.name: facts for facts in file.facts.all_detectors}
    name = name or next(iter(known))
    if name not in known:
        raise BadInput(field="settings.detector", value=name, limit="one of " + ", ".join(known))
    return known[name]


def open_other(file: InstrumentFile, home: Path, column: ColumnDriver) -> Instrument:
    """Open the microscope of the other driver.

    Raises
    ------
    BadInput
        The other driver is the file's own, which has no column, or its settings are wrong.
    DeviceFault
        From the other driver.
    """
    if column.driver == file.driver:
        raise BadInput(
            field="settings.column.driver", value=column.driver, limit="has to be a driver that has a column"
        )
    beside = file.model_copy(update={"driver": column.driver, "settings": column.settings})
    return registry.open_instrument(beside, home)
