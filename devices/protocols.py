"""What nightbeam asks of an instrument: small typed protocols and the values that pass through them.

``prepare`` returns what the device resolved, and the caller compares. A value out of range is a
``LimitViolation``, never clipped. ``ensure_stopped`` is idempotent and may be called at any time.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple, Protocol, Self, runtime_checkable

import numpy as np
import numpy.typing as npt

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


class ScanRequest(Strict):
    """One raster pass; shape is (scan_y, scan_x)."""

    shape: tuple[Count, Count]
    step_nm: Positive
    rotation_deg: float
    dwell_time_us: Positive
    flyback_us: NonNegative
    flyback_blanked: bool

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


class FrameBatch(NamedTuple):
    """Consecutive frames in scan order."""

    first: int
    """Scan position of the first frame, counted along the fast axis from 0."""
    frames: npt.NDArray[np.unsignedinteger]
    """(n, det_y, det_x) counts."""


class PackedBatch(NamedTuple):
    """Frames as a detector packed them, in the order in which they came; without any, it says that none came a while.

    What becomes of each position, the receiver decides: frames may be missing, come twice, late, or damaged.
    """

    indices: list[int]
    """Number of each frame in the exposure, counted from 0."""
    chunks: list[bytes]
    """Each frame as HDF5's bitshuffle+LZ4 filter stores it; anything else counts as corrupt."""
    strays: int = 0
    """Messages since the last batch that belong to no frame of this exposure."""
    queue_share: float = 0.0
    """How full the queue between connection and receiver was, 0 to 1."""
    held_up_s: float = 0.0
    """How long since the last batch the connection was not read, because that queue was full [s]."""


class FrameSource(Protocol):
    """An open connection that frames arrive on."""

    def batches(self) -> "Iterator[FrameBatch | PackedBatch]":
        """Frames as they come, until all have come or the source ends; packed ones at least five times a second."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc_info: object) -> None: ...


class FrameSourceSpec(Protocol):
    """How to connect to the frames of one armed exposure; picklable, opened in the acquisition process."""

    @property
    def frames(self) -> int:
        """Frames that will come."""
        ...

    @property
    def detector_shape(self) -> tuple[int, int]:
        """(det_y, det_x)."""
        ...

    @property
    def dtype(self) -> str:
        """uint8, uint16 or uint32."""
        ...

    def open(self) -> FrameSource:
        """Connect; the caller arms the detector only afterwards."""
        ...


class Column(Protocol):
    """The optics."""

    def prepare(self, setting: ColumnSetting) -> ColumnSetting:
        """Set the column and return what it reads back."""
        ...

    def snapshot(self) -> tuple[Reading, ...]:
        """Every setting as it stands; a pure read."""
        ...


class Stage(Protocol):
    """The specimen stage, by named positions."""

    def go_to(self, position: str) -> str:
        """Move to a named position and return where the stage is."""
        ...

    def position(self) -> str:
        """Where the stage is."""
        ...


class ScanGenerator(Protocol):
    """The scan engine."""

    def prepare(self, request: ScanRequest) -> ScanRequest:
        """Load a raster and return what was resolved."""
        ...

    def start(self) -> None:
        """Start the prepared raster."""
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
        """Let the beam through under a dose lease; refuses one that is expired or older than the newest seen."""
        ...

    def is_blanked(self) -> bool | None:
        """None where the instrument cannot tell."""
        ...

    def newest_token(self) -> int:
        """Highest token of a lease that the instrument has let the beam through for; 0 before the first."""
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
