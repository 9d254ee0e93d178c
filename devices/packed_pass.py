"""Packed frames through the accumulator: unpacked and taken in piece by piece, while a piece is in a core's cache.

Threads do it, each with a lane of the accumulator and a room for one piece that it keeps: to unpack a whole batch
before it is taken in costs its way to memory and back, and new pages for every batch.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from stem4d.accumulate import Accumulator, BatchResult, Figures, Lane
from storage.codec import Chunks, Codec

PIECE_BYTES = 2**20
"""Unpacked; with its chunks and the running patterns it stays in 2 MiB of cache."""

Room = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Taken:
    """What became of some packed frames, in their order."""

    whole: npt.NDArray[np.bool_]
    """Which could be unpacked, and are in the accumulator."""
    checksums: list[int]
    """CRC-32 of each chunk."""
    figures: BatchResult
    """Of those that were whole."""


class PackedPass:
    """Takes packed frames into an accumulator; leave the block to let its threads go."""

    def __init__(self, accumulator: Accumulator, codec: Codec) -> None:
        spec = accumulator.spec
        self._accumulator, self._codec = accumulator, codec
        frame_bytes = int(np.prod(spec.detector_shape)) * spec.pixel_dtype.itemsize
        # Loads or compiles the kernel, which is not to happen under the first frames.
        codec.unpack_each(Chunks.of([]), np.empty((0, *spec.detector_shape), spec.pixel_dtype))
        self._piece = max(1, PIECE_BYTES // frame_bytes)
        self._idle: SimpleQueue[tuple[Lane, Room]] = SimpleQueue()
        for lane in accumulator.lanes:
            self._idle.put((lane, np.empty((self._piece, *spec.detector_shape), spec.pixel_dtype)))
        self._threads = len(accumulator.lanes)
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="unpack")

    def begin(self, chunks: Chunks) -> "Taking":
        """Hand some chunks to the threads."""
        figures = self._accumulator.room_for(len(chunks))
        cuts = [len(chunks) * part // self._threads for part in range(self._threads + 1)]
        tasks = [
            self._pool.submit(self._take, chunks.part(slice(first, end)), figures.part(slice(first, end)))
            for first, end in pairwise(cuts)
        ]
        return Taking(self._accumulator, figures, tasks)

    def is_whole(self, chunk: bytes) -> bool:
        """Whether a chunk can be unpacked; it is not taken in."""
        spec = self._accumulator.spec
        room = np.empty((1, *spec.detector_shape), spec.pixel_dtype)
        return not self._codec.unpack_each(Chunks.of([chunk]), room).any()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def _take(self, chunks: Chunks, figures: Figures) -> tuple[npt.NDArray[np.bool_], list[int]]:
        whole = np.ones(len(chunks), np.bool_)
        lane, room = self._idle.get()
        try:
            for first in range(0, len(chunks), self._piece):
                part = slice(first, min(first + self._piece, len(chunks)))
                frames = room[: part.stop - first]
                states = self._codec.unpack_each(chunks.part(part), frames)
                if not states.any():
                    lane.take(frames.reshape(len(frames), -1), figures.part(part))
                    continue
                whole[part] = states == 0
                for index in np.flatnonzero(whole[part]):
                    lane.take(frames[index].reshape(1, -1), figures.part(slice(first + index, first + index + 1)))
        finally:
            self._idle.put((lane, room))
        return whole, chunks.checksums()


class Taking:
    """Chunks that threads are at work on."""

    def __init__(
        self,
        accumulator: Accumulator,
        figures: Figures,
        tasks: "list[Future[tuple[npt.NDArray[np.bool_], list[int]]]]",
    ) -> None:
        self._accumulator, self._figures, self._tasks = accumulator, figures, tasks

    @property
    def done(self) -> bool:
        """Whether ``result`` will not wait."""
        return all(task.done() for task in self._tasks)

    def result(self) -> Taken:
        """What became of them; once."""
        parts = [task.result() for task in self._tasks]
        whole = np.concatenate([whole for whole, _ in parts])
        figures = self._figures if whole.all() else self._figures.part(np.flatnonzero(whole))
        checksums = [each for _, some in parts for each in some]
        return Taken(whole, checksums, self._accumulator.result(figures))
