"""What temscript's server does not remember: tokens of leases, since when the beam is on, where the stage was sent.

It stands in the column's log, which all processes of this host share: one that begins later, or beside, knows it too.
"""

import fcntl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from devices.column_log import ColumnLog, Entry, entry_of
from devices.dose_lease import require_token
from devices.protocols import BeamFound
from stem4d.approach import StagePose


@dataclass(frozen=True)
class Standing:
    """How everything stands, by the log."""

    newest_token: int = 0
    newest_owner_token: int = 0
    on: BeamFound | None = None
    """The beam while it is on."""
    position: str = ""
    """Where the stage was sent to last, by name; empty before."""
    pose: StagePose | None = None
    """The pose it was sent to since."""


class BeamLog:
    """The log of one instrument's folder."""

    def __init__(self, folder: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._log, self.monotonic = ColumnLog(folder), monotonic
        self._turns = folder / "gate.lock"
        self._read_bytes, self._standing = 0, Standing()

    @contextmanager
    def turn(self) -> Iterator[Standing]:
        """One process at a time looks and acts; nobody waits for this to blank."""
        with self._turns.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield self.standing()

    def standing(self) -> Standing:
        """As the log has it by now; only what is new in it is read.

        Raises
        ------
        BadInput
            For a log that cannot be read.
        """
        path = self._log.path
        if (path.stat().st_size if path.exists() else 0) < self._read_bytes:
            self._standing, self._read_bytes = Standing(), 0  # somebody began it anew
        entries, self._read_bytes = self._log.since(self._read_bytes)
        for entry in entries:
            try:
                self._standing = _after(self._standing, entry)
            except (KeyError, TypeError, ValueError) as error:
                self._log.refuse(f"{entry['event']}: {error}")
        return self._standing

    def append(self, event: str, **facts: object) -> None:
        """Write of something before it is done; raises `DeviceFault`, and it is not to be done, where that fails."""
        self._log.append(entry_of(event, self.monotonic(), facts))

    def keep(self, event: str, **facts: object) -> None:
        """Write of something that is done whether or not the log can be written."""
        self._log.keep(entry_of(event, self.monotonic(), facts))


def _after(standing: Standing, entry: Entry) -> Standing:
    match entry["event"]:
        case "unblank":
            return replace(
                standing,
                newest_token=max(standing.newest_token, require_token(int(entry["token"]))),
                newest_owner_token=max(standing.newest_owner_token, require_token(int(entry["owner_token"]))),
                on=standing.on or BeamFound(str(entry["area"]), str(entry["wall"])),
            )
        case "owner":
            newest = max(standing.newest_owner_token, require_token(int(entry["owner_token"])))
            return replace(standing, newest_owner_token=newest)
        case "blank" | "valves":
            return replace(standing, on=None)
        case "stage":
            return replace(standing, position=str(entry["position"]), pose=None)
        case "move":
            return replace(standing, pose=StagePose.model_validate(entry["pose"], strict=False))
    return standing
