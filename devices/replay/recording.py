"""A recorded dataset as a replay needs it: what it says of itself, and its frames as a source."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from devices.passes import as_counts, counts_dtype
from devices.protocols import FrameBatch
from stem4d.errors import BadInput
from storage.frames import Frames
from storage.read import open_frames
from storage.spec import Fact


@dataclass(frozen=True)
class Recording:
    """What is known of the dataset without its frames."""

    path: Path
    scan_shape: tuple[int, int]
    detector_shape: tuple[int, int]
    dtype: str
    full_scale: int | None
    metadata: Mapping[str, Fact]
    recorded_at: datetime

    @property
    def frames(self) -> int:
        """Positions."""
        return self.scan_shape[0] * self.scan_shape[1]

    def number(self, name: str, otherwise: float) -> float:
        """A number of the metadata, or what to take where the file does not say."""
        value = self.metadata.get(name)
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else otherwise


@dataclass(frozen=True)
class ReplaySource:
    """How to receive the recorded frames; picklable."""

    path: Path
    frames: int
    detector_shape: tuple[int, int]
    dtype: str

    def open(self) -> "ReplayFrames":
        """Open the file in this process."""
        return ReplayFrames(open_frames(self.path))


class ReplayFrames:
    """An open recording."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._frames.close()

    def batches(self) -> Iterator[FrameBatch]:
        """All frames in scan order."""
        for first, frames in self._frames.batches():
            yield FrameBatch(first, as_counts(frames, self._frames.path.name))


def read_recording(path: Path) -> Recording:
    """What a file says of itself; refuses one that misses positions."""
    with open_frames(path) as frames:
        held = int(frames.recorded.sum())
        if held != frames.recorded.size:
            raise BadInput(
                field=path.name,
                value=f"{held} frames",
                limit=f"a replay needs all {frames.recorded.size} positions of the scan",
            )
        return Recording(
            path=path.resolve(),
            scan_shape=frames.scan_shape,
            detector_shape=frames.detector_shape,
            dtype=counts_dtype(frames),
            full_scale=frames.full_scale,
            metadata=dict(frames.metadata),
            recorded_at=datetime.fromtimestamp(path.stat().st_mtime, UTC),
        )
