"""Frames of one exposure out of a detector's stream v2: its own series found, checked, and followed to its end."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from devices.frame_queue import QUEUE_BYTES
from devices.protocols import PackedBatch
from devices.simplon.messages import End, Image, Message, PackedFrame, Start
from devices.simplon.receive import Queue, Receiver
from devices.simplon.series import Series
from stem4d.errors import DeviceFault
from storage.codec import bitshuffle_lz4

BATCH = 64
BATCH_BYTES = 64 * 2**20
"""Fewer frames where they are large: so much at most when they are unpacked, and one at least."""
NO_FRAME = bytes(12)
"""The head of a chunk that fits no frame, whatever follows: it says 0 bytes."""
BATCH_WITHIN_S = 0.05
SILENT_TAKES = 3
"""Looks of ``BATCH_WITHIN_S`` without a frame, after which an empty batch says so: five times a second at least."""
LAST_LOOK_S = 0.1
"""How long more is listened for when all frames are there: what comes twice, or was not asked for."""
OVERTAKEN_S = 2.0
"""How long an ``end`` is not believed while frames are missing: over several links it may overtake them."""


@dataclass(frozen=True)
class SimplonStream:
    """How to receive one exposure's frames; picklable, opened before the detector is armed."""

    host: str
    port: int
    frames: int
    detector_shape: tuple[int, int]
    dtype: str
    token: str
    """What the start message of our series carries as its user data."""
    first_frame_timeout_s: float
    gap_timeout_s: float
    channel: str = ""
    """The threshold channel to take; the first of each image where empty."""
    queue_bytes: int = QUEUE_BYTES

    def open(self, monotonic: Callable[[], float] = time.monotonic) -> "SimplonFrames":
        """Connect and begin to receive."""
        return SimplonFrames(self, monotonic)


class SimplonFrames:
    """The open stream."""

    def __init__(self, spec: SimplonStream, monotonic: Callable[[], float]) -> None:
        self._spec, self._now = spec, monotonic
        self._queue = Queue(spec.queue_bytes)
        self._kind = spec.detector_shape, np.dtype(spec.dtype)
        frame_bytes = int(np.prod(spec.detector_shape)) * np.dtype(spec.dtype).itemsize
        self._most = max(1, min(BATCH, BATCH_BYTES // frame_bytes))
        self._receiver = Receiver(spec.host, spec.port, frame_bytes, self._queue)
        self._series = Series(spec.token)
        self._codec = bitshuffle_lz4()
        self._seen = bytearray(spec.frames)
        self._missing = spec.frames
        self._taken = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._receiver.close()

    def batches(self) -> Iterator[PackedBatch]:
        """Frames as they come, until all have come or no more do.

        Raises
        ------
        DeviceFault
            The series is not what was asked for, its frames are packed in a way that cannot be stored, or none came.
        """
        last_s, ended_s, silent = self._now(), None, 0
        while True:
            images = self._look()
            now_s = self._now()
            if images:
                last_s, silent = now_s, 0
                # More than asked for where our start message came late, and images were kept for it.
                for at in range(0, len(images), self._most):
                    yield self._batch(images[at : at + self._most])
                if not self._missing:
                    yield from self._last_look()
                    return
            elif (silent := silent + 1) >= SILENT_TAKES:
                silent = 0
                yield self._batch([])
            if self._series.ended and ended_s is None:
                ended_s = now_s
            allowed_s = self._spec.gap_timeout_s if self._taken else self._spec.first_frame_timeout_s
            overtaken = ended_s is not None and now_s - max(ended_s, last_s) >= OVERTAKEN_S
            if overtaken or now_s - last_s >= allowed_s:
                if not self._taken:
                    raise DeviceFault(self._nothing_came(now_s - last_s))
                yield self._batch([])
                return

    def _look(self) -> list[Image]:
        messages = self._queue.take(self._most, BATCH_WITHIN_S)
        if self._queue.failed and not messages:
            raise DeviceFault(f"the receiver of the detector's stream ended: {self._queue.failed}")
        images: list[Image] = []
        for message in messages:
            if isinstance(message, Image) and self._series.is_ours(message):
                images.append(message)
            elif start := self._other(message, images):
                self._check(start)
        return images

    def _other(self, message: Message | None, images: list[Image]) -> Start | None:
        """Everything but an image of ours; gives the start message of our series."""
        match message:
            case Image():
                self._series.keep(message)
            case Start() if self._series.begin(message):
                images += self._series.kept()
                return message
            case End():
                self._series.end(message)
            case None:
                self._series.strays += 1
        return None

    def _last_look(self) -> Iterator[PackedBatch]:
        ends_s, silent = self._now() + LAST_LOOK_S, 0
        while self._now() < ends_s and silent * BATCH_WITHIN_S < LAST_LOOK_S:
            images = self._look()
            silent = 0 if images else silent + 1
            if images or self._series.strays:
                yield self._batch(images)

    def _batch(self, images: list[Image]) -> PackedBatch:
        indices: list[int] = []
        chunks: list[bytes] = []
        seen, total, channel = self._seen, len(self._seen), self._spec.channel
        for image in images:
            frame = image.channels.get(channel) if channel else next(iter(image.channels.values()))
            if frame is None:
                self._series.strays += 1
                continue
            number = image.image_id
            indices.append(number)
            chunks.append(self._chunk(frame))
            if 0 <= number < total and not seen[number]:
                seen[number] = 1
                self._missing -= 1
        self._taken += len(chunks)
        return PackedBatch(indices, chunks, self._series.new_strays(), self._queue.share, self._queue.held_up_s())

    def _chunk(self, frame: PackedFrame) -> bytes:
        """A frame as it is stored; damage comes through as such, and is found when it is unpacked."""
        if frame.algorithm not in ("", "bslz4") and not self._taken:
            raise DeviceFault(
                f"the detector packs frames by {frame.algorithm}; bslz4 can be stored. "
                "Something has changed the detector's compression since it was configured"
            )
        if (frame.shape, frame.dtype) != self._kind:
            return NO_FRAME + frame.payload
        if frame.algorithm or self._codec is None:
            return frame.payload
        return self._codec.pack(np.frombuffer(frame.payload, frame.dtype).reshape(1, *frame.shape))[0]

    def _check(self, start: Start) -> None:
        spec, facts = self._spec, start.facts
        channels = [str(name) for name in facts.get("channels") or ()]
        depth = 8 * np.dtype(spec.dtype).itemsize
        wrong = [
            f"{what}: the detector says {says}, {asked} was prepared"
            for what, says, asked in (
                ("frame shape", start.shape, spec.detector_shape),
                ("number of images", start.number_of_images, spec.frames),
                ("pixel type", facts.get("image_dtype", spec.dtype), spec.dtype),
                ("bit depth", facts.get("bit_depth_image", depth), depth),
            )
            if says != asked
        ]
        if spec.channel and channels and spec.channel not in channels:
            wrong.append(f"threshold channel: the detector has {', '.join(channels)}, {spec.channel} was prepared")
        if wrong:
            raise DeviceFault(f"the series that the detector announced is another one: {'; '.join(wrong)}")

    def _nothing_came(self, waited_s: float) -> str:
        where = f"the detector's stream at {self._spec.host}:{self._spec.port}"
        if self._series.ours is None:
            strays = self._series.total_strays + self._series.waiting
            return (
                f"{where} announced no series of ours within {waited_s:.1f} s ({strays} other messages came); "
                "is it armed, and does another client take its messages?"
            )
        if self._series.ended:
            return f"{where} ended the series without a frame"
        return f"{where} announced the series but sent no frame within {waited_s:.1f} s; did it get its trigger?"
