"""The driver of the simulated instrument: each part asks the server, and frames come over a connection of their own."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from devices.dose_lease import require_figures
from devices.protocols import (
    BeamFound,
    ColumnSetting,
    ExposureRequest,
    FrameBatch,
    Reading,
    ScanRequest,
    WatchedBy,
)
from devices.simulator.client import READY_TIMEOUT_S, Line, connect, no_answer, open_line
from devices.simulator.wire import Address, SourceFacts, pixels_of, read_address, unpack_error
from stem4d.approach import StagePose
from stem4d.detector import DetectorFacts
from stem4d.dose import DoseLease
from stem4d.errors import DeviceFault
from stem4d.instrument import InstrumentFile

LINGER_S = 1.0
"""How long a server stays after its last client [s]: a next command finds it, and 5 s after a run nothing is left."""
SILENCE_TIMEOUT_S = 30.0
"""Longest silence between frames [s]; rendering a batch may take seconds, and a waiting server sends word."""
AHEAD = 2
"""Batches that are made before they are needed: while one is written the next is rendered and one is on its way."""


def open_instrument(file: InstrumentFile, home: Path, linger_s: float = LINGER_S) -> "RemoteInstrument":
    """Open the simulated instrument of a file; arguments and errors as of `devices.simulator.client.open_line`."""
    home = home.absolute()
    return RemoteInstrument(file.name, open_line(file, home, linger_s), home / "instruments" / file.name)


class RemoteInstrument:
    """A session at the simulated instrument; implements `devices.protocols.Instrument`."""

    watched_by: WatchedBy = "another process"

    def __init__(self, name: str, line: Line, folder: Path) -> None:
        self._name, self._line = name, line
        self._ended = False
        self.column = RemoteColumn(line)
        self.stage = RemoteStage(line)
        self.scan = RemoteScan(line)
        self.detector = RemoteDetector(line, folder)
        self.gate = RemoteGate(line)
        self.valves = RemoteValves(line)

    @property
    def name(self) -> str:
        """As its file has it."""
        return self._name

    @property
    def found(self) -> BeamFound | None:
        """The beam, where the session before this one had left it on."""
        return self._line.found

    def pause(self, seconds: float) -> None:
        """Let simulated time pass."""
        left_s = seconds
        while left_s := self._line.ask("pause", left_s):
            pass

    def now_s(self) -> float:
        """Simulated time [s]."""
        now_s: float = self._line.ask("now_s")
        return now_s

    def close(self) -> None:
        """End the session, beam blanked; again does nothing."""
        if not self._ended:
            self._ended = True
            try:
                self._line.ask("close")
            finally:
                self._line.close()

    def leave(self) -> None:
        """Let go of the connection, and leave the session as it is."""
        self._ended = True
        self._line.close()


class RemoteColumn:
    """The optics."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def prepare(self, setting: ColumnSetting) -> ColumnSetting:
        """Set the column and return what it reads back."""
        resolved: ColumnSetting = self._line.ask("column.prepare", setting)
        return resolved

    def snapshot(self) -> tuple[Reading, ...]:
        """What was commanded, setting by setting."""
        readings: tuple[Reading, ...] = self._line.ask("column.snapshot")
        return readings

    def normalise(self) -> None:
        """Take the hysteresis out of the lenses."""
        self._line.ask("column.normalise")


class RemoteStage:
    """The stage."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def go_to(self, position: str) -> str:
        """Move to an area or to ``vacuum``."""
        return str(self._line.ask("stage.go_to", position))

    def position(self) -> str:
        """Where the stage is."""
        return str(self._line.ask("stage.position"))

    def move_to(self, pose: StagePose) -> StagePose:
        """Move to a pose, coming from the side that takes the backlash out; gives what was reached."""
        reached: StagePose = self._line.ask("stage.move_to", pose)
        return reached

    def pose(self) -> StagePose:
        """Where the stage stands, by its own reading."""
        pose: StagePose = self._line.ask("stage.pose")
        return pose


class RemoteScan:
    """The scan engine."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def prepare(self, request: ScanRequest) -> ScanRequest:
        """Load a raster."""
        resolved: ScanRequest = self._line.ask("scan.prepare", request)
        return resolved

    def start(self) -> None:
        """Start the prepared raster."""
        self._line.ask("scan.start")

    def wait(self) -> None:
        """Return when the raster has ended; accelerated, this moves the clock to its end."""
        while self._line.ask("scan.wait") > 0:
            pass

    def ensure_stopped(self) -> None:
        """Stop scanning; frames of positions not yet reached will not come."""
        self._line.ask("scan.ensure_stopped")


class RemoteDetector:
    """The detectors."""

    def __init__(self, line: Line, folder: Path) -> None:
        self._line, self._folder = line, folder

    @property
    def facts(self) -> DetectorFacts:
        """What the detector in use is."""
        facts: DetectorFacts = self._line.ask("detector.facts")
        return facts

    def prepare(self, request: ExposureRequest) -> ExposureRequest:
        """Configure a detector."""
        resolved: ExposureRequest = self._line.ask("detector.prepare", request)
        return resolved

    def source(self) -> "RemoteSource":
        """How to receive the prepared exposure's frames; a new run with noise of its own each time."""
        facts: SourceFacts = self._line.ask("detector.source")
        return RemoteSource(self._folder, facts.run, facts.frames, facts.detector_shape, facts.dtype)

    def arm(self) -> None:
        """Be ready to count."""
        self._line.ask("detector.arm")

    def ensure_stopped(self) -> None:
        """Disarm; frames of positions not yet reached will not come."""
        self._line.ask("detector.ensure_stopped")


class RemoteGate:
    """The beam blanker."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def blank(self) -> None:
        """Take the beam off the specimen."""
        self._line.ask("gate.blank")

    def unblank(self, lease: DoseLease) -> None:
        """Let the beam through under a dose lease, which runs on the real clock that all processes share."""
        require_figures(lease)
        self._line.ask("gate.unblank", lease)

    def is_blanked(self) -> bool:
        """Whether the beam is off the specimen."""
        return bool(self._line.ask("gate.is_blanked"))

    def newest_token(self) -> int:
        """Highest token that the beam was let through for, by whatever session."""
        return int(self._line.ask("gate.newest_token"))

    def see_owner(self, owner_token: int) -> int:
        """Refuse the dose leases of owners before this one, of whatever session."""
        return int(self._line.ask("gate.see_owner", owner_token))


class RemoteValves:
    """The column valves; a new session opens them."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def close(self) -> None:
        """Close them, which takes the beam away too."""
        self._line.ask("valves.close")


@dataclass(frozen=True)
class RemoteSource:
    """How to receive the frames of one prepared exposure; picklable, opened in any process of this user."""

    folder: Path
    """Where the server's address and key are."""
    run: int
    frames: int
    detector_shape: tuple[int, int]
    dtype: str

    def open(self) -> "RemoteFrames":
        """Connect, and wait until the server is ready to render."""
        address = read_address(self.folder)
        if address is None:
            raise DeviceFault(f"the simulated instrument {self.folder.name}: its server has ended")
        return RemoteFrames(self, address)


class RemoteFrames:
    """A connection of its own that frames arrive on."""

    def __init__(self, spec: RemoteSource, address: Address) -> None:
        self._spec, self._address = spec, address
        try:
            self._link = connect(address, READY_TIMEOUT_S)
        except OSError as error:
            raise self._broken(error) from None
        try:
            self._link.send({"call": "stream"}, json.dumps(spec.run).encode())
            head, _ = self._link.receive()
            if "error" in head:
                raise unpack_error(head)
        except OSError as error:
            self._link.close()
            raise self._broken(error) from None
        except BaseException:
            self._link.close()
            raise
        self._link.wait_at_most(SILENCE_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._link.close()

    def batches(self) -> Iterator[FrameBatch]:
        """Frames in scan order, from the start of the scan until all have come or the exposure is stopped."""
        try:
            self._link.ask_for_more(AHEAD)
            while True:
                head, length = self._link.receive_head()
                if "error" in head:
                    raise unpack_error(head)
                if "end" in head:
                    return
                if "alive" not in head:
                    batch = self._batch(head, length)
                    self._link.ask_for_more(1)
                    yield batch
        except OSError as error:
            raise self._broken(error) from None

    def _batch(self, head: dict[str, Any], length: int) -> FrameBatch:
        spec = self._spec
        shape = (int(head["n"]), *spec.detector_shape)
        if not 0 < shape[0] <= spec.frames or length != np.dtype(spec.dtype).itemsize * int(np.prod(shape)):
            raise ConnectionError(f"{length} bytes that are no frames")
        frames = np.empty(shape, spec.dtype)
        self._link.receive_into(pixels_of(frames))
        return FrameBatch(int(head["first"]), frames)

    def _broken(self, error: OSError) -> DeviceFault:
        return no_answer(self._spec.folder.name, self._address, error)
