"""A Quantum Detectors Merlin: configured, its acquisition started with its status looked at, triggered, stopped."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from devices.merlin.configure import Configured, Trigger, check_request, configure, number
from devices.merlin.control import Merlin, NoAnswer
from devices.merlin.provenance import provenance
from devices.merlin.stream import MerlinStream
from devices.protocols import ExposureRequest, Reading
from stem4d.detector import DetectorFacts
from stem4d.errors import DeviceFault

IDLE = 0
"""DETECTORSTATUS of a detector that does nothing; 1 is busy. Other software versions know more of them."""
POLL_S = 0.2
ARMED_WITHIN_S = 10.0
STOPPED_WITHIN_S = 5.0
"""For each of the two ways of stopping."""


@dataclass
class MerlinDetector:
    """One detector; implements `devices.protocols.Detector`."""

    control: Merlin
    facts: DetectorFacts
    trigger_by: Trigger = "software"
    data_port: int = 6342
    packed: bool = False
    """Whether frames are asked for as the chip packs them, R64: of one chip only, and eight times smaller at 1 bit."""
    first_frame_timeout_s: float = 30.0
    gap_timeout_s: float = 5.0
    """Besides the time of a frame."""
    header_file: Path | None = None
    """Where the header of the last acquisition is kept, for provenance."""
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _configured: Configured | None = field(default=None, init=False)
    _sourced: bool = field(default=False, init=False)
    _armed: bool = field(default=False, init=False)

    def status(self) -> int:
        """What the detector says it is doing."""
        return int(number(self.control, "DETECTORSTATUS"))

    def prepare(self, request: ExposureRequest) -> ExposureRequest:
        """Configure the detector; what an earlier process left started is stopped first.

        Raises
        ------
        LimitViolation
            For what file or detector does not allow.
        NotConfirmed
            It reads back something else than was written.
        DeviceFault
            The detector is armed by us, is another than the file's, or fails.
        """
        check_request(self.facts, request)
        if self._armed:
            raise DeviceFault("detector: prepare was called while it is armed")
        self._configured, self._sourced = None, False
        if self.status() != IDLE:
            self.ensure_stopped()
        self._configured = configure(self.control, self.facts, request, self.trigger_by, self.packed)
        return self._configured.request

    def source(self) -> MerlinStream:
        """How to receive the prepared exposure's frames; every exposure is prepared anew."""
        configured = self._configured
        if configured is None:
            raise DeviceFault("detector: source was called before the exposure was prepared")
        self._sourced = True
        request = configured.request
        return MerlinStream(
            host=self.control.host,
            port=self.data_port,
            frames=request.frames,
            detector_shape=request.shape,
            dtype=configured.dtype,
            depth=request.bit_depth,
            packed=self.packed,
            frames_per_trigger=configured.frames_per_trigger,
            first_frame_timeout_s=self.first_frame_timeout_s + configured.frame_time_s,
            gap_timeout_s=self.gap_timeout_s + configured.frame_time_s,
            header_file=self.header_file,
        )

    def arm(self) -> None:
        """Start the acquisition, which then waits for its trigger, and make sure that it does.

        The command is given once: where its answer is lost, the status is read.

        Raises
        ------
        DeviceFault
            The detector refused, or is still idle. It may be started all the same: stop it.
        """
        if not self._sourced:
            raise DeviceFault("detector: arm was called before a source of this exposure was taken")
        self._sourced, self._armed = False, True
        lost = self._told("STARTACQUISITION")
        if (status := self._awaited(lambda status: status != IDLE, ARMED_WITHIN_S)) == IDLE:
            raise DeviceFault(
                f"the acquisition at {self.control.host} was started{lost}; "
                f"after {ARMED_WITHIN_S:g} s the detector still has status {status}, idle"
            )

    def trigger(self) -> None:
        """Start the frames. Where the answer is lost, the frames tell whether they were.

        Raises
        ------
        DeviceFault
            The detector refused.
        """
        if not self._armed:
            raise DeviceFault("detector: trigger was called but it is not armed")
        self._told("SOFTTRIGGER")

    def ensure_stopped(self) -> None:
        """Stop the acquisition, and abort it where that does not help; at any time, also when nothing runs.

        Raises
        ------
        DeviceFault
            It cannot be said that the detector has stopped.
        """
        self._configured, self._sourced = None, False
        problem = ""
        try:
            status: int | None = self.status()
        except DeviceFault as error:
            status, problem = None, f" ({error})"
        for command in ("STOPACQUISITION", "ABORT"):
            if status == IDLE:
                break
            try:
                self._told(command)
                status = self._awaited(lambda status: status == IDLE, STOPPED_WITHIN_S)
            except DeviceFault as error:
                status, problem = None, f" ({error})"
        if status != IDLE:
            raise DeviceFault(
                f"the detector at {self.control.host} cannot be said to have stopped: its status is {status}{problem}. "
                "Stop it in Merlin's own window"
            )
        self._armed = False

    def snapshot(self) -> tuple[Reading, ...]:
        """What the detector is and how it counts, kept with every run; a pure read."""
        return provenance(self.control, self.header_file)

    def _told(self, command: str) -> str:
        """Give a command; gives what was lost, where its answer was."""
        try:
            self.control.command(command)
        except NoAnswer as error:
            return f", its answer was lost ({error})"
        return ""

    def _awaited(self, wanted: Callable[[int], bool], within_s: float) -> int:
        """Look until the status is a wanted one or the time is over; gives the last."""
        began_s = self.monotonic()
        while not wanted(status := self.status()) and self.monotonic() - began_s < within_s:
            self.sleep(POLL_S)
        return status
