"""How a running night or run stands, written beside the instrument for whoever looks: it asks nothing of the run."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from db.clock import utc_now
from devices.acquire import Progress
from storage.glimpse import write_glimpse
from storage.orders import write_status
from tasks.lab import Lab, Told

SINGLE = "single run"
"""State of a run that is of no night, which takes no orders."""
EVERY_S = 1.0
"""How often while frames come [s]."""


@dataclass
class StatusFile:
    """What is known of it now."""

    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = utc_now
    _written_s: float = float("-inf")

    def set(self, **facts: Any) -> None:
        """Change facts, and write them."""
        self.facts |= facts
        self._write()

    def follow(self, opened: Lab) -> Callable[[], None]:
        """Hear what a lab tells, beside whoever hears it already; gives what ends that."""
        told, frames, stage = opened.on_told, opened.on_progress, opened.on_stage

        def on_told(one: Told) -> None:
            told(one)
            if one.kind == "run started":
                self.facts["run"] = one.run
            self.set(last=f"{one.kind}: {one.message}")

        def on_progress(what: str, state: Progress) -> None:
            frames(what, state)
            self._frames(what, state)

        def on_stage(name: str) -> None:
            stage(name)
            self.set(stage=name, scan=None)

        def leave() -> None:
            opened.on_told, opened.on_progress, opened.on_stage = told, frames, stage

        opened.on_told, opened.on_progress, opened.on_stage = on_told, on_progress, on_stage
        return leave

    def _frames(self, what: str, state: Progress) -> None:
        self.facts["scan"] = {
            "name": what,
            "frames_done": state.frames_done,
            "frames_total": state.frames_total,
            "frames_per_s": round(state.frame_rate_hz, 1),
            "losses": state.frames.losses(ended=state.ended),
            "queue_share": round(state.queue_share, 3),
            "seconds_left": _left_s(state),
        }
        if state.ended or self.clock() - self._written_s >= EVERY_S:
            self._write()
            if state.glimpse is not None:
                # As of the status: nobody's acquisition ends because a picture of it cannot be written.
                with suppress(OSError):
                    write_glimpse(self.folder, state.glimpse)

    def _write(self) -> None:
        self._written_s = self.clock()
        # A status that cannot be written is no reason to end a night: it has the time of its last line.
        with suppress(OSError):
            write_status(self.folder, {**self.facts, "pid": os.getpid(), "written": self.now().isoformat()})


def _left_s(state: Progress) -> float | None:
    """How long the rest of a scan takes at the rate so far [s]; None before the first frame."""
    left = state.frames_total - state.frames_done
    return round(left / state.frame_rate_hz, 1) if state.frames_done else None
