"""An instrument whose detector is a Merlin, while column, stage, scan, gate and valves are another driver's."""

from pathlib import Path
from typing import Literal

from devices.beside import AccompaniedDetector, ColumnDriver, Host, InstrumentBeside, Port, detector_of, open_other
from devices.merlin.configure import Trigger
from devices.merlin.control import Merlin
from devices.merlin.driver import MerlinDetector
from devices.merlin.headers import COUNTER_DEPTHS
from devices.protocols import Instrument, ScanGenerator, ScanRequest
from stem4d.errors import BadInput
from stem4d.instrument import InstrumentFile
from stem4d.model import Name, Positive, Strict
from storage.documents import validate

HEADER_FILE = "merlin_header.txt"
"""In the instrument's folder of the home."""


class MerlinSettings(Strict):
    """The ``settings`` table of an instrument file."""

    host: Host
    control_port: Port = 6341
    data_port: Port = 6342
    detector: Name | None = None
    """Which of the file's detectors it is; the first where absent."""
    trigger: Literal["software", "external"]
    """``software``: the start of the scan triggers the detector; ``external``: the scan engine's signal does."""
    pulses: Literal["position", "scan"] = "position"
    """What the scan engine's signal marks, with an external trigger: every position, or the scan's start."""
    packed: bool = False
    """Take frames as the chip packs them (R64): for one chip, at rates that its network does not carry else."""
    first_frame_timeout_s: Positive = 30.0
    gap_timeout_s: Positive = 5.0
    """Longest silence between frames, besides their own time; longer than a flyback."""
    column: ColumnDriver


class TriggeredScan:
    """Another driver's scan, whose start triggers the detector: it is armed, the beam is on, the probe moves."""

    def __init__(self, scan: ScanGenerator, detector: MerlinDetector) -> None:
        self._scan, self._detector = scan, detector

    def prepare(self, request: ScanRequest) -> ScanRequest:
        """Load a raster and return what was resolved."""
        return self._scan.prepare(request)

    def start(self) -> None:
        """Start the prepared raster, then trigger."""
        self._scan.start()
        self._detector.trigger()

    def wait(self) -> None:
        """Return when the raster has ended."""
        self._scan.wait()

    def ensure_stopped(self) -> None:
        """Stop scanning; the detector is stopped by itself."""
        self._scan.ensure_stopped()


class MerlinInstrument(InstrumentBeside):
    """The microscope with its Merlin."""

    def __init__(
        self, file: InstrumentFile, settings: MerlinSettings, home: Path, other: Instrument, control: Merlin
    ) -> None:
        by: Trigger = "software" if settings.trigger == "software" else settings.pulses
        folder = home / "instruments" / file.name
        folder.mkdir(parents=True, exist_ok=True)
        self.merlin = MerlinDetector(
            control,
            detector_of(file, settings.detector),
            by,
            settings.data_port,
            settings.packed,
            settings.first_frame_timeout_s,
            settings.gap_timeout_s,
            folder / HEADER_FILE,
        )
        detector = AccompaniedDetector(self.merlin, other) if settings.column.detector_too else self.merlin
        scan: ScanGenerator = TriggeredScan(other.scan, self.merlin) if by == "software" else other.scan
        super().__init__(file.name, detector, scan, other, control.close)


def open_instrument(file: InstrumentFile, home: Path) -> Instrument:
    """Open the microscope of the other driver and set the detector beside it, which is asked when it is prepared.

    Raises
    ------
    BadInput
        For settings that are wrong, and a detector with other counters than a Medipix3.
    DeviceFault
        From the other driver.
    """
    settings = validate(file.settings, MerlinSettings, "settings")
    facts = detector_of(file, settings.detector)
    if not set(facts.bit_depths) <= set(COUNTER_DEPTHS):
        limit = "a Merlin counts with " + ", ".join(str(depth) for depth in COUNTER_DEPTHS) + " bit"
        raise BadInput(field=f"facts.detectors.{facts.name}.bit_depths", value=facts.bit_depths, limit=limit)
    other = open_other(file, home, settings.column)
    return MerlinInstrument(file, settings, home, other, Merlin(settings.host, settings.control_port))
