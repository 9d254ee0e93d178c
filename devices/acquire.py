"""Frames from a source into accumulator and file, batch by batch, in memory that does not grow with the scan."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from devices.protocols import FrameBatch, FrameSourceSpec
from stem4d.accumulate import Accumulator, AccumulatorSpec, BatchResult
from stem4d.errors import DeviceFault
from stem4d.maps import RunMaps
from storage.spec import FileReceipt, FileSpec
from storage.write import FrameWriter

PROGRESS_EVERY_S = 0.2


@dataclass(frozen=True)
class AcquisitionJob:
    """All an acquisition needs; picklable, so that it can be sent to the acquisition process."""

    source: FrameSourceSpec
    file: FileSpec
    accumulator: AccumulatorSpec


@dataclass(frozen=True)
class Progress:
    """How an acquisition stands."""

    frames_done: int
    frames_total: int
    elapsed_s: float
    sum_pattern: npt.NDArray[np.uint64]
    max_pattern: npt.NDArray[np.uint32]


@dataclass(frozen=True)
class AcquisitionResult:
    """How an acquisition ended; the figures are in the file."""

    receipt: FileReceipt
    dtype: str
    frames_received: int
    total_counts: int
    elapsed_s: float
    stopped: str
    """Why it was stopped before its end; empty where it was not."""


OnListening = Callable[[], None]
"""Called once the receiver listens: arm the detector, let the beam through, start the scan."""
OnProgress = Callable[[Progress], str | None]
"""Called after the first rows and then a few times a second; a returned text stops the acquisition."""


def acquire(job: AcquisitionJob, on_listening: OnListening, on_progress: OnProgress) -> AcquisitionResult:
    """Receive one exposure in this process.

    Raises
    ------
    DeviceFault
        When the source ends early or sends frames that do not belong to the scan. What came is on disk.
    """
    accumulator = Accumulator(job.accumulator)
    maps = MapBuffers(job.file.scan_shape, job.accumulator)
    total = job.source.frames
    started = time.monotonic()
    stopped = ""
    pace = _Pace(job.file.scan_shape[1])
    with job.source.open() as source, FrameWriter(job.file) as writer:
        on_listening()
        received = 0
        for batch in source.batches():
            _check(batch, received, total)
            writer.write(batch.first, batch.frames)
            maps.put(batch.first, accumulator.add(batch.frames))
            received += len(batch.frames)
            if received < total and pace.due(received):
                reason = on_progress(_progress(received, total, started, accumulator))
                if reason:
                    stopped = reason
                    break
        on_progress(_progress(received, total, started, accumulator))
        online = maps.finished(accumulator).as_arrays()
        if received == total:
            receipt = writer.finish(online)
        else:
            receipt = writer.abandon(stopped or f"the source ended after {received} of {total} frames", online)
    if received < total and not stopped:
        raise DeviceFault(f"the detector sent {received} of {total} frames; they are kept in {receipt.path}")
    counts = int(accumulator.sum_pattern.sum())
    dtype = job.accumulator.pixel_dtype.name
    return AcquisitionResult(receipt, dtype, received, counts, time.monotonic() - started, stopped)


def _check(batch: FrameBatch, received: int, total: int) -> None:
    if batch.first != received or batch.first + len(batch.frames) > total:
        raise DeviceFault(
            f"frames {batch.first} to {batch.first + len(batch.frames) - 1} came where {received} of {total} was next"
        )


def _progress(done: int, total: int, started: float, accumulator: Accumulator) -> Progress:
    return Progress(
        frames_done=done,
        frames_total=total,
        elapsed_s=time.monotonic() - started,
        sum_pattern=accumulator.sum_pattern.copy(),
        max_pattern=accumulator.max_pattern.astype(np.uint32),
    )


class _Pace:
    """When to report: after 1, 2, 4, 8 ... rows, so that the first rows are seen at once, and every 0.2 s."""

    def __init__(self, columns: int) -> None:
        self._next_frame = columns
        self._last = time.monotonic()

    def due(self, received: int) -> bool:
        now = time.monotonic()
        if received >= self._next_frame:
            while received >= self._next_frame:
                self._next_frame *= 2
        elif now - self._last < PROGRESS_EVERY_S:
            return False
        self._last = now
        return True


class MapBuffers:
    """The per-position figures of one pass, filled batch by batch: about 40 bytes a position."""

    def __init__(self, scan_shape: tuple[int, int], spec: AccumulatorSpec) -> None:
        positions = scan_shape[0] * scan_shape[1]
        self._scan_shape, self._full_scale = scan_shape, spec.full_scale
        self._recorded = np.zeros(positions, np.bool_)
        self._total = np.zeros(positions, np.uint64)
        self._com = np.full((2, positions), np.nan, np.float32)
        self._counts = np.zeros((3, positions), np.uint32)
        self._virtual = {detector.name: np.zeros(positions, np.uint64) for detector in spec.detectors}

    def put(self, first: int, batch: BatchResult) -> None:
        """Take the figures of consecutive frames."""
        there = slice(first, first + len(batch.total))
        self._recorded[there] = True
        self._total[there] = batch.total
        self._com[:, there] = batch.centre_px.T
        self._counts[:, there] = batch.maximum, batch.saturated_px, batch.invalid_px
        for index, image in enumerate(self._virtual.values()):
            image[there] = batch.virtual[:, index]

    def finished(self, accumulator: Accumulator) -> RunMaps:
        """All figures of the pass, with the accumulator's patterns."""
        shape = self._scan_shape
        maximum, saturated, invalid = (row.reshape(shape) for row in self._counts)
        return RunMaps(
            recorded=self._recorded.reshape(shape),
            total=self._total.reshape(shape),
            com_y_px=self._com[0].reshape(shape),
            com_x_px=self._com[1].reshape(shape),
            maximum=maximum,
            saturated_px=saturated,
            invalid_px=invalid,
            sum_pattern=accumulator.sum_pattern,
            max_pattern=accumulator.max_pattern.astype(np.uint32),
            full_scale=self._full_scale,
            virtual={name: image.reshape(shape) for name, image in self._virtual.items()},
        )
