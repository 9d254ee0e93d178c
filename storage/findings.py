"""What became of one of our files since it was written: a value that a child process hands to its parent."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from storage import layout
from storage.compare import beyond_the_ledger, compared, ledger_damaged
from storage.contents import NOWHERE, Contents
from storage.unclosed import Unclosed

OnBytes = Callable[[int], None]
Stretches = tuple[tuple[int, int], ...]
"""Positions in scan order, as first and last of each stretch."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Counts are of positions; what is damaged, lost or unknown is told by its positions."""

    bytes: int
    scan_shape: tuple[int, int]
    detector_shape: tuple[int, int]
    dtype: str
    run: str = ""
    """The run that the file says it is of."""
    purpose: str = ""
    how: str
    """How writing ended: finished, abandoned, recovered; empty where it did not."""
    reason: str = ""
    open_for_writing: bool
    superblock_sound: bool
    ok: int
    missing: int
    duplicate: int
    corrupt: int
    """These four as recorded."""
    intact: int
    """Recorded frames whose bytes match their checksum."""
    intact_bytes: int = 0
    """Bytes of their chunks."""
    damaged: Stretches = ()
    """Recorded frames whose bytes, or whose entry in the ledger, have changed."""
    lost: Stretches = ()
    """Recorded frames whose bytes are not there: beyond the end of the file, or nowhere by its index."""
    unvouched: Stretches = ()
    """Frames that lie in the file and that the ledger does not vouch for."""
    ledger_damaged: Stretches = ()
    """Entries of the ledger that no writer of ours leaves."""
    ledger_cut: Stretches = ()
    """Entries of the ledger that lie beyond the end of the file."""
    not_checked: str = ""
    """Why frames could not be compared; empty where they were."""
    index: str = ""
    """What is wrong with the index of the chunks."""
    unread: tuple[str, ...] = ()
    """Other parts that cannot be read."""

    @property
    def positions(self) -> int:
        """Number of scan positions."""
        return self.scan_shape[0] * self.scan_shape[1]

    @property
    def recorded(self) -> int:
        """Frames that the ledger vouches for: what was flushed."""
        return self.ok + self.duplicate


def findings(view: Unclosed, contents: Contents, on_bytes: OnBytes) -> Findings:
    """Read every frame of a file and compare it; ``on_bytes`` is told how many bytes were read."""
    done = 0
    intact = np.zeros(len(contents.states), np.bool_)
    there = np.zeros(len(contents.states), np.bool_)
    for piece in compared(view, contents):
        intact[piece.positions], there[piece.positions] = piece.intact, piece.there
        done += piece.bytes
        on_bytes(done)
    checked = contents.packed_as_written or not contents.of_chunks
    return summed_up(view, contents, intact, there if checked else contents.recorded, checked)


def summed_up(
    view: Unclosed,
    contents: Contents,
    intact: npt.NDArray[np.bool_],
    there: npt.NDArray[np.bool_],
    checked: bool = True,
) -> Findings:
    """The findings, once it is known which recorded frames lie in the file and which of them are intact."""
    recorded, states = contents.recorded, contents.states
    odd = ledger_damaged(contents)
    if not contents.how:
        # A writer that died may have left checksums whose states were still to come.
        odd = states > layout.CORRUPT
    return Findings(
        bytes=view.bytes,
        scan_shape=contents.scan_shape,
        detector_shape=contents.detector_shape,
        dtype=contents.frames.dtype.newbyteorder("=").name,
        run=_text(contents, "run"),
        purpose=_text(contents, "purpose"),
        how=contents.how,
        reason=contents.reason,
        open_for_writing=view.superblock.open_for_writing,
        superblock_sound=view.superblock.sound,
        ok=int((states == layout.OK).sum()),
        missing=int((states == layout.MISSING).sum()),
        duplicate=int((states == layout.DUPLICATE).sum()),
        corrupt=int((states == layout.CORRUPT).sum()),
        intact=int(intact.sum()),
        intact_bytes=int(contents.sizes[intact].sum()),
        damaged=stretches(recorded & there & ~intact) if checked else (),
        lost=stretches(recorded & ~there),
        unvouched=stretches(beyond_the_ledger(contents)),
        ledger_damaged=stretches(odd),
        ledger_cut=stretches(~contents.known),
        not_checked="" if checked else "packed anew since they were written, so no checksum of the ledger fits",
        index=contents.index,
        unread=contents.unread,
    )


def stretches(positions: npt.NDArray[np.bool_]) -> Stretches:
    """Where a mask is set, as first and last of each stretch."""
    edges = np.flatnonzero(np.diff(positions, prepend=False, append=False)).reshape(-1, 2)
    return tuple((int(first), int(end) - 1) for first, end in edges)


def in_words(found: Stretches, most: int = 12) -> str:
    """Stretches as a person reads them: ``3, 17-20``; the first of very many."""
    told = [str(first) if first == last else f"{first}-{last}" for first, last in found[:most]]
    return ", ".join(told) + (f" and {len(found) - most} more stretches" if len(found) > most else "")


def without_place(contents: Contents) -> npt.NDArray[np.bool_]:
    """Recorded positions whose chunk the file's index does not have."""
    found: npt.NDArray[np.bool_] = contents.recorded & (contents.offsets == NOWHERE)
    return found


def _text(contents: Contents, name: str) -> str:
    value = contents.facts.get(name, "")
    return value if isinstance(value, str) else ""
