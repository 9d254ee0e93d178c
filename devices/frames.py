"""Frames on their way from an instrument into the acquisition process, which needs to know nothing else of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol, Self

import numpy as np
import numpy.typing as npt


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


@dataclass(frozen=True)
class FrameCounts:
    """What became of an exposure: each position is ok, missing, duplicate or corrupt, and exactly one of them."""

    ok: int
    missing: int
    duplicate: int = 0
    """Came more than once; the first is kept."""
    corrupt: int = 0
    """Came, and could not be unpacked; its bytes are kept aside."""
    outside: int = 0
    """Frames with a number that was not asked for."""
    strays: int = 0
    """Messages that belong to no frame of the exposure."""

    def losses(self, *, ended: bool) -> str:
        """What is not as it should be, in words; a frame that may still come is not missing before the end."""
        kinds = (
            (self.missing if ended else 0, "missing"),
            (self.corrupt, "corrupt"),
            (self.duplicate, "came twice"),
        )
        return ", ".join(f"{count:,} {what}" for count, what in kinds if count)
