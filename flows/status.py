"""How a running night or run stands, written beside the instrument for whoever looks: it asks nothing of the run."""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from threading import Lock, Thread
from typing import Any

from db.clock import utc_now
from devices.acquire import Progress
from stem4d.verdict import QualityResult, Verdict
from storage.glimpse import Grey, write_glimpse
from storage.orders import SINGLE_RUN, write_status
from tasks.lab import Lab, Told

EVERY_S = 1.0
"""How often while frames come [s]."""
WAITS_S = 1.0
"""How long the end of a stage waits for what frames had written [s]."""
MOST_JUDGED = 40
"""Figures of quality that are told, the worst first."""
_WORST_FIRST = (Verdict.FAIL, Verdict.WARN, Verdict.PASS)


@dataclass
class StatusFile:
    """What is known of it now.

    While frames come it is written beside the acquisition: a disk that is slow to take it holds up nothing.
    """

    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = utc_now
    _begun_s: float = float("-inf")
    _asked: int = 0
    _written: int = 0
    _one_writes: Lock = field(default_factory=Lock)
    _beside: Thread | None = None

    def set(self, **facts: Any) -> None:
        """Change facts, and write them."""
        self.facts |= facts
        self._write(*self._snapshot())

    def follow(self, opened: Lab) -> Callable[[], None]:
        """Hear what a lab tells, beside whoever hears it already; gives what ends that."""
        told, frames, stage = opened.on_told, opened.on_progress, opened.on_stage
        judged, watched = opened.on_judged, opened.on_watched

        def on_told(one: Told) -> None:
            told(one)
            if one.kind == "run started":
                self.facts |= {"run": one.run, "quality": []}
            self.set(last=f"{one.kind}: {one.message}")

        def on_progress(what: str, state: Progress) -> None:
            frames(what, state)
            self._frames(what, state)

        def on_stage(name: str) -> None:
            stage(name)
            self.set(stage=name, scan=None)

        def on_judged(run: str, results: tuple[QualityResult, ...]) -> None:
            judged(run, results)
            self.set(quality=_told(results))

        def on_watched(count: int) -> None:
            watched(count)
            self.facts["nothing_amiss_to_frame"] = count

        def leave() -> None:
            opened.on_told, opened.on_progress, opened.on_stage = told, frames, stage
            opened.on_judged, opened.on_watched = judged, watched
            if self._beside is not None:
                self._beside.join(WAITS_S)

        opened.on_told, opened.on_progress, opened.on_stage = on_told, on_progress, on_stage
        opened.on_judged, opened.on_watched = on_judged, on_watched
        return leave

    def _frames(self, what: str, state: Progress) -> None:
        if (self.facts.get("scan") or {}).get("name") != what:
            self.facts["nothing_amiss_to_frame"] = None
        self.facts["scan"] = {
            "name": what,
            "frames_done": state.frames_done,
            "frames_total": state.frames_total,
            "frames_per_s": round(state.frame_rate_hz, 1),
            "losses": state.frames.losses(ended=state.ended),
            "queue_share": round(state.queue_share, 3),
            "seconds_left": _left_s(state),
        }
        due = state.ended or state.glimpse is not None or self.clock() - self._begun_s >= EVERY_S
        if due and (self._beside is None or not self._beside.is_alive()):
            self._begun_s = self.clock()
            self._beside = Thread(target=self._write, args=(*self._snapshot(), state.glimpse), daemon=True)
            self._beside.start()

    def _snapshot(self) -> tuple[int, dict[str, Any]]:
        self._asked += 1
        return self._asked, {**self.facts, "pid": os.getpid(), "written": self.now().isoformat()}

    def _write(self, number: int, facts: dict[str, Any], grey: Grey | None = None) -> None:
        """Write, unless something newer was; a disk that hangs is not waited for by those who come after."""
        if not self._one_writes.acquire(timeout=WAITS_S):
            return
        try:
            if number < self._written:
                return
            self._written = number
            # A status that cannot be written is no reason to end a night: it has the time of its last line.
            with suppress(OSError, ValueError):
                write_status(self.folder, facts)
            if grey is not None:
                with suppress(OSError, ValueError):
                    write_glimpse(self.folder, grey)
        finally:
            self._one_writes.release()


@contextmanager
def single_run(opened: Lab, **facts: Any) -> Iterator[None]:
    """The status of a run that is of no night, for the length of the block."""
    status = StatusFile(opened.settings.instruments_folder / opened.file.name)
    leave = status.follow(opened)
    try:
        # Only the page of what runs looks at it: orders are for nights.
        status.set(instrument=opened.file.name, state=SINGLE_RUN, **facts)
        yield
    finally:
        leave()
        status.set(state="ended", stage="", scan=None)


def _left_s(state: Progress) -> float | None:
    """How long the rest of a scan takes at the rate so far [s]; None before the first frame."""
    left = state.frames_total - state.frames_done
    return round(left / state.frame_rate_hz, 1) if state.frames_done else None


def _told(results: tuple[QualityResult, ...]) -> list[dict[str, Any]]:
    found = sorted(
        (one for one in results if one.verdict in _WORST_FIRST), key=lambda one: _WORST_FIRST.index(one.verdict)
    )
    return [
        {"metric": one.metric, "verdict": one.verdict.value, "analysis": one.analysis, "message": one.message}
        for one in found[:MOST_JUDGED]
    ]
