"""Frames from a source into accumulator and file, batch by batch, in memory that does not grow with the frames."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from devices.frames import FrameCounts, FrameSourceSpec
from stem4d.accumulate_spec import AccumulatorSpec
from stem4d.errors import DeviceFault
from storage.glimpse import Grey
from storage.spec import FileReceipt, FileSpec

if TYPE_CHECKING:
    from devices.intake import Intake

PROGRESS_EVERY_S = 0.2
GLIMPSE_EVERY_S = 1.0
"""How often progress brings a picture of the scan so far, which takes about 0.5 ms to be made."""
ANSWER_SHARE = 0.1
"""Part of the time that may go into waiting for the parent's answers: it may have to look long at what is suspicious,
and a detector does not wait."""


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
    frames: FrameCounts
    queue_share: float
    """How full the queue between detector and receiver is, 0 to 1."""
    held_up_s: float
    """How long the detector was not read because that queue was full [s]."""
    glimpse: Grey | None = None
    """The virtual image as far as it has come, small; about once a second, None in between."""
    ended: bool = False
    """No more frames are taken: the beam is not needed any more. The file is still to be closed, which takes long."""

    @property
    def frame_rate_hz(self) -> float:
        """Frames a second, since the start [1/s]."""
        return self.frames_done / max(self.elapsed_s, 1e-9)


@dataclass(frozen=True)
class AcquisitionResult:
    """How an acquisition ended; the figures are in the file."""

    receipt: FileReceipt
    dtype: str
    frames_received: int
    total_counts: int
    stopped: str
    """Why it was stopped before its end; empty where it was not."""
    frames: FrameCounts
    held_up_s: float
    """How long the detector was not read because the queue was full [s]."""


OnListening = Callable[[], None]
"""Called once the receiver listens: arm the detector, let the beam through, start the scan."""
OnProgress = Callable[[Progress], str | None]
"""Called after the first rows, then a few times a second, and once when no more frames are taken, whatever the reason;
a returned text stops the acquisition."""


def acquire(job: AcquisitionJob, on_listening: OnListening, on_progress: OnProgress) -> AcquisitionResult:
    """Receive one exposure in this process.

    Raises
    ------
    DeviceFault
        When more than a hundredth of the frames do not come or cannot be unpacked, or frames do not belong to the
        scan. What came is on disk.
    """
    # Imported here: kernels and HDF5 are for the process that receives, and its owner is not kept waiting for them.
    from devices.intake import Intake
    from storage.write import FrameWriter

    total = job.source.frames
    started = time.monotonic()
    stopped = ""
    pace = _Pace(job.file.scan_shape[1])
    with (
        job.source.open() as source,
        FrameWriter(job.file) as writer,
        Intake(writer, job.accumulator, total) as intake,
    ):
        on_listening()
        try:
            for batch in source.batches():
                intake.take(batch)
                if intake.received < total and pace.due(intake.received):
                    stopped = on_progress(_progress(intake, total, started, looks=pace.looks())) or ""
                    pace.answered()
                if stopped or intake.hopeless or intake.overrun:
                    break
            intake.settle()
        finally:
            # Before the file is closed, read back and hashed: no beam has to stay on for that, also after an error.
            on_progress(_progress(intake, total, started, looks=True, ended=True))
        online = intake.maps.finished(intake.accumulator).as_arrays()
        fault = "" if stopped else intake.hopeless or intake.too_few
        receipt = writer.abandon(stopped or fault, online) if stopped or fault else writer.finish(online)
    if fault:
        raise DeviceFault(f"{fault}. What came is kept in {receipt.path}")
    return AcquisitionResult(
        receipt=receipt,
        dtype=job.accumulator.pixel_dtype.name,
        frames_received=intake.received,
        total_counts=int(intake.accumulator.sum_pattern.sum()),
        stopped=stopped,
        frames=intake.counts,
        held_up_s=intake.held_up_s,
    )


def _progress(intake: "Intake", total: int, started: float, *, looks: bool, ended: bool = False) -> Progress:
    elapsed_s = time.monotonic() - started
    return Progress(
        frames_done=intake.received,
        frames_total=total,
        elapsed_s=elapsed_s,
        sum_pattern=intake.accumulator.sum_pattern.copy(),
        max_pattern=intake.accumulator.max_pattern.astype(np.uint32),
        frames=intake.counts,
        queue_share=intake.queue_share,
        held_up_s=intake.held_up_s,
        glimpse=intake.maps.glimpse() if looks else None,
        ended=ended,
    )


class _Pace:
    """When to report: after 1, 2, 4, 8 ... rows, so that the first rows are seen at once, and every 0.2 s; less often
    where the answers take long."""

    def __init__(self, columns: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._next_frame, self._clock = columns, clock
        self._last = self._not_before = clock()
        self._next_look = self._last

    def due(self, received: int) -> bool:
        now = self._clock()
        if now < self._not_before:
            return False
        if received >= self._next_frame:
            while received >= self._next_frame:
                self._next_frame *= 2
        elif now - self._last < PROGRESS_EVERY_S:
            return False
        self._last = now
        return True

    def looks(self) -> bool:
        """Whether a picture is due with the progress that is."""
        if self._last < self._next_look:
            return False
        self._next_look = self._last + GLIMPSE_EVERY_S
        return True

    def answered(self) -> None:
        """The answer to what was due has come."""
        now = self._clock()
        self._not_before = now + (now - self._last) * (1 / ANSWER_SHARE - 1)
