"""Frames of a simulated exposure, computed in the process that opens them.

The beam and the detector are looked up in the column's log at each frame's own simulated time: a frame after a blank
carries no electrons, a frame after a stop does not come.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from devices.column_log import ColumnLog, Entry
from devices.protocols import FrameBatch
from devices.simulator.clock import FramesClock
from devices.simulator.scene import Scene, make_bench, render, times_s
from stem4d.errors import DeviceFault

FRAMES_TOGETHER = 64
"""Most frames a batch; short rows are put together, long ones cut."""
POLL_S = 0.002
"""How often the log is looked at for the start of the scan."""


@dataclass(frozen=True)
class SimulatedSource:
    """How to receive the frames of one prepared exposure; picklable."""

    scene: Scene
    folder: Path
    """Where the column's log is."""
    real_time: bool
    start_timeout_s: float = 300.0
    """How long an open source waits for its scan to start."""

    @property
    def frames(self) -> int:
        """Frames that will come."""
        return self.scene.frames

    @property
    def detector_shape(self) -> tuple[int, int]:
        """(det_y, det_x)."""
        return self.scene.facts.shape

    @property
    def dtype(self) -> str:
        """uint8, uint16 or uint32."""
        return self.scene.dtype

    def open(self) -> "SimulatedFrames":
        """Make ready: everything slow is done here, before the caller arms."""
        return SimulatedFrames(self)


class SimulatedFrames:
    """An open connection to a simulated detector."""

    def __init__(self, spec: SimulatedSource) -> None:
        self._spec = spec
        self._bench = make_bench(spec.scene)
        self._log = ColumnLog(spec.folder)
        self._clock = FramesClock(spec.folder)
        self._history = _History(spec.scene.run)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._clock.close()

    def batches(self) -> Iterator[FrameBatch]:
        """Frames in scan order, from the start of the scan until all have come or the exposure is stopped."""
        start_s = self._started()
        if start_s is None:
            return
        scene, wall_start_s = self._spec.scene, time.monotonic()
        for frames in _cut(scene.scan.shape):
            from_start_s = times_s(scene, frames)
            end_s = float(from_start_s[-1]) + scene.scan.dwell_time_us * 1e-6
            if self._spec.real_time:
                time.sleep(max(0.0, wall_start_s + end_s - time.monotonic()))
            # The clock first, then the log: a blank or stop that reads the clock can then only be logged too late,
            # never as if these frames had not been.
            self._clock.reach(start_s + end_s)
            self._history.take(self._log.news())
            coming = frames[start_s + from_start_s < self._history.stopped_s]
            if len(coming):
                lit = self._history.lit(start_s + from_start_s[: len(coming)])
                yield FrameBatch(int(coming[0]), render(scene, self._bench, coming, start_s, lit))
            if len(coming) < len(frames):
                return

    def _started(self) -> float | None:
        """Simulated time at which the scan started [s]; None where the exposure was stopped before."""
        deadline = time.monotonic() + self._spec.start_timeout_s
        while True:
            self._history.take(self._log.news())
            if self._history.started_s is not None:
                return self._history.started_s
            if self._history.stopped_s < np.inf:
                return None
            if time.monotonic() > deadline:
                raise DeviceFault(f"the scan did not start within {self._spec.start_timeout_s:g} s")
            time.sleep(POLL_S)


class _History:
    """What the log says about the beam, and about one exposure."""

    def __init__(self, run: int) -> None:
        self._run = run
        self._current = False
        self._beam: list[tuple[float, bool]] = []
        self.started_s: float | None = None
        self.stopped_s = np.inf

    def take(self, entries: list[Entry]) -> None:
        """Add what is new."""
        for entry in entries:
            event, at_s = entry["event"], float(entry["simulated_s"])
            if event in ("blank", "unblank", "valves"):
                self._beam.append((at_s, event == "unblank"))
            elif event == "expose":
                self._current = entry["run"] == self._run
            elif event == "scan" and self._current:
                self.started_s = at_s
            elif event == "stop" and self._current:
                self.stopped_s = min(self.stopped_s, at_s)

    def lit(self, times: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
        """Whether the beam was on at given simulated times: the last word that is not from later."""
        return np.array([next((on for at_s, on in reversed(self._beam) if at_s <= when), False) for when in times])


def _cut(shape: tuple[int, int]) -> Iterator[npt.NDArray[np.int64]]:
    """Consecutive frames: whole rows up to `FRAMES_TOGETHER`, or pieces of a row."""
    rows, columns = shape
    together = max(1, FRAMES_TOGETHER // columns)
    for row in range(0, rows, together):
        first, last = row * columns, min(row + together, rows) * columns
        for start in range(first, last, FRAMES_TOGETHER):
            yield np.arange(start, min(start + FRAMES_TOGETHER, last), dtype=np.int64)
