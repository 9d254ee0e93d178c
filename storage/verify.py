"""Says of one of our files whether it is as it was written: every frame against the ledger, read in a limited child."""

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from storage.disk import sha256_of_file
from storage.findings import Findings, in_words
from storage.limited import OnBytes, RescueLimits, run_child
from storage.read import require_file

State = Literal["final", "incomplete", "recovered", "partial"]
_HOW = {"final": "finished", "incomplete": "abandoned", "recovered": "recovered"}
_RECOVER = "`nightbeam recover` saves what can be read"


def state_of(path: Path) -> State:
    """What the name of a file says of it."""
    name = path.name
    if name.endswith(".partial"):
        return "partial"
    if name.endswith(".recovered.h5"):
        return "recovered"
    return "incomplete" if name.endswith(".incomplete.h5") else "final"


@dataclass(frozen=True)
class Verified:
    """What came of verifying one file."""

    path: Path
    state: State
    bytes: int
    seconds: float
    findings: Findings | None
    """None where the structure of the file is destroyed."""
    troubles: tuple[str, ...]
    """Why it is not sound, most important first; empty where it is."""
    sha256: str | None
    """Of the whole file, where it was asked for."""

    @property
    def megabytes_per_s(self) -> float:
        """Bytes of the file over the time that it took [MB/s]."""
        return self.bytes / 1e6 / max(self.seconds, 1e-9)


def verify_file(
    path: Path, *, limits: RescueLimits | None = None, hashed: bool = False, on_bytes: OnBytes = lambda _: None
) -> Verified:
    """Compare every frame of a file with the ledger, and the ledger with what the file says of itself.

    Parameters
    ----------
    path : Path
        A file that nightbeam wrote, finished or not.
    limits : RescueLimits, optional
        What the child process that reads it may use.
    hashed : bool
        Whether to take the SHA-256 of the whole file too, at the same time.
    on_bytes : callable
        Told how many bytes were read so far.

    Raises
    ------
    BadInput
        It is no file, no HDF5, or not written by nightbeam.
    """
    require_file(path)
    started, size = time.monotonic(), path.stat().st_size
    digest: list[str] = []
    hashing = threading.Thread(target=lambda: digest.append(sha256_of_file(path)), daemon=True)
    if hashed:
        hashing.start()
    said = run_child("verify", path, (), limits or RescueLimits(), on_bytes)
    if hashed:
        hashing.join()
    found: Findings | None = None
    troubles: list[str] = []
    if "findings" in said:
        try:
            found = TypeAdapter(Findings).validate_python(said["findings"])
        except ValidationError as error:
            said["lost"] = {"why": f"what its reader says is garbled: {error.errors()[0]['msg']}"}
    if found is not None:
        troubles += troubles_of(state_of(path), found)
    if "destroyed" in said:
        troubles.append("{part} cannot be read: {why}".format(**said["destroyed"]))
    parts = [part for topic in ("rest", "texts") for part in said.get(topic, {}).get("unreadable", ())]
    troubles += [f"{part} cannot be read" for part in parts]
    if "lost" in said:
        troubles.append(f"HDF5 cannot stand what is damaged in it: {said['lost']['why']}")
    return Verified(
        path, state_of(path), size, time.monotonic() - started, found, tuple(troubles), digest[0] if digest else None
    )


def troubles_of(state: State, found: Findings) -> list[str]:
    """Why a file is not sound, in words."""
    told: list[str] = []

    def tell(positions: tuple[tuple[int, int], ...], words: str) -> None:
        if positions:
            number = sum(last - first + 1 for first, last in positions)
            told.append(f"{number} {words}: positions {in_words(positions)}")

    tell(found.damaged, "frame(s) have changed since they were written")
    tell(found.lost, "recorded frame(s) are not in the file any more")
    tell(found.ledger_cut, "entries of the ledger lie beyond the end of the file")
    tell(found.ledger_damaged, "entries of the ledger are damaged")
    if found.how:
        tell(found.unvouched, "frame(s) are stored that the ledger does not know")
    if found.index:
        told.append(f"the index of the frames cannot be read to its end: {found.index}")
    if found.not_checked:
        told.append(f"the frames were not compared: {found.not_checked}")
    told += [f"{part} cannot be read" for part in found.unread]
    if not found.superblock_sound:
        told.append("the first bytes of the file (superblock) are damaged")
    if state == "partial":
        told.append(f"it was never closed: its writer is at work, or died. Of a dead writer's file {_RECOVER}")
    elif found.open_for_writing:
        told.append(f"it is marked as open for writing, under a name for closed files. {_RECOVER}")
    elif not found.how:
        told.append("it does not say that writing ended")
    elif found.how != _HOW[state]:
        told.append(f"its name says {state}, and it says itself that it was {found.how}")
    return told
