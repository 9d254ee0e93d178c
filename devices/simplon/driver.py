"""A DECTRIS detector over SIMPLON: configured, armed with its state looked at, triggered, stopped, recovered."""

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from uuid import uuid4

from devices.limits import slow_enough
from devices.protocols import ExposureRequest, Reading
from devices.simplon.configure import (
    ANSWER_MARGIN_S,
    ARM_TIMEOUT_S,
    INITIALIZE_TIMEOUT_S,
    Configured,
    Trigger,
    configure,
)
from devices.simplon.provenance import Provenance, provenance, readings
from devices.simplon.rest import NoAnswer, Simplon
from devices.simplon.stream import SimplonStream
from stem4d.detector import DetectorFacts
from stem4d.errors import DeviceFault, LimitViolation

POLL_S = 0.2
"""States are read five times a second at most: faster has hung detectors."""
SETTLE_S = 5.0
"""How long a state may take to show after the command for it was answered."""
RESTART_TIMEOUT_S = 120.0
BUSY = ("configure", "initialize")
STOPPED = ("idle", "na", "error")


@dataclass
class SimplonDetector:
    """One detector; implements `devices.protocols.Detector`."""

    rest: Simplon
    facts: DetectorFacts
    trigger_by: Trigger = "software"
    stream_port: int = 31001
    channel: str = ""
    first_frame_timeout_s: float = 30.0
    gap_timeout_s: float = ANSWER_MARGIN_S
    """Besides the time of a frame."""
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    _configured: Configured | None = field(default=None, init=False)
    _sourced: bool = field(default=False, init=False)
    _armed: bool = field(default=False, init=False)

    def state(self) -> str:
        """What the detector says it is doing."""
        return str(self.rest.get("state", task="status").value)

    def prepare(self, request: ExposureRequest) -> ExposureRequest:
        """Configure the detector; what an earlier process left armed is stopped first.

        Raises
        ------
        LimitViolation
            For what file or detector does not allow.
        DeviceFault
            The detector is armed by us, is not initialised, is another than the file's, or fails.
        """
        self._require_allowed(request)
        if self._armed:
            raise DeviceFault("detector: prepare was called while it is armed")
        self._configured, self._sourced = None, False
        state = self.state()
        if state in ("na", "error"):
            raise DeviceFault(f"the detector at {self.rest.host} is in state {state}; {RECOVERY}")
        if state != "idle":
            self.ensure_stopped()
        self._configured = configure(self.rest, self.facts, request, self.trigger_by, uuid4().hex)
        return self._configured.request

    def source(self) -> SimplonStream:
        """How to receive the prepared exposure's frames; every exposure is prepared anew."""
        configured = self._configured
        if configured is None:
            raise DeviceFault("detector: source was called before the exposure was prepared")
        self._sourced = True
        request = configured.request
        return SimplonStream(
            host=self.rest.host,
            port=self.stream_port,
            frames=request.frames,
            detector_shape=request.shape,
            dtype=configured.dtype,
            token=configured.token,
            first_frame_timeout_s=self.first_frame_timeout_s + configured.frame_time_s,
            gap_timeout_s=self.gap_timeout_s + configured.frame_time_s,
            channel=self.channel,
        )

    def arm(self) -> None:
        """Arm, and make sure that it is: an answer that is lost is never asked for again, the state is read.

        Raises
        ------
        DeviceFault
            The detector refused, or is not ready in time. It may be armed all the same: stop it.
        """
        if not self._sourced:
            raise DeviceFault("detector: arm was called before a source of this exposure was taken")
        self._sourced, self._armed = False, True
        lost = self._told("arm", ARM_TIMEOUT_S)
        self._await(("ready",), f"was armed{lost}", ARM_TIMEOUT_S)

    def trigger(self) -> None:
        """Start the frames; returns when the detector answers, which may be at their end.

        Raises
        ------
        DeviceFault
            The detector refused, or still waits for a trigger.
        """
        configured = self._configured  # another thread may stop us meanwhile
        if configured is None or not self._armed:
            raise DeviceFault("detector: trigger was called but it is not armed")
        if lost := self._told("trigger", configured.trigger_timeout_s):
            state = self.state()
            if state not in ("acquire", "idle"):
                raise DeviceFault(f"the detector at {self.rest.host} was triggered{lost}, and is in state {state}")

    def ensure_stopped(self) -> None:
        """Cancel and disarm; at any time, also when nothing runs.

        Raises
        ------
        DeviceFault
            It cannot be said that the detector has stopped.
        """
        self._configured, self._sourced = None, False
        if self._state_or_none(patient=True) not in STOPPED:
            # First cancel: a disarm alone hangs in long exposures. What it answers does not matter, the disarm's does.
            lost = ""
            for command in ("cancel", "disarm"):
                try:
                    lost = self._told(command)
                except DeviceFault as error:
                    lost = f" ({error})"
            self._await(STOPPED, f"was stopped{lost}", SETTLE_S)
        self._armed = False

    def recover(self, *, restart: bool = False) -> None:
        """Abort, restart the data acquisition if asked to, and initialise; for a person to ask for, never in a run.

        Raises
        ------
        DeviceFault
            The detector is not idle afterwards, or nobody knows whether its stream was initialised: do it again.
        """
        self._configured, self._sourced = None, False
        with suppress(DeviceFault):
            # Refused where nothing runs; whether it helped, initialising tells.
            self._told("abort")
        if restart:
            self._told("restart", RESTART_TIMEOUT_S, "system")
            self._await((*STOPPED, "ready"), "was restarted", RESTART_TIMEOUT_S, patient=True)
        lost = self._told("initialize", INITIALIZE_TIMEOUT_S)
        self._await(("idle",), f"was initialised{lost}", INITIALIZE_TIMEOUT_S, patient=bool(lost))
        self._armed = False
        self.rest.command("initialize", "stream")

    def provenance(self) -> Provenance:
        """What the detector is and how it counts, to be kept with the data; a pure read."""
        return provenance(self.rest)

    def snapshot(self) -> tuple[Reading, ...]:
        """What of that is kept with every run."""
        return readings(self.rest)

    def _require_allowed(self, request: ExposureRequest) -> None:
        facts = self.facts
        for setting, asked, allowed in (
            ("detector", request.detector, (facts.name,)),
            ("bit_depth", request.bit_depth, facts.bit_depths),
        ):
            if asked not in allowed:
                limit = "one of " + ", ".join(str(each) for each in allowed)
                raise LimitViolation(device=facts.name, setting=setting, asked=asked, limit=limit)
        merged = 1 if request.shape == facts.shape else 2
        slow_enough(facts, request, facts.frame_rate_hz(request.bit_depth, request.shape, merged))

    def _told(self, command: str, timeout_s: float = 20.0, module: str = "detector") -> str:
        """Give a command; gives what was lost, where its answer was."""
        try:
            self.rest.command(command, module, timeout_s)
        except NoAnswer as error:
            return f", its answer was lost ({error})"
        return ""

    def _await(self, wanted: tuple[str, ...], what: str, within_s: float, *, patient: bool = False) -> None:
        """Look until the detector is in a state; one that is not busy gets a few seconds, unless we are patient."""
        began_s = self.monotonic()
        while True:
            state = self._state_or_none(patient)
            waited_s = self.monotonic() - began_s
            if state in wanted:
                return
            allowed_s = within_s if patient or state in BUSY else min(within_s, SETTLE_S)
            hopeless = not patient and state in ("na", "error")
            if hopeless or waited_s >= allowed_s:
                expected = " or ".join(wanted)
                raise DeviceFault(
                    f"the detector at {self.rest.host} {what}; after {waited_s:.1f} s it is in state {state}, "
                    f"not {expected}. {RECOVERY}"
                )
            self.sleep(POLL_S)

    def _state_or_none(self, patient: bool) -> str | None:
        try:
            return self.state()
        except DeviceFault:
            if patient:
                return None
            raise


RECOVERY = "If a new exposure does not help, initialise it (docs/simplon.md, recovery)"
