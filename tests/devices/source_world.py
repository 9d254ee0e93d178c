"""A frame source of known frames, picklable, for the tests of the acquisition."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np

from devices.frames import FrameBatch


@dataclass(frozen=True)
class KnownFrames:
    """Poisson frames out of a seed; may end early, crash the process, or send a frame out of its place."""

    scan_shape: tuple[int, int]
    detector_shape: tuple[int, int] = (16, 12)
    dtype: str = "uint16"
    mean: float = 5.0
    batch: int = 7
    ends_after: int | None = None
    out_of_place: bool = False
    dies_after: int | None = None

    @property
    def frames(self) -> int:
        return self.scan_shape[0] * self.scan_shape[1]

    def all_frames(self) -> np.ndarray:
        """(n, det_y, det_x) of the whole scan."""
        rng = np.random.default_rng(1)
        return rng.poisson(self.mean, (self.frames, *self.detector_shape)).astype(self.dtype)

    def open(self) -> "OpenFrames":
        return OpenFrames(self)


class OpenFrames:
    """The open source."""

    def __init__(self, spec: KnownFrames) -> None:
        self._spec = spec
        self.closed = False

    def batches(self) -> Iterator[FrameBatch]:
        import os

        spec, frames = self._spec, self._spec.all_frames()
        last = spec.frames if spec.ends_after is None else spec.ends_after
        for first in range(0, last, spec.batch):
            if spec.dies_after is not None and first >= spec.dies_after:
                os._exit(11)
            there = first + 1 if spec.out_of_place and first else first
            yield FrameBatch(there, frames[first : min(first + spec.batch, last)])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed = True
