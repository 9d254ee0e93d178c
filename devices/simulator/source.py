"""Frames of a simulated exposure, rendered in scan order by the process that holds the instrument's state.

The beam and the detector are looked up at each frame's own simulated time: a frame after a blank carries no electrons,
a frame after a stop does not come.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from devices.protocols import FrameBatch
from devices.simulator.state import Run, State
from stem4d.errors import DeviceFault

FRAMES_TOGETHER = 64
"""Most frames a batch; short rows are put together, long ones cut."""
PACED_BATCH_S = 0.1
"""Most wall time a batch of paced frames stands for [s], so that they come evenly."""
IDLE_S = 0.25
"""Longest wait in one go [s], after which a stop is noticed and the receiver hears that all is well."""
START_TIMEOUT_S = 300.0
"""How long an open source waits for its scan to start [s]."""


def _nothing() -> None:
    """For a receiver that need not be told."""


@dataclass(frozen=True)
class SimulatedSource:
    """How to receive the frames of one prepared exposure within the process that holds the instrument."""

    state: State
    run: Run

    @property
    def frames(self) -> int:
        """Frames that will come."""
        return self.run.scene.frames

    @property
    def detector_shape(self) -> tuple[int, int]:
        """(det_y, det_x)."""
        return self.run.scene.facts.shape

    @property
    def dtype(self) -> str:
        """uint8, uint16 or uint32."""
        return self.run.scene.dtype

    def open(self) -> "SimulatedFrames":
        """Make ready: everything slow is done here, before the caller arms."""
        return SimulatedFrames(self.state, self.run)


class SimulatedFrames:
    """An open connection to a simulated detector."""

    _warm = False
    """Whether this process has rendered before: compiled code is loaded, plans of transforms are made."""

    def __init__(self, state: State, run: Run) -> None:
        # Imported here: see `devices.simulator.parts.SimulatedDetector.source`.
        from devices.simulator import scene as physics

        self._state, self._run, self._physics = state, run, physics
        if not SimulatedFrames._warm:
            # On a bench of its own, since a bench may remember what was rendered on it.
            bench = physics.make_ready(run.scene, state.now_s())
            physics.render(run.scene, bench, np.zeros(1, np.int64), state.now_s(), np.ones(1, np.bool_))
            SimulatedFrames._warm = True
        self._bench = physics.make_ready(run.scene, state.now_s())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Nothing is held."""

    def batches(self, idle: Callable[[], None] = _nothing) -> Iterator[FrameBatch]:
        """Frames in scan order, from the start of the scan until all have come or the exposure is stopped.

        ``idle`` is called every `IDLE_S` while there is nothing to send.
        """
        state, scene, physics = self._state, self._run.scene, self._physics
        start_s = self._started(idle)
        if start_s is None:
            return
        if self._run.suffers:
            self._bench.expose_first(state.doses.before(self._run.number, scene))
        rate = state.truth.frames_per_s
        together = min(FRAMES_TOGETHER, max(1, int(rate * PACED_BATCH_S))) if rate else FRAMES_TOGETHER
        handed_s = state.monotonic()
        for frames in _cut(scene.scan.shape, together):
            times_s = start_s + physics.times_s(scene, frames)
            end_s = float(times_s[-1]) + scene.scan.dwell_time_us * 1e-6
            if state.real_time:
                self._wait(state.now_s, end_s, idle)
            if rate:
                handed_s += len(frames) / rate
                self._wait(state.monotonic, handed_s, idle)
                # What a slow receiver has lost is not made up for by going faster.
                handed_s = max(handed_s, state.monotonic() - PACED_BATCH_S)
            comes, lit = state.claim(self._run, times_s, end_s)
            coming = frames[comes]
            if len(coming):
                yield FrameBatch(int(coming[0]), physics.render(scene, self._bench, coming, start_s, lit[comes]))
            if len(coming) < len(frames):
                return

    def _wait(self, clock_s: Callable[[], float], until_s: float, idle: Callable[[], None]) -> None:
        """Wait until a clock has come so far, or the run was stopped."""
        while (left_s := until_s - clock_s()) > 0 and self._run.stopped_s == np.inf:
            self._state.sleep(min(left_s, IDLE_S))
            if left_s > IDLE_S:
                idle()

    def _started(self, idle: Callable[[], None]) -> float | None:
        """Simulated time at which the scan started [s]; None where the exposure was stopped before."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            with self._state.changed:
                if self._run.started_s is None and self._run.stopped_s == np.inf:
                    self._state.changed.wait(IDLE_S)
                if self._run.started_s is not None:
                    return self._run.started_s
                if self._run.stopped_s < np.inf:
                    return None
            if time.monotonic() > deadline:
                raise DeviceFault(f"the scan did not start within {START_TIMEOUT_S:g} s")
            idle()


def _cut(shape: tuple[int, int], most: int) -> Iterator[npt.NDArray[np.int64]]:
    """Consecutive frames: whole rows up to ``most`` frames, or pieces of a row."""
    rows, columns = shape
    together = max(1, most // columns)
    for row in range(0, rows, together):
        first, last = row * columns, min(row + together, rows) * columns
        for start in range(first, last, most):
            yield np.arange(start, min(start + most, last), dtype=np.int64)
