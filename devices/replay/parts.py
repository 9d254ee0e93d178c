"""The parts of a replay: they answer with what the file says, and keep the state they are given."""

from collections.abc import Callable
from dataclasses import asdict

from pydantic import ValidationError

from devices.column_log import ColumnLog, entry_of
from devices.dose_lease import require_owner, require_valid
from devices.protocols import ColumnSetting, ExposureRequest, Reading, ScanRequest
from devices.replay.recording import Recording, ReplaySource
from stem4d.detector import DetectorFacts, full_scale
from stem4d.dose import DoseLease
from stem4d.errors import BadInput, DeviceFault, LimitViolation, shown
from stem4d.plan import Optics
from storage.units import unit_of


class ReplayClock:
    """Time that passes with scans and pauses only, and the log that carries it."""

    def __init__(self, log: ColumnLog) -> None:
        self.now_s = 0.0
        self._log = log

    def note(self, event: str, **facts: object) -> None:
        """Log what was asked of the instrument; there is no beam that a full disk could keep on."""
        self._log.keep(entry_of(event, self.now_s, facts))


class ReplayColumn:
    """The optics as they were."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording

    def prepare(self, setting: ColumnSetting) -> ColumnSetting:
        """What the file says, and as asked where it does not say; shifts are as recorded, which is none."""
        asked = setting.optics.model_dump()
        read = {name: self._recording.number(name, value) for name, value in asked.items()}
        try:
            return ColumnSetting(optics=Optics.model_validate(read))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = f"{self._recording.path.name}: {first['loc'][0]}"
            raise BadInput(field=where, value=first["input"], limit=first["msg"]) from error

    def snapshot(self) -> tuple[Reading, ...]:
        """Every single value of the file's metadata."""
        return tuple(
            Reading(name, value, unit_of(name), self._recording.recorded_at, "cached")
            for name, value in sorted(self._recording.metadata.items())
            if not isinstance(value, list)
        )


class ReplayStage:
    """A stage that is wherever it is sent."""

    def __init__(self, clock: ReplayClock) -> None:
        self._clock, self._position = clock, ""

    def go_to(self, position: str) -> str:
        """Keep the name."""
        self._position = position
        self._clock.note("stage", position=position)
        return position

    def position(self) -> str:
        """The name last given; empty before."""
        return self._position


class ReplayDetector:
    """A detector that has already counted."""

    def __init__(self, recording: Recording, detectors: tuple[DetectorFacts, ...]) -> None:
        self._recording = recording
        self._known = {facts.name: facts for facts in detectors}
        self._facts = detectors[0]
        self._prepared = self._sourced = self.armed = False

    @property
    def facts(self) -> DetectorFacts:
        """As the instrument file states them."""
        return self._facts

    def prepare(self, request: ExposureRequest) -> ExposureRequest:
        """Accept what the recording is, and nothing else."""
        recording = self._recording
        if request.detector not in self._known:
            limit = "one of " + ", ".join(self._known)
            raise LimitViolation(device="replay", setting="detector", asked=request.detector, limit=limit)
        for setting, asked, there in (
            ("shape", request.shape, recording.detector_shape),
            ("frames", request.frames, recording.frames),
            ("full scale", full_scale(request.bit_depth), recording.full_scale),
        ):
            if there is not None and asked != there:
                limit = f"{recording.path.name} was recorded with {shown(there)}"
                raise LimitViolation(device="replay", setting=setting, asked=asked, limit=limit)
        self._facts, self._prepared = self._known[request.detector], True
        time_us = recording.number("exposure_time_us", request.exposure_time_us)
        return request.model_copy(update={"exposure_time_us": time_us})

    def source(self) -> ReplaySource:
        """The file."""
        if not self._prepared:
            raise DeviceFault("replay: source was called before the detector was prepared")
        self._sourced = True
        recording = self._recording
        return ReplaySource(recording.path, recording.frames, recording.detector_shape, recording.dtype)

    def arm(self) -> None:
        """Nothing to do but to be asked in order."""
        if not self._sourced:
            raise DeviceFault("replay: arm was called before a source of this exposure was taken")
        self._sourced, self.armed = False, True

    def ensure_stopped(self) -> None:
        """Disarm."""
        self._sourced = self.armed = False


class ReplayScan:
    """A raster that has already been run."""

    def __init__(self, recording: Recording, detector: ReplayDetector, clock: ReplayClock) -> None:
        self._recording, self._detector, self._clock = recording, detector, clock
        self._request: ScanRequest | None = None
        self._running = False

    def prepare(self, request: ScanRequest) -> ScanRequest:
        """Accept the recording's shape (any of its length where the file knows none); step and dwell as recorded."""
        there = self._recording.scan_shape
        same_length = request.shape[0] * request.shape[1] == self._recording.frames
        if request.shape != there and not (there[0] == 1 and same_length):
            limit = f"{self._recording.path.name} holds {there[0]} x {there[1]}"
            raise LimitViolation(device="replay", setting="scan shape", asked=request.shape, limit=limit)
        if any(request.offset_nm) or any(request.follow_nm_per_min):
            limit = "a recording's field cannot be moved"
            raise LimitViolation(device="replay", setting="offset_nm", asked=request.offset_nm, limit=limit, unit="nm")
        known = {
            "step_nm": self._recording.number("scan_step_nm", request.step_nm),
            "dwell_time_us": self._recording.number("dwell_time_us", request.dwell_time_us),
        }
        self._request = request.model_copy(update=known)
        return self._request

    def start(self) -> None:
        """Start."""
        if self._request is None or not self._detector.armed:
            missing = "no raster is prepared" if self._request is None else "the detector is not armed"
            raise DeviceFault(f"replay: the scan was started but {missing}")
        self._running = True
        self._clock.note("scan", duration_s=self._request.duration_s)

    def wait(self) -> None:
        """Return at once, the clock at the scan's end."""
        if not self._running or self._request is None:
            raise DeviceFault("replay: wait was called but no raster runs")
        self._clock.now_s += self._request.duration_s
        self._running = self._detector.armed = False

    def ensure_stopped(self) -> None:
        """Stop."""
        self._running = False


class ReplayGate:
    """A blanker without a beam, as strict about leases as any."""

    def __init__(self, clock: ReplayClock, monotonic: Callable[[], float]) -> None:
        self._clock, self._monotonic = clock, monotonic
        self._blanked, self._newest_token, self._newest_owner_token = True, 0, 0

    def blank(self) -> None:
        """Keep the state."""
        self._blanked = True
        self._clock.note("blank")

    def unblank(self, lease: DoseLease) -> None:
        """Keep the state, if the lease is valid."""
        require_valid(lease, self._newest_token, self._newest_owner_token, self._monotonic())
        self._newest_token, self._newest_owner_token, self._blanked = lease.token, lease.owner_token, False
        self._clock.note("unblank", **asdict(lease))

    def is_blanked(self) -> bool:
        """As last told; blanked at first."""
        return self._blanked

    def newest_token(self) -> int:
        """Of this session."""
        return self._newest_token

    def see_owner(self, owner_token: int) -> int:
        """Refuse the dose leases of owners before this one."""
        require_owner(owner_token, 0)
        self._newest_owner_token = max(self._newest_owner_token, owner_token)
        return self._newest_owner_token


class ReplayValves:
    """Valves without a column."""

    def __init__(self, clock: ReplayClock) -> None:
        self._clock = clock

    def close(self) -> None:
        """Note it."""
        self._clock.note("valves", closed=True)
