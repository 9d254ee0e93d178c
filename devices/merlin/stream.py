"""Frames of one exposure out of Merlin's data connection: its acquisition's header checked, then followed by number."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from devices.frame_queue import QUEUE_BYTES
from devices.merlin.blocks import Block
from devices.merlin.headers import (
    LARGEST_HEADER_BYTES,
    FrameHeader,
    NotAHeader,
    acquisition_number,
    frame_number,
    parse_acquisition,
    parse_frame,
)
from devices.merlin.pixels import data_bytes, unpacked
from devices.merlin.receive import Queue, Receiver
from devices.protocols import PackedBatch
from stem4d.errors import DeviceFault
from storage.codec import Codec, bitshuffle_lz4

BATCH = 64
BATCH_BYTES = 64 * 2**20
"""Fewer frames where they are large: so much at most when they are unpacked, and one at least."""
BATCH_WITHIN_S = 0.05
SILENT_TAKES = 3
"""Looks of ``BATCH_WITHIN_S`` without a frame, after which an empty batch says so: five times a second at least."""
LAST_LOOK_S = 0.1
"""How long more is listened for when all frames are there: what comes twice, or was not asked for."""
AFTER_LAST_S = 1.0
"""Longest silence after the last number while others are missing: one connection keeps the order."""
QUIET_S = 0.2
"""How long nothing may come before the detector is armed: what an earlier acquisition left is read away."""
DRAINED_WITHIN_S = 5.0
NUMBERS = 1_000_000
"""Frame numbers have six digits; whether they go on with seven or begin anew, either is understood."""


@dataclass(frozen=True)
class MerlinStream:
    """How to receive one exposure's frames; picklable, opened before the acquisition is started."""

    host: str
    port: int
    frames: int
    detector_shape: tuple[int, int]
    dtype: str
    depth: int
    """Counter depth: 1, 6, 12 or 24."""
    packed: bool
    """Whether R64 frames were asked for."""
    frames_per_trigger: int
    first_frame_timeout_s: float
    gap_timeout_s: float
    header_file: Path | None = None
    """Where the acquisition's header is kept, for provenance."""
    queue_bytes: int = QUEUE_BYTES

    def open(self, monotonic: Callable[[], float] = time.monotonic) -> "MerlinFrames":
        """Connect, read away what is left of earlier acquisitions, and begin to receive.

        Raises
        ------
        DeviceFault
            Nobody answers, frames cannot be packed here, or the detector sends frames although it is not started.
        """
        codec = bitshuffle_lz4()
        if codec is None:
            raise DeviceFault("frames of a Merlin need the bitshuffle library, which this build of hdf5plugin hides")
        return MerlinFrames(self, codec, monotonic)


class MerlinFrames:
    """The open connection."""

    def __init__(self, spec: MerlinStream, codec: Codec, monotonic: Callable[[], float]) -> None:
        self.spec = spec
        self._codec, self._now = codec, monotonic
        self._queue = Queue(spec.queue_bytes)
        frame_bytes = math.prod(spec.detector_shape) * np.dtype(spec.dtype).itemsize
        self._most = max(1, min(BATCH, BATCH_BYTES // frame_bytes))
        self._receiver = Receiver(spec.host, spec.port, 2 * frame_bytes + LARGEST_HEADER_BYTES, self._queue)
        self._announced = self._other_began = self._as_prepared = False
        self._seen = bytearray(spec.frames)
        self._missing = spec.frames
        self._next = 0
        self._taken = 0
        self._strays = self._total_strays = 0
        try:
            self._drain()
        except BaseException:
            self._receiver.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._receiver.close()

    def batches(self) -> Iterator[PackedBatch]:
        """Frames as they come, until all have come or no more do.

        Raises
        ------
        DeviceFault
            The acquisition is not what was asked for, or no frame came.
        """
        last_s, silent = self._now(), 0
        while True:
            blocks = self._queue.take(self._most, BATCH_WITHIN_S)
            batch = self._batch(blocks)
            now_s = self._now()
            if batch.chunks:
                last_s, silent = now_s, 0
                yield batch
                if not self._missing:
                    yield from self._last_look()
                    return
            elif (silent := silent + 1) >= SILENT_TAKES or batch.strays:
                silent = 0
                yield batch
            ended = self._other_began or (self._queue.closed and not blocks)
            if ended or now_s - last_s >= self._allowed_s():
                yield from self._leftovers()
                if not self._taken:
                    raise DeviceFault(self._nothing_came(now_s - last_s))
                return

    def _drain(self) -> None:
        """Let nothing of an earlier acquisition be taken for ours."""
        ends_s = time.monotonic() + DRAINED_WITHIN_S
        while self._queue.take(self._most, QUIET_S):
            if time.monotonic() >= ends_s:
                raise DeviceFault(
                    f"the detector sends frames on {self.spec.host}:{self.spec.port} although nothing was started; "
                    "stop the acquisition in Merlin's own window"
                )
        if self._queue.closed:
            raise DeviceFault(f"{self._where()}: {self._queue.failed}; does another client use it?")

    def _allowed_s(self) -> float:
        if not self._taken:
            return self.spec.first_frame_timeout_s
        return min(self.spec.gap_timeout_s, AFTER_LAST_S) if self._seen[-1] else self.spec.gap_timeout_s

    def _last_look(self) -> Iterator[PackedBatch]:
        ends_s, silent = self._now() + LAST_LOOK_S, 0
        while self._now() < ends_s and silent * BATCH_WITHIN_S < LAST_LOOK_S:
            batch = self._batch(self._queue.take(self._most, BATCH_WITHIN_S))
            silent = 0 if batch.chunks else silent + 1
            if batch.chunks or batch.strays:
                yield batch

    def _leftovers(self) -> Iterator[PackedBatch]:
        """What is left when no more is waited for: a block that was cut at the end is one of ours."""
        self._receiver.close()
        while blocks := self._queue.take(self._most, 0.0):
            yield self._batch(blocks)
        yield self._batch([])

    def _batch(self, blocks: list[Block]) -> PackedBatch:
        indices: list[int] = []
        whole: list[npt.NDArray[Any]] = []
        damaged: dict[int, bytes] = {}
        for block in blocks:
            if block.payload.startswith(b"HDR,"):
                self._begin(block)
            elif (index := self._index(block)) is None:
                self._strays += 1
            else:
                frame = self._frame(block)
                if frame is None:
                    damaged[len(indices)] = block.payload
                else:
                    whole.append(frame)
                indices.append(index)
        packed = iter(self._packed(whole))
        chunks = [damaged[place] if place in damaged else next(packed) for place in range(len(indices))]
        self._taken += len(chunks)
        strays, self._strays = self._strays, 0
        self._total_strays += strays
        return PackedBatch(indices, chunks, strays, self._queue.share, self._queue.held_up_s())

    def _packed(self, frames: list[npt.NDArray[Any]]) -> list[bytes]:
        if not frames:
            return []
        spec = self.spec
        native = np.empty((len(frames), *spec.detector_shape), spec.dtype)
        for place, frame in zip(native, frames, strict=True):
            place[...] = frame
        return self._codec.pack(native)

    def _index(self, block: Block) -> int | None:
        """Which frame of the exposure a block is, from 0; None where it is none."""
        number = frame_number(block.payload)
        if number is None or not self._announced or self._other_began:
            return None
        index = number - 1
        if self.spec.frames >= NUMBERS and number < NUMBERS:
            index += NUMBERS * round((self._next - index) / NUMBERS)
        if 0 <= index < self.spec.frames:
            self._next = index + 1
            if not self._seen[index]:
                self._seen[index] = 1
                self._missing -= 1
        return index

    def _frame(self, block: Block) -> npt.NDArray[Any] | None:
        """The pixels of a block; None where they are damaged."""
        spec = self.spec
        try:
            header = parse_frame(block.payload)
        except NotAHeader:
            return None
        if wrong := self._wrong(header):
            if self._as_prepared:
                return None
            raise DeviceFault(f"{self._where()} sends other frames than were prepared: {'; '.join(wrong)}")
        self._as_prepared = True
        data = memoryview(block.payload)[header.data_offset :]
        if not block.whole or len(data) != data_bytes(header, spec.depth):
            return None
        return unpacked(header, spec.depth, data)

    def _wrong(self, header: FrameHeader) -> list[str]:
        spec = self.spec
        integers = f"U{8 * np.dtype(spec.dtype).itemsize:02d}"
        wrong = _differences(
            ("frame shape", header.shape, spec.detector_shape),
            ("kind of pixels", header.pixels, "R64" if spec.packed else integers),
            ("counter depth", spec.depth if header.depth is None else header.depth, spec.depth),
            ("counter", header.counter, 0),
            ("colour mode", header.colour, False),
        )
        if not wrong and data_bytes(header, spec.depth) is None:
            wrong = [f"packed frames of {header.chips} chips ({header.layout}) cannot be read; set packed = false"]
        return wrong

    def _begin(self, block: Block) -> None:
        """Take the header of an acquisition: the first is ours, or a fault; another one ends ours."""
        spec = self.spec
        if self._announced:
            self._other_began = True
            self._strays += 1
            return
        try:
            values = parse_acquisition(block.payload)
        except NotAHeader as error:
            raise DeviceFault(f"{self._where()} announced an acquisition that cannot be read: {error}") from None
        asked = {
            "Frames in Acquisition": spec.frames,
            "Frames per Trigger": spec.frames_per_trigger,
            "Counter Depth": spec.depth,
        }
        there = {name: acquisition_number(values, name) for name in asked}
        # What an older header does not say, its frames tell.
        said = [(name, says, asked[name]) for name, says in there.items() if says is not None]
        if wrong := _differences(*said):
            raise DeviceFault(f"{self._where()} announced another acquisition than was prepared: {'; '.join(wrong)}")
        if spec.header_file is not None:
            spec.header_file.write_bytes(block.payload)
        self._announced = True

    def _nothing_came(self, waited_s: float) -> str:
        if self._queue.failed:
            return f"{self._where()} was lost before a frame came: {self._queue.failed}"
        if self._announced:
            return (
                f"{self._where()} announced the acquisition but sent no frame within {waited_s:.1f} s; "
                "did it get its trigger?"
            )
        return (
            f"{self._where()} announced no acquisition within {waited_s:.1f} s "
            f"({self._total_strays} other messages came); is it started, and does another client take its frames?"
        )

    def _where(self) -> str:
        return f"the detector's data connection {self.spec.host}:{self.spec.port}"


def _differences(*said: tuple[str, object, object]) -> list[str]:
    return [f"{what}: the detector says {says}, {asked} was prepared" for what, says, asked in said if says != asked]
