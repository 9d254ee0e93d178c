"""Copies what is intact of a file of ours into a new one, chunk by chunk as stored. For a process that may be lost."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stem4d.errors import BadInput
from storage import disk, layout
from storage.carve import find_lost_chunks
from storage.compare import compared
from storage.contents import Contents, contents_of
from storage.findings import Findings, OnBytes, findings, in_words, summed_up
from storage.ledger import Ledger
from storage.skeleton import REASON_BYTES, create
from storage.spec import Fact, FileSpec

FLUSH_FRAMES = 4096
_FROM = ("recovered_from", "recovered_from_sha256")
"""Facts of a recovered file; those of the file that it was made from are not handed down."""


@dataclass(frozen=True)
class Saved:
    """What a new file holds, read back."""

    frames: int
    bytes: int
    carved: int
    """Frames that the index had lost, and that were found by their own bytes."""


def save_frames(path: Path, target: Path, facts: dict[str, Any], on_bytes: OnBytes) -> tuple[Findings, Saved]:
    """Write ``target`` with every frame of ``path`` that is there and matches its checksum, and read it back.

    Parameters
    ----------
    path : Path
        The damaged or unclosed file; it is only read.
    target : Path
        The new file, which must not exist and whose name ends in ``.partial``.
    facts : dict
        What is to stand in it besides the settings of the old one.
    on_bytes : callable
        Told how many bytes were read so far.

    Raises
    ------
    BadInput
        The file is none of ours, or was packed anew, so that nothing says which of its frames are intact.
    Destroyed
        Its structure, frames or ledger cannot be read.
    """
    with contents_of(path) as (view, contents):
        if not contents.packed_as_written:
            raise BadInput(
                field=path.name,
                value="frames packed anew",
                limit="only frames as they were written can be held to the ledger",
                remedy="Go back to the file that this one was made from",
            )
        carved = find_lost_chunks(view, contents, on_bytes)
        intact, there = (np.zeros(len(contents.states), np.bool_) for _ in range(2))
        with create(_spec(contents, target, facts), "chunk" if contents.of_chunks else "frame") as file:
            ledger, frames, columns, done = Ledger(file), file[layout.FRAMES], contents.scan_shape[1], 0
            for piece in compared(view, contents):
                intact[piece.positions], there[piece.positions] = piece.intact, piece.there
                kept = [index for index in range(len(piece.positions)) if piece.intact[index]]
                for index in kept:
                    y, x = divmod(int(piece.positions[index]), columns)
                    frames.id.write_direct_chunk((y, x, 0, 0), bytes(piece.chunks[index]))
                places = piece.positions[kept]
                ledger.add(places.tolist(), contents.checksums[places].tolist())
                if ledger.waiting >= FLUSH_FRAMES:
                    frames.flush()
                    ledger.commit()
                done += piece.bytes
                on_bytes(done)
            found = summed_up(view, contents, intact, there)
            _mark(ledger, contents, intact, there)
            frames.flush()
            ledger.commit()
            file[layout.REASON][0] = _shortened(_reason(path, found))
            file[layout.ENDED][0] = b"recovered"
    disk.sync(target)
    return found, _read_back(target, int(intact.sum()), carved, on_bytes)


def _spec(contents: Contents, target: Path, facts: dict[str, Any]) -> FileSpec:
    known: dict[str, Fact] = {name: value for name, value in contents.facts.items() if name not in _FROM}
    step, angle = (known.pop(name, None) for name in ("scan_step_nm", "mrad_per_pixel"))
    spec = FileSpec(
        path=target.with_suffix(""),
        scan_shape=contents.scan_shape,
        detector_shape=contents.detector_shape,
        dtype=contents.frames.dtype.newbyteorder("=").name,
        scan_step_nm=step if isinstance(step, float) else None,
        mrad_per_pixel=angle if isinstance(angle, float) else None,
        full_scale=contents.full_scale,
        metadata={**known, **facts},
        title=f"Recovered from {facts['recovered_from']}",
        reserve_bytes=0,
    )
    assert spec.partial == target
    return spec


def _mark(ledger: Ledger, contents: Contents, intact: "np.ndarray[Any, Any]", there: "np.ndarray[Any, Any]") -> None:
    """What is not OK: duplicates as recorded, corrupt as recorded or now, the rest missing as in any new ledger."""
    duplicate = intact & (contents.states == layout.DUPLICATE)
    corrupt = (contents.states == layout.CORRUPT) | (contents.recorded & there & ~intact)
    for positions, state in ((duplicate, layout.DUPLICATE), (corrupt, layout.CORRUPT)):
        for position in np.flatnonzero(positions).tolist():
            ledger.mark(position, state)


def _reason(path: Path, found: Findings) -> str:
    parts = [f"recovered from {path.name}: {found.intact} of {found.recorded} flushed frames"]
    if found.damaged:
        parts.append(f"corrupt {in_words(found.damaged)}")
    if found.lost:
        parts.append(f"lost {in_words(found.lost)}")
    if found.reason:
        parts.append(f"it ended with: {found.reason}")
    return "; ".join(parts)


def _shortened(text: str) -> bytes:
    return text.encode()[:REASON_BYTES].decode(errors="ignore").encode()


def _read_back(target: Path, frames: int, carved: int, on_bytes: OnBytes) -> Saved:
    """Every frame of the new file against its ledger, as HDF5 itself opens it and as it lies there."""
    with h5py.File(target, "r") as file:
        stored = file[layout.FRAMES].id.get_num_chunks()
    with contents_of(target) as (view, contents):
        found = findings(view, contents, on_bytes)
    if not found.intact == found.recorded == stored == frames:
        raise RuntimeError(f"{frames} frames were written, {stored} are stored, {found.intact} read back intact")
    return Saved(frames=frames, bytes=target.stat().st_size, carved=carved)
