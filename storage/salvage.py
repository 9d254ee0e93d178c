"""Saves the frames of a file that was never closed or is damaged into a new one; the old one stays as it is."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from stem4d.errors import BadInput, NightbeamError
from storage import disk
from storage.findings import Findings
from storage.holders import writers_of
from storage.limited import OnBytes, RescueLimits, run_child
from storage.read import require_file
from storage.saving import Saved
from storage.verify import state_of, verify_file

SKELETON_BYTES = 2 * 2**20
"""What a file needs besides its frames: the tree, and 5 bytes and an index entry for each position of a large scan."""


class NotSaved(NightbeamError):
    """Nothing could be saved of a file; it is as it was, and nothing was left beside it."""


@dataclass(frozen=True)
class Salvaged:
    """What was saved."""

    source: Path
    source_sha256: str
    path: Path
    sha256: str
    bytes: int
    frames: int
    findings: Findings
    """Of the old file."""
    carved: int
    seconds: float

    @property
    def whole(self) -> bool:
        """Whether every frame that the old file vouched for was saved."""
        return self.frames == self.findings.recorded and not self.findings.ledger_cut


def recovered_path(path: Path, folder: Path | None = None) -> Path:
    """The name of what is saved of a file: ``pass1.recovered.h5`` of ``pass1.h5.partial``."""
    stem = path.name.removesuffix(".partial").removesuffix(".h5").removesuffix(".incomplete")
    return (folder or path.parent) / f"{stem}.recovered.h5"


def salvage(
    path: Path,
    *,
    folder: Path | None = None,
    reserve_bytes: int = 0,
    limits: RescueLimits | None = None,
    free_bytes: disk.FreeBytes = disk.free_bytes,
    on_bytes: OnBytes = lambda _: None,
) -> Salvaged:
    """Save every frame that is in a file and matches its checksum.

    Parameters
    ----------
    path : Path
        A ``.partial`` file whose writer is gone, or a damaged file of any other name.
    folder : Path, optional
        Where the new file goes; beside the old one where absent.
    reserve_bytes : int
        What has to stay free on the disk.
    limits : RescueLimits, optional
        What the child process may use.
    free_bytes : callable
        Bytes free on the disk of a folder.
    on_bytes : callable
        Told how many bytes were read so far.

    Raises
    ------
    BadInput
        Somebody still writes to it, there is nothing to mend, the new name is taken, or it is none of our files.
    DiskFull
        The disk has no room for the copy.
    NotSaved
        The structure or the ledger of the file is destroyed, or its reader did not get to its end.
    """
    require_file(path)
    final = recovered_path(path, folder)
    disk.require_absent(final)
    _require_left_alone(path)
    allowed, started = limits or RescueLimits(), time.monotonic()
    if state_of(path) != "partial":
        _require_damaged(path, allowed)
    needed = path.stat().st_size + SKELETON_BYTES + reserve_bytes
    disk.require_space(final.parent, needed, free_bytes)
    source_sha256 = disk.sha256_of_file(path)
    with _passing(final) as passing:
        facts = {"recovered_from": path.name, "recovered_from_sha256": source_sha256}
        said = run_child("save", path, (str(passing.resolve()), json.dumps(facts)), allowed, on_bytes)
        if "destroyed" in said:
            raise NotSaved(_hopeless(path, "{part} cannot be read: {why}".format(**said["destroyed"])))
        if "saved" not in said:
            if "full" in said:
                raise disk.DiskFull(final.parent, needed, free_bytes(final.parent), said["full"]["why"])
            raise NotSaved(_hopeless(path, said.get("lost", {}).get("why", "its reader said nothing")))
        try:
            found = TypeAdapter(Findings).validate_python(said["findings"])
            saved = TypeAdapter(Saved).validate_python(said["saved"])
        except ValidationError as error:
            raise NotSaved(_hopeless(path, f"what its reader says is garbled: {error.errors()[0]['msg']}")) from None
        if not saved.frames:
            raise NotSaved(_hopeless(path, f"none of {found.recorded} recorded frames is there and intact"))
        digest, size = disk.sha256_of_file(passing), passing.stat().st_size
        disk.publish(passing, final)
    return Salvaged(
        path, source_sha256, final, digest, size, saved.frames, found, saved.carved, time.monotonic() - started
    )


def _require_left_alone(path: Path) -> None:
    writers = writers_of(path)
    if writers:
        raise BadInput(
            field=path.name,
            value=f"open in process {', '.join(map(str, writers))}",
            limit="is still being written to",
            remedy="Wait for it, or stop it: nightbeam closes the file itself on Ctrl+C",
        )


def _require_damaged(path: Path, limits: RescueLimits) -> None:
    found = verify_file(path, limits=limits)
    if not found.troubles:
        raise BadInput(
            field=path.name,
            value="a sound file",
            limit="was closed and every frame is as it was written, so there is nothing to recover",
        )


@contextmanager
def _passing(final: Path) -> Iterator[Path]:
    """The name that a file has until it is whole; nothing of it stays where it does not get so far."""
    passing = final.with_name(final.name.removesuffix(".h5") + ".saving.partial")
    if os.path.lexists(passing):
        # What a recovery that was killed left.
        _require_left_alone(passing)
        passing.unlink()
    try:
        yield passing
    finally:
        passing.unlink(missing_ok=True)


def _hopeless(path: Path, why: str) -> str:
    return (
        f"{path}: nothing could be saved: {why}. The file is as it was. Keep it: bring back a copy of it if there is "
        "one; else its frames may still lie in it one after another as packed by bitshuffle+LZ4, in the order in which "
        "they came, without anything that vouches for them"
    )
