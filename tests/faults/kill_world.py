"""Workers that are killed at a random frame, and what is then known of every frame they were given."""

import os
import signal
import threading
import time
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from devices.acquire import Progress
from devices.worker import acquire_in_child
from stem4d.errors import DeviceFault
from storage.contents import contents_of
from storage.findings import findings
from storage.layout import CORRUPT, DUPLICATE, LEDGER_STATE, MISSING, OK
from storage.saving import save_frames
from tests.faults.packed_world import Sent, expected_states, frame, job
from tests.faults.watched_source import LARGEST_BATCH, NOTE, SCAN, TOTAL, Kind, Watched, schedule_of
from tests.storage.damage_world import accused, frames_in, sha256

UNWRITTEN = 3 * LARGEST_BATCH
"""Most frames that the receiver holds before they are written: two batches that are unpacked, and the one it takes."""


@dataclass
class Killer(threading.Thread):
    """Reads a source's notes, and kills its process when so many frames are noted."""

    notes: Path
    at_frame: int
    seen: list[tuple[int, float]] = field(default_factory=list)
    killed_s: float = 0.0

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        with self.notes.open("rb", buffering=0) as stream:
            pid = 0
            while note := stream.read(NOTE.size):
                number, when = NOTE.unpack(note)
                pid, known = (pid, True) if pid else (number, False)
                self.seen.append((number if known else 0, when))
                if not self.killed_s and self.seen[-1][0] >= self.at_frame:
                    self.killed_s = time.monotonic()
                    os.kill(pid, signal.SIGKILL)


@dataclass(frozen=True)
class Kill:
    """What came of one kill."""

    kind: Kind
    at_frame: int
    handed: int
    """Frames that the source had noted when its process was dead."""
    flushed: int
    """Frames that the file's ledger vouches for, all read back true."""
    lost: int
    """Frames handed over of which the file knows nothing."""
    lost_s: float
    """From when the first of these was handed over to the kill [s]."""
    noticed_s: float
    """From the kill to the fault in the parent [s]."""
    finished: bool
    """The file was whole already, under its own name or still under ``.partial``."""


def nothing() -> None:
    """No detector to arm."""


def go_on(_progress: Progress) -> None:
    """A parent that is content."""


def kill_once(folder: Path, kind: Kind, seed: int, at_frame: int) -> Kill:
    """Kill a worker, and hold what is in its file to what it was given; raises AssertionError where that differs."""
    notes, path = folder / "notes", folder / "pass1.h5"
    os.mkfifo(notes)
    killer = Killer(notes, at_frame)
    killer.start()
    wanted = job(path, Watched(notes, kind, seed), SCAN)
    told = ""
    try:
        acquire_in_child(wanted, nothing, go_on)
    except DeviceFault as fault:
        told = str(fault)
    noticed_s = time.monotonic() - killer.killed_s
    killer.join(10)
    assert not killer.is_alive()
    # Only a worker that had finished its file, and was only still to leave, can be killed without its parent's notice.
    died = f"the acquisition process died (exit code -9); frames flushed before that are kept in {path}.partial"
    assert told == died or (not told and path.exists()), told
    schedule, handed = schedule_of(kind, seed), killer.seen[-1][0]
    kept = path if path.exists() else path.with_name("pass1.h5.partial")
    flushed, sure = _held_to_truth(kept, schedule, handed)
    lost = handed - sure
    first_lost_s = next((when for number, when in killer.seen if number > sure), killer.killed_s)
    return Kill(
        kind, at_frame, handed, flushed, lost, max(0.0, killer.killed_s - first_lost_s), noticed_s, path.exists()
    )


def _held_to_truth(path: Path, schedule: list[Sent], handed: int) -> tuple[int, int]:
    """Frames in a file, and how many of the schedule it knows all about; each is compared with what was sent."""
    before = sha256(path)
    with contents_of(path) as (view, contents):
        found = findings(view, contents, lambda _: None)
        states = contents.file[LEDGER_STATE][:]
    assert not accused(replace(found, unvouched=()))
    saved = path.with_name("saved.saving.partial")
    facts = {"recovered_from": path.name, "recovered_from_sha256": before}
    save_frames(path, saved, facts, lambda _: None)
    frames = frames_in(saved)
    assert sha256(path) == before
    assert len(frames) == found.recorded == found.intact
    for position, pixels in frames.items():
        np.testing.assert_array_equal(pixels, frame(position))
    return len(frames), _all_known_of(states, schedule, handed)


def _all_known_of(states: npt.NDArray[np.uint8], schedule: list[Sent], handed: int) -> int:
    """Of how many frames, from the first on, a ledger knows what became of them.

    Each entry has to be what was true of its position after some of the frames that were handed over.
    """
    now = np.full(TOTAL, MISSING, np.uint8)
    until: dict[tuple[int, int], int] = {}
    for number, sent in enumerate(schedule[:handed]):
        old = int(now[sent.index])
        # A damaged one changes nothing where there was any; the first whole one is the frame.
        new = {MISSING: CORRUPT}.get(old, old) if sent.damage else {MISSING: OK, CORRUPT: OK}.get(old, DUPLICATE)
        if new != old:
            until[sent.index, old] = number
            now[sent.index] = new
    np.testing.assert_array_equal(now, expected_states(schedule[:handed], TOTAL))
    until |= {(position, int(state)): handed for position, state in enumerate(now)}
    false = [position for position, state in enumerate(states) if (position, int(state)) not in until]
    assert not false, f"the ledger says of {false} what was never true of them"
    return min(until[position, int(state)] for position, state in enumerate(states))
