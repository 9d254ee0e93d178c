"""Takes in the batches of one exposure: sorts, unpacks, writes and accumulates, and knows what became of each frame."""

from collections import deque
from contextlib import ExitStack
from itertools import compress
from types import TracebackType
from typing import Self

import numpy as np

from devices.frames import FrameBatch, FrameCounts, PackedBatch
from devices.map_buffers import MapBuffers
from devices.packed_pass import PackedPass, Taking
from stem4d.accumulate import Accumulator, AccumulatorSpec
from stem4d.errors import DeviceFault
from storage.codec import Chunks, bitshuffle_lz4
from storage.write import FrameWriter

IN_FLIGHT = 2
"""Batches that are unpacked while the one before them is written."""
LOST_SHARE = 0.01
"""More of the frames corrupt or missing, and it is no acquisition; fewer are for the quality checks to judge."""
OVERRUN_SHARE = 0.01
"""So many frames more than asked for are counted; then the connection is left. Frames that are still on their way when
the last one asked for comes are no fault; a detector that does not end its series must not keep the run from ending."""


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
        codec = bitshuffle_lz4()
        self._open = ExitStack()
        self._packed = None if codec is None else self._open.enter_context(PackedPass(self.accumulator, codec))
        self._taking: deque[tuple[list[int], list[bytes], Taking]] = deque()
        self._under_way: set[int] = set()
        """Positions whose frames are being unpacked."""

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
        while self._taking:
            self._finish(*self._taking.popleft())

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
        self._open.close()

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
        if self._packed is None:
            raise DeviceFault("packed frames need the bitshuffle library, which this build of hdf5plugin hides")
        positions: list[int] = []
        chunks: list[bytes] = []
        again: list[tuple[int, bytes]] = []
        for position, chunk in zip(batch.indices, batch.chunks, strict=True):
            if not 0 <= position < self._total:
                self._outside += 1
            elif position in self._under_way or self._writer.holds(position):
                again.append((position, chunk))
            else:
                self._under_way.add(position)
                positions.append(position)
                chunks.append(chunk)
        if chunks:
            self._taking.append((positions, chunks, self._packed.begin(Chunks.of(chunks))))
        if len(chunks) < len(batch.chunks):
            self.settle()  # what is odd is rare, and judged by how the frames before it ended
        for position, chunk in again:
            self._take_again(self._packed, position, chunk)
        # Also those that are unpacked already: frames that come slowly would wait for later ones, and be lost with us.
        while self._taking and (len(self._taking) > IN_FLIGHT or self._taking[0][2].done):
            self._finish(*self._taking.popleft())

    def _finish(self, positions: list[int], chunks: list[bytes], taking: Taking) -> None:
        """Write what could be unpacked, and keep aside what could not."""
        taken = taking.result()
        self._under_way.difference_update(positions)
        checksums = taken.checksums
        if not taken.whole.all():
            for index in np.flatnonzero(~taken.whole):
                self._corrupt.add(positions[index])
                self._writer.mark_corrupt(positions[index], chunks[index])
            positions = list(compress(positions, taken.whole))
            chunks = list(compress(chunks, taken.whole))
            checksums = list(compress(checksums, taken.whole))
        if positions:
            self._writer.write_chunks(positions, chunks, checksums)
            self.maps.put(np.asarray(positions, np.intp), taken.figures)
            self.received += len(positions)
            self._corrupt.difference_update(positions)

    def _take_again(self, packed: PackedPass, position: int, chunk: bytes) -> None:
        """A frame of a position that came before: the first whole one is kept."""
        if not self._writer.holds(position):
            self._finish([position], [chunk], packed.begin(Chunks.of([chunk])))
        elif packed.is_whole(chunk):
            self._writer.mark_duplicate(position)
            self._duplicate.add(position)
