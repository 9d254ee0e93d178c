"""Takes in the batches of one exposure: sorts, unpacks, writes and accumulates, and knows what became of each frame."""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from devices.map_buffers import MapBuffers
from devices.protocols import FrameBatch, PackedBatch
from stem4d.accumulate import Accumulator, AccumulatorSpec
from stem4d.errors import DeviceFault
from storage.codec import Codec, bitshuffle_lz4
from storage.write import FrameWriter

Array = npt.NDArray[np.generic]

IN_FLIGHT = 2
"""Batches that are unpacked while the one before them is written and accumulated."""
THREADS = 2
LOST_SHARE = 0.01
"""More of the frames corrupt or missing, and it is no acquisition; fewer are for the quality checks to judge."""
OVERRUN_SHARE = 0.01
"""So many frames more than asked for are counted; then the connection is left. Frames that are still on their way when
the last one asked for comes are no fault; a detector that does not end its series must not keep the run from ending."""


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


class Intake:
    """One exposure on its way into the file; leave the block to let its threads go."""

    def __init__(self, writer: FrameWriter, spec: AccumulatorSpec, total: int) -> None:
        self._writer, self._total = writer, total
        self._allowed = int(LOST_SHARE * total)
        self.accumulator = Accumulator(spec)
        self.maps = MapBuffers(writer.spec.scan_shape, spec)
        self.received = 0
        """Frames written."""
        self.queue_share = self.held_up_s = 0.0
        self._corrupt: set[int] = set()
        self._duplicate: set[int] = set()
        self._outside = self._strays = 0
        self._codec = bitshuffle_lz4()
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="unpack")
        self._unpacking: deque[tuple[PackedBatch, Array, list[Future[list[int]]]]] = deque()

    def take(self, batch: FrameBatch | PackedBatch) -> None:
        """Take in the next batch; a packed one is finished when later ones come, or by ``settle``.

        Raises
        ------
        DeviceFault
            Frames that are not packed came out of their place.
        """
        if isinstance(batch, PackedBatch):
            self._take_packed(batch)
        else:
            self._take_frames(batch)

    def settle(self) -> None:
        """Finish what has been taken in."""
        while self._unpacking:
            self._finish(*self._unpacking.popleft())

    @property
    def counts(self) -> FrameCounts:
        """What became of the frames so far."""
        return FrameCounts(
            ok=self.received - len(self._duplicate),
            missing=self._total - self.received - len(self._corrupt),
            duplicate=len(self._duplicate),
            corrupt=len(self._corrupt),
            outside=self._outside,
            strays=self._strays,
        )

    @property
    def hopeless(self) -> str:
        """Why it is not worth going on; empty while it is."""
        if len(self._corrupt) <= self._allowed:
            return ""
        return f"{len(self._corrupt)} frames could not be unpacked; {self._allowed} of {self._total} are borne with"

    @property
    def too_few(self) -> str:
        """At the end: why too few frames came for an acquisition; empty where enough did."""
        if self._total - self.received <= self._allowed:
            return ""
        damaged = f", and {len(self._corrupt)} that could not be unpacked" if self._corrupt else ""
        return f"the detector sent {self.received} of {self._total} frames{damaged}"

    @property
    def overrun(self) -> bool:
        """Whether all frames are there, and more came than can be a slip at the end."""
        settled = self.received + len(self._corrupt) == self._total
        return settled and self._outside > max(1, int(OVERRUN_SHARE * self._total))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _take_frames(self, batch: FrameBatch) -> None:
        first, end = batch.first, batch.first + len(batch.frames)
        if first != self.received or end > self._total:
            raise DeviceFault(f"frames {first} to {end - 1} came where {self.received} of {self._total} was next")
        self._writer.write(first, batch.frames)
        self.maps.put(slice(first, end), self.accumulator.add(batch.frames))
        self.received = end

    def _take_packed(self, batch: PackedBatch) -> None:
        self._strays += batch.strays
        self.queue_share = batch.queue_share
        self.held_up_s += batch.held_up_s
        if not batch.chunks:
            self.settle()
            self._writer.tick()
            return
        if self._codec is None:
            raise DeviceFault("packed frames need the bitshuffle library, which this build of hdf5plugin hides")
        spec = self._writer.spec
        frames = np.empty((len(batch.chunks), *spec.detector_shape), spec.dtype)
        half = -(-len(frames) // 2)
        tasks = [
            self._pool.submit(_unpack, self._codec, batch.chunks[part], frames[part], part.start)
            for part in (slice(0, half), slice(half, len(frames)))
        ]
        self._unpacking.append((batch, frames, tasks))
        if len(self._unpacking) > IN_FLIGHT:
            self._finish(*self._unpacking.popleft())

    def _finish(self, batch: PackedBatch, frames: Array, tasks: Sequence[Future[list[int]]]) -> None:
        damaged = {index for task in tasks for index in task.result()}
        first_of, again = self._sort(batch, damaged)
        if first_of:
            positions, whole = list(first_of), list(first_of.values())
            self._writer.write_chunks(positions, [batch.chunks[index] for index in whole])
            kept = frames if len(whole) == len(frames) else frames[whole]
            self.maps.put(np.asarray(positions, np.intp), self.accumulator.add(kept))
            self.received += len(whole)
            self._corrupt.difference_update(positions)
        for position in again:
            self._writer.mark_duplicate(position)
        self._duplicate |= again

    def _sort(self, batch: PackedBatch, damaged: set[int]) -> tuple[dict[int, int], set[int]]:
        """Which frame of the batch is the first whole one of its position, and which positions got another."""
        first_of: dict[int, int] = {}
        again: set[int] = set()
        for index, position in enumerate(batch.indices):
            if not 0 <= position < self._total:
                self._outside += 1
                continue
            held = position in first_of or self._writer.holds(position)
            if index not in damaged:
                if held:
                    again.add(position)
                else:
                    first_of[position] = index
            elif not held:
                self._corrupt.add(position)
                self._writer.mark_corrupt(position, batch.chunks[index])
        return first_of, again


def _unpack(codec: Codec, chunks: list[bytes], frames: Array, first: int) -> list[int]:
    """Fill frames from their chunks; gives the numbers, from ``first`` on, of those that are damaged."""
    damaged = []
    for index, (chunk, frame) in enumerate(zip(chunks, frames, strict=True)):
        try:
            codec.unpack([chunk], frame[None])
        except ValueError:
            damaged.append(first + index)
    return damaged
