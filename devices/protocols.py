"""What nightbeam asks of an instrument: small typed protocols and the values that pass through them.

``prepare`` returns what the device resolved, and the caller compares. A value out of range is a
``LimitViolation``, never clipped. ``ensure_stopped`` is idempotent and may be called at any time.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol, runtime_checkable

from devices.frames import FrameBatch as FrameBatch
from devices.frames import FrameSource as FrameSource
from devices.frames import FrameSourceSpec as FrameSourceSpec
from devices.frames import PackedBatch as PackedBatch
from stem4d.approach import StagePose
from stem4d.detector import DetectorFacts
from stem4d.dose import DoseLease
from stem4d.model import Count, Name, NonNegative, Positive, Strict
from stem4d.plan import Optics

Matrix = tuple[tuple[float, float], tuple[float, float]]
"""Rows and columns in (y, x) order."""


@dataclass(frozen=True)
class Reading:
    """One setting of a device as it stands: value, unit, time and how it is known."""

    name: str
    value: float | str | bool
    unit: str
    read_at: datetime
    source: Literal["measured", "commanded", "cached"]


class ColumnSetting(Strict):
    """Everything the column is set to for an exposure."""

    optics: Optics
    diffraction_shift_mrad: tuple[float, float] = (0.0, 0.0)
    """Moves the pattern on the detector, (y, x) [mrad]."""
    descan_mrad_per_nm: Matrix = ((0.0, 0.0), (0.0, 0.0))
    """Descan correction: pattern shift (y, x) [mrad] for a probe position (y, x) [nm] from the field's centre."""
    beam_shift_nm: tuple[float, float] = (0.0, 0.0)
    """Where the middle of every field is moved to, (y, x) along the scan's axes, by coils of its own."""
    focus_correction_nm: float = 0.0
    """Added to the defocus of the optics, so that the specimen has that one."""
    stigmator_nm: tuple[float, float] = (0.0, 0.0)
    """What is added to the twofold astigmatism: C12 (cos 2φ, sin 2φ), φ from x towards y."""


class ScanRequest(Strict):
    """One raster pass; shape is (scan_y, scan_x)."""

    shape: tuple[Count, Count]
    step_nm: Positive
    rotation_deg: float
    dwell_time_us: Positive
    flyback_us: NonNegative
    flyback_blanked: bool
    offset_nm: tuple[float, float] = (0.0, 0.0)
    """Beam shift of the whole field, (y, x) along the scan's axes."""
    follow_nm_per_min: tuple[float, float] = (0.0, 0.0)
    """How fast the field moves on from there during the pass, (y, x) along the scan's axes."""

    @property
    def duration_s(self) -> float:
        """Time of the pass [s]."""
        return self.shape[0] * (self.shape[1] * self.dwell_time_us + self.flyback_us) * 1e-6


class ExposureRequest(Strict):
    """What the detector is to record: one frame per probe position."""

    detector: Name
    shape: tuple[Count, Count]
    bit_depth: Count
    exposure_time_us: Positive
    frames: Count


class Column(Protocol):
    """The optics."""

    def prepare(self, setting: ColumnSetting) -> ColumnSetting:
        """Set the column and return what it reads back."""
        ...

    def snapshot(self) -> tuple[Reading, ...]:
        """Every setting as it stands; a pure read."""
        ...


@runtime_checkable
class NormalisingColumn(Protocol):
    """A column that can take the hysteresis out of its lenses; not every one can."""

    def normalise(self) -> None:
        """Normalise the lenses; they take a while to come to rest afterwards."""
        ...


class Stage(Protocol):
    """The specimen stage, by named positions."""

    def go_to(self, position: str) -> str:
        """Move to a named position and return where the stage is; where it is there already it does not move.

        A pose that was moved to since is therefore kept.
        """
        ...

    def position(self) -> str:
        """Where the stage is."""
        ...


@runtime_checkable
class PosedStage(Protocol):
    """A stage that can be sent to poses, and not to named positions alone."""

    def move_to(self, pose: StagePose) -> StagePose:
        """Move to a pose around the named position, coming from the side that takes the backlash out.

        Returns
        -------
        StagePose
            What was reached, as the stage reads it.

        Raises
        ------
        LimitViolation
            Where an axis does not go so far; the stage has not moved then.
        """
        ...

    def pose(self) -> StagePose:
        """Where the stage stands, as it reads it."""
        ...


class ScanGenerator(Protocol):
    """The scan engine."""

    def prepare(self, request: ScanRequest) -> ScanRequest:
        """Load a raster and return what was resolved."""
        ...

    def start(self) -> None:
        """Start the prepared raster; at its end the probe parks outside the field of itself."""
        ...

    def wait(self) -> None:
        """Return when the raster has ended."""
        ...

    def ensure_stopped(self) -> None:
        """Stop scanning and park the probe outside the field."""
        ...


class Detector(Protocol):
    """A pixel detector."""

    @property
    def facts(self) -> DetectorFacts:
        """What this detector is."""
        ...

    def prepare(self, request: ExposureRequest) -> ExposureRequest:
        """Configure the detector and return what was resolved."""
        ...

    def source(self) -> FrameSourceSpec:
        """How to receive the prepared exposure's frames."""
        ...

    def arm(self) -> None:
        """Be ready to count; only after the receiver listens."""
        ...

    def ensure_stopped(self) -> None:
        """Disarm; frames not yet recorded will not come."""
        ...


@runtime_checkable
class DetectorWitness(Protocol):
    """A detector that can tell its own settings; not every one can."""

    def snapshot(self) -> tuple[Reading, ...]:
        """Identity and settings as they stand; a pure read."""
        ...


class BeamGate(Protocol):
    """The beam blanker."""

    def blank(self) -> None:
        """Take the beam off the specimen."""
        ...

    def unblank(self, lease: DoseLease) -> None:
        """Let the beam through under a dose lease; refuses one that is expired, older than the newest seen, or of an
        owner that another one has followed."""
        ...

    def is_blanked(self) -> bool | None:
        """None where the instrument cannot tell."""
        ...

    def newest_token(self) -> int:
        """Highest token of a lease that the instrument has let the beam through for; 0 before the first."""
        ...

    def see_owner(self, owner_token: int) -> int:
        """Refuse leases of owners with lower tokens from now on; gives the highest seen, which may be higher."""
        ...


@dataclass(frozen=True)
class BeamFound:
    """A beam that a session before this one left on."""

    area: str
    """Area of the lease that it was let through for."""
    since: str
    """UTC, as the instrument's log has it."""
    until: str = ""
    """UTC at which the instrument blanked it by itself; empty while it is on."""


@runtime_checkable
class BeamWitness(Protocol):
    """An instrument that can tell a new session what it found; not every one can."""

    @property
    def found(self) -> BeamFound | None:
        """The beam as it was when this session began; None where it was off."""
        ...


WatchedBy = Literal["another process", "nobody needed", "nobody"]
"""Who besides its owner can make an instrument safe; "nobody needed" where there is no beam that could be left on."""


@runtime_checkable
class Watchable(Protocol):
    """An instrument that says who can make it safe when its owner has died; one that does not say cannot be watched.

    Of one that another process can make safe a second connection is opened by its driver while the session is open:
    that changes nothing, and `devices.safety.make_safe` works on it whatever the owner is in the middle of.
    """

    @property
    def watched_by(self) -> WatchedBy:
        """Who can."""
        ...

    def leave(self) -> None:
        """Let go of this connection; the session, and whoever else is in it, go on."""
        ...


class Valves(Protocol):
    """The column valves; closing is always allowed."""

    def close(self) -> None:
        """Close them."""
        ...


@runtime_checkable
class Instrument(Protocol):
    """A whole microscope. One thread of one process owns it."""

    @property
    def name(self) -> str: ...

    @property
    def column(self) -> Column: ...

    @property
    def stage(self) -> Stage: ...

    @property
    def scan(self) -> ScanGenerator: ...

    @property
    def detector(self) -> Detector: ...

    @property
    def gate(self) -> BeamGate: ...

    @property
    def valves(self) -> Valves: ...

    def pause(self, seconds: float) -> None:
        """Let the instrument's time pass: real seconds, or simulated ones."""
        ...

    def now_s(self) -> float:
        """The instrument's clock [s], simulated or real; differences only."""
        ...

    def close(self) -> None:
        """Let go of the instrument, beam blanked."""
        ...
