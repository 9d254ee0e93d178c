"""What temscript's server cannot be: a scan engine in step with a detector, and a pixel detector."""

from typing import NoReturn

from devices.protocols import ExposureRequest, FrameSourceSpec, ScanRequest
from stem4d.detector import DetectorFacts
from stem4d.errors import DeviceFault

NO_SCAN = (
    "temscript's server has no scan engine that a detector could be in step with; no scan was {what}. "
    "Its microscope needs a scan engine with a driver of its own"
)
NO_DETECTOR = (
    "temscript's server has cameras for single images, and no detector for a scan; nothing was {what}. "
    "Put its column beside a detector: driver = simplon or merlin with settings.column.driver = temscript"
)


class NoScan:
    """A scan engine that is not there; there is nothing that could need stopping."""

    def prepare(self, request: ScanRequest) -> ScanRequest:
        """Refuse."""
        self._refuse("prepared")

    def start(self) -> None:
        """Refuse."""
        self._refuse("started")

    def wait(self) -> None:
        """Refuse."""
        self._refuse("waited for")

    def ensure_stopped(self) -> None:
        """Nothing runs."""

    def _refuse(self, what: str) -> NoReturn:
        raise DeviceFault(NO_SCAN.format(what=what))


class NoDetector:
    """A detector that is not there."""

    def __init__(self, facts: DetectorFacts) -> None:
        self._facts = facts

    @property
    def facts(self) -> DetectorFacts:
        """The first of the file, which plans are checked against."""
        return self._facts

    def prepare(self, request: ExposureRequest) -> ExposureRequest:
        """Refuse."""
        self._refuse("prepared")

    def source(self) -> FrameSourceSpec:
        """Refuse."""
        self._refuse("prepared")

    def arm(self) -> None:
        """Refuse."""
        self._refuse("armed")

    def ensure_stopped(self) -> None:
        """Nothing counts."""

    def _refuse(self, what: str) -> NoReturn:
        raise DeviceFault(NO_DETECTOR.format(what=what))
